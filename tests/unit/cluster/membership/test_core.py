"""The start automaton step by step: the schedule, the walk, the votes, what ends a start."""

from __future__ import annotations

import pytest

from cluster.ids import VSHARD_COUNT
from cluster.membership.catalog import Identity, Routing, SavedMembership, Topology
from cluster.membership.config import StartSettings
from cluster.membership.core import (
    Effect,
    Found,
    GiveUp,
    Join,
    Restart,
    SendGreet,
    SendJoin,
    StartCore,
)
from cluster.membership.greeting import Greeter, LocalNode
from cluster.membership.message import (
    Greet,
    GreetReply,
    JoinRequest,
    JoinResponse,
    MemberGroup,
    MemberNode,
)

A, B, C, D = (f"10.0.0.{number}:9400" for number in (1, 2, 3, 4))
SETTINGS = StartSettings()


def core_at(
    address: str = B,
    seeds: tuple[str, ...] = (A, B, C),
    *,
    saved: SavedMembership | None = None,
    settings: StartSettings = SETTINGS,
    role: str = "voter",
    node_id: int = 0,
) -> StartCore:
    local = LocalNode(address, f"store-{address}", 1, node_id, role)
    core = StartCore(
        settings=settings,
        local=local,
        greeter=Greeter(local, None),
        request=JoinRequest(node_id, address, 1, "", local.store_id, 1),
        saved=saved or SavedMembership(),
        new_cluster_id="new",
        is_clustered=bool(seeds),
        now=100.0,
    )
    core.on_seeds(seeds, {}, may_found=True)
    return core


def empty(address: str, vote: str = A, incarnation: int = 1) -> GreetReply:
    return GreetReply("", 0, "empty", address, incarnation, f"store-{address}", vote)


def member(address: str, cluster_id: str = "c1", incarnation: int = 1) -> GreetReply:
    return GreetReply(cluster_id, 9, "member", address, incarnation, f"store-{address}", "")


def response(node_id: int = 2, cluster_id: str = "c1") -> JoinResponse:
    return JoinResponse(
        success=True,
        cluster_id=cluster_id,
        nodes=(MemberNode(1, A, 1, (0, 1), 1), MemberNode(node_id, B, 4, (), 1)),
        vshard_to_group=(1,) * VSHARD_COUNT,
        groups=tuple(MemberGroup(group, 1, (1,), (2,)) for group in (0, 1, 2)),
        node_id=node_id,
    )


def greeted(core: StartCore, now: float) -> list[str]:
    core.on_timer(now)
    return [effect.seed for effect in core.effects() if isinstance(effect, SendGreet)]


def asked(effects: list[Effect]) -> list[str]:
    return [effect.address for effect in effects if isinstance(effect, SendJoin)]


# The schedule


def test_the_schedule_is_the_references() -> None:
    delays = [SETTINGS.delay_seconds(attempt) for attempt in range(11)]
    assert delays == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 32, 32]


def test_a_small_cap_halves_down_to_a_millisecond() -> None:
    settings = StartSettings(back_off_seconds_max=2, attempts_max=20)
    assert settings.delay_seconds(1) == 0.001
    assert settings.delay_seconds(19) == 1.0
    assert settings.delay_seconds(20) == settings.delay_seconds(21) == 2.0
    eight = StartSettings(back_off_seconds_max=2)
    assert sum(eight.delay_seconds(attempt) for attempt in range(9)) < 5


def test_attempts_follow_the_schedule_and_the_last_one_ends_the_budget() -> None:
    core = core_at()
    starts = []
    now = 100.0
    while core.decision is None:
        assert core.due_at is not None
        now = core.due_at
        starts.append(now - 100.0)
        assert greeted(core, now) == [A, C]
        core.on_greet_failed(A, "connection refused", now)
        core.on_greet_failed(C, "no route", now)
    assert starts == [0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 31.75, 63.75, 95.75, 120.0]
    assert core.decision == GiveUp(
        (
            f"no seed named a cluster; waited for {A} to found one",
            f"{A}: connection refused",
            f"{B}: this node",
            f"{C}: no route",
        )
    )


