"""SQL types: their identity, their catalog facts, and how a value of each looks in memory.

A value (*datum*) is a plain Python object, so that rows are plain tuples; SQL NULL is ``None``:

=================  =================================================================================
type               datum
=================  =================================================================================
bool               ``bool``
int2, int4, int8   ``int``; also oid, regclass and the other reg types
float4, float8     ``float`` (float4 already rounded to single precision)
numeric            ``decimal.Decimal``; NaN and the infinities included; the scale is the exponent's
text, varchar,     ``str`` (char(n) is blank-padded to n, as PostgreSQL stores it)
bpchar, name
"char"             ``str`` of at most one character
bytea              ``bytes``
date               ``int`` days since 2000-01-01; ``DATE_INFINITY`` / ``DATE_MINUS_INFINITY``
time               ``int`` microseconds since midnight, 0 to 86,400,000,000 inclusive
timetz             ``tuple[int, int]``: microseconds since midnight, zone in seconds west of
                   Greenwich
timestamp          ``int`` microseconds since 2000-01-01 00:00:00; ``TIMESTAMP_INFINITY`` /
                   ``..._MINUS_...``
timestamptz        the same, in UTC
interval           ``tuple[int, int, int]``: months, days, microseconds
uuid               ``bytes`` of 16
json               ``str``, as written
jsonb              ``str`` in PostgreSQL's canonical output form (keys by length then bytes,
                   ``", "``, ``": "``)
arrays             ``ArrayValue`` (sql.types.array)
record             ``RecordValue`` (sql.types.record), a ``tuple`` of datums that knows their types
xid, cid, xid8,    ``int``; tid is ``tuple[int, int]``: block, offset
pg_lsn
void               ``None``-like: the empty ``str``
=================  =================================================================================

Source: PostgreSQL docs, "Data Types"; ``pg_type.dat`` for OIDs, lengths and categories.
"""

from collections.abc import Iterable
from typing import Any, Final

Datum = Any
Row = tuple[Datum, ...]

DATE_INFINITY: Final = 0x7FFFFFFF
DATE_MINUS_INFINITY: Final = -0x80000000
TIMESTAMP_INFINITY: Final = 0x7FFFFFFFFFFFFFFF
TIMESTAMP_MINUS_INFINITY: Final = -0x8000000000000000
NO_TYPMOD: Final = -1


class SqlType:
    """One SQL type; compared by identity. All instances live in ``sql.types.catalog``.

    ``length`` is pg_type.typlen (-1: varying). ``category`` is pg_type.typcategory, one letter;
    ``preferred`` marks the type that implicit casts within a category prefer.
    ``element`` is set for array types, ``array`` for types that have one.
    ``kind`` is pg_type.typtype: ``b`` base, ``p`` pseudo, ``c`` composite.
    """

    __slots__ = (
        "array",
        "category",
        "delimiter",
        "display_name",
        "element",
        "kind",
        "length",
        "name",
        "oid",
        "preferred",
    )

    def __init__(
        self,
        oid: int,
        name: str,
        length: int,
        category: str,
        *,
        display_name: str = "",
        preferred: bool = False,
        kind: str = "b",
        element: "SqlType | None" = None,
    ) -> None:
        self.oid = oid
        self.name = name
        self.length = length
        self.category = category
        self.display_name = display_name or name
        self.preferred = preferred
        self.kind = kind
        self.element = element
        self.array: SqlType | None = None
        self.delimiter = ","

    def __repr__(self) -> str:
        """Show the display name."""
        return f"<{self.display_name}>"

    @property
    def is_array(self) -> bool:
        """True for ``int4[]`` and its like; int2vector and oidvector are arrays too."""
        return self.element is not None


def index_by_oid(types: Iterable[SqlType]) -> dict[int, SqlType]:
    """Map OID to type; asserts that no OID stands twice."""
    result: dict[int, SqlType] = {}
    for sql_type in types:
        assert sql_type.oid not in result, sql_type
        result[sql_type.oid] = sql_type
    return result
