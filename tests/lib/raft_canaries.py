"""Raft with one mistake each, to see that simulations and checkers notice it.

The mistakes are planted from outside: a subclass of the core overrides one decision, a subclass of
the store breaks one promise. Nothing in the product knows of them. ``CANARIES`` maps a name to
(core class, store class) for ``RaftCluster`` and the simulation.
"""

from typing import Final

from raft_cluster import CheckedStore

from cluster.raft.configuration import quorum_size
from cluster.raft.core import RaftCore
from cluster.raft.message import AppendRequest, AppendResponse, Configuration


class UnsyncedStore(CheckedStore):
    """Skips the fsync: says that all is durable, and only every seventh flush is."""

    def flush(self) -> None:
        self.flush_count += 1
        if self.flush_count % 7 == 0:
            super().flush()
            return
        self._durable_index = self.last_index()

    @property
    def needs_flush(self) -> bool:
        return self._durable_index != self.last_index()


class ForgetfulStore(CheckedStore):
    """Forgets at a restart for whom it voted (BEHAVIOUR 16.1 R1)."""

    def crash(self) -> None:
        super().crash()
        self._hard_state = self._hard_state._replace(voted_for=0)


class LearnersCount(RaftCore):
    """Counts the acknowledgements and votes of learners towards the voters' majority."""

    def _quorum_members(self) -> tuple[int, ...]:
        configuration = self.configuration
        return tuple(sorted((*configuration.voters, *configuration.learners)))

    def _take_configuration(self) -> None:
        super()._take_configuration()
        self._quorum = quorum_size(len(self.configuration.voters))


class OwnLastIndex(RaftCore):
    """Acknowledges its own last index instead of what was matched (R2).

    As a leader it goes back to the start after a refusal, which is slow and safe. Ours goes to the
    very place where the logs part, so that the first append that matches cuts off a stale tail, and
    the mistake would hardly ever show.
    """

    def _matched_by(self, request: AppendRequest) -> int:
        return self.log.last_index()

    def _latest_possible_match(self, response: AppendResponse) -> int:
        return max(self.log.first_index() - 1, 0)


class TwoChangesAtOnce(RaftCore):
    """Starts a membership change while another is in flight, both in force from commit (R7)."""

    def _check_conf_change_may_start(self) -> None:
        pass

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


class EarlyAcknowledgement(RaftCore):
    """Acknowledges before the flush (R3)."""

    def _may_acknowledge(self, index: int) -> bool:
        return True


class VotesAfterStart(RaftCore):
    """Forgets its promises at a restart and votes at once (PROTOCOL rule 36)."""

    def __init__(self, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]
        self._silent_until = self._election_deadline = self._now


class LeaseAfterTransfer(RaftCore):
    """Keeps its lease after it has sent TimeoutNow (PROTOCOL rule 35)."""

    def _give_lease_up(self) -> None:
        pass


OFTEN: Final = {
    "two conf changes at once": "change",
    "vote right after a restart": "restart",
    "lease after TimeoutNow": "transfer",
}
"""What a walk should do more often to meet the mistake soon."""

CANARIES: Final[dict[str, tuple[type[RaftCore], type[CheckedStore]]]] = {
    "skip the fsync": (RaftCore, UnsyncedStore),
    "forget the vote": (VotesAfterStart, ForgetfulStore),
    "count a learner": (LearnersCount, CheckedStore),
    "acknowledge one's own last index": (OwnLastIndex, CheckedStore),
    "two conf changes at once": (TwoChangesAtOnce, CheckedStore),
    "vote right after a restart": (VotesAfterStart, CheckedStore),
    "lease after TimeoutNow": (LeaseAfterTransfer, CheckedStore),
}
