"""Clusters on virtual time: convergence, death, loss, partitions, restarts, freezes.

Every failure names its seed; ``World(seed)`` repeats the run.
"""

from random import Random

import pytest
from swim_world import CLUSTER_ID, SECRET, World, address_of

from cluster.ids import NodeId
from cluster.swim import MemberState, SwimSettings
from cluster.swim.envelope import Sealer
from cluster.swim.message import Ping, encode_message, update_of

ALIVE, SUSPECT, DEAD, LEFT = MemberState


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "limit_seconds"), [(2, 2), (3, 3), (5, 6), (16, 20)])
def test_nodes_that_know_one_seed_find_each_other(
    seed: int, count: int, limit_seconds: float
) -> None:
    world = World(seed)
    world.start(count)
    assert world.now <= limit_seconds, f"seed {seed}"
    world.run(120.0)
    states = {(change.new) for change in world.changes}
    assert states == {ALIVE}, f"seed {seed}: a quiet network has no suspects"


def death_bound(settings: SwimSettings, count: int) -> float:
    """Each member comes up within two times around; accusing takes one interval; then the wait.

    And the news has to travel: log2(n) rounds, with one to spare.
    """
    rounds = 2 * (count - 1) + 1 + count.bit_length() + 1
    return rounds * settings.probe_interval_seconds + settings.suspicion_seconds(count)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_a_killed_node_is_dead_to_all_others_within_the_bound(seed: int, count: int) -> None:
    world = World(seed)
    world.start(count)
    world.run(5.0)
    victim = Random(seed).randint(1, count)
    killed_at = world.now
    world.kill(victim)
    bound = death_bound(world.settings, count)
    world.run_until(lambda: world.seen_as(victim, DEAD), bound)
    shortest = world.settings.suspicion_seconds(count)
    assert world.now - killed_at >= shortest - 1.0, f"seed {seed}: too early"
    assert not [c for c in world.changes if c.new is not ALIVE and c.node_id != victim], (
        f"seed {seed}: somebody else was accused"
    )


@pytest.mark.parametrize("seed", range(3))
def test_in_three_nodes_the_silent_one_is_suspect_within_five_seconds(seed: int) -> None:
    """BEHAVIOUR 1.6, conformance; Dead follows 6.3 s later."""
    world = World(seed)
    world.start(3)
    world.run(3.0)
    world.kill(3)
    suspected = world.run_until(lambda: world.seen_as(3, SUSPECT, DEAD), 5.0)
    dead = world.run_until(lambda: world.seen_as(3, DEAD), 7.5)
    assert 5.0 < suspected + dead < 11.0


LONG = [pytest.param(seed, 5, 12.0, marks=pytest.mark.slow) for seed in range(20, 24)]


@pytest.mark.parametrize(
    ("seed", "count", "hours"), [(1, 3, 0.5), (2, 5, 0.25), (3, 16, 0.03), *LONG]
)
def test_under_a_third_of_loss_nobody_alive_is_declared_dead(
    seed: int, count: int, hours: float
) -> None:
    """30 % of all datagrams, each way; suspicions happen, deaths must not."""
    world = World(seed)
    world.start(count)
    world.changes.clear()
    world.loss = 0.3
    world.run(hours * 3600)
    assert world.total("deads") == 0, f"seed {seed}"
    assert world.total("suspects") > 0, "the loss did nothing"
    world.loss = 0.0
    world.run_until(lambda: world.is_agreed(ALIVE), 60.0)


def test_lifeguard_halves_the_false_suspicions_at_least() -> None:
    """The same loss, the same seed, with and without local health awareness."""

    def suspicions(settings: SwimSettings) -> int:
        world = World(11, settings)
        world.start(5)
        world.loss = 0.3
        world.run(300)
        assert world.total("deads") == 0
        return world.total("suspects")

    with_lifeguard = suspicions(SwimSettings())
    without = suspicions(SwimSettings(awareness_max=0, suspicion_max_mult=1))
    assert with_lifeguard * 2 < without, f"{with_lifeguard} with, {without} without"


def test_a_slow_node_doubts_itself_before_it_doubts_others() -> None:
    """Lifeguard's case: one member handles what comes 1.2 seconds late."""

    def accusations(settings: SwimSettings) -> int:
        world = World(5, settings)
        world.start(6)
        world.nodes[6].slow_seconds = 1.2
        world.run(120)
        assert not [c for c in world.changes if c.new is DEAD and c.node_id != 6]
        return world.core(6).counters.probe_failures

    with_lifeguard = accusations(SwimSettings())
    without = accusations(SwimSettings(awareness_max=0, suspicion_max_mult=1))
    assert with_lifeguard * 5 < without, f"{with_lifeguard} with, {without} without"


