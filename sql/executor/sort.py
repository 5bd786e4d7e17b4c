"""Sort, top-N sort, LIMIT and OFFSET, WITH TIES, row locks.

Source: PostgreSQL docs, "SELECT", LIMIT clause and The Locking Clause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sql.errors import InvalidRowCountInLimitClause, InvalidRowCountInResultOffsetClause
from sql.executor.node import Batches, Node, RowMeter, chunks
from sql.executor.ordering import SortSpec, sorted_positions

if TYPE_CHECKING:
    from sql.catalog.descriptor import Table
    from sql.executor.join import LoopCode
    from sql.executor.store import LockStrength, WaitPolicy
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

_TOP_ROWS_MIN: Final = 4096
_SORTING_BYTES: Final = 56
"""What sorting needs per row beside row and key: the row's number and its places in lists."""
LimitValue = Callable[["ExecutionContext"], Any]


class SortNode(Node):
    """Sorts all its input; with ``bound`` it keeps only the first so many rows at any time."""

    name = "Sort"

    def __init__(self, child: Node, keys: LoopCode, specs: Sequence[SortSpec]) -> None:
        super().__init__(child.layout, (child,))
        self._keys = keys
        self._specs = tuple(specs)
        self.bound: Callable[[ExecutionContext], Any] | None = None
        self._sorting_bytes = _SORTING_BYTES + sum(
            16 if spec.to_key is None else 88 for spec in specs
        )
        if len(specs) > 1:
            self._sorting_bytes += 64

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the rows in order; equal rows stay in the input's order."""
        meter = RowMeter(context)
        bound = None if self.bound is None else await self.bound(context)
        operator = self.children[0].open(context)
        rows: list[Row] = []
        keys: list[tuple[Any, ...]] = []
        most = None if bound is None else max(2 * bound, bound + _TOP_ROWS_MIN)
        try:
            while batch := await operator.next_batch():
                more = self._keys.call(batch, context)
                if self._keys.is_async:
                    more = await more
                keys += more
                rows += batch
                meter.add(batch)
                meter.add(more)
                meter.add_bytes(len(batch) * self._sorting_bytes)
                if most is not None and len(rows) > most:
                    order = sorted_positions(keys, self._specs)[:bound]
                    rows, keys = [rows[at] for at in order], [keys[at] for at in order]
                    meter.release()
                    meter.add(rows)
                    meter.add(keys)
                await context.checkpoint()
            operator.close()
            order = sorted_positions(keys, self._specs)
            del keys
            if bound is not None:
                del order[bound:]
            for batch in chunks([rows[at] for at in order]):
                yield batch
                await context.checkpoint()
        finally:
            operator.close()
            meter.release()


class RowBounds:
    """What LIMIT and OFFSET come to, for the node that has them and for nodes below it."""

    __slots__ = ("_has_ties", "_limit", "_offset")

    def __init__(self, limit: LoopCode | None, offset: LoopCode | None, *, has_ties: bool) -> None:
        self._limit = limit
        self._offset = offset
        self._has_ties = has_ties

    async def evaluate(self, context: ExecutionContext) -> tuple[int | None, int]:
        """Evaluate (limit, offset); InvalidRowCount... (2201W, 2201X) when negative."""
        limit = await _evaluate(self._limit, context)
        offset = await _evaluate(self._offset, context)
        if offset is not None and offset < 0:
            raise InvalidRowCountInResultOffsetClause("OFFSET must not be negative")
        if limit is not None and limit < 0:
            raise InvalidRowCountInLimitClause("LIMIT must not be negative")
        return limit, offset or 0

    async def needed(self, context: ExecutionContext) -> int | None:
        """Return how many input rows suffice, None for all."""
        limit, offset = await self.evaluate(context)
        return None if limit is None or self._has_ties else limit + offset


