"""The properties of Raft paper, figure 3, watched from outside over a whole history.

Feed every store's appends and every core after each event; a violation raises ``Violation``.
"""

from collections.abc import Iterable
from typing import Protocol

from cluster.raft.core import RaftCore
from cluster.raft.message import Entry


class Violation(AssertionError):
    """A property of figure 3 does not hold."""


class LogView(Protocol):
    def term_at(self, index: int) -> int | None: ...
    def first_index(self) -> int: ...
    def last_index(self) -> int: ...


class History:
    """What has ever been seen of one group."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        """By term."""
        self.entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        """(index, term) -> (term of the entry before, payload)."""
        self.committed: dict[int, int] = {}
        """index -> term."""
        self.applied: dict[int, tuple[int, bytes]] = {}
        self.votes: dict[tuple[int, int], int] = {}
        """(term, voter) -> candidate, of votes that left."""
        self._commit_seen: dict[int, int] = {}

    def on_append(self, node_id: int, log: LogView, entries: Iterable[Entry]) -> None:
        """Log matching: an index and term names one entry, and one log before it."""
        for index, term, payload in entries:
            before = log.term_at(index - 1)
            known = self.entries.setdefault((index, term), (before or 0, payload))
            if known != (before, payload):
                raise Violation(
                    f"log matching: node {node_id} has {(before, payload)} at {index}@{term}, "
                    f"elsewhere it is {known}"
                )

    def on_vote(self, term: int, voter: int, candidate: int) -> None:
        """One vote per term."""
        known = self.votes.setdefault((term, voter), candidate)
        if known != candidate:
            raise Violation(f"node {voter} voted for {known} and {candidate} in term {term}")

    def on_restart(self, node_id: int) -> None:
        self._commit_seen.pop(node_id, None)

    def on_core(self, core: RaftCore) -> None:
        """Election safety, leader completeness, and one history of commits."""
        if core.is_leader:
            known = self.leaders.get(core.term)
            if known is None:
                self.leaders[core.term] = core.node_id
                self._check_completeness(core)
            elif known != core.node_id:
                raise Violation(
                    f"election safety: nodes {known} and {core.node_id} lead term {core.term}"
                )
        seen = self._commit_seen.get(core.node_id, 0)
        for index in range(max(seen + 1, core.log.first_index()), core.commit_index + 1):
            term = core.log.term_at(index)
            assert term is not None
            if self.committed.setdefault(index, term) != term:
                raise Violation(
                    f"node {core.node_id} committed {index}@{term}, "
                    f"elsewhere it is @{self.committed[index]}"
                )
        self._commit_seen[core.node_id] = max(seen, core.commit_index)

    def _check_completeness(self, core: RaftCore) -> None:
        """A leader's log has, when its term begins, every entry that was committed before."""
        for index, committed_term in self.committed.items():
            term = core.log.term_at(index)
            if index >= core.log.first_index() and term != committed_term:
                raise Violation(
                    f"leader completeness: node {core.node_id}, leader of term {core.term}, has "
                    f"{term} at {index}, which was committed with term {committed_term}"
                )

    def on_apply(self, node_id: int, entry: Entry) -> None:
        """State machine safety."""
        index, term, payload = entry
        known = self.applied.setdefault(index, (term, payload))
        if known != (term, payload):
            raise Violation(f"node {node_id} applied {entry}, elsewhere it was {known}")


def check_leases(cores: Iterable[RaftCore], now: float) -> None:
    """Whoever may serve is the only one, and nobody leads a later term."""
    cores = list(cores)
    serving = [core for core in cores if core.may_serve(now)]
    if len(serving) > 1:
        raise Violation(f"nodes {[core.node_id for core in serving]} may serve at once")
    for core in serving:
        newer = [other.node_id for other in cores if other.is_leader and other.term > core.term]
        if newer:
            raise Violation(f"node {core.node_id} may serve while {newer} lead a later term")
