"""Makes join tokens for ``POST /cluster/tokens``: signed here, registered in the metadata group."""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Final

from cluster.membership.tokens import create_token, registration
from cluster.metadata.outcome import Refused
from cluster.transport.api import TransportError
from nodedb.http.services import IssuedToken, TokenRefused
from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.metadata.command import JoinTokenTransition
    from cluster.metadata.outcome import Outcome
    from nodedb.clock import Clock

SPREAD_SECONDS: Final = 60
"""Equal claims make equal tokens, and a token is for one node: so expiries differ a little."""


class TokenIssuer:
    """One node's issuer; call it like ``IssueToken``.

    ``order`` has a command ordered by the metadata group and returns what became of it, None if
    nobody remembers.
    """

    def __init__(
        self,
        secret: bytes,
        order: Callable[[JoinTokenTransition], Awaitable[Outcome | None]],
        clock: Clock,
    ) -> None:
        self._secret = secret
        self._order = order
        self._clock = clock
        self._given: set[tuple[int, int]] = set()

    async def __call__(self, for_node: int, seconds: float) -> IssuedToken:
        """Return a token that is registered. Raises TokenRefused."""
        if not self._secret:
            raise TokenRefused("this cluster has no secret (--cluster-secret-file): no tokens")
        now_ms = self._clock.wall_us() // 1000
        expiry = self._choose_expiry(for_node, now_ms / 1000, seconds)
        text = create_token(self._secret, for_node=for_node, expires_at_seconds=expiry)
        try:
            outcome = await self._order(registration(text, self._secret, now_ms=now_ms))
        except SqlError as error:
            raise TokenRefused(error.message) from error
        except TransportError as error:
            raise TokenRefused(f"the metadata group cannot be reached: {error}") from error
        if isinstance(outcome, Refused):
            raise TokenRefused(outcome.reason)
        return IssuedToken(text, for_node, float(expiry))

    def _choose_expiry(self, for_node: int, now: float, seconds: float) -> int:
        """Return an expiry that no token of this node for the same node has had."""
        self._given = {claims for claims in self._given if claims[1] > now}
        expiry = math.ceil(now + seconds) + secrets.randbelow(SPREAD_SECONDS)
        while (for_node, expiry) in self._given:
            expiry += 1
        self._given.add((for_node, expiry))
        return expiry
