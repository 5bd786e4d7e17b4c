"""The ``has_..._privilege`` functions and pg_has_role.

Source: PostgreSQL docs, "Access Privilege Inquiry Functions".
"""

from collections.abc import Callable
from typing import Any, Final

from sql.catalog.catalog import BindableRelation
from sql.catalog.descriptor import Descriptor, Role, Schema, Sequence, Table, View
from sql.catalog.snapshot import BUILTIN_SCHEMA_NAMES, CatalogSnapshot
from sql.errors import (
    InvalidCatalogName,
    InvalidParameterValue,
    InvalidSchemaName,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import register
from sql.functions.reg import RegResolver
from sql.functions.tables import LISTED_FUNCTIONS, SIGNATURE_ROWS
from sql.types.catalog import REGPROCEDURE, REGTYPE, type_by_oid

_TABLE_LETTERS: Final = {
    "select": "r", "insert": "a", "update": "w", "delete": "d", "truncate": "D",
    "references": "x", "trigger": "t", "rule": "",
}  # fmt: skip
_LETTERS: Final[dict[str, dict[str, str]]] = {
    "table": _TABLE_LETTERS,
    "column": {"select": "r", "insert": "a", "update": "w", "references": "x"},
    "sequence": {"usage": "U", "select": "r", "update": "w"},
    "schema": {"create": "C", "usage": "U"},
    "database": {"create": "C", "connect": "c", "temporary": "T", "temp": "T"},
    "function": {"execute": "X"},
    "language": {"usage": "U"},
    "type": {"usage": "U"},
    "tablespace": {"create": "C"},
    "foreign_data_wrapper": {"usage": "U"},
    "server": {"usage": "U"},
}
_PUBLIC_DEFAULTS: Final = {"database": "cT", "function": "X", "language": "U", "type": "U"}


def memberships(snapshot: CatalogSnapshot, role_id: int) -> set[int]:
    """Return the roles a role is a member of, directly or not, itself included."""
    found: set[int] = set()
    waiting = [role_id]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        role = snapshot.role_by_id(current)
        if role is not None:
            waiting += [parent for parent, _ in role.member_of]
    return found


def _parse_privileges(text: str, kind: str) -> list[tuple[str, bool]]:
    """Read ``SELECT, UPDATE WITH GRANT OPTION``; 22023 for an unknown one."""
    result: list[tuple[str, bool]] = []
    for item in text.split(","):
        word = " ".join(item.lower().split())
        name = word.removesuffix(" with grant option")
        letter = _LETTERS[kind].get(name)
        if letter is None:
            raise InvalidParameterValue(f'unrecognized privilege type: "{item.strip()}"')
        result.append((letter, name != word))
    return result


def _holds(
    snapshot: CatalogSnapshot,
    role_id: int,
    target: Descriptor,
    kind: str,
    letter: str,
    *,
    grant: bool,
) -> bool:
    role = snapshot.role_by_id(role_id)
    if role is not None and role.superuser:
        return True
    roles = memberships(snapshot, role_id)
    if target.acl is None:
        if target.owner in roles:
            return True
        return not grant and letter in _PUBLIC_DEFAULTS.get(kind, "")
    for item in target.acl:
        granted = item.grantable if grant else item.privileges
        if (item.grantee == 0 or item.grantee in roles) and letter in granted:
            return True
    return False


def _role_id(context: ExecutionContext, name: Any) -> int:
    snapshot = context.catalog.snapshot
    if isinstance(name, int):
        return name
    if name == "public":
        return 0
    role = snapshot.role(name)
    if role is None:
        raise UndefinedObject(f'role "{name}" does not exist')
    return role.id


def _relation(context: ExecutionContext, target: Any) -> BindableRelation | None:
    oid = target if isinstance(target, int) else RegResolver(context.catalog).relation_id(target)
    return context.catalog.relation_by_id(oid)


def _relation_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str, kind: str
) -> bool | None:
    wanted = _parse_privileges(privilege, kind)
    relation = _relation(context, target)
    if relation is None:
        return None
    if not isinstance(relation, Table | View | Sequence):
        return any(letter == "r" for letter, _ in wanted) or _is_superuser(context, role_id)
    snapshot = context.catalog.snapshot
    return any(
        _holds(snapshot, role_id, relation, kind, letter, grant=grant) for letter, grant in wanted
    )


def _is_superuser(context: ExecutionContext, role_id: int) -> bool:
    role = context.catalog.snapshot.role_by_id(role_id)
    return role is not None and role.superuser


def _column_privilege(
    context: ExecutionContext, role_id: int, target: Any, column: Any, privilege: str
) -> bool | None:
    on_table = _relation_privilege(context, role_id, target, privilege, "column")
    relation = _relation(context, target)
    if isinstance(relation, View):
        _require_view_column(relation, column)
    if on_table is None or not isinstance(relation, Table):
        return on_table
    found = next((c for c in relation.visible_columns if column in (c.name, c.number)), None)
    if found is None:
        if isinstance(column, int):
            return None
        raise UndefinedColumn(f'column "{column}" of relation "{relation.name}" does not exist')
    if on_table:
        return True
    roles = memberships(context.catalog.snapshot, role_id)
    return any(
        (item.grantee == 0 or item.grantee in roles)
        and letter in (item.grantable if grant else item.privileges)
        for item in found.acl or ()
        for letter, grant in _parse_privileges(privilege, "column")
    )


def _require_view_column(view: View, column: Any) -> None:
    if isinstance(column, str) and all(c.name != column for c in view.columns):
        raise UndefinedColumn(f'column "{column}" of relation "{view.name}" does not exist')


