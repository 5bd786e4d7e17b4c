"""Record what a PostgreSQL 15 server says about the statements of ``analysis.golden``.

Run: ``python tests/unit/sql/binder/record_answers.py "host=... dbname=..." [file with further
statements]``. The database is for this alone: the tables of ``binder_schema.DDL`` are dropped and
made again. Statements on whose answer the two differ are printed and left out, so a reviewer sees
every deviation.
"""

import sys
from pathlib import Path

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

ROOT = Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lib"), str(Path(__file__).parent)]

from analysis import answer, read_golden, write_golden  # noqa: E402
from binder_schema import DDL, make_catalog  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "binder" / "analysis.golden"
OBJECTS = ("view v", "view vg", "table t", "table u", "table g", "table j", "sequence seq")


def server_answer(connection: psycopg.Connection, statement: str) -> str:
    """Prepare and describe: parse analysis without execution."""
    result = connection.pgconn.prepare(b"", statement.encode())
    if result.status == ExecStatus.COMMAND_OK:
        result = connection.pgconn.describe_prepared(b"")
    if result.status != ExecStatus.COMMAND_OK:

        def field(code: DiagnosticField) -> str:
            return (result.error_field(code) or b"").decode()

        lines = [
            f"error {field(DiagnosticField.SQLSTATE)} "
            f"{field(DiagnosticField.STATEMENT_POSITION) or 0} "
            f"{field(DiagnosticField.MESSAGE_PRIMARY)}"
        ]
        for word, code in (
            ("detail", DiagnosticField.MESSAGE_DETAIL),
            ("hint", DiagnosticField.MESSAGE_HINT),
        ):
            if field(code):
                lines.append(f"{word} {field(code)}")
        return "\n".join(lines)
    columns = [
        f"{result.fname(i).decode()}:{result.ftype(i)}:{result.fmod(i)}:{result.ftablecol(i)}"
        for i in range(result.nfields)
    ]
    parameters = [str(result.param_type(i)) for i in range(result.nparams)]
    return f"ok {' '.join(columns)} / {' '.join(parameters)}".strip()


def main() -> None:
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        for kind_and_name in OBJECTS:
            kind, name = kind_and_name.split()
            connection.execute(f"drop {kind} if exists {name} cascade")
        connection.execute(DDL)
        statements = [s for s, _ in read_golden(GOLDEN)] if GOLDEN.exists() else []
        for extra in sys.argv[2:]:
            statements += [s.strip() for s in Path(extra).read_text().splitlines() if s.strip()]
        catalog = make_catalog()
        same = []
        for statement in dict.fromkeys(statements):
            expected, ours = server_answer(connection, statement), answer(statement, catalog)
            if expected == ours:
                same.append((statement, expected))
            else:
                print(f"{statement}\n  server {expected}\n  ours   {ours}")
    write_golden(GOLDEN, same)
    print(f"{len(same)} recorded")


if __name__ == "__main__":
    main()
