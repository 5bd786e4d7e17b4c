"""What ``POST /debug/fault`` plants: links, clock, disk; all of it replaced by the next post."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nodedb.clock import FaultClock, SystemClock
from nodedb.faults import NodeFaults
from nodedb.http.faults import DelayedLink, Faults, Link, LossyLink


class StandingClock(SystemClock):
    def wall_us(self) -> int:
        return 1_000_000


def node() -> tuple[NodeFaults, FaultClock, SimpleNamespace]:
    clock = FaultClock(StandingClock())
    faults = NodeFaults(clock)
    directory = SimpleNamespace(is_full=False)
    faults.directory = directory  # type: ignore[assignment]
    return faults, clock, directory


def test_links_by_peer_and_direction() -> None:
    faults, _, _ = node()
    faults.set_faults(
        Faults(
            cut=(Link(peer="a:1", direction="in"),),
            delay=(DelayedLink(peer="*", direction="out", seconds=0.2),),
            drop=(LossyLink(peer="b:1", probability=0.5),),
        )
    )
    policy = faults.policy
    assert policy.of("a:1", "in").is_cut
    assert not policy.of("a:1", "out").is_cut
    assert policy.of("c:1", "out").delay_seconds == 0.2
    assert {policy.of("b:1", d).drop_probability for d in ("in", "out")} == {0.5}


def test_clock_and_disk() -> None:
    faults, clock, directory = node()
    faults.set_faults(Faults(clock_offset_ms=3_600_000, disk_full=True))
    assert clock.wall_us() == 1_000_000 + 3_600_000_000
    assert directory.is_full
    assert faults.faults().disk_full


def test_the_next_post_replaces_everything() -> None:
    faults, clock, directory = node()
    faults.set_faults(Faults(cut=(Link(peer="a:1"),), clock_offset_ms=5, disk_full=True))
    faults.set_faults(Faults())
    assert not faults.policy.is_active
    assert clock.offset_us == 0
    assert not directory.is_full
    assert faults.faults() == Faults()


def test_what_a_node_cannot_do_is_refused_and_changes_nothing() -> None:
    clock = SystemClock()
    faults = NodeFaults(clock)
    with pytest.raises(ValueError, match="clock"):
        faults.set_faults(Faults(clock_offset_ms=1, cut=(Link(peer="a:1"),)))
    with pytest.raises(ValueError, match="disk"):
        faults.set_faults(Faults(disk_full=True, cut=(Link(peer="a:1"),)))
    assert not faults.policy.is_active
    assert faults.faults() == Faults()
