"""Queries, data-modifying statements and the scalar expressions in them.

One module, because the two are one recursive grammar (a_expr and select_no_parens in PostgreSQL's).
What SQL spells as special syntax but PostgreSQL executes as an ordinary function is a
``FunctionCall`` already here, with ``syntax`` telling the deparser how it was written:
EXTRACT, OVERLAY, POSITION, SUBSTRING, TRIM, AT TIME ZONE, NORMALIZE.
"""

from __future__ import annotations

from typing import Literal, Union

from sql.ast.node import Node
from sql.span import NO_SPAN, Span


class TypeName(Node, frozen=True):
    """``schema.name(modifiers)[]``: ``name`` is pg_type's (int4 for INTEGER), folded.

    ``modifiers`` are the integers in parentheses; for interval, ``fields`` keeps e.g. ``("day",
    "to", "second")``. ``array_dimensions`` counts the ``[]``. ``percent_type`` is unused syntax and
    always 0A000.
    """

    name: str
    schema: str = ""
    modifiers: tuple[int, ...] = ()
    array_dimensions: int = 0
    fields: tuple[str, ...] = ()
    span: Span = NO_SPAN


class IntegerLiteral(Node, frozen=True):
    """An integer that fits int8; the binder types it int4 or int8.

    Bigger ones are NumericLiteral.
    """

    value: int
    span: Span = NO_SPAN


class NumericLiteral(Node, frozen=True):
    """A number with a point, an exponent, or beyond int8, as written.

    ``text`` is Decimal's input.
    """

    text: str
    span: Span = NO_SPAN


class StringLiteral(Node, frozen=True):
    """A string constant after unescaping; its type is ``unknown`` until the context decides."""

    value: str
    span: Span = NO_SPAN


class BitStringLiteral(Node, frozen=True):
    """``B'0101'`` or ``X'1F'``: ``digits`` starts with b or x.

    The type bit is 0A000 in the binder.
    """

    digits: str
    span: Span = NO_SPAN


class BooleanLiteral(Node, frozen=True):
    """TRUE or FALSE."""

    value: bool
    span: Span = NO_SPAN


class NullLiteral(Node, frozen=True):
    """NULL."""

    span: Span = NO_SPAN


class Parameter(Node, frozen=True):
    """``$number``, counted from 1."""

    number: int
    span: Span = NO_SPAN


class ColumnRef(Node, frozen=True):
    """``[[catalog.]schema.][table.]column``; the last part may also turn out to be a whole row."""

    parts: tuple[str, ...]
    span: Span = NO_SPAN


class Star(Node, frozen=True):
    """``*`` or ``qualifier.*`` where a target list or count(*) allows it."""

    qualifier: tuple[str, ...] = ()
    span: Span = NO_SPAN


class FieldSelect(Node, frozen=True):
    """``(operand).field``; ``field`` is ``*`` for expansion."""

    operand: Expression
    field: str
    span: Span = NO_SPAN


class Subscript(Node, frozen=True):
    """``operand[index]`` or ``operand[lower:upper]`` (``is_slice``), None for an open end."""

    operand: Expression
    lower: Expression | None
    upper: Expression | None
    is_slice: bool
    span: Span = NO_SPAN


class OperatorName(Node, frozen=True):
    """An operator as written; ``schema`` comes from ``OPERATOR(schema.op)``."""

    name: str
    schema: str = ""


class UnaryOp(Node, frozen=True):
    """Prefix operator. ``span`` is the operator's own place, as PostgreSQL reports it."""

    operator: OperatorName
    operand: Expression
    span: Span = NO_SPAN


class BinaryOp(Node, frozen=True):
    """Infix operator (``<>`` also for ``!=``). ``span`` is the operator's own place."""

    operator: OperatorName
    left: Expression
    right: Expression
    span: Span = NO_SPAN


class And(Node, frozen=True):
    """Conjunction, flattened."""

    operands: tuple[Expression, ...]
    span: Span = NO_SPAN


class Or(Node, frozen=True):
    """Disjunction, flattened."""

    operands: tuple[Expression, ...]
    span: Span = NO_SPAN


