"""Where rows have gone whose key was changed, for statements that read them before.

A row is found by its key, so to the group an UPDATE of the key is a DELETE and an INSERT, and a
DELETE and an INSERT of one key by one transaction are an UPDATE. To PostgreSQL they are what the
client said: who waits for a row goes on with its newest version, whatever its key is by then, and a
new row under the old key is another row (PostgreSQL docs, "Read Committed Isolation Level"). What
the keys do not tell is remembered here, in memory: only statements that began before the commit
ask, and none of them outlives the process.

Limits: ``TRANSACTION_MOVES_MAX`` in one transaction, ``MOVES_MAX`` in all. What is beyond them is
forgotten, and then a moved row counts as deleted, a row inserted again as the old one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSACTION_MOVES_MAX: Final = 4096
MOVES_MAX: Final = 65536


class Move(NamedTuple):
    """A row left its key: for another one, or (None) for good, though the key has a row again.

    ``undo`` is the length of the transaction's undo list before: a rollback to there takes it back.
    """

    undo: int
    key: bytes
    new_key: bytes | None


class Moves:
    """The moves of committed transactions."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self._order: deque[tuple[int, bytes]] = deque()

    def record(self, moves: Sequence[Move], timestamp: int, oldest: int) -> None:
        """Take note of a transaction committed at ``timestamp``.

        What was committed up to ``oldest`` is forgotten: all who may ask began later.
        """
        self._forget(oldest)
        for key, new_key in _net(moves).items():
            self._by_key.setdefault(key, []).append((timestamp, new_key))
            self._order.append((timestamp, key))

    def follow(self, key: bytes, timestamp: int) -> bytes | None:
        """Return the key of the row that had this key at a timestamp; None: it is deleted."""
        current: bytes | None = key
        since = timestamp
        while current is not None and (known := self._by_key.get(current)) is not None:
            later = [move for move in known if move[0] > since]
            if not later:
                break
            since, current = later[0]
        return current

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._order)

    def _forget(self, oldest: int) -> None:
        order = self._order
        while order and (order[0][0] <= oldest or len(order) > MOVES_MAX):
            _, key = order.popleft()
            known = self._by_key[key]
            del known[0]
            if not known:
                del self._by_key[key]


def _net(moves: Sequence[Move]) -> dict[bytes, bytes | None]:
    """Return where each row ended that had its key before the transaction, if not there."""
    origins: dict[bytes, bytes] = {}
    ends: dict[bytes, bytes | None] = {}
    for _, key, new_key in moves:
        if key not in origins and key in ends:
            continue  # Its row has left before: this one was born in the transaction.
        origin = origins.pop(key, key)
        ends[origin] = new_key
        if new_key is not None:
            origins[new_key] = origin
    return {key: end for key, end in ends.items() if end != key}
