"""The repository is as we say: what no linter checks about text, links, names and tables.

Ratchets are numbers that may only fall. A new rule that old code breaks starts as one; whoever
makes a count fall lowers the number here, so that it cannot rise again.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodedb.config import NodeConfig
from sql import errors as sql_errors

ROOT = Path(__file__).parents[2]
LINE_MAX = 100
FILE_LINES_MAX = 800
PACKAGES = ("nodedb", "sql", "cluster")

# Files longer than FILE_LINES_MAX that are not tables; each may only shrink to below it.
LONG_FILES = {
    "nodedb/session/session.py",
    "sql/binder/bound.py",
    "sql/planner/codegen.py",
    "sql/errors.py",  # one class per SQLSTATE
    "sql/parser/expressions.py",
    "sql/planner/plan.py",
}
# Initializers with code of their own.
INITIALIZERS_WITH_CODE = {"nodedb/catalog/virtual/__init__.py"}
# Lines of Python above LINE_MAX, by top folder: docstrings and messages that the formatter leaves
# alone.
LONG_LINES = {"nodedb": 400, "sql": 60, "cluster": 10, "tests": 130, "bench": 0, "tools": 4}
# STYLE: the glossary's never words, as whole words of identifiers, per package.
NEVER_WORDS = {
    "cluster": {"epoch", "master", "slave", "zxid", "region", "heartbeat_failure"},
    "nodedb/kv": {"epoch", "shard", "partition", "region"},
    "nodedb/txn": {"epoch", "shard", "partition", "region", "prepared"},
    "nodedb/pgwire": {"packet", "cursor"},
}
NEVER_WORDS_FOUND = {"nodedb/txn": 4}
LEFTOVERS = {
    "breakpoint": re.compile(r"^\s*breakpoint\(", re.M),
    "FIXME": re.compile(r"\bFIXME\b"),
    "XXX": re.compile(r"\bXXX\b(?!\d)"),
    "TODO without an issue or ADR number": re.compile(r"\bTODO\b(?!\((?:#\d+|ADR \d{4})\))"),
}
PRINT = re.compile(r"^\s*print\(", re.M)
PRINT_ALLOWED = ("nodedb/cli/", "bench/", "tools/", "tests/")
# Paths of somebody's machine, and hosts that only exist behind somebody's proxy.
MACHINE = re.compile(
    r"/(?:home|Users|root)/[a-z]|/opt/wheels|/work/(?:main|shared)|/tmp/(?!x\b)[a-z]+_|artifactory|\.internal\b|\bnexus\."
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
POINTER = re.compile(r"`((?:nodedb|sql|cluster)(?:\.[A-Za-z_][A-Za-z_0-9]*)+)`")
SKIP_TEXT = ("LICENSE", "tests/tidy/test_tidy.py")


@functools.cache
def tracked_files() -> tuple[str, ...]:
    """Return the files of the repository, new ones included, as posix paths below the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(sorted({name for name in listed.splitlines() if (ROOT / name).is_file()}))


