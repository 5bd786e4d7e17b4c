"""The transport over TCP and TLS 1.3: sockets, timers, certificates. It decides nothing else.

One connection per direction and peer: the dialler's messages and requests and their answers. It is
dialled when something is to be said, and kept. Frames are read into the decoder's own buffer; what
a turn of the loop has to say to a peer leaves in one write. Works on asyncio's loop and on uvloop.

Handlers run on the stack of the read until they first wait for something of the event loop; only
then a task is made of them. So before its first such wait a handler has no current task, and may
use neither ``asyncio.timeout`` nor ``TaskGroup``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import socket
import ssl
import stat
import time
from typing import TYPE_CHECKING, Any, Final, cast

from cluster.transport.address import join_address, split_address
from cluster.transport.api import Peer, PeerHealth, PeerUnavailable, Refusal
from cluster.transport.certificate import (
    CertificateInfo,
    describe,
    is_node_certificate,
    spki_pin,
)
from cluster.transport.config import FRAME_BYTES_MAX, LocalIdentity, TlsFiles, TransportSettings
from cluster.transport.connection import Channel, Connection
from cluster.transport.environment import Counters
from cluster.transport.frame import ENVELOPE_VERSION, HELLO, REFUSED, encode_frame
from cluster.transport.handshake import (
    NONCE_BYTES,
    HandshakeRefused,
    Hello,
    clean_reason,
    identity_objection,
    write_reason,
)
from cluster.transport.link import Link
from cluster.transport.refusal import Refusals, tls_sentence
from cluster.transport.runner import HandlerRun
from cluster.transport.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cluster.transport.faults import FaultPolicy
    from cluster.transport.stream import StreamEnd

_LOGGER: Final = logging.getLogger("cluster.transport")
_BACKLOG: Final = 512
# What the socket may hold before parts of streams wait in our own queue, where messages pass them.
_WRITE_BYTES_HIGH: Final = 64 * 1024
_UNSENT_BYTES_MAX: Final = 128 * 1024
_TLS_READ_BYTES: Final = 64 * 1024
_TLS_WRITE_BYTES: Final = 256 * 1024
_CLOSE_SECONDS: Final = 1.0
_CLOSED: Final = "this node's transport was closed"
_NO_TLS: Final = "what the peer says is not TLS (does it run with --insecure?)"
_TLS_ONLY: Final = "this node speaks TLS only: it needs certificates (see nodedb cert)"
_RESTARTED: Final = "the peer has restarted"
_PEM_END: Final = "-----END CERTIFICATE-----\n"


class CredentialsError(Exception):
    """Certificates or keys cannot be used; the message says which file and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Credentials:
    """What was read from the TLS files at one time."""

    client: ssl.SSLContext
    server: ssl.SSLContext
    der: bytes
    certificates: tuple[CertificateInfo, ...]


def _load_credentials(files: TlsFiles) -> _Credentials:
    """Read the files. Raises CredentialsError."""
    where = files.key
    try:
        mode = os.stat(files.key).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CredentialsError(f"{where} has mode {stat.S_IMODE(mode):04o}; it must be 0600")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.verify_mode = ssl.CERT_REQUIRED
        server.num_tickets = 0  # each connection proves itself anew
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            where = files.certificate
            context.load_cert_chain(files.certificate, files.key)
            where = files.authority
            context.load_verify_locations(files.authority)
        where = files.certificate
        with open(files.certificate, encoding="ascii") as file:
            first = file.read().partition(_PEM_END)[0]
        der = ssl.PEM_cert_to_DER_cert(first + _PEM_END)
        if not is_node_certificate(der):
            raise CredentialsError(f"{where} is not the certificate of a node")
        where = files.authority
        known = client.get_ca_certs(binary_form=True)
        authorities = [describe("authority", each) for each in known]
    except OSError as error:
        raise CredentialsError(f"{where}: {error.strerror or error}") from error
    except ValueError as error:
        raise CredentialsError(f"{where}: {error}") from error
    return _Credentials(client, server, der, (describe("node", der), *authorities))


