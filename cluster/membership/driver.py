"""Carries a node's start and its health monitor out: calls, timers, DNS. Decides nothing.

``MembershipDriver`` answers greetings as long as the process lives, so it is made as soon as the
transport listens. ``start`` ends with a membership that is on disk, or raises StartFailed.
``serve`` follows when the node can answer joins: from then on it presents itself as a member and
tells the seeds so.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from cluster.membership.catalog import (
    Identity,
    Routing,
    Topology,
    founding_records,
    membership_of_response,
    record_membership,
)
from cluster.membership.config import HealthSettings, StartSettings
from cluster.membership.core import (
    Found,
    GiveUp,
    Join,
    Restart,
    SendGreet,
    SendJoin,
    StartCore,
    Started,
    StartFailed,
)
from cluster.membership.greeting import Announcement, Greeter, LocalNode
from cluster.membership.health import HealthMonitor, SendPing, SendTopology
from cluster.membership.message import (
    STATE_CODES,
    Greet,
    GreetReply,
    JoinRequest,
    JoinResponse,
    MalformedMessage,
    MemberNode,
    Ping,
    Pong,
    TopologyPush,
    decode_message,
    encode_message,
)
from cluster.membership.seeds import SeedList, SrvRecord
from cluster.transport.api import RemoteError, TransportError
from cluster.transport.methods import GREET, JOIN, PING, TOPOLOGY_PUSH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from cluster.membership.catalog import MembershipCatalog
    from cluster.membership.seeds import SeedSettings
    from cluster.transport.api import Peer, Transport

    JoinHandler = Callable[[Peer, JoinRequest], Awaitable[JoinResponse]]

_LOOKUP_SECONDS_MAX: Final = 3.0


class LookupFailed(Exception):
    """DNS gave no answer; the text says why."""


class Resolver(Protocol):
    """Looks SRV names up."""

    async def lookup(self, name: str) -> list[SrvRecord]:
        """Return the records. Raises LookupFailed within a few seconds."""


class DnsResolver:
    """SRV over the machine's name servers, or over given ones."""

    def __init__(self, nameservers: Sequence[str] | None = None, port: int = 53) -> None:
        self._nameservers = nameservers
        self._port = port

    async def lookup(self, name: str) -> list[SrvRecord]:
        """Return the records. Raises LookupFailed."""
        import dns.asyncresolver  # noqa: PLC0415  not needed by the nodes that list addresses
        import dns.exception  # noqa: PLC0415

        try:
            given = self._nameservers
            resolver = dns.asyncresolver.Resolver(configure=given is None)
            if given is not None:
                resolver.nameservers = list(given)
                resolver.port = self._port
            answer = await resolver.resolve(name, "SRV", lifetime=_LOOKUP_SECONDS_MAX)
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(str(error) or type(error).__name__) from error
        return [SrvRecord(record.target.to_text(), record.port) for record in answer]


