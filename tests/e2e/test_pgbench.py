"""pgbench runs unmodified: initialisation, its three scripts, every protocol mode."""

import os
import re
import shutil
import subprocess

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess

PGBENCH = shutil.which("pgbench")
CLIENTS = 4
TRANSACTIONS = 25
pytestmark = pytest.mark.skipif(PGBENCH is None, reason="pgbench is not installed")


def pgbench(node: NodeProcess, *arguments: str) -> str:
    """Run pgbench; returns what it printed."""
    assert PGBENCH is not None
    address = {
        "PGHOST": node.host,
        "PGPORT": str(node.port),
        "PGUSER": "nodedb",
        "PGDATABASE": "nodedb",
        "PGSSLMODE": "disable",
    }
    done = subprocess.run(
        [PGBENCH, *arguments],
        env=os.environ | address,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("steps", ["dtgvp", "dtGp", "dtgpf"])
def test_initialisation(node: NodeProcess, connection: psycopg.Connection, steps: str) -> None:
    pgbench(node, "-i", "-q", "-s", "1", "-I", steps)
    counts = [
        connection.execute(f"SELECT count(*) FROM pgbench_{name}").fetchone()
        for name in ("accounts", "tellers", "branches")
    ]
    assert counts == [(100_000,), (10,), (1,)]


def test_every_script_in_every_mode(node: NodeProcess, connection: psycopg.Connection) -> None:
    pgbench(node, "-i", "-q", "-s", "1", "-I", "dtgp")
    writing = 0
    for script in ("-S", "-N", "-b tpcb-like"):
        for mode in ("simple", "extended", "prepared"):
            size = ("-c", str(CLIENTS), "-t", str(TRANSACTIONS), "-M", mode)
            printed = pgbench(node, "-n", *script.split(), *size)
            done = re.search(r"transactions actually processed: (\d+)/(\d+)", printed)
            assert done is not None, printed
            assert done[1] == done[2] == str(CLIENTS * TRANSACTIONS)
            writing += CLIENTS * TRANSACTIONS if script != "-S" else 0
    history = connection.execute("SELECT count(*), sum(delta) FROM pgbench_history").fetchone()
    balance = connection.execute("SELECT sum(abalance) FROM pgbench_accounts").fetchone()
    assert history is not None
    assert history[0] == writing
    assert balance == (history[1],)
