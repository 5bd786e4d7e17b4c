"""Pings, pushes of the topology, and what they leave alone."""

from __future__ import annotations

import itertools
import random

import pytest

from cluster.membership.catalog import Topology
from cluster.membership.config import HealthSettings
from cluster.membership.health import HealthMonitor, SendPing, SendTopology
from cluster.membership.message import STATE_CODES, MemberNode, Ping, Pong, TopologyPush

SETTINGS = HealthSettings()


def topology(version: int, count: int = 3, **states: str) -> Topology:
    return Topology(
        version,
        tuple(
            MemberNode(
                number, f"n{number}:1", STATE_CODES[states.get(f"n{number}", "active")], (0,), 1
            )
            for number in range(1, count + 1)
        ),
    )


def monitor(node_id: int = 1, version: int = 7, count: int = 3) -> HealthMonitor:
    return HealthMonitor(
        SETTINGS, node_id=node_id, cluster_id="c1", topology=topology(version, count), now=0.0
    )


def pinged(core: HealthMonitor, now: float) -> list[int]:
    core.on_tick(now)
    return [effect.node_id for effect in core.effects() if isinstance(effect, SendPing)]


def test_every_peer_is_pinged_every_five_seconds() -> None:
    core = monitor()
    assert pinged(core, 0.0) == [2, 3]
    assert core.next_due_at() is None, "both are out"
    core.on_pong(2, Pong(2, 7))
    core.on_ping_failed(3, "no answer")
    assert core.next_due_at() == 5.0
    assert pinged(core, 4.9) == []
    assert pinged(core, 5.0) == [2, 3]
    assert pinged(core, 10.0) == [], "a ping that is out is not doubled"


def test_a_paused_process_does_not_make_up_for_what_it_missed() -> None:
    core = monitor()
    pinged(core, 0.0)
    core.on_pong(2, Pong(2, 7))
    core.on_pong(3, Pong(3, 7))
    assert pinged(core, 100.0) == [2, 3]
    core.on_pong(2, Pong(2, 7))
    core.on_pong(3, Pong(3, 7))
    assert core.next_due_at() == 105.0


def test_the_ping_tells_the_version() -> None:
    core = monitor()
    core.on_tick(0.0)
    (first, _) = core.effects()
    assert first == SendPing(2, "n2:1", Ping(1, 7))


def test_a_peer_that_is_behind_gets_the_topology_once() -> None:
    core = monitor()
    pinged(core, 0.0)
    core.on_pong(2, Pong(2, 5))
    assert core.effects() == [SendTopology(2, "n2:1", TopologyPush("c1", 7, core.topology.nodes))]
    core.on_ping(Ping(2, 5))
    assert core.effects() == [], "one push at a time"
    core.on_push_answered(2, Pong(2, 7))
    core.on_ping(Ping(2, 7))
    assert core.effects() == []


def test_a_ping_from_a_peer_that_is_behind_is_answered_with_a_push_too() -> None:
    core = monitor()
    assert core.on_ping(Ping(3, 6)) == Pong(1, 7)
    assert [type(effect) for effect in core.effects()] == [SendTopology]
    core.on_push_failed(3, "connection lost")
    core.on_ping(Ping(3, 6))
    assert [type(effect) for effect in core.effects()] == [SendTopology]


@pytest.mark.parametrize("version", [7, 8])
def test_nothing_is_pushed_to_who_knows_as_much_or_more(version: int) -> None:
    core = monitor()
    pinged(core, 0.0)
    core.on_pong(2, Pong(2, version))
    assert core.effects() == []


def test_only_a_newer_topology_is_adopted_with_its_version() -> None:
    core = monitor()
    for version, count in ((7, 9), (3, 3)):
        pong, adopted = core.on_push(
            TopologyPush("c1", version, topology(version, count).nodes), 1.0
        )
        assert (pong, adopted) == (Pong(1, 7), False)
    pong, adopted = core.on_push(TopologyPush("c1", 42, topology(42, 4).nodes), 1.0)
    assert (pong, adopted) == (Pong(1, 42), True), "the metadata index, not the count of nodes"
    assert core.topology == topology(42, 4)
    assert pinged(core, 1.0) == [2, 3, 4]


def test_a_topology_of_another_cluster_or_without_this_node_is_not_adopted() -> None:
    core = monitor(node_id=3)
    assert core.on_push(TopologyPush("c2", 42, topology(42).nodes), 1.0)[1] is False
    assert core.on_push(TopologyPush("c1", 42, topology(42, 2).nodes), 1.0)[1] is False
    assert core.topology.version == 7


