"""One data group's replicated state.

Multi-version rows over two spaces, changed only by applying log entries.

The newest version of a key is a plain entry of ``rows``; a version that was replaced moves to
``history``, where versions of one key stand newest first (layout in nodedb.kv.keys). A deleted key
keeps a tombstone in ``rows`` until the collection watermark has passed it, so a scan of ``rows``
meets every key that any readable timestamp can see.

Guarantees: applying is deterministic and never fails for a reason that lies in the entry; commit
timestamps grow from entry to entry; a read at ``timestamp`` sees exactly the entries whose commit
timestamp is at or below it. Left to others: locks, validation, routing, durability
(``nodedb.kv.replicator``).

Per vshard, keys and bytes of the newest versions are counted at apply, saved with each engine
commit.

Dropped and truncated storage is only noted by its entry and removed piece by piece by ``collect``:
a large table must not stop the loop. Until then its keys are counted and take room, but no
descriptor leads to them.
"""

import struct
from array import array
from typing import Final

import msgspec

from cluster.ids import VSHARD_COUNT
from nodedb.kv.effects import (
    ClearStorage,
    CollectGarbage,
    Effects,
    RowWrites,
    Write,
    decode_effects,
)
from nodedb.kv.keys import HEADER, HEADER_BYTES, history_key, history_timestamp, prefix_range
from nodedb.storage.engine import Engine, Space
from sql.errors import SnapshotTooOld

_STATE_KEY: Final = b"group-state"
_TIMESTAMP: Final = struct.Struct(">Q")
_VSHARDS: Final = tuple(vshard.to_bytes(2, "big") for vshard in range(VSHARD_COUNT))
Item = tuple[bytes, bytes]


class _State(msgspec.Struct, array_like=True):
    """What a group saves beside its rows with every engine commit."""

    last_timestamp: int
    watermark: int
    vshard_keys: list[int]
    vshard_bytes: list[int]
    clearing: list[bytes]


