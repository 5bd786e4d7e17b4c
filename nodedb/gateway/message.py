"""What a gateway and an executor say to each other, chunk by chunk of an ``EXECUTE`` stream.

A chunk is one frame: ``kind:1 | header_bytes:uint32 | header | data``; the header is MessagePack
and empty for most kinds, the data are messages of PostgreSQL's protocol as they stand. What does
not fit into a frame comes in several: DATA behind a BATCH, PART before all others. Behind anything
but a PART the messages are whole, so the client may be told that the executor is lost.

From the gateway::

    BATCH     a batch begins; its messages, as far as they have come
    DATA      more of them
    CANCEL    the running statement is to fail
    TAKEN     the client has got all notifications of NOTIFY
    PING      is anybody there?

From the executor::

    DATA      what the client is to get
    PART      the beginning of that
    COPY_IN   as DATA; COPY data are awaited
    SKIP      after an error: nothing but a Sync ends the batch now
    HOLD, GO  send no more data for now, or again
    END       as DATA; the batch is over
    REFUSED   nothing of the batch has happened now; the stream is of no more use
    NOTIFY    notifications for an idle client, the next ones after TAKEN
    PONG      the answer to PING

The stream's request is a ``Prime``. When the executor finishes the stream in order, the session is
over; when it breaks, the executor is lost, and with it what it had open. HOLD is not left to the
stream's window, for CANCEL and PING have to get through.
"""

import struct
from typing import Final

import msgspec

BATCH: Final = ord("B")
DATA: Final = ord("D")
CANCEL: Final = ord("X")
PING: Final = ord("P")
COPY_IN: Final = ord("G")
END: Final = ord("E")
REFUSED: Final = ord("R")
NOTIFY: Final = ord("N")
PONG: Final = ord("p")
SKIP: Final = ord("S")
PART: Final = ord("T")
TAKEN: Final = ord("K")
HOLD: Final = ord("H")
GO: Final = ord("O")
KINDS: Final = frozenset(
    (BATCH, DATA, PART, CANCEL, PING, COPY_IN, SKIP, HOLD, GO, END, REFUSED, NOTIFY, TAKEN, PONG)
)

_prefix = struct.Struct("!BI")
FRAME_PREFIX_BYTES: Final = _prefix.size
FRAME_DATA_BYTES_MAX: Final = 256 * 1024
"""Of one frame. Smaller than a chunk may be: what is in flight is held by both sides."""
DATA_PREFIX: Final = _prefix.pack(DATA, 0)
PART_PREFIX: Final = _prefix.pack(PART, 0)
PING_FRAME: Final = _prefix.pack(PING, 0)
PONG_FRAME: Final = _prefix.pack(PONG, 0)
SKIP_FRAME: Final = _prefix.pack(SKIP, 0)
HOLD_FRAME: Final = _prefix.pack(HOLD, 0)
GO_FRAME: Final = _prefix.pack(GO, 0)


class BadFrame(Exception):
    """The other side sent what is no frame; the stream is given up."""


class SettingsState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A session's variables: what RESET goes back to, what was SET, SET LOCAL, how to undo it."""

    defaults: dict[str, str]
    session: dict[str, str]
    local: dict[str, str]
    undo: tuple[tuple[str, str | None, str | None], ...]
    """(name, value before, local value before), the newest last."""
    custom: tuple[str, ...]


class PreparedState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A prepared statement.

    ``is_sql``: made by PREPARE, which stands in the text. Where the text is left out, the gateway
    has it: that of a Parse message of the batch, with this ``checksum``.
    """

    name: str
    text: str
    parameter_oids: tuple[int, ...]
    is_sql: bool
    prepared_at: int
    checksum: int = 0


class SequenceState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What currval and lastval return; ``last`` is a sequence's id, 0 for none."""

    values: dict[int, int]
    last: int


class BlockState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A transaction block in which no rows were touched; its modes are variables."""

    started_at: int
    has_snapshot: bool


class SessionState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What changed of a session's state since the other side saw it; None: nothing of that kind."""

    settings: SettingsState | None = None
    prepared: tuple[PreparedState, ...] = ()
    dropped: tuple[str, ...] = ()
    channels: tuple[str, ...] | None = None
    sequences: SequenceState | None = None


