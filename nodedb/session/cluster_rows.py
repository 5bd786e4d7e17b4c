"""The SHOW statements about the node and its cluster, and the rows of ``nodedb_internal``'s views.

Everything is asked of the node's ``ClusterView`` in the turn in which the statement runs, so the
figures are live and cost no message; a node by itself is a cluster of one. Columns stand in
``nodedb.catalog.virtual.cluster_views``. All need a superuser but ROUTING, SCHEMA VERSION and the
settings. What nobody measures is NULL: unknown, not zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cluster.ids import METADATA_GROUP, VSHARD_COUNT
from cluster.metadata.settings import SETTINGS, bounds_text
from nodedb.catalog.virtual.cluster_views import INTERNAL_VIEWS, PROPERTIES
from nodedb.session.api import Result, ResultColumn
from nodedb.session.routing_key import vshard_of_key
from sql.ast.utility import INTERNAL_SCHEMA, SHOW_SOURCES
from sql.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    SqlSyntaxError,
    UndefinedObject,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nodedb.session.cluster_view import ClusterView, GroupStatus, NodeStatus
    from nodedb.session.session import Session
    from sql.ast import utility as u
    from sql.types.base import Row

_FOR_EVERYBODY: Final = ("routing", "schema_version", "settings")
_COLUMNS: Final = {
    name: tuple(ResultColumn(*column) for column in columns)
    for name, columns in INTERNAL_VIEWS.items()
}
_PROPERTIES: Final = tuple(ResultColumn(*column) for column in PROPERTIES)


def columns(statement: u.ShowCluster) -> tuple[ResultColumn, ...] | None:
    """Return the columns of a SHOW statement; None for one that is not supported."""
    if statement.what in ("node", "raft group"):
        return _PROPERTIES
    view = SHOW_SOURCES.get(statement.what)
    return None if view is None else _COLUMNS[view]


def show(session: Session, statement: u.ShowCluster) -> Result:
    """Answer a SHOW statement about the cluster.

    Errors: 42501, 42704 for an unknown node or group, 42601 for an id that is no number, those of
    a routing key.
    """
    what = statement.what
    found = columns(statement)
    if found is None:
        raise FeatureNotSupported(f"SHOW {what.upper()} is not supported yet")
    if what in ("node", "raft group"):
        _require_superuser(session, what)
        number = _number(what, statement.args[0])
        rows = _node(session, number) if what == "node" else _raft_group(session, number)
    elif statement.table is not None:
        vshard = vshard_of_key(session, statement.table, statement.args)
        rows = [_route(session.node.cluster, vshard)]
    else:
        rows = view_rows(session, SHOW_SOURCES[what], what)
    return Result("SHOW", found, rows)


def view_rows(session: Session, view: str, what: str = "") -> list[Row]:
    """Return the rows of a view of ``nodedb_internal``; 42501 where a superuser is needed."""
    if view not in _FOR_EVERYBODY:
        _require_superuser(session, what or view.replace("_", " "))
    return _ROWS[view](session)


def _require_superuser(session: Session, what: str) -> None:
    if not session.catalog().is_superuser:
        raise InsufficientPrivilege(f"must be superuser to execute SHOW {what.upper()}")


def _number(what: str, value: object) -> int:
    """Read the id of a node or group: a number, or a string of digits."""
    if isinstance(value, int):
        return value
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise SqlSyntaxError(f'{what} id must be a number, not "{text}"')
    return int(text)


# Ranges and routing


def _ranges(session: Session) -> list[Row]:
    view, group = session.node.cluster, session.node.transactions.group
    places: dict[int, tuple[int, str]] = {}
    rows: list[Row] = []
    for vshard, group_id in enumerate(_groups_of_vshards(view)):
        if group_id not in places:
            replicas = ", ".join(map(str, view.replicas_of_group(group_id)))
            places[group_id] = (view.leader_of_group(group_id), replicas)
        is_here = group_id == group.group_id
        rows.append(
            (
                vshard,
                group_id,
                *places[group_id],
                None,  # Requests are counted by statement and table, not by vshard.
                None,
                None,
                group.vshard_keys[vshard] if is_here else None,
                group.vshard_bytes[vshard] if is_here else None,
            )
        )
    return rows


def _routing(session: Session) -> list[Row]:
    view = session.node.cluster
    addresses = _addresses(view)
    places: dict[int, tuple[int, str]] = {}
    rows: list[Row] = []
    for vshard, group_id in enumerate(_groups_of_vshards(view)):
        if group_id not in places:
            leader = view.leader_of_group(group_id)
            places[group_id] = (leader, addresses.get(leader, ""))
        rows.append((vshard, group_id, *places[group_id]))
    return rows


def _route(view: ClusterView, vshard: int) -> Row:
    group_id = view.group_of_vshard(vshard)
    leader = view.leader_of_group(group_id)
    return (vshard, group_id, leader, _addresses(view).get(leader, ""))


def _groups_of_vshards(view: ClusterView) -> Iterable[int]:
    return map(view.group_of_vshard, range(VSHARD_COUNT))


def _addresses(view: ClusterView) -> dict[int, str]:
    return {node.node_id: node.rpc_address for node in view.nodes()}


# Nodes


def _nodes(session: Session) -> list[Row]:
    """List the members, then who was refused lately, with the sentence that said why."""
    view = session.node.cluster
    rows: list[Row] = [
        (
            node.node_id,
            node.rpc_address,
            node.state,
            _joined(node.groups),
            node.liveness,
            node.sql_address,
            node.http_address,
            ",".join(node.locality),
            node.role,
            node.last_error,
        )
        for node in view.nodes()
    ]
    for address, sentence in view.refusals():
        rows.append((None, address, "refused", "", "", "", "", "", "", sentence))
    return rows


def _node(session: Session, node_id: int) -> list[Row]:
    node = _find_node(session.node.cluster, node_id)
    return [
        ("node_id", str(node.node_id)),
        ("address", node.rpc_address),
        ("state", node.state),
        ("raft_groups", _joined(node.groups)),
        ("liveness", node.liveness),
        ("sql_address", node.sql_address),
        ("http_address", node.http_address),
        ("locality", ",".join(node.locality)),
        ("role", node.role),
        ("last_error", node.last_error),
    ]


def _find_node(view: ClusterView, node_id: int) -> NodeStatus:
    for node in view.nodes():
        if node.node_id == node_id:
            return node
    raise UndefinedObject(f"node {node_id} does not exist")


def _peer_health(session: Session) -> list[Row]:
    view = session.node.cluster
    states = {node.node_id: node.state for node in view.nodes()}
    return [
        (
            peer.node_id,
            peer.address,
            states.get(peer.node_id, ""),
            peer.circuit,
            peer.failures,
            peer.round_trip_ms,
            peer.last_error,
        )
        for peer in view.peers()
    ]


# Cluster and groups


def _cluster(session: Session) -> list[Row]:
    view = session.node.cluster
    nodes, groups = view.nodes(), view.groups()
    leading = sum(group.role == "leader" for group in groups)
    return [
        ("node_id", str(view.node_id)),
        ("nodes_total", str(len(nodes))),
        ("nodes_active", str(sum(node.state == "active" for node in nodes))),
        ("topology_version", str(view.topology_version)),
        ("raft_groups", str(len(groups))),
        ("vshards", str(VSHARD_COUNT)),
        ("groups_leading", str(leading)),
        ("groups_following", str(len(groups) - leading)),
        ("cluster_id", view.cluster_id),
        ("cluster_version", str(session.node.metadata.cluster.cluster_version)),
        ("quorum", "yes" if view.has_quorum() else "no"),
    ]


def _schema_version(session: Session) -> list[Row]:
    node = session.node
    applied = node.transactions.replicator.applied_index(METADATA_GROUP)
    return [
        ("schema_version", str(node.metadata.catalog.schema_version)),
        ("metadata_applied_index", str(applied)),
        ("catalog_changes", str(node.metadata.change_count)),
        ("node_id", str(node.cluster.node_id)),
    ]


def _raft_groups(session: Session) -> list[Row]:
    view = session.node.cluster
    counts = _vshard_counts(view)
    return [
        (
            group.group_id,
            group.role,
            group.leader_id,
            group.term,
            group.commit_index,
            group.applied_index,
            len(group.voters),
            counts.get(group.group_id, 0),
            len(group.learners),
            group.first_index,
            group.last_index,
            group.is_quiescent,
        )
        for group in view.groups()
    ]


def _vshard_counts(view: ClusterView) -> dict[int, int]:
    counts: dict[int, int] = {}
    for group_id in _groups_of_vshards(view):
        counts[group_id] = counts.get(group_id, 0) + 1
    return counts


def _raft_group(session: Session, group_id: int) -> list[Row]:
    view = session.node.cluster
    for group in view.groups():
        if group.group_id == group_id:
            vshards = [v for v, owner in enumerate(_groups_of_vshards(view)) if owner == group_id]
            return _group_properties(group, vshards)
    raise UndefinedObject(f"raft group {group_id} does not exist on this node")


def _group_properties(group: GroupStatus, vshards: list[int]) -> list[Row]:
    span = f"{vshards[0]}..{vshards[-1]} " if vshards else ""
    rows: list[Row] = [
        ("group_id", str(group.group_id)),
        ("role", group.role),
        ("leader_id", str(group.leader_id)),
        ("term", str(group.term)),
        ("commit_index", str(group.commit_index)),
        ("last_applied", str(group.applied_index)),
        ("member_count", str(len(group.voters))),
        ("vshard_count", str(len(vshards))),
        ("members", _joined(group.voters)),
        ("vshards", f"{span}({len(vshards)} total)"),
        ("learners", _joined(group.learners)),
        ("first_index", str(group.first_index)),
        ("last_index", str(group.last_index)),
        ("quiescent", "yes" if group.is_quiescent else "no"),
    ]
    rows += [(f"match_index_of_node_{peer}", str(index)) for peer, index in group.match_indexes]
    return rows


def _joined(ids: Iterable[int]) -> str:
    return ", ".join(map(str, ids))


# Settings


def _settings(session: Session) -> list[Row]:
    """List the cluster's settings, then those that nodes have of their own."""
    state = session.node.metadata.cluster
    rows: list[Row] = []
    for setting in SETTINGS:
        scopes = [0, *(n for n, name in sorted(state.settings) if n and name == setting.name)]
        for node_id in scopes:
            value = state.setting(setting.name, node_id)
            rows.append(
                (
                    node_id or None,
                    setting.name,
                    setting.default if value is None else value,
                    setting.default,
                    setting.kind,
                    *bounds_text(setting),
                    setting.is_fixed,
                    setting.description,
                )
            )
    return rows


_ROWS: Final[dict[str, Callable[[Any], list[Row]]]] = {
    "ranges": _ranges,
    "routing": _routing,
    "schema_version": _schema_version,
    "nodes": _nodes,
    "cluster": _cluster,
    "raft_groups": _raft_groups,
    "peer_health": _peer_health,
    "settings": _settings,
}
assert set(_ROWS) == set(INTERNAL_VIEWS), "a view of nodedb_internal has no rows"
SYSTEM_ROWS: Final = tuple((f"{INTERNAL_SCHEMA}.{name}", name) for name in _ROWS)
"""(name the view asks by, view)."""
