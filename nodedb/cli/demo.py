"""``nodedb demo``: a cluster of real nodes in one terminal, for trying things out.

Each node is a child process with a port of its own for everything, insecure on loopback. They end
with this command, by SIGTERM; with ``--dir`` the data stays and the next demo goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nodedb.cli.failure import CommandFailed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_HOST: Final = "127.0.0.1"
_READY: Final = re.compile(rb"^ready .*?sql=(\S+) http=(\S+)", re.M)
_READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 40.0
_NODES_MAX: Final = 9
_LOG_LINES_SHOWN: Final = 15


class Ports(NamedTuple):
    """The ports of one node."""

    sql: int
    http: int
    rpc: int


def add_parser(commands: Any) -> None:
    """Add ``demo``."""
    demo = commands.add_parser("demo", help="a cluster in one terminal, with a shell")
    demo.add_argument("--nodes", type=int, default=3, metavar="N", help="how many (default 3)")
    demo.add_argument("--dir", metavar="DIR", help="keep the data here (default: a temporary one)")


def run(arguments: argparse.Namespace) -> int:
    """Start the nodes, open the shell or wait for the end of standard input, stop the nodes."""
    count = arguments.nodes
    if not 1 <= count <= _NODES_MAX:
        raise CommandFailed(f"--nodes must be 1 to {_NODES_MAX}")
    directory = Path(arguments.dir or tempfile.mkdtemp(prefix="nodedb-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    demo = Demo(directory, ports_for(directory, count))
    # A closed terminal or a supervisor's SIGTERM must not leave the nodes behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        demo.start()
        for url in demo.wait_ready():
            print(url, flush=True)
        print(f"logs and data: {directory}", flush=True)
        return _serve(demo)
    except KeyboardInterrupt:
        return 0
    finally:
        # A second Ctrl-C shall not interrupt the cleaning up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.stop()
        if not arguments.dir:
            shutil.rmtree(directory, ignore_errors=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _serve(demo: Demo) -> int:
    if sys.stdin.isatty():
        return _shell(demo.urls)
    print("ready; ends with its standard input or by SIGTERM", flush=True)
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 65536):
            return 0
        demo.check()


def _shell(urls: list[str]) -> int:
    from nodedb.cli.address import parse_sql_url  # noqa: PLC0415  only at a terminal
    from nodedb.cli.prompt import prompt_until_quit  # noqa: PLC0415
    from nodedb.cli.shell import Shell  # noqa: PLC0415
    from nodedb.cli.sql_client import SqlClient  # noqa: PLC0415

    hosts = ",".join(url.split("@")[1].partition("/")[0] for url in urls)
    client = SqlClient(parse_sql_url(f"postgresql://nodedb@{hosts}/nodedb"))
    try:
        return prompt_until_quit(Shell(client, sys.stdout, sys.stderr))
    finally:
        client.close()


def ports_for(directory: Path, count: int) -> list[Ports]:
    """Return each node's ports: those of the last demo in the directory, or free ones.

    A node that joins by address must be found there again after a restart.
    """
    path = directory / "ports"
    if path.exists():
        lines = path.read_text(encoding="ascii").split("\n")
        found = [Ports(*map(int, line.split())) for line in lines if line]
    else:
        found = []
    if len(found) < count:
        free = iter(_free_ports(3 * (count - len(found))))
        found += [Ports(next(free), next(free), next(free)) for _ in range(count - len(found))]
        path.write_text("".join(f"{p.sql} {p.http} {p.rpc}\n" for p in found), encoding="ascii")
    return found[:count]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((_HOST, 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in sockets]


def node_command(store: Path, ports: Ports, join: list[int]) -> list[str]:
    """Return the command line of one node; ``join``: rpc ports of all, empty for one by itself."""
    command = [sys.executable, "-m", "nodedb", "start", "--store", str(store), "--insecure"]
    for name, port in ports._asdict().items():
        command += [f"--{name}-addr", f"{_HOST}:{port}"]
    if join:
        command += ["--join", ",".join(f"{_HOST}:{port}" for port in join)]
    return command


class Demo:
    """The child processes."""

    def __init__(
        self,
        directory: Path,
        ports: list[Ports],
        command: Callable[[Path, Ports, list[int]], list[str]] = node_command,
    ) -> None:
        self._directory = directory
        self._ports = ports
        self._command = command
        self._processes: list[subprocess.Popen[bytes]] = []
        self.urls: list[str] = []

    @property
    def process_ids(self) -> list[int]:
        """The nodes' processes, in the order of their numbers."""
        return [process.pid for process in self._processes]

    def start(self) -> None:
        """Start all at once; they find each other."""
        join = [ports.rpc for ports in self._ports] if len(self._ports) > 1 else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NODEDB_")}
        for number, ports in enumerate(self._ports, 1):
            store = self._directory / f"node{number}"
            with self._log_path(number).open("ab") as log:
                process = subprocess.Popen(  # noqa: S603  our own command
                    self._command(store, ports, join),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                    # Ctrl-C in the terminal is for the shell, not for the nodes.
                    start_new_session=True,
                )
            self._processes.append(process)

    def wait_ready(self, seconds: float = _READY_SECONDS) -> list[str]:
        """Wait for every ready line; returns the SQL URLs. Raises CommandFailed."""
        deadline = time.monotonic() + seconds  # noqa: TID251  a person waits
        for number, process in enumerate(self._processes, 1):
            self.urls.append(self._wait_line(number, process, deadline))
        return self.urls

    def _wait_line(self, number: int, process: subprocess.Popen[bytes], deadline: float) -> str:
        assert process.stdout is not None
        written = b""
        while (found := _READY.search(written)) is None:
            left = deadline - time.monotonic()  # noqa: TID251  a person waits
            readable, _, _ = select.select([process.stdout], [], [], max(left, 0))
            chunk = os.read(process.stdout.fileno(), 4096) if readable else b""
            if not chunk:
                why = "ended" if readable else "is not ready in time"
                raise CommandFailed(f"node {number} {why}:\n{self._log_tail(number)}")
            written += chunk
        return found[1].decode()

    def check(self) -> None:
        """Raise CommandFailed if a node has ended by itself."""
        for number, process in enumerate(self._processes, 1):
            if process.poll() is not None:
                status = process.returncode
                raise CommandFailed(f"node {number} ended ({status}):\n{self._log_tail(number)}")

    def stop(self) -> None:
        """SIGTERM to all, wait; who does not end in time is killed."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS  # noqa: TID251  a person waits
        for process in self._processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))  # noqa: TID251
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()

    def _log_path(self, number: int) -> Path:
        return self._directory / f"node{number}.log"

    def _log_tail(self, number: int) -> str:
        lines = self._log_path(number).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES_SHOWN:])
