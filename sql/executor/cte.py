"""WITH: common table expressions, read lazily and kept once, and recursive ones.

The state of a definition lives in ``context.cache`` under (CTE_STATE, id): rows already
produced and the operator that makes more. All references share it, so that ``LIMIT`` above an
endless recursion ends.

Source: PostgreSQL docs, "WITH Queries (Common Table Expressions)".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sql.executor.node import HASH_ENTRY_BYTES, Batches, Node, Operator, RowMeter
from sql.executor.scan import StagedNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.executor.join import LoopCode
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

CTE_STATE: Final = "executor.cte"
WORK_TABLE: Final = "executor.work_table"


class CteDefinitionPlan:
    """One WITH query, planned. ``modifies``: run to completion before the body, exactly once."""

    __slots__ = ("cte_id", "modifies", "name", "node")

    def __init__(self, cte_id: int, name: str, node: Node, *, modifies: bool) -> None:
        self.cte_id = cte_id
        self.name = name
        self.node = node
        self.modifies = modifies


class CteState:
    """Rows of one definition in this execution, and where more come from."""

    __slots__ = ("_finished", "_meter", "_operator", "rows")

    def __init__(self, operator: Operator, meter: RowMeter) -> None:
        self._operator = operator
        self._meter = meter
        self._finished = False
        self.rows: list[Row] = []

    async def extend(self) -> bool:
        """Read one more batch; False at the end."""
        if self._finished:
            return False
        batch = await self._operator.next_batch()
        if not batch:
            self._finished = True
            return False
        self._meter.add(batch)
        self.rows += batch
        return True

    def close(self) -> None:
        """Stop the producer and give the memory back."""
        self._operator.close()
        self._meter.release()


class WithNode(Node):
    """Starts its definitions, runs the body, then ends them."""

    name = "With"

    def __init__(self, body: Node, definitions: Sequence[CteDefinitionPlan]) -> None:
        super().__init__(body.layout, (body,))
        self.definitions = tuple(definitions)
        self.order = body.order

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the body's rows."""
        states = []
        operator: Operator | None = None
        try:
            for definition in self.definitions:
                state = CteState(definition.node.open(context), RowMeter(context))
                states.append(state)
                context.cache[CTE_STATE, definition.cte_id] = state
            for definition, state in zip(self.definitions, states, strict=True):
                if definition.modifies:
                    while await state.extend():
                        await context.checkpoint()
            operator = self.children[0].open(context)
            while rows := await operator.next_batch():
                yield rows
        finally:
            if operator is not None:
                operator.close()
            for state in states:
                state.close()


class CteScanNode(StagedNode):
    """A reference to a CTE."""

    def __init__(self, layout: Sequence[int], cte_id: int, name: str, alias: str) -> None:
        super().__init__(layout)
        self.cte_id = cte_id
        self.cte_name = name
        self.alias = alias

    def title(self) -> str:
        """Return EXPLAIN's name."""
        alias = "" if self.alias in {"", self.cte_name} else f" {self.alias}"
        return f"CTE Scan on {self.cte_name}{alias}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the definition's rows, having more produced when they run out."""
        state: CteState = context.cache[CTE_STATE, self.cte_id]
        at = 0
        while True:
            rows = state.rows[at : at + 1024]
            if not rows:
                if not await state.extend():
                    return
                continue
            at += len(rows)
            batch = await self.staged(rows, context)
            if batch:
                yield batch
            await context.checkpoint()


class WorkTableNode(StagedNode):
    """The recursive reference: the rows that the previous step produced."""

    def __init__(self, layout: Sequence[int], cte_id: int, name: str, alias: str) -> None:
        super().__init__(layout)
        self.cte_id = cte_id
        self.cte_name = name
        self.alias = alias

    def title(self) -> str:
        """Return EXPLAIN's name."""
        alias = "" if self.alias in {"", self.cte_name} else f" {self.alias}"
        return f"WorkTable Scan on {self.cte_name}{alias}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield the work table."""
        rows = context.cache[WORK_TABLE, self.cte_id]
        for start in range(0, len(rows), 1024):
            batch = await self.staged(rows[start : start + 1024], context)
            if batch:
                yield batch
            await context.checkpoint()


class RecursiveUnionNode(Node):
    """WITH RECURSIVE: the first term.

    Then the step over each round's new rows until there are none.

    ``keys`` computes hash keys for UNION (rows seen before are dropped); None for UNION ALL.
    """

    name = "Recursive Union"

    def __init__(
        self, layout: Sequence[int], first: Node, step: Node, cte_id: int, keys: LoopCode | None
    ) -> None:
        super().__init__(layout, (first, step))
        self._cte_id = cte_id
        self._keys = keys

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield each round's new rows."""
        meter = RowMeter(context)
        work_meter = RowMeter(context)
        seen: set[Any] = set()
        node = self.children[0]
        operator: Operator | None = None
        try:
            while True:
                work: list[Row] = []
                operator = node.open(context)
                while rows := await operator.next_batch():
                    if self._keys is not None:
                        rows = _unseen(rows, self._keys.call(rows, context), seen)
                        meter.add(rows)
                        meter.add_bytes(len(rows) * HASH_ENTRY_BYTES)
                    if rows:
                        work_meter.add(rows)
                        work += rows
                        yield rows
                    await context.checkpoint()
                operator.close()
                if not work:
                    return
                context.cache[WORK_TABLE, self._cte_id] = work
                work_meter.release()
                node = self.children[1]
        finally:
            if operator is not None:
                operator.close()
            meter.release()
            work_meter.release()


def _unseen(rows: list[Row], keys: list[Any], seen: set[Any]) -> list[Row]:
    out = []
    for key, row in zip(keys, rows, strict=True):
        if key not in seen:
            seen.add(key)
            out.append(row)
    return out
