"""Errors of the front end itself, and how any error becomes the fields of an ErrorResponse.

A ``SqlError`` is the client's: it keeps its own SQLSTATE, and the connection goes on.
``FatalError`` wraps a ``SqlError`` after which it must close. A ``StorageError`` that reaches us
is the node's disk failing (58030, XX001, 53100); the node is about to stop. Every other exception
is ours: the client sees a bare XX000, the log sees the traceback.

Source: PostgreSQL docs, "Error and Notice Message Fields".
"""

import logging
from typing import Final

from nodedb.errors import (
    DiskFull,
    LogCorrupted,
    MapFull,
    StorageError,
    StoreCorrupted,
)
from nodedb.pgwire import sqlstate
from nodedb.session.api import Notice
from sql import errors as sql_errors
from sql.errors import ProtocolViolation, SqlError

_LOGGER: Final = logging.getLogger("nodedb.pgwire")


class FatalError(Exception):
    """Send ``error`` with severity FATAL, then close the connection."""

    def __init__(self, error: SqlError) -> None:
        super().__init__(error.message)
        self.error = error


class ConnectionLost(Exception):
    """The client is gone, or nothing more may be written to it."""


def framing_lost(message: str) -> FatalError:
    """Return the error for bytes after which no message boundary is known (08P01, fatal)."""
    return FatalError(ProtocolViolation(message))


def is_fatal(error: BaseException) -> bool:
    """Tell whether the connection must close after reporting the error."""
    if isinstance(error, SqlError):
        return error.sqlstate in sqlstate.SESSION_ENDING
    return isinstance(error, FatalError)


def storage_failure(error: StorageError) -> SqlError:
    """Return what a client is told of a failed disk: no paths, those are in the log."""
    if isinstance(error, DiskFull | MapFull):
        return sql_errors.DiskFull("could not extend the store: no space left")
    if isinstance(error, StoreCorrupted | LogCorrupted):
        return sql_errors.DataCorrupted("the node's store is corrupt")
    return sql_errors.IoError("the node's store has failed")


def error_fields(error: BaseException) -> list[tuple[bytes, str]]:
    """Return (field code, value) pairs in PostgreSQL's order; empty fields are left out."""
    severity = "FATAL" if is_fatal(error) else "ERROR"
    if isinstance(error, FatalError):
        error = error.error
    if isinstance(error, StorageError):
        error = storage_failure(error)
    if not isinstance(error, SqlError):
        return _fields(severity, sqlstate.INTERNAL_ERROR, "internal error")
    fields = _fields(severity, error.sqlstate, error.message)
    fields += [
        (code, value)
        for code, value in (
            (b"D", error.detail),
            (b"H", error.hint),
            (b"P", str(error.position) if error.position > 0 else ""),
            (b"W", error.where),
            (b"s", error.schema),
            (b"t", error.table),
            (b"c", error.column),
            (b"d", error.data_type),
            (b"n", error.constraint),
        )
        if value
    ]
    return fields


def notice_fields(notice: Notice) -> list[tuple[bytes, str]]:
    """Return the fields of a NoticeResponse."""
    fields = _fields(notice.severity, notice.sqlstate, notice.message)
    fields += [(code, text) for code, text in ((b"D", notice.detail), (b"H", notice.hint)) if text]
    return fields


def _fields(severity: str, code: str, message: str) -> list[tuple[bytes, str]]:
    return [(b"S", severity), (b"V", severity), (b"C", code), (b"M", message)]


def log_unless_expected(error: Exception) -> None:
    """Log what a client is told without its being the client's fault."""
    if isinstance(error, StorageError):
        _LOGGER.error("statement failed: %s", error)
    elif not isinstance(error, SqlError | FatalError):
        _LOGGER.error("statement failed with an unexpected error", exc_info=error)
