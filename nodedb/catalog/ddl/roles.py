"""Roles: CREATE, ALTER, DROP, membership, per-role settings, REASSIGN and DROP OWNED.

Source: PostgreSQL docs, "Database Roles", "CREATE ROLE", "GRANT", "DROP OWNED".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nodedb.catalog import acl
from nodedb.catalog.ddl.dependency import Address, DropPlan
from nodedb.catalog.ddl.objects import describe, named_role, role_id, skip_missing
from nodedb.catalog.ddl.owner import give
from nodedb.catalog.derived import relations
from sql.catalog.descriptor import (
    FIRST_USER_ID,
    AclItem,
    AnyDescriptor,
    Database,
    Role,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.errors import (
    DependentObjectsStillExist,
    DuplicateObject,
    FeatureNotSupported,
    InsufficientPrivilege,
    InternalError,
    InvalidCatalogName,
    InvalidParameterValue,
    ObjectInUse,
    ReservedName,
    SqlError,
    SqlSyntaxError,
    UndefinedObject,
)
from sql.types.base import NO_TYPMOD
from sql.types.catalog import TIMESTAMPTZ
from sql.types.io import text_input

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import (
        AlterRole,
        AlterSettings,
        CreateRole,
        DropOwned,
        DropRole,
        GrantRole,
        ReassignOwned,
        RoleOption,
        RoleSpec,
    )

_FLAGS: Final = {
    "superuser": "superuser",
    "createdb": "create_db",
    "createrole": "create_role",
    "inherit": "inherit",
    "login": "login",
    "replication": "replication",
    "bypassrls": "bypass_rls",
}
_SCRAM: Final = re.compile(r"SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")
_MD5: Final = re.compile(r"md5[0-9a-f]{32}")


class InvalidGrantOperation(SqlError):
    """0LP01: a grant that makes no sense."""

    sqlstate = "0LP01"


def check_role_name(name: str) -> None:
    """ReservedName (42939) for names roles cannot have."""
    if name in ("public", "none"):
        raise ReservedName(f'role name "{name}" is reserved')
    if name.startswith("pg_"):
        raise ReservedName(
            f'role name "{name}" is reserved',
            detail='Role names starting with "pg_" are reserved.',
        )


def current_role(env: DdlEnvironment) -> Role:
    """Return the role that runs the statement."""
    role = env.overlay.snapshot.role_by_id(env.catalog.user_id)
    assert role is not None
    return role


def _take_options(options: tuple[RoleOption, ...]) -> dict[str, RoleOption]:
    result: dict[str, RoleOption] = {}
    for option in options:
        if option.name in result:
            raise SqlSyntaxError("conflicting or redundant options", span=option.span)
        result[option.name] = option
    return result


def _fields(env: DdlEnvironment, options: dict[str, RoleOption]) -> dict[str, Any]:
    """Return the descriptor's fields that the options set."""
    fields: dict[str, Any] = {
        _FLAGS[name]: bool(option.value) for name, option in options.items() if name in _FLAGS
    }
    limit = options.get("connection limit")
    if limit is not None:
        fields["connection_limit"] = int(limit.value or 0)
        if fields["connection_limit"] < -1:
            raise InvalidParameterValue(f"invalid connection limit: {fields['connection_limit']}")
    password = options.get("password")
    if password is not None:
        fields["scram_secret"] = _secret(env, password.value)
    until = options.get("valid until")
    if until is not None:
        fields["valid_until"] = _timestamp(str(until.value))
    return fields


def _secret(env: DdlEnvironment, password: object) -> str:
    """Return rolpassword for PASSWORD 'x'.

    A SCRAM text as it is, clear text hashed, MD5 refused.
    """
    if password is None:
        return ""
    text = str(password)
    if _SCRAM.fullmatch(text):
        return text
    if _MD5.fullmatch(text):
        raise FeatureNotSupported(
            "MD5 passwords are not supported",
            hint="Give the password in clear, or as a SCRAM-SHA-256 secret.",
        )
    if not text:
        env.notice("NOTICE", "00000", "empty string is not a valid password, clearing password")
        return ""
    return env.make_scram_secret(text)


