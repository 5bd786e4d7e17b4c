"""Probing rounds of one core: what is sent when, to whom, and what the answers do."""

from random import Random

import pytest

from cluster.ids import NodeId
from cluster.swim import InvalidSwimSetting, Member, MemberState, SwimCore, SwimSettings
from cluster.swim.core import Outgoing
from cluster.swim.in_flight import IN_FLIGHT_MAX
from cluster.swim.message import (
    Ack,
    MemberUpdate,
    Message,
    Nack,
    NackReason,
    Ping,
    PingReq,
    update_of,
)

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def peer(node_id: int, state: MemberState = ALIVE, incarnation: int = 0, boot: int = 1) -> Member:
    return Member(NodeId(node_id), f"10.0.0.{node_id}:9400", state, incarnation, boot)


class Bench:
    """One core, node 1, and what it wants sent."""

    def __init__(self, *peers: int, seed: int = 0, **settings: float) -> None:
        self.now = 0.0
        self.core = SwimCore(
            settings=SwimSettings(**settings),  # type: ignore[arg-type]
            local=peer(1),
            random=Random(seed),
            now=0.0,
        )
        for node_id in peers:
            self.receive(Ack(0, update_of(peer(node_id)), NodeId(node_id)))
        self.take()

    def take(self) -> list[Outgoing]:
        return self.core.ready().outgoing

    def receive(self, message: Message, source: str = "") -> list[Outgoing]:
        source = source or f"10.0.0.{message.sender.node_id}:9400"
        self.core.on_message(message, source, self.now)
        return self.take()

    def advance(self, seconds: float) -> list[Outgoing]:
        """Tick whenever the core wants it, up to then."""
        end = self.now + seconds
        sent = []
        while self.core.next_wakeup <= end:
            self.now = max(self.now, self.core.next_wakeup)
            self.core.tick(self.now)
            sent += self.take()
        self.now = end
        return sent

    def state(self, node_id: int) -> MemberState | None:
        member = self.core.member(NodeId(node_id))
        return None if member is None else member.state


def probes(sent: list[Outgoing]) -> list[Outgoing]:
    return [one for one in sent if isinstance(one.message, Ping) and one.message.probe_id]


def requests(sent: list[Outgoing]) -> list[Outgoing]:
    return [one for one in sent if isinstance(one.message, PingReq)]


def ack(probe: Outgoing, by: int = 0) -> Ack:
    sender = by or probe.recipient
    return Ack(probe.message.probe_id, update_of(peer(sender)), probe.recipient)


def test_settings_and_address_are_checked_at_the_start() -> None:
    with pytest.raises(InvalidSwimSetting):
        Bench(indirect_probes=0)
    with pytest.raises(ValueError, match="no address"):
        SwimCore(
            settings=SwimSettings(), local=Member(NodeId(1), "nowhere"), random=Random(0), now=0.0
        )


def test_the_local_node_begins_alive_at_the_initial_incarnation() -> None:
    core = Bench(incarnation_initial=7).core
    assert core.members() == [peer(1, ALIVE, 7)]


def test_the_first_round_comes_after_one_full_interval() -> None:
    bench = Bench(2)
    assert bench.advance(0.999) == []
    (probe,) = bench.advance(0.001)
    assert probe.recipient == 2
    assert probe.destination == "10.0.0.2:9400"


def test_missed_ticks_make_no_burst() -> None:
    bench = Bench(2, 3)
    bench.now = 30.0
    bench.core.tick(bench.now)
    assert bench.take() == [], "the time in which we did not run does not count"
    assert bench.core.counters.pauses == 1
    # From here on one probe per interval, not thirty. We doubt ourselves: twice the interval.
    assert bench.advance(0.499) == []
    (probe,) = probes(bench.advance(0.001))
    bench.receive(ack(probe))
    assert bench.core.awareness.score == 0
    assert len(probes(bench.advance(1.9))) == 0
    assert len(probes(bench.advance(0.2))) == 1


def test_an_ack_in_time_ends_the_round() -> None:
    bench = Bench(2, 3)
    (probe,) = probes(bench.advance(1.0))
    bench.now += 0.4
    bench.receive(ack(probe))
    assert requests(bench.advance(0.5)) == []
    assert bench.core.counters.acks == 1
    assert bench.core.counters.probe_timeouts == 0


