"""Whole starts on virtual time: every order, delays, loss, crashes, lost disks; always one cluster.

A failure names its seed: the parameter of the test.
"""

from __future__ import annotations

import itertools

import pytest
from start_world import SimNode, World

from cluster.membership.config import StartSettings

ORDERS = list(itertools.permutations(range(3)))
READY_SECONDS_MAX = 10.0


def nodes_of(world: World, count: int, **options: object) -> list[SimNode]:
    addresses = tuple(f"10.0.0.{number}:9400" for number in range(1, count + 1))
    return [SimNode(world, address, addresses, **options) for address in addresses]  # type: ignore[arg-type]


def all_ready(nodes: list[SimNode]) -> bool:
    return all(node.is_serving for node in nodes)


def assert_one_cluster(nodes: list[SimNode]) -> None:
    clusters = {node.cluster_id for node in nodes if node.cluster_id}
    assert len(clusters) == 1, clusters
    assert sum(len(node.founded) for node in nodes) == 1
    ids = [node.node_id for node in nodes if node.node_id]
    assert len(set(ids)) == len(ids), ids


def start_all(world: World, nodes: list[SimNode], delays: list[float]) -> float:
    """Start each node after its delay; return when the last one starts."""
    for node, delay in zip(nodes, delays, strict=True):
        world.later(delay, node.start)
    return world.now + max(delays)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("order", ORDERS)
def test_three_nodes_in_any_order_are_one_cluster_soon(order: tuple[int, ...], seed: int) -> None:
    world = World(seed)
    nodes = nodes_of(world, 3)
    gaps = [0.0] + [world.random.choice([0.0, world.random.uniform(0, 10), 10.0]) for _ in range(2)]
    delays = [0.0, 0.0, 0.0]
    for place, number in enumerate(order):
        delays[number] = sum(gaps[: place + 1])
    last = start_all(world, nodes, delays)
    world.run(60, lambda: all_ready(nodes))
    assert all_ready(nodes)
    assert_one_cluster(nodes)
    assert world.now - last <= READY_SECONDS_MAX
    assert nodes[0].node_id == 1


@pytest.mark.parametrize("seed", range(40))
def test_five_nodes_with_any_delays(seed: int) -> None:
    world = World(seed)
    nodes = nodes_of(world, 5)
    longest = world.random.choice([0.0, 0.1, 2.0, 10.0])
    last = start_all(world, nodes, [world.random.uniform(0, longest) for _ in nodes])
    world.run(60, lambda: all_ready(nodes))
    assert all_ready(nodes)
    assert_one_cluster(nodes)
    assert world.now - last <= READY_SECONDS_MAX
    assert sorted(node.node_id for node in nodes) == [1, 2, 3, 4, 5]


def test_a_lossy_network_costs_time_and_nothing_else() -> None:
    """One in ten packets lost, in both directions: a call in five fails, after its timeout."""
    times = []
    for seed in range(300):
        world = World(seed, loss=0.1, latency_seconds=0.05)
        nodes = nodes_of(world, 3 + 2 * (seed % 2))
        last = start_all(world, nodes, [world.random.uniform(0, 10) for _ in nodes])
        world.run(130, lambda: all_ready(nodes))  # noqa: B023
        assert all_ready(nodes), f"seed {seed}: {[node.failed for node in nodes]}"
        assert_one_cluster(nodes)
        times.append(world.now - last)
    times.sort()
    assert times[int(len(times) * 0.95)] <= READY_SECONDS_MAX, times[-30:]
    assert times[-1] <= 3 * READY_SECONDS_MAX, times[-30:]


@pytest.mark.parametrize("seed", range(60))
def test_crashes_between_any_two_writes(seed: int) -> None:
    """A node that dies while it saves, or at any other time, comes back to the same cluster."""
    world = World(seed, loss=world_loss(seed))
    nodes = nodes_of(world, 3)
    for node in nodes:
        node.disk.saves_until_power_cut = world.random.choice([-1, 0, 1, 2])
    start_all(world, nodes, [world.random.uniform(0, 3) for _ in nodes])
    for _ in range(6):
        world.run(world.random.uniform(0.1, 3))
        victim = world.random.choice(nodes)
        if world.random.random() < 0.5 and victim.life:
            victim.crash()
        for node in nodes:
            if not node.is_up:
                world.later(
                    world.random.uniform(0, 1), lambda node=node: node.is_up or node.start()
                )
    world.loss = 0
    for _ in range(3):
        world.run(2)
        for node in nodes:
            if not node.is_up:
                node.start()
    world.run(130, lambda: all_ready(nodes))
    assert all_ready(nodes), [node.failed for node in nodes]
    clusters = {node.cluster_id for node in nodes}
    assert len(clusters) == 1
    founder = nodes[0]
    assert set(founder.founded) == clusters, "it went on founding the same cluster"
    assert len({node.node_id for node in nodes}) == 3


def world_loss(seed: int) -> float:
    return 0.1 if seed % 2 else 0.0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("down", [(), (1,), (2,)])
