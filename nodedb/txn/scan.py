"""Scans of one statement.

Committed versions at a timestamp, with the transaction's earlier writes merged in.

No engine cursor outlives a batch: each batch re-seeks by key (STYLE section 3). Batches grow from
the limit's size to ``BATCH_ROWS``, so ``LIMIT 1`` reads little and a full scan reads much at a
time.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from nodedb.kv.keys import HEADER_BYTES
from nodedb.txn.transaction import PAYLOAD, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.kv.group import DataGroup, Item
    from nodedb.kv.recent_writes import ReadSet
    from nodedb.txn.table_codec import TableCodec
    from sql.types.base import Row

BATCH_ROWS: Final = 1024
BATCH_BYTES: Final = 1 << 20
"""A batch of wide rows ends soon after so many bytes."""
FIRST_BATCH_ROWS: Final = 64


class BufferedScan:
    """Yields (key, payload) batches of several ranges in key order, or descending.

    The ranges may come in any.
    """

    __slots__ = (
        "_before_command",
        "_group",
        "_limit",
        "_ranges",
        "_reads",
        "_reverse",
        "_timestamp",
        "_transaction",
    )

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
        reads: ReadSet | None = None,
    ) -> None:
        """Start before the first range; ``reads`` takes down what the batches cover."""
        self._reads = reads
        self._group = group
        self._transaction = transaction
        if len(ranges) > 1:
            ranges = _in_order(ranges)
        self._ranges = ranges if reverse else ranges[::-1]
        self._timestamp = timestamp
        self._before_command = before_command
        self._reverse = reverse
        self._limit = min(max(limit or FIRST_BATCH_ROWS, 1), BATCH_ROWS)

    def next_items(self) -> list[Item]:
        """Return the next batch, at most ``BATCH_ROWS``; [] at the end."""
        while self._ranges:
            start, end = self._ranges.pop()
            if start >= end:
                continue
            limit = self._limit
            items, bound = self._group.scan(
                start, end, self._timestamp, limit, reverse=self._reverse
            )
            if self._transaction.writes:
                items, bound = self._merge(items, start, end, bound, limit)
            if self._reads is not None:
                self._take_down(start, end, bound)
            size = sum([len(payload) for _, payload in items])
            fitting = BATCH_BYTES * len(items) // size if size > BATCH_BYTES else BATCH_ROWS
            self._limit = max(1, min(limit * 4, fitting, BATCH_ROWS))
            if bound is not None:
                self._ranges.append((start, bound) if self._reverse else (bound, end))
            if items:
                return items
        return []

    def next_values(self) -> list[bytes] | None:
        """Return the values of the next batch, headers included; [] at the end.

        None when only ``next_items`` can tell: descending, or over the transaction's own writes.
        """
        if self._reverse:
            return None
        transaction = self._transaction
        while self._ranges:
            start, end = self._ranges[-1]
            if start < end and transaction.writes and transaction.keys_between(start) is not None:
                return None
            self._ranges.pop()
            if start >= end:
                continue
            limit = self._limit
            self._limit = min(limit * 4, BATCH_ROWS)
            values, bound = self._group.scan_values(start, end, self._timestamp, limit, BATCH_BYTES)
            if self._reads is not None:
                self._take_down(start, end, bound)
            if bound is not None:
                self._ranges.append((bound, end))
            if values:
                return values
        return []

    def _take_down(self, start: bytes, end: bytes, bound: bytes | None) -> None:
        """Add to what was read: all of [start, end) up to ``bound``."""
        assert self._reads is not None
        if bound is None:
            self._reads.add_range(start, end)
        elif self._reverse:
            self._reads.add_range(bound, end)
        else:
            self._reads.add_range(start, bound)

    def _merge(
        self, items: list[Item], start: bytes, end: bytes, bound: bytes | None, limit: int
    ) -> tuple[list[Item], bytes | None]:
        """Put the transaction's earlier writes over committed items.

        ``items`` cover ``[start, end)`` up to ``bound``.

        Returns at most ``limit`` of both together, and the bound that these cover.
        """
        transaction, reverse = self._transaction, self._reverse
        keys = transaction.keys_between(start)
        if keys is None:
            return items, bound
        if bound is not None:
            if reverse:
                start = bound
            else:
                end = bound
        chosen = list(
            islice(keys.irange(start, end, inclusive=(True, False), reverse=reverse), limit + 1)
        )
        if len(chosen) > limit:
            # More buffered keys than fit: cover less, and read the committed rest again with the
            # next batch.
            chosen.pop()
            if reverse:
                bound = chosen[-1]
                items = [item for item in items if item[0] >= bound]
            else:
                bound = chosen[-1] + b"\0"
                items = [item for item in items if item[0] < bound]
        before = self._before_command
        changed = {
            key: write[PAYLOAD]
            for key in chosen
            if (write := transaction.visible(key, before)) is not None
        }
        if changed:
            items = [item for item in items if item[0] not in changed]
            items.extend((key, payload) for key, payload in changed.items() if payload)
            items.sort(reverse=reverse)
            if len(items) > limit:
                del items[limit:]
                bound = items[-1][0] if reverse else items[-1][0] + b"\0"
        return items, bound


def _in_order(ranges: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Sort ranges and join those that overlap.

    A row then comes once, and in the index's order.
    """
    joined: list[tuple[bytes, bytes]] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


class RowScan:
    """Clustered rows."""

    __slots__ = ("_decode", "_source")

    def __init__(
        self, source: BufferedScan, codec: TableCodec, columns: frozenset[int] | None = None
    ) -> None:
        self._source = source
        self._decode = codec.batch_decoder(columns)

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end."""
        values = self._source.next_values()
        if values is None:
            return self._decode([payload for _, payload in self._source.next_items()], 0)
        return self._decode(values, HEADER_BYTES) if values else []


class IndexScan:
    """Rows through the entries of a secondary index."""

    __slots__ = ("_codec", "_decode", "_read", "_source")

    def __init__(
        self,
        source: BufferedScan,
        codec: TableCodec,
        read: Callable[[bytes], bytes | None],
        columns: frozenset[int] | None = None,
    ) -> None:
        self._source = source
        self._codec = codec
        self._read = read
        self._decode = codec.batch_decoder(columns)

    async def next_batch(self) -> list[Row]:
        """Return the next rows, [] at the end."""
        codec, read = self._codec, self._read
        key, decode_clustering = codec.rows.key, codec.decode_clustering
        payloads: list[bytes] = []
        for _, pointer in self._source.next_items():
            payload = read(key(decode_clustering(pointer)))
            assert payload is not None, "an index entry without its row"
            payloads.append(payload)
        return self._decode(payloads, 0) if payloads else []
