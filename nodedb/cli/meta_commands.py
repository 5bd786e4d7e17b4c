"""Backslash commands that list things, as queries on pg_catalog."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.cli.sql_client import ResultSet

HELP: Final = """\
General
  \\q              quit
  \\?              this help
  \\conninfo       the connection
  \\i FILE         run the statements of a file
  \\timing [on|off] show how long statements take
  \\x [on|off]     one line per value
Lists (PATTERN: name or schema.name, with * and ?)
  \\d [PATTERN]    tables, views and sequences; with a name its columns and indexes
  \\dt [PATTERN]   tables
  \\dv [PATTERN]   views
  \\di [PATTERN]   indexes
  \\ds [PATTERN]   sequences
  \\dn             schemas
  \\du             roles
  \\l              databases
"""

_RELATION_KINDS: Final = {
    "d": "'r','p','v','m','S'",
    "dt": "'r','p'",
    "dv": "'v'",
    "di": "'i'",
    "ds": "'S'",
}
_RELATIONS: Final = """\
SELECT n.nspname AS "Schema", c.relname AS "Name",
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence'
       END AS "Type",
       pg_catalog.pg_get_userbyid(c.relowner) AS "Owner"
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ({kinds}) AND {where}
 ORDER BY 1, 2"""
_ONE_RELATION: Final = """\
SELECT c.oid, n.nspname, c.relname, c.relkind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r','p','v','m','S','i') AND {where}
 ORDER BY 2, 3"""
_COLUMNS: Final = """\
SELECT a.attname AS "Column", pg_catalog.format_type(a.atttypid, a.atttypmod) AS "Type",
       CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS "Nullable",
       coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') AS "Default"
  FROM pg_catalog.pg_attribute a
       LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum"""
_INDEXES: Final = """\
SELECT c.relname, i.indisprimary, pg_catalog.pg_get_indexdef(i.indexrelid)
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = {oid}
 ORDER BY i.indisprimary DESC, c.relname"""
_CONSTRAINTS: Final = """\
SELECT conname, pg_catalog.pg_get_constraintdef(oid), contype
  FROM pg_catalog.pg_constraint
 WHERE conrelid = {oid} AND contype IN ('c', 'f')
 ORDER BY contype, conname"""
_DATABASES: Final = """\
SELECT d.datname AS "Name", pg_catalog.pg_get_userbyid(d.datdba) AS "Owner",
       pg_catalog.pg_encoding_to_char(d.encoding) AS "Encoding", d.datcollate AS "Collate",
       d.datctype AS "Ctype"
  FROM pg_catalog.pg_database d
 ORDER BY 1"""
_SCHEMAS: Final = """\
SELECT n.nspname AS "Name", pg_catalog.pg_get_userbyid(n.nspowner) AS "Owner"
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 1"""
_ROLES: Final = """\
SELECT r.rolname AS "Role name",
       CASE WHEN r.rolsuper THEN 'Superuser' WHEN NOT r.rolcanlogin THEN 'Cannot login' ELSE ''
       END AS "Attributes"
  FROM pg_catalog.pg_roles r
 WHERE r.rolname !~ '^pg_'
 ORDER BY 1"""
_HIDDEN_SCHEMAS: Final = (
    "n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' "
    "AND n.nspname <> 'nodedb_internal' AND n.nspname !~ '^pg_toast' "
    "AND pg_catalog.pg_table_is_visible(c.oid)"
)
_KIND_NAMES: Final = {
    "r": "Table",
    "p": "Partitioned table",
    "v": "View",
    "m": "Materialized view",
    "S": "Sequence",
    "i": "Index",
}


class UnknownCommand(Exception):
    """No such backslash command."""


class NothingFound(Exception):
    """Nothing is called that; the message is psql's."""


class Listing(NamedTuple):
    """A table to print: its title, its rows, and what replaces the number of rows."""

    title: str
    result: ResultSet
    footer: str


def listings(command: str, pattern: str, run: Callable[[str], ResultSet]) -> list[Listing]:
    """Return what a command shows. Raises UnknownCommand, NothingFound, SqlFailed."""
    name = command.rstrip("+S") or command
    if name == "d" and pattern:
        return _describe(pattern, run)
    if name in _RELATION_KINDS:
        statement = _RELATIONS.format(kinds=_RELATION_KINDS[name], where=where(pattern))
        result = run(statement)
        if not result.rows:
            known = f' named "{pattern}"' if pattern else "s"
            raise NothingFound(f"Did not find any relation{known}.")
        return [Listing("List of relations", result, "")]
    found = {
        "l": ("List of databases", _DATABASES),
        "dn": ("List of schemas", _SCHEMAS),
        "du": ("List of roles", _ROLES),
    }.get(name)
    if found is None:
        raise UnknownCommand(command)
    return [Listing(found[0], run(found[1]), "")]


def _describe(pattern: str, run: Callable[[str], ResultSet]) -> list[Listing]:
    relations = run(_ONE_RELATION.format(where=where(pattern))).rows
    if not relations:
        raise NothingFound(f'Did not find any relation named "{pattern}".')
    out = []
    for oid, schema, name, kind in relations:
        title = f'{_KIND_NAMES.get(kind or "", "Relation")} "{schema}.{name}"'
        columns = run(_COLUMNS.format(oid=oid))
        out.append(Listing(title, columns, _footer(str(oid), kind or "", run)))
    return out


def _footer(oid: str, kind: str, run: Callable[[str], ResultSet]) -> str:
    if kind not in {"r", "p", "m"}:
        return ""
    lines = []
    indexes = run(_INDEXES.format(oid=oid)).rows
    if indexes:
        lines.append("Indexes:")
    for name, is_primary, definition in indexes:
        text = definition or ""
        method = text[text.find(" USING ") + 7 :] if " USING " in text else text
        what = "PRIMARY KEY, " if is_primary == "t" else "UNIQUE, " if " UNIQUE " in text else ""
        lines.append(f'    "{name}" {what}{method}')
    constraints = run(_CONSTRAINTS.format(oid=oid)).rows
    for contype, heading in (("c", "Check constraints:"), ("f", "Foreign-key constraints:")):
        found = [row for row in constraints if row[2] == contype]
        lines += [heading] if found else []
        lines += [f'    "{name}" {definition}' for name, definition, _ in found]
    return "\n".join(lines)


def where(pattern: str) -> str:
    """Return the condition that a pattern of names stands for, as psql reads it."""
    if not pattern:
        return _HIDDEN_SCHEMAS
    schema, separator, name = pattern.rpartition(".")
    conditions = [f"c.relname {_matches(name)}"] if name != "*" else []
    if separator:
        conditions.append(f"n.nspname {_matches(schema)}")
    else:
        conditions.append("pg_catalog.pg_table_is_visible(c.oid)")
    return " AND ".join(conditions)


def _matches(name: str) -> str:
    """Return the comparison for a name with * and ?; double quotes keep its case."""
    if name.startswith('"') and name.endswith('"') and len(name) > 1:
        return f"= {_literal(name[1:-1].replace(chr(34) * 2, chr(34)))}"
    lower = name.lower()
    if not set(lower) & {"*", "?"}:
        return f"= {_literal(lower)}"
    expression = re.escape(lower).replace(r"\*", ".*").replace(r"\?", ".")
    return f"~ {_literal(f'^({expression})$')}"


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"E'{escaped.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{escaped}'"
