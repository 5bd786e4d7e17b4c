"""The reg types' names: ``'public.t'::regclass`` to an OID and back.

``RegResolver`` is made once per catalog view. Names come out quoted where needed, and with their
schema when
the search path does not find them without it.

Source: PostgreSQL docs, "Object Identifier Types".
"""

import re
from typing import Final

from sql.ast.deparse_names import quote_identifier
from sql.ast.query import QualifiedName
from sql.catalog.catalog import Catalog
from sql.catalog.descriptor import Index, Table
from sql.catalog.snapshot import CatalogSnapshot
from sql.errors import (
    AmbiguousFunction,
    InvalidName,
    InvalidSchemaName,
    InvalidTextRepresentation,
    SqlError,
    TooManyArguments,
    UndefinedFunction,
    UndefinedObject,
    UndefinedParameter,
    UndefinedTable,
)
from sql.functions.tables import LISTED_FUNCTIONS, OPERATOR_ROWS
from sql.types.base import SqlType
from sql.types.catalog import TYPE_ALIASES, type_by_name, type_by_oid
from sql.types.typmod import format_type

_PART: Final = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s".]+))\s*(\.|$)')
_NAMED: Final[dict[str, list[int]]] = {}
for _row in LISTED_FUNCTIONS.values():
    _NAMED.setdefault(_row.name, []).append(_row.oid)
_OPERATORS: Final = {row.oid: row for row in OPERATOR_ROWS}


def split_name(text: str) -> list[str]:
    """Split a dotted name into its folded parts; InvalidName (42602)."""
    parts: list[str] = []
    at = 0
    while True:
        match = _PART.match(text, at)
        if match is None:
            raise InvalidName("invalid name syntax")
        parts.append(match[2].lower() if match[1] is None else match[1].replace('""', '"'))
        at = match.end()
        if not match[3]:
            return parts


def find_index(snapshot: CatalogSnapshot, oid: int) -> tuple[Table, Index | None] | None:
    """Find the table of an index by the index's OID.

    With None when it is the clustering primary key.
    """
    for table in snapshot.all(Table):
        if table.primary_name and table.primary_id == oid:
            return table, None
        for index in table.indexes:
            if index.id == oid:
                return table, index
    return None


def _find_index_by_name(snapshot: CatalogSnapshot, schema_id: int, name: str) -> int | None:
    for table in snapshot.all(Table):
        if table.schema_id != schema_id:
            continue
        if table.primary_name == name:
            return table.primary_id
        for index in table.indexes:
            if index.name == name:
                return index.id
    return None


def is_index_name(catalog: Catalog, name: QualifiedName) -> bool:
    """Tell whether a name that means no table means an index."""
    if name.schema:
        schema_id = catalog.schema_id(name.schema)
        path: tuple[int, ...] = () if schema_id is None else (schema_id,)
    else:
        path = catalog.search_path_ids()
    return any(_find_index_by_name(catalog.snapshot, s, name.name) is not None for s in path)


