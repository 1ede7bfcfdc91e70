"""A problem: simulator + workload + objective, what an agent searches. ``make_problem("dram/gzip")`` makes one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.announcing import Follow, announce
from archgym.combining import Combined, parse_parts
from archgym.errors import ArchGymError, quote
from archgym.locating import asked_for, following
from archgym.narrowing import Narrowed, allowed_values
from archgym.objective import Objective, Rewards, make_objective, same_objective
from archgym.options import Option, check_given, check_options, check_storable, options_of, plain_numbers, takes_any
from archgym.registry import SIMULATORS, STAND_INS
from archgym.simulator import Evaluation, Metric, Simulator, Workload, result_identity
from archgym.space import DesignSpace, Value
from archgym.store import stored
from archgym.wrapping import Wrapped


@dataclass(frozen=True)
class Optimum:
    """What is known of a problem's best reward.

    Attributes:
        reward: the best reward known.
        design: a design that has it, by name.
        exhaustive: True where every design was evaluated, so that ``reward`` is the optimum.
        designs: how many designs were evaluated (or stand for, by equivalence).
        quantiles: share of the space (as text, ``"0.99"``) -> reward at that quantile; empty where not exhaustive.
        command: the command that computed it.
    """

    reward: float
    design: Mapping[str, Value]
    exhaustive: bool
    designs: int
    quantiles: Mapping[str, float] = field(default_factory=dict)
    command: str = ""

    def regret_of(self, reward: float) -> float:
        """How far a reward lies below the best one known; 0 for a reward above a best one that no enumeration proved.

        Raises:
            ArchGymError: where the reward lies above the optimum of an exhaustive enumeration, which is then not the
                optimum of this problem.
        """
        regret = self.reward - reward
        if regret < 0 and self.exhaustive and -regret > 1e-9 * max(1.0, abs(self.reward)):
            raise ArchGymError(
                f"the reward {reward:.12g} lies above the known optimum {self.reward:.12g}, a regret of {regret:.3g}: the "
                "table of optima does not fit this problem, so compute it again with 'archgym enumerate'"
            )
        return max(regret, 0.0)

    def quantile_of(self, reward: float) -> float:
        """Share of the space with a reward of at most ``reward``, interpolated; NaN without quantiles."""
        if not self.quantiles:
            return float("nan")
        shares = sorted(self.quantiles, key=float)
        values = [self.quantiles[share] for share in shares]
        return float(np.interp(reward, values, [float(share) for share in shares]))


_NAMED = (("file:", ""), ("torch:", ":"), ("arch:", ":"), ('"', '"'))
"""What stands around the name of a file in a problem's name and options."""


