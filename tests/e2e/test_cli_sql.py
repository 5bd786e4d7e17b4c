"""``nodedb sql`` on a real node, beside psql where that is installed."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.node_process import NODEDB, PSQL, NodeProcess, running
from tests.e2e.test_process import wait_until

SETUP = """
CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL DEFAULT 'x', balance numeric(10,2));
CREATE UNIQUE INDEX account_name ON account (name);
INSERT INTO account VALUES (1, 'alice', 10.50), (2, E'two\\nlines', -3), (30, '日本', NULL);
"""


def url_of(node: NodeProcess) -> str:
    return f"postgresql://nodedb@{node.host}:{node.port}/nodedb"


def run_sql(
    node: NodeProcess, *arguments: str, script: str | None = None, url: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NODEDB, "sql", "--url", url or url_of(node), *arguments],
        input="" if script is None else script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def accounts(node: NodeProcess) -> NodeProcess:
    done = run_sql(node, script=SETUP)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "CREATE TABLE\nCREATE INDEX\nINSERT 0 3\n"
    return node


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM account ORDER BY id",
        "SELECT 1 WHERE false",
        "SELECT",
        "SELECT NULL AS nothing, true AS yes, interval '1 month 2 days' AS i, ARRAY[1,2] AS a",
        "SELECT now()::date - now()::date AS zero, 1.50::numeric AS n, 'x'::bytea AS b",
        "SELECT E'a\\nbb\\nc' AS \"three lines\", E'1\\n2' AS two, 5 AS n",
        "UPDATE account SET balance = balance WHERE id < 3",
        "BEGIN",
        "SHOW server_version",
        "COPY account TO STDOUT",
    ],
)
def test_it_prints_what_psql_prints(
    accounts: NodeProcess, needs_psql: None, statement: str
) -> None:
    ours = run_sql(accounts, "-c", statement)
    assert (ours.returncode, ours.stderr) == (0, "")
    assert ours.stdout == accounts.psql("-c", statement).stdout


def test_expanded_is_what_psql_prints(accounts: NodeProcess, needs_psql: None) -> None:
    for query in (
        "SELECT * FROM account ORDER BY id;\n",
        "SELECT 1 AS a_rather_long_column_name;\n",
        "SELECT 1 AS n FROM account WHERE false;\n",
    ):
        ours = run_sql(accounts, script=f"\\x\n{query}")
        theirs = accounts.psql(script=f"\\x\n{query}")
        assert ours.stdout == theirs.stdout, query


def test_errors_are_shown_as_psql_shows_them(accounts: NodeProcess, needs_psql: None) -> None:
    assert PSQL is not None
    for statement in (
        "SELECT nosuch FROM account",
        "SELECT 1,\n  2 +\n  nosuch()",
        "INSERT INTO account VALUES (1, 'again')",
        "SELEC 1",
    ):
        ours = run_sql(accounts, "-c", statement)
        theirs = accounts.psql("-c", statement, check=False)
        assert ours.returncode == 1
        assert ours.stderr == theirs.stderr


def test_a_script_stops_at_its_first_error_and_says_where(
    accounts: NodeProcess, tmp_path: Path
) -> None:
    script = tmp_path / "script.sql"
    script.write_text("SELECT 1;\n\nSELECT\n  nosuch;\nDELETE FROM account;\n")
    done = run_sql(accounts, "-f", str(script))
    assert done.returncode == 1
    assert done.stderr.startswith(f'{script}:4: ERROR:  column "nosuch" does not exist\n')
    assert run_sql(accounts, "-c", "SELECT count(*) FROM account").stdout.split()[2] == "3"
    missing = run_sql(accounts, "-f", str(tmp_path / "missing.sql"))
    assert (missing.returncode, missing.stderr) == (
        1,
        f"nodedb: {tmp_path}/missing.sql: No such file or directory\n",
    )


def test_scripts_with_data_and_commands(accounts: NodeProcess, tmp_path: Path) -> None:
    included = tmp_path / "included.sql"
    included.write_text("SELECT 'included';")
    script = (
        "COPY account FROM STDIN;\n40\tcopied;\t1\n50\ttoo\t\\N\n\\.\n"
        f"\\i {included}\n\\timing on\nSELECT count(*) FROM account\n"
    )
    done = run_sql(accounts, script=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("COPY 2\n")
    assert "included" in done.stdout
    assert "     5\n" in done.stdout
    assert "Time: " in done.stdout
    stopped = run_sql(accounts, script="\\q\nSELECT nosuch;")
    assert (stopped.returncode, stopped.stdout) == (0, "")


def test_formats(accounts: NodeProcess) -> None:
    query = "SELECT id, name, balance FROM account WHERE id <> 2 ORDER BY id"
    rows = json.loads(run_sql(accounts, "--format", "json", "-c", query).stdout)
    assert rows == [
        {"id": "1", "name": "alice", "balance": "10.50"},
        {"id": "30", "name": "日本", "balance": None},
    ]
    csv = run_sql(accounts, "--format", "csv", "-c", query).stdout
    assert csv == "id,name,balance\n1,alice,10.50\n30,日本,\n"


def test_lists(accounts: NodeProcess) -> None:
    run_sql(accounts, "-c", "CREATE VIEW rich AS SELECT * FROM account WHERE balance > 100")
    tables = run_sql(accounts, script="\\dt").stdout
    assert "account" in tables
    assert "rich" not in tables
    assert "pg_class" not in tables
    described = run_sql(accounts, script="\\d account").stdout
    assert 'Table "public.account"' in described
    assert "numeric(10,2)" in described
    assert '"account_pkey" PRIMARY KEY, btree (id)' in described
    assert '"account_name" UNIQUE, btree (name)' in described
    assert "rich" in run_sql(accounts, script="\\dv r*").stdout
    for command in (
        "\\l",
        "\\dn",
        "\\du",
        "\\di",
        "\\d",
        "\\conninfo",
        "\\?",
        "\\d pg_catalog.pg_class",
    ):
        done = run_sql(accounts, script=command)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout, command
    unknown = run_sql(accounts, script="\\nosuch")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "invalid command \\nosuch\nTry \\? for help.\n",
    )
    nothing = run_sql(accounts, script="\\d no'such\\")
    assert nothing.stderr == 'Did not find any relation named "no\'such\\".\n'


def test_notices_and_notifications(node: NodeProcess) -> None:
    done = run_sql(node, script="DROP TABLE IF EXISTS nosuch; LISTEN c; NOTIFY c, 'hello'")
    assert 'NOTICE:  table "nosuch" does not exist, skipping' in done.stderr
    assert 'Asynchronous notification "c" with payload "hello" received' in done.stdout


def test_no_connection(node: NodeProcess) -> None:
    done = run_sql(node, "-c", "SELECT 1", url="postgresql://127.0.0.1:1/nodedb")
    assert done.returncode == 2
    assert done.stderr == "nodedb: could not connect: 127.0.0.1:1: Connection refused\n"
    # The next host of the list is tried.
    both = f"postgresql://127.0.0.1:1,{node.host}:{node.port}/nodedb"
    assert run_sql(node, "-c", "SELECT 1", url=both).returncode == 0
    bad = run_sql(node, "-c", "SELECT 1", url="postgresql://x:y/z")
    assert (bad.returncode, "HOST:PORT" in bad.stderr) == (2, True)
    database = run_sql(node, "-c", "SELECT 1", url=url_of(node) + "x")
    assert (database.returncode, database.stderr) == (
        1,
        'nodedb: database "nodedbx" does not exist\n',
    )


def test_passwords(store: Path) -> None:
    with running(store, insecure=False) as node:
        password = (store / "initial-password").read_text().strip()
        none = run_sql(node, "-c", "SELECT 1")
        assert none.returncode == 2
        assert "asks for the password" in none.stderr
        wrong = run_sql(
            node, "-c", "SELECT 1", url=f"postgresql://nodedb:no@{node.host}:{node.port}/nodedb"
        )
        assert (wrong.returncode, "password authentication failed" in wrong.stderr) == (1, True)
        right = f"postgresql://nodedb:{password}@{node.host}:{node.port}/nodedb"
        assert run_sql(node, "-c", "SELECT 1", url=right).returncode == 0


def test_interrupting_a_script_cancels_its_statement(node: NodeProcess) -> None:
    process = subprocess.Popen(
        [NODEDB, "sql", "--url", url_of(node), "-c", "SELECT pg_sleep(60)"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with node.connect() as watcher:
        wait_until(
            lambda: (
                watcher.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                    "AND query = 'SELECT pg_sleep(60)'"
                ).fetchone()
                == (1,)
            ),
            "the query runs",
        )
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors == "ERROR:  canceling statement due to user request\n"


class Terminal:
    """``nodedb sql`` at a pseudo terminal."""

    def __init__(self, node: NodeProcess, home: Path) -> None:
        environment = os.environ | {
            "HOME": str(home),
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [NODEDB, "sql", "--url", url_of(node)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Read until a text is shown, then forget everything up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._master], [], [], max(left, 0))
            assert readable, f"not shown: {text!r} in {self.shown!r}"
            self.shown += os.read(self._master, 65536).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]

    def wait_end(self) -> int:
        deadline = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < deadline:
            readable, _, _ = select.select([self._master], [], [], 0.1)
            if readable:
                try:
                    os.read(self._master, 65536)
                except OSError:
                    break
        return self._process.wait(5)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)


def test_at_a_terminal(accounts: NodeProcess, tmp_path: Path) -> None:
    terminal = Terminal(accounts, tmp_path)
    try:
        terminal.wait_for("nodedb=>")
        # A statement over two lines runs at its semicolon.
        terminal.type("SELECT name\r")
        terminal.wait_for("nodedb->")
        terminal.type("FROM account WHERE id = 1;\r")
        terminal.wait_for("alice")
        terminal.wait_for("nodedb=>")
        # Tab completes the only table that begins so.
        terminal.type("SELECT count(*) FROM acco\t")
        terminal.wait_for("unt")
        terminal.type(";\r")
        terminal.wait_for("(1 row)")
        terminal.wait_for("nodedb=>")
        terminal.type("BEGIN;\r")
        terminal.wait_for("nodedb=*>")
        terminal.type("SELECT nosuch;\r")
        terminal.wait_for("ERROR")
        terminal.wait_for("nodedb=!>")
        terminal.type("ROLLBACK;\r")
        terminal.wait_for("nodedb=>")
        # Ctrl-C ends the statement, not the shell.
        terminal.type("SELECT pg_sleep(60);\r")
        with accounts.connect() as watcher:
            wait_until(
                lambda: (
                    watcher.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                        "AND query = 'SELECT pg_sleep(60)'"
                    ).fetchone()
                    == (1,)
                ),
                "the query runs",
            )
        os.kill(terminal._process.pid, signal.SIGINT)
        terminal.wait_for("canceling statement due to user request")
        terminal.wait_for("nodedb=>")
        terminal.type("\\q\r")
        assert terminal.wait_end() == 0
    finally:
        terminal.close()
    history = tmp_path / ".nodedb_history"
    assert "FROM account WHERE id = 1;" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
