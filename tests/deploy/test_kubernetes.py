"""The Kubernetes manifest: its fields, what they refer to, and its commands on a real node."""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from nodedb.config import load_config
from tests.deploy import kubernetes_model as k8s
from tests.deploy.commands import flags_of, start_flags
from tests.e2e.node_process import NODEDB, NodeProcess, running
from tests.e2e.test_health import ask
from tests.e2e.test_process import wait_until

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "deploy/kubernetes/nodedb.yaml"


@pytest.fixture(scope="module")
def objects() -> list[k8s.KubernetesObject]:
    return k8s.load(MANIFEST.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stateful_set(objects: list[k8s.KubernetesObject]) -> k8s.StatefulSet:
    (found,) = [one for one in objects if isinstance(one, k8s.StatefulSet)]
    return found


@pytest.fixture(scope="module")
def pod(stateful_set: k8s.StatefulSet) -> k8s.PodSpec:
    return stateful_set.spec.template.spec


@pytest.fixture(scope="module")
def container(pod: k8s.PodSpec) -> k8s.Container:
    return pod.containers[0]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readinessProbe:", "readynessProbe:"),
        ("path: /health/ready", "pth: /health/ready"),
        ("apiVersion: apps/v1", "apiVersion: apps/v1beta1"),
        ("maxUnavailable: 1", "maxUnavailble: 1"),
        ("preStop:", "prestop:"),
        ("containerPort: 6432", "containerPort: 643200"),
        ("storage: 20Gi", "storage: 20GB"),
    ],
)
def test_a_mistake_in_the_manifest_would_be_found(right: str, wrong: str) -> None:
    text = MANIFEST.read_text(encoding="utf-8")
    assert right in text
    with pytest.raises(msgspec.ValidationError):
        k8s.load(text.replace(right, wrong))


def test_everything_that_is_referred_to_is_there(
    objects: list[k8s.KubernetesObject], stateful_set: k8s.StatefulSet, pod: k8s.PodSpec
) -> None:
    labels = stateful_set.spec.template.metadata.labels
    services = {one.metadata.name: one for one in objects if isinstance(one, k8s.Service)}
    budgets = [one for one in objects if isinstance(one, k8s.PodDisruptionBudget)]
    assert stateful_set.spec.selector.matchLabels.items() <= labels.items()
    headless = services[stateful_set.spec.serviceName]
    assert headless.spec.clusterIP == "None"
    assert headless.spec.publishNotReadyAddresses
    ports = {(port.name, port.protocol) for port in pod.containers[0].ports}
    for service in services.values():
        assert service.spec.selector.items() <= labels.items()
        assert {(port.targetPort, port.protocol) for port in service.spec.ports} <= ports
    assert len(services) == 2
    for budget in budgets:
        assert budget.spec.selector.matchLabels.items() <= labels.items()
    # A majority has to stay: 3 replicas, one at a time.
    assert [(budget.spec.maxUnavailable, budget.spec.minAvailable) for budget in budgets] == [
        (1, None)
    ]
    assert stateful_set.spec.replicas == 3
    volumes = {volume.name for volume in pod.volumes}
    volumes |= {str(claim.metadata.name) for claim in stateful_set.spec.volumeClaimTemplates}
    for container in (*pod.containers, *pod.initContainers):
        assert {mount.name for mount in container.volumeMounts} <= volumes


def test_nothing_runs_as_root_or_may_become_it(pod: k8s.PodSpec) -> None:
    assert pod.securityContext.runAsNonRoot
    assert pod.securityContext.runAsUser == 10001
    for container in (*pod.containers, *pod.initContainers):
        security = container.securityContext
        assert not security.allowPrivilegeEscalation
        assert security.readOnlyRootFilesystem
        assert (security.capabilities.drop, security.capabilities.add) == (["ALL"], [])


def settings(container: k8s.Container, pod_name: str) -> dict[str, str]:
    """Return the container's environment as the pod of that name gets it."""
    found = {"POD_NAME": pod_name}
    for variable in container.env:
        if variable.value is not None:
            found[variable.name] = re.sub(
                r"\$\((\w+)\)", lambda name: found[name[1]], variable.value
            )
    return found


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_settings_are_accepted_by_our_own_parser(
    container: k8s.Container, stateful_set: k8s.StatefulSet, trusted: Path, number: int
) -> None:
    service = stateful_set.spec.serviceName
    environment = settings(container, f"nodedb-{number}") | {
        "NODEDB_STORE": "/var/lib/nodedb/data",
        "NODEDB_RPC_ADDR": "0.0.0.0:9400",
        "NODEDB_SQL_ADDR": "0.0.0.0:6432",
        "NODEDB_HTTP_ADDR": "0.0.0.0:6480",
    }
    config = load_config(flags_of(container.args, {"/certs": str(trusted)}), environment, None)
    own = f"nodedb-{number}.{service}:9400"
    assert str(config.advertise_rpc) == own
    assert config.join == tuple(f"nodedb-{n}.{service}:9400" for n in range(3))
    assert own in config.join
    assert not config.insecure
    assert config.certs_dir is not None
    assert config.cluster_secret_file is not None
    assert config.superuser_password_file is not None


