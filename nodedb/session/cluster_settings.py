"""ALTER CLUSTER and ALTER NODE: settings that the metadata group orders.

A value is checked here, by whoever proposes it, against ``cluster.metadata.settings``; the command
carries its canonical text. The statement returns when this node has applied it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.metadata.command import Batch, Setting
from cluster.metadata.settings import (
    BY_NAME,
    ELECTION_SETTINGS,
    BadSetting,
    ClusterSetting,
    canonical,
    check_elections,
    value_of,
)
from nodedb.session.api import Result
from nodedb.session.settings import join_values
from sql.errors import (
    ActiveSqlTransaction,
    CantChangeRuntimeParam,
    InsufficientPrivilege,
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
    UndefinedObject,
)

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.ast.utility import AlterCluster


async def alter_cluster(
    session: Session, statement: AlterCluster, *, in_multi_statement: bool
) -> Result:
    """Set or reset a setting of the cluster or of one node.

    Errors: 25001, 42501, 42704 for an unknown setting or node, 22023 for a value, 55P02 for what
    was decided when the cluster was founded; 55000 when the metadata group refuses it.
    """
    tag = "ALTER NODE" if statement.node_id else "ALTER CLUSTER"
    if session.block.state == "open" or in_multi_statement or session.is_pipelined:
        raise ActiveSqlTransaction(f"{tag} cannot run inside a transaction block")
    if not session.catalog().is_superuser:
        raise InsufficientPrivilege(f"must be superuser to execute {tag} command")
    node = session.node
    members = {member.node_id for member in node.cluster.nodes()}
    if statement.node_id and statement.node_id not in members:
        raise UndefinedObject(f"node {statement.node_id} does not exist")
    command: Setting | Batch
    if statement.name == "all" and statement.values is None:
        command = _reset_all(session, statement.node_id)
    else:
        command = _one_setting(session, statement)
    index = await node.propose_metadata(command)
    refusal = node.metadata.refusal(index)
    if refusal:
        raise ObjectNotInPrerequisiteState(refusal)
    return Result(tag)


def _reset_all(session: Session, node_id: int) -> Batch:
    """Reset all settings of the cluster, or of one node, that may be."""
    state = session.node.metadata.cluster
    names = sorted(name for scope, name in state.settings if scope == node_id)
    return Batch(
        tuple(
            Setting(node_id, name, None)
            for name in names
            if name not in BY_NAME or not BY_NAME[name].is_fixed
        )
    )


def _one_setting(session: Session, statement: AlterCluster) -> Setting:
    setting = BY_NAME.get(statement.name.lower())
    if setting is None:
        raise UndefinedObject(
            f'unrecognized cluster setting "{statement.name}"',
            span=statement.name_span,
            hint="nodedb_internal.settings lists them.",
        )
    if setting.is_fixed:
        raise CantChangeRuntimeParam(
            f'parameter "{setting.name}" cannot be changed after the cluster was founded'
        )
    if statement.node_id and not setting.per_node:
        raise InvalidParameterValue(f"parameter \"{setting.name}\" is the cluster's, not a node's")
    try:
        value = None
        if statement.values:
            value = canonical(setting, join_values(setting.name, statement.values))
        if setting.name in ELECTION_SETTINGS:
            _check_elections(session, setting, value)
    except BadSetting as error:
        raise InvalidParameterValue(error.message, hint=error.hint) from error
    return Setting(statement.node_id, setting.name, value)


def _check_elections(session: Session, changed: ClusterSetting, value: str | None) -> None:
    state = session.node.metadata.cluster

    def would_be(name: str) -> float:
        return value_of(name, value if name == changed.name else state.setting(name))

    check_elections(would_be)
