"""Dispatch over DDL and administrative statements is exhaustive: mypy proves it.

On a copy of the tree, each ``case`` of the two dispatchers is removed in turn and the type check
must fail with the ``assert_never`` complaint. ``make test`` takes one case of each, ``make
test-all`` all of them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DISPATCHERS = {
    "nodedb/session/utility.py": "nodedb.session.utility",
    "nodedb/catalog/ddl/execute.py": "nodedb.catalog.ddl.execute",
}
CASE = re.compile(r"^        case (?!_)[^\n]*:\n(?:            [^\n]*\n|\n)*", re.MULTILINE)


def cases(path: str) -> list[re.Match[str]]:
    """Return the source blocks of a dispatcher's cases."""
    text = (ROOT / path).read_text(encoding="utf-8")
    body = text[: text.index("assert_never(")]
    return [match for match in CASE.finditer(body) if "()" in match[0].split("\n", 1)[0]]


def run_mypy(root: Path, module: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Type-check one module of a tree."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(cache), "-m", module]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the three packages."""
    root = tmp_path_factory.mktemp("tree")
    for package in ("nodedb", "sql", "cluster"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return root


def check_removal(copy: Path, path: str, match: re.Match[str], cache: Path) -> None:
    original = (ROOT / path).read_text(encoding="utf-8")
    (copy / path).write_text(original[: match.start()] + original[match.end() :], encoding="utf-8")
    try:
        result = run_mypy(copy, DISPATCHERS[path], cache)
    finally:
        (copy / path).write_text(original, encoding="utf-8")
    name = match[0].split("\n", 1)[0].strip()
    assert result.returncode != 0, f"mypy accepts {path} without `{name}`"
    assert "assert_never" in result.stdout, result.stdout


@pytest.mark.parametrize("path", sorted(DISPATCHERS))
def test_a_missing_handler_fails_the_type_check(
    path: str, copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = cases(path)
    assert len(found) > 20, found
    check_removal(copy, path, found[len(found) // 2], tmp_path_factory.getbasetemp() / "mypy")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("path", sorted(DISPATCHERS))
def test_every_missing_handler_fails_the_type_check(
    path: str, copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for match in cases(path):
        check_removal(copy, path, match, tmp_path_factory.getbasetemp() / "mypy")
