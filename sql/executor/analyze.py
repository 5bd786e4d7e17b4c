"""ANALYZE: statistics of a table from a sample of its rows.

All rows are read once; a reservoir keeps ``SAMPLE_ROWS`` of them. The number of different
values is estimated from the sample by the Duj1 estimator of Haas and Stokes, as PostgreSQL
does; most common values and histogram bounds are value texts.

Source: PostgreSQL docs, "ANALYZE", "Statistics Used by the Planner"; "pg_stats".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from sql.catalog.descriptor import Column, ColumnStatistics, Table, TableStatistics
from sql.executor.node import RowMeter
from sql.types.compare import hash_key, sort_key
from sql.types.io import text_output

if TYPE_CHECKING:
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

TARGET: Final = 100
ROWS_PER_TARGET: Final = 300
WIDE_BYTES: Final = 1024
_UNORDERED: Final = {"json", "xid", "cid"}


async def gather_statistics(table: Table, context: ExecutionContext) -> TableStatistics:
    """Read a table and return its statistics; memory for the sample is charged (53200)."""
    targets = [c.statistics_target for c in table.visible_columns if c.statistics_target > 0]
    wanted = ROWS_PER_TARGET * max([TARGET, *targets])
    meter = RowMeter(context)
    sample: list[Row] = []
    count = 0
    cursor = context.store.scan(table)
    try:
        while batch := await cursor.next_batch():
            room = wanted - len(sample)
            if room > 0:
                meter.add(batch[:room])
                sample += batch[:room]
            for number, row in enumerate(batch[max(0, room) :], count + max(0, room) + 1):
                at = context.random.randrange(number)
                if at < wanted:
                    sample[at] = row
            count += len(batch)
            await context.checkpoint()
        columns = tuple(
            _column_statistics(column, sample, count)
            for column in table.visible_columns
            if column.statistics_target != 0
        )
    finally:
        meter.release()
    return TableStatistics(rows=count, columns=columns, analyzed_at=context.clock())


def _column_statistics(column: Column, sample: list[Row], count: int) -> ColumnStatistics:
    position = column.position
    values = [row[position] for row in sample if row[position] is not None]
    null_fraction = 1.0 - len(values) / len(sample) if sample else 0.0
    if not values:
        return ColumnStatistics(
            position=position, null_fraction=null_fraction, distinct=0.0, average_width=0
        )
    write = text_output(column.type)
    fixed = column.type.length
    if fixed > 0:
        width = fixed
    else:
        some = values[:1000]
        width = round(sum(len(write(v).encode()) + 1 for v in some) / len(some))
    if column.type.name in _UNORDERED or width > WIDE_BYTES:
        return ColumnStatistics(
            position=position, null_fraction=null_fraction, distinct=0.0, average_width=width
        )
    to_key = hash_key(column.type)
    originals: dict[Any, Any] = {}
    tally: Counter[Any] = Counter()
    for value in values:
        key = value if to_key is None else to_key(value)
        originals.setdefault(key, value)
        tally[key] += 1
    distinct = _distinct(tally, len(values), len(sample), count, null_fraction)
    target = column.statistics_target if column.statistics_target > 0 else TARGET
    common = _most_common(tally, len(sample), target)
    chosen = {key for key, _ in common}
    rest = [value for value in values if (value if to_key is None else to_key(value)) not in chosen]
    return ColumnStatistics(
        position=position,
        null_fraction=null_fraction,
        distinct=distinct,
        average_width=width,
        most_common=tuple((write(originals[key]), share) for key, share in common),
        histogram=_histogram(column, rest, target, distinct_left=len(tally) - len(common)),
    )


def _distinct(
    tally: Counter[Any], present: int, sampled: int, count: int, null_fraction: float
) -> float:
    """Estimate different values.

    Positive, or as a negative share of the rows when they grow with the table.
    """
    once = sum(1 for times in tally.values() if times == 1)
    if once == 0 or sampled >= count:
        estimate = float(len(tally))
        if once == len(tally):
            return -(1.0 - null_fraction)
    elif once == present:
        return -(1.0 - null_fraction)
    else:
        whole = count * (1.0 - null_fraction)
        estimate = present * len(tally) / ((present - once) + once * present / whole)
        estimate = min(max(estimate, len(tally)), whole)
    estimate = float(round(estimate))
    return -estimate / count if estimate > 0.1 * count else estimate


def _most_common(tally: Counter[Any], sampled: int, target: int) -> list[tuple[Any, float]]:
    """Return values seen clearly more often than the average, or all when there are few."""
    ranked = sorted(tally.items(), key=lambda item: -item[1])
    if len(ranked) <= target and all(times > 1 for _, times in ranked):
        return [(key, times / sampled) for key, times in ranked]
    average = sum(tally.values()) / len(tally)
    least = max(2.0, 1.25 * average)
    return [(key, times / sampled) for key, times in ranked[:target] if times >= least]


def _histogram(
    column: Column, values: list[Any], target: int, *, distinct_left: int
) -> tuple[str, ...]:
    if distinct_left < 2:
        return ()
    ordered = sorted(values, key=sort_key(column.type))
    bounds = min(target, len(ordered) - 1)
    write = text_output(column.type)
    return tuple(write(ordered[round(i * (len(ordered) - 1) / bounds)]) for i in range(bounds + 1))
