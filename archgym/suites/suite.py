"""A suite: a versioned YAML file of problems, budgets and seeds, with what is known of every problem.

```yaml
name: my-suite
version: 1                    # raised whenever a problem, budget or seed changes: entries belong to one version
description: what it is for
budgets: [100, 300, 1000]     # simulator evaluations at which results are scored; a run may use the last
seeds: 10
problems:
  - problem: systolic/resnet18
    options: {objective: edp} # as make_problem takes them
```

``archgym suite measure FILE`` adds to every problem what it is measured against (``known``): the workload's
fingerprint, the simulator's version, the median of random designs, the best known design and how hard the problem is.
A problem whose measured part is older than its simulator or workload is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from archgym.errors import ArchGymError, UnknownNameError, all_different
from archgym.problem import Problem
from archgym.reading import checked, parse_yaml, read_text
from archgym.registry import AGENTS, CELL_AGENTS, SIMULATORS
from archgym.simulator import result_identity
from archgym.studies.spec import MAX_RUNS, RunSpec, problem_of

Scalar = bool | int | float | str
Positive = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
# What stands in names of folders, as a study's name does.
Word = Annotated[str, msgspec.Meta(pattern=r"^\w[\w .+@-]*$", max_length=90)]


@dataclass(frozen=True)
class Best:
    """The best design known of a problem.

    Attributes:
        reward: its reward.
        design: name -> value.
        exhaustive: every design was evaluated: the reward is the optimum.
        evaluations: simulator evaluations of each of ``methods`` (exhaustive: designs).
        methods: the agents that searched, with the best reward of each.
        command: the command that found it.
    """

    reward: float
    design: Mapping[str, Scalar]
    exhaustive: bool
    evaluations: int
    methods: Mapping[str, float] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True)
class Corner:
    """Between what values a loss of a front is measured: the best one seen, and the median of uniform designs; on a
    logarithmic axis or not."""

    best: float
    worst: float
    logarithmic: bool


@dataclass(frozen=True)
class Known:
    """What a problem is measured against; made by ``archgym suite measure``.

    Attributes:
        workload: fingerprint of the workload.
        version: version of the simulator.
        baseline: the reward that is 1 on the scale of regret: the median of feasible uniform designs, or, with
            ``meets``, of those that meet every budget.
        quantiles: share (as text) -> reward of the uniform feasible designs.
        feasible_share: of uniform designs.
        samples: uniform designs drawn, over ``seeds`` seeds.
        draws: uniform draws until random search has an even chance of a normalised regret of 1 %; with a 95 %
            interval ``[low, high]``. ``high`` is null where no draw came so close: then ``draws`` is a lower bound.
        best: the best design known.
        corners: of the scale ``hypervolume``: Pareto metric -> where its axis begins and ends.
        settings: digest of the simulator's options by what they say, files by their content (:func:`settings_digest`);
            empty where all are the defaults, or the suite was measured before this was noted.
    """

    workload: str
    version: str
    baseline: float
    quantiles: Mapping[str, float]
    feasible_share: float
    samples: int
    seeds: int
    draws: float
    draws_low: float
    draws_high: float | None
    best: Best
    corners: Mapping[str, Corner] = field(default_factory=dict)
    settings: str = ""


def settings_digest(problem: Problem) -> str:
    """What stands for a simulator's options and sources in a suite: equal for equal content, wherever its files lie."""
    about = result_identity(problem.simulator, problem.workload, problem.fidelity)
    said = {name: about[name] for name in ("settings", "programs") if about.get(name)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16] if said else ""


@dataclass(frozen=True)
class Measuring:
    """How ``archgym suite measure`` measures a problem: more of everything where an evaluation is cheap.

    Attributes:
        samples: uniform designs.
        seeds: seeds that they are drawn over.
        evaluations: simulator evaluations of each method; 0 where an exhaustive optimum ships.
        methods: agents that look for the best design.
    """

    samples: Positive = 20_000
    seeds: Positive = 20
    evaluations: Annotated[int, msgspec.Meta(ge=0, le=10**12)] = 10_000
    methods: tuple[str, ...] = ("ga", "re", "local")

    def __post_init__(self) -> None:
        if not self.methods:
            raise ArchGymError("no methods look for the best design; name at least one agent")
        for method in all_different(self.methods, "the list of methods"):
            if ":" not in method and method not in AGENTS and method not in CELL_AGENTS:
                raise UnknownNameError("agent", method, [*AGENTS, *CELL_AGENTS])
        if self.samples < self.seeds:
            raise ArchGymError(f"{self.samples} uniform designs over {self.seeds} seeds; expected at least one a seed")


