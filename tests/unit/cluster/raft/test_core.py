"""What the core does beyond the paper: leases, transfer, windows, quiescence, lost disks, limits."""

import math
import random

import pytest
from raft_cluster import GROUP, RaftCluster, payloads, plant
from raft_store import MemoryLogStore

from cluster.errors import (
    ConfChangeInFlight,
    ConfChangeRefused,
    NotLeader,
    TransferInProgress,
)
from cluster.raft.config import RaftConfig
from cluster.raft.core import _HANDLERS, RaftCore
from cluster.raft.message import (
    AppendRequest,
    AppendResponse,
    ConfChange,
    Configuration,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.progress import ProgressState
from cluster.raft.state import Role

CONFIG = RaftConfig(quiesce_after_seconds=0)


def only_voter(log: MemoryLogStore | None = None) -> RaftCore:
    """A single node's group, its first entry applied."""
    core = RaftCore(
        config=CONFIG,
        group_id=GROUP,
        node_id=1,
        log=log or MemoryLogStore(),
        configuration=Configuration((1,)),
        applied_index=0,
        random=random.Random(1),
        now=5.0,
    )
    settle(core)
    return core


def settle(core: RaftCore, now: float = 5.0) -> None:
    assert isinstance(core.log, MemoryLogStore)
    core.log.flush()
    core.on_flushed(now)
    core.on_applied(core.ready().commit_index)


# An only voter


def test_an_only_voter_leads_and_serves_at_once_and_for_ever() -> None:
    core = only_voter()
    assert (core.role, core.term, core.leader_id) == (Role.LEADER, 1, 1)
    assert core.lease_until == math.inf
    assert core.may_serve(1e12)
    core.tick(1e9)
    assert core.is_leader
    assert core.is_quiescent


def test_an_only_voter_commits_with_its_own_flush_and_not_before() -> None:
    core = only_voter()
    entry_id = core.propose(b"x")
    assert tuple(entry_id) == (1, 2)
    assert core.ready().commit_index == 1
    core.on_flushed(5.0)
    assert core.ready().commit_index == 1
    settle(core)
    assert core.applied_index == 2


def test_each_start_of_an_only_voter_is_a_term_of_its_own() -> None:
    log = MemoryLogStore()
    assert [only_voter(log).term for _ in range(3)] == [1, 2, 3]
    assert [entry[1] for entry in log.all_entries()] == [1, 2, 3]


def test_ready_hands_out_everything_once() -> None:
    core = only_voter()
    core.read_index(9, 5.0)
    first, second = core.ready(), core.ready()
    assert first.read_states == [(9, 1)]
    assert second == ([], 1, [], [])
    assert core.ready() is second, "nothing happened, so nothing is built"


def test_proposals_that_the_driver_takes_back_were_never_there() -> None:
    core = only_voter()
    log = core.log
    assert isinstance(log, MemoryLogStore)
    core.propose(b"x")
    core.propose_conf_change(ConfChange("add_learner", 2))
    assert core.configuration.learners == (2,)
    log.discard_after(1)
    core.on_proposals_discarded()
    assert core.configuration == Configuration((1,))
    assert core.progress == {}
    assert core.lease_until == math.inf
    assert tuple(core.propose(b"y")) == (1, 2)
    settle(core)
    assert core.applied_index == 2


def test_a_leader_whose_first_entry_is_taken_back_tries_again_later() -> None:
    log = MemoryLogStore()
    core = RaftCore(
        config=CONFIG,
        group_id=GROUP,
        node_id=1,
        log=log,
        configuration=Configuration((1,)),
        applied_index=0,
        random=random.Random(1),
        now=5.0,
    )
    log.discard_after(0)
    core.on_proposals_discarded()
    assert core.role is Role.FOLLOWER
    with pytest.raises(NotLeader):
        core.propose(b"x")
    core.tick(5.0 + 2 * CONFIG.election_timeout_seconds_max)
    assert core.is_leader
    settle(core)
    assert core.may_serve(99.0)


def test_payloads_of_the_core_cannot_be_proposed() -> None:
    core = only_voter()
    for payload in (b"", b"\xff\x92"):
        with pytest.raises(AssertionError):
            core.propose(payload)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(AssertionError, match="votes split for ever"):
        RaftCluster([1], config=RaftConfig(election_timeout_ms_max=750))


def test_a_follower_whose_disk_is_full_gets_the_entries_again() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.propose(1, b"x")
    request = next(message for message in cluster.network if message.recipient == 2)
    assert isinstance(request, AppendRequest)
    cluster.lose_where(lambda message: message is request)
    node = cluster.nodes[2]
    node.core.step(request, cluster.now)
    node.core.step(Heartbeat(GROUP, 1, 2, 1, 2, 9), cluster.now)
    assert node.core.commit_index == 2
    node.store.discard_after(1)
    node.core.on_proposals_discarded()
    assert node.core.commit_index == 1
    ready = node.core.ready()
    assert ready.commit_index == 1
    assert [m.index for m in ready.messages if isinstance(m, AppendResponse)] == [1]
    cluster.deliver_all()
    cluster.run(500)
    assert payloads(node.applied) == [b"x"]


def test_rule_61_a_follower_applies_only_what_is_durable() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    node = cluster.nodes[2]
    node.core.step(AppendRequest(GROUP, 1, 2, 1, 1, 1, 2, 5, [(2, 1, b"x")]), cluster.now)
    assert node.core.commit_index == 2
    assert node.core.ready().commit_index == 1
    cluster.turn(2)
    assert node.core.applied_index == 2


def test_an_only_voter_keeps_no_account_of_rounds() -> None:
    cluster = RaftCluster([1, 2], voters=(1,), learners=(2,), config=CONFIG)
    core = cluster.core(1)
    cluster.crash(2)
    cluster.run(10_000)
    assert len(core._rounds) == 0
    assert core.may_serve(cluster.now)


# Messages for others, and of others


def test_a_message_for_another_node_or_group_is_dropped() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    before = (core.term, core.role, core.voted_for)
    core.step(VoteRequest(GROUP, 2, 3, 99, 9, 9, is_forced=True), cluster.now)
    core.step(VoteRequest(GROUP + 1, 2, 1, 99, 9, 9, is_forced=True), cluster.now)
    assert (core.term, core.role, core.voted_for) == before
    assert not core.ready().messages


def test_answers_of_strangers_are_dropped() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    core.step(AppendResponse(GROUP, 9, 1, 1, 1, is_matched=True, index=1), cluster.now)
    core.step(HeartbeatResponse(GROUP, 9, 1, 1, 1, 1), cluster.now)
    assert set(core.progress) == {2, 3}


def test_every_message_has_a_handler() -> None:
    assert set(_HANDLERS) == set(Message.__args__)


def test_an_answer_to_a_round_that_never_was_confirms_nothing() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    before = core.lease_until
    cluster.tick(CONFIG.heartbeat_ms + CONFIG.tick_ms, [1])
    core.step(HeartbeatResponse(GROUP, 2, 1, 1, 2**40, 1), cluster.now)
    assert core.lease_until == before


@pytest.mark.parametrize("term", [1, 3, 9])
def test_a_pre_vote_counts_for_the_term_it_was_asked_for(term: int) -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.now += 2.0
    cluster.campaign(3)
    core = cluster.core(3)
    core.step(PreVoteResponse(GROUP, 2, 3, term, is_granted=True), cluster.now)
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 1)
    core.step(PreVoteResponse(GROUP, 2, 3, 2, is_granted=True), cluster.now)
    assert (core.role, core.term) == (Role.CANDIDATE, 2)


