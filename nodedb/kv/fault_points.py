"""Named points at which a node under test kills itself.

The crash tests' way to meet every gap between two steps.

A plan names a point and the how-manieth passing of it is fatal: ``fdatasync:3``. Points:

* ``log_write``        before a flush of the log writes anything
* ``fdatasync``        between the log's write and its fdatasync
* ``apply``            entries are durable, nothing of them is applied
* ``engine_commit``    before the engine commits what was applied
* ``segment_recycle``  the engine has committed, no log segment was freed yet

Nothing of this exists in a node that was not started with ``--fault-injection``: the replicator
then has no callback.
"""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Final

from nodedb.storage.log_file import LogFile

LOG_WRITE: Final = "log_write"
FDATASYNC: Final = "fdatasync"
APPLY: Final = "apply"
ENGINE_COMMIT: Final = "engine_commit"
SEGMENT_RECYCLE: Final = "segment_recycle"
POINTS: Final = (LOG_WRITE, FDATASYNC, APPLY, ENGINE_COMMIT, SEGMENT_RECYCLE)
VARIABLE: Final = "NODEDB_FAULT_KILL"

FaultPoint = Callable[[str], None]


def kill_self() -> None:
    """End this process as a crash does: no handler, no buffer flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultPoints:
    """Counts the passings of one point and acts at the planned one. Call it with a point's name."""

    def __init__(self, plan: str, act: Callable[[], None] = kill_self) -> None:
        """Read ``<point>:<nth>``, counting from 1. Raises ValueError on anything else."""
        point, _, count = plan.partition(":")
        if point not in POINTS or not count.isascii() or not count.isdigit() or int(count) < 1:
            raise ValueError(
                f"{VARIABLE}={plan}: expected <point>:<nth>, point one of {', '.join(POINTS)}"
            )
        self._point = point
        self._left = int(count)
        self._act = act

    def __call__(self, point: str) -> None:
        """Pass a point."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                self._act()


def fault_points(environment: Mapping[str, str]) -> FaultPoints | None:
    """Return what the environment plans, None without a plan. Raises ValueError."""
    plan = environment.get(VARIABLE)
    return None if not plan else FaultPoints(plan)


class FaultFlusher:
    """A log flusher with a point between write and sync.

    Implements ``nodedb.storage.wal.Flusher``.
    """

    def __init__(self, pass_point: FaultPoint) -> None:
        self._pass_point = pass_point

    def write_and_sync(self, file: LogFile, data: bytes, offset: int) -> None:
        """Write, pass ``fdatasync``, sync."""
        file.pwrite(data, offset)
        self._pass_point(FDATASYNC)
        file.fdatasync()
