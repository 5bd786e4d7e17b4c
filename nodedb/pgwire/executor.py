"""The executor: runs, on the leader, the batches of a client that is connected to another node.

It is a connection and a session like any other, but for what it stands between: its messages come
in frames from the client's gateway, which has let the client in, and what it writes goes there in
frames (``nodedb.gateway.message``). So a client cannot tell who answers: formats, errors, notices
and limits are those of the same code.

What the session has open here (a transaction block, locks, cursors) dies with the stream; what of
its state can move, the gateway has (``nodedb.session.state``).

A batch outside a block is refused when this node may not serve it, at its beginning or once its
transaction has lost its leader, as long as nothing of it has left or lasts: the gateway then asks
the next leader. It does not use the stream again, so the executor ends with it.

A batch that is a ``Request`` commits at its end, when its answer is known: the entry that commits
it records the answer too (``nodedb.kv.completions``). Sent a second time it is answered from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from cluster.transport.api import RemoteError
from nodedb.errors import LeaderChanged
from nodedb.gateway import message as f
from nodedb.gateway.channel import Channel
from nodedb.gateway.leadership import AlwaysLeader
from nodedb.gateway.loopback import ADDRESS, ForwardingLeadership, Loopback
from nodedb.kv.completions import Completion
from nodedb.pgwire.connection import Connection
from nodedb.pgwire.errors import ConnectionLost, FatalError
from nodedb.session.state import StateSync, pinned_by, without_texts
from nodedb.waiter import Waiter
from sql.errors import SqlError, StatementCompletionUnknown

if TYPE_CHECKING:
    from cluster.transport.api import Peer, Stream, Transport
    from nodedb.pgwire.config import PgWireSettings
    from nodedb.pgwire.io import Gate
    from nodedb.pgwire.templates import Template
    from nodedb.session.api import CopyIn, FrontEndSession, Step
    from nodedb.session.manager import SessionManager

FAULT_FORWARD: Final = "NODEDB_FAULT_FORWARD"
"""The environment variable that makes a node with ``--fault-injection`` forward to itself."""
_READY_BYTES: Final = 6
_NOTIFICATIONS_MAX: Final = 20
"""With the gateway until the client has got them; one has up to 8 kB."""
RECORDED_BYTES_MAX: Final = 64 * 1024
"""Of a longer answer only the fact is recorded."""


class ExecutorHost:
    """All executors of a node. ``serve`` is the transport's handler of ``EXECUTE`` streams."""

    def __init__(self, node: SessionManager, settings: PgWireSettings) -> None:
        self._node = node
        self._settings = settings
        self._executors: dict[Executor, None] = {}

    async def serve(self, _peer: Peer, payload: bytes, stream: Stream) -> None:
        """Be the executor of one session until its gateway lets go of it, or it ends here."""
        try:
            executor = Executor(self._node, self._settings, f.decode_prime(payload))
        except f.BadFrame as error:
            raise RemoteError("08P01", str(error)) from error
        except SqlError as error:
            raise RemoteError(error.sqlstate, error.message) from error
        self._executors[executor] = None
        try:
            await executor.run(stream)
        finally:
            del self._executors[executor]

    @property
    def count(self) -> int:
        """How many sessions of other nodes have an executor here."""
        return len(self._executors)

    @property
    def busy_count(self) -> int:
        """How many of them are amid a batch or a transaction block."""
        return sum(executor.is_busy for executor in self._executors)

    def close(self) -> None:
        """End all of them; their gateways take it for the loss of the leader."""
        for executor in list(self._executors):
            executor.abort("the node is shutting down")


