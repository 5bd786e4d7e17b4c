"""Window functions: rank and its kin, offsets, and aggregates over frames.

The input is sorted by partition and order keys; one partition at a time is held in memory.
Frames are half-open ranges of row numbers within the partition, less what EXCLUDE takes out.

Source: PostgreSQL docs, "Window Functions", "Window Function Calls".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from sql.errors import (
    InvalidArgumentForNthValue,
    InvalidArgumentForNtile,
    InvalidPrecedingOrFollowingSize,
    NullValueNotAllowed,
)
from sql.executor.aggregate import state_creator
from sql.executor.join import LoopCode
from sql.executor.node import Batches, Node, RowMeter, chunks
from sql.types.base import SqlType

if TYPE_CHECKING:
    from sql.functions.context import ExecutionContext
    from sql.types.base import Datum, Row

_PAUSE_STEPS: Final = 4096
"""Steps between checkpoints: about a millisecond."""
_FRAME_BYTES: Final = 200
_CALL_BYTES: Final = 120
"""What one row of a partition costs besides itself: its frame and peers, and per call."""


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """A frame clause with its compiled offsets.

    ``order_value`` and ``add`` serve RANGE with offsets.
    """

    unit: str
    start: str
    end: str
    exclusion: str
    start_offset: LoopCode | None
    end_offset: LoopCode | None
    order_value: LoopCode | None
    add: Callable[[Any, Any, int], Any] | None
    has_order: bool
    descending: bool


@dataclass(frozen=True, slots=True)
class WindowCallSpec:
    """One call: the function, its argument types, its compiled arguments and filter."""

    function: Any
    types: tuple[SqlType, ...]
    args: LoopCode
    condition: LoopCode | None
    is_aggregate: bool


@dataclass(frozen=True, slots=True)
class WindowLoop:
    """A window and the calls over it."""

    partition: LoopCode
    peers: LoopCode
    frame: FrameSpec
    calls: tuple[WindowCallSpec, ...]


async def _value(code: LoopCode, *args: Any) -> Any:
    result = code.call(*args)
    return await result if code.is_async else result


class WindowNode(Node):
    """Appends window function results to the input's rows."""

    name = "WindowAgg"

    def __init__(self, layout: Sequence[int], child: Node, loop: WindowLoop) -> None:
        super().__init__(layout, (child,))
        self._loop = loop
        self._row_bytes = _FRAME_BYTES + _CALL_BYTES * len(loop.calls)

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the rows of one partition after another."""
        offsets = await _frame_offsets(self._loop.frame, context)
        meter = RowMeter(context)
        partition: list[Row] = []
        current: Any = None
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                keys = await _value(self._loop.partition, rows, context)
                meter.add(rows)
                for key, row in zip(keys, rows, strict=True):
                    if partition and key != current:
                        meter.add_bytes(len(partition) * self._row_bytes)
                        for batch in chunks(await self._compute(partition, offsets, context)):
                            yield batch
                            await context.checkpoint()
                        partition = []
                        meter.release()
                    current = key
                    partition.append(row)
                await context.checkpoint()
            if partition:
                meter.add_bytes(len(partition) * self._row_bytes)
                for batch in chunks(await self._compute(partition, offsets, context)):
                    yield batch
                    await context.checkpoint()
        finally:
            operator.close()
            meter.release()

    async def _compute(
        self, rows: list[Row], offsets: tuple[Any, Any], context: ExecutionContext
    ) -> list[Row]:
        partition = await Partition.make(rows, self._loop, offsets, context)
        columns = []
        for call in self._loop.calls:
            args = await _each(call.args, rows, context)
            passes: list[bool] | None = None
            if call.condition is not None:
                passes = await _each(call.condition, rows, context)
            if call.is_aggregate:
                columns.append(await partition.aggregate(call, args, passes, context))
            else:
                columns.append(_PURE[call.function.name](partition, args))
            await context.checkpoint()
        return [row + more for row, more in zip(rows, zip(*columns, strict=True), strict=True)]


async def _each(code: LoopCode, rows: list[Row], context: ExecutionContext) -> list[Any]:
    """Evaluate ``code(row, context)`` for every row, pausing now and then."""
    call = code.call
    out: list[Any] = []
    for start in range(0, len(rows), _PAUSE_STEPS):
        part = rows[start : start + _PAUSE_STEPS]
        if code.is_async:
            out += [await call(row, context) for row in part]
        else:
            out += [call(row, context) for row in part]
        await context.checkpoint()
    return out


async def _frame_offsets(frame: FrameSpec, context: ExecutionContext) -> tuple[Any, Any]:
    found: list[Any] = []
    for code, word in ((frame.start_offset, "starting"), (frame.end_offset, "ending")):
        if code is None:
            found.append(None)
            continue
        value = await _value(code, context)
        if value is None:
            raise NullValueNotAllowed(f"frame {word} offset must not be null")
        negative = (
            value[0] * 2592000000000 + value[1] * 86400000000 + value[2] < 0
            if isinstance(value, tuple)
            else value < 0
        )
        if negative:
            if frame.unit == "range":
                raise InvalidPrecedingOrFollowingSize(
                    "invalid preceding or following size in window function"
                )
            raise InvalidPrecedingOrFollowingSize(f"frame {word} offset must not be negative")
        found.append(value)
    return found[0], found[1]


class Partition:
    """The sorted rows of one partition with their peer groups and frames."""

    def __init__(self, peer_keys: list[Any], frame: FrameSpec, offsets: tuple[Any, Any]) -> None:
        self.size = len(peer_keys)
        self.frame = frame
        self.offsets = offsets
        self.group_of: list[int] = []
        self.group_starts: list[int] = []
        previous: Any = None
        for number, key in enumerate(peer_keys):
            if number == 0 or (frame.has_order and key != previous):
                self.group_starts.append(number)
                previous = key
            self.group_of.append(len(self.group_starts) - 1)
        self.group_starts.append(self.size)
        self._order_values: list[Any] = []
        self._sort_keys: list[Any] = []
        self._first_value = 0
        self._last_value = self.size
        self._frames: list[tuple[int, int]] = []

    @classmethod
    async def make(
        cls, rows: list[Row], loop: WindowLoop, offsets: tuple[Any, Any], context: ExecutionContext
    ) -> Partition:
        """Compute peers and, for RANGE with offsets, the ordering values."""
        partition = cls(await _value(loop.peers, rows, context), loop.frame, offsets)
        if loop.frame.order_value is not None:
            partition.set_order_values(await _each(loop.frame.order_value, rows, context))
        await partition.find_frames(context)
        return partition

    def set_order_values(self, values: list[Any]) -> None:
        """Prepare searching by value; NULLs lie at one end and are each other's frame."""
        add = self.frame.add
        assert add is not None
        self._order_values = values
        present = [number for number, value in enumerate(values) if value is not None]
        self._first_value = present[0] if present else 0
        self._last_value = present[-1] + 1 if present else 0
        keys = [add(values[number], self._zero_like(), 1) for number in present]
        self._sort_keys = keys[::-1] if self.frame.descending else keys

    def _zero_like(self) -> Any:
        sample = next((o for o in self.offsets if o is not None), 0)
        return (0, 0, 0) if isinstance(sample, tuple) else type(sample)(0)

    def peers(self, number: int) -> tuple[int, int]:
        """Return the half-open range of a row's peers."""
        group = self.group_of[number]
        return self.group_starts[group], self.group_starts[group + 1]

    async def find_frames(self, context: ExecutionContext) -> None:
        """Find each row's frame as a half-open range, exclusion not considered."""
        for number in range(self.size):
            start = self._bound(number, self.frame.start, self.offsets[0], is_end=False)
            end = self._bound(number, self.frame.end, self.offsets[1], is_end=True)
            start, end = min(max(0, start), self.size), min(self.size, end)
            self._frames.append((start, max(start, end)))
            if number % _PAUSE_STEPS == 0:
                await context.checkpoint()

    def _bound(self, number: int, kind: str, offset: Any, *, is_end: bool) -> int:
        if kind == "unbounded_preceding":
            return 0
        if kind == "unbounded_following":
            return self.size
        unit = self.frame.unit
        if kind == "current_row":
            if unit == "rows":
                return number + is_end
            return self.peers(number)[is_end]
        sign = -1 if kind == "preceding" else 1
        if unit == "rows":
            return number + sign * int(offset) + is_end
        if unit == "groups":
            group = self.group_of[number] + sign * int(offset)
            last = len(self.group_starts) - 2
            if group < 0:
                return 0
            if group > last:
                return self.size
            return self.group_starts[group + is_end]
        return self._range_bound(number, offset, sign, is_end=is_end)

    def _range_bound(self, number: int, offset: Any, sign: int, *, is_end: bool) -> int:
        value = self._order_values[number]
        if value is None:
            return self.peers(number)[is_end]
        add = self.frame.add
        assert add is not None
        keys = self._sort_keys
        if not self.frame.descending:
            key = add(value, offset, sign)
            found = bisect_right(keys, key) if is_end else bisect_left(keys, key)
            return self._first_value + found
        key = add(value, offset, -sign)
        found = bisect_left(keys, key) if is_end else bisect_right(keys, key)
        return self._first_value + len(keys) - found

    def frame_rows(self, number: int) -> list[range]:
        """Return the row numbers of a row's frame as ranges, exclusion applied."""
        start, end = self._frames[number]
        exclusion = self.frame.exclusion
        if exclusion == "no_others":
            return [range(start, end)]
        low, high = (number, number + 1) if exclusion == "current_row" else self.peers(number)
        parts = [range(start, min(end, low)), range(max(start, high), end)]
        if exclusion == "ties" and start <= number < end:
            parts.insert(1, range(number, number + 1))
        return [part for part in parts if part]

    async def aggregate(
        self,
        call: WindowCallSpec,
        args: list[Row],
        passes: list[bool] | None,
        context: ExecutionContext,
    ) -> list[Datum]:
        """Return an aggregate over every row's frame."""
        aggregate = call.function
        strict = aggregate.strict
        usable = [
            (passes is None or passes[number]) and not (strict and None in arg)
            for number, arg in enumerate(args)
        ]
        state_of = _summed_states(aggregate.code, args, usable)
        if state_of is not None:
            return await self._from_sums(state_of, aggregate.finish, context)
        create = state_creator(aggregate, call.types, context)
        return await self._stepwise(aggregate, args, usable, create, context)

    async def _from_sums(
        self,
        state_of: Callable[[list[range]], Any],
        finish: Callable[[Any], Datum],
        context: ExecutionContext,
    ) -> list[Datum]:
        out: list[Datum] = []
        for number in range(self.size):
            out.append(finish(state_of(self.frame_rows(number))))
            if number % _PAUSE_STEPS == 0:
                await context.checkpoint()
        return out

    async def _stepwise(
        self,
        aggregate: Any,
        args: list[Row],
        usable: list[bool],
        create: Callable[[], Any],
        context: ExecutionContext,
    ) -> list[Datum]:
        """Step through the frames, going on from the last one where the next extends it."""
        step, finish = aggregate.step, aggregate.finish
        plain = self.frame.exclusion == "no_others"
        out: list[Datum] = []
        state: Any = None
        covered = (0, -1)
        steps = 0
        for number in range(self.size):
            start, end = self._frames[number]
            if plain and (start, end) == covered:
                out.append(out[-1])
                continue
            if not plain or start != covered[0] or end < covered[1] or covered[1] < 0:
                state = create()
                parts = self.frame_rows(number)
            else:
                parts = [range(covered[1], end)]
            for part in parts:
                for at in part:
                    if usable[at]:
                        state = step(state, *args[at])
                    steps += 1
                    if steps % _PAUSE_STEPS == 0:
                        await context.checkpoint()
            covered = (start, end)
            out.append(finish(state))
        return out


