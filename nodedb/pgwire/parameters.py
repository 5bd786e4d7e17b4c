"""Checks of Bind's parameters that need no types."""

from typing import Final

from nodedb.pgwire import message as m
from nodedb.pgwire.rows import BINARY_FORMAT, FORMAT_CODES, TEXT_FORMAT
from nodedb.session.encoding import decode_utf8
from sql.errors import InvalidParameterValue, SqlError

_TEXT_ONLY: Final = ((), (TEXT_FORMAT,))
_BINARY_ONLY: Final = (BINARY_FORMAT,)


def check_text_parameters(message: m.Bind) -> None:
    """Check what may be checked of parameters without their types.

    Raises CharacterNotInRepertoire (22021) for bad text, InvalidParameterValue (22023) for a bad
    format code.
    """
    if message.parameter_formats in _TEXT_ONLY:
        for value in message.parameters:
            if value is not None and (not value.isascii() or b"\0" in value):
                _check_parameters_one_by_one(message)
    elif message.parameter_formats != _BINARY_ONLY:
        _check_parameters_one_by_one(message)


def _check_parameters_one_by_one(message: m.Bind) -> None:
    codes = message.parameter_formats
    if len(codes) <= 1:
        codes = (codes or (TEXT_FORMAT,)) * len(message.parameters)
    for number, (value, code) in enumerate(zip(message.parameters, codes, strict=True), 1):
        try:
            if code not in FORMAT_CODES:
                raise InvalidParameterValue(f"unsupported format code: {code}")
            if value is not None and code == TEXT_FORMAT:
                decode_utf8(value)
        except SqlError as error:
            portal = f'portal "{message.portal}"' if message.portal else "unnamed portal"
            error.where = f"{portal} parameter ${number}"
            raise