def _timestamp(text: str) -> int:
    value: int = text_input(TIMESTAMPTZ)(text, NO_TYPMOD)
    return value


def _require_create_role(env: DdlEnvironment, text: str) -> Role:
    user = current_role(env)
    if not (user.superuser or user.create_role):
        raise InsufficientPrivilege(text)
    return user


async def create_role(env: DdlEnvironment, statement: CreateRole) -> str:
    """CREATE ROLE, USER, GROUP: the tag is CREATE ROLE for all of them."""
    options = _take_options(statement.options)
    if statement.name in ("public", "none"):
        raise ReservedName(f'role name "{statement.name}" is reserved')
    fields = _fields(env, options)
    user = _require_create_role(env, "permission denied to create role")
    for flag, text in (
        ("superuser", "must be superuser to create superusers"),
        ("replication", "must be superuser to create replication users"),
        ("bypass_rls", "must be superuser to create bypassrls users"),
    ):
        if fields.get(flag) and not user.superuser:
            raise InsufficientPrivilege(text)
    check_role_name(statement.name)
    if env.overlay.snapshot.role(statement.name) is not None:
        raise DuplicateObject(f'role "{statement.name}" already exists')
    fields.setdefault("login", statement.kind == "user")
    new_id = env.overlay.allocate_id()
    parents = tuple(
        (role_id(env, spec), False)
        for name in ("in role", "in group")
        for spec in (options[name].roles if name in options else ())
    )
    env.overlay.put(Role(id=new_id, name=statement.name, owner=new_id, member_of=parents, **fields))
    for name, admin in (("role", False), ("user", False), ("admin", True)):
        if name in options:
            for spec in options[name].roles:
                _add_member(env, new_id, role_id(env, spec), admin=admin, quiet=True)
    return "CREATE ROLE"


async def alter_role(env: DdlEnvironment, statement: AlterRole) -> str:
    """ALTER ROLE with options; a role may change its own password."""
    options = _take_options(statement.options)
    target = env.overlay.snapshot.role_by_id(role_id(env, statement.role))
    assert target is not None
    _refuse_reserved(target, "alter")
    user = current_role(env)
    fields = _fields(env, options)
    if not user.superuser:
        if target.superuser or "superuser" in fields:
            raise InsufficientPrivilege(
                "must be superuser to alter superuser roles or change superuser attribute"
            )
        if target.replication or "replication" in fields:
            raise InsufficientPrivilege(
                "must be superuser to alter replication roles or change replication attribute"
            )
        if "bypass_rls" in fields:
            raise InsufficientPrivilege("must be superuser to change bypassrls attribute")
        only_password = set(options) <= {"password"} and target.id == user.id
        if not user.create_role and not only_password:
            raise InsufficientPrivilege("permission denied")
    env.overlay.put(msgspec.structs.replace(target, **fields))
    for name, admin in (("role", False), ("user", False), ("admin", True)):
        if name in options:
            for spec in options[name].roles:
                _add_member(env, target.id, role_id(env, spec), admin=admin)
    return "ALTER ROLE"


def _refuse_reserved(role: Role, verb: str) -> None:
    if role.id < FIRST_USER_ID and role.name.startswith("pg_"):
        raise ReservedName(
            f'role name "{role.name}" is reserved',
            detail=f"Cannot {verb} reserved roles.",
        )


