"""``nodedb``: start a node, and the operator's commands, a module each.

Flags of ``start`` are derived from ``NodeConfig``; merging and checking are the config package's.
What a command needs is imported when it runs, so that ``nodedb start`` does not pay for the others.

Exit status: 0 for success; 1 when the node could not start or had to stop, or a command failed; 2
for bad settings or arguments.
"""

import argparse
import asyncio
import gc
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from nodedb.cli.address import BadUrl
from nodedb.cli.failure import CommandFailed
from nodedb.config import ConfigFaults, NodeConfig, load_config
from nodedb.config.node_config import field_names

_MODULES: Final = ("node", "token", "sql", "demo", "cert", "debug")
"""Each has ``add_parser(commands)`` and ``run(arguments)``, which returns the exit status."""
_REPEATED: Final = ("set", "locality", "join", "insecure_network")
# Young objects of a statement die by reference count; collecting often only costs latency.
GC_THRESHOLDS: Final = (50_000, 25, 100)
SWITCH_INTERVAL_SECONDS: Final = 0.0005


def _parser(only: str = "") -> argparse.ArgumentParser:
    """Return the parser of all commands, or of one: the others' modules are then not imported."""
    parser = argparse.ArgumentParser(prog="nodedb", description="A distributed SQL database node.")
    commands = parser.add_subparsers(dest="command", required=True)
    if only in {"", "start"}:
        _add_start(commands)
    for name in (only,) if only else _MODULES:
        if name in _MODULES:
            module = importlib.import_module(f"nodedb.cli.{name}")
            module.add_parser(commands)
            commands.choices[name].set_defaults(run_command=module.run)
    if only in {"", "version"}:
        commands.add_parser("version", help="print the version").set_defaults(run_command=_version)
    return parser


def _add_start(commands: Any) -> None:
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

    def read_config() -> NodeConfig:
        config = load_config(flags, os.environ, arguments.config)
        _check_variables(config)
        return config

    def read_config_again() -> NodeConfig:
        try:
            return read_config()
        except ConfigFaults as faults:
            raise ReloadFailed("; ".join(faults.faults)) from faults

    try:
        config = read_config()
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
    # What the modules define lives as long as the process: looking for garbage among it while they
    # are imported takes a fifth of the start.
    gc.disable()
    import uvloop  # noqa: PLC0415  not needed to print a usage message

    from nodedb.node import START_FAILURES, Node  # noqa: PLC0415
    from nodedb.reload import ReloadFailed  # noqa: PLC0415

    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(*GC_THRESHOLDS)

    async def serve() -> int:
        return await Node(config, read_config=read_config_again).run(_announce)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"nodedb: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except START_FAILURES as error:
        print(f"nodedb: {error}", file=sys.stderr)
        return 1


def _version(arguments: argparse.Namespace) -> int:
    from importlib.metadata import version  # noqa: PLC0415

    del arguments
    print(version("nodedb"))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    known = {*_MODULES, "start", "version"}
    only = given[0] if given and given[0] in known else ""
    parsed = _parser(only).parse_args(given)
    if parsed.command == "start":
        return _start(parsed)
    return _run_command(parsed)


def _run_command(parsed: argparse.Namespace) -> int:
    """Run an operator's command; what it raises for the operator becomes one sentence."""
    try:
        status: int = parsed.run_command(parsed)
    except BadUrl as error:
        print(f"nodedb: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has seen enough (``| head``); nothing more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not isinstance(error, _operator_errors()):
            raise
        print(f"nodedb: {_sentence(error)}", file=sys.stderr)
        return 1
    return status


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _operator_errors() -> tuple[type[Exception], ...]:
    """Return what commands raise for the operator. Asked only when something was raised."""
    from nodedb.cli.http_client import Unreachable  # noqa: PLC0415
    from nodedb.cli.sql_client import ConnectionFailed, SqlFailed  # noqa: PLC0415

    return (CommandFailed, Unreachable, ConnectionFailed, SqlFailed, OSError, ValueError)


if __name__ == "__main__":
    sys.exit(main())