def _said(name: str, value: Any) -> str:
    """An option in words: ``space=wide``, ``only RefreshPolicy=AllBank,PerBank``."""
    if isinstance(value, Mapping):
        return " ".join([name, *(_said(key, entry) for key, entry in value.items())])
    entries = value if isinstance(value, list | tuple) else [value]
    return f"{name}=" + ",".join(str(entry).lower() if isinstance(entry, bool) else str(entry) for entry in entries)


@dataclass(frozen=True)
class SuiteProblem:
    """One problem of a suite.

    Attributes:
        problem: ``simulator/workload``.
        options: as :func:`archgym.problem.make_problem` takes them.
        scale: ``linear``: (best - reward) / (best - baseline); ``log``: log(1 + (best - reward) / unit), divided by
            the same of the baseline, where rewards range over orders of magnitude; ``hypervolume``: what counts is not
            the reward but the front over the problem's Pareto metrics, see :mod:`archgym.suites.fronts`.
        unit: of the scale ``log``, in units of the reward.
        meets: a reward of at least this meets every budget of the problem; the share of runs that do is part of the
            score. None where the problem has no budgets.
        group: what the problem stands for, a word.
        budget: the most evaluations of a run, where each costs milliseconds and the suite's largest budget is too
            dear; None for that.
        measuring: how much is spent on measuring it.
        known: what it is measured against; None before ``archgym suite measure``.
    """

    problem: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: Literal["linear", "log", "hypervolume"] = "linear"
    unit: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    meets: float | None = None
    group: str = ""
    budget: int | None = None
    measuring: Measuring = field(default_factory=Measuring)
    known: Known | None = None

    @cached_property
    def run(self) -> RunSpec:
        """A run of the problem, for its key and its object."""
        return RunSpec(self.problem, self.options, "random", {}, 0, 1)

    @property
    def key(self) -> str:
        """The problem with its options as one word."""
        return self.run.problem_key

    @property
    def title(self) -> str:
        """The problem for people: name, objective, and what else is unlike the default, as the command line writes it."""
        rest = [_said(name, v) for name, v in self.options.items() if name not in ("objective", "workload_options")]
        rest += [_said(name, value) for name, value in dict(self.options.get("workload_options") or {}).items()]
        return ", ".join(
            [self.problem, *([str(self.options["objective"])] if "objective" in self.options else []), *rest]
        )

    def make(self) -> Problem:
        """The problem; refused where it is no longer the one that was measured."""
        problem = problem_of(self.run)
        if self.known is not None:
            for what, now, then in (
                ("simulator version", problem.simulator.version, self.known.version),
                ("workload", problem.workload.fingerprint, self.known.workload),
                ("options or files", settings_digest(problem), self.known.settings),
            ):
                if now != then and then:
                    raise ArchGymError(
                        f"{self.problem} was measured for the suite with {what} {then}, here it is {now}; "
                        "use the archgym of the suite's version, or measure the suite again"
                    )
        return problem


@dataclass(frozen=True)
class Suite:
    """A versioned set of problems.

    Attributes:
        name, version, description: what it is called; entries belong to one version.
        budgets: simulator evaluations at which results are scored, increasing; a run may use the last.
        seeds: runs a problem; seeds 0, 1, ...
        problems: what is searched.
        train: what a method may learn from before its runs, without a limit, ``simulator/group of workloads``; of a suite
            whose problems are other workloads.
        text: the YAML text it was read from.
    """

    name: Word
    version: Positive
    budgets: tuple[Positive, ...]
    seeds: Annotated[int, msgspec.Meta(ge=1, le=MAX_RUNS)]
    problems: tuple[SuiteProblem, ...]
    description: str = ""
    train: tuple[str, ...] = ()
    text: str = field(default="", repr=False, compare=False)

    def training(self, problem: SuiteProblem) -> tuple[str, ...]:
        """The problems that a method may learn from before its runs on ``problem``: those of its simulator that the suite
        does not search itself (groups of workloads change as workloads join)."""
        kind = problem.problem.partition("/")[0]
        found: list[str] = []
        for name in self.train:
            simulator, _, group = name.partition("/")
            if simulator == kind:
                groups = SIMULATORS.load(simulator)().workload_groups()
                found += [f"{simulator}/{workload}" for workload in groups.get(group, (group,))]
        searched = {problem.problem for problem in self.problems}
        return tuple(name for name in dict.fromkeys(found) if name not in searched)

    def check_problems(self) -> None:
        """Make every problem: refuse a workload, an objective or an option that there is not, and what is no longer what was
        measured."""
        for problem in self.problems:
            problem.make()

    @property
    def measured(self) -> bool:
        """Whether every problem has a scale."""
        return all(problem.known is not None for problem in self.problems)

    def check_measured(self) -> None:
        """Refuse a suite whose entries cannot be scored."""
        for problem in self.problems:
            if problem.known is None:
                raise ArchGymError(
                    f"{problem.title} has no measured scale; run 'archgym suite measure' on the file of {self.name} first"
                )

    @property
    def budget(self) -> int:
        """Simulator evaluations of a run."""
        return self.budgets[-1]

    @property
    def fingerprint(self) -> str:
        """Hash of what entries must agree on: problems with options, workloads and versions, budgets, seeds."""
        parts = [
            (
                p.key,
                p.budget,
                p.known.workload if p.known else "",
                p.known.version if p.known else "",
                *((p.known.settings,) if p.known and p.known.settings else ()),
            )
            for p in self.problems
        ]
        return hashlib.sha256(
            repr((self.name, self.version, self.budgets, self.seeds, self.train, parts)).encode()
        ).hexdigest()[:16]

    def runs(self, agent: str, hyperparameters: Mapping[str, Any], budget: int | None = None) -> list[RunSpec]:
        """The runs of an entry; seeds vary slowest, so that an entry cut short is balanced. ``budget``: of the entry,
        where it is smaller than the suite's."""
        most = budget or self.budget
        return [
            RunSpec(p.problem, p.options, agent, hyperparameters, seed, min(most, p.budget or most))
            for seed in range(self.seeds)
            for p in self.problems
        ]


