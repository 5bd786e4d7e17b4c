"""BEHAVIOUR 16.1: each mistake of the reference system has a test that would catch it.

The core's side of R1 to R9; where the driver could make the mistake too, its own tests follow. The
canaries (``tests/lib/raft_canaries``) plant several of them again and see that they are caught.
"""

import pytest
from raft_canaries import OwnLastIndex
from raft_cluster import CheckedStore, RaftCluster, payloads, plant

from cluster.errors import ConfChangeInFlight, ConfChangeRefused
from cluster.raft.config import RaftConfig
from cluster.raft.core import RaftCore
from cluster.raft.message import (
    AppendRequest,
    AppendResponse,
    ConfChange,
    HardState,
    Heartbeat,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.state import Role

CONFIG = RaftConfig(quiesce_after_seconds=0)


def test_r1_term_vote_and_log_are_there_after_a_restart() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.deliver_all()
    for node_id in (1, 2, 3):
        before = cluster.nodes[node_id].store.all_entries()
        vote = cluster.core(node_id).voted_for
        cluster.restart(node_id)
        core = cluster.core(node_id)
        assert (core.term, core.voted_for) == (1, vote) == (1, 1)
        assert cluster.nodes[node_id].store.all_entries() == before


def test_r1_no_second_vote_in_a_term_after_a_restart() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.end_silence()
    voter = cluster.core(3)
    voter.step(VoteRequest(7, 1, 3, 5, 0, 0, is_forced=False), cluster.now)
    cluster.turn(3)
    cluster.restart(3)
    cluster.end_silence()
    cluster.core(3).step(VoteRequest(7, 2, 3, 5, 0, 0, is_forced=False), cluster.now)
    cluster.turn(3)
    answers = [found for found in cluster.network if isinstance(found, VoteResponse)]
    assert [(found.recipient, found.is_granted) for found in answers] == [(1, True), (2, False)]


def stale_tail(core_class: type[RaftCore]) -> RaftCluster:
    """Node 2 has a stale tail of term 2; leader 1 of term 4 sends it three entries of term 1."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG, core_class=core_class, is_checked=False)
    node = cluster.nodes[2]
    node.store = CheckedStore(2, cluster.history)
    plant(node.store, [1, 1, 1, 2, 2, 2], HardState(3, 0, 0))
    cluster._start(node)
    entries = [(index, 1, b"e%d@1" % index) for index in (1, 2, 3)]
    cluster.step(AppendRequest(7, 1, 2, 4, 0, 0, 6, 1, entries))
    return cluster


def test_r2_an_acknowledgement_names_what_was_matched() -> None:
    cluster = stale_tail(RaftCore)
    (answer,) = [found for found in cluster.network if isinstance(found, AppendResponse)]
    assert answer.index == 3
    # Nor does the follower commit its own stale tail.
    assert cluster.core(2).commit_index == 3


def test_r2_the_mistake_would_be_seen() -> None:
    cluster = stale_tail(OwnLastIndex)
    (answer,) = [found for found in cluster.network if isinstance(found, AppendResponse)]
    assert answer.index == 6
    assert cluster.core(2).commit_index == 6


def test_r3_nothing_is_answered_before_it_is_durable() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.propose(1, b"x")
    (request, _) = cluster.network
    cluster.network.clear()
    follower = cluster.core(2)
    assert isinstance(request, AppendRequest)
    follower.step(request, cluster.now)
    assert not [found for found in follower.ready().messages if isinstance(found, AppendResponse)]
    cluster.turn(2)
    (answer,) = cluster.network
    assert isinstance(answer, AppendResponse)
    assert answer.index == 2


def test_r3_an_acknowledgement_does_not_outlive_its_term() -> None:
    """A newer leader may replace the entry before the flush; the answer would name nothing."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    follower = cluster.core(2)
    follower.step(AppendRequest(7, 1, 2, 1, 1, 1, 1, 9, [(2, 1, b"old")]), cluster.now)
    follower.step(AppendRequest(7, 3, 2, 2, 1, 1, 1, 1, [(2, 2, b"new")]), cluster.now)
    cluster.network.clear()
    cluster.turn(2)
    assert [(found.recipient, found.term) for found in cluster.network] == [(3, 2)]  # type: ignore[union-attr]


def test_r3_a_leader_counts_itself_by_what_is_durable() -> None:
    cluster = RaftCluster([1, 2, 3, 4], config=CONFIG)
    core = cluster.elect(1)
    cluster.nodes[1].is_stalled = True
    core.propose(b"x")
    for peer in (2, 3):
        core.step(AppendResponse(7, peer, 1, 1, 1, is_matched=True, index=2), cluster.now)
    assert core.commit_index == 1
    assert not [
        found
        for found in core.ready().messages
        if isinstance(found, AppendRequest) and found.entries
    ]


def test_r4_a_candidate_keeps_its_vote_when_it_meets_its_terms_leader() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.end_silence()
    core = cluster.core(2)
    core._become_candidate(cluster.now, is_forced=False)
    core.step(Heartbeat(7, 1, 2, 1, 0, 1), cluster.now)
    assert (core.role, core.voted_for, core.leader_id) == (Role.FOLLOWER, 2, 1)
    core.step(VoteRequest(7, 3, 2, 1, 9, 9, is_forced=True), cluster.now)
    assert core.voted_for == 2
    cluster.turn(2)
    assert cluster.nodes[2].store.hard_state() == HardState(1, 2, 0)


def test_r5_a_node_that_was_cut_off_does_not_depose_the_leader() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.run(20_000)
    assert cluster.core(3).term == 1
    cluster.heal()
    cluster.run(2000)
    assert [node.core.term for node in cluster.nodes.values()] == [1, 1, 1]
    assert cluster.core(1).is_leader
    assert cluster.core(3).leader_id == 1


def test_r5_a_deposed_leader_serves_no_strong_read() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    old = cluster.elect(1)
    cluster.isolate(1)
    cluster.run_until(lambda: cluster.core(2).is_leader or cluster.core(3).is_leader)
    assert not old.may_serve(cluster.now)
    old.read_index(1, cluster.now)
    cluster.turn(1)
    cluster.run(3000)
    assert cluster.nodes[1].read_states == [(1, -1)]


def test_r5_a_leader_without_quorum_steps_down() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.isolate(1)
    cluster.run(CONFIG.election_timeout_ms_max + 200)
    assert core.role is not Role.LEADER
    assert core.leader_id == 0


def test_r6_a_lagging_replica_gets_state_and_not_just_pointers() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.crash(3)
    for at in range(200):
        cluster.propose(1, b"%d" % at)
        cluster.deliver_all()
    for node_id in (1, 2):
        cluster.compact(node_id)
        assert len(cluster.nodes[node_id].store.all_entries()) == 0
    cluster.restart(3)
    cluster.run(1000)
    assert payloads(cluster.nodes[3].applied) == [b"%d" % at for at in range(200)]


def test_r7_one_change_at_a_time_in_force_from_its_append() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.change(1, "add_voter", 4)
    assert core.configuration.voters == (1, 2, 3, 4)
    assert core.conf_change_in_flight
    with pytest.raises(ConfChangeInFlight):
        core.propose_conf_change(ConfChange("add_voter", 5))
    cluster.deliver_all()
    assert not core.conf_change_in_flight
    core.propose_conf_change(ConfChange("add_voter", 5))


def test_r7_a_learner_with_nothing_is_not_caught_up_with_nothing() -> None:
    """A commit index of 0 is matched by everybody."""
    cluster = RaftCluster([1, 2, 3, 4], voters=(1, 2, 3), learners=(4,), config=CONFIG)
    cluster.end_silence()
    cluster.isolate(4)
    core = cluster.core(1)
    core._become_candidate(cluster.now, is_forced=True)
    cluster.turn(1)
    cluster.deliver()
    cluster.deliver()
    cluster.step(next(found for found in cluster.network if isinstance(found, VoteResponse)))
    assert core.is_leader
    assert core.commit_index == 0
    assert core.progress[4].match_index == 0
    assert not core.is_caught_up(4)
    cluster.deliver_all()
    cluster.run(300)
    assert core.commit_index == 1
    assert not core.is_caught_up(4)
    with pytest.raises(ConfChangeRefused):
        core.propose_conf_change(ConfChange("promote", 4))
    cluster.heal()
    cluster.run(300)
    assert core.is_caught_up(4)


def test_r7_a_promotion_is_proposed_once() -> None:
    cluster = RaftCluster([1, 2, 3, 4], voters=(1, 2, 3), learners=(4,), config=CONFIG)
    core = cluster.elect(1)
    cluster.change(1, "promote", 4)
    with pytest.raises(ConfChangeInFlight):
        core.propose_conf_change(ConfChange("promote", 4))
    cluster.deliver_all()
    with pytest.raises(ConfChangeRefused):
        core.propose_conf_change(ConfChange("promote", 4))


def test_r8_what_was_sent_is_not_sent_again_with_each_proposal() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    for at in range(100):
        cluster.propose(1, b"%d" % at)
    sent = [found for found in cluster.network if isinstance(found, AppendRequest)]
    assert sum(len(found.entries) for found in sent) == 2 * 100


def test_r8_one_dead_peer_does_not_hold_up_the_others() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.crash(2)
    for at in range(100):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    assert core.commit_index == 101


def test_r9_a_proposal_is_known_by_term_and_index() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.isolate(1)
    mine = cluster.propose(1, b"mine")
    cluster.run_until(lambda: cluster.core(2).is_leader or cluster.core(3).is_leader)
    assert cluster.leader is not None
    cluster.heal()
    cluster.run(500)
    (at_its_index,) = [entry for entry in cluster.nodes[1].applied if entry[0] == mine.index]
    assert at_its_index[1] != mine.term
