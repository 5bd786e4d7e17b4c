"""Data definition statements as typed, immutable nodes.

Syntax only: nothing is resolved or checked.
"""

from __future__ import annotations

from typing import Literal, Union

from sql.ast.node import Node
from sql.ast.query import Expression, QualifiedName, Query, TypeName  # noqa: TC001 (decoded)
from sql.span import NO_SPAN, Span

ReferentialAction = Literal["no action", "restrict", "cascade", "set null", "set default"]
DropBehavior = Literal["restrict", "cascade"]
OptionValue = Union[str, int, float, bool, None]


class StorageOption(Node, frozen=True):
    """``name = value`` in WITH (...) or SET (...).

    The value as written, folded, None when absent.
    """

    name: str
    value: OptionValue = None
    span: Span = NO_SPAN


class SequenceOptions(Node, frozen=True):
    """Options of CREATE/ALTER SEQUENCE and of identity columns; None: not given.

    ``no_min_value`` and its like are the NO MINVALUE forms. ``owned_by`` is ("none",) or a column
    path. ``restart`` is None (absent), or (value|None,).
    """

    data_type: TypeName | None = None
    increment: int | None = None
    min_value: int | None = None
    no_min_value: bool = False
    max_value: int | None = None
    no_max_value: bool = False
    start: int | None = None
    restart: tuple[int | None] | None = None
    cache: int | None = None
    cycle: bool | None = None
    owned_by: tuple[str, ...] = ()
    sequence_name: QualifiedName | None = None


class NotNullConstraint(Node, frozen=True):
    """``[CONSTRAINT name] NOT NULL``."""

    name: str = ""
    span: Span = NO_SPAN


class NullConstraint(Node, frozen=True):
    """``NULL``."""

    span: Span = NO_SPAN


class DefaultConstraint(Node, frozen=True):
    """``DEFAULT expression``."""

    expression: Expression
    span: Span = NO_SPAN


class GeneratedConstraint(Node, frozen=True):
    """``GENERATED ALWAYS AS (expression) STORED``."""

    expression: Expression
    span: Span = NO_SPAN


class IdentityConstraint(Node, frozen=True):
    """``GENERATED ALWAYS | BY DEFAULT AS IDENTITY [(options)]``."""

    always: bool
    options: SequenceOptions
    span: Span = NO_SPAN


class CheckConstraint(Node, frozen=True):
    """``[CONSTRAINT name] CHECK (expression) [NO INHERIT] [NOT VALID]``, on a column or a table."""

    expression: Expression
    name: str = ""
    not_valid: bool = False
    no_inherit: bool = False
    span: Span = NO_SPAN


class UniqueConstraint(Node, frozen=True):
    """UNIQUE or, when ``primary``, PRIMARY KEY. ``columns`` is () in the column form.

    ``using_index`` names an existing index (ALTER TABLE ... ADD ... USING INDEX).
    """

    primary: bool
    columns: tuple[str, ...] = ()
    name: str = ""
    include: tuple[str, ...] = ()
    nulls_not_distinct: bool = False
    deferrable: bool = False
    initially_deferred: bool = False
    options: tuple[StorageOption, ...] = ()
    using_index: str = ""
    span: Span = NO_SPAN


class ForeignKeyConstraint(Node, frozen=True):
    """REFERENCES or FOREIGN KEY.

    ``columns`` is () in the column form; ``match`` full is 0A000-checked later.
    """

    referenced_table: QualifiedName
    referenced_columns: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    name: str = ""
    match: Literal["simple", "full", "partial"] = "simple"
    on_delete: ReferentialAction = "no action"
    on_delete_columns: tuple[str, ...] = ()
    on_update: ReferentialAction = "no action"
    deferrable: bool = False
    initially_deferred: bool = False
    not_valid: bool = False
    span: Span = NO_SPAN


ColumnConstraint = Union[
    NotNullConstraint,
    NullConstraint,
    DefaultConstraint,
    GeneratedConstraint,
    IdentityConstraint,
    CheckConstraint,
    UniqueConstraint,
    ForeignKeyConstraint,
]
TableConstraint = Union[CheckConstraint, UniqueConstraint, ForeignKeyConstraint]


