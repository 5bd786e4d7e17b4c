"""Metrics of consensus, transport and membership, as the cluster's view shows them.

The packages of ``cluster`` know no Prometheus; what they count is read here.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.swim.counters import SwimCounters
    from nodedb.session.cluster_view import ClusterView, GroupStatus

_LIVENESS: Final = ("alive", "suspect", "dead", "left")
_STATES: Final = ("joining", "learner", "active", "draining", "decommissioned")
_CIRCUITS: Final = ("closed", "half-open", "OPEN")


def collect_raft(view: ClusterView) -> Iterator[Metric]:
    """Yield the families of the groups with a replica here."""
    gauges = (
        ("nodedb_raft_term", "The replica's term"),
        ("nodedb_raft_is_leader", "1 on the group's leader"),
        ("nodedb_raft_has_leader", "1 if the replica knows a leader"),
        ("nodedb_raft_is_quiescent", "1 while the group sends no messages because it is idle"),
        ("nodedb_raft_commit_index", "Newest entry known committed"),
        ("nodedb_raft_applied_index", "Newest entry applied"),
        ("nodedb_raft_log_entries", "Entries in the log"),
        ("nodedb_raft_voters", "Replicas that vote"),
        ("nodedb_raft_learners", "Replicas that only receive"),
    )
    families = {name: GaugeMetricFamily(name, text, labels=["group"]) for name, text in gauges}
    lag = GaugeMetricFamily(
        "nodedb_raft_peer_lag_entries",
        "Entries of the leader's log that a replica is not known to have",
        labels=["group", "peer"],
    )
    for group in view.groups():
        for name, value in _figures(group, view.node_id).items():
            families[name].add_metric([str(group.group_id)], value)
        for peer, match_index in group.match_indexes:
            behind = max(group.last_index - match_index, 0)
            lag.add_metric([str(group.group_id), str(peer)], behind)
    yield from families.values()
    yield lag


def _figures(group: GroupStatus, node_id: int) -> dict[str, int]:
    return {
        "nodedb_raft_term": group.term,
        "nodedb_raft_is_leader": int(group.leader_id == node_id and group.role == "leader"),
        "nodedb_raft_has_leader": int(group.leader_id != 0),
        "nodedb_raft_is_quiescent": int(group.is_quiescent),
        "nodedb_raft_commit_index": group.commit_index,
        "nodedb_raft_applied_index": group.applied_index,
        "nodedb_raft_log_entries": max(group.last_index - group.first_index + 1, 0),
        "nodedb_raft_voters": len(group.voters),
        "nodedb_raft_learners": len(group.learners),
    }


def collect_transport(view: ClusterView) -> Iterator[Metric]:
    """Yield the families of the peers: circuit, round trip, failures, refusals."""
    circuit = GaugeMetricFamily(
        "nodedb_peer_circuit",
        "1 for the state that the peer's circuit breaker is in",
        labels=["peer", "address", "state"],
    )
    failures = GaugeMetricFamily(
        "nodedb_peer_consecutive_failures", "Failures in a row", labels=["peer", "address"]
    )
    round_trip = GaugeMetricFamily(
        "nodedb_peer_round_trip_seconds",
        "Last measured round trip to the peer",
        labels=["peer", "address"],
    )
    for peer in view.peers():
        labels = [str(peer.node_id), peer.address]
        for state in _CIRCUITS:
            circuit.add_metric([*labels, state.lower()], int(peer.circuit == state))
        failures.add_metric(labels, peer.failures)
        if peer.round_trip_ms is not None:
            round_trip.add_metric(labels, peer.round_trip_ms / 1000)
    yield circuit
    yield failures
    yield round_trip
    yield GaugeMetricFamily(
        "nodedb_peer_refusals_listed",
        "Peers refused lately, as listed by /cluster/status (at most 100)",
        value=len(view.refusals()),
    )


def collect_membership(view: ClusterView) -> Iterator[Metric]:
    """Yield the families of the topology and of SWIM's judgement."""
    nodes = view.nodes()
    yield _counted(
        "nodedb_cluster_members",
        "Nodes of the topology by state",
        "state",
        _STATES,
        Counter(node.state for node in nodes),
    )
    yield _counted(
        "nodedb_swim_members",
        "Nodes of the topology by what the failure detector says of them",
        "liveness",
        _LIVENESS,
        Counter(node.liveness for node in nodes if node.liveness),
    )
    yield GaugeMetricFamily(
        "nodedb_topology_version",
        "Metadata index of the last change of the topology",
        value=view.topology_version,
    )
    running = GaugeMetricFamily(
        "nodedb_subsystem_running", "1 while the subsystem runs", labels=["subsystem"]
    )
    for name, is_running, _ in view.subsystems():
        running.add_metric([name], int(is_running))
    yield running
    yield GaugeMetricFamily(
        "nodedb_quorum",
        "1 if every group with a replica here has a leader within reach",
        value=int(view.has_quorum()),
    )


def collect_swim(counters: SwimCounters, awareness_score: Callable[[], int]) -> Iterator[Metric]:
    """Yield the failure detector's counters (``cluster.swim.counters``), and its own health."""
    for field in dataclasses.fields(counters):
        yield CounterMetricFamily(
            f"nodedb_swim_{field.name}",
            f"Failure detector, since the start: {field.name.replace('_', ' ')}",
            value=getattr(counters, field.name),
        )
    yield GaugeMetricFamily(
        "nodedb_swim_awareness_score",
        "0 is well; higher while this node has signs that it is itself slow",
        value=awareness_score(),
    )


def _counted(
    name: str, help_text: str, label: str, known: tuple[str, ...], counts: Counter[str]
) -> Metric:
    """Return a gauge with a sample for each known value: a count that falls to 0 must be seen."""
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for value in (*known, *sorted(counts.keys() - set(known))):
        family.add_metric([value], counts[value])
    return family
