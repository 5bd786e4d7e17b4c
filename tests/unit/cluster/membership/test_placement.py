"""Placement: growth, loss, decommission, step by step, and from any state without harm."""

from __future__ import annotations

import random

import pytest

from cluster.membership.placement import (
    CAUGHT_UP_ENTRIES,
    GroupView,
    PlacementNode,
    Step,
    TransferLeadership,
    check_invariants,
    has_caught_up,
    next_step,
    nodes_to_activate,
    target_of,
)
from cluster.raft.configuration import apply_change, quorum_size
from cluster.raft.message import ConfChange, Configuration


def node(node_id: int, **changes: object) -> PlacementNode:
    return PlacementNode(node_id, node_id)._replace(**changes)  # type: ignore[arg-type]


def view(
    voters: tuple[int, ...],
    learners: tuple[int, ...] = (),
    *,
    group_id: int = 0,
    commit_index: int = 100,
    factor: int = 3,
    behind: tuple[int, ...] = (),
    leader_id: int = 0,
    in_flight: bool = False,
) -> GroupView:
    match = {each: 0 if each in behind else commit_index for each in (*voters, *learners)}
    return GroupView(
        group_id,
        leader_id or voters[0],
        Configuration(voters, learners),
        match,
        commit_index,
        factor,
        in_flight,
    )


def settle(start: GroupView, nodes: tuple[PlacementNode, ...]) -> tuple[list[str], GroupView]:
    """Take steps until there are none; every learner catches up between two of them."""
    steps, now = [], start
    for _ in range(40):
        step = next_step(now, nodes)
        if step is None:
            return steps, now
        steps.append(
            f"{step.kind} {step.node_id}" if isinstance(step, ConfChange) else f"lead {step.target}"
        )
        now = taken(now, step)
    raise AssertionError(f"does not settle: {steps}")


def taken(now: GroupView, step: Step) -> GroupView:
    if isinstance(step, TransferLeadership):
        return now._replace(leader_id=step.target)
    after = apply_change(now.configuration, step)
    match = dict.fromkeys((*after.voters, *after.learners), now.commit_index)
    return now._replace(configuration=after, match_indexes=match)


def nodes_up_to(count: int) -> tuple[PlacementNode, ...]:
    return tuple(node(number) for number in range(1, count + 1))


# Growth


@pytest.mark.parametrize(
    ("count", "voters", "learners"),
    [
        (1, (1,), ()),
        (2, (1,), (2,)),
        (3, (1, 2, 3), ()),
        (4, (1, 2, 3), (4,)),
        (5, (1, 2, 3, 4, 5), ()),
        (7, (1, 2, 3, 4, 5), (6, 7)),
    ],
)
def test_the_metadata_group_grows(
    count: int, voters: tuple[int, ...], learners: tuple[int, ...]
) -> None:
    _, end = settle(view((1,)), nodes_up_to(count))
    assert end.configuration == Configuration(voters, learners)


@pytest.mark.parametrize(
    ("count", "factor", "voters", "learners"),
    [
        (1, 3, (1,), ()),
        (2, 3, (1,), (2,)),
        (3, 3, (1, 2, 3), ()),
        (6, 3, (1, 2, 3), ()),
        (6, 1, (1,), ()),
        (6, 2, (1,), (2,)),
        (6, 4, (1, 2, 3), (4,)),
        (6, 5, (1, 2, 3, 4, 5), ()),
    ],
)
def test_a_data_group_honours_its_replication_factor(
    count: int, factor: int, voters: tuple[int, ...], learners: tuple[int, ...]
) -> None:
    """Mistake M6: in the reference every node voted in every group."""
    _, end = settle(view((1,), group_id=1, factor=factor), nodes_up_to(count))
    assert end.configuration == Configuration(voters, learners)


def test_one_to_three_learner_first_and_never_long_at_two() -> None:
    steps, _ = settle(view((1,)), nodes_up_to(3))
    assert steps == ["add_learner 2", "add_learner 3", "promote 2", "promote 3"]


def test_the_second_waits_for_the_third_to_catch_up() -> None:
    """With two voters the loss of either stops the group; with one only that of the one."""
    assert next_step(view((1,), (2, 3), behind=(3,)), nodes_up_to(3)) is None
    assert next_step(view((1,), (2, 3)), nodes_up_to(3)) == ConfChange("promote", 2)
    down = (node(1), node(2), node(3, is_live=False))
    assert next_step(view((1,), (2, 3)), down) is None
    assert next_step(view((1, 2), (3,)), nodes_up_to(3)) == ConfChange("promote", 3)


def test_the_order_is_that_of_joining() -> None:
    nodes = (node(1), node(9, join_order=2), node(4, join_order=3), node(2, join_order=4))
    _, end = settle(view((1,), group_id=1), nodes)
    assert end.configuration.voters == (1, 4, 9)


def test_a_replica_never_votes() -> None:
    nodes = (node(1), node(2, role="replica"), node(3), node(4))
    _, metadata = settle(view((1,)), nodes)
    assert metadata.configuration == Configuration((1, 3, 4), (2,))
    _, data = settle(view((1,), group_id=1), nodes)
    assert data.configuration == Configuration((1, 3, 4), (2,))


