"""How hard a problem is, what its median design is worth, and the best design known: the measured part of a suite.

The grade of a problem is N, the number of uniform draws after which random search has an even chance of a normalised
regret of 1 %: with a share p of such designs, N = ln 2 / -ln(1 - p). p is counted among uniform draws over several
seeds; its interval is that of Clopper and Pearson (1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.problem import Problem
from archgym.studies.statistics import hypervolume
from archgym.suites.fronts import box, corners_of, growth
from archgym.suites.scale import threshold
from archgym.suites.suite import Best, Known, Suite, SuiteProblem, settings_digest

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)
BATCH = 4096


def uniform_rewards(
    problem: Problem, samples: int, seed: int, progress: Callable[[int], None] | None = None
) -> NDArray[np.float64]:
    """Rewards of ``samples`` uniform designs, infeasible ones -inf; in batches, so that memory stays small."""
    rng = np.random.default_rng(seed)
    parts = []
    for first in range(0, samples, BATCH):
        count = min(BATCH, samples - first)
        evaluation, rewards = problem.evaluate(problem.space.sample(count, rng), seed=seed)
        parts.append(np.where(evaluation.feasible, rewards, -np.inf))
        if progress is not None:
            progress(count)
    return np.concatenate(parts)


def draws_for(hits: int, samples: int) -> tuple[float, float, float | None]:
    """N and its 95 % interval from ``hits`` designs within 1 % among ``samples``; with no hit a lower bound, twice,
    and no upper end."""
    from scipy.stats import binomtest

    def draws(share: float) -> float:
        return math.log(2) / -math.log1p(-share) if share < 1 else 1.0

    interval = binomtest(hits, samples).proportion_ci(0.95, method="exact")
    if not hits:
        return draws(float(interval.high)), draws(float(interval.high)), None
    return draws(hits / samples), draws(float(interval.high)), draws(float(interval.low))


def search_best(
    problem: Problem,
    methods: Sequence[str],
    evaluations: int,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[float, Mapping[str, Any], dict[str, float]]:
    """The best design of several agents, each with ``evaluations`` simulator evaluations; (reward, design by name,
    the best reward of each)."""
    from archgym.agents import make_agent, search

    found: dict[str, float] = {}
    best, design = -np.inf, None
    for name in methods:
        result = search(problem, make_agent(name, problem, seed), evaluations)
        if result.best is None:
            continue
        found[name] = float(result.best.reward)
        if result.best.reward > best:
            best, design = float(result.best.reward), problem.space.decode(result.best.design)[0]
        if progress is not None:
            progress(f"{name} {result.best.reward:.6g}")
    if design is None:
        raise ArchGymError(f"none of {', '.join(methods)} evaluated a design of {problem.name}")
    return best, design, found


def measure(
    given: SuiteProblem,
    *,
    samples: int,
    seeds: int,
    methods: Sequence[str],
    evaluations: int,
    command: str = "",
    progress: Callable[[int], None] | None = None,
    on_method: Callable[[str], None] | None = None,
) -> SuiteProblem:
    """The problem with its measured part.

    Args:
        given: the problem; what was known of it before counts only where its best design is better.
        samples: uniform designs, over all seeds together.
        seeds: seeds of the uniform designs: 0, 1, ...
        methods: agents that search for the best design, where no exhaustive optimum ships with the simulator.
        evaluations: simulator evaluations of each of them; 0 keeps the best design known before.
        command: noted as where the best design comes from.
    """
    problem = replace(given, known=None).make()
    if given.scale == "hypervolume":
        return _measure_front(problem, given, samples // seeds, seeds, methods, evaluations, command)
    each = [uniform_rewards(problem, samples // seeds, seed, progress) for seed in range(seeds)]
    rewards = np.concatenate(each)
    feasible = rewards[np.isfinite(rewards)]
    if not len(feasible):
        raise ArchGymError(f"none of {len(rewards):,} uniform designs of {given.title} is feasible; draw more samples")
    best = _best(problem, given, methods, evaluations, command, on_method)
    judged = feasible if given.meets is None else feasible[feasible >= given.meets]
    if not len(judged):
        if given.scale != "log":
            raise ArchGymError(f"no uniform design of {given.title} meets its budgets; give the problem 'scale: log'")
        judged = feasible
    baseline = float(np.median(judged))
    level = threshold(given, best.reward, baseline)
    hits = int((rewards >= level).sum())
    draws, low, high = draws_for(hits, len(rewards))
    known = Known(
        workload=problem.workload.fingerprint,
        version=problem.simulator.version,
        baseline=baseline,
        quantiles={str(q): float(np.quantile(feasible, q)) for q in QUANTILES},
        feasible_share=len(feasible) / len(rewards),
        samples=len(rewards),
        seeds=seeds,
        draws=draws,
        draws_low=low,
        draws_high=high,
        best=best,
        settings=settings_digest(problem),
    )
    return replace(given, known=known)


def _measure_front(
    problem: Problem,
    given: SuiteProblem,
    samples: int,
    seeds: int,
    methods: Sequence[str],
    evaluations: int,
    command: str,
) -> SuiteProblem:
    """The measured part of a problem that asks for a front; ``samples`` a seed."""
    from archgym.agents import make_agent, search

    each = []
    for seed in range(seeds):
        designs = problem.space.sample(samples, np.random.default_rng(seed))
        each.append(problem.losses(problem.evaluate(designs, seed=seed)[0]))
    uniform = np.concatenate(each)
    fronts = {name: search(problem, make_agent(name, problem, 0), max(1, evaluations)).front for name in methods}
    everything = np.concatenate([uniform, *fronts.values()])
    corners = corners_of(problem, uniform, np.concatenate(list(fronts.values())))
    measured = box(problem, corners)

    def volume(losses: NDArray[np.float64]) -> float:
        return float(hypervolume(measured.place(losses), np.ones(losses.shape[1])))

    best = volume(everything)
    # The first draw after which each seed's front is within 1 % of the best one.
    reached = []
    for losses in each:
        near = np.flatnonzero(growth(measured.place(losses), losses.shape[1]) >= 0.99 * best)
        reached.append(float(near[0] + 1) if len(near) else np.inf)
    draws, low, high = _median_of(np.sort(reached), float(samples))
    known = Known(
        workload=problem.workload.fingerprint,
        version=problem.simulator.version,
        baseline=0.0,
        quantiles={},
        feasible_share=float(np.isfinite(uniform).all(axis=1).mean()),
        samples=len(uniform),
        seeds=seeds,
        draws=draws,
        draws_low=low,
        draws_high=high,
        best=Best(best, {}, False, evaluations, {name: volume(front) for name, front in fronts.items()}, command),
        corners=corners,
        settings=settings_digest(problem),
    )
    return replace(given, known=known)


def _median_of(reached: NDArray[np.float64], most: float) -> tuple[float, float, float | None]:
    """The median of sorted times, inf where one was not reached within ``most``, and its 95 % interval by order
    statistics; a lower bound and no upper end where the median lies beyond ``most``."""
    from scipy.stats import binom

    ranks = binom.ppf([0.025, 0.975], len(reached), 0.5).astype(int)
    low, high = reached[max(0, ranks[0] - 1)], reached[min(len(reached) - 1, ranks[1])]
    middle = float(np.median(reached))
    if not np.isfinite(middle):
        return most, min(float(low), most), None
    return middle, float(low), float(high) if np.isfinite(high) else None


def _best(
    problem: Problem,
    given: SuiteProblem,
    methods: Sequence[str],
    evaluations: int,
    command: str,
    on_method: Callable[[str], None] | None,
) -> Best:
    optimum = problem.optimum
    if optimum is not None and optimum.exhaustive:
        return Best(optimum.reward, dict(optimum.design), True, optimum.designs, {}, optimum.command)
    before = given.known.best if given.known is not None else None
    if before is not None:
        before = _here(problem, before)
    if optimum is not None:
        # The best that ships with the simulator, of searches of its own.
        shipped = Best(optimum.reward, dict(optimum.design), False, optimum.designs, {}, optimum.command)
        value = _here(problem, shipped)
        if value is not None and (before is None or value.reward > before.reward):
            kept = before.methods if before is not None else {}
            before = replace(value, methods={**kept, "shipped": value.reward})
    if evaluations:
        reward, design, found = search_best(problem, methods, evaluations, progress=on_method)
        if before is None or reward > before.reward:
            return Best(reward, design, False, evaluations, found, command)
        # Of each method; what ships was found with evaluations of its own.
        spent = max(evaluations, given.known.best.evaluations if given.known is not None else 0)
        return replace(before, evaluations=spent, methods={**before.methods, **found})
    if before is None:
        raise ArchGymError(f"no best design of {given.title} is known yet; give --evaluations")
    return before


def _here(problem: Problem, best: Best) -> Best | None:
    """A design found before may be of another version of the simulator: only its value here counts."""
    try:
        return replace(best, reward=float(problem.evaluate(problem.space.encode(best.design))[1][0]))
    except ArchGymError:
        return None


def take_over(problems: Sequence[SuiteProblem], other: Suite) -> list[SuiteProblem]:
    """The problems, with what ``other`` measured of those that it holds on the same scale."""

    def same(problem: SuiteProblem) -> tuple[Any, ...]:
        return (problem.key, problem.scale, problem.unit, problem.meets)

    known = {same(problem): problem.known for problem in other.problems}
    return [replace(problem, known=problem.known or known.get(same(problem))) for problem in problems]
