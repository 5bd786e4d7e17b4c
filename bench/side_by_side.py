"""How fast is a node against a PostgreSQL 15 on the same machine, disk and minute?

Both are started fresh on one disk; each benchmark warms both up, then alternates between them, so
that a slow minute of the machine hits both. Reported are medians and their ratio (nodedb /
PostgreSQL; above 1 is faster). Client and server share the machine, so absolute numbers mean
little; the ratio is the result.

Usage: ``make bench``, or
``python -m bench.side_by_side [--name NAME] [--seconds 10] [--rounds 3] [--full]``
"""

import argparse
import datetime
import io
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.servers import Server, Unavailable, find_program, nodedb, postgresql

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
SCALE = 10
ROWS = 1_000_000
COPY_CHUNK_ROWS = 10_000
WARM_UP_SECONDS = 2
SCRIPTS = {"select": ["-S"], "update": ["-N"], "tpcb": []}
AGGREGATE = "SELECT bucket, count(*), sum(amount), avg(amount), max(label) FROM big GROUP BY bucket"
_TPS = re.compile(r"^tps = ([0-9.]+)", re.M)

Measure = Callable[[Server, float], float]


@dataclass
class Outcome:
    """One benchmark's rates, higher is better."""

    name: str
    unit: str
    nodedb: list[float] = field(default_factory=list)
    postgresql: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def ratio(self) -> float | None:
        """nodedb / PostgreSQL, of medians."""
        if not self.nodedb or not self.postgresql:
            return None
        return statistics.median(self.nodedb) / statistics.median(self.postgresql)


def pgbench(*arguments: str, clients: int) -> Measure:
    """Return a measure of transactions per second."""
    threads = min(clients, os.cpu_count() or 1)
    program = find_program("pgbench")

    def measure(server: Server, seconds: float) -> float:
        command = [
            program,
            "-n",
            "-c",
            str(clients),
            "-j",
            str(threads),
            "-T",
            str(max(1, round(seconds))),
        ]
        done = subprocess.run(
            [*command, *arguments],
            env=server.environment(),
            capture_output=True,
            text=True,
            timeout=seconds * 4 + 60,
            check=False,
        )
        found = _TPS.search(done.stdout)
        if done.returncode != 0 or found is None:
            raise RuntimeError(f"pgbench on {server.name}: {done.stderr.strip()[-400:]}")
        return float(found[1])

    return measure


def copy_in(server: Server, _seconds: float) -> float:
    """Rows per second of COPY into an empty table with a primary key."""
    with server.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS big")
        connection.execute(
            "CREATE TABLE big (id int PRIMARY KEY, bucket int, amount numeric(10,2), label text)"
        )
        started = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("COPY big FROM STDIN") as copy:
            for chunk in copy_chunks():
                copy.write(chunk)
        return ROWS / (time.perf_counter() - started)


def copy_chunks() -> Iterator[bytes]:
    """Yield the rows of the big table as COPY text; the same for everybody."""
    for start in range(0, ROWS, COPY_CHUNK_ROWS):
        buffer = io.StringIO()
        for i in range(start, start + COPY_CHUNK_ROWS):
            buffer.write(f"{i}\t{i * 7919 % 1000}\t{i % 10_000}.{i % 100:02}\tlabel {i % 97}\n")
        yield buffer.getvalue().encode()


def aggregate(server: Server, _seconds: float) -> float:
    """Rows per second of an aggregate with GROUP BY over the big table."""
    with server.connect() as connection:
        connection.execute("SET statement_timeout = '10min'")
        started = time.perf_counter()
        rows = connection.execute(AGGREGATE).fetchall()
        elapsed = time.perf_counter() - started
    assert len(rows) == 1000
    return ROWS / elapsed


def benchmarks(*, full: bool) -> dict[str, tuple[str, Measure]]:
    """Return (unit, measure) by name in the order to run: select before anything has written."""
    found: dict[str, tuple[str, Measure]] = {}
    for script, flags in SCRIPTS.items():
        for mode in ("simple", "extended", "prepared") if full else ("simple", "prepared"):
            for clients in (1, 16):
                measure = pgbench(*flags, "-M", mode, clients=clients)
                found[f"{script}-{mode}-{clients}"] = ("tps", measure)
    found["copy"] = ("rows/s", copy_in)
    found["aggregate"] = ("rows/s", aggregate)
    return found


