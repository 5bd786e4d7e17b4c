"""information_schema: tables, columns, constraints, views, sequences and routines.

As the standard has it, a role sees what it owns or has some privilege on. Domain types of the
standard's views are their base types here. Source: PostgreSQL docs, "The Information Schema".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from nodedb.catalog import acl
from nodedb.catalog.derived import derived
from nodedb.catalog.virtual.registry import (
    CatalogView,
    Record,
    catalog_view,
    live_table,
)
from nodedb.catalog.virtual.relations import all_indexes, expression_text, view_text
from sql.catalog.descriptor import Column, Relation, Sequence, Table, View
from sql.functions.builtin import REGISTRY
from sql.functions.tables import SIGNATURE_ROWS
from sql.functions.updatable import writable_columns
from sql.types.base import NO_TYPMOD
from sql.types.catalog import (
    BPCHAR,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    NAME,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    VARCHAR,
    type_by_oid,
)
from sql.types.typmod import numeric_precision_and_scale

if TYPE_CHECKING:
    from sql.catalog.snapshot import CatalogSnapshot
    from sql.functions.context import ExecutionContext
    from sql.types.base import SqlType

OCTETS_MAX: Final = 1073741824
_INTEGER_BITS: Final = {INT2: 16, INT4: 32, INT8: 64}
_FLOAT_BITS: Final = {FLOAT4: 24, FLOAT8: 53}
_CHARACTER: Final = (TEXT, VARCHAR, BPCHAR, NAME)


class RoleView:
    """A database as one role may see it."""

    def __init__(self, catalog: CatalogView, role_id: int) -> None:
        self.catalog = catalog
        self.database = catalog.database.name
        self.superuser = acl.is_superuser(catalog.snapshot, role_id)
        self.roles = acl.roles_of(catalog.snapshot, role_id, catalog.database_id)
        self.role_id = role_id

    def may_see(self, relation: Relation) -> bool:
        """Tell whether the role owns the relation or holds something on it or on a column."""
        if self.superuser or relation.owner in self.roles:
            return True
        if acl.held(self.catalog.snapshot, self.role_id, relation, self.catalog.database_id):
            return True
        return isinstance(relation, Table) and any(
            acl.held_on_column(column.acl, self.roles) for column in relation.visible_columns
        )

    def owns(self, relation: Relation) -> bool:
        """Tell whether the role has the owner's rights."""
        return self.superuser or relation.owner in self.roles

    def tables(self) -> Iterator[Table]:
        """Yield the tables the role may see."""
        return (table for table in self.catalog.tables if self.may_see(table))

    def views(self) -> Iterator[View]:
        """Yield the views the role may see."""
        return (view for view in self.catalog.views if self.may_see(view))

    def place(self, prefix: str, relation: Relation) -> Record:
        """Return the three columns that name a relation."""
        return self.named(prefix, relation.schema_id, relation.name)

    def named(self, prefix: str, schema_id: int, name: str) -> Record:
        """Return ``<prefix>_catalog``, ``_schema`` and ``_name``."""
        return {
            f"{prefix}_catalog": self.database,
            f"{prefix}_schema": self.catalog.schema_names[schema_id],
            f"{prefix}_name": name,
        }


Producer = Callable[[RoleView], Iterable[Record]]


def information_table(*names: str) -> Callable[[Producer], Producer]:
    """Register a producer; its rows are kept per snapshot, database and role."""

    def register(producer: Producer) -> Producer:
        for name in names:
            _register(name, producer)
        return producer

    return register


def _register(name: str, producer: Producer) -> None:
    @live_table(f"information_schema.{name}")
    def rows(context: ExecutionContext) -> Iterable[Record]:
        catalog = context.catalog

        def compute(snapshot: CatalogSnapshot) -> list[Record]:
            view = catalog_view(snapshot, catalog.database_id)
            return list(producer(RoleView(view, catalog.user_id)))

        key = ("information_schema", name, catalog.database_id, catalog.user_id)
        return derived(catalog.snapshot, key, compute)


def yes(value: object) -> str:
    """Return YES or NO."""
    return "YES" if value else "NO"


