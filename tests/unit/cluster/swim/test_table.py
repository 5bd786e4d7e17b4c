"""The member table: what is queued, what subscribers hear, and the limits."""

import pytest

from cluster.ids import NodeId
from cluster.swim import Member, MemberState, StateChange, SwimSettings
from cluster.swim.awareness import Awareness
from cluster.swim.counters import SwimCounters
from cluster.swim.member import MergeOutcome
from cluster.swim.message import MemberUpdate, update_of
from cluster.swim.table import MEMBERS_MAX, MemberTable

ALIVE, SUSPECT, DEAD, LEFT = MemberState
LOCAL = Member(NodeId(1), "10.0.0.1:9400", boot=5)


def make(**settings: float) -> MemberTable:
    return MemberTable(
        settings=SwimSettings(**settings),  # type: ignore[arg-type]
        local=LOCAL,
        awareness=Awareness(8),
        counters=SwimCounters(),
    )


def update(
    node_id: int, state: MemberState = ALIVE, incarnation: int = 0, by: int = 0, boot: int = 1
) -> MemberUpdate:
    member = Member(NodeId(node_id), f"10.0.0.{node_id}:9400", state, incarnation, boot)
    return update_of(member, by)


def queued(table: MemberTable) -> list[MemberUpdate]:
    updates: list[MemberUpdate] = []
    table.dissemination._settings = SwimSettings(piggyback_max=32)
    updates += table.dissemination.take(1000)
    return updates


def take_changes(table: MemberTable) -> list[tuple[int, MemberState | None, MemberState]]:
    changes, table.changes = table.changes, []
    return [tuple(change) for change in changes]


def test_our_own_record_is_the_first_in_the_queue() -> None:
    assert queued(make()) == [update_of(LOCAL)]


def test_subscribers_hear_of_genuine_changes_only() -> None:
    table = make()
    table.merge(update(2), 0.0)
    assert table.changes == [StateChange(NodeId(2), None, ALIVE)]
    take_changes(table)
    table.merge(update(2), 0.0)
    table.merge(update(2, ALIVE, 1), 0.0)  # newer, but the same state
    table.merge(update(2, DEAD, 0), 0.0)  # older
    assert take_changes(table) == []
    table.merge(update(2, SUSPECT, 1, by=3), 0.0)
    table.merge(update(2, ALIVE, 2), 0.0)
    table.merge(update(2, LEFT, 2), 0.0)
    table.merge(update(2, ALIVE, 9), 0.0)
    assert take_changes(table) == [(2, ALIVE, SUSPECT), (2, SUSPECT, ALIVE), (2, ALIVE, LEFT)]


@pytest.mark.parametrize("address", ["nowhere", "host:", ":9400", "host:0", "host:65536", "a b:1"])
def test_a_member_without_a_usable_address_is_ignored(address: str) -> None:
    table = make()
    bad = MemberUpdate(2, address, ALIVE, 0, 1)
    assert table.merge(bad, 0.0) is MergeOutcome.IGNORE
    assert not table.members
    assert not table.changes
    table.merge(update(2), 0.0)
    assert table.merge(MemberUpdate(2, address, ALIVE, 1, 1), 0.0) is MergeOutcome.IGNORE
    assert table.members[NodeId(2)].address == "10.0.0.2:9400"


def test_an_older_record_makes_us_send_the_newer_one_again() -> None:
    table = make()
    table.merge(update(2, DEAD, 4), 0.0)
    while table.dissemination.take(3):
        pass
    assert table.merge(update(2, ALIVE, 4), 0.0) is MergeOutcome.REFUTE
    assert queued(table) == [update(2, DEAD, 4)]


def test_accusing_keeps_the_incarnation_of_the_accused() -> None:
    table = make()
    table.merge(update(2, ALIVE, 7), 0.0)
    table.suspect(NodeId(2), 10.0)
    assert table.members[NodeId(2)].rank() == (1, 7, SUSPECT)
    # Two members: four seconds.
    table.expire_suspicions(13.99)
    assert table.members[NodeId(2)].state is SUSPECT
    table.expire_suspicions(14.0)
    assert table.members[NodeId(2)].rank() == (1, 7, DEAD)
    assert not table.suspicions


