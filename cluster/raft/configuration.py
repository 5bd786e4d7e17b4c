"""Who belongs to a group: membership changes as pure functions, and their history in the log.

A change takes effect when it is appended, not when it is committed, and is taken back when its
entry is truncated (thesis §4.1). Because each step changes at most one voter, every majority of the
old configuration shares a node with every majority of the new one, so the two need no joint phase;
that only holds while the step before is committed, hence one at a time (``RaftCore`` sees to it).
"""

from collections.abc import Iterable

from cluster.errors import ConfChangeRefused
from cluster.raft.log import LogStore
from cluster.raft.message import ConfChange, Configuration, Entry, decode_conf_change

_SCAN_BYTES = 4 * 1024 * 1024


def apply_change(configuration: Configuration, change: ConfChange) -> Configuration:
    """Return the configuration after a change. Raises ConfChangeRefused with the reason."""
    node_id = change.node_id
    voters = set(configuration.voters)
    learners = set(configuration.learners)
    reason = _refusal(change, voters, learners)
    if reason:
        raise ConfChangeRefused(reason)
    voters.discard(node_id)
    learners.discard(node_id)
    if change.kind in ("promote", "add_voter"):
        voters.add(node_id)
    elif change.kind in ("add_learner", "demote"):
        learners.add(node_id)
    return Configuration(tuple(sorted(voters)), tuple(sorted(learners)))


def _refusal(change: ConfChange, voters: set[int], learners: set[int]) -> str:
    """Say why a change makes no sense; "" if it does."""
    node_id = change.node_id
    match change.kind:
        case "add_learner" if node_id in voters or node_id in learners:
            return f"node {node_id} is a member of the group already"
        case "add_voter" if node_id in voters:
            return f"node {node_id} is a voter of the group already"
        case "promote" if node_id not in learners:
            return f"node {node_id} is not a learner of the group"
        case "demote" if node_id not in voters:
            return f"node {node_id} is not a voter of the group"
        case "remove" if node_id not in voters and node_id not in learners:
            return f"node {node_id} is not a member of the group"
        case "demote" | "remove" if voters == {node_id}:
            return f"node {node_id} is the only voter of the group"
        case _:
            return "" if node_id > 0 else "node ids are above 0"


def quorum_size(voter_count: int) -> int:
    """Return how many voters make a majority."""
    return voter_count // 2 + 1


class ConfigurationHistory:
    """The configuration as of the applied index, and those of changes in the log above it."""

    def __init__(self, applied: Configuration) -> None:
        self.applied = applied
        self.changes: list[tuple[int, Configuration]] = []
        """(index, configuration from there on), ascending; at most a few."""

    @property
    def in_force(self) -> Configuration:
        """What counts now."""
        return self.changes[-1][1] if self.changes else self.applied

    @property
    def before_last_change(self) -> Configuration:
        """What counted before the newest change."""
        return self.changes[-2][1] if len(self.changes) > 1 else self.applied

    def since(self, index: int) -> list[Configuration]:
        """Return what counted at an index, at or above the applied one, and all that came later."""
        later = [configuration for at, configuration in self.changes if at > index]
        earlier = self.changes[: len(self.changes) - len(later)]
        return [earlier[-1][1] if earlier else self.applied, *later]

    @property
    def last_change_index(self) -> int:
        """Index of the newest change that is not applied; 0 if there is none."""
        return self.changes[-1][0] if self.changes else 0

    def scan(self, log: LogStore, applied_index: int) -> None:
        """Find the changes in the log above the applied index, at start."""
        index = applied_index + 1
        while index <= log.last_index():
            entries = log.entries(index, log.last_index() + 1, _SCAN_BYTES)
            self.append(entries)
            index = entries[-1][0] + 1

    def append(self, entries: Iterable[Entry]) -> bool:
        """Take the changes among entries that were appended; True if there were any."""
        count = len(self.changes)
        for index, _, payload in entries:
            change = decode_conf_change(payload)
            if change is not None:
                assert change.result is not None, f"entry {index} names no configuration"
                self.changes.append((index, change.result))
        return len(self.changes) > count

    def truncate(self, from_index: int) -> bool:
        """Take back the changes at and above an index; True if there were any."""
        count = len(self.changes)
        while self.changes and self.changes[-1][0] >= from_index:
            self.changes.pop()
        return len(self.changes) < count

    def apply(self, index: int) -> None:
        """Note that entries up to an index are applied."""
        while self.changes and self.changes[0][0] <= index:
            self.applied = self.changes.pop(0)[1]

    def reset(self, configuration: Configuration) -> None:
        """Take a raft snapshot's configuration; the log above it is gone."""
        self.applied = configuration
        self.changes.clear()
