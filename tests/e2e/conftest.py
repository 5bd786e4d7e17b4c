"""One node for the session, a clean schema for each test, and the node's log when a test fails."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import PSQL, NodeProcess, running


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running(tmp_path_factory.mktemp("node") / "store") as node:
        yield node


@pytest.fixture
def node(shared_node: NodeProcess) -> Iterator[NodeProcess]:
    """The session's node with an empty schema public; a test's connections are closed after it."""
    with shared_node.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
        connection.execute("CREATE SCHEMA public")
    yield shared_node
    shared_node.close_connections()


@pytest.fixture
def connection(node: NodeProcess) -> Iterator[psycopg.Connection]:
    with node.connect() as connection:
        yield connection


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A path for the store of a node that a test starts itself."""
    return tmp_path / "store"


@pytest.fixture
def needs_psql() -> None:
    if PSQL is None:
        pytest.skip("psql is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    shared = getattr(item, "funcargs", {}).get("shared_node")
    if report.when == "call" and report.failed and shared is not None:
        report.sections.append(("log of the shared node", shared.log()))
    return report
