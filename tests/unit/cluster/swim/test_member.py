"""The merge table, row by row (BEHAVIOUR 1.2), and that the order of arrival does not matter."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.ids import NodeId
from cluster.swim.awareness import Awareness
from cluster.swim.config import SwimSettings
from cluster.swim.counters import SwimCounters
from cluster.swim.member import (
    BOOT_MAX,
    INCARNATION_MAX,
    Member,
    MemberState,
    MergeOutcome,
    merge_outcome,
    refuted,
    self_merge_outcome,
)
from cluster.swim.message import update_of
from cluster.swim.table import MemberTable

ALIVE, SUSPECT, DEAD, LEFT = MemberState
INSERT, APPLY, IGNORE, REFUTE, TERMINAL_LEFT, SELF_REFUTE = MergeOutcome


def member(state: MemberState, incarnation: int = 0, boot: int = 1, node_id: int = 2) -> Member:
    return Member(NodeId(node_id), f"10.0.0.{node_id}:9400", state, incarnation, boot)


def test_precedence_of_states() -> None:
    assert [state.value for state in (ALIVE, SUSPECT, DEAD, LEFT)] == [0, 1, 2, 3]
    assert [member(state).is_reachable for state in MemberState] == [True, False, False, False]


@pytest.mark.parametrize("state", MemberState)
def test_unknown_nodes_are_inserted_whatever_their_state(state: MemberState) -> None:
    assert merge_outcome(None, member(state, 7)) is INSERT


# Stored (state, incarnation), incoming (state, incarnation), outcome; all within one boot.
ROWS = [
    # The stored state is Left: terminal, whatever comes.
    (LEFT, 0, ALIVE, 0, TERMINAL_LEFT),
    (LEFT, 0, ALIVE, 99, TERMINAL_LEFT),
    (LEFT, 0, DEAD, 99, TERMINAL_LEFT),
    (LEFT, 0, LEFT, 0, TERMINAL_LEFT),
    # A higher precedence within the incarnation.
    (ALIVE, 3, SUSPECT, 3, APPLY),
    (ALIVE, 3, DEAD, 3, APPLY),
    (ALIVE, 3, LEFT, 3, APPLY),
    (SUSPECT, 3, DEAD, 3, APPLY),
    (SUSPECT, 3, LEFT, 3, APPLY),
    (DEAD, 3, LEFT, 3, APPLY),
    # A higher incarnation beats every precedence; so the dead come back.
    (SUSPECT, 3, ALIVE, 4, APPLY),
    (DEAD, 3, ALIVE, 4, APPLY),
    (DEAD, 3, SUSPECT, 4, APPLY),
    (ALIVE, 3, ALIVE, 4, APPLY),
    # Equal.
    (ALIVE, 3, ALIVE, 3, IGNORE),
    (SUSPECT, 3, SUSPECT, 3, IGNORE),
    (DEAD, 3, DEAD, 3, IGNORE),
    # Lower: whoever says so should hear the newer record.
    (SUSPECT, 3, ALIVE, 3, REFUTE),
    (DEAD, 3, ALIVE, 3, REFUTE),
    (DEAD, 3, SUSPECT, 3, REFUTE),
    (ALIVE, 3, DEAD, 2, REFUTE),
    (ALIVE, 3, LEFT, 2, REFUTE),
]


@pytest.mark.parametrize(("stored", "stored_number", "incoming", "number", "outcome"), ROWS)
def test_merge_within_one_boot(
    stored: MemberState,
    stored_number: int,
    incoming: MemberState,
    number: int,
    outcome: MergeOutcome,
) -> None:
    assert merge_outcome(member(stored, stored_number), member(incoming, number)) is outcome


@pytest.mark.parametrize("stored", MemberState)
@pytest.mark.parametrize("incoming", MemberState)
def test_a_later_boot_wins_and_an_earlier_one_loses(
    stored: MemberState, incoming: MemberState
) -> None:
    """Also over Left: a node that left in order comes back under its id (deviation, ADR 0017)."""
    assert merge_outcome(member(stored, 9, boot=1), member(incoming, 0, boot=2)) is APPLY
    lost = TERMINAL_LEFT if stored is LEFT else REFUTE
    assert merge_outcome(member(stored, 0, boot=2), member(incoming, 9, boot=1)) is lost


@pytest.mark.parametrize(
    ("rumour", "outcome"),
    [
        (member(SUSPECT, 3), SELF_REFUTE),
        (member(DEAD, 3), SELF_REFUTE),
        (member(LEFT, 3), SELF_REFUTE),
        (member(SUSPECT, 4), SELF_REFUTE),
        (member(ALIVE, 4), SELF_REFUTE),  # nobody else may raise our incarnation
        (member(ALIVE, 0, boot=2), SELF_REFUTE),
        (member(ALIVE, 3), IGNORE),
        (member(SUSPECT, 2), REFUTE),
        (member(DEAD, 9, boot=0), REFUTE),
    ],
)
def test_rumours_about_ourselves(rumour: Member, outcome: MergeOutcome) -> None:
    assert self_merge_outcome(member(ALIVE, 3), rumour) is outcome


@pytest.mark.parametrize("state", MemberState)
def test_a_node_that_has_left_contradicts_nobody(state: MemberState) -> None:
    assert self_merge_outcome(member(LEFT, 3), member(state, 4)) is IGNORE


@pytest.mark.parametrize(
    ("local", "rumour", "expected"),
    [
        (member(ALIVE, 3), member(SUSPECT, 3), (1, 4)),
        (member(ALIVE, 3), member(DEAD, 7), (1, 8)),  # max(local, rumour) + 1
        (member(ALIVE, 3), member(LEFT, 3), (2, 0)),  # no incarnation brings this boot back
        (member(ALIVE, 3), member(SUSPECT, 9, boot=5), (6, 0)),
        (member(ALIVE, 3), member(DEAD, INCARNATION_MAX), (2, 0)),  # saturated
        (member(ALIVE, 3), member(DEAD, INCARNATION_MAX - 1), (1, INCARNATION_MAX)),
        (member(ALIVE, 3), member(DEAD, 1, boot=BOOT_MAX), (BOOT_MAX, 0)),
    ],
)
def test_refuting_raises_above_the_rumour(
    local: Member, rumour: Member, expected: tuple[int, int]
) -> None:
    raised = refuted(local, rumour, incarnation_initial=0)
    assert (raised.boot, raised.incarnation) == expected
    assert raised.state is ALIVE
    if rumour.boot < BOOT_MAX:
        assert merge_outcome(rumour, raised) is APPLY, "others would not believe it"


def table() -> MemberTable:
    settings = SwimSettings()
    local = member(ALIVE, node_id=1)
    return MemberTable(
        settings=settings, local=local, awareness=Awareness(8), counters=SwimCounters()
    )


records = st.builds(
    member,
    st.sampled_from([ALIVE, SUSPECT, DEAD]),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(2, 4),
)


@settings(deadline=None)
@given(st.lists(records, max_size=5))
def test_any_order_of_arrival_gives_the_same_table(arrived: list[Member]) -> None:
    """Without Left, the table is the maximum of what came, so all nodes converge."""
    results = set()
    for order in permutations(arrived):
        merged = table()
        for record in order:
            merged.merge(update_of(record), 0.0)
        results.add(tuple(sorted(merged.members.values())))
        assert set(merged.suspicions) == set(merged.ids_of(SUSPECT))
    assert len(results) == 1


@settings(deadline=None)
@given(st.lists(records | st.builds(member, st.just(LEFT), st.integers(0, 3)), max_size=12))
def test_nothing_ever_goes_back_in_time(arrived: list[Member]) -> None:
    merged = table()
    for record in arrived:
        before = merged.members.get(record.node_id)
        merged.merge(update_of(record), 0.0)
        after = merged.members[record.node_id]
        if before is not None:
            assert after.rank() >= before.rank()
            if before.state is LEFT and after.boot == before.boot:
                assert after.state is LEFT
