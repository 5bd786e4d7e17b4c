"""Bound expressions and logical plans: what the binder makes and the planner consumes.

Every column that a plan node puts out has a ``ColumnId``, unique within the statement, so
expressions refer to columns without positions and the planner may reorder freely. A ``ColumnVar``
whose id is not among a sub-plan's own columns refers to an enclosing query: that is all there is to
correlation. Types are final: every implicit cast has become a ``CastExpr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Union

from sql.ast.query import WindowFrame
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Sequence, Table
from sql.functions.registry import Aggregate, Cast, Function, Operator, WindowFunction
from sql.span import NO_SPAN, Span
from sql.types.base import NO_TYPMOD, Datum, SqlType

ColumnId = int


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column a plan node puts out.

    ``table_oid``/``column_number`` trace it to a table column for RowDescription.
    """

    id: ColumnId
    name: str
    type: SqlType
    typmod: int = NO_TYPMOD
    table_oid: int = 0
    column_number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A constant datum (None is a typed NULL)."""

    value: Datum
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class ParameterRef:
    """``$n``; ``index`` counts from 0."""

    index: int
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class ColumnVar:
    """A column of some plan node, by id; ``name`` is for EXPLAIN, as ``relation_alias.column``."""

    id: ColumnId
    type: SqlType
    typmod: int = NO_TYPMOD
    name: str = ""
    qualifier: str = ""
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CallExpr:
    """A function call; ``operator`` is set when it was written as one.

    Variadic arguments are already one array.
    """

    function: Function
    args: tuple[BoundExpr, ...]
    type: SqlType
    operator: Operator | None = None
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CastExpr:
    """``operand`` as ``type(typmod)``.

    ``method``: "function" (``cast.function``), "relabel" (same datum), "text" (output then input),
    "array" (per element by ``element``, a CastExpr over ``CastElement``), "typmod" (length coercion
    alone). After any method the length coercion for ``typmod`` follows if it is not -1;
    ``explicit`` chooses truncation rules.
    """

    operand: BoundExpr
    type: SqlType
    method: Literal["function", "relabel", "text", "array", "typmod"]
    cast: Cast | None = None
    element: CastExpr | None = None
    typmod: int = NO_TYPMOD
    explicit: bool = True
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CollateExpr:
    """``operand COLLATE collation``, of the operand's type.

    ``sql.binder.collation`` takes it out at the end of binding.
    """

    operand: BoundExpr
    collation: str
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CastElement:
    """The element inside an array cast."""

    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class BoolExpr:
    """AND, OR, NOT (one operand)."""

    kind: Literal["and", "or", "not"]
    operands: tuple[BoundExpr, ...]
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class NullTestExpr:
    """IS [NOT] NULL; on a row operand, PostgreSQL's all-fields rule (``row``)."""

    operand: BoundExpr
    negated: bool
    type: SqlType
    row: bool = False
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class BooleanTestExpr:
    """IS [NOT] TRUE, FALSE, UNKNOWN."""

    operand: BoundExpr
    value: Literal["true", "false", "unknown"]
    negated: bool
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class DistinctExpr:
    """IS [NOT] DISTINCT FROM by the ``=`` operator's function."""

    left: BoundExpr
    right: BoundExpr
    equals: Operator
    negated: bool
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CaseExpr:
    """CASE.

    The simple form was rewritten to comparisons with ``CaseOperand`` and keeps ``operand``.
    """

    operand: BoundExpr | None
    whens: tuple[tuple[BoundExpr, BoundExpr], ...]
    default: BoundExpr | None
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CaseOperand:
    """The operand's value inside a simple CASE's comparisons (innermost CASE)."""

    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class CoalesceExpr:
    """COALESCE."""

    args: tuple[BoundExpr, ...]
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class NullIfExpr:
    """NULLIF: ``left`` unless ``comparison`` (a bool expression over left and right) is true."""

    left: BoundExpr
    comparison: BoundExpr
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class MinMaxExpr:
    """GREATEST or LEAST, by the type's default ordering, NULLs ignored."""

    kind: Literal["greatest", "least"]
    args: tuple[BoundExpr, ...]
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class ArrayExpr:
    """ARRAY[...]; ``nested`` when the elements are arrays themselves (a further dimension)."""

    elements: tuple[BoundExpr, ...]
    type: SqlType
    nested: bool = False
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class RowExpr:
    """ROW(...): a tuple datum. ``names`` are the field names (f1, f2... or a table's columns)."""

    items: tuple[BoundExpr, ...]
    names: tuple[str, ...]
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class FieldExpr:
    """Field ``index`` of a row-valued operand."""

    operand: BoundExpr
    index: int
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class SubscriptExpr:
    """Array subscripts in order, each (lower, upper, is_slice); jsonb subscripts are CallExprs."""

    operand: BoundExpr
    subscripts: tuple[tuple[BoundExpr | None, BoundExpr | None, bool], ...]
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class ScalarArrayExpr:
    """``left operator ANY | ALL (array)``.

    Also IN over a list (array is then an ArrayExpr or Const).
    """

    operator: Operator
    left: BoundExpr
    array: BoundExpr
    use_any: bool
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class RowCompareExpr:
    """Lexicographic comparison of two rows with ``<``, ``<=``, ``>``, ``>=``.

    = and <> became AND/OR.
    """

    comparison: Literal["<", "<=", ">", ">="]
    left: tuple[BoundExpr, ...]
    right: tuple[BoundExpr, ...]
    equals: tuple[Operator, ...]
    less: tuple[Operator, ...]
    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class SubqueryExpr:
    """A sub-query inside an expression.

    ``kind``: "scalar" (one column, at most one row, else 21000), "exists", "array", and
    "any"/"all": the ``test`` is a bool expression over the outer query's columns and the sub-plan's
    output columns, evaluated per row with three-valued logic (``x IN (q)`` is any with =; NOT IN is
    not any). ``row_width`` > 1 scalar sub-queries yield a tuple. ``equalities``, set for any with
    plain ``=`` tests, pairs (outer expression, sub-plan column) for hashing.
    """

    kind: Literal["scalar", "exists", "array", "any", "all"]
    plan: LogicalPlan
    type: SqlType
    test: BoundExpr | None = None
    equalities: tuple[tuple[BoundExpr, ColumnVar, Operator], ...] = ()
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True, eq=False)
class DomainDefault:
    """DEFAULT in a VALUES list of INSERT before it is replaced by the column's default."""

    type: SqlType
    typmod: int = NO_TYPMOD
    span: Span = NO_SPAN