# Leases (PROTOCOL rules 35 to 38)


def test_a_lease_counts_from_when_the_heartbeat_left() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.network.clear()
    cluster.tick(CONFIG.heartbeat_ms + CONFIG.tick_ms, [1])
    left = [message for message in cluster.network if isinstance(message, Heartbeat)]
    assert left
    until = core.lease_until
    # The answer comes half a second later.
    began_at = core._round_began_at
    cluster.now += 0.5
    cluster.step(left[0])
    cluster.deliver_all()
    assert core.lease_until == pytest.approx(began_at + CONFIG.lease_seconds)
    assert core.lease_until > until


def test_a_lease_needs_a_quorum_of_the_voters() -> None:
    cluster = RaftCluster([1, 2, 3, 4, 5], voters=(1, 2, 3, 4, 5), config=CONFIG)
    core = cluster.elect(1)
    cluster.now += 2.0
    core._active_since = cluster.now
    cluster.tick(CONFIG.heartbeat_ms + CONFIG.tick_ms, [1])
    beats = {message.recipient: message for message in cluster.network}
    cluster.network.clear()
    cluster.step(beats[2])
    cluster.deliver_all()
    assert not core.may_serve(cluster.now)
    cluster.step(beats[3])
    cluster.deliver_all()
    assert core.may_serve(cluster.now)