def test_one_round_in_full() -> None:
    """Ping, wait, PingReq to k helpers, wait once more, Suspect (BEHAVIOUR 1.3)."""
    bench = Bench(2, 3, 4, 5, 6)
    (probe,) = probes(bench.advance(1.0))
    target = probe.recipient
    asked = requests(bench.advance(0.5))
    assert len(asked) == 3
    helpers = {one.recipient for one in asked}
    assert len(helpers) == 3
    assert not helpers & {1, target}
    for one in asked:
        assert isinstance(one.message, PingReq)
        assert one.message.probe_id == probe.message.probe_id
        assert one.message.target == target
        assert one.message.target_address == f"10.0.0.{target}:9400"
    assert bench.state(target) is ALIVE
    bench.advance(0.499)
    assert bench.state(target) is ALIVE
    bench.advance(0.001)
    assert bench.state(target) is SUSPECT
    assert bench.core.counters.probe_failures == 1


def test_an_indirect_ack_saves_the_target() -> None:
    bench = Bench(2, 3, 4, 5, 6)
    (probe,) = probes(bench.advance(1.0))
    asked = requests(bench.advance(0.5))
    bench.advance(0.3)
    bench.receive(ack(probe, by=asked[0].recipient))
    bench.advance(0.2)
    assert bench.state(probe.recipient) is ALIVE
    assert bench.core.counters.indirect_acks == 1


def test_a_late_direct_ack_saves_the_target_too() -> None:
    bench = Bench(2, 3)
    (probe,) = probes(bench.advance(1.0))
    bench.advance(0.9)
    bench.receive(ack(probe))
    bench.advance(0.1)
    assert bench.state(probe.recipient) is ALIVE
    assert bench.core.counters.indirect_acks == 0


@pytest.mark.parametrize("case", ["other probe", "other target", "unasked"])
def test_a_wrong_ack_saves_nobody(case: str) -> None:
    bench = Bench(2, 3)
    (probe,) = probes(bench.advance(1.0))
    other = 5 - probe.recipient
    wrong = {
        "other probe": Ack(probe.message.probe_id + 7, update_of(peer(other)), probe.recipient),
        "other target": Ack(probe.message.probe_id, update_of(peer(other)), NodeId(other)),
        "unasked": Ack(0, update_of(peer(other)), probe.recipient),
    }[case]
    bench.advance(0.5)
    bench.receive(wrong)
    bench.advance(0.5)
    assert bench.state(probe.recipient) is SUSPECT


def test_without_helpers_the_member_is_suspect_at_once() -> None:
    bench = Bench(2)
    bench.advance(1.0)
    bench.advance(0.499)
    assert bench.state(2) is ALIVE
    bench.advance(0.001)
    assert bench.state(2) is SUSPECT


def test_only_alive_members_help() -> None:
    bench = Bench(2, 3, 4, 5)
    for node_id, state in ((3, SUSPECT), (4, DEAD), (5, LEFT)):
        bench.receive(Ack(0, update_of(peer(2)), NodeId(2), (update_of(peer(node_id, state), 2),)))
    probe = probes(bench.advance(1.0))[-1]
    if probe.recipient == 2:
        bench.receive(ack(probe))
        probe = probes(bench.advance(1.0))[-1]
    assert probe.recipient == 3
    assert {one.recipient for one in requests(bench.advance(0.5))} == {2}


def test_every_member_once_per_time_around() -> None:
    bench = Bench(2, 3, 4, 5, 6)
    for _ in range(10):
        targets = []
        for _ in range(5):
            (probe,) = probes(bench.advance(1.0))
            targets.append(probe.recipient)
            bench.receive(ack(probe))
        assert sorted(targets) == [2, 3, 4, 5, 6]


