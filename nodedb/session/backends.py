"""pg_cancel_backend and pg_terminate_backend: acting on other sessions.

Source: PostgreSQL docs, "Server Signaling Functions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from nodedb.catalog import acl
from nodedb.waiter import Waiter
from sql.errors import InsufficientPrivilege

if TYPE_CHECKING:
    from nodedb.session.session import Session

SIGNAL_BACKEND: Final = 4200
"""The role pg_signal_backend."""
_Verb = Literal["cancel", "terminate"]


def cancel_backend(session: Session, process_id: int) -> bool:
    """Cancel a session's statement; False, with a warning, if there is no such session."""
    other = _other(session, process_id, "cancel")
    if other is None:
        return False
    other.cancel()
    if other is session:
        session.interrupts.check()
    return True


async def terminate_backend(session: Session, process_id: int, timeout_ms: int) -> bool:
    """End a session; with a timeout, wait so long for its end, and warn if it has not come."""
    other = _other(session, process_id, "terminate")
    if other is None:
        return False
    other.terminate()
    if other is session:
        session.interrupts.check()
    if timeout_ms and not other.is_closed:
        return await _wait_for_end(session, other, timeout_ms)
    return True


async def _wait_for_end(session: Session, other: Session, timeout_ms: int) -> bool:
    ended: Waiter[bool] = Waiter()
    other.services.on_end.append(ended)
    timer = session.node.schedule.later(timeout_ms / 1000, lambda: _give_up(ended))
    try:
        if await session.interrupts.wait(ended):
            return True
    finally:
        timer.cancel()
    session.notice(
        "WARNING",
        "01000",
        f"backend with PID {other.process_id} did not terminate within {timeout_ms} "
        f"millisecond{'' if timeout_ms == 1 else 's'}",
    )
    return False


def _give_up(ended: Waiter[bool]) -> None:
    ended.set_result(False)


def _other(session: Session, process_id: int, verb: _Verb) -> Session | None:
    """Find a session that this one may act on. Raises InsufficientPrivilege (42501)."""
    other = session.node.sessions.get(process_id)
    if other is None:
        session.notice("WARNING", "01000", f"PID {process_id} is not a PostgreSQL backend process")
        return None
    snapshot = session.catalog().snapshot
    what, doing = ("query", "canceled") if verb == "cancel" else ("process", "terminated")
    if session.catalog().is_superuser:
        return other
    if acl.is_superuser(snapshot, other.session_user_id):
        raise InsufficientPrivilege(f"must be a superuser to {verb} superuser {what}")
    roles = acl.roles_of(snapshot, session.user_id, session.database_id)
    if other.session_user_id not in roles and SIGNAL_BACKEND not in roles:
        raise InsufficientPrivilege(
            f"must be a member of the role whose {what} is being {doing} "
            "or member of pg_signal_backend"
        )
    return other