async def drop_role(env: DdlEnvironment, statement: DropRole) -> str:
    """DROP ROLE; memberships go with it, anything else that mentions it does not."""
    user = _require_create_role(env, "permission denied to drop role")
    roles: list[Role] = []
    for spec in statement.roles:
        if spec.kind != "name":
            raise InvalidParameterValue("cannot use special role specifier in DROP ROLE")
        role = env.overlay.snapshot.role(spec.name)
        if role is None:
            if not statement.if_exists:
                raise UndefinedObject(f'role "{spec.name}" does not exist')
            skip_missing(env, f'role "{spec.name}"')
            continue
        if role.id == env.catalog.user_id:
            raise ObjectInUse("current user cannot be dropped")
        if role.id == env.session_user_id:
            raise ObjectInUse("session user cannot be dropped")
        if role.superuser and not user.superuser:
            raise InsufficientPrivilege("must be superuser to drop superusers")
        roles.append(role)
    for role in roles:
        if role.id < FIRST_USER_ID:
            raise DependentObjectsStillExist(
                f"cannot drop role {role.name} because it is required by the database system"
            )
        lines = _mentions(env, role.id)
        if lines:
            raise DependentObjectsStillExist(
                f'role "{role.name}" cannot be dropped because some objects depend on it',
                detail="\n".join(lines),
            )
        env.overlay.delete(role.id)
        for member in list(env.overlay.snapshot.all(Role)):
            kept = tuple(m for m in member.member_of if m[0] != role.id)
            if kept != member.member_of:
                env.overlay.put(msgspec.structs.replace(member, member_of=kept))
    return "DROP ROLE"


def _all_objects(env: DdlEnvironment) -> list[AnyDescriptor]:
    snapshot = env.overlay.snapshot
    result: list[AnyDescriptor] = []
    result.extend(snapshot.all(Database))
    result.extend(snapshot.all(Schema))
    result.extend(relations(snapshot))
    return result


def _database_of(env: DdlEnvironment, descriptor: AnyDescriptor) -> int:
    snapshot = env.overlay.snapshot
    if isinstance(descriptor, Schema):
        return descriptor.database_id
    if isinstance(descriptor, (Table, View, Sequence)):
        schema = snapshot.get(descriptor.schema_id)
        return schema.database_id if isinstance(schema, Schema) else 0
    return 0


def _acl_mentions(descriptor: AnyDescriptor, number: int) -> bool:
    lists = [descriptor.acl or ()]
    if isinstance(descriptor, Table):
        lists.extend(column.acl or () for column in descriptor.columns)
    return any(number in (item.grantee, item.grantor) for items in lists for item in items)


def _mentions(env: DdlEnvironment, number: int) -> list[str]:
    """Return the lines of DROP ROLE's detail.

    What the role owns, and what its privileges are on.
    """
    here: list[str] = []
    elsewhere: dict[int, int] = {}
    for item in _all_objects(env):
        owned = item.owner == number
        if not owned and not _acl_mentions(item, number):
            continue
        database = _database_of(env, item)
        if database not in (0, env.catalog.database_id):
            elsewhere[database] = elsewhere.get(database, 0) + 1
            continue
        here.append(f"{'owner of' if owned else 'privileges for'} {describe(env, item)}")
    lines = sorted(here)
    role = env.overlay.snapshot.role_by_id(number)
    for other in env.overlay.snapshot.all(Role):
        for entry in other.default_acls:
            if other.id == number or any(number in (i.grantee, i.grantor) for i in entry.acl):
                kind = {
                    "r": "relations",
                    "S": "sequences",
                    "f": "functions",
                    "T": "types",
                    "n": "schemas",
                }[entry.kind]
                where = ""
                if entry.schema_id:
                    where = f" in schema {env.catalog.schema_name(entry.schema_id)}"
                verb = "owner of" if other.id == number else "privileges for"
                lines.append(
                    f"{verb} default privileges on new {kind} belonging to role {other.name}{where}"
                )
    assert role is not None
    for database, count in elsewhere.items():
        found = env.overlay.snapshot.get(database)
        plural = "object" if count == 1 else "objects"
        lines.append(f"{count} {plural} in database {found.name if found else database}")
    return lines


async def grant_role(env: DdlEnvironment, statement: GrantRole) -> str:
    """GRANT and REVOKE of membership."""
    for spec in statement.roles:
        parent = named_role(env, spec.name) if spec.kind == "name" else None
        parent_id = parent.id if parent is not None else role_id(env, spec)
        _require_admin(env, parent_id)
        for grantee in statement.grantees:
            member_id = role_id(env, grantee)
            if statement.is_grant:
                _add_member(env, parent_id, member_id, admin=statement.admin_option)
            else:
                _remove_member(env, parent_id, member_id, option_only=statement.admin_option)
    if statement.is_alter:
        return "ALTER ROLE"
    return "GRANT ROLE" if statement.is_grant else "REVOKE ROLE"


