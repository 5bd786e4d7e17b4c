"""All groups of a node at once: turns, quiescence, beats, and what two hundred sleepers cost."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from raft_store import MemoryLogStore

from cluster.errors import NotLeader
from cluster.multiraft.core import DISAGREEMENTS_MAX, MultiRaft
from cluster.multiraft.message import BadBeat, Beat, decode_beat, digest_of, encode_beat
from cluster.raft.config import RaftConfig
from cluster.raft.core import RaftCore
from cluster.raft.message import Configuration, Heartbeat

CONFIG = RaftConfig(quiesce_after_seconds=1.0)
TICK = 0.025


class CountedCore(RaftCore):
    """Counts its calls."""

    calls: Counter[str]

    def tick(self, now: float) -> None:
        self.calls["tick"] += 1
        super().tick(now)

    def ready(self) -> Any:
        self.calls["ready"] += 1
        return super().ready()

    def step(self, message: Any, now: float) -> None:
        self.calls["step"] += 1
        super().step(message, now)


class Nodes:
    """Nodes with the same groups; what they say arrives in the same instant, unless cut."""

    def __init__(self, group_count: int, node_count: int = 3) -> None:
        self.now = 100.0
        self.calls: Counter[str] = Counter()
        self.beats: list[tuple[int, int, Beat]] = []
        self.cut: set[tuple[int, int]] = set()
        self.rafts: dict[int, MultiRaft] = {}
        voters = Configuration(tuple(range(1, node_count + 1)), ())
        for node_id in voters.voters:
            raft = self.rafts[node_id] = MultiRaft(node_id, CONFIG, self.now)
            for group_id in range(group_count):
                raft.add(self.core(node_id, group_id, voters))

    def core(self, node_id: int, group_id: int, configuration: Configuration) -> CountedCore:
        CountedCore.calls = self.calls
        return CountedCore(
            config=CONFIG,
            group_id=group_id,
            node_id=node_id,
            log=MemoryLogStore(),
            configuration=configuration,
            applied_index=0,
            random=Random(node_id),
            now=self.now,
        )

    def turn(self, node_id: int) -> None:
        raft = self.rafts[node_id]
        for core in raft.cores.values():
            core.log.flush()
        turn = raft.after_flush(self.now)
        for group_id, index in turn.committed:
            raft.cores[group_id].on_applied(index)
        for peer, messages in turn.outbox.items():
            if (node_id, peer) in self.cut:
                continue
            for message in messages:
                self.rafts[peer].step(message, self.now)
        for peer in turn.outbox:
            if self.rafts[peer].has_work:
                self.turn(peer)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            for node_id, raft in self.rafts.items():
                for peer, beat in raft.tick(self.now):
                    self.beats.append((node_id, peer, beat))
                    if (node_id, peer) not in self.cut:
                        self.rafts[peer].on_beat(beat, self.now)
                if raft.has_work:
                    self.turn(node_id)
                for peer in self.rafts:
                    if self.rafts[peer].has_work:
                        self.turn(peer)

    def elect(self, node_id: int) -> None:
        self.pass_time(2)
        for group_id in self.rafts[node_id].cores:
            for other in self.rafts.values():
                core = other.cores[group_id]
                if core.is_leader and core.node_id != node_id:
                    other.touch(group_id).transfer_leadership(node_id, self.now)
                    self.turn(core.node_id)
        self.pass_time(0.5)
        assert all(core.is_leader for core in self.rafts[node_id].cores.values())

    def sleep(self) -> None:
        self.pass_time(2.5)
        assert all(
            core.is_quiescent for raft in self.rafts.values() for core in raft.cores.values()
        )


def asleep(group_count: int = 3, node_count: int = 3) -> Nodes:
    nodes = Nodes(group_count, node_count)
    nodes.elect(1)
    nodes.sleep()
    nodes.calls.clear()
    nodes.beats.clear()
    return nodes


# Turns


def test_a_turn_gathers_what_all_groups_have_to_say_by_peer() -> None:
    nodes = Nodes(5)
    nodes.elect(1)
    raft = nodes.rafts[1]
    for group_id in range(5):
        raft.propose(group_id, b"x")
    for core in raft.cores.values():
        core.log.flush()
    turn = raft.after_flush(nodes.now)
    assert sorted(turn.outbox) == [2, 3]
    for messages in turn.outbox.values():
        assert sorted(message.group_id for message in messages) == [0, 1, 2, 3, 4]


def test_groups_in_which_nothing_happened_cost_a_turn_nothing() -> None:
    nodes = Nodes(50)
    nodes.elect(1)
    nodes.calls.clear()
    raft = nodes.rafts[1]
    raft.propose(7, b"x")
    raft.cores[7].log.flush()
    raft.after_flush(nodes.now)
    assert nodes.calls["ready"] == 1


def test_messages_for_groups_that_are_not_here_are_counted() -> None:
    nodes = Nodes(1)
    nodes.rafts[1].step(Heartbeat(9, 2, 1, 1, 0, 0), nodes.now)
    assert nodes.rafts[1].unknown_count == 1
    assert not nodes.rafts[1].touch(0).is_leader


def test_proposals_to_followers_are_refused() -> None:
    nodes = Nodes(1)
    nodes.elect(1)
    with pytest.raises(NotLeader):
        nodes.rafts[2].propose(0, b"x")


def test_a_group_by_itself_needs_neither_ticks_nor_beats() -> None:
    nodes = Nodes(3, 1)
    nodes.turn(1)
    assert not nodes.rafts[1].has_awake
    nodes.calls.clear()
    nodes.pass_time(2)
    assert nodes.calls["tick"] == 0
    assert not nodes.beats


# Sleeping


def test_sleeping_groups_get_no_ticks_and_send_nothing() -> None:
    nodes = asleep()
    nodes.pass_time(3)
    assert nodes.calls == Counter()
    assert not any(raft.has_awake for raft in nodes.rafts.values())


def test_two_hundred_sleepers_cost_what_one_costs() -> None:
    """Counted in calls and messages, not in time."""
    counts = []
    for group_count in (1, 200):
        nodes = asleep(group_count)
        nodes.pass_time(3)
        counts.append((sum(nodes.calls.values()), len(nodes.beats)))
    assert counts[0] == counts[1]
    # One beat for each follower and heartbeat interval.
    assert counts[1][1] <= 2 * 3 / CONFIG.heartbeat_seconds + 2


def test_the_leaders_node_says_that_it_lives_in_their_place() -> None:
    nodes = asleep()
    nodes.pass_time(1)
    assert {(sender, peer) for sender, peer, _ in nodes.beats} == {(1, 2), (1, 3)}
    expected = digest_of((group_id, core.term) for group_id, core in nodes.rafts[1].cores.items())
    assert {beat.digest for _, _, beat in nodes.beats} == {expected}
    nodes.pass_time(5)
    assert all(core.is_quiescent for raft in nodes.rafts.values() for core in raft.cores.values())


def test_a_proposal_wakes_its_group_and_no_other() -> None:
    nodes = asleep()
    nodes.rafts[1].propose(1, b"x")
    nodes.turn(1)
    assert not nodes.rafts[1].cores[1].is_quiescent
    assert all(nodes.rafts[n].cores[1].commit_index == 2 for n in (1, 2, 3))
    assert nodes.rafts[1].cores[0].is_quiescent
    assert nodes.rafts[2].cores[2].is_quiescent


def test_orphans_wake_and_elect() -> None:
    nodes = asleep()
    nodes.cut |= {(1, 2), (1, 3), (2, 1), (3, 1)}
    nodes.pass_time(CONFIG.election_timeout_seconds_max + 0.3)
    assert not nodes.rafts[2].cores[0].is_quiescent
    nodes.pass_time(4)
    leaders = [core for raft in nodes.rafts.values() for core in raft.cores.values()]
    for group_id in range(3):
        newest = max((c for c in leaders if c.group_id == group_id), key=lambda c: c.term)
        assert newest.leader_id in (2, 3)


def test_groups_of_a_node_that_others_say_is_lost_wake_at_once() -> None:
    nodes = asleep()
    nodes.rafts[2].on_node_lost(3, nodes.now)
    assert all(core.is_quiescent for core in nodes.rafts[2].cores.values())
    nodes.rafts[2].on_node_lost(1, nodes.now)
    assert not any(core.is_quiescent for core in nodes.rafts[2].cores.values())


# Disagreement


def test_a_beat_that_speaks_for_other_groups_wakes_them_after_a_while() -> None:
    nodes = asleep()
    raft = nodes.rafts[2]
    for count in range(DISAGREEMENTS_MAX):
        assert all(core.is_quiescent for core in raft.cores.values()), count
        raft.on_beat(Beat(1, 12345), nodes.now)
    assert not any(core.is_quiescent for core in raft.cores.values())


def test_disagreements_must_follow_each_other() -> None:
    nodes = asleep()
    raft = nodes.rafts[2]
    right = digest_of((group_id, core.term) for group_id, core in raft.cores.items())
    for _ in range(3):
        for digest in (12345, 12345, right):
            raft.on_beat(Beat(1, digest), nodes.now)
    assert all(core.is_quiescent for core in raft.cores.values())


def test_a_leader_that_has_lost_a_group_unnoticed_wakes_the_others() -> None:
    """Node 1 forgets a group that node 2 takes to be asleep under it."""
    nodes = asleep()
    nodes.rafts[1].remove(2)
    nodes.pass_time(DISAGREEMENTS_MAX * CONFIG.heartbeat_seconds + 0.2)
    assert not nodes.rafts[2].cores[2].is_quiescent


def test_a_group_that_wakes_and_sleeps_under_another_leader_within_a_turn() -> None:
    """The digest follows: node 1's beats no longer speak for it at node 3."""
    nodes = asleep(2)
    raft = nodes.rafts[3]
    core = raft.cores[1]
    old = digest_of((g, c.term) for g, c in raft.cores.items())
    raft.on_beat(Beat(1, old), nodes.now)
    last = core.log.last_index()
    term = core.term + 1
    raft.step(Heartbeat(1, 2, 3, term, last, 1), nodes.now)
    core._matched_index = last
    raft.step(Heartbeat(1, 2, 3, term, last, 2, is_quiesce=True), nodes.now)
    assert core.is_quiescent
    assert core.leader_id == 2
    nodes.turn(3)
    only_first = digest_of([(0, raft.cores[0].term)])
    for _ in range(DISAGREEMENTS_MAX + 1):
        raft.on_beat(Beat(1, only_first), nodes.now)
    assert raft.cores[0].is_quiescent


# On the wire


def test_beats_on_the_wire() -> None:
    assert encode_beat(Beat(3, 70000)) == bytes.fromhex("01 92 03 ce 00 01 11 70")
    assert decode_beat(encode_beat(Beat(3, 70000))) == Beat(3, 70000)
    for garbage in (b"", b"\x01", b"\x02\x92\x03\x04", b"\x01\x92\x03", b"\x01\xa1x", b"\xff" * 9):
        with pytest.raises(BadBeat):
            decode_beat(garbage)


def test_digests_depend_on_groups_and_terms_and_not_on_their_order() -> None:
    assert digest_of([]) == 0
    assert digest_of([(1, 2), (0, 5)]) == digest_of([(0, 5), (1, 2)])
    assert len({digest_of([(1, 2)]), digest_of([(1, 3)]), digest_of([(2, 2)])}) == 3