def test_nothing_is_due_while_answers_are_outstanding() -> None:
    core = core_at()
    assert greeted(core, 100.0) == [A, C]
    assert core.due_at is None
    core.on_timer(500.0)
    assert core.effects() == []
    core.on_greet_failed(A, "x", 101.0)
    assert core.due_at is None
    core.on_greet_failed(C, "x", 101.0)
    assert core.due_at == 101.25


@pytest.mark.parametrize("news", ["start", "member"])
def test_news_from_a_seed_begin_the_back_off_anew(news: str) -> None:
    core = core_at()
    for now in (100.0, 100.25, 100.75, 101.75):
        greeted(core, now)
        core.on_greet_failed(A, "x", now)
        core.on_greet_failed(C, "x", now)
    assert (core.attempt, core.due_at) == (4, 103.75)
    core.on_greeting(empty(C) if news == "start" else member(C), 102.0)
    assert (core.attempt, core.due_at) == (0, 102.0)
    # The same again is no news.
    greeted(core, 102.0)
    core.on_greet_failed(A, "x", 102.0)
    if news == "start":
        core.on_greet_failed(C, "x", 102.0)
        due_at = core.due_at
        core.on_greeting(empty(C), 102.1)
        assert (core.attempt, core.due_at) == (1, due_at)


def test_news_in_the_middle_of_an_attempt_count_after_it() -> None:
    core = core_at()
    greeted(core, 100.0)
    core.on_greeting(empty(C), 100.1)
    core.on_greet_failed(A, "x", 101.0)
    core.on_greet_failed(C, "x", 101.0)
    assert (core.attempt, core.due_at) == (0, 101.0)


def test_a_stranger_that_is_empty_wakes_nobody() -> None:
    core = core_at()
    greeted(core, 100.0)
    core.on_greet_failed(A, "x", 100.0)
    core.on_greet_failed(C, "x", 100.0)
    core.on_greeting(empty(D), 100.1)
    assert core.attempt == 1


# Founding


def test_the_smallest_seed_founds_with_a_majority() -> None:
    core = core_at(A)
    assert greeted(core, 100.0) == [B, C]
    core.on_greet_reply(B, empty(B), 100.1)
    assert core.decision is None, "an answer is outstanding, and it may name a cluster"
    core.on_greet_failed(C, "x", 101.0)
    assert core.decision == Found(Identity("new", 1, is_founder=True))


def test_without_a_majority_it_waits() -> None:
    core = core_at(A, (A, B, C, D))
    greeted(core, 100.0)
    core.on_greet_reply(B, empty(B), 100.1)
    core.on_greet_failed(C, "x", 100.1)
    core.on_greet_failed(D, "x", 100.1)
    assert core.decision is None, "2 of 4 are no majority"
    # The answers of this start add up.
    greeted(core, 100.35)
    core.on_greet_failed(B, "x", 100.4)
    core.on_greet_reply(C, empty(C), 100.4)
    core.on_greet_failed(D, "x", 100.4)
    assert isinstance(core.decision, Found)


def test_greetings_count_as_answers() -> None:
    core = core_at(A)
    greeted(core, 100.0)
    core.on_greet_failed(B, "x", 100.0)
    core.on_greet_failed(C, "x", 100.0)
    core.on_greeting(Greet("", 0, "empty", C, 1, "store-c", A), 107.0)
    greeted(core, 107.0)
    core.on_greet_failed(B, "x", 107.0)
    core.on_greet_failed(C, "x", 107.0)
    assert isinstance(core.decision, Found)


