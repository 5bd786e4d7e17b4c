"""The gateway's side: batches that this node may not serve go to the leader's executor.

A ``Forwarder`` is one connection's gate. At the beginning of each batch it decides::

    this node may serve rows        -> the connection runs the batch
    touches no rows (``batch``)     -> the connection runs it, whoever leads
    stale read allowed              -> the connection runs it, on this replica's state
    a block is open at the executor -> it goes there, wherever the leader is by now
    otherwise                       -> it goes to the leader, within the budget of ``gateway.retry``

What comes back is written to the client as it stands. The session's state is here between batches;
see ``nodedb.session.state``.

When the leader is lost: what was surely not executed goes to the next leader, and so does what only
reads, as long as the client has got none of the answer. A batch that commits by itself goes there
too: its commit has recorded it, and the next leader answers from that or executes it. Of any other
batch nobody knows whether it was committed: 40003. A block is lost with its leader: 40001, unless
its COMMIT was on the way. A session that is pinned to its executor ends with it (57P01).
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from nodedb.errors import LeaderChanged
from nodedb.gateway import message as f
from nodedb.gateway.placement import Placement
from nodedb.gateway.retry import HERE, PAUSE_SECONDS_MAX, NotServed, budget_seconds
from nodedb.pgwire import message as m
from nodedb.pgwire.batch import Batch, is_terminate, place_batch, statements_in
from nodedb.pgwire.errors import ConnectionLost, FatalError
from nodedb.pgwire.link import SILENCE_SECONDS_MAX, ExecutorLink
from nodedb.session.api import Notification
from nodedb.session.state import block_state, keep_parsed, pinned_by
from nodedb.waiter import Waiter
from sql.ast.utility import Prepare
from sql.errors import (
    AdminShutdown,
    CannotConnectNow,
    QueryCanceled,
    StatementCompletionUnknown,
)

if TYPE_CHECKING:
    from nodedb.kv.replicator import Timer
    from nodedb.pgwire.connection import Connection
    from nodedb.session.forwarding import Forwarding
    from nodedb.session.session import Session

COLLECT_BYTES_MAX: Final = 64 * 1024
"""A batch that has not ended by then is sent on without knowing what it is."""
SEND_BYTES: Final = 64 * 1024
"""Messages are put together up to this, for a frame each would be dear."""
GRACE_SECONDS: Final = 0.05
"""If this node itself stood still, an answer may be waiting to be heard."""
_FOR_THE_CONNECTION: Final = (m.Sync, m.Terminate, m.FunctionCall, m.PasswordMessage)
_VAIN: Final = (m.Flush, m.CopyData, m.CopyDone, m.CopyFail)
_STAND_ALONE: Final = (*_FOR_THE_CONNECTION, *_VAIN)
"""What is no part of a batch where it comes first."""
_STATES: Final[dict[str, Literal["idle", "open", "failed"]]] = {
    "I": "idle",
    "T": "open",
    "E": "failed",
}


class Forwarder:
    """See the module. Implements ``nodedb.pgwire.io.Gate``."""

    def __init__(self, connection: Connection, session: Session, forwarding: Forwarding) -> None:
        self._connection = connection
        self._session = session
        self._forwarding = forwarding
        self._link: ExecutorLink | None = None
        self._batch: Batch | None = None
        self._event: Waiter[None] | None = None
        self._pinned = ""
        """Why the session cannot leave its executor."""
        self._is_block_lost = False
        """The client believes to be in a block whose leader is no more."""
        self._is_at_home = True
        """Its locks, channels and temporary tables, if any, are at this node."""
        self._was_idle = True
        self._lasting_count = 0
        self._is_running_here = False
        self._is_closed = False
        self._listen_timer: Timer | None = None
        self._unsubscribe = forwarding.watch.subscribe(self._on_leadership)

    # Gate

    @property
    def is_home(self) -> bool:
        """Tell whether the next batch may well be run here, so that trying is worth while."""
        return self._link is None and not self._is_block_lost

    async def admit(self) -> None:
        """Answer the batches that come next as long as they are for another node."""
        connection, session = self._connection, self._session
        decoder = connection.decoder
        session.is_stale_read = self._is_running_here = False
        while not decoder.is_empty:
            if self._may_run_here():
                break
            if self._is_at_home:
                self._leave_home()
            batch = await self._collect()
            if batch is None:
                break
            await self._forward(batch)
        connection.start_batch()
        decoder.mark()
        self._was_idle = session.block.state == "idle"
        self._lasting_count = session.block.lasting_count
        self._is_running_here = True

    async def recover(self, error: Exception) -> bool:
        """Have the batch run elsewhere if nothing of it has left or lasts."""
        block, connection = self._session.block, self._connection
        if (
            not isinstance(error, LeaderChanged)
            or not self._is_running_here
            or not self._was_idle
            or not block.may_repeat
            or block.lasting_count != self._lasting_count
        ):
            return False
        raw = connection.decoder.since_mark()
        if raw is None or not self._forget_statements(raw) or not connection.take_back_batch():
            return False
        await self._session.on_error(error)
        # A turn of the loop: who leads now is learned between them, and nobody else is kept out.
        turn: Waiter[None] = Waiter()
        self._forwarding.schedule.later(0.0, lambda: _wake(turn))
        await turn
        connection.begin_again(raw)
        return True

    def wake(self) -> None:
        """Look again at what has come."""
        event, self._event = self._event, None
        if event is not None:
            event.set_result(None)

    def let_go(self) -> None:
        """Let go of the executor: the client is gone, or the session over."""
        self._is_closed = True
        self._unsubscribe()
        if self._listen_timer is not None:
            self._listen_timer.cancel()
        self._drop_link()

    # Where a batch runs

    def _may_run_here(self) -> bool:
        session = self._session
        if session.remote_block != "idle" or self._is_block_lost:
            return False
        if session.leadership.may_serve:
            self._come_home()
            return True
        block = session.block
        if block.state == "failed" or block.is_touched:
            return True  # It is of this node; if it has lost the group, its statement says so.
        # For a moment nobody may: statements wait for it themselves.
        leadership = session.leadership
        return self._is_at_home and bool(leadership.tenure) and leadership.leader_address is None

    def _come_home(self) -> None:
        """Run the session's statements here from now on."""
        if self._is_at_home:
            return
        if self._pinned:
            raise self._pinned_lost()
        self._drop_link()
        self._is_at_home = True
        self._session.node.notifications.attach(self._session)

    def _leave_home(self) -> None:
        """Run the session's statements elsewhere from now on."""
        session = self._session
        self._pinned = pinned_by(session)
        if self._pinned:
            raise self._pinned_lost()
        self._is_at_home = False
        session.node.notifications.detach(session)
        if isinstance(session.interrupts.pending, LeaderChanged):
            session.interrupts.clear()  # Its block has nothing to lose.

    async def _collect(self) -> Batch | None:
        """Return the batch that comes next, None if it is for this connection."""
        connection, session = self._connection, self._session
        decoder = connection.decoder
        if session.remote_block != "idle" or self._is_block_lost:
            return Batch("", Placement.EFFECTS, None)
        while True:
            messages, is_whole = decoder.peek()
            if is_whole or decoder.buffered_bytes > COLLECT_BYTES_MAX:
                break
            if messages and isinstance(messages[0], _STAND_ALONE):
                break
            try:
                await connection.wait_input()
            except ConnectionLost:
                if connection.is_lost or not messages:
                    raise
                break  # No more comes, but what is there is still answered.
            if self._may_run_here():
                return None
        if not messages:
            # Malformed, which is found when it is taken; or too long to be known.
            return None if is_whole else Batch("", Placement.EFFECTS, None)
        if isinstance(messages[0], _FOR_THE_CONNECTION):
            return None
        if isinstance(messages[0], _VAIN):
            decoder.take_raw()  # Nothing to flush; the rest of a COPY that failed.
            return None if decoder.is_empty else await self._collect()
        batch = place_batch(session, messages, is_whole=is_whole)
        if batch.placement is Placement.HERE:
            return None
        if self._may_be_stale(batch):
            session.is_stale_read = True
            return None
        if isinstance(messages[-1], m.Sync) or isinstance(messages[0], m.Query):
            batch.add_whole(decoder.take_peeked(), messages)
        return batch

    def _may_be_stale(self, batch: Batch) -> bool:
        """Tell whether it is one query for which this replica is good enough (rules 48, 51)."""
        session = self._session
        return (
            batch.placement is Placement.ROWS
            and batch.statements is not None
            and len(batch.statements) == 1
            and session.block.state == "idle"
            and session.settings.get("nodedb.read_consistency") == "eventual"
            and session.leadership.may_serve_stale
            and session.node.transactions.group.last_timestamp >= session.seen_timestamp
        )

    # Forwarding a batch

    async def _forward(self, batch: Batch) -> None:
        """Have another node answer a batch; on return it is answered, or unread for this one."""
        session = self._session
        batch.started_at = self._forwarding.clock.monotonic()
        if not batch.is_closed:
            self._take(batch)
        session.begin_forwarded(batch.text or batch.query_text())
        try:
            if session.remote_block != "idle" or self._is_block_lost:
                await self._go_on(batch)
                return
            await self._forwarding.retry.until_served(
                partial(self._attempt, batch),
                leadership=session.leadership,
                budget_seconds=budget_seconds(session.settings.statement_timeout_ms),
                interrupts=session.interrupts,
            )
        except CannotConnectNow as error:
            if batch.is_repeated:
                raise _outcome_unknown(self._link) from error
            raise
        finally:
            session.end_forwarded()
            self._connection.resume_input()
            if self._link is not None and not self._is_closed:
                self.on_link(self._link)

    async def _attempt(self, batch: Batch, target: str, left_seconds: float) -> None:
        """Have one node answer the batch. Raises NotServed when surely nothing has happened."""
        if target == HERE:
            if not batch.is_repeated or not self._is_settled_here(batch):
                self._connection.begin_again(b"".join(batch.kept))
            return
        link = self._link_to(target)
        await self._ask(link, left_seconds)
        await self._exchange(link, batch)

    async def _go_on(self, batch: Batch) -> None:
        """Have the executor that has the session's open block answer the batch."""
        link = self._link
        try:
            if link is None:
                raise NotServed("it is lost")
            await self._ask(link, SILENCE_SECONDS_MAX)
        except NotServed:
            self._lose_block(batch, was_sent=False)
        else:
            await self._exchange(link, batch)

    def _link_to(self, address: str) -> ExecutorLink:
        """Return the stream to an executor, a new one where there is none."""
        link = self._link
        if link is not None and link.address == address and not link.is_over:
            return link
        if self._pinned:
            raise self._pinned_lost()
        self._drop_link()
        self._link = link = ExecutorLink(self, self._forwarding, self._session, address)
        link.start()
        return link

    async def _ask(self, link: ExecutorLink, left_seconds: float) -> None:
        """Make sure that the executor is there. Raises NotServed."""
        if link.is_trusted and not link.is_over:
            return
        clock = self._forwarding.clock
        deadline = clock.monotonic() + min(left_seconds, SILENCE_SECONDS_MAX)
        pong_count = link.pong_count
        link.ping()
        while link.pong_count == pong_count:
            if link.is_finished:
                self._last_words(link)
            left = deadline - clock.monotonic()
            if left <= 0 and not link.broken_by:
                await self._wait(GRACE_SECONDS)
                if link.pong_count != pong_count:
                    break
            reason = link.broken_by or ("" if left > 0 else "it does not answer")
            if self._session.leadership.leader_address not in (None, link.address):
                reason = reason or "another node leads by now"
            if reason:
                self._drop_link()
                if self._pinned:
                    raise self._pinned_lost()
                raise NotServed(f"the leader at {link.address} cannot be reached: {reason}")
            await self._wait(left)

    async def _exchange(self, link: ExecutorLink, batch: Batch) -> None:
        """Send the batch, and pass on what comes back until it is answered."""
        session = self._session
        self._batch = batch
        if batch.is_request and batch.request is None:
            batch.request = self._forwarding.new_request(session)
        link.batch_number += 1
        begin = f.BatchBegin(
            link.batch_number,
            link.sync.export_changes(),
            block_state(session) if session.remote_block == "idle" else None,
            int((self._forwarding.clock.monotonic() - batch.started_at) * 1000),
            batch.request,
        )
        link.begin_watch()
        try:
            link.send(f.BATCH, begin, b"".join(batch.kept))
            batch.is_streaming = True
            while not await self._relay(link, batch):
                if link.is_over:
                    self._lost(link, batch)
                    return
                if not self._send_more(link, batch):
                    await self._wait()
        finally:
            link.end_watch()
            self._batch = None

    async def _relay(self, link: ExecutorLink, batch: Batch) -> bool:
        """Pass on what has come; True when the batch is answered. NotServed: refused."""
        connection, session = self._connection, self._session
        while link.inbox:
            kind, header, data = link.inbox.popleft()
            if isinstance(header, f.Refusal):
                self._drop_link()
                if header.is_unknown:
                    raise _outcome_unknown(link)
                if not batch.is_kept:
                    raise LeaderChanged
                batch.is_copying = False
                if header.is_open:
                    batch.repeat()
                raise NotServed(header.reason)
            if isinstance(header, f.Notifications):
                self._take_notifications(header)
                continue
            batch.has_relayed = batch.has_relayed or bool(data)
            connection.out += data
            if isinstance(header, f.BatchEnd):
                self._take_end(link, batch, header)
                if header.number == link.batch_number:
                    await self._end(header)
                    return True
                connection.append_ready(session.transaction_status)
            if kind == f.COPY_IN:
                batch.is_copying = True
            elif kind == f.SKIP:
                batch.skip_to_sync()
            if len(connection.out) >= connection.settings.output_bytes_flush:
                await self._give_way(link)
        if connection.out:
            await self._give_way(link)
        return False

    async def _give_way(self, link: ExecutorLink) -> None:
        """Send what there is; while the client does not take it, take nothing more either."""
        connection = self._connection
        connection.flush()
        if connection.is_write_paused:
            link.pause()
            try:
                await connection.give_way()
            finally:
                link.resume()

    def _send_more(self, link: ExecutorLink, batch: Batch) -> bool:
        """Send what else of the batch has come; False when that is nothing, or must wait."""
        if not batch.wants_more or not link.may_send:
            return False
        parts = self._take(batch)
        if parts:
            link.send(f.DATA, None, b"".join(parts))
        elif not self._connection.is_eof:
            self._connection.resume_input(is_needed=True)
        elif not batch.is_ended:
            batch.is_ended = True
            link.end_input()
        return bool(parts)

    def _take(self, batch: Batch) -> list[bytes]:
        """Take messages of the batch as far as they have come."""
        connection = self._connection
        parts: list[bytes] = []
        size = 0
        while batch.wants_more and size < SEND_BYTES:
            raw = connection.decoder.take_raw()
            if raw is None:
                break
            if is_terminate(raw):
                raise ConnectionLost("terminated")
            batch.add(raw)
            parts.append(raw)
            size += len(raw)
        connection.resume_input()
        return parts

    async def _wait(self, seconds: float | None = None) -> None:
        """Wait for anything; a cancel request is passed on to the executor that runs the batch."""
        event = self._event = Waiter()
        timer = None
        if seconds is not None:
            timer = self._forwarding.schedule.later(seconds, self.wake)
        try:
            await self._session.interrupts.wait(event)
        except QueryCanceled as error:
            if self._batch is None or self._link is None:
                raise
            self._link.send(f.CANCEL, f.Cancel(error.message))
        except LeaderChanged:
            pass  # Meant for what the session had open here, which is nothing.
        finally:
            self._event = None
            if timer is not None:
                timer.cancel()

    def _take_end(self, link: ExecutorLink, batch: Batch | None, end: f.BatchEnd) -> None:
        """Take over what the batch has changed."""
        session = self._session
        session.remote_block = _STATES[end.status]
        if session.remote_block == "idle" and session.block.state != "idle":
            session.block.abandon()
        if end.state is not None:
            link.sync.take(end.state, {} if batch is None else batch.parsed)
        self._pinned = end.pinned
        session.seen_timestamp = max(session.seen_timestamp, end.timestamp)
        self._forwarding.note_timestamp(end.timestamp)
        if batch is not None and batch.is_repeated:
            self._keep_parsed(batch)

    async def _end(self, end: f.BatchEnd) -> None:
        """Give the client the turn, once this node has the catalog that the batch has made."""
        session = self._session
        self._forwarding.batch_count += 1
        if end.catalog_index:
            # It is committed: there is nothing to cancel any more.
            with contextlib.suppress(QueryCanceled, LeaderChanged):
                await self._forwarding.wait_for_catalog(end.catalog_index, session.interrupts)
        self._connection.end_batch(session, session.transaction_status)

    # The loss of an executor

    def _lost(self, link: ExecutorLink, batch: Batch) -> None:
        """Decide what becomes of a batch whose executor is lost. Raises, or leaves it unread."""
        session = self._session
        if link.is_finished:
            # Its last words have been passed on: the session is over.
            raise ConnectionLost("the session has ended")
        self._drop_link()
        if self._pinned:
            raise self._pinned_lost()
        if session.remote_block != "idle" or session.block.state != "idle":
            self._lose_block(batch, was_sent=True)
            return
        if batch.may_repeat:
            batch.repeat()
            raise NotServed(f"the leader at {link.address} was lost: {link.broken_by}")
        if batch.placement < Placement.EFFECTS:
            raise LeaderChanged  # Some of the answer has left.
        if batch.begins_block:
            session.block.begin(session.now())
            raise LeaderChanged
        raise _outcome_unknown(link)

    def _is_settled_here(self, batch: Batch) -> bool:
        """Answer a repeated batch at the node that leads by now, this one; False: it may run."""
        request, session = batch.request, self._session
        if request is None:
            return False
        transactions = session.node.transactions
        answer = transactions.group.completions.find(request.origin, request.number)
        if answer:
            recorded = f.decode_recorded(answer)
            if recorded.sequences is not None:
                session.services.restore_sequences(recorded.sequences)
            self._keep_parsed(batch)
            self._connection.out += recorded.data
            self._connection.end_batch(session, session.transaction_status)
            return True
        if answer is not None or not transactions.group.completions.covers(request.since):
            raise _outcome_unknown(self._link)
        if transactions.is_under_way(request.origin, request.number):
            raise NotServed("its commit is under way")
        return False

    def _keep_parsed(self, batch: Batch) -> None:
        """Have the prepared statements of a batch that was answered from a record."""
        for name, (text, oids) in batch.named.items():
            if name and name not in self._session.prepared:
                keep_parsed(self._session, name, text, oids)

    def _lose_block(self, batch: Batch, *, was_sent: bool) -> None:
        """Answer a batch in a block that is lost with its leader. Raises, or leaves it unread."""
        session = self._session
        if self._pinned:
            raise self._pinned_lost()
        was_failed = session.remote_block == "failed"
        session.remote_block = "idle"
        self._is_block_lost = False
        link = self._link
        self._drop_link()
        if batch.statements is None:
            batch.statements = statements_in(session, batch)
        if (was_failed or batch.only_rolls_back) and batch.is_kept:
            # Here it comes to the same.
            if session.block.state != "failed":
                session.block.begin_failed(session.now())
            self._connection.begin_again(b"".join(batch.kept))
            return
        if batch.may_commit:
            session.block.abandon()
            raise _outcome_unknown(link) if was_sent else LeaderChanged()
        session.block.begin(session.now())
        raise LeaderChanged

    def _last_words(self, link: ExecutorLink) -> None:
        """Pass on why the executor has ended the session, and end it."""
        while link.inbox:
            self._connection.out += link.inbox.popleft().data
        raise ConnectionLost("the session has ended")

    def _pinned_lost(self) -> FatalError:
        error = AdminShutdown(
            "terminating connection because its leader was lost",
            detail=f"The session cannot go on at another node, for {self._pinned}.",
            hint="Connect again.",
        )
        return FatalError(error)

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _forget_statements(self, raw: bytes) -> bool:
        """Undo the Parse messages of a batch that is to run again; False for a PREPARE."""
        session = self._session
        batch = Batch("", Placement.EFFECTS, None)
        decoder = type(self._connection.decoder)()
        decoder.feed(raw)
        while (each := decoder.take_raw()) is not None:
            batch.add(each)
        if any(isinstance(each, Prepare) for each in statements_in(session, batch) or ()):
            return False
        for name in batch.parsed_names:
            session.prepared.pop(name, None)
        return True

    # Between batches

    def on_link(self, link: ExecutorLink) -> None:
        """Look at what came from an executor, or at its end."""
        if self._batch is not None or self._event is not None:
            self.wake()
            return
        if link is not self._link:
            return
        session = self._session
        while link.inbox:
            _, header, data = link.inbox.popleft()
            if isinstance(header, f.Notifications):
                self._take_notifications(header)
            elif data or isinstance(header, f.BatchEnd):
                self._connection.out += data
                if isinstance(header, f.BatchEnd):
                    self._take_end(link, None, header)
                    self._connection.append_ready(session.transaction_status)
                self._connection.flush_if_idle()
        if link.is_over:
            self._lost_while_idle(link)

    def _take_notifications(self, header: f.Notifications) -> None:
        session = self._session
        session.notifications += [Notification(*each) for each in header.notifications]
        session.on_notified = self._notified
        session.notify_front_end()

    def _notified(self) -> None:
        """Note that the client is getting its notifications."""
        # Later, for the next ones must not overtake them.
        self._forwarding.schedule.soon(self._ask_for_notifications)

    def _ask_for_notifications(self) -> None:
        """Tell the executor that the client has got its notifications: there may be more."""
        if self._link is not None:
            self._link.send(f.TAKEN, None)

    def _lost_while_idle(self, link: ExecutorLink) -> None:
        session = self._session
        self._link = None
        link.close()
        if link.is_finished:
            self._connection.terminate(ConnectionLost("the session has ended"))
        elif self._pinned:
            self._connection.terminate(self._pinned_lost())
        elif session.remote_block == "failed":
            session.remote_block = "idle"
            session.block.begin_failed(session.now())
        elif session.remote_block == "open":
            self._is_block_lost = True
        else:
            self._listen_later()

    def _on_leadership(self) -> None:
        """Follow the leader while the client is idle; a batch finds its way by itself."""
        session = self._session
        if self._is_closed:
            return
        if session.is_running:
            self.wake()
            self._listen_later()
            return
        if session.remote_block != "idle" or self._is_block_lost or session.block.is_touched:
            return
        leadership = session.leadership
        try:
            if leadership.may_serve:
                self._come_home()
                return
            if self._is_at_home and not leadership.tenure:
                self._leave_home()
            address, link = leadership.leader_address, self._link
            if address is not None and link is not None and link.address != address:
                if self._pinned:
                    raise self._pinned_lost()
                self._drop_link()
        except FatalError as error:
            self._connection.terminate(error)
            return
        self._listen_elsewhere()

    def _listen_elsewhere(self) -> None:
        """Have an executor at the leader for the channels listened to."""
        session, leadership = self._session, self._session.leadership
        if self._is_closed or self._is_at_home or not session.channels or self._link is not None:
            return
        if leadership.leader_address is not None and not leadership.may_serve:
            self._link_to(leadership.leader_address)

    def _listen_later(self) -> None:
        """Look again soon whether somebody has to listen."""
        if self._listen_timer is None and self._session.channels and not self._is_closed:
            self._listen_timer = self._forwarding.schedule.later(
                PAUSE_SECONDS_MAX, self._on_listen_timer
            )

    def _on_listen_timer(self) -> None:
        self._listen_timer = None
        self._on_leadership()


def _outcome_unknown(link: ExecutorLink | None) -> StatementCompletionUnknown:
    why = "" if link is None else f" at {link.address}"
    return StatementCompletionUnknown(
        "could not determine whether the transaction was committed",
        detail=f"The leader{why} was lost before it answered.",
        hint="Look for its effects before running it again.",
    )


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)