@functools.cache
def text_of(name: str) -> str:
    """Return a file's text; "" for binary files."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def python_files(*folders: str) -> list[str]:
    prefixes = tuple(f"{folder}/" for folder in folders)
    return [name for name in tracked_files() if name.endswith(".py") and name.startswith(prefixes)]


def markdown_files() -> list[str]:
    return [name for name in tracked_files() if name.endswith(".md")]


def is_table(name: str) -> bool:
    return name.endswith(("_table.py", "_generated.py"))


# Text


def test_lines_are_short_enough() -> None:
    found: dict[str, list[str]] = {folder: [] for folder in LONG_LINES}
    for name in python_files(*LONG_LINES):
        if is_table(name):
            continue
        for number, line in enumerate(text_of(name).splitlines(), 1):
            if len(line) > LINE_MAX:
                found[name.split("/")[0]].append(f"{name}:{number}")
    check_ratchet({folder: places for folder, places in found.items() if places}, LONG_LINES)


def test_files_are_short_enough() -> None:
    long_files = {
        name
        for name in python_files(*PACKAGES)
        if not is_table(name) and text_of(name).count("\n") > FILE_LINES_MAX
    }
    assert long_files <= LONG_FILES, f"split these: {sorted(long_files - LONG_FILES)}"


def test_no_leftovers() -> None:
    found = []
    for name in python_files(*PACKAGES, "tests", "bench", "tools"):
        if name in SKIP_TEXT:
            continue
        found += [
            f"{name}: {what}"
            for what, pattern in LEFTOVERS.items()
            if pattern.search(text_of(name))
        ]
        if PRINT.search(text_of(name)) and not name.startswith(PRINT_ALLOWED):
            found.append(f"{name}: print")
    assert not found


def test_no_machine_is_named() -> None:
    found = []
    for name in tracked_files():
        if name in SKIP_TEXT:
            continue
        for number, line in enumerate(text_of(name).splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found


def test_files_end_with_one_newline_and_have_no_tabs_in_python() -> None:
    found = []
    for name in tracked_files():
        text = text_of(name)
        is_prose_or_code = name.endswith((".py", ".md", ".toml", ".yml", ".yaml")) and text
        if is_prose_or_code and (not text.endswith("\n") or text.endswith("\n\n")):
            found.append(f"{name}: end of file")
        if name.endswith(".py") and re.search(r"^\t", text, re.M):
            found.append(f"{name}: tab")
    assert not found


# Python


def test_every_module_says_what_it_is() -> None:
    silent = [
        name for name in python_files(*PACKAGES) if not ast.get_docstring(ast.parse(text_of(name)))
    ]
    assert not silent


def test_initializers_hold_no_code() -> None:
    allowed = (ast.Import, ast.ImportFrom)
    found = []
    for name in python_files(*PACKAGES):
        if not name.endswith("/__init__.py") or name in INITIALIZERS_WITH_CODE:
            continue
        for node in ast.parse(text_of(name)).body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            if not (is_docstring or is_all or isinstance(node, allowed)):
                found.append(f"{name}:{node.lineno}")
    assert not found


def test_no_package_marker_under_tests() -> None:
    """A tests/unit/sql/__init__.py would shadow the product's sql."""
    assert not [name for name in python_files("tests") if name.endswith("__init__.py")]


def identifiers(name: str) -> Iterator[tuple[int, str]]:
    """Yield (line, identifier) of what a module names itself."""
    for node in ast.walk(ast.parse(text_of(name))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def words_of(identifier: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", identifier)}


def test_never_words() -> None:
    found: dict[str, list[str]] = {}
    for folder, words in NEVER_WORDS.items():
        for name in python_files(folder):
            for line, identifier in identifiers(name):
                if words_of(identifier) & words:
                    found.setdefault(folder, []).append(f"{name}:{line} {identifier}")
    check_ratchet(found, NEVER_WORDS_FOUND)


# Errors and settings


def test_one_sqlstate_one_class() -> None:
    by_state: dict[str, list[str]] = {}
    for name, value in vars(sql_errors).items():
        if (
            inspect.isclass(value)
            and issubclass(value, sql_errors.SqlError)
            and value.__module__ == "sql.errors"
        ):
            state = vars(value).get("sqlstate", "")
            if state:
                assert re.fullmatch(r"[0-9A-Z]{5}", state), f"{name}: {state}"
                by_state.setdefault(state, []).append(name)
    assert len(by_state) > 50
    assert not {state: names for state, names in by_state.items() if len(names) > 1}


def test_every_setting_is_documented() -> None:
    text = text_of("docs/operations.md")
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]+) \|", text, re.M))
    flags = {field.name.replace("_", "-"): field for field in dataclasses.fields(NodeConfig)}
    assert set(rows) == set(flags), sorted(set(rows) ^ set(flags))
    for flag, field in flags.items():
        if field.default in (None, (), dataclasses.MISSING, False):
            continue
        assert f"`{field.default}`" in rows[flag], f"--{flag}: the default is {field.default}"