def test_who_waits_for_somebody_else_is_no_vote() -> None:
    core = core_at(A)
    greeted(core, 100.0)
    core.on_greet_reply(B, empty(B, vote=B), 100.1)
    core.on_greet_reply(C, empty(C, vote=""), 100.1)
    assert core.decision is None


def test_one_node_under_two_names_is_one_vote() -> None:
    core = core_at(A, (A, B, C, D, "node:1"))
    greeted(core, 100.0)
    core.on_greet_reply(B, empty(B), 100.1)
    core.on_greet_reply("node:1", empty(B), 100.1)
    core.on_greet_failed(C, "x", 100.1)
    core.on_greet_failed(D, "x", 100.1)
    assert core.decision is None, "2 of 5"


def test_another_name_of_this_node_is_found_out() -> None:
    """Listed as localhost, advertised as 127.0.0.1: the seed answers with this node's own store."""
    core = core_at("127.0.0.1:1", ("localhost:1", "localhost:2"))
    assert greeted(core, 100.0) == ["localhost:1", "localhost:2"]
    core.on_greet_reply("localhost:1", empty("127.0.0.1:1", "localhost:1"), 100.0)
    core.on_greet_reply("localhost:2", empty("127.0.0.1:2", "localhost:1"), 100.0)
    assert isinstance(core.decision, Found)


def test_not_the_smallest_or_not_in_the_list_or_a_replica_founds_nothing() -> None:
    for core in (core_at(B), core_at(D), core_at(A, role="replica")):
        for seed in greeted(core, 100.0):
            core.on_greet_reply(seed, empty(seed), 100.0)
        assert core.decision is None


def test_once_a_cluster_was_named_this_start_founds_none() -> None:
    """Not even when its member came back with an empty store."""
    core = core_at(A)
    greeted(core, 100.0)
    core.on_greeting(member(B), 100.0)
    core.effects()
    core.on_join_failed(B, "x", 100.1)
    greeted(core, 101.0)
    wiped = GreetReply("", 0, "empty", B, 1, "another store", A)
    core.on_greet_reply(B, wiped, 101.0)
    core.on_join_failed(B, "not a member", 101.1)
    assert greeted(core, 102.0) == [B, C]
    core.on_greet_reply(B, wiped, 102.0)
    core.on_greet_reply(C, empty(C), 102.0)
    assert core.decision is None
    assert core.due_at == 102.5, "all answered, three votes of three, and still it waits"
    assert core.sentences()[0] == "could not join cluster c1"


def test_an_answer_that_was_overtaken_is_dropped() -> None:
    """B says that it is a member; what it said before that arrives later."""
    core = core_at(A)
    greeted(core, 100.0)
    core.on_greeting(member(B), 100.0)
    assert asked(core.effects()) == [B]
    core.on_greet_reply(B, empty(B), 100.1)
    core.on_join_failed(B, "x", 100.2)
    core.on_timer(101.0)
    assert asked(core.effects()) == [B]


def test_a_node_by_itself_founds_at_once() -> None:
    assert core_at(A, ()).decision == Found(Identity("new", 1, is_founder=True))
    alone = core_at(A, (A,))
    alone.on_timer(100.0)
    assert isinstance(alone.decision, Found)


def test_a_given_id_is_the_founders() -> None:
    assert core_at(A, (), node_id=7).decision == Found(Identity("new", 7, is_founder=True))


def test_a_list_that_dns_has_not_filled_yet_founds_nothing() -> None:
    core = core_at(A, (A,))
    core.on_seeds((A,), {"srv:x": "no record"}, may_found=False)
    core.on_timer(100.0)
    assert core.decision is None
    assert core.sentences() == (
        "no seed named a cluster; too few seeds to found one",
        f"{A}: this node",
        "srv:x: no record",
    )


# What the store knows


def saved(*, is_founder: bool = False, parts: int = 3) -> SavedMembership:
    records = (Identity("c1", 2, is_founder=is_founder), Topology(5, ()), Routing(4, (), ()))
    return SavedMembership(*records[:parts])


