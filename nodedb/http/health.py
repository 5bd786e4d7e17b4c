"""What the health endpoints answer, from what is known of the node: (status, JSON body).

Bodies are those of BEHAVIOUR section 11. Liveness says only that the process answers; a restart
heals nothing that readiness complains of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from nodedb.drain import DrainProgress
    from nodedb.http.phases import StartPhases
    from nodedb.http.services import HttpServices
    from nodedb.session.cluster_view import ClusterView

Body = dict[str, Any]
_OK: Final = 200
_UNAVAILABLE: Final = 503
DECOMMISSIONED: Final = "decommissioned"


class Answer(NamedTuple):
    """An HTTP status and the JSON body that goes with it."""

    status: int
    body: Body


def lifecycle_of(services: HttpServices) -> str:
    """Return starting, failed, ready, draining or decommissioned."""
    if is_decommissioned(services.cluster):
        return DECOMMISSIONED
    if services.drain.progress().is_draining:
        return "draining"
    if services.phases.error:
        return "failed"
    return "ready" if services.phases.is_over else "starting"


def is_decommissioned(view: ClusterView | None) -> bool:
    """Tell whether the cluster has removed this node for good."""
    if view is None:
        return False
    return any(
        node.node_id == view.node_id and node.state == DECOMMISSIONED for node in view.nodes()
    )


def healthz(services: HttpServices) -> Answer:
    """200 from the ready line on; 503 while starting, draining or decommissioned."""
    lifecycle = lifecycle_of(services)
    if lifecycle in {"draining", DECOMMISSIONED}:
        body = {"status": "draining", "lifecycle": lifecycle, "node_id": services.node_id()}
        return Answer(_UNAVAILABLE, body)
    return starting(services.phases)


def starting(phases: StartPhases) -> Answer:
    """Tell how far the start has come."""
    if phases.error:
        return Answer(_UNAVAILABLE, {"status": "failed", "error": phases.error})
    if not phases.is_over:
        return Answer(_UNAVAILABLE, {"status": "starting", "phase": phases.current})
    return Answer(_OK, {"status": "ok", "phase": phases.current})


def live() -> Answer:
    """200 while the process answers."""
    return Answer(_OK, {"status": "alive"})


def ready(services: HttpServices) -> Answer:
    """200 only when the start is over, no drain has begun, all subsystems run and have a quorum."""
    view = services.cluster
    subsystems = view.subsystems() if view is not None else []
    reasons = _why_not_ready(services)
    body = {
        "status": "not_ready" if reasons else "ready",
        "node_id": services.node_id(),
        "phase": services.phases.current,
        "wal_lsn": services.durable_index(),
        "quorum": view is None or view.has_quorum(),
        "subsystems": [
            {"name": name, "running": is_running, "detail": detail}
            for name, is_running, detail in subsystems
        ],
        "reasons": reasons,
    }
    return Answer(_UNAVAILABLE if reasons else _OK, body)


def _why_not_ready(services: HttpServices) -> list[str]:
    lifecycle = lifecycle_of(services)
    reasons = [] if lifecycle == "ready" else [f"the node is {lifecycle}"]
    view = services.cluster
    if view is None:
        return reasons
    reasons += [
        f"subsystem {name} does not run" + (f": {detail}" if detail else "")
        for name, is_running, detail in view.subsystems()
        if not is_running
    ]
    if not view.has_quorum():
        reasons.append("a group with a replica here has no leader within reach")
    return reasons


def health(services: HttpServices) -> Answer:
    """All of it in short; 503 unless the node serves."""
    lifecycle = lifecycle_of(services)
    is_serving = lifecycle == "ready"
    view = services.cluster
    body = {
        "status": "ok" if is_serving else lifecycle,
        "ready": ready(services).status == _OK,
        "node_id": services.node_id(),
        "cluster_id": services.cluster_id(),
        "phase": services.phases.current,
        "connections": services.connection_count(),
        "cluster_version": {"nodes": len(view.nodes()) if view is not None else 0}
        | services.version_range(),
    }
    return Answer(_OK if is_serving else _UNAVAILABLE, body)


def drain(progress: DrainProgress, node_id: int) -> Body:
    """Return the progress of a drain as JSON."""
    return {
        "status": progress.phase.value,
        "draining": progress.is_draining,
        "node_id": node_id,
        "reason": progress.reason,
        "elapsed_seconds": round(progress.elapsed_seconds, 3),
        "phase_seconds_left": round(progress.phase_seconds_left, 3),
        "connections": progress.connection_count,
        "leases": progress.lease_count,
    }


def node_info(services: HttpServices) -> Body:
    """Return what an operator needs to let another node join this one's cluster."""
    own = {"node_id": services.node_id(), "cluster_id": services.cluster_id()}
    return own | {"lifecycle": lifecycle_of(services)} | services.info()


def cluster_status(services: HttpServices) -> Body:
    """Return everything the node knows of its cluster."""
    view = services.cluster
    body: Body = {
        "node_id": services.node_id(),
        "cluster_id": services.cluster_id(),
        "lifecycle": lifecycle_of(services),
        "drain": drain(services.drain.progress(), services.node_id()),
    }
    if view is None:
        return body
    return body | {
        "topology_version": view.topology_version,
        "quorum": view.has_quorum(),
        "nodes": [node._asdict() for node in view.nodes()],
        "groups": [
            group._asdict() | {"match_indexes": {str(k): v for k, v in group.match_indexes}}
            for group in view.groups()
        ],
        "peers": [peer._asdict() for peer in view.peers()],
        "refusals": [{"address": address, "reason": reason} for address, reason in view.refusals()],
        "subsystems": [
            {"name": name, "running": is_running, "detail": detail}
            for name, is_running, detail in view.subsystems()
        ],
    }
