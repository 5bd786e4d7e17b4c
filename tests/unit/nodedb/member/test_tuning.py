"""The settings of consensus: the node's own at first, then the cluster's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.metadata.command import Setting
from cluster.metadata.state import ClusterState
from cluster.raft.config import RaftConfig
from nodedb.member.tuning import agreed_config, raft_config


def node_config(**changes: Any) -> Any:
    chosen = {
        "election_timeout_ms_min": None,
        "election_timeout_ms_max": None,
        "heartbeat_ms": None,
        **changes,
    }
    return SimpleNamespace(**chosen)


def agreed(**settings: str) -> ClusterState:
    cluster = ClusterState()
    for index, (name, value) in enumerate(settings.items(), 1):
        cluster.apply(Setting(0, name, value), index)
    return cluster


def test_a_nodes_own_settings() -> None:
    assert raft_config(node_config()) == RaftConfig()
    made = raft_config(node_config(election_timeout_ms_min=2000, election_timeout_ms_max=5000))
    assert (made.election_timeout_ms_min, made.election_timeout_ms_max) == (2000, 5000)
    assert made.heartbeat_ms == RaftConfig().heartbeat_ms


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"election_timeout_ms_max.*; .*heartbeat_ms"):
        raft_config(
            node_config(election_timeout_ms_min=500, election_timeout_ms_max=400, heartbeat_ms=450)
        )


def test_what_the_cluster_agreed_on_comes_first() -> None:
    cluster = agreed(
        election_timeout_min="2s", election_timeout_max="5s", heartbeat_interval="300ms"
    )
    made = agreed_config(cluster, raft_config(node_config(heartbeat_ms=100)))
    assert made.election_timeout_ms_min == 2000
    assert made.election_timeout_ms_max == 5000
    assert made.heartbeat_ms == 300
    assert agreed_config(ClusterState(), made) == made


def test_settings_that_do_not_go_together_change_nothing() -> None:
    cluster = agreed(election_timeout_max="200ms")
    assert agreed_config(cluster, RaftConfig()) == RaftConfig()