def test_suspects_are_probed_and_told_the_dead_are_only_told() -> None:
    bench = Bench(2, 3)
    bench.receive(Ack(0, update_of(peer(3)), NodeId(3), (update_of(peer(2, SUSPECT), 3),)))
    sent = bench.advance(0.9)
    told = [one for one in sent if one.recipient == 2]
    assert len(told) == 4, "at 0, 0.25, 0.5 and 0.75 s"
    for one in told:
        assert isinstance(one.message, Ping)
        assert one.message.piggyback[0] == update_of(peer(2, SUSPECT), 3)
    bench.receive(Ack(0, update_of(peer(3)), NodeId(3), (update_of(peer(2, DEAD)),)))
    sent = []
    for _ in range(5):
        sent += bench.advance(1.0)
        bench.receive(ack(probes(sent)[-1]))
    assert {one.recipient for one in probes(sent)} == {3}
    told = [one for one in sent if one.recipient == 2]
    assert len(told) == 5, "once per interval"
    assert all(one.message.piggyback[0] == update_of(peer(2, DEAD)) for one in told)


def test_what_a_message_carries_is_merged_before_it_is_answered() -> None:
    bench = Bench()
    rumour = MemberUpdate(1, "10.0.0.1:9400", SUSPECT, 0, 1, 3)
    (answer,) = [
        one
        for one in bench.receive(Ping(5, update_of(peer(2)), (rumour,)))
        if one.message.probe_id == 5
    ]
    assert isinstance(answer.message, Ack)
    assert answer.message.sender == update_of(peer(1, ALIVE, 1))


def test_answers_go_where_the_question_came_from_and_nothing_else_does() -> None:
    """Behind address translation the observed source is not the advertised address."""
    bench = Bench()
    answers = bench.receive(Ping(5, update_of(peer(2))), source="172.17.0.1:51234")
    assert {one.destination for one in answers} == {"172.17.0.1:51234"}
    assert bench.core.member(NodeId(2)) == peer(2)
    (probe,) = probes(bench.advance(1.0))
    assert probe.destination == "10.0.0.2:9400"


def test_a_helper_pings_under_an_id_of_its_own_and_passes_the_ack_on() -> None:
    bench = Bench(2, 3)
    request = PingReq(77, update_of(peer(2)), NodeId(3), "10.0.0.3:9400")
    (ping,) = bench.receive(request, source="172.17.0.1:5")
    assert ping.recipient == 3
    assert ping.destination == "10.0.0.3:9400"
    assert ping.message.probe_id not in (0, 77)
    (relayed,) = bench.receive(ack(ping))
    assert relayed.destination == "172.17.0.1:5"
    assert isinstance(relayed.message, Ack)
    assert (relayed.message.probe_id, relayed.message.target) == (77, 3)
    assert relayed.message.piggyback[0].node_id == 3, "the target's own word travels along"
    assert bench.receive(ack(ping)) == [], "once only"
    assert bench.advance(0.9) == [], "and no Nack after an Ack"


def test_a_helper_that_hears_nothing_says_so_before_the_prober_gives_up() -> None:
    bench = Bench(2, 3)
    bench.receive(PingReq(77, update_of(peer(2)), NodeId(3), "10.0.0.3:9400"))
    assert bench.advance(0.39) == []
    (nack,) = bench.advance(0.02)
    assert nack.recipient == 2
    assert isinstance(nack.message, Nack)
    assert nack.message.probe_id == 77
    assert nack.message.reason is NackReason.TARGET_UNREACHABLE
    assert [one for one in bench.advance(0.5) if isinstance(one.message, Nack)] == []


def test_a_helper_says_dead_of_the_dead_and_answers_for_itself() -> None:
    bench = Bench(2)
    bench.receive(Ack(0, update_of(peer(2)), NodeId(2), (update_of(peer(3, DEAD)),)))
    (nack,) = bench.receive(PingReq(77, update_of(peer(2)), NodeId(3), "10.0.0.3:9400"))
    assert isinstance(nack.message, Nack)
    assert nack.message.reason is NackReason.TARGET_DEAD
    assert update_of(peer(3, DEAD)) in nack.message.piggyback
    (answer,) = bench.receive(PingReq(78, update_of(peer(2)), NodeId(1), "10.0.0.1:9400"))
    assert isinstance(answer.message, Ack)
    assert (answer.message.probe_id, answer.message.target) == (78, 1)


