"""Time zones: names of the IANA data base, abbreviations, numeric offsets and POSIX forms.

A ``Zone`` turns UTC into local time and back. Zone data comes from the installed ``tzdata``
package only, never from the machine, so that all nodes of one release agree. Years outside of
1 to 9999 use the rules of the equal year of another 400-year cycle (later) or the zone's first
known offset (earlier), which is what PostgreSQL's own tables amount to.

Offsets here are seconds *east* of Greenwich; ``timetz`` datums count west.

Source: PostgreSQL docs, "Time Zones", "Date/Time Configuration Files", "POSIX Time Zone
Specifications".
"""

import datetime as _datetime
import re
from functools import lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo

from sql.errors import InvalidParameterValue
from sql.types.calendar import UNIX_EPOCH_USECS, USECS_PER_DAY, USECS_PER_SECOND

# Seconds east of Greenwich -> abbreviations that PostgreSQL's default set gives this offset.
_ABBREVIATIONS_BY_OFFSET: Final = {
    -39600: "nut",
    -36000: "ckt hst taht",
    -34200: "mart",
    -32400: "akst gamt",
    -28800: "akdt pst",
    -25200: "mst pdt",
    -21600: "cst galt mdt",
    -18000: "act cdt cot easst east est pet",
    -14400: "amt ast bot edt gyt vet",
    -12600: "nft nst",
    -10800: "adt arst art bra brt clst clt fkst fkt gft pmst pyst pyt uyt wgt",
    -9000: "ndt",
    -7200: "brst fnt pmdt uyst wgst",
    -3600: "azot egt fnst",
    0: "azost egst gmt uct ut utc wet z zulu",
    3600: "bst cet met mez wat wetdst",
    7200: "bdst cest cetdst eet ist mest mesz metdst sast",
    10800: "eat eest eetdst fet idt msk volt",
    12600: "irt",
    14400: "amst azst azt gest get msd mut ret sct",
    16200: "aft",
    18000: "mawt must mvt pkt tft tjt tmt uzt yekt",
    19800: "lkt",
    20700: "npt",
    21600: "almt bdt btt iot kgst kgt omsst omst pkst uzst xjt yekst",
    23400: "mmt",
    25200: "almst cxt davt ict krast krat novst novt wast",
    28800: "awst bnt bort cct hkt irkst irkt myt pht sgt ulat wadt",
    31500: "acwst",
    32400: "awsst jayt jst kst pwt ulast wdt yakst yakt",
    34200: "acst cast",
    36000: "aest chut ddut kdt ligt mpt pgt trut vlast vlat yapt",
    37800: "acdt acsst cadt lhst sadt",
    39600: "aedt aesst kost lhdt magst magt pont vut",
    43200: "anast anat fjt gilt mht nzst nzt petst pett tvt wakt wft",
    45900: "chast",
    46800: "fjst nzdt tkt tot",
    49500: "chadt",
    50400: "lint",
}
ABBREVIATIONS: Final = {
    abbreviation: offset
    for offset, names in _ABBREVIATIONS_BY_OFFSET.items()
    for abbreviation in names.split()
}

OFFSET_HOURS_MAX: Final = 15
_SET_OFFSET_SECONDS_MAX: Final = 168 * 3600
_CYCLE_USECS: Final = 146_097 * USECS_PER_DAY
# First and one past last microsecond (since 2000-01-01) that ``datetime`` can show, less two days
# so that no offset leads out of it.
_DATETIME_FIRST: Final = -730_117 * USECS_PER_DAY
_DATETIME_END: Final = 2_921_938 * USECS_PER_DAY
_EPOCH: Final = _datetime.datetime(2000, 1, 1, tzinfo=_datetime.UTC)
_POSIX: Final = re.compile(
    r"(?P<name>[A-Za-z]{3,}|<[^<>]+>)"
    r"(?P<sign>[+-]?)(?P<hours>\d{1,3})(?::(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}))?)?"
)


class Zone:
    """One time zone. ``name`` is canonical; ``fixed`` is its only offset, or None if it varies."""

    __slots__ = ("_abbreviation", "_info", "fixed", "name")

    def __init__(
        self,
        name: str,
        *,
        fixed: int | None = None,
        abbreviation: str = "",
        info: ZoneInfo | None = None,
    ) -> None:
        assert (fixed is None) != (info is None)
        self.name = name
        self.fixed = fixed
        self._abbreviation = abbreviation
        self._info = info

    def offset_at_utc(self, us: int) -> int:
        """Return seconds east of Greenwich at an instant (microseconds UTC since 2000)."""
        if self.fixed is not None:
            return self.fixed
        return _seconds(self._moment(us).utcoffset())

    def offset_at_local(self, us: int) -> int:
        """Return the offset for a wall-clock reading.

        A reading that a clock change skipped or repeated is taken as standard time, which in
        either case is the smaller of the two offsets.
        """
        if self.fixed is not None:
            return self.fixed
        wall = _to_datetime(us).replace(tzinfo=self._info)
        return min(_seconds(wall.utcoffset()), _seconds(wall.replace(fold=1).utcoffset()))

    def abbreviation_at_utc(self, us: int) -> str:
        """Return the zone's abbreviation at an instant, as ``EST`` or ``-03``."""
        if self.fixed is not None:
            return self._abbreviation
        return self._moment(us).tzname() or ""

    def is_daylight_saving_at_utc(self, us: int) -> bool:
        """Tell whether daylight-saving time is in force at an instant."""
        return self.fixed is None and bool(self._moment(us).dst())

    def _moment(self, us: int) -> _datetime.datetime:
        return _to_datetime(us).astimezone(self._info)


