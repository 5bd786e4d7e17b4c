"""How many contended transactions per second commit at SERIALIZABLE, against PostgreSQL 15?

The list-append workload of ``tests.serializability``: eight clients over asyncpg in one process,
six keys, 1 to 4 operations in a transaction, half of them reads. Both servers get the same client
with the same retry loop: what fails with 40001 or 40P01 is tried again at once, the same steps with
fresh values, until it commits. A transaction goes through its keys in a fixed order, so there are
no deadlocks, which PostgreSQL would look for only after a second of waiting; with
``--order random`` there are. Both are started fresh on one disk and run in turn, so that a slow
minute of the machine hits both. Reported are the medians of committed transactions per second, how
many tries failed, and the ratio (nodedb / PostgreSQL). The histories of nodedb are checked.

The client takes part of the two cores, and the same part of both servers' time.

Usage: ``python -m bench.contended [--seconds 10] [--rounds 3] [--order keys]``
"""

import argparse
import asyncio
import datetime
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import asyncpg

from bench.servers import Server, Unavailable, find_program, nodedb, postgresql
from bench.side_by_side import RESULTS, ROOT, WARM_UP_SECONDS, commit, machine
from tests.serializability.checker import LEVELS, Level, check
from tests.serializability.history import Shares, Transaction
from tests.serializability.list_append import Aborted, ListClient, Plan, run_clients

TARGET = 0.5


async def work(client: ListClient, plan: Plan, until: float, *, is_ordered: bool) -> None:
    """Run transactions one after the other, each until it commits."""
    while time.perf_counter() < until:
        steps = plan.steps(client.chance)
        if is_ordered:
            steps.sort()
        while time.perf_counter() < until:
            try:
                await client.transaction(steps)
            except Aborted:
                continue
            break


async def run_once(
    server: Server, arguments: argparse.Namespace, seed: int, seconds: float
) -> list[Transaction]:
    """Run the workload once; returns its history."""
    connect = partial(
        asyncpg.connect,
        host="127.0.0.1",
        port=server.port,
        user=server.user,
        database=server.database,
        ssl=False,
    )
    each = partial(work, is_ordered=arguments.order == "keys")
    return await run_clients(connect, Plan(arguments.level, "list", seed), seconds, each)


def measure(
    server: Server, arguments: argparse.Namespace, seed: int, seconds: float
) -> dict[str, float]:
    """Return committed transactions per second and the share of tries that were aborted."""
    history = asyncio.run(run_once(server, arguments, seed, seconds))
    if server.name == "nodedb":
        level: Level = arguments.level
        found = check(history, level)
        assert not found, "\n".join(map(str, found))
    shares = Shares.of(history)
    return {"tps": shares.committed / seconds, "aborted_share": 1 - shares.committed_share}


def compare(arguments: argparse.Namespace, folder: Path) -> int:
    """Start both, run in turn, report."""
    before = machine()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 30)
    print(f"{arguments.level}, order: {arguments.order}, seed {seed}")
    rounds: dict[str, list[dict[str, float]]] = {"nodedb": [], "postgresql": []}
    with postgresql(folder / "postgresql") as theirs, nodedb(folder / "nodedb") as ours:
        for server in (ours, theirs):
            measure(server, arguments, seed, WARM_UP_SECONDS)
        for number in range(arguments.rounds):
            for server in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                done = measure(server, arguments, seed + number, arguments.seconds)
                rounds[server.name].append(done)
                print(
                    f"{server.name:<12} {done['tps']:>8,.0f} committed/s,"
                    f" {done['aborted_share']:.0%} of the tries aborted",
                    flush=True,
                )
    medians = {name: statistics.median(one["tps"] for one in done) for name, done in rounds.items()}
    ratio = medians["nodedb"] / medians["postgresql"]
    print(
        f"nodedb {medians['nodedb']:,.0f}, PostgreSQL {medians['postgresql']:,.0f} committed/s:"
        f" ratio {ratio:.2f}, target {TARGET}"
    )
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    report = {
        "time": stamp,
        "commit": commit(),
        "machine": before,
        "benchmark": "contended list-append",
        "level": arguments.level,
        "order": arguments.order,
        "seed": seed,
        "seconds": arguments.seconds,
        "warm_up_seconds": WARM_UP_SECONDS,
        "rounds": rounds,
        "medians": medians,
        "ratio": ratio,
    }
    path = RESULTS / f"{stamp}-contended.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)}")
    return 0


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs per system; the median counts")
    parser.add_argument("--level", choices=LEVELS, default="serializable")
    parser.add_argument("--order", choices=("keys", "random"), default="keys")
    parser.add_argument("--seed", type=int, help="of the clients' choices; default: by chance")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="where the data lies")
    arguments = parser.parse_args()
    try:
        find_program("initdb")
    except Unavailable as error:
        print(f"bench: {error}: PostgreSQL 15 is needed for comparison", file=sys.stderr)
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="contended-", dir=arguments.folder))
    folder.chmod(0o755)
    try:
        return compare(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
