"""Generated loops of joins and aggregation, on top of the expression compiler.

Join probes are generators ``probe(rows, context, table, matched)`` over the left rows that
yield batches; ``table`` maps keys to lists of right rows (hash join) or is the list of right
rows (nested loop); ``matched`` collects ``id`` of right rows with a partner (full joins).
Output tuples pick just the columns that someone above uses.

Aggregation keeps one list per group: the group's values, then one slot per aggregate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sql.binder import bound as b
from sql.executor.node import BATCH_ROWS
from sql.planner.codegen import Compiled, SubPlanner, Value, Writer, positions, seal
from sql.types.base import SqlType
from sql.types.compare import hash_key, sort_key
from sql.types.numeric import add_exactly

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

PART_ROWS: Final = 4096
PAIRS_MAX: Final = 16_384
JoinKind = Literal["inner", "left", "right", "full", "semi", "anti"]


@dataclass(frozen=True, slots=True)
class JoinKey:
    """One equality of a hash join, with the functions that make equal values equal keys."""

    left: Any
    right: Any
    type: SqlType
    null_safe: bool = False
    """IS NOT DISTINCT FROM: NULL is a key like any other."""


def key_codes(writer: Writer, expressions: Sequence[tuple[Any, SqlType]]) -> list[Value]:
    """Emit hash keys of expressions."""
    values = []
    for expression, sql_type in expressions:
        value = writer.emit(expression)
        to_key = hash_key(sql_type)
        if to_key is not None:
            call = f"{writer.constant(to_key)}({value.code})"
            code = f"None if {value.code} is None else {call}" if value.nullable else call
            value = writer.assign(code, nullable=value.nullable)
        values.append(value)
    return values


def join_key_code(values: Sequence[Value]) -> str:
    """Return the expression of a whole key."""
    if len(values) == 1:
        return values[0].code
    return f"({', '.join(v.code for v in values)},)"


def _null_condition(values: Sequence[Value], keys: Sequence[JoinKey]) -> str:
    tests = [
        f"{v.code} is None"
        for v, k in zip(values, keys, strict=True)
        if v.nullable and not k.null_safe
    ]
    return " or ".join(tests)


def build_function(
    keys: Sequence[JoinKey], layout: Sequence[int], plan_subquery: SubPlanner | None
) -> Compiled:
    """Compile ``build(rows, context, table)``: enters the right rows under their keys.

    NULL keys are left out.
    """
    writer = Writer(plan_subquery, columns=positions(layout))
    writer.line("get = table.get")
    with writer.block("for r in rows:"):
        values = key_codes(writer, [(k.right, k.type) for k in keys])
        nulls = _null_condition(values, keys)
        if nulls:
            writer.line(f"if {nulls}: continue")
        writer.line(f"k = {join_key_code(values)}")
        writer.line("m = get(k)")
        writer.line("if m is None: table[k] = [r]")
        writer.line("else: m.append(r)")
    return seal(writer, "build(rows, context, table)")


@dataclass(frozen=True, slots=True)
class JoinShape:
    """What a probe loop needs to know.

    The join, both layouts, the residual condition, the output columns.
    """

    kind: JoinKind
    keys: tuple[JoinKey, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    residual: Any
    output: tuple[int, ...]
    paired: bool = False
    """``table`` has the candidates of each left row beside it (index joins)."""


def _output_code(shape: JoinShape, *, null_left: bool = False, null_right: bool = False) -> str:
    if shape.output == shape.left and not null_left:
        return "l"
    columns = {}
    for column_id, code in positions(shape.left, "l").items():
        columns[column_id] = "None" if null_left else code
    for column_id, code in positions(shape.right, "r").items():
        columns[column_id] = "None" if null_right else code
    if shape.output == shape.left + shape.right and not null_left and not null_right:
        return "l + r"
    codes = [columns[column_id] for column_id in shape.output]
    return f"({', '.join(codes)},)" if codes else "()"


def probe_function(shape: JoinShape, plan_subquery: SubPlanner | None) -> Compiled:
    """Compile the probe loop of a join; without keys it is a nested loop over ``table``.

    Long lists of matches are gone through in parts. After ``PAIRS_MAX`` pairs the loop yields
    what it has, be it nothing: the executor then may pause.
    """
    columns = {**positions(shape.right, "r"), **positions(shape.left, "l")}
    writer = Writer(plan_subquery, columns=columns)
    writer.line("out = []")
    writer.line("append = out.append")
    writer.line("pairs = 0")
    if shape.keys:
        writer.line("get = table.get")
    header = "for l, m in zip(rows, table):" if shape.paired else "for l in rows:"
    with writer.block(header):
        matches = "m" if shape.keys or shape.paired else "table"
        if shape.keys:
            values = key_codes(writer, [(k.left, k.type) for k in shape.keys])
            nulls = _null_condition(values, shape.keys)
            look = f"get({join_key_code(values)}, ())"
            writer.line(f"m = () if {nulls} else {look}" if nulls else f"m = {look}")
        _write_matches(writer, shape, matches)
        _write_yield(writer, f"len(out) >= {BATCH_ROWS:d}")
    writer.line("if out: yield out")
    return seal(writer, "probe(rows, context, table, matched)")


def _write_yield(writer: Writer, test: str) -> None:
    with writer.block(f"if {test}:"):
        writer.line("yield out")
        writer.line("out = []")
        writer.line("append = out.append")
        writer.line("pairs = 0")


def _write_matches(writer: Writer, shape: JoinShape, matches: str) -> None:
    kind = shape.kind
    single = kind in {"semi", "anti"}
    if single and shape.residual is None:
        test = matches if kind == "semi" else f"not {matches}"
        writer.line(f"if {test}: append({_output_code(shape)})")
        return
    tracks = single or kind in {"left", "full"}
    if tracks:
        writer.line("found = False")
    cut = writer.constant(cut_matches)
    parts = f"({matches},) if len({matches}) < {PART_ROWS:d} else {cut}({matches})"
    with writer.block(f"for part in {parts}:"):
        with writer.block("for r in part:"):
            if shape.residual is not None:
                writer.guard(shape.residual, "continue")
            if tracks:
                writer.line("found = True")
            if kind in {"full", "right"}:
                writer.line("matched.add(id(r))")
            if kind != "anti":
                writer.line(f"append({_output_code(shape)})")
            if single:
                writer.line("break")
        if single:
            writer.line("if found: break")
        writer.line("pairs += len(part)")
        _write_yield(writer, f"pairs >= {PAIRS_MAX:d}")
    if kind == "anti":
        writer.line(f"if not found: append({_output_code(shape)})")
    elif tracks and kind != "semi":
        writer.line(f"if not found: append({_output_code(shape, null_right=True)})")


def cut_matches(rows: list[Any]) -> list[list[Any]]:
    """Cut a long list of matches into parts."""
    return [rows[at : at + PART_ROWS] for at in range(0, len(rows), PART_ROWS)]


def unmatched_function(shape: JoinShape) -> Compiled:
    """Compile ``f(rows, matched) -> list``: right rows without partner, extended with NULLs."""
    writer = Writer(None)
    code = _output_code(shape, null_left=True)
    writer.line(f"return [{code} for r in rows if id(r) not in matched]")
    return seal(writer, "unmatched(rows, matched)")


# Aggregation.


FAST_CODES: Final = {
    "count_star",
    "count",
    "sum_int",
    "sum_numeric",
    "avg_int",
    "avg_numeric",
    "min",
    "max",
    "bool_and",
    "bool_or",
}


_AVERAGES: Final = {"sum_int": "avg_int", "sum_numeric": "avg_numeric"}


def sums_of_averages(calls: Sequence[b.AggregateCall]) -> dict[int, int]:
    """Map sums to averages of the same column: these keep the sum anyway."""
    averages: dict[tuple[str, int], int] = {}
    for number, call in enumerate(calls):
        column = _plain_column(call)
        if column is not None and call.aggregate.code in _AVERAGES.values():
            averages[call.aggregate.code, column] = number
    found: dict[int, int] = {}
    for number, call in enumerate(calls):
        column = _plain_column(call)
        wanted = _AVERAGES.get(call.aggregate.code)
        if column is not None and wanted is not None and (wanted, column) in averages:
            found[number] = averages[wanted, column]
    return found


def _plain_column(call: b.AggregateCall) -> int | None:
    """Return the column whose every value an aggregate takes, None for all other calls."""
    if call.filter is not None or call.distinct or call.order_by or len(call.args) != 1:
        return None
    argument = call.args[0]
    return argument.id if isinstance(argument, b.ColumnVar) else None


def write_step(writer: Writer, call: b.AggregateCall, slot: int) -> None:
    """Write what adds the current row ``r`` to slot ``slot`` of the group's list ``s``."""
    if call.filter is not None:
        value = writer.emit(call.filter)
        with writer.block(f"if {value.code}:"):
            _write_unfiltered(writer, call, slot)
    else:
        _write_unfiltered(writer, call, slot)


