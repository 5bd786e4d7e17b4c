"""What one binding run carries around: catalog, registry, column ids, parameters, dependencies.

Parameters follow PostgreSQL's rule that the first use decides: a ``$n`` whose type is not known
becomes a ``ParameterRef`` of type unknown, and the coercion that gives it a type fixes it for the
statement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sql.binder.bound import BoundExpr, ColumnVar, LogicalPlan, OutputColumn, ParameterRef
from sql.errors import AmbiguousParameter, IndeterminateDatatype
from sql.span import NO_SPAN, Span
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.binder.resolve import Resolver
    from sql.binder.scope import Scope
    from sql.catalog.catalog import Catalog

RecordShape = tuple[tuple[str, SqlType, int], ...]
"""Fields of a record-typed expression: (name, type, typmod)."""


@dataclass(slots=True)
class Tracker:
    """What was seen while binding the arguments of an aggregate.

    Depths of the columns and calls.
    """

    depths: set[int] = field(default_factory=set)
    aggregates: list[tuple[int, Span]] = field(default_factory=list)
    windows: list[Span] = field(default_factory=list)
    sets: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Recorder:
    """What names and stars meant, by node id, for storing a view's query."""

    relations: dict[int, int] = field(default_factory=dict)
    stars: dict[int, list[tuple[tuple[str, ...], str]]] = field(default_factory=dict)
    qualifiers: dict[int, str] = field(default_factory=dict)
    """The FROM entry that an unqualified column belongs to."""
    bound: dict[int, BoundExpr] = field(default_factory=dict)
    """What conditions, and select lists that nothing is compared with, were bound to."""


@dataclass(slots=True)
class BoundQuery:
    """A bound query: its plan and visible output columns, as its parent sees them."""

    plan: LogicalPlan
    columns: tuple[OutputColumn, ...]


class BindState:
    """State shared by all scopes of one ``bind_statement`` call."""

    __slots__ = (
        "bind_query",
        "catalog",
        "collated",
        "fixed_parameters",
        "forbidden_column",
        "forbidden_subquery",
        "insert_columns",
        "next_id",
        "origins",
        "parameters",
        "pending",
        "privileges",
        "record_shapes",
        "recorder",
        "registry",
        "relations",
        "resolver",
        "subquery_names",
        "trackers",
        "view_owner",
        "view_privileges",
        "volatile",
    )

    def __init__(
        self,
        catalog: Catalog,
        resolver: Resolver,
        parameter_types: Sequence[SqlType | None],
        bind_query: Callable[[BindState, Any, Scope | None], BoundQuery],
    ) -> None:
        self.catalog = catalog
        self.resolver = resolver
        self.registry = resolver.registry
        self.parameters: list[SqlType | None] = [
            None if t is UNKNOWN else t for t in parameter_types
        ]
        self.pending: dict[int, tuple[int, Span]] = {}
        self.next_id = 0
        self.origins: dict[int, tuple[int, int]] = {}
        self.relations: dict[int, None] = {}
        self.privileges: dict[tuple[int, str], None] = {}
        self.view_privileges: dict[tuple[int, int, str], None] = {}
        self.view_owner = 0
        self.volatile = False
        self.collated = False
        self.insert_columns: dict[int, tuple[int, ...]] = {}
        self.record_shapes: dict[int, RecordShape] = {}
        self.subquery_names: dict[int, str] = {}
        self.trackers: list[Tracker] = []
        self.fixed_parameters = False
        self.recorder: Recorder | None = None
        self.forbidden_subquery = ""
        self.forbidden_column = ""
        self.bind_query = bind_query

    def new_column(
        self,
        name: str,
        sql_type: SqlType,
        typmod: int = NO_TYPMOD,
        table_oid: int = 0,
        column_number: int = 0,
    ) -> OutputColumn:
        """Make an output column with a fresh id."""
        self.next_id += 1
        if table_oid:
            self.origins[self.next_id] = (table_oid, column_number)
        return OutputColumn(self.next_id, name, sql_type, typmod, table_oid, column_number)

    def require(self, relation_id: int, letters: str) -> None:
        """Note that the statement needs a privilege: the user's, or inside a view its owner's."""
        if self.view_owner:
            self.view_privileges[self.view_owner, relation_id, letters] = None
        else:
            self.privileges[relation_id, letters] = None

    def parameter(self, number: int, span: Span) -> ParameterRef:
        """Return a reference to ``$number`` with the type known so far (or unknown)."""
        index = number - 1
        while len(self.parameters) <= index:
            self.parameters.append(None)
        known = self.parameters[index]
        if known is None:
            self.pending[span.start] = (index, span)
            return ParameterRef(index, UNKNOWN, NO_TYPMOD, span)
        return ParameterRef(index, known, NO_TYPMOD, span)

    def fix_parameter(self, reference: ParameterRef, sql_type: SqlType, span: Span) -> ParameterRef:
        """Give an untyped parameter its type; 42P08 if another use decided otherwise."""
        known = self.parameters[reference.index]
        if known is None:
            self.parameters[reference.index] = sql_type
        elif known is not sql_type:
            raise AmbiguousParameter(
                f"inconsistent types deduced for parameter ${reference.index + 1}",
                span=reference.span,
                detail=f"{known.display_name} versus {sql_type.display_name}",
            )
        self.pending.pop(reference.span.start, None)
        where = span if 0 <= span.start < reference.span.start else reference.span
        return ParameterRef(reference.index, sql_type, NO_TYPMOD, where)

    def final_parameters(self) -> tuple[SqlType, ...]:
        """Return the types of all parameters; 42P18 or 42P08 when one stayed undecided."""
        for index, span in self.pending.values():
            message = f"could not determine data type of parameter ${index + 1}"
            if self.parameters[index] is None:
                raise IndeterminateDatatype(message)
            raise AmbiguousParameter(message, span=span)
        result: list[SqlType] = []
        for index, sql_type in enumerate(self.parameters):
            if sql_type is None:
                raise IndeterminateDatatype(
                    f"could not determine data type of parameter ${index + 1}"
                )
            result.append(sql_type)
        return tuple(result)


def var_of(column: OutputColumn, qualifier: str = "", span: Span = NO_SPAN) -> ColumnVar:
    """Make a reference to an output column."""
    return ColumnVar(column.id, column.type, column.typmod, column.name, qualifier, span)


def typmod_of(expression: BoundExpr) -> int:
    """Return the expression's typmod."""
    return expression.typmod
