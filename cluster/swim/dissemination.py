"""Updates on their way through the cluster, one per member, sent along with other messages.

An update is sent ``ceil(fanout_lambda * log2(n + 1))`` times, least-sent first, and then dropped:
by then everybody has it with high probability. Source: SWIM, section 4.1.
"""

from heapq import nsmallest

from cluster.swim.config import SwimSettings
from cluster.swim.message import (
    PIGGYBACK_BYTES_MAX,
    UPDATE_OVERHEAD_BYTES,
    MemberUpdate,
)


class Dissemination:
    """The queue. Invariant: at most one update per member, the newest that was enqueued."""

    def __init__(self, settings: SwimSettings) -> None:
        self._settings = settings
        self._updates: dict[int, MemberUpdate] = {}
        self._sent_counts: dict[int, int] = {}

    def __len__(self) -> int:
        """Return how many members have an update in the queue."""
        return len(self._updates)

    def enqueue(self, update: MemberUpdate) -> None:
        """Send this update from now on instead of an earlier one about the same member."""
        self._updates[update.node_id] = update
        self._sent_counts[update.node_id] = 0

    def discard(self, node_id: int) -> None:
        """Send nothing about a member any more."""
        self._updates.pop(node_id, None)
        self._sent_counts.pop(node_id, None)

    def take(
        self,
        member_count: int,
        first: tuple[MemberUpdate, ...] = (),
        *,
        is_counted: bool = True,
    ) -> tuple[MemberUpdate, ...]:
        """Return the updates for one message and count them as sent.

        Not counted where the message is likely to reach nobody: a dead member, which is pinged
        often, would use up what is meant for the others.

        At most ``piggyback_max``: those in ``first``, which the recipient must hear whatever the
        queue holds, then the least-sent ones (on a tie by node id). A datagram that would grow
        above one frame carries fewer.
        """
        if not first and not self._updates:
            return ()
        limit = self._settings.piggyback_max
        chosen = list(first[:limit])
        node_ids = {update.node_id for update in chosen}
        others = (node_id for node_id in self._updates if node_id not in node_ids)
        least_sent = nsmallest(
            limit - len(chosen), others, key=lambda node_id: (self._sent_counts[node_id], node_id)
        )
        chosen += [self._updates[node_id] for node_id in least_sent]
        taken = fitting(chosen)
        for update in taken if is_counted else ():
            self._count(update, self._settings.sends_max(member_count))
        return taken

    def _count(self, update: MemberUpdate, sends_max: int) -> None:
        if self._updates.get(update.node_id) != update:
            return  # one of ``first`` that is not in the queue, or not in this form
        self._sent_counts[update.node_id] += 1
        if self._sent_counts[update.node_id] >= sends_max:
            self.discard(update.node_id)


def fitting(updates: list[MemberUpdate]) -> tuple[MemberUpdate, ...]:
    """Return as many of the updates, from the first on, as one datagram may carry."""
    left = PIGGYBACK_BYTES_MAX
    for count, update in enumerate(updates):
        left -= len(update.address.encode()) + UPDATE_OVERHEAD_BYTES
        if left < 0:
            return tuple(updates[:count])
    return tuple(updates)
