"""What clients saw of list-append transactions: the input of the checker.

Every value is appended to one key by one transaction at most, so a list that is read tells which
appends it holds and in which order they went in. Times are of one monotonic clock: ``began`` is
taken before the first byte of the transaction is sent, ``ended`` after its last answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Outcome = Literal["ok", "aborted", "unknown"]
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Append:
    """Append a value to a key's list."""

    key: int
    value: int

    def __str__(self) -> str:
        return f"append {self.key} {self.value}"


@dataclass(frozen=True, slots=True)
class Read:
    """Read a key's whole list; a key without a row has the empty one."""

    key: int
    values: tuple[int, ...]

    def __str__(self) -> str:
        shown = self.values if len(self.values) <= SHOWN_VALUES else self.values[-SHOWN_VALUES:]
        dots = "" if len(shown) == len(self.values) else f"... {len(self.values)} values, last "
        return f"read {self.key} [{dots}{' '.join(map(str, shown))}]"


SHOWN_VALUES: Final = 12
Operation = Append | Read


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as its client saw it; ``unknown``: COMMIT was sent, no answer came.

    The operations of one that was aborted are those that were answered, and the last one sent.
    """

    number: int
    session: int
    began: float
    ended: float
    outcome: Outcome
    operations: tuple[Operation, ...]

    @property
    def name(self) -> str:
        """Return how reports call it."""
        return f"T{self.number}"

    def __str__(self) -> str:
        steps = "; ".join(map(str, self.operations))
        end = "..." if self.ended == NEVER else f"{self.ended:.6f}"
        return (
            f"{self.name} session {self.session} [{self.began:.6f}, {end}] {self.outcome}: {steps}"
        )


@dataclass(frozen=True, slots=True)
class Shares:
    """How many transactions of a history ended how."""

    committed: int
    aborted: int
    unknown: int

    @classmethod
    def of(cls, history: Sequence[Transaction]) -> Shares:
        """Count a history."""
        outcomes = [transaction.outcome for transaction in history]
        return cls(outcomes.count("ok"), outcomes.count("aborted"), outcomes.count("unknown"))

    @property
    def committed_share(self) -> float:
        """Return the share of the transactions that committed, 0 without any."""
        whole = self.committed + self.aborted + self.unknown
        return self.committed / whole if whole else 0.0

    def __str__(self) -> str:
        whole = max(1, self.committed + self.aborted + self.unknown)
        text = (
            f"{self.committed} committed ({self.committed / whole:.0%}),"
            f" {self.aborted} aborted ({self.aborted / whole:.0%})"
        )
        return text + f", {self.unknown} unknown" if self.unknown else text