def test_the_smallest_seed_with_a_lost_disk_founds_no_second_cluster(
    down: tuple[int, ...], seed: int
) -> None:
    world = World(seed)
    nodes = nodes_of(world, 3)
    start_all(world, nodes, [0.0, 0.0, 0.0])
    world.run(60, lambda: all_ready(nodes))
    founder = nodes[0]
    founder.crash()
    founder.lose_disk()
    for index in down:
        nodes[index].crash()
    if world.random.random() < 0.5:
        # The others restart at the same time.
        for node in nodes[1:]:
            node.crash()
            if nodes.index(node) not in down:
                world.later(world.random.uniform(0, 5), node.start)
    founder.start()
    world.run(130)
    assert len(founder.founded) == 1, "the lost disk's"
    assert not founder.is_up
    assert any("nodedb node forget 1" in line for line in founder.failed), founder.failed


def test_the_smallest_seed_with_a_lost_disk_waits_alone_and_then_gives_up() -> None:
    world = World(1)
    nodes = nodes_of(world, 3)
    start_all(world, nodes, [0.0, 0.0, 0.0])
    world.run(60, lambda: all_ready(nodes))
    for node in nodes:
        node.crash()
    world.run(1)
    nodes[0].lose_disk()
    nodes[0].start()
    world.run(200)
    assert len(nodes[0].founded) == 1
    assert nodes[0].failed == (
        "no seed named a cluster, and 1 of 2 seeds needed to found one (this node counted) "
        "answered with an empty store",
        "10.0.0.1:9400: this node",
        "10.0.0.2:9400: connection refused",
        "10.0.0.3:9400: connection refused",
    )


@pytest.mark.parametrize("seed", range(10))
def test_two_that_join_at_once_get_two_ids(seed: int) -> None:
    world = World(seed)
    nodes = nodes_of(world, 3)
    nodes[0].start()
    nodes[1].start()
    world.run(30, lambda: all_ready(nodes[:2]))
    late = [SimNode(world, f"10.0.0.{last}:9400", nodes[0].seeds) for last in (7, 8)]
    for node in (*late, nodes[2]):
        node.start()
    world.run(10, lambda: all_ready([*nodes, *late]))
    assert sorted(node.node_id for node in (*nodes, *late)) == [1, 2, 3, 4, 5]
    assert_one_cluster([*nodes, *late])


def test_a_restart_needs_nobody() -> None:
    world = World(3)
    nodes = nodes_of(world, 3)
    start_all(world, nodes, [0.0, 0.0, 0.0])
    world.run(30, lambda: all_ready(nodes))
    for node in nodes:
        node.crash()
    world.run(5)
    nodes[2].start()
    assert nodes[2].core.decision is not None
    world.run(1)
    assert nodes[2].is_serving


def test_a_stale_store_learns_that_its_cluster_is_gone() -> None:
    """Nodes 2 and 3 were wiped and made a new cluster; node 1 comes back with its old store."""
    world = World(4)
    nodes = nodes_of(world, 3)
    start_all(world, nodes, [0.0, 0.0, 0.0])
    world.run(30, lambda: all_ready(nodes))
    old = nodes[0].cluster_id
    for node in nodes:
        node.crash()
    others = [
        SimNode(world, node.address, (nodes[1].address, nodes[2].address)) for node in nodes[1:]
    ]
    for node in others:
        node.start()
    world.run(30, lambda: all_ready(others))
    nodes[0].start()
    world.run(30)
    new = others[0].cluster_id
    assert new != old
    assert nodes[0].foreign == (
        f"this store belongs to cluster {old}, but the seeds 10.0.0.2:9400, 10.0.0.3:9400 are "
        f"members of cluster {new}: give --join of its own cluster, or start with an empty store"
    )
    assert others[0].foreign == ""
    assert [address for address, _ in others[0].greeter.refusals] == ["10.0.0.1:9400"]


def test_nobody_answers() -> None:
    """The budget is spent, with the schedule's attempts and one at the end."""
    world = World(5)
    (node,) = nodes_of(world, 3)[1:2]
    began = world.now
    node.start()
    world.run(300)
    assert [line.split(": ")[-1] for line in node.failed[1:]] == [
        "connection refused",
        "this node",
        "connection refused",
    ]
    assert node.failed[0] == "no seed named a cluster; waited for 10.0.0.1:9400 to found one"
    # 0, .25, .5, 1, 2, 4, 8, 16, 32, 32, and the last one when 120 s are over.
    assert node.attempts == 11
    assert world.now - began == 300


def test_a_silent_network_keeps_the_budget() -> None:
    """Nothing is refused, nothing answered: each attempt lasts a timeout."""
    world = World(6)
    nodes = nodes_of(world, 3)
    for source, target in itertools.permutations((node.address for node in nodes), 2):
        world.cuts.add((source, target))
    for node in nodes:
        node.start()
    world.run(122)
    assert not any(node.is_up for node in nodes)
    assert not any(node.founded for node in nodes)
    assert nodes[0].failed[2] == "10.0.0.2:9400: no answer"


