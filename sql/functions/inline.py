"""Names that inline templates may use besides builtins; the code generator merges them into its globals.

A template has ``{0}``, ``{1}``... for the arguments and ``{t}`` for a fresh local name. Names
here begin with ``_``.
"""  # noqa: E501

from typing import Any, Final

INLINE_GLOBALS: Final[dict[str, Any]] = {}


def inline_global(name: str, value: Any) -> None:
    """Make ``value`` known to templates as ``name``."""
    assert name.startswith("_"), name
    assert name not in INLINE_GLOBALS, name
    INLINE_GLOBALS[name] = value
