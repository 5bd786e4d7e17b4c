"""Write nodedb/catalog/virtual/columns_table.py and static_table.py from a PostgreSQL 15 server.

Usage: gen_virtual_columns.py "<psql arguments>". Columns: every table and view of pg_catalog and
information_schema with its OID, column names and types (domains as their base types with the
domain's modifier in parentheses, types nodedb does not have as text). Static rows: the contents of
catalogs that describe built-in types, access methods and collations, as COPY text, restricted to
known types.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from sql.types.catalog import all_types, type_by_name

OUTPUT = Path(__file__).parent.parent / "nodedb/catalog/virtual"
RELATIONS = """
select c.oid, n.nspname, c.relname, c.relkind,
  string_agg(a.attname || ':' || case when t.typtype = 'd' then b.typname else t.typname end
             || case when t.typtypmod >= 0 then '(' || t.typtypmod || ')' else '' end,
             ' ' order by a.attnum)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
left join pg_type b on b.oid = t.typbasetype
where n.nspname in ('pg_catalog', 'information_schema') and c.relkind in ('r', 'v') and a.attnum > 0
group by 1, 2, 3, 4 order by 2 desc, 3
"""
# An extension's view in PostgreSQL, here it is always there; and a view of our own.
OWN_VIEWS = (
    "12999 cv pg_stat_statements userid:oid dbid:oid queryid:int8 query:text calls:int8"
    " total_exec_time:float8 min_exec_time:float8 max_exec_time:float8 mean_exec_time:float8"
    " stddev_exec_time:float8 rows:int8",
    "12998 cv nodedb_ddl_audit metadata_index:int8 committed_at:timestamptz role_name:name pid:int4"
    " client_addr:text commands:_text",
)
KNOWN = ",".join(str(t.oid) for t in all_types())
COLLATIONS = "('default', 'C', 'POSIX', 'ucs_basic', 'C.utf8', 'en_US', 'und-x-icu')"
STATIC = {
    "pg_type": f"where oid in ({KNOWN})",
    "pg_am": "",
    "pg_opfamily": "where opfmethod in (403, 405)",
    "pg_opclass": f"where opcmethod in (403, 405) and opcintype in ({KNOWN})",
    "pg_amop": f"where amopmethod in (403, 405) and amoplefttype in ({KNOWN}) and amoprighttype in ({KNOWN})",
    "pg_collation": f"where collname in {COLLATIONS}",
    "pg_language": "",
    "pg_aggregate": "",
}
ALIASES = {"regproc": "oid", "regtype": "oid"}


def psql(arguments: list[str], query: str) -> list[str]:
    command = ["psql", *arguments, "-AtF", "\t", "-c", query]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def type_of(name: str) -> str:
    return name if type_by_name(name.partition("(")[0]) is not None else "text"


def columns_module(arguments: list[str]) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    lines, columns = [], {}
    for line in psql(arguments, RELATIONS):
        oid, schema, name, kind, text = line.split("\t")
        pairs = [tuple(part.split(":")) for part in text.split(" ")]
        columns[name] = pairs
        shown = " ".join(f"{column}:{type_of(type_name)}" for column, type_name in pairs)
        lines.append(f"{oid} {'i' if schema == 'information_schema' else 'c'}{kind} {name} {shown}")
    lines.extend(OWN_VIEWS)
    body = "\n".join(lines)
    return (
        '"""Columns of the system tables and views of PostgreSQL 15. Written by tools/gen_virtual_columns.py: do not edit.\n\n'
        "A line is ``oid kind name column:type ...``, a type modifier in parentheses; kind is c (pg_catalog) or i (information_schema), then r or v.\n"
        '"""\n\nfrom typing import Final\n\n# ruff: noqa: E501\n'
        f'COLUMNS: Final = """\\\n{body}\n"""\n'
    ), columns


def static_module(arguments: list[str], columns: dict[str, list[tuple[str, str]]]) -> str:
    parts = []
    for table, where in STATIC.items():
        chosen = ", ".join(
            f"{name}::oid" if kind in ALIASES else name for name, kind in columns[table]
        )
        order = "aggfnoid::oid" if table == "pg_aggregate" else "oid"
        rows = psql(
            arguments, f"copy (select {chosen} from {table} {where} order by {order}) to stdout"
        )
        text = "\n".join(rows).replace('"""', '\\"""')
        parts.append(f'    "{table}": r"""\n{text}\n""",')
    return (
        '"""Rows of catalogs that never change, as COPY text. Written by tools/gen_virtual_columns.py: do not edit."""\n\n'
        "from typing import Final\n\n# ruff: noqa: E501\nROWS: Final = {\n"
        + "\n".join(parts)
        + "\n}\n"
    )


def main() -> None:
    arguments = shlex.split(sys.argv[1])
    text, columns = columns_module(arguments)
    (OUTPUT / "columns_table.py").write_text(text)
    (OUTPUT / "static_table.py").write_text(static_module(arguments, columns))


if __name__ == "__main__":
    main()
