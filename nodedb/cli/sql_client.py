"""A client for the shell and the operator's commands, over pg8000's protocol core.

Statements go one at a time by the simple query protocol, so every value comes as the server's own
text. pg8000 is imported when a connection is made; ``nodedb start`` never does.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import socket
import ssl
import struct
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nodedb.cli.address import BadUrl, SqlTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CANCEL_CODE: Final = 80877102
_TLS_CODE: Final = 80877103
_CONNECT_SECONDS: Final = 10.0


class SqlFailed(Exception):
    """The server answered with an error. ``fields``: its fields by their one-letter code."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M", "error"))
        self.fields = fields

    @property
    def sqlstate(self) -> str:
        """The five characters."""
        return self.fields.get("C", "")


class ConnectionFailed(Exception):
    """No server could be reached, or it went away; a sentence for the operator."""


class Column(NamedTuple):
    """Name and type of a result's column."""

    name: str
    type_oid: int


class ResultSet(NamedTuple):
    """What a statement answered; ``columns`` is None for one without rows."""

    columns: list[Column] | None
    rows: list[list[str | None]]
    tag: str

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns or []]

    def dicts(self) -> list[dict[str, str | None]]:
        """Return the rows by column name."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


class SqlClient:
    """One connection. ``cancel`` may be called from a signal handler while ``run`` waits."""

    def __init__(self, target: SqlTarget, *, may_ask: bool = False) -> None:
        """Connect to the first host that answers. Raises ConnectionFailed, SqlFailed, BadUrl."""
        self.target = target
        failures = []
        for host, port in target.hosts:
            try:
                self._connection = _connect(target, host, port, may_ask=may_ask)
            except _errors().InterfaceError as error:
                failures.append(f"{host}:{port}: {_reason(error)}")
            except OSError as error:
                failures.append(f"{host}:{port}: {error.strerror or error}")
            else:
                self.host, self.port = host, port
                return
        raise ConnectionFailed("could not connect: " + "; ".join(failures))

    def run(self, statement: str) -> ResultSet:
        """Run one statement. Raises SqlFailed, ConnectionFailed."""
        return self._run(lambda: self._connection.execute_simple(statement))

    def copy_in(self, statement: str, lines: Iterable[str]) -> ResultSet:
        """Run ``COPY ... FROM STDIN`` with the lines, each with its line break."""
        return self._run(lambda: self._connection.execute_unnamed(statement, stream=lines))

    def copy_out(self, statement: str, write: Callable[[str], object]) -> ResultSet:
        """Run ``COPY ... TO STDOUT``."""
        stream = _Output(write)
        return self._run(lambda: self._connection.execute_unnamed(statement, stream=stream))

    def _run(self, execute: Callable[[], Any]) -> ResultSet:
        errors = _errors()
        try:
            context = execute()
        except errors.DatabaseError as error:
            raise SqlFailed(dict(error.args[0])) from None
        except (errors.InterfaceError, OSError, struct.error) as error:
            message = f"the connection to {self.host}:{self.port} was lost: {_reason(error)}"
            raise ConnectionFailed(message) from error
        columns = context.columns
        found = columns and [Column(field["name"], field["type_oid"]) for field in columns]
        return ResultSet(found if columns is not None else None, context.rows or [], context.tag)

    def take_notices(self) -> list[dict[str, str]]:
        """Return the notices that came since the last call."""
        notices = self._connection.notices
        taken = [
            {code.decode(): text.decode(errors="replace") for code, text in notice.items() if code}
            for notice in notices
        ]
        notices.clear()
        return taken

    def take_notifications(self) -> list[tuple[int, str, str]]:
        """Return (process id, channel, payload) of the notifications since the last call."""
        notifications = self._connection.notifications
        taken = list(notifications)
        notifications.clear()
        return taken

    @property
    def block_status(self) -> str:
        """``I`` outside a transaction block, ``T`` in one, ``E`` in a failed one."""
        return bytes(self._connection.block_status).decode()

    @property
    def parameters(self) -> dict[str, str]:
        """What the server reports of itself: server_version and others."""
        return dict(self._connection.parameter_statuses)

    def cancel(self) -> None:
        """Ask the server to end the running statement; whether it does shows in its answer."""
        with contextlib.suppress(OSError):
            _send_cancel(self._connection, self.target, self.host, self.port)

    def close(self) -> None:
        """Close the connection; harmless if it is gone."""
        with contextlib.suppress(_errors().InterfaceError, OSError):
            self._connection.close()


def _errors() -> Any:
    import pg8000.exceptions  # noqa: PLC0415  only when a command talks to a server

    return pg8000.exceptions


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__


class _Output(io.TextIOBase):
    """A text stream that writes through a function."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def write(self, text: str, /) -> int:
        self._write(text)
        return len(text)