@information_table("information_schema_catalog_name")
def _catalog_name(view: RoleView) -> Iterator[Record]:
    yield {"catalog_name": view.database}


@information_table("schemata")
def _schemata(view: RoleView) -> Iterator[Record]:
    names = dict(view.catalog.schema_names)
    owners = {schema.id: schema.owner for schema in view.catalog.schemas}
    for schema_id, name in names.items():
        owner = owners.get(schema_id, 10)
        if view.superuser or owner in view.roles:
            yield {
                "catalog_name": view.database,
                "schema_name": name,
                "schema_owner": view.catalog.role_name(owner),
            }


@information_table("tables")
def _tables(view: RoleView) -> Iterator[Record]:
    from nodedb.catalog.virtual import virtual_tables  # noqa: PLC0415 - made from this module

    for table in view.tables():
        yield {
            **view.place("table", table),
            "table_type": "LOCAL TEMPORARY" if table.temporary_session else "BASE TABLE",
            "is_insertable_into": "YES",
            "is_typed": "NO",
            "commit_action": "PRESERVE" if table.temporary_session else None,
        }
    for item in view.views():
        yield {
            **view.place("table", item),
            "table_type": "VIEW",
            "is_insertable_into": yes(_writable_columns(view, item)),
            "is_typed": "NO",
        }
    for system in virtual_tables().listed:
        yield {
            **view.named("table", system.schema_id, system.name),
            "table_type": "VIEW" if system.is_view else "BASE TABLE",
            "is_insertable_into": "NO",
            "is_typed": "NO",
        }


def _writable_columns(view: RoleView, item: View) -> frozenset[str]:
    return writable_columns(view.catalog.snapshot.get, REGISTRY, item) or frozenset()


def type_columns(sql_type: SqlType, typmod: int) -> Record:
    """Return the columns that describe a data type."""
    result: dict[str, object] = {
        "data_type": "ARRAY" if sql_type.is_array else sql_type.display_name,
    }
    if sql_type in _CHARACTER or sql_type.name in ("varchar", "bpchar"):
        if sql_type in (VARCHAR, BPCHAR) and typmod > 0:
            result["character_maximum_length"] = typmod - 4
            result["character_octet_length"] = (typmod - 4) * 4
        elif sql_type is not NAME:
            result["character_octet_length"] = OCTETS_MAX
    elif sql_type in _INTEGER_BITS:
        result |= {
            "numeric_precision": _INTEGER_BITS[sql_type],
            "numeric_precision_radix": 2,
            "numeric_scale": 0,
        }
    elif sql_type in _FLOAT_BITS:
        result |= {"numeric_precision": _FLOAT_BITS[sql_type], "numeric_precision_radix": 2}
    elif sql_type is NUMERIC:
        result["numeric_precision_radix"] = 10
        if typmod > 0:
            precision, scale = numeric_precision_and_scale(typmod)
            result |= {"numeric_precision": precision, "numeric_scale": scale}
    elif sql_type is DATE:
        result["datetime_precision"] = 0
    elif sql_type in (TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ):
        result["datetime_precision"] = 6 if typmod < 0 else typmod
    elif sql_type is INTERVAL:
        precision = typmod & 0xFFFF
        result["datetime_precision"] = 6 if typmod < 0 or precision == 0xFFFF else precision
    return result


@information_table("columns")
def _columns(view: RoleView) -> Iterator[Record]:
    from nodedb.catalog.virtual import virtual_tables  # noqa: PLC0415 - made from this module

    for table in view.tables():
        whole = view.superuser or bool(
            acl.held(view.catalog.snapshot, view.role_id, table, view.catalog.database_id)
        )
        for column in table.visible_columns:
            if whole or view.owns(table) or acl.held_on_column(column.acl, view.roles):
                yield _column(view, table, column)
    for item in view.views():
        writable = _writable_columns(view, item)
        for number, out in enumerate(item.columns, 1):
            sql_type = type_by_oid(out.type_oid)
            assert sql_type is not None, out
            yield {
                **view.place("table", item),
                **_plain_column(view, out.name, number, sql_type, out.typmod),
                "is_updatable": yes(out.name in writable),
                "column_default": None
                if out.default is None
                else expression_text(view.catalog, out.default),
            }
    for system in virtual_tables().listed:
        typmods = system.typmods or (NO_TYPMOD,) * len(system.columns)
        columns = zip(system.columns, typmods, strict=True)
        for number, ((name, sql_type), typmod) in enumerate(columns, 1):
            yield {
                **view.named("table", system.schema_id, system.name),
                **_plain_column(view, name, number, sql_type, typmod),
                "is_updatable": "NO",
            }


