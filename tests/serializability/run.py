"""Run the list-append workload at length and judge what it saw.

Usage: ``python -m tests.serializability.run [--level LEVEL] [--seeds 20] [--seconds 20]``: a node
of its own, each level, each seed. ``--dsn`` runs against any server, PostgreSQL for one.

Prints how many transactions committed and how many were aborted; what a level forbids, with the
transactions that show it; ends with status 1 if there was any.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from tests.e2e.node_process import running
from tests.serializability.checker import LEVELS, Anomaly, Level, check
from tests.serializability.history import Shares, Transaction
from tests.serializability.list_append import SHAPES, Plan, Shape, run_clients

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN: Final = 5
COMMITTED_SHARE_MIN: Final = 0.3


def run_seed(
    dsn: str, level: Level, seed: int, seconds: float, shape: Shape | None = None
) -> tuple[list[Transaction], list[Anomaly]]:
    """Run one seed; returns its history and what the level forbids of it.

    Without a shape the seed chooses one of the level's.
    """
    shapes = SHAPES[level]
    plan = Plan(level, shape or shapes[seed % len(shapes)], seed)
    history = asyncio.run(run_clients(partial(asyncpg.connect, dsn), plan, seconds))
    return history, check(history, level)


def describe(
    level: Level, seed: int, history: Sequence[Transaction], found: Sequence[Anomaly]
) -> str:
    """Return a report of one seed, with the first anomalies in full."""
    lines = [f"{level}, seed {seed}: {Shares.of(history)}, {len(found)} anomalies"]
    lines += [str(anomaly) for anomaly in found[:SHOWN]]
    return "\n".join(lines)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--level", choices=LEVELS, action="append", help="default: all three")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="per level and seed")
    parser.add_argument("--dsn", help="a server that runs already, as postgresql://...")
    arguments = parser.parse_args()
    if arguments.dsn:
        return _run_all(arguments.dsn, arguments)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "store") as node:
        dsn = f"postgresql://nodedb@{node.host}:{node.port}/nodedb?sslmode=disable"
        return _run_all(dsn, arguments)


def _run_all(dsn: str, arguments: argparse.Namespace) -> int:
    status = 0
    for level in arguments.level or LEVELS:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            history, found = run_seed(dsn, level, seed, arguments.seconds)
            print(describe(level, seed, history, found), flush=True)
            is_bad = found or Shares.of(history).committed_share < COMMITTED_SHARE_MIN
            status = status or int(bool(is_bad))
    return status


if __name__ == "__main__":
    sys.exit(main())