def _tls_context(target: SqlTarget) -> ssl.SSLContext | bool | None:
    """Return pg8000's ``ssl_context``: False never, None if offered, else as the mode says."""
    mode = target.options.get("sslmode", "prefer")
    if mode == "disable":
        return False
    wants_more = any(name in target.options for name in ("sslrootcert", "sslcert"))
    if mode == "prefer" and not wants_more:
        return None
    context = ssl.create_default_context(cafile=target.options.get("sslrootcert"))
    if mode in {"prefer", "require"} and "sslrootcert" not in target.options:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif mode != "verify-full":
        context.check_hostname = False
    if "sslcert" in target.options:
        context.load_cert_chain(target.options["sslcert"], target.options.get("sslkey"))
    return context


def _connect(target: SqlTarget, host: str, port: int, *, may_ask: bool) -> Any:
    from pg8000.core import CoreConnection  # noqa: PLC0415  only when a command talks to a server

    class Connection(CoreConnection):  # type: ignore[misc]  # pg8000 has no types
        """Keeps what pg8000 drops: the command tag, the cancel key, the state of the block."""

        cancel_key = b""
        block_status = b"I"
        password: bytes | None

        def handle_COMMAND_COMPLETE(self, data: bytes, context: Any) -> None:  # noqa: N802
            context.tag = data[:-1].decode()

        def handle_BACKEND_KEY_DATA(self, data: bytes, context: Any) -> None:  # noqa: N802
            super().handle_BACKEND_KEY_DATA(data, context)
            self.cancel_key = data

        def handle_READY_FOR_QUERY(self, data: bytes, context: Any) -> None:  # noqa: N802
            super().handle_READY_FOR_QUERY(data, context)
            context.tag = getattr(context, "tag", "")
            self.block_status = data

        def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: Any) -> None:  # noqa: N802
            if self.password is None and data[:4] != bytes(4):
                self.password = _password(target, may_ask=may_ask).encode()
            super().handle_AUTHENTICATION_REQUEST(data, context)

    try:
        seconds = float(target.options.get("connect_timeout", _CONNECT_SECONDS))
    except ValueError:
        raise BadUrl("connect_timeout must be a number of seconds") from None
    errors = _errors()
    try:
        connection = Connection(
            target.user,
            host=host,
            port=port,
            database=target.database,
            password=target.password,
            ssl_context=_tls_context(target),
            timeout=seconds,
            application_name=target.options.get("application_name", "nodedb sql"),
        )
    except errors.DatabaseError as error:
        raise SqlFailed(dict(error.args[0])) from None
    connection._usock.settimeout(None)  # noqa: SLF001  the timeout was for connecting only
    connection.pg_types = defaultdict(lambda: str)
    return connection


def _password(target: SqlTarget, *, may_ask: bool) -> str:
    if may_ask and sys.stdin.isatty():
        return getpass.getpass(f"Password for {target.user}: ")
    raise ConnectionFailed(
        f'the server asks for the password of "{target.user}": give it in the URL or in PGPASSWORD'
    )


def _send_cancel(connection: Any, target: SqlTarget, host: str, port: int) -> None:
    """Send a CancelRequest on a connection of its own, encrypted if the session is."""
    with socket.create_connection((host, port), _CONNECT_SECONDS) as plain:
        channel: socket.socket = plain
        if isinstance(connection._usock, ssl.SSLSocket):  # noqa: SLF001  pg8000 does not tell
            plain.sendall(struct.pack("!ii", 8, _TLS_CODE))
            if plain.recv(1) != b"S":
                return
            context = _tls_context(target)
            if not isinstance(context, ssl.SSLContext):
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            channel = context.wrap_socket(plain, server_hostname=host)
        key = connection.cancel_key
        channel.sendall(struct.pack("!ii", 8 + len(key), _CANCEL_CODE) + key)
        channel.recv(1)  # the server closes when it has taken it


def read_password_file(path: str) -> str:
    """Return a file's first line."""
    with open(os.path.expanduser(path), encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")
