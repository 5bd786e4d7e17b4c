"""The fault hook's faults, carried out by the transport's policy."""

import random

import pytest

from cluster.transport.faults import FaultPolicy
from nodedb.http.faults import DelayedLink, Faults, Link, LossyLink
from nodedb.http.planted import DatagramFaults, PlantedFaults

ONE = "127.0.0.1:9401"
TWO = "127.0.0.1:9402"


def test_faults_reach_transport_clock_and_disk_and_an_empty_post_heals() -> None:
    seen: list[object] = []
    policy = FaultPolicy(random.Random(1))
    controller = PlantedFaults(policy, set_clock_offset_ms=seen.append, set_disk_full=seen.append)
    faults = Faults(
        cut=(Link(peer=ONE, direction="in"),),
        delay=(DelayedLink(peer="*", seconds=0.5),),
        drop=(LossyLink(peer=TWO, direction="out", probability=1.0),),
        clock_offset_ms=3600000,
        disk_full=True,
    )
    controller.set_faults(faults)
    assert controller.faults() == faults
    assert policy.of(ONE, "in").is_cut
    assert policy.of(ONE, "out").delay_seconds == 0.5
    assert policy.of(TWO, "out").drop_probability == 1.0
    assert seen == [3600000, True]
    controller.set_faults(Faults())
    assert not policy.is_active
    assert seen == [3600000, True, 0, False]


def test_what_this_node_cannot_do_is_refused_and_nothing_is_planted() -> None:
    policy = FaultPolicy(random.Random(1))
    controller = PlantedFaults(policy)
    for faults, reason in (
        (Faults(cut=(Link(peer=ONE),), clock_offset_ms=1), "clock"),
        (Faults(cut=(Link(peer=ONE),), disk_full=True), "disk"),
        (Faults(cut=(Link(peer=ONE), Link(peer="two"))), "HOST:PORT"),
    ):
        with pytest.raises(ValueError, match=reason):
            controller.set_faults(faults)
    assert not policy.is_active
    assert controller.faults() == Faults()


def test_datagrams_meet_the_same_faults() -> None:
    policy = FaultPolicy(random.Random(1))
    datagrams = DatagramFaults(policy)
    controller = PlantedFaults(policy)
    assert datagrams.outgoing(ONE) == 0.0
    controller.set_faults(
        Faults(
            cut=(Link(peer=ONE, direction="in"),),
            delay=(DelayedLink(peer=ONE, direction="out", seconds=0.25),),
        )
    )
    assert datagrams.incoming(ONE) is None
    assert datagrams.outgoing(ONE) == 0.25
    assert datagrams.incoming(TWO) == 0.0
    controller.set_faults(Faults(drop=(LossyLink(peer="*", probability=0.5),)))
    decisions = [datagrams.incoming(TWO) for _ in range(1000)]
    assert 400 < decisions.count(None) < 600
