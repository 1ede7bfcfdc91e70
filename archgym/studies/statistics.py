"""Statistics of studies, as functions on arrays.

Regrets are lower-is-better throughout; a *score matrix* of a method is a list with one array of run results a problem.
Sources: interquartile mean, performance profiles and probability of improvement: Agarwal et al., "Deep reinforcement
learning at the edge of the statistical precipice" (2021); expected best of k: Dodge et al., "Show your work" (2019);
ranks: Demšar, "Statistical comparisons of classifiers over multiple data sets" (2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from archgym.errors import ArchGymError
from archgym.pareto import non_dominated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def as_list(self) -> list[float]:
        """``[value, low, high]``."""
        return [self.value, self.low, self.high]


# --- curves ---------------------------------------------------------------------------------------------------------


def checkpoints(budget: int, count: int = 40) -> NDArray[np.int64]:
    """Numbers of evaluations, even on a log scale, from 1 to ``budget``; each once."""
    return np.unique(np.geomspace(1, budget, count).round().astype(np.int64))


def anytime(curve: Sequence[Sequence[float]], at: ArrayLike) -> Array:
    """Best reward after each number of evaluations in ``at``; -inf before the first evaluation.

    Args:
        curve: (evaluations, best reward from there on) pairs, in order.
        at: numbers of evaluations ``(n,)``.
    """
    if not len(curve):
        return np.full(np.shape(at), -np.inf)
    steps = np.array([step[0] for step in curve])
    rewards = np.array([-np.inf, *(step[1] for step in curve)])
    return np.asarray(rewards[np.searchsorted(steps, at, side="right")])


def normalised_regret(rewards: ArrayLike, best: float, baseline: float) -> Array:
    """(best - reward) / (best - baseline), clipped to [0, 1]: 0 is the optimum (or the best known), 1 a median random
    design or worse; infeasible results are 1."""
    rewards = np.asarray(rewards, dtype=np.float64)
    span = best - baseline
    if not span > 0:
        return np.where(rewards >= best, 0.0, 1.0)
    return np.clip((best - rewards) / span, 0.0, 1.0)


# --- over runs and problems -----------------------------------------------------------------------------------------


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half."""
    return float(stats.trim_mean(np.ravel(np.asarray(values, dtype=np.float64)), 0.25))


def stratified_interval(
    scores: Sequence[ArrayLike],
    statistic: Any = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A statistic over all runs with its percentile bootstrap interval, resampling runs within each problem.

    Args:
        scores: one array of results a problem (they may differ in length).
        statistic: pooled results ``(..., n)`` -> ``(...)``; the interquartile mean where None.
    """
    strata = [np.asarray(column, dtype=np.float64) for column in scores if len(np.atleast_1d(column))]
    if not strata:
        return Interval(float("nan"), float("nan"), float("nan"))

    def pooled(*columns: Array, axis: int = -1) -> Any:
        values = np.concatenate(columns, axis=axis)
        if statistic is not None:
            return statistic(values)
        return stats.trim_mean(values, 0.25, axis=axis)

    value = float(pooled(*strata))
    if all(len(column) == 1 for column in strata) or np.ptp(np.concatenate(strata)) == 0:
        # One run a problem says nothing of the spread; equal results have none.
        spread = float("nan") if all(len(column) == 1 for column in strata) else 0.0
        return Interval(value, value - spread, value + spread)
    # A stratum of one run cannot be resampled by SciPy; twice the run is the same stratum, resampled to itself.
    weights = [np.repeat(column, 2) if len(column) == 1 else column for column in strata]
    found = stats.bootstrap(
        weights, pooled, n_resamples=resamples, confidence_level=confidence, method="percentile", vectorized=True,
        paired=False, rng=np.random.default_rng(seed), batch=max(1, 2_000_000 // sum(map(len, weights))),
    )  # fmt: skip
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high))


def performance_profile(scores: Sequence[ArrayLike], at: ArrayLike) -> Array:
    """Share of runs with a regret of at most each level in ``at``, problems weighing equally."""
    levels = np.asarray(at, dtype=np.float64)
    shares = [
        (np.asarray(column, dtype=np.float64)[:, None] <= levels).mean(axis=0)
        for column in scores
        if len(np.atleast_1d(column))
    ]
    return np.asarray(np.mean(shares, axis=0)) if shares else np.full(levels.shape, np.nan)


def probability_of_improvement(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Probability that a run of ``a`` has a lower regret than a run of ``b`` on the same problem (ties count half),
    averaged over problems, with a stratified percentile bootstrap interval."""
    pairs = [
        (np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        for x, y in zip(a, b, strict=True)
        if len(np.atleast_1d(x)) and len(np.atleast_1d(y))
    ]
    if not pairs:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    values, drawn = [], []
    for x, y in pairs:
        wins = (x[:, None] < y).astype(np.float64) + 0.5 * (x[:, None] == y)
        values.append(wins.mean())
        # Resampling runs of a and b is weighting the rows and columns of the table of wins.
        rows = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), resamples) / len(x)
        columns = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), resamples) / len(y)
        drawn.append(np.einsum("ri,ij,rj->r", rows, wins, columns, optimize=True))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.mean(drawn, axis=0), [tail, 1 - tail])
    return Interval(float(np.mean(values)), float(low), float(high))


