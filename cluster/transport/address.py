"""Addresses between nodes: ``host:port`` text, ``[::1]:9400`` for IPv6."""

from __future__ import annotations


def split_address(address: str) -> tuple[str, int]:
    """Return host and port. Raises ValueError with a sentence."""
    host, separator, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not bare or (":" in bare and not is_bracketed):
        raise ValueError(f"address {address!r}: expected HOST:PORT")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"address {address!r}: the port must lie between 1 and 65535")
    return bare, int(port)


def join_address(host: str, port: int) -> str:
    """Return the text of a host and a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
