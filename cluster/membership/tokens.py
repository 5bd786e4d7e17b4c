"""One-time join tokens: their text, and who may use one. Pure.

Text: 96 hex digits of ``for_node:u64 LE | expires_at:u64 LE, Unix seconds | HMAC-SHA256(cluster
secret, the first 16 bytes)``. A node can so tell a forged or expired token by itself; that a token
is used once is the metadata group's business, which knows tokens by their SHA-256 only
(``cluster.metadata.trust``: issued, in_flight, consumed, expired, aborted).

``for_node`` 0 is a token for any node.
"""

from __future__ import annotations

import hashlib
import hmac
import string
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from cluster.metadata.command import JoinTokenTransition
from cluster.metadata.oracle import pack_timestamp, physical_ms

if TYPE_CHECKING:
    from cluster.metadata.data import TokenRecord

TOKEN_BYTES: Final = 48
TOKEN_TEXT_LENGTH: Final = 2 * TOKEN_BYTES
LIFE_SECONDS_DEFAULT: Final = 3600
_CLAIMS: Final = struct.Struct("<QQ")
_U64_MAX: Final = (1 << 64) - 1


class TokenFault(Exception):
    """A token that may not be used; the text begins with ``token: ``."""


class WrongLength(TokenFault):
    """Not 96 characters."""


class InvalidHex(TokenFault):
    """Not hex digits."""


class InvalidMac(TokenFault):
    """Made with another secret, or changed."""


class Expired(TokenFault):
    """Its time is over."""


class Token(NamedTuple):
    """A token that this cluster's secret made."""

    for_node: int
    expires_at_seconds: int
    token_hash: bytes


def create_token(secret: bytes, *, for_node: int, expires_at_seconds: int) -> str:
    """Return the text of a token. Equal claims make equal tokens: vary the expiry for a second."""
    assert secret, "a token without a secret proves nothing"
    assert 0 <= for_node <= _U64_MAX
    assert 0 < expires_at_seconds <= _U64_MAX
    claims = _CLAIMS.pack(for_node, expires_at_seconds)
    return (claims + _mac(secret, claims)).hex()


def hash_of(text: str) -> bytes:
    """Return what a token is known by, its SHA-256. Raises WrongLength, InvalidHex."""
    return hashlib.sha256(_decode(text)).digest()


def read_token(text: str, secret: bytes, now_seconds: float) -> Token:
    """Check a token's text. ``now_seconds`` is Unix time.

    Raises WrongLength, InvalidHex, InvalidMac, Expired, in this order.
    """
    token = _decode(text)
    claims, mac = token[: _CLAIMS.size], token[_CLAIMS.size :]
    if not secret or not hmac.compare_digest(mac, _mac(secret, claims)):
        raise InvalidMac("token: it was not made with this cluster's secret")
    for_node, expires_at_seconds = _CLAIMS.unpack(claims)
    if now_seconds >= expires_at_seconds:
        raise Expired("token: it has expired")
    return Token(for_node, expires_at_seconds, hashlib.sha256(token).digest())


def _decode(text: str) -> bytes:
    if len(text) != TOKEN_TEXT_LENGTH:
        raise WrongLength(f"token: {len(text)} characters, not {TOKEN_TEXT_LENGTH}")
    # bytes.fromhex would skip blanks.
    if not set(text) <= set(string.hexdigits):
        raise InvalidHex("token: it must consist of hex digits")
    return bytes.fromhex(text)


def _mac(secret: bytes, claims: bytes) -> bytes:
    return hmac.digest(secret, claims, hashlib.sha256)


def check_use(record: TokenRecord | None, token: Token, *, node_id: int, now_ms: int) -> str:
    """Return why a node may not begin to use a token now, "" if it may.

    What is decided here on the leader's applied state is decided again when the transition is
    applied, so two that use a token at the same time do not both get in.
    """
    if token.for_node and node_id not in (0, token.for_node):
        return f"node id mismatch: the token is for node {token.for_node}, not for node {node_id}"
    if record is None:
        return "token: it is not one of this cluster's, or was removed"
    match record.state:
        case "issued" | "in_flight":
            # Another address in flight: whether it has had its time is for the log to say.
            return "" if now_ms < physical_ms(record.expires_at) else "token: it has expired"
        case "consumed":
            return "token: it has been used already"
        case "expired":
            return "token: it has expired"
        case "aborted":
            return "token: it was withdrawn"


def registration(text: str, secret: bytes, *, now_ms: int) -> JoinTokenTransition:
    """Return the command that makes a new token known. Raises TokenFault."""
    token = read_token(text, secret, now_ms / 1000)
    return JoinTokenTransition(
        token.token_hash,
        "register",
        at=pack_timestamp(now_ms),
        expires_at=pack_timestamp(token.expires_at_seconds * 1000),
        for_node=token.for_node,
    )


def beginning(token_hash: bytes, address: str, *, node_id: int, now_ms: int) -> JoinTokenTransition:
    """Return the command with which an address takes a token."""
    return JoinTokenTransition(
        token_hash, "begin", at=pack_timestamp(now_ms), for_node=node_id, address=address
    )


def consumption(token_hash: bytes, address: str, *, now_ms: int) -> JoinTokenTransition:
    """Return the command that uses a token up, in one entry with the join."""
    return JoinTokenTransition(token_hash, "consume", at=pack_timestamp(now_ms), address=address)
