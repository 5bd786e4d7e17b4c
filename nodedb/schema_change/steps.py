"""What an index build does next: a pure function of what is there.

An index comes into being in states, so that it is complete without ever stopping a writer (F1,
"Online, Asynchronous Schema Change in F1", section 3; PostgreSQL docs, "Building Indexes
Concurrently"):

    delete_only   writers remove entries, and make none
    write_only    writers make and remove entries, and enforce uniqueness; the backfill runs
    public        queries read it

Between two states everybody who may still use the definition before them is waited for: then only
neighbours ever work at the same time. Without ``delete_only`` a writer that does not know the index
would leave the entry of a row that it deletes, made by one that does.

No list of steps is stored. After each step, and after a crash, the builder looks at what is there
(``Observed``) and asks again. What a crash takes is the memory of having waited; but it takes
the transactions to wait for with it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sql.catalog.descriptor import IndexState


class Step(Enum):
    """One safe step."""

    WAIT_FOR_WRITERS = "wait until nobody uses a definition older than the present one"
    ADVANCE = "let writers make entries"
    BACKFILL = "make the entries of the rows that were there before"
    PUBLISH = "let queries read it"
    REMOVE = "take the index out of its table, and note that its entries must go"
    FORGET = "delete the record of the build"
    DONE = "nothing is left to do"


class Observed(NamedTuple):
    """What there is of an index and its build.

    ``state`` is None when the table has no such index. ``has_waited``: nobody uses a definition
    from before ``state``. ``keeps_invalid``: CREATE INDEX CONCURRENTLY, which leaves what it could
    not finish to the user.
    """

    state: IndexState | None
    is_recorded: bool
    is_filled: bool = False
    has_waited: bool = False
    has_failed: bool = False
    keeps_invalid: bool = False


def next_step(seen: Observed) -> Step:
    """Return the step to take; each leads to a state in which the next start may go on."""
    if not seen.is_recorded:
        return Step.DONE
    match seen.state:
        case None | "public" | "young":
            return Step.FORGET
        case "delete_only" | "write_only" if seen.has_failed:
            return Step.FORGET if seen.keeps_invalid else Step.REMOVE
        case "delete_only":
            assert not seen.is_filled, "entries before any writer could know of them"
            return Step.ADVANCE if seen.has_waited else Step.WAIT_FOR_WRITERS
        case "write_only":
            if not seen.has_waited:
                return Step.WAIT_FOR_WRITERS
            return Step.PUBLISH if seen.is_filled else Step.BACKFILL