def test_the_table_of_questions_is_bounded() -> None:
    bench = Bench(2)
    request = PingReq(77, update_of(peer(2)), NodeId(3), "10.0.0.3:9400")
    for _ in range(IN_FLIGHT_MAX):
        (ping,) = bench.receive(request)
        assert isinstance(ping.message, Ping)
    (nack,) = bench.receive(request)
    assert isinstance(nack.message, Nack)
    assert nack.message.reason is NackReason.RATE_LIMITED
    # They expire, so helping goes on.
    bench.advance(10.0)
    (ping,) = [one for one in bench.receive(request) if one.recipient == 3]
    assert isinstance(ping.message, Ping)


# Lifeguard


def fail_a_probe(bench: Bench, nacks: int) -> None:
    while not (asked := requests(bench.advance(0.1))):
        pass
    for one in asked[:nacks]:
        sender = update_of(peer(one.recipient))
        bench.receive(Nack(one.message.probe_id, sender, NackReason.TARGET_UNREACHABLE))
    before = bench.core.counters.probe_failures
    while bench.core.counters.probe_failures == before:
        bench.advance(0.05)


@pytest.mark.parametrize(("nacks", "score"), [(0, 3), (1, 2), (3, 0)])
def test_missing_nacks_make_us_doubt_ourselves(nacks: int, score: int) -> None:
    bench = Bench(2, 3, 4, 5, 6)
    fail_a_probe(bench, nacks)
    assert bench.core.awareness.score == score


def test_a_failed_probe_without_helpers_counts_one() -> None:
    bench = Bench(2)
    bench.advance(1.5)
    assert bench.core.awareness.score == 1


def test_interval_and_timeout_grow_with_the_score_and_shrink_again() -> None:
    bench = Bench(2, 3, 4, 5, 6)
    bench.core.awareness.worsen(3)
    (probe,) = probes(bench.advance(1.0))
    assert requests(bench.advance(1.99)) == []
    assert len(requests(bench.advance(0.01))) == 3  # 0.5 s times 4
    bench.receive(ack(probe))
    assert bench.core.awareness.score == 2
    assert probes(bench.advance(1.99)) == []  # the round took 4 s
    assert len(probes(bench.advance(0.02))) == 1


def test_refuting_counts_one() -> None:
    bench = Bench(2)
    rumour = MemberUpdate(1, "10.0.0.1:9400", SUSPECT, 0, 1, 3)
    bench.receive(Ack(0, update_of(peer(2)), NodeId(2), (rumour,)))
    assert bench.core.awareness.score == 1
    assert bench.core.local.incarnation == 1
    assert bench.core.counters.self_refutes == 1


def test_a_message_to_a_suspect_carries_the_suspicion_first() -> None:
    """Buddy system: whatever else is in the queue."""
    bench = Bench(2, 3, 4, 5, 6, 7, 8, 9, piggyback_max=1)
    bench.receive(Ack(0, update_of(peer(3)), NodeId(3), (update_of(peer(9, SUSPECT), 3),)))
    (answer,) = [
        one for one in bench.receive(Ping(5, update_of(peer(9)))) if one.message.probe_id == 5
    ]
    assert answer.message.piggyback == (update_of(peer(9, SUSPECT), 3),)


def test_telling_suspects_and_the_dead_uses_nothing_up() -> None:
    """Else the news of a death would be spent on the dead."""
    bench = Bench(2, 3, 4)
    bench.receive(Ack(0, update_of(peer(3)), NodeId(3), (update_of(peer(2, SUSPECT), 3),)))
    news = update_of(peer(4, ALIVE, 5))
    bench.receive(Ack(0, update_of(peer(4, ALIVE, 5)), NodeId(4)))
    for _ in range(50):
        bench.core._tell_suspects(bench.core.table.suspicions[NodeId(2)].next_ping_at)
    told = bench.take()
    assert len(told) == 50
    assert all(news in one.message.piggyback for one in told)
    (answer,) = bench.receive(Ping(9, update_of(peer(3))))
    assert news in answer.message.piggyback


# Seeds


