"""Functions on bytea, hashes, and conversions between bytes and text.

Source: PostgreSQL docs, "Binary String Functions and Operators".
"""

import base64
import binascii
import hashlib
import operator
import re
from typing import Final

from sql.errors import (
    ArraySubscriptError,
    CharacterNotInRepertoire,
    InvalidParameterValue,
    InvalidTextRepresentation,
    UntranslatableCharacter,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements, register

register("byteacat(bytea,bytea)", operator.add, inline="({0} + {1})")
register("btrim(bytea,bytea)", bytes.strip)
register("ltrim(bytea,bytea)", bytes.lstrip)
register("rtrim(bytea,bytea)", bytes.rstrip)
register("length(bytea)", len, inline="len({0})")
register("octet_length(bytea)", len, inline="len({0})")
register("bit_length(bytea)", lambda value: len(value) * 8)
register("bit_count(bytea)", lambda value: int.from_bytes(value).bit_count())


def _hex_digest(algorithm: str, data: bytes) -> str:
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()


register("md5(text)", lambda value: _hex_digest("md5", value.encode()))
register("md5(bytea)", lambda value: _hex_digest("md5", value))
for _name in ("sha224", "sha256", "sha384", "sha512"):
    register(f"{_name}(bytea)", lambda value, name=_name: hashlib.new(name, value).digest())


def _check_index(index: int, end: int) -> None:
    if not 0 <= index < end:
        raise ArraySubscriptError(f"index {index} out of valid range, 0..{end - 1}")


@implements("get_byte(bytea,int4)")
def _get_byte(value: bytes, index: int) -> int:
    _check_index(index, len(value))
    return value[index]


@implements("set_byte(bytea,int4,int4)")
def _set_byte(value: bytes, index: int, byte: int) -> bytes:
    _check_index(index, len(value))
    return value[:index] + bytes([byte & 0xFF]) + value[index + 1 :]


@implements("get_bit(bytea,int8)")
def _get_bit(value: bytes, index: int) -> int:
    _check_index(index, len(value) * 8)
    return value[index // 8] >> (index % 8) & 1


@implements("set_bit(bytea,int8,int4)")
def _set_bit(value: bytes, index: int, bit: int) -> bytes:
    _check_index(index, len(value) * 8)
    if bit not in (0, 1):
        raise InvalidParameterValue("new bit must be 0 or 1")
    mask = 1 << (index % 8)
    byte = value[index // 8]
    return _set_byte(value, index // 8, byte | mask if bit else byte & ~mask)


def _encode_escape(value: bytes) -> str:
    return "".join(
        [
            "\\\\" if byte == 0x5C else chr(byte) if byte and byte < 0x80 else f"\\{byte:03o}"
            for byte in value
        ]
    )


_OCTAL: Final = re.compile(rb"\\(?:([0-3][0-7]{2})|(\\)|())")


def _decode_octal(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes([int(match[1], 8)])
    if match[2]:
        return b"\\"
    raise InvalidTextRepresentation("invalid input syntax for type bytea")


@implements("encode(bytea,text)")
def _encode(value: bytes, form: str) -> str:
    match form.lower():
        case "hex":
            return value.hex()
        case "base64":
            text = base64.b64encode(value).decode()
            return "\n".join([text[at : at + 76] for at in range(0, len(text), 76)])
        case "escape":
            return _encode_escape(value)
        case _:
            pass
    raise InvalidParameterValue(f'unrecognized encoding: "{form}"')


@implements("decode(text,text)")
def _decode(value: str, form: str) -> bytes:
    match form.lower():
        case "hex":
            return _decode_hex(value)
        case "base64":
            return _decode_base64(value)
        case "escape":
            return _OCTAL.sub(_decode_octal, value.encode())
        case _:
            pass
    raise InvalidParameterValue(f'unrecognized encoding: "{form}"')


def _decode_hex(value: str) -> bytes:
    digits = re.sub(r"[ \n\t\r]", "", value)
    bad = re.search(r"[^0-9a-fA-F]", digits)
    if bad is not None:
        raise InvalidParameterValue(f'invalid hexadecimal digit: "{bad[0]}"')
    if len(digits) % 2:
        raise InvalidParameterValue("invalid hexadecimal data: odd number of digits")
    return bytes.fromhex(digits)


def _decode_base64(value: str) -> bytes:
    digits = re.sub(r"[ \n\t\r]", "", value)
    bad = re.search(r"[^A-Za-z0-9+/=]", digits)
    if bad is not None:
        raise InvalidParameterValue(
            f'invalid symbol "{bad[0]}" found while decoding base64 sequence'
        )
    body = digits.rstrip("=")
    if "=" in body:
        raise InvalidParameterValue('unexpected "=" while decoding base64 sequence')
    try:
        return base64.b64decode(digits, validate=True)
    except binascii.Error:
        raise InvalidParameterValue(
            "invalid base64 end sequence",
            hint="Input data is missing padding, is truncated, or is otherwise corrupted.",
        ) from None


_CODECS: Final = {
    "utf8": "utf-8", "unicode": "utf-8", "latin1": "latin-1", "iso88591": "latin-1",
    "latin2": "iso8859-2", "latin5": "iso8859-9", "latin9": "iso8859-15", "win1250": "cp1250",
    "win1251": "cp1251", "win1252": "cp1252", "koi8r": "koi8-r", "euc_jp": "euc_jp", "eucjp": "euc_jp",  # noqa: E501
    "sjis": "shift_jis", "gbk": "gbk", "big5": "big5", "sqlascii": "utf-8",
}  # fmt: skip


def codec_of(encoding: str, role: str) -> str:
    """Return Python's codec for an encoding name; 22023 for an unknown one."""
    codec = _CODECS.get(re.sub(r"[^a-z0-9]", "", encoding.lower()))
    if codec is None:
        raise InvalidParameterValue(f'invalid {role} encoding name "{encoding}"')
    return codec


def _invalid_sequence(encoding: str, data: bytes) -> CharacterNotInRepertoire:
    shown = " ".join(f"0x{byte:02x}" for byte in data)
    return CharacterNotInRepertoire(
        f'invalid byte sequence for encoding "{encoding.upper()}": {shown}'
    )


@implements("convert_from(bytea,name)")
def _convert_from(value: bytes, encoding: str) -> str:
    codec = codec_of(encoding, "source")
    if b"\x00" in value:
        raise _invalid_sequence("UTF8", b"\x00")
    try:
        return value.decode(codec)
    except UnicodeDecodeError as error:
        raise _invalid_sequence(
            encoding, value[error.start : max(error.end, error.start + 1)]
        ) from None


@implements("convert_to(text,name)")
def _convert_to(value: str, encoding: str) -> bytes:
    codec = codec_of(encoding, "destination")
    try:
        return value.encode(codec)
    except UnicodeEncodeError as error:
        shown = " ".join(f"0x{byte:02x}" for byte in value[error.start].encode())
        raise UntranslatableCharacter(
            f'character with byte sequence {shown} in encoding "UTF8" has no equivalent '
            f'in encoding "{encoding.upper()}"'
        ) from None


@implements("convert(bytea,name,name)")
def _convert(value: bytes, source: str, target: str) -> bytes:
    return _convert_to(_convert_from(value, source), target)


@implements("length(bytea,name)")
def _length_in(value: bytes, encoding: str) -> int:
    return len(_convert_from(value, encoding))


@implements("gen_random_uuid()", context=True)
def _random_uuid(context: ExecutionContext) -> bytes:
    bits = context.random.getrandbits(128)
    bits = bits & ~(0xF << 76) | 4 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    return bits.to_bytes(16)
