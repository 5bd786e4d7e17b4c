"""Runs inside a mount namespace: fills a small file system through a node, then looks for what
was acknowledged.

Two rounds: with a reserve, writes are refused (53100) and the node goes on; without one, the disk
is full amid its own writes, and it may only refuse or stop. What was acknowledged is there
afterwards in both.
"""

import subprocess
import sys
from pathlib import Path

import psycopg

from tests.e2e.node_process import NodeProcess, running

MIB = 1 << 20
FLAGS = ("--wal-segment-bytes", str(4 * MIB), "--map-bytes", str(256 * MIB))
ROWS_MAX = 20_000


def fill(node: NodeProcess) -> tuple[int, str | None]:
    """Insert until refused; returns (rows acknowledged, SQLSTATE)."""
    acknowledged = 0
    with node.connect() as connection:
        connection.execute("CREATE TABLE big (id int PRIMARY KEY, v text)")
        try:
            for number in range(ROWS_MAX):
                connection.execute(
                    f"INSERT INTO big VALUES ({number}, repeat(md5('{number}'), 640))"
                )
                acknowledged = number + 1
        except psycopg.Error as error:
            return acknowledged, error.sqlstate
    raise AssertionError("the disk did not get full")


def check(node: NodeProcess, acknowledged: int) -> None:
    """Check that the rows are there; one whose outcome the client did not learn may be, too."""
    with node.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM big WHERE id < %s", (acknowledged,)
        ).fetchone()
        assert row == (acknowledged,), f"{row} of {acknowledged} acknowledged rows\n{node.log()}"


def with_reserve(store: Path) -> None:
    """Refused in time: the node lives, reads, and deletes."""
    flags = (*FLAGS, "--disk-reserve-bytes", str(16 * MIB))
    with running(store, *flags) as node:
        acknowledged, state = fill(node)
        assert state == "53100", f"{state} after {acknowledged} rows\n{node.log()}"
        check(node, acknowledged)
        assert "Traceback" not in node.log()
        node.kill()
    with running(store, *flags) as node:
        check(node, acknowledged)
        with node.connect() as connection:
            connection.execute("DELETE FROM big WHERE id < 10")


def without_reserve(disk: Path, store: Path) -> None:
    """The disk is full under the node's own hands."""
    with running(store, *FLAGS, "--disk-reserve-bytes", "0") as node:
        acknowledged, state = fill(node)
        assert state in ("53100", "58030", "57P01", "08006", None), f"{state}\n{node.log()}"
        assert "Traceback" not in node.log(), node.log()
        node.kill()
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    with running(store, *FLAGS, "--disk-reserve-bytes", "0") as node:
        check(node, acknowledged)


def main() -> None:
    """Fill the file system mounted at the argument; AssertionError when something is lost."""
    disk = Path(sys.argv[1])
    if sys.argv[2] == "reserve":
        with_reserve(disk / "store")
    else:
        without_reserve(disk, disk / "store")
