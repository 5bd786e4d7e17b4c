"""One node's store on disk: who may open it, and what stands in it.

::

    DIR/LOCK           flock of the process that has the store open
    DIR/manifest.json  format version, store id, cluster id, engine
    DIR/log/           the write-ahead log's segments (wal_segments)
    DIR/data/          the engine's environment (lmdb_engine)

The manifest is replaced as a whole (write, fsync, rename, fsync of the directory), so it is always
one of its versions. A newer format is refused before anything else is touched.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

import msgspec

from nodedb.errors import StorageError, StoreLocked, StoreMismatch, StoreTooNew
from nodedb.storage.log_file import RealLogDirectory, sync_directory

STORE_FORMAT_VERSION: Final = 1
ENGINE_NAME: Final = "lmdb-0.9"


class Manifest(msgspec.Struct, frozen=True):
    """What identifies a store. ``cluster_id`` is empty until the node belongs to a cluster."""

    format_version: int
    store_id: str
    engine: str
    cluster_id: str = ""


class _AnyManifest(msgspec.Struct):
    format_version: int


def _random_id() -> str:
    return os.urandom(16).hex()


class Store:
    """A store that this process holds. Close it to let another process have it."""

    def __init__(self, path: str, *, new_id: Callable[[], str] = _random_id) -> None:
        """Open or create the store in ``path``.

        Raises StoreLocked, StoreTooNew, StoreMismatch (manifest unreadable), StorageError.
        """
        self.path = path
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._lock = _take_lock(os.path.join(path, "LOCK"))
        except OSError as error:
            message = f'cannot open the store in "{path}": {error}'
            raise StorageError(message) from error
        try:
            self.manifest = read_manifest(path) or self._create(new_id())
        except BaseException:
            os.close(self._lock)
            raise

    def log_directory(self) -> RealLogDirectory:
        """Return the directory for the write-ahead log."""
        return RealLogDirectory(os.path.join(self.path, "log"))

    @property
    def engine_path(self) -> str:
        """Path of the engine's directory."""
        return os.path.join(self.path, "data")

    def set_cluster_id(self, cluster_id: str) -> None:
        """Bind the store to a cluster, durably. Raises StoreMismatch when it has another one."""
        if self.manifest.cluster_id == cluster_id:
            return
        if self.manifest.cluster_id:
            message = (
                f'the store in "{self.path}" belongs to cluster {self.manifest.cluster_id}, '
                f"not to {cluster_id}"
            )
            raise StoreMismatch(message)
        self._write_manifest(msgspec.structs.replace(self.manifest, cluster_id=cluster_id))

    def close(self) -> None:
        """Let go of the store."""
        os.close(self._lock)

    def _create(self, store_id: str) -> Manifest:
        return self._write_manifest(Manifest(STORE_FORMAT_VERSION, store_id, ENGINE_NAME))

    def _write_manifest(self, manifest: Manifest) -> Manifest:
        path = os.path.join(self.path, "manifest.json")
        data = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        try:
            with open(path + ".new", "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + ".new", path)
            sync_directory(self.path)
            sync_directory(os.path.dirname(os.path.abspath(self.path)))
        except OSError as error:
            message = f'cannot write "{path}": {error}'
            raise StorageError(message) from error
        self.manifest = manifest
        return manifest


def read_manifest(store_path: str) -> Manifest | None:
    """Return a store's manifest, None when there is none.

    Raises StoreTooNew, StoreMismatch (unreadable), StorageError.
    """
    path = os.path.join(store_path, "manifest.json")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f'cannot read "{path}": {error}'
        raise StorageError(message) from error
    try:
        version = msgspec.json.decode(data, type=_AnyManifest).format_version
        if version > STORE_FORMAT_VERSION:
            message = (
                f'the store in "{store_path}" has format {version}, '
                f"newest known is {STORE_FORMAT_VERSION}"
            )
            raise StoreTooNew(message)
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        message = f'"{path}" is not a manifest: {error}'
        raise StoreMismatch(message) from error
    if manifest.engine != ENGINE_NAME:
        message = f'the store in "{store_path}" uses engine "{manifest.engine}"'
        raise StoreTooNew(message)
    return manifest


def _take_lock(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            message = f'another process has the store open: "{path}" is locked'
            raise StoreLocked(message) from error
        raise
    return fd
