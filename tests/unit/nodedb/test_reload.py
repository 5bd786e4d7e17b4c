"""SIGHUP's functions: one that fails keeps what it had, and does not stop the others."""

import logging

import pytest

from nodedb.reload import ReloadFailed, Reloads


def test_all_are_called_in_order_and_failures_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    calls: list[str] = []
    reloads = Reloads()

    def broken() -> str:
        calls.append("certificates")
        raise ReloadFailed("node.crt: no certificate in it")

    def missing() -> str:
        raise FileNotFoundError(2, "No such file or directory", "nodedb.toml")

    def settings() -> str:
        calls.append("settings")
        return "drain_seconds = 3"

    reloads.register("certificates", broken)
    reloads.register("file", missing)
    reloads.register("settings", settings)
    assert reloads.run() == [
        "certificates: node.crt: no certificate in it",
        "file: [Errno 2] No such file or directory: 'nodedb.toml'",
    ]
    assert calls == ["certificates", "settings"]
    assert (reloads.count, reloads.failure_count) == (1, 2)
    assert "reloaded settings: drain_seconds = 3" in caplog.text
    assert "what it had stays in force" in caplog.text


def test_a_name_is_registered_once() -> None:
    reloads = Reloads()
    reloads.register("settings", str)
    with pytest.raises(AssertionError):
        reloads.register("settings", str)
