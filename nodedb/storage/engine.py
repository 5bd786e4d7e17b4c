"""What the key-value layer needs of a storage engine, and what every engine guarantees.

An engine keeps named ordered maps of bytes, the *spaces*, and for every Raft group the index and
term up to which the log is applied to them. Reads see the newest writes at once. ``commit`` closes
what was written since the last one, spaces and applied indexes together: a crash falls back to a
commit, to the last one or the one before it (the newest commit's own record may be lost with the
power), never to anything in between. Log entries behind ``recyclable_applied`` are therefore still
needed (PROTOCOL rule 57).

A snapshot of a group is loaded into *staged* spaces, which nobody sees: fresh generations beside
the live ones, filled over many commits and put in their place by one (PROTOCOL rule 63). ``Space``
objects of the live ones go on in the new generation. What is staged when the process ends is gone
at the next start. What was replaced is removed in pieces, because freeing many pages takes time.

Keys are compared as bytes, are never empty and have any length. Ranges are half-open; ``end`` None
is no bound. Everything runs on one thread; nothing that a method returns refers to the engine.

After a StorageError (a full map included) the engine is unusable: what was written since the last
commit is gone from it, and comes back from the log after a restart. ``ensure_room`` is the way not
to get there.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

KeyValue = tuple[bytes, bytes]

COMMIT_BYTES_DEFAULT: Final = 4 * 1024 * 1024
COMMIT_INTERVAL_MS_DEFAULT: Final = 100
DISK_RESERVE_BYTES_DEFAULT: Final = 256 * 1024 * 1024
SNAPSHOT_CHUNK_BYTES: Final = 4 * 1024 * 1024
TRIM_ROWS: Final = 2048
"""Keys of a replaced generation removed at a time: a few milliseconds."""


class Space(Protocol):
    """One named ordered map."""

    @property
    def name(self) -> str:
        """The name it was opened by."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set or replace."""

    def put_many(self, items: Iterable[KeyValue]) -> None:
        """Set or replace many; fastest in ascending order."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; return whether it was there."""

    def scan(
        self,
        start: bytes,
        end: bytes | None,
        limit: int,
        reverse: bool = False,  # noqa: FBT001, FBT002  hot path, called with positions
    ) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end), or the last, then descending."""

    def scan_values(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int
    ) -> tuple[list[bytes], bytes | None]:
        """Return the first values of [start, end), and the start of what follows (None: the end).

        At most ``limit``, and not many more bytes of them than ``bytes_max``; with a bound there
        is at least one.
        """

    def seek_first(self, start: bytes, end: bytes | None) -> KeyValue | None:
        """Return the first pair of [start, end), or None."""

    def delete_range(self, start: bytes, end: bytes | None, limit: int) -> int:
        """Remove the first ``limit`` keys of [start, end); return how many there were."""

    def clear(self) -> None:
        """Remove everything."""

    def count(self) -> int:
        """Return the number of keys."""


class Snapshot(Protocol):
    """A committed state that stands still; close it soon, it keeps dead pages alive."""

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return (index, term) applied in this state; (0, 0) for an unknown group."""

    def space_names(self) -> list[str]:
        """Return the names of all spaces in this state, sorted; staged ones are not among them."""

    def take(self, space_name: str, start: bytes, limit: int, bytes_max: int) -> list[KeyValue]:
        """Return the first pairs at and behind ``start``, with a bound for their bytes.

        At most ``limit``, and not many more bytes than ``bytes_max``; at least one if there is any.
        The same arguments give the same pairs every time.
        """

    def scan(self, space_name: str, start: bytes, end: bytes | None, limit: int) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end); none of a space that does not exist."""

    def chunks(
        self, space_name: str, start: bytes, end: bytes | None, chunk_bytes: int
    ) -> Iterator[list[KeyValue]]:
        """Yield all pairs of [start, end) in order, in lists of about ``chunk_bytes``."""

    def close(self) -> None:
        """End it."""


class Engine(Protocol):
    """The spaces of one node, with the applied index of each group."""

    def space(self, name: str) -> Space:
        """Open a space, creating it when needed. The same name gives the same object."""

    def drop_space(self, name: str) -> None:
        """Remove a space with its contents; its ``Space`` objects are dead."""

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""

    def set_applied(self, group_id: int, index: int, term: int) -> None:
        """Note that a group's log is applied up to an entry, whose index and term these are."""

    def clear_applied(self, group_id: int) -> None:
        """Forget a group whose replica has left."""

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return the newest (index, term) noted; (0, 0) for an unknown group."""

    def recyclable_applied(self, group_id: int) -> int:
        """Return the applied index that no crash can undo; log entries up to it may go."""

    def before_commit(self, callback: Callable[[], None]) -> None:
        """Have it called before each commit, whoever makes it: to put what is kept in memory."""

    def commit(self) -> None:
        """Close what was written. Asserts that no applied index is beyond the fsynced log (61)."""

    def sync(self) -> None:
        """Commit, and make that very commit durable."""

    def ensure_room(self, byte_count: int) -> None:
        """Raise MapFull or DiskFull when that much more data might not fit; changes nothing."""

    def read_snapshot(self) -> Snapshot:
        """Commit, and return the committed state. Only between two applied entries."""

    # Replacing a group's state (PROTOCOL rule 63)

    def stage_space(self, name: str) -> Space:
        """Open an empty generation of a space, which nobody sees before ``switch_staged``.

        One that is staged under this name already is discarded.
        """

    def staged_names(self) -> list[str]:
        """Return the names of the spaces that have a staged generation, sorted."""

    def discard_staged(self, names: Iterable[str]) -> None:
        """Give up staged generations; names that have none are passed over."""

    def switch_staged(self, names: Iterable[str], group_id: int, *, index: int, term: int) -> None:
        """Put staged generations in place of the live ones, with the applied entry, durably.

        One commit, synced in full: any crash leaves all of it or nothing, and afterwards
        ``recyclable_applied`` is ``index``. Only here an applied index may be beyond the log, which
        the caller resets next. ``before_commit`` callbacks run before the switch, so what they put
        goes with the old generation: the caller has its machine read the new state before the
        next commit. An empty generation takes the place of a space that must become empty.
        """

    def trim_dropped(self, limit: int = TRIM_ROWS) -> bool:
        """Remove about ``limit`` keys of what was replaced; True while there is more to remove.

        Commits do one such step themselves. False also while a snapshot is open.
        """

    def abandon(self) -> None:
        """Forget what was not committed, and refuse everything from now on but ``close``."""

    def close(self) -> None:
        """Commit and close; after a failure, or when abandoned, only close."""


def chunked(scan_from: "ScanFrom", start: bytes, chunk_bytes: int) -> Iterator[list[KeyValue]]:
    """Cut a scan into lists of about ``chunk_bytes``; each fetch starts behind the last key."""
    chunk: list[KeyValue] = []
    size = 0
    while True:
        batch = scan_from(start)
        for pair in batch:
            chunk.append(pair)
            size += len(pair[0]) + len(pair[1])
            if size >= chunk_bytes:
                yield chunk
                chunk = []
                size = 0
        if not batch:
            break
        start = batch[-1][0] + b"\0"
    if chunk:
        yield chunk


def cut_values(
    pairs: list[KeyValue], limit: int, bytes_max: int
) -> tuple[list[bytes], bytes | None]:
    """Make the answer of ``Space.scan_values`` of what ``Space.scan`` found."""
    values: list[bytes] = []
    size = 0
    for key, value in pairs:
        values.append(value)
        size += len(value)
        if size >= bytes_max:
            return values, key + b"\0"
    return values, (pairs[-1][0] + b"\0" if len(pairs) == limit else None)


class ScanFrom(Protocol):
    """Returns the next pairs at and behind a key; none at the end."""

    def __call__(self, start: bytes, /) -> list[KeyValue]:
        """Fetch."""
