"""Reading the log back at start, into the state of a group whose only voter this node is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.kv.fault_points import PassPlace, Place
from nodedb.kv.replica import CONF_CHANGE, StateMachine

if TYPE_CHECKING:
    from nodedb.storage.engine import Engine
    from nodedb.storage.wal import Wal

REPLAY_BYTES: Final = 16 * 1024 * 1024
"""Payload bytes that are read back from the log at a time."""


class Replayed(NamedTuple):
    """How far a group is applied after it, and the bytes that this put into the engine."""

    applied_index: int
    byte_count: int


def replay(
    wal: Wal, engine: Engine, group_id: int, machine: StateMachine, pass_place: PassPlace
) -> Replayed:
    """Apply what the engine lacks, some of the log at a time.

    All of it is committed, for nobody else has a say; but only up to the first change of the
    group's members, from which on the core decides.
    """
    applied_index, applied_term = engine.applied(group_id)
    engine_index = applied_index
    first = max(applied_index + 1, wal.first_index(group_id))
    assert first <= applied_index + 1, f"group {group_id}: the log starts after the applied state"
    last = wal.last_index(group_id)
    byte_count = 0
    while first <= last:
        for index, term, payload in wal.entries(group_id, first, last + 1, REPLAY_BYTES):
            if payload and payload[0] == CONF_CHANGE:
                last = index - 1
                break
            if payload:
                for _ in machine.apply(machine.decode(payload), index) or ():
                    pass
            applied_index, applied_term = index, term
            byte_count += len(payload)
            pass_place(Place.RECOVERY_ENTRY)
        first = applied_index + 1
    if applied_index > engine_index:
        engine.set_applied(group_id, applied_index, applied_term)
    return Replayed(applied_index, byte_count)
