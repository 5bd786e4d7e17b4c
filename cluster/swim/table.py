"""The member table: merges records, keeps the suspicions, and says what has changed.

Invariants: a suspicion exists exactly for the members that are SUSPECT; the local node is not among
the members; an update that changed anything is queued for the others before anybody here hears of
the change.
"""

from collections.abc import Iterable
from typing import Final

from cluster.ids import NodeId
from cluster.swim.address import is_address
from cluster.swim.awareness import Awareness
from cluster.swim.config import SwimSettings
from cluster.swim.counters import SwimCounters
from cluster.swim.dissemination import Dissemination
from cluster.swim.member import (
    Member,
    MemberState,
    MergeOutcome,
    StateChange,
    merge_outcome,
    refuted,
    self_merge_outcome,
)
from cluster.swim.message import MemberUpdate, update_of
from cluster.swim.suspicion import Suspicion

MEMBERS_MAX: Final = 4096


class MemberTable:
    """All nodes that this one has heard of, whatever their state."""

    def __init__(
        self,
        *,
        settings: SwimSettings,
        local: Member,
        awareness: Awareness,
        counters: SwimCounters,
    ) -> None:
        self.local = local
        self.members: dict[NodeId, Member] = {}
        self.suspicions: dict[NodeId, Suspicion] = {}
        self.dissemination = Dissemination(settings)
        self.changes: list[StateChange] = []
        self.conflicts: list[str] = []
        self._settings = settings
        self._awareness = awareness
        self._counters = counters
        self._forgotten: dict[NodeId, int] = {}
        self._conflict_refutable_at = float("-inf")
        self.dissemination.enqueue(update_of(local))

    @property
    def live_count(self) -> int:
        """The cluster's size for every formula: this node, and the members alive or suspect."""
        return 1 + sum(member.state <= MemberState.SUSPECT for member in self.members.values())

    def ids_of(self, *states: MemberState) -> list[NodeId]:
        """Return the members in one of the states, in the order of their ids."""
        return sorted(node_id for node_id, member in self.members.items() if member.state in states)

    def update_about(self, node_id: NodeId) -> MemberUpdate | None:
        """Return what we would tell others about a member; None if it is unknown."""
        if node_id == self.local.node_id:
            return update_of(self.local)
        member = self.members.get(node_id)
        if member is None:
            return None
        suspicion = self.suspicions.get(node_id)
        return update_of(member, suspicion.accuser if suspicion else 0)

    def merge(self, update: MemberUpdate, now: float) -> MergeOutcome:
        """Take in what another node says of a member, itself included."""
        incoming = update.member()
        if incoming.node_id == self.local.node_id:
            return self._merge_about_self(incoming, now)
        stored = self.members.get(incoming.node_id)
        outcome = merge_outcome(stored, incoming)
        if outcome is MergeOutcome.IGNORE:
            self._maybe_confirm(update)
        elif outcome is MergeOutcome.REFUTE:
            self._enqueue(incoming.node_id)
        elif outcome in (MergeOutcome.INSERT, MergeOutcome.APPLY):
            if not self._is_acceptable(stored, incoming):
                return MergeOutcome.IGNORE
            self._store(incoming, NodeId(update.suspected_by), now)
        return outcome

    def suspect(self, node_id: NodeId, now: float) -> None:
        """Accuse a member that did not answer our probe."""
        stored = self.members[node_id]
        if stored.state is MemberState.ALIVE:
            self._store(
                stored._replace(state=MemberState.SUSPECT), accuser=self.local.node_id, now=now
            )
        elif stored.state is MemberState.SUSPECT:
            self._maybe_confirm(update_of(stored, self.local.node_id))

    def expire_suspicions(self, now: float) -> None:
        """Declare the suspects dead that have not refuted in time."""
        expired = [node_id for node_id, held in self.suspicions.items() if held.deadline <= now]
        for node_id in sorted(expired):
            dead = self.members[node_id]._replace(state=MemberState.DEAD)
            self._store(dead, accuser=self.local.node_id, now=now)

    def leave(self) -> None:
        """Say that this node leaves in order; it contradicts nobody from now on."""
        self.local = self.local._replace(state=MemberState.LEFT)
        self._enqueue(self.local.node_id)

    def raise_boot_above(self, known_boot: int) -> bool:
        """Become a newer boot than the one others know; tell whether that was needed."""
        if known_boot < self.local.boot or self.local.state is MemberState.LEFT:
            return False
        rumour = self.local._replace(boot=known_boot, state=MemberState.LEFT)
        self._become(refuted(self.local, rumour, incarnation_initial=self._initial))
        self._counters.boots_raised += 1
        return True

    def forget(self, node_id: NodeId) -> None:
        """Drop a member that has been removed for good, and what others still say of its lives."""
        member = self.members.pop(node_id, None)
        self.suspicions.pop(node_id, None)
        self.dissemination.discard(node_id)
        if member is not None:
            self._forgotten[node_id] = member.boot

    def shift(self, seconds: float) -> None:
        """Move all suspicions on by a time in which this node did not run."""
        for suspicion in self.suspicions.values():
            suspicion.shift(seconds)

    @property
    def _initial(self) -> int:
        return self._settings.incarnation_initial

    def _enqueue(self, node_id: NodeId) -> None:
        update = self.update_about(node_id)
        assert update is not None
        self.dissemination.enqueue(update)

    def _is_acceptable(self, stored: Member | None, incoming: Member) -> bool:
        if not is_address(incoming.address):
            return False
        if stored is not None:
            return True
        is_forgotten = incoming.boot <= self._forgotten.get(incoming.node_id, -1)
        return not is_forgotten and len(self.members) < MEMBERS_MAX

    def _store(self, member: Member, accuser: NodeId, now: float) -> None:
        """Make a record the stored one: timer, queue, then the news of it."""
        stored = self.members.get(member.node_id)
        self.members[member.node_id] = member
        self.suspicions.pop(member.node_id, None)
        if member.state is MemberState.SUSPECT:
            self.suspicions[member.node_id] = Suspicion(
                settings=self._settings, member_count=self.live_count, accuser=accuser, now=now
            )
        self._enqueue(member.node_id)
        old = None if stored is None else stored.state
        if old is not member.state:
            self.changes.append(StateChange(member.node_id, old, member.state))
            self._count_change(old, member.state)

    def _count_change(self, old: MemberState | None, new: MemberState) -> None:
        if new is MemberState.SUSPECT:
            self._counters.suspects += 1
        elif new is MemberState.DEAD:
            self._counters.deads += 1
        elif new is MemberState.LEFT:
            self._counters.lefts += 1
        elif old in (MemberState.SUSPECT, MemberState.DEAD):
            self._counters.refutes += 1

    def _maybe_confirm(self, update: MemberUpdate) -> None:
        """Count an independent accuser; the first few are passed on (Lifeguard, LHA-Suspicion)."""
        suspicion = self.suspicions.get(NodeId(update.node_id))
        if suspicion is None or not update.suspected_by:
            return
        if suspicion.confirm(NodeId(update.suspected_by)):
            self.dissemination.enqueue(update)

    def _merge_about_self(self, rumour: Member, now: float) -> MergeOutcome:
        outcome = self_merge_outcome(self.local, rumour)
        is_of_other_address = rumour.address != self.local.address
        if is_of_other_address and rumour.boot >= self.local.boot:
            self.note_conflict(rumour.address)
        if outcome is MergeOutcome.REFUTE:
            self._enqueue(self.local.node_id)
        elif outcome is MergeOutcome.SELF_REFUTE:
            # Two nodes with one id would answer each other's every message with a higher number;
            # once per interval is enough for the one whose own earlier address this is.
            if is_of_other_address and now < self._conflict_refutable_at:
                return MergeOutcome.IGNORE
            self._conflict_refutable_at = now + self._settings.probe_interval_seconds
            if rumour.state is not MemberState.ALIVE and rumour.boot == self.local.boot:
                self._awareness.worsen()
            self._become(refuted(self.local, rumour, incarnation_initial=self._initial))
            self._counters.self_refutes += 1
        return outcome

    def note_conflict(self, address: str) -> None:
        """Note that another address uses this node's id; each address is reported once."""
        self._counters.identity_conflicts += 1
        if address not in self.conflicts and len(self.conflicts) < MEMBERS_MAX:
            self.conflicts.append(address)

    def _become(self, local: Member) -> None:
        self.local = local
        self._enqueue(local.node_id)


def addresses_of(members: Iterable[Member]) -> set[str]:
    """Return the addresses at which a member is, or may be, alive."""
    return {member.address for member in members if member.state <= MemberState.SUSPECT}
