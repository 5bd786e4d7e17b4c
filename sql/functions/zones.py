"""The session's time zone, and moving timestamps between it and UTC. Infinities stay."""

from typing import Final

from sql.errors import DatetimeFieldOverflow
from sql.functions.context import ExecutionContext
from sql.types.base import TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY
from sql.types.calendar import USECS_PER_SECOND, is_valid_timestamp
from sql.types.timezone import Zone
from sql.types.timezone import session_zone as zone_of_setting

INFINITIES: Final = (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY)


def session_zone(context: ExecutionContext) -> Zone:
    """Return the zone of the session's TimeZone setting."""
    return zone_of_setting(context.format.time_zone)


def to_utc(local: int, zone: Zone) -> int:
    """Return the instant at which clocks in ``zone`` show ``local``; 22008 out of range."""
    if local in INFINITIES:
        return local
    return in_range(local - zone.offset_at_local(local) * USECS_PER_SECOND)


def to_local(instant: int, zone: Zone) -> int:
    """Return what clocks in ``zone`` show at an instant; 22008 out of range."""
    if instant in INFINITIES:
        return instant
    return in_range(instant + zone.offset_at_utc(instant) * USECS_PER_SECOND)


def in_range(timestamp: int) -> int:
    """Return a finite timestamp if PostgreSQL can hold it, else raise 22008."""
    if is_valid_timestamp(timestamp):
        return timestamp
    raise DatetimeFieldOverflow("timestamp out of range")
