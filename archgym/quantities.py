"""Numbers for people: ``5.345 mJ`` for 5.345e9 pJ. JSON, logs and tables of data keep the full number in its own unit."""

from __future__ import annotations

import math
from decimal import Context, Decimal

_EXPONENTS = {"f": -15, "p": -12, "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_PREFIXES = {exponent: prefix for prefix, exponent in _EXPONENTS.items()}
#: Units that take prefixes, and the least and largest exponent that people use with them.
_BASES = {"s": (-15, 0), "J": (-15, 18), "W": (-15, 18), "Hz": (0, 18), "B": (0, 18), "bit/s": (0, 18), "B/s": (0, 18)}


def _split(unit: str) -> tuple[int, str] | None:
    """``"pJ"`` as the exponent -12 and ``"J"``; None for a unit that takes no prefix."""
    for prefix, base in ((unit[:1], unit[1:]), ("", unit)):
        if base in _BASES and prefix in _EXPONENTS:
            return _EXPONENTS[prefix], base
    return None


def unit_name(unit: str) -> str:
    """A unit for people: that of a pure number, ``1``, is left out."""
    return "" if unit == "1" else unit


def quantity(value: float | None, unit: str = "", digits: int = 4) -> str:
    """``value`` in ``unit`` for people, rounded to ``digits`` significant digits: with the SI prefix that leaves one to three
    digits before the point where the unit takes prefixes, whole numbers in full with separators where it does not; ``-``
    for None and NaN."""
    if value is None or math.isnan(value):
        return "-"
    split, unit = _split(unit), unit_name(unit)
    if math.isinf(value):
        return f"{value} {unit}".strip()
    number = Context(prec=digits).create_decimal(Decimal(value))
    if not number:
        return f"0 {unit}".strip()
    if split is not None:
        exponent, base = split
        number = number.scaleb(exponent)
        low, high = _BASES[base]
        shift = min(max(number.adjusted() // 3 * 3, low), high)
        return f"{_plain(number.scaleb(-shift), digits)} {_PREFIXES[shift]}{base}"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,} {unit}".strip()
    return f"{_plain(number, digits)} {unit}".strip()


def _plain(number: Decimal, digits: int) -> str:
    """Digits with separators, without zeros at the end; powers of ten where there would be many zeros."""
    if -4 <= number.adjusted() < digits + 3:
        text = f"{number:,f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = f"{number:e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent):+03d}"
