"""A session's variables: validated, transactional, reported to the client when they change.

A value set in a transaction goes back when it is rolled back, to a savepoint too; SET LOCAL goes
back at the end either way (PostgreSQL docs, "SET"). Hot readers do not look up names: what
statements need on every execution stands in attributes (``format``, ``statement_timeout_ms``...),
refreshed when its variable changes.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.gateway.message import SettingsState
from nodedb.session.variable_table import VARIABLES
from sql.errors import (
    CantChangeRuntimeParam,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidName,
    InvalidParameterValue,
    UndefinedObject,
)
from sql.types.io import FormatContext, RegResolver
from sql.types.zone_setting import time_zone_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REPORTED: Final = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
)


class Variable(NamedTuple):
    """One known variable; see ``variable_table`` for the fields."""

    name: str
    kind: str
    default: str
    unit: str
    minimum: str
    maximum: str
    values: str
    context: str
    category: str
    description: str


BY_NAME: Final = {row[0].lower(): Variable(*row) for row in VARIABLES}
_CUSTOM_NAME: Final = re.compile(r"[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*)+\Z")
_TRUE: Final = ("on", "true", "yes", "1", "t", "tr", "tru", "y", "ye")
_FALSE: Final = ("off", "false", "no", "0", "f", "fa", "fal", "fals", "n", "of")
_MEMORY_UNITS: Final = {
    "B": Decimal(1) / 1024,
    "kB": Decimal(1),
    "MB": Decimal(1024),
    "GB": Decimal(1024**2),
    "TB": Decimal(1024**3),
}
_TIME_UNITS: Final = {
    "us": Decimal("0.001"),
    "ms": Decimal(1),
    "s": Decimal(1000),
    "min": Decimal(60_000),
    "h": Decimal(3_600_000),
    "d": Decimal(86_400_000),
}
_NUMBER_WITH_UNIT: Final = re.compile(
    r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*\Z"
)
_HEX_OR_OCTAL: Final = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]+)(?![0-9.eE])")
_INTEGER_MAX: Final = 2**31 - 1
_READ_CONSISTENCY: Final = re.compile(r"strong|eventual|bounded_staleness:(\d+(?:\.\d+)?)\Z")
_NEEDS_QUOTES: Final = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def split_identifiers(text: str) -> list[str]:
    """Split a comma-separated list of identifiers, quoted ones included, folded as SQL does."""
    names = []
    for part in re.findall(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|\Z)', text):
        word = part.strip()
        if word.startswith('"'):
            names.append(word[1:-1].replace('""', '"'))
        elif word:
            names.append(word.lower())
    return names


def quote_identifier(name: str) -> str:
    """Quote where SQL needs it in a list of names."""
    return name if _NEEDS_QUOTES.match(name) else '"' + name.replace('"', '""') + '"'


CHARACTERISTICS: Final = (
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
)
"""Their defaults are the variables ``default_`` + name.

A transaction's own values live in ``_local``.
"""
_NOT_RESET: Final = frozenset((*CHARACTERISTICS, "role", "session_authorization", "is_superuser"))
"""What RESET ALL leaves alone."""
_FIXED_BY_DEFAULTS: Final = {f"default_{name}": name for name in CHARACTERISTICS}
_ENUM_ALIASES: Final = {"client_min_messages": {"debug": "debug2", "info": "info"}}


def node_setting_ms(values: dict[str, str], name: str) -> int:
    """Return a setting that is the node's alone, in milliseconds; 22023 for a bad value."""
    variable = BY_NAME[name]
    assert variable.context == "sighup", "sessions may not set it"
    given = {key.lower(): value for key, value in values.items()}
    return int(_canonical(variable, given.get(name, variable.default), name))


class _Undo(NamedTuple):
    name: str
    session: str | None
    local: str | None


