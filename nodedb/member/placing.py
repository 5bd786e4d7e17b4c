"""Keeps each group's replicas, and the metadata group's leader, where they should be.

Runs on every member; each step is taken by whoever leads the group concerned, one at a time, from
what is observed then (``cluster.membership.placement``). A step that is lost is taken again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from cluster.errors import ClusterError
from cluster.ids import METADATA_GROUP
from cluster.membership.placement import (
    GroupView,
    PlacementNode,
    TransferLeadership,
    next_step,
    nodes_to_activate,
)
from cluster.metadata.command import GroupReplicas, PromoteToActive, SetGroups, encode_command
from cluster.metadata.settings import value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.metadata.command import Command
    from cluster.raft.message import Configuration
    from nodedb.catalog.metadata import MetadataState
    from nodedb.kv.replica import Replica
    from nodedb.kv.replicator import Replicator
    from nodedb.member.leadership import DataLeadership

_LOGGER: Final = logging.getLogger("nodedb.placing")
PERIOD_SECONDS: Final = 0.1
REPEAT_SECONDS: Final = 2.0
TRANSFER_SECONDS: Final = 0.5
"""How long a transfer of the lead is given before it is asked for again."""


class Placing:
    """The steps of one member. ``is_live(node_id)``: heard of lately."""

    def __init__(
        self,
        replicator: Replicator,
        metadata: MetadataState,
        leadership: DataLeadership,
        is_live: Callable[[int], bool],
    ) -> None:
        self._replicator = replicator
        self._metadata = metadata
        self._leadership = leadership
        self._is_live = is_live
        self._transferred_at = 0.0
        self._is_proposing = False
        self._proposed: dict[Command, float] = {}
        """What was proposed lately, and when."""
        self._settled: dict[int, tuple[tuple[PlacementNode, ...], Configuration]] = {}
        """What the groups in which nothing was to be done looked like."""
        self.is_handing_over = False
        """This node drains: it leads nothing that others can lead."""

    def step(self) -> None:
        """Take the next step in each group led here."""
        nodes = self._nodes()
        for group_id, replica in self._replicator.replicas.items():
            if replica.core.is_leader and not self.is_handing_over:
                self._step_group(group_id, replica, nodes)
        self._follow_data()
        if self._replicator.replicas[METADATA_GROUP].core.is_leader:
            self._record(nodes)

    def _nodes(self) -> tuple[PlacementNode, ...]:
        own = self._replicator.node_id
        return tuple(
            PlacementNode(
                record.node_id,
                record.join_order,
                record.state,
                record.role,
                record.locality,
                is_live=record.node_id == own or self._is_live(record.node_id),
            )
            for _, record in sorted(self._metadata.cluster.nodes.items())
        )

    def _view(self, group_id: int, replica: Replica) -> GroupView:
        core, cluster = replica.core, self._metadata.cluster
        matches = {peer: progress.match_index for peer, progress in core.progress.items()}
        matches[self._replicator.node_id] = replica.log.durable_index()
        return GroupView(
            group_id,
            core.leader_id,
            core.configuration,
            matches,
            core.commit_index,
            int(value_of("replication_factor", cluster.setting("replication_factor"))),
            core.conf_change_in_flight,
            has_learners_everywhere=True,
        )

    def _step_group(
        self, group_id: int, replica: Replica, nodes: tuple[PlacementNode, ...]
    ) -> None:
        key = nodes, replica.core.configuration
        if replica.core.is_quiescent and self._settled.get(group_id) == key:
            return  # Nothing was to be done, and nothing has happened since.
        step = next_step(self._view(group_id, replica), nodes)
        if step is None:
            self._settled[group_id] = key
            return
        if isinstance(step, TransferLeadership):
            self.transfer(group_id, step.target)
            return
        _LOGGER.info("group %d: %s node %d", group_id, step.kind.replace("_", " "), step.node_id)
        try:
            self._replicator.propose_conf_change(group_id, step)
        except ClusterError as error:
            _LOGGER.info("group %d: not now: %s", group_id, error)

    def transfer(self, group_id: int, target: int) -> None:
        """Hand a group to another node; at most every ``TRANSFER_SECONDS``."""
        now = self._replicator.now()
        if now - self._transferred_at < TRANSFER_SECONDS:
            return
        if not self._replicator.replicas[group_id].core.has_answered(target):
            return  # It may be the one whose loss made this node the leader.
        self._transferred_at = now
        _LOGGER.info("group %d: handing the lead to node %d", group_id, target)
        self._replicator.transfer_leadership(group_id, target)

    def _follow_data(self) -> None:
        """Hand the metadata group to the leader of the data."""
        target = self._leadership.followed_leader()
        if target:
            self.transfer(METADATA_GROUP, target)

    def _record(self, nodes: tuple[PlacementNode, ...]) -> None:
        """Write into the metadata group what has become of the groups and of new nodes."""
        if self._is_proposing:
            return
        cluster = self._metadata.cluster
        changed = []
        for group_id, replica in self._replicator.replicas.items():
            configuration = replica.core.applied_configuration
            record = cluster.groups.get(group_id)
            known = None if record is None else (record.voters, record.learners)
            if known != (configuration.voters, configuration.learners):
                changed.append(
                    GroupReplicas(group_id, configuration.voters, configuration.learners)
                )
        if changed and not self._replicator.replicas[METADATA_GROUP].core.conf_change_in_flight:
            self._propose(SetGroups(tuple(changed)))
            return
        view = self._view(METADATA_GROUP, self._replicator.replicas[METADATA_GROUP])
        for node_id in nodes_to_activate(view, nodes):
            self._propose(PromoteToActive(node_id))
            return

    def _propose(self, command: Command) -> None:
        """Propose, but not the same again at once: the group may have refused it."""
        now = self._replicator.now()
        young = now - REPEAT_SECONDS
        self._proposed = {known: at for known, at in self._proposed.items() if at > young}
        if command in self._proposed:
            return
        self._proposed[command] = now
        self._is_proposing = True
        waiter = self._replicator.propose(METADATA_GROUP, encode_command(command), command)

        def done() -> None:
            self._is_proposing = False

        waiter.on_done(done)