def _write_unfiltered(writer: Writer, call: b.AggregateCall, slot: int) -> None:
    target = f"s[{slot:d}]"
    code = call.aggregate.code
    if call.aggregate.ordered_set or call.distinct or call.order_by:
        _write_collect(writer, call, target)
        return
    if code == "count_star":
        writer.line(f"{target} += 1")
        return
    args = [writer.emit(arg) for arg in call.args]
    tests = " and ".join(dict.fromkeys(f"{a.code} is not None" for a in args if a.nullable))
    if not call.aggregate.strict:
        tests = ""
    if code not in FAST_CODES:
        step = writer.constant(call.aggregate.step)
        line = f"{target} = {step}({', '.join([target, *(a.code for a in args)])})"
        writer.line(f"if {tests}: {line}" if tests else line)
        return
    value = args[0].code
    with writer.block(f"if {tests}:" if tests else "if True:"):
        if code == "count":
            writer.line(f"{target} += 1")
            return
        old = writer.temp()
        writer.line(f"{old} = {target}")
        if code == "sum_int":
            writer.line(f"{target} = {value} if {old} is None else {old} + {value}")
        elif code == "sum_numeric":
            add = writer.constant(add_exactly)
            writer.line(f"{target} = {value} if {old} is None else {add}({old}, {value})")
        elif code in {"avg_int", "avg_numeric"}:
            writer.line(f"if {old} is None: {target} = [1, {value}]")
            with writer.block("else:"):
                writer.line(f"{old}[0] += 1")
                if code == "avg_int":
                    writer.line(f"{old}[1] += {value}")
                else:
                    add = writer.constant(add_exactly)
                    writer.line(f"{old}[1] = {add}({old}[1], {value})")
        elif code in {"bool_and", "bool_or"}:
            word = code.removeprefix("bool_")
            writer.line(f"{target} = {value} if {old} is None else ({old} {word} {value})")
        else:
            # The later of equal values wins: 24:00:00 after 1 day, 1.00 after 1.0.
            sign = "<=" if code == "min" else ">="
            to_key = sort_key(call.args[0].type)
            key = "" if to_key is None else writer.constant(to_key)
            writer.line(
                f"if {old} is None or {key}({value}) {sign} {key}({old}): {target} = {value}"
            )


