"""Ask a PostgreSQL 15 server for the answers of tests/unit/sql/functions/cases.txt, in place.

Run: ``python tools/record_function_cases.py "host=... port=... user=..."``. Each case line is
followed by a line
``= answer``; prints the cases in which this code base differs.
"""

import sys
from pathlib import Path

import psycopg
import psycopg.types.string

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "unit" / "sql" / "functions" / "cases.txt"
sys.path.insert(0, str(CASES.parent))
import function_cases  # noqa: E402


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def ask(connection: psycopg.Connection, line: str) -> str:
    name, types, texts = function_cases.parse_case(line)
    function = function_cases.find_function(name, types)
    written = [
        f'{"NULL" if text is None else quoted(text)}::pg_catalog."{sql_type.name}"'
        for sql_type, text in zip(types, texts, strict=True)
    ]
    if function.variadic and function.arg_types[-1].is_array:
        written[-1] = "VARIADIC " + written[-1]
    arguments = ", ".join(written)
    called = f'pg_catalog."{name}"({arguments})'
    try:
        if function.returns_set and function.columns:
            rows = connection.execute(f"select f.* from {called} f").fetchall()
        elif function.returns_set:
            rows = connection.execute(f"select f::text from {called} f").fetchall()
        else:
            rows = connection.execute(f"select {called}::text").fetchall()
    except psycopg.Error as error:
        return f"{error.diag.sqlstate}: {error.diag.message_primary}"
    shown = [",".join("\\N" if v is None else str(v) for v in row) for row in rows]
    return "; ".join(shown).replace("\n", "\\n")


def main(dsn: str) -> None:
    out: list[str] = []
    differences = 0
    context = function_cases.make_context()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set timezone = 'America/New_York'")
        psycopg_text(connection)
        for line in CASES.read_text(encoding="utf-8").splitlines():
            if line.startswith("= "):
                continue
            out.append(line)
            if not line or line.startswith("#"):
                continue
            try:
                answer = ask(connection, line)
                own = function_cases.run_case(line, context)
            except Exception as error:  # noqa: BLE001
                own = f"{type(error).__name__}: {error}"
                answer = "?"
            out.append(f"= {answer}")
            if own != answer:
                differences += 1
                print(f"{line}\n  postgres {answer}\n  here     {own}")
    CASES.write_text("\n".join(out) + "\n", encoding="utf-8")
    print(differences, "differences")


def psycopg_text(connection: psycopg.Connection) -> None:
    """Show json and composite columns as the server writes them."""
    for name in ("json", "jsonb"):
        info = psycopg.types.TypeInfo.fetch(connection, name)
        connection.adapters.register_loader(info.oid, psycopg.types.string.TextLoader)


if __name__ == "__main__":
    main(sys.argv[1])
