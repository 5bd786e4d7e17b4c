"""Who may speak: the handshake of a connection as a pure automaton.

Dialler and accepter exchange, each in a frame of the envelope that stays as it is for ever::

    dialler                         accepter
       HELLO  ------------------------>        who I am, which wire versions, a nonce
              <------------------------  HELLO
       PROOF  ------------------------>        HMAC-SHA256 over both hellos and the binding
              <------------------------  PROOF

Either side may send REFUSED with a sentence instead, and both remember it. The proof shows that its
maker knows the cluster secret; nonces in both hellos make it worthless on any other connection. The
**binding** ties it to the TLS session below: the hashes of both certificates as each side sees them
(RFC 5929, ``tls-server-end-point``, for both ends). So whoever holds a certificate of our authority
but not the secret, or the secret but no certificate, stays out, and so does who relays between two
TLS sessions of his own.

Not done here, and what that costs: without TLS the frames after the handshake are not
authenticated; plain TCP is for development on loopback.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec

from cluster.transport.api import Peer
from cluster.transport.frame import HELLO, PROOF, REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.transport.config import LocalIdentity

NONCE_BYTES: Final = 32
REASON_CHARACTERS_MAX: Final = 500
_PURPOSE: Final = b"nodedb transport handshake 1"
_Word = Annotated[int, msgspec.Meta(ge=0)]


class Hello(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """First words of each side. Later versions may append fields, which older ones pass over."""

    node_id: _Word
    cluster_id: Annotated[str, msgspec.Meta(max_length=200)]
    address: Annotated[str, msgspec.Meta(max_length=300)]
    incarnation: _Word
    version_min: Annotated[int, msgspec.Meta(ge=0, le=255)]
    version_max: Annotated[int, msgspec.Meta(ge=0, le=255)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    target: Annotated[str, msgspec.Meta(max_length=300)] = ""
    """The address the dialler used; it has one connection to each."""
    serial: _Word = 0
    """Grows from one connection that the dialler begins to the next."""


_hello_decoder: Final = msgspec.msgpack.Decoder(Hello)


class HandshakeRefused(Exception):
    """The handshake ended with a sentence; ``by`` is "us" or "peer"."""

    def __init__(self, reason: str, by: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.by = by


class Step(NamedTuple):
    """What one frame led to: frames to send, and whether the peer is established."""

    frames: tuple[tuple[int, bytes], ...] = ()
    is_established: bool = False


def clean_reason(text: str) -> str:
    """Return a peer's words fit for a log line: bounded and printable."""
    printable = "".join(each if each.isprintable() else "?" for each in text)
    return printable[:REASON_CHARACTERS_MAX]


