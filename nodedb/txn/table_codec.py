"""How one version of a table is laid out in keys and values.

Compiled once per descriptor, then called per row.

Clustered row:     key ``prefix(storage, 1) | clustering key``         value: the row
Unique entry:      key ``prefix(storage, i) | index key``              value: the clustering key's
values Other entry:       key ``prefix(storage, i) | index key | clustering`` value: the clustering
key's values

A unique entry with a NULL in its key (and NULLs distinct) takes the second form, for it conflicts
with nothing. So do the entries of a deferrable unique constraint, which two rows may share until it
is checked (``nodedb.txn.deferred``). Unique entries are distributed by their own key, as are those
of a deferrable constraint; the others live with their row (ARCHITECTURE section 4).
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from nodedb.kv.keys import index_prefix, vshard_of
from nodedb.storage.key_codec import KeyColumn, key_encoder, prefix_encoder, prefix_end
from nodedb.storage.row_codec import BatchDecoder, RowCodec, row_codec
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Index, IndexKey, Table
from sql.executor.store import KeySpan
from sql.types.base import Datum, Row, SqlType
from sql.types.catalog import BOOL, type_by_oid

Values = tuple[Datum, ...]
_CACHE_KEY: Final = "_nodedb_codec"


def _getter(positions: Sequence[int]) -> Callable[[Row], Values]:
    """Return a function that picks several positions as a tuple."""
    if len(positions) == 1:
        position = positions[0]
        return lambda row: (row[position],)
    return itemgetter(*positions)


class KeySpace:
    """One index's keys: ``key`` encodes all columns; spans of values become ranges of bytes."""

    __slots__ = ("_columns", "_prefixes", "key", "prefix")

    def __init__(self, prefix: bytes, columns: Sequence[KeyColumn]) -> None:
        self.prefix = prefix
        self._columns = tuple(columns)
        self.key = key_encoder(self._columns, prefix)
        self._prefixes: dict[int, Callable[[Values], bytes]] = {}

    def partial(self, values: Values) -> bytes:
        """Encode the first ``len(values)`` key columns."""
        count = len(values)
        if count == len(self._columns):
            return self.key(values)
        encode = self._prefixes.get(count)
        if encode is None:
            encode = self._prefixes[count] = prefix_encoder(self._columns, count, self.prefix)
        return encode(values)

    def whole(self) -> tuple[bytes, bytes]:
        """Return the range of every key."""
        return self.prefix, prefix_end(self.prefix)

    def range_of(self, span: KeySpan) -> tuple[bytes, bytes]:
        """Return the half-open byte range of a span."""
        start, end = self.whole()
        if span.start:
            start = self.partial(span.start)
            if not span.start_inclusive:
                start = prefix_end(start)
        if span.end:
            end = self.partial(span.end)
            if span.end_inclusive:
                end = prefix_end(end)
        return start, end


class IndexCodec:
    """One secondary index of a table."""

    __slots__ = (
        "_unique_space",
        "columns",
        "entries",
        "index",
        "index_id",
        "is_deferrable",
        "is_filled",
        "is_public",
        "is_unique",
        "nulls_distinct",
    )

    def __init__(self, table: Table, index: Index) -> None:
        self.index = index
        self.index_id = index.index_id
        # While an index is being built (``nodedb.schema_change``): the first state of the two takes
        # no new entries, and in both a unique entry may be missing, or be that of another row.
        self.is_filled = index.state != "delete_only"
        self.is_public = index.state in ("public", "young")
        self.is_unique = index.unique and not index.deferrable
        self.is_deferrable = index.unique and index.deferrable
        self.nulls_distinct = not index.nulls_not_distinct
        positions = [key.position for key in index.keys]
        self.columns = (
            None if -1 in positions or index.predicate is not None else _getter(positions)
        )
        own = [
            KeyColumn(_key_type(table, key), key.descending, key.nulls_first) for key in index.keys
        ]
        clustering = [
            KeyColumn(table.columns[p].type, nullable=False) for p in table.clustering_key
        ]
        prefix = index_prefix(table.storage_id, index.index_id)
        self.entries = KeySpace(prefix, own + clustering)
        self._unique_space = KeySpace(prefix, own)

    def entry_key(self, values: Values, clustering: Values) -> tuple[bytes, bool]:
        """Return an entry's key, and whether it must be the only one of its kind."""
        if self.is_unique and not (self.nulls_distinct and None in values):
            return self._unique_space.key(values), True
        return self.entries.key(values + clustering), False

    def shared_key(self, values: Values) -> bytes | None:
        """Return what all entries of one deferrable unique key start with; None: no conflict."""
        if self.nulls_distinct and None in values:
            return None
        return self._unique_space.key(values)


