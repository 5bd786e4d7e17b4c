"""``nodedb cert``: make and list certificates, keys and the cluster secret.

Exit status: 0 when done, 1 when something cannot be made or used; ``list`` also returns 1 when a
certificate in the directory cannot be used.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodedb.certificates import (
    CA_DAYS,
    LEAF_DAYS,
    CertificateError,
    ListedCertificate,
    create_ca,
    create_client,
    create_node,
    create_secret,
    list_certificates,
)
from nodedb.clock import SystemClock

if TYPE_CHECKING:
    import argparse

_COLUMNS: Final = ("file", "kind", "names", "expires", "days left", "problem")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``cert`` and its commands to the command line."""
    parser = subparsers.add_parser("cert", help="make and list certificates")
    commands = parser.add_subparsers(dest="cert_command", required=True)

    ca = commands.add_parser("create-ca", help="make the authority that signs certificates")
    _add_common(ca, CA_DAYS)

    node = commands.add_parser("create-node", help="make the certificate of a node")
    _add_common(node, LEAF_DAYS)
    _add_leaf(node)
    node.add_argument("hosts", nargs="+", metavar="HOST", help="name or address of the node")

    client = commands.add_parser("create-client", help="make the certificate of a user")
    _add_common(client, LEAF_DAYS)
    _add_leaf(client)
    client.add_argument("user", metavar="USER", help="the SQL user it stands for")

    secret = commands.add_parser("create-secret", help="make the secret that all nodes share")
    secret.add_argument("file", type=Path, metavar="FILE", help="where to write it")

    listing = commands.add_parser("list", help="show certificates and when they expire")
    _add_certs_dir(listing)
    listing.add_argument("--format", choices=("table", "json"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one of the commands; returns the exit status."""
    now = datetime.datetime.fromtimestamp(SystemClock().wall_us() // 1_000_000, datetime.UTC)
    try:
        if arguments.cert_command == "list":
            return _list(arguments, now)
        for path in _create(arguments, now):
            print(path)
    except CertificateError as error:
        print(f"nodedb: {error}", file=sys.stderr)
        return 1
    return 0


def _create(arguments: argparse.Namespace, now: datetime.datetime) -> list[Path]:
    command = arguments.cert_command
    if command == "create-secret":
        create_secret(arguments.file)
        return [arguments.file]
    directory: Path = arguments.certs_dir
    options = {"days": arguments.days, "overwrite": arguments.overwrite}
    if command == "create-ca":
        return create_ca(directory, now, **options)
    options["new_key"] = arguments.new_key
    ca_directory = arguments.ca_dir or directory
    if command == "create-node":
        return create_node(directory, ca_directory, arguments.hosts, now, **options)
    return create_client(directory, ca_directory, arguments.user, now, **options)


def _list(arguments: argparse.Namespace, now: datetime.datetime) -> int:
    listed = list_certificates(arguments.certs_dir, now)
    if arguments.format == "json":
        print(json.dumps([_as_json(each, now) for each in listed], indent=2))
    else:
        rows = [_COLUMNS, *(_as_row(each, now) for each in listed)]
        widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip())
    return 1 if any(each.problem for each in listed) else 0


def _as_row(each: ListedCertificate, now: datetime.datetime) -> tuple[str, ...]:
    names = ", ".join(each.names)
    expires = f"{each.not_after:%Y-%m-%d %H:%M:%S} UTC"
    return (each.file, each.kind, names, expires, str(_days_left(each, now)), each.problem)


def _as_json(each: ListedCertificate, now: datetime.datetime) -> dict[str, object]:
    return {
        "file": each.file,
        "kind": each.kind,
        "subject": each.subject,
        "names": list(each.names),
        "expires": each.not_after.isoformat(),
        "days_left": _days_left(each, now),
        "problem": each.problem,
    }


def _days_left(each: ListedCertificate, now: datetime.datetime) -> int:
    return (each.not_after - now).days


def _add_certs_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--certs-dir", type=Path, default=Path("certs"), metavar="DIR", help="default: certs"
    )


def _add_leaf(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--new-key", action="store_true", help="with --overwrite: do not keep the key"
    )
    parser.add_argument(
        "--ca-dir",
        type=Path,
        default=None,
        metavar="DIR",
        help="where ca.crt and ca.key are (default: --certs-dir)",
    )


def _add_common(parser: argparse.ArgumentParser, days: int) -> None:
    _add_certs_dir(parser)
    parser.add_argument("--days", type=int, default=days, help=f"validity (default: {days})")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
