"""Backend messages: functions named after the message that append it to an output buffer.

DataRow has its own module, ``rows``. Constant messages are plain bytes.

Source: PostgreSQL docs, "Message Formats".
"""

import functools
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from nodedb.session.api import ResultColumn
from sql.types.base import SqlType

AUTHENTICATION_OK: Final = b"R\0\0\0\x08\0\0\0\0"
PARSE_COMPLETE: Final = b"1\0\0\0\x04"
BIND_COMPLETE: Final = b"2\0\0\0\x04"
CLOSE_COMPLETE: Final = b"3\0\0\0\x04"
NO_DATA: Final = b"n\0\0\0\x04"
PORTAL_SUSPENDED: Final = b"s\0\0\0\x04"
EMPTY_QUERY_RESPONSE: Final = b"I\0\0\0\x04"
COPY_DONE: Final = b"c\0\0\0\x04"
READY_FOR_QUERY: Final = {status: b"Z\0\0\0\x05" + status for status in (b"I", b"T", b"E")}

PROTOCOL_VERSION: Final = 3 << 16
_SASL: Final = 10
_SASL_CONTINUE: Final = 11
_SASL_FINAL: Final = 12
_int32 = struct.Struct("!i").pack
_header = struct.Struct("!ci").pack
_key_data = struct.Struct("!ciII").pack
_notification = struct.Struct("!ciI").pack
_field = struct.Struct("!IhIhih").pack
_LENGTH_BYTES: Final = 4


def _message(out: bytearray, tag: bytes, body: bytes) -> None:
    out += _header(tag, len(body) + _LENGTH_BYTES)
    out += body


def authentication_sasl(out: bytearray, mechanisms: Iterable[str]) -> None:
    """Offer SASL mechanisms, best first."""
    names = b"".join(name.encode() + b"\0" for name in mechanisms)
    _message(out, b"R", _int32(_SASL) + names + b"\0")


def authentication_sasl_continue(out: bytearray, data: bytes) -> None:
    """Send the server's challenge."""
    _message(out, b"R", _int32(_SASL_CONTINUE) + data)


def authentication_sasl_final(out: bytearray, data: bytes) -> None:
    """Send the server's proof."""
    _message(out, b"R", _int32(_SASL_FINAL) + data)


def negotiate_protocol_version(out: bytearray, unrecognized: Sequence[str]) -> None:
    """Tell the newest version spoken here and the protocol options not known here."""
    body = struct.pack("!ii", PROTOCOL_VERSION, len(unrecognized))
    _message(out, b"v", body + b"".join(name.encode() + b"\0" for name in unrecognized))


def backend_key_data(out: bytearray, process_id: int, secret_key: int) -> None:
    """Send what a CancelRequest must present."""
    out += _key_data(b"K", 12, process_id & 0xFFFFFFFF, secret_key & 0xFFFFFFFF)


def parameter_status(out: bytearray, name: str, value: str) -> None:
    """Report a setting."""
    _message(out, b"S", name.encode() + b"\0" + value.encode() + b"\0")


@functools.lru_cache(maxsize=1024)
def command_complete(tag: str) -> bytes:
    """Return the message that ends a statement that ran; tags repeat, so it is kept."""
    body = tag.encode()
    return _header(b"C", len(body) + 5) + body + b"\0"


def error_response(out: bytearray, fields: Iterable[tuple[bytes, str]]) -> None:
    """Report an error; fields as ``errors.error_fields`` gives them."""
    _message(out, b"E", _encode_fields(fields))


def notice_response(out: bytearray, fields: Iterable[tuple[bytes, str]]) -> None:
    """Report a notice."""
    _message(out, b"N", _encode_fields(fields))


def _encode_fields(fields: Iterable[tuple[bytes, str]]) -> bytes:
    # A message may quote anything: a lone surrogate or a NUL must not break the frame.
    return b"".join(
        code + value.encode(errors="backslashreplace").replace(b"\0", b"") + b"\0"
        for code, value in fields
    ) + (b"\0")


def notification_response(out: bytearray, process_id: int, channel: str, payload: str) -> None:
    """Deliver a NOTIFY."""
    body = channel.encode() + b"\0" + payload.encode() + b"\0"
    out += _notification(b"A", len(body) + 8, process_id & 0xFFFFFFFF)
    out += body


def parameter_description(out: bytearray, types: Sequence[SqlType]) -> None:
    """Describe a prepared statement's parameters."""
    oids = [parameter.oid for parameter in types]
    _message(out, b"t", struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def row_description(columns: Sequence[ResultColumn], formats: Sequence[int]) -> bytes:
    """Return the message (not appended, because callers keep it); one format per column."""
    assert len(columns) == len(formats)
    fields = [len(columns).to_bytes(2, "big")]
    for column, code in zip(columns, formats, strict=True):
        kind = column.type
        fields.append(column.name.encode() + b"\0")
        fields.append(
            _field(
                column.table_oid, column.column_number, kind.oid, kind.length, column.typmod, code
            )
        )
    body = b"".join(fields)
    return _header(b"T", len(body) + _LENGTH_BYTES) + body


def copy_in_response(out: bytearray, *, binary: bool, column_count: int) -> None:
    """Ask for COPY data."""
    _copy_response(out, b"G", binary=binary, column_count=column_count)


def copy_out_response(out: bytearray, *, binary: bool, column_count: int) -> None:
    """Announce COPY data."""
    _copy_response(out, b"H", binary=binary, column_count=column_count)


def _copy_response(out: bytearray, tag: bytes, *, binary: bool, column_count: int) -> None:
    codes = [int(binary)] * column_count
    _message(out, tag, struct.pack(f"!bH{column_count}h", int(binary), column_count, *codes))


def copy_data(out: bytearray, data: bytes) -> None:
    """Send one COPY row, or any piece of the stream."""
    out += _header(b"d", len(data) + _LENGTH_BYTES)
    out += data
