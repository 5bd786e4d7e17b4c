"""Every error a client's statement can earn, one class per SQLSTATE.

Only ``SqlError`` subclasses may be raised for a client's fault. ``position`` is a 1-based character
index into the statement (0: none), filled from a ``Span`` by whoever knows one. Messages follow
PostgreSQL's wording: lower case, no full stop, names in double quotes; detail and hint are
sentences.

Source: PostgreSQL docs, appendix "PostgreSQL Error Codes", "Error and Notice Message Fields".
"""

from typing import ClassVar

from sql.span import Span


class SqlError(Exception):
    """Abstract root. Subclasses set ``sqlstate``; constructing the root itself is a bug."""

    sqlstate: ClassVar[str] = ""
    severity: ClassVar[str] = "ERROR"

    def __init__(
        self,
        message: str,
        *,
        span: Span | None = None,
        position: int = 0,
        detail: str = "",
        hint: str = "",
        schema: str = "",
        table: str = "",
        column: str = "",
        data_type: str = "",
        constraint: str = "",
        where: str = "",
    ) -> None:
        assert self.sqlstate, f"{type(self).__name__} is abstract"
        super().__init__(message)
        self.message = message
        self.position = span.position if span is not None and span.start >= 0 else position
        self.detail = detail
        self.hint = hint
        self.schema = schema
        self.table = table
        self.column = column
        self.data_type = data_type
        self.constraint = constraint
        self.where = where

    def at(self, span: Span | None) -> "SqlError":
        """Give the error a position unless it already has one; returns itself for ``raise``."""
        if self.position == 0 and span is not None and span.start >= 0:
            self.position = span.position
        return self


class TransactionRollback(SqlError):
    """Abstract: the transaction must be run again (class 40)."""


class FeatureNotSupported(SqlError):
    """0A000: feature not supported."""

    sqlstate = "0A000"


class InvalidTransactionInitiation(SqlError):
    """0B000: invalid transaction initiation."""

    sqlstate = "0B000"


class InvalidGrantor(SqlError):
    """0L000: invalid grantor."""

    sqlstate = "0L000"


class InvalidGrantOperation(SqlError):
    """0LP01: invalid grant operation."""

    sqlstate = "0LP01"


class InvalidRoleSpecification(SqlError):
    """0P000: invalid role specification."""

    sqlstate = "0P000"


class CaseNotFound(SqlError):
    """20000: case not found."""

    sqlstate = "20000"


class CardinalityViolation(SqlError):
    """21000: a sub-query gave more than one row."""

    sqlstate = "21000"


class DataException(SqlError):
    """22000: data exception, where PostgreSQL has no closer code."""

    sqlstate = "22000"


class StringDataRightTruncation(SqlError):
    """22001: value too long for the type."""

    sqlstate = "22001"


class NullValueNotAllowed(SqlError):
    """22004: null value not allowed."""

    sqlstate = "22004"


class NumericValueOutOfRange(SqlError):
    """22003: number out of range."""

    sqlstate = "22003"


class InvalidDatetimeFormat(SqlError):
    """22007: malformed date or time."""

    sqlstate = "22007"


class DatetimeFieldOverflow(SqlError):
    """22008: date or time field out of range."""

    sqlstate = "22008"


class InvalidTimeZoneDisplacement(SqlError):
    """22009: time zone displacement out of range."""

    sqlstate = "22009"


class EscapeCharacterConflict(SqlError):
    """2200B: escape character conflict."""

    sqlstate = "2200B"


class SubstringError(SqlError):
    """22011: negative substring length."""

    sqlstate = "22011"


class DivisionByZero(SqlError):
    """22012: division by zero."""

    sqlstate = "22012"


class IntervalFieldOverflow(SqlError):
    """22015: interval field out of range."""

    sqlstate = "22015"


class InvalidEscapeCharacter(SqlError):
    """22019: invalid escape character."""

    sqlstate = "22019"


class CharacterNotInRepertoire(SqlError):
    """22021: invalid byte sequence for the encoding."""

    sqlstate = "22021"


class InvalidParameterValue(SqlError):
    """22023: invalid parameter value."""

    sqlstate = "22023"


class InvalidEscapeSequence(SqlError):
    """22025: invalid escape sequence."""

    sqlstate = "22025"


class StringDataLengthMismatch(SqlError):
    """22026: string data length mismatch."""

    sqlstate = "22026"