@pytest.mark.parametrize("seed", range(3))
def test_a_cut_between_two_nodes_is_bridged_by_helpers(seed: int) -> None:
    """An indirect Ack saves a target whose direct path is cut, in one direction or both."""
    world = World(seed)
    world.start(5)
    world.run(2.0)
    world.cut(1, 2, both=seed % 2 == 0)
    world.run(120.0)
    assert world.seen_as(2, ALIVE), f"seed {seed}: {world.views()}"
    assert world.total("deads") == 0, f"seed {seed}"
    assert world.core(1).counters.indirect_acks > 5


def test_a_node_that_hears_nobody_is_dead_to_the_others() -> None:
    """It still speaks, so a detector that counts any sign of life would keep it."""
    world = World(9)
    world.start(5)
    for other in (1, 2, 3, 4):
        world.cut(other, 5, both=False)
    world.run_until(lambda: all(world.state(o, 5) is DEAD for o in (1, 2, 3, 4)), 60.0)
    world.heal()
    world.run_until(lambda: world.is_agreed(ALIVE), 30.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seconds", [10.0, 120.0])
def test_the_halves_of_a_partition_find_each_other_again(seed: int, seconds: float) -> None:
    world = World(seed)
    world.start(5)
    world.partition((1, 2), (3, 4, 5))
    world.run(seconds)
    if seconds >= 120:
        assert world.state(1, 3) is DEAD
        assert world.state(5, 2) is DEAD
        assert world.state(1, 2) is ALIVE
    world.heal()
    took = world.run_until(lambda: world.is_agreed(ALIVE), 40.0)
    assert took < 40.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("boot", [2, 1, 0])
@pytest.mark.parametrize("downtime", [0.2, 5.0, 30.0])
def test_a_restarted_node_is_back_at_once(seed: int, boot: int, downtime: float) -> None:
    """Mistake M9, with a boot number that grew, stayed the same, or was lost with the disk."""
    world = World(seed)
    world.start(3)
    world.run(200.0)
    world.kill(3)
    world.run(downtime)
    core = world.add(3, (1,), boot=boot)
    assert core.local.incarnation == 0
    world.run_until(lambda: world.is_agreed(ALIVE), 4.0)
    world.run(30.0)
    assert world.is_agreed(ALIVE), f"seed {seed}: {world.views()}"
    assert core.local.boot > 1
    assert core.counters.identity_conflicts == 0


def test_a_node_that_is_suspected_after_a_restart_refutes() -> None:
    world = World(4)
    world.start(3)
    world.kill(3)
    world.run_until(lambda: world.seen_as(3, DEAD), 20.0)
    world.add(3, (1,), boot=1)
    world.run_until(lambda: world.seen_as(3, ALIVE), 5.0)
    world.kill(3)
    world.run_until(lambda: world.seen_as(3, DEAD), 20.0)


@pytest.mark.parametrize("boot", [1, 2])
def test_leaving_in_order_and_coming_back(boot: int) -> None:
    world = World(6)
    world.start(4)
    world.run(2.0)
    world.leave(4)
    assert world.run_until(lambda: world.seen_as(4, LEFT), 2.0) < 2.0
    world.kill(4)
    world.run(60.0)
    assert world.seen_as(4, LEFT)
    assert world.total("suspects") == 0, "nobody probes who has left"
    world.add(4, (1, 2, 3), boot=boot)
    world.run_until(lambda: world.is_agreed(ALIVE), 8.0)


def test_leaving_is_heard_under_loss() -> None:
    world = World(6, loss=0.3)
    world.start(4)
    for _ in range(5):
        world.leave(4)
        world.run(0.1)
    world.kill(4)
    world.run_until(lambda: world.seen_as(4, LEFT), 15.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seconds", [3.0, 15.0, 120.0])
def test_a_frozen_process_accuses_nobody_when_it_wakes(seed: int, seconds: float) -> None:
    world = World(seed)
    world.start(5)
    world.run(2.0)
    world.freeze(5)
    world.run(seconds)
    world.changes.clear()
    world.thaw(5)
    world.run_until(lambda: world.is_agreed(ALIVE), 10.0)
    world.run(30.0)
    accused = [c for c in world.changes if c.new in (SUSPECT, DEAD) and c.node_id != 5]
    assert not accused, f"seed {seed}: {accused}"


def test_a_node_frozen_while_it_suspects_does_not_bury_the_suspect() -> None:
    world = World(2)
    world.start(4)
    world.drop_if = lambda sender, to, _message: {sender, to} == {4, 3}
    world.cut(4, 1)
    world.cut(4, 2)
    world.run_until(lambda: world.state(4, 3) is SUSPECT, 20.0)
    world.freeze(4)
    world.heal()
    world.drop_if = lambda *_: False
    world.run(120.0)
    world.changes.clear()
    world.thaw(4)
    world.run_until(lambda: world.is_agreed(ALIVE), 10.0)
    assert not [c for c in world.changes if c.observer == 4 and c.new is DEAD]


def test_behind_address_translation_members_keep_their_advertised_addresses() -> None:
    world = World(8)
    for node_id in (1, 2, 3):
        world.seen_from[address_of(node_id)] = f"172.17.0.1:{50_000 + node_id}"
    world.start(3)
    world.run(120.0)
    assert {c.new for c in world.changes} == {ALIVE}
    for node_id in (1, 2, 3):
        addresses = [member.address for member in world.core(node_id).members()]
        assert addresses == [address_of(other) for other in (1, 2, 3)]


def test_a_member_that_moves_is_found_at_its_new_address() -> None:
    world = World(8)
    world.start(3)
    world.kill(3)
    world.add(3, (1,), boot=2, address="10.0.9.9:9400")
    world.run_until(lambda: world.is_agreed(ALIVE), 5.0)
    world.run(30.0)
    assert world.is_agreed(ALIVE)
    assert {world.core(n).member(NodeId(3)).address for n in (1, 2)} == {"10.0.9.9:9400"}


def test_two_nodes_with_one_id_are_noticed_and_do_not_flood() -> None:
    world = World(12)
    world.start(3)
    twin = World(13)  # only to make a core; it is put into the first world under another key
    core = twin.add(3, (), boot=1, address="10.0.0.99:9400")
    node = twin.nodes[3]
    world.nodes[99] = node
    core.join_addresses([address_of(1), address_of(2)], world.now)
    node.core.restart_timers(world.now)
    world._settle(99)
    before = world.total("datagrams_sent")
    world.run(120.0)
    conflicts = world.core(3).table.conflicts + core.table.conflicts
    assert set(conflicts) <= {"10.0.0.99:9400", address_of(3)}
    assert conflicts, "nobody noticed"
    rate = (world.total("datagrams_sent") - before) / 120.0 / 4
    assert rate < 20, f"{rate:.0f} datagrams a second per node"
    assert world.core(1).member(NodeId(2)).state is ALIVE


def test_replayed_and_foreign_datagrams_change_nothing() -> None:
    world = World(14)
    world.start(3)
    world.is_recording = True
    captured: list[tuple[int, bytes, str]] = []
    node = world.nodes[1]
    original = node.datagrams.decode

    def record(datagram: bytes) -> object:
        captured.append((1, datagram, address_of(2)))
        return original(datagram)

    node.datagrams.decode = record  # type: ignore[method-assign, assignment]
    world.run(20.0)
    node.datagrams.decode = original  # type: ignore[method-assign]
    assert len(captured) > 20
    before = [world.core(n).members() for n in (1, 2, 3)]
    accepted = world.core(1).counters.pings_received
    for node_id, datagram, source in captured:
        world.inject(node_id, datagram, source)
        world.inject(3 - node_id, datagram, source)
    foreign = Sealer(secret=SECRET, cluster_id="another", node_id=NodeId(2))
    forged = Sealer(secret=b"guess", cluster_id=CLUSTER_ID, node_id=NodeId(2))
    dead = update_of(world.core(2).local)
    for sealer in (foreign, forged):
        body = encode_message(Ping(1, dead))
        world.inject(1, sealer.seal(body, recipient=NodeId(1), boot=9), address_of(2))
    counters = world.core(1).counters
    assert counters.bad_replay + counters.bad_boot == len(captured)
    assert (counters.bad_cluster, counters.bad_authentication) == (1, 1)
    assert world.core(2).counters.bad_recipient > 0
    assert counters.pings_received == accepted
    assert [world.core(n).members() for n in (1, 2, 3)] == before
    world.run(30.0)
    assert world.is_agreed(ALIVE)
    assert [world.core(n).local.boot for n in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_after_any_faults_everybody_alive_is_alive_to_all(seed: int) -> None:
    """Random cuts, loss, duplication, kills and restarts for ten minutes, then healing."""
    world = World(seed)
    count = world.random.choice([3, 5, 7])
    world.start(count)
    boots = dict.fromkeys(range(1, count + 1), 1)
    world.duplication = 0.1
    for _ in range(20):
        world.loss = world.random.choice([0.0, 0.1, 0.3])
        world.heal()
        for _ in range(world.random.randint(0, 3)):
            a, b = world.random.sample(range(1, count + 1), 2)
            world.cut(a, b, both=world.random.random() < 0.5)
        victim = world.random.randint(1, count)
        world.kill(victim)
        world.run(world.random.uniform(0.1, 40.0))
        boots[victim] += world.random.choice([0, 1])
        world.add(victim, tuple(range(1, count + 1)), boot=boots[victim])
        world.run(world.random.uniform(0.1, 10.0))
    world.heal()
    world.loss = 0.0
    world.run_until(lambda: world.is_agreed(ALIVE), 60.0)
    world.run(30.0)  # probes that were under way when it was healed may still fail
    world.changes.clear()
    world.run(300.0)
    assert not world.changes, f"seed {seed}: {world.changes[:5]}"


def test_one_seed_is_one_run() -> None:
    def run() -> list[object]:
        world = World(77, loss=0.2)
        world.is_recording = True
        world.start(5)
        world.kill(4)
        world.run(60.0)
        return [*world.changes, *world.sent]

    assert run() == run()
