"""EXECUTE's arguments, parameters inside utility statements, EXPLAIN's result shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.gateway.plan_cache import is_dml
from nodedb.session.api import ResultColumn
from nodedb.session.prepared import PreparedStatement
from sql.ast import utility as u
from sql.ast.ddl import CreateTableAs
from sql.binder import bind_expression
from sql.errors import SqlSyntaxError
from sql.types.catalog import JSON, TEXT

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.types.base import Datum, SqlType

PARAMETRIZED: Final = (u.DeclareCursor, u.Explain)
"""Utility statements whose query may have parameters."""


def wrapped_parameters(
    session: Session,
    statement: u.DeclareCursor | u.Explain,
    declared: tuple[SqlType | None, ...],
) -> tuple[SqlType, ...]:
    """Plan the query that a statement carries; returns the types of its parameters."""
    query = statement.query if isinstance(statement, u.DeclareCursor) else statement.statement
    if isinstance(query, (u.DeclareCursor, CreateTableAs)):
        query = query.query
    if not is_dml(query):
        return ()
    carried = PreparedStatement("", "", query, declared)
    session.plan_prepared(carried)
    return carried.parameter_types


def explain_columns(statement: u.Explain) -> tuple[ResultColumn, ...]:
    """Return EXPLAIN's one column: text, or json."""
    is_json = any(o.name == "format" and str(o.value).lower() == "json" for o in statement.options)
    return (ResultColumn("QUERY PLAN", JSON if is_json else TEXT),)


async def evaluate_arguments(
    session: Session, prepared: PreparedStatement, statement: u.ExecutePrepared
) -> tuple[Datum, ...]:
    """Evaluate EXECUTE's arguments to the statement's parameter types."""
    types = prepared.parameter_types
    if len(statement.args) != len(types):
        raise SqlSyntaxError(
            f'wrong number of parameters for prepared statement "{statement.name}"',
            detail=f"Expected {len(types)} parameters but got {len(statement.args)}.",
        )
    values = []
    for number, (argument, sql_type) in enumerate(zip(statement.args, types, strict=True), 1):
        bound = bind_expression(
            argument,
            (),
            session.catalog(),
            target_type=sql_type,
            target_typmod=-1,
            purpose="execute",
            column=str(number),
        )
        values.append(await session.evaluate(bound))
    return tuple(values)
