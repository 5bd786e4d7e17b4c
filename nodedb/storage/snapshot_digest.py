"""Digests of a group's state, to compare replicas (PROTOCOL rule 64).

A digest covers every key and value of every space of the group. Two replicas that have applied the
same entries have equal digests when all of apply is deterministic *and* nothing in the spaces is of
a replica's own: a data group removes old versions at its own pace, and is compared by what
``nodedb.kv.replica_digest`` makes of these spaces.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

from nodedb.storage.engine import Engine, KeyValue, Snapshot
from nodedb.storage.snapshot_format import RUN_BYTES, RUN_ROWS, group_space_prefix

_LENGTHS: Final = Struct(">II")
_DIGEST_BYTES: Final = 16
Keep = Callable[[str, list[KeyValue]], list[KeyValue]]


@dataclass(frozen=True, slots=True)
class GroupDigest:
    """A group's applied entry, and for each of its spaces (rows, digest in hex)."""

    index: int
    term: int
    spaces: dict[str, tuple[int, str]]

    def difference(self, other: "GroupDigest") -> str:
        """Say how the other one differs; empty when it does not. A space without rows is none."""
        parts = []
        if (self.index, self.term) != (other.index, other.term):
            parts.append(
                f"applied {self.index} (term {self.term}) and {other.index} (term {other.term})"
            )
        for name in sorted({*self.spaces, *other.spaces}):
            here, there = self.spaces.get(name, _EMPTY), other.spaces.get(name, _EMPTY)
            if here != there:
                parts.append(f'"{name}" has {here[0]} rows and {there[0]}, or other ones')
        return "; ".join(parts)


def keep_all(name: str, pairs: list[KeyValue]) -> list[KeyValue]:
    """Leave nothing out."""
    del name
    return pairs


def digest_slices(
    snapshot: Snapshot, group_id: int, keep: Keep = keep_all
) -> Generator[int, None, GroupDigest]:
    """Digest a committed state in steps of some milliseconds, each yielding the rows it read.

    ``keep(space name, pairs)`` gives of each run, in order, what is to be compared.
    """
    prefix = group_space_prefix(group_id)
    index, term = snapshot.applied(group_id)
    spaces: dict[str, tuple[int, str]] = {}
    for name in snapshot.space_names():
        if not name.startswith(prefix):
            continue
        digest = blake2b(digest_size=_DIGEST_BYTES)
        count = 0
        start = b"\0"
        while pairs := snapshot.take(name, start, RUN_ROWS, RUN_BYTES):
            start = pairs[-1][0] + b"\0"
            kept = keep(name, pairs)
            count += len(kept)
            digest.update(
                b"".join(
                    part
                    for key, value in kept
                    for part in (_LENGTHS.pack(len(key), len(value)), key, value)
                )
            )
            yield len(pairs)
        spaces[name] = (count, digest.hexdigest())
    return GroupDigest(index, term, spaces)


def digest(engine: Engine, group_id: int, keep: Keep = keep_all) -> GroupDigest:
    """Commit, and digest a group's state at once. Only between two applied entries."""
    snapshot = engine.read_snapshot()
    try:
        steps = digest_slices(snapshot, group_id, keep)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: GroupDigest = stop.value
                return result
    finally:
        snapshot.close()


_EMPTY: Final = (0, blake2b(digest_size=_DIGEST_BYTES).hexdigest())