class TcpTransport:
    """Implements ``api.Transport`` over TCP. Made first, started once, closed once.

    ``identity`` stays the owner's: it fills in what becomes known and calls ``reintroduce``.
    ``admit(peer)`` returns why a peer that has proved itself is refused all the same, or "".
    Raises ValueError for impossible settings, CredentialsError for unusable files.
    """

    def __init__(
        self,
        identity: LocalIdentity,
        settings: TransportSettings,
        *,
        admit: Callable[[Peer], str] = lambda _peer: "",
        faults: FaultPolicy | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if problems := settings.faults():
            raise ValueError("; ".join(problems))
        self.identity = identity
        self.settings = settings
        self.admit = admit
        self.faults = faults
        self.now = now
        self.counters = Counters()
        self.messages: dict[int, Callable[[Peer, bytes], None]] = {}
        self.calls: dict[int, Callable[[Peer, bytes], Awaitable[bytes]]] = {}
        self.streams: dict[int, Callable[[Peer, bytes, Any], Awaitable[None]]] = {}
        self.loop: Any = None  # the event loop, from start on
        self.connections: dict[_SocketConnection, None] = {}  # a dict, because it keeps the order
        self.accepted: dict[tuple[int, str, str], Connection] = {}
        self.credentials = None if settings.tls is None else _load_credentials(settings.tls)
        self._pins: dict[int, str] = {}
        self._links: dict[str, Link] = {}
        self._refusals = Refusals()
        self._lost_handlers: list[Callable[[str], None]] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._dial_count = 0
        self._is_closed = False

    # Its life.

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 takes a free one. Returns the port. Raises OSError."""
        assert self._server is None, "started twice"
        loop = self.loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _SocketConnection(self), host, port, backlog=_BACKLOG
        )
        bound = cast("int", self._server.sockets[0].getsockname()[1])
        if not self.identity.address:
            self.identity.address = join_address(host, bound)
        self._sweep_timer = loop.call_later(self.settings.ping_interval_seconds, self._sweep)
        if self.credentials is None:
            _LOGGER.warning("INSECURE: nodes speak without encryption on %s", self.identity.address)
        return bound

    async def close(self) -> None:
        """End everything: calls and streams fail, handlers that run in tasks are cancelled."""
        self._is_closed = True
        if self._server is not None:
            self._server.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in list(self.connections):
            connection.fail(_CLOSED)
        for link in self._links.values():
            session = link.put_away()
            if session is not None:
                session.lose(_CLOSED)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)

    def reload(self) -> list[CertificateInfo]:
        """Read certificates and keys again, for connections made from now on.

        Raises CredentialsError and goes on with the old ones. Returns what is now in use.
        """
        if self.settings.tls is not None:
            self.credentials = _load_credentials(self.settings.tls)
        return self.certificates()

    def reintroduce(self) -> None:
        """Let peers learn a changed identity: the next thing said goes over a new connection.

        What is under way ends on the old one.
        """
        for link in self._links.values():
            link.put_away()

    def set_pins(self, pins: Mapping[int, str]) -> None:
        """Demand, per node id, that the certificate has this SPKI pin; others need none."""
        self._pins = dict(pins)

    # What is known.

    def certificates(self) -> list[CertificateInfo]:
        """Return the certificates in use, with their expiry; none without TLS."""
        return [] if self.credentials is None else list(self.credentials.certificates)

    @property
    def spki_pin(self) -> str:
        """The pin of this node's own certificate, "" without TLS."""
        return "" if self.credentials is None else self.credentials.certificates[0].spki_pin

    def health(self) -> list[PeerHealth]:
        """Return what is known of the peers dialled, by address."""
        now = self.now()
        return [self._links[address].health(now) for address in sorted(self._links)]

    def refusals(self) -> list[Refusal]:
        """Return the newest refused handshakes, oldest first."""
        return self._refusals.newest()

    # api.Transport

    def on_message(self, kind: int, handler: Callable[[Peer, bytes], None]) -> None:
        """Set the handler of a kind; it must not block and should not raise."""
        self.messages[kind] = handler

    def on_call(self, method: int, handler: Callable[[Peer, bytes], Awaitable[bytes]]) -> None:
        """Set the handler of a method; see the head of this module for what it may await."""
        self.calls[method] = handler

    def on_stream(
        self, method: int, handler: Callable[[Peer, bytes, Any], Awaitable[None]]
    ) -> None:
        """Set the handler of streams; the same holds."""
        self.streams[method] = handler

    def on_peer_lost(self, handler: Callable[[str], None]) -> None:
        """Be told the address of a peer whose connection, in either direction, was lost."""
        self._lost_handlers.append(handler)

    def send(self, address: str, kind: int, payload: bytes) -> bool:
        """Send one way. False: not accepted."""
        link = self._links.get(address) or self._link(address)
        session = link.session
        if session is None:
            _check_length(payload)
            # What cannot leave soon is stale when it could: it is dropped, and its owner repeats.
            if link.wait_seconds(self.now()) or not link.breaker.may_try(self.now()):
                link.dropped_count += 1
                self.counters.messages_dropped += 1
                return False
            session = self._dial(link)
        elif len(payload) > FRAME_BYTES_MAX:
            _check_length(payload)
        return session.send_message(kind, payload)

    async def call(
        self, address: str, method: int, payload: bytes, timeout_seconds: float
    ) -> bytes:
        """Ask and wait for the answer."""
        _check_length(payload)
        return await self._session(address).call(method, payload, timeout_seconds)

    async def open_stream(self, address: str, method: int, payload: bytes) -> StreamEnd:
        """Open a stream once there is a connection."""
        _check_length(payload)
        return await self._session(address).open_stream(method, payload)

    # session.Environment

    def later(self, seconds: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back after a time."""
        return cast("asyncio.TimerHandle", self.loop.call_later(seconds, callback))

    def run(
        self,
        coroutine: Awaitable[Any],
        on_finish: Callable[[Any, BaseException | None], None],
        /,
    ) -> None:
        """Drive a handler: here while it can go on, over waiters, else in a task."""
        HandlerRun(coroutine, on_finish, loop=self.loop, spawn=self.spawn).step()

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Make a task that ``close`` cancels."""
        task: asyncio.Task[Any] = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # connection.Owner

    def hello(self, target: str, serial: int) -> Hello:
        """Return the first words of a connection."""
        own = self.identity
        return Hello(
            node_id=own.node_id,
            cluster_id=own.cluster_id,
            address=own.address,
            incarnation=own.incarnation,
            version_min=self.settings.wire_version_min,
            version_max=self.settings.wire_version_max,
            nonce=secrets.token_bytes(NONCE_BYTES),
            target=target,
            serial=serial,
        )

    def check(self, peer: Peer, target: str) -> str:
        """Return why a peer is refused before it proved itself, or ""."""
        objection = identity_objection(self.identity, peer, target)
        pin = self._pins.get(peer.node_id, "") if peer.node_id else ""
        if not objection and pin and self.credentials is not None and pin != peer.spki_pin:
            objection = (
                f"the certificate of node {peer.node_id} at {peer.address} has another key "
                f"than the one pinned for it"
            )
        return objection

    def is_cut(self, address: str) -> bool:
        """Tell whether an injected fault keeps connections with a peer from being made."""
        faults = self.faults
        return faults is not None and any(
            faults.of(address, direction).is_cut for direction in ("in", "out")
        )

    def note_refusal(self, address: str, node_id: int, by: str, reason: str) -> None:
        """Remember a refused handshake."""
        self.counters.handshakes_refused += 1
        self._refusals.note(self.now(), address, node_id, by, reason)
        link = self._links.get(address)
        if link is not None and link.session is None:
            link.last_error = reason  # of one whom we refused when it dialled us

    def on_accepted(self, connection: Connection, peer: Peer, target: str) -> Session:
        """Take an accepted connection whose peer has proved itself; returns its session."""
        session = Session(self, peer.address or connection.socket_address, is_dialler=False)
        key = (peer.node_id, peer.address, target)
        other = self.accepted.get(key)
        if other is None or other.peer is None:
            self.accepted[key] = connection
        elif other.peer.incarnation != peer.incarnation:
            other.fail(_RESTARTED)
            self.accepted[key] = connection
        elif connection.peer_serial >= other.peer_serial:
            self.accepted[key] = connection
            other.supersede()
        else:
            # Begun before the other one and done after it: the peer has put it away meanwhile.
            session.is_superseded = True
        for link in list(self._links.values()):
            if link.address != peer.address and not (peer.node_id and link.node_id == peer.node_id):
                continue
            # The peer lives: do not wait to dial it. If it lives anew, what we have is dead.
            link.on_evidence(self.now())
            known = None if link.session is None else link.session.peer
            if known is not None and known.incarnation != peer.incarnation:
                self._lose_link(link, _RESTARTED)
        return session

    def on_end(self, connection: Any, reason: str) -> None:
        """Take the end of a connection, established or not."""
        self.connections.pop(connection, None)
        session = connection.session
        if session is None:
            return
        self.counters.connections_lost += 1
        reason = clean_reason(reason)
        is_news = not session.is_superseded
        link = connection.link
        if link is None:
            session.lose(reason)
            key = next((key for key, each in self.accepted.items() if each is connection), None)
            if key is not None:
                del self.accepted[key]
            # Who has another connection to us has only put this one away.
            others = (each.peer for each in self.accepted.values())
            is_news = is_news and all(
                peer is None or peer.address != session.address for peer in others
            )
        elif link.session is session:
            link.on_lost(self.now(), reason)
        else:
            session.lose(reason)
            is_news = False
        if is_news and not self._is_closed:
            _LOGGER.info("connection with %s ended: %s", session.address, reason)
            for handler in self._lost_handlers:
                handler(session.address)

    def is_crowded(self) -> bool:
        """Tell whether too many accepted connections have proved nothing yet."""
        unproved = sum(each.session is None for each in self.connections)
        return unproved > self.settings.handshakes_max

    # The rest.

    def _link(self, address: str) -> Link:
        link = self._links[address] = Link(address, self.settings)
        return link

    def _session(self, address: str) -> Session:
        """Return the connection, made or being made. Raises PeerUnavailable."""
        link = self._links.get(address) or self._link(address)
        if link.session is not None:
            return link.session
        if self._is_closed:
            raise PeerUnavailable(f"{address}: {_CLOSED}")
        if not link.breaker.may_try(self.now()):
            raise PeerUnavailable(f"{address}: circuit breaker is open: {link.last_error}")
        return self._dial(link)

    def _dial(self, link: Link) -> Session:
        assert self.loop is not None, "not started"
        session = Session(
            self, link.address, is_dialler=True, on_silent_call=lambda: self._on_silent_call(link)
        )
        self._dial_count += 1
        session.serial = self._dial_count
        link.session = session
        if self._is_closed:
            link.put_away()
            session.lose(_CLOSED)
        else:
            self.spawn(self._connect(link, session, link.wait_seconds(self.now())))
        return session

    async def _connect(self, link: Link, session: Session, wait_seconds: float) -> None:
        """Make a session's connection, or let the session fail."""
        if wait_seconds:
            await asyncio.sleep(wait_seconds)
        outcome: asyncio.Future[Exception | None] = self.loop.create_future()

        def decide(error: Exception | None) -> None:
            if not outcome.done():
                outcome.set_result(error)

        connection = _SocketConnection(self, link, session, decide)
        timeout = self.settings.rpc_timeout_seconds
        error: Exception | None
        try:
            async with asyncio.timeout(timeout):
                await self._open(connection, link.address)
                error = await outcome
        except TimeoutError:
            what = "handshake" if connection.is_heard else "answer"
            error = ConnectionError(f"no {what} within {timeout:g} s")
        except (OSError, ValueError) as caught:
            error = caught
        if error is None:
            return
        reason = _dial_sentence(error)
        connection.abort(reason)
        if link.session is session:
            link.on_failed(self.now(), reason)
        else:
            session.lose(reason)

    async def _open(self, connection: _SocketConnection, address: str) -> None:
        if self.is_cut(address):
            await self.loop.create_future()  # a partition answers nothing, not even a refusal
        host, port = split_address(address)
        await self.loop.create_connection(lambda: connection, host, port)

    def _on_silent_call(self, link: Link) -> None:
        if link.breaker.on_failure(self.now()):
            self._lose_link(link, f"{link.breaker.failures} failures in a row, nothing heard")

    def _lose_link(self, link: Link, reason: str) -> None:
        for connection in list(self.connections):
            if connection.link is link and connection.session is link.session:
                connection.fail(reason)

    def _sweep(self) -> None:
        """Ping, and end what is silent. One timer for all connections."""
        self._sweep_timer = self.loop.call_later(self.settings.ping_interval_seconds, self._sweep)
        for connection in list(self.connections):
            connection.on_interval()


def _check_length(payload: bytes) -> None:
    if len(payload) > FRAME_BYTES_MAX:
        raise ValueError(f"a message has at most {FRAME_BYTES_MAX} bytes, not {len(payload)}")


def _dial_sentence(error: Exception) -> str:
    """Say why a connection could not be made."""
    if isinstance(error, HandshakeRefused):
        return f"refused{' by the peer' if error.by == 'peer' else ''}: {error.reason}"
    if isinstance(error, ssl.SSLError):
        return _tls_sentence(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return f"the host's name cannot be resolved: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _tls_sentence(error: ssl.SSLError) -> str:
    verify_message = getattr(error, "verify_message", "")
    return tls_sentence(error.reason or "", verify_message)


class _TlsSocket:
    """TLS over memory: what the socket brings goes in, what it shall send comes out.

    Done by hand because both event loops keep the reasons of failed handshakes to themselves on
    the accepting side, and differ in when they begin to read.
    """

    def __init__(self, below: asyncio.Transport, context: ssl.SSLContext, target: str) -> None:
        self.is_established = False
        self.buffer = memoryview(bytearray(_TLS_READ_BYTES))
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=not target,
            server_hostname=split_address(target)[0] if target else None,
        )

    def take(self, count: int) -> None:
        """Take what was read into ``buffer``."""
        self._incoming.write(self.buffer[:count])

    def establish(self) -> bool:
        """Go on with the TLS handshake; True once it is done. Raises SSLError."""
        try:
            self._tls.do_handshake()
            self.is_established = True
        except ssl.SSLWantReadError:
            pass
        finally:
            self._flush()  # also the alert that tells the peer what is wrong
        return self.is_established

    def read_into(self, buffer: memoryview) -> int:
        """Decrypt; returns the count of bytes, 0 when more is needed. Raises SSLError."""
        if self.is_established and not (self._incoming.pending or self._tls.pending()):
            return 0  # cheaper than to be told so by an exception
        try:
            return cast("int", self._tls.read(len(buffer), buffer))  # the stub says bytes
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLError:
            self._flush()
            raise

    def begins_with(self, frame_type: int) -> bool:
        """Tell whether what came instead of TLS is such a frame of the handshake, in plain."""
        return not self.is_established and self.buffer[:2] == bytes((ENVELOPE_VERSION, frame_type))

    def write_plain(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._below.write(data)

    def peer_der(self) -> bytes:
        """Return the peer's certificate."""
        return self._tls.getpeercert(binary_form=True) or b""

    # connection.Socket

    def write(self, data: bytes) -> None:
        """Encrypt and send, in pieces: OpenSSL is slow to grow its memory for much at once."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view[:_TLS_WRITE_BYTES]) :]
            self._flush()

    def close(self) -> None:
        """Say goodbye in TLS, and close once what was written is sent."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._below.abort()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._below.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the system has not taken yet."""
        return self._below.get_write_buffer_size()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())


class _SocketConnection(Connection, asyncio.BufferedProtocol):
    """A connection and its socket."""

    _owner: TcpTransport

    def __init__(
        self,
        owner: TcpTransport,
        link: Link | None = None,
        session: Session | None = None,
        on_outcome: Callable[[Exception | None], None] = lambda _error: None,
    ) -> None:
        super().__init__(owner, link, session, on_outcome)
        self._credentials = owner.credentials
        self._tls: _TlsSocket | None = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        owner = self._owner
        stream = cast("asyncio.Transport", transport)
        self.socket = stream
        owner.connections[self] = None
        peer = stream.get_extra_info("peername")
        if peer:
            self.socket_address = peer[0]  # the port says nothing, and differs each time
        _set_up(stream)
        if self.link is None:
            self.limit_handshake()
            if owner.is_crowded():
                self.abort("too many handshakes are under way")
                return
        credentials = self._credentials
        if credentials is None:
            self.begin_handshake(Channel())
        elif self.link is None:
            self.socket = self._tls = _TlsSocket(stream, credentials.server, "")
        else:
            self.socket = self._tls = _TlsSocket(stream, credentials.client, self.link.address)
            self._read_tls()

    def get_buffer(self, _size_hint: int) -> memoryview:
        return self._decoder.get_buffer() if self._tls is None else self._tls.buffer

    def buffer_updated(self, count: int) -> None:
        if self._tls is None:
            self.read(count)
        elif not self.is_over:
            self._tls.take(count)
            self._read_tls()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        reason = "the peer closed the connection"
        if error is not None:
            reason = f"the connection was lost: {_dial_sentence(error)}"
        self.end(reason, error)

    def pause_writing(self) -> None:
        if self.session is not None:
            self.session.pause()

    def resume_writing(self) -> None:
        if self.session is not None and not self.is_over:
            self.session.resume()

    # TLS

    def _read_tls(self) -> None:
        tls = self._tls
        assert tls is not None
        try:
            if not tls.is_established:
                if not tls.establish():
                    return
                self.begin_handshake(self._channel(tls))
            while not self.is_over and (count := tls.read_into(self._decoder.get_buffer())):
                self.read(count)
        except ssl.SSLZeroReturnError:
            self.fail("the peer closed the connection")
        except ssl.SSLError as error:
            self._fail_tls(tls, error)

    def _fail_tls(self, tls: _TlsSocket, error: ssl.SSLError) -> None:
        reason = _dial_sentence(error)
        if tls.begins_with(REFUSED):
            reason = _NO_TLS
        if tls.begins_with(HELLO):
            # In its own words: a node that was started with --insecure reads no TLS alert.
            tls.write_plain(encode_frame(ENVELOPE_VERSION, REFUSED, 1, write_reason(_TLS_ONLY)))
        if self.session is None:
            address = self.socket_address if self.link is None else self.link.address
            self._owner.note_refusal(address, 0, "us", reason)
        self.end(reason, ConnectionError(reason))
        self.fail(reason)

    def _channel(self, tls: _TlsSocket) -> Channel:
        """Return what both sides know of the TLS session: whose certificates it was made with."""
        assert self._credentials is not None
        ours, theirs = self._credentials.der, tls.peer_der()
        binding = theirs + ours if self.link is None else ours + theirs  # dialler, accepter
        if not is_node_certificate(theirs):
            return Channel(objection="the certificate shown is not that of a node")
        return Channel(binding, spki_pin(theirs))


def _set_up(stream: asyncio.Transport) -> None:
    stream.set_write_buffer_limits(high=_WRITE_BYTES_HIGH)
    raw = stream.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # The kernel's own buffer would hold megabytes of a stream before a heartbeat.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