def initialise(server: Server) -> float:
    """Fill pgbench's tables, data made by the client; returns the seconds it took."""
    started = time.perf_counter()
    done = subprocess.run(
        [find_program("pgbench"), "-i", "-q", "-s", str(SCALE), "-I", "dtgp"],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"pgbench -i on {server.name}: {done.stderr.strip()[-400:]}")
    with server.connect() as connection:
        connection.execute("ANALYZE")
        if server.name == "postgresql":
            connection.execute("CHECKPOINT")
    return time.perf_counter() - started


def run_one(
    outcome: Outcome, measure: Measure, servers: list[Server], *, seconds: float, rounds: int
) -> None:
    """Warm both up, then alternate; a failure ends this benchmark only."""
    try:
        if measure is not copy_in:  # A million rows are their own warm-up.
            for server in servers:
                measure(server, WARM_UP_SECONDS)
        for number in range(rounds):
            ordered = servers if number % 2 == 0 else servers[::-1]
            for server in ordered:
                getattr(outcome, server.name).append(measure(server, seconds))
    except Exception as error:  # noqa: BLE001  reported in the table; the others still run
        outcome.failure = f"{type(error).__name__}: {error}"


def machine() -> dict[str, object]:
    """Return what the numbers depend on."""
    model = ""
    if (info := Path("/proc/cpuinfo")).exists():
        match = re.search(r"model name\s*:\s*(.+)", info.read_text())
        model = match[1] if match else ""
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def commit() -> str:
    """Return the commit, with a plus when the work tree differs from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def print_line(outcome: Outcome) -> None:
    """Print one line of the table."""
    if outcome.failure or outcome.ratio is None:
        print(f"{outcome.name:<24} failed: {outcome.failure}", flush=True)
        return
    ours, theirs = statistics.median(outcome.nodedb), statistics.median(outcome.postgresql)
    spread = max(
        (max(r) - min(r)) / statistics.median(r) for r in (outcome.nodedb, outcome.postgresql)
    )
    print(
        f"{outcome.name:<24} {ours:>12,.0f} {theirs:>12,.0f} {outcome.unit:<7}"
        f" {outcome.ratio:>6.2f}  {spread:>6.0%}",
        flush=True,
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--name", help="only benchmarks whose name contains this; several by commas"
    )
    parser.add_argument("--seconds", type=float, default=10, help="length of one pgbench run")
    parser.add_argument("--rounds", type=int, default=3, help="runs per system; the median counts")
    parser.add_argument("--full", action="store_true", help="also -M extended")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="where the data lies")
    return parser.parse_args()


def main() -> int:
    """Run what was asked for, print the table, write the JSON."""
    arguments = parse_arguments()
    try:
        chosen = benchmarks(full=arguments.full)
        find_program("initdb")
    except Unavailable as error:
        print(f"bench: {error}: PostgreSQL 15 is needed for comparison", file=sys.stderr)
        return 1
    if arguments.name:
        wanted = arguments.name.split(",")
        chosen = {name: one for name, one in chosen.items() if any(part in name for part in wanted)}
    if "aggregate" in chosen and "copy" not in chosen:
        chosen = {"copy": ("rows/s", copy_in)} | chosen
    if not chosen:
        print(f"bench: no benchmark is called {arguments.name}", file=sys.stderr)
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.folder))
    folder.chmod(0o755)
    try:
        return compare(chosen, arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(
    chosen: dict[str, tuple[str, Measure]], arguments: argparse.Namespace, folder: Path
) -> int:
    """Start both, run the benchmarks, report."""
    before = machine()
    outcomes = []
    preparation: dict[str, float] = {}
    with postgresql(folder / "postgresql") as theirs, nodedb(folder / "nodedb") as ours:
        if any(name.split("-")[0] in SCRIPTS for name in chosen):
            for server in (theirs, ours):
                preparation[server.name] = initialise(server)
                print(f"pgbench -i -s {SCALE} on {server.name}: {preparation[server.name]:.1f} s")
        print(
            f"{'':<24} {'nodedb':>12} {'PostgreSQL':>12} {'':<7} {'ratio':>6}  spread", flush=True
        )
        for name, (unit, measure) in chosen.items():
            outcome = Outcome(name, unit)
            rounds = 1 if measure is copy_in else arguments.rounds
            run_one(outcome, measure, [ours, theirs], seconds=arguments.seconds, rounds=rounds)
            print_line(outcome)
            outcomes.append(outcome)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    report = {
        "time": stamp,
        "commit": commit(),
        "machine": before,
        "scale": SCALE,
        "seconds": arguments.seconds,
        "warm_up_seconds": WARM_UP_SECONDS,
        "initialise_seconds": preparation,
        "results": [asdict(outcome) | {"ratio": outcome.ratio} for outcome in outcomes],
    }
    path = RESULTS / f"{stamp}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)}")
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
