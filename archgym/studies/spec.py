"""Study specs: YAML -> the list of runs.

```yaml
name: my-study
budget: 1000                  # simulator evaluations a run
seeds: 5                      # a count (0, 1, ...) or a list
problems:
  - dram/gzip
  - {problem: soc/edge_detection, objective: latency_ns}      # any option of make_problem
  - {problem: dram/sort, space: wide, budget: 300}            # a problem too dear for the study's budget
agents:
  - random                    # its defaults
  - agent: ga
    grid: {population: [16, 64], mutation: [0.05, 0.2]}       # every combination
  - agent: aco
    grid: 3                   # three levels of each hyperparameter's documented range
  - agent: bo
    sample: 12                # random draws from the documented ranges
    ranges: {batch: [1, 8]}   # narrower where wanted; a single value fixes a hyperparameter
    budget: 300               # an agent too slow for the study's budget; the statistics say so
log: trials                   # one shard a run; "none" keeps only curves and best designs
yardstick: 512                # random designs a problem that regret is measured against; 0 for none [64 where each starts a program]
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from archgym.agents.base import hyperparameter_ranges, load_agent
from archgym.combining import parse_parts
from archgym.datasets.schema import hyperparameter_hash
from archgym.errors import ArchGymError, UnknownNameError, all_different, quote, whole_number
from archgym.options import check_given, check_options
from archgym.problem import PROBLEM_OPTIONS, Problem, answering_class, parse_name, problem_of_options
from archgym.reading import checked, parse_yaml, read_text
from archgym.registry import SIMULATORS
from archgym.simulator import Simulator, names_own_file

LOGS = ("trials", "none")


@dataclass(frozen=True)
class RunSpec:
    """One run: enough to repeat it in any process.

    Attributes:
        problem: name of the problem.
        options: keyword arguments of :func:`~archgym.problem.make_problem`.
        agent, hyperparameters: the agent, with all its hyperparameters spelled out.
        seed, budget, batch: as :func:`~archgym.agents.search.search` takes them.
    """

    problem: str
    options: Mapping[str, Any]
    agent: str
    hyperparameters: Mapping[str, Any]
    seed: int
    budget: int
    batch: int = 1024

    @property
    def problem_key(self) -> str:
        """The problem with its options as one word, see :func:`problem_key`."""
        return problem_key(self.problem, self.options)

    @property
    def setting(self) -> str:
        """The agent with its hyperparameters as one word."""
        return f"{self.agent}-{hyperparameter_hash(self.hyperparameters)}"

    @property
    def id(self) -> str:
        """What the run is known by: equal runs have equal ids."""
        return f"{self.problem_key}/{self.setting}-b{self.budget}-s{self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; ``RunSpec(**d)`` is the same run."""
        return dataclasses.asdict(self)


def problem_key(problem: str, options: Mapping[str, Any]) -> str:
    """A problem with its options as one word, fit for a folder name."""
    key = "".join(c if c.isalnum() or c in "-_." else "-" for c in problem)
    return f"{key}-{_short_hash(options)}" if options else key


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class StudySpec:
    """A study: problems x settings of agents x seeds, and a budget."""

    name: str
    problems: tuple[tuple[str, Mapping[str, Any]], ...]
    settings: tuple[tuple[str, Mapping[str, Any], int], ...]
    seeds: tuple[int, ...]
    budget: int
    batch: int = 1024
    log: str = "trials"
    description: str = ""
    yardstick: int | None = None
    text: str = field(default="", repr=False)
    limits: Mapping[str, int] = field(default_factory=dict)  # problem key -> the most evaluations of a run on it

    def check_problems(self) -> None:
        """Make every problem: refuse an objective, a fidelity or a value that only simulator and workload can tell."""
        for name, options in self.problems:
            _cached_problem(name, json.dumps(options, sort_keys=True))

    def runs(self) -> list[RunSpec]:
        """All runs, each once. Seeds vary slowest and problems fastest, so that a study cut short is balanced."""
        made: dict[str, RunSpec] = {}
        for seed, (agent, hyperparameters, budget), (problem, options) in itertools.product(
            self.seeds, _interleave(self.settings), self.problems
        ):
            run = RunSpec(problem, options, agent, hyperparameters, seed, budget, self.batch)
            limit = self.limits.get(run.problem_key, budget)
            if limit < budget:
                run = dataclasses.replace(run, budget=limit)
            made.setdefault(run.id, run)
        return list(made.values())


