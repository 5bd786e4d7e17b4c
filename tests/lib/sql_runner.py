"""Runs SQL text over a ``DictStore``.

Parser, binder, planner and executor together, without a session or an event loop.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from sql.binder import bind_statement
from sql.catalog.descriptor import Table
from sql.functions.context import ExecutionContext, MemoryBudget
from sql.parser import parse_statements
from sql.planner import PhysicalPlan, plan_statement
from sql.types.io import FormatContext, text_output
from tests.lib.catalog_fixture import FixtureCatalog
from tests.lib.dict_store import DictStore

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Drive a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits")


async def no_wait() -> None:
    """A checkpoint that lets nobody else run."""


class FakeSession:
    """The few session services that the tests' functions reach."""

    def __init__(self) -> None:
        self.sequences: dict[int, int] = {}

    async def nextval(self, sequence: Any) -> int:
        self.sequences[sequence.id] = self.sequences.get(sequence.id, 0) + 1
        return self.sequences[sequence.id]

    async def sequence_state(self, sequence: Any) -> tuple[int, bool]:
        return self.sequences.get(sequence.id, 1), sequence.id in self.sequences

    def get_setting(self, name: str) -> str | None:
        return None


class Runner:
    """One database of hand-made tables."""

    def __init__(self, *tables: Table, memory_bytes: int = 1 << 30) -> None:
        self.catalog = FixtureCatalog(tables)
        self.store = DictStore()
        self.session = FakeSession()
        self.memory_bytes = memory_bytes
        self.memory = MemoryBudget(memory_bytes)
        self.ticks = 0
        self.cache: dict[Any, Any] = {}

    def clock(self) -> int:
        self.ticks += 1
        return self.ticks

    def context(self, parameters: tuple[Any, ...] = ()) -> ExecutionContext:
        self.memory = MemoryBudget(self.memory_bytes)
        context = ExecutionContext(
            parameters=parameters,
            catalog=self.catalog,
            format_context=FormatContext(),
            session=self.session,  # type: ignore[arg-type]
            store=self.store,
            memory=self.memory,
            clock=self.clock,
            statement_timestamp=0,
            transaction_timestamp=0,
            rng=random.Random(7),
            checkpoint=no_wait,
        )
        context.cache.update(self.cache)
        return context

    def plan(self, text: str) -> PhysicalPlan:
        (parsed,) = parse_statements(text)
        return plan_statement(bind_statement(parsed.statement, self.catalog), self.catalog)

    def execute(self, text: str, *parameters: Any) -> tuple[list[Any], int]:
        """Return (rows, affected rows)."""
        plan = self.plan(text)
        self.store.begin_statement()
        return self.run_plan(plan, parameters)

    def run_plan(
        self, plan: PhysicalPlan, parameters: tuple[Any, ...] = ()
    ) -> tuple[list[Any], int]:
        execution = plan.open(self.context(parameters))
        rows: list[Any] = []
        try:
            while batch := finish(execution.next_batch()):
                assert len(batch) <= 1024
                assert all(len(row) == len(plan.columns) for row in batch)
                rows += batch
        finally:
            execution.close()
        return rows, execution.affected_rows

    def query(self, text: str, *parameters: Any) -> list[Any]:
        return self.execute(text, *parameters)[0]

    def texts(self, text: str, *parameters: Any) -> list[tuple[str | None, ...]]:
        """Return the rows as PostgreSQL would print them."""
        plan = self.plan(text)
        self.store.begin_statement()
        rows, _ = self.run_plan(plan, parameters)
        writers = [text_output(c.type) for c in plan.columns]
        return [
            tuple(None if v is None else w(v) for v, w in zip(row, writers, strict=True))
            for row in rows
        ]

    def explain(self, text: str) -> list[str]:
        return self.plan(text).explain(self.context(), costs=False)

    def load(self, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
        relation = self.catalog.snapshot.relation(2200, name)
        assert isinstance(relation, Table)
        width = len(relation.columns)
        self.store.load(relation, [row + (None,) * (width - len(row)) for row in rows])
