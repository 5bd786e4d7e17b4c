"""Records what PostgreSQL 15 answers to the corpus, into ``recorded/*.jsonl``.

Starts a server of its own in a temporary folder (as an unprivileged user when run by root), with
the same superuser name and settings as a node. Usage: ``python tests/oracle/record.py [NN ...]``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner import Answer, Server, run_file
from statements import RECORDED, Statement, corpus_files, read_statements

if TYPE_CHECKING:
    from collections.abc import Iterator
from contextlib import contextmanager

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
START_SECONDS_MAX: Final = 30


def free_port() -> int:
    """Return a TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run a PostgreSQL server for the length of the block."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="oracle_pg_"))
    if prefix:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    subprocess.run(
        [*prefix, BINARIES / "initdb", "-D", data, "-U", "nodedb", "-A", "trust", "-E", "UTF8",
         "--locale=C.UTF-8", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, env=environment, cwd=folder,
    )  # fmt: skip
    port = free_port()
    process = subprocess.Popen(
        [*prefix, BINARIES / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port),
         "-k", folder, "-c", "fsync=off", "-c", "timezone=UTC", "-c", "log_timezone=UTC"],
        stderr=(folder / "log").open("wb"), stdout=subprocess.DEVNULL, env=environment, cwd=folder,
    )  # fmt: skip
    server = Server("127.0.0.1", port, user="nodedb", maintenance="postgres")
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                server.administer("create database nodedb")
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        subprocess.run(
            [*prefix, BINARIES / "pg_ctl", "stop", "-D", data, "-m", "fast"],
            check=False, stdout=subprocess.DEVNULL, env=environment, cwd=folder,
        )  # fmt: skip
        process.wait(timeout=START_SECONDS_MAX)
        shutil.rmtree(folder, ignore_errors=True)


def _is_error(answer: Answer) -> bool:
    return "error" in answer.get("simple", {})


def record_file(server: Server, path: Path) -> list[tuple[Statement, Answer]]:
    """Run one corpus file and write its answers; returns them."""
    statements = read_statements(path)
    answers = list(run_file(server, path.stem, statements))
    lines = [
        json.dumps({"sql": statement.sql, **answer}, ensure_ascii=False, separators=(",", ":"))
        for statement, answer in zip(statements, answers, strict=True)
    ]
    (RECORDED / f"{path.stem}.jsonl").write_text("".join(line + "\n" for line in lines))
    return list(zip(statements, answers, strict=True))


def main(chosen: list[str]) -> None:
    """Record all files, or those whose names start with one of `chosen`."""
    total = errors = 0
    with postgresql() as server:
        for path in corpus_files():
            if chosen and not path.stem.startswith(tuple(chosen)):
                continue
            pairs = record_file(server, path)
            failed = sum(_is_error(answer) for _, answer in pairs)
            total += len(pairs)
            errors += failed
            print(f"{path.stem}: {len(pairs)} statements, {failed} errors")
    print(f"{total} statements, {errors} errors")


if __name__ == "__main__":
    main(sys.argv[1:])