def _interleave(settings: Sequence[tuple[str, Any, int]]) -> list[tuple[str, Any, int]]:
    """The first setting of every agent, then the second of every agent, and so on."""
    by_agent: dict[str, list[tuple[str, Any, int]]] = {}
    for setting in settings:
        by_agent.setdefault(setting[0], []).append(setting)
    layers = itertools.zip_longest(*by_agent.values())
    return [setting for layer in layers for setting in layer if setting is not None]


@lru_cache(maxsize=64)
def _cached_problem(name: str, options: str) -> Problem:
    return problem_of_options(name, json.loads(options))


def problem_of(run: RunSpec) -> Problem:
    """The run's problem; the same object for equal problems within a process."""
    return _cached_problem(run.problem, json.dumps(run.options, sort_keys=True))


def ready_studies() -> dict[str, Path]:
    """The studies that come with the package: name -> YAML file."""
    folder = resources.files(__package__) / "ready"
    return {
        Path(str(item)).stem: Path(str(item))
        for item in sorted(folder.iterdir(), key=str)
        if item.name.endswith(".yaml")
    }


def load_spec(name_or_path: str | Path) -> StudySpec:
    """A ready study by name, or a spec from a YAML file.

    Raises:
        ArchGymError: one sentence that names the key at fault.
    """
    ready = ready_studies()
    if str(name_or_path) in ready:
        path = ready[str(name_or_path)]
    else:
        path = Path(name_or_path)
        if not path.suffix and not path.exists():
            raise UnknownNameError("study", name_or_path, ready)
    return parse_spec(read_text(path, "study", limit=4 << 20), str(path))


Count = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Seed = Annotated[int, msgspec.Meta(ge=0)]
MAX_RUNS = 200_000
"""Runs of one study."""


