"""Reading dates, times and timestamps in all the forms PostgreSQL takes.

A literal is cut into fields (number, date, time, zone, word) without regard to its meaning; the
decoder then gives each field a role from what is known so far and from the ``DateStyle`` order.
Results are the datums of ``sql.types.base``. Errors: 22007 (syntax), 22008 (field or value out of
range), 22009 (zone displacement), 22023 (unknown zone).

Source: PostgreSQL docs, "Date/Time Input", appendix "Date/Time Support".
"""

import re
from dataclasses import dataclass
from typing import Final

from sql.errors import (
    DatetimeFieldOverflow,
    InvalidDatetimeFormat,
    InvalidParameterValue,
    InvalidTimeZoneDisplacement,
)
from sql.types.base import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY,
)
from sql.types.calendar import (
    POSTGRES_EPOCH_JULIAN_DAY,
    UNIX_EPOCH_DAYS,
    UNIX_EPOCH_USECS,
    USECS_PER_DAY,
    USECS_PER_SECOND,
    date_to_ymd,
    days_in_month,
    is_valid_date,
    is_valid_timestamp,
    ymd_to_date,
)
from sql.types.datetime_fields import (
    IGNORED,
    LABELS,
    MONTHS,
    RESERVED,
    WEEKDAYS,
    BadFormat,
    FieldOverflow,
    ZoneOverflow,
    read_displacement,
    read_fraction,
    split_fields,
)
from sql.types.timezone import ABBREVIATIONS, OFFSET_HOURS_MAX, UTC, Zone, find_zone

_ISO_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_ISO_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
    r"(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)


_YEAR, _MONTH, _DAY, _DATE, _TIME, _ZONE, _DOY = 1, 2, 4, 7, 8, 16, 32
_ERA, _MERIDIEM, _WEEKDAY, _SPECIAL, _HOUR, _MINUTE, _SECOND = 64, 128, 256, 512, 1024, 2048, 4096
_LABEL_MASKS: Final = {
    "year": _YEAR,
    "month": _MONTH,
    "day": _DAY,
    "hour": _HOUR,
    "minute": _MINUTE,
    "second": _SECOND,
}
_YEAR_MAX: Final = 0x7FFFFFFF


@dataclass(slots=True)
class DateSettings:
    """What reading depends on. ``order`` is MDY, DMY or YMD; ``now`` is microseconds UTC."""

    order: str = "MDY"
    zone: Zone = UTC
    now: int | None = None


@dataclass(slots=True)
class _Decoded:
    """Fields found so far; ``seen`` is a mask of them."""

    order: str
    seen: int = 0
    year: int = 0
    month: int = 0
    day: int = 0
    day_of_year: int = 0
    hour: int = 0
    minute: int = 0
    second: int = 0
    micros: int = 0
    zone: Zone | None = None
    special: str = ""
    is_bc: bool | None = None
    meridiem: str = ""
    julian: bool = False
    two_digit_year: bool = False
    text_month: bool = False
    time_only: bool = False

    def mark(self, mask: int) -> None:
        """Note new fields; a field given twice is a syntax error."""
        if self.seen & mask:
            raise BadFormat
        self.seen |= mask


def _decode(text: str, settings: DateSettings, *, time_only: bool = False) -> _Decoded:
    fields = split_fields(text)
    if not fields:
        raise BadFormat
    out = _Decoded(settings.order, time_only=time_only)
    label = ""
    for index, (kind, value) in enumerate(fields):
        match kind:
            case "date":
                _date_field(out, value, label, is_date=_may_be_date(fields, index, out))
                label = ""
            case "time":
                if label not in ("", "time"):
                    raise BadFormat
                label = ""
                out.mark(_TIME)
                _clock_field(out, value)
            case "zone":
                if label == "julian":
                    raise BadFormat
                out.mark(_ZONE)
                out.zone = _fixed(read_displacement(value))
            case "number":
                _number_field(out, value, label)
                label = ""
            case _:
                label = _word_field(out, value, label, fields[index + 1 :])
    if label:
        raise BadFormat
    return out


def _may_be_date(fields: list[tuple[str, str]], index: int, out: _Decoded) -> bool:
    """Tell a date from a run-together time with its zone and from a zone's name."""
    if out.time_only:
        return (
            index == 0 and len(fields) > 1 and (fields[-1][0] == "date" or fields[1][0] == "time")
        )
    return out.seen & (_MONTH | _DAY) != (_MONTH | _DAY)


def _fixed(offset: int) -> Zone:
    return Zone("", fixed=offset, abbreviation="")


