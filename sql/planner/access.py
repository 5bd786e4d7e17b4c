"""Access paths of one table: which index, which spans of its keys, which order comes out.

A path takes the longest prefix of an index's keys fixed by equality (or IN lists, IS NULL),
then one range on the next key. Conditions that the spans fulfil exactly are taken from the
filter; a LIKE prefix only narrows. Values may be constants, parameters, outer columns or
anything else that does not depend on the table; they are computed when the scan starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Index, Table
from sql.executor.store import KeySpan
from sql.planner.codegen import is_hashable
from sql.planner.walk import is_volatile, used_columns
from sql.types.array import ArrayValue
from sql.types.base import SqlType
from sql.types.compare import sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.executor.node import OrderKey

SPANS_MAX: Final = 10_000
INT_BOUNDS: Final = {
    "int2": (-(2**15), 2**15 - 1),
    "int4": (-(2**31), 2**31 - 1),
    "int8": (-(2**63), 2**63 - 1),
}
_FAMILIES: Final = (
    {"int2", "int4", "int8"},
    {"float4", "float8"},
    {"text", "varchar", "name"},
)
_FLIPPED: Final = {"=": "=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


def compatible(left: SqlType, right: SqlType) -> bool:
    """Tell whether values of both types compare as the same Python objects."""
    if left is right:
        return True
    return any(left.name in family and right.name in family for family in _FAMILIES)


def hashable_operator(operator: Any) -> bool:
    """Tell whether equal operands of an = operator have equal hash keys."""
    if operator is None or operator.comparison != "=" or operator.left is None:
        return False
    return compatible(operator.left, operator.right) and is_hashable(operator.left)


@dataclass(slots=True)
class Sargable:
    """A condition on one column that an index may serve: operator and value expressions."""

    column: int
    comparison: str
    """=, <, <=, >, >=, in, null, like, not null"""
    values: tuple[Any, ...]
    condition: Any
    exact: bool = True
    share: float | None = None
    """Estimated share of the rows, if not the condition's usual one (IN of a sub-query)."""


@dataclass(slots=True)
class KeyColumn:
    """One key of an index as the planner sees it."""

    column: int
    """Column id, -1 for an expression."""
    type: SqlType
    descending: bool
    nulls_first: bool
    not_null: bool


@dataclass(slots=True)
class AccessPath:
    """One way to read the table: the spans' parts and what remains to filter."""

    table: Table
    index: Index | None
    keys: list[KeyColumn]
    fixed: list[Sargable] = field(default_factory=list)
    ranges: list[Sargable] = field(default_factory=list)

    @property
    def used(self) -> list[Any]:
        """Conditions that shape the spans."""
        return [s.condition for s in [*self.fixed, *self.ranges]]

    @property
    def is_point(self) -> bool:
        """True when every key is fixed by an equality."""
        return len(self.fixed) == len(self.keys)

    def order(self) -> tuple[OrderKey, ...]:
        """Return the order of the keys that come out."""
        result = []
        for key in self.keys:
            if key.column < 0:
                break
            result.append((key.column, key.descending, key.nulls_first))
        return tuple(result)

    def constants(self) -> frozenset[int]:
        """Columns that have one value in the whole scan."""
        found = set()
        for sargable in self.fixed:
            if sargable.comparison not in {"=", "null"}:
                break
            found.add(sargable.column)
        return frozenset(found)


def sargables(conditions: Sequence[Any], own: set[int]) -> list[Sargable]:
    """Find the conditions of the form column-operator-value.

    Value being free of the table's columns.
    """
    found = []
    for condition in conditions:
        item = _sargable(condition, own)
        if item is not None:
            found += item
    return found


def _is_value(expression: Any, own: set[int]) -> bool:
    return not (used_columns(expression) & own) and not is_volatile(expression)