def test_new_voters_go_where_the_fewest_are() -> None:
    places = {1: "a", 2: "a", 3: "a", 4: "b", 5: "c"}
    nodes = tuple(node(number, locality=(f"zone={zone}",)) for number, zone in places.items())
    _, end = settle(view((1,), group_id=1), nodes)
    assert end.configuration.voters == (1, 4, 5)


# Catching up: mistake R7


@pytest.mark.parametrize(
    ("match", "commit", "is_ready"),
    [
        (0, 0, False),  # Nothing is committed, so nothing was caught up with.
        (5, 0, False),
        (0, 5, False),  # Within ten entries of the start, and still empty.
        (1, 5, True),
        (90, 100, True),
        (89, 100, False),
        (100, 100, True),
        (120, 100, True),
    ],
)
def test_caught_up(match: int, commit: int, is_ready: bool) -> None:
    assert CAUGHT_UP_ENTRIES == 10
    group = view((1,), (2, 3), commit_index=commit)._replace(
        match_indexes={1: commit, 2: match, 3: match}
    )
    assert has_caught_up(group, 2) is is_ready
    step = next_step(group, nodes_up_to(3))
    assert (step == ConfChange("promote", 2)) is is_ready


def test_a_node_that_is_not_heard_of_is_not_promoted_nor_added() -> None:
    nodes = (*nodes_up_to(2), node(3, is_live=False), node(4))
    assert next_step(view((1, 2), (3,)), nodes) == ConfChange("add_learner", 4)
    assert next_step(view((1, 2), (3, 4)), nodes) == ConfChange("promote", 4)


def test_one_change_at_a_time() -> None:
    assert next_step(view((1,), in_flight=True), nodes_up_to(3)) is None


def test_members_become_active_when_their_metadata_replica_has_caught_up() -> None:
    nodes = (node(1), node(2, state="learner"), node(3, state="learner"), node(4, state="learner"))
    assert nodes_to_activate(view((1,), (2, 3), behind=(3,)), nodes) == (2,)


# Loss


def test_a_voter_that_is_down_keeps_its_place() -> None:
    nodes = (node(1), node(2), node(3, is_live=False), node(4))
    assert next_step(view((1, 2, 3), group_id=1), nodes) is None
    assert settle(view((1, 2, 3)), nodes)[1].configuration == Configuration((1, 2, 3), (4,))


def test_a_lost_voter_is_replaced_first_and_removed_then() -> None:
    nodes = (node(1), node(2), node(3, is_live=False, is_lost=True), node(4))
    steps, end = settle(view((1, 2, 3), group_id=1), nodes)
    assert steps == ["add_learner 4", "promote 4", "remove 3"]
    assert end.configuration == Configuration((1, 2, 4))
    back = (node(1), node(2), node(3), node(4))
    assert next_step(end, back) is None, "who returns does not take its place back"


def test_without_a_replacement_no_copy_is_given_up() -> None:
    """A group of three that lost one keeps acknowledging on two nodes, never on one."""
    nodes = (node(1), node(2), node(3, is_live=False, is_lost=True))
    assert next_step(view((1, 2, 3)), nodes) is None


def test_two_lost_of_five_leave_three() -> None:
    lost = [node(number, is_live=False, is_lost=True) for number in (4, 5)]
    steps, end = settle(view((1, 2, 3, 4, 5)), (*nodes_up_to(3), *lost))
    assert steps == ["remove 4", "remove 5"]
    assert end.configuration == Configuration((1, 2, 3))


def test_a_forgotten_voter_goes_even_without_a_replacement() -> None:
    """An operator said so (NodeLeave): the node is not in the topology any more."""
    steps, end = settle(view((1, 2, 3)), nodes_up_to(2))
    assert steps == ["remove 3"]
    assert end.configuration == Configuration((1, 2)), "and the second copy stays"
    back = (*nodes_up_to(2), node(4))
    assert settle(end, back)[1].configuration == Configuration((1, 2, 4))


def test_a_step_that_would_cost_the_quorum_is_not_taken() -> None:
    """Two of three are down: nothing can be committed anyway, and nothing is tried."""
    nodes = (node(1), node(2, is_live=False), node(3, state="draining", is_live=False), node(4))
    assert next_step(view((1, 2, 3), (4,)), nodes) is None


# Leaving


def test_a_draining_node_gives_up_its_replicas_after_its_replacement_votes() -> None:
    nodes = (node(1), node(2, state="draining"), node(3), node(4))
    steps, end = settle(view((1, 2, 3), group_id=1), nodes)
    assert steps == ["add_learner 4", "promote 4", "remove 2"]
    assert end.configuration == Configuration((1, 3, 4))


def test_who_leaves_stays_until_its_replacement_has_caught_up() -> None:
    nodes = (node(1), node(2, state="draining"), node(3), node(4))
    assert next_step(view((1, 2, 3), (4,), group_id=1, behind=(4,)), nodes) is None
    gone = (node(1), node(3), node(4))
    assert next_step(view((1, 2, 3), (4,), group_id=1, behind=(4,)), gone) is None