def _clock_field(out: _Decoded, text: str) -> None:
    match = re.fullmatch(r"(\d+):(\d*)(?::(\d*))?(?:\.(\d*))?", text)
    if match is None:
        raise BadFormat
    if match[3] is None and match[4] is not None:
        # Two numbers and a fraction are minutes and seconds.
        hour, minute, second = 0, int(match[1]), int(match[2] or 0)
    else:
        hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if minute > 59 or second > 60:
        raise FieldOverflow
    out.hour, out.minute, out.second = hour, minute, second
    out.micros = read_fraction(match[4] or "")


def _date_field(out: _Decoded, text: str, label: str, *, is_date: bool) -> None:
    if label not in ("", "time"):
        raise BadFormat
    if not label and is_date:
        _date(out, text)
        return
    if text[0].isdigit() or label:
        # A run-together time with its zone: hhmmss-zz.
        if out.seen & _TIME:
            raise BadFormat
        at = text.find("-")
        if at < 0:
            raise BadFormat
        out.mark(_ZONE)
        out.zone = _fixed(read_displacement(text[at:]))
        _run_together(out, text[:at], date_known=out.time_only)
        return
    out.mark(_ZONE)
    out.zone = _zone_by_name(text)


def _zone_by_name(text: str) -> Zone:
    zone = find_zone(text)
    if zone is None:
        raise InvalidParameterValue(f'time zone "{text}" not recognized')
    return zone


def _date(out: _Decoded, text: str) -> None:
    """Decode a field with a whole date in it: text months first, then numbers in order."""
    parts = re.findall(r"\d+|[A-Za-z]+", text)
    if not parts or not text[-2:].strip("-/._:+"):
        raise BadFormat
    # A date in one piece must come before everything but a zone.
    if out.seen & ~(_DATE | _DOY | _ZONE):
        raise BadFormat
    seen_before = out.seen
    numbers: list[str] = []
    for part in parts:
        if part[0].isdigit():
            numbers.append(part)
        elif part in MONTHS:
            out.mark(_MONTH)
            out.month = MONTHS[part]
            out.text_month = True
        elif part not in IGNORED and part not in WEEKDAYS:
            raise BadFormat
    for part in numbers:
        _number(out, part)
    if seen_before & _DATE or out.seen & _DATE != _DATE:
        raise BadFormat


def _number_field(out: _Decoded, text: str, label: str) -> None:
    if label == "julian":
        _julian_field(out, text)
    elif label == "time":
        out_seen = out.seen
        _run_together(out, text, date_known=True)
        if not out.seen & ~out_seen & _TIME:
            raise BadFormat
    elif label:
        _labelled_field(out, text, label)
    elif out.time_only and not out.seen & _DATE:
        _run_together(out, text, date_known=True)
    elif "." in text and not out.seen & _DATE:
        _date(out, text)
    elif text.find(".") > 2 or (len(text) >= 6 and (not out.seen & _DATE or not out.seen & _TIME)):
        _run_together(out, text)
    else:
        _number(out, text)


def _labelled_field(out: _Decoded, text: str, label: str) -> None:
    """Decode a number behind ``y``, ``m``, ``d``, ``h``, ``mm`` or ``s``."""
    whole, point, fraction = text.partition(".")
    if point and label != "second":
        raise BadFormat
    if label == "month" and out.seen & _MONTH and out.seen & _HOUR:
        label = "minute"
    out.mark(_LABEL_MASKS[label])
    setattr(out, label, int(whole or 0))
    if point:
        out.micros = read_fraction(fraction)
    if out.seen & (_HOUR | _MINUTE | _SECOND) == _HOUR | _MINUTE | _SECOND:
        out.seen |= _TIME


def _julian_field(out: _Decoded, text: str) -> None:
    whole, _, fraction = text.partition(".")
    if int(whole or 0) > 0x7FFFFFFF:
        raise FieldOverflow
    out.mark(_DATE)
    out.julian = True
    out.year, out.month, out.day = date_to_ymd(int(whole or 0) - POSTGRES_EPOCH_JULIAN_DAY)
    if fraction:
        out.mark(_TIME)
        micros = int(float("0." + fraction) * USECS_PER_DAY)
        seconds, out.micros = divmod(micros, USECS_PER_SECOND)
        minutes, out.second = divmod(seconds, 60)
        out.hour, out.minute = divmod(minutes, 60)


