"""Storage keys and the header of every stored value.

Key shape: ``storage_id:4 | index_id:2 | encoded columns`` (big-endian), so a table's rows and each
of its indexes are contiguous. Within one index no encoded key is a prefix of another.

Value shape: ``commit_timestamp:8 | vshard:2 | payload`` (big-endian); an empty payload is a
tombstone. The vshard stands in the value so that moving one is a scan with a filter on two bytes
(docs/adr/0010). History key: ``key | ~commit_timestamp:8``: newest first below its key.
"""

import struct
from typing import Final
from zlib import crc32

from cluster.ids import VSHARD_COUNT

PREFIX: Final = struct.Struct(">IH")
HEADER: Final = struct.Struct(">QH")
HEADER_BYTES: Final = HEADER.size
TIMESTAMP_MAX: Final = (1 << 64) - 1
_INVERTED: Final = struct.Struct(">Q")

SEQUENCE_STORAGE_ID: Final = 1
"""Running values of sequences live under this storage id.

Index 1, keyed by the sequence's own storage id.
"""

SCHEMA_CHANGE_STORAGE_ID: Final = 2
"""What schema changes under way must not forget (``nodedb.schema_change.records``)."""


def index_prefix(storage_id: int, index_id: int) -> bytes:
    """Return the prefix of all keys of one index."""
    return PREFIX.pack(storage_id, index_id)


def storage_prefix(storage_id: int) -> bytes:
    """Return the prefix of all keys of one storage id."""
    return storage_id.to_bytes(4, "big")


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Return the half-open range of the keys under a storage or index prefix."""
    return prefix, (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")


def vshard_of(distribution_key: bytes) -> int:
    """Return the hash bucket of an encoded distribution key (without storage and index ids)."""
    return crc32(distribution_key) % VSHARD_COUNT


def history_key(key: bytes, timestamp: int) -> bytes:
    """Return where a version lives once a newer one has replaced it."""
    return key + _INVERTED.pack(TIMESTAMP_MAX - timestamp)


def history_timestamp(stored_key: bytes) -> int:
    """Return the commit timestamp in a history key."""
    inverted: int = _INVERTED.unpack_from(stored_key, len(stored_key) - 8)[0]
    return TIMESTAMP_MAX - inverted
