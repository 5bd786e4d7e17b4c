"""Authenticated datagrams: who sent this, for whom, in which cluster, and has it been seen before.

Shape, little-endian: ``version:u8=1 | cluster:u64 | sender:u64 | recipient:u64 | boot:u64 |
sequence:u64 | length:u32 | body | HMAC-SHA256:32``; the code covers everything before it.

* ``cluster`` is the beginning of SHA-256 of the cluster's id: another cluster's datagrams are told
  from forged ones without knowing its secret.
* ``sender`` is the node's id, authenticated by the code. It is not derived from the address that
  the datagram seems to come from: behind address translation, and between containers, the receiver
  sees another address than the one that the sender is known by.
* ``recipient`` is the id of the node it is meant for (0: the sender does not know it yet), so that
  nobody can use a datagram of A for B against C, and a reused address answers for nobody else.
* ``boot`` and ``sequence`` keep replays out across restarts. Per sender the newest boot is
  remembered, with a window over the last 64 sequence numbers of it. A newer boot starts a new
  window, an older one is refused. So a restarted node, which counts from 1 again, is heard at once.

What this does not do: a receiver that has just started has no windows, and takes the first datagram
of each sender as the newest. Replaying an old one to it can make a record appear that the next
genuine datagram, being of a later boot or a higher sequence, corrects. Nothing is encrypted.
Source: RFC 2104 (HMAC), RFC 4303 appendix A2 (the sliding window).
"""

from enum import Enum
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from struct import Struct
from typing import Final, NamedTuple

from cluster.ids import NodeId

ENVELOPE_VERSION: Final = 1
DATAGRAM_BYTES_MAX: Final = 65_507
REPLAY_WINDOW: Final = 64
SENDERS_MAX: Final = 4096
UNKNOWN_NODE: Final = NodeId(0)

_HEADER: Final = Struct("<BQQQQQI")
_CODE_BYTES: Final = 32
OVERHEAD_BYTES: Final = _HEADER.size + _CODE_BYTES
_WINDOW_MASK: Final = (1 << REPLAY_WINDOW) - 1
_KEY_LABEL: Final = b"nodedb swim datagram v1"


class Flaw(Enum):
    """Why a datagram is not taken."""

    MALFORMED = "malformed"
    VERSION = "version"
    CLUSTER = "cluster"
    AUTHENTICATION = "authentication"
    RECIPIENT = "recipient"
    REPLAY = "replay"
    BOOT = "boot"


class Opened(NamedTuple):
    """An authentic datagram; ``known_boot`` is the newest boot heard of the sender.

    With a ``flaw`` its content counts for nothing, but the sender may be told: it is authentic, and
    either was recorded and sent again, or its sender has lost count of its boots.
    """

    sender: NodeId
    boot: int
    body: bytes
    flaw: Flaw | None = None
    known_boot: int = 0


class Sealer:
    """Makes datagrams. Invariant: no two carry the same (boot, sequence)."""

    def __init__(self, *, secret: bytes, cluster_id: str, node_id: NodeId) -> None:
        self._key = derive_key(secret)
        self._cluster = cluster_tag(cluster_id)
        self._node_id = node_id
        self._sequence = 0

    def seal(self, body: bytes, *, recipient: NodeId, boot: int) -> bytes:
        """Return the datagram that carries ``body``; the first sequence number is 1."""
        self._sequence += 1
        signed = (
            _HEADER.pack(
                ENVELOPE_VERSION,
                self._cluster,
                self._node_id,
                recipient,
                boot,
                self._sequence,
                len(body),
            )
            + body
        )
        return signed + hmac_digest(self._key, signed, "sha256")


class _Window:
    """The newest boot of a sender, its highest sequence, and which of the 64 below were seen."""

    __slots__ = ("boot", "highest", "seen")

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.highest = 0
        self.seen = 0

    def flaw(self, sequence: int) -> Flaw | None:
        """Note a sequence number; say what is wrong with it. BOOT: too far behind to tell."""
        if sequence > self.highest:
            step = sequence - self.highest
            kept = self.seen << step if step < REPLAY_WINDOW else 0
            self.seen = (kept | 1) & _WINDOW_MASK
            self.highest = sequence
            return None
        bit = 1 << self.highest - sequence
        if bit > _WINDOW_MASK:
            return Flaw.BOOT
        if self.seen & bit:
            return Flaw.REPLAY
        self.seen |= bit
        return None


class Opener:
    """Checks datagrams and remembers what has been seen; bounded by the number of senders."""

    def __init__(self, *, secret: bytes, cluster_id: str, node_id: NodeId) -> None:
        self._key = derive_key(secret)
        self._cluster = cluster_tag(cluster_id)
        self._node_id = node_id
        self._windows: dict[NodeId, _Window] = {}

    def open(self, datagram: bytes) -> Opened | Flaw:
        """Return an authentic datagram's sender and body, or what is wrong with it.

        The cheap checks come first; nothing is remembered of a datagram that is not authentic.
        """
        if len(datagram) < OVERHEAD_BYTES:
            return Flaw.MALFORMED
        version, cluster, sender, recipient, boot, sequence, length = _HEADER.unpack_from(datagram)
        if version != ENVELOPE_VERSION:
            return Flaw.VERSION
        if length != len(datagram) - OVERHEAD_BYTES or not sequence or not sender:
            return Flaw.MALFORMED
        if cluster != self._cluster:
            return Flaw.CLUSTER
        signed, code = datagram[:-_CODE_BYTES], datagram[-_CODE_BYTES:]
        if not compare_digest(hmac_digest(self._key, signed, "sha256"), code):
            return Flaw.AUTHENTICATION
        if recipient not in (UNKNOWN_NODE, self._node_id):
            return Flaw.RECIPIENT
        body = signed[_HEADER.size :]
        if sender == self._node_id:
            # Our own datagram, or one of a node with our id: the core tells them apart, and both
            # carry news only about ourselves.
            return Opened(NodeId(sender), boot, body)
        return self._place(NodeId(sender), boot, sequence, body)

    def _place(self, sender: NodeId, boot: int, sequence: int, body: bytes) -> Opened | Flaw:
        window = self._windows.get(sender)
        if window is None:
            if len(self._windows) >= SENDERS_MAX:
                return Flaw.REPLAY
            window = self._windows[sender] = _Window(boot)
        elif boot > window.boot:
            window = self._windows[sender] = _Window(boot)
        flaw = Flaw.BOOT if boot < window.boot else window.flaw(sequence)
        return Opened(sender, boot, body, flaw, window.boot)


def derive_key(secret: bytes) -> bytes:
    """Return the key of datagrams, which is not the key of anything else made of the secret.

    The empty secret, and one of zeros, is the insecure mode's: it keeps clusters apart, not people.
    """
    return hmac_digest(secret, _KEY_LABEL, "sha256")


def cluster_tag(cluster_id: str) -> int:
    """Return the number that stands for a cluster in every datagram."""
    return int.from_bytes(sha256(cluster_id.encode()).digest()[:8], "little")
