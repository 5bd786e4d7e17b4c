"""The options of CREATE DATABASE and ALTER DATABASE: which exist and what they may be.

Source: PostgreSQL docs, "CREATE DATABASE"; "Character Set Support", table of character sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog.ddl.options import option_text
from sql.errors import (
    InvalidObjectDefinition,
    InvalidParameterValue,
    SqlSyntaxError,
    UndefinedObject,
)

if TYPE_CHECKING:
    from sql.ast.ddl import StorageOption

_ENCODINGS: Final = {
    code: names.split()
    for code, names in enumerate(
        """SQL_ASCII
EUC_JP
EUC_CN
EUC_KR
EUC_TW
EUC_JIS_2004
UTF8 Unicode
MULE_INTERNAL
LATIN1 ISO88591
LATIN2 ISO88592
LATIN3 ISO88593
LATIN4 ISO88594
LATIN5 ISO88599
LATIN6 ISO885910
LATIN7 ISO885913
LATIN8 ISO885914
LATIN9 ISO885915
LATIN10 ISO885916
WIN1256
WIN1258 ABC TCVN TCVN5712 VSCII
WIN866 ALT
WIN874
KOI8R KOI8
WIN1251 WIN
WIN1252
ISO_8859_5
ISO_8859_6
ISO_8859_7
ISO_8859_8
WIN1250
WIN1253
WIN1254
WIN1255
WIN1257
KOI8U""".splitlines()
    )
}
_UTF8: Final = 6
_LISTED: Final = frozenset(
    (
        "owner",
        "template",
        "encoding",
        "locale",
        "lc_collate",
        "lc_ctype",
        "icu_locale",
        "tablespace",
        "locale_provider",
        "collation_version",
        "allow_connections",
        "connection_limit",
        "is_template",
        "strategy",
        "oid",
    )
)
_ALTERABLE: Final = frozenset(("allow_connections", "connection_limit", "is_template"))


class DatabaseOptions:
    """The options of one statement, by name.

    Raises SqlSyntaxError (42601) for unknown and repeated ones and values of the wrong kind.
    """

    def __init__(self, options: tuple[StorageOption, ...], *, alter: bool = False) -> None:
        self._options: dict[str, StorageOption] = {}
        for option in options:
            name = option.name.replace(" ", "_")
            if name not in (_ALTERABLE if alter else _LISTED) and name != "tablespace":
                raise SqlSyntaxError(f'option "{name}" not recognized', span=option.span)
            if name in self._options:
                raise SqlSyntaxError("conflicting or redundant options", span=option.span)
            self._options[name] = option

    def __contains__(self, name: str) -> bool:
        """Tell whether the statement has the option."""
        return name in self._options

    def text(self, name: str) -> str:
        """Return an option's value as text, "" when it is absent or DEFAULT."""
        option = self._options.get(name)
        return "" if option is None or option.value is None else option_text(option.value)

    @property
    def connection_limit(self) -> int:
        """CONNECTION LIMIT, -1 when absent; InvalidParameterValue (22023) below that."""
        option = self._options.get("connection_limit")
        if option is None or option.value is None:
            return -1
        if type(option.value) is not int:
            raise SqlSyntaxError("connection_limit requires an integer value")
        if option.value < -1:
            raise InvalidParameterValue(f"invalid connection limit: {option.value}")
        return option.value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a Boolean option."""
        option = self._options.get(name)
        if option is None or option.value is None:
            return default
        value = option.value
        if value in (True, 1) or (isinstance(value, str) and value.lower() in ("true", "on")):
            return True
        if value in (False, 0) or (isinstance(value, str) and value.lower() in ("false", "off")):
            return False
        raise SqlSyntaxError(f"{name} requires a Boolean value")

    def check_values(self) -> None:
        """Check what can be checked without knowing the cluster."""
        encoding = self._encoding()
        if self.text("locale_provider") not in ("", "libc", "icu"):
            raise InvalidObjectDefinition(
                f"unrecognized locale provider: {self.text('locale_provider')}"
            )
        self.flag("is_template", default=False)
        self.flag("allow_connections", default=True)
        assert self.connection_limit >= -1
        if self.text("strategy").lower() not in ("", "wal_log", "file_copy"):
            raise InvalidParameterValue(
                f'invalid create database strategy "{self.text("strategy")}"',
                hint='Valid strategies are "wal_log" and "file_copy".',
            )
        if encoding != _UTF8:
            raise InvalidParameterValue(
                f'encoding "{_ENCODINGS[encoding][0]}" does not match locale "C.UTF-8"',
                detail='The chosen LC_CTYPE setting requires encoding "UTF8".',
            )

    def check_tablespace(self) -> None:
        """UndefinedObject (42704) for tablespaces that do not exist."""
        if self.text("tablespace") not in ("", "pg_default", "default"):
            raise UndefinedObject(f'tablespace "{self.text("tablespace")}" does not exist')

    def _encoding(self) -> int:
        """Return the encoding's code; UndefinedObject (42704) when there is no such encoding."""
        option = self._options.get("encoding")
        if option is None or option.value is None:
            return _UTF8
        if type(option.value) is int:
            if option.value not in _ENCODINGS:
                raise UndefinedObject(
                    f"{option.value} is not a valid encoding code", span=option.span
                )
            return option.value
        text = option_text(option.value)
        wanted = _folded(text)
        for code, names in _ENCODINGS.items():
            if any(_folded(name) == wanted for name in names):
                return code
        raise UndefinedObject(f"{text} is not a valid encoding name", span=option.span)


def _folded(name: str) -> str:
    """Return what tells encodings apart: letters and digits alone."""
    return "".join(char for char in name.lower() if char.isalnum())
