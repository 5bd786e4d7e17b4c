"""INSERT, UPDATE and DELETE. Source: PostgreSQL docs, the three commands' pages."""

from typing import Final, Literal

from msgspec.structs import replace

from sql.ast.keywords import TYPE_FUNC_NAME
from sql.ast.query import (
    Alias,
    Assignment,
    ColumnRef,
    ConflictTarget,
    CurrentOf,
    Delete,
    DmlStatement,
    Expression,
    FromItem,
    Insert,
    NullLiteral,
    OnConflict,
    Query,
    Subscript,
    TableRef,
    Target,
    Update,
    WithClause,
)
from sql.parser.cursor import COL_ID
from sql.parser.expressions import NO_OPERATORS
from sql.parser.functions import VALUE_FUNCTIONS
from sql.parser.queries import NESTED_QUERY_LEVELS, QueryParser
from sql.span import Span


class DmlParser(QueryParser):
    """Data-modifying statements."""

    __slots__ = ()

    def parse_dml(self) -> DmlStatement:
        """PreparableStmt: a query, INSERT, UPDATE or DELETE, each with an optional WITH."""
        start = self.pos
        self.enter(NESTED_QUERY_LEVELS)
        with_clause = None
        if self.kinds[start] in ("with", "with_la"):
            with_clause = self.parse_with()
        kind = self.kinds[self.pos]
        statement: DmlStatement
        if kind == "insert":
            statement = self._insert(start, with_clause)
        elif kind == "update":
            statement = self._update(start, with_clause)
        elif kind == "delete":
            statement = self._delete(start, with_clause)
        elif self.kinds[self.pos] == "merge":
            raise self.not_supported("MERGE", self.pos)
        elif with_clause is not None and self.kinds[self.pos] in ("with", "with_la"):
            raise self.unexpected()
        else:
            statement = self.parse_query_body(with_clause, start)
        self.depth -= NESTED_QUERY_LEVELS
        return statement

    # --- INSERT ---

    def _insert(self, start: int, with_clause: WithClause | None) -> Insert:
        self.pos += 1
        self.expect("into")
        table = self.parse_qualified_name()
        alias = self.parse_name() if self.accept("as") else ""
        columns: tuple[str, ...] = ()
        spans: tuple[Span, ...] = ()
        subscripts: tuple[tuple[Subscript, ...], ...] = ()
        if self.kinds[self.pos] == "(" and not self.at_query():
            columns, spans, subscripts = self._insert_columns()
        overriding: Literal["", "system", "user"] = ""
        source: Query | None = None
        if not columns and self.accept("default"):
            self.expect("values")
        else:
            if self.accept("overriding"):
                overriding = "user" if self.expect_any(("system", "user")) == "user" else "system"
                self.expect("value")
            source = self.parse_query()
        on_conflict = self._on_conflict() if self.kinds[self.pos] == "on" else None
        returning = self._returning()
        return Insert(
            table,
            columns,
            source,
            alias,
            overriding,
            on_conflict,
            returning,
            with_clause,
            spans,
            self.span(start),
            subscripts,
        )

    def _insert_columns(
        self,
    ) -> tuple[tuple[str, ...], tuple[Span, ...], tuple[tuple[Subscript, ...], ...]]:
        self.pos += 1
        subscripts: list[tuple[Subscript, ...]] = []
        columns: list[str] = []
        spans: list[Span] = []
        while True:
            at = self.pos
            columns.append(self.parse_name())
            spans.append(self.token_span(at))
            subscripts.append(self._target_subscripts(at))
            if not self.accept(","):
                break
        self.expect(")")
        return tuple(columns), tuple(spans), tuple(subscripts) if any(subscripts) else ()

    def _target_subscripts(self, start: int) -> tuple[Subscript, ...]:
        subscripts: list[Subscript] = []
        while self.kinds[self.pos] in ("[", "."):
            at = self.pos
            self.pos += 1
            if self.kinds[at] == ".":
                self.parse_label()
                subscripts.append(Subscript(NullLiteral(), None, None, False, self.token_span(at)))  # noqa: FBT003
                continue
            node = self.parse_subscript(NullLiteral(self.token_span(at)), start)
            subscripts.append(node)
        return tuple(subscripts)

    def _on_conflict(self) -> OnConflict:
        start = self.pos
        self.expect_all("on", "conflict")
        target = self._conflict_target()
        self.expect("do")
        if self.accept("nothing"):
            return OnConflict("nothing", target, span=self.span(start))
        self.expect_all("update", "set")
        assignments = self.parse_list(self._assignment)
        where = self.parse_expression() if self.accept("where") else None
        return OnConflict("update", target, assignments, where, self.span(start))

    def _conflict_target(self) -> ConflictTarget | None:
        start = self.pos
        if self.accept("on"):
            self.expect("constraint")
            return ConflictTarget(constraint=self.parse_name(), span=self.span(start))
        if not self.accept("("):
            return None
        expressions = self.parse_list(self._conflict_element)
        self.expect(")")
        where = self.parse_expression() if self.accept("where") else None
        return ConflictTarget(expressions, where, span=self.span(start))

    def _conflict_element(self) -> Expression:
        """Parse index_elem of an inference; collation and operator class are dropped."""
        expression = self.parse_index_expression()
        if self.accept("collate"):
            self.parse_any_name()
        if self.kinds[self.pos] in COL_ID:
            self.parse_any_name()
        return expression

    def parse_index_expression(self) -> Expression:
        """index_elem's key: a column, a function call, or any expression in parentheses."""
        kind = self.kinds[self.pos]
        if kind == "(":
            self.pos += 1
            expression = self.parse_expression()
            self.expect(")")
            return expression
        if kind not in _INDEX_KEY_STARTS:
            raise self.unexpected()
        if kind == "row" and self.kinds[self.pos + 1] == "(":
            raise self.unexpected(self.pos + 1)
        if kind in COL_ID and self.kinds[self.pos + 1] not in ("(", "."):
            self.pos += 1
            return ColumnRef((self.values[self.pos - 1],), self.token_span(self.pos - 1))
        # No operator binds this tightly: a bare key has none.
        return self.parse_expression(NO_OPERATORS)

    # --- UPDATE, DELETE ---

    def _update(self, start: int, with_clause: WithClause | None) -> Update:
        self.pos += 1
        table = self._target_table()
        self.expect("set")
        assignments = self.parse_list(self._assignment)
        from_items: tuple[FromItem, ...] = ()
        if self.kinds[self.pos] == "from":
            from_items = self.parse_from()
        where = self._where_or_current()
        returning = self._returning()
        return Update(
            table, assignments, from_items, where, returning, with_clause, self.span(start)
        )

    def _delete(self, start: int, with_clause: WithClause | None) -> Delete:
        self.pos += 1
        self.expect("from")
        table = self._target_table()
        using: tuple[FromItem, ...] = ()
        if self.kinds[self.pos] == "using":
            using = self.parse_from()
        where = self._where_or_current()
        returning = self._returning()
        return Delete(table, using, where, returning, with_clause, self.span(start))

    def _target_table(self) -> TableRef:
        """relation_expr_opt_alias: SET is never an alias without AS."""
        table = self.parse_relation()
        kind = self.kinds[self.pos]
        if kind == "as":
            self.pos += 1
            return replace(table, alias=Alias(self.parse_name()))
        if kind in COL_ID and kind != "set":
            return replace(table, alias=Alias(self.parse_name()))
        return table

    def _assignment(self) -> Assignment:
        start = self.pos
        if self.accept("("):
            columns: list[str] = []
            spans: list[Span] = []
            while True:
                column, subscripts, column_span = self._assigned()
                spans.append(column_span)
                if subscripts:
                    raise self.not_supported("assignment to array elements in a list", start)
                columns.append(column)
                if not self.accept(","):
                    break
            self.expect_all(")", "=")
            value = self.parse_expression()
            span = self.token_span(start)
            return Assignment(tuple(columns), value, span=span, column_spans=tuple(spans))
        column, subscripts, span = self._assigned()
        self.expect("=")
        return Assignment((column,), self.parse_expression(), subscripts, span)

    def _assigned(self) -> tuple[str, tuple[Subscript, ...], Span]:
        at = self.pos
        name = self.parse_name()
        return name, self._target_subscripts(at), self.token_span(at)

    def _where_or_current(self) -> Expression | None:
        if not self.accept("where"):
            return None
        at = self.pos
        if self.kinds[at] == "current" and self.kinds[at + 1] == "of":
            self.pos += 2
            if self.kinds[self.pos] == "PARAM":
                raise self.not_supported("CURRENT OF with a parameter", self.pos)
            return CurrentOf(self.parse_name(), self.span(at))
        return self.parse_expression()

    def _returning(self) -> tuple[Target, ...]:
        return self.parse_targets() if self.accept("returning") else ()


_INDEX_KEY_STARTS: Final = COL_ID | TYPE_FUNC_NAME | VALUE_FUNCTIONS | {"cast"}
