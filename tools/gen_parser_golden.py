"""Ask a PostgreSQL 15 server what it says to the statements of tests/golden/parser/rejected.sql.

Run as ``python tools/gen_parser_golden.py "host=127.0.0.1 user=postgres" > rejected.tsv``. A line
has SQLSTATE, position (0: none), message and statement. Nothing is executed: a division by zero
stands in front, and a text is parsed as a whole before its first statement runs.
"""

import sys
from pathlib import Path

import psycopg

GUARD = "select 1/0;"
SOURCE = Path(__file__).parent.parent / "tests" / "golden" / "parser" / "rejected.sql"
SQLSTATE, POSITION, MESSAGE = ord("C"), ord("P"), ord("M")


def main() -> None:
    """Print the table."""
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        for statement in SOURCE.read_text().splitlines():
            result = connection.pgconn.exec_((GUARD + statement).encode())
            sqlstate = (result.error_field(SQLSTATE) or b"").decode()
            position = int(result.error_field(POSITION) or 0)
            message = (result.error_field(MESSAGE) or b"").decode()
            place = position - len(GUARD) if position else 0
            print(sqlstate, place, message, statement, sep="\t")


if __name__ == "__main__":
    main()