def test_rule_35_no_lease_after_timeout_now() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    assert core.may_serve(cluster.now)
    cluster.transfer(1, 2)
    assert isinstance(cluster.network[-1], TimeoutNow)
    cluster.lose_where(lambda message: isinstance(message, TimeoutNow))
    while core.term == 1:
        assert not core.may_serve(cluster.now)
        cluster.run(25)
    assert core.is_leader
    assert core.term == 2
    assert core.may_serve(cluster.now), "a new term, and nobody holds a TimeoutNow of it"


def test_rule_36_a_replica_is_silent_after_its_start() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.restart(2)
    core = cluster.core(2)
    started_at = cluster.now
    silent_until = started_at + CONFIG.election_timeout_seconds_max
    for now in (started_at, silent_until - 0.001):
        core.step(VoteRequest(GROUP, 3, 2, 50, 99, 49, is_forced=False), now)
        core.step(VoteRequest(GROUP, 3, 2, 50, 99, 49, is_forced=True), now)
        core.step(PreVoteRequest(GROUP, 3, 2, 50, 99, 49), now)
        core.step(TimeoutNow(GROUP, 1, 2, 1), now)
        core.campaign(now)
        core.tick(now)
        assert core.role is Role.FOLLOWER
        assert core.term == 1
        assert not core.ready().messages
    core.step(VoteRequest(GROUP, 3, 2, 50, 99, 49, is_forced=False), silent_until)
    assert core.voted_for == 3


def test_rule_36_a_replica_that_is_silent_still_follows() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.restart(2)
    cluster.propose(1, b"x")
    cluster.deliver_all()
    assert payloads(cluster.nodes[2].store.all_entries()) == [b"x"]


def test_rule_38_an_only_voter_that_grows_needs_answers_at_once() -> None:
    cluster = RaftCluster([1], config=CONFIG)
    core = cluster.core(1)
    cluster.change(1, "add_learner", 2)
    cluster.deliver_all()
    assert core.lease_until == math.inf
    cluster.change(1, "promote", 2)
    assert core.lease_until == -math.inf
    assert not core.may_serve(cluster.now)
    cluster.deliver_all()
    assert core.may_serve(cluster.now)
    assert core.lease_until < math.inf


def test_rule_38_an_only_voter_that_grows_at_once_has_no_lease_left() -> None:
    cluster = RaftCluster([1], config=CONFIG)
    core = cluster.core(1)
    assert core.may_serve(cluster.now)
    cluster.change(1, "add_voter", 2)
    assert core.lease_until == -math.inf


def test_rule_38_answers_from_before_a_node_was_a_voter_do_not_count() -> None:
    cluster = RaftCluster([1, 2, 3], voters=(1, 2), learners=(3,), config=CONFIG)
    core = cluster.elect(1)
    cluster.run(500)
    before = core.lease_until
    cluster.tick(CONFIG.heartbeat_ms, [1])
    (beat,) = [message for message in cluster.network if message.recipient == 3]
    cluster.network.clear()
    cluster.change(1, "promote", 3)
    cluster.network.clear()
    cluster.step(beat)
    cluster.deliver_all()
    assert core.lease_until == before


def test_rule_38_a_lease_ends_when_its_answers_are_no_quorum_any_more() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.isolate(3)
    cluster.run(300)
    assert core.may_serve(cluster.now)
    cluster.change(1, "add_voter", 4)
    assert not core.may_serve(cluster.now)


def test_a_driver_cannot_make_a_voter_break_its_promise() -> None:
    """It would vote for itself while the leader that it has just answered serves by its lease."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.campaign(2)
    assert cluster.core(2).role is Role.FOLLOWER
    assert not cluster.network


def test_an_only_voter_by_a_change_that_may_not_be_committed_is_silent_too() -> None:
    """Node 2 has removed itself and serves by node 1's word, which node 1 forgets in a restart."""
    cluster = RaftCluster([1, 2], config=CONFIG)
    leader = cluster.elect(2)
    cluster.change(2, "remove", 2)
    cluster.deliver(0)
    assert cluster.core(1).configuration == Configuration((1,))
    cluster.network.clear()
    cluster.restart(1)
    assert leader.may_serve(cluster.now)
    assert cluster.core(1).role is Role.FOLLOWER
    cluster.isolate(1)
    cluster.run(3000)
    assert cluster.core(1).is_leader
    assert not leader.may_serve(cluster.now)


