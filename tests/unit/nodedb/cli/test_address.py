"""Where a command finds its node."""

import pytest

from nodedb.cli.address import BadUrl, local_http_url, parse_sql_url


def test_everything_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    target = parse_sql_url("postgresql://")
    assert target == ((("127.0.0.1", 6432),), "nodedb", None, "nodedb", {})


def test_all_parts() -> None:
    target = parse_sql_url(
        "postgres://al%40ice:p%3Aw%2F@one:1,[::1]:2,three/my%20db?sslmode=verify-full&sslrootcert=/c"
    )
    assert target.hosts == (("one", 1), ("::1", 2), ("three", 6432))
    assert (target.user, target.password, target.database) == ("al@ice", "p:w/", "my db")
    assert target.options == {"sslmode": "verify-full", "sslrootcert": "/c"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6432", "expected postgresql://"),
        ("mysql://h/d", "expected postgresql://"),
        ("postgresql://h:x/d", "'h:x' is not HOST:PORT"),
        ("postgresql://h:70000/d", "is not HOST:PORT"),
        ("postgresql://a,,b/d", "'' is not HOST:PORT"),
        ("postgresql://h/d?sslmod=require", "unknown option 'sslmod'"),
        ("postgresql://h/d?sslmode=yes", "sslmode must be one of"),
    ],
)
def test_what_cannot_be_understood_is_named(url: str, reason: str) -> None:
    with pytest.raises(BadUrl, match=reason):
        parse_sql_url(url)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, "http://127.0.0.1:6480"),
        ("0.0.0.0:6480", "http://127.0.0.1:6480"),
        ("[::]:7000", "http://[::1]:7000"),
        ("10.0.0.1:7000", "http://10.0.0.1:7000"),
        ("nonsense", "http://127.0.0.1:6480"),
    ],
)
def test_the_node_on_this_machine(address: str | None, expected: str) -> None:
    assert local_http_url({} if address is None else {"NODEDB_HTTP_ADDR": address}) == expected
