"""Which cluster a store belongs to, and the cluster as last known, as files of the store.

::

    DIR/membership/identity.json     cluster id, node id, who founded
    DIR/membership/topology.json     the nodes, with the metadata index they are as of
    DIR/membership/routing.json      the groups and vshards, likewise
    DIR/membership/incarnation.json  how often the store was started

Each file is replaced as a whole: write beside it, fsync, rename, fsync of the directory. What
stands under a name is therefore always one of its versions, and once ``save`` has returned the
newest. A file that cannot be read is an error that stops the node: guessing would let it found a
second cluster.

The manifest's cluster id follows the identity. A store made by a node that ran by itself has the
manifest's only, which makes it the founder, node 1, of a cluster of one.
"""

import os
from typing import Final, Protocol, TypeVar

import msgspec

from cluster.membership.catalog import Identity, Routing, SavedMembership, Topology
from nodedb.errors import StorageError, StoreMismatch
from nodedb.storage.log_file import sync_directory
from nodedb.storage.store import Store

_IDENTITY: Final = "identity.json"
_TOPOLOGY: Final = "topology.json"
_ROUTING: Final = "routing.json"
_INCARNATION: Final = "incarnation.json"
_FOUNDER_NODE_ID: Final = 1
_Record = TypeVar("_Record", Identity, Topology, Routing, int)


class RecordDirectory(Protocol):
    """The file operations used, one by one: the simulated disk cuts between any two."""

    @property
    def path(self) -> str:
        """The path, for messages to an operator."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""

    def write(self, name: str, data: bytes) -> None:
        """Create or overwrite a file; not durable."""

    def sync_file(self, name: str) -> None:
        """Make a file's content durable."""

    def rename(self, name: str, new_name: str) -> None:
        """Rename, replacing what stands there; not durable."""

    def sync(self) -> None:
        """Make names durable."""


class RealRecordDirectory:
    """A directory of the operating system, made when needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, mode=0o700, exist_ok=True)
        sync_directory(os.path.dirname(os.path.abspath(path)))

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Create or overwrite a file."""
        with open(os.path.join(self.path, name), "wb") as file:
            file.write(data)

    def sync_file(self, name: str) -> None:
        """Make a file's content durable."""
        descriptor = os.open(os.path.join(self.path, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, name: str, new_name: str) -> None:
        """Rename, replacing what stands there."""
        os.replace(os.path.join(self.path, name), os.path.join(self.path, new_name))

    def sync(self) -> None:
        """Make names durable."""
        sync_directory(self.path)


class MembershipFile:
    """The records of one store. Implements ``cluster.membership.catalog.MembershipCatalog``."""

    def __init__(self, store: Store, directory: RecordDirectory | None = None) -> None:
        """Open. Raises StorageError when the directory cannot be made."""
        self._store = store
        if directory is None:
            path = os.path.join(store.path, "membership")
            try:
                directory = RealRecordDirectory(path)
            except OSError as error:
                message = f'cannot open "{path}": {error}'
                raise StorageError(message) from error
        self._directory = directory

    def load(self) -> SavedMembership:
        """Return what was saved. Raises StorageError, StoreMismatch (damaged or of two minds)."""
        identity = self._read(_IDENTITY, Identity)
        if identity is None:
            cluster_id = self._store.manifest.cluster_id
            if not cluster_id:
                return SavedMembership()
            return SavedMembership(Identity(cluster_id, _FOUNDER_NODE_ID, is_founder=True))
        # A crash may have come between the two.
        self._store.set_cluster_id(identity.cluster_id)
        topology = self._read(_TOPOLOGY, Topology)
        routing = None if topology is None else self._read(_ROUTING, Routing)
        return SavedMembership(identity, topology, routing)

    def save_identity(self, identity: Identity) -> None:
        """Bind the store. Raises StoreMismatch when it has another identity, StorageError."""
        known = self._read(_IDENTITY, Identity)
        if known is not None and known != identity:
            message = (
                f'the store in "{self._store.path}" is node {known.node_id} of cluster '
                f"{known.cluster_id}, not node {identity.node_id} of {identity.cluster_id}"
            )
            raise StoreMismatch(message)
        # The identity first: a manifest alone would pass for that of a node by itself.
        if known is None:
            if self._store.manifest.cluster_id not in ("", identity.cluster_id):
                self._store.set_cluster_id(identity.cluster_id)  # Raises StoreMismatch.
            self._replace(_IDENTITY, identity)
        self._store.set_cluster_id(identity.cluster_id)

    def save_topology(self, topology: Topology) -> None:
        """Replace the topology. Raises StorageError."""
        self._replace(_TOPOLOGY, topology)

    def save_routing(self, routing: Routing) -> None:
        """Replace the routing. Raises StorageError."""
        self._replace(_ROUTING, routing)

    def raise_incarnation(self) -> int:
        """Count this start, durably, and return its number: from 1, above all earlier ones."""
        incarnation = (self._read(_INCARNATION, int) or 0) + 1
        self._replace(_INCARNATION, incarnation)
        return incarnation

    def _read(self, name: str, kind: type[_Record]) -> _Record | None:
        path = os.path.join(self._directory.path, name)
        try:
            data = self._directory.read(name)
        except OSError as error:
            message = f'cannot read "{path}": {error}'
            raise StorageError(message) from error
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            message = f'"{path}" is damaged: {error}'
            raise StoreMismatch(message) from error

    def _replace(self, name: str, record: Identity | Topology | Routing | int) -> None:
        data = msgspec.json.format(msgspec.json.encode(record)) + b"\n"
        directory = self._directory
        try:
            directory.write(name + ".new", data)
            directory.sync_file(name + ".new")
            directory.rename(name + ".new", name)
            directory.sync()
        except OSError as error:
            message = f'cannot write "{os.path.join(directory.path, name)}": {error}'
            raise StorageError(message) from error
