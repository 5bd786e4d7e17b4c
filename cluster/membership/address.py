"""Addresses between nodes: text ``host:port``, ``[::1]:9400`` for IPv6.

One form per address (names in lower case, IPv6 compressed, no leading zeros), so that equal text
means equal address. What is only good for listening, such as 0.0.0.0, is never advertised.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

PORT_MAX: Final = 65535
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_NAME_LENGTH_MAX: Final = 253
_NUMERIC: Final = re.compile(r"[0-9.]+|0x[0-9a-f.x]*")


class MalformedAddress(ValueError):
    """Text that is no ``host:port``; the message says why, and is for an operator."""


def parse_address(text: str) -> str:
    """Return the one form of ``host:port``. Raises MalformedAddress."""
    host, separator, port_text = text.strip().rpartition(":")
    if not separator:
        raise MalformedAddress(f'"{text}": expected HOST:PORT')
    port = _parse_port(text, port_text)
    if host.startswith("[") and host.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]:{port}"
        except ValueError:
            raise MalformedAddress(f'"{text}": no IPv6 address in the brackets') from None
    if ":" in host:
        raise MalformedAddress(f'"{text}": an IPv6 address stands in brackets, [HOST]:PORT')
    return f"{_parse_host(text, host)}:{port}"


def _parse_port(text: str, port_text: str) -> int:
    # isascii: int() and isdigit() also take the digits of other scripts.
    is_number = port_text.isascii() and port_text.isdigit() and len(port_text) <= 8
    if not is_number or not 1 <= int(port_text) <= PORT_MAX:
        raise MalformedAddress(f'"{text}": the port is a number from 1 to {PORT_MAX}')
    return int(port_text)


def _parse_host(text: str, host: str) -> str:
    host = host.lower()
    if not host:
        raise MalformedAddress(f'"{text}": the host is missing')
    if _NUMERIC.fullmatch(host):
        # "127.1" and "0" mean something to resolvers, and something else to everybody.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise MalformedAddress(f'"{text}": "{host}" is no IPv4 address') from None
    if len(host) > _NAME_LENGTH_MAX or not _NAME.fullmatch(host):
        raise MalformedAddress(f'"{text}": "{host}" is no host name')
    return host.removesuffix(".")


def parse_advertised(text: str) -> str:
    """Return the one form of an address that others shall connect to.

    Raises MalformedAddress also for what nobody can connect to: 0.0.0.0, ``::``, multicast.
    """
    address = parse_address(text)
    ip = _ip_of(address)
    if ip is not None and (ip.is_unspecified or ip.is_multicast):
        raise MalformedAddress(f'"{text}": nobody can connect to that host')
    return address


def is_loopback(address: str) -> bool:
    """Tell whether an address is of this machine alone, as far as its text says."""
    ip = _ip_of(address)
    return ip.is_loopback if ip is not None else address.rpartition(":")[0] == "localhost"


def sort_key(address: str) -> tuple[int, int, int, str, int]:
    """Order addresses: IPv4, IPv6, names; by number, then by port."""
    host, _, port = address.rpartition(":")
    ip = _ip_of(address)
    if ip is not None:
        return (0, ip.version, int(ip), "", int(port))
    return (1, 0, 0, host, int(port))


def _ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