@pytest.mark.parametrize("seed", range(10))
def test_waiting_together_is_quiet(seed: int) -> None:
    """Two that wait for a third greet each other by the schedule, not in a storm."""
    world = World(seed)
    nodes = nodes_of(world, 5)
    for node in nodes[1:]:
        world.later(world.random.uniform(0, 2), node.start)
    world.run(100)
    # Eleven attempts; each of three resets repeats the short waits at its beginning.
    assert all(node.attempts <= 20 for node in nodes), [node.attempts for node in nodes]
    assert world.calls <= 4 * 20 * 4


@pytest.mark.parametrize("seed", range(10))
def test_half_of_the_network_founds_nothing(seed: int) -> None:
    """The smallest seed with one other of five: no majority, no cluster, until it heals."""
    world = World(seed)
    nodes = nodes_of(world, 5)
    small, large = nodes[:2], nodes[2:]
    for one, other in itertools.product(small, large):
        world.cuts |= {(one.address, other.address), (other.address, one.address)}
    start_all(world, nodes, [world.random.uniform(0, 3) for _ in nodes])
    world.run(60)
    assert not any(node.cluster_id for node in nodes)
    world.cuts.clear()
    world.run(64, lambda: all_ready(nodes))
    assert all_ready(nodes)
    assert_one_cluster(nodes)


def test_a_node_outside_the_list_joins_only() -> None:
    world = World(8)
    node = SimNode(world, "10.0.0.1:9400", ("10.0.0.2:9400",))
    seed = SimNode(world, "10.0.0.2:9400", ("10.0.0.2:9400",))
    node.start()
    world.run(5)
    assert not node.cluster_id
    seed.start()
    world.run(10, lambda: all_ready([node, seed]))
    assert seed.founded == [node.cluster_id]
    assert (seed.node_id, node.node_id) == (1, 2)


def test_lists_that_differ_found_one_cluster() -> None:
    """The others vote for the smallest of their own list, which is all that is asked of it."""
    world = World(9)
    names = [f"10.0.0.{number}:9400" for number in (1, 2, 3)]
    nodes = [
        SimNode(world, names[0], tuple(names)),
        SimNode(world, names[1], (names[0], names[1])),
        SimNode(world, names[2], (names[0],)),
    ]
    start_all(world, nodes, [0.0, 1.0, 2.0])
    world.run(20, lambda: all_ready(nodes))
    assert all_ready(nodes)
    assert_one_cluster(nodes)


@pytest.mark.parametrize("seed", range(20))
def test_two_candidates_cannot_both_have_a_majority(seed: int) -> None:
    """Lists that name different smallest seeds: a node votes for one of them only."""
    world = World(seed, loss=0.1)
    names = [f"10.0.0.{number}:9400" for number in (1, 2, 3)]
    lists = [
        tuple(names),
        (names[1], names[2]),
        world.random.choice([tuple(names), tuple(names[1:])]),
    ]
    nodes = [SimNode(world, name, seeds) for name, seeds in zip(names, lists, strict=True)]
    start_all(world, nodes, [world.random.uniform(0, 2) for _ in nodes])
    world.run(60)
    assert len({node.cluster_id for node in nodes if node.cluster_id}) <= 1


def test_a_given_id_and_role_are_kept() -> None:
    world = World(11)
    names = ("10.0.0.1:9400", "10.0.0.2:9400")
    first = SimNode(world, names[0], names, node_id=7)
    second = SimNode(world, names[1], names, node_id=3, role="replica")
    first.start()
    second.start()
    world.run(10, lambda: all_ready([first, second]))
    assert (first.node_id, second.node_id) == (7, 3)
    assert world.clusters[first.cluster_id].nodes[3].role == "replica"
    third = SimNode(world, "10.0.0.3:9400", names)
    third.start()
    world.run(10, lambda: third.is_serving)
    assert third.node_id == 8, "above every id there is"


def test_a_node_with_the_id_of_another_is_refused_at_once() -> None:
    world = World(12)
    names = ("10.0.0.1:9400", "10.0.0.2:9400")
    nodes = [SimNode(world, name, names) for name in names]
    for node in nodes:
        node.start()
    world.run(10, lambda: all_ready(nodes))
    intruder = SimNode(world, "10.0.0.3:9400", names, node_id=2)
    intruder.start()
    world.run(1)
    assert not intruder.is_up
    assert intruder.failed == (
        "10.0.0.1:9400 refused this node: node_id 2 already registered with different address "
        "10.0.0.2:9400 (request: 10.0.0.3:9400)",
    )


def test_a_replica_cannot_found() -> None:
    world = World(13)
    names = ("10.0.0.1:9400", "10.0.0.2:9400", "10.0.0.3:9400")
    settings = StartSettings(budget_seconds=10)
    nodes = [
        SimNode(
            world, name, names, role="replica" if name == names[0] else "voter", settings=settings
        )
        for name in names
    ]
    for node in nodes:
        node.start()
    world.run(30)
    assert not any(node.cluster_id for node in nodes)
    assert nodes[0].failed[0] == (
        "no seed named a cluster, and a replica founds none: put a voter first in --join"
    )
