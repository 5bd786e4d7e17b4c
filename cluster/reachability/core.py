"""Which open breakers are tried when: a pure core.

A breaker lets a trial call through once its cool-down is over, but only when somebody calls. A peer
that nobody needs for a while would stay cut off; so every interval all peers whose breaker is not
closed are probed, up to a cap. That includes half-open ones: with an interval above the cool-down
that is what an open breaker has become by the time of the tick. Where there are more than the cap,
those that have waited longest come first, so that dead peers do not keep living ones from their
turn.

Left to others: the breaker itself (``cluster.transport``), and what a probe is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.reachability.config import ReachabilitySettings

CLOSED: Final = "closed"


class CircuitState(Protocol):
    """What is needed of a peer's health; ``cluster.transport.api.PeerHealth`` has it."""

    @property
    def address(self) -> str:
        """Return the peer's advertised address."""

    @property
    def circuit(self) -> str:
        """Return "closed", "OPEN" or "half-open"."""


@dataclass(slots=True)
class ReachabilityCounters:
    """Counts since the start: ``ticks``, ``probes`` begun, ``answered``, ``failed``, ``deferred``.

    ``deferred``: peers with an open breaker for which a tick had no room.
    """

    ticks: int = 0
    probes: int = 0
    answered: int = 0
    failed: int = 0
    deferred: int = 0


class ReachabilityCore:
    """Chooses the peers. Invariant: a peer is never probed twice at the same time."""

    def __init__(self, settings: ReachabilitySettings, now: float) -> None:
        """Begin; the first probes come one interval after ``now``."""
        settings.validate()
        self.counters = ReachabilityCounters()
        self.next_tick_at = now + settings.interval_seconds
        self._settings = settings
        self._tick_count = 0
        self._probed_at_tick: dict[str, int] = {}
        self._in_flight: set[str] = set()

    def tick(self, peers: Iterable[CircuitState], now: float) -> list[str]:
        """Return the addresses to probe now, all at once; none before ``next_tick_at``.

        Ticks that were missed are not made up for.
        """
        if now < self.next_tick_at:
            return []
        self.next_tick_at = now + self._settings.interval_seconds
        self._tick_count += 1
        self.counters.ticks += 1
        is_open = {peer.address for peer in peers if peer.circuit != CLOSED}
        self._probed_at_tick = {
            address: tick for address, tick in self._probed_at_tick.items() if address in is_open
        }
        waiting = sorted(
            is_open - self._in_flight,
            key=lambda address: (self._probed_at_tick.get(address, 0), address),
        )
        room = max(0, self._settings.peers_per_tick_max - len(self._in_flight))
        chosen = waiting[:room]
        self.counters.deferred += len(waiting) - len(chosen)
        for address in chosen:
            self._probed_at_tick[address] = self._tick_count
            self._in_flight.add(address)
            self.counters.probes += 1
        return chosen

    def on_result(self, address: str, *, is_answered: bool) -> None:
        """Take the end of a probe. What it means for the breaker, the breaker has seen itself."""
        self._in_flight.discard(address)
        if is_answered:
            self.counters.answered += 1
        else:
            self.counters.failed += 1
