"""Join tokens: signed, registered, different each time."""

import asyncio

import pytest

from cluster.membership.tokens import read_token
from cluster.metadata.command import JoinTokenTransition
from cluster.metadata.outcome import APPLIED, Outcome, Refused
from cluster.transport.api import PeerUnavailable
from nodedb.http.services import TokenRefused
from nodedb.http.tokens import SPREAD_SECONDS, TokenIssuer
from sql.errors import CannotConnectNow

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000


class FixedClock:
    def wall_us(self) -> int:
        return NOW * 1_000_000

    def monotonic(self) -> float:
        return 0.0


def test_tokens_are_registered_and_never_twice_the_same() -> None:
    commands: list[JoinTokenTransition] = []

    async def order(command: JoinTokenTransition) -> Outcome:
        commands.append(command)
        return APPLIED

    issuer = TokenIssuer(SECRET, order, FixedClock())
    # More than the spread has room for.
    issued = [asyncio.run(issuer(3, 600)) for _ in range(3 * SPREAD_SECONDS)]
    assert len({token.token for token in issued}) == len(issued)
    for token, command in zip(issued, commands, strict=True):
        read = read_token(token.token, SECRET, NOW)
        assert (read.for_node, read.expires_at_seconds) == (3, int(token.expires_unix_seconds))
        assert read.token_hash == command.token_hash
        assert read.expires_at_seconds >= NOW + 600
    assert issued[0].expires_unix_seconds <= NOW + 600 + SPREAD_SECONDS


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CannotConnectNow("the metadata group has no leader"), "has no leader"),
        (PeerUnavailable("no connection"), "cannot be reached: no connection"),
    ],
)
def test_without_the_metadata_group_there_is_no_token(failure: Exception, reason: str) -> None:
    async def order(command: JoinTokenTransition) -> Outcome:
        raise failure

    with pytest.raises(TokenRefused, match=reason):
        asyncio.run(TokenIssuer(SECRET, order, FixedClock())(0, 60))


def test_a_refusal_is_told_and_so_is_a_missing_secret() -> None:
    async def order(command: JoinTokenTransition) -> Outcome:
        return Refused("there are 1000 join tokens", "limit")

    with pytest.raises(TokenRefused, match="there are 1000 join tokens"):
        asyncio.run(TokenIssuer(SECRET, order, FixedClock())(0, 60))
    with pytest.raises(TokenRefused, match="no secret"):
        asyncio.run(TokenIssuer(b"", order, FixedClock())(0, 60))
