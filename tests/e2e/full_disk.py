"""Runs inside a mount namespace: fills a small file system through a node, then looks for what was acknowledged."""

import sys
from pathlib import Path

import psycopg

from tests.e2e.node_process import running

MIB = 1 << 20
FLAGS = ("--wal-segment-bytes", str(4 * MIB), "--map-bytes", str(64 * MIB), "--disk-reserve-bytes", str(2 * MIB))
ROWS_MAX = 5000


def main() -> None:
    """Fill the file system named by the argument; exits by AssertionError when something is lost."""
    disk = Path(sys.argv[1])
    store = disk / "store"
    acknowledged = 0
    state = None
    with running(store, *FLAGS) as node:
        with node.connect() as connection:
            connection.execute("CREATE TABLE big (id int PRIMARY KEY, v text)")
            try:
                for number in range(ROWS_MAX):
                    connection.execute(f"INSERT INTO big VALUES ({number}, repeat(md5('{number}'), 640))")
                    acknowledged = number + 1
            except psycopg.Error as error:
                state = error.sqlstate
        assert state == "53100", f"{state} after {acknowledged} rows\n{node.log()}"
        with node.connect() as connection:
            assert connection.execute("SELECT count(*) FROM big").fetchone() == (acknowledged,)
        assert "Traceback" not in node.log()
        node.kill()
    with running(store, *FLAGS) as node, node.connect() as connection:
        assert connection.execute("SELECT count(*) FROM big").fetchone() == (acknowledged,)
    print(f"{acknowledged} rows acknowledged, all there")
