"""A raw client: sends bytes as they are, and reads what a node answers, frame by frame."""

import contextlib
import errno
import itertools
import select
import socket
import struct
import time
from collections.abc import Sequence
from random import Random

ANSWER_SECONDS = 30.0
_KNOWN_TAGS = frozenset(b"RSKZTDCENA123nsIGHdctvW")


class NoAnswer(Exception):
    """The node neither answered nor closed in time: a hang."""


class _NotConnected(Exception):
    pass


class BadAnswer(Exception):
    """What the node sent is not the protocol."""


def startup(user: str = "nodedb", database: str = "nodedb", **more: str) -> bytes:
    """Return a startup packet."""
    pairs = {"user": user, "database": database} | more
    text = "".join(f"{name}\0{value}\0" for name, value in pairs.items()) + "\0"
    body = struct.pack("!I", 196608) + text.encode()
    return struct.pack("!I", len(body) + 4) + body


def frame(tag: str, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a tagged message; ``length`` lies about its size."""
    size = len(body) + 4 if length is None else length
    return tag.encode() + struct.pack("!i", max(min(size, 2**31 - 1), -(2**31))) + body


def query(text: str) -> bytes:
    """Return a Query message."""
    return frame("Q", text.encode() + b"\0")


def _end_our_half(client: socket.socket) -> None:
    try:
        client.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # reset by the node, after what it wanted to say
            raise
        raise _NotConnected from None


def exchange(
    address: tuple[str, int], pieces: Sequence[bytes], *, seconds: float = ANSWER_SECONDS
) -> bytes:
    """Send the pieces, then end our half, and return everything until the node closes.

    Raises NoAnswer when it does not close in time. A reset counts as a close.
    """
    answer = bytearray()
    deadline = time.monotonic() + seconds
    with contextlib.closing(socket.create_connection(address, timeout=seconds)) as client:
        client.setblocking(False)
        waiting = list(pieces)
        rest = b""
        is_ended = False
        with contextlib.suppress(ConnectionError, _NotConnected):
            while True:
                if not rest and not is_ended:
                    if not waiting:
                        is_ended = True
                        _end_our_half(client)
                    else:
                        rest = waiting.pop(0)
                    continue
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NoAnswer(f"open after {seconds} s, {len(answer)} bytes answered")
                readable, writable, _ = select.select([client], [client] if rest else [], [], left)
                if readable:
                    data = client.recv(1 << 16)
                    if not data:
                        break
                    answer += data
                if writable:
                    rest = rest[client.send(rest) :]
    return bytes(answer)


def frames(answer: bytes) -> list[tuple[str, bytes]]:
    """Split an answer into (tag, body). Raises BadAnswer; a cut last frame is dropped (a reset)."""
    found = []
    offset = 0
    while offset + 5 <= len(answer):
        tag = answer[offset]
        length = struct.unpack_from("!i", answer, offset + 1)[0]
        # The answer to an encryption request is one byte.
        if tag == ord("N") and not 4 <= length < 1 << 20:
            offset += 1
            continue
        if tag not in _KNOWN_TAGS or length < 4:
            raise BadAnswer(f"no frame at {offset}: {answer[offset : offset + 40]!r}")
        found.append((chr(tag), answer[offset + 5 : offset + 1 + length]))
        offset += 1 + length
    return found


def fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse."""
    parts = [part.decode(errors="replace") for part in body.split(b"\0") if part]
    return {part[0]: part[1:] for part in parts}


def sqlstates(answer: bytes) -> list[str]:
    """Return the SQLSTATE of every ErrorResponse."""
    return [fields(body)["C"] for tag, body in frames(answer) if tag == "E"]


def cut(rng: Random, data: bytes, pieces_max: int = 6) -> list[bytes]:
    """Cut bytes at random places."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(pieces_max)))
    bounds = [0, *places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds) if a < b]
