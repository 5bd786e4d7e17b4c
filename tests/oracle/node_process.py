"""Starts one nodedb node in a temporary folder and waits for its ready line."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS_MAX: Final = 30
_READY: Final = re.compile(r"^ready sql=postgresql://(\w+)@([^:/]+):(\d+)/(\w+)", re.MULTILINE)


@contextmanager
def nodedb() -> Iterator[Server]:
    """Run a node for the length of the block."""
    folder = Path(tempfile.mkdtemp(prefix="oracle_node_"))
    program = Path(sys.executable).parent / "nodedb"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "start", "--store", folder / "store", "--insecure", "--sql-addr",
             "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--rpc-addr", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        user, host, port, database = _wait_until_ready(process, folder / "log")
        yield Server(host, int(port), user=user, maintenance=database)
    finally:
        process.terminate()
        try:
            process.wait(timeout=START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> tuple[str, str, str, str]:
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS_MAX
    output = b""
    while time.monotonic() < deadline and process.poll() is None:
        readable, _, _ = select.select([process.stdout], [], [], 0.2)
        if not readable:
            continue
        line = process.stdout.readline()
        output += line
        found = _READY.search(output.decode("utf-8", "replace"))
        if found:
            return found.group(1), found.group(2), found.group(3), found.group(4)
    raise AssertionError(
        f"the node printed no ready line: {output!r}\n{log.read_text(errors='replace')[-3000:]}"
    )