def _write_collect(writer: Writer, call: b.AggregateCall, target: str) -> None:
    """Keep (arguments, sort keys): sorted and stepped through when the group ends."""
    args = [writer.emit(arg) for arg in call.args]
    tests = " and ".join(dict.fromkeys(f"{a.code} is not None" for a in args if a.nullable))
    if not call.aggregate.strict:
        tests = ""
    with writer.block(f"if {tests}:" if tests else "if True:"):
        keys = [writer.emit(item.expression) for item in call.order_by]
        entry = f"({', '.join(v.code for v in [*args, *keys])},)"
        if call.distinct:
            hashed = key_codes_of(writer, args, [a.type for a in call.args])
            writer.line(f"{target}.setdefault(({', '.join(hashed)},), {entry})")
        else:
            writer.line(f"{target}.append({entry})")


def key_codes_of(writer: Writer, values: Sequence[Value], types: Sequence[SqlType]) -> list[str]:
    """Return hash-key codes of values that are already emitted."""
    codes = []
    for value, sql_type in zip(values, types, strict=True):
        to_key = hash_key(sql_type)
        if to_key is None:
            codes.append(value.code)
        else:
            codes.append(
                f"(None if {value.code} is None else {writer.constant(to_key)}({value.code}))"
            )
    return codes


