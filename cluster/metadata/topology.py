"""The life of a member in the metadata group: join, update, promote, decommission, leave.

States: ``learner`` after the join, ``active`` once it has caught up, ``draining`` while an operator
has it decommissioned, ``decommissioned`` when it holds no replica. Only an operator's command makes
a draining node active again: no sign of life does.

A node id belongs to one store for ever. A store that lost its data comes back with another store
id, and must not vote under the old node id: it has forgotten what it promised (PROTOCOL rule 36 is
about a promise of seconds, the vote and the log are for ever).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from cluster.metadata.data import NodeRecord
from cluster.metadata.outcome import APPLIED, Refused

if TYPE_CHECKING:
    from cluster.metadata.command import (
        FinishDecommission,
        NodeJoin,
        NodeLeave,
        NodeUpdate,
        PromoteToActive,
        Recommission,
        StartDecommission,
    )
    from cluster.metadata.data import ClusterData, NodeState
    from cluster.metadata.outcome import Outcome


def join(data: ClusterData, command: NodeJoin, index: int) -> Outcome:
    """Admit a node as learner; a repeated join of the same store is as good as an update."""
    node_id = command.node_id
    if node_id <= 0:
        return Refused(f"invalid node_id {node_id}: it must be above 0", "limit")
    known = data.nodes.get(node_id)
    if known is not None:
        return _rejoin(data, known, command, index)
    if node_id in data.removed:
        return Refused(
            f"node_id {node_id} was removed from the cluster; "
            "start the node with an empty store and another node_id",
            "conflict",
        )
    taken = _taken_addresses(data, command)
    if taken is not None:
        return taken
    data.last_join_order += 1
    data.nodes[node_id] = _record(command, "learner", data.last_join_order, index)
    data.topology_version = index
    return APPLIED


def _rejoin(data: ClusterData, known: NodeRecord, command: NodeJoin, index: int) -> Outcome:
    node_id = command.node_id
    if known.rpc_address != command.rpc_address:
        return Refused(
            f"node_id {node_id} already registered with different address {known.rpc_address} "
            f"(request: {command.rpc_address})",
            "conflict",
        )
    return _renew(data, known, command, index)


def update(data: ClusterData, command: NodeUpdate, index: int) -> Outcome:
    """Take what a member says of itself after a restart."""
    known = data.nodes.get(command.node_id)
    if known is None:
        return _no_such_node(data, command.node_id)
    return _renew(data, known, command, index)


def _renew(
    data: ClusterData, known: NodeRecord, command: NodeJoin | NodeUpdate, index: int
) -> Outcome:
    node_id = command.node_id
    if known.store_id != command.store_id:
        return Refused(
            f"node_id {node_id} is registered with store {known.store_id}, not with store "
            f"{command.store_id}: a store that lost its data must join under another node_id",
            "conflict",
        )
    if known.state == "decommissioned":
        return Refused(f"node_id {node_id} was decommissioned", "state")
    if command.incarnation < known.incarnation:
        return Refused(
            f"node_id {node_id} has started again since: incarnation {command.incarnation} is "
            f"below {known.incarnation}",
            "conflict",
        )
    taken = _taken_addresses(data, command)
    if taken is not None:
        return taken
    renewed = _record(command, known.state, known.join_order, known.changed_index)
    if renewed != known:
        data.nodes[node_id] = replace(renewed, changed_index=index)
        data.topology_version = index
    return APPLIED


def promote(data: ClusterData, command: PromoteToActive, index: int) -> Outcome:
    """Make a learner active; an active node stays so, a draining one is not helped by this."""
    known = data.nodes.get(command.node_id)
    if known is None:
        return _no_such_node(data, command.node_id)
    if known.state == "active":
        return APPLIED
    if known.state != "learner":
        return Refused(
            f"node {known.node_id} is {known.state}: only recommissioning makes it active again",
            "state",
        )
    return _become(data, known, "active", index)


def start_decommission(data: ClusterData, command: StartDecommission, index: int) -> Outcome:
    """Let a node drain, unless its groups would then have too few nodes to live on."""
    known = data.nodes.get(command.node_id)
    if known is None:
        return _no_such_node(data, command.node_id)
    if known.state == "draining":
        return APPLIED
    if known.state == "decommissioned":
        return Refused(f"node {known.node_id} is already decommissioned", "state")
    others = sum(
        node.state == "active" for node in data.nodes.values() if node.node_id != known.node_id
    )
    if not others:
        return Refused(f"node {known.node_id} is the only active node", "replicas")
    for _, group in sorted(data.groups.items()):
        if known.node_id in group.voters and others < len(group.voters):
            return Refused(
                f"decommissioning node {known.node_id} would leave group {group.group_id} with "
                f"{others} of {len(group.voters)} replicas: add a node first",
                "replicas",
            )
    return _become(data, known, "draining", index)


def finish_decommission(data: ClusterData, command: FinishDecommission, index: int) -> Outcome:
    """End a decommission: no group may list the node any more."""
    known = data.nodes.get(command.node_id)
    if known is None:
        return _no_such_node(data, command.node_id)
    if known.state == "decommissioned":
        return APPLIED
    if known.state != "draining":
        return Refused(f"node {known.node_id} is {known.state}, not draining", "state")
    held = _still_held(data, known.node_id)
    return held if held is not None else _become(data, known, "decommissioned", index)


def recommission(data: ClusterData, command: Recommission, index: int) -> Outcome:
    """Take back a decommission that has not ended."""
    known = data.nodes.get(command.node_id)
    if known is None:
        return _no_such_node(data, command.node_id)
    if known.state == "active":
        return APPLIED
    if known.state != "draining":
        return Refused(f"node {known.node_id} is {known.state}, not draining", "state")
    return _become(data, known, "active", index)


def leave(data: ClusterData, command: NodeLeave, index: int) -> Outcome:
    """Forget a node that holds nothing; its id and store stay barred."""
    node_id = command.node_id
    known = data.nodes.get(node_id)
    if known is None:
        return APPLIED if node_id in data.removed else _no_such_node(data, node_id)
    if known.state in ("active", "draining") and not command.lost:
        return Refused(f"node {node_id} is {known.state}: decommission it first", "state")
    held = _still_held(data, node_id)
    if held is not None:
        return held
    del data.nodes[node_id]
    data.removed[node_id] = known.store_id
    for key in [key for key in data.leases if key[1] == node_id]:
        del data.leases[key]
    for scoped in [scoped for scoped in data.settings if scoped[0] == node_id]:
        del data.settings[scoped]
        data.settings_version = index
    data.topology_version = index
    return APPLIED


def _record(
    command: NodeJoin | NodeUpdate, state: NodeState, join_order: int, index: int
) -> NodeRecord:
    return NodeRecord(
        node_id=command.node_id,
        store_id=command.store_id,
        rpc_address=command.rpc_address,
        sql_address=command.sql_address,
        http_address=command.http_address,
        locality=command.locality,
        role=command.role,
        wire_version=command.wire_version,
        spki_pin=command.spki_pin,
        incarnation=command.incarnation,
        state=state,
        join_order=join_order,
        changed_index=index,
    )


def _become(data: ClusterData, known: NodeRecord, state: NodeState, index: int) -> Outcome:
    data.nodes[known.node_id] = replace(known, state=state, changed_index=index)
    data.topology_version = index
    return APPLIED


def _taken_addresses(data: ClusterData, command: NodeJoin | NodeUpdate) -> Refused | None:
    """Refuse the rpc address, or the store, of another member."""
    for node_id, node in sorted(data.nodes.items()):
        if node_id == command.node_id or node.state == "decommissioned":
            continue
        if node.rpc_address == command.rpc_address:
            return Refused(
                f"address {command.rpc_address} already registered with different node_id "
                f"{node_id} (request: {command.node_id})",
                "conflict",
            )
        if command.store_id and node.store_id == command.store_id:
            return Refused(
                f"store {command.store_id} already registered with different node_id {node_id} "
                f"(request: {command.node_id}): was it copied?",
                "conflict",
            )
    return None


def _still_held(data: ClusterData, node_id: int) -> Refused | None:
    held = data.groups_of_node(node_id)
    if not held:
        return None
    names = ", ".join(str(group_id) for group_id in held)
    return Refused(f"node {node_id} still has replicas of groups {names}", "replicas")


def _no_such_node(data: ClusterData, node_id: int) -> Refused:
    if node_id in data.removed:
        return Refused(f"node {node_id} was removed from the cluster", "unknown")
    return Refused(f"node {node_id} does not exist", "unknown")
