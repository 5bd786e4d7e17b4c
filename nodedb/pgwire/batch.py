"""A batch on its way to another node: its messages, where they may run, and whether they may again.

A batch is a simple Query, or everything up to a Sync. One that is known to its end before it is
sent can be placed (``nodedb.gateway.placement``); of any other the worst is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.gateway.placement import Placement, changes_transaction, is_recordable
from nodedb.pgwire import message as m
from nodedb.pgwire.codec import KEPT_BYTES_MAX, FrontendDecoder
from nodedb.session.placing import Placed
from nodedb.session.prepared import declared_type
from nodedb.session.state import checksum_of
from sql.ast.utility import (
    Begin,
    Commit,
    EmptyStatement,
    ResetVariable,
    Rollback,
    SetTransaction,
    SetVariable,
    ShowVariable,
)
from sql.errors import InvalidSqlStatementName, SqlError, SqlSyntaxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.gateway.message import Request
    from nodedb.session.session import Session
    from nodedb.session.state import ParsedTexts
    from sql.ast.utility import Statement

_UNKNOWN: Final = Placed(Placement.EFFECTS, None)
_FAILS_HERE: Final = Placed(Placement.HERE, None)
_QUERY: Final = ord("Q")
_ANSWERED_ALONE: Final = frozenset(b"QFS")
"""Query and FunctionCall are answered by ReadyForQuery wherever they stand; so is a bad Sync."""
_QUERY_OFFSET: Final = 5
_SYNC: Final = b"S\0\0\0\x04"
_PARSE: Final = ord("P")
_TERMINATE: Final = ord("X")
_COPY_ENDS: Final = frozenset(b"cf")
_CLOSES: Final = (m.CloseStatement, m.ClosePortal)
_FREE_IN_BLOCKS: Final = (
    Begin,
    Commit,
    Rollback,
    SetTransaction,
    SetVariable,
    ResetVariable,
    ShowVariable,
    EmptyStatement,
)


class Batch:
    """One batch. ``kept`` holds its messages as they were taken, while all of them fit."""

    def __init__(
        self, text: str, placement: Placement, statements: Sequence[Statement | None] | None
    ) -> None:
        """Describe a batch; ``statements`` are those it executes, None where nobody knows."""
        self.text = text
        self.placement = placement
        self.statements = statements
        self.started_at = 0.0
        self.parsed: ParsedTexts = {}
        """What its Parse messages brought."""
        self.parsed_names: dict[str, str] = {}
        """The text of the last one of each name."""
        self.named: dict[str, tuple[str, tuple[int, ...]]] = {}
        """The same, with the OIDs of its parameters."""
        self.is_request = False
        """It commits by itself, once, and its commit records that: it may be sent again."""
        self.request: Request | None = None
        """Its name, once it has been sent."""
        self.is_repeated = False
        """It was sent before: an earlier run of it may have been committed."""
        self.kept: list[bytes] = []
        self.is_kept = True
        self.is_simple = False
        self.is_closed = False
        """Its end has been taken: what follows is another batch, or COPY data."""
        self.is_copying = False
        self.is_ended = False
        """The client sends no more, and the executor knows."""
        self.is_streaming = False
        """It has been sent before its end was there: what comes now is not kept for ever."""
        self.has_relayed = False
        """The client has got some of the answer."""
        self._kept_bytes = 0
        self._is_skipping = False

    def add(self, raw: bytes) -> None:
        """Note a message that was taken for it."""
        tag = raw[0]
        if self.is_copying:
            if tag in _COPY_ENDS:
                self.is_copying = False
                # In an extended query a Sync before the data was in vain; another one follows.
                self.is_closed = self.is_simple
        elif raw == _SYNC:
            self.is_closed, self.is_simple = True, False
        elif tag in _ANSWERED_ALONE and not self._is_skipping:
            self.is_closed = self.is_simple = True
        elif tag == _PARSE:
            self._note_raw_parse(raw)
        self._kept_bytes += len(raw)
        if self.is_streaming and self._kept_bytes > KEPT_BYTES_MAX:
            self.is_kept = False
            self.kept.clear()
        elif self.is_kept:
            self.kept.append(raw)

    def add_whole(self, raw: bytes, messages: Sequence[m.FrontendMessage]) -> None:
        """Note all of a batch, in messages that are well-formed, the last one its end."""
        self.kept.append(raw)
        self._kept_bytes = len(raw)
        self.is_closed = True
        self.is_simple = isinstance(messages[-1], m.Query)
        for message in messages:
            if isinstance(message, m.Parse):
                self._note_parse(message)

    def query_text(self) -> str:
        """Return the text of a simple query that was never placed."""
        if self.is_simple and self.kept and self.kept[0][0] == _QUERY:
            return self.kept[0][_QUERY_OFFSET:-1].decode(errors="replace")
        return ""

    @property
    def wants_more(self) -> bool:
        """Tell whether the next message belongs to it."""
        return self.is_copying or not self.is_closed

    def skip_to_sync(self) -> None:
        """Note that the executor skips all messages up to a Sync: a Query does not end it now."""
        self._is_skipping = True
        if self.is_simple:
            self.is_closed = self.is_simple = False

    @property
    def may_repeat(self) -> bool:
        """Tell whether it may be sent again although it may have been executed."""
        is_harmless = self.placement < Placement.EFFECTS or self.request is not None
        return is_harmless and self.is_kept and not self.has_relayed

    def repeat(self) -> None:
        """Note that it is sent again."""
        if self.request is not None and not self.is_repeated:
            self.is_repeated = True
            self.request = msgspec.structs.replace(self.request, is_repeated=True)

    @property
    def begins_block(self) -> bool:
        """Tell whether it begins a transaction block and surely does not end one."""
        flags = [changes_transaction(each) for each in self.statements or ()]
        return any(begins for begins, _ in flags) and not any(ends for _, ends in flags)

    @property
    def may_commit(self) -> bool:
        """Tell whether it may commit the block that it began in."""
        if self.statements is None:
            return True
        return any(changes_transaction(each)[1] for each in self.statements)

    @property
    def only_rolls_back(self) -> bool:
        """Tell whether all it does is to end its block without effect."""
        statements = self.statements
        return bool(statements) and all(isinstance(each, Rollback) for each in statements or ())

    def _note_raw_parse(self, raw: bytes) -> None:
        decoder = FrontendDecoder()
        decoder.feed(raw)
        try:
            message = decoder.next_message()
        except SqlError:
            return
        if isinstance(message, m.Parse):
            self._note_parse(message)

    def _note_parse(self, message: m.Parse) -> None:
        text, oids = message.text, message.parameter_oids
        # Declared types count as ``declared_type`` reads them: not at all for unknown.
        read = tuple(0 if each is None else each.oid for each in map(declared_type, oids))
        self.parsed[checksum_of(text, read)] = text, oids
        self.parsed_names[message.statement] = text
        self.named[message.statement] = text, tuple(oids)


class _Placer:
    """Goes through the messages of an extended batch as they would be processed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_in_block = session.block.state == "open"
        self._prepared: dict[str, Placed] = {}
        self._portals: dict[str, Placed] = {}
        self.placement = Placement.HERE
        self.executed: list[Placed] = []
        self.text = ""
        self.may_notify = False

    def add(self, message: m.FrontendMessage) -> None:
        """Place one message."""
        match message:
            case m.Parse(statement, text, parameter_oids):
                self.text = self.text or text
                self.may_notify = self.may_notify or may_notify(text)
                self._prepared[statement] = self._placed_text(text, parameter_oids)
                if self._prepared[statement] is _UNKNOWN:
                    self.placement = Placement.EFFECTS
            case m.Bind(portal, statement):
                self._portals[portal] = self._placed_name(statement)
                if portal and self._is_in_block:
                    self.placement = Placement.EFFECTS  # It lives as long as the block.
            case m.Execute(portal, row_limit):
                placed = self._portals.get(portal, _UNKNOWN)
                if row_limit and self._is_in_block:
                    placed = _UNKNOWN
                self.executed.append(placed)
                self.placement = max(self.placement, placed.placement)
            case m.DescribePortal(portal):
                if portal not in self._portals:
                    self.placement = Placement.EFFECTS
            case m.DescribeStatement(statement):
                if self._placed_name(statement) is _UNKNOWN:
                    self.placement = Placement.EFFECTS
            case m.CloseStatement() | m.ClosePortal() | m.Sync():
                pass
            case _:
                self.placement = Placement.EFFECTS

    def _placed_text(self, text: str, parameter_oids: Sequence[int]) -> Placed:
        try:
            return self._session.place_parsed(text, parameter_oids)
        except SqlSyntaxError:
            return _FAILS_HERE
        except SqlError:
            return _UNKNOWN  # Perhaps the leader knows a newer catalog.

    def _placed_name(self, name: str) -> Placed:
        found = self._prepared.get(name)
        if found is not None:
            return found
        try:
            placed = self._session.place_prepared(name)
        except InvalidSqlStatementName:
            return _FAILS_HERE
        except SqlError:
            return _UNKNOWN
        text = self._session.prepared[name].text
        self.text = self.text or text
        self.may_notify = self.may_notify or may_notify(text)
        return placed


