"""A leader and its peers' logs: appends, their answers, commit, membership, transfer, quiescence.

Appends carry only what is durable here: what is not may still be taken back by the driver (a full
disk). They leave without waiting for the answer to the one before, up to the window of
``progress``. An answer names what has matched, never what the follower happens to have (BEHAVIOUR
16.1 R2). Entries of earlier terms are never committed by counting (§5.4.2).
"""

from cluster.errors import ConfChangeInFlight, ConfChangeRefused, NotLeader, TransferInProgress
from cluster.raft.authority import Authority
from cluster.raft.configuration import apply_change
from cluster.raft.log import last_match_candidate
from cluster.raft.message import (
    CONF_CHANGE_MARK,
    NOBODY,
    AppendRequest,
    AppendResponse,
    ConfChange,
    EntryId,
    HeartbeatResponse,
    TimeoutNow,
    encode_conf_change,
)
from cluster.raft.progress import Progress, ProgressState, newest_reached_by_quorum
from cluster.raft.state import LEADER


class Replication(Authority):
    """The leader's work. Invariant: ``commit_index`` is durable on a quorum."""

    _transfer_deadline = 0.0
    _timeout_now_is_sent = False
    _quiesce_round = 0

    def _begin_leading(self, now: float) -> None:
        """Take up the work of a leader, with an empty entry of its own term (§5.4.2, §8)."""
        self._begin_authority(now)
        self.transferring_to = NOBODY
        self._timeout_now_is_sent = False
        self._term_start_index = self.log.last_index() + 1
        self.progress = {}
        self._match_progress_to_configuration()
        self.log.append(((self._term_start_index, self.term, b""),))

    # Proposals

    def propose(self, payload: bytes) -> EntryId:
        """Append an entry; it is sent by ``on_flushed``, once it is durable here.

        Raises NotLeader, or TransferInProgress; nothing was appended then. Whoever waits for the
        entry waits for this id: another term at the index is another entry (BEHAVIOUR 16.1 R9).
        """
        if self.role is not LEADER:
            raise NotLeader(self.leader_id)
        if self.transferring_to:
            raise TransferInProgress(self.transferring_to)
        assert payload, "an empty payload is the mark of a new leader"
        assert payload[0] != CONF_CHANGE_MARK, "a membership change has its own way"
        index = self.log.last_index() + 1
        self.log.append(((index, self.term, payload),))
        return EntryId(self.term, index)

    def propose_conf_change(self, change: ConfChange) -> EntryId:
        """Append a membership change, in force from this moment on.

        Raises NotLeader, TransferInProgress, ConfChangeInFlight, ConfChangeRefused; nothing was
        appended then.
        """
        if self.role is not LEADER:
            raise NotLeader(self.leader_id)
        if self.transferring_to:
            raise TransferInProgress(self.transferring_to)
        self._check_conf_change_may_start()
        result = apply_change(self.configuration, change)
        if change.kind == "promote" and not self.is_caught_up(change.node_id):
            raise ConfChangeRefused(f"learner {change.node_id} has not caught up yet")
        index = self.log.last_index() + 1
        entry = (
            index,
            self.term,
            encode_conf_change(ConfChange(change.kind, change.node_id, result)),
        )
        self.log.append((entry,))
        self._history.append((entry,))
        self._on_configuration_changed()
        return EntryId(self.term, index)

    def _check_conf_change_may_start(self) -> None:
        """One change at a time, and none before the term's first entry is committed.

        The second condition is not in the thesis; without it two leaders that follow each other,
        each with one change not committed, could form majorities that do not meet. Source: Ongaro,
        "bug in single-server membership changes", raft-dev, 2015.
        """
        if self.conf_change_in_flight:
            raise ConfChangeInFlight("another membership change is not committed yet")
        if self.commit_index < self._term_start_index:
            raise ConfChangeInFlight("the leader's first entry is not committed yet")

    def is_caught_up(self, peer: int) -> bool:
        """Tell whether a learner is near enough to the log's end to become a voter.

        It holds all that was committed before this term, has answered in it (BEHAVIOUR 16.1 R7: an
        empty log is not near to a commit index of 0), and lacks less than one window.
        """
        progress = self.progress.get(peer)
        return (
            progress is not None
            and progress.state is ProgressState.REPLICATE
            and progress.match_index >= self._term_start_index
            and progress.match_index + self.config.inflight_entries_max >= self.commit_index
        )

    def on_proposals_discarded(self) -> None:
        """Follow the log, which lost what was appended and not flushed; nobody has seen it.

        A follower forgets that it had taken the entries, and gets them again. A leader whose first
        entry is among them cannot lead: it steps down, and tries again later.
        """
        last_index = self.log.last_index()
        assert last_index >= self.applied_index, (last_index, self.applied_index)
        self.commit_index = min(self.commit_index, last_index)
        self._matched_index = min(self._matched_index, last_index)
        if self._history.truncate(last_index + 1):
            if self.role is LEADER:
                self._on_configuration_changed()
            else:
                self._take_configuration()
        if self.role is LEADER and last_index < self._term_start_index:
            self._become_follower(NOBODY, self._now)

    def _on_configuration_changed(self) -> None:
        """Let the newest configuration count from now on (§6)."""
        voters = set(self._quorum_members())
        self._take_configuration()
        self._match_progress_to_configuration()
        self._restart_rounds(set(self._quorum_members()) - voters)
        self.is_quiescent = False

    def _match_progress_to_configuration(self) -> None:
        """Have a progress for each peer, and for nobody else."""
        configuration = self.configuration
        peers = sorted((*configuration.voters, *configuration.learners))
        next_index = self.log.last_index() + 1
        self.progress = {
            peer: self.progress.get(peer) or Progress(next_index, self._now)
            for peer in peers
            if peer != self.node_id
        }
        self._snapshot_peers = [peer for peer in self._snapshot_peers if peer in self.progress]

    # After the flush

    def _after_flush(self, now: float) -> None:
        """Send what has become durable, count it, and tell the peers what is committed."""
        durable_index = self.log.durable_index()
        if self.progress:
            if self.is_quiescent:
                if durable_index <= self.commit_index:
                    return
                self.wake(now)
            for peer in self.progress:
                self._send_appends(peer, now)
        if durable_index > self.commit_index:
            self._maybe_commit(now)
        if self.progress:
            self._send_commit_index()

    def _send_appends(self, peer: int, now: float) -> None:
        """Send a peer what it lacks, as far as its window is open."""
        progress = self.progress[peer]
        durable_index = self.log.durable_index()
        if progress.state is ProgressState.REPLICATE:
            config = self.config
            while progress.next_index <= durable_index:
                room = config.inflight_entries_max + progress.match_index + 1 - progress.next_index
                if room <= 0 or progress.inflight_bytes >= config.inflight_bytes_max:
                    return
                end = min(durable_index, progress.next_index + room - 1) + 1
                if not self._send_append(peer, progress, end, now):
                    return
        elif progress.state is ProgressState.PROBE and not progress.is_paused:
            end = min(durable_index + 1, progress.next_index + self.config.inflight_entries_max)
            self._send_append(peer, progress, end, now)

    def _send_append(self, peer: int, progress: Progress, end: int, now: float) -> bool:
        """Send one append with entries of [next_index, end), maybe none; False if impossible."""
        log = self.log
        first = progress.next_index
        prev_term = log.term_at(first - 1)
        if prev_term is None:
            self._need_snapshot(peer, progress, now)
            return False
        entries = log.entries(first, end, self.config.append_bytes_max) if first < end else []
        if progress.state is ProgressState.PROBE:
            progress.is_paused = True
            self._begin_round(now)
            progress.probe_round = self._round
        elif entries:
            progress.on_sent(entries[-1][0], sum([len(payload) for _, _, payload in entries]))
        progress.commit_sent = max(
            progress.commit_sent, min(self.commit_index, first - 1 + len(entries))
        )
        self._last_activity_at = now
        self._outbox.append(
            AppendRequest(
                self.group_id,
                self.node_id,
                peer,
                self.term,
                first - 1,
                prev_term,
                self.commit_index,
                self._current_round(now),
                entries,
            )
        )
        return True

    def _need_snapshot(self, peer: int, progress: Progress, now: float) -> None:
        """Ask the driver for a raft snapshot, if the peer is there to take it (§7)."""
        if now - progress.heard_at < self.config.election_timeout_seconds_max:
            progress.become_snapshot()
            self._snapshot_peers.append(peer)
        else:
            progress.is_paused = True

    def _send_commit_index(self) -> None:
        """Tell the peers what was committed, unless an append that has just left did."""
        commit_index = self.commit_index
        for peer, progress in self.progress.items():
            if progress.commit_sent < min(commit_index, progress.match_index):
                self._send_heartbeat(peer, 0)

    # Answers

    def _on_append_response(self, response: AppendResponse, now: float) -> None:
        progress = self._on_answer(response.sender, response.round, now)
        if progress is None or response.round < progress.lost_round:
            return
        if response.is_matched:
            self._on_matched(response.sender, progress, response.index, now)
        else:
            self._on_refused(response, progress, now)

    def _on_answer(self, peer: int, answered_round: int, now: float) -> Progress | None:
        progress = self.progress.get(peer)
        if progress is None:
            return None  # Not of the group any more.
        progress.heard_at = now
        self._on_round_answered(peer, answered_round)
        return progress

    def _on_matched(self, peer: int, progress: Progress, index: int, now: float) -> None:
        """Count what a peer holds durably; send more."""
        assert index <= self.log.last_index(), f"node {peer} matched {index}, which is not there"
        probed_index = progress.next_index - 1
        is_news = progress.on_matched(index)
        match progress.state:
            case ProgressState.PROBE if index >= probed_index:
                progress.become_replicate()
            case ProgressState.SNAPSHOT if index + 1 >= self.log.first_index():
                progress.become_replicate()
        if is_news:
            self._last_activity_at = now
            if index > self.commit_index:
                self._maybe_commit(now)
            if self.role is not LEADER:
                return
            if peer == self.transferring_to:
                self._maybe_send_timeout_now()
        self._send_appends(peer, now)

    def _on_refused(self, response: AppendResponse, progress: Progress, now: float) -> None:
        """Go back to where the logs may match, a whole term at a time (§5.3)."""
        refused_index = response.index
        is_lost = False
        match progress.state:
            case ProgressState.SNAPSHOT:
                return
            case ProgressState.PROBE:
                if refused_index != progress.next_index - 1:
                    return  # Answers an older probe.
                is_lost = refused_index <= progress.match_index
                if is_lost and response.round < progress.probe_round:
                    return
            case ProgressState.REPLICATE if refused_index <= progress.match_index:
                # Overtaken by an acknowledgement, or the peer has lost its log: probe to know.
                progress.become_probe(progress.match_index + 1)
                self._send_appends(response.sender, now)
                return
        candidate = self._latest_possible_match(response)
        if is_lost:
            progress.on_lost_log(candidate + 1, self._round)
        else:
            progress.become_probe(max(candidate, progress.match_index) + 1)
        self._send_appends(response.sender, now)

    def _latest_possible_match(self, response: AppendResponse) -> int:
        """Return the highest index at which a peer that refused may match, by its hint."""
        index = min(response.hint_index, response.index - 1)
        return last_match_candidate(self.log, index, response.hint_term)[0]

    def _on_heartbeat_response(self, response: HeartbeatResponse, now: float) -> None:
        progress = self._on_answer(response.sender, response.round, now)
        if progress is None:
            return
        if progress.state is ProgressState.PROBE:
            # A heartbeat that left after the probe was answered, and the probe was not: it is lost.
            if response.round > progress.probe_round:
                # The peer knows how far the logs agree, perhaps beyond what is compacted here.
                matched_index = min(response.matched_index, self.log.durable_index())
                progress.become_probe(max(matched_index + 1, progress.next_index))
        elif progress.state is ProgressState.REPLICATE and (
            response.matched_index < progress.match_index
            or (
                response.round >= progress.checked_round
                and progress.match_index < progress.checked_index
            )
        ):
            # It has started anew and does not know what of its log is ours; or an append that left
            # before the heartbeat, or its acknowledgement, is lost.
            matched_index = min(response.matched_index, progress.next_index - 1)
            progress.become_probe(max(matched_index, progress.match_index) + 1)
        self._send_appends(response.sender, now)

    # Commit

    def _maybe_commit(self, now: float) -> None:
        """Commit what a quorum holds, if it is of this term (§5.4.2, figure 8)."""
        if self._is_only_voter:
            index = self.log.durable_index()
        else:
            held: list[float] = [
                self.log.durable_index()
                if node_id == self.node_id
                else self.progress[node_id].match_index
                for node_id in self._quorum_members()
            ]
            index = int(newest_reached_by_quorum(held, self._quorum))
        if index > self.commit_index and index >= self._term_start_index:
            self._commit_to(index)
            if self._reads:
                self._release_reads()
            if not self._is_voter and not self.conf_change_in_flight:
                self._leave(now)

    def _leave(self, now: float) -> None:
        """Step down after the entry that made this node no voter is committed (thesis §4.2.2).

        It did not count itself since that entry. The voter with the most is asked to campaign, so
        that the group does not wait for an election timeout.
        """
        voters = [peer for peer in self._quorum_members() if peer in self.progress]
        best = max(voters, key=lambda peer: (self.progress[peer].match_index, -peer))
        for peer in self.progress:
            self._send_heartbeat(peer, 0)
        if self.progress[best].match_index >= self.commit_index:
            self._give_lease_up()
            self._outbox.append(TimeoutNow(self.group_id, self.node_id, best, self.term))
        self._become_follower(NOBODY, now)

    # Transfer (thesis §3.10)

    def transfer_leadership(self, target: int, now: float) -> None:
        """Hand the group to a voter: bring it up to date, then have it campaign at once.

        Takes no proposals until then, or until the longest election timeout has passed. Does
        nothing when the target is no voter or has not been heard lately. After TimeoutNow was sent
        there is no lease in this term (PROTOCOL rule 35); if the target has not taken over by the
        deadline, this leader has itself elected again, for a term in which it may have one.
        """
        if self.role is not LEADER or self.transferring_to or target == self.node_id:
            return
        progress = self.progress.get(target)
        if progress is None or target not in self._quorum_members():
            return
        self.wake(now)
        if not self.has_answered(target):
            return  # That it lived is what the leader before this one knew.
        if now - progress.heard_at >= self.config.election_timeout_seconds_max:
            return
        self.transferring_to = target
        self._transfer_deadline = now + self.config.election_timeout_seconds_max
        self._maybe_send_timeout_now()

    def has_answered(self, peer: int) -> bool:
        """Tell whether a peer has acknowledged anything to this leader."""
        progress = self.progress.get(peer)
        return progress is not None and progress.match_index > 0

    def _maybe_send_timeout_now(self) -> None:
        """Send it once, when the target has everything."""
        target = self.transferring_to
        if self._timeout_now_is_sent:
            return
        if self.progress[target].match_index == self.log.last_index():
            self._timeout_now_is_sent = True
            self._give_lease_up()
            self._outbox.append(TimeoutNow(self.group_id, self.node_id, target, self.term))

    # Quiescence

    def _maybe_quiesce(self, now: float) -> None:
        """Fall silent when nothing has happened for long and nobody lacks anything."""
        if not self.progress:
            self.is_quiescent = True  # Nobody to beat for, no quorum to lose.
            return
        quiesce_after = self.config.quiesce_after_seconds
        last_index = self.commit_index
        if (
            quiesce_after <= 0
            or now - self._last_activity_at < quiesce_after
            or self.log.last_index() != last_index
            or self.applied_index != last_index
            or self._reads
            or self.transferring_to
            or any(
                progress.match_index != last_index or progress.state is not ProgressState.REPLICATE
                for progress in self.progress.values()
            )
        ):
            return
        self._begin_round(now)
        self._quiesce_round = self._round
        for peer in self.progress:
            self._send_heartbeat(peer, self._quiesce_round, is_quiesce=True)
        self.is_quiescent = True
