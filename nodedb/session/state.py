"""What of a session moves between nodes, and what keeps it where it is.

A session's state belongs to its gateway, the node that the client is connected to. An executor
works on a copy: it is primed with the state, and gives back what a batch has changed. Each side
remembers what the other has seen (``StateSync``), so that little travels when little changes.

Moves: variables with role and session authorization, prepared statements, channels listened to,
what currval returns, a transaction block that has touched no rows.

Does not move, and pins the session to its executor: session-level advisory locks, cursors WITH
HOLD, temporary tables.

Not done here, and what that costs: the seed of random() stays where setseed was run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from nodedb.gateway.message import (
    BlockState,
    PreparedState,
    SessionState,
    SettingsState,
)
from nodedb.gateway.plan_cache import is_dml
from nodedb.session.arguments import PARAMETRIZED, wrapped_parameters
from nodedb.session.prepared import PreparedStatement, declared_type
from sql.ast import utility as u
from sql.errors import SqlError
from sql.parser import parse_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.session.session import Session
    from sql.ast.query import DmlStatement
    from sql.ast.utility import Statement

ParsedTexts = dict[int, tuple[str, tuple[int, ...]]]
"""Texts of Parse messages and the type OIDs of their parameters, by ``checksum_of``."""


class PreparedNames(dict[str, PreparedStatement]):
    """Prepared statements by name, and which names have changed since somebody asked."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[str, None] = {}

    def __setitem__(self, name: str, prepared: PreparedStatement) -> None:
        """Add a statement, or replace it."""
        self.changed[name] = None
        super().__setitem__(name, prepared)

    def __delitem__(self, name: str) -> None:
        """Remove a statement."""
        self.changed[name] = None
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a statement and return it."""
        if name in self:
            self.changed[name] = None
        return super().pop(name, *default)

    def clear(self) -> None:
        """Remove all statements."""
        self.changed.update(dict.fromkeys(self))
        super().clear()


class StateSync:
    """What the other side knows of a session's state.

    One per session and stream, on either side. A new one knows nothing.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._settings_version = -1
        self._committed_version = -1
        self._channels_version = -1
        self._sequences_version = -1

    def export_all(self) -> SessionState:
        """Return the whole state, for an executor that knows nothing."""
        session = self._session
        prepared = tuple(_prepared_state(each) for each in session.prepared.values())
        state = SessionState(
            session.settings.export(),
            prepared,
            (),
            tuple(session.channels),
            session.services.export_sequences(),
        )
        self._note_all()
        return state

    def export_changes(self, *, is_in_block: bool = False) -> SessionState | None:
        """Return what changed since the other side saw it, None for nothing.

        In a block the variables are those that a rollback would leave: the others are not settled.
        """
        session = self._session
        settings = self._changed_settings(is_in_block=is_in_block)
        changed = session.prepared.changed if isinstance(session.prepared, PreparedNames) else {}
        if (
            settings is None
            and not changed
            and session.channels_version == self._channels_version
            and session.services.sequences_version == self._sequences_version
        ):
            return None
        prepared = [session.prepared[name] for name in changed if name in session.prepared]
        dropped = tuple(name for name in changed if name not in session.prepared)
        channels = sequences = None
        if session.channels_version != self._channels_version:
            channels = tuple(session.channels)
        if session.services.sequences_version != self._sequences_version:
            sequences = session.services.export_sequences()
        states = tuple(_prepared_state(each) for each in prepared)
        self._note_rest()
        return SessionState(settings, states, dropped, channels, sequences)

    def take(self, state: SessionState, parsed: ParsedTexts) -> None:
        """Take over what the other side has changed; ``parsed``: the batch's Parse messages."""
        session = self._session
        if state.settings is not None:
            session.settings.restore(state.settings)
        for name in state.dropped:
            session.prepared.pop(name, None)
        for each in state.prepared:
            text, oids = each.text, each.parameter_oids
            if each.checksum:
                text, oids = parsed.get(each.checksum, ("", ()))
            prepared = _restored(session, each, text, oids)
            if prepared is not None:
                session.prepared[each.name] = prepared
        if state.channels is not None:
            session.channels = dict.fromkeys(state.channels)
            session.channels_version += 1
        if state.sequences is not None:
            session.services.restore_sequences(state.sequences)
        if state.settings is not None:
            self._note_settings()
        self._note_rest()

    def note_committed(self) -> None:
        """Note that the other side has this session's variables but for an open block's."""
        self._committed_version = self._session.settings.committed_version

    def _changed_settings(self, *, is_in_block: bool) -> SettingsState | None:
        settings = self._session.settings
        if is_in_block:
            if settings.committed_version == self._committed_version:
                return None
            self._committed_version = settings.committed_version
            return settings.export_committed()
        if settings.version == self._settings_version:
            return None
        self._note_settings()
        return settings.export()

    def _note_all(self) -> None:
        self._note_settings()
        self._note_rest()

    def _note_settings(self) -> None:
        settings = self._session.settings
        self._settings_version = settings.version
        self._committed_version = settings.committed_version

    def _note_rest(self) -> None:
        session = self._session
        if isinstance(session.prepared, PreparedNames):
            session.prepared.changed.clear()
        self._channels_version = session.channels_version
        self._sequences_version = session.services.sequences_version


