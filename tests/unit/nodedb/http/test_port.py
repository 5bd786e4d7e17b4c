"""The HTTP port in front of a node made of plain values."""

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from nodedb.drain import DrainProgress, Phase
from nodedb.http.faults import Faults
from nodedb.http.phases import StartPhases
from nodedb.http.port import HttpPort
from nodedb.http.services import HttpServices, IssuedToken, TokenRefused
from nodedb.http.starting import listen
from tests.lib.fake_cluster import FakeView, group_status, node_status


class FakeDrain:
    """A drain that stands where it is put."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.phase = Phase.SERVING

    def start(self, reason: str) -> None:
        self.reasons.append(reason)
        self.phase = Phase.UNREADY

    def progress(self) -> DrainProgress:
        return DrainProgress(self.phase, "".join(self.reasons[:1]), 1.23456, 2.0, 4, 1)


class FakeFaults:
    """Keeps what is planted; the clock of this node cannot be moved back."""

    def __init__(self) -> None:
        self.planted = Faults()

    def set_faults(self, faults: Faults) -> None:
        if faults.clock_offset_ms < 0:
            raise ValueError("clock_offset_ms must not be negative")
        self.planted = faults

    def faults(self) -> Faults:
        return self.planted


class Port:
    """Serves ``services`` while a function asks; answers are (status, JSON or text)."""

    def __init__(self) -> None:
        self.drain = FakeDrain()
        self.view = FakeView()
        self.services = HttpServices(
            phases=StartPhases(),
            drain=self.drain,
            cluster=self.view,
            node_id=lambda: 1,
            cluster_id=lambda: "c0ffee",
            info=lambda: {"secret_hash": "ab" * 8, "seeds": ["127.0.0.1:9401"]},
            connection_count=lambda: 4,
            durable_index=lambda: 42,
            admin_token=lambda: "s3cret",
        )
        self.services.phases.finish()
        self._number = 0

    def run(self, ask: Callable[["Port"], None]) -> None:
        async def serve() -> None:
            port = HttpPort(self.services)
            await port.start(listen("127.0.0.1", 0))
            self._number = port.port
            try:
                await asyncio.to_thread(ask, self)
            finally:
                await port.close()

        asyncio.run(serve())

    def ask(
        self, path: str, method: str = "GET", body: object = None, **headers: str
    ) -> tuple[int, Any]:
        client = http.client.HTTPConnection("127.0.0.1", self._number, timeout=20)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request(method, path, data, sent)
        response = client.getresponse()
        text = response.read().decode()
        is_json = response.headers.get_content_type() == "application/json"
        client.close()
        return response.status, json.loads(text) if is_json else text


@pytest.fixture
def port() -> Port:
    return Port()


def test_a_node_that_serves(port: Port) -> None:
    def ask(port: Port) -> None:
        assert port.ask("/healthz") == (200, {"status": "ok", "phase": "gateway_enable"})
        assert port.ask("/health/live") == (200, {"status": "alive"})
        assert port.ask("/health/ready") == (
            200,
            {
                "status": "ready",
                "node_id": 1,
                "phase": "gateway_enable",
                "wal_lsn": 42,
                "quorum": True,
                "subsystems": [
                    {"name": "transport", "running": True, "detail": ""},
                    {"name": "swim", "running": True, "detail": "3 members"},
                ],
                "reasons": [],
            },
        )
        status, body = port.ask("/health")
        assert status == 200
        assert body["status"] == "ok"
        assert body["ready"] is True
        assert body["cluster_version"] == {"nodes": 3}
        assert port.ask("/nowhere")[0] == 404

    port.run(ask)


def test_while_starting_only_health_answers(port: Port) -> None:
    port.services.phases = StartPhases()
    port.services.phases.enter("warm_peers")
    starting = {"status": "starting", "phase": "warm_peers"}

    def ask(port: Port) -> None:
        assert port.ask("/healthz") == (503, starting)
        assert port.ask("/health/live") == (200, {"status": "alive"})
        assert port.ask("/health/ready")[1]["reasons"] == ["the node is starting"]
        assert port.ask("/health")[0] == 503
        assert port.ask("/health/drain")[0] == 200
        for path in ("/metrics", "/cluster/status", "/debug/tasks", "/healthzz", "/"):
            assert port.ask(path) == (503, starting), path
        assert port.ask("/cluster/tokens", "POST")[0] == 503

    port.run(ask)


def test_a_failed_start_says_why(port: Port) -> None:
    port.services.phases = StartPhases()
    port.services.phases.fail("nobody answered")

    def ask(port: Port) -> None:
        assert port.ask("/healthz") == (503, {"status": "failed", "error": "nobody answered"})

    port.run(ask)


def test_draining(port: Port) -> None:
    def ask(port: Port) -> None:
        assert port.ask("/health/drain")[1]["draining"] is False
        status, body = port.ask("/health/drain", "POST")
        assert (status, body["status"], body["phase"]) == (200, "draining", "unready")
        assert port.drain.reasons == ["asked by 127.0.0.1 over HTTP"]
        expected = {"status": "draining", "lifecycle": "draining", "node_id": 1}
        assert port.ask("/healthz") == (503, expected)
        assert port.ask("/health/live")[0] == 200
        assert port.ask("/health/ready")[0] == 503
        assert port.ask("/health/drain") == (
            200,
            {
                "status": "unready",
                "draining": True,
                "node_id": 1,
                "reason": "asked by 127.0.0.1 over HTTP",
                "elapsed_seconds": 1.235,
                "phase_seconds_left": 2.0,
                "connections": 4,
                "leases": 1,
            },
        )
        assert port.ask("/metrics")[0] == 200

    port.run(ask)


def test_a_decommissioned_node_is_not_healthy(port: Port) -> None:
    port.view.node_list[0] = node_status(1, state="decommissioned")

    def ask(port: Port) -> None:
        expected = {"status": "draining", "lifecycle": "decommissioned", "node_id": 1}
        assert port.ask("/healthz") == (503, expected)
        assert port.ask("/health/ready")[0] == 503
        assert port.ask("/health/live")[0] == 200

    port.run(ask)


def test_not_ready_without_quorum_or_with_a_subsystem_down_but_healthy(port: Port) -> None:
    port.view.quorum = False
    port.view.subsystem_list.append(("swim probe", False, "port taken"))

    def ask(port: Port) -> None:
        status, body = port.ask("/health/ready")
        assert (status, body["status"], body["quorum"]) == (503, "not_ready", False)
        assert body["reasons"] == [
            "subsystem swim probe does not run: port taken",
            "a group with a replica here has no leader within reach",
        ]
        assert port.ask("/healthz")[0] == 200

    port.run(ask)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/health/drain"),
        ("GET", "/cluster/status"),
        ("GET", "/cluster/info"),
        ("POST", "/cluster/tokens"),
    ],
)
def test_who_is_not_of_this_machine_needs_the_token(port: Port, method: str, path: str) -> None:
    async def issue(for_node: int, seconds: float) -> IssuedToken:
        return IssuedToken("token", for_node, seconds)

    port.services.issue_token = issue
    foreign = {"X_Forwarded_For": "10.0.0.7"}

    def ask(port: Port) -> None:
        status, body = port.ask(path, method, **foreign)
        assert status == 403
        assert "http_admin_token" in body["error"]
        assert port.ask(path, method, **foreign, Authorization="Bearer wrong")[0] == 403
        assert port.ask(path, method, Origin="http://evil.example")[0] == 403
        assert not port.drain.reasons
        assert port.ask(path, method, **foreign, Authorization="Bearer s3cret")[0] == 200

    port.run(ask)


def test_without_a_token_setting_nobody_gets_in_from_afar(port: Port) -> None:
    port.services.admin_token = str

    def ask(port: Port) -> None:
        for value in ("Bearer ", "Bearer", ""):
            headers = {"X_Forwarded_For": "10.0.0.7", "Authorization": value}
            assert port.ask("/health/drain", "POST", **headers)[0] == 403
        assert not port.drain.reasons

    port.run(ask)


def test_cluster_status(port: Port) -> None:
    def ask(port: Port) -> None:
        status, body = port.ask("/cluster/status")
        assert status == 200
        assert body["cluster_id"] == "c0ffee"
        assert body["lifecycle"] == "ready"
        assert port.ask("/cluster/info") == (
            200,
            {
                "node_id": 1,
                "cluster_id": "c0ffee",
                "lifecycle": "ready",
                "secret_hash": "ab" * 8,
                "seeds": ["127.0.0.1:9401"],
            },
        )
        assert [node["node_id"] for node in body["nodes"]] == [1, 2, 3]
        assert body["groups"][1]["match_indexes"] == {"2": 42, "3": 30}
        assert body["peers"][1] == {
            "node_id": 3,
            "address": "127.0.0.1:9403",
            "circuit": "OPEN",
            "failures": 5,
            "round_trip_ms": None,
            "last_error": "connection refused",
        }
        assert body["refusals"] == [{"address": "127.0.0.1:9999", "reason": "another cluster"}]
        assert body["subsystems"][0]["name"] == "transport"

    port.run(ask)


def test_before_there_is_a_view_the_status_tells_what_it_can(port: Port) -> None:
    port.services.cluster = None

    def ask(port: Port) -> None:
        status, body = port.ask("/cluster/status")
        assert (status, body["cluster_id"]) == (200, "c0ffee")

    port.run(ask)


def test_tokens(port: Port) -> None:
    asked = []

    async def issue(for_node: int, seconds: float) -> IssuedToken:
        asked.append((for_node, seconds))
        if for_node == 9:
            raise TokenRefused("the metadata group has no leader")
        return IssuedToken("abcd", for_node, 1234.5)

    def ask(port: Port) -> None:
        assert port.ask("/cluster/tokens", "POST")[0] == 503
        port.services.issue_token = issue
        body = {"for_node": 3, "ttl_seconds": 60}
        expected = {"token": "abcd", "for_node": 3, "expires_unix_seconds": 1234.5}
        assert port.ask("/cluster/tokens", "POST", body) == (200, expected)
        assert port.ask("/cluster/tokens", "POST")[0] == 200
        assert asked == [(3, 60.0), (0, 600.0)]
        wrong = [
            {"for_node": -1},
            {"ttl_seconds": 0},
            {"ttl_seconds": 1e9},
            [],
            b"{",
            {"for_node": "x"},
        ]
        for body_wrong in wrong:
            assert port.ask("/cluster/tokens", "POST", body_wrong)[0] == 400, body_wrong
        status, refused = port.ask("/cluster/tokens", "POST", {"for_node": 9})
        assert (status, refused) == (503, {"error": "the metadata group has no leader"})

    port.run(ask)


DEBUG_PATHS = ("tasks", "stacks", "transport", "raft/1", "profile?seconds=0.05")


def test_debug_is_not_there_without_the_flag(port: Port) -> None:
    port.services.faults = FakeFaults()

    def ask(port: Port) -> None:
        for path in DEBUG_PATHS:
            assert port.ask(f"/debug/{path}")[0] == 404
        assert port.ask("/debug/fault")[0] == 200

    port.run(ask)


def test_debug_shows_the_inside_to_this_machine_only(port: Port) -> None:
    port.services.debug_enabled = True
    port.services.raft_detail = lambda group_id: {"progress": {"2": "replicate"}}

    def ask(port: Port) -> None:
        for path in DEBUG_PATHS:
            headers = {"X_Forwarded_For": "10.0.0.7", "Authorization": "Bearer s3cret"}
            assert port.ask(f"/debug/{path}", **headers)[0] == 403
        status, tasks = port.ask("/debug/tasks")
        assert status == 200
        assert any("test_port.py:Port.run.<locals>.serve" in str(task["stack"]) for task in tasks)
        assert "thread MainThread" in port.ask("/debug/stacks")[1]
        assert port.ask("/debug/transport")[1]["peers"][0]["round_trip_ms"] == 0.25
        status, group = port.ask("/debug/raft/1")
        assert (status, group["term"], group["progress"]) == (200, 3, {"2": "replicate"})
        assert port.ask("/debug/raft/7")[0] == 404
        assert port.ask("/debug/raft/x")[0] == 400
        assert port.ask("/debug/profile?seconds=1000")[0] == 400
        status, profile = port.ask("/debug/profile?seconds=0.2")
        assert status == 200
        lines = profile.splitlines()
        assert lines
        assert all(line.rpartition(" ")[2].isdigit() for line in lines)
        assert port.ask("/debug/fault")[0] == 404

    port.run(ask)


def test_faults(port: Port) -> None:
    port.services.faults = faults = FakeFaults()

    def ask(port: Port) -> None:
        planted = {
            "cut": [{"peer": "127.0.0.1:9402", "direction": "in"}],
            "delay": [{"peer": "*", "direction": "out", "seconds": 0.5}],
            "drop": [{"peer": "127.0.0.1:9403", "probability": 0.25}],
            "clock_offset_ms": 3600000,
            "disk_full": True,
        }
        status, answer = port.ask("/debug/fault", "POST", planted)
        planted["drop"][0]["direction"] = "both"
        assert (status, answer) == (200, planted)
        assert faults.planted.cut[0].direction == "in"
        assert port.ask("/debug/fault") == (200, planted)
        for wrong, why in (
            (b"nonsense", "malformed"),
            ({"cuts": []}, "unknown field"),
            ({"cut": [{"peer": ""}]}, "length >= 1"),
            ({"cut": [{"peer": "x", "direction": "up"}]}, "Invalid enum value"),
            ({"drop": [{"peer": "x", "probability": 2}]}, "<= 1"),
            ({"delay": [{"peer": "x"}]}, "seconds"),
            ({"clock_offset_ms": -5}, "must not be negative"),
        ):
            status, answer = port.ask("/debug/fault", "POST", wrong)
            assert status == 400, wrong
            assert why in answer["error"], answer
        assert port.ask("/debug/fault", "POST", {}, Origin="http://evil.example")[0] == 403
        assert port.ask("/debug/fault") == (200, planted)
        assert port.ask("/debug/fault", "POST", {})[0] == 200
        assert faults.planted == Faults()

    port.run(ask)


def test_a_follower_knows_no_match_indexes(port: Port) -> None:
    port.view.group_list = [group_status(0, role="follower", leader_id=2, match_indexes=())]

    def ask(port: Port) -> None:
        assert port.ask("/cluster/status")[1]["groups"][0]["match_indexes"] == {}

    port.run(ask)