class Settings:
    """The variables of one session."""

    def __init__(self, defaults: dict[str, str], *, is_superuser: Callable[[], bool]) -> None:
        """Start from the built-in defaults overridden by ``defaults``.

        Node, database, role, start-up packet.
        """
        self._defaults: dict[str, str] = {}
        self._session: dict[str, str] = {}
        self._local: dict[str, str] = {}
        self._undo: list[_Undo] = []
        self._is_superuser = is_superuser
        self._custom: dict[str, None] = {}
        self._reported: dict[str, str] = {}
        self._is_touched = False
        self.version = 0
        """Grows whenever anything was set, undone or forgotten."""
        self.committed_version = 0
        """The version at the end of the last transaction that set anything."""
        self.is_read_only = False
        self.is_snapshot = False
        self.is_serializable = False
        self.injects_errors = False
        self.on_role_change: Callable[[], None] = lambda: None
        self.format = FormatContext()
        self.search_path: tuple[str, ...] = ()
        self.search_path_version = 0
        self.statement_timeout_ms = 0
        self.lock_timeout_ms = 0
        self.log_waits_ms = 0
        self.idle_in_transaction_timeout_ms = 0
        self.idle_session_timeout_ms = 0
        self.log_min_duration_ms = -1
        self.is_watched = False
        """Tell whether a statement's time, or the time between two, has to be looked at."""
        self.query_memory_bytes = 0
        self.client_min_messages = "notice"
        for name, value in defaults.items():
            self.set_default(name, value)
        for name in _REFRESH:
            self._refresh(name)
        self._reported = dict(self.reported())

    def set_default(self, name: str, value: str) -> None:
        """Change what RESET goes back to."""
        variable = self._variable(name)
        self._defaults[name.lower()] = self._checked(variable, value, variable.name)
        self.version += 1
        self._refresh(name.lower())

    def set_reg_resolver(self, resolver: RegResolver) -> None:
        """Give output and input of the reg types the session's catalog."""
        _replace_format(self, reg_resolver=resolver)

    # Reading

    def get(self, name: str) -> str:
        """Return a variable's SHOW text. UndefinedObject (42704) when unknown."""
        key = name.lower()
        value = self._local.get(key)
        if value is None:
            value = self._session.get(key)
        if value is None and key in CHARACTERISTICS:
            return self.get(f"default_{key}")
        if value is None:
            value = self._defaults.get(key)
        if value is None and key in BY_NAME:
            value = BY_NAME[key].default
        if value is None:
            if key in self._custom:
                return ""
            raise UndefinedObject(f'unrecognized configuration parameter "{name}"')
        return value

    def show(self, name: str) -> str:
        """Return the value as SHOW prints it, with its unit."""
        return _shown(BY_NAME.get(name.lower()), self.get(name))

    def find(self, name: str) -> str | None:
        """Return the SHOW text, None when unknown."""
        try:
            return self.show(name)
        except UndefinedObject:
            return None

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, setting, description) of every variable, for SHOW ALL."""
        return [
            (variable.name, self.show(variable.name), variable.description)
            for _, variable in sorted(BY_NAME.items())
        ]

    def reported(self) -> list[tuple[str, str]]:
        """Return the variables that ParameterStatus reports."""
        return [(name, self.get(name)) for name in REPORTED]

    @property
    def has_changes(self) -> bool:
        """Tell whether anything was set since the last ``take_changes``.

        It may still be the same values.
        """
        return self._is_touched

    def take_changes(self) -> list[tuple[str, str]]:
        """Return the reported variables that changed since the last call."""
        self._is_touched = False
        changes = [
            (name, value) for name, value in self.reported() if self._reported.get(name) != value
        ]
        self._reported.update(changes)
        return changes

    # Writing

    def set_isolation(self, level: str) -> None:
        """Take note of the running transaction's isolation level, or the next one's."""
        self.is_serializable = level == "serializable"
        self.is_snapshot = self.is_serializable or level == "repeatable read"

    def set(self, name: str, value: str | None, *, local: bool, internal: bool = False) -> None:
        """SET or, with None, SET ...

        TO DEFAULT. Errors: 42704 unknown, 22023 bad value, 55P02 fixed, 42501.
        """
        key = name.lower()
        variable = self._variable(name)
        if not internal:
            self._check_context(variable)
        text = self._default_of(key) if value is None else self._checked(variable, value, name)
        fixed = _FIXED_BY_DEFAULTS.get(key)
        if fixed is not None and fixed not in self._local:
            # A new default is for the transactions to come, not for the running one.
            self.set(fixed, self.get(fixed), local=True, internal=True)
        if key not in BY_NAME:
            self._custom[key] = None
        self._undo.append(_Undo(key, self._session.get(key), self._local.get(key)))
        self.version += 1
        if local:
            self._local[key] = text
        else:
            self._local.pop(key, None)
            if value is None:
                self._session.pop(key, None)
            else:
                self._session[key] = text
        if key == "default_read_consistency":
            self.set("nodedb.read_consistency", value, local=local)
        self._refresh(key)

    def check(self, name: str, value: str) -> None:
        """Raise what SET would: 42704 unknown, 22023 bad value, 55P02 fixed, 42501."""
        variable = self._variable(name)
        self._check_context(variable)
        self._checked(variable, value, name)

    def check_startup(self, name: str) -> None:
        """Raise what a start-up packet's setting earns that may not be set there.

        42704, 55P02, 42501.
        """
        variable = self._variable(name)
        if variable.context not in ("backend", "superuser-backend"):
            self._check_context(variable)

    def checked(self, name: str, value: str) -> str:
        """Return a value in the form in which it is stored. Errors: 42704 unknown, 22023 bad."""
        return self._checked(self._variable(name), value, name)

    def _checked(self, variable: Variable, value: str, name: str) -> str:
        if variable.name == "DateStyle":
            return date_style(variable.name, value, self.get("DateStyle"))
        return _canonical(variable, value, name)

    def reset_all(self) -> None:
        """RESET ALL."""
        for key in {**self._session, **self._local}:
            variable = BY_NAME.get(key)
            if key in _NOT_RESET:
                continue
            if variable is None or variable.context in ("user", "superuser"):
                self.set(key, None, local=False, internal=True)

    def _default_of(self, key: str) -> str:
        built_in = BY_NAME[key].default if key in BY_NAME else ""
        return self._defaults.get(key, built_in)

    def _variable(self, name: str) -> Variable:
        found = BY_NAME.get(name.lower())
        if found is not None:
            return found
        if "." in name:
            if not _CUSTOM_NAME.match(name):
                raise InvalidName(
                    f'invalid configuration parameter name "{name}"',
                    detail="Custom parameter names must be two or more simple identifiers "
                    "separated by dots.",
                )
            if name.lower().startswith("nodedb."):
                raise UndefinedObject(f'unrecognized configuration parameter "{name}"')
            return Variable(name, "string", "", "", "", "", "", "user", "Customized Options", "")
        raise UndefinedObject(f'unrecognized configuration parameter "{name}"')

    def _check_context(self, variable: Variable) -> None:
        name = variable.name
        if variable.context in ("internal", "postmaster", "sighup"):
            why = {
                "internal": "cannot be changed",
                "postmaster": "cannot be changed without restarting the server",
                "sighup": "cannot be changed now",
            }[variable.context]
            raise CantChangeRuntimeParam(f'parameter "{name}" {why}')
        if variable.context in ("backend", "superuser-backend"):
            raise CantChangeRuntimeParam(f'parameter "{name}" cannot be set after connection start')
        if variable.context == "superuser" and not self._is_superuser():
            raise InsufficientPrivilege(f'permission denied to set parameter "{name}"')

    # Transactions

    def mark(self) -> int:
        """Return the present point, for a savepoint."""
        return len(self._undo)

    def rollback_to(self, mark: int) -> None:
        """Undo what was set since the mark."""
        while len(self._undo) > mark:
            self.version += 1
            entry = self._undo.pop()
            _restore(self._session, entry.name, entry.session)
            _restore(self._local, entry.name, entry.local)
            self._refresh(entry.name)

    def end_transaction(self, *, committed: bool) -> None:
        """Forget SET LOCAL, and on rollback everything the transaction set."""
        if not self._undo and not self._local:
            return
        if not committed:
            self.rollback_to(0)
        self._undo.clear()
        local = list(self._local)
        self._local.clear()
        self.version += 1
        self.committed_version = self.version
        for key in local:
            self._refresh(key)

    def characteristics(self) -> tuple[str, str, str]:
        """Return the running transaction's isolation level, read only and deferrable."""
        isolation, read_only, deferrable = [self.get(name) for name in CHARACTERISTICS]
        return isolation, read_only, deferrable

    def set_characteristics(self, values: Iterable[str]) -> None:
        """Give the running transaction its characteristics, until it ends."""
        for name, value in zip(CHARACTERISTICS, values, strict=True):
            if self.get(name) != value:
                # Without undo: not even a rollback changes what the next block of a chain began
                # with.
                self._local[name] = value
                self.version += 1
                self._refresh(name)

    # Moving to another node

    def export(self) -> SettingsState:
        """Return all of it, the running transaction's part included."""
        return SettingsState(
            self._defaults.copy(),
            self._session.copy(),
            self._local.copy(),
            tuple((entry.name, entry.session, entry.local) for entry in self._undo),
            tuple(self._custom),
        )

    def export_committed(self) -> SettingsState:
        """Return what would be left if the running transaction were rolled back."""
        session = self._session.copy()
        for entry in reversed(self._undo):
            _restore(session, entry.name, entry.session)
        return SettingsState(self._defaults.copy(), session, {}, (), tuple(self._custom))

    def restore(self, state: SettingsState) -> None:
        """Take over what another node's ``export`` gave, which has told the client of it."""
        before = {**self._defaults, **self._session, **self._local}
        self._defaults = state.defaults
        self._session = state.session
        self._local = state.local
        self._undo = [_Undo(*entry) for entry in state.undo]
        self._custom = dict.fromkeys(state.custom)
        self.version += 1
        after = {**self._defaults, **self._session, **self._local}
        for name in dict.fromkeys((*before, *after)):
            if before.get(name) != after.get(name):
                self._refresh(name)
        self.take_changes()

    # What hot paths read

    def _refresh(self, key: str) -> None:
        self._is_touched |= key in _REPORTED_KEYS
        refresh = _REFRESH.get(key)
        if refresh is not None:
            refresh(self, self.get(key))


