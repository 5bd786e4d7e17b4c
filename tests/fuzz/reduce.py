"""Delta reduction of a statement's text: the fewest tokens that still show the same difference."""

import re
from collections.abc import Callable

_TOKEN = re.compile(r"[Ee]?'(?:[^']|'')*'|[A-Za-z_0-9.]+|::|<>|<=|>=|\|\||\S")
PROBES_MAX = 400


def tokens_of(text: str) -> list[str]:
    """Split a statement; comments and dollar quotes do not occur in what we generate."""
    return _TOKEN.findall(text)


def _groups(tokens: list[str]) -> list[tuple[int, int]]:
    """Return the (start, end) of parenthesised groups, the largest first."""
    stack, found = [], []
    for index, token in enumerate(tokens):
        if token == "(":
            stack.append(index)
        elif token == ")" and stack:
            found.append((stack.pop(), index + 1))
    return sorted(found, key=lambda group: group[0] - group[1])


def reduce_text(text: str, shows: Callable[[str], bool]) -> str:
    """Return a shorter statement for which ``shows`` still holds."""
    tokens = tokens_of(text)
    probes = 0

    def holds(candidate: list[str]) -> bool:
        nonlocal probes
        probes += 1
        return probes <= PROBES_MAX and shows(" ".join(candidate))

    if not holds(tokens):
        return text
    changed = True
    while changed and probes < PROBES_MAX:
        changed = False
        for start, end in _groups(tokens):
            for shorter in (["1"], ["null"], tokens[start + 1 : end - 1]):
                candidate = tokens[:start] + shorter + tokens[end:]
                if len(candidate) < len(tokens) and holds(candidate):
                    tokens, changed = candidate, True
                    break
            if changed:
                break
        if changed:
            continue
        size = max(len(tokens) // 2, 1)
        while size and not changed:
            for start in range(0, len(tokens), max(size // 2, 1)):
                candidate = tokens[:start] + tokens[start + size :]
                if candidate and len(candidate) < len(tokens) and holds(candidate):
                    tokens, changed = candidate, True
                    break
            size //= 2
    return " ".join(tokens)
