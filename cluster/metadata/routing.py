"""Where groups and vshards are, as the metadata group orders it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from cluster.ids import METADATA_GROUP, VSHARD_COUNT
from cluster.metadata.data import as_record, joined_ranges
from cluster.metadata.outcome import APPLIED, Refused

if TYPE_CHECKING:
    from cluster.metadata.command import (
        LeadershipTransfer,
        ReassignVshards,
        RemoveMember,
        SetGroups,
    )
    from cluster.metadata.data import ClusterData
    from cluster.metadata.outcome import Outcome


def set_groups(data: ClusterData, command: SetGroups, index: int) -> Outcome:
    """Set the replicas of groups; all of them are members that are not decommissioned."""
    changed = dict(data.groups)
    for replicas in command.groups:
        group_id = replicas.group_id
        if group_id < 0:
            return Refused(f"invalid group {group_id}", "limit")
        if not replicas.voters:
            return Refused(f"group {group_id} needs a voter", "replicas")
        both = set(replicas.voters) & set(replicas.learners)
        if both:
            return Refused(f"node {min(both)} cannot be voter and learner of one group", "conflict")
        for node_id in sorted({*replicas.voters, *replicas.learners}):
            node = data.nodes.get(node_id)
            if node is None or node.state == "decommissioned":
                return Refused(
                    f"node {node_id} is no member: group {group_id} cannot be on it", "unknown"
                )
        known = changed.get(group_id)
        changed[group_id] = as_record(replicas, 0 if known is None else known.preferred_leader)
    if changed != data.groups:
        data.groups = changed
        data.routing_version = index
    return APPLIED


def reassign_vshards(data: ClusterData, command: ReassignVshards, index: int) -> Outcome:
    """Give ranges of vshards to other groups."""
    groups = data.vshard_groups()
    for given in command.ranges:
        if not 0 <= given.start < given.end <= VSHARD_COUNT:
            return Refused(f"invalid range of vshards {given.start} to {given.end}", "limit")
        if given.group_id == METADATA_GROUP:
            return Refused("the metadata group holds no vshards", "conflict")
        if given.group_id not in data.groups:
            return Refused(f"group {given.group_id} does not exist", "unknown")
        groups[given.start : given.end] = [given.group_id] * (given.end - given.start)
    ranges = joined_ranges(groups)
    if ranges != data.vshards:
        data.vshards = ranges
        data.routing_version = index
    return APPLIED


def remove_member(data: ClusterData, command: RemoveMember, index: int) -> Outcome:
    """Take a node off a group's list; the last voter stays."""
    group = data.groups.get(command.group_id)
    if group is None:
        return Refused(f"group {command.group_id} does not exist", "unknown")
    node_id = command.node_id
    if node_id not in group.replicas:
        return APPLIED
    voters = tuple(voter for voter in group.voters if voter != node_id)
    if not voters:
        return Refused(f"node {node_id} is the last voter of group {group.group_id}", "replicas")
    data.groups[group.group_id] = replace(
        group,
        voters=voters,
        learners=tuple(learner for learner in group.learners if learner != node_id),
        preferred_leader=0 if group.preferred_leader == node_id else group.preferred_leader,
    )
    data.routing_version = index
    return APPLIED


def prefer_leader(data: ClusterData, command: LeadershipTransfer, index: int) -> Outcome:
    """Note which voter should lead a group."""
    group = data.groups.get(command.group_id)
    if group is None:
        return Refused(f"group {command.group_id} does not exist", "unknown")
    if command.node_id and command.node_id not in group.voters:
        return Refused(f"node {command.node_id} is no voter of group {command.group_id}", "unknown")
    if command.node_id != group.preferred_leader:
        data.groups[group.group_id] = replace(group, preferred_leader=command.node_id)
        data.routing_version = index
    return APPLIED
