"""Errors that people cause and can mend: one sentence that names what was given, what was expected and what to do.

The command line prints the sentence and leaves with code 2; from Python the classes are ordinary ``ValueError`` s.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

MAX_SENTENCE = 300
"""Characters of a message; what a person gave is quoted with at most 80."""


def quote(value: object, limit: int = 80, marks: bool = True) -> str:
    """``value`` for a sentence: on one line, with quotation ``marks``, its middle left out beyond ``limit``."""
    # Cutting before repr keeps a text of gigabytes from being copied.
    if isinstance(value, str):
        value = value if len(value) <= 4 * limit else value[: 2 * limit] + value[-2 * limit :]
    text = repr(value) if marks else str(value)
    if not marks or "\n" in text:
        text = " ".join(text.split())
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


def nearest(given: str, known: Sequence[str]) -> str | None:
    """The known name that ``given`` may have meant: the same but for capitals, a slip of the fingers away, or the beginning of
    it; None where nothing is near."""
    close = difflib.get_close_matches(given[:200], known, n=1, cutoff=0.65)
    if close:
        return close[0]
    folded = {name.lower(): name for name in reversed(known)}
    text = given[:200].lower()
    close = difflib.get_close_matches(text, folded, n=1, cutoff=0.65)
    if close:
        return folded[close[0]]
    begun = [
        name for name in folded if min(len(name), len(text)) > 2 and (name.startswith(text) or text.startswith(name))
    ]
    return folded[max(begun, key=len)] if begun else None


class UnknownNameError(ArchGymError):
    """A name that is not registered; the message offers the nearest match, or all names where none is near. ``own_file``:
    what ``file:PATH`` may stand for in its place, which a path without ``file:`` is told."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, own_file: bool = False) -> None:
        known = sorted(set(known))
        given = name if isinstance(name, str) else quote(name, marks=False)
        start = f"unknown {kind} {quote(given)}; "
        if own_file and ("/" in given or given.endswith((".json", ".yaml", ".yml"))):
            start += f"for a file of your own write {quote('file:' + given)}; "
        near = nearest(given, known)
        super().__init__(start + (f"did you mean {near!r}?" if near is not None else _listed(known, len(start))))
        self.kind, self.given, self.nearest = kind, name, near


def _listed(known: Sequence[str], used: int) -> str:
    """All names, or as many as a sentence of which ``used`` characters are written can hold."""
    whole = "known: " + (", ".join(known) or "none")
    if used + len(whole) <= MAX_SENTENCE:
        return whole
    room = MAX_SENTENCE - used - len(f"known:  and {len(known)} more")
    ends = itertools.accumulate(len(name) + 2 for name in known)
    count = sum(1 for end in itertools.takewhile(lambda end: end - 2 <= room, ends))
    return f"known: {', '.join(known[:count])} and {len(known) - count} more"


class UnexpectedArgumentError(ArchGymError, TypeError):
    """A keyword argument that nobody takes. It is a ``TypeError`` too, which libraries that try out arguments of
    environments (TorchRL's ``frameskip``) expect."""


class MissingExtraError(ArchGymError):
    """An optional library is not installed; the message names the command that installs it."""

    def __init__(self, what: str, extra: str, cause: str = "") -> None:
        detail = f" ({cause})" if cause else ""
        super().__init__(f"{what} needs the extra {extra!r}{detail}: pip install 'archgym[{extra}]'")
        self.extra = extra


def all_different(names: Iterable[Any], what: str) -> list[Any]:
    """``names`` as a list; one that stands there twice is refused, since it would count once, or one of two values would be
    lost. ``what`` holds them (``"--agents"``)."""
    found = list(names)
    seen: set[Any] = set()
    for name in found:
        key = name if isinstance(name, Hashable) else repr(name)
        if key in seen:
            raise ArchGymError(f"{what} holds {quote(name)} twice; name each once")
        seen.add(key)
    return found


def whole_numbers(text: str, what: str) -> list[int]:
    """The numbers of ``"0,1,2"``, each different; ``what`` holds them (``"--seeds"``)."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ArchGymError(f"{what} is {quote(text)}; expected whole numbers with commas between") from None
    return all_different(numbers, what)


def check_seed(seed: Any) -> int:
    """A seed as an int: a whole number from 0 that a file of trials can hold."""
    number = whole_number("the seed", seed, least=0)
    if number >= 1 << 63:
        raise ArchGymError(f"the seed is {quote(number)}; expected less than 2**63")
    return number


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
