"""Addresses: one form, what is refused, and their order."""

from __future__ import annotations

import pytest

from cluster.membership.address import (
    MalformedAddress,
    is_loopback,
    parse_address,
    parse_advertised,
    sort_key,
)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("127.0.0.1:9400", "127.0.0.1:9400"),
        (" Node-1.Example.COM.:09400 ", "node-1.example.com:9400"),
        ("[0:0::1]:9400", "[::1]:9400"),
        ("node_1:1", "node_1:1"),
        ("xn--bcher-kva.example:65535", "xn--bcher-kva.example:65535"),
    ],
)
def test_one_form(text: str, form: str) -> None:
    assert parse_address(text) == form
    assert parse_address(form) == form


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected HOST:PORT"),
        ("host", "expected HOST:PORT"),
        (":9400", "the host is missing"),
        ("host:", "the port is a number"),
        ("host:0", "the port is a number"),
        ("host:65536", "the port is a number"),
        ("host:9400x", "the port is a number"),
        ("host:-1", "the port is a number"),
        ("host:\u0663", "the port is a number"),
        ("host:" + "9" * 5000, "the port is a number"),
        ("::1:9400", "stands in brackets"),
        ("[::g]:9400", "no IPv6 address"),
        ("[127.0.0.1]:9400", "no IPv6 address"),
        ("256.0.0.1:9400", "is no IPv4 address"),
        ("127.1:9400", "is no IPv4 address"),
        ("0:9400", "is no IPv4 address"),
        ("0x7f000001:9400", "is no IPv4 address"),
        ("a..b:9400", "is no host name"),
        ("-a:9400", "is no host name"),
        ("a b:9400", "is no host name"),
        ("a/b:9400", "is no host name"),
        ("h\u00f6st:9400", "is no host name"),
        ("a" * 64 + ":1", "is no host name"),
        ("http://host:9400", "stands in brackets"),
    ],
)
def test_what_is_no_address(text: str, reason: str) -> None:
    with pytest.raises(MalformedAddress, match=reason):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["0.0.0.0:9400", "[::]:9400", "[::ffff:0.0.0.0]:9400", "224.0.0.1:1", "[ff02::1]:1"]
)
def test_what_is_never_advertised(text: str) -> None:
    assert parse_address(text)
    with pytest.raises(MalformedAddress, match="nobody can connect"):
        parse_advertised(text)


def test_the_order_is_by_number_then_by_name() -> None:
    ordered = [
        "2.0.0.1:9400",
        "10.0.0.1:9400",
        "10.0.0.1:10000",
        "10.0.0.2:80",
        "[::1]:9400",
        "node-1:9400",
        "node-2:80",
    ]
    shuffled = [ordered[place] for place in (3, 0, 6, 2, 5, 1, 4)]
    assert sorted(shuffled, key=sort_key) == ordered


def test_loopback() -> None:
    loopback = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1"]
    assert all(map(is_loopback, loopback))
    assert not any(map(is_loopback, ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", "localhost.example:1"]))
