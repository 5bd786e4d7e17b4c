"""Process ids that are unique in the cluster: whose session it is tells which node it is at.

The upper bits are the node's id less one, so a node by itself has the small numbers that people
expect. They stay positive in 32 bits, as clients and pg_stat_activity want them. Beyond 512 nodes
they would repeat: then a cancel request for one may reach another, which its key refuses.
"""

from collections.abc import Container
from typing import Final

NUMBER_BITS: Final = 22
NODES_MAX: Final = 1 << (31 - NUMBER_BITS)
FIRST_NUMBER: Final = 1000
"""Below it are none: nobody may take a process id for a small count."""


def node_of(process_id: int) -> int:
    """Return the id of the node that a session is at."""
    return (process_id >> NUMBER_BITS) + 1


class ProcessIds:
    """Numbers one node's sessions."""

    def __init__(self, node_id: int) -> None:
        self._base = ((node_id - 1) % NODES_MAX) << NUMBER_BITS
        self._next = FIRST_NUMBER

    def take(self, used: Container[int]) -> int:
        """Return a number that is not in use."""
        while True:
            process_id = self._base + self._next
            self._next += 1
            if self._next >> NUMBER_BITS:
                self._next = FIRST_NUMBER
            if process_id not in used:
                return process_id