def _summed_states(
    code: str, args: list[Row], usable: list[bool]
) -> Callable[[list[range]], Any] | None:
    """Return what makes a state of row ranges by differences of running sums, or None.

    Counts and sums of integers are exact, so that any frame costs two look-ups.
    """
    if code not in {"count_star", "count", "sum_int", "avg_int"}:
        return None
    counts = [0, *accumulate(usable)]
    if code in {"count_star", "count"}:
        return lambda parts: sum([counts[p.stop] - counts[p.start] for p in parts])
    sums = [0, *accumulate(a[0] if used else 0 for a, used in zip(args, usable, strict=True))]

    def state(parts: list[range]) -> Any:
        count = sum([counts[p.stop] - counts[p.start] for p in parts])
        if not count:
            return None
        total = sum([sums[p.stop] - sums[p.start] for p in parts])
        return total if code == "sum_int" else [count, total]

    return state


def _row_number(partition: Partition, _args: list[Row]) -> list[Datum]:
    return list(range(1, partition.size + 1))


def _rank(partition: Partition, _args: list[Row]) -> list[Datum]:
    return [partition.peers(n)[0] + 1 for n in range(partition.size)]


def _dense_rank(partition: Partition, _args: list[Row]) -> list[Datum]:
    return [group + 1 for group in partition.group_of]