_REPORTED_KEYS: Final = frozenset(name.lower() for name in REPORTED)


def _restore(values: dict[str, str], key: str, old: str | None) -> None:
    if old is None:
        values.pop(key, None)
    else:
        values[key] = old


def _replace_format(settings: Settings, **changes: object) -> None:
    """Give the session a new FormatContext.

    Encoders compiled for the old one must not change under their users.
    """
    old = settings.format
    new = FormatContext()
    for name in (
        "date_style",
        "interval_style",
        "time_zone",
        "extra_float_digits",
        "bytea_output",
        "now",
        "reg_resolver",
    ):
        setattr(new, name, changes.get(name, getattr(old, name)))
    settings.format = new


def _set_search_path(settings: Settings, value: str) -> None:
    settings.search_path = tuple(split_identifiers(value))
    settings.search_path_version += 1


def _set_milliseconds(attribute: str) -> Callable[[Settings, str], None]:
    def change(settings: Settings, value: str) -> None:
        setattr(settings, attribute, int(value))
        settings.is_watched = bool(
            settings.statement_timeout_ms
            or settings.idle_in_transaction_timeout_ms
            or settings.idle_session_timeout_ms
            or settings.log_min_duration_ms >= 0
            or settings.injects_errors
        )

    return change


def _set_injection(settings: Settings, value: str) -> None:
    settings.injects_errors = value == "on"
    settings.is_watched |= settings.injects_errors


