"""Overload resolution: which function or operator a name and argument types mean.

The rules are PostgreSQL's: an exact match wins; otherwise candidates whose arguments can be coerced
implicitly, then those with most exact matches, then most exact matches or preferred types, then the
categories that unknown literals decide, then the assumption that unknowns are like the known ones.

Source: PostgreSQL docs, "Type Conversion": "Operators", "Functions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from sql.functions.registry import (
    Aggregate,
    Cast,
    CastContext,
    Function,
    Operator,
    Registry,
    WindowFunction,
)
from sql.types.base import SqlType
from sql.types.catalog import (
    ANY,
    ANYARRAY,
    ANYCOMPATIBLE,
    ANYCOMPATIBLEARRAY,
    ANYCOMPATIBLENONARRAY,
    ANYELEMENT,
    ANYNONARRAY,
    INT2VECTOR,
    OIDVECTOR,
    RECORD,
    TEXT,
    UNKNOWN,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Routine = Function | Aggregate | WindowFunction
Types = tuple[SqlType, ...]
Pathway = Literal["none", "relabel", "function", "array", "text"]
EXACT_FAMILY: Final = frozenset((ANYELEMENT, ANYARRAY, ANYNONARRAY))
COMPATIBLE_FAMILY: Final = frozenset((ANYCOMPATIBLE, ANYCOMPATIBLEARRAY, ANYCOMPATIBLENONARRAY))
POLYMORPHIC: Final = EXACT_FAMILY | COMPATIBLE_FAMILY
_RANK: Final = {"implicit": 0, "assignment": 1, "explicit": 2}
_ARRAYS: Final = frozenset((ANYARRAY, ANYCOMPATIBLEARRAY))
_NON_ARRAYS: Final = frozenset((ANYNONARRAY, ANYCOMPATIBLENONARRAY))


class Candidate(NamedTuple):
    """A routine with argument types laid out for this call's number of arguments.

    ``order`` maps parameter position to call position when names were given (-1: left to its
    default); ``expanded`` counts the variadic arguments (0: passed as they are); ``missing``
    defaults are left out.
    """

    routine: Routine | Operator
    types: Types
    order: tuple[int, ...] = ()
    expanded: int = 0
    missing: int = 0


def is_polymorphic(sql_type: SqlType) -> bool:
    """Tell whether a declared type is one of the any... family with consistency rules."""
    return sql_type in POLYMORPHIC


class Resolver:
    """Look-ups over one registry, with answers remembered (a registry never changes)."""

    __slots__ = ("_calls", "_operators", "_pathways", "registry")

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._pathways: dict[tuple[int, int, str], tuple[Pathway, Cast | None]] = {}
        self._operators: dict[tuple[str, int, int], Operator | str | None] = {}
        self._calls: dict[object, list[Candidate]] = {}

    def pathway(
        self, source: SqlType, target: SqlType, context: CastContext
    ) -> tuple[Pathway, Cast | None]:
        """Find how ``source`` becomes ``target`` in a context, as (method, cast)."""
        key = (source.oid, target.oid, context)
        found = self._pathways.get(key)
        if found is None:
            found = self._pathways[key] = self._find_pathway(source, target, context)
        return found

    def _find_pathway(
        self, source: SqlType, target: SqlType, context: CastContext
    ) -> tuple[Pathway, Cast | None]:
        if source is target:
            return "relabel", None
        cast = self.registry.find_cast(source, target)
        if cast is not None:
            if _RANK[context] < _RANK[cast.context]:
                return "none", None
            if cast.via_text:
                return "text", cast
            return ("relabel" if cast.function is None else "function"), cast
        if source.element is not None and target.element is not None:
            if target in (OIDVECTOR, INT2VECTOR):
                return "none", None
            method, _ = self.pathway(source.element, target.element, context)
            if method != "none":
                # An array of binary-compatible elements is itself binary compatible.
                return ("relabel" if method == "relabel" else "array"), None
            return "none", None
        if context != "implicit" and target.category == "S":
            return "text", None
        if context == "explicit" and source.category == "S":
            return "text", None
        return "none", None

    def can_coerce(self, source: SqlType, target: SqlType, context: CastContext) -> bool:
        """Tell whether one type coerces to the other; polymorphic targets accept anything here."""
        if source is target or target is ANY or target in POLYMORPHIC or source is UNKNOWN:
            return True
        if target is RECORD:
            return source is RECORD
        return self.pathway(source, target, context)[0] != "none"

    def operator(
        self, name: str, left: SqlType | None, right: SqlType
    ) -> Operator | Literal["ambiguous"] | None:
        """Choose the operator for these argument types.

        "ambiguous" or None when there is no one.
        """
        key = (name, -1 if left is None else left.oid, right.oid)
        try:
            return self._operators[key]  # type: ignore[return-value]
        except KeyError:
            found = self._find_operator(name, left, right)
            self._operators[key] = found
            return found

    def _find_operator(
        self, name: str, left: SqlType | None, right: SqlType
    ) -> Operator | Literal["ambiguous"] | None:
        known = [
            o for o in self.registry.operators.get(name, ()) if (o.left is None) == (left is None)
        ]
        if not known:
            return None
        exact_left, exact_right = left, right
        if left is not None and left is UNKNOWN and right is not UNKNOWN:
            exact_left = right
        elif left is not None and right is UNKNOWN and left is not UNKNOWN:
            exact_right = left
        for operator in known:
            if operator.left is exact_left and operator.right is exact_right:
                return operator
        actual = (right,) if left is None else (left, right)
        candidates = [
            Candidate(o, (o.right,) if o.left is None else (o.left, o.right)) for o in known
        ]
        best = self.choose(candidates, actual)
        if isinstance(best, Candidate):
            assert isinstance(best.routine, Operator)
            return best.routine
        return best

    def choose(
        self, candidates: list[Candidate], actual: Types
    ) -> Candidate | Literal["ambiguous"] | None:
        """Choose among candidates none of which matches exactly."""
        fitting = [
            c
            for c in candidates
            if all(self.can_coerce(a, d, "implicit") for a, d in zip(actual, c.types, strict=True))
            and self._polymorphic_ok(c.types, actual)
        ]
        if not fitting:
            return None
        if len(fitting) == 1:
            return fitting[0]
        return self._select(fitting, actual) or "ambiguous"

    def _polymorphic_ok(self, declared: Types, actual: Types) -> bool:
        return self.polymorphic_types(declared, actual) is not None

    def _select(self, candidates: list[Candidate], actual: Types) -> Candidate | None:
        unknowns = sum(1 for t in actual if t is UNKNOWN)
        candidates = _keep_best(
            candidates,
            lambda c: sum(
                a is d and a is not UNKNOWN for a, d in zip(actual, c.types, strict=True)
            ),
        )
        if len(candidates) == 1:
            return candidates[0]
        candidates = _keep_best(
            candidates,
            lambda c: sum(
                a is d or (a.category == d.category and d.preferred)
                for a, d in zip(actual, c.types, strict=True)
                if a is not UNKNOWN
            ),
        )
        if len(candidates) == 1:
            return candidates[0]
        if not unknowns:
            return None
        narrowed = _by_category(candidates, actual)
        if narrowed is not None:
            candidates = narrowed
            if len(candidates) == 1:
                return candidates[0]
        if unknowns < len(actual):
            known = {t for t in actual if t is not UNKNOWN}
            if len(known) == 1:
                only = known.pop()
                fitting = [
                    c
                    for c in candidates
                    if all(self.can_coerce(only, d, "implicit") for d in c.types)
                    and self._polymorphic_ok(c.types, (only,) * len(c.types))
                ]
                if len(fitting) == 1:
                    return fitting[0]
        return None

    def polymorphic_types(self, declared: Types, actual: Types) -> Types | None:
        """Replace polymorphic declared types by actual ones; None when they are inconsistent.

        Unknown arguments leave their place polymorphic-as-unknown (the caller coerces them to the
        family's element).
        """
        if not POLYMORPHIC.intersection(declared):
            return declared
        exact = self._family_element(declared, actual, EXACT_FAMILY, ANYARRAY, same=True)
        compatible = self._family_element(
            declared, actual, COMPATIBLE_FAMILY, ANYCOMPATIBLEARRAY, same=False
        )
        if isinstance(exact, str) or isinstance(compatible, str):
            return None
        result: list[SqlType] = []
        for d, a in zip(declared, actual, strict=True):
            family = exact if d in EXACT_FAMILY else compatible
            resolved = substitute(d, family)
            if resolved is None:
                return None
            if d in _ARRAYS and a is not UNKNOWN and a.element is None and a is not ANYARRAY:
                return None
            result.append(
                a if resolved is UNKNOWN and d in _ARRAYS and a is not UNKNOWN else resolved
            )
        return tuple(result)

    def _family_element(
        self,
        declared: Types,
        actual: Types,
        family: frozenset[SqlType],
        array: SqlType,
        *,
        same: bool,
    ) -> SqlType | Literal["inconsistent"]:
        elements: list[SqlType] = []
        for d, a in zip(declared, actual, strict=True):
            if d not in family or a is UNKNOWN:
                continue
            if d is array:
                if a.element is None:
                    return UNKNOWN if a is ANYARRAY else "inconsistent"
                elements.append(a.element)
            else:
                if d in _NON_ARRAYS and a.element is not None:
                    return "inconsistent"
                elements.append(a)
        if not elements:
            return UNKNOWN
        if same:
            return elements[0] if all(e is elements[0] for e in elements) else "inconsistent"
        common = self.common_type(elements)
        if common is None or not all(self.can_coerce(e, common, "implicit") for e in elements):
            return "inconsistent"
        return common

    def family_element(self, declared: Types, actual: Types, result: SqlType) -> SqlType:
        """Return the element type that a polymorphic result's family has in a resolved call."""
        if result in EXACT_FAMILY:
            found = self._family_element(declared, actual, EXACT_FAMILY, ANYARRAY, same=True)
        else:
            found = self._family_element(
                declared, actual, COMPATIBLE_FAMILY, ANYCOMPATIBLEARRAY, same=False
            )
        return UNKNOWN if isinstance(found, str) else found

    def common_type(self, types: Sequence[SqlType]) -> SqlType | None:
        """Select the common type of UNION, CASE and related constructs; None when there is none.

        All unknown gives text. Categories must agree; the result is the first type to which the
        others convert, moving to a preferred type or one that the current candidate coerces to (but
        not back).
        """
        best = self.common_type_or_conflict(types)
        return best if isinstance(best, SqlType) else None

    def common_type_or_conflict(
        self, types: Sequence[SqlType]
    ) -> SqlType | tuple[SqlType, SqlType, int]:
        """As ``common_type``, but a conflict is reported as (type, other type, other's index)."""
        best: SqlType = UNKNOWN
        for index, other in enumerate(types):
            if other is UNKNOWN or other is best:
                continue
            if best is UNKNOWN:
                best = other
            elif best.category != other.category:
                return best, other, index
            elif (
                not best.preferred
                and self.can_coerce(best, other, "implicit")
                and not self.can_coerce(other, best, "implicit")
            ):
                best = other
        return TEXT if best is UNKNOWN else best

    def function_candidates(
        self, name: str, count: int, names: tuple[str, ...], *, variadic: bool
    ) -> list[Candidate]:
        """List the routines of this name that can take ``count`` arguments."""
        key = (name, count, names, variadic)
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = self._find_candidates(name, count, names, variadic=variadic)
        return found

    def _find_candidates(
        self, name: str, count: int, names: tuple[str, ...], *, variadic: bool
    ) -> list[Candidate]:
        registry = self.registry
        routines: list[Routine] = [
            *registry.functions.get(name, ()),
            *registry.aggregates.get(name, ()),
            *registry.windows.get(name, ()),
        ]
        result: list[Candidate] = []
        for routine in routines:
            candidate = _lay_out(routine, count, names, variadic=variadic)
            if candidate is not None:
                result.append(candidate)
        return _without_shadowed(result)


def substitute(declared: SqlType, element: SqlType) -> SqlType | None:
    """Return the type a polymorphic declared type stands for, given its family's element type."""
    if declared not in POLYMORPHIC:
        return declared
    if element is UNKNOWN:
        return UNKNOWN
    return element.array if declared in _ARRAYS else element


def _keep_best(candidates: list[Candidate], score: object) -> list[Candidate]:
    scores = [score(c) for c in candidates]  # type: ignore[operator]
    best = max(scores)
    return [c for c, s in zip(candidates, scores, strict=True) if s == best]


def _by_category(candidates: list[Candidate], actual: Types) -> list[Candidate] | None:
    """Let the candidates vote on the category of each unknown argument.

    None when they do not agree.
    """
    wanted: list[tuple[str, bool] | None] = []
    for position, a in enumerate(actual):
        if a is not UNKNOWN:
            wanted.append(None)
            continue
        types = [c.types[position] for c in candidates]
        categories = {t.category for t in types}
        if "S" in categories:
            category = "S"
        elif len(categories) == 1:
            category = categories.pop()
        else:
            return None
        wanted.append((category, any(t.preferred and t.category == category for t in types)))
    kept: list[Candidate] = []
    for candidate in candidates:
        for want, declared in zip(wanted, candidate.types, strict=True):
            if want is None:
                continue
            if declared.category != want[0] or (want[1] and not declared.preferred):
                break
        else:
            kept.append(candidate)
    return kept or None


def _lay_out(
    routine: Routine, count: int, names: tuple[str, ...], *, variadic: bool
) -> Candidate | None:
    declared = routine.arg_types
    is_variadic = not isinstance(routine, WindowFunction) and routine.variadic
    defaults = 0 if isinstance(routine, Aggregate) else routine.defaults
    if any(names):
        return _lay_out_named(routine, count, names, defaults)
    if is_variadic and not variadic:
        last = declared[-1]
        fixed = len(declared) - 1
        if count > fixed:
            repeated = ANY if last is ANY else _variadic_element(last)
            expanded = count - fixed
            return Candidate(routine, declared[:-1] + (repeated,) * expanded, expanded=expanded)
        return None
    if variadic and not is_variadic:
        return None
    if len(declared) - defaults <= count <= len(declared):
        return Candidate(routine, declared[:count], missing=len(declared) - count)
    return None


def _variadic_element(array: SqlType) -> SqlType:
    if array is ANYARRAY:
        return ANYELEMENT
    if array is ANYCOMPATIBLEARRAY:
        return ANYCOMPATIBLE
    assert array.element is not None
    return array.element


def _lay_out_named(
    routine: Routine, count: int, names: tuple[str, ...], defaults: int
) -> Candidate | None:
    if not isinstance(routine, Function) or not routine.arg_names:
        return None
    total = len(routine.arg_types)
    positional = names.index(next(n for n in names if n))
    order: list[int] = list(range(positional))
    by_name = {n: i for i, n in enumerate(names) if n}
    for position in range(positional, total):
        given = by_name.pop(routine.arg_names[position], None)
        order.append(-1 if given is None else given)
    if by_name or count > total:
        return None
    while order and order[-1] == -1:
        order.pop()
    required = total - defaults
    if len(order) < required or any(call < 0 for call in order[:required]):
        return None
    types = routine.arg_types[: len(order)]
    # Types are put in the call's order, so that they match the actual ones one to one.
    in_call_order: list[SqlType] = [ANY] * count
    for parameter, call in enumerate(order):
        if call >= 0:
            in_call_order[call] = types[parameter]
    return Candidate(routine, tuple(in_call_order), order=tuple(order), missing=total - len(order))


def _without_shadowed(candidates: list[Candidate]) -> list[Candidate]:
    """Drop candidates with the same laid-out types as another that needs less expansion."""
    best: dict[Types, Candidate] = {}
    for candidate in candidates:
        other = best.get(candidate.types)
        if other is None or _effort(candidate) < _effort(other):
            best[candidate.types] = candidate
    return list(best.values())


def _effort(candidate: Candidate) -> tuple[bool, int]:
    return (candidate.expanded > 0, candidate.missing)
