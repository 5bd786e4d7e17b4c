"""Settings of consensus: what the node was started with, then what the cluster agrees on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cluster.metadata.settings import value_of
from cluster.raft.config import RaftConfig

if TYPE_CHECKING:
    from cluster.metadata.state import ClusterState
    from nodedb.config import NodeConfig


def raft_config(config: NodeConfig) -> RaftConfig:
    """Return what a node starts its groups with. Raises ValueError with all that is wrong."""
    chosen = {
        name: getattr(config, name)
        for name in ("election_timeout_ms_min", "election_timeout_ms_max", "heartbeat_ms")
        if getattr(config, name) is not None
    }
    made = dataclasses.replace(RaftConfig(), **chosen)
    if faults := made.faults():
        raise ValueError("; ".join(faults))
    return made


def agreed_config(cluster: ClusterState, present: RaftConfig) -> RaftConfig:
    """Return the settings that the cluster has agreed on, over those a node was started with.

    The election window is decided when the cluster is founded, for leases are made of it: two
    nodes with different ones could both hold one. What does not fit together is left as it is: it
    was refused where it was set, or another release has other bounds.
    """
    changed = {}
    for name, field in (
        ("election_timeout_min", "election_timeout_ms_min"),
        ("election_timeout_max", "election_timeout_ms_max"),
        ("heartbeat_interval", "heartbeat_ms"),
    ):
        text = cluster.setting(name)
        if text is not None:
            changed[field] = round(value_of(name, text) * 1000)
    made = dataclasses.replace(present, **changed) if changed else present
    return present if made.faults() else made