def test_a_complete_record_restarts_without_the_network() -> None:
    core = core_at(saved=saved())
    assert core.decision == Restart(
        Identity("c1", 2, is_founder=False), Topology(5, ()), Routing(4, (), ())
    )
    assert core.effects() == []
    assert isinstance(core_at(seeds=(), saved=saved()).decision, Restart)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_founder_cut_short_goes_on_with_its_cluster(parts: int) -> None:
    core = core_at(saved=saved(is_founder=True, parts=parts))
    assert core.decision == Found(Identity("c1", 2, is_founder=True))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_joiner_cut_short_asks_again_under_its_id(parts: int) -> None:
    core = core_at(saved=saved(parts=parts))
    greeted(core, 100.0)
    core.on_greet_reply(A, member(A), 100.0)
    (effect,) = core.effects()
    assert isinstance(effect, SendJoin)
    assert (effect.request.cluster_id, effect.request.node_id) == ("c1", 2)
    core.on_join_response(A, response(), 100.1)
    assert core.decision == Join(response())


def test_a_joiner_cut_short_needs_its_seeds() -> None:
    decision = core_at(seeds=(), saved=saved(parts=1)).decision
    assert decision == GiveUp(("this node was joining cluster c1: give --join again",))


def test_a_joiner_cut_short_joins_no_other_cluster() -> None:
    core = core_at(saved=saved(parts=1))
    greeted(core, 100.0)
    core.on_greet_reply(A, member(A, "c2"), 100.0)
    assert isinstance(core.decision, GiveUp)
    assert core.decision.sentences[0].startswith("this store belongs to cluster c1, but seeds")


def test_seeds_of_two_clusters() -> None:
    core = core_at()
    greeted(core, 100.0)
    core.on_greet_reply(A, member(A, "c1"), 100.0)
    core.on_greeting(member(D, "c2"), 100.0)
    core.on_join_failed(A, "x", 100.1)
    assert core.decision == GiveUp(
        (f"the seeds belong to different clusters ({A} of c1, {D} of c2): correct --join",)
    )


# The walk


def joining(core: StartCore, *members: str) -> list[str]:
    greeted(core, 100.0)
    core.on_greet_reply(members[0], member(members[0]), 100.0)
    for address in members[1:]:
        core.on_greeting(member(address), 100.0)
    return asked(core.effects())


def test_the_first_name_of_a_cluster_ends_the_greetings() -> None:
    core = core_at()
    assert joining(core, C) == [C]
    core.on_greet_failed(A, "x", 101.0)
    assert asked(core.effects()) == []


def test_members_are_asked_in_order_one_at_a_time() -> None:
    core = core_at(D, (A, B, C))
    greeted(core, 100.0)
    core.on_greet_reply(C, member(C), 100.0)
    assert asked(core.effects()) == [C]
    core.on_greet_reply(A, member(A), 100.0)
    core.on_greet_reply(B, member(B), 100.0)
    core.on_join_failed(C, "connection lost", 100.1)
    assert asked(core.effects()) == [A]
    core.on_join_failed(A, "connection lost", 100.2)
    assert asked(core.effects()) == [B]
    core.on_join_failed(B, "connection lost", 100.3)
    assert core.due_at == 100.55


def test_the_next_attempt_knows_the_members_of_the_last() -> None:
    core = core_at(D, (A, B, C, D))
    assert joining(core, C) == [C]
    core.on_greet_reply(A, member(A), 100.0)
    core.on_join_failed(C, "connection lost", 100.1)
    core.on_join_failed(A, "connection lost", 100.1)
    core.effects()
    core.on_timer(100.35)
    assert asked(core.effects()) == [A], "without waiting for a greeting"
    core.on_join_failed(A, "connection lost", 100.4)
    assert asked(core.effects()) == [C]


