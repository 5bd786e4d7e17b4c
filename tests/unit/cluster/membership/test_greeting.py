"""Greetings: the vote that never changes, strangers, and announcing oneself."""

from __future__ import annotations

from cluster.membership.catalog import Identity
from cluster.membership.config import StartSettings
from cluster.membership.greeting import REFUSALS_MAX, Announcement, Greeter, LocalNode
from cluster.membership.message import Greet, GreetReply
from cluster.transport.api import Peer
from cluster.transport.config import LocalIdentity
from cluster.transport.handshake import identity_objection

A, B, C = (f"10.0.0.{number}:9400" for number in (1, 2, 3))
LOCAL = LocalNode(B, "sb", 4, 0)


def member(cluster_id: str, address: str = A) -> GreetReply:
    return GreetReply(cluster_id, 1, "member", address, 1, f"store of {address}")


def test_an_empty_store_says_whom_it_waits_for() -> None:
    greeter = Greeter(LOCAL, None)
    assert greeter.greet() == Greet("", 0, "empty", B, 4, "sb", "")
    greeter.on_seeds((A, B), may_found=True)
    assert greeter.on_greet(greeter.greet()) == GreetReply("", 0, "empty", B, 4, "sb", A)
    assert not greeter.is_own_vote


def test_the_vote_is_fixed_by_its_first_use() -> None:
    greeter = Greeter(LOCAL, None)
    greeter.on_seeds((B, C), may_found=True)
    assert greeter.is_own_vote
    greeter.on_seeds((A, B, C), may_found=True)
    assert greeter.vote == A, "nobody was told yet"
    greeter.greet()
    greeter.on_seeds((B, C), may_found=True)
    assert greeter.greet().bootstrapper == A


def test_a_member_says_so() -> None:
    greeter = Greeter(LOCAL, None)
    greeter.on_seeds((A, B), may_found=True)
    greeter.become_member(Identity("c1", 2, is_founder=False))
    assert greeter.greet() == Greet("c1", 2, "member", B, 4, "sb", "")


def test_nodes_of_other_clusters_are_noted_once() -> None:
    greeter = Greeter(LOCAL, Identity("c1", 2, is_founder=False))
    for _ in range(3):
        greeter.on_greet(member("c2"))
    greeter.on_greet(member("c1"))
    assert list(greeter.refusals) == [
        (
            A,
            f"node 1 at {A} belongs to cluster c2, this node to c1: one of them has a stale store "
            "or the wrong --join",
        )
    ]
    for number in range(2 * REFUSALS_MAX):
        greeter.on_greet(member(f"d{number}"))
    assert len(greeter.refusals) == REFUSALS_MAX


def announcement(seeds: tuple[str, ...] = (A, B, C)) -> Announcement:
    return Announcement(StartSettings(budget_seconds=10), "c1", seeds, {B}, 0.0)


def test_seeds_are_greeted_until_each_is_a_member() -> None:
    core = announcement()
    assert core.take_due(0.0) == [A, C]
    assert core.next_due_at() is None
    core.on_reply(A, member("c1"), 0.1)
    core.on_reply(C, GreetReply("", 0, "empty", C, 1, "sc", A), 0.1)
    assert core.next_due_at() == 0.35
    assert core.take_due(0.3) == []
    assert core.take_due(0.35) == [C]
    core.on_failed(C, "connection refused", 0.4)
    assert core.next_due_at() == 0.9
    core.take_due(0.9)
    core.on_reply(C, member("c1"), 1.0)
    assert core.is_over
    assert core.foreign_sentence == ""


def test_the_budget_ends_it() -> None:
    core = announcement()
    now = 0.0
    while not core.is_over:
        for seed in core.take_due(now):
            core.on_failed(seed, "x", now)
        now = core.next_due_at() or now
    assert now == 7.75


def test_a_majority_of_strangers_makes_this_store_stale() -> None:
    core = announcement()
    core.take_due(0.0)
    core.on_reply(A, member("c2"), 0.0)
    assert core.foreign_sentence == "", "one of three: it may be the other one that is stale"
    core.on_reply(C, member("c2", C), 0.0)
    assert "this store belongs to cluster c1" in core.foreign_sentence
    assert core.is_over


def test_one_friend_or_two_kinds_of_strangers_prove_nothing() -> None:
    friend = announcement((A, B, C, "10.0.0.4:9400"))
    friend.on_reply(A, member("c2"), 0.0)
    friend.on_reply(C, member("c2", C), 0.0)
    friend.on_reply("10.0.0.4:9400", member("c1", "10.0.0.4:9400"), 0.0)
    assert friend.foreign_sentence == ""
    two = announcement()
    two.on_reply(A, member("c2"), 0.0)
    two.on_reply(C, member("c3", C), 0.0)
    assert two.foreign_sentence == ""


def test_the_transports_own_refusals_are_understood() -> None:
    """Between members of two clusters no connection comes about: its sentence is all there is."""
    for local, peer in (("c1", "c2"), ("c2", "c1")):
        objection = identity_objection(LocalIdentity(1, local, B, 1), Peer(2, peer, A, 1, 1))
        core = announcement((A, B))
        core.on_failed(A, f"{A}: refused by the peer: {objection}", 0.0)
        assert core.is_over, objection
    core = announcement()
    core.on_failed(
        A, 'refused: this node belongs to cluster "c1" and the peer to cluster "c2"', 0.0
    )
    core.on_failed(
        C, 'refused: this node belongs to cluster "c2" and the peer to cluster "c1"', 0.0
    )
    assert "members of cluster c2" in core.foreign_sentence