class ColumnDefinition(Node, frozen=True):
    """``name type [COLLATE c] [constraint ...]``. serial types are ordinary type names here."""

    name: str
    type_name: TypeName
    collation: tuple[str, ...] = ()
    constraints: tuple[ColumnConstraint, ...] = ()
    span: Span = NO_SPAN
    collation_span: Span = NO_SPAN


class LikeClause(Node, frozen=True):
    """``LIKE table [INCLUDING | EXCLUDING what ...]`` in CREATE TABLE.

    (including, what) pairs in order.
    """

    table: QualifiedName
    options: tuple[tuple[bool, str], ...] = ()
    span: Span = NO_SPAN


TableElement = Union[
    ColumnDefinition, CheckConstraint, UniqueConstraint, ForeignKeyConstraint, LikeClause
]


class CreateTable(Node, frozen=True):
    """``CREATE [TEMP|UNLOGGED] TABLE [IF NOT EXISTS] name (element, ...) ...``."""

    name: QualifiedName
    elements: tuple[TableElement, ...]
    if_not_exists: bool = False
    temporary: bool = False
    unlogged: bool = False
    options: tuple[StorageOption, ...] = ()
    on_commit: Literal["", "preserve rows", "delete rows", "drop"] = ""
    inherits: tuple[QualifiedName, ...] = ()
    partition_by: bool = False
    tablespace: str = ""
    span: Span = NO_SPAN


class CreateTableAs(Node, frozen=True):
    """``CREATE TABLE name [(columns)] AS query [WITH [NO] DATA]``; also SELECT ... INTO."""

    name: QualifiedName
    query: Query
    columns: tuple[str, ...] = ()
    if_not_exists: bool = False
    temporary: bool = False
    with_data: bool = True
    options: tuple[StorageOption, ...] = ()
    materialized_view: bool = False
    on_commit: Literal["", "preserve rows", "delete rows", "drop"] = ""
    is_select_into: bool = False
    span: Span = NO_SPAN


class AddColumn(Node, frozen=True):
    """``ADD [COLUMN] [IF NOT EXISTS] definition``."""

    definition: ColumnDefinition
    if_not_exists: bool = False


class DropColumn(Node, frozen=True):
    """``DROP [COLUMN] [IF EXISTS] name [CASCADE]``."""

    name: str
    if_exists: bool = False
    behavior: DropBehavior = "restrict"


class AlterColumnType(Node, frozen=True):
    """``ALTER COLUMN c [SET DATA] TYPE t [COLLATE c] [USING expression]``."""

    name: str
    type_name: TypeName
    using: Expression | None = None
    collation: tuple[str, ...] = ()


class AlterColumnDefault(Node, frozen=True):
    """``ALTER COLUMN c SET DEFAULT expression`` or, with None, DROP DEFAULT."""

    name: str
    expression: Expression | None


class AlterColumnNotNull(Node, frozen=True):
    """``ALTER COLUMN c SET | DROP NOT NULL``."""

    name: str
    not_null: bool


class AlterColumnAddIdentity(Node, frozen=True):
    """``ALTER COLUMN c ADD GENERATED ... AS IDENTITY``."""

    name: str
    always: bool
    options: SequenceOptions


class AlterColumnSetIdentity(Node, frozen=True):
    """``ALTER COLUMN c SET GENERATED ... | SET sequence option | RESTART``."""

    name: str
    always: bool | None
    options: SequenceOptions


class AlterColumnDropIdentity(Node, frozen=True):
    """``ALTER COLUMN c DROP IDENTITY [IF EXISTS]``."""

    name: str
    if_exists: bool = False


class AlterColumnDropExpression(Node, frozen=True):
    """``ALTER COLUMN c DROP EXPRESSION [IF EXISTS]``."""

    name: str
    if_exists: bool = False


class AlterColumnOptions(Node, frozen=True):
    """``ALTER COLUMN c SET STATISTICS n | SET STORAGE s | SET (..)``.

    Accepted, without effect on storage.
    """

    name: str
    option: str
    value: str


class AddConstraint(Node, frozen=True):
    """``ADD constraint``."""

    constraint: TableConstraint


class AlterConstraint(Node, frozen=True):
    """``ALTER CONSTRAINT name [DEFERRABLE ...]``."""

    name: str
    deferrable: bool
    initially_deferred: bool


