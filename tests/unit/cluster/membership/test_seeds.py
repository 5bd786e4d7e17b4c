"""Seed lists: parsing, DNS answers beside static addresses, the last error kept."""

from __future__ import annotations

import pytest

from cluster.membership.address import MalformedAddress
from cluster.membership.seeds import (
    SEEDS_MAX,
    SeedList,
    SeedSettings,
    SrvRecord,
    parse_seed,
    parse_seeds,
)


def test_sorted_ascending_and_each_once() -> None:
    items = ["b:1", "10.0.0.10:1", "10.0.0.9:1", "B:01", "srv:Zed.example", "SRV:zed.example."]
    assert parse_seeds(items) == SeedSettings(
        ("10.0.0.9:1", "10.0.0.10:1", "b:1"), ("zed.example",)
    )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("nowhere", '"nowhere": expected HOST:PORT'),
        ("srv:", '"srv:": expected srv:NAME'),
        ("srv:a b", '"srv:a b": expected srv:NAME'),
        ("srv:_nodedb._tcp.example:9400", "expected srv:NAME"),
        ("0.0.0.0:9400", "nobody can connect"),
    ],
)
def test_a_malformed_seed_is_a_fault(item: str, message: str) -> None:
    with pytest.raises(MalformedAddress) as caught:
        parse_seed(item)
    assert message in str(caught.value)


def test_too_many() -> None:
    with pytest.raises(MalformedAddress, match="at most"):
        parse_seeds(f"10.0.{n // 250}.{n % 250}:1" for n in range(SEEDS_MAX + 1))


def test_the_underscores_of_srv_names() -> None:
    assert parse_seed("srv:_nodedb._tcp.example") == "srv:_nodedb._tcp.example"


def test_answers_stand_beside_static_addresses() -> None:
    seeds = SeedList(parse_seeds(["10.0.0.2:1", "srv:x.example"]))
    assert seeds.addresses == ("10.0.0.2:1",)
    seeds.on_answer("x.example", [SrvRecord("10.0.0.1", 9), SrvRecord("Host.example.", 7)])
    assert seeds.addresses == ("10.0.0.1:9", "10.0.0.2:1", "host.example:7")
    seeds.on_answer("x.example", [SrvRecord("10.0.0.3", 9), SrvRecord("::1", 9)])
    assert seeds.addresses == ("10.0.0.2:1", "10.0.0.3:9", "[::1]:9")


def test_a_failed_look_up_keeps_the_answer_and_shows_the_error() -> None:
    seeds = SeedList(parse_seeds(["srv:x.example"]))
    seeds.on_answer("x.example", [SrvRecord("a", 9)])
    seeds.on_error("x.example", "no name server answers")
    assert seeds.addresses == ("a:9",)
    assert seeds.errors == {"srv:x.example": "no name server answers"}
    seeds.on_answer("x.example", [SrvRecord("b", 9)])
    assert seeds.addresses == ("b:9",)
    assert seeds.errors == {}


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ([], "no record"),
        ([SrvRecord(".", 0)], "bad record: "),  # RFC 2782: decidedly not available.
        ([SrvRecord("0.0.0.0", 9)], "bad record: "),
        ([SrvRecord(f"h{n}", 9) for n in range(SEEDS_MAX + 1)], "more than 100 records"),
    ],
)
def test_answers_that_are_of_no_use(records: list[SrvRecord], error: str) -> None:
    seeds = SeedList(parse_seeds(["srv:x.example"]))
    seeds.on_answer("x.example", [SrvRecord("a", 9)])
    seeds.on_answer("x.example", records)
    assert seeds.addresses == ("a:9",)
    assert seeds.errors["srv:x.example"].startswith(error)


def test_one_bad_record_does_not_hide_the_others() -> None:
    seeds = SeedList(parse_seeds(["srv:x.example"]))
    seeds.on_answer("x.example", [SrvRecord("bad host", 9), SrvRecord("a", 9)])
    assert seeds.addresses == ("a:9",)


def test_a_list_of_dns_must_have_grown_before_it_founds() -> None:
    """Else every node that finds itself alone in DNS would found a cluster of its own."""
    seeds = SeedList(parse_seeds(["srv:x.example"]))
    assert not seeds.may_found
    seeds.on_answer("x.example", [SrvRecord("a", 9)])
    assert not seeds.may_found
    seeds.on_answer("x.example", [SrvRecord("a", 9), SrvRecord("b", 9)])
    assert seeds.may_found
    assert SeedList(parse_seeds(["a:9"])).may_found, "who lists itself alone means it"