class Prime(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The request of a stream: whose session the executor is to go on with."""

    process_id: int
    login_user_id: int
    database_id: int
    peer: str
    backend_start: int
    state: SessionState


class Request(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What names a batch that commits by itself, however often it is sent.

    ``origin`` is the run of the gateway's node, ``number`` counts its requests. It can only have
    committed above the timestamp ``since``. ``is_repeated``: it may have.
    """

    origin: int
    number: int
    since: int
    is_repeated: bool = False


class Recorded(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer of a request as its commit records it: messages, what currval has become."""

    data: bytes
    sequences: SequenceState | None = None


class BatchBegin(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Header of BATCH. ``elapsed_ms``: how much of its time the first statement has used up."""

    number: int
    state: SessionState | None = None
    block: BlockState | None = None
    elapsed_ms: int = 0
    request: Request | None = None


class BatchEnd(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Header of END.

    ``number`` is that of the batch. It is 0 for what came behind a batch that had ended already, in
    a COPY that had failed: the answer is passed on, and no batch has ended. ``status`` is
    ReadyForQuery's letter. ``catalog_index`` is the newest catalog change that the batch committed,
    0 for none. ``timestamp`` is at least what the session has read or written up to. ``pinned``
    says why the session cannot go to another executor, "" if it can.
    """

    number: int
    status: str
    state: SessionState | None
    catalog_index: int
    timestamp: int
    pinned: str


class Cancel(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Header of CANCEL: the text of the error that the running statement is to fail with."""

    message: str


class Notifications(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Header of NOTIFY: (process id, channel, payload)."""

    notifications: tuple[tuple[int, str, str], ...]


class Refusal(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Header of REFUSED.

    ``is_open``: an earlier run of the request may be committed, or will be; ask again by its name.
    ``is_unknown``: nobody knows any more what has become of it.
    """

    reason: str
    is_open: bool = False
    is_unknown: bool = False


Header = BatchBegin | BatchEnd | Cancel | Notifications | Refusal
_HEADERS: Final[dict[int, msgspec.msgpack.Decoder[Header]]] = {
    BATCH: msgspec.msgpack.Decoder(BatchBegin),
    CANCEL: msgspec.msgpack.Decoder(Cancel),
    END: msgspec.msgpack.Decoder(BatchEnd),
    REFUSED: msgspec.msgpack.Decoder(Refusal),
    NOTIFY: msgspec.msgpack.Decoder(Notifications),
}
_prime = msgspec.msgpack.Decoder(Prime)
_recorded = msgspec.msgpack.Decoder(Recorded)
_encode = msgspec.msgpack.Encoder().encode


def encode_prime(prime: Prime) -> bytes:
    """Return a stream's request."""
    return _encode(prime)


def decode_prime(payload: bytes) -> Prime:
    """Read a stream's request. Raises BadFrame."""
    try:
        return _prime.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"a request is no session's state: {error}") from error


def encode_recorded(recorded: Recorded) -> bytes:
    """Return what the log keeps of an answer."""
    return _encode(recorded)


def decode_recorded(answer: bytes) -> Recorded:
    """Read what the log has kept of an answer; it is our own."""
    return _recorded.decode(answer)


def frames(kind: int, header: Header | None, data: bytes) -> list[bytes]:
    """Return one frame, or as many as the data take."""
    encoded = b"" if header is None else _encode(header)
    limit = FRAME_DATA_BYTES_MAX
    if len(data) <= limit:
        return [_prefix.pack(kind, len(encoded)) + encoded + data]
    if kind in (BATCH, DATA):
        # What a batch's header says comes first; its messages need not be whole.
        rest = [DATA_PREFIX + data[start : start + limit] for start in range(0, len(data), limit)]
        return rest if kind == DATA else [_prefix.pack(kind, len(encoded)) + encoded, *rest]
    cut = (len(data) - 1) // limit * limit
    parts = [PART_PREFIX + data[start : start + limit] for start in range(0, cut, limit)]
    return [*parts, _prefix.pack(kind, len(encoded)) + encoded + data[cut:]]


def output_frames(data: bytes) -> list[bytes]:
    """Return the frames of what a client is to get, whole messages."""
    limit = FRAME_DATA_BYTES_MAX
    if len(data) <= limit:
        return [DATA_PREFIX + data]
    cut = (len(data) - 1) // limit * limit
    parts = [PART_PREFIX + data[start : start + limit] for start in range(0, cut, limit)]
    return [*parts, DATA_PREFIX + data[cut:]]


def decode_frame(chunk: bytes) -> tuple[int, Header | None, bytes]:
    """Return (kind, header, data). Raises BadFrame."""
    if chunk.startswith(DATA_PREFIX):
        return DATA, None, chunk[FRAME_PREFIX_BYTES:]
    if len(chunk) < FRAME_PREFIX_BYTES:
        raise BadFrame(f"a frame of {len(chunk)} bytes")
    kind, header_bytes = _prefix.unpack_from(chunk)
    end = FRAME_PREFIX_BYTES + header_bytes
    if kind not in KINDS or end > len(chunk):
        raise BadFrame(f"a frame of unknown kind {kind}, or cut short")
    decoder = _HEADERS.get(kind)
    if decoder is None:
        return kind, None, chunk[end:]
    try:
        return kind, decoder.decode(chunk[FRAME_PREFIX_BYTES:end]), chunk[end:]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"a bad header in a frame of kind {kind}: {error}") from error
