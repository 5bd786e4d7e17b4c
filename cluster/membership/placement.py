"""Where the replicas of a group should be: the next single safe step, from what is observed. Pure.

A resolver: no list of steps is stored. The leader of a group asks after every change that was
applied, and every few seconds; a new leader asks and goes on where the old one was.

**Voters.** The metadata group has one on the first 1, 3 or 5 nodes in the order of their joining, a
data group on the first ``replication_factor``; the number is odd, the largest that there are nodes
for. Nodes of role replica never vote; nodes that leave give way. Voters that are there stay: a node
that returns does not take its old place back. Where nodes name their locality, a new voter goes
where the fewest are.

**Learners.** The metadata group has one on every other node, a data group on those that are to
vote, on copies beyond the odd number of voters, and on nodes of role replica.

**Order.** Learner first; it votes when it is live and within ``CAUGHT_UP_ENTRIES`` of a commit
index above 0 (at 0 everybody would seem to have caught up). An even number of voters tolerates no
more than the odd one below and needs one more node for a quorum, so it is passed through only with
the next step at hand: a second learner that has caught up, or a voter to take away. Whoever goes is
taken away after its replacement votes. One change at a time.

**Loss.** A voter that is merely down keeps its place. One that is lost for good is replaced, or, if
there is nobody, taken away only while three live voters remain: a cluster never falls back to fewer
copies by itself. Never does a step leave fewer live voters than a quorum of what it makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cluster.ids import METADATA_GROUP
from cluster.raft.configuration import apply_change, quorum_size
from cluster.raft.message import ConfChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.raft.message import Configuration

CAUGHT_UP_ENTRIES: Final = 10
METADATA_VOTERS_MAX: Final = 5
_VOTERS_KEPT_AFTER_LOSS: Final = 3


class PlacementNode(NamedTuple):
    """A member as placement sees it.

    ``is_live``: heard of lately. ``is_lost``: an operator or a long silence says that it will not
    return; never together with ``is_live``.
    """

    node_id: int
    join_order: int
    state: Literal["learner", "active", "draining", "decommissioned"] = "active"
    role: str = "voter"
    locality: tuple[str, ...] = ()
    is_live: bool = True
    is_lost: bool = False


class GroupView(NamedTuple):
    """A group as its leader observes it; ``match_indexes`` by node, the leader's own included."""

    group_id: int
    leader_id: int
    configuration: Configuration
    match_indexes: Mapping[int, int]
    commit_index: int
    replication_factor: int
    is_change_in_flight: bool = False
    has_learners_everywhere: bool = False
    """A data group of which every node has a copy, as of the metadata group."""


class TransferLeadership(NamedTuple):
    """The leader is to go: somebody else leads first."""

    target: int


Step = ConfChange | TransferLeadership


class Target(NamedTuple):
    """Where a group should be; both in the order in which the nodes joined."""

    voters: tuple[int, ...]
    learners: tuple[int, ...]


def next_step(view: GroupView, nodes: tuple[PlacementNode, ...]) -> Step | None:
    """Return the next safe step towards the target, or None when there is none to take now."""
    if view.is_change_in_flight or not view.commit_index:
        return None
    target = target_of(view, nodes)
    for step in (
        _add_learner(view, target, nodes),
        _promote(view, target, nodes),
        _reduce_voters(view, target, nodes),
        _remove_learner(view, target),
    ):
        if step is not None:
            check_invariants(view, nodes, step)
            return step
    return None


