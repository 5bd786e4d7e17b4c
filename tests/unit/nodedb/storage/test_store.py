"""The store's lock and manifest."""

import subprocess
import sys

import pytest

from nodedb.errors import StoreLocked, StoreMismatch, StoreTooNew
from nodedb.storage.store import Store


def test_identity_survives(tmp_path):
    path = str(tmp_path / "store")
    store = Store(path, new_id=lambda: "first")
    store.set_cluster_id("blue")
    store.close()
    store = Store(path, new_id=lambda: "second")
    assert (store.manifest.store_id, store.manifest.cluster_id) == ("first", "blue")
    store.set_cluster_id("blue")
    with pytest.raises(StoreMismatch, match="belongs to cluster blue, not to red"):
        store.set_cluster_id("red")
    store.close()


def test_second_process_is_refused_and_told_where(tmp_path):
    path = str(tmp_path)
    store = Store(path)
    script = f"""
from nodedb.errors import StoreLocked
from nodedb.storage.store import Store
try:
    Store({path!r})
except StoreLocked as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == (
        f'another process has the store open: "{path}/LOCK" is locked'
    ), result.stderr
    store.close()
    Store(path).close()


def test_second_opening_in_one_process_is_refused_too(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(StoreLocked):
        Store(str(tmp_path))
    store.close()


def test_newer_format_is_refused_and_leaves_the_lock(tmp_path):
    Store(str(tmp_path)).close()
    manifest = tmp_path / "manifest.json"
    newer = manifest.read_text().replace('"format_version": 1', '"format_version": 2')
    manifest.write_text(newer)
    for _ in range(2):
        with pytest.raises(StoreTooNew, match="has format 2, newest known is 1"):
            Store(str(tmp_path))
    assert manifest.read_text() == newer


def test_other_engine_is_refused(tmp_path):
    Store(str(tmp_path)).close()
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("lmdb-0.9", "lmdb-1.0"))
    with pytest.raises(StoreTooNew, match="lmdb"):
        Store(str(tmp_path))


def test_broken_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreMismatch, match="is not a manifest"):
        Store(str(tmp_path))
