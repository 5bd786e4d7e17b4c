"""Who may still use an old version of a descriptor, and how long a DDL statement waits for them.

At most two versions of a descriptor are in use. A statement that takes one from version v to v+1
must not be published while somebody may still work with v-1, so it waits until every node that
holds an unexpired lease has applied the metadata entry that made v (``decide``). Leases are per
node, on the whole catalog: a node that has applied index i uses no descriptor older than i, and one
without a lease uses none at all.

Clocks: nobody's wall clock counts. The leader counts a lease from when it *heard* of the renewal,
on its own monotonic clock; the node counts from when it *sent* it, on its own, and stops
``DRIFT_MARGIN`` of the duration earlier. So the node's lease is over before the leader's, whatever
the clocks say, as long as their rates differ by less than the margin.

* A node that died blocks nobody longer than one duration (mistake M5): a lease that ran out is no
  lease.
* What was published without a node stays so: it gets no lease before it has applied as much as was
  waited for (``floor_index``), or a third version would be in use.
* A new leader has heard of no renewals and knows of no floor. From the moment it took over it
  assumes a full lease, and nothing applied, of every node that may hold one, and its own applied
  index for the floor (``take_over``).
* A node that was frozen finds its own lease expired when it thaws; what it sent in time is fenced
  by the data groups (PROTOCOL rule 52).

Not done here: sending renewals, waiting, giving up. A statement tries ``ATTEMPTS_MAX`` times,
``RETRY_DELAYS_SECONDS`` apart (together 750 ms), then it is a typed error for the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

DURATION_SECONDS: Final = 9.0
DRIFT_MARGIN: Final = 0.05
RENEWAL_FRACTION: Final = 1 / 3
"""A node renews when this part of the duration has passed: two renewals may get lost."""
RETRY_DELAYS_SECONDS: Final = (0.05, 0.1, 0.2, 0.4)
ATTEMPTS_MAX: Final = len(RETRY_DELAYS_SECONDS) + 1


class NodeLease(NamedTuple):
    """What the leader knows of a node: its lease ends at ``expires_at`` of the leader's clock."""

    node_id: int
    applied_index: int
    expires_at: float


class MayPublish(NamedTuple):
    """Nobody uses a version older than the newest one."""


class WaitFor(NamedTuple):
    """These nodes may still use an older version; at ``until`` the last of their leases ends."""

    nodes: tuple[int, ...]
    until: float


MAY_PUBLISH: Final = MayPublish()


def decide(
    observed: Iterable[NodeLease], last_change_index: int, now: float
) -> MayPublish | WaitFor:
    """Tell whether a descriptor last changed at an index may get its next version now.

    A lease counts while ``now`` is before its end, so that one which ends now blocks nobody.
    """
    behind = sorted(
        lease
        for lease in observed
        if lease.expires_at > now and lease.applied_index < last_change_index
    )
    if not behind:
        return MAY_PUBLISH
    return WaitFor(
        tuple(lease.node_id for lease in behind), max(lease.expires_at for lease in behind)
    )


class LeaseTable:
    """The leader's table of the nodes' leases; empty on every other node."""

    def __init__(self, duration_seconds: float = DURATION_SECONDS) -> None:
        assert duration_seconds > 0
        self.duration_seconds = duration_seconds
        self.floor_index = 0
        """A node that has not applied this entry gets no lease."""
        self._leases: dict[int, NodeLease] = {}

    def take_over(self, nodes: Iterable[int], applied_index: int, now: float) -> None:
        """Begin to lead: every node may have renewed with the predecessor a moment ago.

        ``applied_index`` is this node's own.
        """
        self.floor_index = applied_index
        self._leases = {
            node_id: NodeLease(node_id, 0, now + self.duration_seconds) for node_id in nodes
        }

    def step_down(self) -> None:
        """Stop leading: what this node knows is nobody's business any more."""
        self._leases.clear()

    def renew(self, node_id: int, applied_index: int, now: float) -> bool:
        """Hear of a renewal; False when the node must first apply up to ``floor_index``.

        A late one never shortens a lease, nor takes back what was applied.
        """
        if applied_index < self.floor_index:
            return False
        known = self._leases.get(node_id, NodeLease(node_id, 0, now))
        self._leases[node_id] = NodeLease(
            node_id,
            max(known.applied_index, applied_index),
            max(known.expires_at, now + self.duration_seconds),
        )
        return True

    def observe_applied(self, node_id: int, applied_index: int) -> None:
        """Learn how far a node has applied, without a renewal."""
        known = self._leases.get(node_id)
        if known is not None and applied_index > known.applied_index:
            self._leases[node_id] = known._replace(applied_index=applied_index)

    def release(self, node_id: int) -> None:
        """Hear that a node uses no descriptors from now on (it drains, or has left)."""
        self._leases.pop(node_id, None)

    def decide(self, last_change_index: int, now: float) -> MayPublish | WaitFor:
        """Tell whether a descriptor last changed at an index may get its next version now.

        If so, whoever has not applied that entry gets no lease any more until it has.
        """
        decision = decide(self._leases.values(), last_change_index, now)
        if isinstance(decision, MayPublish):
            self.floor_index = max(self.floor_index, last_change_index)
        return decision

    def leases(self) -> list[NodeLease]:
        """Return all leases by node, expired ones included."""
        return sorted(self._leases.values())


class HeldLease:
    """A node's side: whether it may use its descriptors, on its own monotonic clock."""

    def __init__(self, duration_seconds: float = DURATION_SECONDS) -> None:
        self._usable_seconds = duration_seconds * (1 - DRIFT_MARGIN)
        self._renewal_seconds = duration_seconds * RENEWAL_FRACTION
        self._sent_at: float | None = None
        self.expires_at = float("-inf")

    def is_due(self, now: float) -> bool:
        """Tell whether to send a renewal."""
        return self._sent_at is None or now - self._sent_at >= self._renewal_seconds

    def on_sent(self, now: float) -> None:
        """Note that a renewal leaves now."""
        self._sent_at = now

    def on_confirmed(self, sent_at: float) -> None:
        """Learn that the leader has heard the renewal that was sent then."""
        self.expires_at = max(self.expires_at, sent_at + self._usable_seconds)

    def may_use(self, now: float) -> bool:
        """Tell whether this node may plan with its descriptors."""
        return now < self.expires_at

    def on_released(self) -> None:
        """Give the lease up: nothing is planned from now on."""
        self.expires_at = float("-inf")
