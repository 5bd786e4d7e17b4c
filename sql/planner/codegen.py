"""Bound expressions to Python functions: the only place that compiles source text.

The source consists of fixed words, numbers made here and templates of built-in functions;
constants, names and whatever else a user wrote travel in the namespace (``c0``, ``c1``...),
never in the text. The code is statements over local names, so that AND, OR, CASE and COALESCE
evaluate lazily; strict functions answer None without a call. A column that is not in the given
layout belongs to an enclosing query and is read from the slots (``sql.executor.node``).

Shapes: batch function ``f(rows, context) -> list``, row function ``f(row, context)``, value
function ``f(context)``. A function is ``async def`` when it must await (sequences, sub-
queries): ``Compiled.is_async``. Raises StatementTooComplex (54001) for expressions nested
deeper than ``DEPTH_MAX``.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.errors import StatementTooComplex
from sql.executor.node import SLOTS
from sql.functions.inline import INLINE_GLOBALS
from sql.planner import runtime
from sql.planner.subplan import SubPlan
from sql.planner.walk import free_columns
from sql.types.array import ArrayValue
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.compare import hash_key, sort_key
from sql.types.io import text_input, text_output
from sql.types.record import RecordValue
from sql.types.typmod import apply_typmod

if TYPE_CHECKING:
    from sql.functions.registry import Function

DEPTH_MAX: Final = 250
INDENT_MAX: Final = 80
OR_CHAIN_MAX: Final = 8
_SAFE_BUILTINS: Final = {
    name: getattr(builtins, name)
    for name in (
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "chr",
        "dict",
        "divmod",
        "enumerate",
        "float",
        "hash",
        "id",
        "int",
        "isinstance",
        "iter",
        "len",
        "list",
        "max",
        "min",
        "next",
        "ord",
        "pow",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "type",
        "zip",
        "frozenset",
        "ValueError",
        "OverflowError",
        "TypeError",
        "KeyError",
        "ZeroDivisionError",
        "ArithmeticError",
    )
}
SubPlanner = Callable[[b.SubqueryExpr], "SubPlan"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled function with its source, for tests and for reading."""

    call: Callable[..., Any]
    is_async: bool
    source: str
    sub_plans: tuple[SubPlan, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LocalExpr:
    """A value that already stands in a local name; used inside generated code only."""

    code: str
    type: SqlType
    nullable: bool = True
    typmod: int = NO_TYPMOD


@dataclass(frozen=True, slots=True)
class Value:
    """An emitted expression: a simple name (or literal), and whether it may be None."""

    code: str
    nullable: bool = True


NULL: Final = Value("None")
TRUE: Final = Value("True", nullable=False)
FALSE: Final = Value("False", nullable=False)


@dataclass(slots=True)
class Writer:
    """Source under construction.

    Lines, namespace, names of columns already loaded in this block.
    """

    plan_subquery: SubPlanner | None
    non_null: frozenset[int] = frozenset()
    columns: dict[int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    namespace: dict[str, Any] = field(default_factory=dict)
    sub_plans: list[SubPlan] = field(default_factory=list)
    indent: int = 1
    is_async: bool = False
    uses_slots: bool = False
    uses_parameters: bool = False
    _temps: int = 0
    _depth: int = 0
    _loaded: dict[int, Value] = field(default_factory=dict)
    _constants: dict[int, str] = field(default_factory=dict)
    case_operands: list[Value] = field(default_factory=list)
    cast_elements: list[Value] = field(default_factory=list)

    # Lines, names and blocks.

    def line(self, text: str) -> None:
        """Append a line at the current indentation."""
        if self.indent > INDENT_MAX:
            raise StatementTooComplex("stack depth limit exceeded")
        self.lines.append("    " * self.indent + text)

    def temp(self) -> str:
        """Return a fresh local name."""
        self._temps += 1
        return f"t{self._temps}"

    def constant(self, value: Any) -> str:
        """Return the namespace name of an object."""
        name = self._constants.get(id(value))
        if name is None:
            name = f"c{len(self._constants)}"
            self._constants[id(value)] = name
            self.namespace[name] = value
        return name

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Write an indented block; what it loads is unknown after it."""
        self.line(header)
        loaded = dict(self._loaded)
        self.indent += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.indent -= 1
        self._loaded = loaded

    def assign(self, code: str, *, nullable: bool = True) -> Value:
        """Give an expression a local name."""
        name = self.temp()
        self.line(f"{name} = {code}")
        return Value(name, nullable)

    def forget_columns(self) -> None:
        """Load columns anew, because the row variable changed."""
        self._loaded = {}

    # Expressions.

    def emit(self, expression: Any) -> Value:
        """Write the statements that compute an expression and return its value."""
        handler = _HANDLERS[type(expression)]
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise StatementTooComplex("stack depth limit exceeded")
        value = handler(self, expression)
        self._depth -= 1
        return value

    def emit_tuple(self, expressions: Iterable[Any]) -> str:
        """Return a tuple display of the emitted expressions."""
        codes = [self.emit(expression).code for expression in expressions]
        return "()" if not codes else f"({', '.join(codes)},)"

    def column(self, column: b.ColumnVar) -> Value:
        """Load a column of the row, or of an enclosing query."""
        value = self._loaded.get(column.id)
        if value is None:
            code = self.columns.get(column.id)
            if code is None:
                self.uses_slots = True
                code = f"o[{column.id:d}]"
            value = self.assign(code, nullable=column.id not in self.non_null)
            self._loaded[column.id] = value
        return value

    def guard(self, condition: Any, otherwise: str) -> None:
        """Write ``otherwise`` (continue, return False...) for when the condition is not true."""
        if isinstance(condition, b.BoolExpr) and condition.kind == "and":
            for operand in condition.operands:
                self.guard(operand, otherwise)
            return
        if isinstance(condition, b.CallExpr) and _is_plain(condition.function) and condition.args:
            args = [self.emit(arg) for arg in condition.args]
            call = self.call_code(condition.function, args, condition)
            nulls = _null_tests(args) if condition.function.strict else []
            self.line(f"if {' or '.join([*nulls, f'not {call}'])}: {otherwise}")
            return
        value = self.emit(condition)
        if value != TRUE:
            self.line(f"if not {value.code}: {otherwise}")

    def call(
        self, function: Function, args: Sequence[Value], expression: Any, types: tuple[SqlType, ...]
    ) -> Value:
        """Write a function call with PostgreSQL's strictness."""
        nulls = _null_tests(args) if function.strict else []
        if "None" in [a.code for a in args] and function.strict:
            return NULL
        code = self.call_code(function, args, expression, types)
        if nulls:
            return self.assign(f"None if {' or '.join(nulls)} else {code}")
        return self.assign(code, nullable=not _never_null(function))

    def call_code(
        self,
        function: Function,
        args: Sequence[Value],
        expression: Any,
        types: tuple[SqlType, ...] = (),
    ) -> str:
        """Return the call as source, NULL tests left to the caller."""
        if function.inline:
            template = function.inline
            for name in _template_globals(template):
                self.namespace[name] = INLINE_GLOBALS[name]
            filled = template.format(
                *(a.code for a in args), t=self.temp() if "{t}" in template else ""
            )
            return f"({filled})"
        codes = [a.code for a in args]
        if function.needs_context:
            codes.insert(0, "context")
        if function.needs_types:
            types = types or tuple(a.type for a in expression.args)
            codes.append(f"types={self.constant(types)}")
        code = f"{self.constant(function.implementation)}({', '.join(codes)})"
        if function.is_async:
            self.is_async = True
            return f"(await {code})"
        return code


def _is_plain(function: Function) -> bool:
    return function.strict and not function.is_async and not function.returns_set


def _never_null(function: Function) -> bool:
    """Tell whether the template of non-NULL values never answers NULL."""
    return (
        bool(function.inline)
        and "None" not in function.inline
        and (function.return_type.name in _TOTAL_TYPES)
    )


_TOTAL_TYPES: Final = {"bool", "int2", "int4", "int8", "float8", "text"}


def _null_tests(args: Sequence[Value]) -> list[str]:
    names = dict.fromkeys(a.code for a in args if a.nullable)
    return [f"{name} is None" for name in names]


def _template_globals(template: str) -> set[str]:
    cached = _TEMPLATE_NAMES.get(template)
    if cached is None:
        words = "".join(ch if ch.isalnum() or ch == "_" else " " for ch in template).split()
        cached = _TEMPLATE_NAMES[template] = {w for w in words if w in INLINE_GLOBALS}
    return cached


_TEMPLATE_NAMES: dict[str, set[str]] = {}


# One function per class of bound expression.


def _const(writer: Writer, expression: b.Const) -> Value:
    value = expression.value
    if value is None:
        return NULL
    if value is True:
        return TRUE
    if value is False:
        return FALSE
    return Value(writer.constant(value), nullable=False)


def _parameter(writer: Writer, expression: b.ParameterRef) -> Value:
    writer.uses_parameters = True
    return writer.assign(f"p[{expression.index:d}]")


def _column(writer: Writer, expression: b.ColumnVar) -> Value:
    return writer.column(expression)


def _local(_writer: Writer, expression: LocalExpr) -> Value:
    return Value(expression.code, expression.nullable)


def _call(writer: Writer, expression: b.CallExpr) -> Value:
    """Chains such as ``a || b || c`` nest to the left: they are followed without recursion."""
    spine = [expression]
    while spine[-1].args and isinstance(spine[-1].args[0], b.CallExpr):
        spine.append(spine[-1].args[0])
    value: Value | None = None
    for call in reversed(spine):
        args = [] if value is None else [value]
        args += [writer.emit(arg) for arg in call.args[len(args) :]]
        types = tuple(arg.type for arg in call.args)
        value = writer.call(call.function, args, call, types)
    assert value is not None
    return value


def _cast(writer: Writer, expression: b.CastExpr) -> Value:
    value = writer.emit(expression.operand)
    if value.code == "None":
        return NULL
    source = expression.operand.type
    if expression.method == "function":
        assert expression.cast is not None
        assert expression.cast.function is not None
        value = writer.call(expression.cast.function, [value], expression, (source,))
    elif expression.method == "text":
        value = _cast_by_text(writer, expression, value)
    elif expression.method == "array":
        assert expression.element is not None
        element = row_function(
            _cast_element_body(expression.element), {}, writer.plan_subquery, single=True
        )
        convert = writer.constant(element.call)
        code = f"{writer.constant(runtime.cast_array)}({convert}, {value.code}, context)"
        value = writer.assign(_unless_null(value, code), nullable=value.nullable)
    if expression.typmod != NO_TYPMOD:
        apply = writer.constant(apply_typmod)
        target = writer.constant(expression.type)
        code = f"{apply}({target}, {value.code}, {expression.typmod:d}, {expression.explicit!r})"
        value = writer.assign(_unless_null(value, code), nullable=value.nullable)
    return value


def _cast_element_body(element: b.CastExpr) -> Any:
    return [element]


def _cast_by_text(writer: Writer, expression: b.CastExpr, value: Value) -> Value:
    write = writer.constant(text_output)
    target = writer.constant(expression.type)
    operand = expression.operand
    if type(operand) is b.Const and operand.span == expression.span and operand.span.start >= 0:
        # A literal that waited for the session's settings: its errors have its place.
        literal = writer.constant(runtime.read_literal)
        place = writer.constant(operand.span)
        code = f"{literal}({target}, context.format, {value.code}, {place})"
        return writer.assign(_unless_null(value, code), nullable=value.nullable)
    read = writer.constant(text_input)
    source = writer.constant(operand.type)
    code = f"{read}({target}, context.format)({write}({source}, context.format)({value.code}), -1)"
    return writer.assign(_unless_null(value, code), nullable=value.nullable)


def _unless_null(value: Value, code: str) -> str:
    return f"None if {value.code} is None else {code}" if value.nullable else code


def _cast_element(writer: Writer, _expression: b.CastElement) -> Value:
    return Value("row") if not writer.cast_elements else writer.cast_elements[-1]


def _bool(writer: Writer, expression: b.BoolExpr) -> Value:
    if expression.kind == "not":
        value = writer.emit(expression.operands[0])
        return writer.assign(_unless_null(value, f"not {value.code}"), nullable=value.nullable)
    is_and = expression.kind == "and"
    first = writer.emit(expression.operands[0])
    result = writer.temp()
    writer.line(f"{result} = {first.code}")
    nullable = first.nullable
    for operand in expression.operands[1:]:
        if not nullable:
            header = f"if {result}:" if is_and else f"if not {result}:"
        else:
            header = f"if {result} is not {not is_and}:"
        with writer.block(header):
            value = writer.emit(operand)
            if not nullable:
                writer.line(f"{result} = {value.code}")
            elif is_and:
                writer.line(
                    f"{result} = {value.code} if {result} or {value.code} is False else None"
                )
            else:
                writer.line(
                    f"{result} = {value.code} if {result} is False or {value.code} else None"
                )
        nullable = nullable or value.nullable
    return Value(result, nullable)


def _null_test(writer: Writer, expression: b.NullTestExpr) -> Value:
    value = writer.emit(expression.operand)
    if expression.row:
        test = runtime.row_is_not_null if expression.negated else runtime.row_is_null
        return writer.assign(f"{writer.constant(test)}({value.code})", nullable=False)
    if not value.nullable:
        return TRUE if expression.negated else FALSE
    word = "is not" if expression.negated else "is"
    return writer.assign(f"{value.code} {word} None", nullable=False)


_BOOLEAN_WORDS: Final = {"true": "True", "false": "False", "unknown": "None"}


def _boolean_test(writer: Writer, expression: b.BooleanTestExpr) -> Value:
    value = writer.emit(expression.operand)
    word = "is not" if expression.negated else "is"
    return writer.assign(f"{value.code} {word} {_BOOLEAN_WORDS[expression.value]}", nullable=False)


def _distinct(writer: Writer, expression: b.DistinctExpr) -> Value:
    left, right = writer.emit(expression.left), writer.emit(expression.right)
    function = expression.equals.function
    call = writer.call_code(
        function, [left, right], expression, (expression.left.type, expression.right.type)
    )
    tests = " or ".join(_null_tests([left, right]))
    both = f"{left.code} is {right.code}"
    if expression.negated:
        code = f"({both} if {tests} else {call})" if tests else call
    else:
        code = f"(not {both} if {tests} else not {call})" if tests else f"not {call}"
    return writer.assign(code, nullable=False)


def _case(writer: Writer, expression: b.CaseExpr) -> Value:
    if expression.operand is not None:
        writer.case_operands.append(writer.emit(expression.operand))
    result, done = writer.temp(), writer.temp()
    writer.line(f"{done} = False")
    nullable = expression.default is None
    for number, (condition, consequence) in enumerate(expression.whens):
        with writer.block(f"if not {done}:" if number else "if True:"):
            test = writer.emit(condition)
            with writer.block(f"if {test.code}:"):
                value = writer.emit(consequence)
                nullable = nullable or value.nullable
                writer.line(f"{result} = {value.code}")
                writer.line(f"{done} = True")
    with writer.block(f"if not {done}:"):
        value = NULL if expression.default is None else writer.emit(expression.default)
        nullable = nullable or value.nullable
        writer.line(f"{result} = {value.code}")
    if expression.operand is not None:
        writer.case_operands.pop()
    return Value(result, nullable)


def _case_operand(writer: Writer, _expression: b.CaseOperand) -> Value:
    return writer.case_operands[-1]


def _coalesce(writer: Writer, expression: b.CoalesceExpr) -> Value:
    first = writer.emit(expression.args[0])
    if not first.nullable or len(expression.args) == 1:
        return first
    result = writer.temp()
    writer.line(f"{result} = {first.code}")
    nullable = True
    for arg in expression.args[1:]:
        with writer.block(f"if {result} is None:"):
            value = writer.emit(arg)
            writer.line(f"{result} = {value.code}")
        if not value.nullable:
            nullable = False
            break
    return Value(result, nullable)


def _null_if(writer: Writer, expression: b.NullIfExpr) -> Value:
    left = writer.emit(expression.left)
    test = writer.emit(expression.comparison)
    return writer.assign(f"None if {test.code} else {left.code}")


def _min_max(writer: Writer, expression: b.MinMaxExpr) -> Value:
    args = writer.emit_tuple(expression.args)
    pick = writer.constant(runtime.greatest if expression.kind == "greatest" else runtime.least)
    key = sort_key(expression.type)
    key_code = "None" if key is None else writer.constant(key)
    return writer.assign(f"{pick}({key_code}, {args})")


def _array(writer: Writer, expression: b.ArrayExpr) -> Value:
    elements = writer.emit_tuple(expression.elements)
    make = writer.constant(runtime.nest_arrays if expression.nested else ArrayValue)
    return writer.assign(f"{make}({elements})", nullable=False)


def _row(writer: Writer, expression: b.RowExpr) -> Value:
    types = writer.constant(tuple(item.type for item in expression.items))
    names = writer.constant(expression.names)
    make = writer.constant(RecordValue)
    values = writer.emit_tuple(expression.items)
    return writer.assign(f"{make}({values}, {types}, {names})", nullable=False)


def _field(writer: Writer, expression: b.FieldExpr) -> Value:
    value = writer.emit(expression.operand)
    return writer.assign(_unless_null(value, f"{value.code}[{expression.index:d}]"))


def _subscript(writer: Writer, expression: b.SubscriptExpr) -> Value:
    array = writer.emit(expression.operand)
    parts = []
    is_slice = any(s[2] for s in expression.subscripts)
    for lower, upper, sliced in expression.subscripts:
        low = NULL if lower is None else writer.emit(lower)
        up = NULL if upper is None else writer.emit(upper)
        if not is_slice:
            parts.append(low.code if lower is not None else up.code)
        elif sliced:
            parts.append(f"({low.code}, {up.code}, {lower is not None!r}, {upper is not None!r})")
        else:  # In a slice, a plain subscript n means 1:n.
            code = low.code if lower is not None else up.code
            parts.append(f"(1, {code}, True, True)")
    function = writer.constant(runtime.array_slice if is_slice else runtime.array_element)
    code = f"{function}({array.code}, ({', '.join(parts)},))"
    return writer.assign(_unless_null(array, code))


def _scalar_array(writer: Writer, expression: b.ScalarArrayExpr) -> Value:
    operator = expression.operator
    hashed = _constant_set(expression)
    if hashed is not None:
        return _emit_in_set(writer, expression, *hashed)
    array = expression.array
    function = operator.function
    if (
        isinstance(array, b.ArrayExpr)
        and not array.nested
        and 0 < len(array.elements) <= OR_CHAIN_MAX
    ):
        left = writer.emit(expression.left)
        local = LocalExpr(left.code, expression.left.type, left.nullable)
        calls = tuple(
            b.CallExpr(function, (local, element), expression.type, operator)  # type: ignore[arg-type]
            for element in array.elements
        )
        if len(calls) == 1:
            return writer.emit(calls[0])
        kind: Any = "or" if expression.use_any else "and"
        return writer.emit(b.BoolExpr(kind, calls, expression.type))
    left, right = writer.emit(expression.left), writer.emit(array)
    fold = writer.constant(runtime.compare_any if expression.use_any else runtime.compare_all)
    callee = _plain_callable(writer, expression)
    return writer.assign(f"{fold}({callee}, {left.code}, {right.code}, {function.strict!r})")


def _plain_callable(writer: Writer, expression: b.ScalarArrayExpr) -> str:
    function = expression.operator.function
    name = writer.constant(function.implementation)
    context = "context, " if function.needs_context else ""
    types = ""
    if function.needs_types:
        element = expression.array.type.element or expression.array.type
        types = f", types={writer.constant((expression.left.type, element))}"
    if not context and not types:
        return name
    return f"lambda a, b: {name}({context}a, b{types})"


def constant_elements(array: Any) -> list[Any] | None:
    """Return the elements of a constant array expression, or None."""
    if isinstance(array, b.Const) and isinstance(array.value, ArrayValue):
        return list(array.value.elements)
    if (
        isinstance(array, b.ArrayExpr)
        and not array.nested
        and all(isinstance(e, b.Const) for e in array.elements)
    ):
        return [e.value for e in array.elements]  # type: ignore[union-attr]
    return None


def _constant_set(expression: b.ScalarArrayExpr) -> tuple[frozenset[Any], bool] | None:
    """Hash a constant IN list: (keys, has NULL)."""
    operator = expression.operator
    wanted = "=" if expression.use_any else "<>"
    if (
        operator.comparison != wanted
        or operator.left is None
        or operator.left is not operator.right
    ):
        return None
    elements = constant_elements(expression.array)
    if elements is None or len(elements) < 2 or not is_hashable(operator.left):
        return None
    to_key = hash_key(operator.left)
    keys = frozenset(e if to_key is None else to_key(e) for e in elements if e is not None)
    return keys, None in elements


def _emit_in_set(
    writer: Writer,
    expression: b.ScalarArrayExpr,
    keys: frozenset[Any],
    has_null: bool,  # noqa: FBT001
) -> Value:
    left = writer.emit(expression.left)
    to_key = hash_key(expression.operator.right)
    key = left.code if to_key is None else f"{writer.constant(to_key)}({left.code})"
    name = writer.constant(keys)
    if has_null:
        hit = "True" if expression.use_any else "False"
        code = f"{hit} if {key} in {name} else None"
        code = f"None if {left.code} is None else ({code})" if left.nullable else code
        return writer.assign(code)
    word = "in" if expression.use_any else "not in"
    return writer.assign(_unless_null(left, f"{key} {word} {name}"), nullable=left.nullable)


_UNHASHABLE: Final = {"json", "unknown", "record", "void"}


def is_hashable(sql_type: SqlType) -> bool:
    """Tell whether equality of the type is equality of its hash keys."""
    return sql_type.name not in _UNHASHABLE and sql_type.kind == "b"


def _row_compare(writer: Writer, expression: b.RowCompareExpr) -> Value:
    bool_type = expression.type
    lefts = [writer.emit(item) for item in expression.left]
    rights = [writer.emit(item) for item in expression.right]
    result = writer.temp()
    done = writer.temp()
    writer.line(f"{done} = False")
    strict = expression.comparison in {"<", ">"}
    last = len(lefts) - 1
    for at, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        a = LocalExpr(left.code, expression.left[at].type, left.nullable)
        z = LocalExpr(right.code, expression.right[at].type, right.nullable)
        with writer.block(f"if not {done}:"):
            equal = writer.emit(b.CallExpr(expression.equals[at].function, (a, z), bool_type))  # type: ignore[arg-type]
            with writer.block(f"if {equal.code}:"):
                if at == last:
                    writer.line(f"{result} = {not strict}")
            with writer.block("else:"):
                decide = expression.less[at]
                same = decide.comparison[:1] == expression.comparison[:1]
                sides = (a, z) if same else (z, a)
                decided = writer.emit(b.CallExpr(decide.function, sides, bool_type))  # type: ignore[arg-type]
                writer.line(f"{result} = {decided.code}")
                writer.line(f"{done} = True")
    return Value(result)


def _subquery(writer: Writer, expression: b.SubqueryExpr) -> Value:
    assert writer.plan_subquery is not None, "a sub-query where none may stand"
    sub_plan = writer.plan_subquery(expression)
    writer.sub_plans.append(sub_plan)
    writer.is_async = True
    name = writer.constant(sub_plan)
    if sub_plan.hash_keys is not None:
        return _hashed_any(writer, expression, sub_plan, name)
    outer = free_columns((expression.plan, expression.test))
    for column_id in sorted(outer):
        code = writer.columns.get(column_id)
        if code is not None:
            writer.uses_slots = True
            writer.line(f"o[{column_id:d}] = {code}")
    if sub_plan.correlated or expression.kind in {"any", "all"}:
        return writer.assign(f"await {name}.evaluate(context)")
    result = writer.temp()
    writer.line(f"{result} = cached({name}, missing)")
    with writer.block(f"if {result} is missing:"):
        writer.line(f"{result} = await {name}.evaluate(context)")
    return Value(result, nullable=expression.kind == "scalar")


def _hashed_any(writer: Writer, expression: b.SubqueryExpr, sub_plan: SubPlan, name: str) -> Value:
    assert sub_plan.hash_keys is not None
    codes = []
    for (left, _, _), to_key in zip(expression.equalities, sub_plan.hash_keys, strict=True):
        value = writer.emit(left)
        if to_key is not None:
            value = writer.assign(_unless_null(value, f"{writer.constant(to_key)}({value.code})"))
        codes.append(value.code)
    hashed = writer.temp()
    writer.line(f"{hashed} = cached({name})")
    with writer.block(f"if {hashed} is None:"):
        writer.line(f"{hashed} = await {name}.hashed_result(context)")
    if len(codes) == 1:
        return writer.assign(
            f"(True if {codes[0]} in {hashed}.keys else (None if {hashed}.partial else False)) "
            f"if {codes[0]} is not None else (False if {hashed}.is_empty else None)"
        )
    return writer.assign(f"{hashed}.probe(({', '.join(codes)},))")


_HANDLERS: Final[dict[type, Callable[[Writer, Any], Value]]] = {
    b.Const: _const,
    b.ParameterRef: _parameter,
    b.ColumnVar: _column,
    LocalExpr: _local,
    b.CallExpr: _call,
    b.CastExpr: _cast,
    b.CollateExpr: lambda writer, expression: writer.emit(expression.operand),
    b.CastElement: _cast_element,
    b.BoolExpr: _bool,
    b.NullTestExpr: _null_test,
    b.BooleanTestExpr: _boolean_test,
    b.DistinctExpr: _distinct,
    b.CaseExpr: _case,
    b.CaseOperand: _case_operand,
    b.CoalesceExpr: _coalesce,
    b.NullIfExpr: _null_if,
    b.MinMaxExpr: _min_max,
    b.ArrayExpr: _array,
    b.RowExpr: _row,
    b.FieldExpr: _field,
    b.SubscriptExpr: _subscript,
    b.ScalarArrayExpr: _scalar_array,
    b.RowCompareExpr: _row_compare,
    b.SubqueryExpr: _subquery,
}


# Whole functions.


def finish(writer: Writer, header: str, body: Callable[[], None]) -> Compiled:
    """Run ``body`` to write the function's lines, then compile it.

    ``header`` is ``name(arguments)``.
    """
    body()
    return seal(writer, header)


def seal(writer: Writer, header: str) -> Compiled:
    """Compile what was written as one function."""
    prelude = []
    if writer.uses_slots:
        prelude.append(f"    o = context.cache[{writer.constant(SLOTS)}]")
    if writer.uses_parameters:
        prelude.append("    p = context.parameters")
    if writer.sub_plans:
        from_cache = "    cached = context.cache.get"
        prelude.append(from_cache)
    word = "async def" if writer.is_async else "def"
    source = "\n".join([f"{word} {header}:", *prelude, *writer.lines, ""])
    namespace = {**writer.namespace, "__builtins__": _SAFE_BUILTINS, "missing": runtime.MISSING}
    exec(compile(source, "<plan>", "exec"), namespace)  # noqa: S102
    # Taken out, for a function that stands in its own globals is garbage that only the collector
    # finds, and plans come and go by the thousand.
    function = namespace.pop(header.partition("(")[0])
    return Compiled(function, writer.is_async, source, tuple(writer.sub_plans))


def positions(layout: Sequence[int], row: str = "r") -> dict[int, str]:
    """Map column ids to subscripts of a row variable."""
    return {column_id: f"{row}[{at:d}]" for at, column_id in enumerate(layout)}


def row_function(
    expressions: Sequence[Any],
    columns: dict[int, str],
    plan_subquery: SubPlanner | None,
    *,
    single: bool = False,
    non_null: frozenset[int] = frozenset(),
) -> Compiled:
    """Compile ``f(row, context)``.

    A tuple of the expressions, or with ``single`` the only one's value.
    """
    writer = Writer(plan_subquery, non_null, columns)
    if single:
        writer.line(f"return {writer.emit(expressions[0]).code}")
    else:
        writer.line(f"return {writer.emit_tuple(expressions)}")
    return seal(writer, "compute(row, context)")


def value_function(
    expressions: Sequence[Any], plan_subquery: SubPlanner | None, *, single: bool = False
) -> Compiled:
    """Compile ``f(context)`` over constants, parameters and slots only."""
    writer = Writer(plan_subquery)
    if single:
        writer.line(f"return {writer.emit(expressions[0]).code}")
    else:
        writer.line(f"return {writer.emit_tuple(expressions)}")
    return seal(writer, "compute(context)")


def condition_function(
    condition: Any, columns: dict[int, str], plan_subquery: SubPlanner | None
) -> Compiled:
    """Compile ``f(row, context) -> bool``: whether the condition is true."""
    writer = Writer(plan_subquery, columns=columns)
    writer.guard(condition, "return False")
    writer.line("return True")
    return seal(writer, "check(row, context)")


def batch_function(
    conditions: Sequence[Any],
    expressions: Sequence[Any] | None,
    layout: Sequence[int],
    plan_subquery: SubPlanner | None,
    non_null: frozenset[int] = frozenset(),
) -> Compiled:
    """Compile ``f(rows, context) -> list``.

    Rows that satisfy all conditions, projected if expressions are given.
    """
    writer = Writer(plan_subquery, non_null, positions(layout))
    simple = _itemgetter_source(writer, conditions, expressions)
    if simple is not None:
        writer.line(simple)
        return seal(writer, "process(rows, context)")
    writer.line("out = []")
    writer.line("append = out.append")
    with writer.block("for r in rows:"):
        for condition in conditions:
            writer.guard(condition, "continue")
        writer.line(f"append({'r' if expressions is None else writer.emit_tuple(expressions)})")
    writer.line("return out")
    return seal(writer, "process(rows, context)")


def _itemgetter_source(
    writer: Writer, conditions: Sequence[Any], expressions: Sequence[Any] | None
) -> str | None:
    """Plain column picking is a comprehension."""
    if conditions or expressions is None:
        return None
    codes = []
    for expression in expressions:
        if not isinstance(expression, b.ColumnVar) or expression.id not in writer.columns:
            return None
        codes.append(writer.columns[expression.id])
    display = f"({', '.join(codes)},)" if codes else "()"
    return f"return [{display} for r in rows]"
