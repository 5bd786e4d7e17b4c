"""A network that delays, loses, duplicates and reorders, is cut in one direction or both, clogs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.virtual_time import VirtualTime


class Network:
    """Carries bytes from node to node; ``receivers`` take (sender, kind, payload)."""

    def __init__(self, time: VirtualTime, random: Random) -> None:
        self._time = time
        self._random = random
        self.receivers: dict[int, Callable[[int, str, bytes], None]] = {}
        self.cut: set[tuple[int, int]] = set()
        """(from, to) that carry nothing."""
        self.clogged_until: dict[tuple[int, int], float] = {}
        self.loss = 0.0
        self.duplication = 0.0
        self.delay_max = 0.002
        self.sent_count = 0
        self.lost_count = 0

    def send(self, sender: int, recipient: int, kind: str, payload: bytes) -> None:
        self.sent_count += 1
        chance = self._random
        if (sender, recipient) in self.cut or chance.random() < self.loss:
            self.lost_count += 1
            return
        copies = 2 if chance.random() < self.duplication else 1
        for _ in range(copies):
            delay = chance.random() * self.delay_max + 0.0002
            clogged = self.clogged_until.get((sender, recipient), 0.0)
            if clogged > self._time.now:
                delay += clogged - self._time.now
            self._time.later(delay, lambda: self._deliver(sender, recipient, kind, payload))

    def _deliver(self, sender: int, recipient: int, kind: str, payload: bytes) -> None:
        receiver = self.receivers.get(recipient)
        if receiver is not None and (sender, recipient) not in self.cut:
            receiver(sender, kind, payload)

    def heal(self) -> None:
        """Carry everything, promptly."""
        self.cut.clear()
        self.clogged_until.clear()
        self.loss = self.duplication = 0.0
        self.delay_max = 0.002