def place_batch(
    session: Session, messages: Sequence[m.FrontendMessage], *, is_whole: bool
) -> Batch:
    """Place the messages of a batch, which begin with those given, and end there if it is whole.

    ``session`` is outside a block, or in one that has touched nothing.
    """
    first = messages[0] if messages else None
    if isinstance(first, m.Query):
        return _place_query(session, first)
    placer = _Placer(session)
    for message in messages:
        placer.add(message)
    if not is_whole or not isinstance(messages[-1], m.Sync):
        return Batch(placer.text, Placement.EFFECTS, None)
    placement = max(placer.placement, _placement(placer.executed))
    batch = Batch(placer.text, placement, _statements(placer.executed))
    batch.is_request = (
        not placer.may_notify
        and is_recorded(session, batch)
        and not any(isinstance(message, _CLOSES) for message in messages)
    )
    return batch


def is_recorded(session: Session, batch: Batch) -> bool:
    """Tell whether a whole batch is a transaction of its own whose commit can record it."""
    return (
        session.block.state == "idle"
        and batch.placement is Placement.EFFECTS
        and bool(batch.statements)
        and all(is_recordable(statement) for statement in batch.statements or ())
    )


def may_notify(text: str) -> bool:
    """Tell whether a text may call pg_notify: notifications are not to be sent twice."""
    return "notify" in text.lower()


