"""The command line before a node starts: what it prints and how it exits."""

from pathlib import Path

import pytest

from nodedb.cli.main import main


def test_every_bad_setting_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--sql-addr", "foo", "--gc-ttl-seconds", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("nodedb: ") for line in lines)


def test_session_defaults_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["start", "--store", str(tmp_path / "store")]
    assert (
        main([*store, "--set", "nosuch=1", "--set", "work_mem=foo", "--set", "lock_timeout=1s"])
        == 2
    )
    assert capsys.readouterr().err.splitlines() == [
        'nodedb: --set nosuch=1: unrecognized configuration parameter "nosuch"',
        'nodedb: --set work_mem=foo: invalid value for parameter "work_mem": "foo"',
    ]
    assert not (tmp_path / "store").exists()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.count(".") == 2
