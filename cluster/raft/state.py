"""What every replica keeps, whatever its role: term, vote, configuration, outbox, timers.

The other modules of the core build on it, one on top of the other: ``authority`` (since when may I
think that I lead: rounds, lease, reads), ``replication`` (a leader and its peers' logs),
``election``, ``following``, and ``core`` with the public face.

Attributes without underscore may be read by anybody and set by nobody else.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

from cluster.raft.configuration import ConfigurationHistory, quorum_size
from cluster.raft.message import NOBODY, Configuration, HardState, Message

if TYPE_CHECKING:
    from random import Random

    from cluster.raft.config import RaftConfig
    from cluster.raft.log import LogStore
    from cluster.raft.progress import Progress


class Role(enum.StrEnum):
    """What a replica does; whether it is a voter or a learner is the configuration's matter."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


# Reading a member from its class takes 0.1 us, and ``propose`` and ``may_serve`` are on the hot
# path of every statement.
FOLLOWER: Final = Role.FOLLOWER
PRE_CANDIDATE: Final = Role.PRE_CANDIDATE
CANDIDATE: Final = Role.CANDIDATE
LEADER: Final = Role.LEADER


class ReplicaState:
    """The common part. Invariants: the term never falls; one vote per term, never taken back."""

    def __init__(
        self,
        *,
        config: RaftConfig,
        group_id: int,
        node_id: int,
        log: LogStore,
        configuration: Configuration,
        applied_index: int,
        random: Random,
        now: float,
    ) -> None:
        self.config = config
        self.group_id = group_id
        self.node_id = node_id
        self.log = log
        hard_state = log.hard_state()
        self.term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.role: Role = FOLLOWER
        self.leader_id = NOBODY
        self.applied_index = applied_index
        self.commit_index = max(hard_state.commit_index, applied_index)
        assert self.commit_index <= log.last_index(), (self.commit_index, log.last_index())
        self.is_quiescent = False
        self.progress: dict[int, Progress] = {}
        """By peer, learners too; a leader's only."""
        self.lease_until = -math.inf
        self.transferring_to = NOBODY

        self._random = random
        self._now = now
        self._outbox: list[Message] = []
        self._read_states: list[tuple[int, int]] = []
        self._snapshot_peers: list[int] = []

        # A follower's acknowledgement: one per turn, of the most that has matched.
        self._matched_index = self.commit_index
        self._ack_is_due = False
        self._ack_round = 0

        # PROTOCOL rule 36: whom did we promise what before the restart? Nobody remembers.
        self._leader_heard_at = -math.inf
        self._silent_until = now + config.election_timeout_seconds_max
        self._election_deadline = self._silent_until + random.uniform(
            0.0, config.election_timeout_seconds_max - config.election_timeout_seconds_min
        )

        self._history = ConfigurationHistory(configuration)
        self._history.scan(log, applied_index)
        self.configuration = configuration
        self._is_voter = False
        self._is_only_voter = False
        self._take_configuration()

    # Configuration

    @property
    def applied_configuration(self) -> Configuration:
        """The configuration as of the applied index: what a raft snapshot carries."""
        return self._history.applied

    @property
    def conf_change_in_flight(self) -> bool:
        """Tell whether a membership change is in the log and not committed."""
        return self._history.last_change_index > self.commit_index

    @property
    def is_learner(self) -> bool:
        """Tell whether this replica only receives."""
        return self.node_id in self.configuration.learners

    def _is_alone(self) -> bool:
        """Tell whether this replica is the only voter and can have promised nobody anything.

        While a change that made it so is not known to be committed, the leader that proposed it
        may still hold a lease on this replica's word, given perhaps before a restart.
        """
        return self._is_only_voter and all(
            configuration.voters == (self.node_id,)
            for configuration in self._history.since(self.commit_index)
        )

    def _may_campaign(self) -> bool:
        """Tell whether this replica may ask for votes: a voter, or one until the change commits.

        A leader that removes itself may be the only one with that entry, and so the only one whose
        log nobody refuses: it must be able to be elected once more, though its own vote does not
        count (thesis §4.2.2).
        """
        return self._is_voter or (
            self.conf_change_in_flight and self.node_id in self._history.before_last_change.voters
        )

    def _quorum_members(self) -> tuple[int, ...]:
        """Return those whose votes and acknowledgements count: the voters, no learner (§6)."""
        return self.configuration.voters

    def _configuration_in_force(self) -> Configuration:
        """Return what counts: the newest in the log, whether committed or not (thesis §4.1)."""
        return self._history.in_force

    def _take_configuration(self) -> None:
        """Note the configuration in force; called whenever the history may have changed."""
        self.configuration = self._configuration_in_force()
        members = self._quorum_members()
        self._quorum = quorum_size(len(members))
        self._is_voter = self.node_id in members
        self._is_only_voter = members == (self.node_id,)

    # Term and vote

    def _enter_term(self, term: int, voted_for: int) -> None:
        """Begin a newer term; durable before anything of it leaves (§5.1).

        What waits in the outbox speaks for the old term. It goes: an acknowledgement among it may
        name entries that a leader of the new term replaces before the flush.
        """
        assert term > self.term, (term, self.term)
        self.term = term
        self._outbox.clear()
        self._ack_is_due = False
        self._matched_index = self.commit_index
        self._vote(voted_for)

    def _vote(self, node_id: int) -> None:
        """Give this term's vote; the only place that writes hard state."""
        self.voted_for = node_id
        self.log.set_hard_state(HardState(self.term, node_id, self.commit_index))

    # Roles and timers

    def _become_follower(self, leader_id: int, now: float) -> None:
        """Follow a leader, or nobody yet; whatever a leader or candidate kept is forgotten.

        The vote stays (BEHAVIOUR 16.1 R4): a candidate that meets its own term's leader has voted.
        """
        if self.role is LEADER:
            self._on_leadership_lost()
        self.role = FOLLOWER
        self.leader_id = leader_id
        self.is_quiescent = False
        self._reset_election_deadline(now)

    def _on_leadership_lost(self) -> None:
        raise NotImplementedError

    def _reset_election_deadline(self, now: float) -> None:
        """Draw a new timeout (§5.2: randomised, so that votes rarely split)."""
        config = self.config
        timeout = self._random.uniform(
            config.election_timeout_seconds_min, config.election_timeout_seconds_max
        )
        self._election_deadline = now + timeout

    # Commit

    def _commit_to(self, index: int) -> None:
        """Raise the commit index."""
        assert self.commit_index < index <= self.log.last_index(), (index, self.log.last_index())
        self.commit_index = index
