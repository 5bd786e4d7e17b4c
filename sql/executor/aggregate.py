"""Grouping and aggregation over hashed groups, DISTINCT, and UNION/INTERSECT/EXCEPT.

The loop over the rows is generated (``sql.planner.loops``); a group is a list: its values, then
one slot per aggregate.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sql.executor.node import HASH_ENTRY_BYTES, Batches, Node, RowMeter, chunks, row_bytes
from sql.executor.ordering import SortSpec, sorted_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.executor.join import LoopCode
    from sql.functions.context import ExecutionContext
    from sql.functions.registry import Aggregate
    from sql.types.base import Row, SqlType

_GROUP_BYTES: Final = 200
_SLOT_BYTES: Final = 40
_SAMPLE_ROWS: Final = 4


def state_creator(
    aggregate: Aggregate, types: tuple[SqlType, ...], context: ExecutionContext
) -> Callable[[], Any]:
    """Return what makes an aggregate's first state: ``create([context][, types])``."""
    arguments: list[Any] = [context] if aggregate.needs_context else []
    if aggregate.needs_types:
        arguments.append(types)
    return partial(aggregate.create, *arguments) if arguments else aggregate.create


class AggregateSlot:
    """One aggregate of a plan: how its slot starts and what makes the datum of it.

    With ``specs`` or ``distinct`` the slot collects (arguments and sort keys) and steps through
    them, sorted, at the end. ``direct`` computes an ordered set's direct arguments from a
    group's values. ``sample(row, context)`` computes what the slot keeps of a row, where that is
    more than the row's own datums; it must not fail after the row was accumulated.
    """

    def __init__(
        self,
        aggregate: Aggregate,
        types: tuple[SqlType, ...],
        *,
        args: int,
        distinct: bool,
        specs: Sequence[SortSpec],
        direct: LoopCode | None,
        sample: Callable[..., Row] | None,
    ) -> None:
        self._aggregate = aggregate
        self._types = types
        self._args = args
        self._specs = tuple(specs)
        self._distinct = distinct
        self.direct = direct
        self.average = -1
        """The slot of an average whose sum this is; -1: the slot is its own."""
        self.collects = distinct or bool(specs) or aggregate.ordered_set
        self.grows = self.collects or aggregate.grows
        self._sample = sample
        self._entry_bytes = 0
        if self.collects:
            self._entry_bytes = 64 + (HASH_ENTRY_BYTES + 64 if distinct else 0)
            self._entry_bytes += 72 + 48 * len(self._specs)
        if distinct:
            self._collector: Callable[[], Any] | None = dict
        elif self.collects:
            self._collector = list
        else:
            self._collector = None

    def batch_bytes(self, rows: Sequence[Row], context: ExecutionContext) -> int:
        """Estimate what a slot that grows keeps of a batch."""
        kept: Sequence[Row] = rows
        if self._sample is not None:
            step = -(-len(rows) // _SAMPLE_ROWS)
            kept = [self._sample(row, context) for row in rows[::step]]
        return len(rows) * (row_bytes(kept) + self._entry_bytes)

    def creator(self, context: ExecutionContext) -> Callable[[], Any]:
        """Return what makes a new group's slot in this execution."""
        if self._collector is not None:
            return self._collector
        return state_creator(self._aggregate, self._types, context)

    def finish(self, slot: Any, direct: tuple[Any, ...], context: ExecutionContext) -> Any:
        """Return the aggregate's value."""
        if self.collects:
            slot = self._replay(list(slot.values()) if self._distinct else slot, context)
        return self._aggregate.finish(slot, *direct)

    def _replay(self, entries: list[tuple[Any, ...]], context: ExecutionContext) -> Any:
        count = self._args
        keyed = [entry[count:] for entry in entries] if len(self._specs) else []
        if self._specs and keyed and not keyed[0]:
            keyed = entries
        order = sorted_positions(keyed, self._specs) if keyed else range(len(entries))
        state = state_creator(self._aggregate, self._types, context)()
        step = self._aggregate.step
        for at in order:
            state = step(state, *entries[at][:count])
        return state


class AggregateNode(Node):
    """GROUP BY: one accumulate loop per grouping set over the same input.

    ``grouping_values[i]`` are the constant GROUPING() columns of set i.
    """

    def __init__(
        self,
        layout: Sequence[int],
        child: Node,
        loops: Sequence[LoopCode],
        slots: Sequence[AggregateSlot],
        *,
        group_count: int,
        grouping_values: Sequence[tuple[int, ...]],
        grouped: Sequence[bool],
    ) -> None:
        super().__init__(layout, (child,))
        self._loops = tuple(loops)
        self._slots = tuple(slots)
        self._group_count = group_count
        self._grouping_values = tuple(grouping_values)
        self._grouped = tuple(grouped)
        self._growing = [slot for slot in slots if slot.grows]

    def title(self) -> str:
        """Return EXPLAIN's name."""
        if not any(self._grouped):
            return "Aggregate"
        return "HashAggregate" if all(self._grouped) else "MixedAggregate"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield one row per group, sets one after another."""
        meter = RowMeter(context)
        tables: list[dict[Any, list[Any]]] = [{} for _ in self._loops]
        operator = self.children[0].open(context)
        try:
            await self._consume(operator, tables, context, meter)
            for number, groups in enumerate(tables):
                if not self._grouped[number] and not groups:
                    await self._call(number, [], context, groups)
                groupings = self._grouping_values[number]
                for batch in chunks(list(groups.values())):  # type: ignore[arg-type]
                    yield await self._finish(batch, groupings, context)
                    await context.checkpoint()
        finally:
            operator.close()
            meter.release()

    async def _consume(
        self,
        operator: Any,
        tables: list[dict[Any, list[Any]]],
        context: ExecutionContext,
        meter: RowMeter,
    ) -> None:
        group_bytes = _GROUP_BYTES + _SLOT_BYTES * (self._group_count + len(self._slots))
        known = 0
        while rows := await operator.next_batch():
            for number, groups in enumerate(tables):
                await self._call(number, rows, context, groups)
            total = sum(map(len, tables))
            if total > known:
                meter.add_bytes((total - known) * group_bytes)
                known = total
            for slot in self._growing:
                meter.add_bytes(slot.batch_bytes(rows, context))
            await context.checkpoint()

    async def _call(
        self, number: int, rows: list[Row], context: ExecutionContext, groups: dict[Any, list[Any]]
    ) -> None:
        loop = self._loops[number]
        done = loop.call(rows, context, groups, self._creator(context))
        if loop.is_async:
            await done

    def _creator(self, context: ExecutionContext) -> Callable[[], list[Any]]:
        creators = [slot.creator(context) for slot in self._slots]
        return lambda: [create() for create in creators]

    async def _finish(
        self, groups: list[Any], groupings: tuple[int, ...], context: ExecutionContext
    ) -> list[Row]:
        count = self._group_count
        out: list[Row] = []
        for group in groups:
            values = group[:count]
            finished = []
            for number, slot in enumerate(self._slots, count):
                direct: Any = ()
                if slot.direct is not None:
                    direct = slot.direct.call(values, context)
                    if slot.direct.is_async:
                        direct = await direct
                state = group[number]
                if slot.average >= 0:
                    average = group[count + slot.average]
                    state = None if average is None else average[1]
                finished.append(slot.finish(state, direct, context))
            out.append((*values, *finished, *groupings))
        return out


class DistinctNode(Node):
    """DISTINCT by hashing: the first row of each key passes.

    ``keys`` computes hash keys of a batch.
    """

    name = "HashAggregate"

    def __init__(self, child: Node, keys: LoopCode) -> None:
        super().__init__(child.layout, (child,))
        self._keys = keys
        self.order = child.order

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield rows whose key is new, in the input's order."""
        meter = RowMeter(context)
        seen: set[Any] = set()
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                keys = self._keys.call(rows, context)
                if self._keys.is_async:
                    keys = await keys
                out = []
                for key, row in zip(keys, rows, strict=True):
                    if key not in seen:
                        seen.add(key)
                        out.append(row)
                if out:
                    meter.add_bytes(len(out) * (row_bytes(keys) + HASH_ENTRY_BYTES))
                    yield out
                await context.checkpoint()
        finally:
            operator.close()
            meter.release()


class UniqueNode(DistinctNode):
    """DISTINCT ON over input sorted by the keys: only the previous key is remembered."""

    name = "Unique"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the first row of each run of equal keys."""
        previous: Any = None
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                keys = self._keys.call(rows, context)
                if self._keys.is_async:
                    keys = await keys
                out = []
                for key, row in zip(keys, rows, strict=True):
                    if key != previous:
                        previous = key
                        out.append(row)
                if out:
                    yield out
                await context.checkpoint()
        finally:
            operator.close()


class AppendNode(Node):
    """UNION ALL: one input after the other."""

    name = "Append"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the inputs' rows in order."""
        for child in self.children:
            operator = child.open(context)
            try:
                while rows := await operator.next_batch():
                    yield rows
            finally:
                operator.close()


class SetOperationNode(Node):
    """INTERSECT and EXCEPT, with ALL or without.

    Counts the right rows by key, then passes over the left.
    """

    def __init__(
        self,
        layout: Sequence[int],
        left: Node,
        right: Node,
        operator: str,
        left_keys: LoopCode,
        right_keys: LoopCode,
        *,
        keep_all: bool,
    ) -> None:
        super().__init__(layout, (left, right))
        self._operator = operator
        self._keep_all = keep_all
        self._left_keys = left_keys
        self._right_keys = right_keys

    def title(self) -> str:
        """Return EXPLAIN's name."""
        word = self._operator.capitalize()
        return f"HashSetOp {word}{' All' if self._keep_all else ''}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the left rows that belong to the result."""
        meter = RowMeter(context)
        counts: dict[Any, int] = {}
        right = self.children[1].open(context)
        left = self.children[0].open(context)
        try:
            while rows := await right.next_batch():
                keys = self._right_keys.call(rows, context)
                known = len(counts)
                for key in keys:
                    counts[key] = counts.get(key, 0) + 1
                meter.add_bytes((len(counts) - known) * (row_bytes(keys) + HASH_ENTRY_BYTES))
                await context.checkpoint()
            choose = self._intersected if self._operator == "intersect" else self._excepted
            while rows := await left.next_batch():
                keys = self._left_keys.call(rows, context)
                known = len(counts)
                out = [row for key, row in zip(keys, rows, strict=True) if choose(counts, key)]
                meter.add_bytes((len(counts) - known) * (row_bytes(keys) + HASH_ENTRY_BYTES))
                if out:
                    yield out
                await context.checkpoint()
        finally:
            right.close()
            left.close()
            meter.release()

    def _intersected(self, counts: dict[Any, int], key: Any) -> bool:
        left = counts.get(key, 0)
        if left <= 0:
            return False
        counts[key] = left - 1 if self._keep_all else 0
        return True

    def _excepted(self, counts: dict[Any, int], key: Any) -> bool:
        left = counts.get(key, 0)
        if not self._keep_all:
            # One more than any count of rows: the key has been put out, or stands on the right.
            counts[key] = 1
            return left == 0
        if left > 0:
            counts[key] = left - 1
            return False
        return True
