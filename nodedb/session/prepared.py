"""Prepared statements and portals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sql.errors import CharacterNotInRepertoire, ProtocolViolation
from sql.types.base import Datum, Row, SqlType
from sql.types.catalog import INT2, INT4, INT8, TEXT, type_by_oid
from sql.types.io import FormatContext, binary_input, text_input

if TYPE_CHECKING:
    from nodedb.gateway.plan_cache import PreparedPlan
    from nodedb.session.api import ResultColumn
    from sql.ast.utility import Statement
    from sql.executor.pace import Pace

Decoder = Callable[[bytes], Datum]
_INTEGER_LIMITS: Final = {INT2: 1 << 15, INT4: 1 << 31, INT8: 1 << 63}
_DIGITS_MAX: Final = 20


class PreparedStatement:
    """A parsed statement under a name; its plan is looked up again when the catalog has changed."""

    __slots__ = (
        "_decoders",
        "columns",
        "declared_types",
        "fixed_parameters",
        "from_sql",
        "is_unplanned",
        "name",
        "parameter_types",
        "plan",
        "plan_epoch",
        "plan_key",
        "plan_snapshot",
        "prepared_at",
        "statement",
        "text",
    )

    def __init__(
        self,
        name: str,
        text: str,
        statement: Statement | None,
        declared_types: tuple[SqlType | None, ...],
    ) -> None:
        self.name = name
        self.text = text
        self.statement = statement
        self.declared_types = declared_types
        self.parameter_types: tuple[SqlType, ...] = ()
        self.plan: PreparedPlan | None = None
        self.plan_key: object = None
        self.plan_snapshot: object = None
        self.plan_epoch = -1
        self.columns: tuple[ResultColumn, ...] | None = None
        self.fixed_parameters = False
        self.from_sql = False
        self.is_unplanned = False
        """It came from another node, and has not been used here yet."""
        self.prepared_at = 0
        self._decoders: tuple[Sequence[int], FormatContext, tuple[Decoder, ...]] | None = None

    def decode(
        self, values: Sequence[bytes | None], formats: Sequence[int], context: FormatContext
    ) -> tuple[Datum, ...]:
        """Turn bound values into datums. Errors: 08P01 wrong count, 22P02, 22P03, 22021."""
        if len(values) != len(self.parameter_types):
            name = f'"{self.name}"' if self.name else '""'
            raise ProtocolViolation(
                f"bind message supplies {len(values)} parameters, "
                f"but prepared statement {name} requires {len(self.parameter_types)}"
            )
        cached = self._decoders
        if cached is None or cached[1] is not context or cached[0] != formats:
            cached = self._decoders = (
                formats,
                context,
                _make_decoders(self.parameter_types, formats, context),
            )
        return tuple(
            [
                None if value is None else decode(value)
                for value, decode in zip(values, cached[2], strict=True)
            ]
        )


def _make_decoders(
    types: Sequence[SqlType], formats: Sequence[int], context: FormatContext
) -> tuple[Decoder, ...]:
    if len(formats) not in (0, 1, len(types)):
        raise ProtocolViolation(
            f"bind message has {len(formats)} parameter formats but {len(types)} parameters"
        )
    spread = [0] * len(types) if not formats else list(formats)
    if len(spread) == 1:
        spread = spread * len(types)
    return tuple(
        binary_input(sql_type, context) if code else _text_decoder(sql_type, context)
        for sql_type, code in zip(types, spread, strict=True)
    )


def _text_decoder(sql_type: SqlType, context: FormatContext) -> Decoder:
    convert = text_input(sql_type, context)

    def decode(value: bytes) -> Datum:
        try:
            return convert(value.decode(), -1)
        except UnicodeDecodeError as error:
            raise CharacterNotInRepertoire(
                f'invalid byte sequence for encoding "UTF8": 0x{value[error.start]:02x}'
            ) from error

    limit = _INTEGER_LIMITS.get(sql_type)
    return decode if limit is None else _integer_decoder(decode, limit)


def _integer_decoder(general: Decoder, limit: int) -> Decoder:
    """Read plain decimal integers without a detour over text; leave the rest to ``general``."""

    def decode(value: bytes) -> Datum:
        digits = value[1:] if value[:1] == b"-" else value
        if digits.isdigit() and len(digits) < _DIGITS_MAX:
            number = int(value)
            if -limit <= number < limit:
                return number
        return general(value)

    return decode


def declared_type(oid: int) -> SqlType | None:
    """Return the type that a Parse message declares; None leaves it to the statement."""
    if oid in (0, 705):
        return None
    found = type_by_oid(oid)
    return TEXT if found is None else found


class Portal:
    """A bound statement: executed once, its rows handed out in one or several goes."""

    __slots__ = (
        "buffer",
        "created_at",
        "dropped",
        "execution",
        "finished",
        "formats",
        "is_binary",
        "is_cursor",
        "is_failed",
        "is_held",
        "is_scrollable",
        "keeps_all",
        "kept_bytes",
        "name",
        "opened_at",
        "pace",
        "parameters",
        "position",
        "prepared",
        "query_text",
        "serial",
        "snapshot",
        "tag",
        "was_committed",
    )

    def __init__(
        self,
        name: str,
        prepared: PreparedStatement,
        parameters: tuple[Datum, ...],
        formats: Sequence[int],
    ) -> None:
        self.name = name
        self.prepared = prepared
        self.parameters = parameters
        self.formats = formats
        self.execution: object | None = None
        self.snapshot = 0
        """The timestamp that its execution reads at, taken at ``opened_at``, monotonic seconds."""
        self.opened_at = 0.0
        self.buffer: list[Row] = []
        self.position = 0
        self.finished = False
        self.is_cursor = False
        self.is_held = False
        self.is_binary = False
        self.is_scrollable = False
        self.keeps_all = False
        self.pace: Pace | None = None
        self.dropped = 0
        """Rows that a cursor has read and no longer keeps: ``buffer`` begins after them."""
        self.kept_bytes = 0
        self.is_failed = False
        self.was_committed = False
        self.serial = 0
        self.tag = ""
        self.query_text = prepared.text
        self.created_at = 0
