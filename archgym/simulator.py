"""The contract every cost model and every proxy meets: (designs, workload) -> metrics and feasibility, in batches."""

from __future__ import annotations

import inspect
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.announcing import say_once
from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.options import Option, check_storable
from archgym.reading import own_file
from archgym.space import Designs, DesignSpace, Mask, Value

Direction = Literal["min", "max", "none"]

OWN_PYTHON = ("torch:", "arch:")
"""How names of workloads begin that are in a Python file of a user's own."""

REFERENCES = 64
"""Uniform designs (seed 0) whose medians are the reference values of a simulator that names none."""


@dataclass(frozen=True)
class Metric:
    """A measured quantity: name (with its unit as suffix), unit, direction (which way is better) and a sentence."""

    name: str
    unit: str
    direction: Direction = "none"
    description: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What a simulator returns for a batch of n designs.

    Attributes:
        metrics: name -> float64 of shape ``(n,)``; NaN where the design is infeasible or a metric does not exist.
        feasible: bool ``(n,)``.
        violation: object ``(n,)``: name of the broken constraint, empty where feasible.
    """

    metrics: Mapping[str, NDArray[np.float64]]
    feasible: Mask
    violation: NDArray[np.object_]
    table: NDArray[np.float64] | None = None
    """All metrics as rows, ``(m, n)``, where they were made as one array, of which ``metrics`` holds the rows."""

    def __len__(self) -> int:
        return len(self.feasible)

    @classmethod
    def build(
        cls, metrics: Mapping[str, ArrayLike], violation: NDArray[np.object_] | None = None, count: int | None = None
    ) -> Evaluation:
        """Make an evaluation; metrics of designs with a violation are set to NaN. ``count`` is needed only where
        there is no metric."""
        table = np.array(list(metrics.values()), dtype=np.float64) if metrics else None
        columns = {} if table is None else dict(zip(metrics, table, strict=True))
        if count is None:
            count = table.shape[1] if table is not None else (0 if violation is None else len(violation))
        if violation is None:
            return cls(columns, _filled(count, True, bool), _filled(count, "", object), table)
        feasible = np.asarray(violation == "", dtype=bool)
        if table is not None and not feasible.all():
            table[:, ~feasible] = np.nan
        return cls(columns, feasible, violation, table)

    def take(self, rows: Any) -> Evaluation:
        """The evaluation of the given rows (an index array, a mask or a slice)."""
        return Evaluation({k: v[rows] for k, v in self.metrics.items()}, self.feasible[rows], self.violation[rows])

    @staticmethod
    def concatenate(parts: Sequence[Evaluation]) -> Evaluation:
        """Batches one after the other; all must have the same metrics."""
        if len(parts) == 1:
            return parts[0]
        return Evaluation(
            {name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics},
            np.concatenate([part.feasible for part in parts]),
            np.concatenate([part.violation for part in parts]),
        )


def split_groups(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The groups of workloads of these names: ``all``, and every fourth as ``test``, the others as ``train``."""
    test = names[3::4]
    return {"all": names, "train": tuple(name for name in names if name not in test), "test": test}


@dataclass(frozen=True)
class Live:
    """What it takes to evaluate designs that are trained for it now, rather than looked up or computed.

    Attributes:
        seconds: what a new design is likely to take, on one processor core.
        what: what is done, as the end of a sentence whose subject is the problem.
        piece: designs that are evaluated at a time, so that memory does not grow with the batch, a batch is logged as it
            goes on and its progress is seen.
    """

    seconds: float
    what: str = "trains a network for every new design"
    piece: int = 1


def _filled(count: int, value: Any, dtype: Any) -> NDArray[Any]:
    """``np.full`` at a third of its time on a row, for every step of an environment."""
    made = np.empty(count, dtype=dtype)
    made.fill(value)
    return made


def names_own_file(workload: str) -> bool:
    """Whether a workload's name stands for a file of a user's own: ``file:PATH``, ``torch:FILE.py:NAME``,
    ``arch:FILE.py:NAME``, or a combination that holds one (``audio_decoder+file:PATH``)."""
    return re.search(r"(^|[+*]|@\d+x)(file|torch|arch):", workload) is not None


def runs_own_code(workload: str) -> bool:
    """Whether loading a workload of this name runs a program of a user's own: ``torch:FILE.py:NAME``,
    ``arch:FILE.py:NAME``, or a combination that holds one. Nothing does that because data from elsewhere says so."""
    return re.search(r"(^|[+*]|@\d+x)(torch|arch):", workload) is not None


