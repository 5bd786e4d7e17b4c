"""The transport without a network: same interface, same promises, faults at will.

No clock, no event loop, no chance of its own: time passes through the injected ``later``, chance
comes from the injected ``random``, and coroutines wait for ``Completion``. So a simulation with
virtual time runs it, and a test under asyncio as well (give ``loop``).

Kept as the real transport keeps it: order per pair and direction, at most once (unless
``duplicate`` is asked for), calls that end in ``PeerUnavailable`` when surely not handled and in
``OutcomeUnknown`` otherwise, streams with windows that break with their connection, refusals of
strangers, ``on_peer_lost`` in both directions.

Not done here: bytes of frames, circuit breakers, queues that fill up (the network takes all).
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from cluster.transport.api import (
    OutcomeUnknown,
    Peer,
    PeerHealth,
    PeerUnavailable,
    RemoteError,
    StreamBroken,
)
from cluster.transport.completion import Completion, Loop, run_without_loop
from cluster.transport.config import FRAME_BYTES_MAX, WIRE_VERSION, LocalIdentity
from cluster.transport.faults import NO_FAULT, Fault
from cluster.transport.handshake import identity_objection
from cluster.transport.methods import METHOD_NAMES, STREAM_NAMES
from cluster.transport.stream import StreamEnd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

_LOGGER: Final = logging.getLogger("cluster.transport")
LATENCY_SECONDS: Final = 0.0005
SILENCE_SECONDS: Final = 5.0
"""How long a cut goes unnoticed by those who say nothing."""


class Later(Protocol):
    """Schedules on the owner's clock; what it returns is not used."""

    def __call__(self, seconds: float, callback: Callable[[], None], /) -> object:
        """Call back after so many seconds; calls of equal time keep their order."""


class Run(Protocol):
    """Drives a handler's coroutine to its end."""

    def __call__(
        self,
        coroutine: Awaitable[Any],
        on_finish: Callable[[Any, BaseException | None], None],
        /,
    ) -> None:
        """Call ``on_finish(value, error)`` once."""


class MemoryNetwork:
    """Carries what its transports say to each other.

    ``latency`` gives the seconds of each single delivery. Faults are kept per (from, to), and the
    methods that set them act on the direction named only, unless told ``both``.
    """

    def __init__(
        self,
        *,
        later: Later,
        random: Random,
        latency: Callable[[], float] = lambda: LATENCY_SECONDS,
        loop: Loop | None = None,
        run: Run = run_without_loop,
    ) -> None:
        self.later = later
        self.loop = loop
        self.run = run
        self.transports: dict[str, MemoryTransport] = {}
        self._random = random
        self._latency = latency
        self._faults: dict[tuple[str, str], Fault] = {}
        self._lines: dict[tuple[str, str], deque[Callable[[], None]]] = {}

    # Faults.

    def cut(self, source: str, target: str, *, both: bool = False) -> None:
        """Lose everything from now on; noticed as lost peers after ``SILENCE_SECONDS``."""
        self._change(source, target, both=both, is_cut=True)
        self.later(SILENCE_SECONDS, lambda: self._notice_cut(source, target))

    def delay(self, source: str, target: str, seconds: float, *, both: bool = False) -> None:
        """Hold everything back by so much more."""
        self._change(source, target, both=both, delay_seconds=seconds)

    def drop(self, source: str, target: str, probability: float, *, both: bool = False) -> None:
        """Lose messages, requests and answers by chance."""
        self._change(source, target, both=both, drop_probability=probability)

    def duplicate(
        self, source: str, target: str, probability: float, *, both: bool = False
    ) -> None:
        """Deliver messages twice by chance: what the real transport never does."""
        self._change(source, target, both=both, duplicate_probability=probability)

    def heal(self, source: str = "", target: str = "", *, both: bool = False) -> None:
        """End the faults of a direction, or all of them."""
        if not source:
            self._faults.clear()
            return
        self._faults.pop((source, target), None)
        if both:
            self._faults.pop((target, source), None)

    def fault(self, source: str, target: str) -> Fault:
        """Return what happens in one direction."""
        return self._faults.get((source, target), NO_FAULT)

    # For the transports.

    def deliver(
        self,
        source: str,
        target: str,
        arrive: Callable[[], None],
        *,
        is_droppable: bool = True,
        may_repeat: bool = False,
    ) -> bool:
        """Have ``arrive`` called in its turn; False when it is lost."""
        fault = self.fault(source, target)
        if fault.is_cut or (is_droppable and 0 < fault.drop_probability > self._random.random()):
            return False
        line = self._lines.setdefault((source, target), deque())
        times = 1
        if may_repeat and 0 < fault.duplicate_probability > self._random.random():
            times = 2
        for _ in range(times):
            line.append(arrive)
            self.later(self._latency() + fault.delay_seconds, lambda: _take_first(line))
        return True

    def lost(self, address: str) -> None:
        """Tell all others that a transport is gone, as their broken connections would."""
        for transport in list(self.transports.values()):
            self.later(self._latency(), partial(transport.peer_gone, address))

    def _change(self, source: str, target: str, *, both: bool, **changes: Any) -> None:
        for key in ((source, target), (target, source))[: 1 + both]:
            self._faults[key] = self._faults.get(key, NO_FAULT)._replace(**changes)

    def _notice_cut(self, source: str, target: str) -> None:
        if not (self.fault(source, target).is_cut or self.fault(target, source).is_cut):
            return
        for here, there in ((source, target), (target, source)):
            transport = self.transports.get(here)
            if transport is not None:
                transport.peer_gone(there)


