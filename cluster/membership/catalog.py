"""What a node remembers of its membership, and the order in which it is written.

Three records, each replaced as a whole and durable before the next is begun: **identity** (cluster
id and node id), then **topology**, then **routing**. A node with a complete set restarts without
the network. One that died in between has at least its identity, and so never founds or joins
another cluster: who was founding goes on founding the same cluster, who was joining asks again and
is recognised by its store id.

The metadata group's own state supersedes topology and routing once the node has applied it; they
are what the node starts with before that.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from cluster.ids import VSHARD_COUNT
from cluster.membership.message import JoinResponse, MemberGroup, MemberNode


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Which node of which cluster a store belongs to. ``is_founder``: it made that cluster."""

    cluster_id: str
    node_id: int
    is_founder: bool


class Topology(msgspec.Struct, frozen=True, gc=False):
    """The nodes as of a metadata index."""

    version: int
    nodes: tuple[MemberNode, ...]

    def node(self, node_id: int) -> MemberNode | None:
        """Return a node by its id."""
        return next((node for node in self.nodes if node.node_id == node_id), None)


class Routing(msgspec.Struct, frozen=True, gc=False):
    """The groups and their vshards as of a metadata index."""

    version: int
    vshard_to_group: tuple[int, ...]
    groups: tuple[MemberGroup, ...]


class SavedMembership(NamedTuple):
    """What stands in the catalog; the parts are there from the left to the right."""

    identity: Identity | None = None
    topology: Topology | None = None
    routing: Routing | None = None

    @property
    def is_complete(self) -> bool:
        """Tell whether a node may restart from this alone."""
        return self.identity is not None and None not in (self.topology, self.routing)


class MembershipCatalog(Protocol):
    """The store's side. Each ``save`` is atomic, and durable when it returns, or raises."""

    def load(self) -> SavedMembership:
        """Return what was saved."""

    def save_identity(self, identity: Identity) -> None:
        """Bind the store. A store that has an identity never gets another one."""

    def save_topology(self, topology: Topology) -> None:
        """Replace the topology."""

    def save_routing(self, routing: Routing) -> None:
        """Replace the routing."""


def record_membership(
    catalog: MembershipCatalog, identity: Identity, topology: Topology, routing: Routing
) -> None:
    """Write a new membership, in the order that a crash at any point survives."""
    catalog.save_identity(identity)
    catalog.save_topology(topology)
    catalog.save_routing(routing)


def membership_of_response(response: JoinResponse) -> tuple[Identity, Topology, Routing]:
    """Return what a successful answer makes of the node that asked."""
    assert response.success, response.error
    return (
        Identity(response.cluster_id, response.node_id, is_founder=False),
        Topology(response.topology_version, response.nodes),
        Routing(response.routing_version, response.vshard_to_group, response.groups),
    )


def fault_of_response(response: JoinResponse) -> str:
    """Return what makes a successful answer unusable, "" if nothing does."""
    if not response.cluster_id or response.node_id <= 0:
        return "the answer names no cluster or no node id"
    if len(response.vshard_to_group) != VSHARD_COUNT:
        return f"the answer routes {len(response.vshard_to_group)} vshards, not {VSHARD_COUNT}"
    if all(node.node_id != response.node_id for node in response.nodes):
        return f"the answer does not list node {response.node_id} itself"
    unknown = set(response.vshard_to_group) - {group.group_id for group in response.groups}
    if unknown:
        return f"the answer routes vshards to group {min(unknown)}, which it does not list"
    return ""


def founding_records(
    identity: Identity, self_node: MemberNode, group_ids: tuple[int, ...]
) -> tuple[Topology, Routing]:
    """Return topology and routing of a cluster of one: this node votes alone in every group.

    ``group_ids`` are the metadata group and the data groups; all vshards are in the first of the
    latter (the others hold none yet). Both have version 0: no metadata entry made them.
    """
    first_data_group = group_ids[1]
    groups = tuple(
        MemberGroup(group_id, identity.node_id, (identity.node_id,), ()) for group_id in group_ids
    )
    node = msgspec.structs.replace(self_node, node_id=identity.node_id, raft_groups=group_ids)
    return Topology(0, (node,)), Routing(0, (first_data_group,) * VSHARD_COUNT, groups)