class ValidateConstraint(Node, frozen=True):
    """``VALIDATE CONSTRAINT name``."""

    name: str


class DropConstraint(Node, frozen=True):
    """``DROP CONSTRAINT [IF EXISTS] name [CASCADE]``."""

    name: str
    if_exists: bool = False
    behavior: DropBehavior = "restrict"


class SetOptions(Node, frozen=True):
    """``SET (option = value, ...)`` on a table, index or view."""

    options: tuple[StorageOption, ...]


class ResetOptions(Node, frozen=True):
    """``RESET (option, ...)``."""

    names: tuple[str, ...]


class OwnerTo(Node, frozen=True):
    """``OWNER TO role``; ``role`` may be current_user and its like (``RoleSpec``)."""

    role: RoleSpec


class ReplicaIdentity(Node, frozen=True):
    """``REPLICA IDENTITY ...`` and other actions PostgreSQL accepts that change nothing here."""

    kind: str


class RowSecurity(Node, frozen=True):
    """``ENABLE | DISABLE | FORCE | NO FORCE ROW LEVEL SECURITY``.

    0A000 at execution, except DISABLE.
    """

    kind: str


AlterTableAction = Union[
    AddColumn,
    DropColumn,
    AlterColumnType,
    AlterColumnDefault,
    AlterColumnNotNull,
    AlterColumnAddIdentity,
    AlterColumnSetIdentity,
    AlterColumnDropIdentity,
    AlterColumnDropExpression,
    AlterColumnOptions,
    AddConstraint,
    AlterConstraint,
    ValidateConstraint,
    DropConstraint,
    SetOptions,
    ResetOptions,
    OwnerTo,
    ReplicaIdentity,
    RowSecurity,
]


class RoleSpec(Node, frozen=True):
    """A role in a statement: ``kind`` name, public, current_user, session_user or current_role."""

    kind: Literal["name", "public", "current_user", "session_user", "current_role"]
    name: str = ""
    span: Span = NO_SPAN


class AlterTable(Node, frozen=True):
    """``ALTER TABLE [IF EXISTS] [ONLY] name action, ...``."""

    name: QualifiedName
    actions: tuple[AlterTableAction, ...]
    if_exists: bool = False
    only: bool = False
    relation_kind: Literal["table", "index", "view", "sequence"] = "table"
    span: Span = NO_SPAN


ObjectKind = Literal[
    "table",
    "index",
    "view",
    "materialized view",
    "sequence",
    "schema",
    "database",
    "role",
    "column",
    "constraint",
    "function",
    "type",
    "domain",
    "extension",
    "tablespace",
    "language",
    "policy",
]


class Rename(Node, frozen=True):
    """``ALTER kind name RENAME [COLUMN|CONSTRAINT old] TO new``.

    For schema/database/role only ``name.name`` is set.
    """

    kind: ObjectKind
    name: QualifiedName
    new_name: str
    sub_name: str = ""
    if_exists: bool = False
    relation_kind: ObjectKind = "table"
    span: Span = NO_SPAN


class SetSchema(Node, frozen=True):
    """``ALTER kind name SET SCHEMA schema``."""

    kind: ObjectKind
    name: QualifiedName
    schema: str
    if_exists: bool = False
    span: Span = NO_SPAN


class AlterOwner(Node, frozen=True):
    """``ALTER SCHEMA | DATABASE | SEQUENCE | VIEW name OWNER TO role`` (tables use AlterTable)."""

    kind: ObjectKind
    name: QualifiedName
    role: RoleSpec
    span: Span = NO_SPAN


class Drop(Node, frozen=True):
    """``DROP kind [IF EXISTS] name, ... [CASCADE]``. kind "index" may be ``concurrently``."""

    kind: ObjectKind
    names: tuple[QualifiedName, ...]
    if_exists: bool = False
    behavior: DropBehavior = "restrict"
    concurrently: bool = False
    force: bool = False
    span: Span = NO_SPAN


class Truncate(Node, frozen=True):
    """``TRUNCATE [TABLE] [ONLY] name, ... [RESTART IDENTITY] [CASCADE]``."""

    names: tuple[QualifiedName, ...]
    restart_identity: bool = False
    behavior: DropBehavior = "restrict"
    span: Span = NO_SPAN


