"""Numbers as people write them in documents, read by an ASCII grammar before anything is converted.

What is not plainly the number it must be (full-width digits, underscores, leading zeros, comma decimals, nan, inf) is
refused, never repaired.
"""

import math
import re
from decimal import Decimal

_INTEGER = re.compile(r"(?:0|[1-9][0-9]{0,11})", re.ASCII)
# 40 decimals: a float's own shortest text has up to 17 digits after up to four zeros, and people write more zeros
_FLOAT = re.compile(r"(?:(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
# 1 × 10^-5, 5 x 10⁻⁵, 2*10^-4; an exponent that is not marked as one (5 x 105) is not taken
_POWER = re.compile(
    r"([0-9]{1,12}(?:\.[0-9]{1,17})?)\s*[×xX*·]\s*10\s*(?:(?:\^|\*\*)\s*([-−]?[0-9]{1,3})|([⁻−]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))"
)
_LARGE = 1e12  # from here on a whole float is written with an exponent, as it is read
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")


def read_int(text: str) -> int | None:
    """The whole number that `text` is, or None where it is not plainly one (of at most 12 digits, without a sign)."""
    return int(text) if _INTEGER.fullmatch(text) else None


def read_float(text: str) -> float | None:
    """The finite number that `text` is, without a sign, or None where it is not plainly one.

    Takes `1e-5`, `5E-5`, `1e-05`, `0.00001`, `1 × 10^-5` and `5 x 10⁻⁵`.
    """
    power = _POWER.fullmatch(text)
    if power:
        text = f"{power[1]}e{(power[2] or power[3]).translate(_SUPERSCRIPTS)}"
    if not _FLOAT.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) and (number > 0 or Decimal(text) == 0) else None


def canonical(number: float) -> str:
    """The shortest way to write a number, as directory names have it: `1e-5`, `0.1`, `2.5e-5`, `8`.

    Where the plain and the scientific form are equally long, the plain one is taken.
    """
    if isinstance(number, int) or (number.is_integer() and number < _LARGE):
        return str(int(number))
    plain = format(Decimal(repr(number)), "f")
    digits = Decimal(repr(number)).normalize().as_tuple()
    exponent = len(digits.digits) - 1 + int(digits.exponent)
    mantissa = "".join(map(str, digits.digits))
    mantissa = mantissa[0] + ("." + mantissa[1:] if len(mantissa) > 1 else "")
    scientific = f"{'-' if digits.sign else ''}{mantissa}e{exponent}"
    return min(plain, scientific, key=len)
