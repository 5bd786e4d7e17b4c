"""``nodedb debug``: all of a stopped node's store, and not a byte of it changed."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cluster.metadata.command import (
    Batch,
    CatalogChange,
    FoundCluster,
    NodeJoin,
    Setting,
    TimestampWindow,
    encode_command,
)
from cluster.raft.message import ConfChange, Configuration, encode_conf_change
from nodedb.catalog.changes import CatalogChange as Change
from nodedb.catalog.metadata import MetadataState
from nodedb.cli.debug import describe_entry
from nodedb.cli.main import main
from nodedb.errors import StorageError
from nodedb.kv.effects import ClearStorage, RowWrites, encode_effects
from nodedb.kv.group import DataGroup
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.stopped_store import StoppedStore
from nodedb.storage.store import Store
from nodedb.storage.wal import Wal

JOIN = NodeJoin(2, "store-2", "127.0.0.1:9402", sql_address="127.0.0.1:5402")
CHANGE = CatalogChange(Change(statements=("CREATE TABLE",), user="ann", next_id=12).encode())
METADATA = [
    b"",
    encode_command(FoundCluster("c1")),
    encode_command(JOIN),
    encode_command(Batch((TimestampWindow(900), CHANGE))),
    encode_command(Setting(0, "gc_ttl", "5min")),
    encode_command(CHANGE),
]
CONF_CHANGE = encode_conf_change(ConfChange("add_learner", 2, Configuration((1,), (2,))))
ROWS = [
    b"",
    CONF_CHANGE,
    encode_effects(RowWrites(10, 1, [(0, b"\0\0\0\1\0\1a", b"x"), (0, b"\0\0\0\1\0\1b", b"")])),
    encode_effects(ClearStorage((b"\0\0\0\1",))),
    b"\x77 of another version",
]


@pytest.fixture
def path(tmp_path):
    """A store whose node was killed: the log is ahead of the engine, with a torn tail behind it."""
    path = tmp_path / "store"
    store = Store(str(path))
    store.set_cluster_id("c1")
    engine = LmdbEngine(store.engine_path, map_bytes=1 << 26, disk_reserve_bytes=0)
    wal = Wal(store.log_directory(), segment_bytes=1 << 16)
    for group, payloads in ((0, METADATA), (1, ROWS)):
        wal.append_entries(group, [(i, 2, payload) for i, payload in enumerate(payloads, 1)])
        wal.set_hard_state(group, 3, 2, 4)
    wal.flush()
    metadata, data = MetadataState(engine), DataGroup(1, engine)
    for index, payload in enumerate(METADATA[1:5], 2):
        metadata.apply_payload(payload, index)
    data.apply_payload(ROWS[2], 3)
    metadata.save()
    data.save()
    configuration = msgspec.msgpack.encode(Configuration((1,), (2,)))
    engine.space("group1.meta").put(b"raft-configuration", configuration)
    engine.set_applied(0, 5, 2)
    engine.set_applied(1, 3, 2)
    engine.commit()
    wal.compact(0, 1)
    wal.append_entries(1, [(6, 3, b"")])
    wal.flush()
    tail = wal.segments()[-1]
    engine.space("group1.rows").put(b"not committed", b"1")
    engine.abandon()
    engine.close()
    wal.close()
    store.close()
    with open(path / "log" / tail.name, "r+b") as file:
        file.seek(tail.tail)
        file.write(random.Random(1).randbytes(3000))
    return path


def everything(path: Path) -> dict[str, tuple]:
    return {
        str(found.relative_to(path)): (
            found.stat().st_mtime_ns,
            found.stat().st_size,
            found.stat().st_ino,
            hashlib.sha256(found.read_bytes()).hexdigest() if found.is_file() else "",
        )
        for found in sorted(path.rglob("*"))
    }


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    status = main(["debug", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys, *arguments: object) -> dict:
    status, out, _ = run(capsys, *arguments, "--format", "json")
    assert status == 0
    return json.loads(out)


@pytest.mark.parametrize("what", ["log", "metadata", "raft"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_is_written(path, capsys, what, form):
    before = everything(path)
    status, out, err = run(capsys, what, path, "--format", form)
    assert (status, err) == (0, "")
    assert out
    assert everything(path) == before


def test_not_even_in_directories_that_may_not_be_written(path, capsys):
    """And with the rights of a reader only, as far as the tester's own rights go."""
    for found in (path / "log", path / "data", path):
        os.chmod(found, 0o500)
    try:
        for what in ("log", "metadata", "raft"):
            assert run(capsys, what, path)[0] == 0
    finally:
        for found in (path, path / "log", path / "data"):
            os.chmod(found, 0o700)


