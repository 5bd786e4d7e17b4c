"""Named places at which a node under test kills itself.

The crash tests' way into the middle of every step between a proposal and the end of its log.

A plan names a place and the how-manieth passing of it is fatal: ``apply/entry:3``; the name of a
phase alone stands for all its places together: ``apply:3``. ``engine_commit/saved:2+900`` lets 900
more microseconds pass, which leads into the midst of a system call (the engine's commit, a write,
an fdatasync). The phases:

* ``log_write``        a batch of the log is being written, in four pieces
* ``fdatasync``        it is written, but not surely on the disk; or it is, and nobody knows yet
* ``apply``            its entries are applied one after the other
* ``engine_commit``    the engine commits what was applied
* ``segment_recycle``  log segments are freed, made and removed
* ``recovery``         at start the log's tail is settled, its entries are applied again

Nothing of this exists in a node that was not started with ``--fault-injection``.
"""

import os
import re
import signal
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

VARIABLE: Final = "NODEDB_FAULT_KILL"


class Place(Enum):
    """All places; each name begins with its phase."""

    LOG_WRITE_BEGIN = "log_write/begin"
    LOG_WRITE_HEADER = "log_write/header"
    """A few bytes of the batch are in the file."""
    LOG_WRITE_HALF = "log_write/half"
    LOG_WRITE_LAST = "log_write/last"
    """All but the last byte is."""
    FDATASYNC_BEFORE = "fdatasync/before"
    FDATASYNC_AFTER = "fdatasync/after"
    APPLY_BEGIN = "apply/begin"
    APPLY_ENTRY = "apply/entry"
    """One more entry, or slice of a long one, is applied; more of the flush may be missing."""
    APPLY_END = "apply/end"
    """All are, nobody has been told."""
    COMMIT_BEGIN = "engine_commit/begin"
    COMMIT_SAVED = "engine_commit/saved"
    """The groups' counters are beside their rows; the engine's own commit comes next."""
    COMMIT_END = "engine_commit/end"
    RECYCLE_BEGIN = "segment_recycle/begin"
    """What nobody needs is compacted, which the next batch will say."""
    RECYCLE_CREATE = "segment_recycle/create"
    """A segment's file is there, empty."""
    RECYCLE_ALLOCATE = "segment_recycle/allocate"
    """It has its size, but is not synced."""
    RECYCLE_NAMES = "segment_recycle/names"
    """Its name is durable."""
    RECYCLE_FILL = "segment_recycle/fill"
    """Half of a piece of zeros is in it."""
    RECYCLE_BEFORE_REMOVE = "segment_recycle/before_remove"
    """The log no longer begins in the segment, which is not removed yet."""
    RECYCLE_AFTER_REMOVE = "segment_recycle/after_remove"
    RECOVERY_WRITE = "recovery/write"
    """The tail of the log found is being written once more."""
    RECOVERY_SYNC = "recovery/sync"
    RECOVERY_ENTRY = "recovery/entry"

    @property
    def phase(self) -> str:
        """The part of the name in front of the slash."""
        return self.value.partition("/")[0]


PHASES: Final = tuple(dict.fromkeys(place.phase for place in Place))
PassPlace = Callable[[Place], None]
_PLAN: Final = re.compile(r"([a-z_]+(?:/[a-z_]+)?):([1-9][0-9]{0,8})(?:\+([0-9]{1,8}))?")


def pass_none(place: Place) -> None:
    """Pass a place in a node that is not under test."""
    del place


def kill_self(delay_us: int) -> None:
    """End this process as a crash does: no handler, no buffer flushed.

    With a delay it is the kernel that ends it, wherever it is by then.
    """
    if not delay_us:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, delay_us / 1_000_000)


class FaultPoints:
    """Counts the passings of what the plan names, and acts at the planned one."""

    def __init__(self, plan: str, act: Callable[[int], None] = kill_self) -> None:
        """Read ``<phase or place>:<nth>[+<microseconds>]``, counting from 1.

        Raises ValueError on anything else.
        """
        names = {place.value for place in Place} | set(PHASES)
        found = _PLAN.fullmatch(plan)
        if found is None or found[1] not in names:
            raise ValueError(
                f"{VARIABLE}={plan}: expected <name>:<nth>[+<microseconds>], name one of "
                f"{', '.join(sorted(names))}"
            )
        self._places = {p for p in Place if found[1] in (p.value, p.phase)}
        self._left = int(found[2])
        self._delay_us = int(found[3] or 0)
        self._act = act

    def __call__(self, place: Place) -> None:
        """Pass a place."""
        if place in self._places:
            self._left -= 1
            if self._left == 0:
                self._act(self._delay_us)


def fault_points(environment: Mapping[str, str]) -> FaultPoints | None:
    """Return what the environment plans, None without a plan. Raises ValueError."""
    plan = environment.get(VARIABLE)
    return None if not plan else FaultPoints(plan)
