"""Objectives: metrics of a batch -> one reward a design, higher is better, finite for every design.

The usual form is the *log ratio*: reward = -ln(metric / reference), so that 0 is the reference, 0.69 is twice as
good, and a difference of rewards (a regret) is a relative difference of metrics. Feasible rewards are clipped to
[-19, 19] and an infeasible design gets -20: failure can never score like success, and a learning agent never sees a
number that would blow up its value function.

Objective texts, as ``make_objective`` and ``--objective`` take them:

| text | meaning |
| --- | --- |
| a name the simulator offers (``latency``, ``edp``, ``budgets``) | that objective |
| ``total_time_ns`` | a metric, in its own direction |
| ``total_time_ns*energy_pj`` | a product of metrics (here the energy-delay product) |
| ``energy_pj@total_time_ns<=50000`` | the left side under one-sided budgets (comma-separated) on metrics |
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archgym.deprecation import renamed, warn_renamed
from archgym.errors import ArchGymError, UnknownNameError
from archgym.quantities import quantity
from archgym.simulator import Evaluation, Metric, Simulator, Workload

Rewards = NDArray[np.float64]

PENALTY = -20.0
"""Reward of an infeasible design under the log-ratio objectives; feasible rewards are clipped to [-19, 19]."""
LIMIT = 19.0
_TINY = 1e-300


class Objective(ABC):
    """Turns an evaluation into rewards. Subclasses give ``score`` for feasible rows, and ``penalty``, which must lie
    below every score."""

    name: str
    description: str = ""
    penalty: float = PENALTY
    archgym_form: bool = False
    """True for formulas kept only for comparison with ArchGym, defects included."""

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Names of the metrics the score reads."""

    @abstractmethod
    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        """Rewards of rows that are all feasible; shape ``(n,)``."""

    def __call__(self, evaluation: Evaluation) -> Rewards:
        """Rewards ``(n,)``: the score where feasible and defined, else the penalty."""
        metrics = evaluation.metrics
        try:
            with np.errstate(all="ignore"):
                rewards = np.asarray(self.score(metrics), dtype=np.float64)
        except KeyError as error:
            raise UnknownNameError(f"metric of objective {self.name!r}", error.args[0], metrics) from None
        good = evaluation.feasible & np.isfinite(rewards)
        # Counting is several times as fast as all() on a row or two.
        return rewards if np.count_nonzero(good) == len(good) else np.where(good, rewards, self.penalty)


@dataclass(frozen=True)
class Term:
    """One factor of a log ratio.

    Attributes:
        metric: name of the metric.
        reference: the value that scores 0; positive.
        sign: +1 where lower is better, -1 where higher is better.
        weight: exponent of the factor.
    """

    metric: str
    reference: float
    sign: float = 1.0
    weight: float = 1.0


class LogRatio(Objective):
    """reward = -sum of weight * ln(metric / reference) over the terms; see the module's first lines."""

    def __init__(self, terms: Sequence[Term], name: str = "", description: str = "") -> None:
        if not terms:
            raise ArchGymError("an objective needs at least one metric")
        for term in terms:
            if not (np.isfinite(term.reference) and term.reference > 0):
                raise ArchGymError(f"the reference of {term.metric!r} is {term.reference}; expected a positive number")
        self.terms = tuple(terms)
        self.name = name or "*".join(term.metric for term in terms)
        self.description = description or "minus the logarithm of " + " x ".join(
            f"({t.metric} / {quantity(t.reference)})" if t.sign > 0 else f"({quantity(t.reference)} / {t.metric})"
            for t in terms
        )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(term.metric for term in self.terms)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        total: NDArray[np.float64] | float = 0.0
        for term in self.terms:
            ratio = np.log(np.maximum(metrics[term.metric], _TINY) / term.reference)
            factor = term.sign * term.weight
            total = total - (ratio if factor == 1.0 else factor * ratio)
        # NaN metrics stay NaN here, so that they earn the penalty.
        return np.minimum(np.maximum(total, -LIMIT), LIMIT)


class DeferredLogRatio(LogRatio):
    """A log ratio whose references are asked for when the first design is scored: they may take hours to find.

    Args:
        simulator, workload: whose references.
        metrics: the factors.
        name: of the objective.
    """

    def __init__(self, simulator: Simulator, workload: Workload, metrics: Sequence[str], name: str = "") -> None:
        self._of = simulator, workload, tuple(metrics)
        self.name = name or "*".join(metrics)
        self.description = "minus the logarithm of " + " x ".join(f"({metric} / its reference)" for metric in metrics)

    @property
    def needs(self) -> tuple[str, ...]:
        return self._of[2]

    @cached_property
    def terms(self) -> tuple[Term, ...]:  # type: ignore[override]
        return log_ratio(*self._of, self.name, deferred=False).terms


