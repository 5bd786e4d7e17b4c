r"""What comes before the first tagged message: a sans-I/O decoder of startup packets.

Wire shape: ``length:int32 | code:int32 | body``; length counts itself. A client may ask for GSS
encryption and for TLS, each once, before its StartupMessage or a CancelRequest. ``options`` holds
``-c name=value`` and ``--name=value`` separated by spaces, with ``\`` before a space or backslash
that is meant literally.

Source: PostgreSQL docs, "Message Formats", "Message Flow" (Start-up), "Shell Interaction".
"""

import dataclasses
import struct
from typing import Final

from nodedb.pgwire.errors import FatalError, framing_lost
from nodedb.session.encoding import decode_utf8
from sql.errors import (
    CharacterNotInRepertoire,
    FeatureNotSupported,
    InvalidAuthorizationSpecification,
    InvalidParameterValue,
    ProtocolViolation,
    SqlSyntaxError,
)

STARTUP_BYTES_MAX: Final = 10_000
_STARTUP_BYTES_MIN: Final = 8
NAME_BYTES_MAX: Final = 63
_CANCEL_REQUEST: Final = 80877102
_SSL_REQUEST: Final = 80877103
_GSSENC_REQUEST: Final = 80877104
_CANCEL_BODY: Final = struct.Struct("!II")
_BOOLEANS: Final = {"true": True, "on": True, "yes": True, "1": True} | {
    "false": False, "off": False, "no": False, "0": False
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class SslRequest:
    """The client asks for TLS: answer one byte."""


@dataclasses.dataclass(frozen=True, slots=True)
class GssEncRequest:
    """The client asks for GSSAPI encryption: answer one byte."""


@dataclasses.dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel another connection's statement; nothing is answered."""

    process_id: int
    secret_key: int


@dataclasses.dataclass(frozen=True, slots=True)
class StartupMessage:
    """Open a session. ``parameters`` are settings, those of ``options`` first.

    ``must_negotiate``: the client wants a newer minor version or ``unrecognized`` protocol options.
    """

    user: str
    database: str
    parameters: dict[str, str]
    must_negotiate: bool
    unrecognized: tuple[str, ...]


StartupRequest = SslRequest | GssEncRequest | CancelRequest | StartupMessage


class StartupDecoder:
    """Reassembles startup packets; ``take_rest`` hands over what follows them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._seen: set[type] = set()

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the socket."""
        self._buffer += data

    @property
    def buffered_bytes(self) -> int:
        """Bytes fed but not yet returned in a request."""
        return len(self._buffer)

    def take_rest(self) -> bytes:
        """Return and forget the bytes behind the last request."""
        rest, self._buffer = self._buffer, b""
        return rest

    def next_request(self) -> StartupRequest | None:
        """Return the next request, or None when more bytes are needed.

        Raises FatalError: 08P01 bad length or layout, 0A000 protocol version or replication,
        28000 no user name, 42601 bad options, 22021 bad text.
        """
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big", signed=True)
        if not _STARTUP_BYTES_MIN <= length <= STARTUP_BYTES_MAX:
            raise framing_lost("invalid length of startup packet")
        if len(self._buffer) < length:
            return None
        body = self._buffer[4:length]
        self._buffer = self._buffer[length:]
        return self._decode(int.from_bytes(body[:4], "big"), body[4:])

    def _decode(self, code: int, body: bytes) -> StartupRequest:
        if code == _CANCEL_REQUEST:
            if len(body) != _CANCEL_BODY.size:
                raise framing_lost("invalid length of startup packet")
            return CancelRequest(*_CANCEL_BODY.unpack(body))
        if code == _SSL_REQUEST and SslRequest not in self._seen:
            self._seen.add(SslRequest)
            return SslRequest()
        if code == _GSSENC_REQUEST and GssEncRequest not in self._seen:
            self._seen.add(GssEncRequest)
            return GssEncRequest()
        major, minor = code >> 16, code & 0xFFFF
        if major != 3:
            raise FatalError(
                FeatureNotSupported(
                    f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"
                )
            )
        try:
            return _startup_message(_pairs(body), minor)
        except (SqlSyntaxError, FeatureNotSupported, InvalidParameterValue) as error:
            raise FatalError(error) from None


def _pairs(body: bytes) -> dict[str, str]:
    """Split ``(name NUL value NUL)* NUL``."""
    fields = body.split(b"\0")
    # A well-formed body splits into pairs and two empty strings: before and after the last NUL.
    if len(fields) < 2 or fields[-1] or fields[-2] or len(fields) % 2:
        raise FatalError(
            ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
        )
    try:
        texts = [decode_utf8(field) for field in fields[:-2]]
    except CharacterNotInRepertoire as error:
        raise FatalError(error) from None
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _startup_message(pairs: dict[str, str], minor: int) -> StartupMessage:
    unrecognized = tuple(name for name in pairs if name.startswith("_pq_."))
    user = _truncate(pairs.pop("user", ""))
    if not user:
        raise FatalError(
            InvalidAuthorizationSpecification("no PostgreSQL user name specified in startup packet")
        )
    database = _truncate(pairs.pop("database", "")) or user
    _refuse_replication(pairs.pop("replication", "false"))
    parameters = parse_options(pairs.pop("options", ""))
    parameters |= {name: value for name, value in pairs.items() if name not in unrecognized}
    return StartupMessage(user, database, parameters, minor > 0 or bool(unrecognized), unrecognized)


def _truncate(name: str) -> str:
    return name.encode()[:NAME_BYTES_MAX].decode(errors="ignore")


def _refuse_replication(value: str) -> None:
    wanted = True if value.lower() == "database" else _BOOLEANS.get(value.lower())
    if wanted is None:
        raise InvalidParameterValue(
            f'invalid value for parameter "replication": "{value}"',
            hint='Valid values are: "false", 0, "true", 1, "database".',
        )
    if wanted:
        raise FeatureNotSupported("replication connections are not supported")


def parse_options(text: str) -> dict[str, str]:
    """Parse the ``options`` parameter into settings. Raises SqlSyntaxError (42601)."""
    settings: dict[str, str] = {}
    words = iter(_split_words(text))
    for word in words:
        if word == "-c":
            assignment = next(words, "")
            dashes = "-c "
        elif word.startswith("-c"):
            assignment = word[2:]
            dashes = "-c "
        elif word.startswith("--"):
            assignment = word[2:]
            dashes = "--"
        else:
            assignment = ""
            dashes = ""
        if not assignment:
            raise SqlSyntaxError(f"invalid command-line argument for server process: {word}")
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SqlSyntaxError(f"{dashes}{assignment} requires a value")
        settings[name.replace("-", "_")] = value
    return settings


def _split_words(text: str) -> list[str]:
    words: list[str] = []
    word: list[str] | None = None
    characters = iter(text)
    for character in characters:
        if character.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        word.append(next(characters, "") if character == "\\" else character)
    if word is not None:
        words.append("".join(word))
    return words
