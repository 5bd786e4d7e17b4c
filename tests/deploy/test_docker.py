"""The compose cluster in containers, where a Docker engine answers. No registry is asked.

The base images are made once by ``deploy/make-base-image``; BASE_IMAGE and BUILD_IMAGE name others.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

import pytest
import yaml
from testcontainers.compose import DockerCompose

ROOT = Path(__file__).parents[2]
NODES = ("node1", "node2", "node3")
READY_SECONDS = 120.0
BASE_IMAGE = os.environ.get("BASE_IMAGE", "nodedb-base")
BUILD_IMAGE = os.environ.get("BUILD_IMAGE", "nodedb-base-build")
pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def why_not() -> str:
    """Return why the test cannot run here, "" if it can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    engine = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30)
    if engine.returncode:
        return "no Docker engine answers"
    for image in (BASE_IMAGE, BUILD_IMAGE):
        found = subprocess.run(
            ["docker", "image", "inspect", image], capture_output=True, check=False, timeout=30
        )
        if found.returncode:
            return f"there is no image {image}: make it by deploy/make-base-image"
    return "" if compose_command() else "neither docker compose nor docker-compose is installed"


def compose_command() -> list[str]:
    """Return whichever of the two compose commands works here."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version"], capture_output=True, check=False, timeout=30)
        if done.returncode == 0:
            return command
    return []


class Compose(DockerCompose):
    """testcontainers' compose with the command that is there, in a project of its own."""

    project = ""

    @cached_property
    def compose_command_property(self) -> list[str]:
        names = self.compose_file_name or []
        files = [part for name in names for part in ("-f", str(name))]
        return [*compose_command(), *files, "-p", self.project]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def inside(project: str, node: str, *command: str, seconds: float = 60.0) -> str:
    """Run a command in a node's container; returns its output."""
    done = subprocess.run(
        ["docker", "exec", container_of(project, node), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{node}: {command}: {done.stdout}{done.stderr}"
    return done.stdout


def container_of(project: str, service: str) -> str:
    labels = {
        "com.docker.compose.project": project,
        "com.docker.compose.service": service,
    }
    filters = [part for name, value in labels.items() for part in ("-f", f"label={name}={value}")]
    listed = subprocess.run(
        ["docker", "ps", "-aq", *filters], capture_output=True, text=True, check=True
    )
    (found,) = listed.stdout.split()
    return found


def health_of(project: str, node: str) -> str:
    inspected = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.Health.Status}}", container_of(project, node)],
        capture_output=True,
        text=True,
        check=True,
    )
    return inspected.stdout.strip()


def sql(project: str, node: str, statement: str) -> str:
    """Run a statement through a node; values without a heading."""
    script = 'PGPASSWORD=$(cat /certs/superuser-password) exec nodedb sql --format csv -c "$1"'
    output = inside(project, node, "sh", "-c", script, "sh", statement)
    return ",".join(output.splitlines()[1:])


def wait_until(condition, what: str, seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The compose cluster with published ports that are free here, all nodes healthy."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    os.environ.update(
        BASE_IMAGE=BASE_IMAGE, BUILD_IMAGE=BUILD_IMAGE, TESTCONTAINERS_RYUK_DISABLED="true"
    )
    text = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for node in NODES:
        inner = [port.rpartition(":")[2] for port in text["services"][node]["ports"]]
        text["services"][node]["ports"] = [f"127.0.0.1:{free_port()}:{port}" for port in inner]
    text["services"]["certs"]["build"]["context"] = str(ROOT)
    file = tmp_path_factory.mktemp("compose") / "docker-compose.yml"
    file.write_text(yaml.safe_dump(text))
    compose = Compose(file.parent, compose_file_name=str(file), build=True, wait=False)
    compose.project = f"nodedbtest{os.getpid()}"
    try:
        with compose:
            wait_until(
                lambda: all(health_of(compose.project, node) == "healthy" for node in NODES),
                "three healthy nodes without a manual step",
            )
            yield compose.project
    except BaseException:
        print(*compose.get_logs(), sep="\n")
        raise


def test_every_node_serves_the_same_rows(project: str) -> None:
    sql(project, "node1", "CREATE TABLE t (id int PRIMARY KEY)")
    for number, node in enumerate(NODES):
        sql(project, node, f"INSERT INTO t VALUES ({number})")
    for node in NODES:
        assert sql(project, node, "SELECT count(*) FROM t") == "3"


def test_nothing_in_it_is_trusted_without_a_password(project: str) -> None:
    done = subprocess.run(
        ["docker", "exec", container_of(project, "node1"), "nodedb", "sql", "-c", "SELECT 1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "asks for the password" in done.stderr
    assert inside(project, "node1", "id", "-u").strip() == "10001"


def test_pre_stop_drains_one_and_killing_another_leaves_two_serving(project: str) -> None:
    drained = inside(project, "node2", "nodedb", "node", "drain", "--local", seconds=90)
    assert drained.splitlines()[-1].endswith(": drained")
    wait_until(lambda: health_of(project, "node2") == "healthy", "the drained node back")
    wait_until(lambda: all(health_of(project, node) == "healthy" for node in NODES), "all healthy")
    sql(project, "node1", "CREATE TABLE IF NOT EXISTS kept (id int PRIMARY KEY)")
    sql(project, "node1", "INSERT INTO kept VALUES (1)")
    subprocess.run(
        ["docker", "kill", container_of(project, "node1")], capture_output=True, check=True
    )
    for node in ("node2", "node3"):

        def answers(node: str = node) -> bool:
            try:
                return sql(project, node, "SELECT count(*) FROM kept") == "1"
            except AssertionError:
                return False

        wait_until(answers, f"{node} serves without node1", 30)
    sql(project, "node3", "INSERT INTO kept VALUES (2)")
    assert sql(project, "node2", "SELECT count(*) FROM kept") == "2"