class Value(Objective):
    """The metric itself, negated where lower is better. ``worst`` bounds the reward from below: a feasible design
    scores at least ``worst``, an infeasible one ``worst - 1``."""

    def __init__(self, metric: Metric, worst: float, name: str = "", description: str = "") -> None:
        self.metric, self.worst, self.penalty = metric, float(worst), float(worst) - 1.0
        self.sign = -1.0 if metric.direction == "min" else 1.0
        self.name = name or metric.name
        self.description = description or f"{'minus ' if self.sign < 0 else ''}{metric.name}, at least {worst:g}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.metric.name,)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        column = metrics[self.metric.name]
        bounded: Rewards = np.maximum(self.sign * column, self.worst)  # NaN stays NaN
        return bounded


@dataclass(frozen=True)
class Budget:
    """A one-sided limit on a metric: at most (``upper=True``) or at least ``limit``. Better is never punished."""

    metric: str
    limit: float
    upper: bool = True

    def excess(self, metrics: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """max(0, (metric - limit) / limit), mirrored for lower limits; shape ``(n,)``."""
        column = metrics[self.metric]
        gap = (column - self.limit) if self.upper else (self.limit - column)
        return np.maximum(gap / abs(self.limit), 0.0)

    def __post_init__(self) -> None:
        if not np.isfinite(self.limit) or self.limit == 0:
            raise ArchGymError(f"the budget on {self.metric!r} is {self.limit}; expected a finite number other than 0")

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.upper else '>='}{self.limit:.12g}"


class Budgets(Objective):
    """Distance to budgets: reward = -sum of the relative excess over each budget, 0 where all are met.

    ``tie`` (another objective) breaks ties between designs that meet all budgets, so that the optimum is not flat:
    its reward, scaled into [0, 1), is added where every budget is met. ``worst`` is the least feasible reward.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        tie: Objective | None = None,
        worst: float = -1e9,
        name: str = "budgets",
        description: str = "",
    ) -> None:
        self.budgets, self.tie, self.worst = tuple(budgets), tie, worst
        self.name, self.penalty = name, worst * 2 - 1
        self.description = description or "relative excess over " + ", ".join(map(str, budgets))

    @property
    def needs(self) -> tuple[str, ...]:
        names = [budget.metric for budget in self.budgets] + list(self.tie.needs if self.tie else ())
        return tuple(dict.fromkeys(names))

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        excess = sum(budget.excess(metrics) for budget in self.budgets)
        reward = np.where(np.isnan(excess), np.nan, np.maximum(-np.asarray(excess), self.worst))
        if self.tie is not None:
            bonus = (np.clip(self.tie.score(metrics), -LIMIT, LIMIT) + LIMIT) / (2 * LIMIT + 1)
            reward = np.where(np.asarray(excess) == 0, bonus, reward)
        return reward


class Constrained(Objective):
    """``base`` under one-sided budgets, lexicographic: a design that meets all budgets always beats one that does
    not. Among the former the base decides: a log ratio clipped to [-9, 19], any other base as it is. Among the latter the
    excess does, by -sum ln(1 + excess) (at least -10) from there down: from -9, or from the base's penalty, which lies below
    all of its scores."""

    def __init__(self, base: Objective, budgets: Sequence[Budget], name: str = "", description: str = "") -> None:
        self.base, self.budgets = base, tuple(budgets)
        self.name = name or f"{base.name}@{','.join(map(str, budgets))}"
        self.description = description or f"{base.description or base.name}, under {', '.join(map(str, budgets))}"
        ratio = base.penalty == PENALTY
        self._floor, self._ceiling = (-9.0, LIMIT) if ratio else (base.penalty, np.inf)
        # (A step of the number format where a floor is so low that 11 is none.)
        lower = np.nextafter(np.nextafter(self._floor, -np.inf), -np.inf)
        self.penalty = PENALTY if ratio else float(min(self._floor - 11.0, lower))

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.base.needs, *(budget.metric for budget in self.budgets))))

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        excess = [budget.excess(metrics) for budget in self.budgets]
        met = np.all([column == 0 for column in excess], axis=0)
        below = np.maximum(self._floor - sum(np.log1p(column) for column in excess), self._floor - 10.0)
        below = np.minimum(below, np.nextafter(self._floor, -np.inf))
        return np.where(met, np.clip(self.base.score(metrics), self._floor, self._ceiling), below)


class RelativeImprovement(Objective):
    """RI = 100 * (metric - baseline) / baseline in percent, the baseline being the average random design under the
    same protocol (Yang et al., "NAS evaluation is frustratingly hard", 2020)."""

    def __init__(self, metric: str, baseline: float, baseline_name: str, worst: float = -100.0) -> None:
        self.metric, self.baseline, self.worst, self.penalty = metric, float(baseline), worst, worst - 1.0
        self.name = f"relative-improvement-{baseline_name}"
        self.description = f"improvement of {metric} over {baseline_name} ({baseline:.4f}) in percent"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.metric,)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        column = metrics[self.metric]
        ratio = 100.0 * (column - self.baseline) / self.baseline
        return np.where(np.isnan(ratio), np.nan, np.maximum(ratio, self.worst))


class TargetOverGap(Objective):
    """ArchGym's reward for DRAM, kept for comparison: sum over metrics of target / abs(observed - target).

    It is two-sided (better than the target is punished) and unbounded on the target; here it is capped at 1e6 a
    metric, and an infeasible design gets 0, below every feasible reward. Do not optimise it: see the docs.
    """

    archgym_form = True
    penalty = 0.0

    def __init__(self, targets: Mapping[str, float], scale: Mapping[str, float] | None = None) -> None:
        self.targets, self.scale = dict(targets), dict(scale or {})
        self.name = "archgym-target-over-gap"
        self.description = "ArchGym's two-sided target/|observed - target| on " + ", ".join(
            f"{metric} (target {target:g})" for metric, target in self.targets.items()
        )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(self.targets)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        total: NDArray[np.float64] | float = 0.0
        for metric, target in self.targets.items():
            gap = np.abs(metrics[metric] * self.scale.get(metric, 1.0) - target)
            total = total + np.where(np.isnan(gap), np.nan, np.minimum(target / np.maximum(gap, _TINY), 1e6))
        return np.asarray(total)


class InverseCost(Objective):
    """ArchGym's reward of its RL agents on accelerators and SoCs, kept for comparison: 1 / cost, where a cost of 0 counts
    as 1e-5. Unbounded near the targets (1e5 on them), it says next to nothing far from them.

    Args:
        base: an objective whose score is minus a cost of at least 0.
        penalty: reward of an infeasible design; at most 0.
    """

    archgym_form = True

    def __init__(self, base: Objective, name: str, penalty: float = 0.0) -> None:
        self.base, self.name, self.penalty = base, name, penalty
        self.description = f"ArchGym's 1 / cost; the cost is the opposite of {base.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        return self.base.needs

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        cost = -self.base.score(metrics)
        return 1.0 / np.where(cost == 0, 1e-5, cost)


def same_objective(one: object, other: object) -> bool:
    """Whether two objectives are of one kind with equal references, budgets and names."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Objective):
        mine, theirs = vars(one), vars(other)
        return mine.keys() == theirs.keys() and all(same_objective(mine[key], theirs[key]) for key in mine)
    return bool(np.all(one == other))


