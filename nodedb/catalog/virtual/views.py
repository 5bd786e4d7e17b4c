"""pg_catalog's views over the catalogs: pg_tables, pg_indexes, pg_views, the statistics views.

Source: PostgreSQL docs, "System Views", "The Cumulative Statistics System".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodedb.catalog.virtual.registry import (
    CatalogView,
    Record,
    live_table,
    system_table,
    view_of,
)
from nodedb.catalog.virtual.relations import all_indexes, view_text
from sql.functions.implementation import FUNCTIONS
from sql.types.array import ArrayValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql.catalog.descriptor import Table
    from sql.functions.context import ExecutionContext


@system_table("pg_tables")
def pg_tables(view: CatalogView) -> Iterator[Record]:
    """Tables, with the system's."""
    from nodedb.catalog.virtual import virtual_tables  # noqa: PLC0415 - made from this module

    for item in virtual_tables().listed:
        if not item.is_view:
            yield _table_row(
                view.schema_names[item.schema_id], item.name, view.role_name(10), indexed=True
            )
    for table in view.tables:
        yield {
            **_table_row(
                view.schema_names[table.schema_id],
                table.name,
                view.role_name(table.owner),
                indexed=bool(table.primary_name or table.indexes),
            ),
            "hastriggers": bool(table.foreign_keys or table.referenced_by),
        }


def _table_row(schema: str, name: str, owner: str, *, indexed: bool) -> Record:
    return {
        "schemaname": schema,
        "tablename": name,
        "tableowner": owner,
        "hasindexes": indexed,
        "hasrules": False,
        "hastriggers": False,
        "rowsecurity": False,
    }


@system_table("pg_views")
def pg_views(view: CatalogView) -> Iterator[Record]:
    """List views; the definitions of the system's are not SQL and stay NULL."""
    from nodedb.catalog.virtual import virtual_tables  # noqa: PLC0415 - made from this module

    for item in virtual_tables().listed:
        if item.is_view:
            yield {
                "schemaname": view.schema_names[item.schema_id],
                "viewname": item.name,
                "viewowner": view.role_name(10),
            }
    for stored in view.views:
        yield {
            "schemaname": view.schema_names[stored.schema_id],
            "viewname": stored.name,
            "viewowner": view.role_name(stored.owner),
            "definition": view_text(stored),
        }


@live_table("pg_indexes")
def pg_indexes(context: ExecutionContext) -> Iterator[Record]:
    """Indexes with their definitions."""
    define = FUNCTIONS["pg_get_indexdef(oid)"].function
    view = view_of(context)
    for table in view.tables:
        for index in all_indexes(table):
            yield {
                "schemaname": view.schema_names[table.schema_id],
                "tablename": table.name,
                "indexname": index.name,
                "indexdef": define(context, index.id),
            }


@live_table("pg_sequences")
def pg_sequences(context: ExecutionContext) -> Iterator[Record]:
    """Sequences; last_value is NULL before the first nextval, and for who may not read it."""
    view = view_of(context)
    last_values: dict[Any, Any] = dict(context.session.system_rows("sequence values"))
    for sequence in view.sequences:
        yield {
            "schemaname": view.schema_names[sequence.schema_id],
            "sequencename": sequence.name,
            "sequenceowner": view.role_name(sequence.owner),
            "data_type": sequence.type_oid,
            "start_value": sequence.start,
            "min_value": sequence.min_value,
            "max_value": sequence.max_value,
            "increment_by": sequence.increment,
            "cycle": sequence.cycle,
            "cache_size": sequence.cache,
            "last_value": last_values.get(sequence.id),
        }


def _table_statistics(view: CatalogView) -> Iterator[Record]:
    for table in view.tables:
        statistics = table.statistics
        yield {
            "relid": table.id,
            "schemaname": view.schema_names[table.schema_id],
            "relname": table.name,
            "seq_scan": 0,
            "seq_tup_read": 0,
            "idx_scan": 0,
            "idx_tup_fetch": 0,
            "n_tup_ins": 0,
            "n_tup_upd": 0,
            "n_tup_del": 0,
            "n_tup_hot_upd": 0,
            "n_live_tup": statistics.rows if statistics is not None else 0,
            "n_dead_tup": 0,
            "n_mod_since_analyze": 0,
            "n_ins_since_vacuum": 0,
            "last_analyze": (statistics.analyzed_at or None) if statistics is not None else None,
            "vacuum_count": 0,
            "autovacuum_count": 0,
            "analyze_count": 1 if statistics is not None else 0,
            "autoanalyze_count": 0,
            "heap_blks_read": 0,
            "heap_blks_hit": 0,
            "idx_blks_read": 0,
            "idx_blks_hit": 0,
        }


@system_table(
    "pg_stat_user_tables",
    "pg_stat_all_tables",
    "pg_statio_user_tables",
    "pg_statio_all_tables",
    "pg_stat_xact_user_tables",
    "pg_stat_xact_all_tables",
)
def pg_stat_user_tables(view: CatalogView) -> Iterator[Record]:
    """Row counts as ANALYZE found them; nodedb keeps no other counters per table."""
    return _table_statistics(view)


@system_table(
    "pg_stat_user_indexes",
    "pg_stat_all_indexes",
    "pg_statio_user_indexes",
    "pg_statio_all_indexes",
)
def pg_stat_user_indexes(view: CatalogView) -> Iterator[Record]:
    """Indexes; nodedb keeps no counters per index."""
    for table in view.tables:
        for index in all_indexes(table):
            yield {
                "relid": table.id,
                "indexrelid": index.id,
                "schemaname": view.schema_names[table.schema_id],
                "relname": table.name,
                "indexrelname": index.name,
                "idx_scan": 0,
                "idx_tup_read": 0,
                "idx_tup_fetch": 0,
                "idx_blks_read": 0,
                "idx_blks_hit": 0,
            }


@system_table("pg_stats")
def pg_stats(view: CatalogView) -> Iterator[Record]:
    """ANALYZE's findings; values as text in braces, as anyarray prints them."""
    for table in view.tables:
        if table.statistics is None:
            continue
        for item in table.statistics.columns:
            yield {
                "schemaname": view.schema_names[table.schema_id],
                "tablename": table.name,
                "attname": table.columns[item.position].name,
                "inherited": False,
                "null_frac": item.null_fraction,
                "avg_width": item.average_width,
                "n_distinct": item.distinct,
                **_histogram(table, item.position),
            }


def _histogram(table: Table, position: int) -> Record:
    assert table.statistics is not None
    found = next(c for c in table.statistics.columns if c.position == position)
    common, bounds = found.most_common, found.histogram
    return {
        "most_common_vals": ArrayValue(tuple(text for text, _ in common)) if common else None,
        "most_common_freqs": ArrayValue(tuple(share for _, share in common)) if common else None,
        "histogram_bounds": ArrayValue(bounds) if bounds else None,
    }


@live_table("pg_timezone_names")
def pg_timezone_names(context: ExecutionContext) -> Iterator[Record]:
    """Time zones with their offsets now."""
    rows = FUNCTIONS["pg_timezone_names()"].function(context)
    for name, abbreviation, offset, is_dst in rows:
        yield {"name": name, "abbrev": abbreviation, "utc_offset": offset, "is_dst": is_dst}
