"""A statement ready to run.

``PhysicalPlan``, its ``Execution``, and the point plans of the hot path.

A ``PhysicalPlan`` is immutable and serves any number of executions at once. ``PointPlan`` is
what single-row statements by their whole clustering key need: generated functions, no
operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sql.executor.cte import WithNode
from sql.executor.explain import ExplainOptions, tree_lines
from sql.executor.modify import AFFECTED, ModifyNode
from sql.executor.node import BATCH_ROWS, SLOTS, Node, Operator
from sql.executor.pace import Pace, paced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sql.binder.bound import OutputColumn
    from sql.catalog.descriptor import Table
    from sql.executor.store import TableAccess
    from sql.functions.context import ExecutionContext, MemoryBudget
    from sql.types.base import Row

PointKind = Literal["get", "insert", "update", "delete"]


class PointPlan:
    """A statement on one row, found by its clustering key.

    All functions are generated, and synchronous but for ``make_row_async``: it stands for
    ``make_row`` in an INSERT whose defaults await (nextval).

    ``make_key(context)`` is None when a key value is NULL or out of the column's range: no row.
    ``condition(row, context)`` (None: always true) is what the WHERE asks beyond the key.
    ``project(row, context)`` makes the output row, for RETURNING too: of the new row for insert
    and update, of the old one for delete; None without output. ``make_row(old, context)`` makes
    the verified new row (NOT NULL 23502 and CHECK 23514 raised inside). ``changes_key``: the
    clustering key itself may change. ``key_columns`` are the assigned columns of unique keys, and
    ``make_keys(old, context)`` their new values where these can be told before the row is locked.
    ``changed_positions``: columns that an update assigns.
    ``needs_foreign_keys``: the statement touches foreign keys; the general plan does them.
    """

    __slots__ = (
        "access",
        "changed_positions",
        "changes_key",
        "condition",
        "key_columns",
        "kind",
        "make_key",
        "make_keys",
        "make_row",
        "make_row_async",
        "needs_foreign_keys",
        "project",
        "table",
    )

    def __init__(
        self,
        kind: PointKind,
        access: TableAccess,
        *,
        make_key: Callable[[ExecutionContext], Row | None] | None = None,
        condition: Callable[[Row, ExecutionContext], bool] | None = None,
        project: Callable[[Row, ExecutionContext], Row] | None = None,
        make_row: Callable[[Row | None, ExecutionContext], Row] | None = None,
        make_row_async: Callable[[Row | None, ExecutionContext], Awaitable[Row]] | None = None,
        needs_foreign_keys: bool = False,
        changes_key: bool = False,
        key_columns: tuple[int, ...] = (),
        make_keys: Callable[[Row, ExecutionContext], Row] | None = None,
        changed_positions: frozenset[int] = frozenset(),
    ) -> None:
        self.kind = kind
        self.access = access
        self.table: Table = access.table
        self.make_key = make_key
        self.condition = condition
        self.project = project
        self.make_row = make_row
        self.make_row_async = make_row_async
        self.needs_foreign_keys = needs_foreign_keys
        self.changes_key = changes_key
        self.key_columns = key_columns
        self.make_keys = make_keys
        self.changed_positions = changed_positions


class PhysicalPlan:
    """A planned statement. ``names`` are EXPLAIN's names of column ids.

    ``point`` runs a single-row statement without operators; ``awaiting_point`` is the same for
    an INSERT whose row must be awaited (``make_row_async``), and ``point`` then is None.
    """

    __slots__ = ("awaiting_point", "columns", "kind", "names", "point", "root")

    def __init__(
        self,
        kind: str,
        columns: tuple[OutputColumn, ...],
        root: Node,
        point: PointPlan | None,
        names: dict[int, Any],
    ) -> None:
        self.kind = kind
        self.columns = columns
        self.root = root
        awaits = point is not None and point.make_row_async is not None
        self.point = None if awaits else point
        self.awaiting_point = point if awaits else None
        self.names = names

    def open(self, context: ExecutionContext, pace: Pace | None = None) -> Execution:
        """Start an execution; with a pace, one that computes rows as they are wanted."""
        return Execution(self, context, self.root if pace is None else paced(self.root, pace))

    def explain(
        self, context: ExecutionContext | None = None, *, costs: bool = True, verbose: bool = False
    ) -> list[str]:
        """Return EXPLAIN's lines; see ``sql.executor.explain`` for all options."""
        return tree_lines(self, ExplainOptions(costs=costs, verbose=verbose), context)


class Execution:
    """A plan being run. Batches have at most 1,024 rows."""

    __slots__ = ("_context", "_modify", "_operator", "_rest")

    def __init__(self, plan: PhysicalPlan, context: ExecutionContext, root: Node) -> None:
        context.cache.setdefault(SLOTS, {})
        self._context = context
        self._modify = _modifying_node(plan.root)
        self._operator: Operator = root.open(context)
        self._rest: list[Row] = []

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end."""
        batch = self._rest or await self._operator.next_batch()
        if len(batch) <= BATCH_ROWS:
            self._rest = []
            return batch
        self._rest = batch[BATCH_ROWS:]
        return batch[:BATCH_ROWS]

    @property
    def affected_rows(self) -> int:
        """Rows that the outermost INSERT, UPDATE or DELETE wrote; 0 before it ran."""
        if self._modify is None:
            return 0
        count: int = self._context.cache.get((AFFECTED, self._modify), 0)
        return count

    @property
    def memory(self) -> MemoryBudget:
        """The statement's budget, for whoever keeps its rows."""
        return self._context.memory

    def close(self) -> None:
        """Release everything; idempotent."""
        self._operator.close()


def _modifying_node(node: Node) -> Node | None:
    while True:
        if isinstance(node, ModifyNode):
            return node
        if isinstance(node, WithNode) or (node.name == "Result" and len(node.children) == 1):
            node = node.children[0]
        else:
            return None