class Workload:
    """What the hardware has to run. Simulators subclass this; the base holds what everyone may ask of any workload.

    Attributes:
        name: as in the problem's name.
        description: one sentence for people.
        takes: the options that mean something for it, of those that its simulator knows; None for all.
    """

    name: str
    description: str
    takes: tuple[str, ...] | None = None

    def __init__(self, name: str, description: str = "") -> None:
        self.name, self.description = name, description

    @property
    def fingerprint(self) -> str:
        """Hash of the content: equal workloads, equal fingerprints, in any process."""
        raise NotImplementedError

    def features(self) -> dict[str, float]:
        """Numbers that describe the workload, for policies that carry over to unseen ones; all finite, order 1."""
        return {}

    def account(self) -> dict[str, str]:
        """What a person wants to know of the workload before a search: quantity -> value with its unit."""
        return {}


def _remade(
    cls: type[Simulator],
    args: tuple[Any, ...],
    options: dict[str, Any],
    references: Mapping[str, float] | None = None,
) -> Simulator:
    made = cls(*args, **options)
    made._given_references = references
    return made


def _space_of(simulator: Simulator, workload: Workload) -> DesignSpace:
    return simulator.space(workload)


def _with_origin(space: Callable[[Any, Workload], DesignSpace]) -> Callable[[Any, Workload], DesignSpace]:
    """A simulator's ``space`` that notes in each space where it came from, so that it pickles."""

    @wraps(space)
    def marked(self: Any, workload: Workload) -> DesignSpace:
        made = space(self, workload)
        if made.origin is None:
            made.origin = (_space_of, (self, workload))
        return made

    return marked


def _fidelity_checked(evaluate: Callable[..., Evaluation]) -> Callable[..., Evaluation]:
    """A simulator's ``evaluate`` that refuses a fidelity which the simulator does not have."""

    @wraps(evaluate)
    def checked(
        self: Any, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, **further: Any
    ) -> Evaluation:
        if fidelity is not None:
            self.check_fidelity(workload, fidelity)
        return evaluate(self, designs, workload, fidelity=fidelity, **further)

    return checked


def _given_first(references: Callable[[Any, Workload], Mapping[str, float]]) -> Any:
    """A simulator's ``references`` that are those given by hand, where they were."""

    @wraps(references)
    def get(self: Any, workload: Workload) -> Mapping[str, float]:
        given = self._given_references
        if given is None:
            return references(self, workload)
        return {metric.name: given.get(metric.name, 1.0) for metric in self.metrics_for(workload)}

    return get


_S = TypeVar("_S", bound="Simulator")
_OfWorkload = Callable[[_S, Workload], Mapping[str, float]]


def remembered(method: _OfWorkload[_S]) -> _OfWorkload[_S]:
    """Let a simulator compute what ``method`` says of a workload once: by the workload's fingerprint."""

    @wraps(method)
    def get(self: _S, workload: Workload) -> Mapping[str, float]:
        known: dict[tuple[str, str], dict[str, float]] = self.__dict__.setdefault("_remembered", {})
        key = (method.__qualname__, workload.fingerprint)
        if key not in known:
            known[key] = dict(method(self, workload))
        return dict(known[key])

    return get


