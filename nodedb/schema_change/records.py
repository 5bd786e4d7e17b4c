"""What is durable of a schema change besides its descriptors: small rows of the data group.

A build's record is written in the same log entry as the rows it tells of, so after a crash it goes
on exactly where it was. The records live under a storage id of their own:

    SCHEMA_CHANGE_STORAGE_ID:4 | 1:2 | OID of the index:4         BuildRecord
    SCHEMA_CHANGE_STORAGE_ID:4 | 2:2 | storage id:4 | index id:2  ClearRecord

A ``ClearRecord`` stands for an index that has no descriptor any more, but entries: they go when no
writer is left that knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nodedb.kv.keys import (
    PREFIX,
    SCHEMA_CHANGE_STORAGE_ID,
    index_prefix,
    prefix_range,
    vshard_of,
)

if TYPE_CHECKING:
    from nodedb.kv.group import DataGroup
    from nodedb.txn.transaction import Transaction

_BUILDS: Final = index_prefix(SCHEMA_CHANGE_STORAGE_ID, 1)
_CLEARS: Final = index_prefix(SCHEMA_CHANGE_STORAGE_ID, 2)
_SCAN_ROWS: Final = 1000


class BuildRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An index build under way.

    ``position`` is the key of the row to go on from, b"" at the beginning. The last three say who
    asked for it (``nodedb.catalog.changes.Author``).
    """

    table_id: int
    keeps_invalid: bool
    command: str
    position: bytes = b""
    row_count: int = 0
    is_filled: bool = False
    user: str = ""
    process_id: int = 0
    client: str = ""


class ClearRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Entries to remove once nobody makes more of them."""

    table_id: int


RecordT = TypeVar("RecordT", BuildRecord, ClearRecord)


def build_key(index_oid: int) -> bytes:
    """Return the key of a build's record."""
    return _BUILDS + index_oid.to_bytes(4, "big")


def clear_key(storage_id: int, index_id: int) -> bytes:
    """Return the key of the record that an index's entries must go."""
    return _CLEARS + PREFIX.pack(storage_id, index_id)


def write_record(
    transaction: Transaction, key: bytes, record: BuildRecord | ClearRecord | None
) -> None:
    """Write a record with a transaction; None deletes it."""
    payload = b"" if record is None else msgspec.msgpack.encode(record)
    transaction.put(key, payload, vshard_of(key[PREFIX.size :]))


def read_build(group: DataGroup, index_oid: int) -> BuildRecord | None:
    """Return the record of an index's build, None when there is none."""
    payload = group.newest(build_key(index_oid))
    return None if payload is None else msgspec.msgpack.decode(payload, type=BuildRecord)


def all_builds(group: DataGroup) -> dict[int, BuildRecord]:
    """Return all builds by the OID of their index."""
    return {
        int.from_bytes(key[PREFIX.size :], "big"): record
        for key, record in _all(group, _BUILDS, BuildRecord)
    }


def all_clears(group: DataGroup) -> dict[tuple[int, int], ClearRecord]:
    """Return what is to be cleared by (storage id, index id)."""
    return {
        PREFIX.unpack_from(key, PREFIX.size): record
        for key, record in _all(group, _CLEARS, ClearRecord)
    }


def _all(
    group: DataGroup, prefix: bytes, record_type: type[RecordT]
) -> list[tuple[bytes, RecordT]]:
    found: list[tuple[bytes, RecordT]] = []
    start, end = prefix_range(prefix)
    while start is not None:
        items, following = group.scan(start, end, group.last_timestamp, _SCAN_ROWS)
        found += [(k, msgspec.msgpack.decode(payload, type=record_type)) for k, payload in items]
        if following is None:
            break
        start = following
    return found
