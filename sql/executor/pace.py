"""Plans that compute no row before it is asked for: what cursors run.

Operators work on batches, so a plain plan may have computed a thousand rows when the first is
fetched, and raise the error of a row that nobody has come to. Here the filters and projections at
the top of a plan, down to the first node that needs all of its input anyway, take as many rows at
a time as are still wanted. What lies below reads batches as always.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final

from sql.executor.aggregate import AppendNode
from sql.executor.cte import CteScanNode, WithNode
from sql.executor.node import BATCH_ROWS, Batches, Node
from sql.executor.scan import (
    FunctionScanNode,
    OneTimeFilterNode,
    ProjectSetNode,
    SequenceScanNode,
    StagedNode,
    StageNode,
    TableScanNode,
    ValuesNode,
    VirtualScanNode,
)
from sql.executor.sort import LimitNode, LockRowsNode, SortNode

if TYPE_CHECKING:
    from sql.functions.context import ExecutionContext

_STREAMING: Final = (
    AppendNode,
    LimitNode,
    LockRowsNode,
    OneTimeFilterNode,
    ProjectSetNode,
    StageNode,
    WithNode,
)
_BACKWARD_LEAVES: Final = (
    CteScanNode,
    FunctionScanNode,
    SequenceScanNode,
    SortNode,
    TableScanNode,
    ValuesNode,
    VirtualScanNode,
)
_BACKWARD_WITH_INPUT: Final = (AppendNode, LimitNode, OneTimeFilterNode, StageNode, WithNode)


class Pace:
    """How many rows are wanted now; whoever fetches sets it."""

    __slots__ = ("rows",)

    def __init__(self, rows: int = BATCH_ROWS) -> None:
        self.rows = rows


class PacedNode(StagedNode):
    """Takes its input in portions of the pace, and does the input's filter and projection."""

    def __init__(self, child: Node, pace: Pace) -> None:
        super().__init__(child.layout, (child,))
        self._pace = pace

    async def run(self, context: ExecutionContext) -> Batches:
        """Yield what each portion becomes."""
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                at = 0
                while at < len(rows):
                    portion = rows[at : at + self._pace.rows]
                    at += len(portion)
                    batch = await self.staged(portion, context)
                    if batch:
                        yield batch
                await context.checkpoint()
        finally:
            operator.close()


def paced(node: Node, pace: Pace) -> Node:
    """Return a copy of a plan whose top goes by the pace; what is shared stays untouched."""
    result = copy(node)
    if isinstance(node, _STREAMING):
        # One row may become many there.
        below = Pace(1) if isinstance(node, ProjectSetNode) else pace
        result.children = tuple(paced(child, below) for child in node.children)
    top = PacedNode(result, pace)
    if isinstance(result, StagedNode) and result.stage is not None:
        top.set_stage(result.stage, is_async=result.stage_is_async, filters=result.filters)
        result.stage = None
    return top


def reads_backward(node: Node) -> bool:
    """Tell whether PostgreSQL could run such a plan backward without storing its rows."""
    if isinstance(node, SortNode):
        return node.name == "Sort"
    if isinstance(node, _BACKWARD_LEAVES):
        return True
    if isinstance(node, _BACKWARD_WITH_INPUT):
        return all(reads_backward(child) for child in node.children)
    return False