def negotiate(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """Return the newest wire version inside both ranges (min, max), 0 if there is none."""
    newest = min(ours[1], theirs[1])
    return newest if newest >= max(ours[0], theirs[0]) else 0


def identity_objection(local: LocalIdentity, peer: Peer, target: str = "") -> str:
    """Return why this node may not speak to that one, "" if it may.

    A node without a cluster id may greet any. ``target`` is the address dialled, for the sentence.
    """
    if local.cluster_id and peer.cluster_id and local.cluster_id != peer.cluster_id:
        return (
            f'this node belongs to cluster "{local.cluster_id}" and the peer at '
            f'{peer.address or target} to cluster "{peer.cluster_id}"'
        )
    if local.node_id == 0 or peer.node_id != local.node_id:
        return ""
    if peer.address != local.address:
        return (
            f"node id {peer.node_id} is this node's own (at {local.address}), "
            f"but the peer at {peer.address or target} claims it too"
        )
    if peer.incarnation != local.incarnation:
        return (
            f"another process claims this node's id {peer.node_id} and address {peer.address} "
            f"(incarnation {peer.incarnation}, ours is {local.incarnation})"
        )
    return ""


class Handshake:
    """One side of one handshake.

    ``check(peer, hello)`` is asked before the proof and ``admit(peer)`` after it; both return
    a sentence to refuse. ``peer`` is set once the other hello was read. The secret is only kept as
    a key derived for this purpose, and shown nowhere.
    """

    def __init__(
        self,
        *,
        hello: Hello,
        is_dialler: bool,
        secret: bytes,
        binding: bytes,
        spki_pin: str,
        check: Callable[[Peer, Hello], str],
        admit: Callable[[Peer], str],
    ) -> None:
        self.peer: Peer | None = None
        self.peer_hello: Hello | None = None
        self._hello = hello
        self._hello_bytes = msgspec.msgpack.encode(hello)
        self._is_dialler = is_dialler
        self._key = hmac.digest(secret, _PURPOSE, "sha256")
        self._binding = hashlib.sha256(binding).digest()
        self._spki_pin = spki_pin
        self._check = check
        self._admit = admit
        self._peer_hello_bytes = b""

    def start(self) -> Step:
        """Begin: the dialler speaks first."""
        return Step(((HELLO, self._hello_bytes),) if self._is_dialler else ())

    def on_frame(self, frame_type: int, payload: bytes) -> Step:
        """Advance by one frame. Raises HandshakeRefused; if it is by us, tell the peer."""
        if frame_type == REFUSED:
            raise HandshakeRefused(read_reason(payload), "peer")
        if frame_type == HELLO and self.peer is None:
            return self._on_hello(payload)
        if frame_type == PROOF and self.peer is not None:
            return self._on_proof(payload)
        raise HandshakeRefused("the peer does not keep to the handshake", "us")

    def _on_hello(self, payload: bytes) -> Step:
        try:
            hello = _hello_decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HandshakeRefused(f"the peer's hello cannot be read: {error}", "us") from None
        ours = (self._hello.version_min, self._hello.version_max)
        theirs = (hello.version_min, hello.version_max)
        version = negotiate(ours, theirs)
        self.peer_hello = hello
        self.peer = Peer(
            hello.node_id,
            clean_reason(hello.cluster_id),
            clean_reason(hello.address),
            hello.incarnation,
            version,
            self._spki_pin,
        )
        self._peer_hello_bytes = payload
        if not version:
            raise HandshakeRefused(_version_sentence(ours, theirs), "us")
        if reason := self._check(self.peer, hello):
            raise HandshakeRefused(reason, "us")
        if self._is_dialler:
            return Step(((PROOF, self._proof(of_dialler=True)),))
        return Step(((HELLO, self._hello_bytes),))

    def _on_proof(self, payload: bytes) -> Step:
        assert self.peer is not None
        expected = self._proof(of_dialler=not self._is_dialler)
        if not hmac.compare_digest(payload, expected):
            raise HandshakeRefused(
                "the proof of the cluster secret is wrong: the two nodes have different secrets",
                "us",
            )
        if reason := self._admit(self.peer):
            raise HandshakeRefused(reason, "us")
        if self._is_dialler:
            return Step(is_established=True)
        return Step(((PROOF, self._proof(of_dialler=False)),), is_established=True)

    def _proof(self, *, of_dialler: bool) -> bytes:
        """HMAC over role, both hellos in the order of the roles, and the binding.

        The role is part of it, so that a proof cannot be sent back to its maker.
        """
        ours, theirs = self._hello_bytes, self._peer_hello_bytes
        first, second = (ours, theirs) if self._is_dialler else (theirs, ours)
        digest = hmac.new(self._key, b"dialler" if of_dialler else b"accepter", "sha256")
        for hello in (first, second):
            digest.update(len(hello).to_bytes(4, "big"))
            digest.update(hello)
        digest.update(self._binding)
        return digest.digest()


def write_reason(reason: str) -> bytes:
    """Return the payload of a REFUSED frame."""
    return clean_reason(reason).encode()


def read_reason(payload: bytes) -> str:
    """Read the payload of a REFUSED frame."""
    return clean_reason(payload.decode(errors="replace")) or "refused without a reason"


def _version_sentence(ours: tuple[int, int], theirs: tuple[int, int]) -> str:
    older = "the peer" if theirs[1] < ours[0] else "this node"
    return (
        f"no common wire version: this node speaks {ours[0]} to {ours[1]}, the peer {theirs[0]} "
        f"to {theirs[1]}; {older} is too old, upgrade it"
    )
