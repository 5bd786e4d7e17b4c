"""A follower and its leader: appends taken, acknowledgements, quiescence, raft snapshots.

An acknowledgement names what has matched: ``prev_index`` and the entries behind it, never the
follower's own last index, which may be a stale tail of another term (BEHAVIOUR 16.1 R2). It leaves
in ``ready``, after the flush, once for all appends of a turn.
"""

from cluster.raft.election import Election
from cluster.raft.log import last_match_candidate
from cluster.raft.message import (
    AppendRequest,
    AppendResponse,
    Configuration,
    Entry,
    Heartbeat,
    HeartbeatResponse,
)
from cluster.raft.state import FOLLOWER, LEADER


class Following(Election):
    """The follower's work. Invariant: what is below ``_matched_index`` is the leader's log."""

    # Appends

    def _on_append_request(self, request: AppendRequest, now: float) -> None:
        """Take entries behind a place where the logs match, or say where they may (§5.3)."""
        self._hear_leader(request.sender, now)
        prev_index = request.prev_index
        entries = request.entries
        if prev_index >= self.commit_index:
            if self.log.term_at(prev_index) != request.prev_term:
                self._refuse_append(request)
                return
            self._take_entries(entries)
        elif prev_index + len(entries) > self.commit_index:
            # What is committed matches in every leader's log (§5.4.3): look only behind it.
            self._take_entries(entries[self.commit_index - prev_index :])
        self._acknowledge(self._matched_by(request), request.round)
        commit_index = min(request.commit_index, self._matched_index)
        if commit_index > self.commit_index:
            self._commit_to(commit_index)

    def _take_entries(self, entries: list[Entry]) -> None:
        """Append what is not there yet; the first that conflicts replaces all that follow (§5.3).

        What is there already stays, for the message may be an old one.
        """
        log = self.log
        last_index = log.last_index()
        position = 0
        if entries and entries[0][0] <= last_index:
            for index, term, _ in entries:
                if index > last_index or log.term_at(index) != term:
                    break
                position += 1
        if position == len(entries):
            return
        new_entries = entries[position:] if position else entries
        first_index = new_entries[0][0]
        assert first_index > self.commit_index, "a leader contradicts what is committed"
        log.append(new_entries)
        is_changed = first_index <= last_index and self._history.truncate(first_index)
        if self._history.append(new_entries) or is_changed:
            self._take_configuration()

    def _matched_by(self, request: AppendRequest) -> int:
        """Return up to where an append that was taken proves the logs equal (R2)."""
        return max(request.prev_index + len(request.entries), self.commit_index)

    def _acknowledge(self, matched_index: int, answered_round: int) -> None:
        """Have the turn's acknowledgement name the most that has matched in this term."""
        self._matched_index = max(self._matched_index, matched_index)
        newer_than = self._ack_round if self._ack_is_due else 0
        self._ack_round = max(newer_than, answered_round)
        self._ack_is_due = True

    def _emit_acknowledgement(self) -> None:
        """Put the turn's acknowledgement into the outbox, if what it names is durable."""
        if not self._may_acknowledge(self._matched_index):
            return
        self._ack_is_due = False
        if not self.leader_id:
            return
        # It goes before the turn's answers to heartbeats: when such an answer reaches the leader
        # first, the leader takes the acknowledgement for lost.
        self._outbox.insert(
            0,
            AppendResponse(
                self.group_id,
                self.node_id,
                self.leader_id,
                self.term,
                self._ack_round,
                is_matched=True,
                index=self._matched_index,
            ),
        )

    def _may_acknowledge(self, index: int) -> bool:
        """Tell whether entries up to an index are durable here (R3)."""
        return index <= self.log.durable_index()

    def _refuse_append(self, request: AppendRequest) -> None:
        hint_index, hint_term = last_match_candidate(
            self.log, request.prev_index - 1, request.prev_term
        )
        self._outbox.append(
            AppendResponse(
                self.group_id,
                self.node_id,
                request.sender,
                self.term,
                request.round,
                is_matched=False,
                index=request.prev_index,
                hint_index=hint_index,
                hint_term=hint_term,
            )
        )

    def _hear_leader(self, leader_id: int, now: float) -> None:
        """Follow the leader of this term; for the shortest election timeout help nobody else."""
        assert self.role is not LEADER, f"nodes {leader_id} and {self.node_id} lead one term"
        if self.role is not FOLLOWER or self.leader_id != leader_id:
            assert self.leader_id in (0, leader_id), f"two leaders in term {self.term}"
            self._become_follower(leader_id, now)
        else:
            self._reset_election_deadline(now)
        self._leader_heard_at = now

    # Heartbeats and quiescence

    def _on_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        self._hear_leader(heartbeat.sender, now)
        commit_index = min(heartbeat.commit_index, self._matched_index)
        if commit_index > self.commit_index:
            self._commit_to(commit_index)
        if heartbeat.is_quiesce and self._may_quiesce(heartbeat):
            self.is_quiescent = True
        elif heartbeat.round:
            self._answer_heartbeat(heartbeat.sender, heartbeat.round, is_awake=heartbeat.is_quiesce)

    def _answer_heartbeat(self, leader_id: int, answered_round: int, *, is_awake: bool) -> None:
        self._outbox.append(
            HeartbeatResponse(
                self.group_id,
                self.node_id,
                leader_id,
                self.term,
                answered_round,
                self._matched_index,
                is_awake,
            )
        )

    def _may_quiesce(self, heartbeat: Heartbeat) -> bool:
        """Tell whether nothing is missing here: all of the leader's log, known to be committed."""
        return (
            heartbeat.commit_index
            == self.commit_index
            == self._matched_index
            == self.log.last_index()
        )

    def _on_follower_woken(self, now: float) -> None:
        """Ask the leader to show itself, and give it an election timeout to do so."""
        self._reset_election_deadline(now)
        if self.leader_id:
            self._answer_heartbeat(self.leader_id, 0, is_awake=True)

    # Raft snapshots

    def may_install_snapshot(self, term: int, index: int) -> bool:
        """Tell whether a raft snapshot that a leader of ``term`` offers is of use here (§7)."""
        return (
            term >= self.term
            and index > self.commit_index
            and not (self.role is LEADER and term == self.term)
        )

    def on_snapshot_installed(
        self, index: int, term: int, configuration: Configuration, now: float
    ) -> None:
        """Go on from a raft snapshot that the driver has made durable, the log reset to it.

        ``term`` is that of the entry at ``index``. The leader is told, if one is known. A log that
        has that entry must not be reset (``on_snapshot_matched``): what is behind it may have been
        acknowledged while the snapshot was on its way, and must never be lost again.
        """
        assert self.role is not LEADER
        assert self.log.last_index() == index, (self.log.last_index(), index)
        assert self.log.term_at(index) == term, (self.log.term_at(index), term)
        assert index > self.commit_index, (index, self.commit_index)
        assert index > self._matched_index, "acknowledged entries were in the log"
        self._now = now
        self.commit_index = index
        self.applied_index = index
        self._matched_index = index
        self._history.reset(configuration)
        self._take_configuration()
        self.is_quiescent = False
        self._reset_election_deadline(now)
        if self.leader_id:
            self._acknowledge(index, 0)
