"""``nodedb``: start a node.

Flags are derived from ``NodeConfig``; merging and checking are the config package's.

Exit status: 0 after a clean stop, 1 when the node could not start or had to stop, 2 for bad
settings.
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from nodedb.config import ConfigFaults, NodeConfig, load_config
from nodedb.config.node_config import field_names
from nodedb.errors import StorageError

_REPEATED: Final = ("set", "locality", "join", "insecure_network")
# Young objects of a statement die by reference count; collecting often only costs latency.
GC_THRESHOLDS: Final = (50_000, 25, 100)
SWITCH_INTERVAL_SECONDS: Final = 0.0005


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nodedb", description="A distributed SQL database node.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a node", description="Start a node.")
    start.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name, type_name in field_names():
        flag = "--" + name.replace("_", "-")
        if type_name == "bool":
            start.add_argument(flag, action="store_const", const=True, default=None)
        elif name in _REPEATED:
            start.add_argument(flag, action="append", metavar="VALUE", default=None)
        else:
            start.add_argument(flag, metavar="VALUE", default=None)
    commands.add_parser("version", help="print the version")
    return parser


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        body = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body)


def _set_up_logging(config: NodeConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if config.log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if config.debug else logging.INFO, handlers=[handler])


def _check_variables(config: NodeConfig) -> None:
    """Raise ConfigFaults for ``--set`` of what is no session variable or not one of its values."""
    from nodedb.session.settings import Settings  # noqa: PLC0415  not needed to print a usage message
    from sql.errors import SqlError  # noqa: PLC0415

    settings = Settings({}, is_superuser=lambda: True)
    faults = []
    for name, value in config.variables.items():
        try:
            settings.checked(name, value)
        except SqlError as error:
            faults.append(f"--set {name}={value}: {error.message}")
    if faults:
        raise ConfigFaults(faults)


def _announce(line: str) -> None:
    print(line, flush=True)


def _start(arguments: argparse.Namespace) -> int:
    flags: dict[str, Any] = {
        name: getattr(arguments, name) for name, _ in field_names() if hasattr(arguments, name)
    }
    try:
        config = load_config(flags, os.environ, arguments.config)
        _check_variables(config)
    except ConfigFaults as faults:
        for fault in faults.faults:
            print(f"nodedb: {fault}", file=sys.stderr)
        return 2
    _set_up_logging(config)
    if config.insecure:
        logging.getLogger("nodedb").warning(
            "INSECURE: clients from loopback%s are trusted without a password or encryption",
            "".join(f", {network}" for network in config.insecure_network),
        )
    import uvloop  # noqa: PLC0415  not needed to print a usage message

    from nodedb.node import Node  # noqa: PLC0415

    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

    async def serve() -> int:
        return await Node(config).run(_announce)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"nodedb: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except (StorageError, ValueError) as error:
        print(f"nodedb: {error}", file=sys.stderr)
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    if parsed.command == "version":
        from importlib.metadata import version  # noqa: PLC0415

        print(version("nodedb"))
        return 0
    return _start(parsed)


if __name__ == "__main__":
    sys.exit(main())