class Not(Node, frozen=True):
    """NOT operand."""

    operand: Expression
    span: Span = NO_SPAN


class IsNull(Node, frozen=True):
    """``operand IS [NOT] NULL`` (also ISNULL, NOTNULL)."""

    operand: Expression
    negated: bool
    span: Span = NO_SPAN


class BooleanTest(Node, frozen=True):
    """``operand IS [NOT] TRUE | FALSE | UNKNOWN``."""

    operand: Expression
    value: Literal["true", "false", "unknown"]
    negated: bool
    span: Span = NO_SPAN


class IsDistinctFrom(Node, frozen=True):
    """``left IS [NOT] DISTINCT FROM right``."""

    left: Expression
    right: Expression
    negated: bool
    span: Span = NO_SPAN


class Between(Node, frozen=True):
    """``operand [NOT] BETWEEN [SYMMETRIC] low AND high``."""

    operand: Expression
    low: Expression
    high: Expression
    negated: bool
    symmetric: bool
    span: Span = NO_SPAN


class Like(Node, frozen=True):
    """``operand [NOT] LIKE | ILIKE | SIMILAR TO pattern [ESCAPE escape]``."""

    kind: Literal["like", "ilike", "similar"]
    operand: Expression
    pattern: Expression
    escape: Expression | None
    negated: bool
    span: Span = NO_SPAN


class InList(Node, frozen=True):
    """``operand [NOT] IN (item, ...)``."""

    operand: Expression
    items: tuple[Expression, ...]
    negated: bool
    span: Span = NO_SPAN


class InSubquery(Node, frozen=True):
    """``operand [NOT] IN (query)``; operand may be a RowConstructor."""

    operand: Expression
    query: Query
    negated: bool
    span: Span = NO_SPAN


class QuantifiedComparison(Node, frozen=True):
    """``left operator ANY | ALL (array)``; SOME is ANY."""

    operator: OperatorName
    left: Expression
    quantifier: Literal["any", "all"]
    array: Expression
    span: Span = NO_SPAN


class QuantifiedSubquery(Node, frozen=True):
    """``left operator ANY | ALL (query)``."""

    operator: OperatorName
    left: Expression
    quantifier: Literal["any", "all"]
    query: Query
    span: Span = NO_SPAN


class Exists(Node, frozen=True):
    """``EXISTS (query)``."""

    query: Query
    span: Span = NO_SPAN


class ScalarSubquery(Node, frozen=True):
    """``(query)`` as a value."""

    query: Query
    span: Span = NO_SPAN


class ArraySubquery(Node, frozen=True):
    """``ARRAY(query)``."""

    query: Query
    span: Span = NO_SPAN


class WhenClause(Node, frozen=True):
    """``WHEN condition THEN result``."""

    condition: Expression
    result: Expression
    span: Span = NO_SPAN


class Case(Node, frozen=True):
    """``CASE [operand] WHEN ... [ELSE default] END``."""

    operand: Expression | None
    whens: tuple[WhenClause, ...]
    default: Expression | None
    span: Span = NO_SPAN


class Coalesce(Node, frozen=True):
    """``COALESCE(args)``."""

    args: tuple[Expression, ...]
    span: Span = NO_SPAN


class NullIf(Node, frozen=True):
    """``NULLIF(left, right)``."""

    left: Expression
    right: Expression
    span: Span = NO_SPAN


class MinMax(Node, frozen=True):
    """``GREATEST(args)`` or ``LEAST(args)``."""

    kind: Literal["greatest", "least"]
    args: tuple[Expression, ...]
    span: Span = NO_SPAN


class ArrayConstructor(Node, frozen=True):
    """``ARRAY[elements]``; nested brackets are nested ArrayConstructors."""

    elements: tuple[Expression, ...]
    span: Span = NO_SPAN


class RowConstructor(Node, frozen=True):
    """``ROW(items)`` or, when not ``explicit``, ``(a, b, ...)``."""

    items: tuple[Expression, ...]
    explicit: bool
    span: Span = NO_SPAN