def test_an_only_voter_with_a_new_learner_leads_at_once_after_a_restart() -> None:
    cluster = RaftCluster([1], config=CONFIG)
    cluster.change(1, "add_learner", 2)
    cluster.deliver_all()
    cluster.restart(1)
    assert cluster.core(1).is_leader
    assert cluster.core(1).may_serve(cluster.now)


def test_a_leader_that_removes_itself_can_be_elected_again_until_that_is_committed() -> None:
    """Nobody else has the entry, so nobody else's log is as long; thesis §4.2.2."""
    cluster = RaftCluster([1, 2], config=CONFIG)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.change(1, "remove", 1)
    cluster.run(4000)
    assert cluster.leader is None
    cluster.heal()
    cluster.run_until(lambda: cluster.core(2).is_leader)
    cluster.run(1000)
    assert cluster.core(2).configuration == Configuration((2,))
    assert cluster.core(1).role is Role.FOLLOWER


def test_a_leader_is_deposed_by_a_higher_term_only() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    core.step(VoteRequest(GROUP, 3, 1, 9, 9, 9, is_forced=False), cluster.now + 100)
    assert core.is_leader
    core.step(HeartbeatResponse(GROUP, 3, 1, 9, 0, 0), cluster.now)
    assert (core.role, core.term) == (Role.FOLLOWER, 9)


# Reads


def test_reads_are_refused_when_leadership_is_lost() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    core.read_index(1, cluster.now)
    core.read_index(2, cluster.now)
    core.step(Heartbeat(GROUP, 2, 1, 9, 0, 1), cluster.now)
    assert core.ready().read_states == [(1, -1), (2, -1)]


def test_reads_of_one_turn_share_a_round_and_none_joins_one_that_left() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    for context in range(5):
        core.read_index(context, cluster.now)
    cluster.turn(1)
    first_round = cluster.network[:]
    assert len(first_round) == 2
    core.read_index(5, cluster.now)
    cluster.turn(1)
    second_round = cluster.network[2:]
    assert len(second_round) == 2
    cluster.network.clear()
    cluster.step(first_round[0])
    cluster.deliver_all()
    assert cluster.nodes[1].read_states == [(context, 1) for context in range(5)]
    cluster.step(second_round[1])
    cluster.deliver_all()
    assert cluster.nodes[1].read_states[5:] == [(5, 1)]


# Membership