def test_a_seed_is_pinged_at_once_until_somebody_answers() -> None:
    bench = Bench()
    bench.core.join_addresses(["10.0.0.2:9400", "10.0.0.1:9400"], 0.0)
    sent = bench.advance(3.5)
    assert [one.destination for one in sent] == ["10.0.0.2:9400"] * 4
    assert {one.recipient for one in sent} == {0}
    assert bench.core.unknown_seeds() == ["10.0.0.2:9400"]
    assert len(bench.core.members()) == 1, "a seed is no member and cannot die"
    # Whoever answers there is who it is, whatever address it advertises.
    answer = Ack(sent[0].message.probe_id, update_of(peer(7)), NodeId(7))
    bench.receive(answer, source="10.0.0.2:9400")
    assert bench.core.unknown_seeds() == []
    assert bench.core.member(NodeId(7)) == peer(7)


def test_seeds_take_turns() -> None:
    bench = Bench()
    bench.core.join_addresses([f"10.0.1.{n}:9400" for n in range(1, 8)], 0.0)
    first, second = bench.advance(0.0), bench.advance(1.0)
    third = bench.advance(1.0)
    assert [len(sent) for sent in (first, second, third)] == [3, 3, 3]
    assert len({one.destination for one in first + second + third}) == 7


def test_a_malformed_seed_is_an_error_and_nothing_is_joined() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="nowhere"):
        bench.core.join_addresses(["10.0.0.2:9400", "nowhere"], 0.0)
    assert bench.core.unknown_seeds() == []


@pytest.mark.parametrize(
    ("seed", "left"), [("172.17.0.9:9400", []), ("all.example:9400", ["all.example:9400"])]
)
def test_a_seed_that_turns_out_to_be_ourselves(seed: str, left: list[str]) -> None:
    """Another number of ours is dropped; a name may lead to another node next time."""
    bench = Bench()
    bench.core.join_addresses([seed], 0.0)
    (ping,) = bench.advance(0.0)
    assert bench.receive(ping.message, source="127.0.0.1:9400") == []
    assert bench.core.unknown_seeds() == left
    assert bench.core.table.conflicts == []


def test_a_seed_that_became_a_member_otherwise_is_not_pinged_any_more() -> None:
    bench = Bench()
    bench.core.join_addresses(["10.0.0.2:9400"], 0.0)
    bench.receive(Ping(5, update_of(peer(2))))
    bench.advance(1.0)
    assert bench.core.unknown_seeds() == []


def test_a_newcomer_is_told_the_table_in_messages_of_six() -> None:
    bench = Bench(*range(2, 16))
    answers = bench.receive(Ping(5, update_of(peer(99))))
    introductions = [one for one in answers if one.message.probe_id == 0]
    assert [len(one.message.piggyback) for one in introductions] == [6, 6, 2]
    told = {update.node_id for one in introductions for update in one.message.piggyback}
    assert told == set(range(2, 16))
    again = bench.receive(Ping(6, update_of(peer(99))))
    assert [one.message.probe_id for one in again] == [6], "only once"
    later = bench.receive(Ping(7, update_of(peer(99, boot=2))))
    assert len(later) == 4, "and again after a restart"


# Boots


def test_a_stale_ping_is_answered_with_the_boot_to_exceed_once_per_interval() -> None:
    bench = Bench(2)
    stale = Ping(5, update_of(peer(2, boot=0)))

    def tell() -> list[Outgoing]:
        bench.core.on_stale_message(stale, known_boot=1, source="10.0.0.2:9400", now=bench.now)
        return bench.take()

    (nack,) = tell()
    assert isinstance(nack.message, Nack)
    assert nack.message.reason is NackReason.STALE_BOOT
    assert nack.message.known_boot == 1
    assert bench.core.member(NodeId(2)) == peer(2), "its content counts for nothing"
    assert tell() == []
    bench.now += 1.0
    assert len(tell()) == 1
    bench.core.on_stale_message(
        Ack(5, update_of(peer(3, boot=0)), NodeId(3)), known_boot=1, source="x:1", now=bench.now
    )
    assert bench.take() == [], "only a Ping is answered"


def test_whoever_is_told_that_its_boot_is_stale_becomes_a_newer_one() -> None:
    bench = Bench()
    bench.core.join_addresses(["10.0.0.2:9400"], 0.0)
    (ping,) = bench.advance(0.0)
    nack = Nack(ping.message.probe_id, update_of(peer(2)), NackReason.STALE_BOOT, 41)
    # And speaks again at once, as the new one.
    (ping,) = bench.receive(nack)
    assert bench.core.local == peer(1, boot=42)
    assert bench.core.counters.boots_raised == 1
    assert (ping.recipient, ping.message.sender.boot) == (2, 42)
    bench.receive(nack)
    assert bench.core.local.boot == 42