def _any_column_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str
) -> bool | None:
    relation = _relation(context, target)
    if isinstance(relation, Table):
        return any(
            _column_privilege(context, role_id, target, column.name, privilege)
            for column in relation.visible_columns
        )
    return _relation_privilege(context, role_id, target, privilege, "column")


def _schema_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str
) -> bool | None:
    wanted = _parse_privileges(privilege, "schema")
    snapshot = context.catalog.snapshot
    schema_id = target if isinstance(target, int) else context.catalog.schema_id(target)
    if schema_id is None:
        raise InvalidSchemaName(f'schema "{target}" does not exist')
    schema = snapshot.get(schema_id)
    if isinstance(schema, Schema):
        return any(
            _holds(snapshot, role_id, schema, "schema", letter, grant=grant)
            for letter, grant in wanted
        )
    if schema_id not in BUILTIN_SCHEMA_NAMES.values():
        return None
    return any(letter == "U" for letter, _ in wanted) or _is_superuser(context, role_id)


def _database_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str
) -> bool | None:
    wanted = _parse_privileges(privilege, "database")
    snapshot = context.catalog.snapshot
    database = snapshot.get(target) if isinstance(target, int) else snapshot.database(target)
    if database is None:
        if isinstance(target, int):
            return None
        raise InvalidCatalogName(f'database "{target}" does not exist')
    return any(
        _holds(snapshot, role_id, database, "database", letter, grant=grant)
        for letter, grant in wanted
    )


def _granted_to_all(kind: str) -> Callable[..., bool]:
    """Privileges on built-in objects that everybody has (functions, types, languages)."""

    def check(context: ExecutionContext, role_id: int, _target: Any, privilege: str) -> bool:
        wanted = _parse_privileges(privilege, kind)
        if kind in _PUBLIC_DEFAULTS and any(not grant for _, grant in wanted):
            return True
        return _is_superuser(context, role_id)

    return check


def _on(kind: str) -> Callable[..., bool | None]:
    return lambda context, role_id, target, privilege: _relation_privilege(
        context, role_id, target, privilege, kind
    )


def _sequence_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str
) -> bool | None:
    relation = _relation(context, target)
    if relation is not None and not isinstance(relation, Sequence):
        raise WrongObjectType(f'"{relation.name}" is not a sequence')
    return _relation_privilege(context, role_id, target, privilege, "sequence")


def _function_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str
) -> bool | None:
    if isinstance(target, str):
        RegResolver(context.catalog).input(REGPROCEDURE, target)
    elif target not in LISTED_FUNCTIONS:
        return None
    return _granted_to_all("function")(context, role_id, target, privilege)


def _type_privilege(
    context: ExecutionContext, role_id: int, target: Any, privilege: str
) -> bool | None:
    if isinstance(target, str):
        RegResolver(context.catalog).input(REGTYPE, target)
    elif type_by_oid(target) is None:
        return None
    return _granted_to_all("type")(context, role_id, target, privilege)


def _on_named(kind: str, shown: str, names: tuple[str, ...]) -> Callable[..., bool | None]:
    """Check privileges on built-in objects of which there are but these few."""

    def check(context: ExecutionContext, role_id: int, target: Any, privilege: str) -> bool:
        if isinstance(target, str) and target not in names:
            raise UndefinedObject(f'{shown} "{target}" does not exist')
        return _granted_to_all(kind)(context, role_id, target, privilege)

    return check


_CHECKS: Final[dict[str, Callable[..., bool | None]]] = {
    "has_table_privilege": _on("table"),
    "has_sequence_privilege": _sequence_privilege,
    "has_function_privilege": _function_privilege,
    "has_type_privilege": _type_privilege,
    "has_column_privilege": _column_privilege,
    "has_any_column_privilege": _any_column_privilege,
    "has_schema_privilege": _schema_privilege,
    "has_database_privilege": _database_privilege,
    "has_language_privilege": _on_named(
        "language", "language", ("internal", "c", "sql", "plpgsql")
    ),
    "has_tablespace_privilege": _on_named("tablespace", "tablespace", ("pg_default", "pg_global")),
    "has_server_privilege": _on_named("server", "server", ()),
    "has_foreign_data_wrapper_privilege": _on_named(
        "foreign_data_wrapper", "foreign-data wrapper", ()
    ),
}


def _has_role(context: ExecutionContext, role_id: int, target: Any, privilege: str) -> bool:
    wanted = _role_id(context, target)
    known = ("usage", "member", "usage with grant option", "member with grant option")
    for item in privilege.split(","):
        if " ".join(item.lower().split()).replace("admin", "grant") not in known:
            raise InvalidParameterValue(f'unrecognized privilege type: "{item.strip()}"')
    role = context.catalog.snapshot.role_by_id(role_id)
    if isinstance(role, Role) and role.superuser:
        return True
    return wanted in memberships(context.catalog.snapshot, role_id)


def _for_current(check: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, *rest: check(context, context.catalog.user_id, *rest)


def _for_named(check: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, user, *rest: check(context, _role_id(context, user), *rest)


def _register_all() -> None:
    checks = {**_CHECKS, "pg_has_role": _has_role}
    for row in SIGNATURE_ROWS:
        check = checks.get(row.name)
        if check is None:
            continue
        short = 3 if row.name == "has_column_privilege" else 2
        wrap = _for_current if len(row.arguments) == short else _for_named
        register(row.key, wrap(check), context=True)


_register_all()