def test_no_change_before_the_terms_first_entry_is_committed() -> None:
    """Two leaders in a row, each with a change of its own, could form majorities that do not meet."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.isolate(1)
    cluster.change(1, "add_learner", 4)
    with pytest.raises(ConfChangeInFlight):
        cluster.change(1, "remove", 3)
    cluster.run_until(lambda: cluster.leader is not None and cluster.leader.node_id != 1)
    assert cluster.leader is not None
    other = cluster.leader
    other.commit_index = 1  # As if nobody had answered yet.
    with pytest.raises(ConfChangeInFlight, match="first entry"):
        other.propose_conf_change(ConfChange("remove", 1))
    assert core.term == 1


@pytest.mark.parametrize(
    ("kind", "node_id", "reason"),
    [
        ("add_learner", 2, "is a member of the group already"),
        ("add_learner", 4, "is a member of the group already"),
        ("add_learner", 0, "node ids are above 0"),
        ("add_voter", 2, "is a voter of the group already"),
        ("promote", 2, "is not a learner of the group"),
        ("promote", 9, "is not a learner of the group"),
        ("promote", 4, "has not caught up yet"),
        ("demote", 4, "is not a voter of the group"),
        ("remove", 9, "is not a member of the group"),
    ],
)
def test_changes_that_make_no_sense_are_refused(kind: str, node_id: int, reason: str) -> None:
    cluster = RaftCluster([1, 2, 3, 4], voters=(1, 2, 3), learners=(4,), config=CONFIG)
    cluster.isolate(4)
    core = cluster.elect(1)
    last_index = core.log.last_index()
    with pytest.raises(ConfChangeRefused, match=reason):
        core.propose_conf_change(ConfChange(kind, node_id))  # type: ignore[arg-type]
    assert core.log.last_index() == last_index
    assert core.configuration == Configuration((1, 2, 3), (4,))


def test_a_learner_that_lacks_what_was_before_this_term_has_not_caught_up() -> None:
    cluster = RaftCluster([1, 2, 3], voters=(1, 2), learners=(3,), config=CONFIG)
    core = cluster.elect(1)
    assert core.is_caught_up(3)
    core.progress[3].match_index = core._term_start_index - 1
    assert not core.is_caught_up(3)
    assert not core.is_caught_up(9)


def test_the_last_voter_stays() -> None:
    core = only_voter()
    for kind in ("remove", "demote"):
        with pytest.raises(ConfChangeRefused, match="is the only voter of the group"):
            core.propose_conf_change(ConfChange(kind, 1))  # type: ignore[arg-type]


def test_a_learner_votes_when_it_is_asked() -> None:
    """Its promotion may be in the candidate's log and not yet in its own; thesis §4.2."""
    cluster = RaftCluster([1, 2], voters=(1,), learners=(2,), config=CONFIG)
    cluster.run(500)
    cluster.change(1, "promote", 2)
    cluster.network.clear()
    cluster.restart(1)
    assert cluster.core(1).configuration.voters == (1, 2)
    assert cluster.core(2).configuration.voters == (1,)
    cluster.run_until(lambda: cluster.core(1).is_leader)
    cluster.run(500)
    assert cluster.core(2).configuration.voters == (1, 2)


def test_a_new_replica_learns_the_configuration_from_the_log() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.change(1, "add_learner", 4)
    assert cluster.core(4).configuration == Configuration(())
    cluster.deliver_all()
    cluster.run(300)
    assert cluster.core(4).applied_configuration == Configuration((1, 2, 3), (4,))


def test_a_restart_finds_changes_above_what_is_applied() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.change(1, "add_learner", 4)
    cluster.deliver_all()
    cluster.run(200)
    cluster.restart(2)
    core = cluster.core(2)
    assert core.applied_configuration == Configuration((1, 2, 3))
    assert core.configuration == Configuration((1, 2, 3), (4,))
    cluster.run(300)
    assert core.applied_configuration == Configuration((1, 2, 3), (4,))


# Transfer


def test_no_proposals_while_leadership_is_transferred() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.transfer(1, 2)
    assert core.transferring_to == 2
    for action in (
        lambda: core.propose(b"y"),
        lambda: core.propose_conf_change(ConfChange("remove", 3)),
    ):
        with pytest.raises(TransferInProgress):
            action()
    cluster.deliver_all()
    assert cluster.core(2).is_leader
    assert payloads(cluster.nodes[2].applied) == [b"x"]


def test_a_transfer_that_never_got_so_far_leaves_the_lease() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.partition([1, 3], [2])
    cluster.propose(1, b"x")
    cluster.deliver_all()
    cluster.transfer(1, 2)
    cluster.run(1600)
    assert core.transferring_to == 0
    assert (core.term, core.is_leader) == (1, True)
    assert core.may_serve(cluster.now)


@pytest.mark.parametrize("target", [1, 4, 9])
def test_leadership_goes_to_another_voter_only(target: int) -> None:
    cluster = RaftCluster([1, 2, 3, 4], voters=(1, 2, 3), learners=(4,), config=CONFIG)
    core = cluster.elect(1)
    cluster.transfer(1, target)
    assert core.transferring_to == 0
    cluster.core(2).transfer_leadership(3, cluster.now)
    assert cluster.core(2).transferring_to == 0


