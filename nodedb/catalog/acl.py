"""Privileges: access control lists, what they default to, and who holds what.

A list is a tuple of ``AclItem``; None means PostgreSQL's built-in default for the kind of object.
Privileges are aclitem letters, always in the order of ``LETTERS``.

Source: PostgreSQL docs, "Privileges", "Role Membership", "Predefined Roles".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.catalog.derived import derived
from sql.catalog.descriptor import (
    AclItem,
    Database,
    Descriptor,
    Role,
    Schema,
    Sequence,
    Table,
    View,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sql.catalog.snapshot import CatalogSnapshot

PUBLIC: Final = 0
LETTERS: Final = "arwdDxtXUCTc"
NAME_TO_LETTER: Final = {
    "select": "r",
    "insert": "a",
    "update": "w",
    "delete": "d",
    "truncate": "D",
    "references": "x",
    "trigger": "t",
    "execute": "X",
    "usage": "U",
    "create": "C",
    "temporary": "T",
    "temp": "T",
    "connect": "c",
}
LETTER_TO_NAME: Final = {
    letter: name.upper() for name, letter in NAME_TO_LETTER.items() if name != "temp"
}
ALL_PRIVILEGES: Final = {
    "table": "arwdDxt",
    "column": "arwx",
    "sequence": "rwU",
    "schema": "UC",
    "database": "CTc",
    "function": "X",
    "language": "U",
    "type": "U",
    "domain": "U",
}
DATABASE_OWNER_ROLE: Final = 6171
READ_ALL_DATA_ROLE: Final = 6181
WRITE_ALL_DATA_ROLE: Final = 6182


def ordered(letters: Iterable[str]) -> str:
    """Return the distinct letters in aclitem order."""
    wanted = set(letters)
    return "".join(letter for letter in LETTERS if letter in wanted)


def kind_of(descriptor: Descriptor) -> str:
    """Return the key of ``ALL_PRIVILEGES`` for an object."""
    match descriptor:
        case Sequence():
            return "sequence"
        case Schema():
            return "schema"
        case Database():
            return "database"
        case _:
            return "table"


def default_acl(kind: str, owner: int) -> tuple[AclItem, ...]:
    """Return what an object without a list of its own has."""
    own = AclItem(owner, owner, ALL_PRIVILEGES[kind])
    public = {"database": "Tc", "function": "X", "language": "U", "type": "U", "domain": "U"}.get(
        kind
    )
    if kind == "column":
        return ()
    return (AclItem(PUBLIC, owner, public), own) if public else (own,)


def effective_acl(descriptor: Descriptor) -> tuple[AclItem, ...]:
    """Return an object's list, the default one if it has none."""
    if descriptor.acl is not None:
        return descriptor.acl
    return default_acl(kind_of(descriptor), descriptor.owner)


def grant(
    acl: tuple[AclItem, ...],
    grantee: int,
    grantor: int,
    letters: str,
    *,
    grant_option: bool = False,
) -> tuple[AclItem, ...]:
    """Return ``acl`` with the letters added to the item of this grantee and grantor."""
    result = list(acl)
    for position, item in enumerate(result):
        if item.grantee == grantee and item.grantor == grantor:
            result[position] = AclItem(
                grantee,
                grantor,
                ordered(item.privileges + letters),
                ordered(item.grantable + (letters if grant_option else "")),
            )
            return tuple(result)
    result.append(AclItem(grantee, grantor, ordered(letters), letters if grant_option else ""))
    return tuple(result)


def revoke(
    acl: tuple[AclItem, ...],
    grantee: int,
    grantor: int,
    letters: str,
    *,
    option_only: bool = False,
) -> tuple[AclItem, ...]:
    """Return ``acl`` with the letters taken from the item of this grantee and grantor.

    Empty items go.
    """
    result: list[AclItem] = []
    for item in acl:
        kept = item
        if item.grantee == grantee and item.grantor == grantor:
            grantable = ordered(set(item.grantable) - set(letters))
            privileges = (
                item.privileges if option_only else ordered(set(item.privileges) - set(letters))
            )
            kept = AclItem(grantee, grantor, privileges, grantable)
        if kept.privileges:
            result.append(kept)
    return tuple(result)


def grantable_by(acl: tuple[AclItem, ...], role_id: int, owner: int) -> set[str]:
    """Return the letters that ``role_id`` may pass on; the owner may pass on everything."""
    if role_id == owner:
        return set(LETTERS)
    return {letter for item in acl if item.grantee == role_id for letter in item.grantable}