def _number(out: _Decoded, text: str) -> None:
    """Give a lone number its role."""
    if "." in text:
        if text.index(".") > 2:
            _run_together(out, text, date_known=True)
            return
        raise BadFormat
    value, length, date_seen = int(text), len(text), out.seen & _DATE
    if length == 3 and date_seen == _YEAR and 1 <= value <= 366:
        out.mark(_DOY | _MONTH | _DAY)
        out.day_of_year = value
        return
    if date_seen == _DATE:
        _run_together(out, text)
        return
    if date_seen == _YEAR | _MONTH and out.text_month and length >= 3 and out.two_digit_year:
        # The number taken for a year was the day.
        out.day, out.year, out.two_digit_year = out.year, value, False
        out.mark(_DAY)
        return
    role = _role(out, date_seen, length)
    out.mark(role)
    if role == _YEAR:
        out.year, out.two_digit_year = value, length <= 2
    elif role == _MONTH:
        out.month = value
    else:
        out.day = value


def _role(out: _Decoded, date_seen: int, length: int) -> int:
    if date_seen == 0:
        if length >= 3 or out.order == "YMD":
            return _YEAR
        return _DAY if out.order == "DMY" else _MONTH
    if date_seen in (_YEAR, _DAY):
        return _MONTH
    if date_seen == _MONTH:
        return _YEAR if out.text_month and (length >= 3 or out.order == "YMD") else _DAY
    if date_seen == _YEAR | _MONTH:
        return _DAY
    if date_seen == _MONTH | _DAY:
        return _YEAR
    raise BadFormat


def _run_together(out: _Decoded, text: str, *, date_known: bool = False) -> None:
    """Decode ``yymmdd``, ``yyyymmdd``, ``hhmm``, ``hhmmss`` or ``hhmmss.ffffff``."""
    digits, point, fraction = text.partition(".")
    if not point and not date_known and out.seen & _DATE != _DATE and len(digits) >= 6:
        out.mark(_DATE)
        out.day, out.month = int(digits[-2:]), int(digits[-4:-2])
        out.year, out.two_digit_year = int(digits[:-4]), len(digits) == 6
        return
    if len(digits) not in (4, 6):
        raise BadFormat
    out.mark(_TIME)
    out.micros = read_fraction(fraction)
    out.hour, out.minute = int(digits[:2]), int(digits[2:4])
    out.second = int(digits[4:]) if len(digits) == 6 else 0


def _word_field(out: _Decoded, word: str, label: str, rest: list[tuple[str, str]]) -> str:
    """Decode a word; return the label it puts on the next field, if any."""
    if label:
        raise BadFormat
    offset = ABBREVIATIONS.get(word)
    if offset is not None and word not in MONTHS:
        out.mark(_ZONE)
        out.zone = _fixed(offset)
    elif word in RESERVED:
        _reserved_word(out, word)
    elif out.time_only and word in MONTHS:
        raise BadFormat
    elif word in MONTHS:
        if (
            out.seen & _MONTH
            and not out.text_month
            and not out.seen & _DAY
            and 1 <= out.month <= 31
        ):
            # The number taken for a month was the day.
            out.day = out.month
            out.seen = out.seen & ~_MONTH | _DAY
        out.mark(_MONTH)
        out.month, out.text_month = MONTHS[word], True
    elif word in ("am", "pm"):
        out.mark(_MERIDIEM)
        out.meridiem = word
    elif word in ("ad", "bc"):
        out.mark(_ERA)
        out.is_bc = word == "bc"
    elif word == "dst":
        if out.zone is None or out.zone.fixed is None:
            raise BadFormat
        out.zone = _fixed(out.zone.fixed + 3600)
    elif word in LABELS:
        if LABELS[word] == "time" and (
            (out.seen & _DATE != _DATE and not out.time_only) or not rest
        ):
            raise BadFormat
        return LABELS[word]
    elif word in WEEKDAYS:
        out.mark(_WEEKDAY)
    elif word not in IGNORED:
        zone = find_zone(word)
        if zone is None:
            raise BadFormat
        out.mark(_ZONE)
        out.zone = zone
    return ""


def _reserved_word(out: _Decoded, word: str) -> None:
    match word:
        case "allballs":
            out.mark(_TIME | _ZONE)
            out.zone = UTC
        case "now":
            out.mark(_DATE | _TIME | _ZONE)
        case "today" | "tomorrow" | "yesterday":
            out.mark(_DATE)
        case _:
            out.mark(_SPECIAL)
    if word != "allballs":
        out.special = word


