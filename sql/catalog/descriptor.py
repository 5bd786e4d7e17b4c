"""Catalog objects as immutable values, stored in the metadata group as MessagePack.

One id space serves all objects (OIDs from ``FIRST_USER_ID`` on; built-in ones are below and never
stored). A changed object is a new value with ``version`` + 1 and the same id. Types are stored by
OID, expressions as AST nodes (never as text); names in stored ASTs are schema-qualified when
stored.

Row shape: a table's row is a tuple in the order of ``columns``, dropped and hidden ones included
(their values are None once dropped). Rows written before a column was added are shorter and decode
with the column's ``missing_value``.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, Literal, Union

import msgspec

from sql.ast.ddl import ReferentialAction
from sql.ast.query import Expression, Query
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import type_by_oid

FIRST_USER_ID: Final = 16384
PG_CATALOG_ID: Final = 11
PUBLIC_SCHEMA_ID: Final = 2200
INFORMATION_SCHEMA_ID: Final = 13200
INTERNAL_SCHEMA_ID: Final = 12900
"""nodedb's own views; unlisted in pg_catalog, for pg_dump and its like would take them for data."""
SUPERUSER_ID: Final = 10
PRIMARY_INDEX_ID: Final = 1
"""Index id of a table's clustered rows; secondary indexes count from 2."""


class Descriptor(msgspec.Struct, frozen=True, array_like=True, tag=True, dict=True, kw_only=True):
    """Abstract base: every object has an id, a name, an owner and a version."""

    id: int
    name: str
    owner: int = SUPERUSER_ID
    version: int = 1
    acl: tuple[AclItem, ...] | None = None
    comment: str = ""


class AclItem(msgspec.Struct, frozen=True, array_like=True):
    """Privileges of one grantee from one grantor.

    Letters as in PostgreSQL's aclitem (``arwdDxt``...).

    ``grantee`` 0 is PUBLIC. ``grantable`` holds the letters that come with grant option.
    """

    grantee: int
    grantor: int
    privileges: str
    grantable: str = ""


class DefaultAcl(msgspec.Struct, frozen=True, array_like=True):
    """One pg_default_acl row.

    ``kind`` is r table, S sequence, f function, T type, n schema; ``schema_id`` 0 is any.
    """

    id: int
    database_id: int
    schema_id: int
    kind: str
    acl: tuple[AclItem, ...]


class Database(Descriptor, frozen=True, kw_only=True):
    """A database; schemas point to it."""

    connection_limit: int = -1
    allow_connections: bool = True
    settings: tuple[tuple[str, str], ...] = ()


class Schema(Descriptor, frozen=True, kw_only=True):
    """A schema (namespace) of one database."""

    database_id: int


class Role(Descriptor, frozen=True, kw_only=True):
    """A role. ``scram_secret`` is PostgreSQL's rolpassword text or "".

    ``member_of``: (role id, admin option).
    """

    superuser: bool = False
    create_db: bool = False
    create_role: bool = False
    inherit: bool = True
    login: bool = False
    replication: bool = False
    bypass_rls: bool = False
    connection_limit: int = -1
    scram_secret: str = ""
    valid_until: int | None = None
    member_of: tuple[tuple[int, bool], ...] = ()
    settings: tuple[tuple[int, str, str], ...] = ()
    """(database id or 0 for all, variable, value) of ALTER ROLE ... SET."""
    default_acls: tuple[DefaultAcl, ...] = ()
    """ALTER DEFAULT PRIVILEGES for objects that this role creates."""


class Column(msgspec.Struct, frozen=True, array_like=True, dict=True, kw_only=True):
    """One column.

    ``position`` is its index in the row; ``number`` is pg_attribute.attnum (0 when hidden).

    ``default`` applies to INSERT; ``missing_value`` to rows older than the column. ``identity`` is
    "", "always" or "by default"; ``sequence_id`` the owned sequence. ``generated`` is the
    expression of a stored generated column.
    """

    name: str
    type_oid: int
    position: int
    number: int
    typmod: int = NO_TYPMOD
    not_null: bool = False
    default: Expression | None = None
    generated: Expression | None = None
    identity: Literal["", "always", "by default"] = ""
    sequence_id: int = 0
    missing_value: bytes = b""
    """Value in rows older than the column: a one-column row of the row codec; b"" is NULL."""
    hidden: bool = False
    dropped: bool = False
    collation: str = ""
    comment: str = ""
    statistics_target: int = -1
    acl: tuple[AclItem, ...] | None = None

    @cached_property
    def type(self) -> SqlType:
        """The column's type."""
        result = type_by_oid(self.type_oid)
        assert result is not None, self.type_oid
        return result


