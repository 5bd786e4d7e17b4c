"""A process is killed with SIGKILL while it receives and installs snapshots, over and over.

Every start finds the state of one whole snapshot, with its index, and goes on from there: what was
received is resumed, what was loaded half is gone. ``SNAPSHOT_SEED=17 pytest ...`` runs one seed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_digest import digest
from tests.lib.snapshots import fill, open_lmdb

SEEDS = [int(os.environ["SNAPSHOT_SEED"])] if "SNAPSHOT_SEED" in os.environ else list(range(3))
ROWS = 3000
KILLS = 12
WORDS = ("received", "loaded", "switching", "switching", "installed")

FOLLOWER = """
import sys
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_receive import SnapshotInbox
from nodedb.storage.snapshot_install import SnapshotLoad
from tests.lib.snapshots import chunks, fill, open_lmdb, read

def say(*words):
    print(*words, flush=True)

engine = open_lmdb(sys.argv[1] + "/data")
inbox = SnapshotInbox(RealLogDirectory(sys.argv[1] + "/recv_snapshots"), sync_bytes=100_000,
                      disk_reserve_bytes=0)
inbox.collect(0.0)
while True:
    index = engine.applied(1)[0] + 1
    source = MemoryEngine()
    fill(source, int(sys.argv[2]), index=index, seed=index)
    reader = read(source, snapshot_id=index, chunk_bytes=65536)
    receiver = inbox.begin(reader.offer, applied_index=index - 1, wall_now=0.0)
    point = receiver.resume_point()
    for chunk in reader.chunk(0, 0.0), *chunks(reader):
        pass
    say("resume", point.chunk_count)
    if not receiver.is_complete:
        for chunk in chunks(reader, reader.resume(point)):
            receiver.accept(chunk, 0.0)
            say("received", chunk.number)
    load = SnapshotLoad(engine, receiver)
    for step, _ in enumerate(load.slices()):
        engine.commit()
        say("loaded", step)
    say("switching", index)
    load.switch()
    say("installed", index)
    while inbox.trim() or engine.trim_dropped():
        pass
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_whole_snapshot_is_found_after_every_kill(tmp_path, seed):
    chance = random.Random(seed)
    installed = 0
    resumed = 0
    last_words = []
    for number in range(KILLS):
        follower = subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, str(tmp_path), str(ROWS)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert follower.stdout is not None
        lines = []
        word, wanted = chance.choice(WORDS), chance.randint(1, 3)
        deadline = time.monotonic() + 60
        for line in follower.stdout:
            lines.append(line.split())
            wanted -= lines[-1][0] == word
            if not wanted or time.monotonic() > deadline:
                break
        # Somewhere between two lines, not always right behind one.
        until = time.perf_counter() + chance.random() * 0.004
        while time.perf_counter() < until:
            pass
        follower.send_signal(signal.SIGKILL)
        lines += [line.split() for line in follower.stdout.read().splitlines()]
        follower.wait()
        assert lines, f"seed {seed}, round {number}: the follower did not start"
        where = f"seed {seed}, round {number}, last word {lines[-1]}"
        last_words.append(lines[-1][0])
        resumed += int(lines[0][1]) > 0
        acknowledged = [int(index) for word, index in lines if word == "installed"]
        installed = max([installed, *acknowledged])
        engine = open_lmdb(tmp_path / "data")
        found = engine.applied(1)[0]
        expected = MemoryEngine()
        if found:
            fill(expected, ROWS, index=found, seed=found)
        assert installed <= found <= installed + 1, where
        assert digest(expected, 1).difference(digest(engine, 1)) == "", where
        assert engine.recyclable_applied(1) == found, where
        assert engine.staged_names() == [], where
        installed = found
        engine.close()
    assert installed > 0, f"seed {seed}: nothing was ever installed: {last_words}"
    print(f"seed {seed}: {installed} installed, {resumed} of {KILLS} resumed, {last_words}")
