"""How the accuracy of a cell is had: one frozen record with a text form that round-trips.

``table`` | ``table:epochs=8,run=single`` | ``zero-cost:proxy=synflow`` | ``formula`` | ``train:epochs=20``.
Nothing is random by default: what a fidelity leaves out is fixed by the workload's own defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError

SOURCES = ("table", "formula", "zero-cost", "train")
PROXIES = ("synflow", "naswot", "jacov", "grad_norm", "snip", "zen")
_CHOICES: dict[str, tuple[str, ...]] = {
    "split": ("valid", "test"),
    "schedule": ("full", "short"),
    "run": ("mean", "single"),
    "noise": ("none", "gaussian"),
    "proxy": PROXIES,
}


@dataclass(frozen=True)
class Fidelity:
    """Where an accuracy comes from.

    Attributes:
        source: ``table`` (trained results), ``formula`` (no accuracy), ``zero-cost`` (scores at initialisation),
            ``train`` (trains the cell now).
        split: ``valid`` (what a search sees) or ``test`` (what a report shows); None = the workload's own.
        epochs: checkpoint; None = the last one.
        schedule: ``full`` = a checkpoint inside the long run, ``short`` = a separate run annealed at ``epochs``;
            None = the one there is.
        run: ``mean`` over the recorded runs, or ``single``: one of them, drawn by (evaluation seed, cell, epochs).
        noise: ``gaussian`` adds normal noise of the table's pooled seed deviation to the mean (synthetic).
        proxy: score of ``zero-cost``.
    """

    source: str = "table"
    split: str | None = None
    epochs: int | None = None
    schedule: str | None = None
    run: str | None = None
    noise: str | None = None
    proxy: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UnknownNameError("fidelity of nas", self.source, SOURCES)
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ArchGymError(f"fidelity option {name}={value!r} is unknown; choose {' or '.join(known)}")
        if self.epochs is not None and self.epochs < 1:
            raise ArchGymError(f"fidelity option epochs={self.epochs} must be at least 1")
        if self.proxy is not None and self.source != "zero-cost":
            raise ArchGymError(f"fidelity {self.source!r} takes no proxy; write zero-cost:proxy={self.proxy}")

    def __str__(self) -> str:
        options = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name != "source" and getattr(self, field.name) is not None
        ]
        return self.source + (":" + ",".join(options) if options else "")

    def filled(self, **defaults: str | int | None) -> Fidelity:
        """This fidelity with what it leaves out taken from ``defaults``."""
        blank: dict[str, Any] = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return replace(self, **blank)


def parse_fidelity(text: str | Fidelity | None) -> Fidelity:
    """Read the text form; None is the default, ``table``."""
    if isinstance(text, Fidelity):
        return text
    source, colon, rest = (text or "table").partition(":")
    options: dict[str, str | int] = {}
    names = [field.name for field in fields(Fidelity) if field.name != "source"]
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = part.partition("=")
        if not equals or name not in names:
            raise ArchGymError(
                f"cannot read {part!r} in fidelity {text!r}; write name=value with a name of {', '.join(names)}"
            )
        if name in options:
            raise ArchGymError(f"fidelity {text!r} gives {name!r} twice")
        if name == "epochs":
            if not value.isdigit():
                raise ArchGymError(f"fidelity {text!r} has epochs={value!r}; expected a whole number")
            options[name] = int(value)
        else:
            options[name] = value
    if colon and not options:
        raise ArchGymError(f"fidelity {text!r} has nothing after the colon; leave the colon out")
    return Fidelity(source, **options)  # type: ignore[arg-type]
