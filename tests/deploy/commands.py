"""Command lines of manifests, read by the product's own parser."""

from typing import Any

from nodedb.cli.main import _parser
from nodedb.config.node_config import field_names


def start_flags() -> set[str]:
    """Return the names of the settings."""
    return {name for name, _ in field_names()}


def flags_of(arguments: list[str], paths: dict[str, str]) -> dict[str, Any]:
    """Parse the arguments of ``nodedb start``; ``paths`` says where a container's paths are here.

    An unknown flag ends the test by SystemExit, as it would end the container.
    """
    here = arguments
    for inside, outside in paths.items():
        here = [argument.replace(inside, outside) for argument in here]
    parsed = _parser("start").parse_args(["start", *here])
    return {
        name: getattr(parsed, name)
        for name in start_flags()
        if getattr(parsed, name, None) is not None
    }
