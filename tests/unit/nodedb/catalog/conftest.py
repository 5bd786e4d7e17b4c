"""A fresh environment for DDL tests."""

import importlib.util
import pathlib

import pytest

_PATH = pathlib.Path(__file__).with_name("fake_environment.py")
_SPEC = importlib.util.spec_from_file_location("catalog_fake_environment", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture
def env():
    return _MODULE.FakeEnvironment()