class _AgentEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of ``agents``."""

    agent: str
    grid: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | dict[str, list[Any]] | None = None
    sample: Annotated[int, msgspec.Meta(ge=1, le=MAX_RUNS)] | None = None
    ranges: dict[str, Any] | None = None
    defaults: bool | None = None
    budget: Count | None = None


class _SpecFile(msgspec.Struct, forbid_unknown_fields=True):
    """What the YAML file of a study may hold."""

    budget: Count
    problems: Annotated[list[str | dict[str, Any]], msgspec.Meta(min_length=1)]
    agents: Annotated[list[str | _AgentEntry], msgspec.Meta(min_length=1)]
    # The name becomes that of a folder.
    name: Annotated[str, msgspec.Meta(pattern=r"^\w[\w .+@-]*$", max_length=100)] | None = None
    description: str = ""
    seeds: Annotated[int, msgspec.Meta(ge=1, le=MAX_RUNS)] | Annotated[list[Seed], msgspec.Meta(min_length=1)] = 1
    batch: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 1024
    log: str = "trials"
    sampling_seed: Seed = 0
    yardstick: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None


def parse_spec(text: str, source: str = "the study") -> StudySpec:
    """The spec in a YAML text; ``source`` names it in errors."""
    content = parse_yaml(text, source)
    if not isinstance(content, dict):
        raise ArchGymError(f"{source} holds no mapping; start with name:, budget:, seeds:, problems: and agents:")
    data: _SpecFile = checked(content, _SpecFile, source)
    if data.log not in LOGS:
        raise UnknownNameError(f"log of {source}", data.log, LOGS)
    entries = [_AgentEntry(entry) if isinstance(entry, str) else entry for entry in data.agents]
    found = [_problem(entry, source) for entry in data.problems]
    problems = tuple((name, options) for name, options, _ in found)
    limits = {problem_key(name, options): limit for name, options, limit in found if limit is not None}
    for place, (name, options) in enumerate(problems):
        if (name, options) in problems[:place]:
            raise ArchGymError(
                f"{source} holds the problem {quote(name)} twice; problems must differ in name or options"
            )
    seeds = range(data.seeds) if isinstance(data.seeds, int) else all_different(data.seeds, f"seeds of {source}")
    most = MAX_RUNS // (len(problems) * len(seeds))
    settings: list[tuple[str, Mapping[str, Any], int]] = []
    known: set[tuple[str, str, int]] = set()
    for entry in entries:
        if len(settings) + _count(entry) > most:
            raise ArchGymError(f"{source} asks for more than {MAX_RUNS:,} runs; give fewer settings, seeds or problems")
        made = {_key(setting): setting for setting in _settings(entry, data.budget, data.sampling_seed, source)}
        if made.keys() <= known:
            raise ArchGymError(
                f"{source} names the agent {entry.agent!r} twice with the same hyperparameters and budget; name it once, and "
                "ask for several runs with seeds"
            )
        settings += [setting for key, setting in made.items() if key not in known]
        known |= made.keys()
    return StudySpec(
        name=data.name or _file_word(source),
        problems=problems,
        settings=tuple(settings),
        seeds=tuple(seeds),
        budget=data.budget,
        batch=data.batch,
        log=data.log,
        description=data.description.strip(),
        yardstick=data.yardstick,
        text=text,
        limits=limits,
    )


def _key(setting: tuple[str, Mapping[str, Any], int]) -> tuple[str, str, int]:
    agent, hyperparameters, budget = setting
    return agent, hyperparameter_hash(hyperparameters), budget


def _file_word(source: str) -> str:
    return re.sub(r"[^\w .+@-]", "-", Path(source).stem)[:100] or "study"


def _problem(entry: str | Mapping[str, Any], source: str) -> tuple[str, Mapping[str, Any], int | None]:
    """Name and options of an entry of ``problems``, and the budget of its own where it has one."""
    options: dict[str, Any] = {}
    limit: Any = None
    if isinstance(entry, str):
        name = entry
    elif isinstance(entry.get("problem"), str):
        name, limit = entry["problem"], entry.get("budget")
        own = {key: value for key, value in entry.items() if key not in ("problem", "budget")}
        options = check_options(own, f"{name} in {source}")
    else:
        raise ArchGymError(
            f"a problem of {source} is {quote(entry)}; expected a name or a mapping with the key 'problem'"
        )
    # Names are checked here without making the problem, which may compile a kernel; the default workload is spelled out.
    kind, workload = parse_name(name)
    simulator = SIMULATORS.load(kind)()
    workload = workload or simulator.default_workload
    _check_named(kind, workload, simulator, options)
    if not names_own_file(workload) and not options.get("workload_options"):
        known = simulator.workloads()
        for part in dict(parse_parts(workload, simulator) or {workload: 1.0}):
            if part not in known:
                raise UnknownNameError(f"workload of {kind}", part, known)
    name = f"{kind}/{workload}"
    if limit is not None:
        limit = whole_number(f"the budget of {name} in {source}", limit, "simulator evaluations")
    return name, options, limit


def _check_named(kind: str, workload: str, simulator: Simulator, options: Mapping[str, Any]) -> None:
    """Refuse options, a space or a fidelity that a problem's simulator does not know."""
    own = {name: value for name, value in options.items() if name not in PROBLEM_OPTIONS}
    cls = answering_class(kind, options.get("simulator"), own)
    space, fidelity = options.get("space"), options.get("fidelity")
    if space is not None and space not in cls.spaces:
        raise UnknownNameError(f"space of {kind}", space, cls.spaces)
    if fidelity is not None and fidelity.partition(":")[0] not in cls.fidelities:
        raise UnknownNameError(f"fidelity of {kind}", fidelity, cls.fidelities)
    known = simulator.workload_options(workload)
    if known is not None:
        check_given(options.get("workload_options") or {}, known, f"the workload {quote(workload)}")


