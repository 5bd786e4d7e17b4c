"""The forms of the ``TimeZone`` setting, ``SET TIME ZONE INTERVAL '...'`` among them.

Source: PostgreSQL docs, "SET", "TIME ZONE value".
"""

import re
from typing import Final

from sql.errors import InvalidParameterValue
from sql.types.calendar import USECS_PER_SECOND
from sql.types.interval import FULL_RANGE, HOUR_BIT, MINUTE_BIT, interval_text, read_interval
from sql.types.timezone import fixed_zone, validate_time_zone

_INTERVAL: Final = re.compile(
    r"interval\s*'((?:[^']|'')*)'(?:\s+(hour|minute|hour to minute))?", re.IGNORECASE
)
_FIELDS: Final = {
    "": FULL_RANGE,
    "hour": HOUR_BIT,
    "minute": MINUTE_BIT,
    "hour to minute": HOUR_BIT | MINUTE_BIT,
}


def time_zone_setting(value: str) -> str:
    """Return the canonical name of a ``TimeZone`` setting. Raises 22023."""
    match = _INTERVAL.fullmatch(value)
    if match is None:
        return validate_time_zone(value)
    fields = _FIELDS[(match[2] or "").lower()]
    interval = read_interval(match[1].replace("''", "'"), fields)
    months, days, microseconds = interval
    for count, unit in ((months, "months"), (days, "days")):
        if count:
            raise InvalidParameterValue(
                f'invalid value for parameter "TimeZone": "INTERVAL \'{interval_text(interval)}\'"',
                detail=f"Cannot specify {unit} in time zone interval.",
            )
    return fixed_zone(int(microseconds / USECS_PER_SECOND)).name