def test_leadership_goes_to_nobody_who_has_not_answered_this_leader() -> None:
    """The one whose loss made this replica the leader is the likeliest to be named."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    cluster.partition([1], [2, 3])
    core = cluster.elect(2)
    assert not core.has_answered(1)
    cluster.transfer(2, 1)
    assert core.transferring_to == 0
    assert core.has_answered(3)


# Flow control


def test_the_window_limits_entries_in_flight() -> None:
    config = RaftConfig(inflight_entries_max=10, quiesce_after_seconds=0)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    cluster.partition([1], [2])
    for at in range(50):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    assert core.progress[2].next_index == 1 + 10 + 1
    assert core.progress[3].match_index == 51
    cluster.heal()
    cluster.run(500)
    assert core.progress[2].match_index == 51


def test_the_window_limits_bytes_in_flight() -> None:
    config = RaftConfig(inflight_bytes_max=1000, append_bytes_max=1000, quiesce_after_seconds=0)
    cluster = RaftCluster([1, 2], config=config)
    core = cluster.elect(1)
    cluster.isolate(2)
    for _ in range(20):
        cluster.propose(1, b"x" * 100)
    assert core.progress[2].inflight_bytes == 1000
    assert core.progress[2].next_index == 12
    # One that is larger than all limits travels alone.
    cluster.heal()
    cluster.run(500)
    cluster.propose(1, b"y" * 5000)
    cluster.deliver_all()
    assert core.commit_index == 22
    assert core.progress[2].inflight_bytes == 0


def test_appends_are_batched_up_to_their_limit() -> None:
    config = RaftConfig(append_bytes_max=250, quiesce_after_seconds=0)
    cluster = RaftCluster([1, 2], config=config)
    core = cluster.elect(1)
    for _ in range(7):
        core.propose(b"x" * 100)
    cluster.turn(1)
    sizes = [len(found.entries) for found in cluster.network if isinstance(found, AppendRequest)]
    assert sizes == [2, 2, 2, 1]


def test_a_follower_answers_once_for_all_appends_of_a_turn() -> None:
    cluster = RaftCluster([1, 2], config=CONFIG)
    cluster.elect(1)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    follower = cluster.core(2)
    for message in cluster.network:
        assert isinstance(message, AppendRequest)
        follower.step(message, cluster.now)
    cluster.network.clear()
    cluster.turn(2)
    (answer,) = cluster.network
    assert isinstance(answer, AppendResponse)
    assert answer.index == 6


def test_a_lost_acknowledgement_is_found_by_the_next_heartbeat() -> None:
    """The window is full, the peer has everything, and only the answers were lost."""
    config = RaftConfig(inflight_entries_max=4, quiesce_after_seconds=0)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    for at in range(10):
        cluster.propose(1, b"%d" % at)
    cluster.lose_where(lambda message: message.recipient == 3)
    for _ in range(4):
        cluster.deliver(0)
    cluster.lose_where(lambda message: isinstance(message, AppendResponse))
    assert core.progress[2].match_index == 1
    cluster.run(1000)
    assert core.progress[2].match_index == 11
    assert core.progress[3].match_index == 11


def test_an_unreachable_peer_is_probed() -> None:
    cluster = RaftCluster([1, 2], config=CONFIG)
    core = cluster.elect(1)
    assert core.progress[2].state is ProgressState.REPLICATE
    core.on_peer_unreachable(2)
    assert core.progress[2].state is ProgressState.PROBE
    core.on_peer_unreachable(9)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    assert len(cluster.network) == 1, "a probe, and then its answer is awaited"
    cluster.deliver_all()
    assert core.commit_index == 6


# Raft snapshots


def test_a_snapshot_peer_is_named_once_until_it_has_ended() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.crash(3)
    cluster.propose(1, b"x")
    cluster.deliver_all()
    cluster.compact(1)
    cluster.restart(3)
    asked: list[int] = []

    def beat() -> None:
        cluster.tick(CONFIG.heartbeat_ms + CONFIG.tick_ms, [1, 2])
        for message in list(cluster.network):
            if isinstance(message, Message.__args__):
                cluster.network.remove(message)
                node = cluster.nodes[message.recipient]
                node.core.step(message, cluster.now)
                node.store.flush()
                node.core.on_flushed(cluster.now)
                ready = node.core.ready()
                asked.extend(ready.snapshot_peers)
                cluster.network += ready.messages

    for _ in range(8):
        beat()
    assert asked == [3]
    assert core.progress[3].state is ProgressState.SNAPSHOT
    core.on_snapshot_result(3, 2, ok=False)
    core.on_snapshot_result(3, 2, ok=False)
    for _ in range(8):
        beat()
    assert asked == [3, 3]
    core.on_snapshot_result(2, 2, ok=True)  # To whom none was sent: nothing.
    assert core.progress[2].state is ProgressState.REPLICATE


def test_a_follower_that_knows_more_than_the_snapshot_needs_none() -> None:
    """It is where the leader's log begins, and the leader does not know."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    cluster.run(200)
    for node_id in (1, 2, 3):
        cluster.compact(node_id)
    cluster.crash(1)
    sent: list[object] = []
    cluster.on_send = sent.append
    cluster.run_until(lambda: cluster.leader is not None)
    cluster.restart(1)
    cluster.run(1000)
    assert {node.core.applied_index for node in cluster.nodes.values()} == {7}
    assert not [message for message in sent if type(message).__name__ == "SnapshotMessage"]