class Simulator(ABC):
    """A cost model.

    Deterministic: same designs, workload, fidelity and seed, same bits, on any number of threads. No global state,
    no files written, no printing. Copies and pickles hold its class and options, and make it again from them.

    Attributes:
        name: ``"dram"``; also the first part of a problem's name.
        version: changes whenever a result can change.
        spaces: names of the design spaces on offer, the default first.
        fidelities: names of the fidelities on offer, the default first; empty where there is only one.
        fidelities_with_argument: those of them that take an argument after a colon (``requests:1000``); the simulator's own
            ``check_fidelity`` says which arguments.
        default_objective: name of the objective a problem gets where none is asked for.
        neutral_options: options that cannot change a result (a number of threads); every other one is taken to.
        combines_workloads: whether ``A+B`` is a workload of the simulator's own; otherwise several workloads are simulated
            one after the other (:mod:`archgym.combining`).
        pareto: metrics of the multi-objective view; empty for those that the objective needs.
        violations: names that ``Evaluation.violation`` may hold beside those of the space's constraints.
        starts_programs: whether evaluating starts a program that does not come with the package; data from elsewhere
            may not do that.

    Args:
        space: one of ``spaces``; the default where None. Further options are keyword arguments of the subclass, JSON-able,
            with defaults.
    """

    name: str
    version: str
    spaces: tuple[str, ...] = ("default",)
    fidelities: tuple[str, ...] = ()
    fidelities_with_argument: ClassVar[tuple[str, ...]] = ()
    default_objective: str = ""
    renamed_objectives: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Earlier name of an objective -> its name today; an earlier one still works, and warns."""
    default_workload: str = ""
    seconds_metric: ClassVar[str] = ""
    """The metric that is a virtual clock: seconds that an evaluation stands for, empty where there is none."""
    neutral_options: ClassVar[frozenset[str]] = frozenset({"threads", "workers"})
    starts_programs: ClassVar[bool] = False
    reference_values: Mapping[str, float] = {}
    """Reference values that are known beforehand, metric -> value; metrics left out have 1. Empty where :meth:`references` is to
    find them."""
    usual_name: ClassVar[str] = "the usual design"
    """What :meth:`usual_design` is called in sentences."""
    pareto: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    combines_workloads: ClassVar[bool] = False
    metrics: tuple[Metric, ...]
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _given_references: Mapping[str, float] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "space" in cls.__dict__:
            cls.space = _with_origin(cls.__dict__["space"])  # type: ignore[assignment]
        if "evaluate" in cls.__dict__:
            cls.evaluate = _fidelity_checked(cls.__dict__["evaluate"])  # type: ignore[method-assign]
        if "references" in cls.__dict__:
            cls.references = _given_first(cls.__dict__["references"])  # type: ignore[method-assign]

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # It has no state but its options (and caches): a copy is made anew from them.
        return _remade, (type(self), *self._arguments, self._given_references)

    def __new__(cls, *args: Any, **options: Any) -> Self:
        for name, value in options.items():
            check_storable(value, f"the option {name}")
        made = super().__new__(cls)
        made._arguments = args, options
        return made

    def __init__(self, space: str | None = None) -> None:
        if space is None:
            space = self.spaces[0]
        if space not in self.spaces:
            raise UnknownNameError(f"space of {self.name}", space, self.spaces)
        self.space_name = space

    @property
    def given_options(self) -> dict[str, Any]:
        """The options, beyond the space, that this simulator was made with and that differ from their defaults."""
        args, options = self._arguments
        parameters = inspect.signature(type(self).__init__).parameters
        given = {**dict(zip(list(parameters)[1:], args, strict=False)), **options}
        given.pop("space", None)
        return {name: v for name, v in given.items() if name not in parameters or parameters[name].default != v}

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on beside version, space, workload and fidelity: every option that differs from its default,
        but those of ``neutral_options``; JSON-able. It belongs to whatever identifies a result: known optima, proxies,
        stores. Simulators whose options say the same in two ways, or name a file, override this."""
        return {name: value for name, value in self.given_options.items() if name not in self.neutral_options}

    @property
    def programs(self) -> Mapping[str, str]:
        """Programs and files outside this package that answer, name -> a digest of their content: they belong to what
        identifies a result."""
        return {}

    def sources(self, fidelity: str | None) -> Mapping[str, str]:
        """The ``programs`` that answer under a fidelity; a simulator adds the files that it reads without an option that
        names them (a folder from the environment)."""
        return self.programs

    @abstractmethod
    def workloads(self) -> Mapping[str, Workload]:
        """The workloads that come with the package; values may be loaded on first access."""

    def workload_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names for several workloads at once: ``all``, and a fixed split in ``train`` and ``test`` (every fourth, in the
        order of :meth:`workloads`), on which policies and proxies that carry over are compared."""
        return split_groups(tuple(self.workloads()))

    def further_workloads(self, count: int, rng: np.random.Generator) -> tuple[str, ...]:
        """Names of up to ``count`` workloads drawn at random, to learn from beside those of :meth:`workloads`; none of those,
        and none twice. None at all (the default) where the simulator draws none."""
        return ()

    def load_workload(self, name: str, **options: Any) -> Workload:
        """A workload by name, or ``file:PATH`` for a user's own; ``options`` are the simulator's (a window, a batch
        size) and JSON-able."""
        if (path := own_file(name)) is not None:
            return self.read_workload(path, **options)
        if options:
            raise ArchGymError(f"{self.name} has no workload option {next(iter(options))!r}; leave it out")
        known = self.workloads()
        if name not in known:
            raise UnknownNameError(f"workload of {self.name}", name, known)
        return known[name]

    def read_workload(self, path: Path, **options: Any) -> Workload:
        """Read a user's workload file; simulators that can override this."""
        raise ArchGymError(f"{self.name} reads no workload files; choose one of {', '.join(self.workloads())}")

    def workload_options(self, name: str) -> Mapping[str, Option] | None:
        """The options of the workload ``name`` (``-w``); None where only :meth:`load_workload` knows them."""
        plain = type(self).load_workload is Simulator.load_workload
        return {} if plain and own_file(name) is None else None

    @classmethod
    def option_values(cls) -> Mapping[str, Iterable[Any]]:
        """What options of the constructor may be, where their type does not say: names of devices, of rules."""
        return {}

    @abstractmethod
    def space(self, workload: Workload) -> DesignSpace:
        """The design space for ``workload``; the same object for the same workload."""

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        """The metrics of evaluations on ``workload``; ``self.metrics`` where they do not depend on it."""
        return self.metrics

    @abstractmethod
    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        """Evaluate designs (int64 ``(n, d)`` of ``self.space(workload)``); infeasible ones get NaN metrics and the
        name of the broken constraint."""

    def evaluate_parts(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Evaluation]]:
        """:meth:`evaluate` in parts, each given as soon as it is there, so that it can be kept: the rows of ``designs`` and
        their evaluation. One part by default, or a few designs for each of its ``workers`` where they start programs."""
        array = self.space(workload).check(designs)
        piece = 4 * int(getattr(self, "workers", 1)) if self.starts_programs else max(len(array), 1)
        for start in range(0, len(array), piece):
            rows = np.arange(start, min(start + piece, len(array)))
            yield rows, self.evaluate(array[rows], workload, fidelity=fidelity, seed=seed)

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        """Whether results depend on the seed that :meth:`evaluate` gets."""
        return False

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        """Raise one sentence for a fidelity that this simulator does not have on ``workload``; called when a problem is
        made, before anything is evaluated or written, and by :meth:`evaluate`. The default checks the name before a colon,
        and that there is one only where the fidelity takes an argument; a simulator adds what else it refuses."""
        if fidelity is None:
            return
        if not isinstance(fidelity, str):
            raise ArchGymError(f"the fidelity of {self.name} is {quote(fidelity)}; expected a text")
        if not self.fidelities:
            raise ArchGymError(f"{self.name} has one fidelity only; leave {quote(fidelity)} out")
        name, colon, _ = fidelity.partition(":")
        if name not in self.fidelities:
            raise UnknownNameError(f"fidelity of {self.name}", fidelity, self.fidelities)
        if colon and name not in self.fidelities_with_argument:
            raise ArchGymError(
                f"the fidelity {name!r} of {self.name} takes no argument; write it without {fidelity[len(name) :][:80]!r}"
            )

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """What an evaluation of a design at ``fidelity`` costs, in evaluations at the default one; positive. 1 (the
        default) also stands for a fidelity of which no cost is stated."""
        return 1.0

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        """The fidelities that stand in for ``fidelity`` where an agent first looks cheaply: each approximates the same
        metrics for less, see :meth:`relative_cost`; cheapest first. None (the default) where there is one fidelity."""
        return ()

    def live(self, workload: Workload, fidelity: str | None = None) -> Live | None:
        """What evaluating takes where designs on ``workload`` are trained live; None (the default) where they are looked up
        or computed. Cheap to ask, and no error for a fidelity that the workload does not have."""
        return None

    def inherits(self, fidelity: str | None) -> bool:
        """Whether results under ``fidelity`` depend on a design's parent: ``evaluate`` then takes ``parents``, int64
        ``(n, d)`` with rows of -1 where there is none."""
        return False

    def parent_seconds(self, parents: ArrayLike, workload: Workload, fidelity: str | None) -> NDArray[np.float64]:
        """Virtual seconds ``(n,)`` of having ``parents`` ready to be inherited from, where ``inherits``."""
        raise NotImplementedError

    def reach(self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None) -> tuple[Designs, Designs]:
        """Boxes of designs with provably equal results: all metrics of a design are those of every design whose
        canonical value indices lie between its row of ``low`` and its row of ``high``, both int64 ``(n, d)`` and
        inclusive. The default knows of no design but the canonical form itself. A simulator that sees which limits of a
        design were never touched (a buffer that never filled) says more, and proxies learn more from each simulation."""
        canonical = self.space(workload).canonical(designs)
        return canonical, canonical

    def measured_as(self, designs: ArrayLike, workload: Workload) -> NDArray[np.int64] | None:
        """Labels ``(n,)`` of designs: those with equal labels share one measurement, so that a model that learnt one of them
        knows the others, and none of them belongs into its test. None (the default) where equal canonical forms say all."""
        return None

    @property
    def stands_for(self) -> Simulator:
        """The simulator whose answers these are meant to be: itself, but for proxies and other stand-ins."""
        return self

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """Pictures of a design for reports: title, sentence and SVG of each; none (the default) where there is nothing to
        draw."""
        return []

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        """Objectives of this simulator by name, beside the general ones: name -> archgym.objective.Objective."""
        return {}

    def objective_for(self, workload: Workload) -> tuple[str, str]:
        """The objective of a problem on ``workload`` where none is asked for, and by which rule (may be empty)."""
        return self.default_objective, ""

    def remarks(self, design: Mapping[str, Any]) -> tuple[str, ...]:
        """Sentences that a person must read beside a design (value a parameter name): what no hardware can do, or what a
        metric leaves out. Tables, reports and descriptions show them."""
        return ()

    def usual_design(self, workload: Workload) -> Mapping[str, Value] | None:
        """The design that people would take without a search, parameter -> value of :meth:`space`: what a winner is compared
        with. None (the default) where there is none."""
        return None

    @_given_first
    @remembered
    def references(self, workload: Workload) -> Mapping[str, float]:
        """Reference value a metric, to which objectives and observations relate; all positive and finite. The
        default is the median over feasible designs among 64 uniform draws with seed 0."""
        return median_references(self, workload, REFERENCES)

    @property
    def given_references(self) -> Mapping[str, float] | None:
        """Reference values given by hand (:meth:`with_references`), or None."""
        return self._given_references

    def with_references(self, given: Mapping[str, float] | None) -> Self:
        """A copy whose references, and so the objectives made of them, are those given: metric -> value, the metrics
        left out have 1. None for the simulator's own again.

        Raises:
            ArchGymError: an unknown metric, or a value that is not positive and finite.
        """
        known = [metric.name for metric in self.metrics] if self.metrics else list(given or {})
        for name, value in (given or {}).items():
            if name not in known:
                raise UnknownNameError(f"metric of {self.name}", name, known)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
                raise ArchGymError(f"the reference of {name} is {quote(value)}; expected a positive number")
        made = copy(self)
        made._given_references = None if given is None else {name: float(value) for name, value in given.items()}
        return made


