"""Leaves of physical plans: tables, indexes, VALUES, functions, virtual tables.

The row-by-row nodes above them.

``Stage`` is a compiled batch function (filter, projection or both): scans carry one, so that a
scan with its filter and projection is one generated loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sql.executor.node import (
    BATCH_ROWS,
    INSTRUMENTATION,
    Batches,
    Measure,
    Node,
    chunks,
    row_bytes,
)

if TYPE_CHECKING:
    from sql.catalog.catalog import VirtualTable
    from sql.catalog.descriptor import Sequence as SequenceDescriptor
    from sql.catalog.descriptor import Table
    from sql.executor.store import Cursor, KeySpan, TableAccess
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

WIDE_BATCH_BYTES: Final = 1 << 20
_FIRST_WIDE_ROWS: Final = 16
Stage = Callable[[list["Row"], "ExecutionContext"], Any]
Spans = Callable[["ExecutionContext"], Any]


class StagedNode(Node):
    """A node whose output goes through an optional fused filter and projection."""

    stage: Stage | None = None
    stage_is_async = False
    filters = False

    def set_stage(self, stage: Stage, *, is_async: bool, filters: bool) -> None:
        """Fuse a batch function; at planning time only."""
        self.stage = stage
        self.stage_is_async = is_async
        self.filters = filters

    async def staged(self, rows: list[Row], context: ExecutionContext) -> list[Row]:
        """Apply the stage."""
        if self.stage is None:
            return rows
        result = self.stage(rows, context)
        if self.stage_is_async:
            result = await result
        if self.filters:
            measures = context.cache.get(INSTRUMENTATION)
            if measures is not None:
                measures.setdefault(id(self), Measure()).removed += len(rows) - len(result)
        done: list[Row] = result
        return done


class OneRowNode(StagedNode):
    """One row without columns."""

    name = "Result"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield it."""
        batch = await self.staged([()], context)
        if batch:
            yield batch


class EmptyNode(Node):
    """No rows at all: a condition is known to be false."""

    name = "Result"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield nothing."""
        await context.checkpoint()
        for batch in chunks([]):
            yield batch


class ValuesNode(StagedNode):
    """Literal rows; each is a compiled value function."""

    name = "Values Scan"

    def __init__(
        self, layout: Sequence[int], rows: Sequence[tuple[Callable[..., Any], bool]], alias: str
    ) -> None:
        super().__init__(layout)
        self._rows = tuple(rows)
        self.alias = alias

    def title(self) -> str:
        """Return EXPLAIN's name."""
        return f"Values Scan on {self.alias or chr(34) + '*VALUES*' + chr(34)}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the rows."""
        for start in range(0, len(self._rows), BATCH_ROWS):
            batch = []
            for compute, is_async in self._rows[start : start + BATCH_ROWS]:
                row = compute(context)
                batch.append(await row if is_async else row)
            batch = await self.staged(batch, context)
            if batch:
                yield batch
            await context.checkpoint()


