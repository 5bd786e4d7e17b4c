"""How far the start of a node has come, as ``/healthz`` shows it.

Phases follow each other; a phase is over when all gates that were added to it have fired. A phase
without gates is passed by. A gate of a later phase may fire early: it waits there until the phases
before it are over. Firing twice is harmless.
"""

from __future__ import annotations

from typing import Final

PHASES: Final = (
    "boot",
    "wal_recovery",
    "cluster_catalog_open",
    "raft_metadata_replay",
    "schema_cache_warmup",
    "catalog_sanity_check",
    "data_groups_replay",
    "transport_bind",
    "warm_peers",
    "health_loop_start",
    "gateway_enable",
)
LAST: Final = PHASES[-1]


class StartPhases:
    """The gates of one start. ``current`` may be read from another thread.

    The last phase has a gate of its own, ``gateway_enable``: ``finish`` fires it. Until then the
    node is starting, whatever else has fired.
    """

    def __init__(self) -> None:
        self._open: dict[str, dict[str, None]] = {phase: {} for phase in PHASES}
        self._open[LAST][LAST] = None
        self.current: str = PHASES[0]
        self.is_over = False
        self.error = ""
        self.add_gate(PHASES[0], PHASES[0])

    def add_gate(self, phase: str, gate: str) -> None:
        """Make a phase wait for one thing more. Gates are added before the phase is over."""
        assert PHASES.index(phase) >= PHASES.index(self.current), f"{phase} is over"
        self._open[phase][gate] = None

    def fire(self, phase: str, gate: str) -> None:
        """Say that the thing is done."""
        self._open[phase].pop(gate, None)
        while not self._open[self.current] and not self.is_over:
            following = PHASES.index(self.current) + 1
            if following == len(PHASES):
                self.is_over = True
            else:
                self.current = PHASES[following]

    def enter(self, phase: str) -> None:
        """Say that everything before a phase is done, and that it goes on until the next call."""
        self.add_gate(phase, phase)
        for earlier in PHASES[: PHASES.index(phase)]:
            self.fire(earlier, earlier)

    def finish(self) -> None:
        """Say that the node serves."""
        self.enter(LAST)
        self.fire(LAST, LAST)

    def fail(self, error: str) -> None:
        """Keep the reason why the start ended; the process is about to exit."""
        self.error = error