def _plain_column(view: RoleView, name: str, number: int, sql_type: SqlType, typmod: int) -> Record:
    return {
        "column_name": name,
        "ordinal_position": number,
        "is_nullable": "YES",
        **type_columns(sql_type, typmod),
        "udt_catalog": view.database,
        "udt_schema": "pg_catalog",
        "udt_name": sql_type.name,
        "dtd_identifier": str(number),
        "is_self_referencing": "NO",
        "is_identity": "NO",
        "identity_cycle": "NO",
        "is_generated": "NEVER",
    }


def _column(view: RoleView, table: Table, column: Column) -> Record:
    result = {
        **view.place("table", table),
        **_plain_column(view, column.name, column.number, column.type, column.typmod),
        "is_nullable": yes(not column.not_null),
        "is_updatable": "YES",
    }
    if column.default is not None:
        result["column_default"] = expression_text(view.catalog, column.default)
    if column.collation:
        result |= {
            "collation_catalog": view.database,
            "collation_schema": "pg_catalog",
            "collation_name": column.collation,
        }
    if column.generated is not None:
        result |= {
            "is_generated": "ALWAYS",
            "generation_expression": expression_text(view.catalog, column.generated),
        }
    sequence = view.catalog.snapshot.get(column.sequence_id)
    if column.identity and isinstance(sequence, Sequence):
        result |= {
            "is_identity": "YES",
            "identity_generation": column.identity.upper(),
            "identity_start": str(sequence.start),
            "identity_increment": str(sequence.increment),
            "identity_maximum": str(sequence.max_value),
            "identity_minimum": str(sequence.min_value),
            "identity_cycle": yes(sequence.cycle),
        }
    return result


@information_table("table_constraints")
def _table_constraints(view: RoleView) -> Iterator[Record]:
    for table in view.tables():
        for check in table.checks:
            yield _constraint(view, table, check.name, "CHECK")
        for index in all_indexes(table):
            if index.constraint:
                kind = "PRIMARY KEY" if index.primary else "UNIQUE"
                row = _constraint(view, table, index.name, kind)
                yield {
                    **row,
                    "is_deferrable": yes(index.deferrable),
                    "initially_deferred": yes(index.initially_deferred),
                    "nulls_distinct": None if index.primary else yes(not index.nulls_not_distinct),
                }
        for key in table.foreign_keys:
            yield {
                **_constraint(view, table, key.name, "FOREIGN KEY"),
                "is_deferrable": yes(key.deferrable),
                "initially_deferred": yes(key.initially_deferred),
            }
        for column in table.visible_columns:
            if column.not_null:
                name = _not_null_name(table, column)
                yield _constraint(view, table, name, "CHECK")


def _not_null_name(table: Table, column: Column) -> str:
    return f"{table.schema_id}_{table.id}_{column.number}_not_null"


def _constraint(view: RoleView, table: Table, name: str, kind: str) -> Record:
    return {
        **view.named("constraint", table.schema_id, name),
        **view.place("table", table),
        "constraint_type": kind,
        "is_deferrable": "NO",
        "initially_deferred": "NO",
        "enforced": "YES",
    }


@information_table("check_constraints")
def _check_constraints(view: RoleView) -> Iterator[Record]:
    for table in view.catalog.tables:
        if not view.owns(table):
            continue
        for check in table.checks:
            text = expression_text(view.catalog, check.expression)
            yield {
                **view.named("constraint", table.schema_id, check.name),
                "check_clause": f"({text})" if text.startswith("(") else f"(({text}))",
            }
        for column in table.visible_columns:
            if column.not_null:
                yield {
                    **view.named("constraint", table.schema_id, _not_null_name(table, column)),
                    "check_clause": f"{column.name} IS NOT NULL",
                }


