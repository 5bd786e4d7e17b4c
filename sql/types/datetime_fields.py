"""Cutting date, time and interval literals into fields, and the words they may hold.

Fields are (kind, lower-case text): ``number``, ``date`` (digits or words joined by ``-``, ``/``
or ``.``; also zone names), ``time`` (with colons), ``zone`` (sign and digits), ``special`` (sign
and word) and ``word``. Their meaning is left to ``datetime_input`` and ``interval``.

Source: PostgreSQL docs, "Date/Time Input Interpretation", "Date/Time Key Words".
"""

import re
from typing import Final

from sql.types.calendar import USECS_PER_SECOND
from sql.types.timezone import OFFSET_HOURS_MAX

FIELDS_MAX: Final = 25
LITERAL_CHARS_MAX: Final = 255
MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "jan january",
            "feb february",
            "mar march",
            "apr april",
            "may",
            "jun june",
            "jul july",
            "aug august",
            "sep sept september",
            "oct october",
            "nov november",
            "dec december",
        ),
        start=1,
    )
    for name in names.split()
}
WEEKDAYS: Final = frozenset(
    [
        "sun",
        "sunday",
        "mon",
        "monday",
        "tue",
        "tues",
        "tuesday",
        "wed",
        "weds",
        "wednesday",
        "thu",
        "thur",
        "thurs",
        "thursday",
        "fri",
        "friday",
        "sat",
        "saturday",
    ]
)
IGNORED: Final = frozenset(("at", "on"))
LABELS: Final = {
    "j": "julian",
    "jd": "julian",
    "julian": "julian",
    "t": "time",
    "y": "year",
    "m": "month",
    "d": "day",
    "h": "hour",
    "mm": "minute",
    "s": "second",
}
_UNIT_WORDS: Final = frozenset(("dow", "doy", "isodow", "isoyear"))
RESERVED: Final = frozenset(
    ("now", "today", "tomorrow", "yesterday", "epoch", "infinity", "-infinity", "allballs")
)
_CORE_WORDS: Final = (
    frozenset(MONTHS)
    | WEEKDAYS
    | IGNORED
    | frozenset(LABELS)
    | _UNIT_WORDS
    | RESERVED
    | frozenset(("am", "pm", "ad", "bc", "dst"))
)

_FIELD: Final = re.compile(
    r"(?P<space>[ \t\n\r\f\v]+)"
    r"|(?P<time>\d+:[\d:.]*)"
    r"|(?P<date>\d+(?P<d>[-/.])\d+(?P=d)(?:\d|(?P=d))*|\d+[-/]\d+"
    r"|\d+(?P<e>[-/.])(?!\d)(?:[A-Za-z0-9]|(?P=e))*)"
    r"|(?P<number>\d+\.?\d*|\.\d+)"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<zone>[+-][ \t]*\d[\d:.\-]*)"
    r"|(?P<special>[+-][ \t]*[A-Za-z]+)"
    r"|(?P<punctuation>[!\"#$%&'()*,./:;<=>?@\[\\\]^_`{|}~])",
    re.ASCII,
)
_WORD_TAIL: Final = re.compile(r"[A-Za-z0-9+\-/_.:]*")


class FieldOverflow(Exception):
    """A field has an impossible value; ``hint`` if another field order might fit."""

    def __init__(self, *, hint: bool = False) -> None:
        super().__init__()
        self.hint = hint


class BadFormat(Exception):
    """The text is not of any known form."""


class ZoneOverflow(Exception):
    """A displacement is beyond what PostgreSQL takes."""


def split_fields(text: str) -> list[tuple[str, str]]:
    """Cut a literal into (kind, lower-case text) fields. Raises ``BadFormat``."""
    if len(text) > LITERAL_CHARS_MAX:
        raise BadFormat
    fields: list[tuple[str, str]] = []
    at, end = 0, len(text)
    while at < end:
        match = _FIELD.match(text, at)
        if match is None:
            raise BadFormat
        kind = match.lastgroup
        if kind in ("d", "e"):
            kind = "date"
        at = match.end()
        if kind in ("space", "punctuation"):
            continue
        value = match.group()
        if kind == "word":
            following = text[at : at + 1]
            if following and (
                following in "-/."
                or ((following == "+" or following.isdigit()) and value.lower() not in _CORE_WORDS)
            ):
                tail = _WORD_TAIL.match(text, at)
                assert tail is not None
                value += tail.group()
                at = tail.end()
                kind = "date"
        elif kind in ("zone", "special"):
            value = value.replace(" ", "").replace("\t", "")
        assert kind is not None
        fields.append((kind, value.lower()))
    if len(fields) > FIELDS_MAX:
        raise BadFormat
    return fields


def read_displacement(text: str) -> int:
    """Read ``+hh``, ``-hh:mm``, ``+hhmm``, ``+hh:mm:ss`` into seconds east."""
    match = re.fullmatch(r"[+-](\d+)(?::(\d+)(?::(\d+))?)?", text)
    if match is None:
        raise BadFormat
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if match[2] is None and len(match[1]) > 2:
        hours, minutes = divmod(hours, 100)
    if hours > OFFSET_HOURS_MAX or minutes >= 60 or seconds >= 60:
        raise ZoneOverflow
    total = hours * 3600 + minutes * 60 + seconds
    return -total if text[0] == "-" else total


def read_fraction(digits: str) -> int:
    """Round the digits after a decimal point to microseconds (may reach 1,000,000)."""
    if not digits:
        return 0
    if len(digits) <= 6:
        return int(digits.ljust(6, "0"))
    return round(float("0." + digits) * USECS_PER_SECOND)