class TypeCast(Node, frozen=True):
    """``CAST(operand AS type)``, ``operand::type`` and ``type 'literal'``."""

    operand: Expression
    type_name: TypeName
    span: Span = NO_SPAN


class Collate(Node, frozen=True):
    """``operand COLLATE name``."""

    operand: Expression
    collation: tuple[str, ...]
    span: Span = NO_SPAN


class SqlValueFunction(Node, frozen=True):
    """CURRENT_DATE, CURRENT_USER and the others without parentheses; ``name`` in lower case."""

    name: str
    precision: int | None = None
    span: Span = NO_SPAN


class SortKey(Node, frozen=True):
    """``expression [ASC|DESC|USING op] [NULLS FIRST|LAST]``.

    ``nulls_first`` None means the default.
    """

    expression: Expression
    descending: bool = False
    nulls_first: bool | None = None
    span: Span = NO_SPAN


class FrameBound(Node, frozen=True):
    """A window frame's bound; ``offset`` only for preceding and following."""

    kind: Literal[
        "unbounded_preceding", "preceding", "current_row", "following", "unbounded_following"
    ]
    offset: Expression | None = None


class WindowFrame(Node, frozen=True):
    """``ROWS | RANGE | GROUPS BETWEEN start AND end [EXCLUDE ...]``."""

    unit: Literal["rows", "range", "groups"]
    start: FrameBound
    end: FrameBound
    exclusion: Literal["no_others", "current_row", "group", "ties"] = "no_others"


class WindowDefinition(Node, frozen=True):
    """``[name] ([base] PARTITION BY ... ORDER BY ... frame)``.

    ``OVER name`` has only ``base`` and is_reference.
    """

    name: str = ""
    base: str = ""
    partition_by: tuple[Expression, ...] = ()
    order_by: tuple[SortKey, ...] = ()
    frame: WindowFrame | None = None
    is_reference: bool = False
    span: Span = NO_SPAN


class FunctionCall(Node, frozen=True):
    """``[schema.]name([DISTINCT] args [ORDER BY ...]) [WITHIN GROUP ...] [FILTER ...] [OVER ...]``.

    ``arg_names`` is parallel to ``args`` ("" for positional). ``star`` is count(*). ``syntax`` is
    "" for ordinary calls, else one of extract, overlay, position, substring, trim, at_time_zone,
    normalize.
    """

    name: tuple[str, ...]
    args: tuple[Expression, ...]
    arg_names: tuple[str, ...] = ()
    star: bool = False
    distinct: bool = False
    variadic: bool = False
    order_by: tuple[SortKey, ...] = ()
    within_group: tuple[SortKey, ...] = ()
    filter: Expression | None = None
    over: WindowDefinition | None = None
    syntax: str = ""
    span: Span = NO_SPAN


class GroupingSet(Node, frozen=True):
    """``ROLLUP``, ``CUBE``, ``GROUPING SETS`` or the empty set ``()`` in GROUP BY."""

    kind: Literal["empty", "rollup", "cube", "sets"]
    items: tuple[Expression, ...]
    span: Span = NO_SPAN


class DefaultMarker(Node, frozen=True):
    """DEFAULT in VALUES or SET."""

    span: Span = NO_SPAN


class CurrentOf(Node, frozen=True):
    """``WHERE CURRENT OF cursor``."""

    cursor: str
    span: Span = NO_SPAN


Expression = Union[
    IntegerLiteral,
    NumericLiteral,
    StringLiteral,
    BitStringLiteral,
    BooleanLiteral,
    NullLiteral,
    Parameter,
    ColumnRef,
    Star,
    FieldSelect,
    Subscript,
    UnaryOp,
    BinaryOp,
    And,
    Or,
    Not,
    IsNull,
    BooleanTest,
    IsDistinctFrom,
    Between,
    Like,
    InList,
    InSubquery,
    QuantifiedComparison,
    QuantifiedSubquery,
    Exists,
    ScalarSubquery,
    ArraySubquery,
    Case,
    Coalesce,
    NullIf,
    MinMax,
    ArrayConstructor,
    RowConstructor,
    TypeCast,
    Collate,
    SqlValueFunction,
    FunctionCall,
    GroupingSet,
    DefaultMarker,
    CurrentOf,
]