class TestLog:
    def test_entries_of_each_group(self, path, capsys):
        report = as_json(capsys, "log", path)
        assert report["cluster_id"] == "c1"
        zero, one = report["groups"]
        assert (zero["first_index"], zero["last_index"], zero["base_term"]) == (2, 6, 2)
        assert [entry["kind"] for entry in zero["entries"]] == ["command"] * 5
        assert [entry["index"] for entry in zero["entries"]] == [2, 3, 4, 5, 6]
        assert zero["entries"][1]["what"].startswith(
            'NodeJoin(node_id=2, store_id="store-2", rpc_address="127.0.0.1:9402"'
        )
        assert zero["entries"][2]["what"] == (
            "Batch of 2: TimestampWindow(until=900); "
            "CatalogChange(CREATE TABLE; 0 puts, 0 deletes, by ann)"
        )
        assert [(e["kind"], e["what"]) for e in one["entries"][:3]] == [
            ("empty", ""),
            ("conf change", "add_learner 2: voters 1, learners 2"),
            (
                "effects",
                "RowWrites(commit_timestamp=10, transaction_id=1, 1 rows set, 1 deleted)",
            ),
        ]
        assert [e["kind"] for e in one["entries"][3:]] == ["effects", "unreadable", "empty"]
        assert one["entries"][0]["bytes"] == 0
        assert one["entries"][2]["bytes"] == len(ROWS[2])

    def test_segments(self, path, capsys):
        (segment,) = as_json(capsys, "log", path)["segments"]
        assert segment["generation"] == 1
        assert 0 < segment["live_bytes"] < segment["tail"] < segment["size"] == 1 << 16

    def test_a_group_a_first_index_and_a_limit(self, path, capsys):
        (group,) = as_json(capsys, "log", path, "--group", 1, "--limit", 2)["groups"]
        assert [entry["index"] for entry in group["entries"]] == [5, 6]
        (group,) = as_json(capsys, "log", path, "--group", 1, "--from", 2, "--limit", 2)["groups"]
        assert [entry["index"] for entry in group["entries"]] == [2, 3]
        for beyond in (7, 1 << 70):
            (group,) = as_json(capsys, "log", path, "--group", 1, "--from", beyond)["groups"]
            assert group["entries"] == []
        (group,) = as_json(capsys, "log", path, "--group", 0, "--from", -5)["groups"]
        assert len(group["entries"]) == 5
        assert run(capsys, "log", path, "--group", 9)[2] == (
            "nodedb: the log holds nothing of group 9\n"
        )
        assert run(capsys, "log", path, "--limit", 0)[0] == 1

    def test_as_text(self, path, capsys):
        _, out, _ = run(capsys, "log", path, "--from", 2, "--limit", 3)
        lines = out.splitlines()
        assert lines[0].endswith(" of cluster c1")
        assert lines[1].startswith("segment 00000001.wal: generation 1, batches from 1, ")
        assert "group 0: entries 2 to 6, behind index 1 of term 2" in lines
        assert any(
            line.split()[:5] == ["2", "2", str(len(CONF_CHANGE)), "conf", "change"]
            for line in lines
        )
        assert lines[-1] == "  (more: --from 5)"


class TestMetadata:
    def test_is_that_of_the_last_commit(self, path, capsys):
        report = as_json(capsys, "metadata", path)
        assert (report["applied_index"], report["applied_term"]) == (5, 2)
        assert report["log_last_index"] == 6
        assert (report["schema_version"], report["catalog_changes"]) == (4, 1)
        assert report["timestamp_window"] == 900
        assert report["settings"] == [{"node_id": 0, "name": "gc_ttl", "value": "5min"}]
        (node,) = report["nodes"]
        assert (node["node_id"], node["rpc_address"]) == (2, "127.0.0.1:9402")
        assert report["audit_records"] == 1

    def test_as_text(self, path, capsys):
        _, out, _ = run(capsys, "metadata", path)
        assert "applied 5 (term 2), log up to 6" in out
        assert "setting cluster gc_ttl = 5min" in out
        assert "node 2: learner, rpc 127.0.0.1:9402" in out


class TestRaft:
    def test_what_raft_keeps(self, path, capsys):
        zero, one = as_json(capsys, "raft", path)["groups"]
        assert zero == {
            "group_id": 0,
            "term": 3,
            "voted_for": 2,
            "commit_index": 4,
            "first_index": 2,
            "last_index": 6,
            "last_term": 2,
            "base_term": 2,
            "applied_index": 5,
            "applied_term": 2,
            "voters": None,
            "learners": None,
        }
        assert (one["last_index"], one["last_term"], one["applied_index"]) == (6, 3, 3)
        assert (one["voters"], one["learners"]) == ([1], [2])

    def test_as_text(self, path, capsys):
        _, out, _ = run(capsys, "raft", path)
        assert "  term 3, voted for node 2, commit index 4" in out
        assert "  voters 1, learners 2" in out


