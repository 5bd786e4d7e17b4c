"""Which type changes leave a column's stored values, and its index entries, as they are.

ALTER TABLE then changes the descriptor alone, as PostgreSQL does: a length or precision that grows,
text and varchar, timestamps with and without time zone while the session's zone is UTC. Recorded
from PostgreSQL 15 (``pg_relation_filenode`` before and after), see the unit test's table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.types.base import NO_TYPMOD

if TYPE_CHECKING:
    from sql.catalog.descriptor import Column

UTC_ZONES: Final = frozenset(("utc", "etc/utc", "uct", "etc/uct", "gmt", "etc/gmt", "zulu"))
_TIMES: Final = frozenset(("timestamp", "timestamptz", "time", "timetz"))
_TIME_PRECISION_MAX: Final = 6
_PRECISION_BITS: Final = 16
_PRECISION_MASK: Final = (1 << _PRECISION_BITS) - 1
_VARLENA_HEADER: Final = 4
"""Added to the typmods of numeric and varchar."""


def is_relabel(old: Column, new: Column, *, is_utc: bool) -> bool:
    """Tell whether the stored values of a column stay as they are under its new type.

    ``is_utc``: whether a time without zone means UTC in the session.
    """
    names = {old.type.name, new.type.name}
    if old.type_oid == new.type_oid:
        return new.typmod in (old.typmod, NO_TYPMOD) or _is_wider(
            old.type.name, old.typmod, new.typmod
        )
    if names == {"text", "varchar"}:
        return new.typmod == NO_TYPMOD
    if names == {"timestamp", "timestamptz"}:
        return is_utc and (
            new.typmod in (old.typmod, NO_TYPMOD) or _is_wider("timestamp", old.typmod, new.typmod)
        )
    return False


def _is_wider(type_name: str, old: int, new: int) -> bool:
    """Tell whether every value that fits the old modifier stays the same under the new one."""
    if type_name in _TIMES and new >= _TIME_PRECISION_MAX:
        return True
    if old == NO_TYPMOD:
        return False
    if type_name == "varchar" or type_name in _TIMES:
        return new >= old
    if type_name == "numeric":
        old, new = old - _VARLENA_HEADER, new - _VARLENA_HEADER
        is_same_scale = old & _PRECISION_MASK == new & _PRECISION_MASK
        return is_same_scale and new >= old
    if type_name == "interval":
        is_same_range = old >> _PRECISION_BITS == new >> _PRECISION_BITS
        return is_same_range and new & _PRECISION_MASK >= old & _PRECISION_MASK
    return False
