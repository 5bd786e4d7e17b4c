"""One node for all drivers, and the matrix of what works with which, written to docs/clients.md."""

import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, running

MATRIX = Path(__file__).parents[2] / "docs" / "clients.md"
DISTRIBUTIONS = {
    "asyncpg": "asyncpg",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2-binary",
    "pg8000": "pg8000",
    "sqlalchemy": "SQLAlchemy",
    "sqlalchemy_orm": "SQLAlchemy",
    "django": "Django",
}
TITLES = {
    "asyncpg": "asyncpg",
    "psycopg": "psycopg 3",
    "psycopg2": "psycopg2",
    "pg8000": "pg8000",
    "sqlalchemy": "SQLAlchemy over asyncpg",
    "sqlalchemy_orm": "SQLAlchemy ORM",
    "django": "Django",
}
HEADER = """# Clients

Drivers that run against a node unmodified, and what was tried with each. Written by `tests/clients`
(`CLIENT_MATRIX=write make test ARGS=tests/clients`). An empty cell: the driver has no such
feature, or it was not tried. SQLAlchemy's ORM runs over psycopg and over asyncpg, Django over
psycopg with a project of its own (`tests/clients/django_project`).

"""

_results: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="session")
def client_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running(tmp_path_factory.mktemp("clients") / "store") as node:
        yield node


@pytest.fixture
def node(client_node: NodeProcess) -> NodeProcess:
    """A node with one empty table ``item`` and nothing else in schema public."""
    with client_node.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)")
    return client_node


@pytest.fixture
def observer(node: NodeProcess) -> Iterator[psycopg.Connection]:
    with node.connect() as connection:
        yield connection


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A test ``test_<feature>`` in ``test_<driver>.py`` fills one cell of the matrix."""
    report = yield
    driver = Path(str(item.path)).stem.removeprefix("test_")
    feature = item.name.split("[")[0].removeprefix("test_").replace("_", " ")
    if driver in TITLES and (report.when == "call" or report.failed):
        mark = {"passed": "yes", "failed": "no", "skipped": ""}[report.outcome]
        if _results.get((feature, driver)) != "no":
            _results[feature, driver] = mark
    shared = getattr(item, "funcargs", {}).get("client_node")
    if report.when == "call" and report.failed and shared is not None:
        report.sections.append(("log of the node", shared.log()))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CLIENT_MATRIX") != "write" or len({d for _, d in _results}) < len(TITLES):
        return
    features = list(dict.fromkeys(feature for feature, _ in _results))
    versions = [importlib.metadata.version(DISTRIBUTIONS[driver]) for driver in TITLES]
    titles = [
        f"{title} {version}" for title, version in zip(TITLES.values(), versions, strict=True)
    ]
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    for feature in features:
        cells = [_results.get((feature, driver), "") for driver in TITLES]
        lines.append(f"| {feature} | {' | '.join(cells)} |")
    MATRIX.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
