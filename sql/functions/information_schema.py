"""The functions of schema information_schema that drivers call.

pgjdbc lists the columns of keys and indexes with ``_pg_expandarray``. Source: PostgreSQL's
information_schema.sql defines it; its OID is whatever initdb gives it.
"""

from typing import Final

from sql.functions.registry import Function
from sql.types.array import ArrayValue
from sql.types.base import Datum
from sql.types.catalog import ANYARRAY, ANYELEMENT, INT4, RECORD

SCHEMA: Final = "information_schema"
_EXPAND_ARRAY_ID: Final = 13208


def _expand_array(array: ArrayValue) -> list[tuple[Datum, int]]:
    """Return (element, position from 1); NULL elements for an array of several dimensions."""
    if len(array.dims) > 1:
        return [(None, number) for number in range(1, array.dims[0] + 1)]
    return [(element, number) for number, element in enumerate(array.elements, 1)]


INFORMATION_SCHEMA_FUNCTIONS: Final = (
    Function(
        oid=_EXPAND_ARRAY_ID,
        name="_pg_expandarray",
        arg_types=(ANYARRAY,),
        return_type=RECORD,
        implementation=_expand_array,
        returns_set=True,
        columns=(("x", ANYELEMENT), ("n", INT4)),
        schema=SCHEMA,
    ),
)
