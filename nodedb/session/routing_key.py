"""``SHOW ROUTING FOR TABLE t KEY (...)``: the vshard of a row, found as the store finds it.

The values are those of the primary key, or of the columns that the table is distributed by; each is
read as its column reads text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodedb.txn.table_codec import codec_of
from sql.catalog.descriptor import Table
from sql.errors import (
    InvalidParameterValue,
    NullValueNotAllowed,
    ObjectNotInPrerequisiteState,
    UndefinedTable,
    WrongObjectType,
)
from sql.types.io import text_input

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.ast.ddl import OptionValue
    from sql.ast.query import QualifiedName


def vshard_of_key(session: Session, name: QualifiedName, values: tuple[OptionValue, ...]) -> int:
    """Return the vshard of the row with a key.

    Errors: 42P01, 42809; 55000 for a table without primary key; 22023 for the wrong number of
    values, 22004 for NULL, and what the columns' types say of a value.
    """
    table = _find_table(session, name)
    codec = codec_of(table)
    if codec.rowid_position >= 0:
        raise ObjectNotInPrerequisiteState(
            f'table "{table.name}" has no primary key',
            detail="Its rows are spread by row numbers of their own.",
        )
    columns = [table.columns[position] for position in table.clustering_key]
    if len(values) not in (len(columns), codec.vshard_positions or len(columns)):
        names = ", ".join(column.name for column in columns)
        raise InvalidParameterValue(
            f'the key of table "{table.name}" is ({names}), not {len(values)} values'
        )
    datums = []
    for column, value in zip(columns, values, strict=False):
        if value is None:
            raise NullValueNotAllowed(f'key column "{column.name}" is never null')
        convert = text_input(column.type, session.settings.format)
        datums.append(convert(_text_of(value), column.typmod))
    key = tuple(datums)
    if codec.vshard_positions:
        return codec.vshard(b"", key)  # Only the columns that the table is distributed by count.
    return codec.vshard(codec.rows.key(key), key)


def _text_of(value: OptionValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _find_table(session: Session, name: QualifiedName) -> Table:
    found = session.catalog().find_relation(name)
    if found is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        raise UndefinedTable(f'relation "{shown}" does not exist', span=name.span)
    if not isinstance(found, Table):
        raise WrongObjectType(f'"{name.name}" is not a table', span=name.span)
    return found
