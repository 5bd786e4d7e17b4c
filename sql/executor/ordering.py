"""Sorting of rows by precomputed key tuples, with PostgreSQL's NULL placement.

``SortSpec`` holds per key: the type's sort-key function (None: natural order), descending,
NULLs first. Consecutive keys of one direction are compared as one tuple; each change of
direction costs one more stable pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SortSpec:
    """One sort key's rules."""

    to_key: Callable[[Any], Any] | None
    descending: bool
    nulls_first: bool


def sorted_positions(keys: Sequence[tuple[Any, ...]], specs: Sequence[SortSpec]) -> list[int]:
    """Return row numbers in sorted order; stable. ``keys`` has one tuple of raw datums per row."""
    order = list(range(len(keys)))
    if len(keys) < 2 or not specs:
        return order
    groups: list[list[int]] = []
    for number, spec in enumerate(specs):
        if groups and specs[groups[-1][0]].descending == spec.descending:
            groups[-1].append(number)
        else:
            groups.append([number])
    for group in reversed(groups):
        columns = [_comparable(keys, number, specs[number]) for number in group]
        column = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        order.sort(key=column.__getitem__, reverse=specs[group[0]].descending)
    return order


def _comparable(keys: Sequence[tuple[Any, ...]], number: int, spec: SortSpec) -> list[Any]:
    """Return one column as values that Python orders; NULLs go to an end by a leading flag."""
    column = [key[number] for key in keys]
    to_key = spec.to_key
    if None in column:
        first = spec.nulls_first != spec.descending
        null = (0,) if first else (2,)
        if to_key is None:
            return [null if v is None else (1, v) for v in column]
        return [null if v is None else (1, to_key(v)) for v in column]
    return column if to_key is None else [to_key(v) for v in column]
