"""Write ``sql/ast/keywords.py`` from a PostgreSQL 15 server's ``pg_get_keywords()``.

Run as ``python tools/gen_keywords.py "host=127.0.0.1 user=postgres" > sql/ast/keywords.py``; the
output is committed, so that neither building nor running nodedb needs a PostgreSQL server.
"""

import sys

import psycopg

HEADER = '''"""PostgreSQL 15's key words by category. Written by tools/gen_keywords.py: do not edit.

``KEYWORDS`` has every word (lower case). The four categories decide where a word may stand as a
name: unreserved anywhere; col_name as a column, table or other object, not as a function or type;
type_func_name as a function or type only; reserved only after AS. ``BARE_LABELS`` are those a
select list takes as a label without AS. Source: PostgreSQL docs, appendix "SQL Key Words".
"""

from typing import Final
'''

CATEGORIES = {
    "U": "UNRESERVED",
    "C": "COL_NAME",
    "T": "TYPE_FUNC_NAME",
    "R": "RESERVED",
}


def table(name: str, words: list[str]) -> str:
    """Render one frozenset, filled to the line limit."""
    lines = [f"{name}: Final = frozenset(", '    """']
    line = "   "
    for word in words:
        if len(line) + 1 + len(word) > 100:
            lines.append(line)
            line = "   "
        line += " " + word
    lines += [line, '    """.split()  # noqa: SIM905', ")"]
    return "\n".join(lines)


def main() -> None:
    """Print the module."""
    with psycopg.connect(sys.argv[1]) as connection:
        rows = connection.execute(
            "select word, catcode::text, barelabel from pg_get_keywords() order by word"
        ).fetchall()
    print(HEADER)
    for code, name in CATEGORIES.items():
        print(table(name, [word for word, category, _ in rows if category == code]))
    print(table("BARE_LABELS", [word for word, _, bare in rows if bare]))
    print("KEYWORDS: Final = UNRESERVED | COL_NAME | TYPE_FUNC_NAME | RESERVED")


if __name__ == "__main__":
    main()
