"""OWNER TO: a new owner for any object, with what belongs to it.

Source: PostgreSQL docs, "ALTER TABLE", "ALTER DATABASE", "ALTER SCHEMA".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog import acl
from nodedb.catalog.ddl.objects import (
    find_any,
    kind_of,
    not_a,
    refuse_system,
    require_owner,
    role_id,
    undefined,
)
from nodedb.catalog.derived import IndexPlace
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import AclItem, AnyDescriptor, Schema, Sequence, Table, View
from sql.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidCatalogName,
    InvalidSchemaName,
    UndefinedObject,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import AlterOwner, RoleSpec


async def alter_owner(env: DdlEnvironment, statement: AlterOwner) -> str:
    """ALTER SCHEMA, DATABASE, SEQUENCE or VIEW ... OWNER TO."""
    tag = f"ALTER {statement.kind.upper()}"
    name = statement.name
    snapshot = env.overlay.snapshot
    found: AnyDescriptor | None
    match statement.kind:
        case "schema":
            found = snapshot.schema(env.catalog.database_id, name.name)
            if found is None:
                raise InvalidSchemaName(f'schema "{name.name}" does not exist')
        case "database":
            found = snapshot.database(name.name)
            if found is None:
                raise InvalidCatalogName(f'database "{name.name}" does not exist')
        case "sequence" | "view" | "table":
            relation = find_any(env, name)
            if relation is None:
                raise undefined(env, name)
            refuse_system(env, relation)
            if isinstance(relation, (IndexPlace, VirtualTable)) or (
                kind_of(relation) != statement.kind and statement.kind != "table"
            ):
                raise not_a(statement.kind, relation, name.name)
            found = relation
        case _:
            raise UndefinedObject(f'{statement.kind} "{name.name}" does not exist')
    await change_owner(env, found, statement.role)
    return tag


async def change_owner(env: DdlEnvironment, descriptor: AnyDescriptor, spec: RoleSpec) -> None:
    """Give an object to another role; the role must own it and be a member of the new owner."""
    new_owner = role_id(env, spec)
    if descriptor.owner == new_owner:
        return
    catalog = env.catalog
    if isinstance(descriptor, Sequence) and descriptor.owned_by is not None:
        table = env.overlay.snapshot.table(descriptor.owned_by[0])
        assert table is not None
        raise FeatureNotSupported(
            f'cannot change owner of sequence "{descriptor.name}"',
            detail=f'Sequence "{descriptor.name}" is linked to table "{table.name}".',
        )
    if not catalog.is_superuser:
        require_owner(env, descriptor)
        members = acl.memberships(env.overlay.snapshot, catalog.user_id, catalog.database_id)
        if new_owner not in members:
            name = acl.role_name(env.overlay.snapshot, new_owner)
            raise InsufficientPrivilege(f'must be member of role "{name}"')
        _require_create(env, descriptor, new_owner)
    await env.lock_table(descriptor.id, "access exclusive")
    if isinstance(descriptor, Table):
        env.require_unused(descriptor, "ALTER TABLE")
    give(env, descriptor, new_owner)


def _require_create(env: DdlEnvironment, descriptor: AnyDescriptor, new_owner: int) -> None:
    if not isinstance(descriptor, (Table, View, Sequence)):
        return
    schema = env.overlay.snapshot.get(descriptor.schema_id)
    if isinstance(schema, Schema) and "C" not in acl.held(
        env.overlay.snapshot, new_owner, schema, env.catalog.database_id
    ):
        raise InsufficientPrivilege(f"permission denied for schema {schema.name}")


def give(env: DdlEnvironment, descriptor: AnyDescriptor, new_owner: int) -> None:
    """Replace the owner in an object, its privileges and its owned sequences, without checks."""
    old_owner = descriptor.owner
    items = descriptor.acl
    if items is not None:
        items = tuple(
            AclItem(
                new_owner if item.grantee == old_owner else item.grantee,
                new_owner if item.grantor == old_owner else item.grantor,
                item.privileges,
                item.grantable,
            )
            for item in items
        )
    changed = msgspec.structs.replace(descriptor, owner=new_owner, acl=items)
    if isinstance(changed, Table):
        changed = msgspec.structs.replace(
            changed,
            indexes=tuple(msgspec.structs.replace(i, owner=new_owner) for i in changed.indexes),
        )
        for sequence in list(env.overlay.snapshot.all(Sequence)):
            if sequence.owned_by is not None and sequence.owned_by[0] == changed.id:
                give(env, sequence, new_owner)
    env.overlay.put(changed)
