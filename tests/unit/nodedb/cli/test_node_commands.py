"""``nodedb node`` and ``nodedb token`` against an HTTP port in front of plain values."""

import asyncio
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from nodedb.cli.main import main
from nodedb.cli.node import admin_token
from nodedb.cli.token import seconds_of
from nodedb.drain import DrainProgress, Phase
from nodedb.http.phases import StartPhases
from nodedb.http.port import HttpPort
from nodedb.http.services import HttpServices, IssuedToken, TokenRefused
from nodedb.http.starting import listen
from tests.lib.fake_cluster import FakeView


class ScriptedDrain:
    """After the begin, each question finds it one phase further."""

    def __init__(self, phases: list[Phase]) -> None:
        self._phases = phases
        self.is_started = False

    def start(self, reason: str) -> None:
        self.is_started = True

    def progress(self) -> DrainProgress:
        if not self.is_started:
            return DrainProgress(Phase.SERVING, "", 0.0, 0.0, 0, 0)
        phase = self._phases.pop(0) if len(self._phases) > 1 else self._phases[0]
        return DrainProgress(phase, "x", 1.0, 1.0, 2, 0)


async def issue(for_node: int, seconds: float) -> IssuedToken:
    if for_node == 9:
        raise TokenRefused("the metadata group has no leader")
    return IssuedToken(f"token-{for_node}-{seconds:g}", for_node, 1.0)


def services_of(drain: ScriptedDrain) -> HttpServices:
    services = HttpServices(
        phases=StartPhases(),
        drain=drain,
        cluster=FakeView(),
        node_id=lambda: 1,
        cluster_id=lambda: "c0ffee",
        info=lambda: {"secret_hash": "ab12", "seeds": ["127.0.0.1:9401"], "seed_errors": {}},
        issue_token=issue,
    )
    services.phases.finish()
    return services