@information_table("key_column_usage")
def _key_column_usage(view: RoleView) -> Iterator[Record]:
    for table in view.tables():
        for index in all_indexes(table):
            if not index.constraint:
                continue
            for number, index_key in enumerate(index.keys, 1):
                yield {
                    **view.named("constraint", table.schema_id, index.name),
                    **view.place("table", table),
                    "column_name": table.columns[index_key.position].name,
                    "ordinal_position": number,
                }
        for key in table.foreign_keys:
            target = view.catalog.snapshot.table(key.referenced_table_id)
            assert target is not None
            index = next(i for i in all_indexes(target) if i.index_id == key.referenced_index_id)
            order = [k.position for k in index.keys]
            for number, (position, referenced) in enumerate(
                zip(key.columns, key.referenced_columns, strict=True), 1
            ):
                yield {
                    **view.named("constraint", table.schema_id, key.name),
                    **view.place("table", table),
                    "column_name": table.columns[position].name,
                    "ordinal_position": number,
                    "position_in_unique_constraint": order.index(referenced) + 1,
                }


@information_table("referential_constraints")
def _referential_constraints(view: RoleView) -> Iterator[Record]:
    for table in view.catalog.tables:
        if not view.owns(table):
            continue
        for key in table.foreign_keys:
            target = view.catalog.snapshot.table(key.referenced_table_id)
            assert target is not None
            index = next(i for i in all_indexes(target) if i.index_id == key.referenced_index_id)
            unique = (
                view.named("unique_constraint", target.schema_id, index.name)
                if index.constraint
                else {}
            )
            yield {
                **view.named("constraint", table.schema_id, key.name),
                **unique,
                "match_option": "FULL" if key.match_full else "NONE",
                "update_rule": key.on_update.upper(),
                "delete_rule": key.on_delete.upper(),
            }


@information_table("constraint_column_usage")
def _constraint_column_usage(view: RoleView) -> Iterator[Record]:
    from nodedb.catalog.ddl.rewrite import columns_in  # noqa: PLC0415 - one function

    for table in view.catalog.tables:
        used: list[tuple[Table, str, str]] = []
        for check in table.checks:
            used.extend((table, name, check.name) for name in columns_in(check.expression))
        for index in all_indexes(table):
            if index.constraint:
                names = (table.columns[k.position].name for k in index.keys)
                used.extend((table, name, index.name) for name in names)
        for key in table.foreign_keys:
            target = view.catalog.snapshot.table(key.referenced_table_id)
            assert target is not None
            names = (target.columns[p].name for p in key.referenced_columns)
            used.extend((target, name, key.name) for name in names)
        for owner, column_name, constraint_name in used:
            if view.owns(owner):
                yield {
                    **view.place("table", owner),
                    "column_name": column_name,
                    **view.named("constraint", table.schema_id, constraint_name),
                }


@information_table("constraint_table_usage")
def _constraint_table_usage(view: RoleView) -> Iterator[Record]:
    for table in view.catalog.tables:
        for index in all_indexes(table):
            if index.constraint and view.owns(table):
                yield {
                    **view.place("table", table),
                    **view.named("constraint", table.schema_id, index.name),
                }
        for key in table.foreign_keys:
            target = view.catalog.snapshot.table(key.referenced_table_id)
            assert target is not None
            if view.owns(target):
                yield {
                    **view.place("table", target),
                    **view.named("constraint", table.schema_id, key.name),
                }


@information_table("views")
def _views(view: RoleView) -> Iterator[Record]:
    for item in view.views():
        updatable = yes(_writable_columns(view, item))
        yield {
            **view.place("table", item),
            "view_definition": view_text(item) if view.owns(item) else None,
            "check_option": item.check_option.upper() or "NONE",
            "is_updatable": updatable,
            "is_insertable_into": updatable,
            "is_trigger_updatable": "NO",
            "is_trigger_deletable": "NO",
            "is_trigger_insertable_into": "NO",
        }


def _used_by_views(view: RoleView) -> Iterator[tuple[View, Relation, int]]:
    for item in view.catalog.views:
        for relation_id, position in item.depends_on:
            found = view.catalog.snapshot.get(relation_id)
            if isinstance(found, (Table, View)) and view.owns(found):
                yield item, found, position


