"""Where does the time of a statement go?

A node runs in this process and pgbench loads it over TCP, as always. A timer interrupts the process
a thousand times a second, and each time the innermost function of the stack that belongs to a stage
gets the sample; so the kernel's part is in it, and so is waiting for the disk. A stage's share of
the samples, times the time per statement (elapsed time over statements), is its cost. What no
stage claims is shown as "other" and must stay small for the table to mean anything.

"receive, and wait" is the loop itself: polling, reading sockets, and having nothing to do while the
clients, on the same two cores, make up their next request.

Usage: ``python -m bench.stages [--seconds 6] [--clients 16] [--mode prepared]``
"""

import argparse
import asyncio
import os
import re
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import uvloop

from bench.servers import find_program
from nodedb.config import NodeConfig
from nodedb.config.node_config import Address
from nodedb.node import LoopSchedule, Node

SAMPLE_SECONDS: Final = 0.001
SCALE: Final = 1
WARM_UP_SECONDS: Final = 2
ROOT: Final = Path(__file__).parents[1]
# Statements of one transaction of each script.
SCRIPTS: Final = {"select": (["-S"], 1), "update": (["-N"], 5), "tpcb": ([], 7)}
OTHER: Final = "other"
WAIT: Final = "receive, and wait"
_PORT: Final = re.compile(r"sql=\S+:(\d+)")
_PROCESSED: Final = re.compile(r"actually processed: (\d+)")

# The first pattern that fits "module:qualified name" of a function names its stage; functions that
# fit none count for the one that called them.
STAGES: Final = [
    ("send", r"nodedb/pgwire/driver\.py:_ClientProtocol\.write"),
    ("decode", r"nodedb/pgwire/(templates|codec|parameters)\.py|nodedb/session/prepared\.py"),
    ("encode", r"nodedb/pgwire/(rows|backend|shapes)\.py|.*:Connection\.(_send_answer|flush)"),
    ("encode", r"<string>:make\.<locals>\.encode"),
    ("key", r"<string>:|nodedb/storage/key_codec\.py|nodedb/kv/keys\.py"),
    ("row codec", r"nodedb/(storage/row_codec|txn/table_codec)\.py"),
    ("statistics, clock", r"nodedb/(latency|clock|session/statement_statistics)\.py"),
    ("statistics, clock", r".*:Step\._(note|begin)"),
    ("engine: commit, log recycling", r".*:Replicator\.(commit|_on_commit_timer)"),
    ("flush", r"nodedb/storage/(wal.*|log_file)\.py"),
    ("apply", r"nodedb/kv/group\.py:DataGroup\.(apply|_apply.*)|.*:Replicator\._apply"),
    ("engine: get, put", r"nodedb/(storage/lmdb_engine|kv/group)\.py"),
    ("locks", r"nodedb/kv/locks\.py"),
    ("commit", r"nodedb/kv/(effects|replicator)\.py|cluster/metadata/.*|nodedb/session/block\.py"),
    ("commit", r"nodedb/txn/manager\.py|.*:Step\.(_commit|finish)|.*:Connection\._committed"),
    ("write buffer", r"nodedb/txn/.*"),
    ("plan lookup, execution", r"nodedb/session/.*|nodedb/sql/.*|nodedb/gateway/.*"),
    ("protocol", r"nodedb/pgwire/.*|nodedb/waiter\.py"),
]
_PATTERNS: Final = [(name, re.compile(pattern)) for name, pattern in STAGES]


class Sampler:
    """Counts what the process is doing, by stage."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: dict[CodeType, str | None] = {}
        signal.signal(signal.SIGALRM, self._sample)

    def __enter__(self) -> "Sampler":
        self.counts.clear()
        signal.setitimer(signal.ITIMER_REAL, SAMPLE_SECONDS, SAMPLE_SECONDS)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        is_ours = False
        while frame is not None:
            stage = self._stage(frame.f_code)
            if stage is not None:
                self.counts[stage] += 1
                return
            is_ours = is_ours or "nodedb/" in frame.f_code.co_filename
            frame = frame.f_back
        self.counts[OTHER if is_ours else WAIT] += 1

    def _stage(self, code: CodeType) -> str | None:
        if code not in self._known:
            path = code.co_filename.removeprefix(f"{ROOT}/")
            where = f"{path}:{code.co_qualname}"
            found = (name for name, pattern in _PATTERNS if pattern.match(where))
            self._known[code] = next(found, None)
        return self._known[code]


async def pgbench(port: int, *arguments: str) -> str:
    """Run pgbench against the node in this process; returns what it prints."""
    environment = os.environ | {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": "nodedb",
        "PGDATABASE": "nodedb",
    }
    process = await asyncio.create_subprocess_exec(
        find_program("pgbench"),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"pgbench: {errors.decode()[-400:]}")
    return output.decode()


async def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run the node, load it with each script, print a table for each."""
    free = Address("127.0.0.1", 0)
    config = NodeConfig(
        store=folder / "store", sql_addr=free, http_addr=free, rpc_addr=free, insecure=True
    )
    node = Node(config)
    await node._start(LoopSchedule(asyncio.get_running_loop()))
    found = _PORT.search(node._ready_line())
    assert found is not None
    port = int(found[1])
    await pgbench(port, "-i", "-q", "-s", str(SCALE), "-I", "dtgp")
    sampler = Sampler()
    for name, (flags, statements) in SCRIPTS.items():
        load = ["-n", *flags, "-M", options.mode, "-c", str(options.clients), "-j", "2", "-T"]
        await pgbench(port, *load, str(WARM_UP_SECONDS))
        started = time.perf_counter()
        with sampler:
            output = await pgbench(port, *load, str(options.seconds))
        elapsed = time.perf_counter() - started
        processed = _PROCESSED.search(output)
        assert processed is not None, output
        report(name, sampler.counts, elapsed / (int(processed[1]) * statements))
    node._closers.clear()
    await node.sql.close()
    await node.http.close()


def report(name: str, counts: Counter[str], seconds: float) -> None:
    """Print microseconds per statement by stage, and how much of the whole they explain."""
    total = sum(counts.values())
    whole = seconds * 1e6
    print(f"\n{name}: {whole:.1f} us per statement, {total} samples")
    for stage, count in counts.most_common():
        print(f"  {stage:<32} {whole * count / total:>7.1f} us  {count / total:>5.0%}")
    print(f"  {'named stages':<32} {1 - counts[OTHER] / total:>17.0%} of the whole")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=6, help="per script")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--mode", choices=("simple", "extended", "prepared"), default="prepared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stages-") as folder:
        uvloop.run(measure(Path(folder), options))


if __name__ == "__main__":
    main()
