"""Histories written down by hand, one transaction a line, for tests of the checker.

    a 0-1 ok: append 1 10; read 1 [10]

is session a's transaction that began at 0 and ended at 1. ``b 2-`` never got its answer.
"""

import re
from typing import cast

from tests.serializability.history import NEVER, Append, Operation, Outcome, Read, Transaction

_LINE = re.compile(r"(\w) ([\d.]+)-([\d.]*) (ok|aborted|unknown):(.*)")
_READ = re.compile(r"read (\d+) \[([\d ]*)\]")
_APPEND = re.compile(r"append (\d+) (\d+)")


def history(text: str) -> list[Transaction]:
    """Read a history; transactions are numbered from 1."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return [_transaction(number, line) for number, line in enumerate(lines, 1)]


def _transaction(number: int, line: str) -> Transaction:
    found = _LINE.fullmatch(line)
    assert found is not None, line
    session, began, ended, outcome, steps = found.groups()
    operations = tuple(_operation(step.strip()) for step in steps.split(";") if step.strip())
    return Transaction(
        number,
        ord(session),
        float(began),
        float(ended) if ended else NEVER,
        cast("Outcome", outcome),
        operations,
    )


def _operation(step: str) -> Operation:
    if found := _READ.fullmatch(step):
        return Read(int(found[1]), tuple(map(int, found[2].split())))
    found = _APPEND.fullmatch(step)
    assert found is not None, step
    return Append(int(found[1]), int(found[2]))
