"""A real process on a real disk is killed with SIGKILL; everything it acknowledged is there."""

import random
import signal
import subprocess
import sys

import pytest

from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.store import Store
from nodedb.storage.wal import Wal

SEGMENT_BYTES = 256 * 1024

WRITER = """
import sys
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.store import Store
from nodedb.storage.wal import Wal

store = Store(sys.argv[1])
engine = LmdbEngine(store.engine_path, map_bytes=1 << 26, disk_reserve_bytes=0)
wal = Wal(store.log_directory(), segment_bytes=int(sys.argv[2]),
          compact_limit=engine.recyclable_applied)
rows = engine.space("rows")
for index in range(1, 100_000):
    payload = str(index).encode()
    wal.append_entries(1, [(index, 1, payload)])
    wal.flush()
    print(index, flush=True)
    rows.put(b"%08d" % index, payload)
    engine.set_applied(1, index, 1)
    if index % 25 == 0:
        engine.commit()
        wal.compact(1, engine.recyclable_applied(1))
        wal.recycle()
"""


@pytest.mark.parametrize("seed", range(3))
def test_acknowledged_entries_survive_sigkill(tmp_path, seed):
    path = str(tmp_path / "store")
    command = [sys.executable, "-c", WRITER, path, str(SEGMENT_BYTES)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = 0
    wanted = random.Random(seed).randint(50, 400)
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged >= wanted:
            writer.send_signal(signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    writer.wait()
    store = Store(path)
    engine = LmdbEngine(store.engine_path, map_bytes=1 << 26, disk_reserve_bytes=0)
    wal = Wal(store.log_directory(), segment_bytes=SEGMENT_BYTES)
    applied, _ = engine.applied(1)
    last = wal.last_index(1)
    assert acknowledged <= last <= acknowledged + 1
    assert engine.space("rows").count() == applied
    replayed = wal.entries(1, applied + 1, last + 1)
    assert replayed == [(i, 1, str(i).encode()) for i in range(applied + 1, last + 1)]
    wal.close()
    engine.close()
    store.close()
