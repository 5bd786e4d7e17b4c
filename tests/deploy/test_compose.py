"""The compose file: what it says, and its commands on this machine."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from nodedb.config import load_config
from tests.deploy.commands import flags_of
from tests.deploy.conftest import make_secrets
from tests.deploy.test_kubernetes import environment_of, local
from tests.e2e.node_process import NODEDB, running

ROOT = Path(__file__).parents[2]
NODES = ("node1", "node2", "node3")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def dockerfile_environment() -> dict[str, str]:
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    return dict(re.findall(r"(NODEDB_\w+)=(\S+)", text))


def test_nodes_wait_for_the_certificates_and_nobody_else_does(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"certs", *NODES}
    for name in NODES:
        service = services[name]
        assert service["depends_on"] == {"certs": {"condition": "service_completed_successfully"}}
        assert service["image"] == services["certs"]["image"]
        assert service["restart"] == "unless-stopped"
        # A node sees its own files only, and cannot change them.
        assert f"certs{name[-1]}:/certs:ro" in service["volumes"]
        assert all(f"certs{n}:" not in str(service["volumes"]) for n in "123" if n != name[-1])
    assert "depends_on" not in services["certs"]
    assert "restart" not in services["certs"]
    assert services["certs"]["network_mode"] == "none"
    named = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert named == set(compose["volumes"])


def test_ports_are_open_to_this_machine_only(compose: dict[str, Any]) -> None:
    published = [port for name in NODES for port in compose["services"][name]["ports"]]
    assert len(published) == len(set(published)) == 6
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", NODES)
def test_the_settings_are_accepted_by_our_own_parser(
    compose: dict[str, Any], name: str, trusted: Path
) -> None:
    service = compose["services"][name]
    environment = dockerfile_environment() | service["environment"]
    config = load_config(flags_of(service["command"], {"/certs": str(trusted)}), environment, None)
    assert config.join == tuple(f"{node}:9400" for node in NODES)
    assert str(config.advertise_rpc) == f"{name}:9400"
    assert str(config.rpc_addr) == "0.0.0.0:9400"
    assert not config.insecure
    assert config.replication_factor == 3
    waits = config.drain_seconds + config.drain_leases_seconds + config.drain_unready_seconds
    assert int(service["stop_grace_period"].removesuffix("s")) > waits


def test_the_health_check_on_a_local_node(compose: dict[str, Any], store: Path) -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    in_image = re.search(r"HEALTHCHECK .* CMD (\[.*\])", dockerfile)
    assert in_image is not None
    checks = {tuple(compose["services"][name]["healthcheck"]["test"]) for name in NODES}
    checks.add(("CMD", *yaml.safe_load(in_image[1])))
    ((kind, *command),) = checks
    assert kind == "CMD"
    with running(store) as node:
        environment = environment_of(node)
        assert (
            subprocess.run(local(command), env=environment, timeout=30, check=False).returncode == 0
        )
        node.kill()
        done = subprocess.run(
            local(command), env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert "Connection refused" in done.stderr


def test_the_one_shot_service_makes_what_the_nodes_need_and_keeps_it(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    service = compose["services"]["certs"]
    assert service["entrypoint"] == ["nodedb-make-secrets"]
    assert "COPY deploy/make-secrets /opt/nodedb/bin/nodedb-make-secrets" in (
        ROOT / "deploy/Dockerfile"
    ).read_text(encoding="utf-8")
    authority, *directories = [tmp_path / path.lstrip("/") for path in service["command"]]
    assert [directory.name for directory in directories] == list(NODES)
    make_secrets(authority, *directories)
    before = contents(tmp_path)
    for directory in directories:
        assert {path.name for path in directory.iterdir()} == {
            "ca.crt",
            "node.crt",
            "node.key",
            "cluster-secret",
            "superuser-password",
        }
        names = names_of(directory / "node.crt")
        assert {directory.name, "localhost", "127.0.0.1"} <= names
        listed = subprocess.run(
            [NODEDB, "cert", "list", "--certs-dir", directory], capture_output=True, check=False
        )
        assert listed.returncode == 0, listed.stdout
    keys = [(directory / "node.key").read_bytes() for directory in directories]
    assert len(set(keys)) == 3
    secrets = {(directory / "cluster-secret").read_bytes() for directory in directories}
    passwords = {(directory / "superuser-password").read_text() for directory in directories}
    assert len(secrets) == len(passwords) == 1
    assert re.fullmatch(r"[0-9a-f]{36}", passwords.pop())
    assert all(
        path.stat().st_mode & 0o077 == 0
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix != ".crt"
    )
    make_secrets(authority, *directories)
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def names_of(certificate: Path) -> set[str]:
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def test_names_for_all_nodes_may_be_added(tmp_path: Path) -> None:
    make_secrets(tmp_path / "authority", tmp_path / "nodedb-0", HOSTS="nodedb-0.nodedb nodedb")
    names = names_of(tmp_path / "nodedb-0" / "node.crt")
    assert {"nodedb-0", "nodedb-0.nodedb", "nodedb"} <= names
