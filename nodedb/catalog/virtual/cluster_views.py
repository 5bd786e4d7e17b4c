"""Columns of the views in ``nodedb_internal``, and of the SHOW statements that they stand for.

The rows are the session's (``nodedb.session.cluster_rows``), live at each execution. pg_catalog and
information_schema do not list these views: tools that copy or draw a database would take them for
the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sql.ast.utility import INTERNAL_SCHEMA
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import INTERNAL_SCHEMA_ID
from sql.types.catalog import BOOL, FLOAT8, INT8, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as SequenceOf

    from sql.functions.context import ExecutionContext
    from sql.types.base import Row, SqlType

Columns = tuple[tuple[str, "SqlType"], ...]
PROPERTIES: Final[Columns] = (("property", TEXT), ("value", TEXT))
INTERNAL_VIEWS: Final[dict[str, Columns]] = {
    "ranges": (
        ("vshard_id", INT8),
        ("group_id", INT8),
        ("leaseholder", INT8),
        ("replicas", TEXT),
        ("qps", FLOAT8),
        ("p99_latency_ms", FLOAT8),
        ("requests_total", INT8),
        ("keys", INT8),
        ("bytes", INT8),
    ),
    "routing": (
        ("vshard_id", INT8),
        ("group_id", INT8),
        ("leaseholder_node_id", INT8),
        ("leaseholder_addr", TEXT),
    ),
    "schema_version": PROPERTIES,
    "nodes": (
        ("node_id", INT8),
        ("address", TEXT),
        ("state", TEXT),
        ("raft_groups", TEXT),
        ("liveness", TEXT),
        ("sql_address", TEXT),
        ("http_address", TEXT),
        ("locality", TEXT),
        ("role", TEXT),
        ("last_error", TEXT),
    ),
    "cluster": PROPERTIES,
    "raft_groups": (
        ("group_id", INT8),
        ("role", TEXT),
        ("leader_id", INT8),
        ("term", INT8),
        ("commit_index", INT8),
        ("last_applied", INT8),
        ("members", INT8),
        ("vshards", INT8),
        ("learners", INT8),
        ("first_index", INT8),
        ("last_index", INT8),
        ("quiescent", BOOL),
    ),
    "peer_health": (
        ("node_id", INT8),
        ("address", TEXT),
        ("node_state", TEXT),
        ("circuit", TEXT),
        ("failures", INT8),
        ("round_trip_ms", FLOAT8),
        ("last_error", TEXT),
    ),
    "settings": (
        ("node_id", INT8),
        ("name", TEXT),
        ("value", TEXT),
        ("default_value", TEXT),
        ("type", TEXT),
        ("minimum", TEXT),
        ("maximum", TEXT),
        ("fixed", BOOL),
        ("description", TEXT),
    ),
}
"""By name; the order gives the OIDs, so new views come last."""


def internal_views() -> tuple[VirtualTable, ...]:
    """Return the views."""
    return tuple(
        VirtualTable(
            oid=INTERNAL_SCHEMA_ID + number,
            schema_id=INTERNAL_SCHEMA_ID,
            name=name,
            columns=columns,
            rows=_rows_of(f"{INTERNAL_SCHEMA}.{name}"),
            is_view=True,
        )
        for number, (name, columns) in enumerate(INTERNAL_VIEWS.items(), 1)
    )


def _rows_of(name: str) -> Callable[[Any], SequenceOf[Row]]:
    def rows(context: object) -> SequenceOf[Row]:
        return cast("ExecutionContext", context).session.system_rows(name)

    return rows
