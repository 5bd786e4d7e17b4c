"""Planning: bound statements to physical plans of generated loops over batches.

Not done here: partial indexes for reading, merge joins, index-only scans; each costs speed,
never correctness.
"""

from sql.planner.physical import Execution, PhysicalPlan, PointPlan
from sql.planner.statement import plan_statement

__all__ = ["Execution", "PhysicalPlan", "PointPlan", "plan_statement"]
