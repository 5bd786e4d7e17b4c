import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgwire_fakes import startup

from nodedb.pgwire.errors import FatalError
from nodedb.pgwire.startup import (
    CancelRequest,
    GssEncRequest,
    SslRequest,
    StartupDecoder,
    StartupMessage,
    parse_options,
)
from sql.errors import SqlSyntaxError

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
GSS_REQUEST = bytes.fromhex("0000000804d21630")
CANCEL = bytes.fromhex("0000001004d2162e0000004d0000cafe")


def decode(data: bytes) -> list[object]:
    decoder = StartupDecoder()
    decoder.feed(data)
    found: list[object] = []
    while (request := decoder.next_request()) is not None:
        found.append(request)
    return found


def fatal(data: bytes) -> tuple[str, str]:
    with pytest.raises(FatalError) as caught:
        decode(data)
    return caught.value.error.sqlstate, caught.value.error.message


def test_requests_before_the_startup_message() -> None:
    assert decode(GSS_REQUEST + SSL_REQUEST) == [GssEncRequest(), SslRequest()]
    assert decode(CANCEL) == [CancelRequest(77, 0xCAFE)]


def test_each_encryption_request_counts_once() -> None:
    assert fatal(SSL_REQUEST * 2) == (
        "0A000",
        "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0",
    )


def test_startup_message() -> None:
    data = startup(
        user="alice", options="-c geqo=off --work-mem=4MB -cDateStyle=ISO", DateStyle="German"
    )
    settings = {"geqo": "off", "work_mem": "4MB", "DateStyle": "German"}
    assert decode(data) == [StartupMessage("alice", "alice", settings, False, ())]


@pytest.mark.parametrize("version", [0x30002, 0x3FFFF])
def test_newer_minor_version_is_negotiated(version: int) -> None:
    [message] = decode(startup(version, user="alice", database="d"))
    assert message == StartupMessage("alice", "d", {}, True, ())


def test_unknown_protocol_options_are_listed_and_not_settings() -> None:
    data = startup(user="alice", **{"_pq_.a": "1", "_pq_.b": "2", "geqo": "on"})
    [message] = decode(data)
    assert message == StartupMessage("alice", "alice", {"geqo": "on"}, True, ("_pq_.a", "_pq_.b"))


def test_long_names_are_cut_at_a_character() -> None:
    [message] = decode(startup(user="x" + "é" * 40))
    assert isinstance(message, StartupMessage)
    assert message.user == "x" + "é" * 31


@pytest.mark.parametrize("value", ["false", "off", "0", "no"])
def test_no_replication_is_fine(value: str) -> None:
    [message] = decode(startup(user="alice", replication=value))
    assert isinstance(message, StartupMessage)
    assert message.parameters == {}


@pytest.mark.parametrize(
    ("data", "sqlstate", "text"),
    [
        (bytes.fromhex("0000000700030000"), "08P01", "invalid length of startup packet"),
        ((10_001).to_bytes(4, "big"), "08P01", "invalid length of startup packet"),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01", "invalid length of startup packet"),
        (CANCEL[:3] + b"\x0c" + CANCEL[4:12], "08P01", "invalid length of startup packet"),
        (startup(2 << 16, user="a"), "0A000", "unsupported frontend protocol 2.0: server"),
        (startup(4 << 16, user="a"), "0A000", "unsupported frontend protocol 4.0: server"),
        (bytes.fromhex("0000000800030000"), "08P01", "invalid startup packet layout"),
        (bytes.fromhex("0000000a000300006100"), "08P01", "invalid startup packet layout"),
        (bytes.fromhex("0000000b00030000610000"), "08P01", "invalid startup packet layout"),
        (startup(database="d"), "28000", "no PostgreSQL user name specified in startup packet"),
        (startup(user=""), "28000", "no PostgreSQL user name specified in startup packet"),
        (startup(user="a", replication="on"), "0A000", "replication connections"),
        (startup(user="a", replication="x"), "22023", 'invalid value for parameter "replication"'),
        (startup(user="a", options="x"), "42601", "invalid command-line argument"),
        (
            bytes.fromhex("0000001000030000757365 7200 ff00 00".replace(" ", "")),
            "22021",
            'invalid byte sequence for encoding "UTF8": 0xff',
        ),
    ],
)
def test_refusals(data: bytes, sqlstate: str, text: str) -> None:
    found_sqlstate, message = fatal(data)
    assert found_sqlstate == sqlstate
    assert message.startswith(text)


@given(st.integers(0, 40))
def test_any_chunking(cut: int) -> None:
    data = startup(user="alice", database="shop")
    decoder = StartupDecoder()
    decoder.feed(data[:cut])
    first = decoder.next_request()
    decoder.feed(data[cut:] + b"rest")
    request = first or decoder.next_request()
    assert request == StartupMessage("alice", "shop", {}, False, ())
    assert decoder.take_rest() == b"rest"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("  ", {}),
        ("-c a=b", {"a": "b"}),
        ("-c a=", {"a": ""}),
        (r"-c search_path=a,\ b", {"search_path": "a, b"}),
        (r"-c a=x\\y --b-c=d=e", {"a": r"x\y", "b_c": "d=e"}),
    ],
)
def test_options(text: str, settings: dict[str, str]) -> None:
    assert parse_options(text) == settings


@pytest.mark.parametrize("text", ["-c", "-c a", "--a", "--", "word", "-B 5"])
def test_bad_options(text: str) -> None:
    with pytest.raises(SqlSyntaxError):
        parse_options(text)
