"""Waiting for the transactions that may still use an older definition of a table.

Whoever writes a table holds its lock in a mode that conflicts with SHARE, from before the statement
is planned against the newest definition until the transaction ends. So once everybody who held one
when a definition was published has ended, nobody uses an older one. New writers are not held up:
nothing is queued for (PostgreSQL's ``WaitForLockers``).

Who waits here is in no queue, so the lock table does not see a cycle through it. It is looked for
here instead, and ends the wait: never that of a writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.kv.locks import SHARE
from nodedb.waiter import Waiter
from sql.errors import DeadlockDetected, LockNotAvailable

if TYPE_CHECKING:
    from nodedb.kv.locks import LockTable
    from nodedb.kv.replicator import Schedule
    from nodedb.schema_change.progress import Progress
    from nodedb.waiter import Interrupts

PAUSE_SECONDS_MIN: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.05


async def wait_for_lockers(
    locks: LockTable,
    schedule: Schedule,
    interrupts: Interrupts,
    progress: Progress,
    timeout_ms: int = 0,
) -> None:
    """Wait until all who hold the progress's table against SHARE have ended.

    Raises what interrupts it, DeadlockDetected (40P01) when one of them waits for this build, and
    LockNotAvailable (55P03) after ``timeout_ms`` (0: never).
    """
    name = str(progress.process_id)
    table_id = progress.table_id
    waiting = [o for o in locks.holders(table_id, SHARE) if o.deadlock_name != name]
    progress.lockers_total = len(waiting)
    pause = PAUSE_SECONDS_MIN
    waited = 0.0
    while waiting:
        progress.lockers_done = progress.lockers_total - len(waiting)
        progress.current_locker = int(waiting[0].deadlock_name)
        for owner in waiting:
            if locks.waits_for(owner.deadlock_name, name):
                raise DeadlockDetected(
                    "deadlock detected",
                    detail=f"Process {name} waits for process {owner.deadlock_name} to end its "
                    f"transaction; blocked by process {owner.deadlock_name}.\n"
                    f"Process {owner.deadlock_name} waits for process {name}.",
                    hint="See server log for query details.",
                )
        if timeout_ms and waited * 1000 >= timeout_ms:
            raise LockNotAvailable("canceling statement due to lock timeout")
        await pause_for(schedule, interrupts, pause)
        waited += pause
        pause = min(pause * 2, PAUSE_SECONDS_MAX)
        held = {id(owner) for owner in locks.holders(table_id, SHARE)}
        waiting = [owner for owner in waiting if id(owner) in held]
    progress.lockers_done = progress.lockers_total
    progress.current_locker = 0


async def pause_for(schedule: Schedule, interrupts: Interrupts, seconds: float) -> None:
    """Let others run for a while, 0 for one turn of the loop; raises what interrupts it."""
    waiter: Waiter[None] = Waiter()

    def wake() -> None:
        waiter.set_result(None)

    if not seconds:
        schedule.soon(wake)
        await interrupts.wait(waiter)
        return
    timer = schedule.later(seconds, wake)
    try:
        await interrupts.wait(waiter)
    finally:
        timer.cancel()
