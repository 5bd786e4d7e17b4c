"""Carries the fault hook's faults out: transport, SWIM datagrams, clock, disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.transport.faults import DIRECTIONS, EVERY_PEER, FaultCommand
from nodedb.http.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.transport.faults import FaultPolicy
    from nodedb.http.faults import Link

_HEAL: Final = FaultCommand("heal", EVERY_PEER, 0.0, DIRECTIONS)


class PlantedFaults:
    """The controller of a node (``FaultController``).

    ``set_clock_offset_ms`` and ``set_disk_full`` are the clock's and the log's ends; without one of
    them that fault is refused.
    """

    def __init__(
        self,
        transport: FaultPolicy,
        *,
        set_clock_offset_ms: Callable[[int], None] | None = None,
        set_disk_full: Callable[[bool], None] | None = None,
    ) -> None:
        self._transport = transport
        self._set_clock_offset_ms = set_clock_offset_ms
        self._set_disk_full = set_disk_full
        self._planted = Faults()

    def set_faults(self, faults: Faults) -> None:
        """Replace what was planted, all of it or nothing. Raises ValueError."""
        if faults.clock_offset_ms and self._set_clock_offset_ms is None:
            raise ValueError("this node's clock cannot be moved")
        if faults.disk_full and self._set_disk_full is None:
            raise ValueError("this node's disk cannot be filled")
        self._transport.apply([_HEAL, *commands_of(faults)])
        if self._set_clock_offset_ms is not None:
            self._set_clock_offset_ms(faults.clock_offset_ms)
        if self._set_disk_full is not None:
            self._set_disk_full(faults.disk_full)
        self._planted = faults

    def faults(self) -> Faults:
        """Return what is planted."""
        return self._planted


def commands_of(faults: Faults) -> list[FaultCommand]:
    """Return the transport's commands. Raises ValueError for a peer that is no address."""
    commands = [FaultCommand("cut", link.peer, 0.0, _directions(link)) for link in faults.cut]
    commands += [
        FaultCommand("delay", link.peer, link.seconds, _directions(link)) for link in faults.delay
    ]
    commands += [
        FaultCommand("drop", link.peer, link.probability, _directions(link)) for link in faults.drop
    ]
    for command in commands:
        if command.peer != EVERY_PEER and ":" not in command.peer:
            raise ValueError(f"peer must be HOST:PORT or *, not {command.peer!r}")
    return commands


def _directions(link: Link) -> tuple[str, ...]:
    return DIRECTIONS if link.direction == "both" else (link.direction,)


class DatagramFaults:
    """The same faults for SWIM's datagrams (``cluster.swim.faults.FaultPolicy``)."""

    def __init__(self, policy: FaultPolicy) -> None:
        self._policy = policy

    def outgoing(self, address: str) -> float | None:
        """Return the seconds of delay of a datagram to a peer, None if it is lost."""
        return self._decide(address, "out")

    def incoming(self, address: str) -> float | None:
        """Return the seconds of delay of a datagram from a peer, None if it is lost."""
        return self._decide(address, "in")

    def _decide(self, address: str, direction: str) -> float | None:
        fault = self._policy.of(address, direction)
        return None if self._policy.loses(fault, is_droppable=True) else fault.delay_seconds
