"""Joins: hash, nested loop, dependent (LATERAL) and index joins, for every kind of join.

The loops are generated (``sql.planner.loops``): a probe is a generator over a batch of left
rows. The right side is read completely before the first left row, except by index and dependent
joins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sql.executor.node import (
    BATCH_ROWS,
    HASH_ENTRY_BYTES,
    SLOTS,
    Batches,
    Node,
    Operator,
    RowMeter,
    chunks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.executor.store import TableAccess
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

_MATCHES_BYTES: Final = 80
"""The list of the rows of one key."""
_INDEX_KEYS: Final = 64
"""Keys looked up at once in an index where each may find any number of rows."""
_KIND_WORDS = {
    "inner": "",
    "left": "Left ",
    "right": "Right ",
    "full": "Full ",
    "semi": "Semi ",
    "anti": "Anti ",
}


class LoopCode:
    """A generated function and whether it must be awaited or iterated asynchronously."""

    __slots__ = ("call", "is_async")

    def __init__(self, call: Callable[..., Any], *, is_async: bool) -> None:
        self.call = call
        self.is_async = is_async


class JoinNode(Node):
    """What the joins share: running the probe over batches of left rows."""

    method = "Nested Loop"

    def __init__(
        self, layout: Sequence[int], left: Node, right: Node, kind: str, probe: LoopCode
    ) -> None:
        super().__init__(layout, (left, right))
        self.kind = kind
        self.probe = probe

    def title(self) -> str:
        """Return EXPLAIN's name."""
        word = _KIND_WORDS[self.kind]
        if self.method == "Nested Loop":
            return f"Nested Loop {word}Join" if word else "Nested Loop"
        return f"{self.method} {word}Join"

    async def probed(
        self, rows: list[Row], context: ExecutionContext, table: Any, matched: set[int]
    ) -> Batches:
        """Yield the joined rows of one batch of left rows, pausing as often as the probe does."""
        batches = self.probe.call(rows, context, table, matched)
        if self.probe.is_async:
            async for batch in batches:
                if batch:
                    yield batch
                await context.checkpoint()
        else:
            for batch in batches:
                if batch:
                    yield batch
                await context.checkpoint()


class HashJoinNode(JoinNode):
    """Builds a table of the right rows by key, then looks every left row up."""

    method = "Hash"

    def __init__(
        self,
        layout: Sequence[int],
        left: Node,
        right: Node,
        kind: str,
        probe: LoopCode,
        build: LoopCode,
        unmatched: Callable[..., list[Row]] | None,
        *,
        key_count: int,
    ) -> None:
        super().__init__(layout, left, right, kind, probe)
        self._build = build
        self._unmatched = unmatched
        self._entry_bytes = HASH_ENTRY_BYTES + _MATCHES_BYTES
        if key_count > 1:
            self._entry_bytes += 64 + 8 * key_count
        if unmatched is not None:
            self._entry_bytes += HASH_ENTRY_BYTES

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield joined rows in the left input's order, then right rows without partner."""
        meter = RowMeter(context)
        table: dict[Any, list[Row]] = {}
        everything: list[Row] = []
        matched: set[int] = set()
        left: Operator | None = None
        right = self.children[1].open(context)
        try:
            while rows := await right.next_batch():
                meter.add(rows)
                meter.add_bytes(self._entry_bytes * len(rows))
                done = self._build.call(rows, context, table)
                if self._build.is_async:
                    await done
                if self._unmatched is not None:
                    everything += rows
                await context.checkpoint()
            if not table and not everything and self.kind in {"inner", "semi", "right"}:
                return
            left = self.children[0].open(context)
            while rows := await left.next_batch():
                if not self.probe.is_async:
                    for batch in self.probe.call(rows, context, table, matched):
                        if batch:
                            yield batch
                        await context.checkpoint()
                else:
                    async for batch in self.probe.call(rows, context, table, matched):
                        if batch:
                            yield batch
                        await context.checkpoint()
                await context.checkpoint()
            if self._unmatched is not None:
                for part in chunks(everything):
                    if batch := self._unmatched(part, matched):
                        yield batch
                    await context.checkpoint()
        finally:
            right.close()
            if left is not None:
                left.close()
            meter.release()