def _set_log_waits(settings: Settings) -> None:
    is_logged = settings.get("log_lock_waits") == "on"
    settings.log_waits_ms = int(settings.get("deadlock_timeout")) if is_logged else 0


_REFRESH: Final[dict[str, Callable[[Settings, str], None]]] = {
    "datestyle": lambda s, v: _replace_format(s, date_style=v),
    "intervalstyle": lambda s, v: _replace_format(s, interval_style=v),
    "timezone": lambda s, v: _replace_format(s, time_zone=v),
    "extra_float_digits": lambda s, v: _replace_format(s, extra_float_digits=int(v)),
    "bytea_output": lambda s, v: _replace_format(s, bytea_output=v),
    "search_path": _set_search_path,
    "statement_timeout": _set_milliseconds("statement_timeout_ms"),
    "lock_timeout": _set_milliseconds("lock_timeout_ms"),
    "log_lock_waits": lambda s, _: _set_log_waits(s),
    "deadlock_timeout": lambda s, _: _set_log_waits(s),
    "idle_in_transaction_session_timeout": _set_milliseconds("idle_in_transaction_timeout_ms"),
    "idle_session_timeout": _set_milliseconds("idle_session_timeout_ms"),
    "log_min_duration_statement": _set_milliseconds("log_min_duration_ms"),
    "query_memory_limit": lambda s, v: setattr(s, "query_memory_bytes", int(v) * 1024),
    "client_min_messages": lambda s, v: setattr(
        s, "client_min_messages", "notice" if v == "info" else v
    ),
    "nodedb.inject_retry_errors": _set_injection,
    "role": lambda s, _: s.on_role_change(),
    "session_authorization": lambda s, _: s.on_role_change(),
    "transaction_read_only": lambda s, v: setattr(s, "is_read_only", v == "on"),
    "transaction_isolation": lambda s, v: s.set_isolation(v),
    "default_transaction_read_only": lambda s, _: s._refresh("transaction_read_only"),  # noqa: SLF001  its own method
    "default_transaction_isolation": lambda s, _: s._refresh("transaction_isolation"),  # noqa: SLF001  its own method
}