def _seconds(offset: _datetime.timedelta | None) -> int:
    assert offset is not None
    return offset.days * 86_400 + offset.seconds


def _to_datetime(us: int) -> _datetime.datetime:
    if us >= _DATETIME_END:
        us = (us - _DATETIME_END) % _CYCLE_USECS + _DATETIME_END - _CYCLE_USECS
    elif us < _DATETIME_FIRST:
        us = _DATETIME_FIRST
    return _EPOCH + _datetime.timedelta(seconds=us // USECS_PER_SECOND)


UTC: Final = Zone("UTC", fixed=0, abbreviation="UTC")
_UTC_NAMES: Final = frozenset(("utc", "etc/utc", "uct", "etc/uct", "zulu", "etc/zulu"))


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    listing = (resources.files("tzdata") / "zones").read_text(encoding="ascii")
    return {name.lower(): name for name in listing.split()}


def zone_names() -> tuple[str, ...]:
    """Return every IANA name known, sorted."""
    return tuple(sorted(_names().values()))


@lru_cache(maxsize=1024)
def find_zone(name: str) -> Zone | None:
    """Return the zone of an IANA name (any case) or POSIX specification, or None."""
    lower = name.lower()
    canonical = _names().get(lower)
    if canonical is not None:
        if lower in _UTC_NAMES:
            return Zone(canonical, fixed=0, abbreviation="UTC")
        package, _, leaf = ("tzdata.zoneinfo/" + canonical).replace("/", ".").rpartition(".")
        with (resources.files(package) / leaf).open("rb") as file:
            return Zone(canonical, info=ZoneInfo.from_file(file, key=canonical))
    return _posix_zone(name)


def _posix_zone(name: str) -> Zone | None:
    match = _POSIX.fullmatch(name)
    if match is None or int(match["hours"]) > 167:
        return None
    minutes, seconds = int(match["minutes"] or 0), int(match["seconds"] or 0)
    if minutes > 59 or seconds > 59:
        return None
    west = int(match["hours"]) * 3600 + minutes * 60 + seconds
    return Zone(
        name if match["name"].startswith("<") else name.upper(),
        fixed=west if match["sign"] == "-" else -west,
        abbreviation=match["name"].strip("<>")
        if match["name"][0] == "<"
        else match["name"].upper(),
    )


def fixed_zone(seconds_east: int) -> Zone:
    """Return the zone that ``SET TIME ZONE <hours>`` makes, named as ``<+05:30>-05:30``."""
    sign = "-" if seconds_east < 0 else "+"
    west = "+" if seconds_east < 0 else "-"
    minutes, second = divmod(abs(seconds_east), 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02d}"
    if minute or second:
        text += f":{minute:02d}"
    if second:
        text += f":{second:02d}"
    return Zone(f"<{sign}{text}>{west}{text}", fixed=seconds_east, abbreviation=sign + text)


def session_zone(name: str) -> Zone:
    """Return the zone of a ``TimeZone`` setting. Raises 22023 for one that does not exist."""
    zone = find_zone(name)
    if zone is None:
        zone = _hours_zone(name)
    if zone is None:
        raise InvalidParameterValue(f'invalid value for parameter "TimeZone": "{name}"')
    return zone


def _hours_zone(text: str) -> Zone | None:
    try:
        seconds = round(float(text) * 3600)
    except (ValueError, OverflowError):
        return None
    return fixed_zone(seconds) if abs(seconds) <= _SET_OFFSET_SECONDS_MAX else None


def validate_time_zone(name: str) -> str:
    """Return the canonical name of a ``TimeZone`` setting. Raises 22023."""
    return session_zone(name).name


def named_zone(name: str) -> Zone:
    """Return the zone of ``AT TIME ZONE``: an abbreviation first, else a name. Raises 22023."""
    offset = ABBREVIATIONS.get(name.lower())
    if offset is not None:
        return Zone(name.upper(), fixed=offset, abbreviation=name.upper())
    zone = find_zone(name)
    if zone is None:
        raise InvalidParameterValue(f'time zone "{name}" not recognized')
    return zone


def zone_offset_seconds(us_utc: int, zone: str) -> int:
    """Return seconds east of Greenwich of a named zone at an instant. Raises 22023."""
    return named_zone(zone).offset_at_utc(us_utc)


def utc_to_local(us: int, zone_name: str) -> int:
    """Return the wall-clock reading of an instant. Infinities are the caller's. Raises 22023."""
    return us + named_zone(zone_name).offset_at_utc(us) * USECS_PER_SECOND


def local_to_utc(us: int, zone_name: str) -> int:
    """Return the instant of a wall-clock reading; skipped and repeated ones as standard time."""
    return us - named_zone(zone_name).offset_at_local(us) * USECS_PER_SECOND


def unix_to_postgres(us: int) -> int:
    """Shift microseconds since 1970 to microseconds since 2000."""
    return us + UNIX_EPOCH_USECS
