"""GRANT and REVOKE of privileges, and ALTER DEFAULT PRIVILEGES.

Source: PostgreSQL docs, "GRANT", "REVOKE", "ALTER DEFAULT PRIVILEGES", "Privileges".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.catalog import acl
from nodedb.catalog.ddl.objects import (
    find_any,
    kind_of,
    refuse_system,
    role_id,
    undefined,
)
from nodedb.catalog.ddl.roles import InvalidGrantOperation
from nodedb.catalog.derived import relations
from sql.catalog.descriptor import (
    AclItem,
    Database,
    DefaultAcl,
    Role,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.catalog.snapshot import BUILTIN_SCHEMA_NAMES
from sql.errors import (
    DependentObjectsStillExist,
    InsufficientPrivilege,
    InvalidCatalogName,
    InvalidSchemaName,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import AlterDefaultPrivileges, Grant, Privilege, RoleSpec

_DEFAULT_KINDS: Final = {"table": "r", "sequence": "S", "function": "f", "type": "T", "schema": "n"}
AclOwner = Table | View | Sequence | Schema | Database
Items = tuple[AclItem, ...]


async def grant(env: DdlEnvironment, statement: Grant) -> str:
    """GRANT and REVOKE on objects."""
    tag = "GRANT" if statement.is_grant else "REVOKE"
    targets = _targets(env, statement)
    grantees = [_grantee(env, spec) for spec in statement.grantees]
    if statement.grant_option and statement.is_grant and acl.PUBLIC in grantees:
        raise InvalidGrantOperation("grant options can only be granted to roles")
    for target in targets:
        _apply(env, statement, target, grantees)
    return tag


def _grantee(env: DdlEnvironment, spec: RoleSpec) -> int:
    return acl.PUBLIC if spec.kind == "public" else role_id(env, spec)


def _targets(env: DdlEnvironment, statement: Grant) -> list[AclOwner]:
    snapshot = env.overlay.snapshot
    if statement.all_in_schema:
        return _all_in_schemas(env, statement)
    result: list[AclOwner] = []
    for name in statement.names:
        match statement.kind:
            case "table" | "sequence":
                found = find_any(env, name)
                if found is None:
                    raise undefined(env, name)
                refuse_system(env, found)
                if not isinstance(found, (Table, View, Sequence)):
                    raise WrongObjectType(f'"{name.name}" is an index')
                if statement.kind == "sequence" and not isinstance(found, Sequence):
                    raise WrongObjectType(f'"{name.name}" is not a sequence')
                result.append(found)
            case "schema":
                schema = snapshot.schema(env.catalog.database_id, name.name)
                if schema is None:
                    if name.name in BUILTIN_SCHEMA_NAMES:
                        raise InsufficientPrivilege(f"permission denied for schema {name.name}")
                    raise InvalidSchemaName(f'schema "{name.name}" does not exist')
                result.append(schema)
            case "database":
                database = snapshot.database(name.name)
                if database is None:
                    raise InvalidCatalogName(f'database "{name.name}" does not exist')
                result.append(database)
            case "function":
                raise UndefinedFunction(f"function {name.name} does not exist")
            case "language" | "type" | "domain":
                raise UndefinedObject(f'{statement.kind} "{name.name}" does not exist')
    return result


def _all_in_schemas(env: DdlEnvironment, statement: Grant) -> list[AclOwner]:
    result: list[AclOwner] = []
    for name in statement.names:
        schema_id = env.catalog.schema_id(name.name)
        if schema_id is None:
            raise InvalidSchemaName(f'schema "{name.name}" does not exist')
        for relation in relations(env.overlay.snapshot):
            is_sequence = isinstance(relation, Sequence)
            if relation.schema_id == schema_id and is_sequence == (statement.kind == "sequence"):
                result.append(relation)
    return result


def _letters(privileges: tuple[Privilege, ...], kind: str, *, columns: bool) -> str:
    """Return the letters of privileges on a kind of object.

    SqlSyntaxError (42601), 0LP01 for those it has not.
    """
    what = "column" if columns else kind
    allowed = acl.ALL_PRIVILEGES[what]
    result = ""
    for privilege in privileges:
        if privilege.name == "all":
            result += allowed
            continue
        letter = acl.NAME_TO_LETTER.get(privilege.name)
        if letter is None:
            raise SqlSyntaxError(f'unrecognized privilege type "{privilege.name}"')
        if letter not in allowed:
            raise InvalidGrantOperation(
                f"invalid privilege type {privilege.name.upper()} for {what}"
            )
        result += letter
    return acl.ordered(result)


def _apply(env: DdlEnvironment, statement: Grant, target: AclOwner, grantees: list[int]) -> None:
    kind = acl.kind_of(target)
    whole = tuple(p for p in statement.privileges if not p.columns)
    partial = tuple(p for p in statement.privileges if p.columns)
    checked_as = "table" if statement.kind == "table" and kind == "sequence" else kind
    letters = _letters(whole, checked_as, columns=False)
    if checked_as != kind:
        letters = "".join(c for c in letters if c in acl.ALL_PRIVILEGES["sequence"])
    if whole:
        items = _change(
            env, statement, acl.effective_acl(target), target, letters, grantees, target.name
        )
        if items is not None:
            default = acl.default_acl(kind, target.owner)
            stored = items if set(items) != set(default) or target.acl is not None else None
            target = msgspec.structs.replace(target, acl=stored)
            env.overlay.put(target)
            if not statement.is_grant and isinstance(target, Table):
                target = _revoke_columns(env, statement, target, letters, grantees)
    for privilege in partial:
        if not isinstance(target, Table):
            if kind in ("schema", "database"):
                raise InvalidGrantOperation("column privileges are only valid for relations")
            continue
        column_letters = _letters((privilege,), kind, columns=True)
        for name in privilege.columns:
            target = _apply_column(env, statement, target, name, column_letters, grantees)


def _apply_column(
    env: DdlEnvironment,
    statement: Grant,
    table: Table,
    name: str,
    letters: str,
    grantees: list[int],
) -> Table:
    column = table.column_by_name.get(name)
    if column is None:
        raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
    items = _change(env, statement, column.acl or (), table, letters, grantees, name)
    if items is None:
        return table
    columns = list(table.columns)
    columns[column.position] = msgspec.structs.replace(column, acl=items or None)
    changed = msgspec.structs.replace(table, columns=tuple(columns))
    env.overlay.put(changed)
    return changed


def _revoke_columns(
    env: DdlEnvironment, statement: Grant, table: Table, letters: str, grantees: list[int]
) -> Table:
    """Take the same privileges from every column, as a table-level REVOKE does."""
    wanted = acl.ordered(set(letters) & set(acl.ALL_PRIVILEGES["column"]))
    for column in table.visible_columns:
        if column.acl and wanted:
            table = _apply_column(env, statement, table, column.name, wanted, grantees)
    return table


def _grantor(env: DdlEnvironment, items: Items, target: AclOwner, letters: str) -> tuple[int, str]:
    """Return in whose name the user grants, and which of the letters that one may grant."""
    user = env.catalog.user_id
    if env.catalog.owns(target):
        return target.owner, letters
    roles = acl.roles_of(env.overlay.snapshot, user, env.catalog.database_id)
    whole = acl.effective_acl(target)
    best, best_letters = user, ""
    for role in sorted(roles, key=lambda number: (number != user, number)):
        options = acl.grantable_by(items, role, 0) | acl.grantable_by(whole, role, 0)
        found = acl.ordered(options & set(letters))
        if len(found) > len(best_letters):
            best, best_letters = role, found
    return best, best_letters


def _change(
    env: DdlEnvironment,
    statement: Grant,
    items: Items,
    target: AclOwner,
    letters: str,
    grantees: list[int],
    shown: str,
) -> Items | None:
    """Return the new list; None after a warning that nothing could be granted."""
    grantor, allowed = _grantor(env, items, target, letters)
    if not allowed:
        if not acl.held(env.overlay.snapshot, env.catalog.user_id, target, env.catalog.database_id):
            raise InsufficientPrivilege(f"permission denied for {kind_of(target)} {target.name}")
        verb = "granted" if statement.is_grant else "could be revoked"
        text = f'no privileges were granted for "{shown}"'
        if not statement.is_grant:
            text = f'no privileges {verb} for "{shown}"'
        env.notice("WARNING", "01007" if statement.is_grant else "01006", text)
        return None
    if statement.granted_by is not None:
        named = role_id(env, statement.granted_by)
        if named != env.catalog.user_id:
            from sql.errors import FeatureNotSupported  # noqa: PLC0415 - error path

            raise FeatureNotSupported("grantor must be current user")
    if len(allowed) < len(letters):
        verb = "granted" if statement.is_grant else "revoked"
        text = f'not all privileges were granted for "{shown}"'
        if not statement.is_grant:
            text = f'not all privileges could be revoked for "{shown}"'
        env.notice("WARNING", "01007" if verb == "granted" else "01006", text)
    for grantee in grantees:
        if statement.is_grant:
            items = acl.grant(items, grantee, grantor, allowed, grant_option=statement.grant_option)
        else:
            items = _revoke(statement, items, grantee, grantor, allowed, target.owner)
    return items


def _revoke(
    statement: Grant, items: Items, grantee: int, grantor: int, letters: str, owner: int
) -> Items:
    items = acl.revoke(items, grantee, grantor, letters, option_only=statement.grant_option)
    for item in acl.dependents_of(items, grantee, owner, letters):
        if statement.behavior != "cascade":
            raise DependentObjectsStillExist(
                "dependent privileges exist", hint="Use CASCADE to revoke them too."
            )
        items = _revoke(
            msgspec.structs.replace(statement, grant_option=False),
            items,
            item.grantee,
            item.grantor,
            item.privileges,
            owner,
        )
    return items


async def alter_default_privileges(env: DdlEnvironment, statement: AlterDefaultPrivileges) -> str:
    """ALTER DEFAULT PRIVILEGES: kept with the roles whose new objects they are for."""
    inner = statement.grant
    kind = _DEFAULT_KINDS.get(inner.kind, "")
    if not kind:
        raise SqlSyntaxError(f"default privileges cannot be set for {inner.kind}s")
    letters = _letters(inner.privileges, inner.kind, columns=False)
    if kind == "n" and statement.schemas:
        raise InvalidGrantOperation(
            "cannot use IN SCHEMA clause when using GRANT/REVOKE ON SCHEMAS"
        )
    schema_ids: list[int] = []
    for name in statement.schemas:
        found = env.catalog.schema_id(name)
        if found is None:
            raise InvalidSchemaName(f'schema "{name}" does not exist')
        schema_ids.append(found)
    grantees = [_grantee(env, spec) for spec in inner.grantees]
    owners = [role_id(env, spec) for spec in statement.roles] or [env.catalog.user_id]
    for owner in owners:
        members = acl.roles_of(env.overlay.snapshot, env.catalog.user_id, env.catalog.database_id)
        if not env.catalog.is_superuser and owner not in members:
            name = acl.role_name(env.overlay.snapshot, owner)
            raise InsufficientPrivilege(f'must be member of role "{name}"')
        for schema_id in schema_ids or [0]:
            _set_default(env, inner, owner, schema_id, kind, letters, grantees)
    return "ALTER DEFAULT PRIVILEGES"


def _set_default(
    env: DdlEnvironment,
    statement: Grant,
    owner: int,
    schema_id: int,
    kind: str,
    letters: str,
    grantees: list[int],
) -> None:
    role = env.overlay.snapshot.role_by_id(owner)
    assert isinstance(role, Role)
    # Per-schema entries only add to the global ones, which start from the built-in default.
    default: Items = () if schema_id else acl.default_acl(statement.kind, owner)

    def is_same(entry: DefaultAcl) -> bool:
        return (entry.database_id, entry.schema_id, entry.kind) == (
            env.catalog.database_id,
            schema_id,
            kind,
        )

    old = next((entry for entry in role.default_acls if is_same(entry)), None)
    items = old.acl if old is not None else default
    for grantee in grantees:
        if statement.is_grant:
            items = acl.grant(items, grantee, owner, letters, grant_option=statement.grant_option)
        else:
            items = acl.revoke(items, grantee, owner, letters, option_only=statement.grant_option)
    rest = tuple(entry for entry in role.default_acls if not is_same(entry))
    if set(items) != set(default):
        entry_id = old.id if old is not None else env.overlay.allocate_id()
        rest = (*rest, DefaultAcl(entry_id, env.catalog.database_id, schema_id, kind, items))
    env.overlay.put(msgspec.structs.replace(role, default_acls=rest))
