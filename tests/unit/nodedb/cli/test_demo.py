"""``nodedb demo``'s children, with small scripts in the place of nodes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodedb.cli.demo import Demo, Ports, node_command, ports_for
from nodedb.cli.failure import CommandFailed
from nodedb.cli.main import main

GOOD = "print('ready sql=postgresql://x@127.0.0.1:{sql}/x http=http://y', flush=True); "
FOREVER = "import time; time.sleep(600)"


def script(text: str) -> Callable[[Path, Ports, list[int]], list[str]]:
    return lambda _store, ports, _join: [sys.executable, "-c", text.format(sql=ports.sql)]


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_ports_are_free_different_and_kept_with_the_data(tmp_path: Path) -> None:
    two = ports_for(tmp_path, 2)
    assert len({port for ports in two for port in ports}) == 6
    three = ports_for(tmp_path, 3)
    assert three[:2] == two
    assert ports_for(tmp_path, 1) == two[:1]


def test_one_node_is_by_itself_and_more_join_each_other(tmp_path: Path) -> None:
    alone = node_command(tmp_path, Ports(1, 2, 3), [])
    assert "--join" not in alone
    together = node_command(tmp_path, Ports(1, 2, 3), [3, 6, 9])
    place = together.index("--join")
    assert together[place + 1] == "127.0.0.1:3,127.0.0.1:6,127.0.0.1:9"
    assert together[together.index("--http-addr") + 1] == "127.0.0.1:2"


def test_it_waits_for_all_and_ends_all(tmp_path: Path) -> None:
    demo = Demo(tmp_path, ports_for(tmp_path, 2), script(GOOD + FOREVER))
    demo.start()
    try:
        assert [url.startswith("postgresql://x@127.0.0.1:") for url in demo.wait_ready(20)] == [
            True,
            True,
        ]
        demo.check()
        process_ids = demo.process_ids
        assert all(map(is_alive, process_ids))
    finally:
        demo.stop()
    assert not any(map(is_alive, process_ids))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit('port in use')", "node 1 ended:\nport in use"),
        (FOREVER, "node 1 is not ready in time"),
    ],
)
def test_a_node_that_does_not_come_up_is_named_with_its_log(
    tmp_path: Path, text: str, reason: str
) -> None:
    demo = Demo(tmp_path, ports_for(tmp_path, 1), script(text))
    demo.start()
    try:
        with pytest.raises(CommandFailed, match=reason):
            demo.wait_ready(1.0 if text == FOREVER else 20)
    finally:
        demo.stop()


def test_a_node_that_ends_later_is_named(tmp_path: Path) -> None:
    demo = Demo(tmp_path, ports_for(tmp_path, 1), script(GOOD + "raise SystemExit(3)"))
    demo.start()
    try:
        demo.wait_ready(20)
        os.waitid(os.P_PID, demo.process_ids[0], os.WEXITED | os.WNOWAIT)
        with pytest.raises(CommandFailed, match=r"node 1 ended \(3\)"):
            demo.check()
    finally:
        demo.stop()


@pytest.mark.parametrize("count", ["0", "10"])
def test_how_many(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--nodes", count]) == 1
    assert "--nodes must be 1 to 9" in capsys.readouterr().err
