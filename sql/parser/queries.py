"""SELECT, VALUES, TABLE, set operations, WITH, FROM and the clauses after them.

A clause that follows parentheses belongs to the query inside, as in PostgreSQL: ``(SELECT ...)
LIMIT 1`` is one Select. ``self.intos`` collects the places of SELECT INTO, which only the statement
as a whole may have.
Source: PostgreSQL docs, "SELECT".
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final, Literal

from msgspec.structs import replace

from sql.ast.keywords import BARE_LABELS
from sql.ast.query import (
    Alias,
    BooleanLiteral,
    CommonTable,
    CycleClause,
    DmlStatement,
    Expression,
    FromItem,
    FunctionCall,
    FunctionRef,
    GroupingSet,
    IntegerLiteral,
    JoinRef,
    LockingClause,
    OperatorName,
    QualifiedName,
    Query,
    SearchClause,
    Select,
    SetOperation,
    SortKey,
    Star,
    SubqueryRef,
    TableRef,
    Target,
    TypeName,
    Values,
    WindowDefinition,
    WithClause,
)
from sql.ast.utility import INTERNAL_SCHEMA, SHOW_SOURCES
from sql.errors import FeatureNotSupported, SqlSyntaxError, WrongObjectType
from sql.parser.cursor import COL_ID, COL_LABEL, NESTING_DEPTH_MAX, TYPE_FUNCTION_NAME, too_deep
from sql.parser.expressions import EXPRESSION_STARTS, NO_OPERATORS, ExpressionParser
from sql.parser.functions import VALUE_FUNCTIONS
from sql.span import Span

_BARE_LABEL: Final = BARE_LABELS | {"IDENT"}
_OPERATOR_WORDS: Final = BARE_LABELS & {
    "and", "or", "is", "between", "in", "like", "ilike", "similar", "collate", "not_la", "not",
}  # fmt: skip
_JOIN_STARTS: Final = frozenset(("join", "inner", "left", "right", "full", "cross", "natural"))
_SET_OPERATORS: Final = frozenset(("union", "except"))
_TAIL_STARTS: Final = frozenset(("order", "limit", "offset", "fetch", "for"))
_LIMIT_STARTS: Final = frozenset(("limit", "offset", "fetch"))
_QUERY_STARTS: Final = frozenset(("select", "values", "table", "with", "with_la", "("))
_FUNCTION_STARTS: Final = frozenset(
    (
        "coalesce",
        "greatest",
        "least",
        "nullif",
        "extract",
        "overlay",
        "position",
        "substring",
        "trim",
        "normalize",
        "treat",
        "cast",
        "xmlconcat",
        "xmlelement",
        "xmlexists",
        "xmlforest",
        "xmlparse",
        "xmlpi",
        "xmlroot",
        "xmlserialize",
    )
)
NESTED_QUERY_LEVELS: Final = 4
"""What one sub-query counts against NESTING_DEPTH_MAX: so many expression levels' stack."""


