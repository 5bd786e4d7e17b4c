"""UTF-8 as PostgreSQL sees it: no NUL, and an error that names the offending bytes.

Source: PostgreSQL docs, "Character Set Support".
"""

from typing import Final

from sql.errors import CharacterNotInRepertoire

_LEAD_LENGTHS: Final = ((0x80, 0x00, 1), (0xE0, 0xC0, 2), (0xF0, 0xE0, 3), (0xF8, 0xF0, 4))


def decode_utf8(raw: bytes) -> str:
    """Decode client text. Raises CharacterNotInRepertoire (22021) for bad bytes and NUL."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _invalid_sequence(raw, error.start) from None
    if "\0" in text:
        raise _invalid_sequence(raw, raw.index(0))
    return text


def is_utf8(raw: bytes) -> bool:
    """Tell whether ``decode_utf8`` would succeed."""
    try:
        decode_utf8(raw)
    except CharacterNotInRepertoire:
        return False
    return True


def _invalid_sequence(raw: bytes, start: int) -> CharacterNotInRepertoire:
    # The length the lead byte promises decides how many bytes are shown, as far as they exist.
    lead = raw[start]
    length = next((size for mask, bits, size in _LEAD_LENGTHS if lead & mask == bits), 1)
    shown = " ".join(f"0x{byte:02x}" for byte in raw[start : start + length])
    return CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {shown}')