class TestRefused:
    def test_while_a_node_runs(self, path, capsys):
        node = Store(str(path))
        status, out, err = run(capsys, "raft", path)
        assert (status, out) == (1, "")
        assert "a node runs on the store" in err
        node.close()
        assert run(capsys, "raft", path)[0] == 0

    def test_no_node_starts_meanwhile_but_others_may_look(self, path):
        store = StoppedStore(str(path))
        with pytest.raises(StorageError, match="another process has the store open"):
            Store(str(path))
        command = [sys.executable, "-m", "nodedb", "debug", "raft", str(path)]
        other = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert (other.returncode, other.stderr) == (0, "")
        assert "  voters 1, learners 2" in other.stdout
        store.close()
        Store(str(path)).close()

    def test_where_no_store_is(self, tmp_path, capsys):
        before = everything(tmp_path)
        for where in (tmp_path, tmp_path / "nowhere"):
            status, _, err = run(capsys, "log", where)
            assert (status, err) == (1, f'nodedb: there is no store in "{where}"\n')
        assert everything(tmp_path) == before

    @pytest.mark.parametrize("gone", ["log", "data", "LOCK"])
    def test_a_store_with_a_part_missing(self, path, capsys, gone):
        os.rename(path / gone, path / "elsewhere")
        before = everything(path)
        status, out, err = run(capsys, "raft", path)
        assert (status, out) == (1, "")
        assert gone in err
        assert everything(path) == before

    def test_a_damaged_log_or_engine(self, path, capsys):
        whole = (path / "data" / "data.mdb").read_bytes()
        (path / "data" / "data.mdb").write_bytes(whole[:12_000])
        status, _, err = run(capsys, "raft", path)
        assert status == 1
        assert f"has 12000 bytes of {len(whole)}" in err
        (path / "data" / "data.mdb").write_bytes(b"garbage" * 4000)
        status, _, err = run(capsys, "raft", path)
        assert status == 1
        assert "cannot read the engine" in err

    def test_a_manifest_of_a_newer_version(self, path, capsys):
        (path / "manifest.json").write_text('{"format_version": 99}')
        assert "has format 99" in run(capsys, "raft", path)[2]

    def test_the_log_and_the_engine_refuse_to_write(self, path):
        store = StoppedStore(str(path))
        last = store.wal.last_index(1)
        for write in (
            lambda: store.wal.append_entries(1, [(last + 1, 3, b"x")]),
            lambda: store.wal.set_hard_state(1, 9, 0, 0),
            lambda: store.wal.reset(1, 3, 2),
            lambda: store.wal.remove_group(1),
            lambda: store.wal.truncate_suffix(1, 1),
            store.wal.flush,
            store.wal.recycle,
            lambda: store.engine.space("group1.rows").put(b"a", b"b"),
            lambda: store.engine.space("group1.rows").put_many([(b"a", b"b")]),
            lambda: store.engine.space("group1.rows").delete(b"a"),
            lambda: store.engine.space("group1.rows").delete_range(b"a", None, 1),
            lambda: store.engine.space("group1.rows").clear(),
            lambda: store.engine.drop_space("group1.rows"),
            lambda: store.engine.stage_space("group1.rows"),
            lambda: store.engine.switch_staged([], 1, index=1, term=1),
            lambda: store.engine.set_applied(1, 1, 1),
            lambda: store.engine.clear_applied(1),
            lambda: store.engine.ensure_room(1),
            store.engine.commit,
            store.engine.sync,
        ):
            with pytest.raises(StorageError):
                write()
        assert store.wal.last_index(1) == last
        store.close()


def test_a_node_starts_from_the_store_afterwards(path, capsys):
    """With the torn tail still there for it to cut."""
    for what in ("log", "metadata", "raft"):
        assert run(capsys, what, path)[0] == 0
    store = Store(str(path))
    wal = Wal(store.log_directory(), segment_bytes=1 << 16)
    assert wal.last_index(1) == 6
    wal.append_entries(1, [(7, 3, b"next")])
    wal.flush()
    wal.close()
    store.close()


def test_garbage_entries_are_shown_as_such():
    source = random.Random(4)
    for _ in range(500):
        payload = source.randbytes(source.randrange(1, 30))
        for group in (0, 1):
            for first in (b"", b"\xff", b"\1", b"\2"):
                kind, what = describe_entry(group, first + payload)
                assert kind in {"unreadable", "effects", "command", "conf change"}
                assert len(what) <= 200
