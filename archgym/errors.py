"""Errors that people cause and can mend: one sentence that names what was given, what was expected and what to do.

The command line prints the sentence and leaves with code 2; from Python the classes are ordinary ``ValueError`` s.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

MAX_SENTENCE = 300
"""Characters of a message; what a person gave is quoted with at most 80."""


def quote(value: object, limit: int = 80, marks: bool = True) -> str:
    """``value`` for a sentence: on one line, with quotation ``marks``, its middle left out beyond ``limit``."""
    # Cutting before repr keeps a text of gigabytes from being copied.
    if isinstance(value, str):
        value = value if len(value) <= 4 * limit else value[: 2 * limit] + value[-2 * limit :]
    text = repr(value) if marks else " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[: limit * 2 // 3 - 3]}...{text[-(limit // 3) :]}"


class ArchGymError(ValueError):
    """Bad input. The message is one sentence for people, of at most :data:`MAX_SENTENCE` characters: quotations, and
    then its middle, are shortened until it fits."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > MAX_SENTENCE:
            text = re.sub(r"'[^']{80,}'|\"[^\"]{80,}\"", lambda found: quote(found[0], marks=False), text)
        if len(text) > MAX_SENTENCE:
            text = quote(text, MAX_SENTENCE, marks=False)
        super().__init__(text)

    def __reduce__(self) -> tuple[object, ...]:
        # Sub-classes take other arguments than the message; worker processes send errors pickled.
        return _restored, (type(self), str(self), self.__dict__)


def _restored(kind: type[ArchGymError], message: str, attributes: dict[str, object]) -> ArchGymError:
    error = kind.__new__(kind)
    ValueError.__init__(error, message)
    error.__dict__.update(attributes)
    return error


class UnknownNameError(ArchGymError):
    """A name that is not registered; the message offers the nearest match."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        given = name if isinstance(name, str) else quote(name, marks=False)
        close = difflib.get_close_matches(given[:200], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else "known: " + (", ".join(known[:12]) or "none")
        if not close and len(known) > 12:
            hint += f" and {len(known) - 12} more"
        super().__init__(f"unknown {kind} {quote(given)}; {hint}")
        self.kind, self.given, self.nearest = kind, name, close[0] if close else None


class UnexpectedArgumentError(ArchGymError, TypeError):
    """A keyword argument that nobody takes. It is a ``TypeError`` too, which libraries that try out arguments of
    environments (TorchRL's ``frameskip``) expect."""


class MissingExtraError(ArchGymError):
    """An optional library is not installed; the message names the command that installs it."""

    def __init__(self, what: str, extra: str, cause: str = "") -> None:
        detail = f" ({cause})" if cause else ""
        super().__init__(f"{what} needs the extra {extra!r}{detail}: pip install 'archgym[{extra}]'")
        self.extra = extra


def whole_number(what: str, value: Any, unit: str = "", least: int = 1) -> int:
    """``value`` as an int (2.0 and NumPy's numbers count); what is no whole number from ``least`` on raises a sentence."""
    try:
        number = int(value)
        if number == value and number >= least and not isinstance(value, bool | str | bytes):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    kind = "a positive whole number" if least == 1 else f"a whole number from {least}"
    raise ArchGymError(f"{what} is {str(value)[:80]}; expected {kind}{f' of {unit}' if unit else ''}")