def with_port(services: HttpServices, act: Callable[[str], None]) -> None:
    """Serve while ``act`` runs commands against the URL."""

    async def serve() -> None:
        port = HttpPort(services)
        await port.start(listen("127.0.0.1", 0))
        try:
            await asyncio.to_thread(act, f"http://127.0.0.1:{port.port}")
        finally:
            await port.close()

    asyncio.run(serve())


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODEDB_URL", "NODEDB_HTTP_ADDR", "NODEDB_HTTP_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def act(url: str) -> None:
        assert main(["node", "status", "--url", url, "--format", "json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert [node["node_id"] for node in status["nodes"]] == [1, 2, 3]
        assert status["peers"][1]["last_error"] == "connection refused"
        monkeypatch.setenv("NODEDB_URL", url)
        assert main(["node", "status"]) == 0
        text = capsys.readouterr().out
        assert "cluster_id: c0ffee" in text
        lines = text.splitlines()
        peers = lines[lines.index("peers") :]
        assert peers[1].split() == (
            [
                "node_id",
                "|",
                "address",
                "|",
                "circuit",
                "|",
                "failures",
                "|",
                "round_trip_ms",
                "|",
                "last_error",
            ]
        )
        assert "connection refused" in peers[4]

    with_port(services_of(ScriptedDrain([Phase.DRAINED])), act)


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    def act(url: str) -> None:
        assert main(["node", "info", "--url", url]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [
            "node_id      1",
            "cluster_id   c0ffee",
            "lifecycle    ready",
            "secret_hash  ab12",
            "seeds        127.0.0.1:9401",
            "seed_errors  -",
        ]

    with_port(services_of(ScriptedDrain([Phase.DRAINED])), act)


def test_info_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = {"format_version": 1, "store_id": "s", "engine": "e", "cluster_id": "c0ffee"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    command = ["node", "info", "--format", "json", "--cluster-secret-file", str(secret), "--store"]
    assert main([*command, str(tmp_path)]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["cluster_id"] == "c0ffee"
    assert "0123456789abcdef" not in info["secret_hash"]
    assert len(info["secret_hash"]) >= 16
    assert main([*command, str(tmp_path / "nowhere")]) == 1
    assert "no store of a node" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("[]")
    assert main([*command, str(tmp_path)]) == 1


def test_drain_waits_for_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = ScriptedDrain([Phase.UNREADY, Phase.UNREADY, Phase.TRANSACTIONS, Phase.DRAINED])

    def act(url: str) -> None:
        monkeypatch.setenv("NODEDB_HTTP_ADDR", url.removeprefix("http://"))
        assert main(["node", "drain", "--local"]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[-1] == f"{url}: drained"
        assert f"{url}: transactions" in shown

    with_port(services_of(drain), act)
    assert drain.is_started


def test_a_drain_that_takes_too_long_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def act(url: str) -> None:
        assert main(["node", "drain", "--url", url, "--timeout", "0.3"]) == 1
        assert capsys.readouterr().err == (
            f"nodedb: {url} is not drained after 0.3 s (transactions, 2 connections)\n"
        )

    with_port(services_of(ScriptedDrain([Phase.TRANSACTIONS])), act)


def test_ready(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    services = services_of(ScriptedDrain([Phase.DRAINED]))
    view = services.cluster
    assert isinstance(view, FakeView)

    def act(url: str) -> None:
        monkeypatch.setenv("NODEDB_HTTP_ADDR", url.removeprefix("http://"))
        assert main(["node", "ready", "--local"]) == 0
        view.quorum = False
        assert main(["node", "ready", "--url", url]) == 1
        assert capsys.readouterr().err == (
            f"nodedb: {url} is not ready: a group with a replica here has no leader within reach\n"
        )

    with_port(services, act)


def test_which_node_to_drain_must_be_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["node", "drain"]) == 1
    assert "say which node" in capsys.readouterr().err
    monkeypatch.setenv("NODEDB_URL", "postgresql://h/d")
    assert main(["node", "drain"]) == 1
    assert "say which node" in capsys.readouterr().err
    assert main(["node", "drain", "--local", "--url", "http://h:1"]) == 1
    assert "not both" in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    for command in (["node", "drain"], ["node", "status"], ["node", "info"], ["token", "create"]):
        assert main([*command, "--url", url]) == 1
        assert capsys.readouterr().err == f"nodedb: {url}: Connection refused\n"
    assert main(["node", "status", "--url", f"postgresql://127.0.0.1:{unused_port()}/x"]) == 1
    assert "could not connect: 127.0.0.1:" in capsys.readouterr().err
    assert main(["node", "status", "--url", "nonsense"]) == 2
    assert "expected postgresql://" in capsys.readouterr().err


def unused_port() -> int:
    with listen("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def test_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    def act(url: str) -> None:
        assert main(["token", "create", "--url", url]) == 0
        assert capsys.readouterr().out == "token-0-600\n"
        assert main(["token", "create", "--url", url, "--for-node", "3", "--ttl", "2h"]) == 0
        assert capsys.readouterr().out == "token-3-7200\n"
        assert main(["token", "create", "--url", url, "--for-node", "9"]) == 1
        assert "503: the metadata group has no leader" in capsys.readouterr().err
        assert main(["token", "create", "--url", url, "--for-node", "-1"]) == 1

    with_port(services_of(ScriptedDrain([Phase.DRAINED])), act)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)]
)
def test_times(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5h", "10 m", "m", "1w", "\u0661m"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["token", "create", "--ttl", text])
    assert caught.value.code == 2


def test_the_token_for_nodes_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text("from the file\n")
    assert admin_token(Namespace(admin_token_file=None)) == ""
    monkeypatch.setenv("NODEDB_HTTP_ADMIN_TOKEN", "from the environment")
    assert admin_token(Namespace(admin_token_file=None)) == "from the environment"
    assert admin_token(Namespace(admin_token_file=str(path))) == "from the file"
    missing = str(tmp_path / "missing")
    assert main(["node", "drain", "--url", "http://h:1", "--admin-token-file", missing]) == 1
    assert capsys.readouterr().err == f"nodedb: {missing}: No such file or directory\n"