BoundExpr = Union[
    Const,
    ParameterRef,
    ColumnVar,
    CallExpr,
    CastExpr,
    CollateExpr,
    CastElement,
    BoolExpr,
    NullTestExpr,
    BooleanTestExpr,
    DistinctExpr,
    CaseExpr,
    CaseOperand,
    CoalesceExpr,
    NullIfExpr,
    MinMaxExpr,
    ArrayExpr,
    RowExpr,
    FieldExpr,
    SubscriptExpr,
    ScalarArrayExpr,
    RowCompareExpr,
    SubqueryExpr,
    DomainDefault,
]


@dataclass(frozen=True, slots=True, eq=False)
class SortItem:
    """One sort key. ``nulls_first`` is resolved."""

    expression: BoundExpr
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AggregateCall:
    """One aggregate of an AggregatePlan.

    ``direct`` arguments only for ordered sets (whose sort is ``order_by``).
    """

    aggregate: Aggregate
    args: tuple[BoundExpr, ...]
    type: SqlType
    distinct: bool = False
    order_by: tuple[SortItem, ...] = ()
    filter: BoundExpr | None = None
    direct: tuple[BoundExpr, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WindowCall:
    """One window function or aggregate over a window."""

    function: WindowFunction | Aggregate
    args: tuple[BoundExpr, ...]
    type: SqlType
    filter: BoundExpr | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OneRow:
    """SELECT without FROM: one row without columns."""

    columns: tuple[OutputColumn, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TableScan:
    """All rows of a table; ``columns`` has one entry per ``table.columns``.

    Dropped and hidden ones included.
    """

    table: Table
    columns: tuple[OutputColumn, ...]
    alias: str


@dataclass(frozen=True, slots=True, eq=False)
class VirtualScan:
    """All rows of a virtual table."""

    table: VirtualTable
    columns: tuple[OutputColumn, ...]
    alias: str


@dataclass(frozen=True, slots=True, eq=False)
class SequenceScan:
    """``SELECT ... FROM sequence``: last_value, log_cnt, is_called."""

    sequence: Sequence
    columns: tuple[OutputColumn, ...]
    alias: str


@dataclass(frozen=True, slots=True, eq=False)
class ValuesPlan:
    """Literal rows; expressions may be correlated."""

    rows: tuple[tuple[BoundExpr, ...], ...]
    columns: tuple[OutputColumn, ...]
    alias: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FunctionScan:
    """Set-returning (or scalar) function calls side by side.

    With ``ordinality`` the last column is int8 from 1.

    ``widths[i]`` is the number of columns that call i contributes (composite results are spread).
    """

    calls: tuple[BoundExpr, ...]
    widths: tuple[int, ...]
    ordinality: bool
    columns: tuple[OutputColumn, ...]
    alias: str


@dataclass(frozen=True, slots=True, eq=False)
class ProjectSet:
    """A select list with set-returning functions: ``sets`` are evaluated in lock step.

    Added to the input's columns.
    """

    input: LogicalPlan
    sets: tuple[tuple[OutputColumn, BoundExpr], ...]
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FilterPlan:
    """Rows for which the condition is true."""

    input: LogicalPlan
    condition: BoundExpr

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The input's."""
        return self.input.columns


@dataclass(frozen=True, slots=True, eq=False)
class ProjectPlan:
    """Computes ``expressions`` (parallel to ``columns``); nothing else of the input goes on."""

    input: LogicalPlan
    expressions: tuple[BoundExpr, ...]
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True, eq=False)
class JoinPlan:
    """A join; its columns are left's then right's. ``lateral``.

    Right may refer to left's columns. USING was rewritten.
    """

    kind: Literal["inner", "left", "right", "full"]
    left: LogicalPlan
    right: LogicalPlan
    condition: BoundExpr | None
    lateral: bool = False

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """Left's, then right's."""
        return self.left.columns + self.right.columns


@dataclass(frozen=True, slots=True, eq=False)
class AggregatePlan:
    """Grouping.

    Output: the group columns, then the aggregates, then ``grouping_ids`` for GROUPING().

    Without groups and sets there is exactly one output row. ``grouping_sets``: tuples of indexes
    into groups, None for plain GROUP BY.
    """

    input: LogicalPlan
    groups: tuple[tuple[OutputColumn, BoundExpr], ...]
    aggregates: tuple[tuple[OutputColumn, AggregateCall], ...]
    grouping_sets: tuple[tuple[int, ...], ...] | None = None
    grouping_ids: tuple[tuple[OutputColumn, tuple[int, ...]], ...] = ()

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """Groups, aggregates, grouping ids."""
        return tuple(c for c, _ in (*self.groups, *self.aggregates, *self.grouping_ids))


@dataclass(frozen=True, slots=True, eq=False)
class WindowPlan:
    """Window calls sharing one window; output is the input's columns, then the calls'."""

    input: LogicalPlan
    partition_by: tuple[BoundExpr, ...]
    order_by: tuple[SortItem, ...]
    frame: WindowFrame | None
    start_offset: BoundExpr | None
    end_offset: BoundExpr | None
    calls: tuple[tuple[OutputColumn, WindowCall], ...]

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The input's, then the calls'."""
        return self.input.columns + tuple(c for c, _ in self.calls)


@dataclass(frozen=True, slots=True, eq=False)
class DistinctPlan:
    """DISTINCT over all columns, or DISTINCT ON ``keys`` (the input is sorted accordingly)."""

    input: LogicalPlan
    keys: tuple[BoundExpr, ...] | None = None

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The input's."""
        return self.input.columns


@dataclass(frozen=True, slots=True, eq=False)
class SortPlan:
    """ORDER BY."""

    input: LogicalPlan
    keys: tuple[SortItem, ...]

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The input's."""
        return self.input.columns


@dataclass(frozen=True, slots=True, eq=False)
class LimitPlan:
    """LIMIT and OFFSET (int8 expressions or None). ``ties`` are the sort keys of WITH TIES."""

    input: LogicalPlan
    limit: BoundExpr | None
    offset: BoundExpr | None
    ties: tuple[SortItem, ...] = ()

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The input's."""
        return self.input.columns


@dataclass(frozen=True, slots=True, eq=False)
class SetOperationPlan:
    """UNION, INTERSECT, EXCEPT; both inputs already have the result's types, in order."""

    operator: Literal["union", "intersect", "except"]
    all: bool
    left: LogicalPlan
    right: LogicalPlan
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CteDefinition:
    """A WITH query.

    A recursive one has ``step`` (reads itself through CteScan) and ``union_all``.
    """

    cte_id: int
    name: str
    plan: LogicalPlan
    columns: tuple[OutputColumn, ...]
    materialized: bool | None = None
    step: LogicalPlan | None = None
    union_all: bool = False
    modifies: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WithPlan:
    """WITH: definitions in order, then the body.

    Data-modifying ones run to completion exactly once.
    """

    definitions: tuple[CteDefinition, ...]
    body: LogicalPlan

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The body's."""
        return self.body.columns


@dataclass(frozen=True, slots=True, eq=False)
class CteScan:
    """A reference to a CTE; each reference has its own column ids.

    In the order of the definition's columns.
    """

    cte_id: int
    name: str
    columns: tuple[OutputColumn, ...]
    alias: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class RowLock:
    """Rows of ``scan`` to lock for FOR UPDATE and its kin.

    Its table's columns are all present in the input.
    """

    scan: TableScan
    strength: Literal["update", "no key update", "share", "key share"]
    wait: Literal["wait", "nowait", "skip"]


@dataclass(frozen=True, slots=True, eq=False)
class LockPlan:
    """SELECT ... FOR ...: locks and, after waiting, re-checks rows. Above Sort.

    Below Limit, as in PostgreSQL.
    """

    input: LogicalPlan
    locks: tuple[RowLock, ...]

    @property
    def columns(self) -> tuple[OutputColumn, ...]:
        """The input's."""
        return self.input.columns


@dataclass(frozen=True, slots=True, eq=False)
class ColumnCheck:
    """What every new row of a table must satisfy; expressions are over ``row_columns``."""

    name: str
    expression: BoundExpr
    check_id: int


@dataclass(frozen=True, slots=True, eq=False)
class ViewCheck:
    """What every row written through a view WITH CHECK OPTION must satisfy, as ``ColumnCheck``."""

    view: str
    expression: BoundExpr


@dataclass(frozen=True, slots=True, eq=False)
class TargetTable:
    """The table written by INSERT, UPDATE, DELETE, with its bound expressions.

    ``row_columns`` has one OutputColumn per ``table.columns`` (the new row in checks, generated
    columns and index expressions). ``generated``: (position, expression).
    ``index_expressions[index_id]`` are the bound keys of indexes that have expressions,
    ``index_predicates[index_id]`` the bound predicate of partial ones. ``view_checks`` are verified
    once a row is written.
    """

    table: Table
    row_columns: tuple[OutputColumn, ...]
    checks: tuple[ColumnCheck, ...] = ()
    generated: tuple[tuple[int, BoundExpr], ...] = ()
    index_expressions: dict[int, tuple[BoundExpr, ...]] = field(default_factory=dict)
    index_predicates: dict[int, BoundExpr] = field(default_factory=dict)
    view_checks: tuple[ViewCheck, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ConflictPlan:
    """ON CONFLICT.

    ``arbiters`` are index ids (PRIMARY_INDEX_ID: clustering key); () for a bare DO NOTHING: any.

    For update: ``assignments`` (position, expression) over ``existing_columns`` (the row in the
    table) and ``excluded_columns`` (the row proposed).
    """

    action: Literal["nothing", "update"]
    arbiters: tuple[int, ...]
    existing_columns: tuple[OutputColumn, ...] = ()
    excluded_columns: tuple[OutputColumn, ...] = ()
    assignments: tuple[tuple[int, BoundExpr], ...] = ()
    where: BoundExpr | None = None


@dataclass(frozen=True, slots=True, eq=False)
class InsertPlan:
    """INSERT.

    ``values`` has one expression per table column (over input's columns; defaults filled in; None
    for hidden, generated and dropped ones). ``returning`` is over ``target.row_columns``; () with
    empty columns: no rows out.
    """

    target: TargetTable
    input: LogicalPlan
    values: tuple[BoundExpr | None, ...]
    conflict: ConflictPlan | None
    returning: tuple[BoundExpr, ...]
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True, eq=False)
class UpdatePlan:
    """UPDATE.

    ``scan`` is the target's TableScan inside ``input`` (all its columns are in input's output).

    ``assignments`` (position, expression) are over input's columns (old values). ``condition`` is
    the whole WHERE, already applied in ``input`` too; it is what is checked again on the newest
    version after waiting for a lock. ``returning`` is over ``target.row_columns`` (new row) and
    input's other columns.
    """

    target: TargetTable
    scan: TableScan
    input: LogicalPlan
    assignments: tuple[tuple[int, BoundExpr], ...]
    condition: BoundExpr | None
    returning: tuple[BoundExpr, ...]
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DeletePlan:
    """DELETE; as UpdatePlan. ``returning`` is over input's columns (the old row)."""

    target: TargetTable
    scan: TableScan
    input: LogicalPlan
    condition: BoundExpr | None
    returning: tuple[BoundExpr, ...]
    columns: tuple[OutputColumn, ...]


LogicalPlan = Union[
    OneRow,
    TableScan,
    VirtualScan,
    SequenceScan,
    ValuesPlan,
    FunctionScan,
    ProjectSet,
    FilterPlan,
    ProjectPlan,
    JoinPlan,
    AggregatePlan,
    WindowPlan,
    DistinctPlan,
    SortPlan,
    LimitPlan,
    SetOperationPlan,
    WithPlan,
    CteScan,
    LockPlan,
    InsertPlan,
    UpdatePlan,
    DeletePlan,
]


@dataclass(frozen=True, slots=True, eq=False)
class BoundStatement:
    """A bound query or DML statement.

    ``parameters``: final types of $1...; ``relations``: what it depends on.

    ``privileges``: (relation id, aclitem letters any of which suffices), checked at each execution.
    ``kind``: select, insert, update, delete (of the outermost statement, for the command tag).
    """

    kind: Literal["select", "insert", "update", "delete"]
    plan: LogicalPlan
    columns: tuple[OutputColumn, ...]
    parameters: tuple[SqlType, ...]
    relations: tuple[int, ...] = ()
    privileges: tuple[tuple[int, str], ...] = ()
    has_returning: bool = False
    volatile: bool = False
    view_privileges: tuple[tuple[int, int, str], ...] = ()
    """(role id, relation id, letters): what owners of expanded views need on relations."""
    insert_columns: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(relation id, positions) that INSERTs write; ``column_privileges`` reads it."""