def _key_type(table: Table, key: IndexKey) -> SqlType:
    if key.position >= 0:
        return table.columns[key.position].type
    found = type_by_oid(key.type_oid)
    assert found is not None, key
    return found


class TableCodec:
    """A table's rows and indexes in bytes."""

    __slots__ = (
        "_batch_decoders",
        "_row_codec",
        "clustering_of",
        "decode",
        "decode_clustering",
        "encode",
        "encode_clustering",
        "filled_indexes",
        "index_by_id",
        "indexes",
        "rowid_position",
        "rows",
        "table",
        "vshard_positions",
    )

    def __init__(self, table: Table) -> None:
        self.table = table
        types = [BOOL if column.dropped else column.type for column in table.columns]
        codec = row_codec(types, [_missing(column) for column in table.columns])
        self.encode = codec.encode
        self.decode = codec.decode
        self._row_codec = codec
        self._batch_decoders: dict[frozenset[int] | None, BatchDecoder] = {}
        clustering = [table.columns[p] for p in table.clustering_key]
        self.rows = KeySpace(
            index_prefix(table.storage_id, PRIMARY_INDEX_ID),
            [KeyColumn(column.type, nullable=False) for column in clustering],
        )
        self.clustering_of = _getter(table.clustering_key)
        key_codec = row_codec([column.type for column in clustering], [None] * len(clustering))
        self.encode_clustering = key_codec.encode
        self.decode_clustering = key_codec.decode
        self.indexes = tuple(IndexCodec(table, index) for index in table.indexes)
        self.filled_indexes = tuple(index for index in self.indexes if index.is_filled)
        self.index_by_id = {index.index_id: index for index in self.indexes}
        hidden = [column.position for column in clustering if column.hidden]
        self.rowid_position = hidden[0] if hidden else -1
        count = len(table.distribute_by)
        self.vshard_positions = count if 0 < count < len(table.clustering_key) else 0

    def batch_decoder(self, columns: frozenset[int] | None) -> BatchDecoder:
        """Return the decoder of many rows; columns other than these positions are left as they are.

        What stands in those must not be looked at. None: all columns.
        """
        found = self._batch_decoders.get(columns)
        if found is None:
            found = self._batch_decoders[columns] = self._row_codec.batch_decoder(columns)
        return found

    def key_of(self, row: Row) -> bytes:
        """Return the storage key of a row."""
        return self.rows.key(self.clustering_of(row))

    def vshard(self, key: bytes, clustering: Values) -> int:
        """Return the vshard of a row's key."""
        if self.vshard_positions:
            return vshard_of(self.rows.partial(clustering[: self.vshard_positions])[6:])
        return vshard_of(key[6:])

    def entry_vshard(self, unique_key: bytes | None, clustering: Values) -> int:
        """Return the vshard of an index entry: its unique key's, or without one its row's."""
        if unique_key is not None:
            return vshard_of(unique_key[6:])
        return self.vshard(self.rows.key(clustering), clustering)


def _missing(column: Any) -> Datum:
    """Return the value of a column in rows older than it."""
    if not column.missing_value or column.dropped:
        return None
    codec: RowCodec = row_codec([column.type], [None])
    return codec.decode(column.missing_value)[0]


def codec_of(table: Table) -> TableCodec:
    """Return the table's codec, kept on the descriptor itself.

    Both are immutable and die together.
    """
    found = table.__dict__.get(_CACHE_KEY)
    if found is None:
        found = table.__dict__[_CACHE_KEY] = TableCodec(table)
    return found
