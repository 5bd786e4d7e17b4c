"""Physical plan nodes and the operators they open.

A ``Node`` is an immutable description, shared by all executions of a plan; ``run`` is an
asynchronous generator of batches (non-empty lists of tuples) for one execution. ``open`` wraps
it in an ``Operator``, whose ``close`` is synchronous: no node awaits while it cleans up, so an
abandoned operator never needs a task. Columns have ids (``layout`` gives their order in the
tuples); values of enclosing queries' columns travel in ``context.cache[SLOTS]``, one slot per
column id, set by whoever runs a correlated sub-plan just before it does.

Every node that keeps rows accounts for them with a ``RowMeter``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from sys import getsizeof
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

BATCH_ROWS: Final = 1024
SLOTS: Final = "executor.slots"
INSTRUMENTATION: Final = "executor.instrumentation"
OrderKey = tuple[int, bool, bool]
"""Column id, descending, nulls first."""
Batches = AsyncGenerator[list["Row"], None]
_SAMPLE_ROWS: Final = 8
HASH_ENTRY_BYTES: Final = 80
"""One entry of a set or dictionary, its share of the free slots and of the growing included."""


class Operator:
    """A node being executed."""

    __slots__ = ("_batches",)

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end."""
        try:
            return await self._batches.__anext__()
        except StopAsyncIteration:
            return []

    def close(self) -> None:
        """Release what the operator holds; idempotent."""
        close_generator(self._batches)


class MeasuredOperator(Operator):
    """An operator under EXPLAIN ANALYZE."""

    __slots__ = ("_clock", "_measure")

    def __init__(self, batches: Batches, measure: Measure, clock: Callable[[], int]) -> None:
        super().__init__(batches)
        self._measure = measure
        self._clock = clock

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end, counting them and the time they took."""
        started = self._clock()
        batch = await super().next_batch()
        elapsed = self._clock() - started
        measure = self._measure
        measure.total_us += elapsed
        if measure.rows == 0:
            measure.first_us += elapsed
        measure.rows += len(batch)
        return batch


class Measure:
    """What EXPLAIN ANALYZE learned of one node; times are sums over all loops."""

    __slots__ = ("first_us", "loops", "removed", "rows", "total_us")

    def __init__(self) -> None:
        self.loops = 0
        self.rows = 0
        self.first_us = 0
        self.total_us = 0
        self.removed = 0


class Node:
    """A physical operator's description.

    ``rows``, ``startup_cost``, ``total_cost`` and ``width`` are estimates in PostgreSQL's
    units. ``order`` is the order that the output has. ``details`` are what EXPLAIN prints below
    the node: (label, text or texts). ``kept`` only lives as long as the node.
    """

    name: ClassVar[str] = "Result"

    def __init__(self, layout: Sequence[int], children: Sequence[Node] = ()) -> None:
        self.layout = tuple(layout)
        self.children = tuple(children)
        self.rows = 1.0
        self.startup_cost = 0.0
        self.total_cost = 0.0
        self.width = 4
        self.order: tuple[OrderKey, ...] = ()
        self.details: list[tuple[str, Any]] = []
        self.kept: Any = None
        self.sub_plans: list[Any] = []

    def title(self) -> str:
        """Return EXPLAIN's name of the node."""
        return self.name

    def run(self, context: ExecutionContext) -> Batches:  # noqa: ARG002
        """Yield batches."""
        raise AssertionError(f"{type(self).__name__} cannot run")

    def open(self, context: ExecutionContext) -> Operator:
        """Start an execution."""
        measures = context.cache.get(INSTRUMENTATION)
        if measures is None:
            return Operator(self.run(context))
        measure = measures.setdefault(id(self), Measure())
        measure.loops += 1
        return MeasuredOperator(self.run(context), measure, context.clock)


def close_generator(batches: AsyncGenerator[Any, None]) -> None:
    """Close an asynchronous generator whose clean-up does not await."""
    closing = batches.aclose()
    try:
        closing.send(None)
    except (StopIteration, StopAsyncIteration):
        return
    raise AssertionError("an operator awaited while closing")


async def read_all(node: Node, context: ExecutionContext, meter: RowMeter) -> list[Row]:
    """Run a node to its end and return its rows, charged to ``meter``."""
    operator = node.open(context)
    rows: list[Row] = []
    try:
        while batch := await operator.next_batch():
            meter.add(batch)
            rows += batch
            await context.checkpoint()
    finally:
        operator.close()
    return rows


class RowMeter:
    """Memory that one operator holds in rows, estimated from a sample of each batch."""

    __slots__ = ("_memory", "bytes")

    def __init__(self, context: ExecutionContext) -> None:
        self._memory = context.memory
        self.bytes = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Charge for rows; OutOfMemory (53200) beyond the budget."""
        self.add_bytes(len(rows) * row_bytes(rows))

    def add_bytes(self, count: int) -> None:
        """Charge bytes; OutOfMemory (53200) beyond the budget."""
        self.bytes += count
        self._memory.charge(count)

    def release(self) -> None:
        """Give everything back."""
        self._memory.release(self.bytes)
        self.bytes = 0


def row_bytes(rows: Sequence[Row]) -> int:
    """Estimate the bytes of one row, with its list entry, from a sample of them."""
    count = len(rows)
    if not count:
        return 0
    sample = rows if count <= _SAMPLE_ROWS else rows[:: -(-count // _SAMPLE_ROWS)]
    return 8 + sum(map(datum_bytes, sample)) // len(sample)


def datum_bytes(datum: Any) -> int:
    """Estimate the bytes that a datum takes of the allocator; containers count what they contain.

    Small integers, truth values and NULL are shared objects and cost nothing.
    """
    kind = type(datum)
    if kind is int:
        return 0 if -6 < datum < 257 else (getsizeof(datum) + 15) & -16
    if datum is None or kind is bool:
        return 0
    if isinstance(datum, (tuple, list)):
        return ((getsizeof(datum) + 15) & -16) + sum(map(datum_bytes, datum))
    elements = getattr(datum, "elements", None)
    if elements is not None:
        return 64 + datum_bytes(elements)
    return (getsizeof(datum) + 15) & -16


def chunks(rows: Sequence[Row]) -> list[list[Row]]:
    """Cut rows into batches."""
    if len(rows) <= BATCH_ROWS:
        return [list(rows)] if rows else []
    return [list(rows[at : at + BATCH_ROWS]) for at in range(0, len(rows), BATCH_ROWS)]