class QualifiedName(Node, frozen=True):
    """``[catalog.][schema.]name``, folded unless quoted."""

    name: str
    schema: str = ""
    catalog: str = ""
    span: Span = NO_SPAN


class Alias(Node, frozen=True):
    """``[AS] name [(column, ...)]``; ``column_types`` only for functions returning record.

    ``types_span`` is the first of those columns.
    """

    name: str
    columns: tuple[str, ...] = ()
    column_types: tuple[TypeName, ...] = ()
    types_span: Span = NO_SPAN


class TableRef(Node, frozen=True):
    """A table, view or CTE in FROM.

    ``relation_id`` is set in stored views: the name may have changed since.
    """

    name: QualifiedName
    alias: Alias | None = None
    only: bool = False
    relation_id: int = 0
    span: Span = NO_SPAN


class SubqueryRef(Node, frozen=True):
    """``[LATERAL] (query) [AS] alias``."""

    query: Query
    alias: Alias | None
    lateral: bool = False
    span: Span = NO_SPAN


class FunctionRef(Node, frozen=True):
    """``[LATERAL] function(...) [WITH ORDINALITY] [AS alias]``; several for ROWS FROM."""

    calls: tuple[Expression, ...]
    alias: Alias | None = None
    ordinality: bool = False
    lateral: bool = False
    rows_from: bool = False
    span: Span = NO_SPAN


class JoinRef(Node, frozen=True):
    """``left JOIN right ON | USING | NATURAL``; alias for ``(a JOIN b) AS j``."""

    kind: Literal["inner", "left", "right", "full", "cross"]
    left: FromItem
    right: FromItem
    condition: Expression | None = None
    using: tuple[str, ...] = ()
    using_alias: str = ""
    natural: bool = False
    alias: Alias | None = None
    span: Span = NO_SPAN


FromItem = Union[TableRef, SubqueryRef, FunctionRef, JoinRef]


class Target(Node, frozen=True):
    """``expression [AS label]`` in a select list or RETURNING; label "" when none was written."""

    expression: Expression
    label: str = ""
    span: Span = NO_SPAN


class SearchClause(Node, frozen=True):
    """``SEARCH DEPTH | BREADTH FIRST BY columns SET sequence``."""

    breadth: bool
    columns: tuple[str, ...]
    sequence: str
    span: Span = NO_SPAN


class CycleClause(Node, frozen=True):
    """``CYCLE columns SET mark [TO value DEFAULT default] USING path``."""

    columns: tuple[str, ...]
    mark: str
    value: Expression
    default: Expression
    path: str
    span: Span = NO_SPAN


class CommonTable(Node, frozen=True):
    """``name [(columns)] AS [NOT] [MATERIALIZED] (statement) [SEARCH ...] [CYCLE ...]``."""

    name: str
    columns: tuple[str, ...]
    statement: DmlStatement
    materialized: bool | None = None
    span: Span = NO_SPAN
    search: SearchClause | None = None
    cycle: CycleClause | None = None


class WithClause(Node, frozen=True):
    """``WITH [RECURSIVE] ...``."""

    recursive: bool
    tables: tuple[CommonTable, ...]
    span: Span = NO_SPAN


class LockingClause(Node, frozen=True):
    """``FOR strength [OF tables] [NOWAIT | SKIP LOCKED]``."""

    strength: Literal["update", "no key update", "share", "key share"]
    of: tuple[str, ...] = ()
    wait: Literal["wait", "nowait", "skip"] = "wait"
    span: Span = NO_SPAN
    of_spans: tuple[Span, ...] = ()