class IndexElement(Node, frozen=True):
    """One key of an index: a column (``ColumnRef`` expression) or an expression, with its order."""

    expression: Expression
    descending: bool = False
    nulls_first: bool | None = None
    collation: tuple[str, ...] = ()
    operator_class: str = ""
    span: Span = NO_SPAN


class CreateIndex(Node, frozen=True):
    """``CREATE [UNIQUE] INDEX [CONCURRENTLY] [[IF NOT EXISTS] name] ON table ...``."""

    name: str
    table: QualifiedName
    elements: tuple[IndexElement, ...]
    unique: bool = False
    concurrently: bool = False
    if_not_exists: bool = False
    method: str = "btree"
    include: tuple[str, ...] = ()
    nulls_not_distinct: bool = False
    options: tuple[StorageOption, ...] = ()
    where: Expression | None = None
    tablespace: str = ""
    span: Span = NO_SPAN


class Reindex(Node, frozen=True):
    """``REINDEX INDEX | TABLE | SCHEMA | DATABASE name``."""

    kind: str
    name: QualifiedName
    concurrently: bool = False
    span: Span = NO_SPAN


class CreateSchema(Node, frozen=True):
    """``CREATE SCHEMA [IF NOT EXISTS] name [AUTHORIZATION role] [element ...]``."""

    name: str
    if_not_exists: bool = False
    authorization: RoleSpec | None = None
    elements: tuple[CreateTable | CreateView | CreateIndex | CreateSequence | Grant, ...] = ()
    span: Span = NO_SPAN


class CreateDatabase(Node, frozen=True):
    """``CREATE DATABASE name [option = value ...]``."""

    name: str
    options: tuple[StorageOption, ...] = ()
    span: Span = NO_SPAN


class AlterDatabase(Node, frozen=True):
    """``ALTER DATABASE name [WITH option ...]``; settings are ``AlterSettings``."""

    name: str
    options: tuple[StorageOption, ...] = ()
    span: Span = NO_SPAN


class CreateSequence(Node, frozen=True):
    """``CREATE [TEMP] SEQUENCE [IF NOT EXISTS] name [options]``."""

    name: QualifiedName
    options: SequenceOptions
    if_not_exists: bool = False
    temporary: bool = False
    span: Span = NO_SPAN


class AlterSequence(Node, frozen=True):
    """``ALTER SEQUENCE [IF EXISTS] name options``."""

    name: QualifiedName
    options: SequenceOptions
    if_exists: bool = False
    span: Span = NO_SPAN


class CreateView(Node, frozen=True):
    """``CREATE [OR REPLACE] [TEMP] [RECURSIVE] VIEW name [(columns)] [WITH (...)] AS query``."""

    name: QualifiedName
    query: Query
    columns: tuple[str, ...] = ()
    or_replace: bool = False
    temporary: bool = False
    recursive: bool = False
    options: tuple[StorageOption, ...] = ()
    check_option: Literal["", "local", "cascaded"] = ""
    span: Span = NO_SPAN


class RoleOption(Node, frozen=True):
    """``LOGIN``, ``NOLOGIN``, ``PASSWORD 'x'``... as (name, value).

    For example: ("login", False), ("password", "x"), ("connection limit", 3).

    Names: superuser createdb createrole inherit login replication bypassrls (bool values), password
    (str or None), connection limit (int), valid until (str), in role, role, admin (``roles``),
    sysid.
    """

    name: str
    value: OptionValue = None
    roles: tuple[RoleSpec, ...] = ()
    span: Span = NO_SPAN


class CreateRole(Node, frozen=True):
    """``CREATE ROLE | USER | GROUP name [WITH] option ...``; for USER, login defaults to true."""

    name: str
    options: tuple[RoleOption, ...] = ()
    kind: Literal["role", "user", "group"] = "role"
    span: Span = NO_SPAN


class AlterRole(Node, frozen=True):
    """``ALTER ROLE | USER role [WITH] option ...``."""

    role: RoleSpec
    options: tuple[RoleOption, ...] = ()
    span: Span = NO_SPAN


