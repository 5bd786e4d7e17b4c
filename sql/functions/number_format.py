"""Numbers as templates show them: ``to_char`` for numeric, integers and floats, and ``to_number``.

Source: PostgreSQL docs, "Data Type Formatting Functions", "Template Patterns for Numeric
Formatting".
"""

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Final

from sql.errors import InvalidTextRepresentation, SqlSyntaxError
from sql.functions.implementation import implements
from sql.types import numeric
from sql.types.catalog import NUMERIC
from sql.types.typmod import apply_typmod, numeric_typmod

_TOKENS: Final = re.compile(
    r'"((?:\\.|[^"\\])*)"?|\\(.)|(EEEE|FM|RN|PR|MI|PL|SG|TH|[SLDGVB90.,])|(.)',
    re.IGNORECASE | re.DOTALL,
)
_ROMAN: Final = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
    (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


@dataclass(slots=True)
class NumberTemplate:
    """A parsed template: its items, and what they say about the whole number.

    ``items`` are (name, text): name is 9, 0, a key word, or "" for literal ``text``.
    """

    items: list[tuple[str, str]] = field(default_factory=list)
    before: int = 0
    after: int = 0
    shift: int = 0
    zero_start: int = -1
    zero_end: int = 0
    fill: bool = False
    decimal: bool = False
    sign: str = ""
    sign_at: int = 0
    brackets: bool = False
    explicit_minus: bool = False
    explicit_plus: bool = False
    roman: bool = False
    scientific: bool = False
    multiply: bool = False


@lru_cache(maxsize=256)
def parse_template(text: str) -> NumberTemplate:
    """Read a template; SqlSyntaxError (42601) for contradictions in it."""
    template = NumberTemplate()
    for match in _TOKENS.finditer(text):
        if match[3] is None:
            literal = match[1] if match[1] is not None else match[2] or match[4]
            template.items.append(("", re.sub(r"\\(.)", r"\1", literal)))
            continue
        name = match[3].upper()
        _apply(template, name)
        template.items.append((match[3] if name in ("TH", "RN") else name, ""))
    if template.sign == "before" and template.before == template.sign_at:
        template.sign = "after"
    return template


def _apply(template: NumberTemplate, name: str) -> None:
    if template.scientific:
        raise SqlSyntaxError('"EEEE" must be the last pattern used')
    match name:
        case "9" | "0":
            _apply_digit(template, name)
        case "." | "D":
            if template.decimal:
                raise SqlSyntaxError("multiple decimal points")
            if template.multiply:
                raise SqlSyntaxError('cannot use "V" and decimal point together')
            template.decimal = True
        case "FM":
            template.fill = True
        case "S":
            if template.sign:
                raise SqlSyntaxError('cannot use "S" twice')
            if template.explicit_minus or template.explicit_plus or template.brackets:
                raise SqlSyntaxError('cannot use "S" and "PL"/"MI"/"SG"/"PR" together')
            template.sign = "after" if template.decimal else "before"
            template.sign_at = template.before
        case "MI" | "PL" | "SG":
            if template.sign:
                raise SqlSyntaxError(f'cannot use "S" and "{name}" together')
            template.explicit_minus |= name != "PL"
            template.explicit_plus |= name != "MI"
        case "PR":
            if template.sign or template.explicit_minus or template.explicit_plus:
                raise SqlSyntaxError('cannot use "PR" and "S"/"PL"/"MI"/"SG" together')
            template.brackets = True
        case "RN":
            template.roman = True
        case "V":
            if template.decimal:
                raise SqlSyntaxError('cannot use "V" and decimal point together')
            template.multiply = True
        case "EEEE":
            template.scientific = True
        case _:
            pass


def _apply_digit(template: NumberTemplate, name: str) -> None:
    if template.brackets:
        raise SqlSyntaxError(f'"{name}" must be ahead of "PR"')
    if template.multiply and name == "9":
        template.shift += 1
        return
    if name == "0" and template.zero_start < 0 and not template.decimal:
        template.zero_start = template.before
    if template.decimal:
        template.after += 1
    else:
        template.before += 1
    if name == "0":
        template.zero_end = template.before + template.after


class _NumberWriter:
    """Writes one number, given as digits with an optional point, into a template."""

    def __init__(self, template: NumberTemplate, digits: str, sign: str, blanks: int) -> None:
        self._template = template
        self._digits = digits
        self._sign = sign
        self._blanks = blanks
        self._at = 0
        self._position = 0
        self._started = False
        self._out: list[str] = []
        t = template
        if t.explicit_minus or t.explicit_plus:
            self._sign_done = not (t.explicit_plus and not t.explicit_minus)
        else:
            self._sign_done = sign == "+" and t.fill and not t.sign
        self._brackets = t.brackets and not (sign == "+" and t.fill)
        self._last = self._last_relevant() if t.fill and t.decimal else None
        count = t.before + t.after - 1
        if not self._sign_done and blanks == 0:
            count += 1
        self._end = count + (1 if blanks else 0) + (1 if t.decimal else 0)

    def _last_relevant(self) -> int | None:
        """Return the index of the last digit after the point worth showing, or of the point."""
        point = self._digits.find(".")
        if point < 0:
            return None
        last = len(self._digits.rstrip("0")) - 1
        forced = self._template.zero_end - self._blanks
        return max(last, min(len(self._digits) - 1, forced)) if forced > 0 else last

    def write(self) -> str:
        """Return the text."""
        for name, text in self._template.items:
            match name:
                case "9" | "0" | "." | "D":
                    self._digit(name)
                case "," | "G":
                    if self._started:
                        self._out.append(",")
                    elif not self._template.fill:
                        self._out.append(" ")
                case "L":
                    self._out.append(" ")
                case "TH" | "th" | "Th" | "tH":
                    self._ordinal(name)
                case "MI" | "PL" | "SG":
                    self._explicit_sign(name)
                case "":
                    self._out.append(text)
                case _:
                    pass
        return "".join(self._out)

    def _ordinal(self, name: str) -> None:
        if self._digits[:1] == "#" or self._sign == "-" or self._template.decimal:
            return
        if self._digits == ".":
            raise InvalidTextRepresentation('"." is not a number')
        suffix = ordinal_suffix(int(self._digits or "0"))
        self._out.append(suffix if name[0] == "T" else suffix.lower())

    def _explicit_sign(self, name: str) -> None:
        shown = {"MI": "-", "PL": "+"}.get(name, self._sign)
        if self._sign == shown:
            self._out.append(shown)
        elif not self._template.fill:
            self._out.append(" ")

    def _zero_before_point(self) -> bool:
        """Tell whether this is the 0 of 0.5 in a template without zeros: it is not shown."""
        return (
            self._template.zero_start < 0
            and self._at == 0
            and self._digits[:1] == "0"
            and self._template.after != 0
        )

    def _point_is_last(self) -> bool:
        return self._last is not None and self._digits[self._last] == "."

    def _lead_sign(self) -> None:
        t = self._template
        reached = self._position >= self._blanks or self._position == t.zero_start >= 0
        if self._sign_done or not reached:
            return
        if self._zero_before_point() and not self._point_is_last():
            return
        if t.sign:
            if t.sign == "before":
                self._out.append(self._sign)
                self._sign_done = True
            return
        if self._brackets:
            self._out.append(" " if self._sign == "+" else "<")
        elif self._sign == "-":
            self._out.append("-")
        elif not t.fill:
            self._out.append(" ")
        self._sign_done = True

    def _digit(self, name: str) -> None:
        t = self._template
        self._lead_sign()
        in_front = self._position < self._blanks
        zeros = 0 <= t.zero_start <= self._position
        if in_front and not zeros:
            if not t.fill:
                self._out.append(" ")
        elif in_front:
            self._out.append("0")
            self._started = True
        else:
            self._number_character(name)
        end = self._end
        if self._last is not None and self._last == self._at - 1 and not in_front:
            end = self._position + 1
        if self._position + 1 == end:
            if self._brackets and self._sign_done:
                self._out.append(" " if self._sign == "+" else ">")
            elif t.sign == "after":
                self._out.append(self._sign)
        self._position += 1

    def _number_character(self, name: str) -> None:
        t = self._template
        char = self._digits[self._at : self._at + 1]
        if char == ".":
            self._out.append(".")
        elif self._last is not None and self._at > self._last and name != "0":
            pass
        elif self._zero_before_point():
            if not t.fill:
                self._out.append(" ")
            elif self._point_is_last():
                self._out.append("0")
        else:
            self._out.append(char)
            self._started = True
        if char:
            self._at += 1


def ordinal_suffix(number: int) -> str:
    """Return ST, ND, RD or TH."""
    number = abs(number)
    if number // 10 % 10 == 1:
        return "TH"
    return {1: "ST", 2: "ND", 3: "RD"}.get(number % 10, "TH")


def roman(number: int) -> str:
    """Return a number from 1 to 3999 in Roman digits."""
    parts: list[str] = []
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        parts.append(letters * count)
    return "".join(parts)


def _write(template: NumberTemplate, text: str) -> str:
    """Write ``[-]digits[.digits]`` into a template, # for digits that do not fit."""
    sign = "-" if text.startswith("-") else "+"
    digits = text.lstrip("-")
    length = digits.find(".") if "." in digits else len(digits)
    blanks = max(template.before + template.shift - length, 0)
    if length > template.before + template.shift:
        digits = "#" * (template.before + template.shift) + "." + "#" * template.after
    return _NumberWriter(template, digits, sign, blanks).write()


def _roman_text(template: NumberTemplate, value: int) -> str:
    case = next(name for name, _ in template.items if name.upper() == "RN")
    if not 1 <= value <= 3999:
        return "#" * 15
    text = roman(value) if case == "RN" else roman(value).lower()
    return text if template.fill else text.rjust(15)


def _scientific(template: NumberTemplate, value: Decimal) -> str:
    if not value.is_finite():
        return " " + "#" * (template.before + 1) + "." + "#" * (template.after + 4)
    text = format(value, f".{template.after}e")
    mantissa, _, exponent = text.partition("e")
    if not value:
        exponent = "+0"
    sign = "" if value < 0 else " "
    return f"{sign}{mantissa}e{exponent[0]}{exponent[1:].zfill(2)}"


@implements("to_char(numeric,text)")
def _numeric_to_char(value: Decimal, text: str) -> str:
    template = parse_template(text)
    if template.roman:
        finite = value.is_finite()
        return _roman_text(template, int(numeric.round_numeric(value)) if finite else 0)
    if template.scientific:
        return _scientific(template, value)
    if not value.is_finite():
        shown = "NaN" if value.is_nan() else "Infinity" if value > 0 else "-Infinity"
        return _write(template, shown)
    if template.multiply:
        value = numeric.multiply(value, Decimal(10) ** template.shift)
    return _write(template, format(numeric.round_numeric(value, template.after), "f"))


@implements("to_char(int4,text)", "to_char(int8,text)")
def _int_to_char(value: int, text: str) -> str:
    return _numeric_to_char(Decimal(value), text)


def _float_to_char(value: float, text: str, digits: int) -> str:
    template = parse_template(text)
    if template.roman:
        return _roman_text(template, round(value) if math.isfinite(value) else 0)
    if template.scientific or not math.isfinite(value):
        return _numeric_to_char(Decimal(value), text)
    if template.multiply:
        value *= 10.0**template.shift
    length = len(format(abs(value), ".0f"))
    after = max(min(template.after, digits - length), 0)
    return _write(template, format(value, f".{after}f"))


@implements("to_char(float8,text)")
def _float8_to_char(value: float, text: str) -> str:
    return _float_to_char(value, text, 15)


@implements("to_char(float4,text)")
def _float4_to_char(value: float, text: str) -> str:
    return _float_to_char(value, text, 6)


class _NumberReader:
    """Reads a number as ``to_number`` does: the template says where, not what, characters are."""

    def __init__(self, template: NumberTemplate, text: str) -> None:
        self._template = template
        self._text = text
        self._at = 0
        self._sign = ""
        self._digits = ""
        self._after = 0
        self._has_point = False

    def read(self) -> tuple[str, int]:
        """Return the number's text and how many of its digits stand after the point."""
        for name, literal in self._template.items:
            if self._at >= len(self._text):
                break
            if name in ("9", "0", ".", "D"):
                self._part(is_digit=name in ("9", "0"))
                self._at += 1
            elif name in (",", "G"):
                self._at += self._next() == ","
            elif name in ("MI", "PL", "SG"):
                self._written_sign("+" if name == "PL" else "-" if name == "MI" else "+-")
            elif name == "L":
                self._pass_over(1)
            elif name.upper() == "TH" and self._sign != "-" and not self._template.decimal:
                self._pass_over(2)
            elif not name:
                self._at += len(literal)
        return self._sign + self._digits.rstrip("."), self._after

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _pass_over(self, count: int) -> None:
        """Pass over characters that cannot belong to a number."""
        while count and self._at < len(self._text) and self._next() not in "0123456789.,+-":
            self._at += 1
            count -= 1

    def _written_sign(self, signs: str) -> None:
        if self._next() in signs:
            self._sign = self._next()
            self._at += 1
        else:
            self._pass_over(1)

    def _part(self, *, is_digit: bool) -> None:
        """Read a sign, digit or point; stands on the last character used, or on another."""
        if self._next() == " ":
            self._at += 1
        template = self._template
        if is_digit and not self._sign and not self._digits.strip("."):
            self._leading_sign()
        char = self._next()
        is_read = False
        if "0" <= char <= "9":
            if self._has_point and self._after == template.after:
                return
            self._digits += char
            self._after += self._has_point
            is_read = True
        elif char == "." and template.decimal and not self._has_point:
            self._digits += char
            self._has_point = is_read = True
        if self._sign or not self._digits.strip(".") or not char:
            return
        if template.sign:
            following = self._text[self._at + 1 : self._at + 2]
            if is_read and following in ("+", "-"):
                self._sign = following
                self._at += 1
        elif not is_read and (template.explicit_plus or template.explicit_minus):
            self._sign = char if char in "+-" else ""

    def _leading_sign(self) -> None:
        char = self._next()
        if char == "-" or (char == "<" and self._template.brackets):
            self._sign = "-"
            self._at += 1
        elif char == "+":
            self._sign = "+"
            self._at += 1


@implements("to_number(text,text)")
def _to_number(value: str, text: str) -> Decimal | None:
    """Read digits, point and sign as the template places them; other characters are passed over."""
    template = parse_template(text)
    if not template.items:
        return None
    read, scale = _NumberReader(template, value).read()
    shown = read if read[:1] in ("+", "-") else f" {read}"
    if not read.strip("+-."):
        raise InvalidTextRepresentation(f'invalid input syntax for type numeric: "{shown}"')
    precision = template.before + template.shift + scale
    typmod = numeric_typmod(precision, scale)
    number = apply_typmod(NUMERIC, numeric.numeric_in(read), typmod, explicit=False)
    assert isinstance(number, Decimal)
    if template.multiply:
        number = numeric.multiply(number, numeric.power(Decimal(10), Decimal(-template.shift)))
    return number
