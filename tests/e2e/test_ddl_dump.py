"""pg_dump's output restores into the same schema and rows."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess

PG_DUMP = shutil.which("pg_dump")
SCHEMA = """
CREATE SCHEMA other;
CREATE SEQUENCE other.numbers START 5;
CREATE TABLE parent (id int PRIMARY KEY, code varchar(5) NOT NULL DEFAULT 'x' UNIQUE);
COMMENT ON TABLE parent IS 'the parent';
CREATE TABLE child (
    id bigint GENERATED ALWAYS AS IDENTITY,
    s serial,
    parent int REFERENCES parent ON DELETE SET NULL,
    n numeric(8,2) CHECK (n > 0),
    double int GENERATED ALWAYS AS (parent * 2) STORED
);
CREATE INDEX child_some ON child (lower('a'), n DESC) WHERE n > 1;
CREATE VIEW both_sides AS SELECT code, n FROM parent JOIN child ON child.parent = parent.id;
GRANT SELECT ON both_sides TO PUBLIC;
INSERT INTO parent VALUES (1, 'one'), (2, 'two');
INSERT INTO child (parent, n) VALUES (1, 1.50), (2, 3);
"""


def dump(node: NodeProcess, database: str) -> str:
    assert PG_DUMP is not None
    done = subprocess.run(
        [PG_DUMP, node.dsn(dbname=database)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # A random word guards each dump against psql's meta commands in it.
    return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.M)


@pytest.mark.skipif(PG_DUMP is None, reason="pg_dump is not installed")
@pytest.mark.usefixtures("needs_psql")
def test_a_dump_restores(node: NodeProcess, tmp_path: Path) -> None:
    with node.connect() as connection:
        connection.execute("CREATE DATABASE before")
        connection.execute("CREATE DATABASE after")
        try:
            node.psql("-q", "-d", node.dsn(dbname="before"), script=SCHEMA)
            text = dump(node, "before")
            script = tmp_path / "dump.sql"
            script.write_text(text)
            node.psql("-q", "-d", node.dsn(dbname="after"), "-f", str(script))
            assert dump(node, "after") == text
            assert "1\t1\t1\t1.50" in text
        finally:
            connection.execute("DROP DATABASE before")
            connection.execute("DROP DATABASE after")
