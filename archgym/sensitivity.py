"""What the parameters of a problem are worth: over the whole space, and around one design.

Agents do not sample evenly, so that their trials say little of parameters: here designs are drawn for the purpose. A
parameter without effect gets exactly 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.objective import Constrained, LogRatio, Rewards
from archgym.problem import Problem
from archgym.space import Designs, Value

LEAST_SHARE = 1e-3
"""Spread of rewards below which an objective is said to tell no designs apart: 0.1 % of the metrics under the logarithm of
a ratio, 0.1 % of the median of any other reward."""
LEAST_DESIGNS = 16
"""Designs from which something is said at all."""
MOST = 4096
"""Evaluations that an account of parameters may take."""


@dataclass(frozen=True)
class Effects:
    """Total effects of the parameters.

    Attributes:
        shares: parameter -> Sobol' total index: the share of the reward's variance that would be left if all other
            parameters were fixed, interactions counted in full; the sum may be above 1. Parameters with one value are
            left out.
        designs: uniform designs that they are estimated from.
        evaluations: simulator evaluations that this took.
    """

    shares: Mapping[str, float]
    designs: int
    evaluations: int


@dataclass(frozen=True)
class Change:
    """What other values of one parameter cost, the rest of a design kept.

    Attributes:
        parameter, value: of the design; the value is None where the parameter has no effect in it.
        costs: other value -> loss of reward, negative where it is better; NaN where it is infeasible.
    """

    parameter: str
    value: Value | None
    costs: Mapping[Value, float]

    @property
    def cheapest(self) -> tuple[Value, float] | None:
        """The feasible other value that costs least, None where there is none."""
        return min(self._feasible, key=lambda pair: pair[1], default=None)

    @property
    def dearest(self) -> tuple[Value, float] | None:
        """The feasible other value that costs most, None where there is none."""
        return max(self._feasible, key=lambda pair: pair[1], default=None)

    @property
    def _feasible(self) -> list[tuple[Value, float]]:
        return [(value, cost) for value, cost in self.costs.items() if not np.isnan(cost)]


def costly(problem: Problem) -> bool:
    """Whether evaluating designs past a budget is out of the question: it starts programs, or trains designs live."""
    simulator = problem.simulator
    return simulator.starts_programs or simulator.live(problem.workload, problem.fidelity) is not None


def relative(problem: Problem) -> bool:
    """Whether a difference of rewards is the logarithm of a ratio of metrics."""
    objective = problem.objective
    return isinstance(objective.base if isinstance(objective, Constrained) else objective, LogRatio)


def without_effect(problem: Problem, design: ArrayLike) -> tuple[str, ...]:
    """The parameters that have no effect in ``design``."""
    array = problem.space.check(design)[:1].copy()
    names = []
    for rule in problem.space.inactive:
        if np.asarray(rule.when(array), dtype=bool)[0]:
            names.append(rule.parameter)
            array[0, problem.space.position(rule.parameter)] = rule.index
    return tuple(dict.fromkeys(names))


def told_apart(problem: Problem, rewards: ArrayLike) -> bool:
    """Whether the objective tells designs with these (finite, feasible) rewards apart: their spread, from the fifth to the
    ninety-fifth percentile, is at least :data:`LEAST_SHARE`. True for fewer than :data:`LEAST_DESIGNS`, which prove
    nothing."""
    values = np.asarray(rewards, dtype=np.float64)
    if len(values) < LEAST_DESIGNS:
        return True
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    unit = 1.0 if relative(problem) else abs(float(middle))
    return bool(high - low > 0 and high - low >= LEAST_SHARE * unit)


def alike_sentence(problem: Problem) -> str:
    """What is said where designs are not :func:`told_apart`."""
    return (
        f"The objective {problem.objective.name} does not tell these designs apart: nine in ten of them lie within "
        f"{100 * LEAST_SHARE:g} % of each other; choose another objective, or a workload that asks more of the design."
    )


def total_effects(problem: Problem, evaluations: int, seed: int = 0) -> Effects | None:
    """The total effects of the parameters, by Jansen's estimator on feasible uniform designs.

    Half the mean square of what redrawing one parameter does to the reward, over the variance of the reward (M. J. W.
    Jansen, "Analysis of variance designs for model output", Comput. Phys. Commun. 117, 1999). Pairs with an infeasible
    half are left out.

    Args:
        problem: whose evaluations are simulated past any budget.
        evaluations: the most of them, at most :data:`MOST`.
        seed: of the designs.

    Returns:
        None where evaluating is :func:`costly`, the evaluations are too few for :data:`LEAST_DESIGNS` designs, or nothing
        varies.
    """
    names = [p.name for p in problem.space.parameters if len(p) > 1]
    count = min(evaluations, MOST) // (len(names) + 1)
    if costly(problem) or count < LEAST_DESIGNS or not names:
        return None
    rng = np.random.default_rng(seed)
    try:
        base = problem.space.sample(count, rng, feasible=True)
    except ArchGymError:  # constraints that next to no design meets
        return None
    designs = np.repeat(base[None], len(names) + 1, axis=0)
    for i, name in enumerate(names, 1):
        position = problem.space.position(name)
        designs[i, :, position] = rng.integers(0, problem.space.nvec[position], size=count)
    rewards, simulated = _rewards(problem, designs.reshape(-1, designs.shape[-1]))
    table = rewards.reshape(len(names) + 1, count)
    kept = table[0][np.isfinite(table[0])]
    if len(kept) < LEAST_DESIGNS or not told_apart(problem, kept):
        return None
    squares = (table[1:] - table[0]) ** 2
    pairs = np.isfinite(squares)
    shares = np.where(pairs, squares, 0.0).sum(axis=1) / np.maximum(pairs.sum(axis=1), 1) / (2 * kept.var())
    return Effects(dict(zip(names, shares.tolist(), strict=True)), len(kept), simulated)


def one_change(problem: Problem, design: ArrayLike) -> list[Change] | None:
    """What every other value of every parameter costs, the rest of ``design`` kept, the dearest least change first. Values
    that change nothing cost exactly 0. None where evaluating is :func:`costly` or takes more than :data:`MOST`
    evaluations."""
    row = problem.space.check(design)[:1]
    near = problem.space.neighbours(row)
    if costly(problem) or not len(near) or len(near) > MOST:
        return None
    rewards, _ = _rewards(problem, np.concatenate([row, near]))
    losses = rewards[0] - rewards[1:]
    position = np.argmax(near != row, axis=1)
    idle = without_effect(problem, row)
    changes = []
    for j, parameter in enumerate(problem.space.parameters):
        mine = np.flatnonzero(position == j)
        if len(mine):
            costs = {parameter.values[near[i, j]]: float(losses[i]) for i in mine}
            value = None if parameter.name in idle else parameter.values[row[0, j]]
            changes.append(Change(parameter.name, value, costs))

    def weight(change: Change) -> tuple[float, float]:
        cheapest, dearest = change.cheapest, change.dearest
        # A value without a feasible alternative weighs most.
        return (-np.inf, -np.inf) if cheapest is None or dearest is None else (-cheapest[1], -dearest[1])

    return sorted(changes, key=weight)


def _rewards(problem: Problem, designs: Designs) -> tuple[Rewards, int]:
    """Rewards of designs, infeasible ones NaN, and how many were simulated: each canonical design once."""
    unique, inverse = np.unique(problem.space.canonical(designs), axis=0, return_inverse=True)
    evaluation, rewards = problem.evaluate(unique, seed=0)
    values: NDArray[np.float64] = np.where(evaluation.feasible, rewards, np.nan)
    return values[inverse.reshape(-1)], len(unique)
