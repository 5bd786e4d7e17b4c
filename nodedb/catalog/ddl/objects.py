"""Finding and describing objects for DDL: names to descriptors, ownership, messages.

Source: PostgreSQL docs, "Privileges", "Dependency Tracking".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog import acl
from nodedb.catalog.derived import IndexPlace, find_index
from nodedb.catalog.session_catalog import undefined_relation
from sql.ast.deparse_names import quote_identifier
from sql.ast.query import QualifiedName
from sql.catalog.catalog import BindableRelation, VirtualTable
from sql.catalog.descriptor import (
    INFORMATION_SCHEMA_ID,
    INTERNAL_SCHEMA_ID,
    PG_CATALOG_ID,
    AclItem,
    AnyDescriptor,
    Database,
    Descriptor,
    Relation,
    Role,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.errors import (
    DuplicateTable,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidSchemaName,
    InvalidTableDefinition,
    SqlError,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import RoleSpec
    from sql.span import Span

AnyRelation = BindableRelation | IndexPlace
_ARTICLES: Final = {
    "table": "a table",
    "index": "an index",
    "view": "a view",
    "sequence": "a sequence",
    "materialized view": "a materialized view",
}


def role_id(env: DdlEnvironment, spec: RoleSpec) -> int:
    """Resolve a role in a statement; UndefinedObject (42704)."""
    match spec.kind:
        case "current_user" | "current_role":
            return env.catalog.user_id
        case "session_user":
            return env.session_user_id
        case "public":
            raise UndefinedObject('role "public" does not exist')
        case "name":
            return named_role(env, spec.name).id


def named_role(env: DdlEnvironment, name: str) -> Role:
    """Find a role by name; UndefinedObject (42704)."""
    role = env.overlay.snapshot.role(name)
    if role is None:
        raise UndefinedObject(f'role "{name}" does not exist')
    return role


def kind_of(found: AnyRelation | AnyDescriptor) -> str:
    """Return what a message calls an object."""
    match found:
        case Table():
            return "table"
        case View():
            return "view"
        case Sequence():
            return "sequence"
        case VirtualTable():
            return "view" if found.is_view else "table"
        case IndexPlace():
            return "index"
        case Schema():
            return "schema"
        case Database():
            return "database"
        case Role():
            return "role"


def require_owner(env: DdlEnvironment, descriptor: Descriptor, kind: str = "") -> None:
    """Raise 42501 ``must be owner of table t`` unless the role owns the object."""
    if not env.catalog.owns(descriptor):
        shown = kind or kind_of(descriptor)  # type: ignore[arg-type]
        label = "relation" if shown == "relation" else shown
        raise InsufficientPrivilege(f"must be owner of {label} {descriptor.name}")


def shown_name(env: DdlEnvironment, relation: Relation) -> str:
    """Return a relation's name, quoted, qualified unless it is visible."""
    return qualified(env, relation.schema_id, relation.name)


def qualified(env: DdlEnvironment, schema_id: int, name: str) -> str:
    """Return a quoted name, qualified unless the search path finds it."""
    catalog = env.catalog
    if catalog.is_visible(schema_id, name):
        return quote_identifier(name)
    return f"{quote_identifier(catalog.schema_name(schema_id))}.{quote_identifier(name)}"


def describe(env: DdlEnvironment, descriptor: AnyDescriptor) -> str:
    """Return ``table t``, ``view s.v``, ``schema s``... as dependency messages name objects."""
    if isinstance(descriptor, (Table, View, Sequence)):
        return f"{kind_of(descriptor)} {shown_name(env, descriptor)}"
    return f"{kind_of(descriptor)} {quote_identifier(descriptor.name)}"


def find_any(env: DdlEnvironment, name: QualifiedName) -> AnyRelation | None:
    """Find a relation or an index along the search path."""
    catalog = env.catalog
    if name.schema:
        # Without the name's place: PostgreSQL gives none outside of parse analysis.
        schema_id = catalog.explicit_schema_id(QualifiedName(name.name, name.schema, name.catalog))
        return None if schema_id is None else find_in(env, schema_id, name.name)
    for schema_id in catalog.search_path_ids():
        found = find_in(env, schema_id, name.name)
        if found is not None:
            return found
    return None