class Select(Node, frozen=True):
    """One SELECT. ``distinct_on`` is None without DISTINCT, () for plain DISTINCT."""

    targets: tuple[Target, ...]
    from_items: tuple[FromItem, ...] = ()
    where: Expression | None = None
    group_by: tuple[Expression, ...] = ()
    group_distinct: bool = False
    having: Expression | None = None
    windows: tuple[WindowDefinition, ...] = ()
    distinct_on: tuple[Expression, ...] | None = None
    with_clause: WithClause | None = None
    order_by: tuple[SortKey, ...] = ()
    limit: Expression | None = None
    with_ties: bool = False
    offset: Expression | None = None
    locking: tuple[LockingClause, ...] = ()
    into: QualifiedName | None = None
    span: Span = NO_SPAN
    into_temporary: bool = False


class Values(Node, frozen=True):
    """``VALUES (..), (..)``; items may be DefaultMarker inside INSERT only."""

    rows: tuple[tuple[Expression, ...], ...]
    with_clause: WithClause | None = None
    order_by: tuple[SortKey, ...] = ()
    limit: Expression | None = None
    offset: Expression | None = None
    span: Span = NO_SPAN
    with_ties: bool = False


class SetOperation(Node, frozen=True):
    """``left UNION | INTERSECT | EXCEPT [ALL] right`` with the clauses that follow the whole."""

    operator: Literal["union", "intersect", "except"]
    all: bool
    left: Query
    right: Query
    with_clause: WithClause | None = None
    order_by: tuple[SortKey, ...] = ()
    limit: Expression | None = None
    offset: Expression | None = None
    locking: tuple[LockingClause, ...] = ()
    span: Span = NO_SPAN
    with_ties: bool = False


Query = Union[Select, Values, SetOperation]


class Assignment(Node, frozen=True):
    """``column = value`` or ``(a, b) = ROW(..) | (query)``: then several columns and one value.

    ``subscripts``, of a single column, are over a NULL literal in place of the column; one without
    bounds that is no slice stands for the field of a composite. ``column_spans`` are set for lists.
    """

    columns: tuple[str, ...]
    value: Expression
    subscripts: tuple[Subscript, ...] = ()
    span: Span = NO_SPAN
    column_spans: tuple[Span, ...] = ()


class ConflictTarget(Node, frozen=True):
    """``(expr, ...) [WHERE predicate]`` or ``ON CONSTRAINT name``."""

    expressions: tuple[Expression, ...] = ()
    where: Expression | None = None
    constraint: str = ""
    span: Span = NO_SPAN


class OnConflict(Node, frozen=True):
    """``ON CONFLICT [target] DO NOTHING | DO UPDATE SET ... [WHERE ...]``."""

    action: Literal["nothing", "update"]
    target: ConflictTarget | None = None
    assignments: tuple[Assignment, ...] = ()
    where: Expression | None = None
    span: Span = NO_SPAN


class Insert(Node, frozen=True):
    """INSERT. ``source`` is None for DEFAULT VALUES; ``overriding`` is "", "system" or "user".

    ``column_subscripts`` is parallel to ``columns``, or () when no column has any.
    """

    table: QualifiedName
    columns: tuple[str, ...]
    source: Query | None
    alias: str = ""
    overriding: Literal["", "system", "user"] = ""
    on_conflict: OnConflict | None = None
    returning: tuple[Target, ...] = ()
    with_clause: WithClause | None = None
    column_spans: tuple[Span, ...] = ()
    span: Span = NO_SPAN
    column_subscripts: tuple[tuple[Subscript, ...], ...] = ()


class Update(Node, frozen=True):
    """UPDATE ... SET ... [FROM ...] [WHERE ...] [RETURNING ...]."""

    table: TableRef
    assignments: tuple[Assignment, ...]
    from_items: tuple[FromItem, ...] = ()
    where: Expression | None = None
    returning: tuple[Target, ...] = ()
    with_clause: WithClause | None = None
    span: Span = NO_SPAN


class Delete(Node, frozen=True):
    """DELETE FROM ... [USING ...] [WHERE ...] [RETURNING ...]."""

    table: TableRef
    using: tuple[FromItem, ...] = ()
    where: Expression | None = None
    returning: tuple[Target, ...] = ()
    with_clause: WithClause | None = None
    span: Span = NO_SPAN


DmlStatement = Union[Select, Values, SetOperation, Insert, Update, Delete]
