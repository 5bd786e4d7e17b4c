"""Commands of the metadata group's log. Payloads of other packages are opaque bytes here.

Shape on the log: ``version:1 | MessagePack of the tagged command``, each command an array that
begins with its tag. Version 1 had the tags 1 to 3 and a ``CatalogChange`` without fence; what it
wrote is read for ever. A payload of another version, with an unknown tag, or with more members than
we know, is an ``UnknownCommand``: the replica stops, for a guess would part it from the others.

A ``Batch`` is one entry: all members apply or none. It may hold batches, ``BATCH_DEPTH_MAX`` deep.

Commands carry what their proposer decided, so that applying needs no clock: ``at`` and
``expires_at`` are packed timestamps of the leader's oracle (``cluster.metadata.oracle``).
``cluster.metadata.state`` says what each command does and when it is refused. Tags are never used
again for something else; they and the bytes are fixed by ``tests/unit/cluster/metadata``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Union

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_VERSION: Final = 2
VERSIONS_READ: Final = (1, 2)
BATCH_DEPTH_MAX: Final = 8
_BATCH_TAG: Final = 3

TokenTransition = Literal["register", "begin", "consume", "revert", "expire", "abort"]


class _Strict(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """An array of exactly the members we know; missing ones at the end have their defaults."""


class TimestampWindow(_Strict, frozen=True, tag=1):
    """The oracle may hand out timestamps below ``until`` (packed)."""

    until: int


class CatalogChange(_Strict, frozen=True, tag=2):
    """A change of descriptors; only ``nodedb.catalog`` reads the payload.

    ``fence`` is the term of data group 1 under which it was made (0: not checked). A
    ``transaction_id`` other than 0 leaves a decision record: the transaction has committed, and the
    same id never takes effect twice (PROTOCOL rule 55).
    """

    payload: bytes
    fence: int = 0
    transaction_id: int = 0


class Batch(_Strict, frozen=True, tag=_BATCH_TAG):
    """Commands that take effect together, in order, or not at all."""

    members: tuple[Command, ...]


# Topology


class NodeJoin(_Strict, frozen=True, tag=4):
    """A node asks to be a member; it becomes a learner.

    ``store_id`` names the store, so that one which lost its data is told from the one that joined.
    Addresses are text ``host:port``; ``locality`` runs from the widest to the narrowest place;
    ``spki_pin`` is the hash of its certificate's public key (b"" without TLS).
    """

    node_id: int
    store_id: str
    rpc_address: str
    sql_address: str = ""
    http_address: str = ""
    locality: tuple[str, ...] = ()
    role: str = "full"
    wire_version: int = 1
    spki_pin: bytes = b""
    incarnation: int = 0


class NodeUpdate(_Strict, frozen=True, tag=5):
    """A member has restarted and tells where it is now; the meaning is that of ``NodeJoin``."""

    node_id: int
    store_id: str
    rpc_address: str
    sql_address: str = ""
    http_address: str = ""
    locality: tuple[str, ...] = ()
    role: str = "full"
    wire_version: int = 1
    spki_pin: bytes = b""
    incarnation: int = 0


class PromoteToActive(_Strict, frozen=True, tag=6):
    """A learner has caught up and may hold replicas."""

    node_id: int


class StartDecommission(_Strict, frozen=True, tag=7):
    """An active node gives up its replicas: it is draining from now on."""

    node_id: int


class FinishDecommission(_Strict, frozen=True, tag=8):
    """A draining node holds no replica any more: it is decommissioned."""

    node_id: int


class Recommission(_Strict, frozen=True, tag=9):
    """An operator takes a draining node back; nothing else makes it active again."""

    node_id: int


class NodeLeave(_Strict, frozen=True, tag=10):
    """A node is forgotten; its id and store are remembered as gone.

    ``lost``: an operator says that it will never come back, so it need not have been
    decommissioned.
    """

    node_id: int
    lost: bool = False


# Routing


class GroupReplicas(_Strict, frozen=True):
    """The nodes with a replica of a group."""

    group_id: int
    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()


class VshardRange(_Strict, frozen=True):
    """The vshards of [start, end) belong to a group."""

    start: int
    end: int
    group_id: int


class SetGroups(_Strict, frozen=True, tag=11):
    """Set where the replicas of these groups are; other groups stay."""

    groups: tuple[GroupReplicas, ...]


class ReassignVshards(_Strict, frozen=True, tag=12):
    """Give ranges of vshards to groups, later ranges over earlier ones."""

    ranges: tuple[VshardRange, ...]


class RemoveMember(_Strict, frozen=True, tag=13):
    """A node has no replica of a group any more."""

    group_id: int
    node_id: int


class LeadershipTransfer(_Strict, frozen=True, tag=14):
    """A hint: which voter should lead a group; 0 takes the hint back."""

    group_id: int
    node_id: int


# Versions, settings


class ClusterVersionBump(_Strict, frozen=True, tag=15):
    """All nodes speak ``to_version``: its features may be used from now on."""

    from_version: int
    to_version: int


class Setting(_Strict, frozen=True, tag=16):
    """Set a cluster setting (``node_id`` 0) or one node's own; None takes it back."""

    node_id: int
    name: str
    value: str | None


