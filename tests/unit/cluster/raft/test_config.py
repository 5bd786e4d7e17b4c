"""Settings of Raft: formulas, and the sentence for each that cannot work."""

import pytest

from cluster.raft.config import RaftConfig


def test_the_defaults_are_those_of_the_architecture() -> None:
    config = RaftConfig()
    assert config.faults() == []
    assert (config.election_timeout_ms_min, config.election_timeout_ms_max) == (750, 1500)
    assert (config.heartbeat_ms, config.tick_ms) == (150, 25)
    assert config.election_timeout_seconds_min == 0.75
    assert config.election_timeout_seconds_max == 1.5
    assert config.heartbeat_seconds == 0.15
    assert config.lease_seconds == pytest.approx(0.675)


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ({"heartbeat_ms": 400}, ["heartbeat_ms (400) must fit twice into"]),
        ({"election_timeout_ms_min": 1500}, ["must be above election_timeout_ms_min (1500)"]),
        ({"tick_ms": 200}, ["tick_ms (200) must not be above heartbeat_ms (150)"]),
        ({"append_bytes_max": 2**30}, ["must not be above inflight_bytes_max"]),
        ({"lease_drift_ms": 0}, ["lease_drift_ms must be above 0, it is 0"]),
        ({"inflight_entries_max": -1}, ["inflight_entries_max must be above 0, it is -1"]),
        (
            {"heartbeat_ms": 0, "tick_ms": 0},
            ["heartbeat_ms must be above 0", "tick_ms must be above 0"],
        ),
        ({"lease_drift_ms": 749}, ["must fit twice into"]),
    ],
)
def test_all_faults_are_named_at_once(settings: dict[str, int], sentences: list[str]) -> None:
    faults = RaftConfig(**settings).faults()  # type: ignore[arg-type]
    assert len(faults) == len(sentences), faults
    for fault, sentence in zip(faults, sentences, strict=True):
        assert sentence in fault


def test_quiescence_may_be_switched_off() -> None:
    assert RaftConfig(quiesce_after_seconds=0).faults() == []
