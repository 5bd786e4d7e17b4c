"""Any state, through chunks of any size, cuts and restarts at any place, arrives as it left."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_digest import digest
from nodedb.storage.snapshot_receive import SnapshotInbox
from tests.lib.snapshots import content, install, open_lmdb, read

KEYS = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.builds(lambda tail: b"p" * 494 + tail, st.binary(max_size=30)),
)
VALUES = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda size, byte: bytes([byte]) * size, st.integers(0, 9000), st.integers(0, 255)),
)
SPACES = st.dictionaries(
    st.sampled_from(["group1.rows", "group1.history", "group1.meta", "group12.rows", "metadata.x"]),
    st.dictionaries(KEYS, VALUES, max_size=12),
)


def of_group(state: dict) -> dict:
    return {name: rows for name, rows in state.items() if name.startswith("group1.") and rows}


@settings(max_examples=120, deadline=None)
@given(
    spaces=SPACES,
    before=SPACES,
    chunk_bytes=st.sampled_from([1024, 1025, 2000, 8192, 1 << 20]),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    restarts=st.lists(st.booleans(), min_size=4, max_size=4),
    is_lmdb=st.tuples(st.booleans(), st.booleans()),
)
def test_what_arrives_is_what_left(spaces, before, chunk_bytes, cuts, restarts, is_lmdb):
    with tempfile.TemporaryDirectory() as path:
        source, target = (
            open_lmdb(Path(path, name)) if real else MemoryEngine()
            for name, real in zip(("source", "target"), is_lmdb, strict=True)
        )
        for engine, state in ((source, spaces), (target, before)):
            for name, rows in state.items():
                engine.space(name).put_many(sorted(rows.items()))
        source.set_applied(1, 5, 2)
        elsewhere = {
            name: rows for name, rows in content(target).items() if not name.startswith("group1.")
        }
        reader = read(source, chunk_bytes=chunk_bytes)
        inbox = SnapshotInbox(
            RealLogDirectory(path + "/recv"), disk_reserve_bytes=0, sync_bytes=3 * chunk_bytes
        )
        for stop_after, is_restart in [*zip(cuts, restarts, strict=False), (1 << 30, False)]:
            receiver = inbox.begin(reader.offer, applied_index=0, wall_now=0.0)
            number = reader.resume(receiver.resume_point())
            for _ in range(stop_after):
                if receiver.is_complete:
                    break
                receiver.accept(reader.chunk(number, 0.0), 0.0)
                number += 1
            if is_restart:
                inbox = SnapshotInbox(
                    RealLogDirectory(path + "/recv"),
                    disk_reserve_bytes=0,
                    sync_bytes=3 * chunk_bytes,
                )
        installed = install(target, receiver, commit_bytes=1)
        assert (installed.index, installed.term) == target.applied(1) == (5, 2)
        assert of_group(content(target)) == of_group(content(source))
        assert digest(source, 1).difference(digest(target, 1)) == ""
        assert {
            name: rows for name, rows in content(target).items() if not name.startswith("group1.")
        } == elsewhere
        reader.close()
        source.close()
        target.close()