class MembershipDriver:
    """One node's way into its cluster."""

    def __init__(
        self,
        *,
        transport: Transport,
        catalog: MembershipCatalog,
        local: LocalNode,
        request: JoinRequest,
        seeds: SeedSettings,
        new_cluster_id: str,
        group_ids: tuple[int, ...],
        clock: Callable[[], float],
        settings: StartSettings | None = None,
        resolver: Resolver | None = None,
        on_phase: Callable[[str, str], None] | None = None,
    ) -> None:
        """Begin to answer greetings.

        ``request`` is what a leader is sent, without cluster id. Without any seed the node founds
        a cluster by itself. ``group_ids`` are those that a founder makes, the metadata group first.
        ``on_phase`` hears the labels of the life cycle: restarting, bootstrapping, joining, ready,
        failed, each with a detail.
        """
        self._transport = transport
        self._catalog = catalog
        self._local = local
        self._request = request
        self._group_ids = group_ids
        self._clock = clock
        self._settings = settings or StartSettings()
        self._resolver = resolver or DnsResolver()
        self._on_phase = on_phase or (lambda _label, _detail: None)
        self._wake = asyncio.Event()
        self._announcing: asyncio.Task[None] | None = None
        self._answer_join: JoinHandler | None = None
        self._looked_up_at: float | None = None
        self.seeds = SeedList(seeds)
        self.greeter = Greeter(local, None)
        self._core = StartCore(
            settings=self._settings,
            local=local,
            greeter=self.greeter,
            request=request,
            saved=catalog.load(),
            new_cluster_id=new_cluster_id,
            is_clustered=bool(seeds.addresses or seeds.srv_names),
            now=clock(),
        )
        if isinstance(self._core.decision, Restart):
            self.greeter.become_member(self._core.decision.identity)
        self._on_seeds()
        transport.on_call(GREET, self._on_greet)
        transport.on_call(JOIN, self._on_join)

    # Start

    async def start(self) -> Started:
        """Find the membership and make it durable. Raises StartFailed, and the catalog's errors."""
        core = self._core
        async with asyncio.TaskGroup() as group:
            calls: list[asyncio.Task[None]] = []
            while core.decision is None:
                self._wake.clear()
                if self._is_due():
                    await self._look_up()
                    self._on_phase("joining", f"attempt {core.attempt + 1}")
                    core.on_timer(self._clock())
                effects = core.effects()
                calls.extend(group.create_task(self._carry_out(effect)) for effect in effects)
                if core.decision is None:
                    await self._pause(core.due_at)
            for call in calls:
                call.cancel()
        return self._conclude()

    def _is_due(self) -> bool:
        due_at = self._core.due_at
        return due_at is not None and self._clock() >= due_at

    async def _pause(self, until: float | None) -> None:
        """Sleep until something happens, or until a time."""
        await _wait(self._wake, None if until is None else until - self._clock())

    async def _carry_out(self, effect: SendGreet | SendJoin) -> None:
        match effect:
            case SendGreet():
                await self._greet(effect)
            case SendJoin():
                await self._join(effect)
        self._wake.set()

    async def _greet(self, effect: SendGreet) -> None:
        seed, timeout = effect.seed, self._settings.greet_timeout_seconds
        try:
            payload = await self._transport.call(seed, GREET, encode_message(effect.greet), timeout)
            reply = decode_message(payload, GreetReply)
        except (TransportError, MalformedMessage) as error:
            self._core.on_greet_failed(seed, _text_of(error), self._clock())
        else:
            self._core.on_greet_reply(seed, reply, self._clock())

    async def _join(self, effect: SendJoin) -> None:
        address, timeout = effect.address, effect.timeout_seconds
        payload = encode_message(effect.request)
        try:
            answer = await self._transport.call(address, JOIN, payload, timeout)
            response = decode_message(answer, JoinResponse)
        except (TransportError, MalformedMessage) as error:
            self._core.on_join_failed(address, _text_of(error), self._clock())
        else:
            self._core.on_join_response(address, response, self._clock())

    async def _look_up(self) -> None:
        """Ask DNS again when the last answers are old; all names at once."""
        names, at = self.seeds.srv_names, self._looked_up_at
        now = self._clock()
        if not names or (at is not None and now - at < self._settings.srv_refresh_seconds):
            return
        self._looked_up_at = now

        async def look_up(name: str) -> None:
            try:
                self.seeds.on_answer(name, await self._resolver.lookup(name))
            except LookupFailed as error:
                self.seeds.on_error(name, str(error))

        await asyncio.gather(*(look_up(name) for name in names))
        self._on_seeds()

    def _on_seeds(self) -> None:
        seeds = self.seeds
        self._core.on_seeds(seeds.addresses, seeds.errors, may_found=seeds.may_found)

    def _conclude(self) -> Started:
        match self._core.decision:
            case Restart(identity, topology, routing):
                self._on_phase("restarting", f"node {identity.node_id}")
                return Started("restart", identity, topology, routing)
            case Found(identity):
                self._on_phase("bootstrapping", f"cluster {identity.cluster_id}")
                topology, routing = founding_records(identity, self._self_node(), self._group_ids)
                return self._record("found", identity, topology, routing)
            case Join(response):
                started = self._record("join", *membership_of_response(response))
                # The cluster is there, so others may hear of it before this node can serve.
                self.greeter.become_member(started.identity)
                return started
            case GiveUp(sentences):
                self._on_phase("failed", sentences[0])
                raise StartFailed(sentences)
            case None:
                raise AssertionError("no decision")

    def _record(
        self,
        kind: Literal["found", "join"],
        identity: Identity,
        topology: Topology,
        routing: Routing,
    ) -> Started:
        record_membership(self._catalog, identity, topology, routing)
        return Started(kind, identity, topology, routing)

    def _self_node(self) -> MemberNode:
        request = self._request
        return MemberNode(
            node_id=self._local.node_id,
            address=self._local.address,
            state=STATE_CODES["active"],
            raft_groups=(),
            wire_version=request.wire_version,
            sql_address=request.sql_address,
            http_address=request.http_address,
            locality=request.locality,
            role=request.role,
            store_id=self._local.store_id,
            incarnation=self._local.incarnation,
            spki_pin=request.spki_pin,
            join_order=1,
        )

    # The life of a member

    def serve(
        self, identity: Identity, answer_join: JoinHandler, on_foreign: Callable[[str], None]
    ) -> None:
        """Present this node as a member, answer joins, and tell the seeds.

        ``on_foreign`` is called once, with a sentence, if all seeds that are members belong to
        another cluster: this node's store is stale, and it should stop.
        """
        assert self._announcing is None, "serves already"
        self._answer_join = answer_join
        self.greeter.become_member(identity)
        self._on_phase("ready", f"node {identity.node_id} of cluster {identity.cluster_id}")
        announcement = Announcement(
            self._settings,
            identity.cluster_id,
            self.seeds.addresses,
            self.greeter.own_names,
            self._clock(),
        )
        self._announcing = asyncio.create_task(self._announce(announcement, on_foreign))

    async def close(self) -> None:
        """Stop announcing."""
        if self._announcing is not None:
            self._announcing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._announcing

    async def _announce(
        self, announcement: Announcement, on_foreign: Callable[[str], None]
    ) -> None:
        async def greet(seed: str) -> None:
            try:
                payload = encode_message(self.greeter.greet())
                timeout = self._settings.greet_timeout_seconds
                answer = await self._transport.call(seed, GREET, payload, timeout)
                reply = decode_message(answer, GreetReply)
            except (TransportError, MalformedMessage) as error:
                announcement.on_failed(seed, _text_of(error), self._clock())
            else:
                self.greeter.note_stranger(reply)
                announcement.on_reply(seed, reply, self._clock())
            self._wake.set()

        async with asyncio.TaskGroup() as group:
            while not announcement.is_over:
                self._wake.clear()
                for seed in announcement.take_due(self._clock()):
                    group.create_task(greet(seed))
                await self._pause(announcement.next_due_at())
        if announcement.foreign_sentence:
            on_foreign(announcement.foreign_sentence)

    # Calls of others

    async def _on_greet(self, _peer: Peer, payload: bytes) -> bytes:
        try:
            greet = decode_message(payload, Greet)
        except MalformedMessage as error:
            raise RemoteError("", str(error)) from error
        # The answer first: it says what this node knew when it was asked.
        reply = self.greeter.on_greet(greet)
        self._core.on_greeting(greet, self._clock())
        self._wake.set()
        return encode_message(reply)

    async def _on_join(self, peer: Peer, payload: bytes) -> bytes:
        try:
            request = decode_message(payload, JoinRequest)
        except MalformedMessage as error:
            raise RemoteError("", str(error)) from error
        if self._answer_join is None:
            return encode_message(
                JoinResponse(success=False, error=f"node at {self._local.address} is starting")
            )
        return encode_message(await self._answer_join(peer, request))


