"""Where the statements of a client's request may run; see ``nodedb.gateway.placement``.

Queries are planned to learn what they touch, through the plan cache, so a statement that is sent
again and again is not planned for it a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodedb.gateway.placement import Placement, place_statement
from nodedb.gateway.plan_cache import is_dml
from nodedb.session.prepared import PreparedStatement, declared_type
from sql.ast.query import FunctionCall
from sql.ast.walk import walk
from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.session.session import Session
    from sql.ast.query import DmlStatement
    from sql.ast.utility import ExecutePrepared, Statement


class Placed(NamedTuple):
    """A statement, and where it may run."""

    placement: Placement
    statement: Statement | None


def place_text(session: Session, text: str) -> list[Placed]:
    """Place the statements of a simple query. Raises what planning them raises.

    A text that does not parse is for this node to refuse: it has no statements.
    """
    placed: list[Placed] = []
    try:
        statements = session.simple_statements(text)
    except SqlError:
        return placed
    for parsed in statements:
        if parsed.portal is not None:
            prepared = parsed.portal.prepared
        else:
            prepared = PreparedStatement("", parsed.text, parsed.statement, ())
            prepared.fixed_parameters = True
        placed.append(_place_one(session, prepared))
    return placed


def place_parsed(session: Session, text: str, parameter_oids: Sequence[int]) -> Placed:
    """Place the statement of a Parse message. Raises what planning it raises."""
    statement = session.node.plans.parse_one(text)
    declared = tuple(declared_type(oid) for oid in parameter_oids)
    return _place_one(session, PreparedStatement("", text, statement, declared))


def place_prepared(session: Session, name: str) -> Placed:
    """Place a prepared statement. Raises 26000, and what planning it again raises."""
    return _place_one(session, session.statement(name))


def place(session: Session, statement: Statement | None) -> Placement:
    """Place a statement that is not planned yet. Raises what planning it raises."""

    def place_query(query: DmlStatement) -> Placement:
        return _place_one(session, PreparedStatement("", "", query, ())).placement

    def place_execute(execute: ExecutePrepared) -> Placement:
        if any(isinstance(node, FunctionCall) for node in walk(execute)):
            return Placement.EFFECTS  # The arguments are not planned here.
        prepared = session.statement(execute.name)
        text, prepared.text = prepared.text, "" if prepared.from_sql else prepared.text
        try:
            return _place_one(session, prepared).placement
        finally:
            prepared.text = text

    is_in_block = session.block.state == "open"
    return place_statement(statement, place_query, place_execute, is_in_block=is_in_block)


def _place_one(session: Session, prepared: PreparedStatement) -> Placed:
    statement = prepared.statement
    if statement is None or not is_dml(statement):
        return Placed(place(session, statement), statement)
    placement = session.plan_prepared(prepared).placement
    if session.block.state == "open" and session.settings.is_snapshot:
        # Its first query gives the transaction its snapshot, which is the leader's to take.
        placement = max(placement, Placement.LEADER)
    return Placed(placement, statement)