def target_of(view: GroupView, nodes: tuple[PlacementNode, ...]) -> Target:
    """Return where the group should be, given the nodes and where it is."""
    ordered = sorted(nodes, key=lambda node: (node.join_order, node.node_id))
    staying = [node for node in ordered if _may_hold(node)]
    able = [node for node in staying if node.role != "replica"]
    copies = METADATA_VOTERS_MAX if view.group_id == METADATA_GROUP else view.replication_factor
    copies = min(copies, len(able))
    voters = _choose_voters(view, able, _odd(copies))
    held = {node.node_id for node in voters}
    others = [node for node in staying if node.node_id not in held]
    if view.group_id != METADATA_GROUP and not view.has_learners_everywhere:
        spare = [node for node in others if node.role != "replica"][: copies - len(voters)]
        replicas = [node for node in others if node.role == "replica"]
        others = [node for node in others if node in spare or node in replicas]
    return Target(tuple(node.node_id for node in voters), tuple(node.node_id for node in others))


def _odd(count: int) -> int:
    return count - 1 + count % 2


def _may_hold(node: PlacementNode) -> bool:
    return not node.is_lost and node.state in ("learner", "active")


def _choose_voters(view: GroupView, able: list[PlacementNode], count: int) -> list[PlacementNode]:
    """Return the voters in join order: those there are, then the first ones that are not."""
    present = [node for node in able if node.node_id in view.configuration.voters]
    # An even number of live voters is kept until there is a node to make it odd again; only
    # voters beyond what the group may have at most go.
    most = METADATA_VOTERS_MAX if view.group_id == METADATA_GROUP else view.replication_factor
    chosen = present[: max(count, min(len(present), max(_odd(most), 1)))]
    candidates = [node for node in able if node not in chosen]
    while len(chosen) < count and candidates:
        # min takes the first of equals, which is the one that joined first.
        following = min(candidates, key=lambda node: _reluctance(view, node, chosen))
        chosen.append(following)
        candidates.remove(following)
    return sorted(chosen, key=lambda node: (node.join_order, node.node_id))


def _reluctance(
    view: GroupView, node: PlacementNode, chosen: list[PlacementNode]
) -> tuple[bool, int, bool]:
    """Order candidates: live ones, then those in less crowded places, then those that have data."""
    crowd = sum(bool(node.locality) and other.locality == node.locality for other in chosen)
    return not node.is_live, crowd, node.node_id not in view.configuration.learners


def has_caught_up(view: GroupView, node_id: int) -> bool:
    """Tell whether a replica has nearly everything that is committed."""
    match_index = view.match_indexes.get(node_id, 0)
    return match_index > 0 and 0 < view.commit_index <= match_index + CAUGHT_UP_ENTRIES


def nodes_to_activate(view: GroupView, nodes: tuple[PlacementNode, ...]) -> tuple[int, ...]:
    """Return the members that are learners still and whose metadata replica has caught up.

    The leader of the metadata group proposes ``PromoteToActive`` for them.
    """
    assert view.group_id == METADATA_GROUP
    replicas = {*view.configuration.voters, *view.configuration.learners}
    new = [node for node in sorted(nodes) if node.state == "learner" and node.node_id in replicas]
    return tuple(node.node_id for node in new if has_caught_up(view, node.node_id))


def _add_learner(
    view: GroupView, target: Target, nodes: tuple[PlacementNode, ...]
) -> ConfChange | None:
    """Give the next node that should have a replica one, if it is there to receive it."""
    present = {*view.configuration.voters, *view.configuration.learners}
    live = _live(nodes)
    for node_id in (*target.voters, *target.learners):
        if node_id not in present and node_id in live:
            return ConfChange("add_learner", node_id)
    return None


def _promote(
    view: GroupView, target: Target, nodes: tuple[PlacementNode, ...]
) -> ConfChange | None:
    """Let a learner vote, if the even number in between does not last."""
    voters, learners = view.configuration.voters, view.configuration.learners
    live = _live(nodes)
    ready = [
        node_id
        for node_id in target.voters
        if node_id in learners and node_id in live and has_caught_up(view, node_id)
    ]
    # While some go there may be one more than there should be, not several.
    if not ready or len(voters) > len(target.voters):
        return None
    surplus = [voter for voter in voters if voter not in target.voters]
    becomes_even = len(voters) % 2 == 1
    if becomes_even and len(ready) < 2 and not surplus:
        return None
    change = ConfChange("promote", ready[0])
    return change if _keeps_quorum(view, live, change) else None


