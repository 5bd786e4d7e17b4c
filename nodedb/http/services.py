"""What the HTTP port needs of the node, as plain functions: the seam towards ``nodedb.node``.

Made before the node starts, and completed while it does: what is not there yet is None or answers
with nothing, and the port says "starting".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nodedb.http.faults import FaultController
from nodedb.http.phases import StartPhases
from nodedb.metrics import MetricsRegistry
from nodedb.session.cluster_view import ClusterView

if TYPE_CHECKING:
    from nodedb.drain import DrainProgress


class DrainControl(Protocol):
    """The drain, as far as it may be asked for over HTTP (``nodedb.drain.Drain``)."""

    def start(self, reason: str) -> None:
        """Begin; harmless when repeated."""

    def progress(self) -> DrainProgress:
        """Return where it stands."""


class IssuedToken(NamedTuple):
    """A join token for an operator. ``for_node`` 0: any. ``expires_unix_seconds`` is wall time."""

    token: str
    for_node: int
    expires_unix_seconds: float


class TokenRefused(Exception):
    """No token could be made: no quorum, or no secret to sign it with. The message says why."""


IssueToken = Callable[[int, float], Awaitable[IssuedToken]]
"""(node or 0 for any, seconds it lasts) -> token. Raises TokenRefused."""


def _zero() -> int:
    return 0


def _nothing() -> str:
    return ""


def _no_details() -> dict[str, Any]:
    return {}


@dataclasses.dataclass(slots=True, kw_only=True)
class HttpServices:
    """The node as the HTTP port sees it.

    ``admin_token``: the setting ``http_admin_token``, "" for none: then only loopback may do what
    needs it. ``debug_enabled`` and ``faults``: ``--debug`` and ``--fault-injection``.
    ``info``: what ``nodedb node info`` prints (``cluster.membership.info.node_info``).
    ``version_range``: ``min_version``, ``max_version``, ``mixed_version``, ``compat_mode`` of the
    cluster's nodes. ``raft_detail``: more of one group for ``/debug/raft/<group>``, None if it has
    no replica here.
    """

    phases: StartPhases
    drain: DrainControl
    metrics: MetricsRegistry = dataclasses.field(default_factory=MetricsRegistry)
    cluster: ClusterView | None = None
    node_id: Callable[[], int] = _zero
    cluster_id: Callable[[], str] = _nothing
    info: Callable[[], dict[str, Any]] = _no_details
    connection_count: Callable[[], int] = _zero
    durable_index: Callable[[], int] = _zero
    version_range: Callable[[], dict[str, Any]] = _no_details
    admin_token: Callable[[], str] = _nothing
    issue_token: IssueToken | None = None
    faults: FaultController | None = None
    debug_enabled: bool = False
    raft_detail: Callable[[int], dict[str, Any] | None] | None = None