def test_a_follower_that_lost_its_disk_is_found_out_and_filled_again() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    cluster.lose_disk(3)
    cluster.history.on_restart(3)
    cluster.run(400)
    assert core.progress[3].match_index == 6
    assert cluster.nodes[3].applied == cluster.nodes[1].applied
    # What it had acknowledged before is not believed any more.
    old = AppendResponse(GROUP, 3, 1, 1, 1, is_matched=True, index=6)
    core.progress[3].match_index = 0
    core.step(old, cluster.now)
    assert core.progress[3].match_index == 0


def test_an_old_refusal_is_no_lost_log() -> None:
    cluster = RaftCluster([1, 2], config=CONFIG)
    core = cluster.elect(1)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    cluster.isolate(2)
    core.step(HeartbeatResponse(GROUP, 2, 1, 1, 0, 3), cluster.now)
    progress = core.progress[2]
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 7)
    old_round = progress.probe_round - 1
    refusal = AppendResponse(GROUP, 2, 1, 1, old_round, is_matched=False, index=6)
    core.step(refusal, cluster.now)
    assert progress.match_index == 6
    lost = AppendResponse(GROUP, 2, 1, 1, progress.probe_round, is_matched=False, index=6)
    core.step(lost, cluster.now)
    assert progress.match_index == 0


def test_no_snapshot_for_a_peer_that_is_not_there() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    core = cluster.elect(1)
    cluster.crash(3)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    cluster.compact(1)
    cluster.run(2000)
    sent: list[object] = []
    cluster.on_send = sent.append
    core.on_peer_unreachable(3)
    cluster.run(500)
    assert core.progress[3].state is ProgressState.PROBE
    assert not [message for message in sent if type(message).__name__ == "SnapshotMessage"]
    cluster.restart(3)
    cluster.run(500)
    assert core.progress[3].match_index == 6


def test_a_snapshot_ends_the_followers_old_log() -> None:
    store = MemoryLogStore()
    plant(store, [1, 1, 1], HardState(1, 0, 0))
    core = RaftCore(
        config=CONFIG,
        group_id=GROUP,
        node_id=1,
        log=store,
        configuration=Configuration((1, 2, 3)),
        applied_index=0,
        random=random.Random(1),
        now=5.0,
    )
    core.step(Heartbeat(GROUP, 2, 1, 4, 0, 1), 5.0)
    store.flush()
    core.ready()
    assert core.may_install_snapshot(4, 9)
    store.reset(9, 3)
    core.on_snapshot_installed(9, 3, Configuration((2, 3), (1,)), 5.1)
    assert (core.commit_index, core.applied_index) == (9, 9)
    assert core.is_learner
    (answer,) = core.ready().messages
    assert isinstance(answer, AppendResponse)
    assert (answer.is_matched, answer.index, answer.recipient) == (True, 9, 2)
    core.step(
        AppendRequest(GROUP, 2, 1, 4, 9, 3, 10, 2, [(10, 4, b"x")]),
        5.2,
    )
    assert core.commit_index == 10


def test_a_log_with_acknowledged_entries_cannot_be_reset() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    node = cluster.nodes[3]
    plant(node.store, [1] * 7)
    node.core.step(AppendRequest(GROUP, 1, 3, 1, 7, 1, 1, 1, []), cluster.now)
    assert node.core.may_install_snapshot(1, 6)
    node.store.reset(6, 1)
    with pytest.raises(AssertionError, match="acknowledged entries"):
        node.core.on_snapshot_installed(6, 1, Configuration((1, 2, 3)), cluster.now)


# Quiescence


