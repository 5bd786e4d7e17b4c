"""The metadata group's state machine for everything but descriptors: pure and deterministic.

``apply`` takes the entries in the order of the log and gives each an ``Outcome``, the same on every
replica: applied, or refused with a sentence. It looks at nothing but the state and the command;
time comes in the commands (``cluster.metadata.command``). A refused command, a batch with a refused
member included, changes nothing but ``applied_index``.

Idempotence is by index and at the door: an entry at or below ``applied_index`` does nothing. The
members of a batch share their entry's index and come in behind the door, so all of them apply. (The
reference system checked the index per member and lost every member but the first: mistake M1.)

``topology_version`` is the index of the last change of the members, never a count of them (mistake
M8); replicas with the same version have the same topology.

Catalog changes are opaque: ``Applied.payloads`` tells the host which to apply. Left to the host:
saving the state with the applied index (``encode``), and telling the node about changes.
"""

from __future__ import annotations

from typing import Final, assert_never

from cluster.metadata import grants, routing, topology, trust
from cluster.metadata.command import (
    Batch,
    CatalogChange,
    CaTrustChange,
    ClusterVersionBump,
    Command,
    DescriptorDrainEnd,
    DescriptorDrainStart,
    DescriptorLeaseGrant,
    DescriptorLeaseRelease,
    Fence,
    FinishDecommission,
    ForgetDecisions,
    FoundCluster,
    JoinTokenTransition,
    LeadershipTransfer,
    NodeJoin,
    NodeLeave,
    NodeUpdate,
    PromoteToActive,
    ReassignVshards,
    Recommission,
    RemoveMember,
    SetGroups,
    Setting,
    StartDecommission,
    TimestampWindow,
    flatten,
)
from cluster.metadata.data import ClusterData
from cluster.metadata.outcome import APPLIED, Applied, Outcome, Refused

SETTING_BYTES_MAX: Final = 1024
SETTINGS_MAX: Final = 10_000


class ClusterState(ClusterData):
    """The data, changed by commands only."""

    def apply(self, command: Command, index: int) -> Outcome:
        """Apply the entry at ``index``; one that was applied already is Applied without effect."""
        if index <= self.applied_index:
            return APPLIED
        outcome = self._apply_together(command, index)
        self.applied_index = index
        return outcome

    def _apply_together(self, command: Command, index: int) -> Outcome:
        """Apply all members of a command, or none."""
        if not isinstance(command, Batch):
            return self._apply_one(command, index)
        mark = self.mark()
        payloads: list[bytes] = []
        for member in flatten(command):
            outcome = self._apply_one(member, index)
            if isinstance(outcome, Refused):
                self.rollback(mark)
                return outcome
            payloads.extend(outcome.payloads)
        return Applied(tuple(payloads)) if payloads else APPLIED

    def _apply_one(self, command: Command, index: int) -> Outcome:
        match command:
            case TimestampWindow():
                return _raise_window(self, command)
            case CatalogChange():
                return _change_catalog(self, command, index)
            case NodeJoin():
                return topology.join(self, command, index)
            case NodeUpdate():
                return topology.update(self, command, index)
            case PromoteToActive():
                return topology.promote(self, command, index)
            case StartDecommission():
                return topology.start_decommission(self, command, index)
            case FinishDecommission():
                return topology.finish_decommission(self, command, index)
            case Recommission():
                return topology.recommission(self, command, index)
            case NodeLeave():
                return topology.leave(self, command, index)
            case SetGroups():
                return routing.set_groups(self, command, index)
            case ReassignVshards():
                return routing.reassign_vshards(self, command, index)
            case RemoveMember():
                return routing.remove_member(self, command, index)
            case LeadershipTransfer():
                return routing.prefer_leader(self, command, index)
            case ClusterVersionBump():
                return _bump_version(self, command)
            case Setting():
                return _set(self, command, index)
            case FoundCluster():
                return _found(self, command)
            case DescriptorLeaseGrant():
                return grants.grant(self, command)
            case DescriptorLeaseRelease():
                return grants.release(self, command)
            case DescriptorDrainStart():
                return grants.start_drain(self, command)
            case DescriptorDrainEnd():
                return grants.end_drain(self, command)
            case CaTrustChange():
                return trust.change_ca(self, command, index)
            case JoinTokenTransition():
                return trust.change_token(self, command, index)
            case Fence():
                return _fence(self, command)
            case ForgetDecisions():
                return _forget_decisions(self, command)
            case Batch():
                raise AssertionError("batches are taken apart before")
            case _ as unreachable:
                assert_never(unreachable)

    @classmethod
    def decode(cls, encoded: bytes) -> ClusterState:
        """Return the state that ``encode`` wrote. Raises DamagedState."""
        state = cls()
        state.restore(encoded)
        return state


