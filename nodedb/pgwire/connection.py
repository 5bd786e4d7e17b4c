"""One connection as a coroutine over waiters: messages in, session calls, results into a buffer.

What a client in a steady state sends, one short statement in one packet, is answered in ``receive``
itself (``_answer_directly``) while the coroutine goes on waiting for input.

The driver feeds bytes by ``receive`` and does what its ``ConnectionIo`` is asked for; no asyncio
here. One coroutine lives as long as the connection and awaits only ``Waiter``s: for input, for room
in the socket, for TLS, and whatever the session waits for. So a message costs no Task, and messages
are processed strictly in order: what arrives while a statement waits is only buffered.

States of the coroutine::

    handshake -> serve <-> recover (skips to Sync after an error in an extended query)
                   |  copy in (inside Query or Execute; other messages refused)
                   v
                 close (FATAL error, Terminate, client gone, drain)

Output leaves when input runs dry, at ``output_bytes_flush``, and when the coroutine
waits after a ReadyForQuery: the client may be waiting for exactly that.

Not done here: the meaning of anything (session), timers and sockets (driver).

Source: PostgreSQL docs, "Message Flow".
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

from nodedb.errors import LeaderChanged, StorageError
from nodedb.pgwire import backend
from nodedb.pgwire import message as m
from nodedb.pgwire.codec import FrontendDecoder
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.errors import (
    ConnectionLost,
    FatalError,
    error_fields,
    framing_lost,
    is_fatal,
    log_unless_expected,
    notice_fields,
    storage_failure,
)
from nodedb.pgwire.forwarding import Forwarder
from nodedb.pgwire.io import ConnectionIo, Gate
from nodedb.pgwire.parameters import check_text_parameters
from nodedb.pgwire.results import ResultWriter
from nodedb.pgwire.rows import FORMAT_CODES
from nodedb.pgwire.runner import FlushingRunner
from nodedb.pgwire.shapes import spread_formats
from nodedb.pgwire.startup import StartupDecoder
from nodedb.pgwire.templates import BIND_TAG, NAME_OFFSET, Template, complete, head_of, query_text
from nodedb.session.api import (
    AnswerAtOnce,
    FrontEndSession,
    Step,
)
from nodedb.waiter import Waiter
from sql.errors import (
    FeatureNotSupported,
    SqlError,
)

if TYPE_CHECKING:
    from nodedb.session.session import Session

_LOGGER: Final = logging.getLogger("nodedb.pgwire")
# An error in one of these discards everything up to Sync.
_EXTENDED_TAGS: Final = frozenset(b"PBEDCH")
_SYNC_TAG: Final = ord("S")
_TEMPLATES_MAX: Final = 256

# What libpq, and most drivers, send behind the Bind of a prepared statement.
_SYNC: Final = b"S\0\0\0\x04"
_EXECUTE_SYNC: Final = b"E\0\0\0\x09\0\0\0\0\0" + _SYNC
_DESCRIBE_EXECUTE_SYNC: Final = b"D\0\0\0\x06P\0" + _EXECUTE_SYNC


class Connection(ResultWriter):
    """One client. ``handshake`` makes the session; see ``nodedb.pgwire.handshake``.

    ``on_end`` is called once when everything is over and the session is closed.
    """

    def __init__(
        self,
        io: ConnectionIo,
        settings: PgWireSettings,
        handshake: Callable[["Connection"], Awaitable[FrontEndSession]],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(settings)
        self.io = io
        self.startup_decoder = StartupDecoder()
        self.session: FrontEndSession | None = None
        self.steps = 0
        self._handshake = handshake
        self._on_end = on_end
        self._feed = self.startup_decoder.feed
        self._input: Waiter[None] | None = None
        self._is_input_paused = False
        self._room: Waiter[None] | None = None
        self._is_write_paused = False
        self._is_eof = False
        self._is_lost = False
        self._is_flush_wanted = False
        # Raised as soon as the connection is idle outside a block.
        self._farewell: FatalError | None = None
        self._in_simple_query = False
        self._gate: Gate | None = None
        self._is_amid_batch = False
        # Length of ``out`` where the batch began, -1 once any of its answer has left.
        self._batch_start = -1
        self._templates: dict[bytes, Template] = {}
        # True while the coroutine waits for the first message of what comes next.
        self._may_answer_directly = False
        # A step has just declined what the coroutine now gets to see.
        self._has_declined = False
        # A step that commits, its template (None: a simple query), and the waiter for input.
        self._committing: tuple[Step, Template | None, Waiter[None]] | None = None
        # What it came as, if that may be run by another node instead.
        self._repeatable: bytes | None = None
        self._handlers: dict[type, Callable[[Any], Awaitable[None]]] = {
            m.Query: self._on_query,
            m.Parse: self._on_parse,
            m.DescribeStatement: self._on_describe_statement,
            m.CloseStatement: self._on_close_statement,
            m.ClosePortal: self._on_close_portal,
            m.Flush: self._on_flush,
            m.FunctionCall: self._on_refused,
            m.PasswordMessage: self._on_refused,
            m.Terminate: self._on_refused,
            # The rest of a COPY that failed here while the client was still sending.
            m.CopyData: self._on_stray_copy,
            m.CopyDone: self._on_stray_copy,
            m.CopyFail: self._on_stray_copy,
        }
        self._runner = FlushingRunner(self.run(), self.ended, self.after_step)

    # What the driver calls.

    def start(self) -> None:
        """Begin; call once, when ``io`` can be used."""
        self._runner.step()

    def receive(self, data: bytes) -> None:
        """Take bytes from the socket and work as far as they reach."""
        if self._may_answer_directly and self._answer_directly(data):
            return
        self._feed(data)
        waiter = self._input
        if waiter is not None:
            if not self.decoder.is_amid_message:
                self._input = None
                waiter.set_result(None)
        else:
            if not self._is_input_paused and self._has_much_input():
                self._is_input_paused = True
                self.io.pause_input()
            if self._gate is not None:
                self._gate.wake()

    def eof(self) -> None:
        """Note that no more input comes; what is there is still worked off and answered."""
        self._is_eof = True
        if not self._wake_input(ConnectionLost("end of input")) and self._gate is not None:
            self._gate.wake()

    def lost(self) -> None:
        """Note that the socket is gone. A statement is cancelled, a commit under way is not."""
        self._is_eof = True
        self._is_lost = True
        self._is_write_paused = False
        if not self._wake_input(ConnectionLost("connection lost")) and self.session is not None:
            self.session.interrupt(ConnectionLost("connection lost"))
        if self._room is not None:
            self._room.set_result(None)

    def write_paused(self) -> None:
        """Note that the socket takes no more for now."""
        self._is_write_paused = True

    def write_resumed(self) -> None:
        """Note that the socket has room again."""
        self._is_write_paused = False
        if self._room is not None:
            self._room.set_result(None)
        # What came meanwhile has waited for this.
        self.deliver_asynchronous()

    def terminate(self, error: FatalError | ConnectionLost) -> None:
        """End now, even amid a statement; a FatalError is reported to the client."""
        if self._wake_input(error):
            return
        if self.session is None:
            self._runner.interrupt(error)
            return
        # The session decides where the statement may stop: never while its commit is being made
        # durable, for nobody else may see the locks gone before the rows are there. At the latest
        # we leave after it.
        self._farewell = error if isinstance(error, FatalError) else None
        self.session.interrupt(error)
        if self._room is not None:
            self._room.set_error(error)

    def terminate_when_idle(self, error: FatalError) -> None:
        """End as soon as no statement and no transaction block is open."""
        if self.session is not None and not self.is_idle:
            self._farewell = error
        else:
            self.terminate(error)

    @property
    def is_idle(self) -> bool:
        """True while the client has the turn and no transaction is open."""
        return self._input is not None and self.session is not None and self._may_leave()

    @property
    def client_wait(self) -> str:
        """What it waits for of its client, as pg_stat_activity calls it; "" for nothing."""
        if self._room is not None:
            return "ClientWrite"
        return "" if self._input is None else "ClientRead"

    def deliver_asynchronous(self) -> None:
        """Send what the session has pending now if the client has the turn, and reads."""
        if self._input is None or self._is_copying or self._is_write_paused:
            return
        if self.session is not None and self.session.has_asynchronous:
            self._append_asynchronous(self.session)
            self.flush()

    def after_step(self) -> None:
        """Send what the client may wait for; called whenever the coroutine stops."""
        self.steps += 1
        if self._is_flush_wanted:
            self.flush()

    def ended(self, error: BaseException | None) -> None:
        """Take the end of the coroutine."""
        if error is not None:
            _LOGGER.error("connection failed while closing", exc_info=error)
            self.io.close()
        # No cycle may keep a dead connection, for the collector comes late.
        self._farewell = None
        self._shapes.clear()
        self._templates.clear()
        self._handlers.clear()
        self._on_end()

    # Input and output, also used by the handshake.

    def flush(self) -> None:
        """Hand the output buffer to the socket."""
        self._is_flush_wanted = False
        self._batch_start = -1
        if self.out:
            self.io.write(bytes(self.out))
            self.out.clear()

    async def wait_input(self) -> None:
        """Send the output and wait for more input, or only for room in the socket."""
        self.flush()
        if self._is_write_paused:
            # A client that does not read its answers gets no more of its questions processed.
            await self._wait_room()
            return
        if self._is_eof:
            raise ConnectionLost("end of input")
        if self._farewell is not None and self._may_leave():
            raise self._farewell
        waiter = self._input = Waiter()
        if self._is_input_paused:
            self._is_input_paused = False
            self.io.resume_input()
        await waiter

    # What a gate does on the connection's behalf.

    @property
    def is_eof(self) -> bool:
        """Tell whether no more input comes."""
        return self._is_eof

    @property
    def is_lost(self) -> bool:
        """Tell whether the client is gone."""
        return self._is_lost

    @property
    def is_write_paused(self) -> bool:
        """Tell whether the socket takes no more for now."""
        return self._is_write_paused

    def resume_input(self, *, is_needed: bool = False) -> None:
        """Read from the socket again, when what it gave has been used, or is of no use alone."""
        if self._is_input_paused and (is_needed or not self._has_much_input()):
            self._is_input_paused = False
            self.io.resume_input()

    def start_batch(self) -> None:
        """Note that the next message begins a batch, which may have to be taken back."""
        self._batch_start = len(self.out)

    def take_back_batch(self) -> bool:
        """Forget what was answered to the batch; False when some of it has left already."""
        if self._batch_start < 0:
            return False
        del self.out[self._batch_start :]
        return True

    def end_batch(self, session: FrontEndSession, status: bytes) -> None:
        """Tell the client that it has the turn, with a transaction of this status."""
        self._is_amid_batch = False
        self._in_simple_query = self._has_declined = False
        if session.has_asynchronous:
            self._append_asynchronous(session)
        self.out += backend.READY_FOR_QUERY[status]
        self.flush()

    def begin_again(self, messages: bytes) -> None:
        """Take messages of an unanswered batch back into the input, to begin it again."""
        self.decoder.unread(messages)
        self._is_amid_batch = self._in_simple_query = self._has_declined = False

    def append_ready(self, status: bytes) -> None:
        """Write ReadyForQuery for what came behind the end of a batch."""
        self.out += backend.READY_FOR_QUERY[status]

    def flush_if_idle(self) -> None:
        """Send messages that belong to no batch, if the client reads."""
        if self._input is not None and not self._is_write_paused:
            self.flush()

    async def give_way(self) -> None:
        """Send what is there; wait while the socket is full. Raises ConnectionLost."""
        await self._give_way()

    def start_messages(self, message_bytes_max: int) -> None:
        """Expect tagged messages from now on, of at most so many bytes."""
        self.decoder = FrontendDecoder(message_bytes_max)
        self.decoder.feed(self.startup_decoder.take_rest())
        self._feed = self.decoder.feed

    async def next_message(self) -> m.FrontendMessage:
        """Wait for the next message; for the phases that are not worth a tight loop."""
        while True:
            message = self.decoder.next_message()
            if message is not None:
                return message
            await self.wait_input()

    def _may_leave(self) -> bool:
        """Tell whether no transaction is open, not even the implicit one before a Sync."""
        return self.session is None or (
            self.session.transaction_status == b"I"
            and not self._is_copying
            and self.decoder.last_tag not in _EXTENDED_TAGS
        )

    def _has_much_input(self) -> bool:
        buffered = self.decoder.buffered_bytes + self.startup_decoder.buffered_bytes
        return buffered > self.settings.input_bytes_pause

    def _wake_input(self, error: Exception) -> bool:
        waiter = self._input
        if waiter is None:
            return False
        self._input = None
        return waiter.set_error(error)

    async def _wait_room(self) -> None:
        self._room = Waiter()
        try:
            await self._room
        finally:
            self._room = None
        if self._is_lost:
            # Raised here, not by the waiter: an error that a waiter keeps is a cycle with the
            # frames it was raised through, and with the rows being sent.
            raise ConnectionLost("connection lost")

    async def _give_way(self) -> None:
        """Send a large piece of output; wait while the socket is full."""
        self.flush()
        if self._is_lost:
            raise ConnectionLost("connection lost")
        if self._is_write_paused:
            await self._wait_room()

    # The life of the connection.

    async def run(self) -> None:
        """Live from the first byte to the last."""
        try:
            self.session = await self._handshake(self)
            self._gate = self.make_gate(self.session)
            self._ready(self.session)
            await self._serve(self.session)
        except ConnectionLost:
            pass
        except Exception as error:  # noqa: BLE001  the last resort: one connection ends, not the node
            log_unless_expected(error)
            fatal = error if isinstance(error, FatalError) else None
            if fatal is None and isinstance(error, StorageError):
                fatal = FatalError(storage_failure(error))
            elif fatal is None and isinstance(error, SqlError):
                fatal = FatalError(error)
            fields = error_fields(fatal if fatal is not None else error)
            if fatal is None:
                fields[:2] = [(b"S", "FATAL"), (b"V", "FATAL")]
            backend.error_response(self.out, fields)
        if self._gate is not None:
            self._gate.let_go()
        if self.session is not None:
            await self.session.close()
        self.flush()
        self.io.close()

    def make_gate(self, session: FrontEndSession) -> Gate | None:
        """Return what decides where batches run, None on a node that runs them all."""
        if session.forwarding is None:
            return None
        return Forwarder(self, cast("Session", session), session.forwarding)

    async def _serve(self, session: FrontEndSession) -> None:
        while True:
            try:
                await self._serve_until_error(session)
            except (ConnectionLost, FatalError):
                raise
            except Exception as error:  # noqa: BLE001  whatever a statement does, the client is told
                await self._recover(session, error)

    async def _serve_until_error(self, session: FrontEndSession) -> None:
        """Process messages; the four of a prepared execution without a call more than needed."""
        out = self.out
        next_message = self.decoder.next_message
        gate = self._gate
        while True:
            if gate is not None and not self._is_amid_batch:
                await gate.admit()
            message = next_message()
            if message is None:
                self._may_answer_directly = gate is None or gate.is_home
                try:
                    await self.wait_input()
                finally:
                    self._may_answer_directly = False
                continue
            self._is_amid_batch = True
            if type(message) is m.Bind:
                if message.parameters:
                    check_text_parameters(message)
                if not message.portal and await self._answer_at_once(session, message):
                    continue
                await session.bind(
                    message.portal,
                    message.statement,
                    message.parameters,
                    message.parameter_formats,
                    message.result_formats,
                )
                out += backend.BIND_COMPLETE
            elif type(message) is m.DescribePortal:
                columns, formats = session.describe_portal(message.portal)
                if columns is None:
                    out += backend.NO_DATA
                else:
                    out += self._shapes.find(session.format, columns, formats).row_description
            elif type(message) is m.Execute:
                # Asked before, because the statement may close its own portal (COMMIT, CLOSE ALL).
                formats = session.portal_formats(message.portal)
                session.ends_batch = self.decoder.follows(_SYNC)
                result = await session.execute(message.portal, message.row_limit)
                await self._answer(session, result, formats)
            elif type(message) is m.Sync:
                if session.is_recorded:
                    await self._end_recorded(session, is_simple=False)
                else:
                    await session.sync()
                self._ready(session)
            else:
                await self._handlers[type(message)](message)

    async def _answer_at_once(self, session: FrontEndSession, bind: m.Bind) -> bool:
        """Answer Bind and what usually follows in one step if the session can; else do nothing."""
        decoder = self.decoder
        if decoder.follows(_DESCRIBE_EXECUTE_SYNC):
            messages = _DESCRIBE_EXECUTE_SYNC
        elif decoder.follows(_EXECUTE_SYNC):
            messages = _EXECUTE_SYNC
        else:
            return False
        formats = bind.result_formats
        if len(formats) > 1 or (formats and formats[0] not in FORMAT_CODES):
            return False
        answer: AnswerAtOnce | None = None
        step = None if self._has_declined else session.step(bind.statement)
        self._has_declined = False
        if step is not None and await complete(
            step, step.run(bind.parameters, bind.parameter_formats)
        ):
            answer = step
            self._keep_template(session, bind, messages, step)
        else:
            answer = await session.execute_in_one_step(
                bind.statement, bind.parameters, bind.parameter_formats
            )
        if answer is None:
            return False
        decoder.skip(messages)
        columns = answer.columns
        shape = None
        if columns is not None:
            shape = self._shapes.find(
                session.format, columns, spread_formats(formats, len(columns))
            )
        description = None if shape is None else shape.row_description
        self.out += head_of(description, is_described=messages is _DESCRIBE_EXECUTE_SYNC)
        if shape is not None:
            shape.encode(answer.rows, self.out)
        self.out += backend.command_complete(answer.tag)
        if session.is_recorded:
            await self._end_recorded(session, is_simple=False)
        self._ready(session)
        return True

    def _keep_template(
        self, session: FrontEndSession, bind: m.Bind, following: bytes, step: Step
    ) -> None:
        """Have the next execution of a statement that came as one packet recognised whole."""
        data = self.decoder.sole_execution(following)
        if data is None:
            return
        encode = description = None
        if step.columns is not None:
            formats = spread_formats(bind.result_formats, len(step.columns))
            shape = self._shapes.find(session.format, step.columns, formats)
            description = shape.row_description
            encode = shape.encode if shape.settings is None else None
        head = head_of(description, is_described=following is _DESCRIBE_EXECUTE_SYNC)
        if len(self._templates) >= _TEMPLATES_MAX:
            self._templates.clear()
        self._templates[bind.statement.encode()] = Template(
            data, bind, following, step, head, encode
        )

    # Answers without the coroutine.

    def _answer_directly(self, data: bytes) -> bool:
        """Answer a packet that is one known statement; False when nothing has been done."""
        session = self.session
        if (
            self._input is None
            or session is None
            or self._is_write_paused
            or self._farewell is not None
            or not self.decoder.is_empty
        ):
            return False
        if self._gate is not None:
            self._repeatable = data if session.transaction_status == b"I" else None
        try:
            if data[0] == BIND_TAG:
                template = self._templates.get(data[NAME_OFFSET : data.find(0, NAME_OFFSET)])
                values = None if template is None else template.values_of(data)
                if template is None or values is None:
                    return False
                step = template.step
                outcome = step.run(values, template.formats)
            else:
                template = None
                text = query_text(data)
                found = None if text is None else session.query_step(text)
                if found is None:
                    return False
                step = found[0]
                outcome = step.run_with(found[1])
        except Exception as error:  # noqa: BLE001  the coroutine reports it like any other
            self._fail_directly(error)
            return True
        if outcome is None:
            self._has_declined = True
            return False
        if outcome is True:
            self._send_answer(session, step, template)
        else:
            self._committing = step, template, self._input
            self._input = None
            outcome.on_done(self._committed)
        return True

    def _committed(self) -> None:
        """Go on after the commit that a step has waited for."""
        assert self._committing is not None
        assert self.session is not None
        (step, template, waiter), self._committing = self._committing, None
        self._input = waiter
        try:
            step.finish()
        except Exception as error:  # noqa: BLE001  the coroutine reports it like any other
            self._fail_directly(error)
            return
        self._send_answer(self.session, step, template)
        self._take_what_came(waiter)

    def _take_what_came(self, waiter: Waiter[None]) -> None:
        """Leave to the coroutine what came while a step committed."""
        if self._is_eof or self._farewell is not None or not self.decoder.is_empty:
            self._input = None
            waiter.set_result(None)

    def _send_answer(self, session: FrontEndSession, step: Step, template: Template | None) -> None:
        self.steps += 1
        out = self.out
        columns = step.columns
        encode = None
        if template is not None:
            out += template.head
            encode = template.encode
        if columns is not None and (encode is None or template is None):
            formats = () if template is None else template.result_formats
            shape = self._shapes.find(
                session.format, columns, spread_formats(formats, len(columns))
            )
            encode = shape.encode
            if template is None:
                out += shape.row_description
        if encode is not None:
            encode(step.rows, out)
        out += backend.command_complete(step.tag)
        if session.has_asynchronous:
            self._append_asynchronous(session)
        out += backend.READY_FOR_QUERY[session.transaction_status]
        self.io.write(bytes(out))
        out.clear()

    def _fail_directly(self, error: Exception) -> None:
        """Hand an error to the coroutine, as one of a statement that was complete."""
        waiter = self._input
        assert waiter is not None
        self._input = None
        if self._repeatable is not None and isinstance(error, LeaderChanged):
            self.begin_again(self._repeatable)
            waiter.set_result(None)
            return
        self.decoder.last_tag = _SYNC_TAG
        waiter.set_error(error)

    async def _recover(self, session: FrontEndSession, error: Exception) -> None:
        """Report the error, and skip what belongs to the failed message."""
        if self._gate is not None and await self._gate.recover(error):
            return
        tag = self.decoder.last_tag
        log_unless_expected(error)
        self._append_notices(session)
        if is_fatal(error):
            assert isinstance(error, SqlError)
            raise FatalError(error)
        await session.on_error(error)
        backend.error_response(self.out, error_fields(error))
        if not self._in_simple_query and tag in _EXTENDED_TAGS:
            await self._skip_to_sync()
        self._in_simple_query = False
        # If it was the Sync itself that failed, its work is done by on_error.
        if tag != _SYNC_TAG:
            await session.sync()
        self._ready(session)

    async def _skip_to_sync(self) -> None:
        while True:
            try:
                message = await self.next_message()
            except SqlError:
                continue  # a malformed message is discarded like any other
            if type(message) is m.Sync:
                return
            if type(message) is m.Terminate:
                raise ConnectionLost("terminated")

    def _ready(self, session: FrontEndSession) -> None:
        self._is_amid_batch = False
        if session.has_asynchronous:
            self._append_asynchronous(session)
        self.out += backend.READY_FOR_QUERY[session.transaction_status]
        self._is_flush_wanted = True

    def _append_notices(self, session: FrontEndSession) -> None:
        for notice in session.take_notices():
            backend.notice_response(self.out, notice_fields(notice))

    def _append_asynchronous(self, session: FrontEndSession) -> None:
        self._append_notices(session)
        for process_id, channel, payload in session.take_notifications():
            backend.notification_response(self.out, process_id, channel, payload)
        self._append_parameter_changes(session)

    def _append_parameter_changes(self, session: FrontEndSession) -> None:
        for name, value in session.take_parameter_changes():
            backend.parameter_status(self.out, name, value)

    # The less frequent messages.

    async def _on_query(self, message: m.Query) -> None:
        session = self._require_session()
        found = None if self._has_declined else session.query_step(message.text)
        self._has_declined = False
        if found is not None:
            step, parameters = found
            if await complete(step, step.run_with(parameters)):
                if step.columns is not None:
                    shape = self._shapes.find(
                        session.format, step.columns, spread_formats((), len(step.columns))
                    )
                    self.out += shape.row_description
                    shape.encode(step.rows, self.out)
                self.out += backend.command_complete(step.tag)
                if session.is_recorded:
                    await self._sync_simple(session)
                else:
                    self._ready(session)
                return
        self._in_simple_query = True
        statements = session.simple_statements(message.text)
        if not statements:
            self.out += backend.EMPTY_QUERY_RESPONSE
        last = len(statements) - 1
        for index, statement in enumerate(statements):
            result = await session.execute_simple(statement, is_last=index == last)
            formats: tuple[int, ...] = ()
            if result.columns is not None:
                formats = (0,) * len(result.columns)
                self.out += self._shapes.find(
                    session.format, result.columns, formats
                ).row_description
            await self._answer(session, result, formats)
        self._in_simple_query = False
        await self._sync_simple(session)

    async def _sync_simple(self, session: FrontEndSession) -> None:
        if session.is_recorded:
            await self._end_recorded(session, is_simple=True)
        else:
            # A failing commit is answered like a failing Sync: one error, then ReadyForQuery.
            self.decoder.last_tag = _SYNC_TAG
            await session.sync()
        self._ready(session)

    async def _end_recorded(self, session: FrontEndSession, *, is_simple: bool) -> None:
        """Commit a batch whose answer is recorded with its commit: all of it is written by now."""
        del is_simple
        self.decoder.last_tag = _SYNC_TAG
        await session.sync()

    async def _on_parse(self, message: m.Parse) -> None:
        session = self._require_session()
        await session.parse(message.statement, message.text, message.parameter_oids)
        self.out += backend.PARSE_COMPLETE

    async def _on_describe_statement(self, message: m.DescribeStatement) -> None:
        description = await self._require_session().describe_statement(message.statement)
        backend.parameter_description(self.out, description.parameter_types)
        columns = description.columns
        if columns is None:
            self.out += backend.NO_DATA
        else:
            # Formats are not known before Bind; the protocol says 0 then.
            self.out += backend.row_description(columns, (0,) * len(columns))

    async def _on_close_statement(self, message: m.CloseStatement) -> None:
        await self._require_session().close_statement(message.statement)
        self.out += backend.CLOSE_COMPLETE

    async def _on_close_portal(self, message: m.ClosePortal) -> None:
        await self._require_session().close_portal(message.portal)
        self.out += backend.CLOSE_COMPLETE

    async def _on_flush(self, _message: m.Flush) -> None:
        self._is_flush_wanted = True

    async def _on_refused(self, message: m.FunctionCall | m.PasswordMessage | m.Terminate) -> None:
        if type(message) is m.Terminate:
            raise ConnectionLost("terminated")
        if type(message) is m.FunctionCall:
            raise FeatureNotSupported("the function call protocol is not supported")
        raise framing_lost(f"invalid frontend message type {self.decoder.last_tag}")

    async def _on_stray_copy(self, _message: m.CopyData | m.CopyDone | m.CopyFail) -> None:
        pass

    def _require_session(self) -> FrontEndSession:
        assert self.session is not None
        return self.session
