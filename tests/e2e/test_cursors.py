"""Cursors as clients use them: computed row by row, in bounded memory, held past their commit."""

from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(60)

WIDE = "SELECT g, repeat('x', 200) FROM generate_series(1, 60000) g"
WIDE_BYTES = 60_000 * 200


def resident_bytes(node: NodeProcess) -> int:
    status = Path(f"/proc/{node.process_id}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_an_error_comes_with_its_row(connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("DECLARE c CURSOR FOR SELECT 6 / (g - 3) FROM generate_series(1, 5) g")
        assert connection.execute("FETCH 2 FROM c").fetchall() == [(-3,), (-6,)]
        with pytest.raises(errors.DivisionByZero):
            connection.execute("FETCH c")


def test_a_server_cursor_takes_parameters(connection: psycopg.Connection) -> None:
    with connection.transaction(), connection.cursor(name="named", scrollable=True) as cursor:
        cursor.execute("SELECT g, %s::text FROM generate_series(1, %s) g", ("a", 4))
        assert cursor.fetchmany(3) == [(1, "a"), (2, "a"), (3, "a")]
        cursor.scroll(-2)
        assert cursor.fetchall() == [(2, "a"), (3, "a"), (4, "a")]


def test_a_cursor_read_forward_keeps_little(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    with connection.transaction(), connection.cursor(name="wide") as cursor:
        cursor.itersize = 100
        cursor.execute(WIDE)
        first = next(cursor)
        before = resident_bytes(node)
        assert sum(1 for _ in cursor) == 59_999
        assert first == (1, "x" * 200)
        assert resident_bytes(node) - before < WIDE_BYTES


def test_backward_goes_as_far_as_rows_are_kept(connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(f"DECLARE plain CURSOR FOR {WIDE}")
        connection.execute(f"DECLARE scrolls SCROLL CURSOR FOR {WIDE}")
        for name in ("plain", "scrolls"):
            assert connection.execute(f"MOVE 50000 IN {name}").statusmessage == "MOVE 50000"
            assert connection.execute(f"FETCH RELATIVE -9 IN {name}").fetchone()[0] == 49_991
        assert connection.execute("FETCH ABSOLUTE 2 IN scrolls").fetchone()[0] == 2
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="only scan forward"):
            connection.execute("FETCH ABSOLUTE 2 IN plain")


def test_held_rows_are_those_of_the_commit(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE h AS SELECT g AS id FROM generate_series(1, 4) g")
    with connection.transaction():
        connection.execute("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM h ORDER BY id")
        assert connection.execute("FETCH c").fetchall() == [(1,)]
        connection.execute("DELETE FROM h")
    assert connection.execute("FETCH ALL c").fetchall() == [(2,), (3,), (4,)]
    assert connection.execute("FETCH PRIOR c").fetchall() == [(4,)]
    connection.execute("CLOSE c")


def test_what_cannot_be_held_fails_the_commit(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE k (id int)")
    with pytest.raises(errors.DivisionByZero), connection.transaction():
        connection.execute("INSERT INTO k VALUES (1)")
        connection.execute(
            "DECLARE c CURSOR WITH HOLD FOR SELECT 6 / (g - 3) FROM generate_series(1, 5) g"
        )
        assert connection.execute("FETCH c").fetchall() == [(-3,)]
    assert connection.execute("SELECT * FROM k").fetchall() == []
    assert connection.execute("SELECT name FROM pg_cursors WHERE name = 'c'").fetchall() == []


def test_a_forward_cursor_that_was_misused_cannot_go_on(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("DECLARE c NO SCROLL CURSOR WITH HOLD FOR VALUES (1), (2), (3)")
        connection.execute("FETCH c")
    assert connection.execute("FETCH c").fetchall() == [(2,)]
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="only scan forward"):
        connection.execute("FETCH PRIOR c")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match='portal "c" cannot be run'):
        connection.execute("FETCH c")
    connection.execute("CLOSE c")
