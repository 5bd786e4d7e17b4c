"""Every join method gives the same multiset of rows.

For every kind of join and random inputs with NULLs.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from sql.binder import bound as b
from sql.catalog.descriptor import Index, IndexKey
from sql.executor.join import (
    DependentJoinNode,
    HashJoinNode,
    IndexJoinNode,
    JoinNode,
    NestedLoopNode,
)
from sql.executor.node import SLOTS, RowMeter, read_all
from sql.functions.builtin import REGISTRY
from sql.planner import joins
from sql.planner.plan import NOTHING, Planner
from sql.planner.rules import HANDLERS
from sql.planner.semijoin import apply_semi_joins
from sql.types.catalog import BOOL, INT4
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner, finish

KINDS = ("inner", "left", "right", "full", "semi", "anti")


def scan(table: Any, first_id: int) -> b.TableScan:
    columns = tuple(b.OutputColumn(first_id + c.position, c.name, c.type) for c in table.columns)
    return b.TableScan(table, columns, table.name)


def operator(name: str) -> Any:
    return next(o for o in REGISTRY.operators[name] if o.left is INT4 and o.right is INT4)


def compare(name: str, left: int, right: int) -> b.CallExpr:
    found = operator(name)
    args = (b.ColumnVar(left, INT4), b.ColumnVar(right, INT4))
    return b.CallExpr(found.function, args, BOOL, found)


def reference(kind: str, left: list[Any], right: list[Any]) -> list[Any]:
    """Join on equal second and ascending first fields, by nested loops over Python rows."""

    def matches(one: Any, two: Any) -> bool:
        return one[1] is not None and one[1] == two[1] and one[0] < two[0]

    if kind == "semi":
        return [one for one in left if any(matches(one, two) for two in right)]
    if kind == "anti":
        return [one for one in left if not any(matches(one, two) for two in right)]
    out = [one + two for one in left for two in right if matches(one, two)]
    if kind in {"left", "full"}:
        out += [(*one, None, None) for one in left if not any(matches(one, two) for two in right)]
    if kind in {"right", "full"}:
        out += [(None, None, *two) for two in right if not any(matches(one, two) for one in left)]
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_methods_agree(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    print("seed", seed)
    index = Index(id=900, name="r_k", index_id=2, keys=(IndexKey(position=1),))
    columns = [("n", INT4, {"not_null": True}), ("k", INT4)]
    left = make_table("l", columns, ["n"], table_id=20001)
    right = make_table("r", columns, ["n"], table_id=20002, indexes=[index])
    runner = Runner(left, right)
    data = [
        [(n, rng.choice([None, 1, 2, 3, 4])) for n in range(rng.randrange(1, 30))] for _ in range(2)
    ]
    runner.load("l", data[0])
    runner.load("r", data[1])
    expected = sorted(reference(kind, *data), key=repr)
    seen = set()
    for method in ("hash", "loop", "index", "dependent"):
        rows, node_kind = run(runner, kind, method, left, right)
        if rows is not None:
            seen.add(node_kind)
            assert sorted(rows, key=repr) == expected, method
    assert seen >= {HashJoinNode, NestedLoopNode}
    if kind not in {"right", "full"}:
        assert seen == {HashJoinNode, NestedLoopNode, IndexJoinNode, DependentJoinNode}


def run(runner: Runner, kind: Any, method: str, left: Any, right: Any) -> Any:
    planner = Planner(runner.catalog, HANDLERS, apply_semi_joins)
    l_scan, r_scan = scan(left, 10), scan(right, 20)
    l_node = planner.plan(l_scan, [], {10, 11}, NOTHING)
    r_node = planner.plan(r_scan, [], {20, 21}, NOTHING)
    conditions: list[Any] = [compare("=", 11, 21), compare("<", 10, 20)]
    output = [10, 11] if kind in {"semi", "anti"} else [10, 11, 20, 21]
    node: JoinNode | None
    if method == "loop":
        node = joins._hash_or_loop(planner, kind, l_node, r_node, [], [], conditions, output)
    elif method == "dependent":
        if kind in {"right", "full"}:
            return None, None
        dependent = planner.plan(b.FilterPlan(r_scan, compare("=", 11, 21)), [], {20, 21}, NOTHING)
        node = joins._dependent(planner, kind, l_node, dependent, conditions[1:], output, {11})
    else:
        key = joins.equality_sides(conditions[0], {10, 11}, {20, 21})
        assert key is not None
        if method == "hash":
            node = joins._hash_or_loop(
                planner, kind, l_node, r_node, [key], conditions[:1], conditions[1:], output
            )
        else:
            l_node.rows = 1.0
            node = joins._try_index_join(
                planner, kind, l_node, r_node, [key], conditions, output, r_scan
            )
    if node is None:
        return None, None
    planner.compile_stages()
    context = runner.context()
    context.cache[SLOTS] = {}
    order = [node.layout.index(c) for c in output]
    rows = finish(read_all(node, context, RowMeter(context)))
    return [tuple(row[at] for at in order) for row in rows], type(node)
