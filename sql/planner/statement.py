"""The planner's entrance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.errors import StatementTooComplex
from sql.planner.physical import PhysicalPlan
from sql.planner.plan import Planner
from sql.planner.point import point_plan
from sql.planner.rules import HANDLERS
from sql.planner.semijoin import apply_semi_joins

if TYPE_CHECKING:
    from sql.binder.bound import BoundStatement
    from sql.catalog.catalog import Catalog


def plan_statement(bound: BoundStatement, catalog: Catalog) -> PhysicalPlan:
    """Plan a bound statement; StatementTooComplex (54001) when it nests too deeply."""
    planner = Planner(catalog, HANDLERS, apply_semi_joins)
    try:
        root = planner.plan_root(bound.plan)
        planner.compile_stages()
        point = point_plan(bound, catalog)
    except RecursionError:
        raise StatementTooComplex("stack depth limit exceeded") from None
    return PhysicalPlan(bound.kind, bound.columns, root, point, planner.names)
