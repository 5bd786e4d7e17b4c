"""The product with one mistake each, to see that the simulation's world notices it.

Each mistake is a subclass: of the log's flusher, of the log as the core sees it, or of the core.
Nothing in the product knows of them. ``CANARIES`` maps a name to a world whose nodes all make it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cluster.raft.configuration import quorum_size
from cluster.raft.core import RaftCore
from nodedb.kv.replicator import Replicator
from nodedb.storage.wal import Wal
from tests.simulation.node import SEGMENT_BYTES, make_replicator
from tests.simulation.world import World

if TYPE_CHECKING:
    from cluster.raft.message import (
        AppendRequest,
        AppendResponse,
        ConfChange,
        Configuration,
        EntryId,
    )
    from cluster.raft.progress import Progress
    from nodedb.storage.log_file import LogFile
    from tests.simulation.node import SimulatedMember


class NoSync:
    """Writes, and takes that for durable."""

    def write_and_sync(self, file: LogFile, data: bytes, offset: int) -> None:
        file.pwrite(data, offset)


class ForgetfulWal(Wal):
    """Opens with the terms it had, and no votes (BEHAVIOUR 16.1 R1)."""

    def __init__(self, *positional: Any, **keywords: Any) -> None:
        super().__init__(*positional, **keywords)
        for group in self._groups.values():
            if group.hard_state is not None:
                term, _, commit = group.hard_state
                group.hard_state = (term, 0, commit)


class VotesAfterStart(RaftCore):
    """Keeps no silence after a restart (PROTOCOL rule 36), so that a lost vote shows."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._silent_until = self._now


class LearnersCount(RaftCore):
    """Counts learners' acknowledgements and votes towards the voters' majority."""

    def _quorum_members(self) -> tuple[int, ...]:
        configuration = self.configuration
        return tuple(sorted((*configuration.voters, *configuration.learners)))

    def _take_configuration(self) -> None:
        super()._take_configuration()
        self._quorum = quorum_size(len(self.configuration.voters))


class OwnLastIndex(RaftCore):
    """Acknowledges its own last index instead of what has matched (R2).

    As a leader it goes back to the start after a refusal, which is slow and safe. Ours goes to the
    very place where the logs part, so the first append that matches cuts off a stale tail, and the
    mistake would hardly ever show.
    """

    def _matched_by(self, request: AppendRequest) -> int:
        return self.log.last_index()

    def _on_refused(self, response: AppendResponse, progress: Progress, now: float) -> None:
        start = self.log.first_index() - 1
        super()._on_refused(msgspec.structs.replace(response, hint_index=start), progress, now)


class TwoChangesAtOnce(RaftCore):
    """Begins a membership change while another is in flight, in force from commit (R7)."""

    def _check_conf_change_may_start(self) -> None:
        pass

    def propose_conf_change(self, change: ConfChange) -> EntryId:
        """Build on the change before, committed or not."""
        self.configuration = self._history.in_force
        try:
            return super().propose_conf_change(change)
        finally:
            self._take_configuration()

    def _configuration_in_force(self) -> Configuration:
        history = self._history
        committed = [found for index, found in history.changes if index <= self.commit_index]
        return committed[-1] if committed else history.applied

    def on_flushed(self, now: float) -> None:
        if self._configuration_in_force() != self.configuration:
            if self.is_leader:
                self._on_configuration_changed()
            else:
                self._take_configuration()
        super().on_flushed(now)


class LeaseAfterTransfer(RaftCore):
    """Keeps its lease after it has sent TimeoutNow (PROTOCOL rule 35)."""

    def _give_lease_up(self) -> None:
        pass


class _TermlessWaiters(Replicator):
    """Takes whatever is applied at an index for what was proposed there (R9)."""

    def _append(self, proposals: list[Any]) -> list[Any]:
        refused = super()._append(proposals)
        for replica in self.replicas.values():
            for position, entry in enumerate(replica.proposed):
                replica.proposed[position] = entry._replace(term=_AnyTerm(entry.term))
        return refused


class _AnyTerm(int):
    """Equal to every term."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def _with_core(core: type[RaftCore]) -> type[World]:
    class CanaryReplicator(Replicator):
        core_type = core

    class CanaryWorld(World):
        def make_replicator(self, node: SimulatedMember) -> Replicator:
            return make_replicator(node, CanaryReplicator)

    return CanaryWorld


class UnsyncedWorld(World):
    def make_wal(self, node: SimulatedMember) -> Wal:
        return Wal(
            node.disk,
            segment_bytes=SEGMENT_BYTES,
            compact_limit=node.engine.recyclable_applied,
            flusher=NoSync(),
        )


class ForgetfulWorld(_with_core(VotesAfterStart)):  # type: ignore[misc]
    def make_wal(self, node: SimulatedMember) -> Wal:
        return ForgetfulWal(
            node.disk, segment_bytes=SEGMENT_BYTES, compact_limit=node.engine.recyclable_applied
        )


class TermlessWorld(World):
    def make_replicator(self, node: SimulatedMember) -> Replicator:
        return make_replicator(node, _TermlessWaiters)


CANARIES: Final[dict[str, type[World]]] = {
    "skip the fsync": UnsyncedWorld,
    "forget the vote": ForgetfulWorld,
    "count a learner": _with_core(LearnersCount),
    "acknowledge one's own last index": _with_core(OwnLastIndex),
    "two conf changes at once": _with_core(TwoChangesAtOnce),
    "lease after TimeoutNow": _with_core(LeaseAfterTransfer),
    "waiter without term": TermlessWorld,
}
