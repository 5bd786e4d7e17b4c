"""One connection, dialled or accepted, above its socket: handshake, then the session's frames.

The driver's protocol object inherits from this and adds what touches the socket. Nothing here
knows TLS but by what the driver found out: both certificates and their binding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cluster.transport import frame as f
from cluster.transport.environment import Environment
from cluster.transport.handshake import Handshake, HandshakeRefused, Step, write_reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.transport.api import Peer
    from cluster.transport.environment import Timer
    from cluster.transport.handshake import Hello
    from cluster.transport.link import Link
    from cluster.transport.session import Session

_LAST_WORDS_SECONDS = 1.0
_RETIRED_SECONDS_MAX = 600.0


class Socket(Protocol):
    """What a connection does with its socket; asyncio's transports are such."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def close(self) -> None:
        """Close once what was written is sent."""

    def abort(self) -> None:
        """Close at once."""

    def pause_reading(self) -> None:
        """Stop reading."""

    def resume_reading(self) -> None:
        """Read again."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the system has not taken yet."""


class Channel(NamedTuple):
    """What TLS found out about a connection; the default is plain TCP."""

    binding: bytes = b""  # of the proofs to this connection
    spki_pin: str = ""  # of the peer's certificate
    objection: str = ""  # why its certificate is not a node's


class Owner(Environment, Protocol):
    """What a connection asks of its transport."""

    admit: Callable[[Peer], str]

    def hello(self, target: str, serial: int) -> Hello:
        """Return the first words of a connection."""

    def check(self, peer: Peer, target: str) -> str:
        """Return why a peer is refused before it proved itself, or ""."""

    def is_cut(self, address: str) -> bool:
        """Tell whether an injected fault keeps connections with a peer from being made."""

    def note_refusal(self, address: str, node_id: int, by: str, reason: str) -> None:
        """Remember a refused handshake."""

    def on_accepted(self, connection: Any, peer: Peer, target: str) -> Session:
        """Take an accepted connection whose peer has proved itself; returns its session."""

    def on_end(self, connection: Any, reason: str) -> None:
        """Take the end of a connection, established or not."""


