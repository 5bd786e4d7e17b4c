"""Roles, databases and the other objects all databases share.

Source: PostgreSQL docs, "System Catalogs", "System Views".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog import acl
from nodedb.catalog.virtual.registry import (
    CatalogView,
    Record,
    live_table,
    system_table,
    view_of,
)
from nodedb.catalog.virtual.relations import PG_AUTHID, PG_CLASS, PG_DATABASE, PG_NAMESPACE
from sql.catalog.descriptor import PUBLIC_SCHEMA_ID, Database, Role
from sql.errors import InsufficientPrivilege
from sql.types.array import ArrayValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql.functions.context import ExecutionContext

UTF8: Final = 6


def _settings(role: Role, database_id: int = 0) -> ArrayValue | None:
    found = tuple(f"{name}={value}" for where, name, value in role.settings if where == database_id)
    return ArrayValue(found) if found else None


def _role(role: Role) -> Record:
    return {
        "oid": role.id,
        "rolname": role.name,
        "rolsuper": role.superuser,
        "rolinherit": role.inherit,
        "rolcreaterole": role.create_role,
        "rolcreatedb": role.create_db,
        "rolcanlogin": role.login,
        "rolreplication": role.replication,
        "rolconnlimit": role.connection_limit,
        "rolpassword": "********",
        "rolvaliduntil": role.valid_until,
        "rolbypassrls": role.bypass_rls,
        "rolconfig": _settings(role),
    }


@system_table("pg_roles")
def pg_roles(view: CatalogView) -> Iterator[Record]:
    """All roles, passwords hidden."""
    return (_role(role) for role in view.snapshot.all(Role))


def _require_superuser(context: ExecutionContext, name: str) -> None:
    if not acl.is_superuser(context.catalog.snapshot, context.catalog.user_id):
        kind = "view" if name == "pg_shadow" else "table"
        raise InsufficientPrivilege(f"permission denied for {kind} {name}")


@live_table("pg_authid")
def pg_authid(context: ExecutionContext) -> Iterator[Record]:
    """All roles with their secrets: for superusers."""
    _require_superuser(context, "pg_authid")
    for role in view_of(context).snapshot.all(Role):
        yield {**_role(role), "rolpassword": role.scram_secret or None}


def _user(role: Role, password: str | None) -> Record:
    return {
        "usename": role.name,
        "usesysid": role.id,
        "usecreatedb": role.create_db,
        "usesuper": role.superuser,
        "userepl": role.replication,
        "usebypassrls": role.bypass_rls,
        "passwd": password,
        "valuntil": role.valid_until,
        "useconfig": _settings(role),
    }


@system_table("pg_user")
def pg_user(view: CatalogView) -> Iterator[Record]:
    """Roles that can log in."""
    return (_user(role, "********") for role in view.snapshot.all(Role) if role.login)


@live_table("pg_shadow")
def pg_shadow(context: ExecutionContext) -> Iterator[Record]:
    """Roles that can log in, with their secrets: for superusers."""
    _require_superuser(context, "pg_shadow")
    for role in view_of(context).snapshot.all(Role):
        if role.login:
            yield _user(role, role.scram_secret or None)


@system_table("pg_group")
def pg_group(view: CatalogView) -> Iterator[Record]:
    """Roles that cannot log in, with their members."""
    for role in view.snapshot.all(Role):
        if not role.login:
            members = tuple(m.id for m in view.snapshot.all(Role) if role.id in dict(m.member_of))
            yield {"groname": role.name, "grosysid": role.id, "grolist": ArrayValue(members)}


@system_table("pg_auth_members")
def pg_auth_members(view: CatalogView) -> Iterator[Record]:
    """Memberships."""
    for role in view.snapshot.all(Role):
        for parent, admin in role.member_of:
            yield {"roleid": parent, "member": role.id, "grantor": 10, "admin_option": admin}


@system_table("pg_db_role_setting")
def pg_db_role_setting(view: CatalogView) -> Iterator[Record]:
    """ALTER ROLE and DATABASE ... SET."""
    for database in view.snapshot.all(Database):
        if database.settings:
            texts = tuple(f"{name}={value}" for name, value in database.settings)
            yield {"setdatabase": database.id, "setrole": 0, "setconfig": ArrayValue(texts)}
    for role in view.snapshot.all(Role):
        for database_id in dict.fromkeys(where for where, _, _ in role.settings):
            yield {
                "setdatabase": database_id,
                "setrole": role.id,
                "setconfig": _settings(role, database_id),
            }


@system_table("pg_database")
def pg_database(view: CatalogView) -> Iterator[Record]:
    """All databases."""
    for database in view.snapshot.all(Database):
        yield {
            "oid": database.id,
            "datname": database.name,
            "datdba": database.owner,
            "encoding": UTF8,
            "datlocprovider": "c",
            "datistemplate": database.name.startswith("template"),
            "datallowconn": database.allow_connections,
            "datconnlimit": database.connection_limit,
            "datfrozenxid": 0,
            "datminmxid": 1,
            "dattablespace": 1663,
            "datcollate": "C.UTF-8",
            "datctype": "C.UTF-8",
            "datacl": view.acl(database.acl),
        }


@system_table("pg_shdescription")
def pg_shdescription(view: CatalogView) -> Iterator[Record]:
    """Comments on databases and roles."""
    for database in view.snapshot.all(Database):
        if database.comment:
            yield _comment(database.id, PG_DATABASE, database.comment)
    for role in view.snapshot.all(Role):
        if role.comment:
            yield _comment(role.id, PG_AUTHID, role.comment)


def _comment(oid: int, class_id: int, text: str) -> Record:
    return {"objoid": oid, "classoid": class_id, "description": text}


@system_table("pg_shdepend")
def pg_shdepend(view: CatalogView) -> Iterator[Record]:
    """Owners of the objects of this database."""
    relations = (*view.tables, *view.views, *view.sequences)
    for item, class_id in (
        *((r, PG_CLASS) for r in relations),
        *((s, PG_NAMESPACE) for s in view.schemas if s.id != PUBLIC_SCHEMA_ID),
    ):
        if item.owner >= 16384:
            yield {
                "dbid": view.database_id,
                "classid": class_id,
                "objid": item.id,
                "objsubid": 0,
                "refclassid": PG_AUTHID,
                "refobjid": item.owner,
                "deptype": "o",
            }


@system_table("pg_default_acl")
def pg_default_acl(view: CatalogView) -> Iterator[Record]:
    """ALTER DEFAULT PRIVILEGES."""
    for role in view.snapshot.all(Role):
        for entry in role.default_acls:
            if entry.database_id == view.database_id:
                yield {
                    "oid": entry.id,
                    "defaclrole": role.id,
                    "defaclnamespace": entry.schema_id,
                    "defaclobjtype": entry.kind,
                    "defaclacl": view.acl(entry.acl),
                }
