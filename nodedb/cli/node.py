"""``nodedb node status | info | ready | drain``: what an operator asks of a node or a cluster."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodedb.cli.address import (
    HTTP_URL_DEFAULT,
    SQL_URL_DEFAULT,
    add_url,
    is_http,
    local_http_url,
    parse_sql_url,
    url_of,
)
from nodedb.cli.failure import CommandFailed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_POLL_SECONDS: Final = 0.1
_WAIT_SECONDS_DEFAULT: Final = 300.0
_STATEMENTS: Final = {
    "nodes": "SHOW NODES",
    "groups": "SHOW RAFT GROUPS",
    "peers": "SHOW PEER HEALTH",
    "cluster": "SHOW CLUSTER",
}


def add_parser(commands: Any) -> None:
    """Add ``node`` and its commands."""
    node = commands.add_parser("node", help="status, info and drain of nodes")
    actions = node.add_subparsers(dest="action", required=True)
    status = actions.add_parser("status", help="the cluster's nodes, groups and peers")
    add_url(status, what="postgresql://... of any node, or http://... of one")
    _add_format(status)
    add_admin_token(status)
    status.set_defaults(act=_status)
    info = actions.add_parser("info", help="a node's id, addresses, cluster, hash of the secret")
    add_url(info, what="http://... or postgresql://... of the node")
    info.add_argument("--store", metavar="DIR", help="read a store on this machine instead")
    info.add_argument("--cluster-secret-file", metavar="FILE", help="hash this secret (--store)")
    _add_format(info)
    add_admin_token(info)
    info.set_defaults(act=_info)
    ready = actions.add_parser("ready", help="exit status 0 if a node is ready, for health checks")
    add_url(ready, what="http://... of the node")
    ready.add_argument("--local", action="store_true", help="the node on this machine")
    ready.set_defaults(act=_ready)
    drain = actions.add_parser("drain", help="take a node out of service in order, and stop it")
    add_url(drain, what="http://... of the node")
    drain.add_argument("--local", action="store_true", help="the node on this machine")
    drain.add_argument(
        "--timeout",
        type=float,
        default=_WAIT_SECONDS_DEFAULT,
        metavar="SECONDS",
        help="wait so long",
    )
    add_admin_token(drain)
    drain.set_defaults(act=_drain)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one of the commands; returns the exit status."""
    status: int = arguments.act(arguments)
    return status


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table")


def add_admin_token(parser: argparse.ArgumentParser) -> None:
    """Add ``--admin-token-file``."""
    parser.add_argument(
        "--admin-token-file",
        metavar="FILE",
        help="the setting http_admin_token, for nodes elsewhere (or NODEDB_HTTP_ADMIN_TOKEN)",
    )


def admin_token(arguments: argparse.Namespace) -> str:
    """Return the token to show to nodes elsewhere; "" for none. Raises OSError."""
    if arguments.admin_token_file:
        return Path(arguments.admin_token_file).read_text(encoding="utf-8").strip()
    return os.environ.get("NODEDB_HTTP_ADMIN_TOKEN", "")


# Status


def _status(arguments: argparse.Namespace) -> int:
    """Print nodes, groups and peers."""
    url = url_of(arguments, SQL_URL_DEFAULT)
    is_by_http = is_http(url)
    status = _http_get(arguments, url, "/cluster/status") if is_by_http else _sql_status(url)
    if arguments.format == "json":
        print(json.dumps(status, indent=2))
    else:
        print(_as_tables(status), end="")
    return 0


def _sql_status(url: str) -> dict[str, Any]:
    from nodedb.cli.sql_client import SqlClient, SqlFailed  # noqa: PLC0415  needs pg8000

    client = SqlClient(parse_sql_url(url), may_ask=True)
    status: dict[str, Any] = {}
    try:
        for name, statement in _STATEMENTS.items():
            try:
                rows = client.run(statement).dicts()
            except SqlFailed as error:
                if error.sqlstate not in {"0A000", "42704"}:
                    raise
                continue  # a node of an older version does not know it
            is_properties = bool(rows) and set(rows[0]) == {"property", "value"}
            status[name] = (
                {row["property"]: row["value"] for row in rows} if is_properties else rows
            )
    finally:
        client.close()
    return status