class Connection:
    """State of one connection. ``session`` is None until the peer has proved itself.

    A dialled one has a ``link`` and a session that waits; ``on_outcome(error)`` is called once,
    with None when it is established.
    """

    def __init__(
        self,
        owner: Owner,
        link: Link | None = None,
        session: Session | None = None,
        on_outcome: Callable[[Exception | None], None] = lambda _error: None,
    ) -> None:
        self.link = link
        self.session: Session | None = None
        self.socket: Socket | None = None
        self.socket_address = "an unknown address"
        self.is_over = False
        self.is_heard = False  # anything at all
        self._owner = owner
        self._waiting_session = session
        self._on_outcome: Callable[[Exception | None], None] | None = on_outcome
        self._decoder = f.FrameDecoder()
        self._handshake: Handshake | None = None
        self._sequence = 0
        self._timer: Timer | None = None
        self._is_mute = False  # an injected fault swallows the handshake
        self._retired_intervals = 0

    @property
    def peer(self) -> Peer | None:
        """Who the other side says it is, once it has said so."""
        return None if self._handshake is None else self._handshake.peer

    @property
    def peer_serial(self) -> int:
        """Which of the dialler's connections it is; they may be made out of order."""
        hello = None if self._handshake is None else self._handshake.peer_hello
        return 0 if hello is None else hello.serial

    # session.SessionIo

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.socket is not None and not self.is_over:
            self.socket.write(data)

    def fail(self, reason: str) -> None:
        """End the connection; what was written still leaves, for a moment."""
        self.end(reason)
        if self.socket is not None:
            self.socket.close()
            self._owner.later(_LAST_WORDS_SECONDS, self.socket.abort)

    def flush_soon(self) -> None:
        """Flush the session in the next turn."""
        if self.session is not None and self._owner.loop is not None:
            self._owner.loop.call_soon(self.session.flush, context=None)

    def pause_input(self) -> None:
        """Stop reading."""
        if self.socket is not None and not self.is_over:
            self.socket.pause_reading()

    def resume_input(self) -> None:
        """Read again."""
        if self.socket is not None and not self.is_over:
            self.socket.resume_reading()

    def unsent_bytes(self) -> int:
        """Return how many bytes the system has not taken yet."""
        return 0 if self.socket is None or self.is_over else self.socket.get_write_buffer_size()

    # For the owner.

    def abort(self, reason: str) -> None:
        """End and close at once."""
        self.end(reason)
        if self.socket is not None:
            self.socket.abort()

    def supersede(self) -> None:
        """Take that the peer has made a newer connection: messages of this one come too late."""
        if self.session is not None:
            self.session.is_superseded = True

    def on_interval(self) -> None:
        """Look after the connection once per ping interval."""
        session = self.session
        if session is None or self.is_over:
            return
        if self.link is not None and self.link.session is not session:
            # Retired: it goes when its work is done, or when that takes too long.
            self._retired_intervals += 1
            seconds = self._retired_intervals * self._owner.settings.ping_interval_seconds
            if session.is_idle or seconds > _RETIRED_SECONDS_MAX:
                self.fail("retired")
                return
        reason = session.on_interval()
        if reason:
            self.fail(reason)

    def end(self, reason: str, error: Exception | None = None) -> None:
        """Take the end, once."""
        if self.is_over:
            return
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.on_end(self, reason)
        self._tell(error or ConnectionError(reason))

    # The handshake.

    def limit_handshake(self) -> None:
        """Begin to count the time of an accepted connection."""
        self._timer = self._owner.later(self._owner.settings.rpc_timeout_seconds, self._expire)

    def begin_handshake(self, channel: Channel) -> None:
        """Speak or listen, over TLS if ``channel`` tells of any."""
        owner = self._owner
        target = "" if self.link is None else self.link.address
        serial = 0 if self._waiting_session is None else self._waiting_session.serial
        self._handshake = Handshake(
            hello=owner.hello(target, serial),
            is_dialler=self.link is not None,
            secret=owner.settings.secret,
            binding=channel.binding,
            spki_pin=channel.spki_pin,
            check=lambda peer, _hello: owner.check(peer, target),
            admit=owner.admit,
        )
        if channel.objection:
            self._refuse(HandshakeRefused(channel.objection, "us"))
        else:
            self._send_step(self._handshake.start())

    def read(self, count: int) -> None:
        """Take bytes that were put into the decoder's buffer."""
        decoder = self._decoder
        decoder.advance(count)
        counters = self._owner.counters
        counters.bytes_received += count
        self.is_heard = True
        if self.session is None:
            self._read_handshake()
        session = self.session
        if session is not None and not self.is_over:
            session.hear()
            frames = decoder.frames()
            if frames:
                session.receive(frames)
            if decoder.error and not session.lost_by:
                session.violate(decoder.error)
        if decoder.duplicate_count:
            counters.frames_duplicate += decoder.duplicate_count
            decoder.duplicate_count = 0

    def _read_handshake(self) -> None:
        handshake = self._handshake
        assert handshake is not None
        while self.session is None and not self.is_over and not self._is_mute:
            received = self._decoder.next_frame()
            if received is None:
                break
            try:
                step = handshake.on_frame(received[0], received[4])
            except HandshakeRefused as refused:
                self._refuse(refused)
                return
            peer = handshake.peer
            if self.link is None and peer is not None and self._owner.is_cut(peer.address):
                self._is_mute = True
                return
            self._send_step(step)
            if step.is_established:
                self._establish()
        if self._decoder.error and self.session is None and not self.is_over:
            self._refuse(HandshakeRefused(self._decoder.error, "us"))

    def _send_step(self, step: Step) -> None:
        for frame_type, payload in step.frames:
            self._sequence += 1
            self.write(f.encode_frame(f.ENVELOPE_VERSION, frame_type, self._sequence, payload))

    def _establish(self) -> None:
        assert self._handshake is not None
        peer, hello = self._handshake.peer, self._handshake.peer_hello
        assert peer is not None
        assert hello is not None
        if self._timer is not None:
            self._timer.cancel()
        self._decoder.establish(peer.wire_version)
        if self.link is None:
            session = self._owner.on_accepted(self, peer, hello.target)
        else:
            assert self._waiting_session is not None
            session = self._waiting_session
            if session.lost_by:
                self.abort(session.lost_by)
                return
            self.link.on_connected(self._owner.now(), peer.node_id)
        self.session = session
        session.attach(self, peer, self._sequence)
        self._tell(None)

    def _refuse(self, refused: HandshakeRefused) -> None:
        """End a handshake; the peer hears why if it was us, and both remember."""
        if refused.by == "us":
            self._send_step(Step(((f.REFUSED, write_reason(refused.reason)),)))
        peer = self.peer
        address = self.socket_address if peer is None else peer.address or self.socket_address
        if self.link is not None:
            address = self.link.address
        node_id = 0 if peer is None else peer.node_id
        self._owner.note_refusal(address, node_id, refused.by, refused.reason)
        self._tell(refused)
        self.fail(refused.reason)

    def _tell(self, error: Exception | None) -> None:
        on_outcome, self._on_outcome = self._on_outcome, None
        if on_outcome is not None:
            on_outcome(error)

    def _expire(self) -> None:
        if self.session is None and not self.is_over:
            reason = f"no handshake within {self._owner.settings.rpc_timeout_seconds:g} s"
            self._owner.note_refusal(self.socket_address, 0, "us", reason)
            self.abort(reason)