def _canonical(variable: Variable, value: str, name: str) -> str:
    """Check a value and return it in the form that is stored.

    Messages about its form have the variable's name as it was written.
    """
    special = _SPECIAL.get(variable.name.lower())
    if special is not None:
        return special(variable, value)
    if variable.kind == "bool":
        return _canonical_bool(value, name)
    if variable.kind in ("integer", "real"):
        return _canonical_number(variable, value, name)
    if variable.kind == "enum":
        allowed = variable.values.split("/")
        lowered = value.lower()
        if lowered in allowed:
            return lowered
        alias = _ENUM_ALIASES.get(variable.name, {}).get(lowered)
        if alias is not None:
            return alias
        if lowered in _TRUE and "on" in allowed:
            return "on"
        if lowered in _FALSE and "off" in allowed:
            return "off"
        raise InvalidParameterValue(
            f'invalid value for parameter "{name}": "{value}"',
            hint=f"Available values: {', '.join(allowed)}.",
        )
    return value


def _canonical_bool(value: str, name: str) -> str:
    lowered = value.strip().lower()
    if lowered in _TRUE:
        return "on"
    if lowered in _FALSE:
        return "off"
    raise InvalidParameterValue(f'parameter "{name}" requires a Boolean value')


def _canonical_number(variable: Variable, value: str, name: str) -> str:
    text = value
    literal = _HEX_OR_OCTAL.match(value) if variable.kind == "integer" else None
    if literal is not None:
        base = 16 if literal[2][1] in "xX" else 8
        text = f"{literal[1]}{int(literal[2], base)}{value[literal.end() :]}"
    match = _NUMBER_WITH_UNIT.match(text)
    if match is None:
        raise InvalidParameterValue(f'invalid value for parameter "{name}": "{value}"')
    number, unit = Decimal(match[1]), match[2]
    if unit:
        number = number * _unit_scale(variable, unit, value, name)
    if variable.kind == "integer":
        number = number.to_integral_value("ROUND_HALF_EVEN")
        if not -_INTEGER_MAX - 1 <= number <= _INTEGER_MAX:
            raise InvalidParameterValue(
                f'invalid value for parameter "{name}": "{value}"',
                hint="Value exceeds integer range.",
            )
    low, high = Decimal(variable.minimum or "-1e400"), Decimal(variable.maximum or "1e400")
    if not low <= number <= high:
        suffix = f" {variable.unit}" if variable.unit else ""
        raise InvalidParameterValue(
            f'{number:f}{suffix} is outside the valid range for parameter "{name}" '
            f"({variable.minimum} .. {variable.maximum})"
        )
    return str(int(number)) if variable.kind == "integer" else f"{number.normalize():f}"