class TrimError(SqlError):
    """22027: trim error."""

    sqlstate = "22027"


class ArraySubscriptError(SqlError):
    """2202E: array subscript error."""

    sqlstate = "2202E"


class InvalidRowCountInLimitClause(SqlError):
    """2201W: negative LIMIT."""

    sqlstate = "2201W"


class InvalidRowCountInResultOffsetClause(SqlError):
    """2201X: negative OFFSET."""

    sqlstate = "2201X"


class InvalidArgumentForLogarithm(SqlError):
    """2201E: logarithm of zero or a negative number."""

    sqlstate = "2201E"


class InvalidArgumentForPowerFunction(SqlError):
    """2201F: invalid argument for power."""

    sqlstate = "2201F"


class InvalidArgumentForNthValue(SqlError):
    """22016: invalid argument for nth_value."""

    sqlstate = "22016"


class InvalidArgumentForNtile(SqlError):
    """22014: invalid argument for ntile."""

    sqlstate = "22014"


class InvalidPrecedingOrFollowingSize(SqlError):
    """22013: invalid preceding or following size in window function."""

    sqlstate = "22013"


class InvalidArgumentForWidthBucket(SqlError):
    """2201G: invalid argument for width_bucket."""

    sqlstate = "2201G"


class InvalidRegularExpression(SqlError):
    """2201B: invalid regular expression."""

    sqlstate = "2201B"


class FloatingPointException(SqlError):
    """22P01: floating point exception."""

    sqlstate = "22P01"


class InvalidTextRepresentation(SqlError):
    """22P02: text does not read as the type."""

    sqlstate = "22P02"


class InvalidBinaryRepresentation(SqlError):
    """22P03: bytes do not read as the type."""

    sqlstate = "22P03"


class BadCopyFileFormat(SqlError):
    """22P04: bad COPY data."""

    sqlstate = "22P04"


class UntranslatableCharacter(SqlError):
    """22P05: untranslatable character."""

    sqlstate = "22P05"


class DuplicateJsonObjectKeyValue(SqlError):
    """22030: duplicate JSON object key value."""

    sqlstate = "22030"


class InvalidJsonText(SqlError):
    """22032: invalid JSON text."""

    sqlstate = "22032"


class SequenceGeneratorLimitExceeded(SqlError):
    """2200H: sequence limit reached."""

    sqlstate = "2200H"


class IntegrityConstraintViolation(SqlError):
    """23000: integrity constraint violation."""

    sqlstate = "23000"


class RestrictViolation(SqlError):
    """23001: restrict violation."""

    sqlstate = "23001"


class NotNullViolation(SqlError):
    """23502: null in a NOT NULL column."""

    sqlstate = "23502"


class ForeignKeyViolation(SqlError):
    """23503: foreign key violation."""

    sqlstate = "23503"


class UniqueViolation(SqlError):
    """23505: unique violation."""

    sqlstate = "23505"


class CheckViolation(SqlError):
    """23514: check violation."""

    sqlstate = "23514"


class ExclusionViolation(SqlError):
    """23P01: exclusion violation."""

    sqlstate = "23P01"


class InvalidCursorState(SqlError):
    """24000: invalid cursor state."""

    sqlstate = "24000"


class InvalidTransactionState(SqlError):
    """25000: invalid transaction state."""

    sqlstate = "25000"


class ActiveSqlTransaction(SqlError):
    """25001: not allowed inside a transaction block."""

    sqlstate = "25001"


class ReadOnlySqlTransaction(SqlError):
    """25006: write in a read-only transaction."""

    sqlstate = "25006"


class NoActiveSqlTransaction(SqlError):
    """25P01: not inside a transaction block."""

    sqlstate = "25P01"


class InFailedSqlTransaction(SqlError):
    """25P02: the block has failed."""

    sqlstate = "25P02"


class IdleInTransactionSessionTimeout(SqlError):
    """25P03: idle in transaction for too long."""

    sqlstate = "25P03"


class InvalidSqlStatementName(SqlError):
    """26000: no such prepared statement."""

    sqlstate = "26000"


class InvalidAuthorizationSpecification(SqlError):
    """28000: login refused."""

    sqlstate = "28000"


class InvalidPassword(SqlError):
    """28P01: password authentication failed."""

    sqlstate = "28P01"