def test_nobodys_state_changes() -> None:
    """Mistake M7: silence made a node draining there, and any pong made it active again."""
    nodes = topology(7, n2="draining")
    core = HealthMonitor(SETTINGS, node_id=1, cluster_id="c1", topology=nodes, now=0.0)
    for step in range(10):
        pinged(core, step * 5.0)
        core.on_ping_failed(3, "no answer")
        core.on_pong(2, Pong(2, 7))
    assert core.topology == nodes
    assert [node.state for node in core.topology.nodes] == [1, 2, 1]
    reports = {report.node_id: report for report in core.reports()}
    assert (reports[3].failures, reports[3].last_error) == (10, "no answer")
    assert (reports[2].failures, reports[2].last_error) == (0, "")


def test_another_node_at_the_address_is_told() -> None:
    core = monitor()
    pinged(core, 0.0)
    core.on_pong(2, Pong(9, 7))
    assert core.reports()[0].last_error == "node 9 answers at n2:1"
    assert core.effects() == []


def test_members_that_move_or_leave_are_followed() -> None:
    core = monitor()
    pinged(core, 0.0)
    moved = Topology(8, (topology(8).nodes[0], MemberNode(2, "new:1", 1, (0,), 1)))
    assert core.on_topology(moved, 1.0)
    core.on_pong(3, Pong(3, 7))
    core.on_tick(1.0)
    assert core.effects() == [SendPing(2, "new:1", Ping(1, 8))]
    assert not core.on_topology(topology(8), 1.0), "a version is one topology"


def test_a_decommissioned_node_is_not_pinged() -> None:
    nodes = topology(7, n2="decommissioned")
    core = HealthMonitor(SETTINGS, node_id=1, cluster_id="c1", topology=nodes, now=0.0)
    assert pinged(core, 0.0) == [3]


@pytest.mark.parametrize("seed", range(30))
def test_pushes_end_and_everybody_knows_the_newest(seed: int) -> None:
    """Mistake M8: with the count of nodes as version, pushes went on for ever."""
    chance = random.Random(seed)
    versions = [chance.randrange(1, 50) for _ in range(4)]
    cores = {number: monitor(number, version, 4) for number, version in enumerate(versions, 1)}
    newest = topology(60, 4)
    cores[chance.randrange(1, 5)].on_topology(newest, 0.0)
    pushes = 0
    for round_number in itertools.count():
        for node_id, core in cores.items():
            core.on_tick(round_number * 5.0)
            for effect in core.effects():
                pushes += isinstance(effect, SendTopology)
                deliver(chance, cores, node_id, effect, round_number * 5.0)
        if all(core.topology == newest for core in cores.values()):
            break
        assert round_number < 20, [core.topology.version for core in cores.values()]
    for _ in range(5):
        for node_id, core in cores.items():
            core.on_tick(1000.0)
            for effect in core.effects():
                deliver(chance, cores, node_id, effect, 1000.0)
    before = pushes
    for node_id, core in cores.items():
        core.on_tick(2000.0)
        for effect in core.effects():
            pushes += isinstance(effect, SendTopology)
            deliver(chance, cores, node_id, effect, 2000.0)
    assert pushes == before


def deliver(
    chance: random.Random,
    cores: dict[int, HealthMonitor],
    sender: int,
    effect: SendPing | SendTopology,
    now: float,
) -> None:
    receiver = cores[effect.node_id]
    is_lost = now < 100 and chance.random() < 0.3
    if isinstance(effect, SendPing):
        if is_lost:
            cores[sender].on_ping_failed(effect.node_id, "lost")
        else:
            cores[sender].on_pong(effect.node_id, receiver.on_ping(effect.ping))
    elif is_lost:
        cores[sender].on_push_failed(effect.node_id, "lost")
    else:
        cores[sender].on_push_answered(effect.node_id, receiver.on_push(effect.push, now)[0])


@pytest.mark.parametrize("asks", [1, 2])
def test_two_ping_intervals_bring_a_peer_up_to_date(asks: int) -> None:
    """The broadcast of a join was lost: a ping in either direction shows it, one is enough."""
    cores = {1: monitor(1, 8), 2: monitor(2, 7)}
    for now in (0.0, SETTINGS.ping_interval_seconds):
        cores[asks].on_tick(now)
        for _ in range(2):
            for sender, core in cores.items():
                for effect in core.effects():
                    if effect.node_id in cores:
                        deliver(random.Random(1), cores, sender, effect, 200.0)
    assert cores[2].topology.version == 8
