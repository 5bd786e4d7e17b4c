"""What SIGHUP reads again: certificates, and the settings that may change in a running node.

Each subsystem registers a function; a reload calls all of them, in order. One that fails keeps what
it had, is logged, and does not keep the others from reloading: a typing error in a certificate's
file must not take a node down.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER: Final = logging.getLogger("nodedb.reload")


class ReloadFailed(Exception):
    """What was read is not usable; the message says which file and why. An operator acts."""


class Reloads:
    """The functions of one node. Each raises OSError, ValueError or ReloadFailed if it refuses."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[], str]] = {}
        self.count = 0
        self.failure_count = 0

    def register(self, name: str, function: Callable[[], str]) -> None:
        """Add one; it returns a sentence about what it took over, "" if nothing changed."""
        assert name not in self._functions, f"registered twice: {name}"
        self._functions[name] = function

    def run(self) -> list[str]:
        """Reload everything; returns the failures, each a sentence that begins with its name."""
        self.count += 1
        failures = []
        for name, function in self._functions.items():
            try:
                changed = function()
            except (OSError, ValueError, ReloadFailed) as error:
                failures.append(f"{name}: {error}")
                _LOGGER.error("reload of %s failed, what it had stays in force: %s", name, error)
            else:
                _LOGGER.info("reloaded %s: %s", name, changed or "unchanged")
        self.failure_count += len(failures)
        return failures