def _sargable(condition: Any, own: set[int]) -> list[Sargable] | None:
    kind = type(condition)
    if kind is b.CallExpr and condition.operator is not None and len(condition.args) == 2:
        return _sargable_call(condition, own)
    if kind is b.NullTestExpr and isinstance(condition.operand, b.ColumnVar):  # noqa: SIM102
        if condition.operand.id in own and not condition.row:
            word = "not null" if condition.negated else "null"
            return [Sargable(condition.operand.id, word, (), condition)]
    if kind is b.ScalarArrayExpr and condition.use_any and condition.operator.comparison == "=":
        left = condition.left
        operator = condition.operator
        if isinstance(left, b.ColumnVar) and left.id in own and _is_value(condition.array, own):  # noqa: SIM102
            if operator.left is not None and compatible(operator.left, operator.right):
                return [Sargable(left.id, "in", (condition.array,), condition)]
    if kind is b.ColumnVar and condition.id in own and condition.type.name == "bool":
        return [Sargable(condition.id, "=", (b.Const(True, condition.type),), condition)]  # noqa: FBT003
    return None


def _sargable_call(condition: b.CallExpr, own: set[int]) -> list[Sargable] | None:
    operator = condition.operator
    assert operator is not None
    left, right = condition.args
    if operator.name == "~~" and isinstance(left, b.ColumnVar) and left.id in own:
        return _like_prefix(condition, left, right)
    comparison = operator.comparison
    if (
        comparison not in _FLIPPED
        or operator.left is None
        or not compatible(operator.left, operator.right)
    ):
        return None
    if isinstance(left, b.ColumnVar) and left.id in own and _is_value(right, own):
        return [Sargable(left.id, comparison, (right,), condition)]
    if isinstance(right, b.ColumnVar) and right.id in own and _is_value(left, own):
        return [Sargable(right.id, _FLIPPED[comparison], (left,), condition)]
    return None


def _like_prefix(condition: b.CallExpr, left: b.ColumnVar, right: Any) -> list[Sargable] | None:
    if (
        not isinstance(right, b.Const)
        or not isinstance(right.value, str)
        or left.type.name not in {"text", "varchar"}
    ):
        return None
    prefix = []
    for ch in right.value:
        if ch in "%_\\":
            break
        prefix.append(ch)
    text = "".join(prefix)
    if not text:
        return None
    if text == right.value:
        return [Sargable(left.id, "=", (right,), condition)]
    low = b.Const(text, right.type)
    found = [Sargable(left.id, ">=", (low,), condition, exact=False)]
    last = ord(text[-1])
    if last < 0xD7FF:
        high = b.Const(text[:-1] + chr(last + 1), right.type)
        found.append(Sargable(left.id, "<", (high,), condition, exact=False))
    return found


def index_keys(
    scan: b.TableScan, index: Index | None, pseudo: Sequence[tuple[int, SqlType]] = ()
) -> list[KeyColumn]:
    """Return an index's keys in terms of the scan's columns.

    ``pseudo`` has the columns that stand for its expressions, in order, if they may be used.
    """
    table = scan.table
    expressions = iter(pseudo)
    if index is None:
        return [
            KeyColumn(scan.columns[p].id, table.columns[p].type, False, False, True)  # noqa: FBT003
            for p in table.clustering_key
        ]
    keys = []
    for key in index.keys:
        if key.position < 0:
            column_id, sql_type = next(expressions, (-1, scan.columns[0].type))
            keys.append(
                KeyColumn(column_id, sql_type, key.descending, key.nulls_first, not_null=False)
            )
        else:
            column = table.columns[key.position]
            keys.append(
                KeyColumn(
                    scan.columns[key.position].id,
                    column.type,
                    key.descending,
                    key.nulls_first,
                    column.not_null,
                )
            )
    return keys


def match_index(
    scan: b.TableScan,
    index: Index | None,
    found: list[Sargable],
    pseudo: Sequence[tuple[int, SqlType]] = (),
) -> AccessPath:
    """Choose the conditions that an index serves."""
    path = AccessPath(scan.table, index, index_keys(scan, index, pseudo))
    for key in path.keys:
        here = [s for s in found if s.column == key.column]
        equal = next((s for s in here if s.comparison == "="), None) or next(
            (
                s
                for s in here
                if s.comparison == "in" or (s.comparison == "null" and not key.not_null)
            ),
            None,
        )
        if equal is not None:
            path.fixed.append(equal)
            continue
        lower = [s for s in here if s.comparison in {">", ">="}][:1]
        upper = [s for s in here if s.comparison in {"<", "<="}][:1]
        path.ranges = lower + upper
        if not path.ranges and not key.not_null:
            path.ranges = [s for s in here if s.comparison == "not null"][:1]
        break
    return path


