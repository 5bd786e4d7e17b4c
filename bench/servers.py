"""The two servers of a comparison, each started from nothing on the same disk.

PostgreSQL runs with its default durability (fsync on, synchronous_commit on) as an unprivileged
user; nodedb as it comes.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

START_SECONDS = 60
USERS = ("postgres", "nobody")
BIN_FOLDERS = (
    "/usr/lib/postgresql/15/bin",
    "/usr/pgsql-15/bin",
    "/opt/homebrew/opt/postgresql@15/bin",
)
NODEDB = Path(sys.executable).with_name("nodedb")


class Unavailable(Exception):
    """What a benchmark needs is not installed."""


@dataclass(frozen=True)
class Server:
    """Where a server listens."""

    name: str
    port: int
    user: str
    database: str

    def environment(self) -> dict[str, str]:
        """Return the environment with which pgbench and psql find it."""
        return os.environ | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
        }

    def connect(self) -> psycopg.Connection:
        """Connect by psycopg, autocommit."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            dbname=self.database,
            sslmode="disable",
            autocommit=True,
        )


def find_program(name: str) -> str:
    """Return a PostgreSQL 15 program's path. Raises Unavailable."""
    for folder in BIN_FOLDERS:
        if (path := Path(folder) / name).exists():
            return str(path)
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Server]:
    """Run a fresh PostgreSQL 15 for the length of a block."""
    initdb, postgres = find_program("initdb"), find_program("postgres")
    data, port = folder / "data", free_port()
    folder.mkdir(parents=True)
    drop = _unprivileged()
    if drop:
        shutil.chown(folder, drop["user"], drop["group"])
    options = ["--locale=C.UTF-8", "--encoding=UTF8", "--auth=trust", "--username=bench"]
    command = [initdb, *options, "--no-instructions", "-D", str(data)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **drop)
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [postgres, "-D", str(data), *arguments], stdout=log, stderr=log, cwd=folder, **drop
        )
    try:
        server = Server("postgresql", port, "bench", "postgres")
        _wait_for(server, process, folder / "server.log")
        yield server
    finally:
        _end(process, signal.SIGINT)


@contextlib.contextmanager
def nodedb(folder: Path) -> Iterator[Server]:
    """Run a fresh node for the length of a block."""
    folder.mkdir(parents=True)
    port = free_port()
    flags = [
        "--sql-addr",
        f"127.0.0.1:{port}",
        "--http-addr",
        "127.0.0.1:0",
        "--rpc-addr",
        "127.0.0.1:0",
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(NODEDB), "start", "--store", str(folder / "store"), "--insecure", *flags],
            stdout=log,
            stderr=log,
        )
    try:
        server = Server("nodedb", port, "nodedb", "nodedb")
        _wait_for(server, process, folder / "server.log")
        yield server
    finally:
        _end(process, signal.SIGTERM)


def _unprivileged() -> dict[str, object]:
    """Return Popen's arguments to leave root, which PostgreSQL refuses to run as."""
    if os.geteuid() != 0:
        return {}
    for name in USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Unavailable(f"none of the users {', '.join(USERS)} exists to run PostgreSQL as")


def _wait_for(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            server.connect().close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
