"""Since when may a leader think that it leads: rounds, the lease, ReadIndex, check-quorum.

Each append and heartbeat carries the number of a *round*, which its answer repeats. Everything that
leaves within ``ROUND_SECONDS`` shares a round, which counts from when its first message left. Once
a quorum of the configuration in force has answered a round or a later one, this replica was the
leader when that round left:

* reads that were received before the round began may be served (thesis §6.4);
* for ``RaftConfig.lease_seconds`` from then, no other leader can be elected: each of that quorum
  heard us at or after it, and helps nobody else for the shortest election timeout (PROTOCOL rules
  35 to 38). An only voter's lease has no end, until it is the only voter no longer.

A leader that a quorum has not answered for the longest election timeout steps down: it could not
commit anything, and those who ask it should ask another (thesis §6.2).
"""

import math
from collections import deque
from typing import Final

from cluster.raft.message import NOBODY, Heartbeat
from cluster.raft.progress import newest_reached_by_quorum
from cluster.raft.state import LEADER, ReplicaState

ROUND_SECONDS: Final = 0.005
"""Shortens leases by as much; spares a table with an element for each turn of the loop."""


class Authority(ReplicaState):
    """The part of a leader that knows whether it still is one.

    Invariant: no lease after a TimeoutNow was sent in this term, nor from answers of voters that
    were no voters when the answered round left.
    """

    _term_start_index = 0
    """Index of the empty entry with which the leader's term began."""
    _read_round = 0
    """The round of the reads that came since the last ``ready``; 0 if there were none."""

    def _begin_authority(self, now: float) -> None:
        """Start from nothing, at the beginning of a leader's term."""
        self._round = self._confirmed_round = self._read_round = 0
        self._round_began_at = -math.inf
        self._rounds: deque[tuple[int, float]] = deque()
        self._reads: deque[tuple[int, int, int]] = deque()
        self._active_since = now
        self._last_activity_at = now
        self._next_heartbeat_at = now + self.config.heartbeat_seconds
        self._lease_is_given_up = False
        self.lease_until = -math.inf
        self._update_lease()

    # Rounds

    def _current_round(self, now: float) -> int:
        """Return the number for a message that leaves now."""
        if now - self._round_began_at >= ROUND_SECONDS:
            self._begin_round(now)
        return self._round

    def _begin_round(self, now: float) -> None:
        self._round += 1
        self._round_began_at = now
        if not self._is_only_voter:  # Whose lease needs no round; nobody would take it out again.
            self._rounds.append((self._round, now))

    def _on_round_answered(self, peer: int, answered_round: int) -> None:
        """Count an answer, and see what it confirms."""
        progress = self.progress[peer]
        if answered_round <= progress.acked_round or answered_round < progress.round_min:
            return
        if answered_round > self._round:
            return  # No round of this term: nothing of ours was answered.
        progress.acked_round = answered_round
        if answered_round > self._confirmed_round:
            self._confirm_rounds()

    def _confirm_rounds(self) -> None:
        """Find the newest round that a quorum has answered; extend the lease, release reads."""
        answered = self._newest_answered_round()
        if answered <= self._confirmed_round:
            return
        self._confirmed_round = answered
        rounds = self._rounds
        began_at = -math.inf
        while rounds and rounds[0][0] <= answered:
            began_at = rounds.popleft()[1]
        if not (self._lease_is_given_up or self._is_only_voter):
            self.lease_until = max(self.lease_until, began_at + self.config.lease_seconds)
        self._release_reads()

    def _newest_answered_round(self) -> int:
        values: list[float] = [
            self._round if node_id == self.node_id else self.progress[node_id].acked_round
            for node_id in self._quorum_members()
        ]
        newest = newest_reached_by_quorum(values, self._quorum)
        return int(newest)

    # Lease

    def may_serve(self, now: float) -> bool:
        """Tell whether strong reads, locks and validation may be done at this very moment.

        ``now`` is a fresh reading of the clock, taken after the request was read, in the turn that
        reads the state (PROTOCOL rule 37). True for a leader whose own empty entry is applied (rule
        4) and whose lease is valid (rule 35).
        """
        return (
            now < self.lease_until
            and self.applied_index >= self._term_start_index
            and self.role is LEADER
        )

    def _update_lease(self) -> None:
        """Fit the lease to the configuration in force (PROTOCOL rule 38)."""
        if self._lease_is_given_up:
            self.lease_until = -math.inf
        elif self._is_only_voter:
            self.lease_until = math.inf
        elif self.lease_until == math.inf:
            self.lease_until = -math.inf

    def _restart_rounds(self, new_voters: set[int]) -> None:
        """Let answers count in a configuration that has just been appended.

        A voter that was none until now counts from the next round on.
        """
        self._round_began_at = -math.inf
        for peer in new_voters:
            if peer in self.progress:
                self.progress[peer].acked_round = 0
                self.progress[peer].round_min = self._round + 1
        self._update_lease()
        answered = self._newest_answered_round()
        if answered < self._confirmed_round and not self._is_only_voter:
            # The lease stood on answers that are no quorum of this configuration.
            self.lease_until = -math.inf
            self._confirmed_round = answered

    def _give_lease_up(self) -> None:
        """Serve by ReadIndex only, to the end of this term (PROTOCOL rule 35)."""
        self._lease_is_given_up = True
        self.lease_until = -math.inf

    # ReadIndex

    def read_index(self, context: int, now: float) -> None:
        """Ask whether this replica still leads, for a read that must see all that is committed.

        The answer is in ``Ready.read_states``, once a quorum has answered a round that began after
        this call and the term's empty entry is committed; (context, -1) if leadership is lost or
        was never there. Reads of one turn share a round: nobody joins one that has left.
        """
        if self.role is not LEADER:
            self._read_states.append((context, -1))
            return
        self.wake(now)
        # Whatever was committed before is at or below one of the two.
        index = max(self.commit_index, self._term_start_index)
        if not self._read_round:
            self._begin_round(now)
            self._read_round = self._round
            for peer in self._quorum_members():
                if peer != self.node_id:
                    self._send_heartbeat(peer, self._round)
        self._reads.append((context, index, self._read_round))
        if self._is_only_voter:
            self._release_reads()

    def _release_reads(self) -> None:
        """Hand out the reads whose round is confirmed, in the order they came."""
        reads = self._reads
        if not reads or self.commit_index < self._term_start_index:
            return
        confirmed = self._round if self._is_only_voter else self._confirmed_round
        while reads and reads[0][2] <= confirmed:
            context, index, _ = reads.popleft()
            self._read_states.append((context, index))

    def _refuse_reads(self) -> None:
        self._read_states.extend((context, -1) for context, _, _ in self._reads)
        self._reads.clear()

    # Check-quorum

    def _has_active_quorum(self, now: float) -> bool:
        """Tell whether a quorum has been heard within the longest election timeout."""
        heard: list[float] = [
            now if node_id == self.node_id else self.progress[node_id].heard_at
            for node_id in self._quorum_members()
        ]
        newest = max(newest_reached_by_quorum(heard, self._quorum), self._active_since)
        return now - newest < self.config.election_timeout_seconds_max

    # Heartbeats and quiescence

    def wake(self, now: float) -> None:
        """Leave quiescence: a leader shows itself, a follower asks its leader to."""
        self._now = now
        if not self.is_quiescent:
            return
        self.is_quiescent = False
        if self.role is LEADER:
            self._active_since = now
            self._next_heartbeat_at = now + self.config.heartbeat_seconds
            self._last_activity_at = now
            message_round = self._current_round(now)
            for peer in self.progress:
                self._send_heartbeat(peer, message_round)
        else:
            self._on_follower_woken(now)

    def _on_follower_woken(self, now: float) -> None:
        raise NotImplementedError

    def _send_heartbeat(self, peer: int, message_round: int, *, is_quiesce: bool = False) -> None:
        """Queue a heartbeat; its commit index never exceeds what the peer has matched."""
        progress = self.progress[peer]
        commit_index = min(progress.match_index, self.commit_index)
        progress.commit_sent = max(progress.commit_sent, commit_index)
        self._outbox.append(
            Heartbeat(
                self.group_id,
                self.node_id,
                peer,
                self.term,
                commit_index,
                message_round,
                is_quiesce,
            )
        )

    def _on_leadership_lost(self) -> None:
        """Forget what only a leader has."""
        self._refuse_reads()
        self._snapshot_peers.clear()
        self.progress = {}
        self.lease_until = -math.inf
        self.transferring_to = NOBODY
