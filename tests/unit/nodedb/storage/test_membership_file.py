"""The membership's files: order, atomic replacement, crashes at every operation, damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.membership.catalog import (
    Identity,
    SavedMembership,
    founding_records,
    record_membership,
)
from cluster.membership.message import MemberNode
from nodedb.errors import StorageError, StoreMismatch
from nodedb.storage.membership_file import MembershipFile
from nodedb.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTITY = Identity("c1", 2, is_founder=False)
NODE = MemberNode(2, "b:1", 1, (0, 1), 1, locality=("zone=a",), spki_pin=b"\x00\xff")
TOPOLOGY, ROUTING = founding_records(IDENTITY, NODE, (0, 1, 2))
COMPLETE = SavedMembership(IDENTITY, TOPOLOGY, ROUTING)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(str(tmp_path / "store"))
    yield opened
    opened.close()


class PowerCut(Exception):
    """The machine is off."""


class CrashingDirectory:
    """Loses at a crash what was not synced; a seeded choice says how much of it survives."""

    path = "simulated"

    def __init__(self, chance: random.Random, operations_until_crash: int) -> None:
        self._chance = chance
        self._left = operations_until_crash
        self.files: dict[str, bytes] = {}
        self._durable_files: dict[str, bytes] = {}
        self._contents: dict[bytes, bool] = {}
        self._renames: list[tuple[str, str]] = []
        self._unsynced: set[str] = set()

    def _count(self) -> None:
        if self._left == 0:
            raise PowerCut
        self._left -= 1

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, data: bytes) -> None:
        self._count()
        self.files[name] = data
        self._unsynced.add(name)

    def sync_file(self, name: str) -> None:
        self._count()
        self._unsynced.discard(name)

    def rename(self, name: str, new_name: str) -> None:
        self._count()
        self._renames.append((name, new_name))
        is_unsynced = name in self._unsynced
        self._unsynced.discard(name)
        self.files[new_name] = self.files.pop(name)
        if is_unsynced:
            self._unsynced.add(new_name)

    def sync(self) -> None:
        self._count()
        self._renames.clear()
        self._durable_files = dict(self.files)

    def after_crash(self) -> CrashingDirectory:
        """Return what is found after the power came back."""
        # Names: a prefix of the renames since the last sync of the directory is durable.
        survivor = CrashingDirectory(self._chance, -1)
        files = dict(self._durable_files)
        kept = self._chance.randrange(len(self._renames) + 1)
        for name, new_name in self._renames[:kept]:
            files.pop(name, None)
            files[new_name] = self.files[new_name]
        # Contents: what was not synced is cut anywhere.
        for name in self._unsynced & files.keys():
            files[name] = files[name][: self._chance.randrange(len(files[name]) + 1)]
        survivor.files = files
        survivor._durable_files = dict(files)
        return survivor


def test_nothing_is_there_at_first(store: Store) -> None:
    assert MembershipFile(store).load() == SavedMembership()


def test_what_was_saved_is_there_after_a_restart(store: Store) -> None:
    record_membership(MembershipFile(store), IDENTITY, TOPOLOGY, ROUTING)
    assert MembershipFile(store).load() == COMPLETE
    assert MembershipFile(store).load().is_complete
    assert store.manifest.cluster_id == "c1"
    names = sorted(path.name for path in Path(store.path, "membership").iterdir())
    assert names == ["identity.json", "routing.json", "topology.json"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("operations", range(13))
def test_a_crash_at_any_operation_leaves_a_prefix(store: Store, operations: int, seed: int) -> None:
    directory = CrashingDirectory(random.Random(f"{operations} {seed}"), operations)
    catalog = MembershipFile(store, directory)
    try:
        record_membership(catalog, IDENTITY, TOPOLOGY, ROUTING)
        assert operations >= 12, "four operations for each of three records"
    except PowerCut:
        assert operations < 12
    after = MembershipFile(store, directory.after_crash())
    saved = after.load()
    parts = [part is not None for part in saved]
    assert parts == sorted(parts, reverse=True), "identity, then topology, then routing"
    done = operations // 4
    assert sum(parts) >= done, "what was acknowledged is there"
    assert tuple(saved)[: sum(parts)] == tuple(COMPLETE)[: sum(parts)]
    # The same membership can be written again.
    record_membership(after, IDENTITY, TOPOLOGY, ROUTING)
    assert after.load() == COMPLETE


def test_a_crash_while_replacing_leaves_the_old_or_the_new(store: Store) -> None:
    newer = TOPOLOGY.__class__(9, TOPOLOGY.nodes)
    found = set()
    for seed in range(60):
        chance = random.Random(seed)
        directory = CrashingDirectory(chance, 12 + chance.randrange(5))
        catalog = MembershipFile(store, directory)
        record_membership(catalog, IDENTITY, TOPOLOGY, ROUTING)
        try:
            catalog.save_topology(newer)
            acknowledged = True
        except PowerCut:
            acknowledged = False
        topology = MembershipFile(store, directory.after_crash()).load().topology
        assert topology in (TOPOLOGY, newer)
        assert topology == newer or not acknowledged
        found.add(topology == newer)
    assert found == {True, False}


def test_the_simulated_disk_would_see_a_missing_fsync() -> None:
    """The canary: rename without syncing the file first leaves a torn one sooner or later."""
    torn = 0
    for seed in range(50):
        directory = CrashingDirectory(random.Random(seed), -1)
        directory.write("a.new", b"content")
        directory.rename("a.new", "a")
        torn += directory.after_crash().read("a") not in (None, b"content")
    assert torn


def test_an_identity_is_for_ever(store: Store) -> None:
    catalog = MembershipFile(store)
    catalog.save_identity(IDENTITY)
    catalog.save_identity(IDENTITY)
    for other in (Identity("c2", 2, is_founder=False), Identity("c1", 3, is_founder=False)):
        with pytest.raises(StoreMismatch, match="is node 2 of cluster c1, not node"):
            catalog.save_identity(other)
    assert catalog.load().identity == IDENTITY


def test_the_manifest_follows_the_identity(store: Store) -> None:
    """A crash came between the two: the next start repairs it."""
    directory = CrashingDirectory(random.Random(1), -1)
    MembershipFile(store, directory)._replace("identity.json", IDENTITY)
    assert store.manifest.cluster_id == ""
    assert MembershipFile(store, directory).load().identity == IDENTITY
    assert store.manifest.cluster_id == "c1"


def test_the_store_of_a_node_by_itself_is_a_founders(store: Store) -> None:
    store.set_cluster_id("c9")
    catalog = MembershipFile(store)
    assert catalog.load() == SavedMembership(Identity("c9", 1, is_founder=True))
    with pytest.raises(StoreMismatch):
        catalog.save_identity(IDENTITY)
    assert catalog.load() == SavedMembership(Identity("c9", 1, is_founder=True))


@pytest.mark.parametrize("name", ["identity.json", "topology.json", "routing.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cluster_id": 5}', b"\xff\xfe"])
def test_a_damaged_file_stops_the_node(store: Store, name: str, content: bytes) -> None:
    record_membership(MembershipFile(store), IDENTITY, TOPOLOGY, ROUTING)
    Path(store.path, "membership", name).write_bytes(content)
    with pytest.raises(StoreMismatch, match=f'{name}" is damaged'):
        MembershipFile(store).load()


def test_incarnations_rise_with_every_start(store: Store) -> None:
    assert [MembershipFile(store).raise_incarnation() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("operations", range(5))
def test_an_incarnation_is_never_given_twice(store: Store, operations: int) -> None:
    directory = CrashingDirectory(random.Random(operations), operations)
    given = []
    try:
        given.append(MembershipFile(store, directory).raise_incarnation())
    except PowerCut:
        assert operations < 4
    after = MembershipFile(store, directory.after_crash())
    assert after.raise_incarnation() > max(given, default=0)


def test_a_path_that_cannot_be_used(tmp_path: Path, store: Store) -> None:
    Path(store.path, "membership").write_text("in the way")
    with pytest.raises(StorageError, match="cannot open"):
        MembershipFile(store)
