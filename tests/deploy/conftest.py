"""What the deployment's tests share."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.node_process import NODEDB

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A path for the store of a node that a test starts itself."""
    return tmp_path / "store"


def make_secrets(authority: Path, *directories: Path, **environment: str) -> None:
    """Run ``deploy/make-secrets`` with the ``nodedb`` of this machine."""
    path = f"{NODEDB.parent}:{os.environ['PATH']}"
    subprocess.run(
        [ROOT / "deploy/make-secrets", authority, *directories],
        env=os.environ | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's directory as ``deploy/make-secrets`` makes it."""
    base = tmp_path_factory.mktemp("trust")
    make_secrets(base / "authority", base / "node1")
    return base / "node1"
