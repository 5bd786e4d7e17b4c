"""The LMDB engine: commits and what a crash leaves, full map, long keys, applied indexes."""

import subprocess
import sys

import lmdb
import pytest

from nodedb.errors import DiskFull, MapFull, StorageError
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.memory_engine import MemoryEngine

ROW = b"x" * 1000


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "data")


def open_engine(path, **options):
    options.setdefault("map_bytes", 1 << 26)
    options.setdefault("disk_reserve_bytes", 0)
    return LmdbEngine(path, **options)


def kill(engine):
    """End as a killed process does: the open transaction is gone."""
    engine._txn.abort()
    engine._env.close()


def test_uncommitted_writes_are_seen_and_lost_with_the_process(path):
    engine = open_engine(path)
    rows = engine.space("rows")
    rows.put(b"a", b"1")
    engine.set_applied(4, 10, 2)
    engine.commit()
    rows.put(b"a", b"2")
    engine.set_applied(4, 11, 2)
    assert rows.get(b"a") == b"2"
    kill(engine)
    engine = open_engine(path)
    assert engine.space("rows").get(b"a") == b"1"
    assert engine.applied(4) == (10, 2)
    engine.close()


@pytest.mark.parametrize("kind", ["lmdb", "memory"])
class TestRecyclableApplied:
    """PROTOCOL rule 57."""

    @pytest.fixture
    def engine(self, kind, path):
        engine = open_engine(path) if kind == "lmdb" else MemoryEngine()
        yield engine
        engine.close()

    def test_is_that_of_the_commit_before_the_last(self, engine):
        for index in (5, 6, 7):
            engine.set_applied(1, index, 1)
            engine.commit()
        assert engine.recyclable_applied(1) == 6

    def test_an_empty_commit_does_not_make_the_one_before_durable(self, engine):
        engine.set_applied(1, 5, 1)
        engine.commit()
        engine.commit()
        engine.commit()
        assert engine.recyclable_applied(1) == 0

    def test_an_explicit_sync_does(self, engine):
        engine.set_applied(1, 5, 1)
        engine.sync()
        assert engine.recyclable_applied(1) == 5

    def test_unknown_group(self, engine):
        assert engine.recyclable_applied(3) == 0
        assert engine.applied(3) == (0, 0)


def test_what_is_found_at_start_is_durable(path):
    engine = open_engine(path)
    engine.set_applied(1, 5, 1)
    engine.commit()
    kill(engine)
    engine = open_engine(path)
    assert engine.recyclable_applied(1) == 5
    engine.close()


@pytest.mark.parametrize("kind", ["lmdb", "memory"])
def test_applied_index_beyond_the_fsynced_log_is_never_committed(kind, path):
    """PROTOCOL rule 61."""

    def fsynced(group):
        return 9

    engine = (
        open_engine(path, fsynced_index=fsynced)
        if kind == "lmdb"
        else MemoryEngine(fsynced_index=fsynced)
    )
    engine.set_applied(1, 9, 1)
    engine.commit()
    engine.set_applied(1, 10, 1)
    with pytest.raises(AssertionError):
        engine.commit()
    if kind == "lmdb":
        kill(engine)


def test_memory_engine_falls_back_to_either_commit():
    for keep, expected in ((True, b"2"), (False, b"1")):
        engine = MemoryEngine()
        rows = engine.space("rows")
        for value in (b"1", b"2"):
            rows.put(b"k", value)
            engine.set_applied(1, int(value), 1)
            engine.commit()
        rows.put(b"k", b"3")
        rows.put(b"new", b"3")
        engine.crash(keep_last_commit=keep)
        assert engine.space("rows").scan(b"", None, 9) == [(b"k", expected)]
        assert engine.applied(1) == (int(expected), 1)


def test_memory_engine_synced_commit_is_never_lost():
    engine = MemoryEngine()
    engine.space("rows").put(b"k", b"1")
    engine.sync()
    engine.crash(keep_last_commit=False)
    assert engine.space("rows").get(b"k") == b"1"


def has_room(engine, byte_count=100_000):
    try:
        engine.ensure_room(byte_count)
    except MapFull:
        return False
    return True


class TestFullMap:
    def test_room_is_refused_before_the_map_is_full_and_deleting_goes_on(self, path):
        engine = open_engine(path, map_bytes=1 << 20, map_reserve_bytes=1 << 20)
        rows = engine.space("rows")
        number = 0
        while has_room(engine):
            rows.put_many([(b"%08d" % (number + i), ROW) for i in range(50)])
            number += 50
            engine.commit()
        assert number >= 500
        assert rows.get(b"%08d" % (number - 1)) == ROW
        while rows.delete_range(b"", None, 50):
            engine.commit()
        for _ in range(3):
            rows.put(b"k", b"")
            engine.commit()
        engine.ensure_room(100_000)
        rows.put(b"again", ROW)
        engine.close()

    def test_a_full_map_poisons_the_engine_and_keeps_the_last_commit(self, path):
        engine = open_engine(path, map_bytes=1 << 20, map_reserve_bytes=0)
        rows = engine.space("rows")
        rows.put(b"kept", b"1")
        engine.set_applied(1, 1, 1)
        engine.commit()
        with pytest.raises(MapFull):
            rows.put_many([(b"%08d" % number, ROW) for number in range(5000)])
        for use in (
            lambda: rows.get(b"kept"),
            lambda: rows.put(b"a", b""),
            lambda: rows.scan(b"", None, 1),
            engine.commit,
            lambda: engine.ensure_room(1),
        ):
            with pytest.raises(MapFull):
                use()
        engine.close()
        engine = open_engine(path, map_bytes=1 << 24)
        assert engine.space("rows").scan(b"", None, 9) == [(b"kept", b"1")]
        assert engine.applied(1) == (1, 1)
        engine.close()

    def test_freed_pages_count_as_room_unless_a_snapshot_holds_them(self, path):
        engine = open_engine(path, map_bytes=1 << 20, map_reserve_bytes=1 << 20)
        rows = engine.space("rows")
        rows.put_many([(b"%08d" % number, ROW) for number in range(600)])
        engine.commit()
        rows.clear()
        engine.commit()
        engine.ensure_room(500_000)
        snapshot = engine.read_snapshot()
        assert not has_room(engine, 500_000)
        snapshot.close()
        engine.ensure_room(500_000)
        engine.close()

    def test_disk_reserve(self, path):
        engine = open_engine(path, disk_reserve_bytes=1 << 60)
        with pytest.raises(DiskFull):
            engine.ensure_room(1)
        engine.space("rows").put(b"deleting", b"goes on")
        engine.close()