def _unit_scale(variable: Variable, unit: str, value: str, name: str) -> Decimal:
    """Return by what a number in a unit is multiplied to be in the variable's own."""
    units = _MEMORY_UNITS if variable.unit in ("B", "kB", "MB", "8kB") else _TIME_UNITS
    scale, base = units.get(unit), units.get(variable.unit.removeprefix("8"))
    if not variable.unit or scale is None or base is None:
        allowed = (
            '"B", "kB", "MB", "GB", and "TB"'
            if units is _MEMORY_UNITS
            else ('"us", "ms", "s", "min", "h", and "d"')
        )
        raise InvalidParameterValue(
            f'invalid value for parameter "{name}": "{value}"',
            hint=f"Valid units for this parameter are {allowed}." if variable.unit else "",
        )
    return scale / (base * 8 if variable.unit == "8kB" else base)


def _shown(variable: Variable | None, value: str) -> str:
    """Write an integer with the largest unit that divides it, as SHOW does."""
    if variable is None or variable.kind != "integer" or not variable.unit or int(value) <= 0:
        return value
    number = int(value)
    if variable.unit == "8kB":
        number, unit = number * 8, "kB"
    else:
        unit = variable.unit
    steps = (
        (("kB", "MB", 1024), ("MB", "GB", 1024), ("GB", "TB", 1024))
        if unit in _MEMORY_UNITS
        else (("ms", "s", 1000), ("s", "min", 60), ("min", "h", 60), ("h", "d", 24))
    )
    for small, large, factor in steps:
        if unit == small and number % factor == 0:
            number, unit = number // factor, large
    return f"{number}{unit}"


_DATE_STYLES: Final = {"iso": "ISO", "sql": "SQL", "german": "German"}
_DATE_ORDERS: Final = {
    "ymd": "YMD",
    "dmy": "DMY",
    "euro": "DMY",
    "mdy": "MDY",
    "us": "MDY",
    "noneuro": "MDY",
}


def _date_word(word: str) -> tuple[str, str]:
    """Return what a word of DateStyle stands for, (style, order) with "" for neither."""
    if word in _DATE_STYLES:
        return _DATE_STYLES[word], ""
    if word.startswith("postgres"):
        return "Postgres", ""
    if word.startswith("euro"):
        return "", "DMY"
    return "", "MDY" if word.startswith("noneuro") else _DATE_ORDERS.get(word, "")


def date_style(name: str, value: str, current: str) -> str:
    """Complete a DateStyle from the current one: either part may be left out. Raises 22023."""
    current_style, current_order = current.split(", ")
    style = order = implied = ""
    for word in split_identifiers(value):
        new_style, new_order = _date_word(word.lower())
        if word.lower() == "default":
            new_style, new_order = ("ISO", "MDY") if not style and not order else ("", "")
        elif not new_style and not new_order:
            raise InvalidParameterValue(
                f'invalid value for parameter "{name}": "{value}"',
                detail=f'Unrecognized key word: "{word}".',
            )
        if (new_style and style not in ("", new_style)) or (
            new_order and order not in ("", new_order)
        ):
            raise InvalidParameterValue(
                f'invalid value for parameter "{name}": "{value}"',
                detail='Conflicting "datestyle" specifications.',
            )
        style, order = new_style or style, new_order or order
        implied = "DMY" if style == "German" else implied
    return f"{style or current_style}, {order or implied or current_order}"