def find_in(env: DdlEnvironment, schema_id: int, name: str) -> AnyRelation | None:
    """Find a relation or an index in one schema."""
    return env.catalog.relation_in(schema_id, name) or find_index(
        env.overlay.snapshot, schema_id, name
    )


def require_table(
    env: DdlEnvironment, name: QualifiedName, *, missing_ok: bool = False, action: str = ""
) -> Table | None:
    """Find a table that the role owns.

    With ``missing_ok`` a missing one is None after PostgreSQL's notice. ``action`` names the
    ALTER TABLE form for the message about relations that are not tables.
    """
    found = find_any(env, name)
    if found is None:
        if missing_ok:
            skip_missing(env, f'relation "{name.name}"')
            return None
        raise undefined(env, name)
    refuse_system(env, found)
    if isinstance(found, Table):
        require_owner(env, found)
        return found
    kind = kind_of(found)
    if not action:
        raise WrongObjectType(f'"{name.name}" is not a table')
    plural = {"index": "indexes", "view": "views", "sequence": "sequences"}[kind]
    raise WrongObjectType(
        f'ALTER action {action} cannot be performed on relation "{name.name}"',
        detail=f"This operation is not supported for {plural}.",
    )


def undefined(env: DdlEnvironment, name: QualifiedName, *, placed: bool = False) -> SqlError:
    """Return the error for a relation that does not exist, or whose schema does not (3F000).

    It has a position only if ``placed``: PostgreSQL gives none outside of parse analysis.
    """
    error: SqlError = undefined_relation(name)
    if name.schema and env.catalog.schema_id(name.schema) is None:
        error = InvalidSchemaName(f'schema "{name.schema}" does not exist', span=name.span)
    if not placed:
        error.position = 0
    return error


def refuse_system(env: DdlEnvironment, found: AnyRelation) -> None:
    """InsufficientPrivilege (42501) for system tables; only a superuser counts as their owner."""
    if isinstance(found, VirtualTable):
        if not env.catalog.is_superuser:
            raise InsufficientPrivilege(f"must be owner of {kind_of(found)} {found.name}")
        raise system_catalog(found)


def system_catalog(table: VirtualTable) -> InsufficientPrivilege:
    """Return the error for what not even a superuser may do with a system table."""
    return InsufficientPrivilege(f'permission denied: "{table.name}" is a system catalog')


def skip_missing(env: DdlEnvironment, what: str) -> None:
    """Send ``... does not exist, skipping``."""
    env.notice("NOTICE", "00000", f"{what} does not exist, skipping")


def not_a(kind: str, found: AnyRelation, name: str) -> WrongObjectType:
    """Return ``"x" is not a view`` with the hint which DROP fits."""
    actual = kind_of(found)
    return WrongObjectType(
        f'"{name}" is not {_ARTICLES[kind]}',
        hint=f"Use DROP {actual.upper()} to remove {_ARTICLES[actual]}.",
    )


def creation_schema(
    env: DdlEnvironment, name: QualifiedName, *, temporary: bool = False, placed: bool = False
) -> int:
    """Return the schema in which a statement creates ``name``, checking the CREATE privilege.

    Errors have the name's position if ``placed``, as in CREATE TABLE.
    """
    span = name.span if placed else None
    catalog = env.catalog
    if name.schema == "pg_temp" or (name.schema and name.schema == _temp_name(env)):
        temporary = True
    elif temporary and name.schema:
        raise InvalidTableDefinition(
            "cannot create temporary relation in non-temporary schema", span=span
        )
    if temporary or (not name.schema and catalog.search_path[:1] == ("pg_temp",)):
        return _temporary_schema(env)
    if name.schema:
        if name.catalog and name.catalog != catalog.database_name:
            whole = f"{name.catalog}.{name.schema}.{name.name}"
            raise FeatureNotSupported(
                f'cross-database references are not implemented: "{whole}"', span=span
            )
        found = catalog.schema_id(name.schema)
        if found is None:
            raise InvalidSchemaName(f'schema "{name.schema}" does not exist', span=span)
    else:
        found = catalog.creation_schema_id(span)
    require_create(env, found, name.name, span)
    return found


