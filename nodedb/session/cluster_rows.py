"""The SHOW statements about the node and its cluster: on a single node, a cluster of one answers.

Columns of SHOW RANGES, ROUTING, NODES and the others are the tables below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP, VSHARD_COUNT
from nodedb.session.api import Result, ResultColumn
from sql.errors import FeatureNotSupported, InsufficientPrivilege
from sql.types.catalog import FLOAT8, INT8, TEXT

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.ast import utility as u
    from sql.types.base import Row

_PROPERTIES: Final = (ResultColumn("property", TEXT), ResultColumn("value", TEXT))
_RANGES: Final = (
    ResultColumn("vshard_id", INT8),
    ResultColumn("group_id", INT8),
    ResultColumn("leaseholder", INT8),
    ResultColumn("replicas", TEXT),
    ResultColumn("qps", FLOAT8),
    ResultColumn("p99_latency_ms", FLOAT8),
    ResultColumn("requests_total", INT8),
    ResultColumn("keys", INT8),
    ResultColumn("bytes", INT8),
)
_ROUTING: Final = (
    ResultColumn("vshard_id", INT8),
    ResultColumn("group_id", INT8),
    ResultColumn("leaseholder_node_id", INT8),
    ResultColumn("leaseholder_addr", TEXT),
)
_NODES: Final = (
    ResultColumn("node_id", INT8),
    ResultColumn("address", TEXT),
    ResultColumn("state", TEXT),
    ResultColumn("raft_groups", TEXT),
)
_GROUPS: Final = (
    ResultColumn("group_id", INT8),
    ResultColumn("role", TEXT),
    ResultColumn("leader_id", INT8),
    ResultColumn("term", INT8),
    ResultColumn("commit_index", INT8),
    ResultColumn("last_applied", INT8),
    ResultColumn("members", INT8),
    ResultColumn("vshards", INT8),
)
_COLUMNS: Final = {
    "schema version": _PROPERTIES,
    "ranges": _RANGES,
    "routing": _ROUTING,
    "nodes": _NODES,
    "cluster": _PROPERTIES,
    "raft groups": _GROUPS,
}


def columns(statement: u.ShowCluster) -> tuple[ResultColumn, ...] | None:
    """Return the columns of a SHOW statement."""
    return _COLUMNS.get(statement.what)


def show(session: Session, statement: u.ShowCluster) -> Result:
    """Answer a SHOW statement about the cluster."""
    found = _COLUMNS.get(statement.what)
    if found is None or statement.args:
        raise FeatureNotSupported(
            f"SHOW {statement.what.upper()} is not supported on a single node yet"
        )
    if statement.what not in ("routing", "schema version") and not session.catalog().is_superuser:
        raise InsufficientPrivilege(f"must be superuser to execute SHOW {statement.what.upper()}")
    return Result("SHOW", found, _rows(session, statement.what))


def _rows(session: Session, what: str) -> list[Row]:
    node = session.node
    node_id = node.node_id
    group = node.transactions.group
    replicator = node.transactions.replicator
    match what:
        case "schema version":
            version = str(node.metadata.catalog.schema_version)
            applied = str(replicator.applied_index(METADATA_GROUP))
            return [
                ("schema_version", version),
                ("metadata_applied_index", applied),
                ("catalog_changes", str(node.metadata.change_count)),
                ("node_id", str(node_id)),
            ]
        case "ranges":
            return [
                (
                    v,
                    FIRST_DATA_GROUP,
                    node_id,
                    str(node_id),
                    None,  # qps, p99 and requests are not measured yet: unknown, not zero
                    None,
                    None,
                    group.vshard_keys[v],
                    group.vshard_bytes[v],
                )
                for v in range(VSHARD_COUNT)
            ]
        case "routing":
            return [(v, FIRST_DATA_GROUP, node_id, node.rpc_address) for v in range(VSHARD_COUNT)]
        case "nodes":
            return [(node_id, node.rpc_address, "active", f"{METADATA_GROUP}, {FIRST_DATA_GROUP}")]
        case "cluster":
            return [
                ("node_id", str(node_id)),
                ("nodes_total", "1"),
                ("nodes_active", "1"),
                ("raft_groups", "2"),
                ("vshards", str(VSHARD_COUNT)),
                ("groups_leading", "2"),
                ("groups_following", "0"),
            ]
        case _:
            return [
                (
                    g,
                    "leader",
                    node_id,
                    replicator.term(g),
                    replicator.applied_index(g),
                    replicator.applied_index(g),
                    1,
                    VSHARD_COUNT if g else 0,
                )
                for g in (METADATA_GROUP, FIRST_DATA_GROUP)
            ]
