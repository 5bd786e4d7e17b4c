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
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from cluster.ids import VSHARD_COUNT
from nodedb.kv.completions import Completion, CompletionTable
from nodedb.kv.effects import (
    ClearStorage,
    CollectGarbage,
    Completed,
    Completing,
    Effects,
    FinishPrepared,
    LongWrites,
    PreparedRows,
    RowWrites,
    Write,
    decode_effects,
    encode_effects,
)
from nodedb.kv.keys import (
    HEADER,
    HEADER_BYTES,
    PREFIX,
    history_key,
    history_timestamp,
    prefix_range,
)
from nodedb.storage.engine import Engine, Space
from sql.errors import SnapshotTooOld

_STATE_KEY: Final = b"group-state"
_PREPARED: Final = b"prepared/"
_TIMESTAMP: Final = struct.Struct(">Q")
_VSHARDS: Final = tuple(vshard.to_bytes(2, "big") for vshard in range(VSHARD_COUNT))
_write_key: Final = itemgetter(1)
TIMESTAMP_MIN: Final = 1
"""Below every commit timestamp; a snapshot of it is an empty group, one of 0 is none yet."""
APPLY_SLICE_ROWS: Final = 2048
"""Writes applied in one turn of the loop: a few milliseconds."""
Item = tuple[bytes, bytes]


def _write_prefix(write: Write) -> bytes:
    return write[1][: PREFIX.size]


