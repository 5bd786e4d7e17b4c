"""What has become of clients' requests, so that one may be sent again without being done twice.

A request is a batch that one node forwards to another and that commits by itself. The entry that
commits it carries its ``Completion``: who asked, and what the answer is. Whoever leads next finds
it there, in a log that it shares with the leader that was lost, and answers from it before anything
is executed or validated (PROTOCOL rule 17). What it does not find surely was not committed.

The table is memory only: it is made of the entries a replica applies, so it lacks what was applied
before the node started, or lies in a snapshot it was given. ``covers`` tells which requests it can
speak of; of others nobody knows (40003).

Source: Lee et al., "Implementing Linearizability at Large Scale and Low Latency" (SOSP 2015),
section 3, completion records; here their client is a gateway, and they live as long as it asks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cluster.metadata.oracle import pack_timestamp

KEPT_MS: Final = 60_000
"""A gateway asks for 10 s at most; the rest is for clocks and transfers."""
BYTES_MAX: Final = 16 * 1024 * 1024
_RECORD_BYTES: Final = 200
"""What a record takes beside its answer, roughly."""


class Completion(NamedTuple):
    """The record of a request: ``answer`` is what its gateway makes of it, b"" if it was too long.

    ``origin`` is the run of the gateway's node, ``number`` counts its requests.
    """

    origin: int
    number: int
    answer: bytes

    @property
    def name(self) -> tuple[int, int]:
        """What stays the same however often the request is sent."""
        return self.origin, self.number


class CompletionTable:
    """The requests of the last minute, by origin and number."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._byte_count = 0
        self._known_since = 0

    def __len__(self) -> int:
        """Return how many requests are known."""
        return len(self._found)

    def reset(self, timestamp: int) -> None:
        """Forget all: what was committed up to a timestamp was not seen here."""
        self._found = {}
        self._byte_count = 0
        self._known_since = timestamp

    def add(self, completion: Completion, timestamp: int) -> None:
        """Note a request that was committed at a timestamp, which grow."""
        self._found[completion.name] = timestamp, completion.answer
        self._byte_count += len(completion.answer) + _RECORD_BYTES
        oldest = timestamp - pack_timestamp(KEPT_MS)
        while self._found:
            key = next(iter(self._found))
            at, answer = self._found[key]
            if at >= oldest and self._byte_count <= BYTES_MAX:
                break
            del self._found[key]
            self._byte_count -= len(answer) + _RECORD_BYTES
            self._known_since = max(self._known_since, at)

    def find(self, origin: int, number: int) -> bytes | None:
        """Return the answer of a request, None if none is known."""
        found = self._found.get((origin, number))
        return None if found is None else found[1]

    def covers(self, since: int) -> bool:
        """Tell whether a request that can only have committed above ``since`` would be known."""
        return since >= self._known_since
