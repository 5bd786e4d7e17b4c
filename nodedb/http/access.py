"""Who may do what on the HTTP port.

Health and metrics are for everybody. What changes the node or tells of its inside is for loopback,
or for whoever shows the admin token. A browser is not loopback: a page of somebody else's that
makes it send a request is recognised by the headers that only browsers send, and refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEARER: Final = "bearer "
_BROWSER_HEADERS: Final = ("Origin", "Sec-Fetch-Site", "Referer")
# What a proxy on this machine adds when it speaks for somebody else.
_PROXY_HEADERS: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


def is_loopback(address: str | None) -> bool:
    """Tell whether an address is this machine's own, IPv4 in IPv6 included."""
    if not address:
        return False
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def is_local_request(address: str | None, headers: Mapping[str, str]) -> bool:
    """Tell whether a request comes from a program on this machine, on nobody else's behalf."""
    return is_loopback(address) and not any(
        name in headers for name in (*_BROWSER_HEADERS, *_PROXY_HEADERS)
    )


def has_admin_token(headers: Mapping[str, str], token: str) -> bool:
    """Tell whether ``Authorization: Bearer`` holds the token; an empty token lets nobody in."""
    given = headers.get("Authorization", "")
    if not token or not given.lower().startswith(_BEARER):
        return False
    presented = given[len(_BEARER) :].strip()
    return hmac.compare_digest(presented.encode(), token.encode())
