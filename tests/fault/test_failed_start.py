"""A start that fails says why, and leaves the store as the next start needs it."""

import asyncio
import errno
from pathlib import Path

import pytest

from nodedb.config import load_config
from nodedb.errors import DiskFull, StorageError
from nodedb.node import Node
from nodedb.storage.log_file import RealLogFile

ANY_PORT = "127.0.0.1:0"


def start(store: Path) -> list[str]:
    """Run a node until it is ready; returns its announcements."""
    addresses = dict.fromkeys(("sql_addr", "http_addr", "rpc_addr"), ANY_PORT)
    node = Node(load_config({"store": str(store), "insecure": True, **addresses}, {}, None))
    lines: list[str] = []

    def announce(line: str) -> None:
        lines.append(line)
        node.request_stop()

    asyncio.run(node.run(announce))
    return lines


def test_a_new_store_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: RealLogFile, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RealLogFile, "fallocate", full)
        with pytest.raises(DiskFull, match="first catalog"):
            start(tmp_path / "store")
    assert start(tmp_path / "store")


def test_a_new_store_on_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fdatasync = RealLogFile.fdatasync
    calls: list[str] = []

    def fail(file: RealLogFile) -> None:
        calls.append(file.name)
        if len(calls) > 2:
            raise OSError(errno.EIO, "input/output error")
        fdatasync(file)

    with monkeypatch.context() as patch:
        patch.setattr(RealLogFile, "fdatasync", fail)
        with pytest.raises(StorageError, match="input/output error"):
            start(tmp_path / "store")
    assert start(tmp_path / "store")