def accumulate_function(
    groups: Sequence[Any | None],
    calls: Sequence[b.AggregateCall],
    layout: Sequence[int],
    plan_subquery: SubPlanner | None,
    *,
    conditions: Sequence[Any] = (),
    non_null: frozenset[int] = frozenset(),
    sums: Container[int] = (),
) -> Compiled:
    """Compile ``accumulate(rows, context, groups, create)``.

    ``groups`` maps keys to lists; a None among the group expressions is a column outside the
    grouping set. Without group expressions the only group's key is (). ``sums`` of averages are
    left out: see ``sums_of_averages``.
    """
    writer = Writer(plan_subquery, non_null, positions(layout))
    present = [g for g in groups if g is not None]
    if not present:
        writer.line("s = groups.get(())")
        writer.line(
            f"if s is None: s = groups[()] = [{', '.join(['None'] * len(groups))}] + create()"
        )
    else:
        writer.line("get = groups.get")
    count = len(groups)
    steps = [n for n in range(len(calls)) if n not in sums]
    if not present and not conditions:
        counts = [
            n for n in steps if calls[n].aggregate.code == "count_star" and calls[n].filter is None
        ]
        for number in counts:
            writer.line(f"s[{count + number:d}] += len(rows)")
        steps = [n for n in steps if n not in counts]
        if not steps:
            return seal(writer, "accumulate(rows, context, groups, create)")
    with writer.block("for r in rows:"):
        for condition in conditions:
            writer.guard(condition, "continue")
        if present:
            values = [writer.emit(g) for g in present]
            codes = key_codes_of(writer, values, [g.type for g in present])
            key = codes[0] if len(codes) == 1 else f"({', '.join(codes)},)"
            names = iter(values)
            items = ["None" if g is None else next(names).code for g in groups]
            writer.line(f"k = {key}")
            writer.line("s = get(k)")
            writer.line(f"if s is None: s = groups[k] = [{', '.join(items)}] + create()")
        for number in steps:
            write_step(writer, calls[number], count + number)
    return seal(writer, "accumulate(rows, context, groups, create)")


def key_rows_function(
    expressions: Sequence[Any],
    layout: Sequence[int],
    plan_subquery: SubPlanner | None,
    *,
    hashed: bool,
) -> Compiled:
    """Compile ``f(rows, context) -> list`` of key tuples; ``hashed`` applies hash keys to them."""
    writer = Writer(plan_subquery, columns=positions(layout))
    writer.line("out = []")
    with writer.block("for r in rows:"):
        values = [writer.emit(e) for e in expressions]
        codes = (
            key_codes_of(writer, values, [e.type for e in expressions])
            if hashed
            else [v.code for v in values]
        )
        writer.line(f"out.append(({', '.join(codes)},))" if codes else "out.append(())")
    writer.line("return out")
    return seal(writer, "keys(rows, context)")
