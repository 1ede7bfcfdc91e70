"""What a search found, for people: against which design it is better, by how much, and which parameters decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from archgym.errors import ArchGymError
from archgym.narrowing import Narrowed
from archgym.objective import LogRatio
from archgym.problem import Problem
from archgym.quantities import quantity
from archgym.sensitivity import costly, without_effect
from archgym.simulator import Metric
from archgym.space import Value

DECIDES = 1e-3
"""Least loss of reward (0.1 % of a log ratio) with which a parameter is named as one that decided, if it also is a tenth of
the largest one."""


@dataclass(frozen=True)
class Account:
    """A winner beside the usual design of its kind.

    Attributes:
        design: of the winner; None where a parameter has no effect in it.
        usual, usual_metrics: the usual design; None where its simulator names none.
        costs: parameter -> loss of reward when it alone is set back to the usual value; NaN where that is infeasible. Only
            parameters that differ and have an effect.
        relative: whether a loss of reward is the logarithm of a ratio of metrics.
        sentence: all of it in words.
    """

    design: Mapping[str, Value | None]
    usual: Mapping[str, Value] | None
    usual_metrics: Mapping[str, float] | None
    costs: Mapping[str, float]
    relative: bool
    sentence: str

    def cost(self, parameter: str) -> str:
        """The cost of setting ``parameter`` back for people: ``3.1 %``, or the loss of reward; empty where it does not
        differ."""
        loss = self.costs.get(parameter)
        if loss is None:
            return ""
        if np.isnan(loss):
            return "infeasible"
        return quantity(100 * float(np.expm1(loss)), "%", 2) if self.relative else f"{loss:.3g}"

    def as_json(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence,
            "usual": self.usual,
            "usual_metrics": self.usual_metrics,
            "reward_lost_by_usual_value": dict(self.costs),
        }


def account_for(
    problem: Problem, design: ArrayLike, reward: float, metrics: Mapping[str, float | None], agent: str
) -> Account:
    """The account of ``design``, found by ``agent`` with this reward and these metrics. It simulates the usual design, and
    the winner with one parameter after the other set back to it, past any budget; nothing where there is no usual design
    or the simulator starts programs or trains designs live."""
    row = problem.space.check(design)[:1]
    idle = without_effect(problem, row)
    named = problem.space.decode(row)[0]
    shown = {name: None if name in idle else value for name, value in named.items()}
    relative = isinstance(problem.objective, LogRatio)
    simulator, workload = problem.simulator, problem.workload
    usual = None if costly(problem) else simulator.usual_design(workload)
    tried = None if usual is None else _tried(problem, named, usual, idle)
    if usual is None or tried is None:
        return Account(shown, None, None, {}, relative, f"{agent} found {_values(problem, metrics, reward)}.")
    usual_metrics, usual_reward, costs = tried
    found = Account(shown, usual, usual_metrics, costs, relative, "")
    name = problem.simulator.usual_name
    if usual_reward >= reward:
        verdict = "is as good as" if usual_reward == reward else "is not better than"
        sentence = f"{agent} found {_values(problem, metrics, reward)}, which {verdict} {name}"
        return replace(found, sentence=f"{sentence} ({_values(problem, usual_metrics, usual_reward)}).")
    changes = _changes(problem, metrics, usual_metrics) or [f"a reward of {reward:.4f} against {usual_reward:.4f}"]
    return replace(found, sentence=f"Against {name}, {agent} found {_joined(changes)}; {_reasons(found)}.")


def _tried(
    problem: Problem, named: Mapping[str, Value], usual: Mapping[str, Value], idle: tuple[str, ...]
) -> tuple[dict[str, float], float, dict[str, float]] | None:
    """Metrics and reward of the usual design, and the cost of each parameter; None where this space does not hold it."""
    whole = problem
    if isinstance(problem.simulator, Narrowed):  # which may leave the usual design out
        simulator = problem.simulator.whole
        whole = Problem(problem.name, simulator, problem.workload, problem.objective, problem.fidelity, {})
    changed = [
        name
        for name, value in named.items()
        if name not in idle and usual.get(name, value) != value and usual[name] in problem.space[name].values
    ]
    try:
        designs = whole.space.encode([named, usual, *({**named, name: usual[name]} for name in changed)])
    except ArchGymError:  # a parameter or a value that the usual design or the space does not have
        return None
    evaluation, rewards = whole.evaluate(designs, seed=0)
    if not evaluation.feasible[:2].all():
        return None
    losses = np.where(evaluation.feasible, rewards[0] - rewards, np.nan)[2:]
    metrics = {name: float(column[1]) for name, column in evaluation.metrics.items()}
    return metrics, float(rewards[1]), dict(zip(changed, map(float, losses), strict=True))


def _measured(problem: Problem) -> list[Metric]:
    """The metrics that the objective weighs, at most three."""
    return [m for m in problem.metrics if m.name in problem.objective.needs and m.direction != "none"][:3]


def _values(problem: Problem, metrics: Mapping[str, float | None], reward: float) -> str:
    values = [f"{m.name} of {quantity(metrics.get(m.name), m.unit)}" for m in _measured(problem)]
    return _joined([*values, f"a reward of {reward:.4f}"])


def _changes(problem: Problem, metrics: Mapping[str, float | None], usual: Mapping[str, float]) -> list[str]:
    result = []
    for m in _measured(problem):
        mine, other = metrics.get(m.name), usual[m.name]
        if mine is None or not np.isfinite(mine) or not np.isfinite(other) or other <= 0:
            continue
        share = 100 * (mine / other - 1)
        how = f"{quantity(abs(share), '%', 2)} {'lower' if share < 0 else 'higher'}"
        result.append(f"{m.name} {how} ({quantity(mine, m.unit)}, not {quantity(other, m.unit)})" if share else
                      f"the same {m.name} ({quantity(mine, m.unit)})")  # fmt: skip
    return result


def _reasons(account: Account) -> str:
    assert account.usual is not None
    losses = {name: np.inf if np.isnan(loss) else loss for name, loss in account.costs.items()}
    finite = [loss for loss in losses.values() if np.isfinite(loss)]
    least = max(DECIDES, 0.1 * max(finite, default=0.0))
    decisive = sorted((name for name, loss in losses.items() if loss >= least), key=lambda name: -losses[name])[:3]
    if not decisive:
        return "no parameter decides it alone"
    each = []
    for name in decisive:
        back, cost = account.usual[name], account.cost(name)
        costs = "is infeasible" if np.isnan(account.costs[name]) else f"costs {cost}"
        each.append(f"{name}={account.design[name]} ({back} {costs})")
    return "what decided it: " + ", ".join(each)


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
