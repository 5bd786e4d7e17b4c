"""What a founder writes into an empty store: one entry, all of it or nothing."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import Batch, CatalogChange, decode_command, encode_command
from cluster.metadata.settings import value_of
from nodedb.catalog.metadata import MetadataState
from nodedb.founding import first_command, first_password
from nodedb.storage.memory_engine import MemoryEngine

if TYPE_CHECKING:
    from pathlib import Path


def node_config(path: Path, **changes: Any) -> Any:
    chosen = {
        "store": path,
        "insecure": True,
        "superuser_password_file": None,
        "num_groups": None,
        "replication_factor": None,
        "election_timeout_ms_min": None,
        "election_timeout_ms_max": None,
        "heartbeat_ms": None,
        **changes,
    }
    return SimpleNamespace(**chosen)


def founder() -> tuple[Any, Any]:
    node = SimpleNamespace(
        store_id="store1",
        address="a:9400",
        sql_address="a:6432",
        http_address="a:6480",
        locality=("region=eu",),
        role="full",
        wire_version=1,
        spki_pin=b"p" * 32,
    )
    entrance = SimpleNamespace(incarnation=4, group_ids=(METADATA_GROUP, FIRST_DATA_GROUP, 2))
    started = SimpleNamespace(
        topology=SimpleNamespace(nodes=(node,)),
        identity=SimpleNamespace(node_id=3, cluster_id="c0ffee"),
    )
    return entrance, started


def applied(command: Any) -> MetadataState:
    metadata = MetadataState(MemoryEngine())
    metadata.apply_payload(encode_command(decode_command(encode_command(command))), 1)
    assert metadata.refusal(1) == ""
    return metadata


def test_a_node_by_itself_gets_a_catalog(tmp_path: Path) -> None:
    command = first_command(node_config(tmp_path), None, None)
    assert isinstance(command, CatalogChange)
    assert applied(command).catalog.schema_version == 1


def test_a_founder_is_the_first_active_member_of_every_group(tmp_path: Path) -> None:
    command = first_command(node_config(tmp_path, num_groups=2), *founder())
    assert isinstance(command, Batch)
    metadata = applied(command)
    cluster = metadata.cluster
    assert metadata.catalog.schema_version == 1
    assert cluster.cluster_id == "c0ffee"
    record = cluster.nodes[3]
    assert (record.state, record.join_order, record.incarnation) == ("active", 1, 4)
    assert (record.store_id, record.rpc_address, record.spki_pin) == ("store1", "a:9400", b"p" * 32)
    assert {group_id: g.voters for group_id, g in cluster.groups.items()} == {
        METADATA_GROUP: (3,),
        FIRST_DATA_GROUP: (3,),
        2: (3,),
    }


def test_the_election_window_is_written_down_whether_it_was_set_or_not(tmp_path: Path) -> None:
    for chosen, shortest in ((None, 0.75), (2000, 2.0)):
        config = node_config(
            tmp_path, election_timeout_ms_min=chosen, election_timeout_ms_max=chosen and 5000
        )
        cluster = applied(first_command(config, *founder())).cluster
        text = cluster.setting("election_timeout_min")
        assert text is not None
        assert value_of("election_timeout_min", text) == shortest


def test_the_first_password_is_the_owners_alone(tmp_path: Path) -> None:
    assert first_password(node_config(tmp_path)) is None
    password = first_password(node_config(tmp_path, insecure=False))
    path = tmp_path / "initial-password"
    assert password is not None
    assert len(password) >= 20
    assert path.read_text() == password + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    given = tmp_path / "given"
    given.write_text("s3cret\n")
    config = node_config(tmp_path, insecure=False, superuser_password_file=given)
    assert first_password(config) == "s3cret"


def test_settings_that_do_not_go_together_found_nothing(tmp_path: Path) -> None:
    config = node_config(tmp_path, election_timeout_ms_min=500, election_timeout_ms_max=400)
    with pytest.raises(ValueError, match="election_timeout_ms_max"):
        first_command(config, *founder())
