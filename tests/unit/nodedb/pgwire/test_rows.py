import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgwire_fakes import FakeFormat, Harness, describe, query

from nodedb.pgwire import backend
from nodedb.pgwire.rows import depends_on_settings, row_encoder
from nodedb.pgwire.shapes import Shapes
from nodedb.session.api import ResultColumn
from sql.types import catalog
from sql.types.base import SqlType
from sql.types.io import DEFAULT_CONTEXT, binary_output, wire_text_output

TYPES: dict[SqlType, st.SearchStrategy[Any]] = {
    catalog.INT4: st.integers(-(2**31), 2**31 - 1),
    catalog.INT8: st.integers(-(2**63), 2**63 - 1),
    catalog.TEXT: st.text(st.characters(exclude_categories=["Cs"]), max_size=2000),
    catalog.VARCHAR: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    catalog.BOOL: st.booleans(),
    catalog.FLOAT8: st.floats(),
    catalog.BYTEA: st.binary(max_size=1500),
}


def data_row(values: list[bytes | None]) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return b"D" + struct.pack("!i", len(body) + 4) + body


@given(st.data())
def test_encoder_equals_the_plain_definition(data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(list(TYPES)), max_size=5))
    formats = [data.draw(st.integers(0, 1)) for _ in types]
    row_strategy = st.tuples(*(st.none() | TYPES[kind] for kind in types))
    rows = data.draw(st.lists(row_strategy, max_size=4))
    columns = [ResultColumn(f"c{index}", kind) for index, kind in enumerate(types)]
    out = bytearray(b"before")
    row_encoder(columns, formats, DEFAULT_CONTEXT)(rows, out)
    writers = [
        (binary_output if code else wire_text_output)(kind, DEFAULT_CONTEXT)
        for kind, code in zip(types, formats, strict=True)
    ]
    expected = b"before"
    for row in rows:
        expected += data_row(
            [None if v is None else write(v) for v, write in zip(row, writers, strict=True)]
        )
    assert bytes(out) == expected


@pytest.mark.parametrize("length", [0, 1, 1013, 1014, 1019, 1023, 1024, 70_000])
def test_lengths_around_the_table(length: int) -> None:
    out = bytearray()
    row_encoder([ResultColumn("t", catalog.TEXT)], [0], FakeFormat())([("x" * length,)], out)
    assert bytes(out) == data_row([b"x" * length])


def test_settings_count_only_for_types_they_shape() -> None:
    assert not depends_on_settings(
        [ResultColumn("a", catalog.INT4), ResultColumn("b", catalog.TEXT)]
    )
    assert depends_on_settings([ResultColumn("a", catalog.INT4), ResultColumn("b", catalog.BYTEA)])


def test_a_changed_setting_changes_the_text_of_known_columns() -> None:
    columns = (ResultColumn("b", catalog.BYTEA),)
    shapes, settings = Shapes(), FakeFormat()
    out = bytearray()
    shapes.find(settings, columns, (0,)).encode([(b"\0a",)], out)
    settings.bytea_output = "escape"
    shapes.find(settings, columns, (0,)).encode([(b"\0a",)], out)
    assert describe(bytes(out)) == ["DataRow '\\\\x0061'", "DataRow '\\\\000a'"]


def test_the_same_columns_in_another_format_are_another_shape() -> None:
    columns = (ResultColumn("n", catalog.INT4),)
    shapes, settings = Shapes(), FakeFormat()
    text = shapes.find(settings, columns, (0,))
    assert shapes.find(settings, columns, [0]) is text
    binary = shapes.find(settings, columns, (1,))
    out = bytearray()
    binary.encode([(1,)], out)
    assert describe(bytes(out)) == [r"DataRow '\x00\x00\x00\x01'"]


def test_shapes_are_bounded() -> None:
    harness = Harness().login()
    shapes, settings = Shapes(), FakeFormat()
    kept = [(ResultColumn("n", catalog.INT4),) for _ in range(1200)]
    for columns in kept:
        shapes.find(settings, columns, (0,))
    assert len(shapes._shapes) <= 512
    assert harness.send(query("select 1"))[1] == "DataRow '1'"


def test_row_description_fields() -> None:
    columns = [ResultColumn("n", catalog.VARCHAR, 14, 16384, 3)]
    body = b"\0\1n\0" + struct.pack("!IhIhih", 16384, 3, 1043, -1, 14, 1)
    assert backend.row_description(columns, [1]) == b"T" + struct.pack("!i", len(body) + 4) + body


def test_error_fields_cannot_break_the_frame() -> None:
    out = bytearray()
    backend.error_response(out, [(b"S", "ERROR"), (b"M", "a\0b\ud800")])
    assert describe(bytes(out)) == ["ErrorResponse S='ERROR' M='ab\\\\ud800'"]