class RegResolver:
    """Names and OIDs as one catalog view sees them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def output(self, sql_type: SqlType, oid: int, /) -> str | None:
        """Return the name to show for an OID, or None to show the number."""
        if oid == 0:
            return "-"
        match sql_type.name:
            case "regclass":
                return self._relation_name(oid)
            case "regtype":
                return type_name(oid)
            case "regnamespace":
                return self._schema_name(oid)
            case "regrole":
                role = self._catalog.snapshot.role_by_id(oid)
                return None if role is None else quote_identifier(role.name)
            case "regproc":
                return _function_name(oid)
            case "regprocedure":
                return _procedure_name(oid)
            case "regoper":
                row = _OPERATORS.get(oid)
                return None if row is None else _shown_operator(row.name)
            case "regoperator":
                return _operator_name(oid)
            case _:
                pass
        return None

    def input(self, sql_type: SqlType, text: str, /) -> int:
        """Return the OID of a name. Raises the type's "does not exist" error."""
        stripped = text.strip()
        if stripped == "-":
            return 0
        if stripped.isdigit():
            return int(stripped)
        match sql_type.name:
            case "regclass":
                return self.relation_id(text)
            case "regtype":
                return type_id(text)
            case "regnamespace":
                return self._schema_id(text)
            case "regrole":
                return self._role_id(text)
            case "regproc":
                return _function_id(text)
            case "regprocedure":
                return _procedure_id(text)
            case "regoper":
                return _operator_by_name(text)
            case "regoperator":
                return _operator_id(text)
            case _:
                pass
        raise InvalidTextRepresentation(
            f'invalid input syntax for type {sql_type.display_name}: "{text}"'
        )

    def _schema_name(self, schema_id: int) -> str | None:
        try:
            name = self._catalog.schema_name(schema_id)
        except (SqlError, KeyError, AssertionError):
            return None
        return quote_identifier(name) if name else None

    def _relation_name(self, oid: int) -> str | None:
        snapshot = self._catalog.snapshot
        relation = self._catalog.relation_by_id(oid)
        if relation is not None:
            return self._qualified(relation.name, relation.schema_id, oid)
        found = find_index(snapshot, oid)
        if found is None:
            return None
        table, index = found
        name = table.primary_name if index is None else index.name
        return self._qualified(name, table.schema_id, oid)

    def _qualified(self, name: str, schema_id: int, oid: int) -> str:
        quoted = quote_identifier(name)
        if self._relation_in_path(name) == oid:
            return quoted
        return f"{quote_identifier(self._catalog.schema_name(schema_id))}.{quoted}"

    def is_visible(self, oid: int) -> bool | None:
        """Tell whether the search path finds a relation by its bare name.

        None for no such relation.
        """
        relation = self._catalog.relation_by_id(oid)
        if relation is not None:
            return self._relation_in_path(relation.name) == oid
        found = find_index(self._catalog.snapshot, oid)
        if found is None:
            return None
        table, index = found
        return self._relation_in_path(table.primary_name if index is None else index.name) == oid

    def _relation_in_path(self, name: str) -> int | None:
        for schema_id in self._catalog.search_path_ids():
            oid = self._in_schema(schema_id, name)
            if oid is not None:
                return oid
        return None

    def _in_schema(self, schema_id: int, name: str) -> int | None:
        schema = self._catalog.schema_name(schema_id)
        relation = self._catalog.find_relation(QualifiedName(name, schema))
        if relation is not None:
            return relation.oid if hasattr(relation, "oid") else relation.id
        return _find_index_by_name(self._catalog.snapshot, schema_id, name)

    def relation_id(self, text: str) -> int:
        """Return the OID of a table, view, sequence or index; UndefinedTable (42P01)."""
        parts = split_name(text)
        if len(parts) > 3:
            shown = ".".join(parts)
            raise InvalidName(f"improper relation name (too many dotted names): {shown}")
        oid = None
        if len(parts) == 1:
            oid = self._relation_in_path(parts[0])
        else:
            schema_id = self._catalog.schema_id(parts[-2])
            if schema_id is not None:
                oid = self._in_schema(schema_id, parts[-1])
        if oid is None:
            raise UndefinedTable(f'relation "{".".join(parts)}" does not exist')
        return oid

    def _schema_id(self, text: str) -> int:
        parts = split_name(text)
        if len(parts) != 1:
            raise InvalidName("invalid name syntax")
        found = self._catalog.schema_id(parts[0])
        if found is None:
            raise InvalidSchemaName(f'schema "{parts[0]}" does not exist')
        return found

    def _role_id(self, text: str) -> int:
        parts = split_name(text)
        if len(parts) != 1:
            raise InvalidName("invalid name syntax")
        role = self._catalog.snapshot.role(parts[0])
        if role is None:
            raise UndefinedObject(f'role "{parts[0]}" does not exist')
        return role.id


def type_name(oid: int) -> str | None:
    """Return a type's SQL name; None for an unknown OID."""
    sql_type = type_by_oid(oid)
    return None if sql_type is None else format_type(sql_type)


_TYPE: Final = re.compile(
    r'\s*(?:(?:"?pg_catalog"?)\s*\.\s*)?(?:"((?:[^"]|"")+)"|([A-Za-z_][\w$ ]*?))'
    r"\s*(?:\(([\d\s,]*)\)\s*((?:with|without) time zone)?)?\s*((?:\[\s*\d*\s*\]\s*)*)",
    re.IGNORECASE,
)


