"""What do idle groups cost? Three nodes with one data group beside three with 200, at rest.

Prints the CPU time of each node over the measured seconds, as per cent of a core, and the
difference per node. Groups that are idle sleep: they exchange no messages and are not ticked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.e2e.cluster_process import ClusterProcess, query, wait_for

SETTLE_SECONDS = 20.0
"""Until the groups have voters everywhere and have gone to sleep."""


def cpu_seconds(process_id: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sleeping(cluster: ClusterProcess) -> bool:
    """Tell whether every group has three voters and sleeps on every node."""
    for node in cluster.nodes:
        rows = query(node, "SELECT quiescent, members FROM [SHOW RAFT GROUPS]")
        if not all(row[0] and row[1] == 3 for row in rows):
            return False
    return True


def measure(groups: int, seconds: float) -> list[float]:
    """Return the share of a core that each node takes with so many data groups."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = ClusterProcess(Path(directory), 3, "--num-groups", str(groups))
        try:
            cluster.start()
            wait_for(lambda: sleeping(cluster), 120, "sleep of all groups")
            time.sleep(SETTLE_SECONDS)
            before = [cpu_seconds(node.process_id) for node in cluster.nodes]
            began = time.monotonic()
            time.sleep(seconds)
            elapsed = time.monotonic() - began
            after = [cpu_seconds(node.process_id) for node in cluster.nodes]
            return [(b - a) / elapsed for a, b in zip(before, after, strict=True)]
        finally:
            cluster.close()


def main() -> None:
    """Measure both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    one = measure(1, arguments.seconds)
    many = measure(arguments.groups, arguments.seconds)
    print("one idle group:   ", "  ".join(f"{share:.2%}" for share in one), "of a core per node")
    print(f"{arguments.groups} idle groups: ", "  ".join(f"{share:.2%}" for share in many))
    print(f"more per node: {statistics.mean(many) - statistics.mean(one):.2%} of a core")


if __name__ == "__main__":
    main()
