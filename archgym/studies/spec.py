"""Study specs: YAML -> the list of runs.

```yaml
name: my-study
budget: 1000                  # simulator evaluations a run
seeds: 5                      # a count (0, 1, ...) or a list
problems:
  - dram/gzip
  - {problem: soc/edge_detection, objective: latency_ns}      # any option of make_problem
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
```
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from archgym.agents.base import hyperparameter_ranges, load_agent
from archgym.datasets.schema import hyperparameter_hash
from archgym.errors import ArchGymError, UnknownNameError
from archgym.problem import Problem, make_problem, parse_name
from archgym.registry import SIMULATORS
from archgym.simulator import names_own_file

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
        """The problem with its options as one word, fit for a folder name."""
        key = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.problem)
        return f"{key}-{_short_hash(self.options)}" if self.options else key

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
    text: str = field(default="", repr=False)

    def runs(self) -> list[RunSpec]:
        """All runs, each once. Seeds vary slowest and problems fastest, so that a study cut short is balanced."""
        made: dict[str, RunSpec] = {}
        for seed, (agent, hyperparameters, budget), (problem, options) in itertools.product(
            self.seeds, _interleave(self.settings), self.problems
        ):
            run = RunSpec(problem, options, agent, hyperparameters, seed, budget, self.batch)
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
    return make_problem(name, **json.loads(options))


def problem_of(run: RunSpec) -> Problem:
    """The run's problem; the same object for equal problems within a process."""
    return _cached_problem(run.problem, json.dumps(run.options, sort_keys=True))


def ready_studies() -> dict[str, Path]:
    """The studies that come with the package: name -> YAML file."""
    folder = resources.files("archgym.studies") / "ready"
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ArchGymError(
            f"cannot read the study {path} ({reason}); give a YAML file or one of {', '.join(ready)}"
        ) from None
    return parse_spec(text, str(path))


_KEYS = ("name", "description", "budget", "seeds", "problems", "agents", "batch", "log", "sampling_seed")
_AGENT_KEYS = ("agent", "grid", "sample", "ranges", "defaults", "budget")


