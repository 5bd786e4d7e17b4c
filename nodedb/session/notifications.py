"""LISTEN and NOTIFY on one node: collected in the transaction, carried out when it has committed.

What holds:

* Nobody hears of a transaction that did not commit, nor of what ROLLBACK TO took back.
* Delivery happens in the turn in which the commit is learned, to all listeners at once: they all
  see the same order, and it is the order of the commits. Within a transaction the order is that of
  the statements; the same channel and payload a second time is dropped.
* LISTEN and UNLISTEN come before the same transaction's own notifications, wherever they stood.
* A session gets its notifications while it is outside a transaction; until then they wait here.

What waits is bounded: ``BACKLOG_BYTES_MAX`` over all sessions, a notification counting once for
each session it waits for. A session that stays in a transaction, or whose client does not read,
fills it; then COMMIT of a transaction with notifications fails (54000) until that session goes on
or ends, and from half of it on there is a warning that names the session. PostgreSQL does the same
with its queue on disk. What waits for a session that ends is dropped with it.

Source: PostgreSQL docs, "NOTIFY", "LISTEN"; its async.c for limits, texts and the order of actions.

A session whose statements run on another node listens there, by its executor; what reaches that is
passed on to the session's own node (``nodedb.pgwire.forwarding``). Between the loss of a leader and
the session's arrival at the next one nobody listens for it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from nodedb.session.api import Notification
from sql.errors import InvalidParameterValue, ProgramLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nodedb.session.session import Session

CHANNEL_BYTES_MAX: Final = 63
PAYLOAD_BYTES_MAX: Final = 7999
BACKLOG_BYTES_MAX: Final = 64 << 20
NOTIFICATION_BYTES: Final = 64
"""What a waiting notification costs besides its text, roughly."""
WARNING_INTERVAL_SECONDS: Final = 5.0
_WARNING_SHARE: Final = 0.5


class _Pending:
    """What a session's transaction will do when it has committed."""

    def __init__(self) -> None:
        # (is LISTEN, channel); UNLISTEN * has the channel "".
        self.actions: list[tuple[bool, str]] = []
        # A dict for its order; the values say nothing.
        self.notifications: dict[tuple[str, str], None] = {}
        self.reserved_bytes = 0


