"""Which rows a query with FOR UPDATE or its kin locks, or why it may not have it.

``python -m tests.e2e.row_locks DSN`` asks a real PostgreSQL 15 and records its answers in
``recorded/row_locks.json``, with which the test compares ours.
"""

import json
import sys
from pathlib import Path

import psycopg

RECORDED = Path(__file__).parent / "recorded" / "row_locks.json"

SCHEMA = """
DROP VIEW IF EXISTS v1, v2, vg, vd, vu, vl, vj, vagg, vset, vw, vf CASCADE;
DROP TABLE IF EXISTS t, p CASCADE;
CREATE TABLE t (id int PRIMARY KEY, v int, u int);
INSERT INTO t SELECT i, 0, i FROM generate_series(1, 5) i;
CREATE TABLE p (id int PRIMARY KEY, tid int);
INSERT INTO p VALUES (1, 1), (2, 2);
CREATE VIEW v1 AS SELECT id, v FROM t WHERE id < 4;
CREATE VIEW v2 AS SELECT id AS k, v FROM v1;
CREATE VIEW vg AS SELECT v, count(*) FROM t GROUP BY v;
CREATE VIEW vd AS SELECT DISTINCT v FROM t;
CREATE VIEW vu AS SELECT id FROM t UNION ALL SELECT id FROM p;
CREATE VIEW vl AS SELECT * FROM t ORDER BY id LIMIT 2;
CREATE VIEW vj AS SELECT t.id, p.id AS pid FROM t JOIN p ON p.tid = t.id;
CREATE VIEW vagg AS SELECT count(*) FROM t;
CREATE VIEW vset AS SELECT generate_series(1, 2) g, id FROM t;
CREATE VIEW vw AS SELECT id, row_number() OVER () FROM t;
CREATE VIEW vf AS SELECT id FROM t WHERE id > 3 FOR SHARE;
"""

