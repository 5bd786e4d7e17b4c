"""What ``nodedb node info`` prints."""

from __future__ import annotations

import hashlib

from cluster.membership.catalog import Identity
from cluster.membership.greeting import LocalNode
from cluster.membership.info import node_info, secret_hash
from cluster.membership.seeds import SeedList, parse_seeds

SECRET = b"a secret of the cluster"


def test_the_hash_tells_secrets_apart_and_gives_nothing_away() -> None:
    assert secret_hash(SECRET) == "803e5194c83300ac"
    assert secret_hash(SECRET) not in hashlib.sha256(SECRET).hexdigest()
    assert secret_hash(SECRET) != secret_hash(SECRET + b"x")
    assert secret_hash(b"") == ""


def test_a_member_and_a_node_that_is_none_yet() -> None:
    local = LocalNode("a:1", "s1", 4, 7, "replica")
    seeds = SeedList(parse_seeds(["b:1", "srv:x.example"]))
    seeds.on_error("x.example", "no answer")
    facts = {
        "local": local,
        "sql_address": "a:2",
        "http_address": "a:3",
        "locality": ("zone=a",),
        "secret": SECRET,
        "seeds": seeds,
    }
    info = node_info(identity=Identity("c1", 3, is_founder=False), **facts)  # type: ignore[arg-type]
    assert info == {
        "node_id": 3,
        "cluster_id": "c1",
        "store_id": "s1",
        "incarnation": 4,
        "rpc_address": "a:1",
        "sql_address": "a:2",
        "http_address": "a:3",
        "role": "replica",
        "locality": ["zone=a"],
        "secret_hash": secret_hash(SECRET),
        "seeds": ["b:1"],
        "seed_errors": {"srv:x.example": "no answer"},
    }
    assert SECRET.decode() not in str(info)
    early = node_info(identity=None, **facts)  # type: ignore[arg-type]
    assert (early["node_id"], early["cluster_id"]) == (7, "")