def test_a_leader_that_leaves_hands_over_first() -> None:
    nodes = (node(1, state="draining"), node(2), node(3), node(4))
    steps, end = settle(view((1, 2, 3), group_id=1), nodes)
    assert steps == ["add_learner 4", "promote 4", "lead 2", "remove 1"]
    assert end.configuration == Configuration((2, 3, 4))


def test_a_decommissioned_learner_is_removed() -> None:
    nodes = (*nodes_up_to(3), node(4, state="decommissioned"))
    assert settle(view((1, 2, 3), (4,)), nodes)[0] == ["remove 4"]


def test_a_lower_replication_factor_takes_the_last_ones_away() -> None:
    steps, end = settle(view((1, 2, 3, 4, 5), group_id=1, factor=3), nodes_up_to(5))
    assert steps == ["remove 4", "remove 5"]
    assert end.configuration == Configuration((1, 2, 3))


def test_the_invariants_see_a_bad_step() -> None:
    nodes = (node(1), node(2), node(3, role="replica"))
    group = view((1, 2), (3,))
    for step in (
        ConfChange("promote", 3),
        ConfChange("remove", 1),
        TransferLeadership(3),
        TransferLeadership(1),
    ):
        with pytest.raises(AssertionError):
            check_invariants(group, nodes, step)
    down = (node(1), node(2, is_live=False), node(3), node(4, is_live=False))
    with pytest.raises(AssertionError, match="no quorum"):
        check_invariants(view((1, 2, 3), (4,)), down, ConfChange("promote", 4))


# Any way through: nodes join, go down, return, are lost and leave in the middle of it


@pytest.mark.parametrize("seed", range(150))
def test_from_any_state_without_harm_and_to_an_end(seed: int) -> None:
    chance = random.Random(seed)
    group_id, factor = chance.choice([(0, 3), (1, 1), (1, 3), (1, 4), (1, 5)])
    nodes = {1: node(1)}
    group = view((1,), group_id=group_id, factor=factor)
    for _ in range(chance.randrange(5, 60)):
        disturb(chance, nodes, group)
        everybody = tuple(nodes.values())
        live = {each.node_id for each in everybody if each.is_live}
        voters = group.configuration.voters
        if len(live & set(voters)) < quorum_size(len(voters)):
            continue  # Nobody leads, so nobody asks.
        if group.leader_id not in live:
            group = group._replace(leader_id=chance.choice(sorted(live & set(voters))))
        match = {
            each: group.commit_index if chance.random() < 0.7 else chance.randrange(90)
            for each in (*voters, *group.configuration.learners)
        }
        group = group._replace(match_indexes=match)
        step = next_step(group, everybody)
        if step is not None:
            group = taken(group, step)
            check_group(group, nodes)
    healed = tuple(
        each._replace(is_live=True) if not each.is_lost else each for each in nodes.values()
    )
    if group.leader_id not in {each.node_id for each in healed if each.is_live}:
        return
    live_voters = [
        each
        for each in group.configuration.voters
        if each in {n.node_id for n in healed if n.is_live}
    ]
    if len(live_voters) < quorum_size(len(group.configuration.voters)):
        return
    group = group._replace(match_indexes=dict.fromkeys(group.match_indexes, group.commit_index))
    _, end = settle(group, healed)
    target = target_of(end, healed)
    present = {*end.configuration.voters, *end.configuration.learners}
    assert set(target.voters) <= set(end.configuration.voters)
    assert present >= {*target.voters, *target.learners}
    surplus = set(end.configuration.voters) - set(target.voters)
    assert all(nodes[each].is_lost for each in surplus), f"seed {seed}: {end.configuration}"


def disturb(chance: random.Random, nodes: dict[int, PlacementNode], group: GroupView) -> None:
    """Let something happen to the nodes; an operator breaks no quorum by decommissioning."""
    victim = chance.choice(sorted(nodes))
    match chance.choice(["join", "join", "down", "up", "lost", "drain", "nothing"]):
        case "join" if len(nodes) < 9:
            new = max(nodes) + 1
            role = "replica" if chance.random() < 0.2 else "voter"
            nodes[new] = node(new, role=role, locality=chance.choice([(), ("a",), ("b",)]))
        case "down":
            nodes[victim] = nodes[victim]._replace(is_live=False)
        case "up":
            nodes[victim] = nodes[victim]._replace(is_live=True, is_lost=False)
        case "lost" if not nodes[victim].is_live:
            nodes[victim] = nodes[victim]._replace(is_lost=True)
        case "drain":
            able = [
                each
                for each in nodes.values()
                if each.role == "voter" and each.state == "active" and not each.is_lost
            ]
            if len(able) > max(3, len(group.configuration.voters)):
                nodes[victim] = nodes[victim]._replace(state="draining")


def check_group(group: GroupView, nodes: dict[int, PlacementNode]) -> None:
    voters = group.configuration.voters
    assert voters
    assert not any(nodes[each].role == "replica" for each in voters)
    most = 5 if group.group_id == 0 else group.replication_factor
    assert len(voters) <= most + 1
