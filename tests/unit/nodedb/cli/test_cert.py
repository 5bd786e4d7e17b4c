"""``nodedb cert``: the commands, their files, their exit status."""

import argparse
import json
import stat
from pathlib import Path

import pytest

from nodedb.cli.cert import add_parser, run


def cert(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="command", required=True))
    return run(parser.parse_args(["cert", *words]))


def test_from_nothing_to_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, node = str(tmp_path / "ca"), str(tmp_path / "node1")
    assert cert("create-ca", "--certs-dir", authority) == 0
    assert cert("create-node", "--certs-dir", node, "--ca-dir", authority, "node1", "::1") == 0
    assert cert("create-client", "--certs-dir", node, "--ca-dir", authority, "app") == 0
    assert cert("create-secret", str(tmp_path / "secret")) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"{authority}/ca.crt", f"{authority}/ca.key"),
        *(f"{node}/node.crt", f"{node}/node.key", f"{node}/ca.crt"),
        *(f"{node}/client.app.crt", f"{node}/client.app.key"),
        f"{tmp_path}/secret",
    ]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert cert("list", "--certs-dir", node) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "kind", "names", "expires", "days", "left", "problem"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["ca.crt", "authority"],
        ["client.app.crt", "client"],
        ["node.crt", "node"],
    ]
    assert "node1, ::1" in lines[3]
    assert lines[3].split()[-1] in ("1824", "1825")


def test_the_list_as_json_and_its_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(tmp_path)
    assert cert("create-ca", "--certs-dir", directory, "--days", "3650") == 0
    assert cert("create-node", "--certs-dir", directory, "--days", "30", "10.0.0.1") == 0
    (tmp_path / "node.key").chmod(0o644)
    capsys.readouterr()
    assert cert("list", "--certs-dir", directory, "--format", "json") == 1
    authority, node = json.loads(capsys.readouterr().out)
    assert (authority["kind"], authority["problem"]) == ("authority", "")
    assert node["names"] == ["10.0.0.1"]
    assert node["days_left"] in (29, 30)
    assert node["problem"].endswith("has mode 0644; it must be 0600")


def test_faults_are_said_and_exit_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(tmp_path)
    assert cert("create-node", "--certs-dir", directory, "a") == 1
    assert capsys.readouterr().err == f"nodedb: {tmp_path}/ca.key: No such file or directory\n"
    assert cert("create-ca", "--certs-dir", directory) == 0
    assert cert("create-ca", "--certs-dir", directory) == 1
    assert "exists already (--overwrite replaces it)" in capsys.readouterr().err
    assert cert("create-ca", "--certs-dir", directory, "--overwrite") == 0


@pytest.mark.parametrize(
    "words", [[], ["create-node"], ["create-client"], ["list", "--format", "x"]]
)
def test_usage_errors_exit_with_two(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cert(*words)
    assert ended.value.code == 2
