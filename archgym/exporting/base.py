"""What every format is: a class that writes a design, and says what its files cannot."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from archgym._version import __version__
from archgym.errors import UnknownNameError
from archgym.problem import Problem
from archgym.registry import EXPORTERS
from archgym.simulator import Simulator
from archgym.space import Value
from archgym.writing import making_folder


@dataclass
class Written:
    """What an export wrote.

    Attributes:
        files: paths below the folder, with what each is.
        unsaid: what the format cannot say of the design or the workload, one sentence each.
        command: how the tool is started on them, from the folder; empty where that is another program's business.
    """

    files: dict[str, str] = field(default_factory=dict)
    unsaid: list[str] = field(default_factory=list)
    command: str = ""


class Exporter(ABC):
    """A format. Subclasses say what it is and write the files.

    Attributes:
        name: as in ``--to``.
        title: the tool, for people.
        simulators: names of the simulators whose designs it can say; empty for all.
        units: number in the files -> its unit, for the README. A number is named by the end of its path in a file
            (``memtimingspec.clkMhz``), where ``*`` stands for anything; the first name that fits counts, and every number that
            is ever written has to have one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    simulators: ClassVar[tuple[str, ...]] = ()
    units: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        """Write ``design`` (every parameter by name) and the workload of ``problem`` into ``folder``, which exists.

        Raises:
            ArchGymError: the format cannot say this design at all.
        """


def whole_simulator(problem: Problem) -> Simulator:
    """The simulator behind a narrowed space or a stand-in."""
    return problem.simulator.stands_for


def formats_for(simulator: str) -> list[str]:
    """The formats that can say designs of a simulator."""
    return [
        name
        for name in EXPORTERS
        if not EXPORTERS.load(name).simulators or simulator in EXPORTERS.load(name).simulators
    ]


def export(problem: Problem, design: Mapping[str, Value], to: str, folder: Path | str) -> Written:
    """Write a design of a problem in a format, with a README that says what it is and what the format cannot say.

    Args:
        problem: whose design it is.
        design: every parameter by name.
        to: a format of ``EXPORTERS``.
        folder: is made where it is missing; must not hold files already. A killed export leaves none.

    Raises:
        ArchGymError: the format is unknown or not for this simulator, the design is not of the space, or the folder
            cannot be written.
    """
    exporter: Exporter = EXPORTERS.load(to)()
    kind = problem.name.partition("/")[0]
    if exporter.simulators and kind not in exporter.simulators:
        raise UnknownNameError(f"export format of {kind}", to, formats_for(kind))
    problem.space.encode(design)
    with making_folder(Path(folder)) as made:
        written = exporter.write(problem, design, made)
        (made / "README.md").write_text(_readme(problem, design, exporter, written), encoding="utf-8")
    written.files["README.md"] = "what these files are, and what they cannot say"
    return written


def _readme(problem: Problem, design: Mapping[str, Value], exporter: Exporter, written: Written) -> str:
    lines = [
        f"# A design of {problem.name} for {exporter.title}",
        "",
        f"Written by archgym {__version__}; workload: {problem.workload.description}.",
        "",
        "| file | content |",
        "| --- | --- |",
        *(f"| `{name}` | {what} |" for name, what in written.files.items()),
        "",
    ]
    if written.command:
        lines += ["```sh", written.command, "```", ""]
    lines += ["## What the format cannot say", ""]
    lines += [f"- {sentence}" for sentence in written.unsaid] or ["Nothing: every parameter stands in the files."]
    lines += ["", "## Units", "", "| number (the first line that fits) | unit |", "| --- | --- |"]
    lines += [f"| `{name}` | {unit} |" for name, unit in exporter.units.items()]
    lines += ["", "## The design", "", "```json", json.dumps(dict(design), indent=1), "```", ""]
    if units := [f"`{p.name}` in {p.unit}" for p in problem.space.parameters if p.unit and p.unit != "1"]:
        lines += [f"Units: {', '.join(units)}; all other numbers are counts.", ""]
    return "\n".join(lines)


def write_json(path: Path, content: Any) -> None:
    """One JSON document for people and programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
