"""Members and the table that says which of two records about one of them is the newer.

The order of records is lexicographic on (boot, incarnation, precedence of the state). The boot
number is ours: it counts the starts of a node, only the node itself raises it, and it makes two
things true that SWIM alone does not give. A node that restarts is alive at once, whatever was said
about its earlier life, and ``Left``, which is terminal, is terminal for that life only: a node that
leaves for an upgrade comes back under its own id.

Source: Das, Gupta, Motivala 2002 (SWIM), section 4.2, for the order within one boot.
"""

from enum import Enum, IntEnum
from typing import Final, NamedTuple

from cluster.ids import NodeId

INCARNATION_MAX: Final = 2**64 - 1
BOOT_MAX: Final = 2**63 - 1


class MemberState(IntEnum):
    """What is thought of a member; the value is its precedence. Only ALIVE counts as reachable."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Member(NamedTuple):
    """One node as SWIM knows it.

    ``address`` is what the node itself advertises (``host:port``), never where a datagram came
    from. ``incarnation`` and ``boot`` are raised by the node itself only.
    """

    node_id: NodeId
    address: str
    state: MemberState = MemberState.ALIVE
    incarnation: int = 0
    boot: int = 0

    @property
    def is_reachable(self) -> bool:
        """Tell whether the member counts as reachable."""
        return self.state is MemberState.ALIVE

    def rank(self) -> tuple[int, int, int]:
        """Return what orders two records about the same node; the higher one is the newer."""
        return (self.boot, self.incarnation, self.state)


class StateChange(NamedTuple):
    """A genuine change of a member's state; ``old`` is None when it has just become known."""

    node_id: NodeId
    old: MemberState | None
    new: MemberState


class MergeOutcome(Enum):
    """What a record that comes in does to the one that is stored."""

    INSERT = "insert"
    APPLY = "apply"
    IGNORE = "ignore"
    REFUTE = "refute"
    TERMINAL_LEFT = "terminal-left"
    SELF_REFUTE = "self-refute"


def merge_outcome(stored: Member | None, incoming: Member) -> MergeOutcome:
    """Return what becomes of a record about another node.

    INSERT: the node is unknown. TERMINAL_LEFT: it has left, and the record is about the life that
    ended. APPLY: the record is newer. IGNORE: it says nothing new. REFUTE: it is older, and whoever
    believes it should hear the stored one.
    """
    if stored is None:
        return MergeOutcome.INSERT
    if stored.state is MemberState.LEFT and incoming.boot <= stored.boot:
        return MergeOutcome.TERMINAL_LEFT
    if incoming.rank() > stored.rank():
        return MergeOutcome.APPLY
    if incoming.rank() == stored.rank():
        return MergeOutcome.IGNORE
    return MergeOutcome.REFUTE


def self_merge_outcome(local: Member, rumour: Member) -> MergeOutcome:
    """Return what a record about this node itself asks for: SELF_REFUTE, REFUTE or IGNORE.

    SELF_REFUTE where others hold something newer than we have said, or as new and not alive: by
    then our own record no longer wins. A node that has left does not contradict.
    """
    if local.state is MemberState.LEFT:
        return MergeOutcome.IGNORE
    if rumour.rank() > local.rank():
        return MergeOutcome.SELF_REFUTE
    return MergeOutcome.IGNORE if rumour.rank() == local.rank() else MergeOutcome.REFUTE


def refuted(local: Member, rumour: Member, *, incarnation_initial: int) -> Member:
    """Return our own record after it has been raised above a rumour about us.

    The incarnation becomes ``max(local, rumour) + 1``. Where no incarnation can help, because the
    rumour says that this boot has left, belongs to a later boot, or has the highest incarnation
    there is, we become a new boot.
    """
    incarnation = max(local.incarnation, rumour.incarnation) + 1
    is_hopeless = rumour.state is MemberState.LEFT or incarnation > INCARNATION_MAX
    if rumour.boot > local.boot or is_hopeless:
        boot = min(max(local.boot, rumour.boot) + 1, BOOT_MAX)
        return local._replace(boot=boot, incarnation=incarnation_initial)
    return local._replace(incarnation=incarnation)
