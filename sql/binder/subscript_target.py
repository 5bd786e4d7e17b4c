"""Columns as targets of INSERT and UPDATE: whole, or by subscripts of an array or jsonb column.

A ``Slot`` is one target. Its value has the slot's type; ``stored`` makes the column's new value
from the one before, by a function of ``sql.functions.subscripts``.

Source: PostgreSQL docs, "Arrays": "Modifying Arrays"; "JSON Types": "jsonb Subscripting".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sql.ast.query import Subscript
from sql.binder.bound import BoundExpr, CallExpr, Const
from sql.binder.coerce import coerce_assignment, coerce_with_typmod
from sql.binder.expression import bind_jsonb_subscript, bind_subscript_index
from sql.catalog.descriptor import Column
from sql.errors import DatatypeMismatch, FeatureNotSupported
from sql.functions.subscripts import array_element_setter, array_slice_setter, jsonb_setter
from sql.span import NO_SPAN, Span
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import INT4, JSONB

if TYPE_CHECKING:
    from sql.binder.scope import Scope
    from sql.binder.state import BindState


@dataclass(slots=True)
class Slot:
    """A column, or the part of it that ``subscripts`` name; ``type`` is that of the value."""

    column: Column
    subscripts: tuple[Subscript, ...]
    type: SqlType
    typmod: int
    span: Span = NO_SPAN

    @property
    def position(self) -> int:
        """The column's position."""
        return self.column.position

    def coerce(self, state: BindState, value: BoundExpr, span: Span = NO_SPAN) -> BoundExpr:
        """Coerce a value by the rules of assignment; 42804."""
        if not self.subscripts:
            return coerce_assignment(state, value, self.type, self.typmod, self.column.name, span)
        result = coerce_with_typmod(state, value, self.type, self.typmod, "assignment")
        if result is None:
            raise DatatypeMismatch(
                f'subscripted assignment to "{self.column.name}" requires type '
                f"{self.type.display_name} but expression is of type {value.type.display_name}",
                span=self.span,
                hint="You will need to rewrite or cast the expression.",
            )
        return result

    def stored(
        self, state: BindState, value: BoundExpr, before: BoundExpr | None, scope: Scope
    ) -> BoundExpr:
        """Return the column's new value: ``value`` put into ``before`` (None: a NULL)."""
        if not self.subscripts:
            return value
        column = self.column
        old = Const(None, column.type, column.typmod) if before is None else before
        if column.type is JSONB:
            path = tuple(bind_jsonb_subscript(state, part, scope) for part in self.subscripts)
            function = jsonb_setter(tuple(step.type for step in path))
            return CallExpr(function, (old, value, *path), JSONB, span=self.span)
        if not any(part.is_slice for part in self.subscripts):
            indexes = [
                bind_subscript_index(state, p.lower, scope) for p in self.subscripts if p.lower
            ]
            function = array_element_setter(column.type, len(indexes))
            return CallExpr(function, (old, value, *indexes), column.type, typmod=column.typmod)
        return self._with_slice(state, value, old, scope)

    def _with_slice(
        self, state: BindState, value: BoundExpr, old: BoundExpr, scope: Scope
    ) -> BoundExpr:
        bounds: list[BoundExpr] = []
        given: list[tuple[bool, bool]] = []
        for part in self.subscripts:
            if not part.is_slice:
                # Beside a slice, a plain subscript n means 1:n.
                assert part.lower is not None
                bounds.append(Const(1, INT4))
                bounds.append(bind_subscript_index(state, part.lower, scope))
                given.append((True, True))
                continue
            bounds.extend(
                bind_subscript_index(state, bound, scope)
                for bound in (part.lower, part.upper)
                if bound is not None
            )
            given.append((part.lower is not None, part.upper is not None))
        function = array_slice_setter(self.type, tuple(given))
        return CallExpr(function, (old, value, *bounds), self.type, typmod=self.typmod)


def slot_of(column: Column, subscripts: tuple[Subscript, ...] = (), span: Span = NO_SPAN) -> Slot:
    """Make the slot of a target; 42804 when its column cannot be subscripted."""
    if not subscripts:
        return Slot(column, (), column.type, column.typmod, span)
    if any(part.lower is None and not part.is_slice for part in subscripts):
        raise FeatureNotSupported("assignment to a field of a column is not supported", span=span)
    if column.type is JSONB:
        for part in subscripts:
            if part.is_slice:
                raise DatatypeMismatch(
                    "jsonb subscript does not support slices",
                    span=(part.upper or part.lower or part).span,
                )
        return Slot(column, subscripts, JSONB, NO_TYPMOD, span)
    element = column.type.element
    if element is None:
        raise DatatypeMismatch(
            f"cannot subscript type {column.type.display_name} "
            "because it does not support subscripting",
            span=span,
        )
    is_slice = any(part.is_slice for part in subscripts)
    value_type = column.type if is_slice else element
    return Slot(column, subscripts, value_type, column.typmod, span)
