"""The digest of a data group that replicas are compared by (PROTOCOL rule 64).

Replicas that have applied the same entries answer every allowed read alike, but need not hold the
same bytes: each collects old versions and dropped storage at its own pace (``DataGroup.collect``).
So these are left out, whether they are still there or not:

* a replaced version whose successor is at or below the watermark, and a tombstone that is;
* what stands under a prefix that is being cleared, also in the counts per vshard.

Everything else counts: rows, readable history, prepared transactions, the Raft configuration, the
watermark and the newest timestamp. Compare only replicas that have applied up to the same entry,
between two entries.

Differs in one case that no reader can tell: a key that is deleted again after its collected
tombstone has one more tombstone where the first was not collected yet. Our own writers delete only
what is there.
"""

from typing import Final

import msgspec

from nodedb.kv.group import DataGroup
from nodedb.kv.keys import HEADER, HEADER_BYTES, history_timestamp, prefix_range
from nodedb.storage.engine import Engine, KeyValue, Snapshot
from nodedb.storage.snapshot_digest import GroupDigest, digest

_STATE_KEY: Final = b"group-state"
_PAGE: Final = 2048


def replica_digest(engine: Engine, group_id: int) -> GroupDigest:
    """Commit, and digest what all replicas of a data group have in common."""
    snapshot = engine.read_snapshot()
    try:
        view = _View(DataGroup(group_id, engine), snapshot)
    finally:
        snapshot.close()
    return digest(engine, group_id, view.keep)


class _View:
    """Leaves out what a replica may have removed."""

    def __init__(self, group: DataGroup, snapshot: Snapshot) -> None:
        self._group = group
        self._clearing = tuple(group.clearing)
        self._key = b""
        self._newer_timestamp = 0
        keys, sizes = group.vshard_keys.tolist(), group.vshard_bytes.tolist()
        for prefix in self._clearing:
            for pairs in snapshot.chunks(group.rows.name, *prefix_range(prefix), _PAGE):
                for key, value in pairs:
                    if len(value) > HEADER_BYTES:
                        vshard = HEADER.unpack_from(value)[1]
                        keys[vshard] -= 1
                        sizes[vshard] -= len(key) + len(value) - HEADER_BYTES
        self._state = msgspec.msgpack.encode((group.last_timestamp, group.watermark, keys, sizes))

    def keep(self, name: str, pairs: list[KeyValue]) -> list[KeyValue]:
        """Return what counts of a run of a space's pairs."""
        group = self._group
        if name == group.rows.name:
            return [pair for pair in pairs if not self._is_removable(*pair)]
        if name == group.history.name:
            return [pair for pair in pairs if not self._is_collectable(*pair)]
        return [(key, self._state if key == _STATE_KEY else value) for key, value in pairs]

    def _is_removable(self, key: bytes, value: bytes) -> bool:
        if self._clearing and key.startswith(self._clearing):
            return True
        return len(value) == HEADER_BYTES and self._timestamp(value) <= self._group.watermark

    def _is_collectable(self, stored_key: bytes, value: bytes) -> bool:
        """Tell it of a version in history; they come newest first for each key."""
        key, timestamp = stored_key[:-8], history_timestamp(stored_key)
        if key != self._key:
            self._key = key
            newest = self._group.rows.get(key)
            self._newer_timestamp = 0 if newest is None else self._timestamp(newest)
        newer_timestamp = self._newer_timestamp
        self._newer_timestamp = timestamp
        # A tombstone counts as one in ``rows`` does, for it may have been collected there.
        return newer_timestamp <= self._group.watermark or self._is_removable(key, value)

    @staticmethod
    def _timestamp(value: bytes) -> int:
        timestamp: int = HEADER.unpack_from(value)[0]
        return timestamp
