"""What the commands that measure report: groups of a validation and figures of a benchmark."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from archgym.errors import ArchGymError


@dataclass(frozen=True)
class Group:
    """Agreement with one group of reference rows.

    Attributes:
        group: name, parts separated by slashes.
        rows: how many rows were compared.
        exact: share of rows that are equal, 0..1.
        mean_error, worst_error: relative errors; NaN where errors make no sense for the group.
        required: bounds the group has to meet, any of ``exact``, ``mean_error``, ``worst_error`` or a statistic's
            own name (a lower bound for ``exact`` and statistics, an upper bound for errors); empty = reported only.
        statistics: further numbers by name (a rank correlation, say).
        worst: the worst rows first, each a flat dict with the design, ours, the reference and the error.
    """

    group: str
    rows: int
    exact: float
    mean_error: float
    worst_error: float
    required: Mapping[str, float] = field(default_factory=dict)
    statistics: Mapping[str, float] = field(default_factory=dict)
    worst: Sequence[Mapping[str, Any]] = ()

    @property
    def holds(self) -> bool:
        """True where every required bound is met."""
        for name, bound in self.required.items():
            if name in ("mean_error", "worst_error"):
                if not getattr(self, name) <= bound:
                    return False
            else:
                value = self.exact if name == "exact" else self.statistics.get(name, float("nan"))
                if not value >= bound:
                    return False
        return True

    def as_json(self) -> dict[str, Any]:
        """The public JSON form."""
        row = asdict(self)
        row.pop("worst")
        statistics = row.pop("statistics")
        return {**row, **({"statistics": statistics} if statistics else {}), "holds": self.holds}


def compare(
    group: str,
    ours: ArrayLike,
    reference: ArrayLike,
    *,
    required: Mapping[str, float] | None = None,
    exact_within: float = 0.0,
    rows: Sequence[Mapping[str, Any]] | None = None,
    keep: int = 20,
) -> Group:
    """Compare two columns of numbers; a row is exact where the relative error is at most ``exact_within``.

    A NaN on one side only counts as an infinite error. ``rows`` describes each row for ``--show-worst``.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    scale = np.where(b == 0, 1.0, np.abs(b))
    error = np.abs(a - b) / scale
    error = np.where(np.isnan(a) & np.isnan(b), 0.0, np.where(np.isnan(error), np.inf, error))
    order = np.argsort(-error, kind="stable")[:keep]
    worst = [
        {**(rows[i] if rows is not None else {"row": int(i)}), "ours": a[i], "reference": b[i], "error": error[i]}
        for i in order
        if error[i] > exact_within
    ]
    if not len(error):
        return Group(group, 0, float("nan"), float("nan"), float("nan"), {}, {}, ())
    return Group(
        group,
        len(error),
        float(np.mean(error <= exact_within)),
        float(np.mean(error)),
        float(np.max(error)),
        dict(required or {}),
        {},
        worst,
    )


@dataclass(frozen=True)
class Figure:
    """One measured figure: name, value, unit and the threads it was measured with."""

    figure: str
    value: float
    unit: str
    threads: int


def units_per_second(work: Callable[[], object], units: int, seconds: float = 1.0) -> float:
    """How fast ``work`` is, which does so many ``units`` a call: over at least ``seconds``, after a first call that compiles."""
    work()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        count += units
    return count / (time.perf_counter() - start)


def machine() -> str:
    """The machine in one line: processor, cores, Python."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


_SHARED_FOLDERS = {"dram-event": "dram", "mapping": "accelerator", "systolic": "accelerator"}


def default_reference(name: str) -> Path:
    """The reference data of a thing to validate: its folder in the one that the variable ARCHGYM_REF names.

    Raises:
        ArchGymError: where the variable is not set.
    """
    root = os.environ.get("ARCHGYM_REF")
    if not root:
        raise ArchGymError(
            f"no reference data of {name} is given; name its folder with --ref, or the folder above with ARCHGYM_REF"
        )
    return Path(root) / _SHARED_FOLDERS.get(name, name)