def median_references(simulator: Simulator, workload: Workload, missing: int) -> dict[str, float]:
    """The default of :meth:`Simulator.references`. ``missing`` of its designs are not simulated yet, which is said where that
    starts programs. A design on which the simulator itself fails is left out."""
    if simulator.reference_values:
        return {m.name: float(simulator.reference_values.get(m.name, 1.0)) for m in simulator.metrics_for(workload)}
    if simulator.starts_programs and missing:
        say_once(
            f"{simulator.name}/{workload.name}: simulating {missing} random designs for reference values; the option "
            "references gives them by hand, references=none makes all of them 1"
        )
    designs = simulator.space(workload).sample(REFERENCES, 0)
    try:
        evaluation = simulator.evaluate(designs, workload, seed=0)
    except ArchGymError:
        raise
    except Exception as error:
        say_once(
            f"{simulator.name}/{workload.name}: {type(error).__name__} among the designs for reference values: {error}"
        )
        evaluation = _without_failures(simulator, designs, workload)
    result = {}
    for metric in simulator.metrics_for(workload):
        column = np.abs(evaluation.metrics[metric.name][evaluation.feasible])
        column = column[np.isfinite(column) & (column > 0)]
        result[metric.name] = float(np.median(column)) if len(column) else 1.0
    return result


def _without_failures(simulator: Simulator, designs: Designs, workload: Workload) -> Evaluation:
    """The designs one by one, those left out on which the simulator fails."""
    parts = []
    for row in range(len(designs)):
        try:
            parts.append(simulator.evaluate(designs[row : row + 1], workload, seed=0))
        except Exception:
            continue
    if not parts:
        return Evaluation.build({metric.name: np.empty(0) for metric in simulator.metrics_for(workload)}, count=0)
    return Evaluation.concatenate(parts)


def result_identity(simulator: Simulator, workload: Workload, fidelity: str | None = None) -> dict[str, Any]:
    """What identifies a simulator's results beside the design, JSON-able: version, the workload's own fingerprint, space,
    fidelity, every option that differs from its default and can change a result, and the programs that answer. Known
    optima, stores and proxies go by it."""
    programs = dict(simulator.sources(fidelity))
    return {
        "simulator": simulator.name,
        "space": simulator.space_name,
        "fidelity": None if fidelity in simulator.fidelities[:1] else fidelity,
        "version": simulator.version,
        "workload": workload.fingerprint,
        "settings": json.loads(json.dumps(simulator.settings, sort_keys=True)),
        **({"programs": programs} if programs else {}),
    }
