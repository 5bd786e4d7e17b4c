"""EXPLAIN: the plan's tree as text or JSON. Source: PostgreSQL docs, "EXPLAIN"."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from nodedb.session.api import Result
from nodedb.session.arguments import evaluate_arguments, explain_columns
from nodedb.session.prepared import Portal, PreparedStatement
from sql.ast import utility as u
from sql.ast.ddl import CreateTableAs
from sql.errors import FeatureNotSupported, InvalidParameterValue, SqlSyntaxError
from sql.executor.explain import ExplainOptions, explain_lines

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.types.base import Datum

_TRUE: Final = (None, True, 1, "on", "true", "1")
_FALSE: Final = (False, 0, "off", "false", "0")
_BOOLEAN_OPTIONS: Final = (
    "analyze",
    "verbose",
    "costs",
    "settings",
    "buffers",
    "wal",
    "timing",
    "summary",
)


def _options(statement: u.Explain) -> ExplainOptions:
    values: dict[str, Any] = {}
    for option in statement.options:
        name = option.name.lower()
        value = option.value.lower() if isinstance(option.value, str) else option.value
        if name == "format":
            if value is None:
                raise SqlSyntaxError("format requires a parameter")
            if value not in ("text", "json", "xml", "yaml"):
                raise InvalidParameterValue(
                    f'unrecognized value for EXPLAIN option "format": "{option.value}"',
                    span=option.span,
                )
            if value in ("xml", "yaml"):
                raise FeatureNotSupported(f"EXPLAIN (FORMAT {str(value).upper()}) is not supported")
            values["format"] = value
        elif name not in _BOOLEAN_OPTIONS:
            raise SqlSyntaxError(f'unrecognized EXPLAIN option "{option.name}"', span=option.span)
        elif value in _TRUE:
            values[name] = True
        elif value in _FALSE:
            values[name] = False
        else:
            raise SqlSyntaxError(f"{name} requires a Boolean value")
    if values.get("timing") and not values.get("analyze"):
        raise InvalidParameterValue("EXPLAIN option TIMING requires ANALYZE")
    if values.get("wal") and not values.get("analyze"):
        raise InvalidParameterValue("EXPLAIN option WAL requires ANALYZE")
    known = {field.name for field in dataclasses.fields(ExplainOptions)}
    return ExplainOptions(**{name: value for name, value in values.items() if name in known})


async def explain(session: Session, statement: u.Explain, portal: Portal) -> Result:
    """Plan the statement, run it if ANALYZE asks so, and describe the plan."""
    options = _options(statement)
    target = statement.statement
    parameters: tuple[Datum, ...] = portal.parameters
    if isinstance(target, u.ExecutePrepared):
        prepared = session.statement(target.name)
        parameters = await evaluate_arguments(session, prepared, target)
    elif isinstance(target, (CreateTableAs, u.DeclareCursor)):
        prepared = PreparedStatement("", "", target.query, portal.prepared.parameter_types)
    else:
        prepared = PreparedStatement("", "", target, portal.prepared.parameter_types)
    started = session.node.clock.monotonic()
    plan = session.plan_prepared(prepared)
    planning_us = int((session.node.clock.monotonic() - started) * 1_000_000)
    options = dataclasses.replace(options, planning_us=planning_us)
    context = await session.new_context(parameters, plan, will_run=options.analyze)
    lines = await explain_lines(plan.plan, options, context)
    if options.format == "json":
        lines = ["\n".join(lines)]
    if options.analyze and session.block.transaction is not None:
        session.node.transactions.end_statement(session.block.transaction)
    return Result("EXPLAIN", explain_columns(statement), [(line,) for line in lines])