def usable_indexes(table: Table) -> list[Index]:
    """Return the indexes that hold every row; ``sql.planner.indexes`` finds partial ones too."""
    return [
        i
        for i in table.indexes
        if i.state == "public" and i.predicate is None and i.method == "btree"
    ]


def span_maker(path: AccessPath) -> tuple[list[Any], Callable[[tuple[Any, ...]], list[KeySpan]]]:
    """Return the value expressions a path needs and the function that makes spans of their values.

    No span at all means that no row can qualify.
    """
    expressions: list[Any] = []
    fixed_parts = []
    for number, sargable in enumerate(path.fixed):
        fixed_parts.append((sargable.comparison, len(expressions), path.keys[number]))
        expressions += sargable.values
    range_parts = []
    for sargable in path.ranges:
        range_parts.append((sargable.comparison, len(expressions)))
        expressions += sargable.values
    range_key = path.keys[len(path.fixed)] if path.ranges else None

    def make(values: tuple[Any, ...]) -> list[KeySpan]:
        choices = [_fixed_values(kind, values, at, key) for kind, at, key in fixed_parts]
        spans = []
        for prefix in product(*choices):
            if range_key is None:
                spans.append(KeySpan(prefix, prefix))
            else:
                span = _range_span(
                    prefix,
                    range_key,
                    [
                        (kind, values[at] if kind != "not null" else None)
                        for kind, at in range_parts
                    ],
                )
                if span is not None:
                    spans.append(span)
        return spans

    return expressions, make


def _fixed_values(kind: str, values: tuple[Any, ...], at: int, key: KeyColumn) -> list[Any]:
    if kind == "null":
        return [None]
    if kind == "=":
        value = values[at]
        return [] if value is None or not _representable(value, key.type) else [value]
    array = values[at]
    if not isinstance(array, ArrayValue):
        return []
    to_key = sort_key(key.type)
    unique: dict[Any, Any] = {}
    for value in array.elements:
        if value is not None and _representable(value, key.type):
            unique.setdefault(value if to_key is None else to_key(value), value)
    ordered = sorted(unique, reverse=key.descending)
    return [unique[k] for k in ordered]


def _representable(value: Any, sql_type: SqlType) -> bool:
    """Tell whether a value fits the column: a wider integer that does not equals nothing in it."""
    bounds = INT_BOUNDS.get(sql_type.name)
    return bounds is None or bounds[0] <= value <= bounds[1]


def _range_span(
    prefix: tuple[Any, ...], key: KeyColumn, parts: list[tuple[str, Any]]
) -> KeySpan | None:
    low: tuple[Any, bool] | None = None
    high: tuple[Any, bool] | None = None
    bounds = INT_BOUNDS.get(key.type.name)
    for kind, value in parts:
        if kind == "not null":
            continue
        if value is None:
            return None
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            if (value > bounds[1]) == (kind in {">", ">="}):
                return None
            continue
        if kind in {">", ">="}:
            low = (value, kind == ">=")
        else:
            high = (value, kind == "<=")
    first, last = (high, low) if key.descending else (low, high)
    # NULLs lie at one end of the index: a range never includes them.
    null_first = key.nulls_first and not key.not_null
    null_last = not key.nulls_first and not key.not_null
    if first is not None:
        start, start_inclusive = (*prefix, first[0]), first[1]
    elif null_first:
        start, start_inclusive = (*prefix, None), False
    else:
        start, start_inclusive = prefix, True
    if last is not None:
        end, end_inclusive = (*prefix, last[0]), last[1]
    elif null_last:
        end, end_inclusive = (*prefix, None), False
    else:
        end, end_inclusive = prefix, True
    return KeySpan(start, end, start_inclusive, end_inclusive)


def index_of(table: Table, index_id: int) -> Index | None:
    """Return an index by id, None for the clustering key."""
    if index_id == PRIMARY_INDEX_ID:
        return None
    return next(i for i in table.indexes if i.index_id == index_id)
