"""How the accuracy of a cell is had: one frozen record with a text form that round-trips.

``table`` | ``table:epochs=8,run=single`` | ``zero-cost:proxy=synflow`` | ``formula`` | ``train:epochs=20`` |
``train:inherit=parent,epochs=1`` | ``supernet:policy=fair,steps=10000``.
Nothing is random by default: what a fidelity leaves out is fixed by the workload's own defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError

SOURCES = ("table", "formula", "zero-cost", "train", "supernet")
SUPERNET_POLICIES = ("uniform", "fair", "sandwich", "complexity", "shift", "fewshot", "fewshot-random")
PROXIES = ("synflow", "naswot", "jacov", "grad_norm", "snip", "zen")
_CHOICES: dict[str, tuple[str, ...]] = {
    "split": ("valid", "test"),
    "schedule": ("full", "short"),
    "run": ("mean", "single"),
    "noise": ("none", "gaussian"),
    "proxy": PROXIES,
    "policy": SUPERNET_POLICIES,
    "inherit": ("supernet", "parent"),
}
# The options that a source takes.
_OPTIONS = {
    "table": ("split", "epochs", "schedule", "run", "noise"),
    "formula": (),
    "zero-cost": ("proxy",),
    "train": ("split", "epochs", "schedule", "run", "inherit"),
    "supernet": ("split", "run", "policy", "steps"),
}
MOST_EPOCHS, MOST_STEPS = 10_000, 10_000_000


@dataclass(frozen=True)
class Fidelity:
    """Where an accuracy comes from.

    Attributes:
        source: ``table`` (trained results), ``formula`` (no accuracy), ``zero-cost`` (scores at initialisation),
            ``train`` (trains the cell now), ``supernet`` (the cell with the weights of one network that holds all).
        split: ``valid`` (what a search sees) or ``test`` (what a report shows); None = the workload's own.
        epochs: checkpoint; None = the last one.
        schedule: ``full`` = a checkpoint inside the long run, ``short`` = a separate run annealed at ``epochs``;
            None = the one there is.
        run: ``mean`` over the recorded runs, or ``single``: one of them, drawn by (evaluation seed, cell, epochs).
        noise: ``gaussian`` adds normal noise of the table's pooled seed deviation to the mean (synthetic).
        proxy: score of ``zero-cost``.
        policy, steps: how and for how many cells the supernet was trained.
        inherit: ``train`` starts from the weights of a supernet, or of the design's trained parent.
    """

    source: str = "table"
    split: str | None = None
    epochs: int | None = None
    schedule: str | None = None
    run: str | None = None
    noise: str | None = None
    proxy: str | None = None
    policy: str | None = None
    steps: int | None = None
    inherit: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UnknownNameError("fidelity of nas", self.source, SOURCES)
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ArchGymError(
                    f"fidelity option {name}={str(value)[:80]!r} is unknown; choose {' or '.join(known)}"
                )
        for name, most in (("epochs", MOST_EPOCHS), ("steps", MOST_STEPS)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ArchGymError(f"fidelity option {name}={value} is outside 1 to {most:,}")
        for option in fields(self)[1:]:
            if getattr(self, option.name) is not None and option.name not in _OPTIONS[self.source]:
                takers = [source for source, options in _OPTIONS.items() if option.name in options]
                raise ArchGymError(f"fidelity {self.source!r} takes no {option.name}; only {' and '.join(takers)} can")
        if self.inherit is not None and self.schedule == "full":
            raise ArchGymError("a training that inherits weights is a run of its own; leave schedule=full out")
        if self.source == "train" and self.run == "mean":
            raise ArchGymError("fidelity 'train' trains one network; leave run=mean out")

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
    options: dict[str, Any] = {}
    names = [field.name for field in fields(Fidelity) if field.name != "source"]
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = part.partition("=")
        if not equals or name not in names:
            raise ArchGymError(
                f"cannot read {part[:80]!r} in the fidelity; write name=value with a name of {', '.join(names)}"
            )
        if name in options:
            raise ArchGymError(f"fidelity {str(text)[:80]!r} gives {name!r} twice")
        if name in ("epochs", "steps"):
            if not (value.isascii() and value.isdigit() and len(value) < 16):
                raise ArchGymError(f"the fidelity has {name}={value[:80]!r}; expected a whole number")
            options[name] = int(value)
        else:
            options[name] = value
    if colon and not options:
        raise ArchGymError(f"fidelity {str(text)[:80]!r} has nothing after the colon; leave the colon out")
    return Fidelity(source, **options)
