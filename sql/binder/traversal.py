"""SEARCH and CYCLE of recursive WITH queries, as columns that the rewritten query computes itself.

``r AS (start UNION ALL step) SEARCH ... CYCLE ...`` becomes
``r AS (WITH RECURSIVE r AS (start' UNION ALL step') SELECT ... FROM r)``, where both terms carry
the ordering column, or the depth, and the marks and paths of the cycle.

Source: PostgreSQL docs, "WITH Queries": "Search Order", "Cycle Detection".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sql.ast.query import (
    Alias,
    And,
    ArrayConstructor,
    BinaryOp,
    Case,
    ColumnRef,
    CommonTable,
    CycleClause,
    Expression,
    FromItem,
    IntegerLiteral,
    JoinRef,
    OperatorName,
    QualifiedName,
    QuantifiedComparison,
    RowConstructor,
    Select,
    SetOperation,
    SubqueryRef,
    TableRef,
    Target,
    TypeCast,
    TypeName,
    Values,
    WhenClause,
    WithClause,
)
from sql.errors import DuplicateColumn, FeatureNotSupported, SqlSyntaxError

if TYPE_CHECKING:
    from sql.binder.scope import Scope
    from sql.binder.state import BindState
    from sql.span import Span

_START, _STEP, _DEPTH = "*start*", "*step*", "*depth*"


def expand_traversal(state: BindState, table: CommonTable, scope: Scope) -> CommonTable:
    """Return the WITH query without its SEARCH and CYCLE. Raises 42601, 0A000."""
    node = table.statement
    assert table.search is not None or table.cycle is not None
    if not isinstance(node, SetOperation) or node.operator != "union":
        raise SqlSyntaxError("WITH query is not recursive", span=table.span)
    for side, query in (("left", node.left), ("right", node.right)):
        if isinstance(query, SetOperation) or (side == "right" and isinstance(query, Values)):
            raise FeatureNotSupported(
                f"with a SEARCH or CYCLE clause, the {side} side of the UNION must be a SELECT"
            )
    assert isinstance(node.right, Select)
    aliases = [_alias_in(item, table.name) for item in node.right.from_items]
    alias = next((a for a in aliases if a), "")
    if not alias:
        raise FeatureNotSupported(
            "with a SEARCH or CYCLE clause, the recursive reference to WITH query "
            f'"{table.name}" must be at the top level of its right-hand SELECT'
        )
    found = [c.name for c in state.bind_query(state, node.left, scope).columns]
    names = (*table.columns, *found[len(table.columns) :])
    _check_columns(table, names)
    return _Rewrite(table, node, names, alias).result()


def _alias_in(item: FromItem, name: str) -> str:
    if isinstance(item, JoinRef):
        return _alias_in(item.left, name) or _alias_in(item.right, name)
    if isinstance(item, TableRef) and item.name.name == name and not item.name.schema:
        return name if item.alias is None else item.alias.name
    return ""


def _check_columns(table: CommonTable, names: tuple[str, ...]) -> None:
    for clause, word in ((table.search, "search"), (table.cycle, "cycle")):
        if clause is None:
            continue
        for index, column in enumerate(clause.columns):
            if column not in names:
                raise SqlSyntaxError(
                    f'{word} column "{column}" not in WITH query column list', span=clause.span
                )
            if column in clause.columns[:index]:
                raise DuplicateColumn(
                    f'{word} column "{column}" specified more than once', span=clause.span
                )
    search, cycle = table.search, table.cycle
    new = []
    if search is not None:
        new.append(("search sequence", search.sequence, search.span))
    if cycle is not None:
        new.append(("cycle mark", cycle.mark, cycle.span))
        new.append(("cycle path", cycle.path, cycle.span))
    for what, name, span in new:
        if name in names:
            raise SqlSyntaxError(
                f'{what} column name "{name}" already used in WITH query column list', span=span
            )


class _Rewrite:
    """The parts of one rewritten query."""

    def __init__(
        self, table: CommonTable, node: SetOperation, names: tuple[str, ...], alias: str
    ) -> None:
        self.table = table
        self.node = node
        self.names = names
        self.alias = alias
        self.span: Span = table.span

    def column(self, qualifier: str, name: str) -> Expression:
        return ColumnRef((qualifier, name), self.span)

    def row(self, qualifier: str, columns: tuple[str, ...]) -> Expression:
        items = tuple(self.column(qualifier, name) for name in columns)
        return RowConstructor(items, explicit=True, span=self.span)

    def plain(self, qualifier: str) -> list[Target]:
        return [Target(self.column(qualifier, name), name, self.span) for name in self.names]

    def result(self) -> CommonTable:
        """Put the pieces together."""
        extras = [name for name, _ in self.started()]
        start = Select(
            (*self.plain(_START), *(Target(e, n, self.span) for n, e in self.started())),
            (SubqueryRef(self.node.left, Alias(_START, self.names), span=self.span),),
            span=self.span,
        )
        step_alias = Alias(_STEP, (*self.names, *extras))
        step = Select(
            (*self.plain(_STEP), *(Target(e, n, self.span) for n, e in self.stepped())),
            (SubqueryRef(self.inner_step(extras), step_alias, span=self.span),),
            span=self.span,
        )
        union = replace(self.node, left=start, right=step)
        inner = CommonTable(self.table.name, (), union, None, self.span)
        body = Select(
            (*self.plain(self.table.name), *self.shown()),
            (TableRef(QualifiedName(self.table.name), span=self.span),),
            with_clause=WithClause(True, (inner,), self.span),  # noqa: FBT003
            span=self.span,
        )
        return replace(self.table, columns=(), statement=body, search=None, cycle=None)

    def started(self) -> list[tuple[str, Expression]]:
        """Return the further columns of the first term."""
        search, cycle = self.table.search, self.table.cycle
        found: list[tuple[str, Expression]] = []
        if search is not None and search.breadth:
            zero = TypeCast(IntegerLiteral(0, self.span), TypeName("int8", "pg_catalog"), self.span)
            found.append((_DEPTH, zero))
        elif search is not None:
            rows = (self.row(_START, search.columns),)
            found.append((search.sequence, ArrayConstructor(rows, self.span)))
        if cycle is not None:
            found.append((cycle.mark, cycle.default))
            rows = (self.row(_START, cycle.columns),)
            found.append((cycle.path, ArrayConstructor(rows, self.span)))
        return found

    def stepped(self) -> list[tuple[str, Expression]]:
        """Return them for the recursive term."""
        search, cycle = self.table.search, self.table.cycle
        found: list[tuple[str, Expression]] = []
        if search is not None and search.breadth:
            one = IntegerLiteral(1, self.span)
            found.append((_DEPTH, self.operator(self.column(_STEP, _DEPTH), "+", one)))
        elif search is not None:
            found.append((search.sequence, self.appended(search.sequence, search.columns)))
        if cycle is not None:
            found.append((cycle.mark, self.marked(cycle)))
            found.append((cycle.path, self.appended(cycle.path, cycle.columns)))
        return found

    def operator(self, left: Expression, name: str, right: Expression) -> Expression:
        return BinaryOp(OperatorName(name), left, right, self.span)

    def appended(self, path: str, columns: tuple[str, ...]) -> Expression:
        rows = ArrayConstructor((self.row(_STEP, columns),), self.span)
        return self.operator(self.column(_STEP, path), "||", rows)

    def marked(self, cycle: CycleClause) -> Expression:
        seen = QuantifiedComparison(
            OperatorName("="),
            self.row(_STEP, cycle.columns),
            "any",
            self.column(_STEP, cycle.path),
            self.span,
        )
        when = WhenClause(seen, cycle.value, self.span)
        return Case(None, (when,), cycle.default, self.span)

    def inner_step(self, extras: list[str]) -> Select:
        """Return the recursive term with the further columns of the row it came from."""
        query = self.node.right
        assert isinstance(query, Select)
        more = tuple(Target(self.column(self.alias, name), name, self.span) for name in extras)
        where = query.where
        cycle = self.table.cycle
        if cycle is not None:
            open_end = self.operator(self.column(self.alias, cycle.mark), "<>", cycle.value)
            where = open_end if where is None else And((where, open_end), self.span)
        return replace(query, targets=(*query.targets, *more), where=where)

    def shown(self) -> list[Target]:
        """Return the further columns of the result."""
        search, cycle, name = self.table.search, self.table.cycle, self.table.name
        found: list[Target] = []
        if search is not None and search.breadth:
            row = self.row(name, (_DEPTH, *search.columns))
            found.append(Target(row, search.sequence, self.span))
        elif search is not None:
            found.append(Target(self.column(name, search.sequence), search.sequence, self.span))
        if cycle is not None:
            found.extend(
                Target(self.column(name, n), n, self.span) for n in (cycle.mark, cycle.path)
            )
        return found