class DependentPrivilegeDescriptorsStillExist(SqlError):
    """2B000: dependent privileges exist."""

    sqlstate = "2B000"


class DependentObjectsStillExist(SqlError):
    """2BP01: other objects depend on it."""

    sqlstate = "2BP01"


class InvalidTransactionTermination(SqlError):
    """2D000: invalid transaction termination."""

    sqlstate = "2D000"


class InvalidCursorName(SqlError):
    """34000: no such cursor."""

    sqlstate = "34000"


class InvalidSavepointSpecification(SqlError):
    """3B001: no such savepoint."""

    sqlstate = "3B001"


class InvalidCatalogName(SqlError):
    """3D000: no such database."""

    sqlstate = "3D000"


class InvalidSchemaName(SqlError):
    """3F000: no such schema."""

    sqlstate = "3F000"


class SqlSyntaxError(SqlError):
    """42601: syntax error."""

    sqlstate = "42601"


class InsufficientPrivilege(SqlError):
    """42501: permission denied."""

    sqlstate = "42501"


class CannotCoerce(SqlError):
    """42846: no such cast."""

    sqlstate = "42846"


class GroupingError(SqlError):
    """42803: column must appear in GROUP BY."""

    sqlstate = "42803"


class WindowingError(SqlError):
    """42P20: bad window function call."""

    sqlstate = "42P20"


class InvalidRecursion(SqlError):
    """42P19: bad recursion."""

    sqlstate = "42P19"


class InvalidForeignKey(SqlError):
    """42830: bad foreign key definition."""

    sqlstate = "42830"


class InvalidName(SqlError):
    """42602: invalid name."""

    sqlstate = "42602"


class NameTooLong(SqlError):
    """42622: name too long."""

    sqlstate = "42622"


class ReservedName(SqlError):
    """42939: reserved name."""

    sqlstate = "42939"


class DatatypeMismatch(SqlError):
    """42804: data type mismatch."""

    sqlstate = "42804"


class IndeterminateDatatype(SqlError):
    """42P18: type of a parameter cannot be determined."""

    sqlstate = "42P18"


class CollationMismatch(SqlError):
    """42P21: collation mismatch."""

    sqlstate = "42P21"


class IndeterminateCollation(SqlError):
    """42P22: indeterminate collation."""

    sqlstate = "42P22"


class WrongObjectType(SqlError):
    """42809: wrong kind of object."""

    sqlstate = "42809"


class GeneratedAlways(SqlError):
    """428C9: cannot write a generated column."""

    sqlstate = "428C9"


class UndefinedColumn(SqlError):
    """42703: no such column."""

    sqlstate = "42703"


class UndefinedFunction(SqlError):
    """42883: no such function or operator."""

    sqlstate = "42883"


class UndefinedTable(SqlError):
    """42P01: no such table."""

    sqlstate = "42P01"


class UndefinedParameter(SqlError):
    """42P02: no such parameter."""

    sqlstate = "42P02"


class UndefinedObject(SqlError):
    """42704: no such object."""

    sqlstate = "42704"


class DuplicateColumn(SqlError):
    """42701: column named twice."""

    sqlstate = "42701"


class DuplicateCursor(SqlError):
    """42P03: cursor exists."""

    sqlstate = "42P03"


class DuplicateDatabase(SqlError):
    """42P04: database exists."""

    sqlstate = "42P04"


class DuplicateFunction(SqlError):
    """42723: function exists."""

    sqlstate = "42723"


class DuplicatePreparedStatement(SqlError):
    """42P05: prepared statement exists."""

    sqlstate = "42P05"


class DuplicateSchema(SqlError):
    """42P06: schema exists."""

    sqlstate = "42P06"


class DuplicateTable(SqlError):
    """42P07: relation exists."""

    sqlstate = "42P07"


class DuplicateAlias(SqlError):
    """42712: table named twice."""

    sqlstate = "42712"


class DuplicateObject(SqlError):
    """42710: object exists."""

    sqlstate = "42710"


class AmbiguousAlias(SqlError):
    """42P09: alias is ambiguous."""

    sqlstate = "42P09"


class AmbiguousColumn(SqlError):
    """42702: column is ambiguous."""

    sqlstate = "42702"


class AmbiguousFunction(SqlError):
    """42725: function or operator is not unique."""

    sqlstate = "42725"