class LimitNode(Node):
    """LIMIT and OFFSET; with ``ties`` (hash keys of rows) also the rows equal to the last one."""

    name = "Limit"

    def __init__(
        self,
        child: Node,
        limit: LoopCode | None,
        offset: LoopCode | None,
        ties: LoopCode | None,
    ) -> None:
        super().__init__(child.layout, (child,))
        self.bounds = RowBounds(limit, offset, has_ties=ties is not None)
        self._ties = ties
        self.order = child.order

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the chosen rows, reading no more input than needed."""
        limit, skip = await self.bounds.evaluate(context)
        if limit == 0:
            return
        last_key: Any = None
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                if skip:
                    skipped = min(skip, len(rows))
                    skip -= skipped
                    rows = rows[skipped:]
                    if not rows:
                        continue
                if limit is None:
                    yield rows
                    continue
                if limit > 0:
                    head = rows[:limit]
                    limit -= len(head)
                    yield head
                    if limit > 0:
                        continue
                    if self._ties is None:
                        return
                    last_key = (await _keys(self._ties, head[-1:], context))[0]
                    rows = rows[len(head) :]
                assert self._ties is not None
                keys = await _keys(self._ties, rows, context)
                count = next((at for at, key in enumerate(keys) if key != last_key), len(rows))
                if count:
                    yield rows[:count]
                if count < len(rows):
                    return
        finally:
            operator.close()


async def _evaluate(code: LoopCode | None, context: ExecutionContext) -> int | None:
    if code is None:
        return None
    value = code.call(context)
    result: int | None = await value if code.is_async else value
    return result


async def _keys(code: LoopCode, rows: list[Row], context: ExecutionContext) -> list[Any]:
    keys = code.call(rows, context)
    result: list[Any] = await keys if code.is_async else keys
    return result


class LockTarget:
    """One table of a locking clause.

    Where its row stands in the input's rows, and how to lock it.
    """

    __slots__ = ("positions", "strength", "table", "wait")

    def __init__(
        self, table: Table, positions: Sequence[int], strength: LockStrength, wait: WaitPolicy
    ) -> None:
        self.table = table
        self.positions = tuple(positions)
        self.strength = strength
        self.wait = wait


class LockRowsNode(Node):
    """SELECT FOR UPDATE and its kin: locks row by row.

    Changed rows are checked again and show their newest version.

    ``recheck`` is the query's condition over the input's rows (None: nothing to check).
    """

    name = "LockRows"

    def __init__(
        self, child: Node, targets: Sequence[LockTarget], recheck: LoopCode | None
    ) -> None:
        super().__init__(child.layout, (child,))
        self._targets = tuple(targets)
        self._recheck = recheck
        self.order = child.order
        self.bound: Callable[[ExecutionContext], Any] | None = None

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the rows that could be locked and still satisfy the condition.

        Below LIMIT no more than it needs.
        """
        wanted = None if self.bound is None else await self.bound(context)
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                while rows:
                    taken = len(rows) if wanted is None else wanted
                    out = await self._lock_batch(rows[:taken], context)
                    rows = rows[taken:]
                    if out:
                        yield out
                    if wanted is not None:
                        wanted -= len(out)
                        if wanted <= 0:
                            return
                await context.checkpoint()
        finally:
            operator.close()

    async def _lock_batch(self, rows: list[Row], context: ExecutionContext) -> list[Row]:
        current: list[Row | None] = list(rows)
        changed = [False] * len(rows)
        for target in self._targets:
            await self._lock_target(target, current, changed, context)
        out = []
        for row, was_changed in zip(current, changed, strict=True):
            if row is None:
                continue
            if was_changed and self._recheck is not None:
                valid = self._recheck.call(row, context)
                if not (await valid if self._recheck.is_async else valid):
                    continue
            out.append(row)
        return out

    async def _lock_target(
        self,
        target: LockTarget,
        current: list[Row | None],
        changed: list[bool],
        context: ExecutionContext,
    ) -> None:
        key = target.table.clustering_key
        wanted: list[tuple[int, Row]] = []
        for at, row in enumerate(current):
            if row is None:
                continue
            part = tuple([row[position] for position in target.positions])
            if any(part[position] is None for position in key):
                continue  # The NULL side of an outer join: nothing to lock.
            wanted.append((at, part))
        results = await context.store.lock(
            target.table, [part for _, part in wanted], target.strength, target.wait
        )
        for (at, _), (newest, differs) in zip(wanted, results, strict=True):
            if newest is None:
                current[at] = None
            elif differs:
                changed[at] = True
                fresh = list(current[at] or ())
                for position, value in zip(target.positions, newest, strict=True):
                    fresh[position] = value
                current[at] = tuple(fresh)