def dependents_of(
    acl: tuple[AclItem, ...], role_id: int, owner: int, letters: str
) -> tuple[AclItem, ...]:
    """Return the items granted by ``role_id`` that it could no longer grant, as (grantee.

    Grantor, letters).
    """
    lost = set(letters) - grantable_by(acl, role_id, owner)
    return tuple(
        msgspec.structs.replace(item, privileges=ordered(lost & set(item.privileges)))
        for item in acl
        if item.grantor == role_id and item.grantee != role_id and lost & set(item.privileges)
    )


def roles_of(snapshot: CatalogSnapshot, role_id: int, database_id: int) -> frozenset[int]:
    """Return the roles whose privileges ``role_id`` has by inheritance, itself included."""
    return derived(
        snapshot,
        ("inherited roles", role_id, database_id),
        lambda snap: _closure(snap, role_id, database_id, inherited_only=True),
    )


def memberships(snapshot: CatalogSnapshot, role_id: int, database_id: int) -> frozenset[int]:
    """Return the roles that ``role_id`` is a member of, directly or not.

    Itself included (SET ROLE).
    """
    return derived(
        snapshot,
        ("member roles", role_id, database_id),
        lambda snap: _closure(snap, role_id, database_id, inherited_only=False),
    )


def _closure(
    snapshot: CatalogSnapshot, role_id: int, database_id: int, *, inherited_only: bool
) -> frozenset[int]:
    database = snapshot.get(database_id)
    owner = database.owner if isinstance(database, Database) else 0
    found = {role_id}
    pending = [role_id]
    while pending:
        role = snapshot.role_by_id(pending.pop())
        if role is None or (inherited_only and not role.inherit):
            continue
        parents = [parent for parent, _ in role.member_of]
        if role.id == owner:
            parents.append(DATABASE_OWNER_ROLE)
        fresh = [parent for parent in parents if parent not in found]
        found.update(fresh)
        pending.extend(fresh)
    return frozenset(found)


def is_superuser(snapshot: CatalogSnapshot, role_id: int) -> bool:
    """Tell whether a role is a superuser."""
    role = snapshot.role_by_id(role_id)
    return role is not None and role.superuser


def owns(snapshot: CatalogSnapshot, role_id: int, owner: int, database_id: int) -> bool:
    """Tell whether a role has the owner's rights.

    As the owner, by membership, or as a superuser.
    """
    return is_superuser(snapshot, role_id) or owner in roles_of(snapshot, role_id, database_id)


def held(
    snapshot: CatalogSnapshot, role_id: int, descriptor: Descriptor, database_id: int
) -> set[str]:
    """Return the letters that a role holds on an object."""
    everything = set(ALL_PRIVILEGES[kind_of(descriptor)])
    if is_superuser(snapshot, role_id):
        return everything
    roles = roles_of(snapshot, role_id, database_id)
    result = {
        letter
        for item in effective_acl(descriptor)
        if item.grantee == PUBLIC or item.grantee in roles
        for letter in item.privileges
    }
    return result | _predefined(descriptor, roles)


def _predefined(descriptor: Descriptor, roles: frozenset[int]) -> set[str]:
    """Return what pg_read_all_data and pg_write_all_data add."""
    result: set[str] = set()
    is_data = isinstance(descriptor, (Table, View, Sequence))
    if READ_ALL_DATA_ROLE in roles:
        result |= {"r"} if is_data else {"U"} if isinstance(descriptor, Schema) else set()
    if WRITE_ALL_DATA_ROLE in roles:
        result |= {"a", "w", "d"} if is_data else {"U"} if isinstance(descriptor, Schema) else set()
    return result


def held_on_column(acl: tuple[AclItem, ...] | None, roles: frozenset[int]) -> set[str]:
    """Return the letters that a column's own list gives to any of ``roles``."""
    return {
        letter
        for item in acl or ()
        if item.grantee == PUBLIC or item.grantee in roles
        for letter in item.privileges
    }


def role_name(snapshot: CatalogSnapshot, role_id: int) -> str:
    """Return a role's name, its number when it is gone."""
    role = snapshot.role_by_id(role_id)
    return role.name if isinstance(role, Role) else str(role_id)


def acl_text(snapshot: CatalogSnapshot, item: AclItem) -> str:
    """Return aclitem's output: ``grantee=privileges/grantor`` with * after grantable letters."""
    letters = "".join(
        letter + ("*" if letter in item.grantable else "") for letter in item.privileges
    )
    grantee = "" if item.grantee == PUBLIC else _quoted(role_name(snapshot, item.grantee))
    return f"{grantee}={letters}/{_quoted(role_name(snapshot, item.grantor))}"


def _quoted(name: str) -> str:
    if name and all(c.isalnum() or c == "_" for c in name):
        return name
    return '"' + name.replace('"', '""') + '"'
