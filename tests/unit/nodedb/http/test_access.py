"""Who may change a node over HTTP."""

import pytest

from nodedb.http.access import has_admin_token, is_local_request, is_loopback


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(address: str | None, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    "header", ["Origin", "Sec-Fetch-Site", "Referer", "X-Forwarded-For", "Forwarded", "X-Real-IP"]
)
def test_a_browser_or_a_proxy_on_this_machine_is_not_local(header: str) -> None:
    assert is_local_request("127.0.0.1", {})
    assert not is_local_request("127.0.0.1", {header: "http://127.0.0.1"})


@pytest.mark.parametrize(
    ("given", "token", "expected"),
    [
        ("Bearer secret", "secret", True),
        ("bearer secret ", "secret", True),
        ("Bearer secre", "secret", False),
        ("Bearer secrets", "secret", False),
        ("Basic secret", "secret", False),
        ("secret", "secret", False),
        ("Bearer ", "", False),
        ("", "", False),
        ("Bearer \u00e9", "secret", False),
    ],
)
def test_admin_token(given: str, token: str, expected: bool) -> None:
    assert has_admin_token({"Authorization": given}, token) is expected