class IndexKey(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One key of an index.

    A column position, or an expression (then ``position`` is -1 and ``type_oid`` set).
    """

    position: int
    expression: Expression | None = None
    type_oid: int = 0
    descending: bool = False
    nulls_first: bool = False
    collation: str = ""
    """As given, unless it is the one of the column or expression itself."""
    operator_class: str = ""
    """As given, unless it is the type's default one."""


IndexState = Literal["delete_only", "write_only", "public", "young"]
"""The first two while it is built: writers make no entries yet, then they do; queries read none.

``young`` is never stored: public, but with entries that a transaction's snapshot is too old to see.
"""


class Index(Descriptor, frozen=True, kw_only=True):
    """A secondary index, part of its table's descriptor.

    ``index_id`` is local to the table and part of the storage key. ``predicate`` makes it partial.
    ``primary`` marks the index of a primary key that was added later or is deferrable; any other is
    the table's clustering key.
    """

    index_id: int
    keys: tuple[IndexKey, ...]
    unique: bool = False
    nulls_not_distinct: bool = False
    primary: bool = False
    include: tuple[int, ...] = ()
    predicate: Expression | None = None
    state: IndexState = "public"
    constraint: bool = False
    """Backs a UNIQUE or PRIMARY KEY constraint of the same name.

    pg_constraint's oid is ``constraint_id``.
    """
    constraint_id: int = 0
    deferrable: bool = False
    initially_deferred: bool = False
    is_global: bool = False
    method: str = "btree"
    options: tuple[tuple[str, str], ...] = ()
    constraint_comment: str = ""


class Check(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A CHECK constraint."""

    id: int
    name: str
    expression: Expression
    validated: bool = True
    no_inherit: bool = False
    comment: str = ""


class ForeignKey(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A foreign key, part of the referencing table's descriptor; positions are row positions.

    ``referenced_index_id`` is the unique index (PRIMARY_INDEX_ID: the clustering key) it relies on.
    """

    id: int
    name: str
    columns: tuple[int, ...]
    referenced_table_id: int
    referenced_columns: tuple[int, ...]
    referenced_index_id: int
    on_delete: ReferentialAction = "no action"
    on_update: ReferentialAction = "no action"
    on_delete_columns: tuple[int, ...] = ()
    match_full: bool = False
    deferrable: bool = False
    initially_deferred: bool = False
    validated: bool = True
    comment: str = ""


class ColumnStatistics(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """ANALYZE's findings for one column.

    ``distinct`` is as in pg_statistic (negative: share of the rows).

    ``most_common`` are (value text, frequency), ``histogram`` value texts in order.
    """

    position: int
    null_fraction: float
    distinct: float
    average_width: int
    most_common: tuple[tuple[str, float], ...] = ()
    histogram: tuple[str, ...] = ()


class TableStatistics(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """ANALYZE's findings for a table."""

    rows: int
    columns: tuple[ColumnStatistics, ...] = ()
    analyzed_at: int = 0


class Table(Descriptor, frozen=True, kw_only=True):
    """A table. ``clustering_key`` are the row positions of the storage key, in order.

    A table without primary key has a hidden int8 column ``rowid`` as its clustering key.
    ``primary_name`` is the primary key constraint's name, "" when the clustering key is the hidden
    one. ``storage_id`` is the number in the storage keys: TRUNCATE gives the table a new one.
    """

    schema_id: int
    storage_id: int
    columns: tuple[Column, ...]
    clustering_key: tuple[int, ...]
    primary_name: str = ""
    primary_id: int = 0
    """OID of the primary key's index in pg_class (its constraint's is primary_id + 1)."""
    indexes: tuple[Index, ...] = ()
    checks: tuple[Check, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    referenced_by: tuple[int, ...] = ()
    """Ids of tables with a foreign key to this one (itself included)."""
    next_index_id: int = 2
    distribute_by: tuple[int, ...] = ()
    """Row positions whose encoding chooses the vshard: a prefix of the clustering key.

    () means all of it.
    """
    options: tuple[tuple[str, str], ...] = ()
    statistics: TableStatistics | None = None
    temporary_session: int = 0
    primary_include: tuple[int, ...] = ()
    """Row positions of the primary key's INCLUDE columns."""
    primary_comment: str = ""
    on_commit: Literal["", "delete rows", "drop"] = ""
    """What COMMIT does to a temporary table."""

    @cached_property
    def visible_columns(self) -> tuple[Column, ...]:
        """Columns that ``SELECT *`` sees, in order."""
        return tuple(c for c in self.columns if not c.hidden and not c.dropped)

    @cached_property
    def column_by_name(self) -> dict[str, Column]:
        """Live, visible columns by name."""
        return {c.name: c for c in self.visible_columns}


class ViewColumn(msgspec.Struct, frozen=True, array_like=True):
    """A view's output column."""

    name: str
    type_oid: int
    typmod: int = NO_TYPMOD
    comment: str = ""
    default: Expression | None = None
    """What INSERT through the view stores instead of the table's default."""


class View(Descriptor, frozen=True, kw_only=True):
    """A view: a qualified query (TableRef.relation_id set).

    ``depends_on``: (relation id, column position or -1).
    """

    schema_id: int
    columns: tuple[ViewColumn, ...]
    query: Query
    depends_on: tuple[tuple[int, int], ...] = ()
    check_option: str = ""
    options: tuple[tuple[str, str], ...] = ()
    temporary_session: int = 0

    @property
    def reads_as(self) -> int:
        """The role whose privileges its query needs; 0 is the user's, WITH (security_invoker)."""
        invoker = dict(self.options).get("security_invoker", "").lower()
        return 0 if invoker in ("true", "on", "yes", "1") else self.owner


class Sequence(Descriptor, frozen=True, kw_only=True):
    """A sequence's definition; its running value lives in the data group."""

    schema_id: int
    type_oid: int
    start: int
    increment: int
    min_value: int
    max_value: int
    cache: int = 1
    cycle: bool = False
    owned_by: tuple[int, int] | None = None
    """(table id, column position) for serial and identity columns."""
    identity: bool = False
    storage_id: int = 0
    temporary_session: int = 0


Relation = Union[Table, View, Sequence]
AnyDescriptor = Union[Database, Schema, Role, Table, View, Sequence]