def _raise_window(data: ClusterData, command: TimestampWindow) -> Outcome:
    data.timestamp_window = max(data.timestamp_window, command.until)
    return APPLIED


def _change_catalog(data: ClusterData, command: CatalogChange, index: int) -> Outcome:
    """Decide whether a change takes effect; the host has checked it against its own catalog."""
    transaction_id = command.transaction_id
    if transaction_id and transaction_id in data.decisions:
        return APPLIED  # A copy of an entry that has taken effect: its payload must not again.
    newest, _ = data.fence
    if command.fence and command.fence < newest:
        return Refused(
            f"the change was made under term {command.fence} of the data group, which is in term "
            f"{newest} by now",
            "fenced",
        )
    if transaction_id:
        data.decisions[transaction_id] = index
    return Applied((command.payload,))


def _fence(data: ClusterData, command: Fence) -> Outcome:
    """Raise the fence. One leader per term: a second one's claim on a term is refused."""
    new = (command.term, command.node_id)
    if new == data.fence:
        return APPLIED
    term, node_id = data.fence
    if command.term <= term:
        return Refused(
            f"node {command.node_id} does not lead the data group in term {command.term}: "
            f"node {node_id} does in term {term}",
            "fenced",
        )
    data.fence = new
    return APPLIED


def _forget_decisions(data: ClusterData, command: ForgetDecisions) -> Outcome:
    for transaction_id in command.upto_transaction_ids:
        data.decisions.pop(transaction_id, None)
    return APPLIED


def _found(data: ClusterData, command: FoundCluster) -> Outcome:
    if data.cluster_id and data.cluster_id != command.cluster_id:
        return Refused(f"this is cluster {data.cluster_id}, not {command.cluster_id}", "conflict")
    data.cluster_id = command.cluster_id
    return APPLIED


def _bump_version(data: ClusterData, command: ClusterVersionBump) -> Outcome:
    """Roll the features forward, once every node speaks the version."""
    wanted = command.to_version
    if wanted <= data.cluster_version:
        return APPLIED if wanted == data.cluster_version else _version_is_newer(data, wanted)
    if command.from_version != data.cluster_version:
        return Refused(
            f"the cluster version is {data.cluster_version}, not {command.from_version}", "conflict"
        )
    for node_id, node in sorted(data.nodes.items()):
        if node.wire_version < wanted and node.state != "decommissioned":
            return Refused(f"node {node_id} speaks wire version {node.wire_version} only", "state")
    data.cluster_version = wanted
    return APPLIED


def _version_is_newer(data: ClusterData, wanted: int) -> Refused:
    return Refused(
        f"the cluster version is {data.cluster_version} already: {wanted} is behind it", "conflict"
    )


def _set(data: ClusterData, command: Setting, index: int) -> Outcome:
    """Set or reset; whether the value makes sense was checked by whoever proposed it.

    A store without members is that of a node by itself, whatever its id.
    """
    if command.node_id and data.nodes and command.node_id not in data.nodes:
        return Refused(f"node {command.node_id} does not exist", "unknown")
    key = (command.node_id, command.name)
    if command.value is None:
        if data.settings.pop(key, None) is not None:
            data.settings_version = index
        return APPLIED
    if len(command.name) + len(command.value) > SETTING_BYTES_MAX:
        return Refused(f"the setting is longer than {SETTING_BYTES_MAX} characters", "limit")
    if key not in data.settings and len(data.settings) >= SETTINGS_MAX:
        return Refused(f"there are {SETTINGS_MAX} settings already", "limit")
    if data.settings.get(key) != command.value:
        data.settings[key] = command.value
        data.settings_version = index
    return APPLIED
