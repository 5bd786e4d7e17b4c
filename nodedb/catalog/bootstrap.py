"""The catalog of a new cluster: databases with public schemas, the superuser, predefined roles.

Source: PostgreSQL docs, "Predefined Roles", "The Public Schema", "Template Databases".
"""

from __future__ import annotations

from typing import Final

from nodedb.catalog.acl import DATABASE_OWNER_ROLE, PUBLIC
from nodedb.catalog.changes import CatalogChange
from sql.catalog.descriptor import (
    FIRST_USER_ID,
    PUBLIC_SCHEMA_ID,
    SUPERUSER_ID,
    AclItem,
    AnyDescriptor,
    Database,
    Role,
    Schema,
)

DEFAULT_DATABASE: Final = "nodedb"
DEFAULT_DATABASE_ID: Final = 5
SUPERUSER_NAME: Final = "nodedb"
TEMPLATE_DATABASE_ID: Final = 1
_PREDEFINED_ROLES: Final = (
    (3373, "pg_monitor", (3374, 3375, 3377)),
    (3374, "pg_read_all_settings", ()),
    (3375, "pg_read_all_stats", ()),
    (3377, "pg_stat_scan_tables", ()),
    (4200, "pg_signal_backend", ()),
    (4544, "pg_checkpoint", ()),
    (4569, "pg_read_server_files", ()),
    (4570, "pg_write_server_files", ()),
    (4571, "pg_execute_server_program", ()),
    (DATABASE_OWNER_ROLE, "pg_database_owner", ()),
    (6181, "pg_read_all_data", ()),
    (6182, "pg_write_all_data", ()),
)
_TEMPLATE_ACL: Final = (
    AclItem(PUBLIC, SUPERUSER_ID, "c"),
    AclItem(SUPERUSER_ID, SUPERUSER_ID, "CTc"),
)
_DATABASES: Final = (
    (DEFAULT_DATABASE_ID, DEFAULT_DATABASE, PUBLIC_SCHEMA_ID, "", True),
    (6, "postgres", 2201, "default administrative connection database", True),
    (TEMPLATE_DATABASE_ID, "template1", 2202, "default template for new databases", True),
    (4, "template0", 2203, "unmodifiable empty database", False),
)


def public_schema(schema_id: int, database_id: int) -> Schema:
    """Return a database's public schema.

    Everybody may use it, only the database's owner creates in it.
    """
    return Schema(
        id=schema_id,
        name="public",
        owner=DATABASE_OWNER_ROLE,
        database_id=database_id,
        comment="standard public schema",
        acl=(
            AclItem(DATABASE_OWNER_ROLE, DATABASE_OWNER_ROLE, "UC"),
            AclItem(PUBLIC, DATABASE_OWNER_ROLE, "U"),
        ),
    )


def bootstrap_catalog(scram_secret: str = "", superuser: str = SUPERUSER_NAME) -> CatalogChange:
    """Return the change that a new cluster's metadata log starts with."""
    puts: list[AnyDescriptor] = [
        Role(
            id=SUPERUSER_ID,
            name=superuser,
            superuser=True,
            create_db=True,
            create_role=True,
            login=True,
            replication=True,
            bypass_rls=True,
            scram_secret=scram_secret,
        )
    ]
    puts.extend(
        Role(id=role_id, name=name, member_of=tuple((parent, False) for parent in parents))
        for role_id, name, parents in _PREDEFINED_ROLES
    )
    for database_id, name, schema_id, comment, connectable in _DATABASES:
        is_template = name.startswith("template")
        puts.append(
            Database(
                id=database_id,
                name=name,
                comment=comment,
                allow_connections=connectable,
                acl=_TEMPLATE_ACL if is_template else None,
            )
        )
        puts.append(public_schema(schema_id, database_id))
    return CatalogChange(puts=tuple(puts), next_id=FIRST_USER_ID, user=superuser)