def _prepared_key(transaction_id: int) -> bytes:
    return _PREPARED + transaction_id.to_bytes(8, "big")


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
        self.last_timestamp = TIMESTAMP_MIN
        self.watermark = 0
        self.clearing: list[bytes] = []
        self.amid_timestamp = 0
        """The commit timestamp of the entry that is being applied in slices, 0 for none."""
        self.prepared: set[int] = set()
        """Transactions whose rows wait for the decision on their catalog change."""
        self.completions = CompletionTable()
        self.vshard_keys = array("q", bytes(8 * VSHARD_COUNT))
        self.vshard_bytes = array("q", bytes(8 * VSHARD_COUNT))
        self._load()

    def _load(self) -> None:
        self._load_state()
        self.completions.reset(self.last_timestamp)

    def _load_state(self) -> None:
        found = self._meta.scan(_PREPARED, _PREPARED + b"\xff" * 9, 1 << 20)
        self.prepared = {int.from_bytes(key[len(_PREPARED) :], "big") for key, _ in found}
        saved = self._meta.get(_STATE_KEY)
        if saved is None:
            return
        state = msgspec.msgpack.decode(saved, type=_State)
        self.last_timestamp = state.last_timestamp
        self.watermark = state.watermark
        self.clearing = list(state.clearing)
        self.vshard_keys = array("q", state.vshard_keys)
        self.vshard_bytes = array("q", state.vshard_bytes)

    def reload(self) -> None:
        """Read everything again: a snapshot has taken the place of this group's spaces.

        An entry that was being applied in slices is part of it, or comes again.
        """
        self.last_timestamp = TIMESTAMP_MIN
        self.watermark = 0
        self.clearing = []
        self.amid_timestamp = 0
        self.vshard_keys = array("q", bytes(8 * VSHARD_COUNT))
        self.vshard_bytes = array("q", bytes(8 * VSHARD_COUNT))
        self._load()

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

    @staticmethod
    def decode(payload: bytes) -> Effects:
        """Read an entry as it stands in the log. Raises UnknownEffects."""
        return decode_effects(payload)

    def apply_payload(self, payload: bytes, index: int) -> None:
        """Apply an entry as it stands in the log (recovery, followers)."""
        slices = self.apply(decode_effects(payload), index)
        if slices is not None:
            for _ in slices:
                pass

    def apply(self, value: Effects | LongWrites | Completing, index: int) -> Iterator[int] | None:
        """Apply one entry's effects; the index is the caller's to keep.

        Many writes come back in slices that are still to be run. Their versions are above
        ``last_timestamp`` until the last slice is: no reader sees any of them before.
        """
        del index
        match value:
            case RowWrites():
                timestamp, writes = value.commit_timestamp, value.writes
                assert timestamp > self.last_timestamp, "commit timestamps grow along the log"
                if len(writes) > APPLY_SLICE_ROWS:
                    slices = (
                        writes[start : start + APPLY_SLICE_ROWS]
                        for start in range(0, len(writes), APPLY_SLICE_ROWS)
                    )
                    return self._apply_sliced(timestamp, slices)
                self._apply_writes(timestamp, writes)
                self.last_timestamp = timestamp
            case LongWrites():
                assert value.commit_timestamp > self.last_timestamp, "as above"
                return self._apply_sliced(value.commit_timestamp, value.slices())
            case ClearStorage():
                self.clearing.extend(p for p in value.prefixes if p not in self.clearing)
            case CollectGarbage():
                self.watermark = max(self.watermark, value.watermark)
            case PreparedRows():
                self._meta.put(_prepared_key(value.transaction_id), encode_effects(value))
                self.prepared.add(value.transaction_id)
            case FinishPrepared():
                return self._finish_prepared(value)
            case Completing():
                return self._complete(value.completion, self.apply(value.effects, 0))
            case Completed():
                inner = decode_effects(value.effects) if value.effects else None
                return self._complete(
                    value.completion, None if inner is None else self.apply(inner, 0)
                )
        return None

    def _complete(
        self, completion: Completion, slices: Iterator[int] | None
    ) -> Iterator[int] | None:
        """Remember a request, once all of its effects are there."""
        if slices is not None:
            return self._complete_after(completion, slices)
        self.completions.add(completion, self.last_timestamp)
        return None

    def _complete_after(self, completion: Completion, slices: Iterator[int]) -> Iterator[int]:
        yield from slices
        self.completions.add(completion, self.last_timestamp)

    # Rows that wait for the decision on the catalog change they belong to. They lie beside the
    # group's small state, so a snapshot carries them, and a new leader finds them.

    def _finish_prepared(self, outcome: FinishPrepared) -> Iterator[int] | None:
        """Apply or drop a prepared transaction's effects."""
        key = _prepared_key(outcome.transaction_id)
        stored = self._meta.get(key)
        if stored is None:
            return None
        timestamp = outcome.commit_timestamp
        assert not timestamp or timestamp > self.last_timestamp, "timestamps grow along the log"
        prepared = decode_effects(stored)
        assert isinstance(prepared, PreparedRows), key
        long: list[Write] | None = None
        completion: Completion | None = None
        for payload in prepared.effects if timestamp else ():
            effects = decode_effects(payload)
            if isinstance(effects, Completed):
                completion = effects.completion
            elif not isinstance(effects, RowWrites):
                self.apply(effects, 0)
            elif len(effects.writes) > APPLY_SLICE_ROWS:
                assert long is None, "one entry of rows for each transaction"
                long = effects.writes
            else:
                self._apply_writes(timestamp, effects.writes)
        if long is not None:
            rest = self._finish_long(timestamp, long, outcome.transaction_id)
            return rest if completion is None else self._complete(completion, rest)
        self._forget_prepared(outcome.transaction_id)
        self.last_timestamp = max(self.last_timestamp, timestamp)
        return None if completion is None else self._complete(completion, None)

    def _finish_long(
        self, timestamp: int, writes: list[Write], transaction_id: int
    ) -> Iterator[int]:
        """Apply many prepared rows in slices; they are there until the last one is applied."""
        slices = (
            writes[start : start + APPLY_SLICE_ROWS]
            for start in range(0, len(writes), APPLY_SLICE_ROWS)
        )
        yield from self._apply_sliced(timestamp, slices)
        self._forget_prepared(transaction_id)

    def _forget_prepared(self, transaction_id: int) -> None:
        self._meta.delete(_prepared_key(transaction_id))
        self.prepared.discard(transaction_id)

    def _apply_sliced(self, timestamp: int, slices: Iterator[list[Write]]) -> Iterator[int]:
        self.amid_timestamp = timestamp
        return self._run_slices(timestamp, slices)

    def _run_slices(self, timestamp: int, slices: Iterator[list[Write]]) -> Iterator[int]:
        for part in slices:
            part.sort(key=_write_key)
            byte_count = 0
            for _, run in groupby(part, key=_write_prefix):
                byte_count += self._apply_run(timestamp, list(run))
            yield byte_count
        self.amid_timestamp = 0
        self.last_timestamp = timestamp

    def _apply_run(self, timestamp: int, writes: list[Write]) -> int:
        """Apply writes to one index in key order; returns their bytes.

        Where nothing stands between the first and the last key there is nothing to replace.
        """
        if self.has_keys(writes[0][1], writes[-1][1]):
            return self._apply_writes(timestamp, writes)
        stamp = _TIMESTAMP.pack(timestamp)
        self.rows.put_many(
            [
                (key, stamp + _VSHARDS[vshard] + payload)
                for vshard, key, payload in writes
                if payload
            ]
        )
        keys, sizes = self.vshard_keys, self.vshard_bytes
        total = 0
        for vshard, key, payload in writes:
            if payload:
                size = len(key) + len(payload)
                keys[vshard] += 1
                sizes[vshard] += size
                total += size
        return total

    def _apply_writes(self, timestamp: int, writes: list[Write]) -> int:
        rows, history = self.rows, self.history
        get, put = rows.get, rows.put
        keys, sizes = self.vshard_keys, self.vshard_bytes
        stamp = _TIMESTAMP.pack(timestamp)
        total = 0
        for vshard, key, payload in writes:
            size = len(key) + len(payload)
            total += size
            old = get(key)
            if old is not None:
                if old.startswith(stamp):
                    continue  # Applied before a crash, with its part of the counts.
                history.put(history_key(key, HEADER.unpack_from(old)[0]), old)
                if len(old) > HEADER_BYTES:
                    keys[vshard] -= 1
                    sizes[vshard] -= len(key) + len(old) - HEADER_BYTES
            elif not payload:
                continue
            put(key, stamp + _VSHARDS[vshard] + payload)
            if payload:
                keys[vshard] += 1
                sizes[vshard] += size
        return total

    # Reading

    def newest(self, key: bytes) -> bytes | None:
        """Return the newest applied payload of a key, None when absent or deleted."""
        value = self.rows.get(key)
        if self.amid_timestamp and value is not None:
            value = self._in_effect(key, value)
        if value is None or len(value) == HEADER_BYTES:
            return None
        return value[HEADER_BYTES:]

    def _in_effect(self, key: bytes, value: bytes) -> bytes | None:
        """Return the newest version below the entry that is being applied in slices."""
        if HEADER.unpack_from(value)[0] <= self.last_timestamp:
            return value
        # Never collected: what replaces it is above the watermark.
        return self._replaced_version(key, self.last_timestamp)

    def has_keys(self, first: bytes, last: bytes) -> bool:
        """Tell whether any key of [first, last] is there, deleted ones included."""
        return self.rows.seek_first(first, last + b"\0") is not None

    def newest_version(self, key: bytes) -> tuple[int, bytes | None]:
        """Return (commit timestamp, payload); (0, None) for a key never written."""
        value = self.rows.get(key)
        if self.amid_timestamp and value is not None:
            value = self._in_effect(key, value)
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
        visible = [(key, value[HEADER_BYTES:]) for key, value in self._visible(items, timestamp)]
        if len(items) < limit:
            return visible, None
        last = items[-1][0]
        return visible, last if reverse else last + b"\0"

    def scan_values(
        self, start: bytes, end: bytes, timestamp: int, limit: int, bytes_max: int
    ) -> tuple[list[bytes], bytes | None]:
        """Return visible values, headers included, and the bound to go on from as ``scan`` does.

        The way of long scans: what most batches need is decided for all their values at once.
        """
        self.check_readable(timestamp)
        values, bound = self.rows.scan_values(start, end, limit, bytes_max)
        if not values or (
            # Versions compare as their timestamps do: the header stands in front.
            max(values) < _TIMESTAMP.pack(timestamp + 1) and min(map(len, values)) > HEADER_BYTES
        ):
            return values, bound
        # Old versions are found by their keys.
        items = self.rows.scan(start, end, len(values))
        return [value for _, value in self._visible(items, timestamp)], bound

    def _visible(self, items: list[Item], timestamp: int) -> Iterator[Item]:
        """Yield the versions at ``timestamp`` of what stands in ``rows``, without tombstones."""
        unpack = HEADER.unpack_from
        for key, value in items:
            if unpack(value)[0] > timestamp:
                old = self._old_version(key, timestamp)
                if old is None:
                    continue
                value = old  # noqa: PLW2901  the version to show
            if len(value) > HEADER_BYTES:
                yield key, value

    def check_readable(self, timestamp: int) -> None:
        """Refuse timestamps whose versions may have been collected."""
        if timestamp < self.watermark:
            raise SnapshotTooOld("snapshot too old")

    def _old_version(self, key: bytes, timestamp: int) -> bytes | None:
        """Find the version at ``timestamp`` among those that were replaced."""
        self.check_readable(timestamp)
        return self._replaced_version(key, timestamp)

    def _replaced_version(self, key: bytes, timestamp: int) -> bytes | None:
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
