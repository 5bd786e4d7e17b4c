"""Select lists: stars, output names, and what ORDER BY, GROUP BY and DISTINCT say of them.

Source: PostgreSQL docs, "SELECT": "SELECT List", "ORDER BY Clause", "GROUP BY Clause", "DISTINCT
Clause".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sql.ast.query import (
    BooleanLiteral,
    ColumnRef,
    Expression,
    FieldSelect,
    IntegerLiteral,
    NullLiteral,
    NumericLiteral,
    SortKey,
    Star,
    StringLiteral,
    Target,
)
from sql.binder.bound import BoundExpr, ColumnVar, FieldExpr, RowExpr, SortItem
from sql.binder.coerce import resolve_unknown
from sql.binder.dispatch import bind
from sql.binder.expression import qualified_item, record_shape
from sql.binder.naming import output_name
from sql.binder.scope import find_column, located, note_column, note_qualifier
from sql.binder.sorting import require_equality, require_ordering
from sql.binder.tree import expression_key, location
from sql.errors import (
    AmbiguousColumn,
    InvalidColumnReference,
    SqlSyntaxError,
    WrongObjectType,
)
from sql.span import NO_SPAN, Span

if TYPE_CHECKING:
    from sql.binder.scope import Item, Scope
    from sql.binder.state import BindState, Recorder

_CONSTANTS = (StringLiteral, NumericLiteral, NullLiteral, BooleanLiteral)


@dataclass(slots=True)
class TargetEntry:
    """One output column before it is planned.

    ``hidden`` ones serve ORDER BY or DISTINCT ON only.
    """

    name: str
    expression: BoundExpr
    hidden: bool = False
    span: Span = NO_SPAN


@dataclass(slots=True)
class SortEntry:
    """An ORDER BY key: the index of its target."""

    target: int
    descending: bool
    nulls_first: bool
    span: Span = NO_SPAN


def bind_targets(state: BindState, targets: tuple[Target, ...], scope: Scope) -> list[TargetEntry]:
    """Bind a select or RETURNING list, with stars expanded."""
    entries: list[TargetEntry] = []
    for target in targets:
        node = target.expression
        kind = type(node)
        if kind is Star:
            entries.extend(expand_star(state, node, scope))  # type: ignore[arg-type]
        elif kind is FieldSelect and node.field == "*":  # type: ignore[union-attr]
            entries.extend(_expand_fields(state, node, scope))  # type: ignore[arg-type]
        else:
            expression = bind(state, node, scope)
            name = target.label or output_name(node, state.subquery_names)
            entries.append(TargetEntry(name, expression, span=node.span))
    return entries


def note_targets(
    recorder: Recorder, targets: tuple[Target, ...], entries: list[TargetEntry]
) -> None:
    """Note what the expressions of a select list were bound to; stars make it hard to tell."""
    if any(isinstance(t.expression, Star | FieldSelect) for t in targets):
        return
    for target, entry in zip(targets, entries, strict=False):
        recorder.bound[id(target.expression)] = entry.expression


def expand_star(state: BindState, node: Star, scope: Scope) -> list[TargetEntry]:
    """Expand ``*`` or ``t.*``."""
    entries = _star_entries(state, node, scope)
    if state.recorder is not None:
        state.recorder.stars[id(node)] = [(_parts(e), e.name) for e in entries]
    return entries


def _parts(entry: TargetEntry) -> tuple[str, ...]:
    expression = entry.expression
    if isinstance(expression, ColumnVar) and expression.qualifier:
        return (expression.qualifier, expression.name)
    return (entry.name,)


def _star_entries(state: BindState, node: Star, scope: Scope) -> list[TargetEntry]:
    if node.qualifier:
        level, item = qualified_item(state, node.qualifier, node.span, scope)
        return _item_entries(state, level, item, node.span)
    if not scope.items:
        raise SqlSyntaxError("SELECT * with no tables specified is not valid", span=node.span)
    entries: list[TargetEntry] = []
    for item in scope.items:
        if item.columns_visible and not item.lateral_only:
            entries.extend(_item_entries(state, scope, item, node.span))
    return entries


def _item_entries(state: BindState, level: Scope, item: Item, span: Span) -> list[TargetEntry]:
    entries = []
    for name, expression in zip(item.names, item.expressions, strict=True):
        note_column(state, level, item, expression)
        entries.append(TargetEntry(name, located(expression, span), span=span))
    return entries


def _expand_fields(state: BindState, node: FieldSelect, scope: Scope) -> list[TargetEntry]:
    operand = bind(state, node.operand, scope)
    shape = record_shape(state, operand)
    if shape is None:
        raise WrongObjectType(
            f"type {operand.type.display_name} is not composite", span=node.operand.span
        )
    if isinstance(operand, RowExpr):
        return [
            TargetEntry(n, e, span=node.span)
            for n, e in zip(operand.names, operand.items, strict=True)
        ]
    return [
        TargetEntry(n, FieldExpr(operand, i, t, m, node.span), span=node.span)
        for i, (n, t, m) in enumerate(shape)
    ]


def expand_row_items(
    state: BindState, items: tuple[Expression, ...], scope: Scope
) -> list[BoundExpr]:
    """Bind the items of a row constructor, where ``t.*`` is spread."""
    result: list[BoundExpr] = []
    for node in items:
        if type(node) is Star:
            result.extend(e.expression for e in expand_star(state, node, scope))
        elif type(node) is FieldSelect and node.field == "*":
            result.extend(e.expression for e in _expand_fields(state, node, scope))
        else:
            result.append(bind(state, node, scope))
    return result


# --- references from ORDER BY, GROUP BY, DISTINCT ON ---


def _position(node: Expression, entries: list[TargetEntry], clause: str) -> int | None:
    if type(node) is IntegerLiteral:
        visible = sum(not e.hidden for e in entries)
        if not 1 <= node.value <= visible:
            raise InvalidColumnReference(
                f"{clause} position {node.value} is not in select list", span=node.span
            )
        return node.value - 1
    if type(node) in _CONSTANTS:
        raise SqlSyntaxError(f"non-integer constant in {clause}", span=node.span)
    return None


def _by_name(name: str, span: Span, entries: list[TargetEntry], clause: str) -> int | None:
    found: int | None = None
    for index, entry in enumerate(entries):
        if entry.hidden or entry.name != name:
            continue
        if found is None:
            found = index
        elif expression_key(entries[found].expression) != expression_key(entry.expression):
            raise AmbiguousColumn(f'{clause} "{name}" is ambiguous', span=span)
    return found


def find_target(
    state: BindState,
    node: Expression,
    entries: list[TargetEntry],
    scope: Scope,
    clause: str,
) -> int:
    """Return the index of the target a sort or group key means; a new expression is added hidden.

    SQL-92 first: output name, position. GROUP BY prefers an input column to an output name.
    """
    if type(node) is ColumnRef and len(node.parts) == 1:
        name = node.parts[0]
        if clause == "GROUP BY":
            found = find_column(scope, name, node.span)
            use_name = found is None or found[0] is not scope
            if state.recorder is not None and found is not None:
                note_qualifier(state.recorder, node, found[0], found[1], scope)
        else:
            use_name = True
        if use_name:
            index = _by_name(name, node.span, entries, clause)
            if index is not None:
                return index
    else:
        index = _position(node, entries, clause)
        if index is not None:
            return index
    expression = bind(state, node, scope)
    key = expression_key(expression)
    for index, entry in enumerate(entries):
        if expression_key(entry.expression) == key:
            return index
    entries.append(TargetEntry("?column?", expression, hidden=True, span=node.span))
    return len(entries) - 1


def bind_order_by(
    state: BindState, keys: tuple[SortKey, ...], entries: list[TargetEntry], scope: Scope
) -> list[SortEntry]:
    """Bind ORDER BY; later duplicates of a key are dropped."""
    result: list[SortEntry] = []
    seen: set[int] = set()
    for key in keys:
        index = find_target(state, key.expression, entries, scope, "ORDER BY")
        entry = entries[index]
        entry.expression = resolve_unknown(state, entry.expression)
        if index in seen:
            continue
        seen.add(index)
        require_ordering(state, entry.expression, span=key.expression.span)
        nulls_first = key.descending if key.nulls_first is None else key.nulls_first
        result.append(SortEntry(index, key.descending, nulls_first, key.expression.span))
    return result


def check_distinct(state: BindState, entries: list[TargetEntry], order: list[SortEntry]) -> None:
    """Check SELECT DISTINCT: sort keys are in the list, every column has equality."""
    for entry in order:
        if entries[entry.target].hidden:
            raise InvalidColumnReference(
                "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                span=location(entries[entry.target].expression),
            )
    for target in entries:
        if not target.hidden:
            target.expression = resolve_unknown(state, target.expression)
            require_equality(state, target.expression, span=target.span)


def bind_distinct_on(
    state: BindState,
    keys: tuple[Expression, ...],
    entries: list[TargetEntry],
    order: list[SortEntry],
    scope: Scope,
) -> list[int]:
    """Bind DISTINCT ON; returns target indexes. The sort must begin with them (42P10)."""
    indexes: list[int] = []
    places: dict[int, Span] = {}
    for key in keys:
        index = find_target(state, key, entries, scope, "SELECT DISTINCT ON")
        entries[index].expression = resolve_unknown(state, entries[index].expression)
        if index not in places:
            places[index] = key.span
            indexes.append(index)
    wanted = set(indexes)
    sorted_on: set[int] = set()
    skipped = False
    for sort in order:
        if sort.target in wanted:
            if skipped:
                raise _distinct_on_mismatch(places[sort.target])
            sorted_on.add(sort.target)
        else:
            skipped = True
    for index in indexes:
        if index not in sorted_on and skipped:
            raise _distinct_on_mismatch(places[index])
    return indexes


def _distinct_on_mismatch(span: Span) -> InvalidColumnReference:
    return InvalidColumnReference(
        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions", span=span
    )


def sort_items(entries: list[SortEntry], expressions: list[BoundExpr]) -> tuple[SortItem, ...]:
    """Make the plan's sort keys over the projected columns."""
    return tuple(SortItem(expressions[e.target], e.descending, e.nulls_first) for e in entries)