class FoundCluster(_Strict, frozen=True, tag=17):
    """Give the cluster its id, once."""

    cluster_id: str


# Descriptors


class DescriptorLeaseGrant(_Strict, frozen=True, tag=18):
    """A node may use a descriptor's version until ``expires_at``.

    ``descriptor_id`` 0 is the whole catalog, whose version is a metadata index.
    """

    descriptor_id: int
    version: int
    node_id: int
    at: int
    expires_at: int


class DescriptorLeaseRelease(_Strict, frozen=True, tag=19):
    """A node gives leases back; no ids: all of them."""

    node_id: int
    descriptor_ids: tuple[int, ...] = ()


class DescriptorDrainStart(_Strict, frozen=True, tag=20):
    """Nobody gets a lease on versions up to one until the drain ends or ``expires_at``."""

    descriptor_id: int
    up_to_version: int
    at: int
    expires_at: int


class DescriptorDrainEnd(_Strict, frozen=True, tag=21):
    """Leases are granted again."""

    descriptor_id: int


# Trust


class CaTrustChange(_Strict, frozen=True, tag=22):
    """Trust one more CA certificate (DER), or one less.

    ``remove_fingerprint`` is the SHA-256 of the DER form, in lower-case hex.
    """

    add_certificate: bytes = b""
    remove_fingerprint: str = ""


class JoinTokenTransition(_Strict, frozen=True, tag=23):
    """A one-time join token changes its state.

    ``token_hash`` is the SHA-256 of the token, which itself is nowhere in the log. ``register``
    needs ``expires_at`` and perhaps ``for_node`` (0: any), ``begin`` the ``address`` that uses it.
    """

    token_hash: bytes
    transition: TokenTransition
    at: int
    expires_at: int = 0
    for_node: int = 0
    address: str = ""


# Rows


class Fence(_Strict, frozen=True, tag=24):
    """A node leads data group 1 in a term: catalog changes of earlier terms are void."""

    term: int
    node_id: int


class ForgetDecisions(_Strict, frozen=True, tag=25):
    """Every participant knows how these transactions ended: drop their decision records."""

    upto_transaction_ids: tuple[int, ...]


Command = Union[
    TimestampWindow,
    CatalogChange,
    Batch,
    NodeJoin,
    NodeUpdate,
    PromoteToActive,
    StartDecommission,
    FinishDecommission,
    Recommission,
    NodeLeave,
    SetGroups,
    ReassignVshards,
    RemoveMember,
    LeadershipTransfer,
    ClusterVersionBump,
    Setting,
    FoundCluster,
    DescriptorLeaseGrant,
    DescriptorLeaseRelease,
    DescriptorDrainStart,
    DescriptorDrainEnd,
    CaTrustChange,
    JoinTokenTransition,
    Fence,
    ForgetDecisions,
]
_decoder: Final[msgspec.msgpack.Decoder[Command]] = msgspec.msgpack.Decoder(Command)
_encoder: Final = msgspec.msgpack.Encoder()


class UnknownCommand(Exception):
    """An entry of a newer or foreign version: the replica must stop, not guess."""


def encode_command(command: Command) -> bytes:
    """Return the log payload of a command. Asserts ``BATCH_DEPTH_MAX``."""
    assert batch_depth(command) <= BATCH_DEPTH_MAX, "batches nest too deep"
    return bytes((COMMAND_VERSION,)) + _encoder.encode(command)


def decode_command(payload: bytes) -> Command:
    """Read a log payload; UnknownCommand when it is not one of ours."""
    if not payload or payload[0] not in VERSIONS_READ:
        raise UnknownCommand(f"metadata command version {payload[:1]!r}")
    try:
        command = _decoder.decode(payload[1:])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnknownCommand(str(error)) from error
    if batch_depth(command) > BATCH_DEPTH_MAX:
        raise UnknownCommand(f"batches nest deeper than {BATCH_DEPTH_MAX}")
    return command


def batch_depth(command: Command) -> int:
    """Return how many batches stand around the innermost command."""
    depth, level = 0, [command]
    while batches := [each for each in level if isinstance(each, Batch)]:
        depth += 1
        level = [member for batch in batches for member in batch.members]
    return depth


def flatten(command: Command) -> Iterator[Command]:
    """Yield the commands that are not batches, in the order in which they take effect."""
    pending = [command]
    while pending:
        first = pending.pop()
        if isinstance(first, Batch):
            pending.extend(reversed(first.members))
        else:
            yield first
