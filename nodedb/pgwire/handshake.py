"""From the first byte to a session: TLS request, startup message, authentication.

Order of checks, as a client sees it: TLS, startup message, room for one more, TLS demanded,
password (SCRAM, or none from an insecure network), may the role log in, does the database exist.
So nothing about roles and databases leaks to those without the password.

Source: PostgreSQL docs, "Message Flow" (Start-up, SASL Authentication, SSL Session Encryption).
"""

import dataclasses
from collections.abc import Callable

from nodedb.pgwire import backend
from nodedb.pgwire import message as m
from nodedb.pgwire.auth import ScramServer
from nodedb.pgwire.connection import Connection
from nodedb.pgwire.errors import ConnectionLost, FatalError
from nodedb.pgwire.startup import (
    CancelRequest,
    GssEncRequest,
    SslRequest,
    StartupMessage,
)
from nodedb.session.api import Credential, FrontEndSession, SessionFactory
from nodedb.waiter import Waiter
from sql.errors import InvalidAuthorizationSpecification, ProtocolViolation, SqlError

# Before the password is checked nobody may make us buffer much.
_AUTHENTICATION_BYTES_MAX = 10_000


@dataclasses.dataclass(slots=True, kw_only=True)
class Door:
    """What the handshake of one connection needs besides the connection.

    ``start_tls`` is None where TLS is off; otherwise it answers ``S`` and completes when the
    handshake is done. ``admit`` raises TooManyConnections (53300) or CannotConnectNow (57P03).
    ``nonce`` is fresh printable ASCII without comma. ``on_startup`` is called when the startup
    message is there, ``on_authenticated`` when the session is open.
    """

    factory: SessionFactory
    peer: str
    is_trusted: bool
    nonce: str
    mock_secret: bytes
    channel_binding: bytes
    start_tls: Callable[[], Waiter[None]] | None
    admit: Callable[[], None]
    on_startup: Callable[[], None]
    on_authenticated: Callable[[], None]
    is_tls: bool = False

    async def open(self, connection: Connection) -> FrontEndSession:
        """Lead the client in. Raises FatalError, or ConnectionLost where nothing is to be said."""
        startup = await self._startup_message(connection)
        self.on_startup()
        connection.start_messages(_AUTHENTICATION_BYTES_MAX)
        try:
            self.admit()
            if startup.must_negotiate:
                backend.negotiate_protocol_version(connection.out, startup.unrecognized)
            await self._authenticate(connection, startup)
            session = self.factory.open_session(
                user=startup.user,
                database=startup.database,
                parameters=startup.parameters,
                peer=self.peer,
                tls=self.is_tls,
            )
        except SqlError as error:
            raise FatalError(error) from error
        self.on_authenticated()
        connection.decoder.message_bytes_max = connection.settings.message_bytes_max
        for name, value in session.reported_parameters():
            backend.parameter_status(connection.out, name, value)
        backend.backend_key_data(connection.out, session.process_id, session.secret_key)
        return session

    async def _startup_message(self, connection: Connection) -> StartupMessage:
        decoder = connection.startup_decoder
        while True:
            request = decoder.next_request()
            match request:
                case None:
                    await connection.wait_input()
                case StartupMessage():
                    return request
                case SslRequest() if self.start_tls is not None:
                    if decoder.buffered_bytes:
                        raise _unencrypted_data()
                    connection.flush()
                    await self.start_tls()
                    self.is_tls = True
                case SslRequest() | GssEncRequest():
                    connection.out += b"N"
                case CancelRequest(process_id, secret_key):
                    self.factory.cancel(process_id, secret_key)
                    raise ConnectionLost("cancel request served")

    async def _authenticate(self, connection: Connection, startup: StartupMessage) -> None:
        credential = self.factory.credential(startup.user)
        if self.is_trusted:
            if credential is None:
                raise InvalidAuthorizationSpecification(f'role "{startup.user}" does not exist')
        else:
            if connection.settings.require_tls and not self.is_tls:
                raise InvalidAuthorizationSpecification(
                    "connections without TLS are not accepted",
                    hint="Connect with sslmode=require or stronger.",
                )
            await self._check_password(connection, startup.user, credential)
        if credential is None or not credential.may_login:
            raise InvalidAuthorizationSpecification(
                f'role "{startup.user}" is not permitted to log in'
            )
        connection.out += backend.AUTHENTICATION_OK

    async def _check_password(
        self, connection: Connection, role: str, credential: Credential | None
    ) -> None:
        scram = ScramServer(
            role,
            credential.scram_secret if credential is not None else "",
            nonce=self.nonce,
            mock_secret=self.mock_secret,
            channel_binding=self.channel_binding if self.is_tls else b"",
        )
        backend.authentication_sasl(connection.out, scram.mechanisms())
        challenge = scram.start(await self._sasl_body(connection))
        backend.authentication_sasl_continue(connection.out, challenge)
        proof = scram.finish(await self._sasl_body(connection))
        backend.authentication_sasl_final(connection.out, proof)

    async def _sasl_body(self, connection: Connection) -> bytes:
        message = await connection.next_message()
        if isinstance(message, m.Terminate):
            raise ConnectionLost("terminated")
        if not isinstance(message, m.PasswordMessage):
            raise ProtocolViolation(
                f"expected SASL response, got message type {connection.decoder.last_tag}"
            )
        return message.body


def _unencrypted_data() -> FatalError:
    # Bytes sent before TLS may be an attacker's; processed later they would count as encrypted.
    return FatalError(
        ProtocolViolation(
            "received unencrypted data after SSL request",
            detail="This could be either a client-software bug or evidence of an attempted"
            " man-in-the-middle attack.",
        )
    )
