"""LISTEN and NOTIFY on one node: queued in the transaction, delivered at commit in commit order.

Duplicates (same channel and payload) within a transaction are folded. Source: PostgreSQL docs,
"NOTIFY".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodedb.session.api import Notification

if TYPE_CHECKING:
    from nodedb.session.session import Session


class NotificationHub:
    """Who listens to what."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[int, str], dict[int, Session]] = {}
        self._queued: dict[int, dict[tuple[str, str], None]] = {}

    def listen(self, session: Session, channel: str) -> None:
        """LISTEN takes effect at commit."""
        session.block.ensure_transaction(session.query_start)
        key = (session.database_id, channel)
        session.block.on_commit.append(
            lambda: self._listeners.setdefault(key, {}).__setitem__(session.process_id, session)
        )

    def unlisten(self, session: Session, channel: str) -> None:
        """UNLISTEN a channel, or with "" all; takes effect at commit when inside a transaction."""
        if session.block.transaction is None:
            self._remove(session, channel)
        else:
            session.block.on_commit.append(lambda: self._remove(session, channel))

    def _remove(self, session: Session, channel: str) -> None:
        for key, listeners in list(self._listeners.items()):
            if key[0] == session.database_id and channel in ("", key[1]):
                listeners.pop(session.process_id, None)
                if not listeners:
                    del self._listeners[key]

    def forget(self, session: Session) -> None:
        """Forget a session that is over."""
        self._queued.pop(session.process_id, None)
        self._remove(session, "")

    def channels(self, session: Session) -> list[str]:
        """Return the channels a session listens to."""
        return [
            channel
            for (database_id, channel), listeners in self._listeners.items()
            if database_id == session.database_id and session.process_id in listeners
        ]

    def queue(self, session: Session, channel: str, payload: str) -> None:
        """Queue a notification until the session's transaction commits."""
        queued = self._queued.get(session.process_id)
        if queued is None:
            queued = self._queued[session.process_id] = {}
            session.block.on_commit.append(lambda: self._deliver(session))
            session.block.on_rollback.append(lambda: self._drop(session))
        queued[channel, payload] = None

    def _drop(self, session: Session) -> None:
        self._queued.pop(session.process_id, None)

    def _deliver(self, session: Session) -> None:
        queued = self._queued.pop(session.process_id, {})
        for channel, payload in queued:
            notification = Notification(session.process_id, channel, payload)
            for listener in list(self._listeners.get((session.database_id, channel), {}).values()):
                listener.notifications.append(notification)
                listener.notify_front_end()
