"""Spelling hints for columns that do not exist, by the rules of PostgreSQL's error reports."""

from __future__ import annotations

from typing import Final

DISTANCE_MAX: Final = 3


def edit_distance(left: str, right: str) -> int:
    """Return the number of insertions, deletions and substitutions between two names."""
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return previous[-1]


class _Best:
    __slots__ = ("distance", "first", "second")

    def __init__(self) -> None:
        self.distance = DISTANCE_MAX + 1
        self.first: tuple[str, str] | None = None
        self.second: tuple[str, str] | None = None

    def consider(self, table: str, column: str, wanted: str, penalty: int) -> None:
        if penalty > self.distance:
            return
        distance = edit_distance(column, wanted)
        # A suggestion that differs in more than half of the letters would be ridiculous.
        if distance > len(wanted) // 2:
            return
        distance += penalty
        if distance < self.distance:
            self.distance, self.first, self.second = distance, (table, column), None
        elif distance == self.distance:
            if self.second is not None:
                # Too many equally good ones: forget them, only a better one may still come.
                self.first = self.second = None
                self.distance = distance - 1
            elif self.first is not None:
                self.second = (table, column)


def column_hint(entries: list[tuple[str, list[str]]], qualifier: str, name: str) -> str:
    """Return the HINT for a missing column, or "" when there is nothing near.

    ``entries`` are (relation alias, column names) of every relation of the query levels in sight.
    """
    best = _Best()
    for alias, columns in entries:
        penalty = edit_distance(qualifier, alias) if qualifier else 0
        if penalty == 0 and name in columns:
            return (
                f'There is a column named "{name}" in table "{alias}", '
                "but it cannot be referenced from this part of the query."
            )
        for column in columns:
            best.consider(alias, column, name, penalty)
    if best.first is None:
        return ""
    table, column = best.first
    if best.second is None:
        return f'Perhaps you meant to reference the column "{table}.{column}".'
    other_table, other_column = best.second
    return (
        f'Perhaps you meant to reference the column "{table}.{column}" '
        f'or the column "{other_table}.{other_column}".'
    )
