"""Where a command finds its node: ``--url``, ``NODEDB_URL``, or the node on this machine.

``postgresql://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/DATABASE][?sslmode=...]`` for SQL,
``http://HOST[:PORT]`` for the HTTP port. Several hosts are tried in order.
"""

from __future__ import annotations

import os
import urllib.parse
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

SQL_URL_DEFAULT: Final = "postgresql://nodedb@127.0.0.1:6432/nodedb"
HTTP_URL_DEFAULT: Final = "http://127.0.0.1:6480"
SQL_PORT_DEFAULT: Final = 6432
SSL_MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
_OPTIONS: Final = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "connect_timeout",
)


class BadUrl(ValueError):
    """The address cannot be understood; the message says which part."""


class SqlTarget(NamedTuple):
    """A server to connect to: its hosts in order, who asks, and libpq's options."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str | None
    database: str
    options: Mapping[str, str]


def add_url(parser: argparse.ArgumentParser, *, what: str = "postgresql://... of any node") -> None:
    """Add ``--url``."""
    parser.add_argument("--url", metavar="URL", help=f"{what} (or NODEDB_URL)")


def url_of(arguments: argparse.Namespace, default: str) -> str:
    """Return the address that was given, or the default."""
    return arguments.url or os.environ.get("NODEDB_URL") or default


def is_http(url: str) -> bool:
    """Tell whether a URL is of the HTTP port."""
    return url.startswith(("http://", "https://"))


def parse_sql_url(url: str) -> SqlTarget:
    """Take a ``postgresql://`` URL apart. Raises BadUrl."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres"}:
        raise BadUrl(f"{url!r}: expected postgresql://[user@]host[:port]/database")
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise BadUrl(f"{url!r}: unknown option {name!r}; known: {', '.join(_OPTIONS)}")
    if options.get("sslmode", "prefer") not in SSL_MODES:
        raise BadUrl(f"{url!r}: sslmode must be one of {', '.join(SSL_MODES)}")
    return SqlTarget(
        hosts=tuple(_host(part, url) for part in (hosts or "127.0.0.1").split(",")),
        user=urllib.parse.unquote(user) or "nodedb",
        password=urllib.parse.unquote(password) if password else os.environ.get("PGPASSWORD"),
        database=urllib.parse.unquote(database) or "nodedb",
        options=options,
    )


def _host(text: str, url: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(SQL_PORT_DEFAULT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadUrl(f"{url!r}: {text!r} is not HOST:PORT")
    return host, int(port)


def local_http_url(environment: Mapping[str, str]) -> str:
    """Return the URL of the node on this machine, as its own settings say where it listens."""
    address = environment.get("NODEDB_HTTP_ADDR", "")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return HTTP_URL_DEFAULT
    # Listening everywhere includes loopback, and only loopback is let in without a token.
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host or "127.0.0.1")  # noqa: S104
    return f"http://{host}:{port}"