class DataGroup:
    """The state machine of one data group, and the reads on it."""

    def __init__(self, group_id: int, engine: Engine) -> None:
        self.group_id = group_id
        self.rows: Space = engine.space(f"group{group_id}.rows")
        self.history: Space = engine.space(f"group{group_id}.history")
        self._meta: Space = engine.space(f"group{group_id}.meta")
        self.last_timestamp = 0
        self.watermark = 0
        self.clearing: list[bytes] = []
        self.vshard_keys = array("q", bytes(8 * VSHARD_COUNT))
        self.vshard_bytes = array("q", bytes(8 * VSHARD_COUNT))
        self._load()

    def _load(self) -> None:
        saved = self._meta.get(_STATE_KEY)
        if saved is None:
            return
        state = msgspec.msgpack.decode(saved, type=_State)
        self.last_timestamp = state.last_timestamp
        self.watermark = state.watermark
        self.clearing = list(state.clearing)
        self.vshard_keys = array("q", state.vshard_keys)
        self.vshard_bytes = array("q", state.vshard_bytes)

    def save(self) -> None:
        """Write the counters into the engine's open transaction.

        Called before each engine commit.
        """
        state = _State(
            self.last_timestamp,
            self.watermark,
            self.vshard_keys.tolist(),
            self.vshard_bytes.tolist(),
            self.clearing,
        )
        self._meta.put(_STATE_KEY, msgspec.msgpack.encode(state))

    # Applying

    def apply_payload(self, payload: bytes, index: int) -> None:
        """Apply an entry as it stands in the log (recovery, followers)."""
        self.apply(decode_effects(payload), index)

    def apply(self, value: Effects, index: int) -> None:
        """Apply one entry's effects; the index is the caller's to keep."""
        del index
        match value:
            case RowWrites():
                self._apply_writes(value.commit_timestamp, value.writes)
            case ClearStorage():
                self.clearing.extend(p for p in value.prefixes if p not in self.clearing)
            case CollectGarbage():
                self.watermark = max(self.watermark, value.watermark)

    def _apply_writes(self, timestamp: int, writes: list[Write]) -> None:
        assert timestamp > self.last_timestamp, "commit timestamps grow along the log"
        rows, history = self.rows, self.history
        get, put = rows.get, rows.put
        keys, sizes = self.vshard_keys, self.vshard_bytes
        stamp = _TIMESTAMP.pack(timestamp)
        for vshard, key, payload in writes:
            old = get(key)
            if old is not None:
                history.put(history_key(key, HEADER.unpack_from(old)[0]), old)
                if len(old) > HEADER_BYTES:
                    keys[vshard] -= 1
                    sizes[vshard] -= len(key) + len(old) - HEADER_BYTES
            elif not payload:
                continue
            put(key, stamp + _VSHARDS[vshard] + payload)
            if payload:
                keys[vshard] += 1
                sizes[vshard] += len(key) + len(payload)
        self.last_timestamp = timestamp

    # Reading

    def newest(self, key: bytes) -> bytes | None:
        """Return the newest applied payload of a key, None when absent or deleted."""
        value = self.rows.get(key)
        if value is None or len(value) == HEADER_BYTES:
            return None
        return value[HEADER_BYTES:]

    def has_keys(self, first: bytes, last: bytes) -> bool:
        """Tell whether any key of [first, last] is there, deleted ones included."""
        return self.rows.seek_first(first, last + b"\0") is not None

    def newest_version(self, key: bytes) -> tuple[int, bytes | None]:
        """Return (commit timestamp, payload); (0, None) for a key never written."""
        value = self.rows.get(key)
        if value is None:
            return 0, None
        timestamp: int = HEADER.unpack_from(value)[0]
        return timestamp, value[HEADER_BYTES:] or None

    def read(self, key: bytes, timestamp: int) -> bytes | None:
        """Return the payload visible at ``timestamp``.

        Raises SnapshotTooOld (72000) below the watermark.
        """
        value = self.rows.get(key)
        if value is None:
            # Absent now; below the watermark it may have been there, and its tombstone be
            # collected.
            self.check_readable(timestamp)
            return None
        if HEADER.unpack_from(value)[0] > timestamp:
            value = self._old_version(key, timestamp)
            if value is None:
                return None
        return value[HEADER_BYTES:] or None

    def scan(
        self, start: bytes, end: bytes, timestamp: int, limit: int, *, reverse: bool = False
    ) -> tuple[list[Item], bytes | None]:
        """Return up to ``limit`` visible (key, payload), and the bound to go on from.

        The bound is the next call's ``start`` (its ``end`` when ``reverse``); None at the end. A
        batch may be empty although the scan is not over: everything in it was invisible.
        """
        self.check_readable(timestamp)
        items = self.rows.scan(start, end, limit, reverse)
        unpack = HEADER.unpack_from
        visible: list[Item] = []
        append = visible.append
        for key, value in items:
            if unpack(value)[0] > timestamp:
                old = self._old_version(key, timestamp)
                if old is None:
                    continue
                value = old  # noqa: PLW2901  the version to show
            if len(value) > HEADER_BYTES:
                append((key, value[HEADER_BYTES:]))
        if len(items) < limit:
            return visible, None
        last = items[-1][0]
        return visible, last if reverse else last + b"\0"

    def check_readable(self, timestamp: int) -> None:
        """Refuse timestamps whose versions may have been collected."""
        if timestamp < self.watermark:
            raise SnapshotTooOld("snapshot too old")

    def _old_version(self, key: bytes, timestamp: int) -> bytes | None:
        """Find the version at ``timestamp`` among those that were replaced."""
        self.check_readable(timestamp)
        wanted = history_key(key, timestamp)
        found = self.history.scan(wanted, key + b"\xff" * 9, 1)
        if not found:
            return None
        stored_key, value = found[0]
        if len(stored_key) != len(wanted) or not stored_key.startswith(key):
            return None
        return value

    # Garbage collection: physical removal below the watermark is local to each replica.

    def collect(self, position: bytes, limit: int) -> tuple[bytes | None, int]:
        """Remove what the watermark allows of ``limit`` history entries after ``position``.

        Returns where to go on (None: a full round is done) and how many entries went. An entry may
        go when the version that replaced it is at or below the watermark; a tombstone in ``rows``
        when it is and no history is left below it. Dropped storage goes first, ``limit`` keys a
        call.
        """
        if self.clearing:
            return position, self._clear_some(limit)
        items = self.history.scan(position, b"\xff" * 16, limit)
        removed = 0
        newer_key, newer_timestamp = b"", 0
        for stored_key, _ in items:
            key = stored_key[:-8]
            if key != newer_key:
                newer_key = key
                newer_timestamp = self._version_above(key, history_timestamp(stored_key))
            if newer_timestamp <= self.watermark:
                self.history.delete(stored_key)
                removed += 1
            newer_timestamp = history_timestamp(stored_key)
        for key in {stored_key[:-8] for stored_key, _ in items}:
            self._drop_tombstone(key)
        return (items[-1][0] + b"\0" if len(items) == limit else None), removed

    def _clear_some(self, limit: int) -> int:
        """Remove some keys of the first prefix of ``clearing``.

        Nobody reads there, and its ids never come again.
        """
        start, end = prefix_range(self.clearing[0])
        items = self.rows.scan(start, end, limit)
        for key, value in items:
            if len(value) > HEADER_BYTES:
                vshard = HEADER.unpack_from(value)[1]
                self.vshard_keys[vshard] -= 1
                self.vshard_bytes[vshard] -= len(key) + len(value) - HEADER_BYTES
        removed = self.rows.delete_range(start, end, len(items)) if items else 0
        if len(items) < limit:
            old = self.history.delete_range(start, end, limit - len(items))
            removed += old
            if old < limit - len(items):
                del self.clearing[0]
        return removed

    def _version_above(self, key: bytes, timestamp: int) -> int:
        """Return the commit timestamp of the version that replaced the one at ``timestamp``."""
        above = self.history.scan(key + b"\0" * 8, history_key(key, timestamp), 1, reverse=True)
        if above and len(above[0][0]) == len(key) + 8 and above[0][0].startswith(key):
            return history_timestamp(above[0][0])
        newest = self.rows.get(key)
        assert newest is not None, "history without a newest version"
        newest_timestamp: int = HEADER.unpack_from(newest)[0]
        return newest_timestamp

    def _drop_tombstone(self, key: bytes) -> None:
        value = self.rows.get(key)
        if (
            value is None
            or len(value) > HEADER_BYTES
            or HEADER.unpack_from(value)[0] > self.watermark
        ):
            return
        if not self.history.scan(key + b"\0" * 8, key + b"\xff" * 9, 1):
            self.rows.delete(key)
