"""The metadata group's state on this node: descriptors, audit, and what the cluster agrees on.

Changed only by applied entries. Descriptors are stored one by one in the engine, keyed by id, so a
start reads them back without the log; the snapshot in memory is replaced as a whole. The entry's
log index is the schema version. Who committed it is kept beside them (``nodedb.catalog.audit``).
Nodes, routing, settings and the like are ``cluster`` (``cluster.metadata.state``), stored as one
value when the engine commits.

Everything lies in spaces whose names begin with ``metadata.``: a snapshot of the group carries
those, and after one was installed ``reload`` reads all of it again. What applies on this node is
told to the callbacks at once (``on_catalog_change``, ``on_cluster_change``): a committed change of
the topology takes effect on the running node, not at its next start.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from cluster.metadata.command import Command, decode_command
from cluster.metadata.outcome import APPLIED, Applied, Outcome, Refused
from cluster.metadata.state import ClusterState
from nodedb.catalog.audit import Audit
from nodedb.catalog.changes import apply_change, decode_change
from nodedb.storage.engine import Engine
from sql.catalog.descriptor import AnyDescriptor
from sql.catalog.snapshot import CatalogSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

OUTCOMES_MAX: Final = 1000
"""Entries whose outcome is remembered, the newest ones."""
_STATE_KEY: Final = b"metadata-state"
_CLUSTER_KEY: Final = b"cluster-state"
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
        self._engine = engine
        self._open_spaces()
        self.catalog = CatalogSnapshot()
        self.cluster = ClusterState()
        self.change_count = 0
        """Catalog changes applied so far: each transaction with DDL is one, and one log entry."""
        self.on_catalog_change: list[Callable[[CatalogSnapshot], None]] = []
        self.on_cluster_change: list[Callable[[ClusterState], None]] = []
        """Called after each entry that may have changed it; the ``*_version``s tell what did."""
        self._outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self._is_cluster_saved = True
        self._load()

    @property
    def timestamp_window(self) -> int:
        """No timestamp at or above this was handed out (packed)."""
        return self.cluster.timestamp_window

    def _open_spaces(self) -> None:
        self._descriptors = self._engine.space("metadata.descriptors")
        self._meta = self._engine.space("metadata.state")
        self.audit = Audit(self._engine)

    def _load(self) -> None:
        self.cluster = ClusterState.decode(self._meta.get(_CLUSTER_KEY) or b"")
        self._is_cluster_saved = True
        saved = self._meta.get(_STATE_KEY)
        if saved is None:
            self.catalog, self.change_count = CatalogSnapshot(), 0
            return
        state = msgspec.msgpack.decode(saved, type=_State)
        # Stores from before there were clusters have the window only here.
        self.cluster.timestamp_window = max(self.cluster.timestamp_window, state.timestamp_window)
        self.change_count = state.change_count
        descriptors: list[AnyDescriptor] = []
        start = b"\0"
        while items := self._descriptors.scan(start, None, 1000):
            descriptors.extend(_decoder.decode(value) for _, value in items)
            start = items[-1][0] + b"\0"
        self.catalog = CatalogSnapshot().with_changes(
            descriptors, (), schema_version=state.schema_version, next_id=state.next_id
        )

    def reload(self) -> None:
        """Read everything again after a snapshot was installed, and tell the callbacks.

        ``cluster`` is another object then. Outcomes of entries that the snapshot stands for are
        unknown.
        """
        self._outcomes.clear()
        self._open_spaces()
        self._load()
        for on_catalog in self.on_catalog_change:
            on_catalog(self.catalog)
        for on_cluster in self.on_cluster_change:
            on_cluster(self.cluster)

    def save(self) -> None:
        """Write the small state into the engine's open transaction."""
        state = _State(
            self.catalog.schema_version,
            self.catalog.next_id,
            self.timestamp_window,
            self.change_count,
        )
        self._meta.put(_STATE_KEY, msgspec.msgpack.encode(state))
        if not self._is_cluster_saved:
            self._meta.put(_CLUSTER_KEY, self.cluster.encode())
            self._is_cluster_saved = True

    def outcome(self, index: int) -> Outcome | None:
        """Return what became of an entry, None if it is not one of the last ``OUTCOMES_MAX``."""
        return self._outcomes.get(index)

    @staticmethod
    def decode(payload: bytes) -> Command:
        """Read an entry as it stands in the log. UnknownCommand stops the replica."""
        return decode_command(payload)

    def refusal(self, index: int) -> str:
        """Return why an entry was refused, "" if it was not or nobody remembers."""
        outcome = self._outcomes.get(index)
        return outcome.reason if isinstance(outcome, Refused) else ""

    def apply_payload(self, payload: bytes, index: int) -> None:
        """Apply an entry as it stands in the log."""
        self.apply(decode_command(payload), index)

    def apply(self, value: Command, index: int) -> None:
        """Apply one command; all members of a batch, or none if one of them is refused.

        An entry that was applied already does nothing, and its outcome stays.
        """
        if index <= self.cluster.applied_index:
            return
        outcome = self.cluster.apply(value, index)
        self._is_cluster_saved = False
        self._outcomes[index] = APPLIED if isinstance(outcome, Applied) else outcome
        if len(self._outcomes) > OUTCOMES_MAX:
            self._outcomes.popitem(last=False)
        if isinstance(outcome, Applied):
            for payload in outcome.payloads:
                self._apply_catalog(payload, index)
        for callback in self.on_cluster_change:
            callback(self.cluster)

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