def type_id(text: str) -> int:
    """Return the OID of a type by any of its names; UndefinedObject (42704)."""
    match = _TYPE.fullmatch(text)
    found: SqlType | None = None
    if match is not None:
        if match[1] is not None:
            found = type_by_name(match[1].replace('""', '"'))
        else:
            words = " ".join(f"{match[2]} {match[4] or ''}".lower().split())
            found = type_by_name(TYPE_ALIASES.get(words, words))
        if found is not None and match[5].strip():
            found = found.array
    if found is None:
        raise UndefinedObject(f'type "{text}" does not exist')
    return found.oid


def _displayed(types: tuple[SqlType, ...]) -> str:
    return ",".join(type_name(t.oid) or t.name for t in types)


def _function_name(oid: int) -> str | None:
    """Return a function's name, with its schema when another has the same name."""
    signature = LISTED_FUNCTIONS.get(oid)
    if signature is None:
        return None
    name = quote_identifier(signature.name)
    return name if len(_NAMED[signature.name]) == 1 else f"pg_catalog.{name}"


def _procedure_name(oid: int) -> str | None:
    signature = LISTED_FUNCTIONS.get(oid)
    if signature is None:
        return None
    return f"{quote_identifier(signature.name)}({_displayed(signature.arguments)})"


def _shown_operator(name: str) -> str:
    overloaded = sum(row.name == name for row in OPERATOR_ROWS) > 1
    return f"pg_catalog.{name}" if overloaded else name


def _operator_name(oid: int) -> str | None:
    row = _OPERATORS.get(oid)
    if row is None:
        return None
    left, right = type_by_name(row.left), type_by_name(row.right)
    assert right is not None
    shown_left = "NONE" if left is None else type_name(left.oid)
    return f"{row.name}({shown_left},{type_name(right.oid)})"


def _bare(parts: list[str]) -> str | None:
    """Return the last part if the name can be a built-in's."""
    if len(parts) == 1 or (len(parts) == 2 and parts[0] == "pg_catalog"):
        return parts[-1]
    return None


def _function_id(text: str) -> int:
    parts = split_name(text)
    name = _bare(parts)
    found = _NAMED.get(name or "", [])
    if not found:
        raise UndefinedFunction(f'function "{text}" does not exist')
    if len(found) > 1:
        raise AmbiguousFunction(f'more than one function named "{text}"')
    return found[0]


def _with_arguments(text: str) -> tuple[str, list[str]]:
    name, parenthesis, rest = text.partition("(")
    if not parenthesis:
        raise InvalidTextRepresentation("expected a left parenthesis")
    if not rest.rstrip().endswith(")"):
        raise InvalidTextRepresentation("expected a right parenthesis")
    inner = rest.rstrip()[:-1]
    return name, inner.split(",") if inner.strip() else []


def _procedure_id(text: str) -> int:
    name_text, arguments = _with_arguments(text)
    name = _bare(split_name(name_text))
    wanted = tuple(type_id(argument.strip()) for argument in arguments)
    for row in LISTED_FUNCTIONS.values():
        if row.name == name and tuple(t.oid for t in row.arguments) == wanted:
            return row.oid
    raise UndefinedFunction(f'function "{text}" does not exist')


def _operator_by_name(text: str) -> int:
    name = text.strip().removeprefix("pg_catalog.")
    found = [row.oid for row in OPERATOR_ROWS if row.name == name]
    if not found:
        raise UndefinedFunction(f"operator does not exist: {text}")
    if len(found) > 1:
        raise AmbiguousFunction(f"more than one operator named {text}")
    return found[0]


def _operator_id(text: str) -> int:
    name_text, arguments = _with_arguments(text)
    name = name_text.strip().removeprefix("pg_catalog.")
    if len(arguments) == 1:
        raise UndefinedParameter(
            "missing argument", hint="Use NONE to denote the missing argument of a unary operator."
        )
    if len(arguments) > 2:
        raise TooManyArguments(
            "too many arguments", hint="Provide two argument types for operator."
        )
    wanted = tuple(
        0 if argument.strip().lower() == "none" else type_id(argument) for argument in arguments
    )
    for row in OPERATOR_ROWS:
        left, right = type_by_name(row.left), type_by_name(row.right)
        assert right is not None
        if row.name == name and wanted == (0 if left is None else left.oid, right.oid):
            return row.oid
    raise UndefinedFunction(f"operator does not exist: {text}")
