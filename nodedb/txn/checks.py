"""The checks that the isolation levels rest on, each with its switch.

All are on in a node that serves anybody. The tests that look for anomalies turn one off, in a node
started with ``--fault-injection``, and must then find some: a check whose loss nobody notices is
not tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "NODEDB_FAULT_CHECKS_OFF"


class Checks(NamedTuple):
    """What is checked."""

    looks_again: bool = True
    """READ COMMITTED: whoever has waited for a row goes on with its newest version."""
    first_committer_wins: bool = True
    """REPEATABLE READ: a row that has changed since the snapshot is not changed again."""
    validates_reads: bool = True
    """SERIALIZABLE: what was read is still so at the commit timestamp."""


ALL_CHECKS: Final = Checks()


def checks_of(environment: Mapping[str, str]) -> Checks:
    """Return all checks but those the environment names, with commas. Raises ValueError."""
    off = [name for name in environment.get(VARIABLE, "").split(",") if name]
    unknown = set(off) - set(Checks._fields)
    if unknown:
        raise ValueError(f"{VARIABLE}: no check is called {', '.join(sorted(unknown))}")
    return Checks(**dict.fromkeys(off, False))