# --- the lottery ----------------------------------------------------------------------------------------------------


def expected_best(values: ArrayLike, draws: ArrayLike) -> Array:
    """Expected lowest of k values drawn without replacement, for each k in ``draws`` (at most the number of values).

    With values v1 <= ... <= vn the lowest of k is v_i with probability C(n-i, k-1) / C(n, k).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    result = []
    for k in np.atleast_1d(np.asarray(draws, dtype=np.int64)):
        if not 1 <= k <= n:
            raise ArchGymError(f"cannot draw {k} of {n} hyperparameter settings")
        # P(lowest is at least the i-th) = C(n-i+1, k) / C(n, k), by its recurrence in i.
        above = np.zeros(n + 1)
        above[0] = 1.0
        for i in range(n - k + 1):
            above[i + 1] = above[i] * (n - k - i) / (n - i)
        result.append(float(ordered @ (above[:-1] - above[1:])))
    return np.array(result)


def lottery(values: ArrayLike, winning: float = 0.05) -> dict[str, Any]:
    """The distribution of one agent's results over its hyperparameter settings on one problem.

    Args:
        values: normalised regret of each setting (its median over seeds).
        winning: a setting wins the lottery where its regret is within this much of the best setting's.

    Returns:
        settings, best, quartiles, worst, spread (interquartile range), full_spread (worst - best), tickets (share of
        settings that win), and expected_best of 1, 2, 4, ... draws.
    """
    values = np.sort(np.asarray(values, dtype=np.float64))
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    draws = [k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= len(values)]
    return {
        "settings": len(values),
        "best": float(values[0]),
        "lower_quartile": float(low),
        "median": float(middle),
        "upper_quartile": float(high),
        "worst": float(values[-1]),
        "spread": float(high - low),
        "full_spread": float(values[-1] - values[0]),
        "tickets": float((values <= values[0] + winning).mean()),
        "expected_best": {str(k): v for k, v in zip(draws, expected_best(values, draws).tolist(), strict=True)},
    }


# --- ranks ----------------------------------------------------------------------------------------------------------

RANK_PROBLEMS = 10
"""Fewest problems for which a rank test is made: with fewer it has no power worth the name."""


def ranks(regrets: ArrayLike, names: Sequence[str], significance: float = 0.05) -> dict[str, Any]:
    """Mean ranks of methods over problems, Friedman's test and Nemenyi's critical difference.

    Args:
        regrets: ``(problems, methods)``, one number each (the median over runs).
        names: of the methods.

    Returns:
        mean_ranks by name; and where there are at least ten problems and three methods, p_value (Friedman),
        critical_difference (Nemenyi) and differing: the pairs of methods further apart than that.
    """
    table = np.asarray(regrets, dtype=np.float64)
    ranked = stats.rankdata(table, axis=1)
    mean = ranked.mean(axis=0)
    result: dict[str, Any] = {
        "problems": len(table),
        "mean_ranks": {name: float(rank) for name, rank in zip(names, mean, strict=True)},
    }
    k = len(names)
    if len(table) < RANK_PROBLEMS or k < 3:
        return result
    equal = bool((ranked == ranked[:, :1]).all())
    result["p_value"] = 1.0 if equal else float(stats.friedmanchisquare(*table.T).pvalue)
    critical = float(stats.studentized_range.ppf(1 - significance, k, np.inf) / np.sqrt(2)) * np.sqrt(
        k * (k + 1) / (6 * len(table))
    )
    result["critical_difference"] = float(critical)
    result["differing"] = [
        [names[i], names[j]] for i in np.argsort(mean) for j in np.argsort(mean) if mean[j] - mean[i] > critical
    ]
    return result


# --- several objectives ---------------------------------------------------------------------------------------------


def hypervolume(losses: ArrayLike, reference: ArrayLike) -> float:
    """Volume dominated by ``losses`` ``(n, m)`` (to be minimised) below the point ``reference`` ``(m,)``."""
    points, corner = np.atleast_2d(np.asarray(losses, dtype=np.float64)), np.asarray(reference, dtype=np.float64)
    if points.size == 0:
        return 0.0
    if points.shape[1] != len(corner):
        raise ArchGymError(
            f"losses have {points.shape[1]} columns, the reference point {len(corner)}; expected as many"
        )
    points = points[np.isfinite(points).all(axis=1) & (points < corner).all(axis=1)]
    return _volume(non_dominated(points), corner) if len(points) else 0.0


def _volume(front: Array, corner: Array) -> float:
    """Hypervolume by slicing along the last objective (Zitzler, 1999; Knowles, 2002)."""
    if front.shape[1] == 1:
        return float(corner[0] - front[:, 0].min())
    if front.shape[1] == 2:
        rows = non_dominated(front)
        heights = np.concatenate([[corner[1]], rows[:-1, 1]]) - rows[:, 1]
        return float(((corner[0] - rows[:, 0]) * heights).sum())
    order = front[np.argsort(front[:, -1], kind="stable")]
    depths = np.append(order[1:, -1], corner[-1]) - order[:, -1]
    total = 0.0
    for i, depth in enumerate(depths):
        if depth > 0:
            total += depth * _volume(non_dominated(order[: i + 1, :-1]), corner[:-1])
    return total
