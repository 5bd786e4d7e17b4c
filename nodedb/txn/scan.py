"""Scans of one statement: committed versions at a timestamp, with the transaction's earlier writes merged in.

No engine cursor outlives a batch: each batch re-seeks by key (STYLE section 3). Batches grow from the limit's size to
``BATCH_ROWS``, so ``LIMIT 1`` reads little and a full scan reads much at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nodedb.kv.group import DataGroup, Item
from nodedb.txn.table_codec import TableCodec
from nodedb.txn.transaction import Transaction
from sql.types.base import Row

BATCH_ROWS: Final = 1024
FIRST_BATCH_ROWS: Final = 64


class BufferedScan:
    """Yields (key, payload) batches of several ranges in order."""

    __slots__ = ("_before_command", "_group", "_limit", "_ranges", "_reverse", "_timestamp", "_transaction")

    def __init__(
        self,
        group: DataGroup,
        transaction: Transaction,
        ranges: list[tuple[bytes, bytes]],
        *,
        timestamp: int,
        before_command: int,
        reverse: bool,
        limit: int | None,
    ) -> None:
        self._group = group
        self._transaction = transaction
        self._ranges = ranges if reverse else ranges[::-1]
        self._timestamp = timestamp
        self._before_command = before_command
        self._reverse = reverse
        self._limit = min(max(limit or FIRST_BATCH_ROWS, 1), BATCH_ROWS)

    def next_items(self) -> list[Item]:
        """Return the next batch, [] at the end."""
        while self._ranges:
            start, end = self._ranges.pop()
            if start >= end:
                continue
            items, bound = self._group.scan(
                start, end, self._timestamp, self._limit, reverse=self._reverse
            )
            self._limit = min(self._limit * 4, BATCH_ROWS)
            covered_start, covered_end = start, end
            if bound is not None:
                if self._reverse:
                    self._ranges.append((start, bound))
                    covered_start = bound
                else:
                    self._ranges.append((bound, end))
                    covered_end = bound
            items = self._merge(items, covered_start, covered_end)
            if items:
                return items
        return []

    def _merge(self, items: list[Item], start: bytes, end: bytes) -> list[Item]:
        """Put the transaction's earlier writes over the committed items of ``[start, end)``."""
        transaction = self._transaction
        keys = transaction.keys_between(start, end)
        if keys is None:
            return items
        changed = {
            key: write.payload
            for key in keys.irange(start, end, inclusive=(True, False))
            if (write := transaction.visible(key, self._before_command)) is not None
        }
        if not changed:
            return items
        merged = [item for item in items if item[0] not in changed]
        merged.extend((key, payload) for key, payload in changed.items() if payload)
        merged.sort(reverse=self._reverse)
        return merged


class RowScan:
    """Clustered rows."""

    __slots__ = ("_codec", "_source")

    def __init__(self, source: BufferedScan, codec: TableCodec) -> None:
        self._source = source
        self._codec = codec

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end."""
        decode = self._codec.decode
        return [decode(payload) for _, payload in self._source.next_items()]


class IndexScan:
    """Rows through the entries of a secondary index."""

    __slots__ = ("_codec", "_read", "_source")

    def __init__(
        self, source: BufferedScan, codec: TableCodec, read: Callable[[bytes], bytes | None]
    ) -> None:
        self._source = source
        self._codec = codec
        self._read = read

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end."""
        codec, read = self._codec, self._read
        key, decode, decode_clustering = codec.rows.key, codec.decode, codec.decode_clustering
        items = self._source.next_items()
        rows: list[Row] = []
        for _, pointer in items:
            payload = read(key(decode_clustering(pointer)))
            assert payload is not None, "an index entry without its row"
            rows.append(decode(payload))
        return rows
