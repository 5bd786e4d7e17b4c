"""Whom to probe next: a shuffled round robin.

Each candidate is probed exactly once before any is probed again, so the time until a failure is
noticed has a bound, and the order is shuffled anew each time around. Source: SWIM, section 4.3.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.ids import NodeId

if TYPE_CHECKING:
    from random import Random


class ProbeOrder:
    """The members that are still to be probed in this time around, last one first."""

    def __init__(self, random: "Random") -> None:
        self._random = random
        self._remaining: list[NodeId] = []

    def add(self, node_id: NodeId) -> None:
        """Take a new member in at a random place of this time around."""
        if node_id not in self._remaining:
            self._remaining.insert(self._random.randint(0, len(self._remaining)), node_id)

    def next_target(
        self, candidates: list[NodeId], is_candidate: Callable[[NodeId], bool]
    ) -> NodeId | None:
        """Return the next member to probe, or None if there is none.

        ``candidates`` in a fixed order, so that one seed gives one run.
        """
        for is_second_time in (False, True):
            if is_second_time:
                self._remaining = list(candidates)
                self._random.shuffle(self._remaining)
            while self._remaining:
                node_id = self._remaining.pop()
                if is_candidate(node_id):
                    return node_id
        return None