def _place_query(session: Session, query: m.Query) -> Batch:
    try:
        placed = session.place_text(query.text)
    except SqlError:
        # Its names may be known to the leader; what it does to transactions is known here.
        return Batch(query.text, Placement.EFFECTS, statements_of(session, query.text))
    batch = Batch(query.text, _placement(placed), _statements(placed))
    batch.is_request = is_recorded(session, batch) and not may_notify(query.text)
    return batch


def _placement(placed: Sequence[Placed]) -> Placement:
    """Return where statements that come together may run.

    Each was placed as it would be at the beginning. Behind a BEGIN among them a savepoint is more
    than an error, and a query may give the transaction its snapshot.
    """
    placement = max((each.placement for each in placed), default=Placement.HERE)
    if any(isinstance(each.statement, Begin) for each in placed) and not all(
        isinstance(each.statement, _FREE_IN_BLOCKS) for each in placed
    ):
        placement = max(placement, Placement.LEADER)
    return placement


def _statements(placed: Sequence[Placed]) -> list[Statement | None] | None:
    if any(each is _UNKNOWN for each in placed):
        return None
    return [each.statement for each in placed]


def statements_of(session: Session, text: str) -> list[Statement | None] | None:
    """Return the statements of a simple query's text, None when it does not parse."""
    try:
        return [each.statement for each in session.simple_statements(text)]
    except SqlError:
        return None


def statements_in(session: Session, batch: Batch) -> list[Statement | None] | None:
    """Return what a batch executes that was never placed, None where nobody knows."""
    if not batch.is_kept or not batch.is_closed:
        return None
    decoder = FrontendDecoder()
    decoder.feed(b"".join(batch.kept))
    names: dict[str, Statement | None] = {}
    executed: list[Statement | None] = []
    try:
        while (message := decoder.next_message()) is not None:
            if isinstance(message, m.Query):
                return statements_of(session, message.text)
            if isinstance(message, m.Bind):
                text = batch.parsed_names.get(message.statement)
                if text is not None:
                    names[message.portal] = session.node.plans.parse_one(text)
                else:
                    names[message.portal] = session.prepared[message.statement].statement
            elif isinstance(message, m.Execute):
                executed.append(names[message.portal])
    except (SqlError, KeyError):
        return None
    return executed


def is_terminate(raw: bytes) -> bool:
    """Tell whether a message is the client's goodbye."""
    return raw[0] == _TERMINATE