@pytest.mark.parametrize("probe_id", [0, 999])
def test_an_old_stale_nack_does_nothing(probe_id: int) -> None:
    bench = Bench(2)
    bench.receive(Nack(probe_id, update_of(peer(2)), NackReason.STALE_BOOT, 41))
    assert bench.core.local.boot == 1


def test_our_id_at_another_address_is_reported() -> None:
    bench = Bench(2)
    twin = Member(NodeId(1), "10.0.0.66:9400", boot=1)
    assert bench.receive(Ping(5, update_of(twin))) == []
    assert bench.core.table.conflicts == ["10.0.0.66:9400"]
    assert bench.core.counters.identity_conflicts == 1


# Leaving, forgetting, pausing


def test_leaving_tells_members_until_they_know() -> None:
    bench = Bench(2, 3, 4)
    bench.receive(Ack(0, update_of(peer(2)), NodeId(2), (update_of(peer(4, DEAD)),)))
    bench.core.leave(0.0)
    told = bench.take()
    assert [one.recipient for one in told] == [2, 3]
    assert all(one.message.sender == update_of(peer(1, LEFT)) for one in told)
    assert not bench.core.is_leave_known
    bench.receive(ack(told[0]))
    bench.core.leave(0.1)
    (again,) = bench.take()
    assert again.recipient == 3
    bench.receive(ack(again))
    assert bench.core.is_leave_known
    assert bench.core.next_wakeup == float("inf"), "it probes nobody any more"
    bench.core.tick(100.0)
    assert bench.take() == []
    (answer,) = bench.receive(Ping(5, update_of(peer(2))))
    assert answer.message.sender.state is LEFT, "but says so when asked"


def test_leaving_alone_is_known_at_once() -> None:
    bench = Bench()
    bench.core.leave(0.0)
    assert bench.core.is_leave_known


def test_leaving_tells_a_bounded_number() -> None:
    bench = Bench(*range(2, 60))
    bench.core.leave(0.0)
    assert len(bench.take()) == 16


def test_forgetting_the_probed_member_ends_the_probe() -> None:
    bench = Bench(2)
    bench.advance(1.0)
    bench.core.forget(NodeId(2), bench.now)
    bench.advance(5.0)
    assert bench.state(2) is None
    assert bench.core.counters.probe_failures == 0


def test_a_suspicion_does_not_run_while_we_do_not() -> None:
    """SIGSTOP for a minute: the refutation waits in the socket, and must be read first."""
    bench = Bench(2)
    bench.advance(1.5)
    assert bench.state(2) is SUSPECT
    bench.now += 60.0
    bench.core.tick(bench.now)
    assert bench.state(2) is SUSPECT
    assert bench.core.counters.pauses == 1
    bench.receive(Ack(0, update_of(peer(2, ALIVE, 1)), NodeId(2)))
    assert bench.state(2) is ALIVE


def test_after_a_pause_the_rest_of_the_suspicion_still_runs() -> None:
    bench = Bench(2)
    bench.advance(1.5)
    bench.now += 60.0
    bench.core.tick(bench.now)
    bench.advance(4.0)
    assert bench.state(2) is SUSPECT
    bench.advance(0.6)
    assert bench.state(2) is DEAD


def test_a_suspicion_that_was_due_next_is_not_judged_right_after_a_pause() -> None:
    bench = Bench(2)
    bench.advance(1.5 + 3.999)
    bench.now += 60.0
    bench.core.tick(bench.now)
    assert bench.state(2) is SUSPECT
    bench.advance(0.4)
    assert bench.state(2) is SUSPECT
    bench.advance(0.2)
    assert bench.state(2) is DEAD


def test_rounds_that_take_longer_than_the_interval_are_no_pause() -> None:
    bench = Bench(2, 3, probe_timeout_seconds=0.9)
    bench.advance(60.0)
    assert bench.core.counters.pauses == 0
    assert bench.state(2) is bench.state(3) is DEAD