def _finish_date(out: _Decoded) -> None:
    """Resolve century, BC and day of year; check ranges. Leaves an astronomical year."""
    if not out.julian and out.seen & _YEAR:
        if out.is_bc:
            if out.year <= 0:
                raise FieldOverflow
            out.year = 1 - out.year
        elif out.two_digit_year:
            out.year += 2000 if out.year < 70 else 1900
        elif out.year <= 0:
            raise FieldOverflow
    if out.seen & _DOY:
        start = ymd_to_date(out.year, 1, 1)
        out.year, out.month, out.day = date_to_ymd(start + out.day_of_year - 1)
    if out.seen & _MONTH and not 1 <= out.month <= 12:
        raise FieldOverflow(hint=True)
    if out.seen & _DAY and not 1 <= out.day <= 31:
        raise FieldOverflow(hint=True)
    if out.seen & _DATE == _DATE:
        if out.year > _YEAR_MAX:
            raise FieldOverflow
        if out.day > days_in_month(out.year, out.month):
            raise FieldOverflow


def _finish_time(out: _Decoded) -> int:
    """Return microseconds of the day."""
    if out.meridiem:
        if out.hour > 12:
            raise FieldOverflow
        out.hour = out.hour % 12 + (12 if out.meridiem == "pm" else 0)
    if out.minute > 59 or out.second > 60 or out.hour > 24:
        raise FieldOverflow
    time = ((out.hour * 60 + out.minute) * 60 + out.second) * USECS_PER_SECOND + out.micros
    if time > USECS_PER_DAY:
        raise FieldOverflow
    return time


def _current(settings: DateSettings, text: str, type_name: str) -> int:
    if settings.now is None:
        raise _bad_format(text, type_name)
    return settings.now


def _bad_format(text: str, type_name: str) -> InvalidDatetimeFormat:
    return InvalidDatetimeFormat(f'invalid input syntax for type {type_name}: "{text}"')


def _overflow(text: str, *, hint: bool) -> DatetimeFieldOverflow:
    return DatetimeFieldOverflow(
        f'date/time field value out of range: "{text}"',
        hint='Perhaps you need a different "datestyle" setting.' if hint else "",
    )


_DAY_WORDS: Final = {"today": 0, "tomorrow": 1, "yesterday": -1}


def _whole(text: str, settings: DateSettings, type_name: str) -> tuple[_Decoded, int, int]:
    """Decode a date with optional time into (fields, days, microseconds of the day)."""
    try:
        out = _decode(text, settings)
        if out.special in ("epoch", "now", "infinity", "-infinity"):
            return out, 0, 0
        if out.special:
            now = _current(settings, text, type_name)
            local = now + settings.zone.offset_at_utc(now) * USECS_PER_SECOND
            days = local // USECS_PER_DAY + _DAY_WORDS[out.special]
            return out, days, _finish_time(out)
        _finish_date(out)
        time = _finish_time(out)
        if out.seen & _DATE != _DATE:
            raise BadFormat
        return out, ymd_to_date(out.year, out.month, out.day), time
    except BadFormat:
        raise _bad_format(text, type_name) from None
    except FieldOverflow as fault:
        raise _overflow(text, hint=fault.hint) from None
    except ZoneOverflow:
        raise InvalidTimeZoneDisplacement(
            f'time zone displacement out of range: "{text}"'
        ) from None


def read_date(text: str, settings: DateSettings) -> int:
    """Read a date; a time in the text is checked and dropped."""
    quick = _ISO_DATE.fullmatch(text)
    if quick is not None:
        year, month, day = int(quick[1]), int(quick[2]), int(quick[3])
        if year and 1 <= month <= 12 and 1 <= day <= days_in_month(year, month):
            return ymd_to_date(year, month, day)
    out, days, _ = _whole(text, settings, "date")
    match out.special:
        case "infinity":
            return DATE_INFINITY
        case "-infinity":
            return DATE_MINUS_INFINITY
        case "epoch":
            return UNIX_EPOCH_DAYS
        case "now":
            now = _current(settings, text, "date")
            return (now + settings.zone.offset_at_utc(now) * USECS_PER_SECOND) // USECS_PER_DAY
        case _:
            pass
    if not is_valid_date(days):
        raise DatetimeFieldOverflow(f'date out of range: "{text}"')
    return days


def _special_timestamp(word: str, settings: DateSettings, text: str, name: str) -> int | None:
    match word:
        case "infinity":
            return TIMESTAMP_INFINITY
        case "-infinity":
            return TIMESTAMP_MINUS_INFINITY
        case "epoch":
            return UNIX_EPOCH_USECS
        case "now":
            return _current(settings, text, name)
        case _:
            return None


