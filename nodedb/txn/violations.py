"""Unique violations (23505), worded as PostgreSQL words them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.errors import UniqueViolation
from sql.types.io import FormatContext, text_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.txn.table_codec import IndexCodec, TableCodec, Values
    from sql.catalog.descriptor import Table
    from sql.types.base import Datum

_PLAIN_FORMAT: Final = FormatContext()


def primary_violation(codec: TableCodec, clustering: Values) -> UniqueViolation:
    """Return the error for a primary key that a row has already."""
    table = codec.table
    names = [table.columns[position].name for position in table.clustering_key]
    return _unique_violation(table, table.primary_name, names, clustering, None)


def entry_violation(codec: TableCodec, index: IndexCodec, values: Values) -> UniqueViolation:
    """Return the error for a unique index's key that a row has already."""
    """Word the error of a second row with these key values."""
    return _unique_violation(codec.table, index.index.name, _key_names(codec, index), values, index)


def _key_names(codec: TableCodec, index: IndexCodec) -> list[str]:
    from sql.ast.deparse import deparse_expression  # noqa: PLC0415  only for messages

    return [
        codec.table.columns[key.position].name
        if key.position >= 0
        else deparse_expression(key.expression)  # type: ignore[arg-type]  # set for expressions
        for key in index.index.keys
    ]


def _unique_violation(
    table: Table,
    constraint: str,
    names: Sequence[str],
    values: Sequence[Datum],
    index: IndexCodec | None,
) -> UniqueViolation:
    positions = (
        table.clustering_key if index is None else [key.position for key in index.index.keys]
    )
    texts = []
    for offset, value in enumerate(values):
        position = positions[offset]
        if value is None:
            texts.append("null")
        elif position >= 0:
            texts.append(text_output(table.columns[position].type, _PLAIN_FORMAT)(value))
        else:
            texts.append(str(value))
    return UniqueViolation(
        f'duplicate key value violates unique constraint "{constraint}"',
        detail=f"Key ({', '.join(names)})=({', '.join(texts)}) already exists.",
        table=table.name,
        constraint=constraint,
    )
