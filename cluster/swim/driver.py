"""Carries the failure detector's datagrams over UDP, on the port that RPC has on TCP.

Left to the core: every decision. Left to the node: the address it advertises, the boot number (any
number that grows with the starts of the node; see ``member``), the secret, and what to do with
the news.

Names in addresses are looked up in the background and again every RESOLVED_SECONDS, so that a
container that comes back under another address is found. A datagram for a name that is being
looked up waits; at most NAMES_MAX names, PENDING_MAX datagrams each.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import Final

from cluster.ids import NodeId
from cluster.swim.address import format_address, is_number, parse_address
from cluster.swim.config import SwimSettings
from cluster.swim.core import Outgoing, SwimCore
from cluster.swim.counters import SwimCounters
from cluster.swim.datagrams import Datagrams, Received
from cluster.swim.member import Member, MemberState
from cluster.transport.faults import FaultPolicy

Subscriber = Callable[[NodeId, MemberState | None, MemberState], None]
SocketAddress = tuple[str, int]

RESOLVED_SECONDS: Final = 30.0
NAMES_MAX: Final = 1024
PENDING_MAX: Final = 8
LEAVE_ATTEMPTS: Final = 5
LEAVE_ATTEMPT_SECONDS: Final = 0.1


class SwimDriver(asyncio.DatagramProtocol):
    """One node's failure detector. Use it in one event loop only.

    ``clock`` gives seconds of a monotonic clock; it should go on while the machine sleeps.
    ``faults`` is asked about every datagram, by the other node's advertised address.
    """

    def __init__(
        self,
        settings: SwimSettings,
        local: Member,
        secret: bytes,
        cluster_id: str,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        faults: FaultPolicy | None = None,
    ) -> None:
        """Make a detector that ``start`` brings to life.

        Raises InvalidSwimSetting, and ValueError where ``local.address`` is no address.
        """
        self._clock = clock
        self._faults = faults
        self._core = SwimCore(
            settings=settings, local=local, random=random or Random(), now=clock()
        )
        self._datagrams = Datagrams(
            secret=secret,
            cluster_id=cluster_id,
            node_id=local.node_id,
            counters=self._core.counters,
        )
        self._subscribers: list[Subscriber] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._names: _Names | None = None
        self._is_ipv6 = False
        self._closed = asyncio.Event()
        self._leave_known = asyncio.Event()

    # State

    @property
    def local(self) -> Member:
        """This node's own record; its boot may have grown above the one that was given."""
        return self._core.local

    @property
    def counters(self) -> SwimCounters:
        """What has happened since the start, for metrics."""
        return self._core.counters

    @property
    def awareness_score(self) -> int:
        """Lifeguard's local health: 0 is well."""
        return self._core.awareness.score

    @property
    def conflicting_addresses(self) -> list[str]:
        """Addresses that use this node's id as well; an operator has to end that."""
        return list(self._core.table.conflicts)

    def members(self) -> list[Member]:
        """Return all known members, this node included, in the order of their ids."""
        return self._core.members()

    def member(self, node_id: NodeId) -> Member | None:
        """Return one member; None if it is unknown."""
        return self._core.member(node_id)

    def unknown_seeds(self) -> list[str]:
        """Return the addresses at which nobody has answered yet."""
        return self._core.unknown_seeds()

    # Life

    async def start(self, host: str, port: int) -> int:
        """Bind, begin to probe, and return the port. Raises OSError where that cannot be had."""
        assert self._transport is None, "started twice"
        self._loop = asyncio.get_running_loop()
        transport, _ = await self._loop.create_datagram_endpoint(
            lambda: self, local_addr=(host, port)
        )
        self._transport = transport
        bound = transport.get_extra_info("socket")
        self._is_ipv6 = bound.family == socket.AF_INET6
        self._names = _Names(self._loop, self._clock, bound.family, self._send_bytes)
        self._core.restart_timers(self._clock())
        self._settle()
        return int(transport.get_extra_info("sockname")[1])

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call ``subscriber(node_id, old, new)`` on every change of a member's state.

        ``old`` is None for a member that was unknown. It is called from the event loop, after the
        change has been stored and queued for the others, in the order of the changes; what it
        raises goes to the loop's exception handler.
        """
        self._subscribers.append(subscriber)

    def join_addresses(self, addresses: Iterable[str]) -> None:
        """Look for members at these addresses until somebody answers there.

        Raises ValueError for text that is no address; nothing is joined then.
        """
        self._core.join_addresses(addresses, self._clock())
        self._settle()

    def forget(self, node_id: NodeId) -> None:
        """Drop a member that has been removed from the cluster for good."""
        self._core.forget(node_id, self._clock())
        self._settle()

    async def leave(self) -> None:
        """Announce that this node leaves in order; call ``close`` afterwards.

        Returns when those who were told have acknowledged it, or after half a second.
        """
        for _ in range(LEAVE_ATTEMPTS):
            self._core.leave(self._clock())
            self._settle()
            try:
                await asyncio.wait_for(self._leave_known.wait(), LEAVE_ATTEMPT_SECONDS)
            except TimeoutError:
                continue
            return

    async def close(self) -> None:
        """Stop at once, announcing nothing. Harmless when repeated, or before ``start``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is None or self._names is None:
            return
        self._names.close()
        self._transport.close()
        await self._closed.wait()

    # asyncio's side

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        """Take a datagram."""
        received = self._datagrams.decode(data)
        if received is None:
            return
        source = _source_text(addr)
        delay = self._fault_delay(self._address_of(received, source), "in")
        if delay is None:
            return
        assert self._loop is not None
        if delay > 0:
            self._loop.call_later(delay, self._deliver, received, source)
        else:
            self._deliver(received, source)

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002
        """Count a datagram that the kernel refused; probes notice what matters."""
        self._core.counters.send_errors += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note that the socket is closed."""
        self._closed.set()

    # Between both

    def _deliver(self, received: Received, source: str) -> None:
        now = self._clock()
        if received.is_stale:
            self._core.on_stale_message(
                received.message, known_boot=received.known_boot, source=source, now=now
            )
        else:
            self._core.on_message(received.message, source, now)
        self._settle()

    def _on_timer(self) -> None:
        self._timer = None
        self._core.tick(self._clock())
        self._settle()

    def _settle(self) -> None:
        """Carry out what the core wants, and set the timer to when it wants to be called."""
        if self._transport is None or self._loop is None or self._transport.is_closing():
            return
        ready = self._core.ready()
        for change in ready.changes:
            for subscriber in self._subscribers:
                self._loop.call_soon(subscriber, *change)
        for outgoing in ready.outgoing:
            self._send(outgoing)
        if self._core.local.state is MemberState.LEFT and self._core.is_leave_known:
            self._leave_known.set()
        wakeup = self._core.next_wakeup
        if self._timer is not None and wakeup != self._timer_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and wakeup < float("inf"):
            self._timer_at = wakeup
            self._timer = self._loop.call_later(max(0.0, wakeup - self._clock()), self._on_timer)

    def _send(self, outgoing: Outgoing) -> None:
        assert self._names is not None
        assert self._loop is not None
        datagram = self._datagrams.encode(
            outgoing.message, recipient=outgoing.recipient, boot=self._core.local.boot
        )
        recipient = self._core.member(outgoing.recipient)
        address = recipient.address if recipient else outgoing.destination
        delay = self._fault_delay(address, "out")
        if delay is None:
            return
        host, port = parse_address(outgoing.destination)
        if delay > 0:
            self._loop.call_later(delay, self._names.send, datagram, host, port)
        else:
            self._names.send(datagram, host, port)

    def _send_bytes(self, datagram: bytes, address: SocketAddress) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        host, port = address
        if self._is_ipv6 and ":" not in host:
            host = f"::ffff:{host}"
        try:
            self._transport.sendto(datagram, (host, port))
        except (OSError, ValueError):
            # An address of a family that the socket does not have; the probe will fail.
            self._core.counters.send_errors += 1

    def _address_of(self, received: Received, source: str) -> str:
        member = self._core.member(NodeId(received.message.sender.node_id))
        return member.address if member else source

    def _fault_delay(self, address: str, direction: str) -> float | None:
        """Return the delay of a datagram, or None if it is to be lost."""
        if self._faults is None or not self._faults.is_active:
            return 0.0
        fault = self._faults.of(address, direction)
        if self._faults.loses(fault, is_droppable=True):
            self._core.counters.faults_dropped += 1
            return None
        return fault.delay_seconds


class _Names:
    """Names to addresses, in the background; bounded."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        family: int,
        send: Callable[[bytes, SocketAddress], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._family = family
        self._send = send
        self._hosts: dict[str, str] = {}
        self._fresh_until: dict[str, float] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[str, list[tuple[bytes, int]]] = {}

    def send(self, datagram: bytes, host: str, port: int) -> None:
        """Send now to a number or a known name; after the look-up to an unknown name."""
        if is_number(host):
            self._send(datagram, (host, port))
            return
        is_fresh = self._clock() < self._fresh_until.get(host, float("-inf"))
        if not is_fresh and host not in self._lookups and len(self._lookups) < NAMES_MAX:
            self._lookups[host] = self._loop.create_task(self._look_up(host))
        known = self._hosts.get(host)
        if known is not None:
            self._send(datagram, (known, port))
        elif host in self._lookups:
            waiting = self._pending.setdefault(host, [])
            if len(waiting) < PENDING_MAX:
                waiting.append((datagram, port))

    async def _look_up(self, host: str) -> None:
        try:
            found = await self._loop.getaddrinfo(host, None, family=self._family)
        except (OSError, UnicodeError):
            found = []  # it may come to exist: the next datagram asks again
        finally:
            self._lookups.pop(host, None)
            waiting = self._pending.pop(host, [])
        if len(self._fresh_until) >= NAMES_MAX:
            self._fresh_until.clear()
            self._hosts.clear()
        if found:
            self._hosts[host] = str(found[0][4][0])
            self._fresh_until[host] = self._clock() + RESOLVED_SECONDS
        for datagram, port in waiting:
            if host in self._hosts:
                self._send(datagram, (self._hosts[host], port))

    def close(self) -> None:
        """Give up what is being looked up."""
        for lookup in self._lookups.values():
            lookup.cancel()
        self._lookups.clear()
        self._pending.clear()


def _source_text(address: tuple[object, ...]) -> str:
    """Return where a datagram came from; IPv4 as such also on a socket of both families."""
    host, port = str(address[0]), int(str(address[1]))
    parsed: IPv4Address | IPv6Address = ip_address(host)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        host = str(parsed.ipv4_mapped)
    return format_address(host, port)