# Documents


def test_links_resolve() -> None:
    broken = []
    for name in markdown_files():
        for target in LINK.findall(text_of(name)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / name).parent / path if path else ROOT / name
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{name}: {target}")
    assert not broken


@functools.cache
def anchors(file: Path) -> frozenset[str]:
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


def test_code_pointers_resolve() -> None:
    pointers = {
        (name, pointer) for name in markdown_files() for pointer in POINTER.findall(text_of(name))
    }
    assert len(pointers) > 30, "the pattern finds nothing any more"
    assert not [f"{name}: {pointer}" for name, pointer in sorted(pointers) if not resolves(pointer)]


@functools.cache
def resolves(pointer: str) -> bool:
    """Tell whether ``package.module.Class.member`` exists."""
    parts = pointer.split(".")
    for length in range(len(parts), 0, -1):
        module_path = ROOT.joinpath(*parts[:length])
        if module_path.with_suffix(".py").exists() or (module_path / "__init__.py").exists():
            found: object = importlib.import_module(".".join(parts[:length]))
            for attribute in parts[length:]:
                found = getattr(found, attribute, None)
                if found is None:
                    return False
            return True
    return False


def test_one_title_per_page() -> None:
    wrong = []
    for name in markdown_files():
        text = re.sub(r"^```.*?^```", "", text_of(name), flags=re.M | re.S)
        if len(re.findall(r"^# ", text, re.M)) != 1:
            wrong.append(name)
    assert not wrong


def test_decision_records_are_numbered_and_linked() -> None:
    index = text_of("docs/adr/README.md")
    records = [name for name in markdown_files() if re.match(r"docs/adr/\d{4}-", name)]
    assert records
    numbers = [Path(name).name[:4] for name in records]
    assert len(set(numbers)) == len(numbers), "a number is used twice"
    for name in records:
        title = re.match(r"# (\d+)[. ]", text_of(name))
        assert title is not None, f"{name}: no number in its title"
        assert int(title[1]) == int(Path(name).name[:4]), f"{name}: another number in its title"
        assert f"({Path(name).name})" in index, f"{name} is not in docs/adr/README.md"


@pytest.mark.parametrize(
    "section", ["Context", "Decision", "Consequences", "How we would notice that it was wrong"]
)
def test_decision_records_have_their_sections(section: str) -> None:
    records = [name for name in markdown_files() if re.match(r"docs/adr/\d{4}-", name)]
    assert not [name for name in records if f"\n## {section}\n" not in text_of(name)]


def test_every_dependency_has_a_reason() -> None:
    project = text_of("pyproject.toml").split("[project.optional-dependencies]")[0]
    names = re.findall(r'^    "([a-z0-9-]+)[\[<>=]', project, re.M)
    assert len(names) >= 5
    record = text_of("docs/adr/0011-dependencies.md")
    assert not [name for name in names if f"**{name}**" not in record]


# Helpers


def check_ratchet(found: dict[str, list[str]], allowed: dict[str, int]) -> None:
    """Compare the number of places per key with what is allowed."""
    counts = {key: len(places) for key, places in found.items()}
    for key in sorted(counts.keys() | allowed.keys()):
        count, limit = counts.get(key, 0), allowed.get(key, 0)
        assert count <= limit, f"{key}: {count}, allowed {limit}: {found[key][-20:]}"


def test_tests_named_in_documents_exist() -> None:
    """Each ``path::test_name`` of a document is a function of that file."""
    missing = [
        f"{name}: {path}::{test}"
        for name in markdown_files()
        for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of(name))
        if not re.search(rf"^def {test}\(", text_of(path), re.MULTILINE)
    ]
    assert missing == []