def test_a_redirect_goes_to_the_front_and_success_ends_the_start() -> None:
    core = core_at()
    assert joining(core, A, C) == [A]
    core.on_join_response(A, JoinResponse(False, f"not leader; retry at {D}"), 100.1)
    assert asked(core.effects()) == [D], "before C"
    core.on_join_response(D, response(), 100.2)
    assert core.decision == Join(response())
    assert core.effects() == []


def test_three_redirects_are_followed_and_no_more() -> None:
    core = core_at()
    assert joining(core, A) == [A]
    others = [f"10.0.1.{number}:9400" for number in range(5)]
    for number, address in enumerate(others[:3]):
        last = A if number == 0 else others[number - 1]
        core.on_join_response(last, JoinResponse(False, f"not leader; retry at {address}"), 100.1)
        assert asked(core.effects()) == [address]
    core.on_join_response(
        others[2], JoinResponse(False, f"not leader; retry at {others[3]}"), 100.1
    )
    assert asked(core.effects()) == []
    assert core.due_at == 100.35
    assert (
        f"{others[2]}: not leader; {others[3]} was asked already or 3 redirects were followed"
        in core.sentences()
    )


def test_a_circle_of_redirects_ends_the_attempt() -> None:
    core = core_at()
    assert joining(core, A, C) == [A]
    core.on_join_response(A, JoinResponse(False, f"not leader; retry at {C}"), 100.1)
    assert asked(core.effects()) == [C]
    core.on_join_response(C, JoinResponse(False, f"not leader; retry at {A}"), 100.1)
    assert asked(core.effects()) == []
    assert core.due_at is not None


def test_a_redirect_to_this_node_is_not_followed() -> None:
    core = core_at()
    assert joining(core, A) == [A]
    core.on_join_response(A, JoinResponse(False, f"not leader; retry at {B}"), 100.1)
    assert asked(core.effects()) == []
    assert (
        f"{A}: it takes this node for the leader: has this node lost its disk?" in core.sentences()
    )


def test_a_final_refusal_ends_the_start_with_its_sentence() -> None:
    core = core_at()
    joining(core, A, C)
    core.on_join_response(A, JoinResponse(False, "node_id 2 already ...", is_final=True), 100.1)
    assert core.decision == GiveUp((f"{A} refused this node: node_id 2 already ...",))


def test_other_refusals_are_kept_and_the_next_is_asked() -> None:
    core = core_at()
    joining(core, A, C)
    core.on_join_response(A, JoinResponse(False, "conf change commit timeout on group 0"), 100.1)
    assert asked(core.effects()) == [C]
    assert f"{A}: conf change commit timeout on group 0" in core.sentences()
    assert core.sentences()[0] == "could not join cluster c1"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (JoinResponse(success=True), "names no cluster"),
        (response(cluster_id=""), "names no cluster"),
        (JoinResponse(True, "", "c1", (), (1,) * 1024, (), 2), "does not list node 2 itself"),
        (JoinResponse(True, "", "c1", response().nodes, (1,) * 1000, (), 2), "routes 1000 vshards"),
        (
            JoinResponse(True, "", "c1", response().nodes, (7,) * 1024, (), 2),
            "group 7, which it does",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_not(answer: JoinResponse, fault: str) -> None:
    core = core_at()
    joining(core, A)
    core.on_join_response(A, answer, 100.1)
    assert core.decision is None
    assert any(fault in line for line in core.sentences()), core.sentences()


def test_two_groups_make_three_in_the_response() -> None:
    assert [group.group_id for group in response().groups] == [0, 1, 2]


def test_the_first_decision_is_the_only_one() -> None:
    core = core_at()
    joining(core, A)
    core.on_join_response(A, response(), 100.1)
    core.on_join_response(A, response(3), 100.2)
    core.on_greeting(member(C, "c9"), 100.2)
    core.on_greet_reply(C, member(C, "c9"), 100.2)
    core.on_timer(500.0)
    assert core.decision == Join(response())
