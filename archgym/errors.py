"""Errors that people cause and can mend: one sentence that names what was given, what was expected and what to do.

The command line prints the sentence and leaves with code 2; from Python the classes are ordinary ``ValueError`` s.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchGymError(ValueError):
    """Bad input. The message is one sentence for people."""


class UnknownNameError(ArchGymError):
    """A name that is not registered; the message offers the nearest match."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else "known: " + (", ".join(known[:12]) or "none")
        if not close and len(known) > 12:
            hint += f" and {len(known) - 12} more"
        super().__init__(f"unknown {kind} {str(name)!r}; {hint}")
        self.kind, self.given, self.nearest = kind, name, close[0] if close else None


class MissingExtraError(ArchGymError):
    """An optional library is not installed; the message names the command that installs it."""

    def __init__(self, what: str, extra: str, cause: str = "") -> None:
        detail = f" ({cause})" if cause else ""
        super().__init__(f"{what} needs the extra {extra!r}{detail}: pip install 'archgym[{extra}]'")
        self.extra = extra
