"""What an operator needs to let a node join, or to see that two nodes belong together. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.membership.catalog import Identity
    from cluster.membership.greeting import LocalNode
    from cluster.membership.seeds import SeedList

_HASH_LABEL = b"nodedb cluster secret\0"


def secret_hash(secret: bytes) -> str:
    """Return 16 hex digits that tell secrets apart and do not give them away; "" without one.

    The label keeps it from being a value that anything else derives from the secret.
    """
    return hashlib.sha256(_HASH_LABEL + secret).hexdigest()[:16] if secret else ""


def node_info(
    *,
    identity: Identity | None,
    local: LocalNode,
    sql_address: str,
    http_address: str,
    locality: tuple[str, ...],
    secret: bytes,
    seeds: SeedList | None = None,
) -> dict[str, object]:
    """Return what ``nodedb node info`` prints, in this order; values are text, numbers, lists."""
    return {
        "node_id": local.node_id if identity is None else identity.node_id,
        "cluster_id": "" if identity is None else identity.cluster_id,
        "store_id": local.store_id,
        "incarnation": local.incarnation,
        "rpc_address": local.address,
        "sql_address": sql_address,
        "http_address": http_address,
        "role": local.role,
        "locality": list(locality),
        "secret_hash": secret_hash(secret),
        "seeds": [] if seeds is None else list(seeds.addresses),
        "seed_errors": {} if seeds is None else seeds.errors,
    }