def _time_zone(variable: Variable, value: str) -> str:
    del variable
    return time_zone_setting(value)


def _ascii_name(variable: Variable, value: str) -> str:
    """Replace what is not printable ASCII, byte by byte: every client must be able to show it."""
    del variable
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in value.encode())


def _existing(*names: str, what: str) -> Callable[[Variable, str], str]:
    """Return a check for the name of an object of a kind that has no others."""

    def check(variable: Variable, value: str) -> str:
        if value not in names:
            raise InvalidParameterValue(
                f'invalid value for parameter "{variable.name}": "{value}"',
                detail=f'{what} "{value}" does not exist.' if what else "",
            )
        return value

    return check


def _client_encoding(variable: Variable, value: str) -> str:
    if re.sub(r"[^a-z0-9]", "", value.lower()) in ("utf8", "unicode", "default"):
        return "UTF8"
    known = (
        "sqlascii",
        "latin1",
        "latin2",
        "win1252",
        "iso88591",
        "eucjp",
        "sjis",
        "big5",
        "gbk",
        "koi8r",
    )
    if re.sub(r"[^a-z0-9]", "", value.lower()) in known:
        raise FeatureNotSupported(f"conversion between {value.upper()} and UTF8 is not supported")
    raise InvalidParameterValue(f'invalid value for parameter "{variable.name}": "{value}"')


def _read_consistency(variable: Variable, value: str) -> str:
    lowered = value.strip().lower()
    match = _READ_CONSISTENCY.fullmatch(lowered)
    if match is None or (match[1] is not None and float(match[1]) <= 0):
        raise InvalidParameterValue(
            f'invalid value for parameter "{variable.name}": "{value}"',
            hint="Available values: strong, bounded_staleness:<seconds>, eventual.",
        )
    return lowered


def _isolation(variable: Variable, value: str) -> str:
    lowered = value.lower()
    if lowered in ("read uncommitted", "read committed", "repeatable read", "serializable"):
        return lowered
    raise InvalidParameterValue(
        f'invalid value for parameter "{variable.name}": "{value}"',
        hint="Available values: serializable, repeatable read, read committed, read uncommitted.",
    )


_SPECIAL: Final[dict[str, Callable[[Variable, str], str]]] = {
    "timezone": _time_zone,
    "log_timezone": _time_zone,
    "client_encoding": _client_encoding,
    "nodedb.read_consistency": _read_consistency,
    "default_read_consistency": _read_consistency,
    "application_name": _ascii_name,
    "cluster_name": _ascii_name,
    "default_tablespace": _existing("", "pg_default", "pg_global", what="Tablespace"),
    "default_table_access_method": _existing("heap", what="Table access method"),
    "default_text_search_config": _existing(
        "pg_catalog.simple", "simple", "pg_catalog.english", "english", what=""
    ),
    "default_transaction_isolation": _isolation,
    "transaction_isolation": _isolation,
}


def join_values(name: str, values: Iterable[object]) -> str:
    """Join the values of ``SET name TO a, b`` into one text.

    Only lists of names may have several.
    """
    texts = [_text_of(value) for value in values]
    if name.lower() in ("search_path", "temp_tablespaces", "session_preload_libraries"):
        return ", ".join(quote_identifier(text) for text in texts)
    if name.lower() == "datestyle":
        return ", ".join(texts)
    if len(texts) != 1:
        raise InvalidParameterValue(f"SET {name} takes only one argument")
    return texts[0]


def _text_of(value: object) -> str:
    if value is True:
        return "on"
    if value is False:
        return "off"
    try:
        return str(value) if not isinstance(value, float) else f"{Decimal(repr(value)):f}"
    except InvalidOperation:
        return str(value)