class TableScanNode(StagedNode):
    """A scan of the clustered rows, of all keys or of spans of the clustering key."""

    def __init__(
        self,
        layout: Sequence[int],
        table: Table,
        alias: str,
        *,
        spans: Spans | None = None,
        spans_async: bool = False,
        reverse: bool = False,
    ) -> None:
        super().__init__(layout)
        self.table = table
        self.alias = alias
        self.spans = spans
        self.spans_async = spans_async
        self.reverse = reverse
        self.columns: frozenset[int] | None = None
        """Positions of the columns that somebody reads; None: all."""
        self.limit_hint: Callable[[ExecutionContext], Any] | None = None
        self.uses_order = False
        self.index_join_name = ""

    def title(self) -> str:
        """Return EXPLAIN's name."""
        back = " Backward" if self.reverse else ""
        on = (
            self.table.name
            if self.alias in {"", self.table.name}
            else f"{self.table.name} {self.alias}"
        )
        if self.spans is None and not self.reverse and not self.uses_order:
            return f"Seq Scan on {on}"
        return f"Index Scan{back} using {self.index_name()} on {on}"

    def index_name(self) -> str:
        """Return the name of the index that is scanned."""
        return self.table.primary_name or f"{self.table.name}_rowid"

    def cursor(
        self, context: ExecutionContext, spans: Sequence[KeySpan] | None, limit: int | None
    ) -> Cursor:
        """Start the storage's scan."""
        result: Cursor = context.store.scan(
            self.table, spans, reverse=self.reverse, limit=limit, columns=self.columns
        )
        return result

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield rows as the storage gives them, through the stage."""
        spans: list[KeySpan] | None = None
        if self.spans is not None:
            found = self.spans(context)
            spans = await found if self.spans_async else found
            if not spans and spans is not None:
                return
        limit = None if self.limit_hint is None else await self.limit_hint(context)
        cursor = self.cursor(context, spans, limit)
        stage = self.stage
        plain = (
            stage is not None and not self.stage_is_async and INSTRUMENTATION not in context.cache
        )
        while batch := await cursor.next_batch():
            if plain:
                assert stage is not None
                batch = stage(batch, context)
            elif stage is not None:
                batch = await self.staged(batch, context)
            if batch:
                yield batch
            await context.checkpoint()


class IndexScanNode(TableScanNode):
    """A scan of a secondary index; yields whole table rows in index order."""

    def __init__(
        self, layout: Sequence[int], access: TableAccess, index_id: int, alias: str, **options: Any
    ) -> None:
        super().__init__(layout, access.table, alias, **options)
        self.access = access
        self.index_id = index_id

    def title(self) -> str:
        """Return EXPLAIN's name."""
        back = " Backward" if self.reverse else ""
        on = (
            self.table.name
            if self.alias in {"", self.table.name}
            else f"{self.table.name} {self.alias}"
        )
        return f"Index Scan{back} using {self.index_name()} on {on}"

    def index_name(self) -> str:
        """Return the name of the index that is scanned."""
        return next(i.name for i in self.table.indexes if i.index_id == self.index_id)

    def cursor(
        self, context: ExecutionContext, spans: Sequence[KeySpan] | None, limit: int | None
    ) -> Cursor:
        """Start the storage's scan."""
        result: Cursor = context.store.scan_index(
            self.access,
            self.index_id,
            spans,
            reverse=self.reverse,
            limit=limit,
            columns=self.columns,
        )
        return result


class VirtualScanNode(StagedNode):
    """A system table's rows."""

    def __init__(self, layout: Sequence[int], table: VirtualTable, alias: str) -> None:
        super().__init__(layout)
        self.table = table
        self.alias = alias

    def title(self) -> str:
        """Return EXPLAIN's name."""
        alias = "" if self.alias in {"", self.table.name} else f" {self.alias}"
        return f"Seq Scan on {self.table.name}{alias}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the rows in batches."""
        for rows in chunks(self.table.rows(context)):
            batch = await self.staged(rows, context)
            if batch:
                yield batch
            await context.checkpoint()


class SequenceScanNode(StagedNode):
    """A sequence's one row: last_value, log_cnt, is_called."""

    def __init__(self, layout: Sequence[int], sequence: SequenceDescriptor) -> None:
        super().__init__(layout)
        self.sequence = sequence

    def title(self) -> str:
        """Return EXPLAIN's name."""
        return f"Seq Scan on {self.sequence.name}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the row."""
        last_value, is_called = await context.session.sequence_state(self.sequence)
        batch = await self.staged([(last_value, 0, is_called)], context)
        if batch:
            yield batch


class FunctionCall:
    """One call of a FunctionScan: the compiled call and how its results become columns."""

    __slots__ = ("call", "is_async", "returns_set", "spread", "width")

    def __init__(
        self,
        call: Callable[..., Any],
        *,
        is_async: bool,
        returns_set: bool,
        spread: bool,
        width: int,
    ) -> None:
        self.call = call
        self.is_async = is_async
        self.returns_set = returns_set
        self.spread = spread
        self.width = width

    async def start(self, context: ExecutionContext, row: Row = ()) -> Any:
        """Return an iterator of the results, each a tuple of ``width`` columns."""
        value = self.call(row, context)
        if self.is_async:
            value = await value
        results = (value if value is not None else ()) if self.returns_set else (value,)
        if self.spread:
            nulls = (None,) * self.width
            return (nulls if item is None else tuple(item) for item in results)
        return ((item,) for item in results)


