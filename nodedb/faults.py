"""Carries out what ``POST /debug/fault`` plants: in the transport, SWIM, the clock and the disk."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from cluster.transport.faults import DIRECTIONS, EVERY_PEER, FaultCommand, FaultPolicy
from nodedb.clock import FaultClock
from nodedb.http.faults import DelayedLink, Faults, LossyLink

if TYPE_CHECKING:
    from nodedb.clock import Clock
    from nodedb.kv.fault_log import FaultDirectory


class NodeFaults:
    """The faults of one node. Implements ``nodedb.http.faults.FaultController``."""

    def __init__(self, clock: Clock) -> None:
        self.policy = FaultPolicy(Random())
        self.directory: FaultDirectory | None = None
        self._clock = clock
        self._planted = Faults()

    def set_faults(self, faults: Faults) -> None:
        """Replace what was planted. Raises ValueError for what this node cannot do."""
        clock, directory = self._clock, self.directory
        if faults.clock_offset_ms and not isinstance(clock, FaultClock):
            raise ValueError("this node's clock cannot be set")
        if faults.disk_full and directory is None:
            raise ValueError("this node's disk cannot be filled")
        if isinstance(clock, FaultClock):
            clock.offset_us = faults.clock_offset_ms * 1000
        if directory is not None:
            directory.is_full = faults.disk_full
        commands = [FaultCommand("heal", EVERY_PEER, 0.0, DIRECTIONS)]
        for link in (*faults.cut, *faults.delay, *faults.drop):
            directions = DIRECTIONS if link.direction == "both" else (link.direction,)
            action, amount = "cut", 0.0
            if isinstance(link, DelayedLink):
                action, amount = "delay", link.seconds
            elif isinstance(link, LossyLink):
                action, amount = "drop", link.probability
            commands.append(FaultCommand(action, link.peer, amount, directions))
        self.policy.apply(commands)
        self._planted = faults

    def faults(self) -> Faults:
        """Return what is planted."""
        return self._planted