class Executor:
    """One session's: the connection's io and gate, and the session's way to its client."""

    def __init__(self, node: SessionManager, settings: PgWireSettings, prime: f.Prime) -> None:
        self.session = session = node.open_executor(prime, self)
        self._node = node
        self._sync = StateSync(session)
        self._sync.take(prime.state, {})
        node.notifications.attach(session)
        self._channel: Channel | None = None
        self._done: Waiter[None] = Waiter()
        self.is_in_batch = False
        self._number = 0
        self._has_begun = False
        self._has_sent = False
        self._was_idle = True
        self._lasting_count = 0
        self._is_direct = False
        self._draft: bytes | None = None
        self._request: f.Request | None = None
        self._sequences_version = 0
        self._is_refusing = False
        self._lent_count = 0
        self.connection = ExecutorConnection(self, settings)

    async def run(self, stream: Stream) -> None:
        """Serve the stream to its end."""
        self._channel = Channel(self, _opened(stream))
        self.connection.start()
        self._channel.start()
        await self._done
        await self._channel.sent

    @property
    def is_busy(self) -> bool:
        """Tell whether it is amid a batch or a transaction block."""
        return self.is_in_batch or self.session.block.state != "idle"

    def abort(self, reason: str) -> None:
        """Give the stream up, and roll back what is open."""
        if self._channel is not None:
            self._channel.abort(reason)
        self.connection.lost()

    # From the gateway: nodedb.gateway.channel.ChannelOwner

    def on_chunk(self, chunk: bytes) -> None:
        """Take a frame."""
        try:
            kind, header, data = f.decode_frame(chunk)
        except f.BadFrame as error:
            self.abort(str(error))
            return
        if kind == f.DATA:
            if data and not self._is_refusing:
                self.connection.receive(data)
        elif isinstance(header, f.BatchBegin):
            self._begin(header, data)
        elif isinstance(header, f.Cancel):
            self.session.cancel(header.message)
        elif kind == f.PING:
            self._send(f.PONG_FRAME)
        elif kind == f.TAKEN:
            self._take_lent()
            self.connection.deliver_asynchronous()
        else:
            self.abort(f"a frame of kind {kind} from a gateway")

    def on_finished(self) -> None:
        """Take the end of what the client sends."""
        self.connection.eof()

    def on_broken(self, _reason: str) -> None:
        """Take the loss of the gateway, or of the client."""
        self.connection.lost()

    def on_room(self) -> None:
        """Go on sending."""
        self.connection.write_resumed()

    def _begin(self, header: f.BatchBegin, data: bytes) -> None:
        session = self.session
        block = session.block
        if self._is_refusing:
            return
        if self.is_in_batch:
            self.abort("a batch amid a batch")
            return
        if block.state == "idle" and (self._node.is_draining or not session.leadership.may_serve):
            self._refuse("it does not lead the group")
            self.connection.lost()
            return
        if header.state is not None:
            self._sync.take(header.state, {})
        self._was_idle = block.state == "idle" and header.block is None
        if header.block is not None:
            block.adopt(header.block.started_at, has_snapshot=header.block.has_snapshot)
        session.services.waited_ms = header.elapsed_ms
        session.catalog_index = 0
        self._lasting_count = block.lasting_count
        self._number = header.number
        self.is_in_batch, self._has_begun, self._has_sent = True, True, False
        self.connection.start_batch()
        if header.request is not None and self._is_settled(header.request):
            return
        if data:
            self.connection.receive(data)

    def _refuse(self, reason: str, *, is_open: bool = False, is_unknown: bool = False) -> None:
        self._is_refusing = True
        for frame in f.frames(f.REFUSED, f.Refusal(reason, is_open, is_unknown), b""):
            self._send(frame)

    # Requests

    def _is_settled(self, request: f.Request) -> bool:
        """Answer or refuse a request that was sent before; False when it is to be executed."""
        if request.is_repeated:
            transactions = self._node.transactions
            completions = transactions.group.completions
            answer = completions.find(request.origin, request.number)
            if answer:
                self._answer_again(f.decode_recorded(answer))
                return True
            if answer is not None or not completions.covers(request.since):
                self._refuse("what is recorded does not reach back so far", is_unknown=True)
            elif transactions.is_under_way(request.origin, request.number):
                self._refuse("its commit is under way", is_open=True)
            if self._is_refusing:
                self.connection.lost()
                return True
        self._request = request
        self._sequences_version = self.session.services.sequences_version
        self.session.block.completes = self._completes
        return False

    def _answer_again(self, recorded: f.Recorded) -> None:
        session = self.session
        if recorded.sequences is not None:
            session.services.restore_sequences(recorded.sequences)
        # If it changed the catalog, the gateway is to have that; which change it was is forgotten.
        session.catalog_index = self._node.metadata.catalog.schema_version
        self._end(recorded.data)

    def _completes(self) -> Completion | None:
        """Return the record of the batch's commit; its first one, should it have several.

        What commits before the end of the batch has no answer yet: that it has is all one learns.
        """
        request, self._request = self._request, None
        if request is None:
            return None
        answer = b""
        data = bytes(self.connection.out) if self._draft is None else self._draft
        if self.connection.is_ending and not self._has_sent and len(data) <= RECORDED_BYTES_MAX:
            services = self.session.services
            has_drawn = services.sequences_version != self._sequences_version
            sequences = services.export_sequences() if has_drawn else None
            answer = f.encode_recorded(f.Recorded(data, sequences))
        return Completion(request.origin, request.number, answer)

    # To the gateway: nodedb.pgwire.io.ConnectionIo

    def write(self, data: bytes) -> None:
        """Send what the connection has written."""
        if self._is_direct:
            self._draft = data[:-_READY_BYTES]
            return
        self._has_sent = True
        for frame in f.output_frames(data):
            self._send(frame)

    def pause_input(self) -> None:
        """Have the gateway send no more for now."""
        self._send(f.HOLD_FRAME)

    def resume_input(self) -> None:
        """Have the gateway send again."""
        self._send(f.GO_FRAME)

    def close(self) -> None:
        """Finish: the session is over."""
        if self._channel is not None:
            self._channel.finish()
        self._done.set_result(None)

    def _send(self, frame: bytes) -> None:
        channel = self._channel
        if channel is not None:
            channel.send(frame)
            if channel.is_full:
                self.connection.write_paused()

    # The ends of batches

    def draft(self, connection: ExecutorConnection, step: Step, template: object) -> None:
        """Make the answer of a step."""
        self._is_direct = True
        try:
            connection.send_step(step, template)
        finally:
            self._is_direct = False

    def send_draft(self) -> None:
        """Send the answer of a step: all of it, and the batch's end, in one frame."""
        draft, self._draft = self._draft, None
        assert draft is not None
        self._end(draft)

    def drop_draft(self) -> None:
        """Forget the answer of a step that has failed to commit."""
        self._draft = None

    def end_batch(self) -> None:
        """Send what is left of the answer, and the batch's end."""
        out = self.connection.out
        if self._has_begun:
            self._end(bytes(out))
        out.clear()  # Before, it is the greeting, which the client has had.

    def begin_copy(self) -> None:
        """Tell the gateway to send COPY data, once the client knows that it should."""
        out = self.connection.out
        self._has_sent = True
        for frame in f.frames(f.COPY_IN, None, bytes(out)):
            self._send(frame)
        out.clear()

    def skip_to_sync(self) -> None:
        """Tell the gateway that nothing but a Sync ends the batch."""
        self._send(f.SKIP_FRAME)

    def _end(self, data: bytes) -> None:
        session = self.session
        number = self._number if self.is_in_batch else 0
        self.is_in_batch = False
        session.block.completes = None
        is_idle = session.block.state == "idle"
        end = f.BatchEnd(
            number,
            session.transaction_status.decode(),
            without_texts(self._sync.export_changes(is_in_block=not is_idle)),
            session.catalog_index,
            self._node.transactions.group.last_timestamp,
            pinned_by(session),
        )
        for frame in f.frames(f.END, end, data):
            self._send(frame)

    # nodedb.pgwire.io.Gate

    @property
    def is_home(self) -> bool:
        """Executors forward nothing."""
        return True

    async def admit(self) -> None:
        """Let the connection have what came: it was looked at in ``_begin``."""

    async def recover(self, error: Exception) -> bool:
        """Refuse the batch in place of an error that only says that the leader has changed."""
        block = self.session.block
        is_surely_not = (
            isinstance(error, LeaderChanged)
            and block.may_repeat
            and block.lasting_count == self._lasting_count
        )
        # The commit of a request whose fate is unknown here is known to the next leader.
        is_known_there = isinstance(error, StatementCompletionUnknown) and block.completes
        if (
            (is_surely_not or is_known_there)
            and self.is_in_batch
            and self._was_idle
            and not self._has_sent
        ):
            self.connection.out.clear()
            self._refuse("it has lost the group", is_open=not is_surely_not)
            raise ConnectionLost("refused")
        return False

    def wake(self) -> None:
        """Nothing waits here."""

    def let_go(self) -> None:
        """Executors have nothing elsewhere."""

    # nodedb.session.manager.FrontEnd

    def deliver_asynchronous(self, process_id: int) -> None:
        """Send what the session has pending if its client is idle."""
        del process_id
        self.connection.deliver_asynchronous()

    def terminate(self, process_id: int, error: SqlError) -> bool:
        """End the session with a FATAL error, which its gateway passes on."""
        del process_id
        self.connection.terminate(FatalError(error))
        return True

    def client_waits(self) -> dict[int, str]:
        """Return what the session waits for of its client."""
        event = self.connection.client_wait
        return {self.session.process_id: event} if event else {}

    def notify(self) -> None:
        """Send some notifications; they wait here until the client has got them."""
        waiting = self.session.notifications
        if self._lent_count or not waiting or self.session.block.state != "idle":
            return
        lent = waiting[:_NOTIFICATIONS_MAX]
        self._lent_count = len(lent)
        header = f.Notifications(tuple((n.process_id, n.channel, n.payload) for n in lent))
        for frame in f.frames(f.NOTIFY, header, b""):
            self._send(frame)

    @property
    def has_lent(self) -> bool:
        """Tell whether the gateway has notifications that the client has not."""
        return bool(self._lent_count)

    def _take_lent(self) -> None:
        """Forget notifications that the gateway delivers."""
        if self._lent_count:
            self.session.forget_notifications(self._lent_count)
            self._lent_count = 0


