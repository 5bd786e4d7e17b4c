"""How the modules of built-ins say what they implement: by PostgreSQL's signature.

``implements("lower(text)")`` attaches a Python function to a row of the signature table;
everything else
about it (OID, result, strictness, volatility, defaults) comes from there. What the table has and
nobody
implements does not exist for the binder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Implementation:
    """A scalar or set-returning function's code; the flags are those of ``registry.Function``."""

    function: Callable[..., Any]
    needs_context: bool = False
    needs_types: bool = False
    inline: str = ""

    @property
    def is_async(self) -> bool:
        """True for coroutine functions."""
        return iscoroutinefunction(self.function)


@dataclass(frozen=True, slots=True)
class AggregateImplementation:
    """An aggregate's code; the fields are those of ``registry.Aggregate``."""

    create: Callable[..., Any]
    step: Callable[..., Any]
    finish: Callable[..., Any]
    strict: bool = True
    combine: Callable[[Any, Any], Any] | None = None
    code: str = ""
    needs_types: bool = False
    needs_context: bool = False
    grows: bool = False


FUNCTIONS: Final[dict[str, Implementation]] = {}
AGGREGATES: Final[dict[str, AggregateImplementation]] = {}


def implements(
    *signatures: str, inline: str = "", context: bool = False, types: bool = False
) -> Callable[[FunctionT], FunctionT]:
    """Decorate the implementation of these signatures."""

    def decorate(function: FunctionT) -> FunctionT:
        for signature in signatures:
            register(signature, function, inline=inline, context=context, types=types)
        return function

    return decorate


def register(
    signature: str,
    function: Callable[..., Any],
    *,
    inline: str = "",
    context: bool = False,
    types: bool = False,
) -> None:
    """Attach ``function`` to ``signature``; each signature has one implementation."""
    assert signature not in FUNCTIONS, signature
    FUNCTIONS[signature] = Implementation(function, context, types, inline)


def register_aggregate(signature: str, implementation: AggregateImplementation) -> None:
    """Attach an aggregate's code to ``signature``."""
    assert signature not in AGGREGATES, signature
    AGGREGATES[signature] = implementation