def test_a_quiescent_group_is_silent_and_without_lease() -> None:
    config = RaftConfig(quiesce_after_seconds=1.0)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    cluster.run(2000)
    assert [node.core.is_quiescent for node in cluster.nodes.values()] == [True] * 3
    sent: list[object] = []
    cluster.on_send = sent.append
    cluster.run(100_000)
    assert not sent
    assert not core.may_serve(cluster.now)
    core.read_index(1, cluster.now)
    cluster.turn(1)
    cluster.deliver_all()
    assert cluster.nodes[1].read_states == [(1, 1)]
    assert core.may_serve(cluster.now)
    assert core.term == 1


def test_a_group_with_a_peer_that_is_behind_does_not_sleep() -> None:
    config = RaftConfig(quiesce_after_seconds=0.5)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    cluster.crash(3)
    cluster.propose(1, b"x")
    cluster.run(5000)
    assert not core.is_quiescent
    cluster.restart(3)
    cluster.run(5000)
    assert core.is_quiescent


def test_a_follower_with_more_than_it_was_told_to_be_committed_does_not_sleep() -> None:
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    node = cluster.nodes[2]
    plant(node.store, [1, 1, 1], HardState(1, 0, 0))
    core = node.core
    core.step(AppendRequest(GROUP, 1, 2, 1, 2, 1, 2, 1, []), cluster.now)
    core.step(Heartbeat(GROUP, 1, 2, 1, 2, 2, is_quiesce=True), cluster.now)
    assert not core.is_quiescent
    answers = [found for found in core.ready().messages if isinstance(found, HeartbeatResponse)]
    assert [answer.is_awake for answer in answers] == [True]
    core.step(AppendRequest(GROUP, 1, 2, 1, 3, 1, 3, 3, []), cluster.now)
    core.step(Heartbeat(GROUP, 1, 2, 1, 3, 4, is_quiesce=True), cluster.now)
    assert core.is_quiescent


def test_a_removed_replica_does_not_wake_a_sleeping_leader() -> None:
    config = RaftConfig(quiesce_after_seconds=0.5)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    cluster.isolate(3)
    cluster.change(1, "remove", 3)
    cluster.run(3000)
    assert core.is_quiescent
    core.step(PreVoteRequest(GROUP, 3, 1, core.term + 1, 1, 1), cluster.now)
    assert core.is_quiescent


def test_waking_gives_a_quorum_time_to_be_heard() -> None:
    config = RaftConfig(quiesce_after_seconds=0.5)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    cluster.run(60_000)
    cluster.isolate(1)
    cluster.propose(1, b"x")
    cluster.tick(1400, [1])
    assert core.is_leader
    cluster.tick(200, [1])
    assert not core.is_leader


def test_answers_from_before_do_not_wake() -> None:
    config = RaftConfig(quiesce_after_seconds=0.5)
    cluster = RaftCluster([1, 2, 3], config=config)
    core = cluster.elect(1)
    cluster.run(2000)
    answered = core.progress[2].acked_round
    core.step(HeartbeatResponse(GROUP, 2, 1, 1, answered, 1), cluster.now)
    core.step(AppendResponse(GROUP, 2, 1, 1, answered, is_matched=True, index=1), cluster.now)
    assert core.is_quiescent
    core.step(HeartbeatResponse(GROUP, 2, 1, 1, 0, 1, is_awake=True), cluster.now)
    assert not core.is_quiescent


# Randomness comes from outside


def test_one_seed_is_one_history() -> None:
    def history(seed: int) -> list[object]:
        cluster = RaftCluster([1, 2, 3], config=CONFIG, seed=seed)
        sent: list[object] = []
        cluster.on_send = sent.append
        cluster.run(6000)
        return sent

    assert history(4) == history(4)
    assert len({str(history(seed)) for seed in range(6)}) > 1


def test_a_vote_is_answered_by_whoever_was_not_asked_in_vain() -> None:
    """A candidate of a higher term makes a stale leader step down by its answer to a heartbeat."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    cluster.elect(1)
    core = cluster.core(3)
    core.step(VoteRequest(GROUP, 2, 3, 7, 9, 9, is_forced=True), cluster.now)
    cluster.turn(3)
    assert [type(message) for message in cluster.network] == [VoteResponse]
    cluster.network.clear()
    cluster.run(200)
    assert cluster.core(1).term == 7
    cluster.run_until(lambda: cluster.leader is not None)
