"""Which part of the log a node keeps: what it has not applied for good, and what peers may ask for.

Forgetting is the engine's commits' affair (PROTOCOL rules 57, 61): nothing above the applied index
that no crash can undo is ever let go. Below it, a group with other replicas keeps its newest
``kept_entries`` for those that are a little behind, and what is *held* for a peer that is being
sent a snapshot; but a log longer than ``KEPT_LOG_BYTES_MAX`` is cut for nobody's sake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodedb.kv.replica import Replica
    from nodedb.storage.engine import Engine
    from nodedb.storage.wal import Wal

KEPT_ENTRIES: Final = 10_000
"""Applied entries that a replica keeps in the log for peers that are a little behind."""
KEPT_LOG_BYTES_MAX: Final = 512 * 1024 * 1024
"""A log on the disk beyond this is cut for nobody's sake: who needs more gets a snapshot."""


class LogRoom:
    """Decides what of the log may go."""

    def __init__(self, wal: Wal, engine: Engine) -> None:
        self._wal = wal
        self._engine = engine
        self.kept_entries = KEPT_ENTRIES
        self.kept_bytes_max = KEPT_LOG_BYTES_MAX
        self._held: list[tuple[int, int]] = []

    def hold(self, group_id: int, index: int) -> None:
        """Keep a group's log behind an index; holds are counted."""
        self._held.append((group_id, index))

    def release(self, group_id: int, index: int) -> None:
        """End a hold."""
        self._held.remove((group_id, index))

    def compact(self, replicas: Iterable[Replica]) -> None:
        """Forget applied entries, but not those that a peer will probably ask for."""
        is_long = self._wal.disk_bytes() > self.kept_bytes_max
        for replica in replicas:
            group_id, core = replica.group_id, replica.core
            upto = self._engine.recyclable_applied(group_id)
            configuration = core.configuration
            has_peers = len(configuration.voters) + len(configuration.learners) > 1
            if (has_peers or not core.is_leader) and not is_long:
                held = [index for group, index in self._held if group == group_id]
                upto = min([upto - self.kept_entries, *held])
            if upto > 0:
                self._wal.compact(group_id, upto)
