"""What trials say of the problems they are of, and how such a problem is made again without trusting the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.problem import Problem, problem_of_options
from archgym.reading import parse_json
from archgym.registry import SIMULATORS
from archgym.simulator import OWN_PYTHON, names_own_file

KEY_COLUMNS = ("problem", "space", "objective", "simulator_version", "fidelity", "options")
"""The run columns that together say which problem a row belongs to."""

ProblemKey = tuple[str, ...]


@dataclass(frozen=True)
class ProblemInfo:
    """What a dataset says of one of its problems.

    Attributes:
        key: the values of KEY_COLUMNS.
        workload: name of the workload.
        parameters, metrics: the names of its columns.
    """

    key: ProblemKey
    workload: str
    parameters: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def problem(self) -> str:
        return self.key[0]

    @property
    def options(self) -> dict[str, Any]:
        """What ``make_problem`` was given beyond the name."""
        return options_of(self.key[5])

    def as_json(self) -> dict[str, Any]:
        """The form that a Parquet file's metadata holds."""
        about = dict(zip(KEY_COLUMNS, self.key, strict=True))
        return {**about, "workload": self.workload, "parameters": self.parameters, "metrics": self.metrics}

    @classmethod
    def from_json(cls, about: Mapping[str, Any], path: Path) -> ProblemInfo:
        """Inverse of :meth:`as_json`; refuses anything else."""
        try:
            key = tuple(about[name] for name in KEY_COLUMNS)
            info = cls(key, about["workload"], tuple(about["parameters"]), tuple(about["metrics"]))
        except (KeyError, TypeError):
            raise unusable(path, "its list of problems is malformed") from None
        texts = (*info.key, info.workload, *info.parameters, *info.metrics)
        if not all(isinstance(text, str) for text in texts):
            raise unusable(path, "its list of problems is malformed")
        return info

    def make(self, *, trust: bool = False) -> Problem:
        """The problem itself, to canonicalise designs and to simulate again.

        A dataset is data from anywhere, so by default only simulators that come with archgym are made, without
        stand-ins, files or external programs; ``trust=True`` lifts that.
        """
        options = self.options
        if not trust:
            refuse_untrusted(self.problem, options)
        problem = problem_of_options(self.problem, options)
        if problem.simulator.version != self.key[3]:
            raise ArchGymError(
                f"the trials of {self.problem} come from simulator version {self.key[3]!r}, installed is "
                f"{problem.simulator.version!r}; install that version to compare them"
            )
        if problem.space.names != self.parameters:
            raise ArchGymError(
                f"the trials of {self.problem} have the parameters {', '.join(self.parameters)}, the installed space "
                f"has {', '.join(problem.space.names)}"
            )
        return problem


def options_of(text: str) -> dict[str, Any]:
    try:
        options = parse_json(text) if text else {}
    except ArchGymError:
        options = None
    if not isinstance(options, dict):
        raise ArchGymError(f"the trials hold the problem options {text[:80]!r}; expected a JSON object")
    return options


_MARKS = ("file:", *OWN_PYTHON, "/", "\\")
"""Names of devices, rules and objectives hold none of these."""


def refuse_untrusted(problem: str, options: Mapping[str, Any]) -> None:
    """Refuse a problem that someone else names and that would start a program or read a file.

    Raises:
        ArchGymError: for a simulator that starts programs, a stand-in, a workload or an option that is a file.
    """
    kind, _, workload = problem.partition("/")
    if kind in SIMULATORS and getattr(SIMULATORS.load(kind), "starts_programs", False):
        raise ArchGymError(
            f"{quote(problem, marks=False)} would start an external program; add --trust if you trust where the data is from"
        )
    given = [value for name, value in options.items() if name not in ("objective", "space", "fidelity")]
    texts = [str(options.get(name, "")) for name in ("objective", "space", "fidelity")]
    if (
        options.get("simulator")
        or names_own_file(workload)
        or any(mark in text for text in texts for mark in _MARKS)
        or any(map(_names_file, given))
    ):
        raise ArchGymError(
            f"{quote(problem, marks=False)} needs a file that the data names; add --trust if you trust where the data is from"
        )


def _names_file(value: Any) -> bool:
    """Whether an option is, or holds, a path."""
    if isinstance(value, Mapping):
        return any(map(_names_file, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_names_file, value))
    if not isinstance(value, str):
        return False
    return any(mark in value for mark in _MARKS) or os.path.exists(value)


def unusable(path: Path, why: str) -> ArchGymError:
    return ArchGymError(f"{path} cannot be used: {why}; give a folder or file that archgym wrote")


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