def _properties(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn rows of (property, value) into a mapping; others give nothing."""
    if not rows or set(rows[0]) != {"property", "value"}:
        return {}
    return {row["property"]: row["value"] for row in rows}


def _http_get(arguments: argparse.Namespace, url: str, path: str) -> dict[str, Any]:
    from nodedb.cli.http_client import ask  # noqa: PLC0415  only this command

    answer = ask(url, path, token=admin_token(arguments))
    if answer.status != 200:
        raise CommandFailed(f"{url} answered {answer.status}: {_sentence(answer.body)}")
    return answer.body


def _sentence(body: dict[str, Any]) -> str:
    return str(body.get("error") or body.get("status") or body)


def _as_tables(status: dict[str, Any]) -> str:
    from nodedb.cli.table import aligned  # noqa: PLC0415  only this command

    out = []
    for name, value in status.items():
        rows = value if isinstance(value, list) else [value] if isinstance(value, dict) else None
        if not rows:
            if rows is None:
                out.append(f"{name}: {_cell(value)}\n")
            continue
        names = list(rows[0])
        cells = [[_cell(row.get(column)) for column in names] for row in rows]
        right = [_is_number(rows, column) for column in names]
        out.append(f"{name}\n{aligned(names, cells, right)}")
    return "".join(out)


def _is_number(rows: list[dict[str, Any]], column: str) -> bool:
    texts = [_cell(row.get(column)) for row in rows]
    return any(texts) and all(not text or text.replace(".", "", 1).isdigit() for text in texts)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(item)}" for key, item in value.items())
    return str(value)


# Info


def _info(arguments: argparse.Namespace) -> int:
    """Print what an operator needs to let another node join this one's cluster."""
    if arguments.store:
        info = _store_info(Path(arguments.store), arguments.cluster_secret_file)
    else:
        url = url_of(arguments, HTTP_URL_DEFAULT)
        is_by_http = is_http(url)
        info = _http_get(arguments, url, "/cluster/info") if is_by_http else _sql_info(url)
    if arguments.format == "json":
        print(json.dumps(info, indent=2))
        return 0
    width = max(len(name) for name in info)
    for name, value in info.items():
        print(f"{name:<{width}}  {_cell(value) or '-'}")
    return 0


def _sql_info(url: str) -> dict[str, Any]:
    status = _sql_status(url)
    cluster = status.get("cluster", {})
    node_id = cluster.get("node_id")
    own: dict[str, Any] = next(
        (node for node in status.get("nodes", []) if node["node_id"] == node_id), {}
    )
    info: dict[str, Any] = cluster | own
    return info


def _store_info(store: Path, secret_file: str | None) -> dict[str, Any]:
    path = store / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CommandFailed(f"{path}: no store of a node") from None
    except ValueError as error:
        raise CommandFailed(f"{path}: {error}") from None
    if not isinstance(manifest, dict):
        raise CommandFailed(f"{path}: no store of a node")
    info = {name: value for name, value in manifest.items() if name != "engine"}
    if secret_file is not None:
        from cluster.membership.info import secret_hash  # noqa: PLC0415  only here

        info["secret_hash"] = secret_hash(Path(secret_file).read_bytes().strip())
    return info


# Ready and drain


def _ready(arguments: argparse.Namespace) -> int:
    """Ask whether the node is ready; status 1 and the reasons if it is not."""
    from nodedb.cli.http_client import ask  # noqa: PLC0415  only this command

    url = _node_url(arguments)
    answer = ask(url, "/health/ready")
    if answer.status != 200:
        reasons = answer.body.get("reasons") or [_sentence(answer.body)]
        raise CommandFailed(f"{url} is not ready: {'; '.join(map(str, reasons))}")
    return 0


def _drain(arguments: argparse.Namespace) -> int:
    """Begin a node's drain and wait until it is drained. Status 1 if that takes too long."""
    from nodedb.cli.http_client import Unreachable, ask  # noqa: PLC0415  only this command

    url = _node_url(arguments)
    token = admin_token(arguments)
    answer = ask(url, "/health/drain", method="POST", token=token)
    if answer.status != 200:
        raise CommandFailed(f"{url} answered {answer.status}: {_sentence(answer.body)}")
    deadline = time.monotonic() + arguments.timeout  # noqa: TID251  the operator's wait

    def progress() -> dict[str, Any] | None:
        try:
            return ask(url, "/health/drain", token=token).body
        except Unreachable:
            return None  # it has stopped: that is the end of a drain

    body = _wait_drained(progress, deadline, lambda phase: print(f"{url}: {phase}", flush=True))
    if body is not None:
        shown = f"{body.get('status')}, {body.get('connections')} connections"
        raise CommandFailed(f"{url} is not drained after {arguments.timeout:g} s ({shown})")
    print(f"{url}: drained")
    return 0


def _node_url(arguments: argparse.Namespace) -> str:
    if arguments.local:
        if arguments.url:
            raise CommandFailed("give --local or --url, not both")
        return local_http_url(os.environ)
    url = arguments.url or os.environ.get("NODEDB_URL", "")
    if not is_http(url):
        raise CommandFailed("say which node: --local, or --url http://HOST:PORT of it")
    return str(url)


def _wait_drained(
    progress: Callable[[], dict[str, Any] | None], deadline: float, show: Callable[[str], None]
) -> dict[str, Any] | None:
    """Wait; returns the last progress if the deadline has passed, None when it is drained."""
    phase = ""
    while (body := progress()) is not None and body.get("status") != "drained":
        if body.get("status") != phase:
            phase = str(body.get("status"))
            show(phase)
        if time.monotonic() >= deadline:  # noqa: TID251  the operator's wait
            return body
        time.sleep(_POLL_SECONDS)
    return None
