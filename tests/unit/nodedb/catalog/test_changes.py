"""The overlay: transactions over the catalog, their net effect, and conflicts at commit."""

import pytest
from msgspec.structs import replace

from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.changes import (
    Author,
    CatalogOverlay,
    IdAllocator,
    apply_change,
    decode_change,
)
from sql.catalog.descriptor import FIRST_USER_ID, Role, Schema
from sql.catalog.snapshot import CatalogSnapshot
from sql.errors import DuplicateSchema, SerializationFailure


@pytest.fixture
def base():
    return apply_change(CatalogSnapshot(), bootstrap_catalog(), 1)


def schema(number, name="s"):
    return Schema(id=number, name=name, database_id=5)


def test_bootstrap_has_databases_roles_and_public_schemas(base):
    assert base.database("nodedb").id == 5
    assert base.database("postgres") is not None
    assert base.role("nodedb").superuser
    assert base.schema(5, "public").id == 2200
    assert base.next_id == FIRST_USER_ID


def test_own_changes_are_visible_and_the_base_untouched(base):
    overlay = CatalogOverlay(base)
    overlay.put(schema(overlay.allocate_id()))
    assert overlay.snapshot.schema(5, "s") is not None
    assert base.schema(5, "s") is None


def test_rollback_to_a_mark_leaves_no_trace_of_ids(base):
    overlay = CatalogOverlay(base)
    mark = overlay.mark()
    first = overlay.allocate_id()
    overlay.put(schema(first))
    overlay.rollback(mark)
    assert overlay.changes() is None
    assert overlay.allocate_id() == first


def test_version_grows_once_per_transaction(base):
    overlay = CatalogOverlay(base)
    role = base.role("nodedb")
    for comment in ("a", "b", "c"):
        overlay.put(Role(id=role.id, name=role.name, superuser=True, comment=comment))
    assert overlay.snapshot.role("nodedb").version == role.version + 1


def test_created_and_dropped_is_nothing(base):
    overlay = CatalogOverlay(base)
    number = overlay.allocate_id()
    overlay.put(schema(number))
    overlay.delete(number)
    assert overlay.changes() is None


def test_change_survives_its_encoding(base):
    overlay = CatalogOverlay(base)
    overlay.put(schema(overlay.allocate_id()))
    overlay.delete(2201)
    change = overlay.changes(Author("alice", 1001, "192.0.2.7", 99))
    assert (change.user, change.process_id, change.client) == ("alice", 1001, "192.0.2.7")
    assert decode_change(change.encode()) == change
    applied = apply_change(base, change, 9)
    assert applied.schema_version == 9
    assert applied.schema(5, "s").version == 1
    assert applied.get(2201) is None


def test_unknown_format_is_refused(base):
    payload = bootstrap_catalog().encode()
    with pytest.raises(ValueError, match="unknown format version 99"):
        decode_change(bytes((99,)) + payload[1:])


def test_a_name_taken_meanwhile_is_a_duplicate(base):
    allocate = IdAllocator(base)
    ours, theirs = CatalogOverlay(base, allocate), CatalogOverlay(base, allocate)
    for overlay in (ours, theirs):
        overlay.put(schema(overlay.allocate_id()))
    newer = apply_change(base, theirs.changes(), 2)
    assert isinstance(ours.conflict(newer), DuplicateSchema)
    assert theirs.conflict(base) is None


def test_an_object_changed_meanwhile_must_be_retried(base):
    ours, theirs = CatalogOverlay(base), CatalogOverlay(base)
    role = base.role("nodedb")
    for overlay, comment in ((ours, "x"), (theirs, "y")):
        overlay.put(Role(id=role.id, name=role.name, superuser=True, comment=comment))
    assert isinstance(ours.conflict(apply_change(base, theirs.changes(), 2)), SerializationFailure)


def test_unrelated_changes_do_not_conflict(base):
    allocate = IdAllocator(base)
    ours, theirs = CatalogOverlay(base, allocate), CatalogOverlay(base, allocate)
    ours.put(schema(ours.allocate_id(), "a"))
    theirs.put(schema(theirs.allocate_id(), "b"))
    newer = apply_change(base, theirs.changes(), 2)
    assert ours.conflict(newer) is None
    final = apply_change(newer, ours.changes(), 3)
    assert final.schema(5, "a") is not None
    assert final.schema(5, "b") is not None


def test_a_schema_dropped_meanwhile_orphans_nothing(base):
    with_schema = apply_change(base, _created(base), 2)
    from sql.catalog.descriptor import Sequence

    ours, theirs = CatalogOverlay(with_schema), CatalogOverlay(with_schema)
    schema_id = with_schema.schema(5, "s").id
    ours.put(
        Sequence(
            id=ours.allocate_id(),
            name="q",
            schema_id=schema_id,
            type_oid=20,
            start=1,
            increment=1,
            min_value=1,
            max_value=9,
        )
    )
    theirs.delete(schema_id)
    assert isinstance(
        ours.conflict(apply_change(with_schema, theirs.changes(), 3)), SerializationFailure
    )


def _created(base):
    overlay = CatalogOverlay(base)
    overlay.put(schema(overlay.allocate_id()))
    return overlay.changes()


def test_an_overlay_follows_the_catalog(base):
    allocate = IdAllocator(base)
    ours, theirs = CatalogOverlay(base, allocate), CatalogOverlay(base, allocate)
    ours.put(schema(ours.allocate_id(), "a"))
    theirs.put(schema(theirs.allocate_id(), "b"))
    newer = apply_change(base, theirs.changes(), 2)
    ours.rebase(newer)
    assert ours.snapshot.schema(5, "a") is not None
    assert ours.snapshot.schema(5, "b") is not None
    assert ours.conflict(newer) is None


def test_what_was_made_from_an_old_version_is_a_conflict(base):
    ours, theirs = CatalogOverlay(base), CatalogOverlay(base)
    role = base.role("nodedb")
    theirs.put(replace(role, comment="theirs"))
    newer = apply_change(base, theirs.changes(), 2)
    mark = ours.mark()
    ours.rebase(newer)
    ours.put(replace(role, comment="ours"))
    assert isinstance(ours.conflict(newer), SerializationFailure)
    ours.rollback(mark)
    ours.put(replace(newer.role("nodedb"), comment="ours"))
    assert ours.conflict(newer) is None


def test_what_others_have_changed_is_not_deleted(base):
    with_schema = apply_change(base, _created(base), 2)
    found = with_schema.schema(5, "s")
    ours, theirs = CatalogOverlay(with_schema), CatalogOverlay(with_schema)
    ours.delete(found.id)
    theirs.put(replace(found, comment="theirs"))
    newer = apply_change(with_schema, theirs.changes(), 3)
    assert isinstance(ours.conflict(newer), SerializationFailure)


def test_changes_since_a_mark(base):
    overlay = CatalogOverlay(base)
    first = schema(overlay.allocate_id(), "a")
    overlay.put(first)
    mark = overlay.mark()
    assert overlay.changed_since(mark) == []
    second = schema(overlay.allocate_id(), "b")
    overlay.put(second)
    overlay.delete(2200)
    assert overlay.changed_since(mark) == [(base.get(2200), None), (None, second)]