class DropRole(Node, frozen=True):
    """``DROP ROLE | USER | GROUP [IF EXISTS] role, ...``."""

    roles: tuple[RoleSpec, ...]
    if_exists: bool = False
    span: Span = NO_SPAN


class AlterSettings(Node, frozen=True):
    """``ALTER ROLE r [IN DATABASE d] | DATABASE d SET name = value | RESET name | RESET ALL``.

    ``values`` None means RESET; ``name`` "all" with None means RESET ALL; () means SET ... TO
    DEFAULT.
    """

    role: RoleSpec | None
    database: str
    name: str
    values: tuple[OptionValue, ...] | None
    all_roles: bool = False
    span: Span = NO_SPAN


class Privilege(Node, frozen=True):
    """``SELECT``, ``UPDATE (a, b)``... in lower case; "all" for ALL [PRIVILEGES]."""

    name: str
    columns: tuple[str, ...] = ()
    span: Span = NO_SPAN


class Grant(Node, frozen=True):
    """GRANT or REVOKE of privileges on objects.

    ``all_in_schema``: names are schemas, kind their objects'.
    """

    is_grant: bool
    privileges: tuple[Privilege, ...]
    kind: Literal[
        "table", "sequence", "schema", "database", "function", "language", "type", "domain"
    ]
    names: tuple[QualifiedName, ...]
    grantees: tuple[RoleSpec, ...]
    all_in_schema: bool = False
    grant_option: bool = False
    granted_by: RoleSpec | None = None
    behavior: DropBehavior = "restrict"
    span: Span = NO_SPAN


class GrantRole(Node, frozen=True):
    """GRANT or REVOKE of membership. ``admin_option`` is WITH ADMIN OPTION or ADMIN OPTION FOR.

    ``is_alter``: written as ALTER GROUP ... ADD or DROP USER.
    """

    is_grant: bool
    roles: tuple[RoleSpec, ...]
    grantees: tuple[RoleSpec, ...]
    admin_option: bool = False
    granted_by: RoleSpec | None = None
    behavior: DropBehavior = "restrict"
    span: Span = NO_SPAN
    is_alter: bool = False


class AlterDefaultPrivileges(Node, frozen=True):
    """``ALTER DEFAULT PRIVILEGES [FOR ROLE ..] [IN SCHEMA ..] grant``."""

    roles: tuple[RoleSpec, ...]
    schemas: tuple[str, ...]
    grant: Grant
    span: Span = NO_SPAN


class ReassignOwned(Node, frozen=True):
    """``REASSIGN OWNED BY roles TO role``."""

    roles: tuple[RoleSpec, ...]
    new_role: RoleSpec
    span: Span = NO_SPAN


class DropOwned(Node, frozen=True):
    """``DROP OWNED BY roles [CASCADE]``."""

    roles: tuple[RoleSpec, ...]
    behavior: DropBehavior = "restrict"
    span: Span = NO_SPAN


class Comment(Node, frozen=True):
    """``COMMENT ON kind name IS 'text' | NULL``.

    For a column or constraint, ``sub_name`` is its name.
    """

    kind: ObjectKind
    name: QualifiedName
    text: str | None
    sub_name: str = ""
    span: Span = NO_SPAN


class CreateExtension(Node, frozen=True):
    """``CREATE EXTENSION [IF NOT EXISTS] name``: plpgsql is present, others 0A000."""

    name: str
    if_not_exists: bool = False
    span: Span = NO_SPAN


class UnsupportedDdl(Node, frozen=True):
    """A statement that is refused with 0A000; ``what`` is for example "CREATE TRIGGER"."""

    what: str
    span: Span = NO_SPAN


DdlStatement = Union[
    CreateTable,
    CreateTableAs,
    AlterTable,
    Rename,
    SetSchema,
    AlterOwner,
    Drop,
    Truncate,
    CreateIndex,
    Reindex,
    CreateSchema,
    CreateDatabase,
    AlterDatabase,
    CreateSequence,
    AlterSequence,
    CreateView,
    CreateRole,
    AlterRole,
    DropRole,
    AlterSettings,
    Grant,
    GrantRole,
    AlterDefaultPrivileges,
    ReassignOwned,
    DropOwned,
    Comment,
    CreateExtension,
    UnsupportedDdl,
]
