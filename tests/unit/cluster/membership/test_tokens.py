"""Join tokens: their bytes, every way to be wrong, and their life in the metadata group."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.membership.tokens import (
    TOKEN_TEXT_LENGTH,
    Expired,
    InvalidHex,
    InvalidMac,
    Token,
    TokenFault,
    WrongLength,
    beginning,
    check_use,
    consumption,
    create_token,
    hash_of,
    read_token,
    registration,
)
from cluster.metadata.command import JoinTokenTransition
from cluster.metadata.outcome import Refused
from cluster.metadata.state import ClusterState
from cluster.metadata.trust import IN_FLIGHT_SECONDS

SECRET = b"a secret of the cluster"
NOW = 1_700_000_000
TEXT = create_token(SECRET, for_node=3, expires_at_seconds=NOW + 60)


def test_the_bytes_are_the_references() -> None:
    claims = struct.pack("<QQ", 3, NOW + 60)
    expected = claims + hmac.new(SECRET, claims, hashlib.sha256).digest()
    assert expected.hex() == TEXT
    assert len(TEXT) == TOKEN_TEXT_LENGTH == 96
    assert read_token(TEXT, SECRET, NOW) == Token(3, NOW + 60, hashlib.sha256(expected).digest())
    assert read_token(TEXT.upper(), SECRET, NOW).token_hash == hash_of(TEXT)


@pytest.mark.parametrize(
    ("text", "secret", "now", "fault"),
    [
        ("", SECRET, NOW, WrongLength),
        (TEXT[:-2], SECRET, NOW, WrongLength),
        (TEXT + "00", SECRET, NOW, WrongLength),
        ("g" + TEXT[1:], SECRET, NOW, InvalidHex),
        (" " * 96, SECRET, NOW, InvalidHex),
        ("\u0663" * 96, SECRET, NOW, InvalidHex),
        (TEXT, b"another secret", NOW, InvalidMac),
        (TEXT, b"", NOW, InvalidMac),
        ("04" + TEXT[2:], SECRET, NOW, InvalidMac),
        (TEXT, SECRET, NOW + 60, Expired),
        (TEXT, SECRET, NOW + 3600, Expired),
    ],
)
def test_faults(text: str, secret: bytes, now: int, fault: type[TokenFault]) -> None:
    with pytest.raises(fault, match=r"^token: "):
        read_token(text, secret, now)


@settings(deadline=None)
@given(st.integers(0, 95), st.sampled_from("0123456789abcdef"))
def test_a_changed_digit_never_passes(place: int, digit: str) -> None:
    changed = TEXT[:place] + digit + TEXT[place + 1 :]
    if changed == TEXT:
        return
    with pytest.raises(InvalidMac):
        read_token(changed, SECRET, NOW)


class Group:
    """The metadata group, with the clock that its commands carry."""

    def __init__(self, text: str = TEXT) -> None:
        self.state = ClusterState()
        self.index = 0
        self.now_ms = NOW * 1000
        self.text = text
        self.token = read_token(text, SECRET, NOW)

    def register(self) -> str:
        return self.apply(registration(self.text, SECRET, now_ms=self.now_ms))

    def begin(self, address: str) -> str:
        token_hash = self.token.token_hash
        return self.apply(beginning(token_hash, address, node_id=3, now_ms=self.now_ms))

    def consume(self, address: str) -> str:
        return self.apply(consumption(self.token.token_hash, address, now_ms=self.now_ms))

    def apply(self, command: object) -> str:
        self.index += 1
        outcome = self.state.apply(command, self.index)  # type: ignore[arg-type]
        return outcome.reason if isinstance(outcome, Refused) else ""

    def check(self, node_id: int = 3) -> str:
        record = self.state.tokens.get(self.token.token_hash)
        return check_use(record, self.token, node_id=node_id, now_ms=self.now_ms)


def test_the_life_of_a_token() -> None:
    group = Group()
    assert group.check() == "token: it is not one of this cluster's, or was removed"
    assert group.begin("a:1")
    assert group.register() == ""
    assert group.check() == ""
    assert group.begin("a:1") == ""
    assert group.begin("a:1") == "", "the same address may try again"
    assert group.begin("b:1") == "the join token is being used by a:1"
    assert group.check() == ""
    assert group.consume("b:1")
    assert group.consume("a:1") == ""
    assert group.check() == "token: it has been used already"
    assert group.begin("a:1") == "the join token has been used already"


def test_another_address_may_take_over_a_token_that_was_given_up() -> None:
    group = Group(create_token(SECRET, for_node=3, expires_at_seconds=NOW + 3600))
    group.register()
    group.begin("a:1")
    group.now_ms += 1000 * IN_FLIGHT_SECONDS - 1
    assert group.begin("b:1") == "the join token is being used by a:1"
    group.now_ms += 1
    assert group.begin("b:1") == ""
    assert group.begin("a:1") == "the join token is being used by b:1"


def test_expiry_by_the_commands_clock() -> None:
    group = Group()
    group.register()
    group.now_ms += 60_000
    assert group.check() == "token: it has expired"
    assert group.begin("a:1") == "the join token has expired"


def test_a_token_for_one_node() -> None:
    group = Group()
    group.register()
    assert group.check(0) == ""
    assert group.check(4) == ("node id mismatch: the token is for node 3, not for node 4")


def test_a_withdrawn_token() -> None:
    group = Group()
    group.register()
    group.apply(JoinTokenTransition(group.token.token_hash, "abort", at=group.now_ms << 18))
    assert group.check() == "token: it was withdrawn"
    group.apply(JoinTokenTransition(group.token.token_hash, "expire", at=group.now_ms << 18))
    assert group.check()
