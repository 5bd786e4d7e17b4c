"""Where the binder's modules meet: the handler of each expression class.

``expression``, ``comparison``, ``calls`` and ``subquery`` are mutually recursive; each adds its
handlers here and calls ``bind`` for operands, so none imports another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sql.ast.query import Expression
    from sql.binder.bound import BoundExpr
    from sql.binder.scope import Scope
    from sql.binder.state import BindState

Handler = Callable[["BindState", Any, "Scope"], "BoundExpr"]
HANDLERS: Final[dict[type, Handler]] = {}


def bind(state: BindState, node: Expression, scope: Scope) -> BoundExpr:
    """Bind one expression; unknown literals and untyped parameters stay unknown."""
    return HANDLERS[type(node)](state, node, scope)