def _count(entry: _AgentEntry) -> int:
    """How many settings an entry stands for, without making them."""
    if isinstance(entry.grid, dict):
        count = math.prod(len(values) for values in entry.grid.values())
    elif entry.grid is not None:
        fixed = {key for key, value in (entry.ranges or {}).items() if not isinstance(value, list)}
        ranges = hyperparameter_ranges(entry.agent)
        count = math.prod(
            len(about["choices"]) if about.get("choices") else entry.grid if about.get("low") is not None else 1
            for key, about in ranges.items()
            if key not in fixed
        )
    else:
        count = 0
    return count + (entry.sample or 0) + 1


def _settings(entry: _AgentEntry, budget: int, seed: int, source: str) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """The settings of one entry of ``agents``: (agent, hyperparameters, budget)."""
    name = entry.agent
    make = load_agent(name).hyperparameters
    ranges = hyperparameter_ranges(name)
    own = dict(entry.ranges or {})
    for key in (*own, *(entry.grid if isinstance(entry.grid, dict) else ())):
        if key not in ranges:
            raise UnknownNameError(f"hyperparameter of {name} in {source}", key, ranges)
    fixed = {key: value for key, value in own.items() if not isinstance(value, list)}
    domains = {key: _domain(name, key, about, own.get(key)) for key, about in ranges.items() if key not in fixed}
    given: list[dict[str, Any]] = []
    grid = entry.grid
    drawn = [key for key in own if key not in fixed]
    if drawn and entry.sample is None and not isinstance(grid, int):
        raise ArchGymError(
            f"the range of {drawn[0]} of {name} in {source} is used by nothing; add sample or a number as grid"
        )
    if isinstance(grid, dict):
        for key, listed in grid.items():
            all_different(listed, f"the grid of {key} of {name} in {source}")
            if not listed or key in fixed:
                what = "is empty" if not listed else f"stands beside a fixed value, {quote(fixed[key], 20)}"
                raise ArchGymError(f"the grid of {key} of {name} in {source} {what}; give values, or leave it out")
        given += [fixed | dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    elif grid is not None:
        axes = {key: domain.levels(grid) for key, domain in domains.items()}
        given += [fixed | dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if entry.sample is not None:
        # The agent's name makes the draws of two agents independent; equal specs draw equal settings.
        rng = np.random.default_rng([seed, *name.encode()])
        for _ in range(entry.sample):
            given.append(fixed | {key: domain.draw(rng) for key, domain in domains.items()})
    if entry.defaults if entry.defaults is not None else not given:
        given.insert(0, fixed)
    for values in given:
        yield name, make(**values).as_dict(), entry.budget or budget


@dataclass(frozen=True)
class _Domain:
    """What a hyperparameter may be: choices, or a range on a linear or logarithmic scale."""

    choices: tuple[Any, ...]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> Any:
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        return self._at(float(rng.random()))

    def levels(self, count: int) -> list[Any]:
        if self.choices:
            return list(self.choices)
        shares = np.linspace(0, 1, count) if count > 1 else np.array([0.5])
        return list(dict.fromkeys(self._at(float(share)) for share in shares))

    def _at(self, share: float) -> Any:
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        # Six digits are plenty, and keep the files readable.
        return min(max(round(value), math.ceil(self.low)), int(self.high)) if self.whole else float(f"{value:.6g}")


def _domain(agent: str, name: str, about: Mapping[str, Any], own: list[Any] | None) -> _Domain:
    if about.get("choices"):
        if own is not None and not own:
            raise ArchGymError(f"the range of {name} of {agent} is empty; expected some of {quote(about['choices'])}")
        return _Domain(tuple(own if own is not None else about["choices"]))
    if about.get("low") is None:
        return _Domain((about["default"],))
    whole = isinstance(about["default"], int)
    low, high = about["low"], about["high"]
    if own is not None:
        bounds = checked(own, tuple[int, int] if whole else tuple[float, float], f"the range of {name} of {agent}")
        if not low <= bounds[0] <= bounds[1] <= high:
            raise ArchGymError(f"the range of {name} of {agent} is {quote(own)}; expected [low, high] in {low}..{high}")
        low, high = bounds
    return _Domain((), float(low), float(high), bool(about.get("log")) and low > 0, whole)