def test_full_disk_at_commit_stops_the_engine(path):
    """A child process with a limit on file size: LMDB's write fails as on a full disk."""
    script = f"""
import resource, signal
from nodedb.errors import StorageError
from nodedb.storage.lmdb_engine import LmdbEngine
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
engine = LmdbEngine({path!r}, map_bytes=1 << 26, disk_reserve_bytes=0)
rows = engine.space("rows")
rows.put(b"kept", b"1")
engine.sync()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for number in range(2000):
    rows.put(b"%08d" % number, b"x" * 1000)
try:
    engine.commit()
except StorageError as error:
    try:
        rows.get(b"kept")
    except StorageError as again:
        print("stopped", again is error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.stdout == "stopped True\n", result.stderr
    engine = open_engine(path)
    assert engine.space("rows").scan(b"", None, 9) == [(b"kept", b"1")]
    engine.close()


class TestLongKeys:
    def test_flag_survives_and_order_holds(self, path):
        engine = open_engine(path)
        rows = engine.space("rows")
        stem = b"p" * 600
        keys = [stem + bytes((number,)) for number in range(40)]
        for key in reversed(keys):
            rows.put(key, key[-1:])
        engine.close()
        engine = open_engine(path)
        rows = engine.space("rows")
        assert [key for key, _ in rows.scan(b"", None, 100)] == keys
        assert rows.scan(keys[5], keys[8], 100, True) == [(k, k[-1:]) for k in keys[7:4:-1]]
        assert rows.get(keys[3]) == b"\x03"
        assert rows.get(stem) is None
        assert rows.delete(keys[3])
        assert rows.count() == 39
        assert {len(key) for key, _ in engine._txn.cursor(engine._databases["rows"])} == {511}
        engine.close()

    def test_short_spaces_do_not_pay(self, path):
        engine = open_engine(path)
        rows = engine.space("rows")
        rows.put(b"k" * 495, b"")
        assert not rows.has_long_keys
        rows.put(b"k" * 496, b"")
        assert rows.has_long_keys
        engine.close()


class TestSnapshot:
    def test_stands_still_while_rows_change_and_spaces_go(self, path):
        engine = open_engine(path)
        rows = engine.space("rows")
        rows.put_many([(b"%04d" % number, b"old") for number in range(1000)])
        engine.set_applied(2, 8, 1)
        snapshot = engine.read_snapshot()
        rows.put(b"0001", b"new")
        engine.set_applied(2, 9, 1)
        engine.commit()
        engine.drop_space("rows")
        engine.commit()
        assert engine.space_names() == []
        chunks = list(snapshot.chunks("rows", b"", None, 1000))
        assert len(chunks) > 5
        pairs = [pair for chunk in chunks for pair in chunk]
        assert pairs == [(b"%04d" % number, b"old") for number in range(1000)]
        assert snapshot.applied(2) == (8, 1)
        assert snapshot.scan("never", b"", None, 5) == []
        snapshot.close()
        engine.commit()
        engine.close()
        engine = open_engine(path)
        assert engine.space_names() == []
        engine.close()

    def test_of_spaces_that_nobody_has_opened_yet(self, path):
        engine = open_engine(path)
        engine.space("rows").put(b"a", b"1")
        engine.space("long").put(b"k" * 600, b"2")
        engine.close()
        engine = open_engine(path)
        snapshot = engine.read_snapshot()
        assert snapshot.scan("rows", b"", None, 9) == [(b"a", b"1")]
        assert snapshot.scan("long", b"", None, 9) == [(b"k" * 600, b"2")]
        snapshot.close()
        engine.close()


def test_opening_garbage_is_a_storage_error(path, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(b"garbage" * 2000)
    with pytest.raises(StorageError, match="cannot open the engine"):
        open_engine(path)


def test_closed_engine_refuses(path):
    engine = open_engine(path)
    rows = engine.space("rows")
    engine.close()
    with pytest.raises(StorageError):
        engine.commit()
    with pytest.raises(StorageError):
        rows.get(b"a")


def test_lmdb_refuses_everything_after_a_full_map(tmp_path):
    """The fact that the reserve and the poisoning rest on."""
    env = lmdb.open(str(tmp_path / "env"), map_size=1 << 17, max_dbs=2)
    txn = env.begin(write=True)
    with pytest.raises(lmdb.MapFullError):
        txn.cursor().putmulti([(b"%08d" % number, ROW) for number in range(1000)])
    for use in (lambda: txn.get(b"a"), lambda: txn.delete(b"a"), txn.commit):
        with pytest.raises(lmdb.BadTxnError):
            use()
    env.close()
