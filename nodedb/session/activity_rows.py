"""pg_stat_activity: what each session does, and what it waits for.

Shape: PostgreSQL's columns. Who may not read another role's statistics sees that the session is
there, and no more. A session waits in one of these ways:

    Lock / transactionid, tuple, relation, object, advisory   as pg_locks says
    IO / WALSync          its commit is being made durable
    Timeout / PgSleep     pg_sleep
    Client / ClientRead   for the next message (idle, or amid COPY FROM STDIN)
    Client / ClientWrite  for the client to take what was sent

Not waiting: all else, giving way to other sessions included.

Source: PostgreSQL docs, "The Cumulative Statistics System".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.catalog import acl
from nodedb.kv.lock_waits import blockers_of, wait_of
from nodedb.session.lock_rows import has_transaction_id
from sql.catalog.descriptor import Database, Role

if TYPE_CHECKING:
    from nodedb.session.manager import SessionManager
    from nodedb.session.session import Session
    from sql.types.base import Datum, Row

READ_ALL_STATS: Final = 3375
"""The role pg_read_all_stats."""
INSUFFICIENT: Final = "<insufficient privilege>"


class Activity(NamedTuple):
    """A row of pg_stat_activity; the fields are its columns."""

    datid: int
    datname: str | None
    pid: int
    leader_pid: int | None
    usesysid: int
    usename: str | None
    application_name: str
    client_addr: str | None
    client_hostname: str | None
    client_port: int | None
    backend_start: int | None
    xact_start: int | None
    query_start: int | None
    state_change: int | None
    wait_event_type: str | None
    wait_event: str | None
    state: str | None
    backend_xid: int | None
    backend_xmin: int | None
    query_id: int | None
    query: str
    backend_type: str | None


def activity_rows(session: Session) -> list[Row]:
    """Return the rows of pg_stat_activity as a session may see them."""
    return list(activities(session))


def activities(session: Session) -> list[Activity]:
    """Return what all sessions do, as a session may see it."""
    node = session.node
    client_waits = node.client_waits()
    roles = acl.roles_of(node.metadata.catalog, session.user_id, session.database_id)
    sees_all = session.catalog().is_superuser or READ_ALL_STATS in roles
    return [
        _activity(other, client_waits, is_visible=sees_all or other.session_user_id in roles)
        for other in node.all_sessions()
    ]


def _activity(other: Session, client_waits: dict[int, str], *, is_visible: bool) -> Activity:
    snapshot = other.node.metadata.catalog
    database, role = snapshot.get(other.database_id), snapshot.get(other.session_user_id)
    transaction = other.block.transaction
    shown = Activity(
        datid=other.database_id,
        datname=database.name if isinstance(database, Database) else None,
        pid=other.process_id,
        leader_pid=None,
        usesysid=other.session_user_id,
        usename=role.name if isinstance(role, Role) else None,
        application_name=other.settings.get("application_name"),
        client_addr=None,
        client_hostname=None,
        client_port=None,
        backend_start=None,
        xact_start=None,
        query_start=None,
        state_change=None,
        wait_event_type=None,
        wait_event=None,
        state=None,
        backend_xid=transaction.id
        if transaction is not None and has_transaction_id(other)
        else None,
        backend_xmin=_oldest_visible(other),
        query_id=None,
        query=INSUFFICIENT,
        backend_type=None,
    )
    if not is_visible:
        return shown
    wait = wait_event(other, client_waits)
    return shown._replace(
        client_addr=other.services.client_address or None,
        client_port=other.services.client_port,
        backend_start=other.backend_start,
        xact_start=None
        if transaction is None or other.block.state == "failed"
        else other.block.started_at,
        query_start=other.query_start if other.query_text else None,
        state_change=other.state_change,
        wait_event_type=wait[0],
        wait_event=wait[1],
        state=_state(other),
        query=_clipped(other),
        backend_type="client backend",
    )


def _state(session: Session) -> str:
    if session.is_running:
        return "active"
    state = session.block.state
    if session.remote_block != "idle":
        state = session.remote_block
    if state == "failed":
        return "idle in transaction (aborted)"
    return "idle" if state == "idle" else "idle in transaction"


def _oldest_visible(session: Session) -> int | None:
    """Return the transaction whose traces must be kept for a session's snapshot.

    Transactions are numbered as they begin, so its own stands for all that it may not see.
    """
    transaction = session.block.transaction
    if transaction is None or not transaction.is_active or not transaction.snapshot:
        return None
    return transaction.id if session.is_running or transaction.is_snapshot else None


def wait_event(
    session: Session, client_waits: dict[int, str]
) -> tuple[str, str] | tuple[None, None]:
    """Return (type, event) of what a session waits for; ``client_waits`` is the front end's."""
    locks = session.node.transactions.locks
    request = locks.request_of(str(session.process_id))
    if request is not None:
        return "Lock", wait_of(request, locks.names).locktype
    if not session.is_running:
        return "Client", "ClientRead"
    transaction = session.block.transaction
    if transaction is not None and not transaction.is_active and session.block.state != "failed":
        return "IO", "WALSync"
    if session.services.is_sleeping:
        return "Timeout", "PgSleep"
    event = client_waits.get(session.process_id)
    return (None, None) if event is None else ("Client", event)


def _clipped(session: Session) -> str:
    """Return the text of the statement, at most ``track_activity_query_size`` - 1 bytes of it."""
    limit = int(session.settings.get("track_activity_query_size")) - 1
    text = session.query_text
    if len(text) * 4 <= limit:
        return text
    return text.encode()[:limit].decode(errors="ignore")


def blocking_process_ids(node: SessionManager, process_id: int) -> list[int]:
    """Return the sessions that keep one waiting: who has the lock, and who is in line before it."""
    locks = node.transactions.locks
    request = locks.request_of(str(process_id))
    if request is None:
        return []
    blockers = blockers_of(request, locks.names)
    return list(dict.fromkeys(int(owner.deadlock_name) for owner in blockers))


# Functions on one backend; backends are numbered by their process ids.

_FACTS: Final[dict[str, str]] = {
    "pid": "pid",
    "dbid": "datid",
    "userid": "usesysid",
    "activity": "query",
    "activity_start": "query_start",
    "client_addr": "client_addr",
    "client_port": "client_port",
    "start": "backend_start",
    "wait_event": "wait_event",
    "wait_event_type": "wait_event_type",
    "xact_start": "xact_start",
}


def backend_fact(session: Session, backend_id: int, fact: str) -> Datum:
    """Return what ``pg_stat_get_backend_<fact>`` says of a backend, NULL if there is none."""
    found = next((a for a in activities(session) if a.pid == backend_id), None)
    if found is None:
        is_text = fact in ("activity", "wait_event", "wait_event_type")
        return "<backend information not available>" if is_text else None
    if fact.startswith("wait_event") and found.backend_type is None:
        return INSUFFICIENT
    value: Datum = getattr(found, _FACTS[fact])
    return value
