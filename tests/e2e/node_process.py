"""A real node as a child process: on free ports, stopped by its process id, its log at hand."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg

READY_SECONDS = 60.0
STOP_SECONDS = 45.0
ANY_PORT = "127.0.0.1:0"
_READY = re.compile(r"^ready sql=postgresql://nodedb@([^:]+):(\d+)/nodedb http=(http://\S+) ", re.M)
PSQL = shutil.which("psql")
NODEDB = Path(sys.executable).with_name("nodedb")
# FORWARD=1: every node forwards its clients' statements to itself, as it would to a leader elsewhere.
FORWARDS = bool(os.environ.get("FORWARD"))


class NodeFailed(Exception):
    """The process ended, or did not become ready in time; the message holds its log."""


class NodeProcess:
    """One ``nodedb start``. Starting again after ``kill`` or ``stop`` uses the same store."""

    def __init__(self, store: Path, *flags: str, insecure: bool = True) -> None:
        self.store = store
        self.flags = [*flags, *(["--insecure"] if insecure else [])]
        if FORWARDS and "--fault-injection" not in flags:
            self.flags.append("--fault-injection")
        self.log_path = store.with_name(store.name + ".log")
        self.host, self.port, self.http_url = "", 0, ""
        # Added to the next start's environment.
        self.environment: dict[str, str] = {"NODEDB_FAULT_FORWARD": "1"} if FORWARDS else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._output = b""
        self._connections: list[psycopg.Connection] = []

    # Life

    def command(self) -> list[str]:
        """Return the command line."""
        addresses = [
            part
            for name in ("sql", "http", "rpc")
            if f"--{name}-addr" not in self.flags
            for part in (f"--{name}-addr", ANY_PORT)
        ]
        return [str(NODEDB), "start", "--store", str(self.store), *addresses, *self.flags]

    def start(self, timeout: float = READY_SECONDS) -> "NodeProcess":
        """Start and wait for the ready line."""
        assert self._process is None, "started twice"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment() | self.environment,
            )
        self._output = b""
        self._wait_ready(time.monotonic() + timeout)
        return self

    def _wait_ready(self, deadline: float) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        while (found := _READY.search(self._output.decode())) is None:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([descriptor], [], [], max(left, 0))
            chunk = os.read(descriptor, 4096) if readable else b""
            if not chunk:
                # The pipe closes a moment before the process can be waited for.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0 if left > 0 else 0)
                status = process.returncode
                self.kill()
                why = "not ready in time" if left <= 0 else f"ended with {status}"
                raise NodeFailed(f"{' '.join(self.command())}: {why}\n{self.log()}")
            self._output += chunk
        self.host, self.port, self.http_url = found[1], int(found[2]), found[3]

    @property
    def process_id(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.process_id, number)

    def kill(self) -> None:
        """End the process with SIGKILL; harmless if it is gone."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Wait for the process to end by itself; returns its exit status."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NodeFailed(f"did not stop within {timeout:.0f} s\n{self.log()}") from None
        self._reap()
        return status

    def stop(self) -> int:
        """SIGTERM, then wait; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def _reap(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def log(self) -> str:
        """Return what the node wrote to stdout and stderr."""
        written = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return f"--- {self.log_path.name}\n{self._output.decode()}{written[-20_000:]}"

    # Clients

    def dsn(self, **more: object) -> str:
        """Return libpq's connection string."""
        settings = {
            "host": self.host,
            "port": self.port,
            "user": "nodedb",
            "dbname": "nodedb",
            "sslmode": "disable",
            "connect_timeout": 20,
        } | more
        return " ".join(f"{name}='{value}'" for name, value in settings.items())

    def connect(self, *, autocommit: bool = True, **more: object) -> psycopg.Connection:
        """Connect by psycopg."""
        connection = psycopg.connect(self.dsn(**more), autocommit=autocommit)
        self._connections.append(connection)
        return connection

    def close_connections(self) -> None:
        """Close what ``connect`` opened, so that nothing of a test stays locked."""
        while self._connections:
            self._connections.pop().close()

    def psql(
        self, *arguments: str, script: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run psql without its start-up file; the first error ends it."""
        assert PSQL is not None
        done = subprocess.run(
            [PSQL, "-X", self.dsn(), "-v", "ON_ERROR_STOP=1", *arguments],
            input=script,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"psql {arguments}: {done.stderr}\n{self.log()}")
        return done


def _environment() -> dict[str, str]:
    """Return our environment without settings of nodedb or libpq that would leak into a test."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("NODEDB_", "PG"))}


@contextlib.contextmanager
def running(store: Path, *flags: str, insecure: bool = True) -> Iterator[NodeProcess]:
    """Run a node for the length of a block; prints its log if the block fails."""
    node = NodeProcess(store, *flags, insecure=insecure)
    try:
        yield node.start()
    except BaseException:
        print(node.log())
        raise
    finally:
        node.kill()


def run_to_end(arguments: Sequence[str], timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run ``nodedb`` with arguments until it ends by itself."""
    return subprocess.run(
        [str(NODEDB), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=_environment(),
        check=False,
    )