class NestedLoopNode(JoinNode):
    """Compares every left row with every right row; the right side is kept in memory."""

    def __init__(
        self,
        layout: Sequence[int],
        left: Node,
        right: Node,
        kind: str,
        probe: LoopCode,
        unmatched: Callable[..., list[Row]] | None,
    ) -> None:
        super().__init__(layout, left, right, kind, probe)
        self._unmatched = unmatched

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield joined rows in the left input's order, then right rows without partner."""
        meter = RowMeter(context)
        matched: set[int] = set()
        right_rows: list[Row] = []
        left: Operator | None = None
        right = self.children[1].open(context)
        try:
            while rows := await right.next_batch():
                meter.add(rows)
                right_rows += rows
                await context.checkpoint()
            if not right_rows and self.kind in {"inner", "semi", "right"}:
                return
            left = self.children[0].open(context)
            step = max(1, 65_536 // (len(right_rows) + 1))
            while rows := await left.next_batch():
                for start in range(0, len(rows), step):
                    part = rows[start : start + step]
                    async for batch in self.probed(part, context, right_rows, matched):
                        yield batch
                    await context.checkpoint()
            if self._unmatched is not None:
                for part in chunks(right_rows):
                    if batch := self._unmatched(part, matched):
                        yield batch
                    await context.checkpoint()
        finally:
            right.close()
            if left is not None:
                left.close()
            meter.release()


class DependentJoinNode(JoinNode):
    """Runs the right side once per left row, whose columns it reads from the slots (LATERAL)."""

    def __init__(
        self,
        layout: Sequence[int],
        left: Node,
        right: Node,
        kind: str,
        probe: LoopCode,
        parameters: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__(layout, left, right, kind, probe)
        self._parameters = tuple(parameters)

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield joined rows in the left input's order."""
        slots = context.cache[SLOTS]
        meter = RowMeter(context)
        left = self.children[0].open(context)
        right: Operator | None = None
        try:
            while rows := await left.next_batch():
                out: list[Row] = []
                for row in rows:
                    for column_id, at in self._parameters:
                        slots[column_id] = row[at]
                    right = self.children[1].open(context)
                    table: list[Row] = []
                    while batch := await right.next_batch():
                        meter.add(batch)
                        table += batch
                    right.close()
                    await context.checkpoint()
                    async for batch in self.probed([row], context, table, set()):
                        out += batch
                        if len(out) >= BATCH_ROWS:
                            yield out
                            out = []
                    meter.release()
                if out:
                    yield out
        finally:
            left.close()
            if right is not None:
                right.close()
            meter.release()


class IndexJoinNode(JoinNode):
    """Fetches the right rows of a whole batch of left rows by key.

    ``get_many`` or ``get_by_index``.

    ``keys`` computes the key of each left row; a key with a NULL finds nothing. ``stage``
    filters and projects what was fetched. The probe sees the left rows and, beside each, its
    candidates.
    """

    def __init__(
        self,
        layout: Sequence[int],
        left: Node,
        right: Node,
        kind: str,
        probe: LoopCode,
        *,
        access: TableAccess,
        index_id: int | None,
        keys: LoopCode,
    ) -> None:
        super().__init__(layout, left, right, kind, probe)
        self._access = access
        self._index_id = index_id
        self._keys = keys
        self._step = BATCH_ROWS if index_id is None else _INDEX_KEYS

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield joined rows in the left input's order."""
        left = self.children[0].open(context)
        meter = RowMeter(context)
        no_matches: set[int] = set()
        try:
            while batch := await left.next_batch():
                for start in range(0, len(batch), self._step):
                    rows = batch[start : start + self._step]
                    keys = self._keys.call(rows, context)
                    if self._keys.is_async:
                        keys = await keys
                    found = await self._fetch(keys, context, meter)
                    matches = [found.get(key, ()) for key in keys]
                    async for joined in self.probed(rows, context, matches, no_matches):
                        yield joined
                    meter.release()
                    await context.checkpoint()
        finally:
            left.close()
            meter.release()

    async def _fetch(
        self, keys: list[Row], context: ExecutionContext, meter: RowMeter
    ) -> dict[Row, list[Row]]:
        wanted = [key for key in dict.fromkeys(keys) if None not in key]
        if self._index_id is None:
            rows = await context.store.get_many(self._access.table, wanted)
            found = {key: [row] for key, row in zip(wanted, rows, strict=True) if row is not None}
        else:
            groups = await context.store.get_by_index(self._access, self._index_id, wanted)
            found = {key: list(group) for key, group in zip(wanted, groups, strict=True) if group}
            for group in found.values():
                meter.add(group)
        right: Any = self.children[1]
        if right.stage is not None:
            for key, matches in found.items():
                found[key] = await right.staged(matches, context)
        return found