class FunctionScanNode(StagedNode):
    """Functions in FROM, side by side; results are drawn lazily."""

    def __init__(
        self, layout: Sequence[int], calls: Sequence[FunctionCall], alias: str, *, ordinality: bool
    ) -> None:
        super().__init__(layout)
        self.calls = tuple(calls)
        self.alias = alias
        self.ordinality = ordinality
        self.function_name = ""

    def title(self) -> str:
        """Return EXPLAIN's name."""
        alias = "" if self.alias in {"", self.function_name} else f" {self.alias}"
        return f"Function Scan on {self.function_name}{alias}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield rows until the longest function ends."""
        iterators = [await call.start(context) for call in self.calls]
        number = 0
        simple = len(iterators) == 1 and not self.ordinality
        while True:
            if simple:
                rows = [row for _, row in zip(range(BATCH_ROWS), iterators[0], strict=False)]
            else:
                rows = self._draw(iterators, number)
            number += len(rows)
            if not rows:
                return
            batch = await self.staged(rows, context)
            if batch:
                yield batch
            await context.checkpoint()

    def _draw(self, iterators: list[Any], number: int) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < BATCH_ROWS:
            row = lockstep(iterators, [call.width for call in self.calls])
            if row is None:
                break
            number += 1
            rows.append((*row, number) if self.ordinality else row)
        return rows


def lockstep(iterators: list[Any], widths: Sequence[int]) -> Row | None:
    """Draw one row from iterators side by side, NULLs for those that ended; None when all have."""
    parts: list[Any] = []
    alive = False
    for iterator, width in zip(iterators, widths, strict=True):
        item = next(iterator, None)
        if item is None:
            parts += (None,) * width
        else:
            alive = True
            parts += item
    return tuple(parts) if alive else None


class ProjectSetNode(StagedNode):
    """Set-returning functions in a select list: all in lock step per input row."""

    name = "ProjectSet"

    def __init__(self, layout: Sequence[int], child: Node, calls: Sequence[FunctionCall]) -> None:
        super().__init__(layout, (child,))
        self.calls = tuple(calls)

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield input rows with the functions' results appended."""
        operator = self.children[0].open(context)
        widths = [call.width for call in self.calls]
        try:
            while rows := await operator.next_batch():
                out: list[Row] = []
                for row in rows:
                    iterators = [await call.start(context, row) for call in self.calls]
                    while (more := lockstep(iterators, widths)) is not None:
                        out.append(row + more)
                        if len(out) >= BATCH_ROWS:
                            out = await self.staged(out, context)
                            if out:
                                yield out
                            out = []
                            await context.checkpoint()
                if out:
                    out = await self.staged(out, context)
                if out:
                    yield out
                await context.checkpoint()
        finally:
            operator.close()


class StageNode(StagedNode):
    """A filter, a projection, or both.

    ``widens``: values of any size are made; then batches are cut to ``WIDE_BATCH_BYTES``.
    """

    name = "Result"

    def __init__(self, layout: Sequence[int], child: Node) -> None:
        super().__init__(layout, (child,))
        self.widens = False

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield what the stage makes of the input."""
        operator = self.children[0].open(context)
        step = _FIRST_WIDE_ROWS if self.widens else BATCH_ROWS
        try:
            while rows := await operator.next_batch():
                at = 0
                while at < len(rows):
                    part = rows[at : at + step] if at or step < len(rows) else rows
                    at += len(part)
                    batch = await self.staged(part, context)
                    if not batch:
                        continue
                    yield batch
                    if self.widens:
                        step = max(1, min(BATCH_ROWS, WIDE_BATCH_BYTES // row_bytes(batch)))
                await context.checkpoint()
        finally:
            operator.close()


class OneTimeFilterNode(Node):
    """Runs its input only when a condition without columns is true."""

    name = "Result"

    def __init__(self, child: Node, condition: Callable[..., Any], *, is_async: bool) -> None:
        super().__init__(child.layout, (child,))
        self._condition = condition
        self._is_async = is_async
        self.order = child.order

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the input's rows, or none."""
        allowed = self._condition((), context)
        if self._is_async:
            allowed = await allowed
        if not allowed:
            return
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                yield rows
        finally:
            operator.close()