QUERIES = """
SELECT * FROM t FOR UPDATE
SELECT * FROM t ORDER BY id DESC LIMIT 2 FOR UPDATE
SELECT * FROM t ORDER BY v, id LIMIT 2 OFFSET 1 FOR UPDATE
SELECT * FROM t WHERE id = 3 FOR NO KEY UPDATE
SELECT * FROM t WHERE u = 3 FOR SHARE
SELECT * FROM t FOR UPDATE NOWAIT
SELECT * FROM t FOR UPDATE OF t FOR SHARE
SELECT * FROM t FOR KEY SHARE FOR UPDATE SKIP LOCKED
SELECT * FROM v1 FOR UPDATE
SELECT * FROM v1 WHERE id = 2 FOR UPDATE
SELECT * FROM v2 WHERE k = 3 FOR UPDATE
SELECT * FROM v2 FOR NO KEY UPDATE OF v2
SELECT * FROM v2 AS x WHERE k = 1 FOR UPDATE OF x
SELECT * FROM v2 LIMIT 1 FOR UPDATE
SELECT * FROM vg FOR UPDATE
SELECT * FROM vd FOR UPDATE
SELECT * FROM vu FOR UPDATE
SELECT * FROM vl FOR UPDATE
SELECT * FROM vl WHERE id = 2 FOR UPDATE
SELECT * FROM vj FOR UPDATE
SELECT * FROM vj FOR UPDATE OF vj
SELECT * FROM vagg FOR UPDATE
SELECT * FROM vset FOR UPDATE
SELECT * FROM vw FOR UPDATE
SELECT * FROM vf
SELECT * FROM vf WHERE id = 5 FOR UPDATE
SELECT * FROM (SELECT * FROM t WHERE id = 1) s FOR UPDATE
SELECT * FROM (SELECT * FROM t WHERE id = 1) s FOR UPDATE OF s
SELECT * FROM (SELECT v, count(*) FROM t GROUP BY v) s FOR UPDATE
SELECT * FROM (SELECT v, count(*) FROM t GROUP BY v) s, p FOR UPDATE OF p
SELECT * FROM (SELECT * FROM t UNION ALL SELECT * FROM t) s FOR UPDATE
SELECT * FROM (SELECT DISTINCT v FROM t) s FOR UPDATE
SELECT * FROM (SELECT * FROM t LIMIT 1) s FOR UPDATE
SELECT * FROM (SELECT * FROM t WHERE id < 3) s WHERE id = 2 FOR UPDATE
SELECT * FROM (SELECT * FROM t WHERE id < 4 FOR SHARE) s WHERE id = 1 FOR UPDATE
SELECT * FROM t, LATERAL (SELECT * FROM p WHERE p.tid = t.id) s FOR UPDATE
WITH w AS (SELECT * FROM t WHERE id = 1) SELECT * FROM w FOR UPDATE
WITH w AS (SELECT * FROM t WHERE id = 1 FOR UPDATE) SELECT * FROM w
WITH w AS (SELECT * FROM t WHERE id = 1) SELECT * FROM w FOR UPDATE OF w
WITH w AS (SELECT * FROM t WHERE id = 2 FOR UPDATE) SELECT 1
SELECT * FROM t JOIN p ON p.tid = t.id FOR UPDATE
SELECT * FROM t JOIN p ON p.tid = t.id FOR UPDATE OF p
SELECT * FROM t JOIN p ON true FOR UPDATE OF t NOWAIT FOR SHARE OF p SKIP LOCKED
SELECT * FROM t LEFT JOIN p ON p.tid = t.id WHERE t.id = 1 FOR UPDATE OF t
SELECT * FROM t LEFT JOIN p ON p.tid = t.id FOR UPDATE
SELECT * FROM t LEFT JOIN p ON p.tid = t.id FOR NO KEY UPDATE OF p
SELECT * FROM t LEFT JOIN p ON p.tid = t.id WHERE p.id = 1 FOR UPDATE
SELECT * FROM t FULL JOIN p ON p.tid = t.id FOR SHARE OF t
SELECT * FROM t RIGHT JOIN p ON p.tid = t.id FOR UPDATE OF p
SELECT * FROM t WHERE id IN (SELECT tid FROM p) FOR UPDATE
SELECT * FROM t WHERE id IN (SELECT tid FROM p FOR UPDATE)
SELECT * FROM t WHERE EXISTS (SELECT 1 FROM p WHERE p.tid = t.id FOR UPDATE OF p)
SELECT (SELECT v FROM t t2 WHERE t2.id = 1 FOR UPDATE)
SELECT DISTINCT v FROM t FOR UPDATE
SELECT v, count(*) FROM t GROUP BY v FOR UPDATE
SELECT count(*) FROM t FOR NO KEY UPDATE
SELECT v FROM t HAVING true FOR SHARE
SELECT * FROM t UNION SELECT * FROM t FOR KEY SHARE
SELECT row_number() OVER () FROM t FOR UPDATE
SELECT generate_series(1, 2) FROM t FOR UPDATE
VALUES (1) FOR UPDATE
SELECT * FROM t FOR UPDATE OF x
SELECT * FROM t x FOR UPDATE OF t
SELECT * FROM t, generate_series(1, 2) g FOR UPDATE OF g
SELECT * FROM t, generate_series(1, 2) g FOR UPDATE
SELECT * FROM generate_series(1, 2) FOR UPDATE
SELECT 1 FOR UPDATE
SELECT * FROM (VALUES (1)) x FOR UPDATE
SELECT * FROM (VALUES (1)) x FOR UPDATE OF x
SELECT a.id FROM t a JOIN t b ON a.id = b.id FOR UPDATE OF public.a
SELECT * FROM (t JOIN p ON p.tid = t.id) j FOR UPDATE OF j
""".strip().splitlines()


def outcome(dsn: str, observer: psycopg.Connection, query: str) -> dict[str, object]:
    """Run one query in a transaction; what it locks is what the observer finds locked."""
    with psycopg.connect(dsn) as connection:
        try:
            count = len(connection.execute(query).fetchall())
        except psycopg.Error as error:
            connection.rollback()
            return {"sqlstate": error.diag.sqlstate, "message": error.diag.message_primary}
        locked = {}
        for table in ("t", "p"):
            free = f"SELECT id FROM {table} FOR UPDATE SKIP LOCKED"
            taken = set(observer.execute(f"SELECT id FROM {table}").fetchall())
            taken -= set(observer.execute(free).fetchall())
            locked[table] = sorted(row[0] for row in taken)
        connection.rollback()
    return {"rows": count, "locked": locked}


def outcomes(dsn: str) -> dict[str, dict[str, object]]:
    """Return what comes of each query."""
    with psycopg.connect(dsn, autocommit=True) as observer:
        observer.execute("SET client_min_messages = error")
        observer.execute(SCHEMA)
        return {query: outcome(dsn, observer, query) for query in QUERIES}


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(outcomes(sys.argv[1]), indent=1) + "\n")