def test_the_pod_waits_longer_than_a_drain_takes(
    container: k8s.Container, pod: k8s.PodSpec, trusted: Path
) -> None:
    flags = flags_of(container.args, {"/certs": str(trusted)})
    flags.setdefault("store", "/x")
    config = load_config(
        flags,
        {"NODEDB_ADVERTISE_RPC": "nodedb-0.nodedb:9400", "NODEDB_RPC_ADDR": "0.0.0.0:9400"},
        None,
    )
    waits = (
        config.drain_unready_seconds
        + config.drain_connections_seconds
        + config.drain_seconds
        + config.drain_leases_seconds
    )
    assert config.drain_unready_seconds > 0, "endpoints are taken out of services meanwhile"
    readiness = container.readinessProbe
    assert readiness is not None
    assert readiness.periodSeconds * readiness.failureThreshold <= config.drain_unready_seconds
    assert pod.terminationGracePeriodSeconds >= waits + 30


def test_probes_and_pre_stop_on_a_local_node(container: k8s.Container, store: Path) -> None:
    """What the kubelet would do, against a node on this machine."""
    probes = [container.startupProbe, container.livenessProbe, container.readinessProbe]
    assert all(probe is not None and probe.httpGet is not None for probe in probes)
    paths = [probe.httpGet.path for probe in probes if probe and probe.httpGet]
    assert container.lifecycle is not None
    assert container.lifecycle.preStop is not None
    assert container.lifecycle.preStop.exec is not None
    ports = {port.name: port.containerPort for port in container.ports}
    assert {probe.httpGet.port for probe in probes if probe and probe.httpGet} == {"http"}
    assert ports["http"] == 6480
    with running(store) as node:
        with node.connect() as setup:
            setup.execute("CREATE TABLE t (id int PRIMARY KEY)")
        assert [ask(node, path)[0] for path in paths] == [200, 200, 200]
        busy = node.connect(autocommit=False)
        busy.execute("INSERT INTO t VALUES (1)")
        pre_stop = subprocess.Popen(
            local(container.lifecycle.preStop.exec.command),
            env=environment_of(node),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: ask(node, "/health/drain")[1]["draining"], "the drain begins")
            # Alive, so that it is not restarted, and not ready, so that nobody is sent there.
            assert [ask(node, path)[0] for path in paths] == [200, 200, 503]
            assert pre_stop.poll() is None
            busy.commit()
            output, _ = pre_stop.communicate(timeout=30)
        finally:
            pre_stop.kill()
        assert pre_stop.returncode == 0
        assert output.splitlines()[-1].endswith(": drained")
        assert node.wait() == 0


def local(command: list[str]) -> list[str]:
    """Return a container's command with the ``nodedb`` of this machine."""
    assert command[0] == "nodedb"
    return [str(NODEDB), *command[1:]]


def environment_of(node: NodeProcess) -> dict[str, str]:
    """Return what a command inside the node's container would see."""
    address = node.http_url.removeprefix("http://")
    return {k: v for k, v in os.environ.items() if not k.startswith("NODEDB_")} | {
        "NODEDB_HTTP_ADDR": address
    }


def test_the_init_container_gives_each_node_its_own_files(pod: k8s.PodSpec, tmp_path: Path) -> None:
    (certs,) = pod.initContainers
    secrets, out = tmp_path / "secrets", tmp_path / "certs"
    secrets.mkdir()
    out.mkdir()
    shared = ("ca.crt", "cluster-secret", "superuser-password")
    own = [f"nodedb-{n}.{kind}" for n in range(3) for kind in ("crt", "key")]
    for name in (*shared, *own):
        (secrets / name).write_text(name)
    script = certs.command[-1].replace("/secrets", str(secrets)).replace("/certs", str(out))
    subprocess.run(
        [*certs.command[:-1], script], env=os.environ | {"HOSTNAME": "nodedb-1"}, check=True
    )
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        **{name: name for name in shared},
        "node.crt": "nodedb-1.crt",
        "node.key": "nodedb-1.key",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in out.iterdir())


def test_create_secrets_hands_kubectl_one_key_per_pod(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    for number in range(3):
        directory = nodes / f"nodedb-{number}"
        directory.mkdir(parents=True)
        for name in ("ca.crt", "node.crt", "node.key", "cluster-secret", "superuser-password"):
            (directory / name).write_text(name)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    kubectl.chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy/kubernetes/create-secrets", nodes, "--dry-run=client"],
        env=os.environ | {"KUBECTL": str(kubectl)},
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.split("\n")
    assert words[:5] == ["create", "secret", "generic", "nodedb-secrets", "--dry-run=client"]
    files = dict(word.removeprefix("--from-file=").split("=", 1) for word in words[5:] if word)
    assert len(files) == 9
    assert all(Path(path).is_file() for path in files.values())
    assert files["nodedb-2.key"].endswith("nodedb-2//node.key")


def test_start_flags_are_the_flags_of_the_command() -> None:
    assert "join" in start_flags()
