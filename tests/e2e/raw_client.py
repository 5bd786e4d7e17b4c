"""A protocol client that sends messages one by one: for batches that no driver makes.

``batch`` sends messages, a Sync at the end unless told not to, and returns what came back up to
ReadyForQuery as short texts: ``("Z", "T")``, ``("E", "25P02")``, ``("C", "SELECT 1")``, ``("D",
("1", None))``.
"""

import socket
import struct
from typing import Any, Final

TIMEOUT_SECONDS: Final = 20.0
Answer = tuple[str, Any]


def _string(text: str) -> bytes:
    return text.encode() + b"\0"


def message(tag: bytes, body: bytes = b"") -> bytes:
    """Frame a message."""
    return tag + struct.pack("!i", len(body) + 4) + body


def query(text: str) -> bytes:
    """Make a simple Query."""
    return message(b"Q", _string(text))


def parse(text: str, name: str = "") -> bytes:
    """Make a Parse without declared parameter types."""
    return message(b"P", _string(name) + _string(text) + struct.pack("!h", 0))


def bind(*values: str | None, portal: str = "", statement: str = "") -> bytes:
    """Make a Bind with text parameters and text results."""
    parts = [
        struct.pack("!i", -1) if v is None else struct.pack("!i", len(v.encode())) + v.encode()
        for v in values
    ]
    body = _string(portal) + _string(statement) + struct.pack("!hh", 0, len(values))
    return message(b"B", body + b"".join(parts) + struct.pack("!h", 0))


def execute(portal: str = "", limit: int = 0) -> bytes:
    """Make an Execute."""
    return message(b"E", _string(portal) + struct.pack("!i", limit))


def describe(kind: str, name: str = "") -> bytes:
    """Make a Describe of a portal ("P") or statement ("S")."""
    return message(b"D", kind.encode() + _string(name))


def run(text: str, *values: str | None) -> bytes:
    """Parse, bind and execute on the unnamed portal."""
    return parse(text) + bind(*values) + execute()


SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")


class RawClient:
    """One connection, trusted by the server."""

    def __init__(
        self, host: str, port: int, user: str = "nodedb", database: str = "nodedb"
    ) -> None:
        self._socket = socket.create_connection((host, port), TIMEOUT_SECONDS)
        self._buffer = b""
        body = struct.pack("!i", 196608) + _string("user") + _string(user)
        body += _string("database") + _string(database) + b"\0"
        self._socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.parameters: dict[str, str] = {}
        self.read_to_ready()

    def batch(self, *messages: bytes, sync: bool = True) -> list[Answer]:
        """Send messages at once and read to ReadyForQuery."""
        self.send(*messages, *((SYNC,) if sync else ()))
        return self.read_to_ready()

    def simple(self, text: str) -> list[Answer]:
        """Run a simple query."""
        self.send(query(text))
        return self.read_to_ready()

    def send(self, *messages: bytes) -> None:
        """Send messages and read nothing."""
        self._socket.sendall(b"".join(messages))

    def read_to_ready(self) -> list[Answer]:
        """Return the answers up to ReadyForQuery."""
        answers = []
        while not answers or answers[-1][0] != "Z":
            answers.append(self.read())
        return answers

    def read(self) -> Answer:
        """Return the next answer."""
        tag, length = self._take(1).decode(), struct.unpack("!i", self._take(4))[0]
        return tag, self._shown(tag, self._take(length - 4))

    def close(self) -> None:
        """Vanish: a reset, as from a client whose process died with data unread."""
        if self._socket.fileno() < 0:
            return
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionError("the server closed the connection")
            self._buffer += part
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _shown(self, tag: str, body: bytes) -> Any:
        if tag in "ZC":
            return body.rstrip(b"\0").decode()
        if tag in "EN":
            fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
            return fields[b"C"]
        if tag == "D":
            return self._row(body)
        if tag == "S":
            name, value = body.decode().split("\0")[:2]
            self.parameters[name] = value
            return name, value
        if tag == "T":
            return struct.unpack("!h", body[:2])[0]
        return None

    def _row(self, body: bytes) -> tuple[str | None, ...]:
        values: list[str | None] = []
        offset = 2
        for _ in range(struct.unpack("!h", body[:2])[0]):
            length = struct.unpack_from("!i", body, offset)[0]
            offset += 4
            values.append(None if length < 0 else body[offset : offset + length].decode())
            offset += max(length, 0)
        return tuple(values)