def _reduce_voters(
    view: GroupView, target: Target, nodes: tuple[PlacementNode, ...]
) -> Step | None:
    """Take a voter away that should not vote any more, after its replacement came."""
    voters = view.configuration.voters
    surplus = [voter for voter in voters if voter not in target.voters]
    if not surplus or _waits_for_replacement(view, target):
        return None
    live = _live(nodes)
    by_id = {node.node_id: node for node in nodes}
    # Those that answer nobody first, the leader last.
    surplus.sort(key=lambda voter: (voter == view.leader_id, voter in live, voter))
    voter = surplus[0]
    node = by_id.get(voter)
    # An operator's word (draining, decommissioned, forgotten) is carried out in any case.
    is_silent = node is not None and node.is_lost and node.state in ("learner", "active")
    if is_silent and not _is_bearable(view, live):
        return None
    if voter == view.leader_id:
        heirs = [heir for heir in voters if heir in live and heir in target.voters]
        return TransferLeadership(max(heirs, key=lambda heir: _rank(view, heir))) if heirs else None
    change = ConfChange("demote" if voter in target.learners else "remove", voter)
    return change if _keeps_quorum(view, live, change) else None


def _waits_for_replacement(view: GroupView, target: Target) -> bool:
    """Tell whether somebody is to vote first, in place of those that go."""
    voters = view.configuration.voters
    is_missing = any(node_id not in voters for node_id in target.voters)
    return is_missing and len(voters) <= len(target.voters)


def _is_bearable(view: GroupView, live: set[int]) -> bool:
    """Tell whether a lost voter may go without replacement: enough copies stay."""
    live_voters = sum(voter in live for voter in view.configuration.voters)
    return live_voters >= _VOTERS_KEPT_AFTER_LOSS


def _rank(view: GroupView, node_id: int) -> tuple[int, int]:
    return view.match_indexes.get(node_id, 0), -node_id


def _remove_learner(view: GroupView, target: Target) -> ConfChange | None:
    for learner in view.configuration.learners:
        if learner not in target.learners and learner not in target.voters:
            return ConfChange("remove", learner)
    return None


def _live(nodes: tuple[PlacementNode, ...]) -> set[int]:
    return {node.node_id for node in nodes if node.is_live and not node.is_lost}


def _keeps_quorum(view: GroupView, live: set[int], change: ConfChange) -> bool:
    """Tell whether the changed group could commit: the leader counts as live."""
    voters = apply_change(view.configuration, change).voters
    present = sum(voter in live or voter == view.leader_id for voter in voters)
    return present >= quorum_size(len(voters))


def check_invariants(view: GroupView, nodes: tuple[PlacementNode, ...], step: Step) -> None:
    """Assert what holds after every step, whatever the way to it."""
    voters = view.configuration.voters
    if isinstance(step, TransferLeadership):
        assert step.target in voters, f"{step}: not a voter"
        assert step.target != view.leader_id, f"{step}: leads already"
        return
    after = apply_change(view.configuration, step)
    by_id = {node.node_id: node for node in nodes}
    changed = set(voters) ^ set(after.voters)
    assert len(changed) <= 1, f"{step}: two voters at once"
    assert after.voters, f"{step}: no voter left"
    assert view.leader_id in after.voters, f"{step}: the leader goes"
    if changed:
        assert _keeps_quorum(view, _live(nodes), step), f"{step}: no quorum of live voters"
    for added in set(after.voters) - set(voters):
        assert by_id[added].role != "replica", f"{step}: a replica must not vote"
        assert has_caught_up(view, added), f"{step}: has not caught up"
    for added in {*after.voters, *after.learners} - {*voters, *view.configuration.learners}:
        assert _may_hold(by_id[added]), f"{step}: the node is leaving"
