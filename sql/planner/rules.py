"""Which rule plans which logical node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.binder import bound as b
from sql.planner.joins import plan_join
from sql.planner.modify import plan_modify
from sql.planner.rules_aggregate import plan_aggregate
from sql.planner.rules_row import (
    plan_distinct,
    plan_filter,
    plan_limit,
    plan_project,
    plan_project_set,
    plan_sort,
    plan_window,
)
from sql.planner.rules_scan import (
    plan_function_scan,
    plan_one_row,
    plan_sequence_scan,
    plan_table_scan,
    plan_values,
    plan_virtual_scan,
)
from sql.planner.rules_set import plan_cte_scan, plan_lock, plan_set_operation, plan_with

if TYPE_CHECKING:
    from sql.planner.plan import Handler

HANDLERS: Final[dict[type, Handler]] = {
    b.OneRow: plan_one_row,
    b.TableScan: plan_table_scan,
    b.VirtualScan: plan_virtual_scan,
    b.SequenceScan: plan_sequence_scan,
    b.ValuesPlan: plan_values,
    b.FunctionScan: plan_function_scan,
    b.ProjectSet: plan_project_set,
    b.FilterPlan: plan_filter,
    b.ProjectPlan: plan_project,
    b.JoinPlan: plan_join,
    b.AggregatePlan: plan_aggregate,
    b.WindowPlan: plan_window,
    b.DistinctPlan: plan_distinct,
    b.SortPlan: plan_sort,
    b.LimitPlan: plan_limit,
    b.SetOperationPlan: plan_set_operation,
    b.WithPlan: plan_with,
    b.CteScan: plan_cte_scan,
    b.LockPlan: plan_lock,
    b.InsertPlan: plan_modify,
    b.UpdatePlan: plan_modify,
    b.DeletePlan: plan_modify,
}
