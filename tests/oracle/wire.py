"""A minimal protocol client: what the server really sent, before any driver interprets it.

One blocking socket, startup without encryption and with trust. ``simple`` sends one Query message;
``extended`` sends Parse, Bind, Describe, Execute, Sync with every result column in one format.
Both return a ``Reply`` of plain JSON values, so that replies can be recorded and compared by
``==``. Times out after ``TIMEOUT_SECONDS``. Source: PostgreSQL docs, "Message Formats".
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any, Final

TIMEOUT_SECONDS: Final = 20.0

Reply = dict[str, Any]

_ERROR_FIELDS: Final = {
    "S": "severity", "C": "sqlstate", "M": "message", "P": "position", "D": "detail", "H": "hint",
    "s": "schema", "t": "table", "c": "column", "d": "datatype", "n": "constraint",
    "q": "internal_query",
}  # fmt: skip


class WireError(Exception):
    """The connection ended or the peer sent something that is no reply."""


def _cstring(data: bytes, start: int) -> tuple[str, int]:
    end = data.index(b"\0", start)
    return data[start:end].decode("utf-8", "replace"), end + 1


def _fields(body: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    offset = 0
    while offset < len(body) and body[offset]:
        code = chr(body[offset])
        text, offset = _cstring(body, offset + 1)
        if code in _ERROR_FIELDS:
            found[_ERROR_FIELDS[code]] = text
    return found


def _columns(body: bytes) -> list[list[Any]]:
    (count,) = struct.unpack_from("!h", body)
    offset = 2
    columns: list[list[Any]] = []
    for _ in range(count):
        name, offset = _cstring(body, offset)
        _table, _attnum, oid, size, typmod, _format = struct.unpack_from("!IhIhih", body, offset)
        offset += 18
        columns.append([name, oid if oid < 16384 else "user", size, typmod])
    return columns


def _row(body: bytes, *, binary: bool) -> list[str | None]:
    (count,) = struct.unpack_from("!h", body)
    offset = 2
    values: list[str | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, offset)
        offset += 4
        if length < 0:
            values.append(None)
            continue
        raw = body[offset : offset + length]
        offset += length
        values.append(raw.hex() if binary else raw.decode("utf-8", "replace"))
    return values


class Connection:
    """One session; raises WireError when it breaks and is of no use afterwards."""

    def __init__(self, host: str, port: int, *, user: str, database: str) -> None:
        self.address = (host, port)
        self.user = user
        self.database = database
        self._buffer = b""
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = {"user": user, "database": database, "application_name": "oracle",
                    "client_encoding": "UTF8", "TimeZone": "UTC",
                    "DateStyle": "ISO, MDY"}  # fmt: skip
        body = struct.pack("!i", 196608)
        for name, value in settings.items():
            body += name.encode() + b"\0" + value.encode() + b"\0"
        body += b"\0"
        self._socket.sendall(struct.pack("!i", len(body) + 4) + body)
        reply = self._collect(binary=False)
        if reply.get("error"):
            raise WireError(str(reply["error"]))

    def close(self) -> None:
        """Say goodbye and close; never raises."""
        with suppress(OSError):
            self._socket.sendall(b"X\0\0\0\4")
        self._socket.close()

    def simple(self, sql: str, copy_data: str = "") -> Reply:
        """Send one Query message; `copy_data` answers a COPY FROM STDIN."""
        self._socket.sendall(self._message(b"Q", sql.encode() + b"\0"))
        return self._collect(binary=False, copy_data=copy_data)

    def extended(
        self,
        sql: str,
        oids: tuple[int, ...] = (),
        values: tuple[bytes | None, ...] = (),
        *,
        binary_values: bool = False,
        binary_results: bool = True,
    ) -> Reply:
        """Run one statement by Parse, Bind, Describe, Execute and Sync."""
        parse = b"\0" + sql.encode() + b"\0" + struct.pack(f"!h{len(oids)}I", len(oids), *oids)
        bind = b"\0\0" + struct.pack("!hhh", 1, int(binary_values), len(values))
        for value in values:
            bind += (
                struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
            )
        bind += struct.pack("!hh", 1, int(binary_results))
        self._socket.sendall(
            self._message(b"P", parse)
            + self._message(b"B", bind)
            + self._message(b"D", b"P\0")
            + self._message(b"E", b"\0\0\0\0\0")
            + self._message(b"S", b"")
        )
        return self._collect(binary=binary_results)

    @staticmethod
    def _message(tag: bytes, body: bytes) -> bytes:
        return tag + struct.pack("!i", len(body) + 4) + body

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                chunk = self._socket.recv(65536)
            except OSError as error:
                raise WireError(f"no answer: {error!r}") from error
            if not chunk:
                raise WireError("the server closed the connection")
            self._buffer += chunk
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _collect(self, *, binary: bool, copy_data: str = "") -> Reply:
        """Read messages up to ReadyForQuery."""
        reply: Reply = {"results": []}
        current: Reply = {}
        while True:
            tag = self._read(1)
            (length,) = struct.unpack("!i", self._read(4))
            body = self._read(length - 4)
            match tag:
                case b"T":
                    current = {"columns": _columns(body), "rows": []}
                case b"D":
                    current.setdefault("rows", []).append(_row(body, binary=binary))
                case b"C":
                    current["tag"] = _cstring(body, 0)[0]
                    reply["results"].append(current)
                    current = {}
                case b"I":
                    reply["results"].append({"tag": "EMPTY"})
                case b"E":
                    reply["error"] = _fields(body)
                    if current:
                        reply["results"].append(current)
                        current = {}
                    if reply["error"].get("severity") in {"FATAL", "PANIC"}:
                        raise WireError(str(reply["error"]))
                case b"N":
                    reply.setdefault("notices", []).append(_fields(body))
                case b"Z":
                    reply["status"] = body.decode()
                    return reply
                case b"G":
                    self._socket.sendall(
                        self._message(b"d", copy_data.encode()) + self._message(b"c", b"")
                    )
                case b"H":
                    current = {"copy": ""}
                case b"d":
                    current["copy"] = current.get("copy", "") + body.decode("utf-8", "replace")
                case b"R":
                    if body[:4] != b"\0\0\0\0":
                        raise WireError("the server asks for a password")
                case _:
                    pass