class HealthDriver:
    """Carries the pings of ``HealthMonitor`` out; ``run`` is a task of its owner's."""

    def __init__(
        self,
        transport: Transport,
        monitor: HealthMonitor,
        clock: Callable[[], float],
        on_adopted: Callable[[Topology], None],
        settings: HealthSettings | None = None,
    ) -> None:
        """Answer pings. ``on_adopted`` hears each newer topology that was pushed, to keep it."""
        self._transport = transport
        self._clock = clock
        self._on_adopted = on_adopted
        self._settings = settings or HealthSettings()
        self._wake = asyncio.Event()
        self.monitor = monitor
        transport.on_call(PING, self._on_ping)
        transport.on_call(TOPOLOGY_PUSH, self._on_push)

    def on_topology(self, topology: Topology) -> None:
        """Take the topology that the metadata group has now."""
        if self.monitor.on_topology(topology, self._clock()):
            self._wake.set()

    async def run(self) -> None:
        """Ping until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                self.monitor.on_tick(self._clock())
                for effect in self.monitor.effects():
                    group.create_task(self._carry_out(effect))
                due_at = self.monitor.next_due_at()
                await _wait(self._wake, None if due_at is None else due_at - self._clock())

    async def _carry_out(self, effect: SendPing | SendTopology) -> None:
        monitor, node_id, address = self.monitor, effect.node_id, effect.address
        try:
            match effect:
                case SendPing():
                    timeout = self._settings.ping_timeout_seconds
                    monitor.on_pong(node_id, await self._ask(address, PING, effect.ping, timeout))
                case SendTopology():
                    timeout = self._settings.push_timeout_seconds
                    pong = await self._ask(address, TOPOLOGY_PUSH, effect.push, timeout)
                    monitor.on_push_answered(node_id, pong)
        except (TransportError, MalformedMessage) as error:
            if isinstance(effect, SendPing):
                monitor.on_ping_failed(node_id, _text_of(error))
            else:
                monitor.on_push_failed(node_id, _text_of(error))
        self._wake.set()

    def _ask(
        self, address: str, method: int, message: Ping | TopologyPush, timeout: float
    ) -> Coroutine[Any, Any, Pong]:
        async def ask() -> Pong:
            payload = encode_message(message)
            return decode_message(
                await self._transport.call(address, method, payload, timeout), Pong
            )

        return ask()

    async def _on_ping(self, _peer: Peer, payload: bytes) -> bytes:
        try:
            pong = self.monitor.on_ping(decode_message(payload, Ping))
        except MalformedMessage as error:
            raise RemoteError("", str(error)) from error
        self._wake.set()
        return encode_message(pong)

    async def _on_push(self, _peer: Peer, payload: bytes) -> bytes:
        try:
            push = decode_message(payload, TopologyPush)
        except MalformedMessage as error:
            raise RemoteError("", str(error)) from error
        pong, adopted = self.monitor.on_push(push, self._clock())
        if adopted:
            self._on_adopted(self.monitor.topology)
            self._wake.set()
        return encode_message(pong)


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event for at most so long.

    Not ``wait_for``: in Python 3.11 it loses a cancellation that comes together with the event.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if seconds is None else max(seconds, 0.0)):
            await event.wait()


def _text_of(error: Exception) -> str:
    return str(error) or type(error).__name__
