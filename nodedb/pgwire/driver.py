"""The asyncio side of the front end: listening socket, TLS upgrade, timers, drain.

It decides nothing about the protocol; see ``connection`` and ``handshake``. Bytes of one
``data_received`` are processed at once on the loop's stack, and their answers leave in one write.

Source: PostgreSQL docs, "Message Flow" (Termination, SSL Session Encryption).
"""

import asyncio
import base64
import contextlib
import ipaddress
import logging
import secrets
import socket
import ssl
from typing import Final, cast

from nodedb.pgwire.auth import end_point_binding
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.connection import Connection
from nodedb.pgwire.errors import ConnectionLost, FatalError
from nodedb.pgwire.handshake import Door
from nodedb.session.api import SessionFactory
from nodedb.waiter import Waiter
from sql.errors import (
    AdminShutdown,
    CannotConnectNow,
    IdleSessionTimeout,
    QueryCanceled,
    SqlError,
    TooManyConnections,
)

_LOGGER: Final = logging.getLogger("nodedb.pgwire")
_NONCE_BYTES: Final = 18
_MOCK_SECRET_BYTES: Final = 32
_BACKLOG: Final = 512
# Pieces of output_bytes_flush that the socket may hold before we wait for it.
_WRITE_BUFFERS: Final = 4
_IDLE_SWEEPS_PER_TIMEOUT: Final = 4


