"""pg_cancel_backend and pg_terminate_backend: acting on other sessions.

Source: PostgreSQL docs, "Server Signaling Functions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from nodedb.catalog import acl
from nodedb.gateway.process_ids import node_of
from nodedb.gateway.signals import Signal
from nodedb.waiter import Waiter
from sql.errors import InsufficientPrivilege

if TYPE_CHECKING:
    from nodedb.session.manager import SessionManager
    from nodedb.session.session import Session
    from sql.catalog.snapshot import CatalogSnapshot

SIGNAL_BACKEND: Final = 4200
"""The role pg_signal_backend."""
_Verb = Literal["cancel", "terminate"]


def cancel_backend(session: Session, process_id: int) -> bool:
    """Cancel a session's statement; False, with a warning, if there is no such session."""
    other = _other(session, process_id, "cancel")
    if other is None:
        return _signal(session, process_id, "cancel")
    other.cancel()
    if other is session:
        session.interrupts.check()
    return True


async def terminate_backend(session: Session, process_id: int, timeout_ms: int) -> bool:
    """End a session; with a timeout, wait so long for its end, and warn if it has not come."""
    other = _other(session, process_id, "terminate")
    if other is None:
        return _signal(session, process_id, "terminate")
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
    other = session.node.find_session(process_id)
    if other is not None:
        snapshot = session.catalog().snapshot
        _check_may_act(snapshot, session.user_id, session.database_id, other, verb)
    return other


def _check_may_act(
    snapshot: CatalogSnapshot, role_id: int, database_id: int, other: Session, verb: _Verb
) -> None:
    """Raise InsufficientPrivilege (42501) for who may not act on another session."""
    what, doing = ("query", "canceled") if verb == "cancel" else ("process", "terminated")
    if acl.is_superuser(snapshot, role_id):
        return
    if acl.is_superuser(snapshot, other.session_user_id):
        raise InsufficientPrivilege(f"must be a superuser to {verb} superuser {what}")
    roles = acl.roles_of(snapshot, role_id, database_id)
    if other.session_user_id not in roles and SIGNAL_BACKEND not in roles:
        raise InsufficientPrivilege(
            f"must be a member of the role whose {what} is being {doing} "
            "or member of pg_signal_backend"
        )


def _signal(session: Session, process_id: int, verb: _Verb) -> bool:
    """Ask the node whose session it is; False, with a warning, if there is no such node."""
    node = session.node
    node_id = node_of(process_id) if process_id > 0 else 0
    signal = Signal(process_id, verb, role_id=session.user_id)
    if node_id not in (0, node.node_id) and node.signal_elsewhere(node_id, signal):
        return True
    session.notice("WARNING", "01000", f"PID {process_id} is not a PostgreSQL backend process")
    return False


def deliver_signal(node: SessionManager, signal: Signal) -> bool:
    """Do what another node asks for; False if there is no such session, or it may not ask."""
    if not signal.role_id:
        node.cancel(signal.process_id, signal.secret_key)
        return True
    other = node.find_session(signal.process_id)
    if other is None:
        return False
    try:
        snapshot = node.metadata.catalog
        _check_may_act(snapshot, signal.role_id, other.database_id, other, signal.verb)
    except InsufficientPrivilege:
        return False
    if signal.verb == "cancel":
        other.cancel()
    else:
        other.terminate()
    return True