def _require_admin(env: DdlEnvironment, parent_id: int) -> None:
    user = current_role(env)
    parent = env.overlay.snapshot.role_by_id(parent_id)
    assert parent is not None
    if user.superuser:
        return
    if parent.superuser:
        raise InsufficientPrivilege("must be superuser to alter superusers")
    has_option = any(
        (parent_id, True) in (found.member_of if found is not None else ())
        for found in (
            env.overlay.snapshot.role_by_id(i)
            for i in acl.memberships(env.overlay.snapshot, user.id, env.catalog.database_id)
        )
    )
    if not user.create_role and not has_option:
        raise InsufficientPrivilege(f'must have admin option on role "{parent.name}"')


def _add_member(
    env: DdlEnvironment, parent_id: int, member_id: int, *, admin: bool, quiet: bool = False
) -> None:
    snapshot = env.overlay.snapshot
    parent, member = snapshot.role_by_id(parent_id), snapshot.role_by_id(member_id)
    assert parent is not None
    assert member is not None
    if parent_id == acl.DATABASE_OWNER_ROLE:
        raise InternalError(f'role "{parent.name}" cannot have explicit members')
    if member_id == acl.DATABASE_OWNER_ROLE:
        raise InternalError(f'role "{member.name}" cannot be a member of any role')
    if member_id in acl.memberships(snapshot, parent_id, 0):
        raise InvalidGrantOperation(f'role "{parent.name}" is a member of role "{member.name}"')
    old = dict(member.member_of)
    if parent_id in old and (old[parent_id] or not admin):
        if not quiet:
            env.notice(
                "NOTICE",
                "00000",
                f'role "{member.name}" is already a member of role "{parent.name}"',
            )
        return
    old[parent_id] = admin
    env.overlay.put(msgspec.structs.replace(member, member_of=tuple(old.items())))


def _remove_member(
    env: DdlEnvironment, parent_id: int, member_id: int, *, option_only: bool
) -> None:
    snapshot = env.overlay.snapshot
    parent, member = snapshot.role_by_id(parent_id), snapshot.role_by_id(member_id)
    assert parent is not None
    assert member is not None
    old = dict(member.member_of)
    if parent_id not in old:
        env.notice(
            "WARNING", "01000", f'role "{member.name}" is not a member of role "{parent.name}"'
        )
        return
    if option_only:
        old[parent_id] = False
    else:
        del old[parent_id]
    env.overlay.put(msgspec.structs.replace(member, member_of=tuple(old.items())))


async def alter_settings(env: DdlEnvironment, statement: AlterSettings) -> str:
    """ALTER ROLE or DATABASE ... SET, RESET: kept for the sessions that start later."""
    snapshot = env.overlay.snapshot
    database: Database | None = None
    if statement.database:
        database = snapshot.database(statement.database)
        if database is None:
            raise InvalidCatalogName(f'database "{statement.database}" does not exist')
    name, value = statement.name, None
    if statement.values:
        name, value = env.stored_setting(name, statement.values)
    if statement.role is None and not statement.all_roles:
        assert database is not None
        if not env.catalog.owns(database):
            raise InsufficientPrivilege(f"must be owner of database {database.name}")
        kept = tuple(s for s in database.settings if _survives(s[0], statement))
        if value is not None:
            kept = (*kept, (name, value))
        env.overlay.put(msgspec.structs.replace(database, settings=kept))
        return "ALTER DATABASE"
    user = current_role(env)
    if statement.all_roles:
        if not user.superuser:
            raise InsufficientPrivilege("must be superuser to alter settings globally")
        raise FeatureNotSupported("ALTER ROLE ALL SET is not supported")
    assert statement.role is not None
    target = snapshot.role_by_id(role_id(env, statement.role))
    assert target is not None
    _refuse_reserved(target, "alter")
    if target.superuser and not user.superuser:
        raise InsufficientPrivilege("must be superuser to alter superusers")
    if not user.superuser and not user.create_role and target.id != user.id:
        raise InsufficientPrivilege("permission denied")
    where = database.id if database is not None else 0
    entries = tuple(s for s in target.settings if s[0] != where or _survives(s[1], statement))
    if value is not None:
        entries = (*entries, (where, name, value))
    env.overlay.put(msgspec.structs.replace(target, settings=entries))
    return "ALTER ROLE"


