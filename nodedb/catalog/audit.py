"""The audit of catalog changes: who committed what, one record per entry of the metadata log.

Written by every replica when it applies the entry, so a record is there exactly if the change is.
Kept bounded: of more than ``ENTRIES_MAX`` records the oldest go. No statement's text is kept, which
may hold passwords, only the command tags. Shown as ``pg_catalog.nodedb_ddl_audit``.

Key: ``index of the log entry:8 | number of the change within it:4`` (big-endian); value:
MessagePack.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.catalog.changes import CatalogChange
    from nodedb.storage.engine import Engine

ENTRIES_MAX: Final = 10_000
SPACE: Final = "metadata.audit"
_KEY: Final = struct.Struct(">QI")
_PAGE: Final = 1000


class AuditRecord(msgspec.Struct, frozen=True, array_like=True):
    """One committed change; ``committed_at`` as in ``CatalogChange``."""

    index: int
    committed_at: int
    user: str
    process_id: int
    client: str
    statements: tuple[str, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AuditRecord)


class Audit:
    """The records in the engine; changed only while an entry is applied."""

    def __init__(self, engine: Engine, entries_max: int = ENTRIES_MAX) -> None:
        self._space = engine.space(SPACE)
        self._entries_max = entries_max
        self._count = self._space.count()
        self._last = (0, 0)

    def note(self, change: CatalogChange, index: int) -> None:
        """Keep a record of a change that the entry at ``index`` holds."""
        last_index, number = self._last
        self._last = (index, number + 1 if index == last_index else 0)
        record = AuditRecord(
            index,
            change.committed_at,
            change.user,
            change.process_id,
            change.client,
            change.statements,
        )
        self._space.put(_KEY.pack(*self._last), _encoder.encode(record))
        self._count += 1
        if self._count > self._entries_max:
            self._count -= self._space.delete_range(b"\0", None, self._count - self._entries_max)

    def records(self) -> Iterator[AuditRecord]:
        """Yield the records, oldest first."""
        start = b"\0"
        while items := self._space.scan(start, None, _PAGE):
            for _, value in items:
                yield _decoder.decode(value)
            start = items[-1][0] + b"\0"
