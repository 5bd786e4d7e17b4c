"""What a DDL statement locks in the catalog, besides the tables it works on.

Sessions see each other's catalog changes only after COMMIT, so two of them could take the same name
or change the same object. PostgreSQL finds that out at the statement, by waiting for the other
transaction at a unique index or a row of its system tables. Here the statement, once planned into
the overlay, locks what it has touched; if it had to wait for any of it, it is undone and planned
again from the names on (``nodedb.session.ddl``). A conflict at COMMIT is then impossible.

Resources of the lock table, and their modes:

* ``CatalogResource(kind, scope, name)``, ACCESS EXCLUSIVE: a name that the statement takes.
  Relations and indexes of a schema share one space of names, as do schemas of a database,
  databases, and roles.
* ``CatalogResource("object", id)``: SHARE UPDATE EXCLUSIVE for who changes a descriptor, ACCESS
  EXCLUSIVE for who drops it, ACCESS SHARE for who makes something that needs it to stay: a table
  its schema, an object its owner, a privilege its grantee.
* A relation's own lock (its id), ACCESS SHARE, for a view over it, a default that draws from a
  sequence, a sequence owned by a column: whoever drops the relation holds ACCESS EXCLUSIVE.

Differs from PostgreSQL: who waited for a name and lost it gets the error of a name that exists
(42P07, 42P06, 42710), and IF NOT EXISTS its notice, where PostgreSQL reports a duplicate key of a
system table (23505): there the statement does not look again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.ddl.rewrite import relations_in
from nodedb.kv.locks import (
    ACCESS_EXCLUSIVE,
    ACCESS_SHARE,
    SHARE_UPDATE_EXCLUSIVE,
    CatalogResource,
)
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

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

CatalogPair = tuple[AnyDescriptor | None, AnyDescriptor | None]
"""A descriptor before and after a statement: None for what was made, or is dropped."""


class Claim(NamedTuple):
    """One lock to take."""

    resource: Hashable
    mode: int


def object_resource(descriptor_id: int) -> CatalogResource:
    """Return the resource that stands for a descriptor."""
    return CatalogResource("object", descriptor_id)


def claims(pairs: Iterable[CatalogPair]) -> list[Claim]:
    """Return the locks that changing these descriptors takes, in an order all sessions share."""
    result: set[Claim] = set()
    for before, after in pairs:
        if before is not None:
            mode = ACCESS_EXCLUSIVE if after is None else SHARE_UPDATE_EXCLUSIVE
            result.add(Claim(object_resource(before.id), mode))
        if after is None:
            continue
        for name in _names(after) - (_names(before) if before is not None else set()):
            result.add(Claim(CatalogResource(*name), ACCESS_EXCLUSIVE))
        known = _needed_objects(before) if before is not None else set()
        for number in _needed_objects(after) - known:
            result.add(Claim(object_resource(number), ACCESS_SHARE))
        read = _needed_relations(before) if before is not None else set()
        for number in _needed_relations(after) - read:
            result.add(Claim(number, ACCESS_SHARE))
    return sorted(result, key=repr)


def _names(descriptor: AnyDescriptor) -> set[tuple[str, int, str]]:
    """Return the names that an object has: (kind, where it must be unique, name)."""
    match descriptor:
        case Database():
            return {("database", 0, descriptor.name)}
        case Role():
            return {("role", 0, descriptor.name)}
        case Schema():
            return {("schema", descriptor.database_id, descriptor.name)}
        case Table():
            names = {descriptor.name, *(index.name for index in descriptor.indexes)}
            if descriptor.primary_name:
                names.add(descriptor.primary_name)
            return {("relation", descriptor.schema_id, name) for name in names}
        case View() | Sequence():
            return {("relation", descriptor.schema_id, descriptor.name)}


def _needed_objects(descriptor: AnyDescriptor) -> set[int]:
    """Return the roles, schemas and databases that an object mentions."""
    lists: list[tuple[AclItem, ...]] = [descriptor.acl or ()]
    needed = {descriptor.owner}
    match descriptor:
        case Schema():
            needed.add(descriptor.database_id)
        case Role():
            needed |= {role_id for role_id, _ in descriptor.member_of}
            needed |= {entry[0] for entry in descriptor.settings}
            for default in descriptor.default_acls:
                needed |= {default.database_id, default.schema_id}
                lists.append(default.acl)
        case Table():
            needed.add(descriptor.schema_id)
            lists.extend(column.acl for column in descriptor.columns if column.acl)
        case View() | Sequence():
            needed.add(descriptor.schema_id)
        case Database():
            pass
    for items in lists:
        for item in items:
            needed |= {item.grantee, item.grantor}
    return {number for number in needed if number >= FIRST_USER_ID or number in _DROPPABLE}


# What a new cluster comes with, and may be changed or dropped like anything else.
_DROPPABLE: Final = frozenset(
    item.id for item in bootstrap_catalog().puts if isinstance(item, (Database, Schema))
)


def _needed_relations(descriptor: AnyDescriptor) -> set[int]:
    """Return the relations that a view reads, defaults draw from, or a sequence is owned by.

    Foreign keys lock the tables they refer to themselves, before they look at rows.
    """
    needed: set[int] = set()
    match descriptor:
        case View():
            needed = {on for on, _ in descriptor.depends_on}
            for shown in descriptor.columns:
                if shown.default is not None:
                    needed |= set(relations_in(shown.default))
        case Table():
            for column in descriptor.columns:
                if column.default is not None:
                    needed |= set(relations_in(column.default))
        case Sequence():
            needed = {descriptor.owned_by[0]} if descriptor.owned_by is not None else set()
        case Database() | Role() | Schema():
            pass
    return {number for number in needed if number >= FIRST_USER_ID}