class QueryParser(ExpressionParser):
    """SelectStmt."""

    __slots__ = ("intos",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.intos: list[Span] = []

    def parse_dml(self) -> DmlStatement:
        """PreparableStmt: a query or a data-modifying statement."""
        raise NotImplementedError

    def parse_query(self) -> Query:
        """SelectStmt, with or without parentheses around it."""
        start = self.pos
        if self.kinds[start] not in _QUERY_STARTS:
            raise self.unexpected()
        self.enter(NESTED_QUERY_LEVELS)
        with_clause = self.parse_with()
        query = self.parse_query_body(with_clause, start)
        self.depth -= NESTED_QUERY_LEVELS
        return query

    def parse_query_body(self, with_clause: WithClause | None, start: int) -> Query:
        """Parse what follows WITH: the set expression, ORDER BY, LIMIT and locking clauses."""
        query = self._set_expression()
        if with_clause is not None:
            if query.with_clause is not None:
                message = "multiple WITH clauses not allowed"
                raise SqlSyntaxError(message, span=with_clause.span)
            query = replace(query, with_clause=with_clause)
        if self.kinds[self.pos] in _TAIL_STARTS:
            query = self._tail(query)
        elif with_clause is None:
            return query
        return replace(query, span=self.span(start))

    def parse_query_in_parentheses(self) -> Query:
        """select_with_parens."""
        self.expect("(")
        query = self.parse_query()
        self.expect(")")
        return query

    # --- WITH ---

    def parse_with(self) -> WithClause | None:
        """opt_with_clause."""
        start = self.pos
        if not self.accept("with") and not self.accept("with_la"):
            return None
        recursive = self.accept("recursive")
        tables = self.parse_list(self._common_table)
        return WithClause(recursive, tables, self.span(start))

    def _common_table(self) -> CommonTable:
        start = self.pos
        name = self.parse_name()
        columns = self.parse_paren_names() if self.kinds[self.pos] == "(" else ()
        self.expect("as")
        materialized = None
        if self.accept("materialized"):
            materialized = True
        elif self.accept("not"):
            self.expect("materialized")
            materialized = False
        self.expect("(")
        statement = self.parse_dml()
        self.expect(")")
        search = cycle = None
        if self.kinds[self.pos] == "search":
            search = self._search()
        if self.kinds[self.pos] == "cycle":
            cycle = self._cycle()
        span = self.token_span(start)
        return CommonTable(name, columns, statement, materialized, span, search, cycle)

    def _search(self) -> SearchClause:
        at = self.pos
        self.pos += 1
        breadth = self.expect_any(("depth", "breadth")) == "breadth"
        self.expect_all("first", "by")
        columns = tuple(self.parse_list(self.parse_name))
        self.expect("set")
        return SearchClause(breadth, columns, self.parse_name(), self.token_span(at))

    def _cycle(self) -> CycleClause:
        at = self.pos
        self.pos += 1
        columns = tuple(self.parse_list(self.parse_name))
        self.expect("set")
        mark = self.parse_name()
        value: Expression = BooleanLiteral(True, self.token_span(at))  # noqa: FBT003
        default: Expression = BooleanLiteral(False, self.token_span(at))  # noqa: FBT003
        if self.accept("to"):
            # Constants only: no operator binds this tightly.
            value = self.parse_expression(NO_OPERATORS)
            self.expect("default")
            default = self.parse_expression(NO_OPERATORS)
        self.expect("using")
        path = self.parse_name()
        return CycleClause(columns, mark, value, default, path, self.token_span(at))

    # --- set operations ---

    def _set_expression(self) -> Query:
        start = self.pos
        left = self._intersection()
        chain = self.depth
        while self.kinds[self.pos] in _SET_OPERATORS:
            chain += 1
            if chain > NESTING_DEPTH_MAX:
                raise too_deep()
            left = self._set_operation(left, self._intersection, start)
        return left

    def _intersection(self) -> Query:
        start = self.pos
        left = self._simple_query()
        chain = self.depth
        while self.kinds[self.pos] == "intersect":
            chain += 1
            if chain > NESTING_DEPTH_MAX:
                raise too_deep()
            left = self._set_operation(left, self._simple_query, start)
        return left

    def _set_operation(self, left: Query, operand: Callable[[], Query], start: int) -> Query:
        operator: Literal["union", "intersect", "except"] = self.kinds[self.pos]  # type: ignore[assignment]
        self.pos += 1
        is_all = self.accept_any(("all", "distinct")) == "all"
        return SetOperation(operator, is_all, left, operand(), span=self.span(start))

    def _simple_query(self) -> Query:
        kind = self.kinds[self.pos]
        if kind == "select":
            return self._select()
        if kind == "values":
            return self._values()
        if kind == "(":
            return self.parse_query_in_parentheses()
        if kind == "table":
            start = self.pos
            self.pos += 1
            table = self.parse_relation()
            return Select(
                (Target(Star(span=self.token_span(start))),), (table,), span=self.span(start)
            )
        raise self.unexpected()

    def _values(self) -> Values:
        start = self.pos
        self.pos += 1
        rows = self.parse_list(self._values_row)
        return Values(rows, span=self.span(start))

    def _values_row(self) -> tuple[Expression, ...]:
        self.expect("(")
        items = self.parse_expression_list()
        self.expect(")")
        return items

    # --- one SELECT ---

    def _select(self) -> Select:
        start = self.pos
        self.pos += 1
        kinds = self.kinds
        distinct_on: tuple[Expression, ...] | None = None
        is_distinct = False
        if kinds[self.pos] == "distinct":
            distinct_on = self._distinct()
            is_distinct = True
        else:
            self.accept("all")
        kind = kinds[self.pos]
        targets: tuple[Target, ...] = ()
        if is_distinct or kind == "*" or kind in EXPRESSION_STARTS:
            targets = self.parse_targets()
        into, temporary = self._into()
        from_items: tuple[FromItem, ...] = ()
        where = having = None
        group_by: tuple[Expression, ...] = ()
        group_distinct = False
        windows: tuple[WindowDefinition, ...] = ()
        if kinds[self.pos] == "from":
            from_items = self.parse_from()
        if kinds[self.pos] == "where":
            self.pos += 1
            where = self.parse_expression()
        if kinds[self.pos] == "group":
            group_by, group_distinct = self._group_by()
        if kinds[self.pos] == "having":
            self.pos += 1
            having = self.parse_expression()
        if kinds[self.pos] == "window":
            self.pos += 1
            windows = self.parse_list(self._named_window)
        return Select(
            targets,
            from_items,
            where,
            group_by,
            group_distinct,
            having,
            windows,
            distinct_on,
            into=into,
            span=Span(self.starts[start], self.ends[self.pos - 1]),
            into_temporary=temporary,
        )

    def _distinct(self) -> tuple[Expression, ...]:
        self.pos += 1
        if not self.accept("on"):
            return ()
        self.expect("(")
        items = self.parse_expression_list()
        self.expect(")")
        return items

    def parse_targets(self) -> tuple[Target, ...]:
        """target_list."""
        targets = [self._target()]
        while self.kinds[self.pos] == ",":
            self.pos += 1
            targets.append(self._target())
        return tuple(targets)

    def _target(self) -> Target:
        start = self.pos
        if self.kinds[start] == "*":
            self.pos += 1
            span = self.token_span(start)
            return Target(Star(span=span), span=span)
        depth = self.depth
        expression: Expression | None = None
        try:
            expression = self.parse_expression()
        except SqlSyntaxError as error:
            # In ``SELECT 1 IS`` the word before the error is no operator but a label.
            at = bisect_left(self.starts, error.position - 1) - 1
            if at <= start or self.kinds[at] not in _OPERATOR_WORDS:
                raise
            word, self.kinds[at] = self.kinds[at], "IDENT"
            self.pos, end = start, at
            self.depth = depth
            try:
                expression = self.parse_expression()
            except SqlSyntaxError:
                self.pos = -1
            self.kinds[at] = word
            if expression is None or self.pos != end:
                raise
        label = ""
        kind = self.kinds[self.pos]
        if kind == "as":
            self.pos += 1
            label = self.parse_label()
        elif kind in _BARE_LABEL:
            label = self.values[self.pos]
            self.pos += 1
        return Target(expression, label, Span(self.starts[start], self.ends[self.pos - 1]))

    def _into(self) -> tuple[QualifiedName | None, bool]:
        if not self.accept("into"):
            return None, False
        temporary = False
        if self.accept_any(("local", "global")):
            self.expect_any(("temporary", "temp"))
            temporary = True
        elif self.kinds[self.pos] in ("temporary", "temp"):
            self.pos += 1
            temporary = True
        else:
            self.accept("unlogged")
        self.accept("table")
        name = self.parse_qualified_name()
        self.intos.append(name.span)
        return name, temporary

    def _group_by(self) -> tuple[tuple[Expression, ...], bool]:
        self.pos += 1
        self.expect("by")
        distinct = self.accept_any(("all", "distinct")) == "distinct"
        return self.parse_list(self._group_item), distinct

    def _group_item(self) -> Expression:
        start = self.pos
        kind, following = self.kinds[start], self.kinds[start + 1]
        if kind == "(" and following == ")":
            self.pos += 2
            return GroupingSet("empty", (), self.span(start))
        if kind in ("rollup", "cube") and following == "(":
            self.pos += 2
            items = self.parse_expression_list()
            self.expect(")")
            return GroupingSet("rollup" if kind == "rollup" else "cube", items, self.span(start))
        if kind == "grouping" and following == "sets":
            self.pos += 2
            self.expect("(")
            self.enter()
            items = self.parse_list(self._group_item)
            self.expect(")")
            self.depth -= 1
            return GroupingSet("sets", items, self.span(start))
        return self.parse_expression()

    def _named_window(self) -> WindowDefinition:
        name = self.parse_name()
        self.expect("as")
        return self.parse_window_specification(name)

    # --- ORDER BY, LIMIT, FOR ---

    def parse_order_by(self) -> tuple[SortKey, ...]:
        """``[ORDER BY key, ...]``."""
        if self.kinds[self.pos] != "order":
            return ()
        self.pos += 1
        self.expect("by")
        self.enter()
        keys = self.parse_list(self._sort_key)
        self.depth -= 1
        return keys

    def _sort_key(self) -> SortKey:
        start = self.pos
        expression = self.parse_expression()
        descending = False
        if self.kinds[self.pos] == "using":
            descending = self._sort_operator()
        else:
            descending = self.accept_any(("asc", "desc")) == "desc"
        return SortKey(expression, descending, self.parse_nulls_order(), self.span(start))

    def _sort_operator(self) -> bool:
        """Parse ``USING <`` (ascending) or ``USING >`` (descending); no other operator sorts."""
        self.pos += 1
        at = self.pos
        if self.kinds[at] == "operator":
            operator = self.parse_operator_call()
        else:
            operator = OperatorName(self.values[at])
            self.expect_any(("OP", "+", "-", "*", "/", "%", "^", "<", ">", "=", "<=", ">=", "<>"))
        if operator.name not in ("<", ">"):
            raise WrongObjectType(
                f"operator {operator.name} is not a valid ordering operator",
                hint='Ordering operators must be "<" or ">" members of btree operator families.',
                position=self.starts[at] + 1,
            )
        return operator.name == ">"

    def parse_nulls_order(self) -> bool | None:
        """``[NULLS FIRST | LAST]``."""
        if self.kinds[self.pos] != "nulls_la":
            return None
        self.pos += 2
        return self.kinds[self.pos - 1] == "first"

    def _tail(self, query: Query) -> Query:
        """ORDER BY, then LIMIT/OFFSET/FETCH and FOR UPDATE in either order."""
        at = self.pos
        order_by = self.parse_order_by()
        if order_by:
            if query.order_by:
                raise self.error_at("multiple ORDER BY clauses not allowed", at + 2)
            query = replace(query, order_by=order_by)
        locking: list[LockingClause] = []
        if self.kinds[self.pos] == "for":
            locking = self._locking()
            if self.kinds[self.pos] in _LIMIT_STARTS:
                query = self._limits(query)
        elif self.kinds[self.pos] in _LIMIT_STARTS:
            query = self._limits(query)
            locking = self._locking()
        if locking:
            if isinstance(query, Values):
                strength = locking[0].strength.upper()
                raise FeatureNotSupported(f"FOR {strength} cannot be applied to VALUES")
            query = replace(query, locking=query.locking + tuple(locking))
        if query.with_ties:
            self._check_ties(query)
        return query

    def _check_ties(self, query: Query) -> None:
        if not query.order_by:
            raise SqlSyntaxError("WITH TIES cannot be specified without ORDER BY clause")
        if not isinstance(query, Values) and any(lock.wait == "skip" for lock in query.locking):
            raise SqlSyntaxError("SKIP LOCKED and WITH TIES options cannot be used together")

    def _limits(self, query: Query) -> Query:
        """LIMIT or FETCH, and OFFSET, in either order."""
        seen: set[str] = set()
        while (kind := self.kinds[self.pos]) in _LIMIT_STARTS:
            what = "offset" if kind == "offset" else "limit"
            if what in seen:
                raise self.unexpected()
            seen.add(what)
            at = self.pos
            self.pos += 1
            if kind == "offset":
                value: Expression | None = self.parse_expression()
                self.accept_any(("row", "rows"))
                if query.offset is not None:
                    raise self.error_at("multiple OFFSET clauses not allowed", at + 1)
                query = replace(query, offset=value)
                continue
            with_ties = False
            if kind == "limit":
                value = None if self.accept("all") else self.parse_expression()
                if self.kinds[self.pos] == ",":
                    error = self.error_at("LIMIT #,# syntax is not supported", at)
                    error.hint = "Use separate LIMIT and OFFSET clauses."
                    raise error
            else:
                value, with_ties = self._fetch()
            if query.limit is not None:
                raise self.error_at("multiple LIMIT clauses not allowed", at + 1)
            query = replace(query, limit=value, with_ties=with_ties)
        return query

    def _fetch(self) -> tuple[Expression, bool]:
        self.expect_any(("first", "next"))
        at = self.pos
        value: Expression = IntegerLiteral(1, self.token_span(at))
        if self.kinds[at] not in ("row", "rows"):
            # A primary or a signed number: no operator binds this tightly.
            value = self.parse_expression(NO_OPERATORS)
        self.expect_any(("row", "rows"))
        if self.accept("only"):
            return value, False
        if not self.accept("with"):
            raise self.unexpected()
        self.expect("ties")
        return value, True

    def _locking(self) -> list[LockingClause]:
        clauses = []
        while self.kinds[self.pos] == "for":
            start = self.pos
            if self.accept_all("for", "read", "only"):
                continue
            self.pos += 1
            strength: Literal["update", "no key update", "share", "key share"]
            if self.accept("update"):
                strength = "update"
            elif self.accept("share"):
                strength = "share"
            elif self.accept("no"):
                self.expect_all("key", "update")
                strength = "no key update"
            else:
                self.expect_all("key", "share")
                strength = "key share"
            tables = self._locked_tables()
            of = tuple(name.name for name in tables)
            spans = tuple(name.span for name in tables)
            wait: Literal["wait", "nowait", "skip"] = "wait"
            if self.accept("nowait"):
                wait = "nowait"
            elif self.accept("skip"):
                self.expect("locked")
                wait = "skip"
            clauses.append(LockingClause(strength, of, wait, self.span(start), spans))
        return clauses

    def _locked_tables(self) -> tuple[QualifiedName, ...]:
        if not self.accept("of"):
            return ()
        names = self.parse_list(self.parse_qualified_name)
        for name in names:
            if name.schema:
                message = "FOR UPDATE must specify unqualified relation names"
                raise SqlSyntaxError(message, span=name.span)
        return names

    # --- FROM ---

    def parse_from(self) -> tuple[FromItem, ...]:
        """Parse from the word FROM (or USING) on: from_list."""
        self.pos += 1
        items = [self._from_item()]
        while self.kinds[self.pos] == ",":
            self.pos += 1
            items.append(self._from_item())
        return tuple(items)

    def _from_item(self) -> FromItem:
        left = self._table_primary()
        chain = self.depth
        while self.kinds[self.pos] in _JOIN_STARTS:
            chain += 1
            if chain > NESTING_DEPTH_MAX:
                raise too_deep()
            left = self._join(left)
        return left

    def _join(self, left: FromItem) -> FromItem:
        start = self.pos
        natural = self.accept("natural")
        kind: Literal["inner", "left", "right", "full", "cross"] = "inner"
        word = self.accept_any(("inner", "left", "right", "full", "cross"))
        if word in ("left", "right", "full"):
            kind = word  # type: ignore[assignment]
            self.accept("outer")
        elif word == "cross":
            if natural:
                raise self.unexpected(self.pos - 1)
            kind = "cross"
        self.expect("join")
        span = self.span(start)
        right = self._table_primary()
        if natural or kind == "cross":
            return JoinRef(kind, left, right, natural=natural, span=span)
        # In a JOIN b JOIN c ON .. ON .. the inner join takes the first condition.
        self.enter()
        while self.kinds[self.pos] in _JOIN_STARTS:
            right = self._join(right)
        self.depth -= 1
        if self.accept("on"):
            return JoinRef(kind, left, right, self.parse_expression(), span=span)
        self.expect("using")
        using = self.parse_paren_names()
        alias = self.parse_name() if self.accept("as") else ""
        return JoinRef(kind, left, right, None, using, alias, span=span)

    def _table_primary(self) -> FromItem:
        kind = self.kinds[self.pos]
        start = self.pos
        if kind == "(":
            return self._parenthesised_from()
        if kind == "lateral":
            self.pos += 1
            if self.kinds[self.pos] == "(":
                return self._subquery(start, lateral=True)
            return self._function_table(start, lateral=True)
        if kind == "[":
            return self._show_source()
        if kind == "only" or (kind in COL_ID and self._names_relation()):
            table = self.parse_relation()
            alias = self._alias() if self.kinds[self.pos] in _ALIAS_STARTS else None
            if self.kinds[self.pos] == "tablesample":
                raise self.not_supported("TABLESAMPLE", self.pos)
            return table if alias is None else replace(table, alias=alias)
        return self._function_table(start, lateral=False)

    def _show_source(self) -> TableRef:
        """``[SHOW RANGES]``: another way to write ``nodedb_internal.ranges``."""
        start = self.pos
        self.pos += 1
        self.expect("show")
        at = self.pos
        words = [self.parse_label()]
        while self.kinds[self.pos] in COL_LABEL:
            words.append(self.parse_label())
        view = SHOW_SOURCES.get(" ".join(words))
        if view is None or self.kinds[self.pos] not in ("]", ";", "EOF"):
            shown = " ".join(words[:2]).upper()
            error = self.not_supported(f"SHOW {shown} in FROM", at)
            error.hint = f"What may stand there: {', '.join(sorted(SHOW_SOURCES)).upper()}."
            raise error
        self.expect("]")
        name = QualifiedName(view, INTERNAL_SCHEMA, span=self.span(start))
        alias = self._alias() if self.kinds[self.pos] in _ALIAS_STARTS else None
        return TableRef(name, alias, span=name.span)

    def _names_relation(self) -> bool:
        """Tell a table's name from a function's, which a parenthesis follows."""
        pos = self.pos
        kinds = self.kinds
        if kinds[pos] == "rows" and kinds[pos + 1] == "from":
            return False
        while kinds[pos + 1] == "." and kinds[pos + 2] in COL_LABEL:
            pos += 2
        return kinds[pos + 1] != "("

    def parse_relation(self) -> TableRef:
        """relation_expr: ``[ONLY] name [*]``."""
        start = self.pos
        if self.accept("only"):
            if self.accept("("):
                name = self.parse_qualified_name()
                self.expect(")")
            else:
                name = self.parse_qualified_name()
            return TableRef(name, only=True, span=self.span(start))
        name = self.parse_qualified_name()
        self.accept("*")
        return TableRef(name, span=name.span)

    def _alias(self) -> Alias | None:
        """opt_alias_clause."""
        if self.accept("as"):
            name = self.parse_name()
        elif self.kinds[self.pos] in COL_ID:
            name = self.values[self.pos]
            self.pos += 1
        else:
            return None
        columns = self.parse_paren_names() if self.kinds[self.pos] == "(" else ()
        return Alias(name, columns)

    def _parenthesised_from(self) -> FromItem:
        if self.at_query():
            return self._subquery(self.pos, lateral=False)
        start = self.pos
        self.pos += 1
        self.enter(2)
        item = self._from_item()
        if not isinstance(item, JoinRef):
            raise self.unexpected()
        self.expect(")")
        self.depth -= 2
        alias = self._alias()
        return item if alias is None else replace(item, alias=alias, span=self.span(start))

    def _subquery(self, start: int, *, lateral: bool) -> FromItem:
        if not self.at_query():
            raise self.unexpected(self.pos + 1)
        at = self.pos
        query = self.parse_query_in_parentheses()
        alias = self._alias()
        if alias is None:
            what, example = (
                ("VALUES", "VALUES ...")
                if isinstance(query, Values)
                else ("subquery", "SELECT ...")
            )
            error = self.error_at(f"{what} in FROM must have an alias", at)
            error.hint = f"For example, FROM ({example}) [AS] foo."
            raise error
        return SubqueryRef(query, alias, lateral, self.span(start))

    def _function_table(self, start: int, *, lateral: bool) -> FromItem:
        rows_from = self.accept_all("rows", "from")
        if rows_from:
            self.expect("(")
            calls = self.parse_list(self._rows_from_item)
            self.expect(")")
        else:
            calls = (self._windowless_call(),)
        ordinality = False
        if self.accept("with_la"):
            self.expect("ordinality")
            ordinality = True
        alias = self._function_alias()
        return FunctionRef(calls, alias, ordinality, lateral, rows_from, self.span(start))

    def _rows_from_item(self) -> Expression:
        call = self._windowless_call()
        if self.kinds[self.pos] == "as":
            raise self.not_supported("a column definition list in ROWS FROM", self.pos)
        return call

    def _windowless_call(self) -> Expression:
        kind = self.kinds[self.pos]
        start = self.pos
        if kind in VALUE_FUNCTIONS or (kind == "current_schema" and self.kinds[start + 1] != "("):
            return self.parse_value_function()
        if kind in _FUNCTION_STARTS:
            call = self.parse_special_function()
            assert call is not None, "these words are special functions"
            return call
        if kind == "xmltable":
            return self._xml(start)
        if kind not in _CALL_STARTS:
            raise self.unexpected()
        parts = [self.parse_label()]
        while self.accept("."):
            parts.append(self.parse_label())
        if self.kinds[self.pos] != "(":
            raise self.unexpected()
        call = self.parse_call(tuple(parts), start)
        if not isinstance(call, FunctionCall) or call.over is not None:
            raise self.unexpected()
        return call

    def _function_alias(self) -> Alias | None:
        """func_alias_clause: an alias may also carry column types."""
        if self.accept("as"):
            if self.kinds[self.pos] == "(":
                return self._typed_columns("")
        elif self.kinds[self.pos] not in COL_ID:
            return None
        name = self.parse_name()
        if self.kinds[self.pos] != "(":
            return Alias(name)
        if self.kinds[self.pos + 2] in (",", ")"):
            return Alias(name, self.parse_paren_names())
        return self._typed_columns(name)

    def _typed_columns(self, name: str) -> Alias:
        self.expect("(")
        start = self.pos
        columns: list[str] = []
        types: list[TypeName] = []
        while True:
            columns.append(self.parse_name())
            types.append(self.parse_type_name())
            if self.accept("collate"):
                self.parse_any_name()
            if not self.accept(","):
                break
        self.expect(")")
        return Alias(name, tuple(columns), tuple(types), self.token_span(start))


_ALIAS_STARTS: Final = COL_ID | {"as"}
_CALL_STARTS: Final = COL_ID | TYPE_FUNCTION_NAME
