"""Settings from file, environment and flags, and every fault reported at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nodedb.config.node_config import Address, ConfigFaults, NodeConfig, field_names, load_config


def faults_of(
    flags: dict[str, Any], environment: dict[str, str] | None = None, file: str | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        load_config(flags, environment or {}, file)
    return caught.value.faults


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'store = "/a"\nsql-addr = "127.0.0.1:1"\nhttp_addr = "127.0.0.1:2"\nset = ["a=1"]\n'
    )
    config = load_config(
        {"sql_addr": "[::1]:5", "insecure": True},
        {"NODEDB_SQL_ADDR": "127.0.0.1:3", "NODEDB_HTTP_ADDR": "127.0.0.1:4", "PATH": "/bin"},
        str(file),
    )
    assert config.store == Path("/a")
    assert config.sql_addr == Address("::1", 5)
    assert str(config.sql_addr) == "[::1]:5"
    assert config.http_addr == Address("127.0.0.1", 4)
    assert config.variables == {"a": "1"}
    assert config.insecure


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("max_connections = 7\n")
    config = load_config({"store": "/s"}, {"NODEDB_CONFIG": str(file)}, None)
    assert config.max_connections == 7


def test_all_faults_are_reported_together_with_their_source(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('nonsense = 1\nmax_connections = "many"\n')
    faults = faults_of(
        {"sql_addr": "nowhere", "log_format": "xml"}, {"NODEDB_INSECURE": "perhaps"}, str(file)
    )
    assert faults == (
        f"{file}: unknown setting 'nonsense'",
        f"{file}: max_connections = 'many': expected a whole number",
        "NODEDB_INSECURE: insecure = 'perhaps': expected true or false",
        "--sql-addr: sql_addr = 'nowhere': expected HOST:PORT",
        "--log-format: log_format = 'xml': expected one of text, json",
        "--store is required (or NODEDB_STORE, or store in the configuration file)",
    )


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (
            {"sql_addr": "0.0.0.0:1"},
            "--sql-addr 0.0.0.0:1 listens everywhere: give --advertise-sql HOST:PORT",
        ),
        ({"insecure_network": "10.0.0.0/8"}, "--insecure-network needs --insecure"),
        ({"wal_segment_bytes": "4096"}, "wal_segment_bytes must be at least 1 MiB"),
        ({"set": "name"}, "--set name: expected name=value"),
        (
            {"advertise_rpc": "0.0.0.0:1"},
            '--advertise-rpc "0.0.0.0:1": nobody can connect to that host',
        ),
        (
            {"advertise_sql": "host:0"},
            '--advertise-sql "host:0": the port is a number from 1 to 65535',
        ),
    ],
)
def test_settings_that_do_not_fit_together(flags: dict[str, Any], fault: str) -> None:
    assert fault in faults_of({"store": "/s", **flags})


def test_a_network_that_is_none() -> None:
    (fault,) = faults_of({"store": "/s", "insecure": True, "insecure_network": "10.0.0.0/99"})
    assert fault.startswith("--insecure-network 10.0.0.0/99: ")


@pytest.mark.parametrize("port", ["65536", "-1", "", "x", "٣"])
def test_a_port_that_is_none(port: str) -> None:
    assert len(faults_of({"store": "/s", "http_addr": f"host:{port}"})) == 1


@pytest.mark.parametrize("content", [None, "not toml ["])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "node.toml"
    if content is not None:
        file.write_text(content)
    (fault,) = faults_of({"store": "/s"}, {}, str(file))
    assert fault.startswith(f"{file}: ")


def test_every_field_has_a_parser() -> None:
    for name, type_name in field_names():
        assert type_name in {"Path", "Address", "tuple[str, ...]", "bool", "int", "str"}, name
    assert NodeConfig(store=Path("/s")).variables == {}
