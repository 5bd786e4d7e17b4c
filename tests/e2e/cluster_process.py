"""Real clusters as child processes: started in any order, killed, frozen, cut, asked by SQL."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import psycopg

from tests.e2e.node_process import NodeFailed, NodeProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

READY_SECONDS = 60.0
RECOVERY_SECONDS = 20.0


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, below the range the kernel gives out itself."""
    chosen: list[int] = []
    source = random.Random()
    while len(chosen) < count:
        port = source.randrange(12_000, 30_000)
        if port in chosen:
            continue
        with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                probe.bind(("127.0.0.1", port))
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
    return chosen


class ClusterProcess:
    """Nodes 1 to n by their place in the seed list; their ids are whatever the cluster gave them."""

    def __init__(self, directory: Path, size: int = 3, *flags: str) -> None:
        self.directory = directory
        ports = free_ports(size)
        self.rpc = [f"127.0.0.1:{port}" for port in sorted(ports)]
        self.nodes = [self.make_node(place, *flags) for place in range(size)]

    def make_node(self, place: int, *flags: str) -> NodeProcess:
        """Return the node at a place of the seed list, or behind it."""
        while len(self.rpc) <= place:
            self.rpc.append(f"127.0.0.1:{free_ports(1)[0]}")
        return NodeProcess(
            self.directory / f"node{place + 1}",
            "--rpc-addr",
            self.rpc[place],
            "--join",
            ",".join(self.rpc[: max(3, len(getattr(self, "nodes", ())))]),
            *flags,
        )

    def start(self, order: Sequence[int] = (), pauses: Sequence[float] = ()) -> ClusterProcess:
        """Start the nodes in an order of places with pauses between; wait until all are ready."""
        order = order or range(len(self.nodes))
        failures: list[BaseException] = []

        def run(place: int) -> None:
            try:
                self.nodes[place].start(READY_SECONDS)
            except (NodeFailed, OSError) as error:
                failures.append(error)

        threads = []
        for number, place in enumerate(order):
            thread = threading.Thread(target=run, args=(place,))
            thread.start()
            threads.append(thread)
            if number < len(pauses):
                time.sleep(pauses[number])
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return self

    def close(self) -> None:
        """Kill whatever runs."""
        for node in self.nodes:
            node.close_connections()
            node.kill()

    def logs(self) -> str:
        """Return the logs of all nodes."""
        return "\n".join(node.log() for node in self.nodes)

    # Asking

    def running(self) -> list[NodeProcess]:
        """Return the nodes whose process runs."""
        return [node for node in self.nodes if node._process is not None]

    def dsn(self, nodes: Sequence[NodeProcess] | None = None) -> str:
        """Return a connection string that names all nodes."""
        nodes = nodes or self.nodes
        hosts = ",".join(node.host for node in nodes)
        ports = ",".join(str(node.port) for node in nodes)
        return (
            f"host={hosts} port={ports} user=nodedb dbname=nodedb sslmode=disable connect_timeout=5"
        )

    def leader(self, group_id: int = 1, *, timeout: float = RECOVERY_SECONDS) -> NodeProcess:
        """Return the node that leads a group and says so itself."""

        def find() -> NodeProcess | None:
            for node in self.running():
                with contextlib.suppress(psycopg.Error):
                    found = query(node, "SELECT * FROM [SHOW RAFT GROUPS]")
                    if any(row[0] == group_id and row[1] == "leader" for row in found):
                        return node
            return None

        return wait_for(find, timeout, "a leader")

    def is_whole(self) -> bool:
        """Tell whether every running node knows a voter of both groups on each of the first three."""
        expected = min(len(self.nodes), 3)
        for node in self.running():
            text = "SELECT members FROM [SHOW RAFT GROUPS]"
            try:
                if any(row[0] < expected for row in query(node, text)):
                    return False
            except psycopg.Error:
                return False
        return True

    def node_ids(self) -> list[int]:
        """Return the ids of the nodes, by place."""
        return [int(dict(query(node, "SHOW CLUSTER"))["node_id"]) for node in self.nodes]


def query(node: NodeProcess, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a fresh connection."""
    with psycopg.connect(node.dsn(connect_timeout=5), autocommit=True) as connection:
        cursor = connection.execute(text, parameters or None)
        return cursor.fetchall() if cursor.description is not None else []


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until a condition is true; returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {seconds:.0f} s")
        time.sleep(0.02)


def http(
    node: NodeProcess, path: str, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """Ask a node's HTTP port; returns status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(node.http_url + path, data=data)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


@contextlib.contextmanager
def running_cluster(directory: Path, size: int = 3, *flags: str) -> Iterator[ClusterProcess]:
    """Run a cluster for the length of a block; prints its logs if the block fails."""
    cluster = ClusterProcess(directory, size, *flags)
    try:
        cluster.start()
        wait_for(cluster.is_whole, READY_SECONDS, "voter on every node")
        yield cluster
    except BaseException:
        print(cluster.logs())
        raise
    finally:
        cluster.close()


__all__ = [
    "ClusterProcess",
    "NodeFailed",
    "free_ports",
    "http",
    "query",
    "running_cluster",
    "wait_for",
]