def without_texts(state: SessionState | None) -> SessionState | None:
    """Leave out the texts that came in Parse messages, which the gateway has."""
    if state is None or not state.prepared:
        return state
    prepared = tuple(
        each
        if each.is_sql
        else PreparedState(
            each.name,
            "",
            (),
            is_sql=False,
            prepared_at=each.prepared_at,
            checksum=checksum_of(each.text, each.parameter_oids),
        )
        for each in state.prepared
    )
    return SessionState(state.settings, prepared, state.dropped, state.channels, state.sequences)


def checksum_of(text: str, oids: Sequence[int]) -> int:
    """Return what tells the Parse messages of a batch apart; never 0."""
    return crc32(text.encode(), crc32(b"".join(oid.to_bytes(4, "big") for oid in oids))) | 1 << 32


def _prepared_state(prepared: PreparedStatement) -> PreparedState:
    oids = tuple(0 if each is None else each.oid for each in prepared.declared_types)
    return PreparedState(
        prepared.name, prepared.text, oids, prepared.from_sql, prepared.prepared_at
    )


def _restored(
    session: Session, state: PreparedState, text: str, oids: Sequence[int]
) -> PreparedStatement | None:
    """Make a statement again; it is planned when it is first used."""
    statement: Statement | None
    try:
        if state.is_sql:
            statement = _sql_prepared(text, state.name)
        else:
            statement = session.node.plans.parse_one(text)
    except SqlError:
        return None
    types = tuple(declared_type(oid) for oid in oids)
    prepared = PreparedStatement(state.name, text, statement, types)
    prepared.from_sql = state.is_sql
    prepared.prepared_at = state.prepared_at or session.query_start
    prepared.is_unplanned = statement is not None and (
        is_dml(statement) or isinstance(statement, PARAMETRIZED)
    )
    return prepared


def keep_parsed(session: Session, name: str, text: str, oids: Sequence[int]) -> None:
    """Make a statement that a Parse message brought, without executing anything."""
    state = PreparedState(name, text, tuple(oids), is_sql=False, prepared_at=session.query_start)
    prepared = _restored(session, state, text, oids)
    if prepared is not None:
        session.prepared[name] = prepared


def _sql_prepared(text: str, name: str) -> DmlStatement | None:
    """Return the statement that a PREPARE in the text gives a name."""
    for parsed in parse_statements(text):
        if isinstance(parsed.statement, u.Prepare) and parsed.statement.name == name:
            return parsed.statement.statement
    return None


def plan_restored(session: Session, prepared: PreparedStatement) -> None:
    """Plan a statement that came from another node; raises what planning it raises."""
    statement = prepared.statement
    if isinstance(statement, PARAMETRIZED):
        prepared.parameter_types = wrapped_parameters(session, statement, prepared.declared_types)
    else:
        # The text of a PREPARE is not that of the statement, so nothing is cached for it.
        text, prepared.text = prepared.text, "" if prepared.from_sql else prepared.text
        try:
            session.plan_prepared(prepared)
        finally:
            prepared.text = text
    prepared.is_unplanned = False


def block_state(session: Session) -> BlockState | None:
    """Return an open transaction block that has touched nothing, None outside a block."""
    block = session.block
    if block.state != "open":
        return None
    return BlockState(block.started_at, block.has_snapshot)


def pinned_by(session: Session) -> str:
    """Return why a session cannot go to another node, half a sentence; "" if it can."""
    if session.services.holds_session_locks:
        return "it holds session-level advisory locks"
    if any(portal.was_committed for portal in session.portals.values()):
        return "it has open cursors declared WITH HOLD"
    if session.catalog().temp_schema_id:
        return "it uses temporary tables"
    return ""