def _survives(name: str, statement: AlterSettings) -> bool:
    return statement.name.lower() not in (name.lower(), "all")


def _role_ids(env: DdlEnvironment, specs: tuple[RoleSpec, ...], text: str) -> set[int]:
    result = {role_id(env, spec) for spec in specs}
    snapshot = env.overlay.snapshot
    user = env.catalog.user_id
    if not env.catalog.is_superuser and not result <= acl.roles_of(
        snapshot, user, env.catalog.database_id
    ):
        raise InsufficientPrivilege(text)
    for number in sorted(result):
        if number < FIRST_USER_ID:
            verb = "reassign ownership of" if "reassign" in text else "drop"
            raise DependentObjectsStillExist(
                f"cannot {verb} objects owned by role {acl.role_name(snapshot, number)}"
                " because they are required by the database system"
            )
    return result


async def reassign_owned(env: DdlEnvironment, statement: ReassignOwned) -> str:
    """REASSIGN OWNED: objects of this database, and databases."""
    text = "permission denied to reassign objects"
    old_ids = _role_ids(env, statement.roles, text)
    new_id = role_id(env, statement.new_role)
    if not env.catalog.is_superuser and new_id not in acl.roles_of(
        env.overlay.snapshot, env.catalog.user_id, env.catalog.database_id
    ):
        raise InsufficientPrivilege(text)
    for item in _all_objects(env):
        if item.owner in old_ids and _database_of(env, item) in (0, env.catalog.database_id):
            current = env.overlay.snapshot.get(item.id)
            assert current is not None
            if current.owner in old_ids:
                give(env, current, new_id)
    return "REASSIGN OWNED"


async def drop_owned(env: DdlEnvironment, statement: DropOwned) -> str:
    """DROP OWNED.

    Objects of this database that the roles own, and the privileges they have here.
    """
    ids = _role_ids(env, statement.roles, "permission denied to drop objects")
    roots = [
        Address("object", item.id)
        for item in _all_objects(env)
        if item.owner in ids
        and not isinstance(item, Database)
        and _database_of(env, item) == env.catalog.database_id
        and not (isinstance(item, Sequence) and item.owned_by)
    ]
    if roots:
        plan = DropPlan(env, roots)
        await plan.lock()
        plan.run_checks(cascade=statement.behavior == "cascade")
        await plan.execute()
    for item in _all_objects(env):
        if _database_of(env, item) in (0, env.catalog.database_id) and any(
            _acl_mentions(item, number) for number in ids
        ):
            env.overlay.put(_without_grantees(item, ids))
    for role in list(env.overlay.snapshot.all(Role)):
        entries = tuple(
            msgspec.structs.replace(e, acl=tuple(i for i in e.acl if i.grantee not in ids))
            for e in role.default_acls
            if role.id not in ids or e.database_id != env.catalog.database_id
        )
        if entries != role.default_acls:
            env.overlay.put(msgspec.structs.replace(role, default_acls=entries))
    return "DROP OWNED"


def _without_grantees(item: AnyDescriptor, ids: set[int]) -> AnyDescriptor:
    def kept(items: tuple[AclItem, ...] | None) -> tuple[AclItem, ...] | None:
        if items is None:
            return None
        return tuple(i for i in items if i.grantee not in ids and i.grantor not in ids)

    if isinstance(item, Table):
        columns = tuple(msgspec.structs.replace(c, acl=kept(c.acl)) for c in item.columns)
        item = msgspec.structs.replace(item, columns=columns)
    return msgspec.structs.replace(item, acl=kept(item.acl))