def _percent_rank(partition: Partition, _args: list[Row]) -> list[Datum]:
    size = partition.size
    if size == 1:
        return [0.0]
    return [partition.peers(n)[0] / (size - 1) for n in range(size)]


def _cume_dist(partition: Partition, _args: list[Row]) -> list[Datum]:
    return [partition.peers(n)[1] / partition.size for n in range(partition.size)]


def _ntile(partition: Partition, args: list[Row]) -> list[Datum]:
    count = args[0][0]
    if count is None:
        return [None] * partition.size
    if count <= 0:
        raise InvalidArgumentForNtile("argument of ntile must be greater than zero")
    small, larger = divmod(partition.size, count)
    out: list[Datum] = []
    for bucket in range(1, min(count, partition.size) + 1):
        out += [bucket] * (small + (bucket <= larger))
    return out


def _shifted(partition: Partition, args: list[Row], sign: int) -> list[Datum]:
    out: list[Datum] = []
    for number, arg in enumerate(args):
        offset = arg[1] if len(arg) > 1 else 1
        if offset is None:
            out.append(None)
            continue
        at = number + sign * offset
        if 0 <= at < partition.size:
            out.append(args[at][0])
        else:
            out.append(arg[2] if len(arg) > 2 else None)
    return out


def _lag(partition: Partition, args: list[Row]) -> list[Datum]:
    return _shifted(partition, args, -1)


