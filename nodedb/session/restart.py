"""Statements that run again by themselves when their transaction lost against another one.

A statement outside a block is a transaction of its own. At REPEATABLE READ and SERIALIZABLE it may
lose (40001): another transaction has changed what it read or wants to write. As long as none of its
rows has left, nobody can tell whether it ran once or twice, so it is started again, at a new
snapshot, instead of being reported. It keeps its age, for deadlocks, and its locks: the rows it
lost are its own by then, and it cannot lose them a second time.

Not started again: a statement whose effects are not all in the write buffer (it drew from a
sequence, took or released a session's advisory lock), and whatever stands in a block, whose earlier
answers the client has already used (PROTOCOL rule 26).

``nodedb.inject_retry_errors`` is for applications that have to repeat transactions themselves and
want to see that they do: the first statement of a block fails with 40001, three times in a row; the
fourth block goes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from sql.errors import SerializationFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nodedb.session.session import Session

RESTARTS_MAX: Final = 100
"""So often a statement is started again. Each time it holds more of the locks it needs."""
INJECTED_ERRORS: Final = 3
"""So many blocks in a row fail under ``nodedb.inject_retry_errors``."""
_Answer = TypeVar("_Answer")


async def run_alone(
    session: Session, attempt: Callable[[], Awaitable[_Answer]], reset: Callable[[], None]
) -> _Answer:
    """Run a statement that may be a transaction of its own, until it has not lost.

    ``attempt`` runs it up to its commit, ``reset`` makes it ready to be run again. Raises what the
    last attempt did.
    """
    for _ in range(RESTARTS_MAX):
        try:
            answer = await attempt()
            session.block.validate()
        except SerializationFailure:
            transaction = session.block.transaction
            if (
                session.block.state != "implicit"
                or transaction is None
                or transaction.has_other_effects
            ):
                raise
            reset()
            session.block.restart()
            # The commit it lost to may still be on its way, and not in a snapshot taken now.
            await session.yield_turn()
            session.node.restart_count += 1
        else:
            return answer
    return await attempt()


def inject_error(session: Session) -> None:
    """Fail the first statement of a block if the session asks for that (40001)."""
    if not session.settings.injects_errors or session.block.state != "open":
        return
    if session.block.has_snapshot:
        return
    if session.injected_count >= INJECTED_ERRORS:
        session.injected_count = 0
        return
    session.injected_count += 1
    raise SerializationFailure(
        "restart transaction: injected by nodedb.inject_retry_errors",
        detail=f"Error {session.injected_count} of {INJECTED_ERRORS}.",
        hint="Roll the transaction back and run it again from its beginning.",
    )
