"""``nodedb token create``: a one-time token that lets one node join."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from nodedb.cli.address import HTTP_URL_DEFAULT, add_url, is_http, url_of
from nodedb.cli.failure import CommandFailed
from nodedb.cli.node import add_admin_token, admin_token

if TYPE_CHECKING:
    import argparse

_TTL: Final = re.compile(r"(\d+)([smhd]?)", re.ASCII)
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def add_parser(commands: Any) -> None:
    """Add ``token`` and its command."""
    token = commands.add_parser("token", help="one-time tokens for joining")
    actions = token.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="print a token; give it by --join-token-file")
    add_url(create, what="http://... of any node")
    create.add_argument(
        "--ttl", type=seconds_of, default=600, metavar="TIME", help="90, 10m, 2h, 1d"
    )
    create.add_argument(
        "--for-node", type=int, default=0, metavar="N", help="for this node id only"
    )
    add_admin_token(create)


def seconds_of(text: str) -> int:
    """Read a duration such as 90, 90s, 10m, 2h, 1d. Raises ValueError."""
    found = _TTL.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError(text)
    return int(found[1]) * _UNIT_SECONDS[found[2]]


def run(arguments: argparse.Namespace) -> int:
    """Print the token alone on standard output, so that it can be redirected into a file."""
    from nodedb.cli.http_client import ask  # noqa: PLC0415  only this command

    url = url_of(arguments, HTTP_URL_DEFAULT)
    if not is_http(url):
        raise CommandFailed("tokens are made over HTTP: --url http://HOST:PORT of any node")
    if arguments.for_node < 0:
        raise CommandFailed("--for-node must be a node id, or 0 for any")
    body = {"for_node": arguments.for_node, "ttl_seconds": arguments.ttl}
    answer = ask(url, "/cluster/tokens", method="POST", body=body, token=admin_token(arguments))
    if answer.status != 200:
        raise CommandFailed(f"{url} answered {answer.status}: {answer.body.get('error')}")
    print(answer.body["token"])
    return 0