class NotificationHub:
    """Who listens to what, and what waits for whom."""

    def __init__(self, backlog_bytes_max: int = BACKLOG_BYTES_MAX) -> None:
        self._listeners: dict[tuple[int, str], dict[int, Session]] = {}
        self._pending: dict[int, _Pending] = {}
        self._backlog_bytes_max = backlog_bytes_max
        # Bytes that wait, by session; and what transactions that are committing will add.
        self._backlogs: dict[Session, int] = {}
        self._backlog_bytes = 0
        self._reserved_bytes = 0
        self._warned_at = float("-inf")

    # What statements do

    def listen(self, session: Session, channel: str) -> None:
        """LISTEN; takes effect at commit."""
        self._act(session, is_listen=True, channel=channel)

    def unlisten(self, session: Session, channel: str) -> None:
        """UNLISTEN a channel, or with "" all; takes effect at commit."""
        self._act(session, is_listen=False, channel=channel)

    def notify(self, session: Session, channel: str, payload: str) -> None:
        """NOTIFY at commit. InvalidParameterValue (22023) for what is empty or too long."""
        if not channel:
            raise InvalidParameterValue("channel name cannot be empty")
        if len(channel.encode()) > CHANNEL_BYTES_MAX:
            raise InvalidParameterValue("channel name too long")
        if len(payload.encode()) > PAYLOAD_BYTES_MAX:
            raise InvalidParameterValue("payload string too long")
        pending = self._ensure_pending(session)
        key = (channel, payload)
        if key not in pending.notifications:
            pending.notifications[key] = None
            session.block.on_rollback.append(partial(pending.notifications.pop, key))

    def channels(self, session: Session) -> list[str]:
        """Return the channels a session listens to, here or by its executor."""
        return list(session.channels)

    @property
    def usage(self) -> float:
        """The share of the backlog that is in use."""
        return self._backlog_bytes / self._backlog_bytes_max

    # What becomes of a session

    def taken(self, session: Session, count: int | None = None) -> None:
        """Note that what waited for a session, or the first of it, is on its way to the client."""
        waiting = self._backlogs.pop(session, 0)
        left = 0
        if count is not None and waiting:
            left = waiting - sum(_bytes_of(n[1:]) for n in session.notifications[:count])
            self._backlogs[session] = left
        self._backlog_bytes -= waiting - left

    def forget(self, session: Session) -> None:
        """Forget a session that is over."""
        self._drop(session.process_id)
        self.taken(session)
        self.detach(session)

    def attach(self, session: Session) -> None:
        """Deliver to a session what it listens to: its statements run on this node now."""
        for channel in session.channels:
            self._listen(session, channel)

    def detach(self, session: Session) -> None:
        """Deliver no more to a session, which goes on elsewhere, or is over."""
        for channel in session.channels:
            self._forget_listener(session, channel)

    # The transaction

    def _act(self, session: Session, *, is_listen: bool, channel: str) -> None:
        actions = self._ensure_pending(session).actions
        actions.append((is_listen, channel))
        session.block.on_rollback.append(_popping(actions))

    def _ensure_pending(self, session: Session) -> _Pending:
        process_id = session.process_id
        pending = self._pending.get(process_id)
        if pending is None:
            block = session.block
            block.ensure_transaction(session.query_start)
            pending = self._pending[process_id] = _Pending()
            block.before_commit.append(partial(self._reserve, session, pending))
            block.on_commit.append(partial(self._commit, session, pending))
            # A savepoint may take these back; the next statement then starts again.
            block.on_rollback.append(partial(self._drop, process_id))
        return pending

    def _drop(self, process_id: int) -> None:
        pending = self._pending.pop(process_id, None)
        if pending is not None:
            self._reserved_bytes -= pending.reserved_bytes

    def _reserve(self, session: Session, pending: _Pending) -> None:
        """Take room for the transaction's notifications. ProgramLimitExceeded (54000)."""
        if not pending.notifications:
            return
        wanted = sum(map(_bytes_of, pending.notifications))
        used = self._backlog_bytes + self._reserved_bytes + wanted
        if used > self._backlog_bytes_max:
            raise ProgramLimitExceeded("too many notifications in the NOTIFY queue")
        self._reserved_bytes += wanted
        pending.reserved_bytes = wanted
        if used > self._backlog_bytes_max * _WARNING_SHARE and self._backlogs:
            self._warn(session, used / self._backlog_bytes_max)

    def _warn(self, session: Session, share: float) -> None:
        now = session.node.clock.monotonic()
        if now - self._warned_at < WARNING_INTERVAL_SECONDS:
            return
        self._warned_at = now
        slowest = max(self._backlogs, key=self._backlogs.__getitem__).process_id
        session.notice(
            "WARNING",
            "01000",
            f"NOTIFY queue is {share * 100:.0f}% full",
            f"The server process with PID {slowest} is among those with the oldest transactions.",
            "The NOTIFY queue cannot be emptied until that process ends its current transaction.",
        )

    def _commit(self, session: Session, pending: _Pending) -> None:
        self._drop(session.process_id)
        # A session may have ended while its commit was made durable; the others still hear of it.
        for is_listen, channel in () if session.is_closed else pending.actions:
            session.channels_version += 1
            if is_listen:
                session.channels[channel] = None
                self._listen(session, channel)
                continue
            for each in [channel] if channel else list(session.channels):
                if session.channels.pop(each, "") is None:
                    self._forget_listener(session, each)
        self._deliver(session, pending.notifications)

    def _listen(self, session: Session, channel: str) -> None:
        key = (session.database_id, channel)
        self._listeners.setdefault(key, {})[session.process_id] = session

    def _forget_listener(self, session: Session, channel: str) -> None:
        key = (session.database_id, channel)
        listeners = self._listeners.get(key)
        if listeners is None or listeners.get(session.process_id) is not session:
            return
        del listeners[session.process_id]
        if not listeners:
            del self._listeners[key]

    def _deliver(self, session: Session, notifications: Iterable[tuple[str, str]]) -> None:
        reached: dict[int, Session] = {}
        for key in notifications:
            listeners = self._listeners.get((session.database_id, key[0]))
            if not listeners:
                continue
            notification = Notification(session.process_id, *key)
            for process_id, listener in listeners.items():
                listener.notifications.append(notification)
                self._backlogs[listener] = self._backlogs.get(listener, 0) + _bytes_of(key)
                self._backlog_bytes += _bytes_of(key)
                reached[process_id] = listener
        for listener in reached.values():
            listener.notify_front_end()


def _bytes_of(key: tuple[str, str]) -> int:
    """Return what a notification of this channel and payload costs while it waits, roughly."""
    return NOTIFICATION_BYTES + len(key[0]) + len(key[1])


def _popping(actions: list[tuple[bool, str]]) -> Callable[[], None]:
    def pop() -> None:
        actions.pop()

    return pop
