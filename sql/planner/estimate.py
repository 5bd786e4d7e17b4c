"""Row estimates: selectivity of conditions from ANALYZE's statistics.

PostgreSQL's defaults without.

Source: PostgreSQL docs, "Row Estimation Examples" and "Statistics Used by the Planner".
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.planner.codegen import constant_elements
from sql.types.compare import sort_key
from sql.types.io import text_input, text_output

if TYPE_CHECKING:
    from sql.catalog.descriptor import ColumnStatistics, Table

DEFAULT_ROWS: Final = 1000.0
EQUAL_DEFAULT: Final = 0.005
RANGE_DEFAULT: Final = 1 / 3
BETWEEN_DEFAULT: Final = 0.005
OTHER_DEFAULT: Final = 0.25
CPU_TUPLE: Final = 0.01
CPU_OPERATOR: Final = 0.0025
PAGE: Final = 1.0
RANDOM_PAGE: Final = 0.25
"""Index scans fetch rows in batches from memory-mapped pages: far below PostgreSQL's 4.0."""


class ColumnOrigins:
    """Which table column each column id stands for."""

    def __init__(self) -> None:
        self._origins: dict[int, tuple[Table, int]] = {}
        self._statistics: dict[int, dict[int, ColumnStatistics]] = {}

    def add(self, scan: b.TableScan) -> None:
        """Note a scan's columns."""
        for position, column in enumerate(scan.columns):
            self._origins[column.id] = (scan.table, position)
        statistics = scan.table.statistics
        if statistics is not None:
            self._statistics[scan.table.id] = {c.position: c for c in statistics.columns}

    def statistics(self, column_id: int) -> tuple[ColumnStatistics | None, float]:
        """Return a column's statistics and its table's rows."""
        origin = self._origins.get(column_id)
        if origin is None:
            return None, DEFAULT_ROWS
        table, position = origin
        rows = table_rows(table)
        return self._statistics.get(table.id, {}).get(position), rows

    def distinct(self, expression: Any) -> float:
        """Estimate the number of different values of an expression."""
        if not isinstance(expression, b.ColumnVar):
            return 200.0
        origin = self._origins.get(expression.id)
        statistics, rows = self.statistics(expression.id)
        if statistics is not None and statistics.distinct:
            found = statistics.distinct
            return max(1.0, found if found > 0 else -found * rows)
        if origin is not None and origin[0].clustering_key == (origin[1],):
            return max(1.0, rows)
        return min(200.0, max(1.0, rows))


def table_rows(table: Table) -> float:
    """Return the rows of a table as last analysed."""
    return DEFAULT_ROWS if table.statistics is None else max(1.0, float(table.statistics.rows))


def table_width(table: Table) -> int:
    """Estimate a row's bytes."""
    known = {} if table.statistics is None else {c.position: c for c in table.statistics.columns}
    total = 0
    for column in table.visible_columns:
        statistics = known.get(column.position)
        length = column.type.length
        total += statistics.average_width if statistics else (length if length > 0 else 32)
    return max(total, 4)


def selectivity(condition: Any, origins: ColumnOrigins) -> float:
    """Estimate the share of rows for which a condition is true."""
    kind = type(condition)
    if kind is b.BoolExpr:
        parts = [selectivity(operand, origins) for operand in condition.operands]
        if condition.kind == "not":
            return max(0.0, 1.0 - parts[0])
        result = 1.0
        for part in parts:
            result *= part if condition.kind == "and" else 1.0 - part
        return result if condition.kind == "and" else 1.0 - result
    if kind is b.Const:
        return 1.0 if condition.value is True else 0.0
    if kind is b.NullTestExpr:
        return _null_share(condition, origins)
    if kind is b.ScalarArrayExpr:
        return _in_list(condition, origins)
    if kind is b.CallExpr and condition.operator is not None and len(condition.args) == 2:
        return _comparison(condition, origins)
    return OTHER_DEFAULT if kind is not b.SubqueryExpr else 0.5


def _null_share(condition: b.NullTestExpr, origins: ColumnOrigins) -> float:
    share = 0.005
    if isinstance(condition.operand, b.ColumnVar):
        statistics, _ = origins.statistics(condition.operand.id)
        if statistics is not None:
            share = statistics.null_fraction
    return 1.0 - share if condition.negated else share


def _in_list(condition: b.ScalarArrayExpr, origins: ColumnOrigins) -> float:
    elements = constant_elements(condition.array)
    count = len(elements) if elements is not None else 10
    if isinstance(condition.array, b.ArrayExpr):
        count = len(condition.array.elements)
    each = 1.0 / origins.distinct(condition.left)
    share = min(1.0, each * count)
    return share if condition.use_any else 1.0 - share


def _comparison(condition: b.CallExpr, origins: ColumnOrigins) -> float:
    assert condition.operator is not None
    comparison = condition.operator.comparison
    left, right = condition.args
    if not isinstance(left, b.ColumnVar):
        left, right = right, left
        comparison = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(comparison, comparison)
    if not isinstance(left, b.ColumnVar):
        return EQUAL_DEFAULT if comparison == "=" else RANGE_DEFAULT
    if comparison in {"=", "<>"}:
        share = _equal_share(left, right, origins)
        return share if comparison == "=" else 1.0 - share
    if comparison in {"<", "<=", ">", ">="}:
        return _range_share(left, comparison, right, origins)
    return 0.1 if condition.operator.name in {"~~", "~"} else OTHER_DEFAULT


def _equal_share(left: b.ColumnVar, right: Any, origins: ColumnOrigins) -> float:
    statistics, _ = origins.statistics(left.id)
    if isinstance(right, b.ColumnVar):
        return 1.0 / max(origins.distinct(left), origins.distinct(right))
    if statistics is not None and isinstance(right, b.Const) and right.value is not None:
        text = text_output(left.type)(right.value)
        known = dict(statistics.most_common)
        if text in known:
            return known[text]
        rest = max(0.0, 1.0 - sum(known.values()) - statistics.null_fraction)
        return rest / max(1.0, origins.distinct(left) - len(known))
    return 1.0 / origins.distinct(left)


def _range_share(left: b.ColumnVar, comparison: str, right: Any, origins: ColumnOrigins) -> float:
    statistics, _ = origins.statistics(left.id)
    if (
        statistics is None
        or len(statistics.histogram) < 2
        or not isinstance(right, b.Const)
        or right.value is None
    ):
        return RANGE_DEFAULT
    read, to_key = text_input(left.type), sort_key(left.type)
    bounds = [read(text, -1) for text in statistics.histogram]
    value = right.value
    if to_key is not None:
        bounds, value = [to_key(v) for v in bounds], to_key(value)
    at = bisect_left(bounds, value)
    below = at / (len(bounds) - 1)
    if 0 < at < len(bounds) and isinstance(value, (int, float)):
        low, high = bounds[at - 1], bounds[at]
        below = (at - 1 + (value - low) / (high - low if high != low else 1)) / (len(bounds) - 1)
    below = min(1.0, max(0.0, below)) * (1.0 - statistics.null_fraction)
    share = below if comparison in {"<", "<="} else 1.0 - statistics.null_fraction - below
    return min(1.0, max(0.0001, share))


def combined(conditions: list[Any], origins: ColumnOrigins) -> float:
    """Estimate the share of rows for which all conditions are true."""
    share = 1.0
    for condition in conditions:
        share *= selectivity(condition, origins)
    return share