def test_a_refutation_ends_the_suspicion() -> None:
    table = make()
    table.merge(update(2), 0.0)
    table.suspect(NodeId(2), 0.0)
    table.merge(update(2, ALIVE, 1), 1.0)
    table.expire_suspicions(1000.0)
    assert table.members[NodeId(2)].state is ALIVE


def test_the_same_accuser_counts_once_and_three_are_enough() -> None:
    table = make()
    for node_id in range(2, 17):
        table.merge(update(node_id), 0.0)
    table.merge(update(2, SUSPECT, 0, by=3), 0.0)
    suspicion = table.suspicions[NodeId(2)]
    assert suspicion.deadline == pytest.approx(96.0)
    table.merge(update(2, SUSPECT, 0, by=3), 1.0)
    table.merge(update(2, SUSPECT, 0), 1.0)  # by nobody in particular
    assert suspicion.deadline == pytest.approx(96.0)
    table.suspect(NodeId(2), 2.0)  # our own probe confirms it
    assert suspicion.confirmations == 1
    assert [u.suspected_by for u in queued(table) if u.node_id == 2] == [1]
    table.merge(update(2, SUSPECT, 0, by=4), 3.0)
    assert suspicion.deadline == pytest.approx(16.0)
    assert [u.suspected_by for u in queued(table) if u.node_id == 2] == [4]
    table.merge(update(2, SUSPECT, 0, by=5), 4.0)
    assert suspicion.confirmations == 2
    assert [u.suspected_by for u in queued(table) if u.node_id == 2] == [4], "passed on in vain"


def test_a_rumour_about_us_is_refuted_and_worries_us() -> None:
    table = make()
    rumour = update_of(LOCAL._replace(state=DEAD, incarnation=6))
    assert table.merge(rumour, 0.0) is MergeOutcome.SELF_REFUTE
    assert table.local.rank() == (5, 7, ALIVE)
    assert queued(table) == [update_of(table.local)]
    assert table._awareness.score == 1
    assert not table.changes, "the local node is no member of its own table"


def test_another_node_with_our_id_is_reported_and_answered_once_per_interval() -> None:
    table = make()
    other = Member(NodeId(1), "10.0.0.99:9400", boot=5)
    assert table.merge(update_of(other), 0.0) is MergeOutcome.IGNORE
    assert table.conflicts == ["10.0.0.99:9400"]
    assert table.merge(update_of(other._replace(incarnation=3)), 0.0) is MergeOutcome.SELF_REFUTE
    assert table.local.incarnation == 4
    for incarnation in range(5, 50):
        table.merge(update_of(other._replace(incarnation=incarnation)), 0.5)
    assert table.local.incarnation == 4
    table.merge(update_of(other._replace(incarnation=60)), 1.0)
    assert table.local.incarnation == 61
    assert table.conflicts == ["10.0.0.99:9400"]


def test_an_earlier_life_at_another_address_is_no_conflict() -> None:
    table = make()
    earlier = Member(NodeId(1), "10.0.0.99:9400", DEAD, 8, boot=4)
    assert table.merge(update_of(earlier), 0.0) is MergeOutcome.REFUTE
    assert not table.conflicts


def test_a_removed_member_stays_away_until_a_later_boot() -> None:
    table = make()
    table.merge(update(2, SUSPECT, 3, by=4), 0.0)
    table.forget(NodeId(2))
    assert not table.members
    assert not table.suspicions
    assert all(queued_update.node_id != 2 for queued_update in queued(table))
    table.merge(update(2, ALIVE, 9), 0.0)
    assert not table.members
    table.merge(update(2, ALIVE, 0, boot=2), 0.0)
    assert NodeId(2) in table.members
    table.forget(NodeId(77))  # unknown: nothing happens


def test_the_table_is_bounded() -> None:
    table = make()
    for node_id in range(2, MEMBERS_MAX + 10):
        table.merge(update(node_id), 0.0)
    assert len(table.members) == MEMBERS_MAX


def test_leaving_is_announced_and_final() -> None:
    table = make()
    table.leave()
    assert queued(table) == [update_of(LOCAL._replace(state=LEFT))]
    table.merge(update_of(LOCAL._replace(state=SUSPECT, incarnation=3)), 0.0)
    assert table.local.state is LEFT
    assert not table.raise_boot_above(9)
