"""Sub-queries at run time: what compiled expressions call.

A ``SubPlan`` without free columns is evaluated once per execution and its result kept in
``context.cache``; a correlated one runs again for each outer row, whose values the compiled
expression has put in the slots before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sql.errors import CardinalityViolation
from sql.executor.node import HASH_ENTRY_BYTES, RowMeter, read_all, row_bytes
from sql.planner.runtime import MISSING, nest_arrays
from sql.types.array import EMPTY_ARRAY, ArrayValue
from sql.types.record import RecordValue

if TYPE_CHECKING:
    from sql.binder.bound import OutputColumn
    from sql.executor.node import Node
    from sql.functions.context import ExecutionContext
    from sql.types.base import Datum, Row

Test = Callable[["Row", "ExecutionContext"], Any]


class HashedResult:
    """The rows of an uncorrelated IN sub-query, hashed.

    With what three-valued logic needs of NULLs.
    """

    __slots__ = ("is_empty", "keys", "partial")

    def __init__(self) -> None:
        self.is_empty = True
        self.keys: set[Any] = set()
        self.partial: list[tuple[Any, ...]] = []
        """Keys with a NULL: they may match as unknown."""

    def add(self, rows: list[Row], hash_keys: list[Callable[[Datum], Any] | None]) -> None:
        """Enter rows."""
        self.is_empty = False
        for row in rows:
            key = normalise(row, hash_keys)
            if None in key:
                if key not in self.partial[:64]:
                    self.partial.append(key)
            else:
                self.keys.add(key if len(key) > 1 else key[0])

    def probe(self, key: tuple[Any, ...]) -> bool | None:
        """Return whether ``key`` (normalised) is among the rows; None: unknown."""
        if self.is_empty:
            return False
        if None not in key:
            if (key if len(key) > 1 else key[0]) in self.keys:
                return True
            candidates = iter(self.partial)
        else:
            whole = (k if isinstance(k, tuple) else (k,) for k in self.keys)
            if len(key) == 1:
                return None
            candidates = iter([*self.partial, *whole])
        for other in candidates:
            if all(a is None or o is None or a == o for a, o in zip(key, other, strict=True)):
                return None
        return False


def normalise(row: Row, hash_keys: list[Callable[[Datum], Any] | None]) -> tuple[Any, ...]:
    """Apply hash-key functions to the non-NULL values of a row."""
    return tuple(
        value if value is None or to_key is None else to_key(value)
        for value, to_key in zip(row, hash_keys, strict=True)
    )


class SubPlan:
    """One sub-query of an expression, planned."""

    __slots__ = (
        "_names",
        "_types",
        "columns",
        "correlated",
        "hash_keys",
        "is_async",
        "kind",
        "node",
        "number",
        "test",
        "tests_async",
    )

    def __init__(
        self,
        node: Node,
        kind: str,
        *,
        correlated: bool,
        columns: Sequence[OutputColumn],
        test: Test | None = None,
        tests_async: bool = False,
        hash_keys: list[Callable[[Datum], Any] | None] | None = None,
    ) -> None:
        self.node = node
        self.kind = kind
        self.correlated = correlated
        self.columns = tuple(columns)
        self._types = tuple(column.type for column in columns)
        self._names = tuple(column.name for column in columns)
        self.test = test
        self.tests_async = tests_async
        self.hash_keys = hash_keys
        self.number = 0

    async def evaluate(self, context: ExecutionContext) -> Any:
        """Return the value for the current slots."""
        if self.correlated:
            return await getattr(self, self.kind)(context)
        if self.kind in {"any", "all"}:
            return await self._compare_cached(context)
        value = context.cache.get(self, MISSING)
        if value is MISSING:
            value = context.cache[self] = await getattr(self, self.kind)(context)
        return value

    async def hashed_result(self, context: ExecutionContext) -> HashedResult:
        """Return the hashed rows, made once per execution.

        The memory stays charged until its end.
        """
        value: HashedResult | None = context.cache.get(self)
        if value is None:
            value = context.cache[self] = await self._hash_rows(context)
        return value

    async def _hash_rows(self, context: ExecutionContext) -> HashedResult:
        assert self.hash_keys is not None
        result = HashedResult()
        meter = RowMeter(context)
        operator = self.node.open(context)
        try:
            while rows := await operator.next_batch():
                known = len(result.keys)
                result.add(rows, self.hash_keys)
                added = len(result.keys) - known
                meter.add_bytes(added * (row_bytes(rows) + HASH_ENTRY_BYTES))
                await context.checkpoint()
        finally:
            operator.close()
        return result

    async def scalar(self, context: ExecutionContext) -> Any:
        """Return the only row's value (a record for several columns), None without rows."""
        operator = self.node.open(context)
        try:
            batch = await operator.next_batch()
            if not batch:
                return None
            if len(batch) > 1 or await operator.next_batch():
                raise CardinalityViolation(
                    "more than one row returned by a subquery used as an expression"
                )
        finally:
            operator.close()
        row = batch[0]
        return row[0] if len(self.columns) == 1 else RecordValue(row, self._types, self._names)

    async def exists(self, context: ExecutionContext) -> bool:
        """Tell whether there is a row."""
        operator = self.node.open(context)
        try:
            return bool(await operator.next_batch())
        finally:
            operator.close()

    async def array(self, context: ExecutionContext) -> ArrayValue:
        """Return the first column as an array."""
        meter = RowMeter(context)
        rows = await read_all(self.node, context, meter)
        meter.release()
        values = [row[0] for row in rows]
        if values and isinstance(values[0], ArrayValue):
            return nest_arrays(values)
        return ArrayValue(tuple(values)) if values else EMPTY_ARRAY

    async def any(self, context: ExecutionContext) -> bool | None:
        """Return three-valued OR of the test over the rows."""
        return await self._fold(context, stop=True)

    async def all(self, context: ExecutionContext) -> bool | None:
        """Return three-valued AND of the test over the rows."""
        return await self._fold(context, stop=False)

    async def _fold(self, context: ExecutionContext, *, stop: bool) -> bool | None:
        operator = self.node.open(context)
        result: bool | None = not stop
        try:
            while batch := await operator.next_batch():
                answer = await self._test_rows(batch, context, stop=stop)
                if answer is stop:
                    return stop
                if answer is None:
                    result = None
        finally:
            operator.close()
        return result

    async def _test_rows(
        self, rows: list[Row], context: ExecutionContext, *, stop: bool
    ) -> bool | None:
        assert self.test is not None
        result: bool | None = not stop
        for row in rows:
            answer = self.test(row, context)
            value: bool | None = await answer if self.tests_async else answer
            if value is stop:
                return stop
            if value is None:
                result = None
        return result

    async def _compare_cached(self, context: ExecutionContext) -> bool | None:
        rows = context.cache.get(self)
        if rows is None:
            rows = context.cache[self] = await read_all(self.node, context, RowMeter(context))
        return await self._test_rows(rows, context, stop=self.kind == "any")
