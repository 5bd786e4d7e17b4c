"""Run many seeds: ``python -m tests.simulation.run --runs 1000 --from 1 --jobs 2``.

A failure is printed with its log and the command that repeats it, and ends with exit status 1. With
``--ledger DATE`` a line is added to the table in ``docs/testing.md``.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import subprocess
import sys
import time
import traceback
from typing import NamedTuple

from tests.simulation import ledger
from tests.simulation.world import World

LOG_LINES = 200


class Outcome(NamedTuple):
    """What became of one seed; ``failure`` is "" when no checker has fired."""

    seed: int
    failure: str
    faults: int
    operations: int
    virtual_seconds: float
    answers: dict[str, int]
    snapshots: int


def run_seed(seed: int) -> Outcome:
    """Run one seed to its end."""
    world = World(seed)
    failure = ""
    try:
        world.run()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        log = "\n".join(world.log[-LOG_LINES:])
        failure = f"{log}\n{traceback.format_exc()}"
    gc.collect(1)
    return Outcome(
        seed,
        failure,
        len(world.faults.struck),
        world.operation_count,
        world.time.now - world.began_at,
        dict(world.answers),
        world.snapshots.installed_count,
    )


def commit_name() -> str:
    """Return the commit that was run, marked when there were changes on top."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ledger", metavar="DATE", help="add a line to docs/testing.md")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        options.first, options.runs = options.seed, 1
    seeds = range(options.first, options.first + options.runs)
    began = time.monotonic()
    outcomes = []
    if options.jobs > 1:
        with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
            for outcome in pool.imap_unordered(run_seed, seeds, chunksize=4):
                outcomes.append(outcome)
                tell(outcome, is_verbose=options.verbose)
    else:
        for seed in seeds:
            outcomes.append(run_seed(seed))
            tell(outcomes[-1], is_verbose=options.verbose)
    line = summary(outcomes, seeds, time.monotonic() - began, options.ledger or "now")
    print(ledger.HEADER)
    print(line.text())
    if options.ledger:
        page = ledger.PAGE.read_text(encoding="utf-8")
        ledger.PAGE.write_text(ledger.with_line(page, line), encoding="utf-8")
    return 1 if line.failures else 0


def tell(outcome: Outcome, *, is_verbose: bool) -> None:
    """Print a failure, and with ``-v`` what every seed did."""
    if outcome.failure:
        print(f"seed {outcome.seed} failed\n{outcome.failure}")
        print(f"repeat with: make sim SEED={outcome.seed}", flush=True)
    elif is_verbose:
        print(
            f"seed {outcome.seed}: {outcome.operations} operations, {outcome.faults} faults, "
            f"{outcome.snapshots} snapshots, {outcome.answers}",
            flush=True,
        )


def summary(outcomes: list[Outcome], seeds: range, real: float, date: str) -> ledger.Line:
    """Return the line for the ledger."""
    return ledger.Line(
        date,
        commit_name(),
        f"{seeds[0]} to {seeds[-1]}",
        len(outcomes),
        sum(outcome.faults for outcome in outcomes),
        sum(outcome.operations for outcome in outcomes),
        round(sum(outcome.virtual_seconds for outcome in outcomes)),
        round(real),
        sum(bool(outcome.failure) for outcome in outcomes),
    )


if __name__ == "__main__":
    sys.exit(main())