def parse_spec(text: str, source: str = "the study") -> StudySpec:
    """The spec in a YAML text; ``source`` names it in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise ArchGymError(
            f"{source} is not YAML{where}: {getattr(error, 'problem', None) or 'cannot be read'}"
        ) from None
    if not isinstance(data, dict):
        raise ArchGymError(f"{source} holds no mapping; start with name:, budget:, seeds:, problems: and agents:")
    for key in data:
        if key not in _KEYS:
            raise UnknownNameError(f"key of {source}", key, _KEYS)
    for key in ("budget", "problems", "agents"):
        if not data.get(key):
            raise ArchGymError(f"{source} lacks the key {key!r}")
    budget = _whole(data["budget"], "budget", source)
    log = data.get("log", "trials")
    if log not in LOGS:
        raise UnknownNameError(f"log of {source}", log, LOGS)
    settings = [
        setting
        for entry in _list(data["agents"], "agents", source)
        for setting in _settings(entry, budget, int(data.get("sampling_seed", 0)), source)
    ]
    problems = [_problem(entry, source) for entry in _list(data["problems"], "problems", source)]
    return StudySpec(
        name=str(data.get("name") or Path(source).stem),
        problems=tuple(problems),
        settings=tuple(settings),
        seeds=_seeds(data.get("seeds", 1), source),
        budget=budget,
        batch=_whole(data.get("batch", 1024), "batch", source),
        log=log,
        description=str(data.get("description", "")).strip(),
        text=text,
    )


def _list(value: Any, key: str, source: str) -> list[Any]:
    if not isinstance(value, list):
        raise ArchGymError(f"{key} of {source} is {value!r}; expected a list, one entry a line after a dash")
    return value


def _whole(value: Any, key: str, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArchGymError(f"{key} of {source} is {value!r}; expected a positive whole number")
    return value


def _seeds(value: Any, source: str) -> tuple[int, ...]:
    if isinstance(value, list) and value and all(isinstance(seed, int) and seed >= 0 for seed in value):
        return tuple(dict.fromkeys(value))
    return tuple(range(_whole(value, "seeds", source)))


def _problem(entry: Any, source: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, str):
        name, options = entry, {}
    elif isinstance(entry, dict) and isinstance(entry.get("problem"), str):
        name, options = entry["problem"], {str(key): value for key, value in entry.items() if key != "problem"}
    else:
        raise ArchGymError(f"a problem of {source} is {entry!r}; expected a name or a mapping with the key 'problem'")
    # Names are checked here without making the problem, which may compile a kernel; the default workload is spelled out.
    kind, workload = parse_name(name)
    simulator = SIMULATORS.load(kind)()
    workload = workload or simulator.default_workload
    if not names_own_file(workload) and not options.get("workload_options"):
        known = simulator.workloads()
        if workload not in known:
            raise UnknownNameError(f"workload of {kind}", workload, known)
    return f"{kind}/{workload}", options


def _settings(entry: Any, budget: int, seed: int, source: str) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """The settings of one entry of ``agents``: (agent, hyperparameters, budget)."""
    if isinstance(entry, str):
        entry = {"agent": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("agent"), str):
        raise ArchGymError(f"an agent of {source} is {entry!r}; expected a name or a mapping with the key 'agent'")
    for key in entry:
        if key not in _AGENT_KEYS:
            raise UnknownNameError(f"key of agent {entry['agent']!r} in {source}", key, _AGENT_KEYS)
    name = entry["agent"]
    make = load_agent(name).hyperparameters
    ranges = hyperparameter_ranges(name)
    own = dict(entry.get("ranges") or {})
    for key in own:
        if key not in ranges:
            raise UnknownNameError(f"hyperparameter of {name}", key, ranges)
    fixed = {key: value for key, value in own.items() if not isinstance(value, list)}
    domains = {key: _domain(about, own.get(key)) for key, about in ranges.items() if key not in fixed}
    given: list[dict[str, Any]] = []
    grid, sample = entry.get("grid"), entry.get("sample")
    if isinstance(grid, dict):
        for key, values in grid.items():
            if key not in ranges:
                raise UnknownNameError(f"hyperparameter of {name}", key, ranges)
            if not isinstance(values, list):
                raise ArchGymError(f"grid of {name}: {key} is {values!r}; expected a list of values")
        given += [fixed | dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    elif grid is not None:
        levels = _whole(grid, f"grid of {name}", source)
        axes = {key: domain.levels(levels) for key, domain in domains.items()}
        given += [fixed | dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if sample is not None:
        # The agent's name makes the draws of two agents independent; equal specs draw equal settings.
        rng = np.random.default_rng([seed, *name.encode()])
        for _ in range(_whole(sample, f"sample of {name}", source)):
            given.append(fixed | {key: domain.draw(rng) for key, domain in domains.items()})
    if entry.get("defaults", not given):
        given.insert(0, fixed)
    own_budget = _whole(entry.get("budget", budget), f"budget of {name}", source)
    for values in given:
        yield name, make(**values).as_dict(), own_budget


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


def _domain(about: Mapping[str, Any], own: list[Any] | None) -> _Domain:
    if about.get("choices"):
        return _Domain(tuple(own if own is not None else about["choices"]))
    if about.get("low") is None:
        return _Domain((about["default"],))
    whole = isinstance(about["default"], int)
    low, high = about["low"], about["high"]
    if own is not None:
        if len(own) != 2 or not all(isinstance(v, int | float) for v in own) or not own[0] <= own[1]:
            raise ArchGymError(f"a range is {own!r}; expected [low, high]")
        low, high = own
    return _Domain((), float(low), float(high), bool(about.get("log")) and low > 0, whole)