class Problem:
    """What an agent searches. Make it with :func:`make_problem`.

    Attributes:
        name: ``simulator/workload``.
        simulator, workload, objective: the three parts.
        fidelity: passed to the simulator; None for its default.
        options: everything beyond the name that was asked for, JSON-able; ``make_problem(name, **options)`` makes
            an equal problem in another process.
        space: the design space.
        metrics: the metrics of an evaluation, in order.
        files: a user's own files that it was made from: as they were named, and where they were found.
    """

    def __init__(
        self,
        name: str,
        simulator: Simulator,
        workload: Workload,
        objective: Objective,
        fidelity: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.simulator, self.workload = name, simulator, workload
        self.objective, self.fidelity = objective, fidelity
        self.options: dict[str, Any] = self._all_options() if options is None else dict(options)
        self.space: DesignSpace = simulator.space(workload)
        self.metrics: tuple[Metric, ...] = simulator.metrics_for(workload)
        said = f"{name} {json.dumps(self.options, default=str, ensure_ascii=False)}"
        self.files: tuple[tuple[str, Path], ...] = tuple(
            (file, path)
            for file, path in asked_for()
            if file and any(f"{start}{file}{end}" in said for start, end in _NAMED)
        )
        for file, path in self.files:
            if str(path) != file:  # what was found elsewhere is still called what it was called
                workload.name = workload.name.replace(str(path), file)

    def _all_options(self) -> dict[str, Any]:
        """The options that make this problem again where nobody said how it was made."""
        space = {"space": self.simulator.space_name} if self.simulator.space_name != self.simulator.spaces[0] else {}
        fidelity = {"fidelity": self.fidelity} if self.fidelity is not None else {}
        given = self.simulator.given_references
        references = {} if given is None else {"references": dict(given) or "none"}
        return {"objective": self.objective.name, **space, **fidelity, **references, **self.simulator.given_options}

    def __repr__(self) -> str:
        return f"Problem({self.name!r}, objective={self.objective.name!r}, space={self.simulator.space_name!r})"

    def evaluate(
        self, designs: ArrayLike, seed: int | None = None, *, fidelity: str | None = None
    ) -> tuple[Evaluation, Rewards]:
        """Evaluate a batch directly, past any budget, cache or log; agents go through an Evaluator instead. Where designs
        are trained live that is said on standard error, and a batch goes piece by piece. ``fidelity``: one of
        :attr:`cheaper`; the problem's own where None."""
        live, fidelity = announce(self), fidelity or self.fidelity
        if live is None:
            evaluation = self.simulator.evaluate(designs, self.workload, fidelity=fidelity, seed=seed)
        else:
            array = self.space.check(designs)
            follow, parts = Follow(self, len(array)), []
            for start in range(0, max(len(array), 1), live.piece):
                part = array[start : start + live.piece]
                parts.append(self.simulator.evaluate(part, self.workload, fidelity=fidelity, seed=seed))
                follow(start + len(part))
            evaluation = Evaluation.concatenate(parts)
        return evaluation, self.objective(evaluation)

    @cached_property
    def cheaper(self) -> Mapping[str, float]:
        """The cheaper fidelities that stand in for the problem's own, cheapest first: name -> the cost of an evaluation, in
        evaluations of the problem's own fidelity, below 1. Rewards of different fidelities need not be comparable."""
        whole = self.simulator.relative_cost(self.workload, self.fidelity)
        names = self.simulator.cheaper_fidelities(self.workload, self.fidelity)
        costs = {name: self.simulator.relative_cost(self.workload, name) / whole for name in names}
        return dict(sorted(((name, cost) for name, cost in costs.items() if 0 < cost < 1), key=lambda item: item[1]))

    @cached_property
    def references(self) -> Mapping[str, float]:
        """Reference value a metric; observations are relative to these."""
        return self.simulator.references(self.workload)

    @cached_property
    def pareto_metrics(self) -> tuple[Metric, ...]:
        """The metrics of the multi-objective view: those that the simulator names in ``pareto``, else those the
        objective needs that have a direction."""
        names = self.simulator.pareto or self.objective.needs
        return tuple(m for m in self.metrics if m.name in names and m.direction != "none")

    def losses(self, evaluation: Evaluation) -> NDArray[np.float64]:
        """The multi-objective view: ``pareto_metrics`` as columns to minimise, shape ``(n, m)``; infeasible = inf."""
        columns = []
        for metric in self.pareto_metrics:
            column = evaluation.metrics[metric.name] * (1.0 if metric.direction == "min" else -1.0)
            columns.append(np.where(np.isnan(column), np.inf, column))
        return np.stack(columns, axis=1)

    @cached_property
    def optimum(self) -> Optimum | None:
        """The known optimum (or best known reward) that ships with the simulator, or None."""
        return known_optimum(self)


def optimum_key(problem: Problem) -> dict[str, Any]:
    """What identifies a problem in the shipped tables of optima: names, the workload's own fingerprint, and every option
    of the simulator that differs from its default and can change a result."""
    identity = result_identity(problem.simulator, problem.workload, problem.fidelity)
    del identity["simulator"]  # the name says it
    return {"problem": problem.name, "objective": problem.objective.name, **identity}


def known_optimum(problem: Problem) -> Optimum | None:
    """Look the problem up in the table ``optima.json`` of its simulator's package. None where its objective is another
    one than its name means. The optimum of a whole space is that of a part of it that holds its design."""
    if isinstance(problem.simulator, Narrowed):
        whole = Problem(
            problem.name, problem.simulator.whole, problem.workload, problem.objective, problem.fidelity, {}
        )
        return _within(known_optimum(whole), problem)
    simulator = problem.simulator.stands_for
    try:
        path = inspect.getfile(type(simulator))
    except (OSError, TypeError):  # a class that was typed at a prompt
        return None
    table = Path(path).with_name("optima.json")
    if not table.is_file():
        return None
    key = optimum_key(problem)
    for row in json.loads(table.read_text(encoding="utf-8")):
        if {name: {"settings": {}, **row}.get(name) for name in key} == key:
            meant = _objective(problem.objective.name, _with_own_references(problem.simulator), problem.workload)
            same = same_objective(problem.objective, meant)
            return Optimum(**{name: row[name] for name in Optimum.__dataclass_fields__}) if same else None
    return None


def _with_own_references(simulator: Simulator) -> Simulator:
    """A simulator whose objectives are those of the table, whatever references were given by hand."""
    if simulator.stands_for.given_references is None:
        return simulator
    own = simulator.stands_for.with_references(None)
    return Combined(own) if isinstance(simulator, Combined) else own


def _within(optimum: Optimum | None, problem: Problem) -> Optimum | None:
    """The optimum, where its design (or one equal to it) lies in the problem's narrowed space."""
    if optimum is None:
        return None
    try:
        problem.space.encode(optimum.design)
    except ArchGymError:
        return None
    # The quantiles are those of the whole space.
    return replace(optimum, quantiles={}, designs=problem.space.size if optimum.exhaustive else optimum.designs)


def parse_name(name: str) -> tuple[str, str]:
    """``"dram/gzip"`` -> ("dram", "gzip"); ``"dram/file:a/b.stl"`` -> ("dram", "file:a/b.stl"); the workload may be
    left out (empty)."""
    simulator, _, workload = str(name).partition("/")
    return simulator, workload


def make_problem(
    name: str,
    *,
    objective: str | Objective | None = None,
    space: str | None = None,
    fidelity: str | None = None,
    simulator: str | None = None,
    workload: Workload | None = None,
    workload_options: Mapping[str, Any] | None = None,
    fix: Mapping[str, Any] | None = None,
    only: Mapping[str, Any] | None = None,
    references: Mapping[str, float] | Literal["none"] | None = None,
    **simulator_options: Any,
) -> Problem:
    """Make a problem by name.

    Args:
        name: ``"<simulator>/<workload>"``; ``A+B`` for several workloads at once; ``file:PATH`` in place of the workload
            for a user's own, for networks also ``torch:FILE.py:NAME`` and ``arch:FILE.py:NAME``; the simulator's default
            workload where it is left out.
        objective: a text (see :mod:`archgym.objective`) or an Objective; the simulator's default where None.
        space: one of the simulator's spaces; its default where None.
        fidelity: one of the simulator's fidelities; its default where None.
        simulator: a stand-in for the simulator: the name of a registered simulator that meets the same contract (a
            real back-end), or ``"KIND:WHAT"`` of a registered kind of stand-ins, ``"proxy:FILE"`` for a trained proxy.
        workload: an object of your own in place of the workload's name (a network read from a PyTorch model); the
            problem then cannot be made again from its name alone.
        workload_options: options of the workload (``{"requests": 5000}``), JSON-able.
        fix: parameter -> the one value that it takes: the search is over the rest of the space.
        only: parameter -> the values that it may take.
        references: reference value a metric, in place of those that the simulator finds by simulating random designs; the
            metrics left out have 1, as all have where it is ``"none"``.
        simulator_options: options of the simulator (``mode="physical"``), JSON-able.

    Raises:
        ArchGymError: one sentence, for any unknown name or bad value.
    """
    _check_kinds(objective, workload, {"workload_options": workload_options, "fix": fix, "only": only})
    kind, workload_name = parse_name(name)
    simulator_options = plain_numbers(simulator_options)
    workload_options, fix, only = plain_numbers(workload_options), plain_numbers(fix), plain_numbers(only)
    options: dict[str, Any] = dict(simulator_options)
    if space is not None:
        options["space"] = space
    cls = answering_class(kind, simulator, options)
    stand_in, colon, what = (simulator or "").partition(":")
    try:
        sim: Simulator = cls(**options)
    except TypeError as error:
        raise ArchGymError(f"{kind} does not take these options ({_reason(error)})") from None
    if references is not None:
        if references != "none" and not isinstance(references, Mapping):
            raise ArchGymError(f"the references are {quote(references)}; expected metric -> value, or none")
        sim = sim.with_references({} if references == "none" else references)
    sim = stored(sim)
    if colon:
        sim = STAND_INS.load(stand_in)(what, sim)
    if workload is not None:
        workload_name = workload.name
    else:
        workload_name = workload_name or sim.default_workload
        known = sim.workload_options(workload_name)
        if known is not None:
            check_given(workload_options or {}, known, f"the workload {quote(workload_name)}")
        parts = parse_parts(workload_name, sim)
        try:
            if parts is None:
                workload = sim.load_workload(workload_name, **dict(workload_options or {}))
            else:
                sim = Combined(sim)
                workload = sim.combine(workload_name, parts, **dict(workload_options or {}))
        except TypeError as error:
            raise ArchGymError(f"{kind} does not take these workload options ({_reason(error)})") from None
    sim.check_fidelity(workload, fidelity)
    if fix or only:
        allowed_values(sim.space(workload), fix, only)
        sim = Narrowed(sim, fix, only)
    made = objective if isinstance(objective, Objective) else _objective(objective, sim, workload)
    asked: dict[str, Any] = {"objective": made.name, "space": space, "fidelity": fidelity, "simulator": simulator}
    for key, given in (("workload_options", workload_options), ("fix", fix), ("only", only)):
        asked |= {key: dict(given)} if given else {}
    asked |= {} if references is None else {"references": references if references == "none" else dict(references)}
    kept = {key: value for key, value in (asked | simulator_options).items() if value is not None}
    return Problem(f"{kind}/{workload_name}", sim, workload, made, fidelity, kept)


def answering_class(kind: str, simulator: Any, options: Mapping[str, Any]) -> type[Simulator]:
    """The class that answers for problems of ``kind`` where ``simulator`` stands in for it (a kind of stand-ins with a colon
    needs the simulator itself), which takes the simulator's ``options``.

    Raises:
        ArchGymError: one sentence, for a name or option that it does not know.
    """
    if not isinstance(simulator, str | None):
        raise ArchGymError(f"the simulator is {quote(simulator)}; expected the name of a stand-in")
    own = SIMULATORS.load(kind)
    cls: type[Simulator] = own if simulator is None or ":" in simulator else SIMULATORS.load(simulator)
    check_given(options, option_table(cls), kind, open_ended=takes_any(cls))
    return cls


def _check_kinds(objective: Any, workload: Any, mappings: Mapping[str, Any]) -> None:
    """Refuse what :func:`make_problem` is given of another type."""
    if not isinstance(objective, str | Objective | None):
        raise ArchGymError(f"the objective is {quote(objective)}; expected a text or an Objective")
    if not isinstance(workload, Workload | None):
        raise ArchGymError(f"the workload is {quote(workload)}; name it behind the simulator's name, with a / between")
    for what, given in mappings.items():
        if not isinstance(given, Mapping | None):
            raise ArchGymError(f"{what} is {quote(given)}; expected a mapping of names and values")
        for name, value in (given or {}).items():
            check_storable({name: value}, f"{quote(name, marks=False)} of {what}")


PROBLEM_OPTIONS = tuple(
    name for name, one in inspect.signature(make_problem).parameters.items() if one.kind is one.KEYWORD_ONLY
)
"""What :func:`make_problem` takes beside a simulator's options."""


def _objective(text: str | None, simulator: Simulator, workload: Workload) -> Objective:
    whole = simulator.whole if isinstance(simulator, Narrowed) else simulator
    if isinstance(whole, Combined):
        return whole.objective_of(text, workload)
    return make_objective(text, simulator, workload)


def problem_of_options(name: Any, options: Any) -> Problem:
    """The problem that a file names: as :func:`make_problem`, but nothing is taken for granted about the types.

    Raises:
        ArchGymError: one sentence, for any name or option that cannot be.
    """
    if not isinstance(name, str):
        raise ArchGymError(f"a problem is called {quote(name, 60)}; expected a name such as dram/gzip")
    with following():
        return make_problem(name, **check_options(options, quote(name, 80, marks=False)))


def workload_option_table(problem: Problem) -> dict[str, Option]:
    """The options (``-w``) that mean something for the workload of a problem."""
    known = problem.simulator.workload_options(parse_name(problem.name)[1]) or {}
    takes = problem.workload.takes
    return {name: option for name, option in known.items() if takes is None or name in takes}


def option_table(simulator: type[Simulator] | Simulator) -> dict[str, Option]:
    """The options of a simulator (``-o``) by name."""
    while isinstance(simulator, Wrapped):
        simulator = simulator.whole
    cls = simulator if isinstance(simulator, type) else type(simulator)
    known = options_of(cls, values=cls.option_values()) if hasattr(cls, "option_values") else options_of(cls)
    if "space" in known:
        known["space"] = Option(str | None, cls.spaces[0] if cls.spaces else None, tuple(cls.spaces))
    return known


def _reason(error: TypeError) -> str:
    return str(error).split(")", 1)[-1].strip() or str(error)