class ExecutorConnection(Connection):
    """A connection whose client is at another node."""

    is_ending = False
    """The batch has been executed, and commits."""

    def __init__(self, executor: Executor, settings: PgWireSettings) -> None:
        self._executor = executor
        super().__init__(executor, settings, self._open, self._on_over)
        self._feed = self.decoder.feed

    async def _open(self, _connection: Connection) -> FrontEndSession:
        self.decoder.message_bytes_max = self.settings.message_bytes_max
        return self._executor.session

    def _on_over(self) -> None:
        self._executor.close()

    def make_gate(self, _session: FrontEndSession) -> Gate:
        """Return the executor."""
        return self._executor

    def deliver_asynchronous(self) -> None:
        """Send what is pending; outside batches notifications are the gateway's to deliver."""
        if self._input is None or self._is_write_paused:
            return
        if self._executor.is_in_batch:
            super().deliver_asynchronous()
            return
        self._executor.notify()
        session = self._executor.session
        if session.notices or session.settings.has_changes:
            self._append_asynchronous(session)
            self.flush()

    def _append_asynchronous(self, session: FrontEndSession) -> None:
        if self._executor.is_in_batch and not self._executor.has_lent:
            super()._append_asynchronous(session)
            return
        # What the gateway has comes first, and only it knows when.
        self._append_notices(session)
        self._append_parameter_changes(session)

    def send_step(self, step: Step, template: object) -> None:
        """Write the answer of a step."""
        super()._send_answer(self._executor.session, step, template)  # type: ignore[arg-type]

    def _send_answer(
        self, _session: FrontEndSession, step: Step, template: Template | None
    ) -> None:
        executor = self._executor
        executor.draft(self, step, template)
        block = executor.session.block
        if block.completes is None or block.state != "implicit":
            executor.send_draft()
            return
        # A request: what the step has written commits now, together with the answer.
        self.is_ending = True
        try:
            outcome = block.commit_rows()
        except Exception as error:  # noqa: BLE001  the coroutine reports it like any other
            self._fail_request(error)
            return
        if outcome is None:
            self.is_ending = False
            executor.send_draft()
            return
        assert self._input is not None
        executor.session.is_running = True
        self._committing = step, template, self._input
        self._input = None
        outcome.on_done(self._committed)

    def _committed(self) -> None:
        if not self.is_ending:
            super()._committed()
            return
        assert self._committing is not None
        (_, _, self._input), self._committing = self._committing, None
        session = self._executor.session
        session.is_running = False
        try:
            session.block.finish_commit(None)
        except Exception as error:  # noqa: BLE001  the coroutine reports it like any other
            self._fail_request(error)
            return
        self.is_ending = False
        self._executor.send_draft()
        assert self._input is not None
        self._take_what_came(self._input)

    def _fail_request(self, error: Exception) -> None:
        self.is_ending = False
        self._executor.drop_draft()
        self._fail_directly(error)

    async def _end_recorded(self, session: FrontEndSession, *, is_simple: bool) -> None:
        self.is_ending = True
        try:
            await super()._end_recorded(session, is_simple=is_simple)
        except BaseException:
            if is_simple:
                self.take_back_batch()
            raise
        finally:
            self.is_ending = False

    def _ready(self, session: FrontEndSession) -> None:
        self._is_amid_batch = False
        if session.has_asynchronous:
            self._append_asynchronous(session)
        self._executor.end_batch()

    async def _skip_to_sync(self) -> None:
        # Behind the end of a batch there is no Sync to come that is not the next batch's.
        if self._executor.is_in_batch:
            self._executor.skip_to_sync()
            await super()._skip_to_sync()

    async def _copy_in(self, copy: CopyIn) -> str:
        self._begin_copy(copy)
        self._executor.begin_copy()
        return await self._receive_copy(copy)


async def _opened(stream: Stream) -> Stream:
    return stream


def forward_to_itself(node: SessionManager, settings: PgWireSettings) -> None:
    """Have a node by itself forward everything to executors of its own: for tests."""
    loopback = Loopback()
    executors = ExecutorHost(node, settings)
    loopback.serve(ADDRESS, executors.serve)
    node.forward_by(ForwardingLeadership(), cast("Transport", loopback), AlwaysLeader())
