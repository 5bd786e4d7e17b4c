"""The node under test: its baseline, and what must hold of it after a run."""

import re
import time
from pathlib import Path

import psycopg

from tests.e2e.node_process import NodeProcess

SETTLE_SECONDS = 20.0
# A fuzz run warms caches of plans and shapes, which are bounded; a leak grows beyond this.
GROWTH_BYTES = 64 * 1024 * 1024
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|statement failed with an unexpected")


class Unhealthy(AssertionError):
    """The node broke one of its promises; the message says which."""


def resident_bytes(process_id: int, name: str = "RssAnon") -> int:
    """Read a field of the process's memory, e.g. RssAnon or VmRSS."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.M)
    assert found is not None
    return int(found[1]) * 1024


class Target:
    """A running node with the table the messages use."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        with node.connect() as connection:
            connection.execute("create table if not exists fuzz_t (id int primary key, v text)")
        self.log_offset = node.log_path.stat().st_size
        self.memory = resident_bytes(node.process_id)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return self.node.host, self.node.port

    def log_since(self) -> str:
        """Return what the node logged since this object was made."""
        with self.node.log_path.open("rb") as file:
            file.seek(self.log_offset)
            return file.read().decode(errors="replace")

    def tracebacks(self) -> str:
        """Return the log from its first traceback on, "" if there is none."""
        log = self.log_since()
        found = _TRACEBACK.search(log)
        return log[max(found.start() - 300, 0) :][:6000] if found else ""

    def counts(self, connection: psycopg.Connection) -> tuple[int, int, int]:
        """Return (sessions, locks held or waited for, sessions in a transaction), ours excluded."""
        row = connection.execute(
            "select (select count(*) from pg_stat_activity where pid <> pg_backend_pid()),"
            " (select count(*) from pg_locks where pid <> pg_backend_pid()),"
            " (select count(*) from pg_stat_activity"
            "   where pid <> pg_backend_pid() and state like '%transaction%')"
        ).fetchone()
        assert row is not None
        return row

    def check(self, *, growth_bytes: int = GROWTH_BYTES) -> None:
        """Raise Unhealthy unless the node answers, is as empty as before and logged nothing bad."""
        with self.node.connect() as connection:
            if connection.execute("select 1").fetchone() != (1,):
                raise Unhealthy("select 1 does not answer 1")
            deadline = time.monotonic() + SETTLE_SECONDS
            while any(counts := self.counts(connection)):
                if time.monotonic() > deadline:
                    raise Unhealthy(f"sessions, locks, transactions left over: {counts}")
                time.sleep(0.05)
        found = self.tracebacks()
        if found:
            raise Unhealthy(f"the log holds a traceback:\n{found}")
        grown = resident_bytes(self.node.process_id) - self.memory
        if grown > growth_bytes:
            raise Unhealthy(f"{grown} bytes more than before, allowed {growth_bytes}")
