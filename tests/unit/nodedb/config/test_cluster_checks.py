"""Settings of a member: what is a fault, and that none of it is looked at without --join."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cluster.membership.config import StartSettings
from cluster.membership.seeds import SeedSettings
from cluster.membership.tokens import create_token
from nodedb.config.cluster_checks import read_join_token, read_secret
from nodedb.config.node_config import ConfigFaults, NodeConfig, load_config

SECRET = b"a secret of the cluster"
LOCAL = {"store": "/s", "join": "127.0.0.1:9400", "insecure": True}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with certificates, a secret, and a token, as they should be."""
    for name in ("ca.crt", "node.crt", "node.key"):
        (tmp_path / name).write_text("PEM")
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    (tmp_path / "secret").chmod(0o600)
    token = create_token(SECRET, for_node=0, expires_at_seconds=1)
    (tmp_path / "token").write_text(token + "\n")
    return tmp_path


def secured(files: Path, **changes: Any) -> dict[str, Any]:
    return {
        "store": "/s",
        "join": "10.0.0.1:9400,10.0.0.2:9400",
        "certs_dir": str(files),
        "cluster_secret_file": str(files / "secret"),
        **changes,
    }


def faults_of(flags: dict[str, Any]) -> tuple[str, ...]:
    try:
        load_config(flags, {}, None)
    except ConfigFaults as caught:
        return caught.faults
    return ()


def test_a_good_member(files: Path) -> None:
    config = load_config(secured(files, join_token_file=str(files / "token")), {}, None)
    assert config.is_clustered
    assert config.seeds == SeedSettings(("10.0.0.1:9400", "10.0.0.2:9400"))
    assert config.start_settings == StartSettings()
    assert config.cluster_secret_file is not None
    assert read_secret(config.cluster_secret_file) == SECRET
    assert len(read_join_token(files / "token")) == 96


def test_the_variables_of_the_back_off_have_the_references_names() -> None:
    environment = {
        "NODEDB_JOIN_RETRY_MAX_ATTEMPTS": "5",
        "NODEDB_JOIN_RETRY_MAX_BACKOFF_SECS": "2",
        "NODEDB_JOIN_BUDGET_SECONDS": "9",
    }
    settings = load_config(LOCAL, environment, None).start_settings
    assert settings == StartSettings(attempts_max=5, back_off_seconds_max=2.0, budget_seconds=9.0)


def test_nothing_is_looked_at_without_join() -> None:
    config = load_config(
        {
            "store": "/s",
            "join_token_file": "/nowhere",
            "cluster_secret_file": "/nowhere",
            "role": "replica",
            "locality": "here",
            "node_id": "0",
            "num_groups": "0",
            "replication_factor": "0",
            "join_retry_max_attempts": "0",
        },
        {},
        None,
    )
    assert not config.is_clustered
    assert config.seeds == SeedSettings(())


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"join": "nowhere"}, '--join "nowhere": expected HOST:PORT'),
        ({"join": "a:1,b:0"}, '--join "b:0": the port is a number from 1 to 65535'),
        ({"join": "srv:"}, '--join "srv:": expected srv:NAME'),
        ({"join": "0.0.0.0:9400"}, '--join "0.0.0.0:9400": nobody can connect to that host'),
        ({"node_id": "0"}, "--node-id 0: expected a number from 1 to 2147483647"),
        ({"locality": "here"}, "--locality here: expected key=value"),
        ({"locality": "zone="}, "--locality zone=: expected key=value"),
        ({"locality": "a=1,a=2"}, "--locality a=2: a is given twice"),
        ({"num_groups": "0"}, "--num-groups 0: expected 1 to 1024"),
        ({"replication_factor": "10"}, "--replication-factor 10: expected 1 to 9"),
        ({"join_retry_max_attempts": "0"}, "join_retry_max_attempts must be from 1 to 64"),
        (
            {"join_retry_max_backoff_secs": "0"},
            "join_retry_max_backoff_secs must be from 1 to 3600",
        ),
        ({"join_budget_seconds": "0"}, "join_budget_seconds must be from 1 to 86400"),
        ({"join_token_file": "/nowhere"}, "--join-token-file /nowhere: No such file or directory"),
        (
            {"cluster_secret_file": "/nowhere"},
            "--cluster-secret-file /nowhere: No such file or directory",
        ),
        (
            {"insecure": False},
            "--join needs --certs-dir (see nodedb cert), or --insecure on loopback",
        ),
        ({"insecure": False}, "--join needs --cluster-secret-file, or --insecure on loopback"),
        (
            {"rpc_addr": "10.0.0.5:9400"},
            "--insecure with --rpc-addr 10.0.0.5:9400: other machines could join without a proof; "
            "listen on loopback, or name the network with --insecure-network",
        ),
        (
            {"role": "replica"},
            "--role replica: 127.0.0.1:9400 is the smallest address of --join, which founds the "
            "cluster, and a replica cannot",
        ),
    ],
)
def test_faults(flags: dict[str, Any], fault: str) -> None:
    assert fault in faults_of({**LOCAL, **flags})


def test_all_faults_are_reported_together() -> None:
    faults = faults_of({**LOCAL, "join": "x,y", "node_id": "0", "num_groups": "0"})
    assert len(faults) == 4


def test_a_named_network_may_be_insecure() -> None:
    flags = {**LOCAL, "rpc_addr": "10.0.0.5:9400", "insecure_network": "10.0.0.0/8"}
    assert faults_of(flags) == ()


def test_too_many_seeds() -> None:
    many = ",".join(f"10.0.{n // 200}.{n % 200 + 1}:1" for n in range(101))
    assert faults_of({**LOCAL, "join": many}) == ("--join: 101 addresses, at most 100",)


def test_a_replica_that_is_not_the_first_is_fine() -> None:
    assert faults_of({**LOCAL, "join": "127.0.0.1:9300,127.0.0.1:9400", "role": "replica"}) == ()


@pytest.mark.parametrize("name", ["ca.crt", "node.crt", "node.key"])
def test_missing_certificates(files: Path, name: str) -> None:
    (files / name).unlink()
    (fault,) = faults_of(secured(files))
    assert fault == f"--certs-dir {files}: {name} is missing, and nodes need it"


def test_a_short_secret(files: Path) -> None:
    (files / "secret").write_text("short\n" + " " * 40)
    (fault,) = faults_of(secured(files))
    assert fault.endswith("a secret has at least 16 bytes")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o601])
def test_a_secret_that_others_may_read(files: Path, mode: int) -> None:
    (files / "secret").chmod(mode)
    (fault,) = faults_of(secured(files))
    assert fault.endswith("others may read it; its mode should be 0600")


@pytest.mark.parametrize("text", ["", "00", "x" * 96, "\u00e9" * 96])
def test_a_token_file_with_something_else(files: Path, text: str) -> None:
    (files / "token").write_text(text, encoding="utf-8")
    (fault,) = faults_of(secured(files, join_token_file=str(files / "token")))
    assert fault.startswith(f"--join-token-file {files / 'token'}: token: ")


def test_a_directory_where_a_file_belongs(files: Path) -> None:
    faults = faults_of(secured(files, cluster_secret_file=str(files), join_token_file=str(files)))
    assert len(faults) == 2
    assert all(fault.endswith("Is a directory") for fault in faults)


def test_the_fields_are_what_the_reports_say() -> None:
    fields = NodeConfig(store=Path(os.devnull))
    assert (fields.join_retry_max_attempts, fields.join_retry_max_backoff_secs) == (8, 32)
    assert fields.join_budget_seconds == 120