_BUDGET = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(<=|>=)\s*([-+.\deE]+)\s*$")


def log_ratio(
    simulator: Simulator, workload: Workload, metrics: Sequence[str], name: str = "", deferred: bool | None = None
) -> LogRatio:
    """The log-ratio objective of one metric or a product, with the simulator's reference values and directions; of simulators
    that start programs the values are asked for when they are needed, unless ``deferred`` says otherwise."""
    known = {metric.name: metric for metric in simulator.metrics_for(workload)}
    if deferred is None:
        known_already = simulator.reference_values or simulator.given_references is not None
        deferred = simulator.starts_programs and not known_already
    references = {} if deferred else simulator.references(workload)
    terms = []
    for metric in metrics:
        if metric not in known:
            raise UnknownNameError(f"metric of {simulator.name}", metric, known)
        if known[metric].direction == "none":
            raise ArchGymError(f"metric {metric!r} has no direction (neither more nor less is better); choose another")
        terms.append(Term(metric, references.get(metric, 1.0), 1.0 if known[metric].direction == "min" else -1.0))
    return DeferredLogRatio(simulator, workload, metrics, name) if deferred else LogRatio(terms, name)


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """``"area_mm2<=2,accuracy>=90"`` as budgets."""
    budgets = []
    for part in text.split(","):
        match = _BUDGET.match(part)
        try:
            limit = float(match[3]) if match else None
        except ValueError:
            limit = None
        if match is None or limit is None:
            raise ArchGymError(f"cannot read the budget {part.strip()!r}; write metric<=number or metric>=number")
        budgets.append(Budget(match[1], limit, match[2] == "<="))
    return tuple(budgets)


def make_objective(text: str | None, simulator: Simulator, workload: Workload) -> Objective:
    """The objective that ``text`` (see the module's table) means for this simulator and workload."""
    from archgym.registry import OBJECTIVES

    text = text or simulator.objective_for(workload)[0]
    renames = simulator.stands_for.renamed_objectives
    if text in renames:
        old, text = text, renames[text]
        warn_renamed(f"the objective {old!r} of {simulator.name}", repr(text), FutureWarning)
    own = simulator.objectives(workload)
    if text in own:
        objective: Objective = own[text]
        return objective
    if text in OBJECTIVES:
        made: Objective = OBJECTIVES.load(text)(simulator, workload)
        return made
    base, at, budgets = text.partition("@")
    if at:
        known = {metric.name for metric in simulator.metrics_for(workload)}
        parsed = parse_budgets(budgets)
        for budget in parsed:
            if budget.metric not in known:
                raise UnknownNameError(f"metric of {simulator.name}", budget.metric, known)
        return Constrained(make_objective(base, simulator, workload), parsed, name=text)
    metrics = [part.strip() for part in text.split("*")]
    known_metrics = [metric.name for metric in simulator.metrics_for(workload)]
    for metric in metrics:
        if metric not in known_metrics:
            raise UnknownNameError(f"objective of {simulator.name}", text, [*own, *OBJECTIVES, *known_metrics])
    return log_ratio(simulator, workload, metrics, text)


__getattr__ = renamed(__name__, {"ArchGymTarget": f"{__name__}:TargetOverGap"})
