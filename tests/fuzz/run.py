"""Fuzz a node of our own: ``python -m tests.fuzz.run --generator bytes|messages|sql``.

Bounded by ``--seconds`` and ``--count``; prints its ``--seed`` first. Ends with 1 when something
was found; differences of SQL go to ``--findings``.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.node_process import running
from tests.fuzz.sql_run import run_sql, why_no_postgres
from tests.fuzz.target import Target
from tests.fuzz.wire_run import Limits, run_bytes, run_decoders, run_messages

DECODER_SHARE = 0.2


def main(arguments: list[str] | None = None) -> int:
    """Run one generator; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.run", description=__doc__)
    parser.add_argument("--generator", choices=("bytes", "messages", "sql"), required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=1 << 60, help="at most so many cases")
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz-findings.md"))
    parsed = parser.parse_args(arguments)
    seed = time.time_ns() % (1 << 32) if parsed.seed is None else parsed.seed
    print(f"seed {seed}", flush=True)
    if parsed.generator == "sql" and (why := why_no_postgres()):
        print(f"skipped: {why}")
        return 0
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "store") as node:
        limits = Limits(seconds=parsed.seconds, count=parsed.count)
        target = Target(node)
        if parsed.generator == "sql":
            report = run_sql(node.dsn(), seed, limits)
            parsed.findings.parent.mkdir(parents=True, exist_ok=True)
            report.write(parsed.findings, seed)
            print(
                f"{report.done} statements, {len(report.found)} kinds of difference:"
                f" {parsed.findings}"
            )
            return 1 if report.found else 0
        if parsed.generator == "bytes":
            share = Limits(seconds=parsed.seconds * DECODER_SHARE, count=parsed.count)
            print(f"{run_decoders(seed, share)} cases in process")
        run = run_bytes if parsed.generator == "bytes" else run_messages
        print(f"{run(target, seed, limits)} cases")
        target.check()
    return 0


if __name__ == "__main__":
    sys.exit(main())