def ready_suites() -> dict[str, Path]:
    """The suites that come with the package: name -> YAML file."""
    folder = resources.files(__package__) / "ready"
    return {
        Path(str(item)).stem: Path(str(item))
        for item in sorted(folder.iterdir(), key=str)
        if item.name.endswith(".yaml")
    }


def load_suite(name_or_path: str | Path) -> Suite:
    """A ready suite by name, or one from a YAML file.

    Raises:
        ArchGymError: one sentence that names the key at fault.
    """
    ready = ready_suites()
    path = ready.get(str(name_or_path), Path(name_or_path))
    if not path.suffix and not path.exists():
        raise UnknownNameError("suite", name_or_path, ready)
    return parse_suite(read_text(path, "suite"), f"the suite {path.name}")


def parse_suite(text: str, where: str = "the suite") -> Suite:
    """The suite in a YAML text; ``where`` names it in errors."""
    content = parse_yaml(text, where)
    if not isinstance(content, dict):
        raise ArchGymError(f"{where} holds no mapping; start with name:, version:, budgets:, seeds: and problems:")
    known = set(Suite.__dataclass_fields__) - {"text"}
    for key in content:
        if key not in known:
            raise UnknownNameError(f"key of {where}", key, known)
    problems = content.get("problems")
    for number, problem in enumerate(problems if isinstance(problems, list) else ()):
        for key in problem if isinstance(problem, dict) else ():
            if key not in SuiteProblem.__dataclass_fields__:
                raise UnknownNameError(f"key of problem {number} of {where}", key, SuiteProblem.__dataclass_fields__)
        measuring = problem.get("measuring") if isinstance(problem, dict) else None
        for key in measuring if isinstance(measuring, dict) else ():
            if key not in Measuring.__dataclass_fields__:
                raise UnknownNameError(
                    f"key of measuring of problem {number} of {where}", key, Measuring.__dataclass_fields__
                )
    suite: Suite = checked(content, Suite, where)
    if not suite.problems:
        raise ArchGymError(f"{where} has no problems; list at least one")
    if not suite.budgets or list(suite.budgets) != sorted(set(suite.budgets)):
        raise ArchGymError(f"{where} has the budgets {list(suite.budgets)}; expected increasing numbers of evaluations")
    for problem in suite.problems:
        if problem.problem.partition("/")[0] not in SIMULATORS:
            raise UnknownNameError(f"simulator of {where}", problem.problem.partition("/")[0], SIMULATORS)
        if not problem.problem.partition("/")[2]:
            raise ArchGymError(
                f"{where} names the problem {problem.problem} without a workload; write simulator/workload"
            )
        if problem.scale == "hypervolume" and problem.meets is not None:
            raise ArchGymError(
                f"{problem.problem} in {where} asks for a front and 'meets' a reward; leave one of them out"
            )
        if problem.budget is not None and problem.budget not in suite.budgets:
            raise ArchGymError(
                f"{problem.problem} has the budget {problem.budget} in {where}; expected one of {list(suite.budgets)}"
            )
    for name in suite.train:
        if name.partition("/")[0] not in SIMULATORS:
            raise UnknownNameError(f"simulator of train in {where}", name.partition("/")[0], SIMULATORS)
    keys = [problem.key for problem in suite.problems]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ArchGymError(f"{where} holds the problem {twice} twice; problems must differ in name or options")
    return Suite(**{**{name: getattr(suite, name) for name in known}, "text": text})