def _lead(partition: Partition, args: list[Row]) -> list[Datum]:
    return _shifted(partition, args, 1)


def _first_value(partition: Partition, args: list[Row]) -> list[Datum]:
    out: list[Datum] = []
    for number in range(partition.size):
        parts = [part for part in partition.frame_rows(number) if part]
        out.append(args[parts[0][0]][0] if parts else None)
    return out


def _last_value(partition: Partition, args: list[Row]) -> list[Datum]:
    out: list[Datum] = []
    for number in range(partition.size):
        parts = [part for part in partition.frame_rows(number) if part]
        out.append(args[parts[-1][-1]][0] if parts else None)
    return out


def _nth_value(partition: Partition, args: list[Row]) -> list[Datum]:
    out: list[Datum] = []
    for number in range(partition.size):
        nth = args[number][1]
        if nth is None:
            out.append(None)
            continue
        if nth <= 0:
            raise InvalidArgumentForNthValue("argument of nth_value must be greater than zero")
        found: Datum = None
        for part in partition.frame_rows(number):
            if nth <= len(part):
                found = args[part[nth - 1]][0]
                break
            nth -= len(part)
        out.append(found)
    return out


_PURE: Final[dict[str, Callable[[Partition, list[Row]], list[Datum]]]] = {
    "row_number": _row_number,
    "rank": _rank,
    "dense_rank": _dense_rank,
    "percent_rank": _percent_rank,
    "cume_dist": _cume_dist,
    "ntile": _ntile,
    "lag": _lag,
    "lead": _lead,
    "first_value": _first_value,
    "last_value": _last_value,
    "nth_value": _nth_value,
}
