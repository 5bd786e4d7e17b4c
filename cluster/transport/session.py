"""One established connection: calls, streams, priorities, pings; frames in, bytes out, no I/O.

The dialler of a connection sends messages and requests on it, the accepter only answers. Two
queues wait for the socket: **control** (messages, requests, answers, credit) goes first, **bulk**
(parts of streams, of at most 64 KiB) fills what is left, so a heartbeat waits for one part at most.
Both are bounded; sequence numbers are given when a frame really leaves.

A session is made before its connection exists: what is queued until then leaves with the first
write, or fails with the dialling. After ``lose`` it is over.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cluster.transport import frame as f
from cluster.transport.api import OutcomeUnknown, Peer, PeerUnavailable, RemoteError
from cluster.transport.completion import Completion
from cluster.transport.config import FRAME_BYTES_MAX
from cluster.transport.faults import FaultGate
from cluster.transport.handshake import clean_reason, write_reason
from cluster.transport.methods import METHOD_NAMES, STREAM_NAMES
from cluster.transport.outbox import Outbox, PendingCall
from cluster.transport.stream import StreamEnd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.transport.environment import Environment, SessionIo

_LOGGER: Final = logging.getLogger("cluster.transport")
_TIMEOUT_MS_MAX: Final = (1 << 32) - 1
_NUMBER_MAX: Final = (1 << 32) - 1
_ROUND_TRIP_WEIGHT: Final = 1 / 8  # of a new sample (Jacobson 1988, as in TCP: RFC 6298)
_failure_decoder: Final = msgspec.msgpack.Decoder(tuple[str, str])


class Session:
    """One connection's state; see the head of this module.

    ``on_silent_call`` is told when a call was given up during which nothing at all arrived.
    """

    def __init__(
        self,
        environment: Environment,
        address: str,
        *,
        is_dialler: bool,
        on_silent_call: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.peer: Peer | None = None
        self.lost_by = ""  # why it is over, once it is
        self.is_superseded = False  # a newer connection of the same peer carries its messages
        self.serial = 0  # grows from one dialled session of the node to the next
        self.round_trip_seconds: float | None = None
        self.dropped_count = 0
        self._environment = environment
        self._is_dialler = is_dialler
        self._on_silent_call = on_silent_call
        self._io: SessionIo | None = None
        self._version = 0
        self._sequence = 0
        self._is_paused = False
        self._is_flush_due = False
        self._is_receiving = False
        self._is_input_paused = False
        self._outbox = Outbox(environment.settings.queue_bytes_max)
        self._connect_waiters: list[Completion[None]] = []
        self._calls: dict[int, PendingCall] = {}
        self._calls_running = 0
        self._next_number = 1
        self._streams: dict[int, StreamEnd] = {}
        self._heard_count = 0
        self._silent_intervals = 0
        self._unsent_bytes = 0
        self._ping_number = 0
        self._ping_at = 0.0
        self._gate_out: FaultGate | None = None
        self._gate_in: FaultGate | None = None
        faults = environment.faults
        if faults is not None:
            self._gate_out, self._gate_in = (
                FaultGate(
                    faults,
                    direction,
                    now=environment.now,
                    later=environment.later,
                    release=release,
                )
                for direction, release in (("out", self._write), ("in", self._dispatch))
            )

    # Its connection.

    @property
    def is_connected(self) -> bool:
        """Tell whether frames can leave."""
        return self._io is not None

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing waits for an answer, and no stream is open."""
        return not (self._calls or self._streams) and self._outbox.is_empty

    @property
    def queue_bytes(self) -> int:
        """What waits to leave, without parts of streams."""
        return self._outbox.queue_bytes

    def attach(self, io: SessionIo, peer: Peer, sequence: int) -> None:
        """Take the established connection; ``sequence`` is that of the last frame sent on it."""
        assert not self.lost_by
        self._io = io
        self.peer = peer
        self._version = peer.wire_version
        self._sequence = sequence
        for waiter in self._connect_waiters:
            waiter.set_result(None)
        self._connect_waiters.clear()
        self.flush()

    def lose(self, reason: str) -> None:
        """Take the end of the connection, or that none could be made. Idempotent."""
        if self.lost_by:
            return
        self.lost_by = reason or "the connection was lost"
        self._io = None
        unsent_count = self._outbox.clear()
        self.dropped_count += unsent_count
        self._environment.counters.messages_dropped += unsent_count
        for stream in list(self._streams.values()):
            stream.break_off(f"{self.address}: {self.lost_by}")
        for call in list(self._calls.values()):
            if call.is_sent:
                self._end_call(call, OutcomeUnknown(f"{self.address}: {self.lost_by}"))
            else:
                self._end_call(call, PeerUnavailable(f"{self.address}: {self.lost_by}"))
        for waiter in self._connect_waiters:
            waiter.set_result(None)
        self._connect_waiters.clear()

    def pause(self) -> None:
        """Take that the socket is full."""
        self._is_paused = True

    def resume(self) -> None:
        """Take that the socket has room again."""
        self._is_paused = False
        self.flush()

    def on_interval(self) -> str:
        """Ping, and look for signs of life; returns why the connection is to be given up, or "".

        Intervals are counted, not seconds: a process that was stopped itself finds one interval
        gone, not five, and reads what waited for it before it judges. That the peer's system goes
        on taking what was written is a sign of life too: a long frame may take long.
        """
        unsent_bytes = 0 if self._io is None else self._io.unsent_bytes()
        if unsent_bytes == self._unsent_bytes:
            self._silent_intervals += 1
        self._unsent_bytes = unsent_bytes
        intervals_max = self._environment.settings.silent_intervals_max
        if self._silent_intervals > intervals_max:
            seconds = intervals_max * self._environment.settings.ping_interval_seconds
            return f"the connection was lost: nothing heard for {seconds:g} s"
        for gate in (self._gate_in, self._gate_out):
            if gate is not None and gate.is_damaged and not gate.is_cut(self.address):
                return "the connection was lost: an injected fault took a part of a stream"
        if self._is_dialler:
            self._ping_number = self._ping_number % _NUMBER_MAX + 1
            self._ping_at = self._environment.now()
            self._send((f.PING, 0, self._ping_number, 0, b""))
        return ""

    # What this node says.

    def send_message(self, kind: int, payload: bytes) -> bool:
        """Queue a message; False when there is no room."""
        if self.lost_by or not self._outbox.has_room(len(payload)):
            self.dropped_count += 1
            self._environment.counters.messages_dropped += 1
            return False
        self._environment.counters.messages_sent += 1
        self._send((f.MESSAGE, kind, 0, 0, payload))
        return True

    async def call(self, method: int, payload: bytes, timeout_seconds: float) -> bytes:
        """Send a request and wait for its answer; see ``api.Transport.call``."""
        if self.lost_by:
            raise PeerUnavailable(f"{self.address}: {self.lost_by}")
        if self._outbox.waiting_count >= self._environment.settings.calls_waiting_max:
            raise PeerUnavailable(f"{self.address}: too many calls wait to be sent")
        call = PendingCall(self._take_number(), method, Completion(self._environment.loop))
        timeout_ms = min(max(int(timeout_seconds * 1000), 1), _TIMEOUT_MS_MAX)
        frame = (f.CALL, method, call.number, timeout_ms, payload)
        self._calls[call.number] = call
        call.timer = self._environment.later(
            timeout_seconds, lambda: self._expire_call(call, timeout_seconds)
        )
        self._environment.counters.calls_sent += 1
        self._outbox.add_call(frame, call)
        self._flush_soon()
        try:
            return await call.completion
        finally:
            # Also when the caller was cancelled: then nobody wants the answer.
            self._end_call(call, None)

    async def open_stream(self, method: int, payload: bytes) -> StreamEnd:
        """Open a stream once connected; see ``api.Transport.open_stream``."""
        while self._io is None and not self.lost_by:
            waiter: Completion[None] = Completion(self._environment.loop)
            self._connect_waiters.append(waiter)
            await waiter
        if self.lost_by:
            raise PeerUnavailable(f"{self.address}: {self.lost_by}")
        if len(self._streams) >= self._environment.settings.streams_max:
            raise PeerUnavailable(f"{self.address}: too many streams are open")
        number = self._take_number()
        stream = StreamEnd(number, self, self._environment.loop)
        self._streams[number] = stream
        self._environment.counters.streams_opened += 1
        self._send((f.STREAM_OPEN, method, number, 0, payload))
        return stream

    # stream.StreamIo

    def send_part(self, stream: StreamEnd, part: bytes, *, is_last: bool) -> None:
        """Queue a part of a chunk."""
        self._outbox.add_bulk((f.STREAM_PART, int(is_last), stream.stream_id, 0, part), stream)
        self._flush_soon()

    def send_credit(self, stream: StreamEnd, credit_bytes: int) -> None:
        """Queue credit."""
        self._send((f.STREAM_CREDIT, 0, stream.stream_id, credit_bytes, b""))

    def send_finish(self, stream: StreamEnd) -> None:
        """Queue the end, behind the parts."""
        self._outbox.add_bulk((f.STREAM_FINISH, 0, stream.stream_id, 0, b""), stream)
        self._flush_soon()

    def send_abort(self, stream: StreamEnd, reason: str) -> None:
        """Queue an abort; it overtakes the parts, which are thrown away."""
        self._send((f.STREAM_ABORT, 0, stream.stream_id, 0, write_reason(reason)))

    def room(self) -> Completion[None] | None:
        """Return what to wait for while too many parts wait for the socket."""
        return None if self.lost_by else self._outbox.bulk_room(self._environment.loop)

    def ended(self, stream: StreamEnd) -> None:
        """Forget a stream."""
        self._streams.pop(stream.stream_id, None)

    # What leaves.

    def flush(self) -> None:
        """Write what waits: all control frames in one write, then parts while there is room."""
        self._is_flush_due = False
        outbox = self._outbox
        if not self._may_write():
            return
        frames = outbox.take_control(self._heard_count)
        if frames:
            self._emit(frames)
        while outbox.has_bulk and self._may_write():
            self._emit(outbox.take_bulk())
        outbox.wake_writers()
        if self._is_input_paused and self._io is not None and outbox.has_room(0):
            self._is_input_paused = False
            self._io.resume_input()

    def _may_write(self) -> bool:
        return self._io is not None and not self._is_paused

    def _emit(self, frames: list[f.Frame]) -> None:
        gate = self._gate_out
        if gate is None or gate.is_open(self.address):
            self._write(frames)
        else:
            gate.submit(self.address, frames)

    def _write(self, frames: list[f.Frame]) -> None:
        io = self._io
        if io is None:
            return
        parts: list[bytes] = []
        version, sequence = self._version, self._sequence
        for frame in frames:
            sequence += 1
            f.append_frame(parts, version, sequence, frame)
        self._sequence = sequence
        data = b"".join(parts)
        self._environment.counters.bytes_sent += len(data)
        io.write(data)

    def _send(self, frame: f.Frame) -> None:
        self._outbox.add(frame)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._io is not None and not self._is_flush_due and not self._is_receiving:
            self._is_flush_due = True
            self._io.flush_soon()

    # What arrives.

    def hear(self) -> None:
        """Take that bytes came, whole frames or not: a sign of life."""
        if self._gate_in is None or not self._gate_in.is_cut(self.address):
            self._heard_count += 1
            self._silent_intervals = 0

    def receive(self, frames: list[f.Frame]) -> None:
        """Take frames in order."""
        gate = self._gate_in
        if gate is None or gate.is_open(self.address):
            self._dispatch(frames)
        else:
            gate.submit(self.address, frames)

    def _dispatch(self, frames: list[f.Frame]) -> None:
        self._is_receiving = True
        peer = self.peer
        assert peer is not None
        messages = self._environment.messages
        try:
            for frame_type, tag, number, argument, payload in frames:
                if self.lost_by:
                    return
                if frame_type == f.MESSAGE:
                    self._on_message(messages.get(tag), peer, payload)
                    continue
                violation = self._on_frame(frame_type, tag, number, argument, payload)
                if violation:
                    self.violate(violation)
                    return
        finally:
            self._is_receiving = False
        if not self._outbox.is_empty:
            self.flush()
        if not self._is_dialler and not self._outbox.has_room(0) and self._io is not None:
            # The peer does not read its answers. Only the accepter may wait so: if both sides
            # stopped reading, nobody would ever go on.
            self._is_input_paused = True
            self._io.pause_input()

    def violate(self, reason: str) -> None:
        """End the connection because the peer broke the protocol, and tell it so."""
        io = self._io
        if io is None:
            return
        self._write([(f.REFUSED, 0, 0, 0, write_reason(reason))])
        io.fail(reason)

    def _on_message(
        self, handler: Callable[[Peer, bytes], None] | None, peer: Peer, payload: bytes
    ) -> None:
        counters = self._environment.counters
        if handler is None or self.is_superseded:
            counters.messages_dropped += 1
            return
        counters.messages_received += 1
        try:
            handler(peer, payload)
        except Exception:  # the connection's end of an owner's fault: others must not suffer
            _LOGGER.exception("the handler of a message from %s failed", self.address)

    def _on_frame(
        self, frame_type: int, tag: int, number: int, argument: int, payload: bytes
    ) -> str:
        """Handle a frame; returns a sentence if the peer broke the protocol."""
        match frame_type:
            case f.ANSWER | f.FAILURE if self._is_dialler:
                return self._on_answer(frame_type, number, payload)
            case f.CALL if not self._is_dialler:
                self._on_call(tag, number, argument, payload)
            case f.STREAM_OPEN if not self._is_dialler:
                return self._on_stream_open(tag, number, payload)
            case f.STREAM_PART | f.STREAM_CREDIT | f.STREAM_FINISH | f.STREAM_ABORT:
                stream = self._streams.get(number)
                # An unknown one was given up here while this was on its way.
                return "" if stream is None else _step(stream, frame_type, tag, argument, payload)
            case f.PING if not self._is_dialler:
                self._send((f.PONG, 0, number, 0, b""))
            case f.PONG if self._is_dialler:
                self._on_pong(number)
            case f.REFUSED:
                reason = clean_reason(payload.decode(errors="replace"))
                if self._io is not None:
                    self._io.fail(f"the peer ended the connection: {reason}")
            case _:
                return f"a frame of type {frame_type} arrived on the wrong side"
        return ""

    def _on_pong(self, number: int) -> None:
        if number != self._ping_number:
            return
        sample = self._environment.now() - self._ping_at
        old = self.round_trip_seconds
        self.round_trip_seconds = (
            sample if old is None else old + (sample - old) * _ROUND_TRIP_WEIGHT
        )

    # Calls.

    def _on_answer(self, frame_type: int, number: int, payload: bytes) -> str:
        call = self._calls.get(number)
        if call is None:
            return ""  # it came too late
        if frame_type == f.ANSWER:
            call.completion.set_result(payload)
            return ""
        try:
            code, message = _failure_decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return "a failure cannot be read"
        self._end_call(call, RemoteError(code, message))
        return ""

    def _expire_call(self, call: PendingCall, timeout_seconds: float) -> None:
        name = METHOD_NAMES.get(call.method, str(call.method))
        within = f"within {timeout_seconds:g} s"
        if not call.is_sent:
            reason = f"{self.address}: {name} could not be sent {within}"
            self._end_call(call, PeerUnavailable(reason))
            return
        is_silent = self._heard_count == call.heard_at_send
        self._end_call(call, OutcomeUnknown(f"{self.address}: no answer to {name} {within}"))
        if is_silent:
            self._on_silent_call()

    def _end_call(self, call: PendingCall, error: Exception | None) -> None:
        self._calls.pop(call.number, None)
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        if error is not None:
            call.completion.set_error(error)

    def _on_call(self, method: int, number: int, timeout_ms: int, payload: bytes) -> None:
        assert self.peer is not None
        handler = self._environment.calls.get(method)
        if handler is None:
            name = METHOD_NAMES.get(method, method)
            self._fail_call(number, RemoteError("", f"this node does not answer {name}"))
            return
        if self._calls_running >= self._environment.settings.calls_running_max:
            self._fail_call(number, RemoteError("", "too many calls are running"))
            return
        self._calls_running += 1
        until = self._environment.now() + timeout_ms / 1000

        def finished(answer: bytes | None, error: BaseException | None) -> None:
            self._calls_running -= 1
            if self.lost_by or self._environment.now() > until:
                return  # nobody waits for it any more
            if answer is not None and len(answer) > FRAME_BYTES_MAX:
                error = RemoteError("", f"the answer has {len(answer)} bytes")
            if error is not None:
                self._fail_call(number, error)
                return
            self._environment.counters.calls_answered += 1
            self._send((f.ANSWER, 0, number, 0, answer or b""))

        self._run(lambda: handler(self._known_peer, payload), finished)

    def _fail_call(self, number: int, error: BaseException) -> None:
        told = as_remote(error, self.address)
        message = clean_reason(told.message)
        payload = msgspec.msgpack.encode((told.code, message))
        self._send((f.FAILURE, 0, number, 0, payload))

    # Streams.

    def _on_stream_open(self, method: int, number: int, payload: bytes) -> str:
        if number in self._streams:
            return "a stream was opened twice"
        stream = StreamEnd(number, self, self._environment.loop)
        self._streams[number] = stream
        handler = self._environment.streams.get(method)
        if handler is None:
            stream.abort(f"this node does not serve {STREAM_NAMES.get(method, method)}")
            return ""
        if len(self._streams) > self._environment.settings.streams_max:
            stream.abort("too many streams are open")
            return ""
        self._environment.counters.streams_opened += 1

        def finished(_value: None, error: BaseException | None) -> None:
            stream.discard_rest()
            if error is None:
                stream.finish()
            elif not stream.broken_by:
                stream.abort(as_remote(error, self.address).message)

        self._run(lambda: handler(self._known_peer, payload, stream), finished)
        return ""

    @property
    def _known_peer(self) -> Peer:
        assert self.peer is not None
        return self.peer

    def _run(
        self,
        start: Callable[[], Awaitable[Any]],
        finished: Callable[[Any, BaseException | None], None],
    ) -> None:
        try:
            coroutine = start()
        except Exception as error:  # noqa: BLE001  a handler failed before it made a coroutine
            finished(None, error)
            return
        self._environment.run(coroutine, finished)

    def _take_number(self) -> int:
        """Return a number that no call or stream of this connection has now."""
        while True:
            number = self._next_number
            self._next_number = number % _NUMBER_MAX + 1
            if number not in self._calls and number not in self._streams:
                return number


def _step(stream: StreamEnd, frame_type: int, tag: int, argument: int, payload: bytes) -> str:
    match frame_type:
        case f.STREAM_PART:
            return stream.on_part(payload, is_last=tag == 1)
        case f.STREAM_CREDIT:
            return stream.on_credit(argument)
        case f.STREAM_FINISH:
            return stream.on_finish()
        case _:
            stream.break_off(clean_reason(payload.decode(errors="replace")))
            return ""


def as_remote(error: BaseException, address: str) -> RemoteError:
    """Return what a peer is told of a handler's failure; unexpected ones are logged."""
    if isinstance(error, RemoteError):
        return error
    if not isinstance(error, Exception):
        return RemoteError("", "the handler was stopped")
    _LOGGER.error("a handler for %s failed", address, exc_info=error)
    return RemoteError("", f"internal error: {type(error).__name__}: {error}")
