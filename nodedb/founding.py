"""What a founder puts into an empty store: the first catalog, and in a cluster itself."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster.metadata.command import (
    Batch,
    CatalogChange,
    FoundCluster,
    GroupReplicas,
    NodeJoin,
    PromoteToActive,
    SetGroups,
    Setting,
)
from cluster.metadata.settings import BY_NAME, canonical
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.member.tuning import raft_config
from nodedb.pgwire.auth import make_scram_secret

if TYPE_CHECKING:
    from cluster.membership.core import Started
    from cluster.metadata.command import Command
    from nodedb.config import NodeConfig
    from nodedb.member.joining import Entrance

_LOGGER: Final = logging.getLogger("nodedb")


def first_command(
    config: NodeConfig, entrance: Entrance | None, started: Started | None
) -> Command:
    """Return the first entry of the metadata group: all of it is there, or nothing."""
    password = first_password(config)
    secret = "" if password is None else make_scram_secret(password)
    catalog = CatalogChange(bootstrap_catalog(secret).encode())
    if entrance is None or started is None:
        return catalog
    node = started.topology.nodes[0]
    node_id = started.identity.node_id
    join = NodeJoin(
        node_id,
        node.store_id,
        node.address,
        node.sql_address,
        node.http_address,
        node.locality,
        node.role,
        node.wire_version,
        node.spki_pin,
        entrance.incarnation,
    )
    groups = tuple(GroupReplicas(group_id, (node_id,)) for group_id in entrance.group_ids)
    return Batch(
        (
            FoundCluster(started.identity.cluster_id),
            join,
            PromoteToActive(node_id),
            SetGroups(groups),
            *_first_settings(config),
            catalog,
        )
    )


def _first_settings(config: NodeConfig) -> list[Setting]:
    """Return the cluster settings that the founder's own settings begin with.

    The election window is written in any case: every node must have the same one.
    """
    raft = raft_config(config)
    chosen = {
        "num_groups": config.num_groups,
        "replication_factor": config.replication_factor,
        "election_timeout_min": raft.election_timeout_ms_min,
        "election_timeout_max": raft.election_timeout_ms_max,
        "heartbeat_interval": raft.heartbeat_ms,
    }
    return [
        Setting(0, name, canonical(BY_NAME[name], str(value)))
        for name, value in chosen.items()
        if value is not None
    ]


def first_password(config: NodeConfig) -> str | None:
    """Return the superuser's first password: from the file, or made and written to the store.

    None if insecure.
    """
    if config.superuser_password_file is not None:
        return config.superuser_password_file.read_text(encoding="utf-8").strip()
    if config.insecure:
        return None
    password = secrets.token_urlsafe(18)
    path = Path(config.store) / "initial-password"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(password + "\n")
        file.flush()
        os.fsync(file.fileno())
    _LOGGER.warning("the first password of superuser nodedb is in %s", path)
    return password