def require_create(
    env: DdlEnvironment, schema_id: int, name: str, span: Span | None = None
) -> None:
    """InsufficientPrivilege (42501) unless the role may create in the schema."""
    schema = env.catalog.schema_name(schema_id)
    if "C" not in env.catalog.schema_privileges(schema_id):
        raise InsufficientPrivilege(f"permission denied for schema {schema}", span=span)
    if schema_id in (PG_CATALOG_ID, INFORMATION_SCHEMA_ID, INTERNAL_SCHEMA_ID):
        raise InsufficientPrivilege(
            f'permission denied to create "{schema}.{name}"',
            detail="System catalog modifications are currently disallowed.",
        )


def _temp_name(env: DdlEnvironment) -> str:
    return f"pg_temp_{env.session_id}"


def _temporary_schema(env: DdlEnvironment) -> int:
    catalog = env.catalog
    if "T" not in catalog.database_privileges():
        raise InsufficientPrivilege(
            f'permission denied to create temporary tables in database "{catalog.database_name}"'
        )
    if catalog.temp_schema_id:
        return catalog.temp_schema_id
    schema_id = env.overlay.allocate_id()
    env.overlay.put(Schema(id=schema_id, name=_temp_name(env), database_id=catalog.database_id))
    return schema_id


def is_temporary(env: DdlEnvironment, schema_id: int) -> bool:
    """Tell whether a schema is a session's temporary one."""
    return env.catalog.schema_name(schema_id).startswith("pg_temp_")


def name_exists(env: DdlEnvironment, schema_id: int, name: str, *, if_not_exists: bool) -> bool:
    """Tell whether a relation of that name exists, after the notice.

    DuplicateTable (42P07) without IF NOT EXISTS.
    """
    if find_in(env, schema_id, name) is None:
        return False
    if not if_not_exists:
        raise DuplicateTable(f'relation "{name}" already exists')
    env.notice("NOTICE", "42P07", f'relation "{name}" already exists, skipping')
    return True


def is_relation_name_taken(env: DdlEnvironment, schema_id: int, name: str) -> bool:
    """Tell whether a relation or index of that name exists in the schema."""
    return find_in(env, schema_id, name) is not None


def resolve_regclass(env: DdlEnvironment, text: str) -> int | None:
    """Resolve the text of a regclass constant to a relation's OID, None if there is none."""
    parts = split_name(text)
    found = env.catalog.find_relation(QualifiedName(parts[-1], parts[-2] if len(parts) > 1 else ""))
    return None if isinstance(found, VirtualTable) or found is None else found.id


def split_name(text: str) -> list[str]:
    """Split ``schema."Name"`` at its dots, folding what is not quoted."""
    parts: list[str] = []
    current: list[str] = []
    quoted = False
    for char in text:
        if char == '"':
            quoted = not quoted
        elif char == "." and not quoted:
            parts.append("".join(current))
            current = []
        else:
            current.append(char if quoted else char.lower())
    parts.append("".join(current))
    return parts


def initial_acl(env: DdlEnvironment, kind: str, schema_id: int) -> tuple[AclItem, ...] | None:
    """Return what ALTER DEFAULT PRIVILEGES gives a new object of the current role.

    ``kind`` as in pg_default_acl.
    """
    catalog = env.catalog
    owner = env.overlay.snapshot.role_by_id(catalog.user_id)
    if owner is None or not owner.default_acls or is_temporary(env, schema_id):
        return None
    name = {"r": "table", "S": "sequence", "n": "schema"}[kind]
    base = acl.default_acl(name, owner.id)
    result = base
    for item in owner.default_acls:
        if item.database_id == catalog.database_id and item.kind == kind and not item.schema_id:
            result = item.acl
    for item in owner.default_acls:
        if (
            item.database_id == catalog.database_id
            and item.kind == kind
            and (schema_id and item.schema_id == schema_id)
        ):
            for entry in item.acl:
                result = acl.grant(
                    result,
                    entry.grantee,
                    entry.grantor,
                    entry.privileges,
                    grant_option=bool(entry.grantable),
                )
    return None if set(result) == set(base) else result