@information_table("view_table_usage")
def _view_table_usage(view: RoleView) -> Iterator[Record]:
    seen: set[tuple[int, int]] = set()
    for item, relation, _ in _used_by_views(view):
        if (item.id, relation.id) not in seen:
            seen.add((item.id, relation.id))
            yield {**view.place("view", item), **view.place("table", relation)}


@information_table("view_column_usage")
def _view_column_usage(view: RoleView) -> Iterator[Record]:
    for item, relation, position in _used_by_views(view):
        if position >= 0 and isinstance(relation, (Table, View)):
            yield {
                **view.place("view", item),
                **view.place("table", relation),
                "column_name": relation.columns[position].name,
            }


@information_table("sequences")
def _sequences(view: RoleView) -> Iterator[Record]:
    for sequence in view.catalog.sequences:
        if sequence.identity or not view.may_see(sequence):
            continue
        sql_type = type_by_oid(sequence.type_oid)
        assert sql_type is not None
        yield {
            **view.place("sequence", sequence),
            **type_columns(sql_type, -1),
            "start_value": str(sequence.start),
            "minimum_value": str(sequence.min_value),
            "maximum_value": str(sequence.max_value),
            "increment": str(sequence.increment),
            "cycle_option": yes(sequence.cycle),
        }


@information_table("routines")
def _routines(view: RoleView) -> Iterator[Record]:
    for row in SIGNATURE_ROWS:
        if row.oid not in REGISTRY.by_oid or row.kind == "w":
            continue
        result = row.result
        yield {
            "specific_catalog": view.database,
            "specific_schema": "pg_catalog",
            "specific_name": f"{row.name}_{row.oid}",
            "routine_catalog": view.database,
            "routine_schema": "pg_catalog",
            "routine_name": row.name,
            "routine_type": "FUNCTION" if row.kind == "f" else None,
            "data_type": "ARRAY" if result.is_array else result.display_name,
            "type_udt_catalog": view.database,
            "type_udt_schema": "pg_catalog",
            "type_udt_name": result.name,
            "dtd_identifier": "0",
            "routine_body": "EXTERNAL",
            "external_name": row.name,
            "external_language": "INTERNAL",
            "parameter_style": "GENERAL",
            "is_deterministic": yes(row.volatility == "i"),
            "sql_data_access": "MODIFIES",
            "is_null_call": yes(row.strict),
            "schema_level_routine": "YES",
            "security_type": "INVOKER",
        }


@information_table("parameters")
def _parameters(view: RoleView) -> Iterator[Record]:
    for row in SIGNATURE_ROWS:
        if row.oid not in REGISTRY.by_oid or row.kind == "w":
            continue
        for number, argument in enumerate(row.arguments, 1):
            name = row.argument_names[number - 1] if number <= len(row.argument_names) else ""
            yield {
                "specific_catalog": view.database,
                "specific_schema": "pg_catalog",
                "specific_name": f"{row.name}_{row.oid}",
                "ordinal_position": number,
                "parameter_mode": "IN",
                "is_result": "NO",
                "as_locator": "NO",
                "parameter_name": name or None,
                "data_type": "ARRAY" if argument.is_array else argument.display_name,
                "udt_catalog": view.database,
                "udt_schema": "pg_catalog",
                "udt_name": argument.name,
                "dtd_identifier": str(number),
            }


@information_table("character_sets")
def _character_sets(view: RoleView) -> Iterator[Record]:
    yield {
        "character_set_name": "UTF8",
        "character_repertoire": "UCS",
        "form_of_use": "UTF8",
        "default_collate_catalog": view.database,
        "default_collate_schema": "pg_catalog",
        "default_collate_name": "C.UTF-8",
    }


@information_table("collations")
def _collations(view: RoleView) -> Iterator[Record]:
    for name in ("default", "C", "POSIX", "ucs_basic"):
        yield {
            "collation_catalog": view.database,
            "collation_schema": "pg_catalog",
            "collation_name": name,
            "pad_attribute": "NO PAD",
        }
