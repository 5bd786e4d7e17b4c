"""FOR UPDATE and its kin: which tables a locking clause means, and where it may not stand.

A clause that names a view or a sub-query of FROM means the tables in there: it is handed on to
their queries (``handed_on``) before they are bound, so each query level locks its own tables.

Source: PostgreSQL docs, "SELECT", The Locking Clause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sql.ast.query import FunctionRef, JoinRef, LockingClause, Select, SetOperation, TableRef
from sql.binder.bound import RowLock
from sql.errors import FeatureNotSupported, UndefinedTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sql.ast.query import FromItem, Query
    from sql.binder.aggregation import SelectContext
    from sql.binder.scope import Item, Scope
    from sql.binder.state import BindState
    from sql.span import Span

STRENGTH_WORDS: Final = {
    "update": "FOR UPDATE",
    "no key update": "FOR NO KEY UPDATE",
    "share": "FOR SHARE",
    "key share": "FOR KEY SHARE",
}
# Of two clauses for one table the stronger lock counts, and the more impatient wait.
_STRENGTHS: Final = ("key share", "share", "no key update", "update")
_WAITS: Final = ("wait", "skip", "nowait")


def handed_on(query: Query, alias: str, scope: Scope, *, is_view: bool) -> Query:
    """Return a sub-query or view of FROM with the locking clauses that mean it.

    A sub-query that cannot have any is refused when it is bound. A view of such a kind is too,
    except that one of several SELECTs locks nothing.
    """
    clauses = tuple(
        LockingClause(clause.strength, (), clause.wait, clause.span)
        for clause in scope.locking
        if not clause.of or alias in clause.of
    )
    if not clauses or not isinstance(query, Select | SetOperation):
        return query
    if is_view and isinstance(query, SetOperation):
        return query
    return msgspec.structs.replace(query, locking=(*query.locking, *clauses))


def check_locking(node: Select, select: SelectContext, *, grouped: bool) -> None:
    """Refuse a locking clause where rows of the result are not rows of tables (0A000)."""
    problem = ""
    if node.distinct_on is not None:
        problem = "DISTINCT clause"
    elif node.group_by:
        problem = "GROUP BY clause"
    elif node.having is not None:
        problem = "HAVING clause"
    elif select.aggregates or grouped:
        problem = "aggregate functions"
    elif any(w.calls for w in select.windows):
        problem = "window functions"
    elif select.sets:
        problem = "set-returning functions in the target list"
    if problem:
        word = STRENGTH_WORDS[node.locking[0].strength]
        raise FeatureNotSupported(f"{word} is not allowed with {problem}")


def bind_locks(
    state: BindState,
    clauses: tuple[LockingClause, ...],
    from_items: Sequence[FromItem],
    scope: Scope,
) -> tuple[RowLock, ...]:
    """Return the locks of the tables that a query level scans itself."""
    locks: dict[int, RowLock] = {}
    for clause in clauses:
        items = _named(clause, from_items, scope) if clause.of else scope.all_items
        for item in items:
            scan = item.scan
            if scan is None:
                if item.relation_id:
                    state.require(item.relation_id, "w")  # A view.
                continue
            state.require(scan.table.id, "w")
            known = locks.get(id(scan))
            strength, wait = clause.strength, clause.wait
            if known is not None:
                strength = max(strength, known.strength, key=_STRENGTHS.index)
                wait = max(wait, known.wait, key=_WAITS.index)
            locks[id(scan)] = RowLock(scan, strength, wait)
    return tuple(locks.values())


def _named(clause: LockingClause, from_items: Sequence[FromItem], scope: Scope) -> Iterator[Item]:
    word = STRENGTH_WORDS[clause.strength]
    for name, span in zip(clause.of, clause.of_spans, strict=True):
        found = next((item for item in scope.all_items if item.alias == name), None)
        if found is None:
            if any(_alias(node) == name for node in _flat(from_items)):
                raise _not_applicable(word, "a join", span)
            raise UndefinedTable(
                f'relation "{name}" in {word} clause not found in FROM clause', span=span
            )
        if found.scan is None and not found.relation_id:
            for node in _flat(from_items):
                if isinstance(node, FunctionRef) and (not node.alias or _alias(node) == name):
                    raise _not_applicable(word, "a function", span)
                if isinstance(node, TableRef) and name in (_alias(node), node.name.name):
                    raise _not_applicable(word, "a WITH query", span)
                if isinstance(node, JoinRef) and _alias(node) == name:
                    raise _not_applicable(word, "a join", span)
        yield found


def _not_applicable(word: str, what: str, span: Span) -> FeatureNotSupported:
    return FeatureNotSupported(f"{word} cannot be applied to {what}", span=span)


def _alias(node: FromItem) -> str:
    return "" if node.alias is None else node.alias.name


def _flat(from_items: Sequence[FromItem]) -> Iterator[FromItem]:
    """Yield FROM's entries, those of joins included."""
    pending = list(from_items)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, JoinRef):
            pending += (node.left, node.right)