class MemoryTransport:
    """Implements ``api.Transport``; reachable at ``identity.address`` from when it is made."""

    def __init__(
        self,
        network: MemoryNetwork,
        identity: LocalIdentity,
        *,
        admit: Callable[[Peer], str] = lambda _peer: "",
    ) -> None:
        self.identity = identity
        self.network = network
        self.admit = admit
        self.is_closed = False
        self.messages: dict[int, Callable[[Peer, bytes], None]] = {}
        self.calls: dict[int, Callable[[Peer, bytes], Awaitable[bytes]]] = {}
        self.streams: dict[int, Callable[[Peer, bytes, Any], Awaitable[None]]] = {}
        self._lost_handlers: list[Callable[[str], None]] = []
        self._health: dict[str, PeerHealth] = {}
        self._pending: dict[str, list[Completion[bytes]]] = {}  # calls by address
        self._ends: dict[str, list[StreamEnd]] = {}  # streams by the other side's address
        assert identity.address not in network.transports, "the address is in use"
        network.transports[identity.address] = self

    def close(self) -> None:
        """Go away, as a killed process does: what is unanswered stays so. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        del self.network.transports[self.identity.address]
        for address in list(self._ends):
            self._break_streams(address, "this transport was closed")
        self.network.lost(self.identity.address)

    # api.Transport

    def on_message(self, kind: int, handler: Callable[[Peer, bytes], None]) -> None:
        """Set the handler of a kind."""
        self.messages[kind] = handler

    def on_call(self, method: int, handler: Callable[[Peer, bytes], Awaitable[bytes]]) -> None:
        """Set the handler of a method."""
        self.calls[method] = handler

    def on_stream(
        self, method: int, handler: Callable[[Peer, bytes, Any], Awaitable[None]]
    ) -> None:
        """Set the handler of streams."""
        self.streams[method] = handler

    def on_peer_lost(self, handler: Callable[[str], None]) -> None:
        """Be told the address of a lost peer."""
        self._lost_handlers.append(handler)

    def health(self) -> list[PeerHealth]:
        """Return what is known of the peers dialled, by address."""
        return [self._health[address] for address in sorted(self._health)]

    def send(self, address: str, kind: int, payload: bytes) -> bool:
        """Send one way."""
        _check_length(payload)
        target = self._reach(address)
        if target is None:
            return False

        def arrive() -> None:
            handler = target.messages.get(kind)
            if target.is_closed or handler is None:
                return
            handler(self._as_peer(), payload)

        self.network.deliver(self.identity.address, address, arrive, may_repeat=True)
        return True

    async def call(
        self, address: str, method: int, payload: bytes, timeout_seconds: float
    ) -> bytes:
        """Ask and wait for the answer."""
        _check_length(payload)
        target = self._reach(address)
        if target is None:
            raise PeerUnavailable(self._health[address].last_error)
        name = METHOD_NAMES.get(method, str(method))
        completion: Completion[bytes] = Completion(self.network.loop)
        pending = self._pending.setdefault(address, [])
        pending.append(completion)
        self.network.later(
            timeout_seconds,
            lambda: _complete(
                completion,
                b"",
                OutcomeUnknown(f"no answer to {name} from {address} within {timeout_seconds:g} s"),
            ),
        )
        arrive = lambda: target.handle_call(self, method, payload, completion)  # noqa: E731
        self.network.deliver(self.identity.address, address, arrive)
        try:
            answer = await completion
        except (OutcomeUnknown, PeerUnavailable) as error:
            self._note(address, failures=1, last_error=str(error))
            raise
        finally:
            pending.remove(completion)
        self._note(address, node_id=target.identity.node_id)
        return answer

    async def open_stream(self, address: str, method: int, payload: bytes) -> StreamEnd:
        """Open a stream."""
        _check_length(payload)
        target = self._reach(address)
        if target is None:
            raise PeerUnavailable(self._health[address].last_error)
        ours, theirs = _Wire(self, target), _Wire(target, self)
        near = StreamEnd(0, ours, self.network.loop)
        far = StreamEnd(0, theirs, self.network.loop)
        ours.other_end, theirs.other_end = far, near
        self._ends.setdefault(address, []).append(near)
        self.network.deliver(
            self.identity.address,
            address,
            lambda: target.handle_stream(self, method, payload, far),
            is_droppable=False,
        )
        return near

    # What arrives.

    def handle_call(
        self, caller: MemoryTransport, method: int, payload: bytes, completion: Completion[bytes]
    ) -> None:
        """Answer a call that arrived."""
        if self.is_closed:
            return

        def answer(value: bytes | None, error: BaseException | None) -> None:
            if self.is_closed:
                return
            if error is not None:
                error = _as_remote(error)
            self.network.deliver(
                self.identity.address,
                caller.identity.address,
                lambda: _complete(completion, value or b"", error),
            )

        handler = self.calls.get(method)
        if handler is None:
            answer(None, RemoteError("", f"no such method: {METHOD_NAMES.get(method, method)}"))
            return
        try:
            self.network.run(handler(caller._as_peer(), payload), answer)
        except Exception as error:  # noqa: BLE001  a handler failed before it made a coroutine
            answer(None, error)

    def handle_stream(
        self, opener: MemoryTransport, method: int, payload: bytes, end: StreamEnd
    ) -> None:
        """Serve a stream that arrived."""
        if self.is_closed:
            return
        self._ends.setdefault(opener.identity.address, []).append(end)
        handler = self.streams.get(method)
        if handler is None:
            end.abort(f"no such stream: {STREAM_NAMES.get(method, method)}")
            return

        def ended(_value: None, error: BaseException | None) -> None:
            end.discard_rest()
            if error is None:
                end.finish()
            else:
                end.abort(str(_as_remote(error)))

        try:
            self.network.run(handler(opener._as_peer(), payload, end), ended)
        except Exception as error:  # noqa: BLE001  a handler failed before it made a coroutine
            ended(None, error)

    def peer_gone(self, address: str) -> None:
        """Lose the connections with a peer."""
        known = address in self._health or address in self._ends
        for completion in list(self._pending.get(address, ())):
            completion.set_error(OutcomeUnknown(f"the connection to {address} was lost"))
        self._break_streams(address, f"the connection to {address} was lost")
        if self.is_closed or not known:
            return
        self._note(address, failures=1, last_error="the connection was lost")
        for handler in self._lost_handlers:
            handler(address)

    # The rest.

    def forget(self, address: str, end: StreamEnd) -> None:
        """Take the end of a stream."""
        ends = self._ends.get(address, [])
        if end in ends:
            ends.remove(end)

    def _break_streams(self, address: str, reason: str) -> None:
        for end in list(self._ends.get(address, ())):
            end.break_off(reason)

    def _reach(self, address: str) -> MemoryTransport | None:
        """Return who listens there; None, with the reason in ``health``, when nobody may be."""
        if self.is_closed:
            self._note(address, failures=1, last_error="this transport is closed")
            return None
        target = self.network.transports.get(address)
        if target is None:
            self._note(address, failures=1, last_error="connection refused")
            return None
        us, them = self._as_peer(), target._as_peer()  # noqa: SLF001  ours
        reason = (
            identity_objection(self.identity, them, address)
            or identity_objection(target.identity, us)
            or target.admit(us)
            or self.admit(them)
        )
        if reason:
            self._note(address, failures=1, last_error=f"refused: {reason}")
            return None
        self._note(address, node_id=target.identity.node_id)
        return target

    def _as_peer(self) -> Peer:
        own = self.identity
        return Peer(own.node_id, own.cluster_id, own.address, own.incarnation, WIRE_VERSION)

    def _note(
        self, address: str, *, failures: int = 0, last_error: str = "", node_id: int = 0
    ) -> None:
        """Keep the health: a failure counts on, a success ends the count."""
        old = self._health.get(address) or PeerHealth(address, 0, "closed", 0, None, "")
        self._health[address] = old._replace(
            node_id=node_id or old.node_id,
            failures=old.failures + failures if failures else 0,
            last_error=last_error or old.last_error,
            is_connected=not failures,
        )


class _Wire:
    """Carries one direction of a stream; implements ``stream.StreamIo``."""

    def __init__(self, source: MemoryTransport, target: MemoryTransport) -> None:
        self._source = source
        self._target = target
        self.other_end: StreamEnd

    def send_part(self, stream: StreamEnd, part: bytes, *, is_last: bool) -> None:
        self._deliver(stream, lambda: self.other_end.on_part(part, is_last=is_last))

    def send_credit(self, stream: StreamEnd, credit_bytes: int) -> None:
        self._deliver(stream, lambda: self.other_end.on_credit(credit_bytes))

    def send_finish(self, stream: StreamEnd) -> None:
        self._deliver(stream, self.other_end.on_finish)

    def send_abort(self, stream: StreamEnd, reason: str) -> None:
        def arrive() -> str:
            self.other_end.break_off(reason)
            return ""

        self._deliver(stream, arrive)

    def room(self) -> None:
        return None

    def ended(self, stream: StreamEnd) -> None:
        self._source.forget(self._target.identity.address, stream)

    def _deliver(self, stream: StreamEnd, arrive: Callable[[], str]) -> None:
        """Deliver; what is lost breaks the stream once the silence is noticed."""
        network = self._source.network
        far = self.other_end

        def checked() -> None:
            violation = "" if far.broken_by else arrive()
            assert not violation, violation

        source, target = self._source.identity.address, self._target.identity.address
        if not network.deliver(source, target, checked, is_droppable=False):
            for end in (stream, far):
                network.later(SILENCE_SECONDS, partial(end.break_off, "the connection was lost"))


def _take_first(line: deque[Callable[[], None]]) -> None:
    """Deliver the head of a line, whichever timer fired: so the order is kept."""
    line.popleft()()


def _complete(completion: Completion[bytes], value: bytes, error: BaseException | None) -> None:
    if error is None:
        completion.set_result(value)
    else:
        completion.set_error(error)


def _as_remote(error: BaseException) -> RemoteError:
    """Return what the other side is told of a handler's failure."""
    if isinstance(error, RemoteError):
        return RemoteError(error.code, error.message)
    if isinstance(error, StreamBroken):
        return RemoteError("", str(error))
    if not isinstance(error, Exception):
        raise error
    _LOGGER.error("a handler failed", exc_info=error)
    return RemoteError("", f"internal error: {type(error).__name__}: {error}")


def _check_length(payload: bytes) -> None:
    if len(payload) > FRAME_BYTES_MAX:
        raise ValueError(f"a message has at most {FRAME_BYTES_MAX} bytes, not {len(payload)}")
