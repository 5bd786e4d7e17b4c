"""The values of Raft: entries, configurations, hard state, and the nine messages between replicas.

Every message begins with ``group_id, sender, recipient, term``; ``term`` is the sender's, except in
a pre-vote, where it is the term the sender would campaign in. On the wire a message is
``version:1 | MessagePack array [tag, fields...]`` and a batch of them ``version:1 | MessagePack
array of such arrays``. Fields are only ever added, at the end and with a default; golden bytes of
each message stand in ``tests/golden/raft/wire.txt``.

Source: Raft paper, figures 2 and 13; thesis, sections 3.10 (TimeoutNow), 6.4 (ReadIndex),
9.6 (pre-vote).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Union

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

WIRE_VERSION: Final = 1
CONF_CHANGE_MARK: Final = 0xFF
"""First byte of the payload of a membership change; no other payload may begin with it."""
NOBODY: Final = 0
"""No node: an unknown leader, a vote not given."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Entry = tuple[Count, Count, bytes]
"""(index, term, payload); ``b""`` is the empty entry of a new leader."""


class EntryId(NamedTuple):
    """What names an entry for ever; ordered as the voting rule compares logs (§5.4.1)."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants here


class HardState(NamedTuple):
    """What must be durable before an answer leaves; ``voted_for`` is 0 for nobody.

    ``commit_index`` is a hint from the time of the last change of term or vote, never too high.
    """

    term: int
    voted_for: int
    commit_index: int


class Configuration(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who votes, and who only receives; both sorted, no node in both."""

    voters: tuple[Count, ...]
    learners: tuple[Count, ...] = ()


ConfChangeKind = Literal["add_learner", "promote", "add_voter", "demote", "remove"]


class ConfChange(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One step of membership: at most one voter more or less (thesis §4.1).

    ``promote`` makes a learner a voter, ``add_voter`` does so without a learner's time before.
    ``result`` is filled in by the leader that proposes it: the whole configuration from the entry
    on, so that a new replica, which does not know with whom the group began, reads it in the log.
    """

    kind: ConfChangeKind
    node_id: Count
    result: Configuration | None = None


class PreVoteRequest(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """Would you vote for me in ``term``? Changes nothing at the recipient."""

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    last_index: Count
    last_term: Count


class PreVoteResponse(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """``term`` repeats the request's if granted, else it is the sender's own."""

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    is_granted: bool


class VoteRequest(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """``is_forced``: the leader of the term before asked for this election (TimeoutNow)."""

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    last_index: Count
    last_term: Count
    is_forced: bool


class VoteResponse(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """A vote, durable before it left, or a refusal."""

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    is_granted: bool


class AppendRequest(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """Entries behind ``prev``. ``round`` is echoed by the answer: it says since when we lead."""

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    prev_index: Count
    prev_term: Count
    commit_index: Count
    round: Count
    entries: list[Entry]


class AppendResponse(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """``is_matched``: the log is the leader's up to ``index``, durably.

    Otherwise ``index`` repeats the ``prev_index`` that did not match, and the log could match at
    most up to ``hint_index``, whose term is ``hint_term``.
    """

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    round: Count
    is_matched: bool
    index: Count
    hint_index: Count = 0
    hint_term: Count = 0


class Heartbeat(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """I lead. ``commit_index`` is at most what the recipient has matched.

    ``round`` 0 needs no answer. ``is_quiesce``: nothing more will come until something happens.
    """

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    commit_index: Count
    round: Count
    is_quiesce: bool = False


class HeartbeatResponse(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """``matched_index``: how far the sender knows its log to be the leader's, in this term.

    ``is_awake``: the sender did not quiesce, or has woken up, and so must the leader.
    """

    group_id: Count
    sender: Count
    recipient: Count
    term: Count
    round: Count
    matched_index: Count
    is_awake: bool = False


class TimeoutNow(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=9):
    """The leader of ``term`` asks the recipient to campaign at once (thesis §3.10)."""

    group_id: Count
    sender: Count
    recipient: Count
    term: Count


Message = Union[
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
]


class Ready(NamedTuple):
    """What the driver carries out now. The lists belong to the driver, which must not fill them.

    Everything the messages promise is durable, if the log was flushed before ``ready`` was called.
    """

    messages: list[Message]
    commit_index: int
    """Apply up to here."""
    read_states: list[tuple[int, int]]
    """(context, index): the read may be served once ``index`` is applied; -1 refuses it."""
    snapshot_peers: list[int]
    """Who needs a snapshot; each is named once until ``on_snapshot_result``."""


class BadMessage(Exception):
    """Bytes that are no message of a known version. The connection is at fault, not the replica."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_batch_decoder: Final[msgspec.msgpack.Decoder[list[Message]]] = msgspec.msgpack.Decoder(
    list[Message]
)
_conf_change_decoder: Final = msgspec.msgpack.Decoder(ConfChange)
_VERSION_BYTE: Final = bytes((WIRE_VERSION,))
_CONF_CHANGE_BYTE: Final = bytes((CONF_CHANGE_MARK,))


def encode_message(message: Message) -> bytes:
    """Return ``version:1 | MessagePack``."""
    return _VERSION_BYTE + _encoder.encode(message)


def decode_message(data: bytes) -> Message:
    """Read one message; BadMessage for anything else."""
    _check_version(data)
    try:
        message = _decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from error
    _check_entries(message)
    return message


def encode_messages(messages: Iterable[Message]) -> bytes:
    """Return a batch: ``version:1 | MessagePack array``."""
    return _VERSION_BYTE + _encoder.encode(list(messages))


def decode_messages(data: bytes) -> list[Message]:
    """Read a batch; BadMessage for anything else."""
    _check_version(data)
    try:
        messages = _batch_decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from error
    for message in messages:
        _check_entries(message)
    return messages


def _check_version(data: bytes) -> None:
    if not data or data[0] != WIRE_VERSION:
        found = str(data[0]) if data else "none"
        reason = f"raft messages of wire version {found}, this node speaks {WIRE_VERSION}"
        raise BadMessage(reason)


def _check_entries(message: Message) -> None:
    """Refuse entries that do not follow each other: the log could not be indexed any more."""
    if type(message) is AppendRequest and message.entries:
        expected = message.prev_index + 1
        for index, term, _ in message.entries:
            if index != expected or term > message.term:
                reason = f"entry {index} of term {term} where {expected} was due"
                raise BadMessage(reason)
            expected += 1


def encode_conf_change(change: ConfChange) -> bytes:
    """Return its payload: ``0xFF | MessagePack [kind, node_id, [voters, learners]]``."""
    return _CONF_CHANGE_BYTE + _encoder.encode(change)


def decode_conf_change(payload: bytes) -> ConfChange | None:
    """Return the membership change of an entry's payload; None if it is none.

    A payload with the mark that cannot be read is a programmer's error: no leader proposes one.
    """
    if payload[:1] != _CONF_CHANGE_BYTE:
        return None
    try:
        return _conf_change_decoder.decode(memoryview(payload)[1:])
    except msgspec.MsgspecError as error:
        message = f"membership change {payload[:40]!r}: {error}"
        raise AssertionError(message) from error
