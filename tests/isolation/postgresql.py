"""A PostgreSQL 15 server of one's own, for recording; as an unprivileged user when run by root."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
START_SECONDS_MAX: Final = 30.0
# Vacuum takes locks of its own; scripts that mean a deadlock set when it is looked for.
_SETTINGS: Final = ("fsync=off", "autovacuum=off", "timezone=UTC", "max_prepared_transactions=0")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Run a server for the length of a block; yields libpq's connection string."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="isolation_pg_"))
    if prefix:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    initdb = ["-D", data, "-U", "nodedb", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run(
        [*prefix, BINARIES / "initdb", *initdb, "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, env=environment, cwd=folder,
    )  # fmt: skip
    port = _free_port()
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    process = subprocess.Popen(
        [*prefix, BINARIES / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port),
         "-k", folder, *settings],
        stderr=(folder / "log").open("wb"), stdout=subprocess.DEVNULL, env=environment, cwd=folder,
    )  # fmt: skip
    try:
        dsn = f"host=127.0.0.1 port={port} user=nodedb dbname=nodedb sslmode=disable"
        _create_database(dsn.replace("dbname=nodedb", "dbname=postgres"))
        yield dsn
    finally:
        subprocess.run(
            [*prefix, BINARIES / "pg_ctl", "stop", "-D", data, "-m", "fast"],
            check=False, stdout=subprocess.DEVNULL, env=environment, cwd=folder,
        )  # fmt: skip
        process.wait(timeout=START_SECONDS_MAX)
        shutil.rmtree(folder, ignore_errors=True)


def _create_database(dsn: str) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CREATE DATABASE nodedb")
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
