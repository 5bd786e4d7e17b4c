"""Descriptor leases and drains in the metadata group's log.

Times are compared with the ``at`` of the command that looks, never with a clock, so applying is
deterministic; an expired lease of a dead node blocks nobody. ``descriptor_id`` 0 is the whole
catalog, which is how nodes take their leases: one each, whose version is the metadata index they
have applied. Who may publish the next version, and when, is decided by ``cluster.metadata.leases``
on the leader's monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.metadata.data import DrainRecord, LeaseRecord
from cluster.metadata.oracle import pack_timestamp
from cluster.metadata.outcome import APPLIED, Refused

if TYPE_CHECKING:
    from cluster.metadata.command import (
        DescriptorDrainEnd,
        DescriptorDrainStart,
        DescriptorLeaseGrant,
        DescriptorLeaseRelease,
    )
    from cluster.metadata.data import ClusterData
    from cluster.metadata.outcome import Outcome

LEASE_SECONDS_MAX: Final = 600
DRAIN_SECONDS_MAX: Final = 600
WHOLE_CATALOG: Final = 0


def grant(data: ClusterData, command: DescriptorLeaseGrant) -> Outcome:
    """Give a node a lease, or renew it. Refused while the version is being drained."""
    node = data.nodes.get(command.node_id)
    if node is None or node.state == "decommissioned":
        return Refused(f"node {command.node_id} is no member: it gets no lease", "unknown")
    wrong = _wrong_times(command.at, command.expires_at, LEASE_SECONDS_MAX, "lease")
    if wrong is not None:
        return wrong
    drain = data.drains.get(command.descriptor_id)
    if (
        drain is not None
        and command.version <= drain.up_to_version
        and command.at < drain.expires_at
    ):
        return Refused(
            f"descriptor {command.descriptor_id} is being changed: no lease on version "
            f"{command.version}",
            "draining",
        )
    _forget_expired(data, command.at)
    data.leases[command.descriptor_id, command.node_id] = LeaseRecord(
        command.descriptor_id, command.node_id, command.version, command.at, command.expires_at
    )
    return APPLIED


def release(data: ClusterData, command: DescriptorLeaseRelease) -> Outcome:
    """Take leases back; those a node has not are no fault."""
    ids = command.descriptor_ids or tuple(
        descriptor_id for descriptor_id, node_id in data.leases if node_id == command.node_id
    )
    for descriptor_id in ids:
        data.leases.pop((descriptor_id, command.node_id), None)
    return APPLIED


def start_drain(data: ClusterData, command: DescriptorDrainStart) -> Outcome:
    """Stop leases on old versions for a while."""
    wrong = _wrong_times(command.at, command.expires_at, DRAIN_SECONDS_MAX, "drain")
    if wrong is not None:
        return wrong
    _forget_expired(data, command.at)
    data.drains[command.descriptor_id] = DrainRecord(
        command.descriptor_id, command.up_to_version, command.at, command.expires_at
    )
    return APPLIED


def end_drain(data: ClusterData, command: DescriptorDrainEnd) -> Outcome:
    """Grant leases again."""
    data.drains.pop(command.descriptor_id, None)
    return APPLIED


def leases_in_the_way(
    data: ClusterData, descriptor_id: int, up_to_version: int, at: int
) -> tuple[LeaseRecord, ...]:
    """Return the unexpired leases on versions up to one, by node."""
    return tuple(
        lease
        for (leased_id, _), lease in sorted(data.leases.items())
        if leased_id == descriptor_id and lease.version <= up_to_version and lease.expires_at > at
    )


def _wrong_times(at: int, expires_at: int, seconds_max: int, what: str) -> Refused | None:
    if expires_at <= at:
        return Refused(f"the {what} would have expired already", "limit")
    if expires_at - at > pack_timestamp(seconds_max * 1000):
        return Refused(f"a {what} lasts at most {seconds_max} s", "limit")
    return None


def _forget_expired(data: ClusterData, at: int) -> None:
    for key in [key for key, lease in data.leases.items() if lease.expires_at <= at]:
        del data.leases[key]
    for descriptor_id in [i for i, drain in data.drains.items() if drain.expires_at <= at]:
        del data.drains[descriptor_id]
