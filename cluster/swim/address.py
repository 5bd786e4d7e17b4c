"""Addresses as text: ``host:port``, with an IPv6 host in brackets."""

from ipaddress import ip_address


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port. ValueError for text that is not ``host:port`` or ``[v6]:port``."""
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = ":" in host and not host.startswith(":::")
    else:
        is_host = bool(host) and ":" not in host
    is_text = text.isascii() and text.isprintable() and not any(c in text for c in " /@?#")
    is_port = port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    if not (separator and is_host and is_text and is_port):
        raise ValueError(f'"{text[:300]}" is no address of the form host:port')
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Return the text of an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(text: str) -> bool:
    """Tell whether the text is an address."""
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def is_number(host: str) -> bool:
    """Tell whether a host is an IP address, and not a name that has to be looked up."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
