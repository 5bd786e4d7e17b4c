"""What the metadata group knows of the cluster: the values, and their form on disk.

``ClusterData`` is one mutable object of plain attributes; the records in it are frozen, so a copy
of its dictionaries is a copy of it (``mark`` and ``rollback``, with which a refused batch leaves no
trace). ``cluster.metadata.state`` changes it, in the order of the log only.

Form: ``format:1 | MessagePack of _Saved``, everything sorted by its key, so that equal states have
equal bytes on every replica and ``digest`` may be compared. Empty bytes are the state of a new
store.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import msgspec

from cluster.ids import FIRST_DATA_GROUP, VSHARD_COUNT
from cluster.metadata.command import GroupReplicas, VshardRange

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA_FORMAT: Final = 1
FIRST_CLUSTER_VERSION: Final = 1
ALL_VSHARDS_IN_FIRST_GROUP: Final = (VshardRange(0, VSHARD_COUNT, FIRST_DATA_GROUP),)

NodeState = Literal["learner", "active", "draining", "decommissioned"]
TokenState = Literal["issued", "in_flight", "consumed", "expired", "aborted"]


class NodeRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A member: ``join_order`` counts from 1, ``changed_index`` is the entry of its last change."""

    node_id: int
    store_id: str
    rpc_address: str
    sql_address: str
    http_address: str
    locality: tuple[str, ...]
    role: str
    wire_version: int
    spki_pin: bytes
    incarnation: int
    state: NodeState
    join_order: int
    changed_index: int


class GroupRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A group's replicas by node id, sorted, and who should lead it (0: anybody)."""

    group_id: int
    voters: tuple[int, ...]
    learners: tuple[int, ...]
    preferred_leader: int = 0

    @property
    def replicas(self) -> tuple[int, ...]:
        """Voters and learners."""
        return tuple(sorted({*self.voters, *self.learners}))


class LeaseRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A node's lease on a descriptor (0: the catalog); times are packed timestamps."""

    descriptor_id: int
    node_id: int
    version: int
    granted_at: int
    expires_at: int


class DrainRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """No lease on versions up to one is granted before ``expires_at``."""

    descriptor_id: int
    up_to_version: int
    started_at: int
    expires_at: int


class TokenRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A join token by its hash; ``address`` and ``changed_at`` say who uses it, and since when."""

    token_hash: bytes
    state: TokenState
    expires_at: int
    for_node: int
    address: str
    changed_at: int


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    applied_index: int
    cluster_id: str
    timestamp_window: int
    cluster_version: int
    topology_version: int
    routing_version: int
    settings_version: int
    trust_version: int
    last_join_order: int
    fence: tuple[int, int]
    nodes: tuple[NodeRecord, ...]
    removed: tuple[tuple[int, str], ...]
    groups: tuple[GroupRecord, ...]
    vshards: tuple[VshardRange, ...]
    settings: tuple[tuple[int, str, str], ...]
    leases: tuple[LeaseRecord, ...]
    drains: tuple[DrainRecord, ...]
    ca_certificates: tuple[bytes, ...]
    tokens: tuple[TokenRecord, ...]
    decisions: tuple[tuple[int, int], ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Saved)
_MARKED: Final = (
    "applied_index",
    "cluster_id",
    "timestamp_window",
    "cluster_version",
    "topology_version",
    "routing_version",
    "settings_version",
    "trust_version",
    "last_join_order",
    "fence",
    "vshards",
)
_MARKED_TABLES: Final = (
    "nodes",
    "removed",
    "groups",
    "settings",
    "leases",
    "drains",
    "ca_certificates",
    "tokens",
    "decisions",
)


class DamagedState(Exception):
    """Stored bytes are no state of ours, or of a newer release: the replica must stop."""


class ClusterData:
    """The attributes; each ``*_version`` is the metadata index of the last change of its part."""

    def __init__(self) -> None:
        self.applied_index = 0
        self.cluster_id = ""
        self.timestamp_window = 0
        self.cluster_version = FIRST_CLUSTER_VERSION
        self.topology_version = 0
        self.routing_version = 0
        self.settings_version = 0
        self.trust_version = 0
        self.last_join_order = 0
        self.fence = (0, 0)
        """(term of data group 1, node) of its newest leader."""
        self.nodes: dict[int, NodeRecord] = {}
        self.removed: dict[int, str] = {}
        """Store ids of the nodes that are gone."""
        self.groups: dict[int, GroupRecord] = {}
        self.vshards: tuple[VshardRange, ...] = ALL_VSHARDS_IN_FIRST_GROUP
        """All vshards in order, neighbours of one group joined."""
        self.settings: dict[tuple[int, str], str] = {}
        """By (node or 0, name)."""
        self.leases: dict[tuple[int, int], LeaseRecord] = {}
        """By (descriptor, node)."""
        self.drains: dict[int, DrainRecord] = {}
        self.ca_certificates: dict[str, bytes] = {}
        """DER form by fingerprint."""
        self.tokens: dict[bytes, TokenRecord] = {}
        self.decisions: dict[int, int] = {}
        """Metadata index at which a transaction committed."""

    def mark(self) -> dict[str, object]:
        """Remember everything for ``rollback``."""
        marked: dict[str, object] = {name: getattr(self, name) for name in _MARKED}
        for name in _MARKED_TABLES:
            marked[name] = getattr(self, name).copy()
        return marked

    def rollback(self, mark: dict[str, object]) -> None:
        """Return to a mark, which is used up."""
        for name, value in mark.items():
            setattr(self, name, value)

    def encode(self) -> bytes:
        """Return the complete state; equal for equal states."""
        saved = _Saved(
            applied_index=self.applied_index,
            cluster_id=self.cluster_id,
            timestamp_window=self.timestamp_window,
            cluster_version=self.cluster_version,
            topology_version=self.topology_version,
            routing_version=self.routing_version,
            settings_version=self.settings_version,
            trust_version=self.trust_version,
            last_join_order=self.last_join_order,
            fence=self.fence,
            nodes=_by_key(self.nodes),
            removed=tuple(sorted(self.removed.items())),
            groups=_by_key(self.groups),
            vshards=self.vshards,
            settings=tuple(
                (node_id, name, value) for (node_id, name), value in sorted(self.settings.items())
            ),
            leases=_by_key(self.leases),
            drains=_by_key(self.drains),
            ca_certificates=_by_key(self.ca_certificates),
            tokens=_by_key(self.tokens),
            decisions=tuple(sorted(self.decisions.items())),
        )
        return bytes((DATA_FORMAT,)) + _encoder.encode(saved)

    def restore(self, encoded: bytes) -> None:
        """Become the state that was encoded. Raises DamagedState, and is unchanged then."""
        if not encoded:
            self.rollback(ClusterData().mark())
            return
        if encoded[0] != DATA_FORMAT:
            raise DamagedState(f"the cluster state has format {encoded[0]}, not {DATA_FORMAT}")
        try:
            saved = _decoder.decode(encoded[1:])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedState(f"the cluster state cannot be read: {error}") from error
        for name in _MARKED:
            setattr(self, name, getattr(saved, name))
        self.nodes = {node.node_id: node for node in saved.nodes}
        self.removed = dict(saved.removed)
        self.groups = {group.group_id: group for group in saved.groups}
        self.settings = {(node_id, name): value for node_id, name, value in saved.settings}
        self.leases = {(lease.descriptor_id, lease.node_id): lease for lease in saved.leases}
        self.drains = {drain.descriptor_id: drain for drain in saved.drains}
        self.ca_certificates = {fingerprint(der): der for der in saved.ca_certificates}
        self.tokens = {token.token_hash: token for token in saved.tokens}
        self.decisions = dict(saved.decisions)

    def digest(self) -> str:
        """Return the SHA-256 of the state, in hex: equal on replicas that applied the same log."""
        return hashlib.sha256(self.encode()).hexdigest()

    def group_of_vshard(self, vshard: int) -> int:
        """Return the group that holds a vshard."""
        assert 0 <= vshard < VSHARD_COUNT, vshard
        return next(r.group_id for r in self.vshards if r.start <= vshard < r.end)

    def vshard_groups(self) -> list[int]:
        """Return the group of each vshard."""
        return [r.group_id for r in self.vshards for _ in range(r.start, r.end)]

    def groups_of_node(self, node_id: int) -> tuple[int, ...]:
        """Return the groups with a replica on a node, by id."""
        return tuple(
            sorted(
                group.group_id
                for group in self.groups.values()
                if node_id in group.voters or node_id in group.learners
            )
        )

    def setting(self, name: str, node_id: int = 0) -> str | None:
        """Return a setting's text: the node's own, else the cluster's, else None (the default)."""
        value = self.settings.get((node_id, name)) if node_id else None
        return self.settings.get((0, name)) if value is None else value


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


_Key = TypeVar("_Key", bound=_Ordered)
_Value = TypeVar("_Value")


def _by_key(table: dict[_Key, _Value]) -> tuple[_Value, ...]:
    return tuple(table[key] for key in sorted(table))


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate's DER form, in lower-case hex."""
    return hashlib.sha256(certificate).hexdigest()


def joined_ranges(groups: Iterable[int]) -> tuple[VshardRange, ...]:
    """Return the ranges of a list with the group of each vshard; neighbours are joined."""
    ranges: list[VshardRange] = []
    for vshard, group_id in enumerate(groups):
        if ranges and ranges[-1].group_id == group_id:
            ranges[-1] = VshardRange(ranges[-1].start, vshard + 1, group_id)
        else:
            ranges.append(VshardRange(vshard, vshard + 1, group_id))
    return tuple(ranges)


def as_record(replicas: GroupReplicas, preferred_leader: int = 0) -> GroupRecord:
    """Return a group's record, its nodes sorted and single."""
    return GroupRecord(
        replicas.group_id,
        tuple(sorted(set(replicas.voters))),
        tuple(sorted(set(replicas.learners))),
        preferred_leader if preferred_leader in replicas.voters else 0,
    )
