"""Which columns of which tables a bound statement reads and writes: for column-level grants.

Asked only where a role has no privilege on a whole table, so nothing of this costs anything when
statements are bound.

Source: PostgreSQL docs, "GRANT", "Privileges".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.binder.bound import (
    BoundStatement,
    ColumnVar,
    ConflictPlan,
    InsertPlan,
    TableScan,
    TargetTable,
    UpdatePlan,
)
from sql.binder.tree import children

if TYPE_CHECKING:
    from sql.binder.bound import LogicalPlan, OutputColumn

ColumnPrivilege = tuple[int, str, tuple[int, ...]]
"""(relation id, aclitem letter, column positions from 0; () means: any one column)."""


class _Uses:
    """Collects the tables' columns by column id, then the uses of these ids."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[int, int]] = {}
        self.used: dict[tuple[int, str], set[int]] = {}
        self.scanned: set[int] = set()

    def know(self, relation: int, columns: tuple[OutputColumn, ...]) -> None:
        """Note where each column id of a table comes from."""
        for position, column in enumerate(columns):
            self.places[column.id] = (relation, position)

    def write(self, target: TargetTable, letter: str, positions: list[int]) -> None:
        """Note written columns."""
        self.used.setdefault((target.table.id, letter), set()).update(positions)


def column_privileges(bound: BoundStatement) -> tuple[ColumnPrivilege, ...]:
    """Return what ``bound.privileges`` asks of tables, per column.

    DELETE and the locks of SELECT ... FOR UPDATE have no column form: they are not in the result.
    A column that a view's query reads counts as read by the statement too when both name the
    same table.
    """
    uses = _Uses()
    nodes = _nodes(bound.plan)
    inserted = dict(bound.insert_columns)
    for node in nodes:
        _note_node(uses, node, inserted)
    for node in nodes:
        if type(node) is ColumnVar and node.id in uses.places:
            relation, position = uses.places[node.id]
            uses.used.setdefault((relation, "r"), set()).add(position)
    result: list[ColumnPrivilege] = []
    of_views = ((relation, letters) for _, relation, letters in bound.view_privileges)
    for relation, letters in (*bound.privileges, *of_views):
        for letter in letters:
            positions = uses.used.get((relation, letter), set())
            if positions or (letter == "r" and relation in uses.scanned) or letter == "a":
                result.append((relation, letter, tuple(sorted(positions))))
    return tuple(result)


def _nodes(plan: LogicalPlan) -> list[object]:
    """Return everything in a plan but the checks and generated columns of its targets."""
    found: list[object] = []
    stack: list[object] = [plan]
    while stack:
        node = stack.pop()
        if type(node) is not TargetTable:
            found.append(node)
            stack.extend(children(node))
    return found


def _note_node(uses: _Uses, node: object, inserted: dict[int, tuple[int, ...]]) -> None:
    if isinstance(node, TableScan):
        uses.know(node.table.id, node.columns)
        uses.scanned.add(node.table.id)
    elif isinstance(node, InsertPlan):
        uses.know(node.target.table.id, node.target.row_columns)
        uses.write(node.target, "a", list(inserted.get(node.target.table.id, ())))
        if isinstance(node.conflict, ConflictPlan) and node.conflict.action == "update":
            uses.know(node.target.table.id, node.conflict.existing_columns)
            uses.know(node.target.table.id, node.conflict.excluded_columns)
            uses.write(node.target, "w", [p for p, _ in node.conflict.assignments])
    elif isinstance(node, UpdatePlan):
        uses.know(node.target.table.id, node.target.row_columns)
        uses.write(node.target, "w", [p for p, _ in node.assignments])
