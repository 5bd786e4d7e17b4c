"""System tables and views computed from a catalog snapshot."""

from __future__ import annotations

from functools import cache

from nodedb.catalog.session_catalog import VirtualTables


@cache
def virtual_tables() -> VirtualTables:
    """Return all system tables: of pg_catalog, information_schema, nodedb_internal."""
    from nodedb.catalog.virtual import (  # noqa: PLC0415 - importing them registers their producers
        cluster_views,
        information_schema,
        privileges,
        registry,
        relations,
        roles,
        static,
        views,
    )

    assert all((information_schema, privileges, relations, roles, static, views))
    return VirtualTables((*registry.make_tables(), *cluster_views.internal_views()))