def read_timestamp(text: str, settings: DateSettings) -> int:
    """Read a timestamp without time zone; a zone in the text is checked and dropped."""
    quick = _ISO_TIMESTAMP.fullmatch(text)
    if quick is not None:
        value = _quick(quick)
        if value is not None:
            return value
    out, days, time = _whole(text, settings, "timestamp")
    special = _special_timestamp(out.special, settings, text, "timestamp")
    if special is not None:
        if out.special == "now":
            special += settings.zone.offset_at_utc(special) * USECS_PER_SECOND
        return special
    return _in_range(days * USECS_PER_DAY + time, text)


def read_timestamptz(text: str, settings: DateSettings) -> int:
    """Read a timestamp with time zone into microseconds UTC."""
    quick = _ISO_TIMESTAMP.fullmatch(text)
    if quick is not None:
        value = _quick(quick)
        if value is not None:
            if quick[9] is not None:
                offset = int(quick[10]) * 3600 + int(quick[11] or 0) * 60
                value -= (offset if quick[9] == "+" else -offset) * USECS_PER_SECOND
            elif quick[8] is None:
                value -= settings.zone.offset_at_local(value) * USECS_PER_SECOND
            return value
    out, days, time = _whole(text, settings, "timestamp with time zone")
    special = _special_timestamp(out.special, settings, text, "timestamp with time zone")
    if special is not None:
        return special
    local = days * USECS_PER_DAY + time
    zone = out.zone if out.zone is not None else settings.zone
    return _in_range(local - zone.offset_at_local(local) * USECS_PER_SECOND, text)


def _quick(match: re.Match[str]) -> int | None:
    """Join the fields of the plain ISO form; None when a field needs the full decoder's care."""
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if not (year and 1 <= month <= 12 and 1 <= day <= days_in_month(year, month)):
        return None
    days = ymd_to_date(year, month, day)
    if match[10] is not None and (int(match[10]) > OFFSET_HOURS_MAX or int(match[11] or 0) > 59):
        return None
    if match[4] is None:
        return None if match[10] is not None or match[8] is not None else days * USECS_PER_DAY
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    if hour > 23 or minute > 59 or second > 59:
        return None
    time = ((hour * 60 + minute) * 60 + second) * USECS_PER_SECOND
    if match[7] is not None:
        time += int(match[7].ljust(6, "0"))
    return days * USECS_PER_DAY + time


def _in_range(us: int, text: str) -> int:
    if not is_valid_timestamp(us):
        raise DatetimeFieldOverflow(f'timestamp out of range: "{text}"')
    return us


def _time_fields(text: str, settings: DateSettings, type_name: str) -> tuple[_Decoded, int]:
    try:
        out = _decode(text, settings, time_only=True)
        if out.special == "now":
            return out, 0
        if out.special or not out.seen & _TIME:
            raise BadFormat
        _finish_date(out)
        time = _finish_time(out)
        if out.zone is not None and out.zone.fixed is None and out.seen & _DATE != _DATE:
            raise BadFormat
        return out, time
    except BadFormat:
        raise _bad_format(text, type_name) from None
    except FieldOverflow as fault:
        raise _overflow(text, hint=fault.hint) from None
    except ZoneOverflow:
        raise InvalidTimeZoneDisplacement(
            f'time zone displacement out of range: "{text}"'
        ) from None


def read_time(text: str, settings: DateSettings) -> int:
    """Read a time of day in microseconds; date and zone are checked and dropped."""
    out, time = _time_fields(text, settings, "time")
    if out.special == "now":
        now = _current(settings, text, "time")
        return (now + settings.zone.offset_at_utc(now) * USECS_PER_SECOND) % USECS_PER_DAY
    return time


def read_timetz(text: str, settings: DateSettings) -> tuple[int, int]:
    """Read a time with zone into (microseconds, seconds west of Greenwich)."""
    out, time = _time_fields(text, settings, "time with time zone")
    if out.special == "now":
        now = _current(settings, text, "time with time zone")
        offset = settings.zone.offset_at_utc(now)
        return (now + offset * USECS_PER_SECOND) % USECS_PER_DAY, -offset
    zone = out.zone if out.zone is not None else settings.zone
    if zone.fixed is not None:
        return time, -zone.fixed
    if out.seen & _DATE == _DATE:
        day = ymd_to_date(out.year, out.month, out.day)
    else:
        now = settings.now or 0
        day = (now + zone.offset_at_utc(now) * USECS_PER_SECOND) // USECS_PER_DAY
    return time, -zone.offset_at_local(day * USECS_PER_DAY + time)
