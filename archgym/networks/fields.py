"""What the readers of layer files share: numbers, names, and the place before a complaint."""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable, Sequence
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.networks.layers import Layer


def at(place: str, make: Callable[[], Layer]) -> Layer:
    """Run ``make`` and put the place before its complaint."""
    try:
        return make()
    except ArchGymError as error:
        raise ArchGymError(f"{place}: {error}") from None


def names_of(left_out: str | Sequence[str]) -> tuple[str, ...]:
    """The names in an option: separated by commas, or in a list."""
    parts = left_out.split(",") if isinstance(left_out, str) else map(str, left_out)
    return tuple(part.strip() for part in parts if part.strip())


def whole(place: str, field: str, value: Any) -> int:
    """A positive whole number, from YAML or CSV."""
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if number != number or number < 1 or number != int(min(number, 2.0**62)):
        raise ArchGymError(f"{place}: {field} is {quote(value)}; expected a whole number from 1 on")
    return int(number)
