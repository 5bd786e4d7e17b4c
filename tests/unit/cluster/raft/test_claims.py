"""``docs/raft_claims.md``: every claim has a test and a function that exist, and its line is right.

``GOLDEN_REWRITE=1`` renews the lines.
"""

import ast
import importlib
import inspect
import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "raft_claims.md"
ROW = re.compile(r"^\| ([\d., fig]+) \| (.+) \| `(test_\w+)` \| `([\w.]+)` \| (\S+) \|$", re.M)


def rows() -> list[tuple[str, ...]]:
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def paper_tests() -> dict[str, str]:
    """Return the docstrings of the paper's tests."""
    tree = ast.parse((Path(__file__).parent / "test_paper.py").read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def line_of(pointer: str) -> str:
    """Return ``file:line`` of a function that is named by its path."""
    parts = pointer.split(".")
    found: object = importlib.import_module(".".join(parts[:3]))
    for name in parts[3:]:
        found = getattr(found, name)
    assert callable(found), pointer
    code = inspect.unwrap(found)
    return f"{parts[2]}.py:{inspect.getsourcelines(code)[1]}"


def test_every_row_is_read() -> None:
    table = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| 5"]
    assert len(table) > 25
    assert len(rows()) == len(
        [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d", line)]
    )


def test_every_claim_has_its_test_and_every_test_its_claim() -> None:
    claimed = [row[2] for row in rows()]
    assert len(set(claimed)) == len(claimed), "a test stands for two claims"
    assert set(claimed) == set(paper_tests())


def test_test_and_claim_name_the_same_section() -> None:
    docstrings = paper_tests()
    for section, _, test, _, _ in rows():
        number = section.split(",")[0]
        assert test.startswith(f"test_{number.replace('.', '_')}_"), test
        assert re.search(rf"§{re.escape(number)}\b|[Ff]igure \d", docstrings[test]), test


def test_the_lines_are_right() -> None:
    text = PAGE.read_text(encoding="utf-8")
    wrong = []
    for _, _, test, pointer, line in rows():
        actual = line_of(pointer)
        if actual != line:
            wrong.append(f"{test}: {pointer} is at {actual}, the page says {line}")
            text = text.replace(
                f"`{test}` | `{pointer}` | {line} |", f"`{test}` | `{pointer}` | {actual} |"
            )
    if wrong and os.environ.get("GOLDEN_REWRITE") == "1":
        PAGE.write_text(text, encoding="utf-8")
        wrong = []
    assert not wrong, "GOLDEN_REWRITE=1 renews them: " + "; ".join(wrong)