class PgWireServer:
    """Accepts clients and leads them to sessions of the factory.

    A server is started once. ``drain`` lets open transactions end, ``close`` does not.
    """

    def __init__(self, factory: SessionFactory, settings: PgWireSettings) -> None:
        self.factory = factory
        self.settings = settings
        self.mock_secret = settings.mock_secret or secrets.token_bytes(_MOCK_SECRET_BYTES)
        self.ssl_context: ssl.SSLContext | None = None
        self.channel_binding = b""
        self.protocols: dict[_ClientProtocol, None] = {}  # a dict, because it keeps the order
        self._found: dict[int, Connection] = {}
        self._networks = [ipaddress.ip_network(text) for text in settings.insecure_networks]
        self._server: asyncio.Server | None = None
        self._port = 0
        self._admitted = 0
        self._is_draining = False
        self._all_gone: asyncio.Event = asyncio.Event()
        self._idle_sweep: asyncio.TimerHandle | None = None

    async def start(
        self,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None = None,
        certificate_der: bytes = b"",
    ) -> None:
        """Listen; port 0 takes a free one. Our ``certificate_der`` enables SCRAM-SHA-256-PLUS."""
        assert self._server is None, "started twice"
        self.ssl_context = ssl_context
        if ssl_context is not None and certificate_der:
            self.channel_binding = end_point_binding(certificate_der)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _ClientProtocol(self, loop), host, port, backlog=_BACKLOG
        )
        self._port = cast("int", self._server.sockets[0].getsockname()[1])
        if self.settings.idle_timeout_seconds > 0:
            self._sweep_idle(loop)

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._port, "not started"
        return self._port

    @property
    def connection_count(self) -> int:
        """Connections past their startup message."""
        return self._admitted

    @property
    def open_count(self) -> int:
        """Connections that are not closed yet, whether introduced or not."""
        return len(self.protocols)

    def admit(self) -> None:
        """Count one more connection in. Raises TooManyConnections or CannotConnectNow."""
        if self._is_draining:
            raise CannotConnectNow("the database system is shutting down")
        if self._admitted >= self.settings.max_connections:
            raise TooManyConnections("sorry, too many clients already")
        self._admitted += 1

    def forget(self, protocol: "_ClientProtocol", *, was_admitted: bool) -> None:
        """Take the end of a connection."""
        self._admitted -= was_admitted
        self.protocols.pop(protocol, None)
        session = protocol.connection.session
        if session is not None:
            self._found.pop(session.process_id, None)
        if not self.protocols:
            self._all_gone.set()

    def is_insecure_peer(self, address: str) -> bool:
        """Tell whether a peer's address lies in one of the insecure networks."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)

    def deliver_asynchronous(self, process_id: int) -> None:
        """Send what a session has pending for its idle client: notifications, notices, settings."""
        connection = self._find(process_id)
        if connection is not None:
            connection.deliver_asynchronous()

    def terminate(self, process_id: int, error: SqlError) -> bool:
        """End a session with a FATAL error, amid its statement if need be; False: no such one."""
        connection = self._find(process_id)
        if connection is None:
            return False
        connection.terminate(FatalError(error))
        return True

    def client_waits(self) -> dict[int, str]:
        """Return which sessions wait for their clients: ClientRead or ClientWrite by session."""
        waits: dict[int, str] = {}
        for protocol in self.protocols:
            connection = protocol.connection
            event = connection.client_wait
            if event and connection.session is not None:
                waits[connection.session.process_id] = event
        return waits

    async def drain(self) -> None:
        """Stop listening; end each connection with 57P01 once it is outside a transaction block.

        Those that stay longer than ``drain_timeout_seconds`` are ended amid their statement.
        """
        self.stop_listening()
        self.end_sessions_when_idle()
        if not await self._wait_all_gone(self.settings.drain_timeout_seconds):
            self.end_sessions_now()

    def stop_listening(self) -> None:
        """Take no new clients; who has connected but not introduced itself yet gets 57P03."""
        self._stop_listening()
        self._is_draining = True

    def end_sessions_when_idle(self) -> None:
        """End each connection with 57P01 once it is outside a transaction block."""
        for protocol in list(self.protocols):
            protocol.connection.terminate_when_idle(_shutdown())

    def end_sessions_now(self) -> None:
        """End every connection with 57P01, amid its statement if need be."""
        for protocol in list(self.protocols):
            protocol.connection.terminate(_shutdown())

    async def close(self) -> None:
        """End every connection now. Idempotent."""
        self.stop_listening()
        self.end_sessions_now()
        for protocol in list(self.protocols):
            protocol.abort()
        await self._wait_all_gone(1.0)

    async def _wait_all_gone(self, timeout_seconds: float) -> bool:
        if not self.protocols:
            return True
        self._all_gone.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), timeout_seconds)
        return not self.protocols

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._idle_sweep is not None:
            self._idle_sweep.cancel()
            self._idle_sweep = None

    def _find(self, process_id: int) -> Connection | None:
        # Asked for each listener of each notification: found once, it is remembered.
        connection = self._found.get(process_id)
        if connection is not None:
            return connection
        for protocol in self.protocols:
            connection = protocol.connection
            if connection.session is not None and connection.session.process_id == process_id:
                self._found[process_id] = connection
                return connection
        return None

    def _sweep_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        """End sessions idle for too long. A sweep costs the hot path nothing but a counter."""
        timeout = self.settings.idle_timeout_seconds
        now = loop.time()
        for protocol in list(self.protocols):
            protocol.end_if_idle(now, timeout)
        self._idle_sweep = loop.call_later(
            timeout / _IDLE_SWEEPS_PER_TIMEOUT, self._sweep_idle, loop
        )


def _shutdown() -> FatalError:
    return FatalError(AdminShutdown("terminating connection due to administrator command"))


class _ClientProtocol(asyncio.Protocol):
    """The socket of one connection: its ConnectionIo and its timers."""

    def __init__(self, server: PgWireServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._was_admitted = False
        self._is_startup_seen = False
        self._authentication_timer: asyncio.TimerHandle | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._idle_mark = (-1, 0.0)
        self._is_ended = False
        self._is_lost = False
        self.connection: Connection

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        peer = transport.get_extra_info("peername") or ("", 0)
        door = Door(
            factory=server.factory,
            peer=f"{peer[0]}:{peer[1]}",
            is_trusted=server.is_insecure_peer(peer[0]),
            nonce=base64.b64encode(secrets.token_bytes(_NONCE_BYTES)).decode(),
            mock_secret=server.mock_secret,
            channel_binding=server.channel_binding,
            start_tls=self.start_tls if server.ssl_context is not None else None,
            admit=self._admit,
            on_startup=self._on_startup,
            on_authenticated=self._on_authenticated,
        )
        self.connection = Connection(self, server.settings, door.open, self._on_end)
        self._set_up_socket()
        server.protocols[self] = None
        timeout = server.settings.authentication_timeout_seconds
        if timeout > 0:
            self._authentication_timer = self._loop.call_later(timeout, self._expire)
        self.connection.start()

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data)

    def eof_received(self) -> bool:
        self.connection.eof()
        # True keeps the sending half open; the connection closes it after its last answer. TLS
        # has no half: there the answer counts as no.
        return self._upgrade is None

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        self.connection.lost()
        self._forget_if_over()

    def pause_writing(self) -> None:
        self.connection.write_paused()

    def resume_writing(self) -> None:
        self.connection.write_resumed()

    # ConnectionIo

    def write(self, data: bytes) -> None:
        if not self._is_lost and self._transport is not None:
            self._transport.write(data)

    def pause_input(self) -> None:
        if not self._is_lost and self._transport is not None:
            self._transport.pause_reading()

    def resume_input(self) -> None:
        if not self._is_lost and self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # The rest.

    def _set_up_socket(self) -> None:
        assert self._transport is not None
        self._transport.set_write_buffer_limits(
            high=_WRITE_BUFFERS * self._server.settings.output_bytes_flush
        )
        connection_socket = self._transport.get_extra_info("socket")
        if connection_socket is not None:
            # So that a client whose machine vanished does not hold its locks for ever.
            connection_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def abort(self) -> None:
        """Close without sending what is buffered."""
        if self._transport is not None:
            self._transport.abort()

    def end_if_idle(self, now: float, timeout: float) -> None:
        """End the session if it has been idle since before ``now - timeout``."""
        steps, since = self._idle_mark
        if not self.connection.is_idle or steps != self.connection.steps:
            self._idle_mark = (self.connection.steps, now)
        elif now - since >= timeout:
            error = IdleSessionTimeout("terminating connection due to idle-session timeout")
            self.connection.terminate(FatalError(error))

    def start_tls(self) -> Waiter[None]:
        """Answer S and become a TLS server; completes when the TLS handshake is done."""
        assert self._transport is not None
        # Nothing may be read as plain text from here on; start_tls resumes reading.
        self._transport.pause_reading()
        self._transport.write(b"S")
        waiter: Waiter[None] = Waiter()
        self._upgrade = self._loop.create_task(self._start_tls(waiter))
        return waiter

    async def _start_tls(self, waiter: Waiter[None]) -> None:
        assert self._transport is not None
        assert self._server.ssl_context is not None
        try:
            transport = await self._loop.start_tls(
                self._transport, self, self._server.ssl_context, server_side=True
            )
        except (OSError, ssl.SSLError) as error:
            _LOGGER.info("could not accept TLS connection: %s", error)
            waiter.set_error(ConnectionLost("TLS handshake failed"))
            return
        if transport is None:
            waiter.set_error(ConnectionLost("closed during TLS handshake"))
            return
        self._transport = transport
        self._set_up_socket()
        waiter.set_result(None)

    def _admit(self) -> None:
        self._server.admit()
        self._was_admitted = True

    def _on_startup(self) -> None:
        self._is_startup_seen = True

    def _on_authenticated(self) -> None:
        if self._authentication_timer is not None:
            self._authentication_timer.cancel()
            self._authentication_timer = None

    def _expire(self) -> None:
        self._authentication_timer = None
        if self._is_startup_seen:
            error = QueryCanceled("canceling authentication due to timeout")
            self.connection.terminate(FatalError(error))
        else:
            # Who has not said a word of the protocol is not spoken to in it.
            self.connection.terminate(ConnectionLost("no startup message in time"))

    def _on_end(self) -> None:
        self._on_authenticated()
        self._is_ended = True
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        # Both must be over: the statement of a lost client still runs, and the last words of an
        # ended session are still being sent.
        if self._is_ended and self._is_lost:
            self._server.forget(self, was_admitted=self._was_admitted)
            self._was_admitted = False