class AmbiguousParameter(SqlError):
    """42P08: parameter has two types."""

    sqlstate = "42P08"


class InvalidColumnReference(SqlError):
    """42P10: bad column reference."""

    sqlstate = "42P10"


class InvalidColumnDefinition(SqlError):
    """42611: bad column definition."""

    sqlstate = "42611"


class InvalidCursorDefinition(SqlError):
    """42P11: bad cursor definition."""

    sqlstate = "42P11"


class InvalidDatabaseDefinition(SqlError):
    """42P12: bad database definition."""

    sqlstate = "42P12"


class InvalidFunctionDefinition(SqlError):
    """42P13: bad function definition."""

    sqlstate = "42P13"


class InvalidPreparedStatementDefinition(SqlError):
    """42P14: bad prepared statement definition."""

    sqlstate = "42P14"


class InvalidSchemaDefinition(SqlError):
    """42P15: bad schema definition."""

    sqlstate = "42P15"


class InvalidTableDefinition(SqlError):
    """42P16: bad table definition."""

    sqlstate = "42P16"


class InvalidObjectDefinition(SqlError):
    """42P17: bad object definition."""

    sqlstate = "42P17"


class WithCheckOptionViolation(SqlError):
    """44000: with check option violation."""

    sqlstate = "44000"


class OutOfMemory(SqlError):
    """53200: memory limit reached."""

    sqlstate = "53200"


class DiskFull(SqlError):
    """53100: no space left."""

    sqlstate = "53100"


class TooManyConnections(SqlError):
    """53300: too many connections."""

    sqlstate = "53300"


class ConfigurationLimitExceeded(SqlError):
    """53400: configured limit exceeded."""

    sqlstate = "53400"


class ProgramLimitExceeded(SqlError):
    """54000: program limit exceeded."""

    sqlstate = "54000"


class StatementTooComplex(SqlError):
    """54001: nested too deeply."""

    sqlstate = "54001"


class TooManyColumns(SqlError):
    """54011: too many columns."""

    sqlstate = "54011"


class TooManyArguments(SqlError):
    """54023: too many arguments."""

    sqlstate = "54023"


class ObjectNotInPrerequisiteState(SqlError):
    """55000: object is not in the needed state."""

    sqlstate = "55000"


class ObjectInUse(SqlError):
    """55006: object is in use."""

    sqlstate = "55006"


class CantChangeRuntimeParam(SqlError):
    """55P02: setting cannot be changed now."""

    sqlstate = "55P02"


class LockNotAvailable(SqlError):
    """55P03: lock not available."""

    sqlstate = "55P03"


class OperatorIntervention(SqlError):
    """57000: operator intervention."""

    sqlstate = "57000"


class QueryCanceled(SqlError):
    """57014: canceled."""

    sqlstate = "57014"


class AdminShutdown(SqlError):
    """57P01: terminated by an administrator."""

    sqlstate = "57P01"


class CrashShutdown(SqlError):
    """57P02: crash shutdown."""

    sqlstate = "57P02"


class CannotConnectNow(SqlError):
    """57P03: not ready for this now."""

    sqlstate = "57P03"


class DatabaseDropped(SqlError):
    """57P04: database dropped."""

    sqlstate = "57P04"


class IdleSessionTimeout(SqlError):
    """57P05: idle for too long."""

    sqlstate = "57P05"


class SnapshotTooOld(SqlError):
    """72000: snapshot too old."""

    sqlstate = "72000"


class IoError(SqlError):
    """58030: input or output error."""

    sqlstate = "58030"


class InternalError(SqlError):
    """XX000: internal error."""

    sqlstate = "XX000"


class DataCorrupted(SqlError):
    """XX001: corrupt data."""

    sqlstate = "XX001"


class IndexCorrupted(SqlError):
    """XX002: corrupt index."""

    sqlstate = "XX002"


class ProtocolViolation(SqlError):
    """08P01: protocol violation."""

    sqlstate = "08P01"


class SerializationFailure(TransactionRollback):
    """40001: could not serialize; run the transaction again."""

    sqlstate = "40001"


class DeadlockDetected(TransactionRollback):
    """40P01: deadlock."""

    sqlstate = "40P01"


class StatementCompletionUnknown(TransactionRollback):
    """40003: the outcome is unknown."""

    sqlstate = "40003"
