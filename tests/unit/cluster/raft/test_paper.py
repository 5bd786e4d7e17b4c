"""One test per claim of the Raft paper's sections 5 to 8 ("In Search of an Understandable Consensus
Algorithm", extended version). ``docs/raft_claims.md`` lists the claims with the lines that keep them.

Where we differ on purpose, the docstring says so.
"""

import math
import random

import pytest
from raft_cluster import (
    GROUP,
    NOTHING_KEPT,
    CheckedStore,
    RaftCluster,
    SnapshotMessage,
    payloads,
    plant,
)
from raft_store import MemoryLogStore

from cluster.errors import NotLeader
from cluster.raft.config import RaftConfig
from cluster.raft.core import RaftCore
from cluster.raft.message import (
    AppendRequest,
    AppendResponse,
    Configuration,
    HardState,
    Heartbeat,
    Message,
    PreVoteRequest,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.state import Role

CONFIG = RaftConfig(quiesce_after_seconds=0)
START = 100.0
READY = START + CONFIG.election_timeout_seconds_max  # The silence after the start is over.


def make_core(
    terms: list[int] | None = None,
    *,
    voters: tuple[int, ...] = (1, 2, 3),
    hard_state: HardState = NOTHING_KEPT,
    seed: int = 1,
) -> RaftCore:
    """Return node 1, whose log has entries of the given terms."""
    store = MemoryLogStore()
    plant(store, terms or [], hard_state)
    return RaftCore(
        config=CONFIG,
        group_id=GROUP,
        node_id=1,
        log=store,
        configuration=Configuration(voters),
        applied_index=0,
        random=random.Random(seed),
        now=START,
    )


def turn(core: RaftCore, now: float = READY) -> list[Message]:
    """Flush, and return what leaves."""
    assert isinstance(core.log, MemoryLogStore)
    core.log.flush()
    core.on_flushed(now)
    return core.ready().messages


def append(
    term: int, prev: tuple[int, int], *entries: tuple[int, int, bytes], **named: int
) -> Message:
    """An append of node 2 to node 1."""
    return AppendRequest(
        GROUP, 2, 1, term, *prev, named.get("commit", 0), named.get("round", 1), list(entries)
    )


def elected(cluster: RaftCluster, node_id: int = 1) -> RaftCore:
    return cluster.elect(node_id)


# 5.1 Raft basics


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_5_1_a_larger_term_is_adopted_and_makes_a_follower(role: Role) -> None:
    """§5.1: if a server's term is smaller, it updates it; candidates and leaders step down."""
    core = make_core([1])
    if role is not Role.FOLLOWER:
        core._become_candidate(READY, is_forced=False)
    if role is Role.LEADER:
        core.step(VoteResponse(GROUP, 2, 1, core.term, is_granted=True), READY)
    assert core.role is role
    core.step(append(9, (1, 1)), READY)
    assert (core.role, core.term, core.voted_for) == (Role.FOLLOWER, 9, 0)


@pytest.mark.parametrize(
    "request_of_old_term",
    [
        append(1, (0, 0), (1, 1, b"old")),
        Heartbeat(GROUP, 2, 1, 1, 0, 1),
        VoteRequest(GROUP, 2, 1, 1, 9, 9, is_forced=False),
        PreVoteRequest(GROUP, 2, 1, 1, 9, 9),
    ],
)
def test_5_1_a_request_of_a_stale_term_is_rejected(request_of_old_term: Message) -> None:
    """§5.1: a request with a stale term number is rejected; the answer carries the newer one."""
    core = make_core([3])
    core.step(request_of_old_term, READY)
    (answer,) = turn(core)
    assert answer.term == 3
    assert not getattr(answer, "is_granted", False)
    assert not getattr(answer, "is_matched", False)
    assert core.log.last_index() == 1
    assert core.leader_id == 0


def test_5_1_the_term_survives_a_restart() -> None:
    """Figure 2: currentTerm, votedFor and the log are durable before an answer leaves."""
    core = make_core()
    core.step(VoteRequest(GROUP, 2, 1, 5, 0, 0, is_forced=False), READY)
    store = core.log
    assert isinstance(store, MemoryLogStore)
    assert turn(core)[0].term == 5
    store.crash()
    assert store.hard_state() == HardState(5, 2, 0)


# 5.2 Leader election


def test_5_2_servers_begin_as_followers() -> None:
    """§5.2: when servers start up, they begin as followers. (An only voter leads at once.)"""
    assert make_core().role is Role.FOLLOWER
    assert make_core([1, 4], hard_state=HardState(7, 1, 0)).role is Role.FOLLOWER


def test_5_2_a_follower_that_hears_its_leader_stays_one() -> None:
    """§5.2: a server remains a follower as long as it receives valid messages."""
    core = make_core()
    now = READY
    for at in range(100):
        now += CONFIG.election_timeout_seconds_min * 0.99
        core.step(append(1, (0, 0), round=at + 1), now)
        core.tick(now)
        turn(core, now)
    assert core.role is Role.FOLLOWER
    assert core.leader_id == 2


def test_5_2_a_leader_sends_heartbeats_to_all() -> None:
    """§5.2: leaders send periodic heartbeats to all followers to maintain their authority."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    sent: list[int] = []
    cluster.on_send = lambda message: (
        sent.append(message.recipient) if isinstance(message, Heartbeat) else None
    )
    cluster.tick(CONFIG.heartbeat_ms * 4 + CONFIG.tick_ms, [1])
    assert sent == [2, 3] * 4


def test_5_2_a_follower_without_leader_starts_an_election() -> None:
    """§5.2: a follower that receives nothing over the election timeout begins an election.

    Ours asks by pre-vote first (thesis §9.6).
    """
    core = make_core()
    core.step(append(1, (0, 0)), READY)
    turn(core)
    now = READY + CONFIG.election_timeout_seconds_min - 0.001
    core.tick(now)
    assert not turn(core, now)
    now = READY + CONFIG.election_timeout_seconds_max
    core.tick(now)
    assert [type(message) for message in turn(core, now)] == [PreVoteRequest, PreVoteRequest]
    assert core.role is Role.PRE_CANDIDATE
    assert core.term == 1


def test_5_2_a_candidate_votes_for_itself_in_a_new_term_and_asks_all() -> None:
    """§5.2: it increments its term, votes for itself, and asks the others in parallel."""
    core = make_core([2, 2])
    core._become_candidate(READY, is_forced=False)
    assert (core.term, core.voted_for, core.role) == (3, 1, Role.CANDIDATE)
    assert turn(core) == [VoteRequest(GROUP, 1, peer, 3, 2, 2, is_forced=False) for peer in (2, 3)]


@pytest.mark.parametrize(
    ("size", "granted", "refused", "role"),
    [
        (1, 0, 0, Role.LEADER),
        (3, 1, 0, Role.LEADER),
        (3, 2, 0, Role.LEADER),
        (3, 0, 1, Role.CANDIDATE),
        (3, 0, 2, Role.FOLLOWER),
        (4, 1, 0, Role.CANDIDATE),
        (4, 2, 0, Role.LEADER),
        (5, 1, 0, Role.CANDIDATE),
        (5, 2, 0, Role.LEADER),
        (5, 1, 2, Role.CANDIDATE),
        (5, 1, 3, Role.FOLLOWER),
        (5, 2, 2, Role.LEADER),
    ],
)
def test_5_2_a_majority_of_the_whole_cluster_wins(
    size: int, granted: int, refused: int, role: Role
) -> None:
    """§5.2: a candidate wins if it receives votes from a majority in the same term."""
    core = make_core(voters=tuple(range(1, size + 1)))
    if size > 1:
        core._become_candidate(READY, is_forced=False)
    for at in range(granted + refused):
        core.step(VoteResponse(GROUP, at + 2, 1, core.term, is_granted=at < granted), READY)
    assert core.role is role


def test_5_2_the_same_vote_counts_once() -> None:
    """§5.2, figure 2: votes are received from servers, so a repeated grant is no second vote."""
    core = make_core(voters=(1, 2, 3, 4, 5))
    core._become_candidate(READY, is_forced=False)
    for _ in range(5):
        core.step(VoteResponse(GROUP, 2, 1, core.term, is_granted=True), READY)
    # Nor does the vote of somebody who is no voter.
    core.step(VoteResponse(GROUP, 9, 1, core.term, is_granted=True), READY)
    assert core.role is Role.CANDIDATE


@pytest.mark.parametrize("first", [2, 3])
def test_5_2_one_vote_per_term_first_come_first_served(first: int) -> None:
    """§5.2: each server votes for at most one candidate in a given term."""
    core = make_core()
    second = 5 - first
    for candidate in (first, second, first):
        core.step(VoteRequest(GROUP, candidate, 1, 4, 0, 0, is_forced=False), READY)
    assert turn(core) == [
        VoteResponse(GROUP, 1, first, 4, is_granted=True),
        VoteResponse(GROUP, 1, second, 4, is_granted=False),
        VoteResponse(GROUP, 1, first, 4, is_granted=True),
    ]


def test_5_2_a_new_leader_shows_itself_to_all() -> None:
    """§5.2: it then sends messages to all others to establish its authority."""
    core = make_core([1])
    core._become_candidate(READY, is_forced=False)
    turn(core)
    core.step(VoteResponse(GROUP, 3, 1, core.term, is_granted=True), READY)
    sent = turn(core)
    assert [(type(message), message.recipient) for message in sent] == [
        (AppendRequest, 2),
        (AppendRequest, 3),
    ]


def test_5_2_a_candidate_recognises_a_leader_of_its_term() -> None:
    """§5.2: a leader whose term is at least the candidate's is legitimate; others are rejected."""
    core = make_core([1])
    core._become_candidate(READY, is_forced=False)
    turn(core)
    core.step(append(1, (1, 1)), READY)
    assert core.role is Role.CANDIDATE
    core.step(append(2, (1, 1)), READY)
    assert (core.role, core.leader_id, core.term) == (Role.FOLLOWER, 2, 2)
    # BEHAVIOUR 16.1 R4: it has voted, for itself; nobody else gets that vote.
    assert core.voted_for == 1


def test_5_2_after_a_split_vote_candidates_time_out_and_try_again() -> None:
    """§5.2: if votes are split, each candidate times out and starts a new election."""
    cluster = RaftCluster([1, 2, 3, 4], config=CONFIG)
    cluster.end_silence()
    for node_id in (1, 2):
        cluster.core(node_id)._become_candidate(cluster.now, is_forced=False)
        cluster.turn(node_id)
    # 3 hears 1 first, 4 hears 2 first.
    for pair in ((1, 3), (2, 4)):
        (message,) = [found for found in cluster.network if (found.sender, found.recipient) == pair]
        cluster.network.remove(message)
        cluster.step(message)
    cluster.deliver_all()
    assert cluster.leader is None
    assert {cluster.core(node_id).term for node_id in (1, 2, 3, 4)} == {1}
    cluster.run_until(lambda: cluster.leader is not None)
    assert cluster.leader is not None
    assert cluster.leader.term == 2


def test_5_2_election_timeouts_are_drawn_at_random_for_each_election() -> None:
    """§5.2: timeouts are chosen randomly from a fixed interval, anew at each election's start."""
    timeouts = []
    core = make_core()
    for at in range(2000):
        now = READY + at
        core.step(append(1, (0, 0), round=at + 1), now)
        timeouts.append(core._election_deadline - now)
    low, high = CONFIG.election_timeout_seconds_min, CONFIG.election_timeout_seconds_max
    assert low <= min(timeouts) < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < max(timeouts) <= high
    assert math.isclose(sum(timeouts) / len(timeouts), (low + high) / 2, rel_tol=0.02)
    assert len(set(timeouts)) == len(timeouts)
    other = make_core(seed=2)
    other.step(append(1, (0, 0)), READY)
    assert other._election_deadline - READY not in timeouts


# 5.3 Log replication


def test_5_3_a_proposal_is_appended_and_sent_to_all_in_parallel() -> None:
    """§5.3: the leader appends the command as a new entry and replicates it in parallel."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    leader = elected(cluster)
    entry_id = cluster.propose(1, b"x")
    assert (entry_id.term, entry_id.index) == (1, 2)
    sent = [message for message in cluster.network if isinstance(message, AppendRequest)]
    assert [message.recipient for message in sent] == [2, 3]
    assert all(message.entries == [(2, 1, b"x")] for message in sent)
    assert leader.commit_index == 1


@pytest.mark.parametrize(
    ("size", "acknowledging", "is_committed"),
    [
        (3, 0, False),
        (3, 1, True),
        (5, 1, False),
        (5, 2, True),
        (5, 4, True),
        (4, 1, False),
        (4, 2, True),
        (2, 0, False),
        (2, 1, True),
    ],
)
def test_5_3_an_entry_is_committed_once_a_majority_has_it(
    size: int, acknowledging: int, is_committed: bool
) -> None:
    """§5.3: an entry is committed once the leader has replicated it on a majority."""
    cluster = RaftCluster(range(1, size + 1), config=CONFIG)
    leader = elected(cluster)
    cluster.propose(1, b"x")
    for message in list(cluster.network):
        if message.recipient <= 1 + acknowledging:
            cluster.network.remove(message)
            cluster.step(message)
    for message in [found for found in cluster.network if found.recipient == 1]:
        cluster.step(message)
    assert (leader.commit_index == 2) is is_committed
    assert (leader.applied_index == 2) is is_committed


def test_5_3_what_was_lost_is_sent_until_all_have_it() -> None:
    """§5.3: if followers crash, are slow, or messages are lost, the leader retries for ever."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG, seed=3)
    elected(cluster)
    drawn = random.Random(5)
    for at in range(40):
        cluster.propose(1, b"%d" % at)
        cluster.tick(CONFIG.tick_ms, [1])
        for message in list(cluster.network):
            cluster.network.remove(message)
            if drawn.random() < 0.4:
                cluster.step(message)
    cluster.crash(3)
    cluster.run(1000)
    cluster.restart(3)
    cluster.run(2000)
    expected = [b"%d" % at for at in range(40)]
    for node in cluster.nodes.values():
        assert payloads(node.applied) == expected


def test_5_3_committing_an_entry_commits_all_before_it() -> None:
    """§5.3: this also commits all preceding entries, those of previous leaders included."""
    core = make_core([1, 2, 2])
    core._become_candidate(READY, is_forced=False)
    core.step(VoteResponse(GROUP, 2, 1, 3, is_granted=True), READY)
    turn(core)
    core.step(AppendResponse(GROUP, 2, 1, 3, 1, is_matched=True, index=4), READY)
    assert core.commit_index == 4


def test_5_3_followers_learn_the_commit_index_and_apply_in_order() -> None:
    """§5.3: the leader includes its commit index in appends; followers apply in log order."""
    core = make_core()
    core.step(append(1, (0, 0), (1, 1, b""), (2, 1, b"a"), (3, 1, b"b"), commit=2), READY)
    turn(core)
    assert core.ready().commit_index == 2
    core.step(append(1, (3, 1), commit=3), READY)
    turn(core)
    assert core.ready().commit_index == 3


def test_5_3_a_follower_commits_no_further_than_what_has_matched() -> None:
    """Figure 2, AppendEntries 5: commitIndex = min(leaderCommit, index of last new entry)."""
    core = make_core([1, 1, 1, 1])
    core.step(append(2, (2, 1), commit=4), READY)
    turn(core)
    assert core.commit_index == 2
    core.step(Heartbeat(GROUP, 2, 1, 2, 4, 2), READY)
    assert core.commit_index == 2


@pytest.mark.parametrize(
    ("terms", "prev", "is_matched"),
    [
        ([1, 2], (0, 0), True),
        ([1, 2], (1, 1), True),
        ([1, 2], (2, 2), True),
        ([1, 2], (1, 2), False),
        ([1, 2], (2, 3), False),
        ([1, 2], (3, 3), False),
    ],
)
def test_5_3_the_consistency_check(
    terms: list[int], prev: tuple[int, int], is_matched: bool
) -> None:
    """§5.3: without an entry of the same index and term the follower refuses the new ones."""
    core = make_core(terms)
    index, term = prev
    core.step(append(3, prev, (index + 1, max(term, 1), b"new")), READY)
    (answer,) = turn(core)
    assert isinstance(answer, AppendResponse)
    assert answer.is_matched is is_matched
    assert answer.index == (index + 1 if is_matched else index)


FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("case", FIGURE_7)
def test_5_3_the_leader_makes_followers_logs_its_own(case: str) -> None:
    """§5.3, figure 7: missing and extraneous entries, by going back to where the logs agree."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG, is_checked=False)
    leader_terms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    for node_id, terms in ((1, leader_terms), (2, FIGURE_7[case]), (3, leader_terms)):
        node = cluster.nodes[node_id]
        node.store = CheckedStore(node_id, cluster.history)
        plant(node.store, terms, HardState(7, 0, 0))
        cluster._start(node)
    cluster.network.clear()
    leader = cluster.elect(1)
    cluster.run(300)
    assert leader.term == 8
    expected = [*leader_terms, 8]
    for node in cluster.nodes.values():
        assert [entry[1] for entry in node.store.all_entries()] == expected
        assert node.core.commit_index == len(expected)


def test_5_3_a_refusal_costs_one_exchange_per_term() -> None:
    """§5.3: with the conflicting term in the refusal, one exchange skips all entries of it."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG, is_checked=False)
    for node_id, terms in ((1, [1] * 4 + [9] * 60), (2, [1] * 4 + [2] * 50 + [3] * 50), (3, [])):
        node = cluster.nodes[node_id]
        node.store = CheckedStore(node_id, cluster.history)
        plant(node.store, terms, HardState(9, 0, 0))
        cluster._start(node)
    cluster.network.clear()
    refusals: list[int] = []
    cluster.on_send = lambda message: (
        refusals.append(message.index)
        if isinstance(message, AppendResponse) and message.sender == 2 and not message.is_matched
        else None
    )
    cluster.elect(1)
    assert len(refusals) <= 2
    assert cluster.nodes[2].store.last_index() == 65


def test_5_3_a_leader_only_appends() -> None:
    """Figure 3, Leader Append-Only: a leader never overwrites or deletes entries of its log."""
    writes: list[int] = []

    class WatchedStore(CheckedStore):
        def append(self, entries: list) -> None:  # type: ignore[type-arg, override]
            core = cluster.nodes[self.node_id].core if self.node_id in cluster.nodes else None
            if core is not None and core.is_leader:
                writes.append(entries[0][0] - self.last_index())
            super().append(entries)

    cluster = RaftCluster([1, 2, 3], config=CONFIG, store_class=WatchedStore)
    elected(cluster)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    cluster.isolate(1)
    cluster.propose(1, b"lost")
    cluster.run(3000)
    cluster.heal()
    cluster.run(500)
    assert cluster.leader is not None
    cluster.propose(cluster.leader.node_id, b"more")
    assert len(writes) >= 7
    assert set(writes) == {1}


def test_5_3_one_slow_follower_does_not_matter() -> None:
    """§5.3: a single slow follower will not impact performance."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    cluster.partition([1, 2], [3])
    exchanged: list[object] = []
    cluster.on_send = exchanged.append
    cluster.propose(1, b"x")
    cluster.deliver_all()
    assert cluster.core(1).applied_index == 2
    assert sum(isinstance(message, AppendRequest) for message in exchanged) == 2


# 5.4 Safety


@pytest.mark.parametrize(
    ("own_terms", "candidate", "is_granted"),
    [
        ([1], (1, 1), True),
        ([1], (2, 1), True),
        ([1, 1], (1, 1), False),
        ([1], (1, 2), True),
        ([1], (2, 2), True),
        ([1, 1], (1, 2), True),
        ([2], (1, 1), False),
        ([2], (2, 1), False),
        ([1, 2], (1, 1), False),
        ([], (0, 0), True),
    ],
)
@pytest.mark.parametrize("kind", [VoteRequest, PreVoteRequest])
def test_5_4_1_no_vote_for_a_log_that_is_less_up_to_date(
    kind: type, own_terms: list[int], candidate: tuple[int, int], is_granted: bool
) -> None:
    """§5.4.1: compared are first the last entries' terms, then the lengths."""
    core = make_core(own_terms)
    more = {"is_forced": False} if kind is VoteRequest else {}
    core.step(kind(GROUP, 2, 1, 3, *candidate, **more), READY)
    (answer,) = turn(core)
    assert answer.is_granted is is_granted  # type: ignore[union-attr]
    assert core.voted_for == (2 if is_granted and kind is VoteRequest else 0)


def test_5_4_2_entries_of_earlier_terms_are_not_committed_by_counting() -> None:
    """§5.4.2, figure 8: in (c) the entry of term 2 is on a majority, and yet not committed."""
    core = make_core([1, 2], voters=(1, 2, 3, 4, 5), hard_state=HardState(3, 0, 1))
    core._become_candidate(READY, is_forced=False)
    for peer in (2, 3):
        core.step(VoteResponse(GROUP, peer, 1, 4, is_granted=True), READY)
    turn(core)
    assert core.log.term_at(3) == 4
    for peer in (2, 3):
        core.step(AppendResponse(GROUP, peer, 1, 4, 1, is_matched=True, index=2), READY)
    assert core.commit_index == 1
    # (e): once an entry of its own term is on a majority, all are committed.
    for peer in (2, 3):
        core.step(AppendResponse(GROUP, peer, 1, 4, 1, is_matched=True, index=3), READY)
    assert core.commit_index == 3


def test_5_4_3_a_leader_has_all_that_was_committed() -> None:
    """§5.4.3, Leader Completeness: whoever lacks a committed entry cannot win.

    Over random schedules: ``tests/property/raft``.
    """
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    cluster.isolate(3)
    cluster.propose(1, b"committed")
    cluster.deliver_all()
    cluster.heal()
    cluster.crash(1)
    cluster.end_silence()
    cluster.campaign(3)
    cluster.deliver_all()
    assert not cluster.core(3).is_leader
    cluster.run_until(lambda: cluster.leader is not None)
    assert cluster.leader is not None
    assert cluster.leader.node_id == 2
    assert b"committed" in payloads(cluster.nodes[2].store.all_entries())


# 5.5 Follower and candidate crashes


def test_5_5_messages_may_be_repeated() -> None:
    """§5.5: Raft RPCs are idempotent: an append whose entries are there changes nothing."""
    core = make_core([1, 1, 1])
    message = append(1, (1, 1), (2, 1, b"e2@1"), (3, 1, b"e3@1"))
    for _ in range(3):
        core.step(message, READY)
        (answer,) = turn(core)
        assert isinstance(answer, AppendResponse)
        assert (answer.is_matched, answer.index) == (True, 3)
    # A shorter, older one does not cut off what came later, and names what it proves.
    core = make_core([1, 1, 1])
    core.step(append(1, (1, 1), (2, 1, b"e2@1")), READY)
    (answer,) = turn(core)
    assert core.log.last_index() == 3
    assert isinstance(answer, AppendResponse)
    assert answer.index == 2


# 5.6 Timing and availability


def test_5_6_heartbeats_fit_into_the_election_timeout() -> None:
    """§5.6: broadcast time must be well below the election timeout: settings are checked."""
    assert not RaftConfig().faults()
    (fault,) = RaftConfig(heartbeat_ms=700).faults()
    assert "heartbeat_ms (700) must fit twice" in fault
    cluster = RaftCluster([1, 2, 3, 4, 5], config=CONFIG)
    elected(cluster)
    cluster.run(60_000)
    assert cluster.leader is not None
    assert cluster.leader.term == 1


# 6 Cluster membership changes


def test_6_a_configuration_counts_from_its_append() -> None:
    """§6: a server always uses the latest configuration in its log, committed or not.

    Changes are of one server at a time (thesis §4.1), not by joint consensus.
    """
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    leader = elected(cluster)
    cluster.change(1, "add_voter", 4)
    assert leader.configuration.voters == (1, 2, 3, 4)
    assert leader.commit_index == 1
    message = next(found for found in cluster.network if found.recipient == 2)
    cluster.step(message)
    assert cluster.core(2).configuration.voters == (1, 2, 3, 4)
    # Two of four are no majority.
    answer = next(found for found in cluster.network if found.sender == 2)
    cluster.step(answer)
    assert leader.commit_index == 1
    cluster.deliver_all()
    assert leader.commit_index == 2


def test_6_new_servers_catch_up_without_a_vote() -> None:
    """§6: a new server joins as a non-voting member until it has caught up."""
    cluster = RaftCluster([1], config=CONFIG)
    cluster.change(1, "add_learner", 2)
    cluster.isolate(2)
    cluster.propose(1, b"x")
    assert cluster.core(1).commit_index == 3  # Its acknowledgement is not needed,
    cluster.heal()
    cluster.core(2).campaign(cluster.now + 10)  # and it does not campaign.
    assert cluster.core(2).role is Role.FOLLOWER
    cluster.run(300)
    assert cluster.core(2).applied_index == 3


def test_6_a_leader_that_is_removed_steps_down_when_that_is_committed() -> None:
    """§6: it manages the cluster meanwhile, but does not count itself in majorities."""
    cluster = RaftCluster([1, 2, 3, 4], config=CONFIG)
    leader = elected(cluster)
    cluster.change(1, "remove", 1)
    appends = [message for message in cluster.network if isinstance(message, AppendRequest)]
    assert [message.recipient for message in appends] == [2, 3, 4]
    cluster.network.clear()
    cluster.step(appends[0])
    cluster.deliver_all()
    # One of three others, and itself: no majority of (2, 3, 4).
    assert leader.commit_index == 1
    assert leader.is_leader
    cluster.step(appends[1])
    cluster.deliver(0)
    assert leader.commit_index == 2
    assert leader.role is Role.FOLLOWER
    cluster.run_until(lambda: cluster.leader is not None)
    cluster.run(6000)
    assert leader.role is Role.FOLLOWER


@pytest.mark.parametrize("heard_seconds_ago", [0.0, 0.749])
def test_6_requests_of_removed_servers_are_disregarded(heard_seconds_ago: float) -> None:
    """§6: who heard a leader within the minimum election timeout neither votes nor moves on."""
    core = make_core()
    core.step(append(1, (0, 0)), READY)
    turn(core)
    now = READY + heard_seconds_ago
    core.step(VoteRequest(GROUP, 3, 1, 99, 9, 9, is_forced=False), now)
    core.step(PreVoteRequest(GROUP, 3, 1, 99, 9, 9), now)
    assert not turn(core, now)
    assert (core.term, core.voted_for) == (1, 0)
    now = READY + CONFIG.election_timeout_seconds_min
    core.step(VoteRequest(GROUP, 3, 1, 99, 9, 9, is_forced=False), now)
    assert (core.term, core.voted_for) == (99, 3)


# 7 Log compaction


def test_7_a_compacted_log_keeps_index_and_term_for_the_consistency_check() -> None:
    """§7: last included index and term support the check of the first entry after the snapshot."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    cluster.propose(1, b"x")
    cluster.deliver_all()
    for node_id in (1, 2, 3):
        cluster.compact(node_id)
        assert cluster.nodes[node_id].store.first_index() == 3
    cluster.propose(1, b"y")
    cluster.deliver_all()
    assert [payloads(node.applied) for node in cluster.nodes.values()] == [[b"x", b"y"]] * 3
    cluster.restart(2)
    assert payloads(cluster.nodes[2].applied) == [b"x"]
    cluster.run(300)
    assert payloads(cluster.nodes[2].applied) == [b"x", b"y"]


def test_7_a_follower_that_needs_what_is_discarded_gets_a_snapshot() -> None:
    """§7: the leader sends a snapshot when it has discarded the next entry; with the configuration.

    The core names the peer; the driver streams state, index, term and configuration.
    """
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    cluster.crash(3)
    cluster.change(1, "add_learner", 4)
    for at in range(5):
        cluster.propose(1, b"%d" % at)
    cluster.deliver_all()
    cluster.compact(1)
    cluster.compact(2)
    cluster.restart(3)
    cluster.run(1000)
    node = cluster.nodes[3]
    assert node.store.first_index() == 8
    assert payloads(node.applied) == [b"%d" % at for at in range(5)]
    assert node.core.applied_configuration == Configuration((1, 2, 3), (4,))
    cluster.propose(1, b"after")
    cluster.deliver_all()
    cluster.run(200)
    assert payloads(node.applied)[-1] == b"after"


def test_7_a_snapshot_of_what_is_known_already_is_not_taken() -> None:
    """§7: a snapshot that describes a prefix of the log (by error, or sent twice) is ignored."""
    core = make_core([1, 1, 1])
    core.step(append(1, (3, 1), commit=3), READY)
    turn(core)
    assert not core.may_install_snapshot(1, 3)
    assert not core.may_install_snapshot(0, 9)
    assert core.may_install_snapshot(1, 4)


def test_7_entries_behind_a_snapshot_stay() -> None:
    """§7, figure 13 step 6: if the log has the snapshot's last entry, what follows it is retained.

    It may have been acknowledged while the snapshot was on its way, and must not be lost.
    """
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    node = cluster.nodes[3]
    entries = [(index, 1, b"%d" % index) for index in range(2, 8)]
    node.core.step(AppendRequest(GROUP, 1, 3, 1, 1, 1, 1, 9, entries), cluster.now)
    cluster.turn(3)
    assert cluster.network[-1].index == 7  # type: ignore[union-attr]
    log = node.store.all_entries()
    state = tuple(log[:5])
    cluster.step(SnapshotMessage(1, 3, 1, 5, 1, Configuration((1, 2, 3)), state))
    assert node.store.all_entries() == log
    assert node.core.commit_index == node.core.applied_index == 5
    assert node.applied == list(state)


# 8 Client interaction


def test_8_a_server_that_does_not_lead_names_the_leader() -> None:
    """§8: it rejects the client's request and supplies the most recent leader it has heard from."""
    core = make_core()
    with pytest.raises(NotLeader) as nobody:
        core.propose(b"x")
    assert nobody.value.leader_id == 0
    core.step(append(1, (0, 0)), READY)
    with pytest.raises(NotLeader) as known:
        core.propose(b"x")
    assert known.value.leader_id == 2
    assert core.log.last_index() == 0


def test_8_a_leader_commits_an_empty_entry_at_the_start_of_its_term() -> None:
    """§8: so that it knows which entries are committed; it serves nothing before it is applied."""
    core = make_core([1, 1])
    core._become_candidate(READY, is_forced=False)
    core.step(VoteResponse(GROUP, 2, 1, 2, is_granted=True), READY)
    assert core.log.entries(3, 4, 1) == [(3, 2, b"")]
    turn(core)
    assert not core.may_serve(READY)
    core.step(AppendResponse(GROUP, 2, 1, 2, 1, is_matched=True, index=3), READY)
    assert core.ready().commit_index == 3
    assert not core.may_serve(READY)
    core.on_applied(3)
    assert core.may_serve(READY)


def test_8_a_read_needs_a_round_of_heartbeats() -> None:
    """§8: before it answers a read a leader exchanges heartbeats with a majority."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    leader = elected(cluster)
    cluster.network.clear()
    leader.read_index(5, cluster.now)
    cluster.turn(1)
    assert cluster.nodes[1].read_states == []
    beats = [message for message in cluster.network if isinstance(message, Heartbeat)]
    assert [message.recipient for message in beats] == [2, 3]
    cluster.deliver_all()
    assert cluster.nodes[1].read_states == [(5, 1)]


def test_8_a_lease_ends_before_anybody_else_can_be_elected() -> None:
    """§8: alternatively a lease, which relies on timing for safety (bounded clock skew)."""
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    leader = elected(cluster)
    left_at = cluster.now
    cluster.isolate(1)
    assert leader.may_serve(left_at + CONFIG.lease_seconds - 0.001)
    assert not leader.may_serve(left_at + CONFIG.lease_seconds)
    # The others can be elected only later, however early they campaign.
    for at in range(40):
        now = left_at + at * CONFIG.tick_ms / 1000
        cluster.now = now
        cluster.campaign(2)
        cluster.deliver_all()
        if cluster.core(2).is_leader:
            break
    assert cluster.core(2).is_leader
    assert cluster.now >= left_at + CONFIG.election_timeout_seconds_min
    assert CONFIG.lease_seconds < CONFIG.election_timeout_seconds_min


def test_8_an_entry_is_known_by_term_and_index() -> None:
    """§8: a command is executed once: whoever waits for it knows it by term and index.

    Serial numbers of clients are the transactions' matter (PROTOCOL rule 17). BEHAVIOUR 16.1 R9.
    """
    cluster = RaftCluster([1, 2, 3], config=CONFIG)
    elected(cluster)
    cluster.isolate(1)
    lost = cluster.propose(1, b"lost")
    cluster.run_until(lambda: cluster.core(2).is_leader or cluster.core(3).is_leader)
    assert cluster.leader is not None
    won = cluster.propose(cluster.leader.node_id, b"won")
    cluster.heal()
    cluster.run(500)
    applied = {index: term for index, term, _ in cluster.nodes[1].applied}
    assert applied[lost.index] != lost.term
    assert applied[won.index] == won.term
