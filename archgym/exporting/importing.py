"""The way back: another tool's configuration as a design, with what was rounded and what has no place here."""

from __future__ import annotations

import configparser
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.problem import Problem
from archgym.reading import parse_json, parse_yaml_all, quote_path, read_text, taking_apart
from archgym.registry import EXPORTERS
from archgym.space import Parameter, Value


@dataclass
class Said:
    """What a configuration says of a design.

    Attributes:
        values: parameter -> the file's value, in the parameter's unit; those of parameters that the space does not have are
            passed over.
        unplaced: what stands in the file and has no place in the design, one sentence each.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """A design that was read from a configuration.

    Attributes:
        design: every parameter by name.
        format: the format that was read.
        rounded: parameters whose value in the file is not in the space, one sentence each.
        assumed: parameters that the file does not give, with the value taken.
        unplaced: what of the file has no place in the design, one sentence each.
    """

    design: dict[str, Value]
    format: str
    rounded: list[str]
    assumed: dict[str, Value]
    unplaced: list[str]

    @property
    def sentences(self) -> list[str]:
        """All that is to be said beside the design."""
        assumed = ", ".join(f"{name} = {value}" for name, value in self.assumed.items())
        return [*self.rounded, *([f"Not in the file, taken as usual: {assumed}."] if assumed else []), *self.unplaced]


class Importer(ABC):
    """The reading half of a format.

    Attributes:
        files: where its configuration lies below a folder, the first that exists.
    """

    name: ClassVar[str]
    simulators: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def claims(self, path: Path, text: str) -> bool:
        """Whether a file looks like one of this format; never an error."""

    @abstractmethod
    def read(self, problem: Problem, path: Path, text: str) -> Said:
        """What the file at ``path`` with the content ``text`` says.

        Raises:
            ArchGymError: one sentence that names the file and the place.
        """

    def usual(self, problem: Problem) -> Mapping[str, Value]:
        """What is taken for parameters that a file does not give; the first value of those that are not here."""
        return problem.simulator.usual_design(problem.workload) or {}


def importers_for(simulator: str) -> list[str]:
    """The formats that are read as designs of a simulator."""
    names = []
    for name in EXPORTERS:
        cls = EXPORTERS.load(name)
        if issubclass(cls, Importer) and (not cls.simulators or simulator in cls.simulators):
            names.append(name)
    return names


def import_design(problem: Problem, path: Path | str, format: str | None = None) -> Imported:
    """The design of ``problem`` that is nearest to a configuration of another tool.

    Args:
        problem: whose parameters are wanted.
        path: the configuration, or a folder that holds it.
        format: of :func:`importers_for`; recognised by the content where None.

    Raises:
        ArchGymError: the file cannot be read or is of no format that says a design of this simulator.
    """
    path = Path(path)
    simulator = problem.name.partition("/")[0]
    known = importers_for(simulator)
    if format is not None and format not in known:
        raise UnknownNameError(f"format that is read as a design of {simulator}", format, known)
    found = _recognised(path, [format] if format else known, forced=format is not None)
    if found is None:
        what = f"expected a file of {', '.join(known)}" if known else "no format is"
        raise ArchGymError(f"{quote_path(path)} is not recognised as a design of {simulator}; {what} (--from FORMAT)")
    name, file, text = found
    importer: Importer = EXPORTERS.load(name)()
    with taking_apart(file, f"{name} configuration"):
        return _nearest(problem, importer.read(problem, file, text), importer)


def recognised(problem: Problem, path: Path) -> str | None:
    """The format that a file is read in as a design of ``problem``; None where none claims it."""
    try:
        found = _recognised(path, importers_for(problem.name.partition("/")[0]), forced=False)
    except ArchGymError:
        return None
    return found[0] if found else None


def _recognised(path: Path, names: list[str], forced: bool) -> tuple[str, Path, str] | None:
    """The first format that claims a file, the file and its text."""
    text: str | None = None if path.is_dir() else read_text(path, "configuration")
    for name in names:
        importer: Importer = EXPORTERS.load(name)()
        if text is not None:
            if forced or importer.claims(path, text):
                return name, path, text
            continue
        for inside in importer.files:
            file = path / inside
            if file.is_file():
                content = read_text(file, "configuration")
                if forced or importer.claims(file, content):
                    return name, file, content
    if text is None and forced:
        wanted = ", ".join(EXPORTERS.load(names[0]).files)
        raise ArchGymError(f"the folder {quote_path(path)} holds none of {wanted}; give the file itself")
    return None


def _nearest(problem: Problem, said: Said, importer: Importer) -> Imported:
    whole = importer.usual(problem)
    design: dict[str, Value] = {}
    rounded, assumed = [], {}
    for parameter in problem.space.parameters:
        if parameter.name in said.values:
            value = said.values[parameter.name]
            design[parameter.name] = taken = _closest(parameter, value)
            if taken != value:
                unit = f" {parameter.unit}" if parameter.unit else ""
                rounded.append(
                    f"{parameter.name} is {quote(str(value), 40, marks=False)}{unit} in the file; the nearest value of "
                    f"the space is {taken}."
                )
            continue
        usual = whole.get(parameter.name)
        design[parameter.name] = parameter.values[0] if usual is None else _closest(parameter, usual)
        if len(parameter) > 1:
            assumed[parameter.name] = design[parameter.name]
    return Imported(design, importer.name, rounded, assumed, said.unplaced)


def _closest(parameter: Parameter, value: Any) -> Value:
    """The value of a parameter nearest to ``value``: by ratio for positive numbers, else by difference.

    Raises:
        ArchGymError: a word that the parameter does not know.
    """
    if value in parameter.values and not (isinstance(value, bool) ^ isinstance(parameter.values[0], bool)):
        return parameter.values[parameter.values.index(value)]
    numbers = [v for v in parameter.values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) < len(parameter.values) or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnknownNameError(
            f"value of {parameter.name}", quote(str(value), 40, marks=False), map(str, parameter.values)
        )
    if value > 0 and min(numbers) > 0:
        return min(numbers, key=lambda v: (abs(math.log(v / value)), v))
    return min(numbers, key=lambda v: (abs(v - value), v))


# --- what importers share --------------------------------------------------------------------------------------------


def _yaml(text: str, where: str = "the text") -> Any:
    """The one document of a YAML text; a list where there are more or none."""
    documents = [d for d in parse_yaml_all(text, where) if d is not None]
    return documents[0] if len(documents) == 1 else documents


def mapping_of(text: str, where: str) -> dict[str, Any]:
    """The one mapping of a YAML text.

    Raises:
        ArchGymError: it is no YAML, or holds anything else.
    """
    content = _yaml(text, where)
    if not isinstance(content, dict):
        raise ArchGymError(f"{where} holds {quote(content, 40)}; expected one mapping")
    return content


def quietly(text: str, kind: str = "yaml") -> Any:
    """The content of a JSON or YAML text, None where it is none."""
    try:
        return parse_json(text) if kind == "json" else _yaml(text)
    except ArchGymError:
        return None


def sections_of(text: str, where: str, tool: str) -> configparser.ConfigParser:
    """The sections of an INI text, keys in lower case.

    Raises:
        ArchGymError: it is none, or gives a key or section twice.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ArchGymError(f"{where} is no configuration of {tool}: {str(error).splitlines()[0][:120]}") from None
    return parser


def inner(content: Mapping[str, Any], place: str, *keys: str) -> dict[str, Any]:
    """A mapping inside mappings.

    Raises:
        ArchGymError: one of the keys is missing, or no mapping is there.
    """
    at: Any = content
    for key in keys:
        at = at.get(key) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            raise ArchGymError(f"{place} has no mapping {'.'.join(keys)!r}")
    return dict(at)


def optional(content: Any, key: str) -> dict[str, Any]:
    """A mapping inside a mapping; an empty one where there is none."""
    found = content.get(key) if isinstance(content, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def number(value: Any, place: str, key: str) -> int | float:
    """A finite number, also where it stands as text.

    Raises:
        ArchGymError: it is none.
    """
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ArchGymError(f"{place}: {key} is {quote(value, 40)}; expected a number")
    return int(found) if found.is_integer() and abs(found) < 2**53 else found
