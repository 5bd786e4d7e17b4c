"""The metadata group's state on this node.

The catalog and the oracle's window, changed only by applied entries.

Descriptors are stored one by one in the engine, keyed by id, so a start reads them back without the
log; the snapshot in memory is replaced as a whole. The entry's log index is the schema version. Who
committed it is kept beside them (``nodedb.catalog.audit``).
"""

from typing import TYPE_CHECKING, Final

import msgspec

from cluster.metadata.command import (
    Batch,
    Command,
    TimestampWindow,
    decode_command,
)
from cluster.metadata.command import (
    CatalogChange as CatalogChangeCommand,
)
from nodedb.catalog.audit import Audit
from nodedb.catalog.changes import apply_change, decode_change
from nodedb.storage.engine import Engine
from sql.catalog.descriptor import AnyDescriptor
from sql.catalog.snapshot import CatalogSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

_STATE_KEY: Final = b"metadata-state"
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AnyDescriptor)


class _State(msgspec.Struct, array_like=True):
    schema_version: int
    next_id: int
    timestamp_window: int
    change_count: int = 0


class MetadataState:
    """The state machine of group 0."""

    def __init__(self, engine: Engine) -> None:
        self._descriptors = engine.space("metadata.descriptors")
        self._meta = engine.space("metadata.state")
        self.audit = Audit(engine)
        self.catalog = CatalogSnapshot()
        self.timestamp_window = 0
        self.change_count = 0
        """Catalog changes applied so far: each transaction with DDL is one, and one log entry."""
        self.on_catalog_change: list[Callable[[CatalogSnapshot], None]] = []
        self._load()

    def _load(self) -> None:
        saved = self._meta.get(_STATE_KEY)
        if saved is None:
            return
        state = msgspec.msgpack.decode(saved, type=_State)
        self.timestamp_window = state.timestamp_window
        self.change_count = state.change_count
        descriptors: list[AnyDescriptor] = []
        start = b"\0"
        while items := self._descriptors.scan(start, None, 1000):
            descriptors.extend(_decoder.decode(value) for _, value in items)
            start = items[-1][0] + b"\0"
        self.catalog = self.catalog.with_changes(
            descriptors, (), schema_version=state.schema_version, next_id=state.next_id
        )

    def save(self) -> None:
        """Write the small state into the engine's open transaction."""
        state = _State(
            self.catalog.schema_version,
            self.catalog.next_id,
            self.timestamp_window,
            self.change_count,
        )
        self._meta.put(_STATE_KEY, msgspec.msgpack.encode(state))

    def apply_payload(self, payload: bytes, index: int) -> None:
        """Apply an entry as it stands in the log."""
        self.apply(decode_command(payload), index)

    def apply(self, value: Command, index: int) -> None:
        """Apply one command; a batch in order."""
        match value:
            case TimestampWindow():
                self.timestamp_window = max(self.timestamp_window, value.until)
            case CatalogChangeCommand():
                self._apply_catalog(value.payload, index)
            case Batch():
                for member in value.members:
                    self.apply(member, index)

    def _apply_catalog(self, payload: bytes, index: int) -> None:
        change = decode_change(payload)
        for descriptor_id in change.deletes:
            self._descriptors.delete(_key(descriptor_id))
        for descriptor in change.puts:
            self._descriptors.put(_key(descriptor.id), _encoder.encode(descriptor))
        self.change_count += 1
        self.audit.note(change, index)
        self.catalog = apply_change(self.catalog, change, index)
        for callback in self.on_catalog_change:
            callback(self.catalog)


def _key(descriptor_id: int) -> bytes:
    return descriptor_id.to_bytes(8, "big")
