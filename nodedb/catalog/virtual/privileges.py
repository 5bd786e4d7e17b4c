"""information_schema's views of roles and privileges.

Source: PostgreSQL docs, "The Information Schema".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog import acl
from nodedb.catalog.virtual.information_schema import RoleView, information_table, yes
from sql.catalog.descriptor import AclItem, Role, Table, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.catalog.virtual.registry import Record

_COLUMN_LETTERS: Final = "arwx"


def _involved(view: RoleView, item: AclItem, *, with_public: bool) -> bool:
    if view.superuser:
        return with_public or item.grantee != acl.PUBLIC
    if item.grantee == acl.PUBLIC:
        return with_public
    return item.grantee in view.roles or item.grantor in view.roles


def _grantee(view: RoleView, item: AclItem) -> Record:
    return {
        "grantor": view.catalog.role_name(item.grantor),
        "grantee": "PUBLIC" if item.grantee == acl.PUBLIC else view.catalog.role_name(item.grantee),
    }


def _table_grants(view: RoleView, *, with_public: bool) -> Iterator[Record]:
    everything: tuple[Table | View, ...] = (*view.catalog.tables, *view.catalog.views)
    for relation in everything:
        for item in acl.effective_acl(relation):
            if not _involved(view, item, with_public=with_public):
                continue
            for letter in item.privileges:
                owner_grants = item.grantee == relation.owner or letter in item.grantable
                yield {
                    **_grantee(view, item),
                    **view.place("table", relation),
                    "privilege_type": acl.LETTER_TO_NAME[letter],
                    "is_grantable": yes(owner_grants),
                    "with_hierarchy": yes(letter == "r"),
                }


@information_table("table_privileges")
def _table_privileges(view: RoleView) -> Iterator[Record]:
    return _table_grants(view, with_public=True)


@information_table("role_table_grants")
def _role_table_grants(view: RoleView) -> Iterator[Record]:
    return _table_grants(view, with_public=False)


def _column_grants(view: RoleView, *, with_public: bool) -> Iterator[Record]:
    for relation in (*view.catalog.tables, *view.catalog.views):
        assert isinstance(relation, (Table, View))
        columns = relation.visible_columns if isinstance(relation, Table) else relation.columns
        for column in columns:
            own = getattr(column, "acl", None) or ()
            for item in (*acl.effective_acl(relation), *own):
                if not _involved(view, item, with_public=with_public):
                    continue
                for letter in item.privileges:
                    if letter in _COLUMN_LETTERS:
                        grantable = item.grantee == relation.owner or letter in item.grantable
                        yield {
                            **_grantee(view, item),
                            **view.place("table", relation),
                            "column_name": column.name,
                            "privilege_type": acl.LETTER_TO_NAME[letter],
                            "is_grantable": yes(grantable),
                        }


@information_table("column_privileges")
def _column_privileges(view: RoleView) -> Iterator[Record]:
    return _column_grants(view, with_public=True)


@information_table("role_column_grants")
def _role_column_grants(view: RoleView) -> Iterator[Record]:
    return _column_grants(view, with_public=False)


def _usage(view: RoleView, *, with_public: bool) -> Iterator[Record]:
    for sequence in view.catalog.sequences:
        for item in acl.effective_acl(sequence):
            if "U" in item.privileges and _involved(view, item, with_public=with_public):
                grantable = item.grantee == sequence.owner or "U" in item.grantable
                yield {
                    **_grantee(view, item),
                    **view.place("object", sequence),
                    "object_type": "SEQUENCE",
                    "privilege_type": "USAGE",
                    "is_grantable": yes(grantable),
                }


@information_table("usage_privileges")
def _usage_privileges(view: RoleView) -> Iterator[Record]:
    return _usage(view, with_public=True)


@information_table("role_usage_grants")
def _role_usage_grants(view: RoleView) -> Iterator[Record]:
    return _usage(view, with_public=False)


@information_table("enabled_roles")
def _enabled_roles(view: RoleView) -> Iterator[Record]:
    for role in view.catalog.snapshot.all(Role):
        if view.superuser or role.id in view.roles:
            yield {"role_name": role.name}


@information_table("applicable_roles", "administrable_role_authorizations")
def _applicable_roles(view: RoleView) -> Iterator[Record]:
    for role in view.catalog.snapshot.all(Role):
        if not (view.superuser or role.id in view.roles):
            continue
        for parent, admin in role.member_of:
            yield {
                "grantee": role.name,
                "role_name": view.catalog.role_name(parent),
                "is_grantable": yes(admin),
            }
