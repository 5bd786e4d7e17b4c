"""Bad stores and full disks: a start-up error that names the cause, or a refused statement.

What was acknowledged is never lost.
"""

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, run_to_end, running

ROWS = 200
MIB = 1 << 20
BATCH_MAGIC = struct.pack(">I", 0x6E644257)
BLOCK_BYTES = 4096


def fill(node: NodeProcess) -> None:
    """Acknowledge ROWS single-row commits."""
    with node.connect() as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY, v text)")
        for number in range(ROWS):
            connection.execute(f"INSERT INTO kept VALUES ({number}, 'row {number}')")


def check_filled(node: NodeProcess, rows: int = ROWS) -> None:
    """Check that all acknowledged rows are there."""
    with node.connect() as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT v), max(id) FROM kept"
        ).fetchone()
        assert found == (rows, rows, rows - 1)


def refused_start(store: Path, *flags: str) -> str:
    """Start a node that must refuse; return what it says."""
    done = run_to_end(NodeProcess(store, *flags).command()[1:])
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_store_of_a_newer_format_is_refused(store: Path) -> None:
    with running(store) as node:
        fill(node)
        assert node.stop() == 0
    manifest = store / "manifest.json"
    written = manifest.read_text(encoding="utf-8")
    changed = json.loads(written) | {"format_version": 99, "a_new_field": {}}
    manifest.write_text(json.dumps(changed), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.name != "LOCK"}
    said = refused_start(store)
    assert "format 99" in said
    assert "newest known is 1" in said
    assert before == {path: path.stat().st_mtime_ns for path in before}, "the store was touched"
    manifest.write_text(written, encoding="utf-8")
    with running(store) as node:
        check_filled(node)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format_version": "x"}', b"\xff" * 40])
def test_an_unreadable_manifest_is_named(store: Path, content: bytes) -> None:
    store.mkdir()
    (store / "manifest.json").write_bytes(content)
    assert "manifest.json" in refused_start(store)


def test_a_store_that_is_a_file_is_named(store: Path) -> None:
    store.write_text("not a directory", encoding="utf-8")
    assert str(store) in refused_start(store)


def newest_segment(store: Path) -> Path:
    """Return the log file that was written last."""
    return max((store / "log").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def batch_offsets(data: bytes) -> list[int]:
    """Return where the log's batches start."""
    return [
        offset
        for offset in range(BLOCK_BYTES, len(data), BLOCK_BYTES)
        if data[offset : offset + 4] == BATCH_MAGIC
    ]


def test_a_damaged_log_is_named_with_its_place(store: Path) -> None:
    """Acknowledged batches stand behind the damage: starting without them would lose them."""
    with running(store) as node:
        fill(node)
        node.kill()
    segment = newest_segment(store)
    data = bytearray(segment.read_bytes())
    offsets = batch_offsets(bytes(data))
    assert len(offsets) > 50
    place = offsets[len(offsets) // 2] + 80
    data[place] ^= 0xFF
    segment.write_bytes(data)
    said = refused_start(store)
    assert "corrupt" in said
    assert segment.name in said
    assert str(offsets[len(offsets) // 2]) in said


def test_a_torn_tail_is_dropped(store: Path) -> None:
    """The last batch, whose flush never returned, is cut; all before it is there."""
    with running(store) as node:
        fill(node)
        with node.connect() as connection:
            connection.execute("INSERT INTO kept VALUES (5000, 'the last')")
        node.kill()
    segment = newest_segment(store)
    data = bytearray(segment.read_bytes())
    last = batch_offsets(bytes(data))[-1]
    data[last + 60 :] = bytes(len(data) - last - 60)
    segment.write_bytes(data)
    with running(store) as node, node.connect() as connection:
        count = connection.execute("SELECT count(*) FROM kept WHERE id < 5000").fetchone()
        assert count == (ROWS,)
        connection.execute("INSERT INTO kept VALUES (6000, 'goes on')")


def test_no_room_below_the_disk_reserve(store: Path) -> None:
    """Writes are refused with 53100 before anything is logged; reads and deletes go on."""
    with running(store) as node:
        fill(node)
        assert node.stop() == 0
    with running(store, "--disk-reserve-bytes", str(1 << 60)) as node:
        check_filled(node)
        with node.connect() as connection, pytest.raises(psycopg.errors.DiskFull):
            connection.execute("INSERT INTO kept VALUES (7000, 'no room')")
        with node.connect() as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (ROWS,)
        node.kill()
    with running(store) as node:
        check_filled(node)


def test_a_full_map_refuses_writes(store: Path) -> None:
    """The engine's map is full: 53100, the node lives, acknowledged rows are there after kill."""
    acknowledged = 0
    with running(store, "--map-bytes", str(8 * MIB), "--wal-segment-bytes", str(4 * MIB)) as node:
        with node.connect() as connection:
            connection.execute("CREATE TABLE big (id int PRIMARY KEY, v text)")
            with pytest.raises(psycopg.errors.DiskFull):
                for number in range(2000):
                    connection.execute(
                        f"INSERT INTO big VALUES ({number}, repeat(md5('{number}'), 320))"
                    )
                    acknowledged = number + 1
        assert acknowledged > 50
        with node.connect() as connection:
            assert connection.execute("SELECT count(*) FROM big").fetchone() == (acknowledged,)
        node.kill()
    with running(store, "--map-bytes", str(64 * MIB)) as node, node.connect() as connection:
        assert connection.execute("SELECT count(*) FROM big").fetchone() == (acknowledged,)
        connection.execute("INSERT INTO big VALUES (100000, 'room again')")


def _limited_start(node: NodeProcess, file_bytes: int) -> None:
    """Start a node whose files may not grow beyond a size (EFBIG): what a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        node.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_may_not_grow(store: Path) -> None:
    """The log cannot extend: the statement fails or the node stops; acknowledged rows survive."""
    node = NodeProcess(store, "--wal-segment-bytes", str(64 * MIB), "--map-bytes", str(256 * MIB))
    acknowledged = -1
    try:
        with running(store) as first:
            with first.connect() as connection:
                connection.execute("CREATE TABLE big (id int PRIMARY KEY, v text)")
            assert first.stop() == 0
        _limited_start(node, 70 * MIB)
        with pytest.raises(psycopg.Error), node.connect() as connection:
            for number in range(3000):
                connection.execute(
                    f"INSERT INTO big VALUES ({number}, repeat(md5('{number}'), 3200))"
                )
                acknowledged = number
    finally:
        node.kill()
    assert "Traceback" not in node.log()
    assert acknowledged > 100
    with running(store) as again, again.connect() as connection:
        found = connection.execute(
            "SELECT count(*) FROM big WHERE id <= %s", (acknowledged,)
        ).fetchone()
        assert found == (acknowledged + 1,)


_MOUNTED = """
mount -t tmpfs -o size=60m tmpfs "$1" &&
exec "$2" -c 'import tests.e2e.full_disk as f; f.main()' "$1" "$3"
"""


@pytest.mark.parametrize("kind", ["reserve", "no reserve"])
def test_a_full_disk(tmp_path: Path, kind: str) -> None:
    """A file system of 60 MB in a mount namespace of its own; see full_disk."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare for a small file system")
    probe = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"],
        capture_output=True,
        check=False,
        text=True,
    )
    if probe.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {probe.stderr.strip()}")
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _MOUNTED, "sh", str(mount), sys.executable, kind],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
