"""What the verified runs of an entry amount to: normalised regret at the suite's budgets, with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.studies.statistics import anytime, performance_profile, ranks, stratified_interval
from archgym.suites.scale import normalised
from archgym.suites.suite import Suite
from archgym.suites.verify import Verified

PROFILE = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Levels of normalised regret of the performance profile."""
REDRAWN = 400
"""Times that runs are drawn again for the interval of a ratio of costs."""


def regrets(suite: Suite, verified: Verified, at: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Problem key -> normalised regret ``(runs, len(at))`` after so many evaluations; a run that ended before keeps
    its last."""
    result: dict[str, list[NDArray[np.float64]]] = {problem.key: [] for problem in suite.problems}
    for run in verified.runs:
        result[run.problem.key].append(normalised(run.problem, anytime(run.curve, np.asarray(at))))
    return {key: np.array(rows).reshape(-1, len(at)) for key, rows in result.items()}


def met(suite: Suite, verified: Verified, at: int) -> dict[str, float]:
    """Problem key -> share of runs that meet every budget after ``at`` evaluations, of the problems that have some."""
    result = {}
    for problem in suite.problems:
        if problem.meets is not None:
            runs = [run for run in verified.runs if run.problem.key == problem.key]
            best = [float(anytime(run.curve, [at])[0]) for run in runs]
            result[problem.key] = float(np.mean([reward >= problem.meets for reward in best])) if best else float("nan")
    return result


def score(suite: Suite, verified: Verified) -> dict[str, Any]:
    """The score of an entry, JSON-able.

    Returns:
        suite, version, agent, holds; ``outside``: whether something else than an agent of archgym searched; ``packed``: whether
        only its improvements are there, so that nothing but the entry says after how many evaluations they came; ``budgets``:
        those of the suite that the entry's runs reach; ``score``: the interquartile mean of normalised regret over all
        problems and runs at the largest of them, ``[value, low, high]`` (stratified bootstrap, 95 %); ``at``: the same
        at every one; ``profile``: share of runs within each level of regret; ``problems``: median, quartiles and the
        share that meets the budgets, a problem and budget; ``agent_us_per_evaluation``.
    """
    budgets = verified.entry.budgets(suite)
    columns = regrets(suite, verified, budgets)
    at: dict[str, Any] = {}
    for position, budget in enumerate(budgets):
        cells = [rows[:, position] for rows in columns.values() if len(rows)]
        at[str(budget)] = stratified_interval(cells).as_list()
    last = [rows[:, -1] for rows in columns.values() if len(rows)]
    shares = performance_profile(last, PROFILE)
    agent_s = np.array([run.agent_s for run in verified.runs])
    evaluations = np.array([run.evaluations for run in verified.runs], dtype=np.float64)
    timed = np.isfinite(agent_s)
    meeting = {str(budget): met(suite, verified, budget) for budget in budgets}
    problems = {}
    for problem in suite.problems:
        rows = columns[problem.key]
        problems[problem.key] = {
            "title": problem.title,
            "runs": len(rows),
            "regret": {
                str(budget): np.quantile(rows[:, i], [0.5, 0.25, 0.75]).tolist() if len(rows) else None
                for i, budget in enumerate(budgets)
            },
            "meets": {budget: shares_met.get(problem.key) for budget, shares_met in meeting.items()}
            if problem.meets is not None
            else None,
        }
    return {
        "suite": suite.name,
        "version": suite.version,
        "agent": verified.entry.name,
        "outside": verified.entry.outside,
        "packed": verified.packed,
        "holds": verified.holds,
        "runs": len(verified.runs),
        "budgets": list(budgets),
        "score": at[str(budgets[-1])],
        "at": at,
        "profile": {str(level): float(share) for level, share in zip(PROFILE, shares, strict=True)},
        "agent_us_per_evaluation": float(1e6 * agent_s[timed].sum() / evaluations[timed].sum())
        if timed.any()
        else None,
        "problems": problems,
    }


def mean_ranks(suite: Suite, entries: Mapping[str, Verified], budget: int) -> dict[str, Any]:
    """Mean rank of every entry over the problems, by median regret at ``budget``, with Friedman's test where there
    are enough problems; see :func:`archgym.studies.statistics.ranks`."""
    table = []
    each = {name: regrets(suite, verified, [budget]) for name, verified in entries.items()}
    for problem in suite.problems:
        cells = [columns[problem.key] for columns in each.values()]
        if all(len(cell) for cell in cells):
            table.append([float(np.median(cell)) for cell in cells])
    return ranks(np.array(table), list(entries)) if table else {"problems": 0, "mean_ranks": {}}


def pairs_told_apart(suite: Suite, entries: Mapping[str, Verified], budget: int) -> dict[str, tuple[int, int]]:
    """Problem key -> pairs of entries whose regrets at ``budget`` differ (Mann and Whitney's test, two-sided, p < 0.05, not
    corrected: it grades the problem, not the agents), and pairs in all."""
    from scipy.stats import mannwhitneyu

    each = {name: regrets(suite, verified, [budget]) for name, verified in entries.items()}
    result = {}
    for problem in suite.problems:
        columns = [columns[problem.key][:, 0] for columns in each.values() if len(columns[problem.key]) > 1]
        pairs = list(itertools.combinations(columns, 2))
        apart = sum(bool(mannwhitneyu(a, b).pvalue < 0.05) for a, b in pairs if np.ptp(np.concatenate([a, b])) > 0)
        result[problem.key] = (apart, len(pairs))
    return result


def cost_to_match(suite: Suite, entry: Verified, other: Verified, at: int | None = None) -> list[dict[str, Any]]:
    """What an entry needs to be as good as another one after ``at`` evaluations (the end where None or beyond it): of each
    problem that both have runs of, JSON-able.

    Returns:
        ``title``; ``budget``: those evaluations; ``other``: the median of the other's normalised regret then; ``half``: the
        median of this entry's at half of them; ``needs``: the evaluations after which it is no larger than ``other``, None
        where it never is; ``other_needs``: those after which the other's own was there; ``ratio``: of the first to the
        second, where the entry never is that of the most evaluations, 2 at least; ``ratios``: the same of runs drawn again,
        ``REDRAWN`` times.
    """
    rows = []
    most = min(entry.entry.budgets(suite)[-1], other.entry.budgets(suite)[-1])
    every = np.arange(1, most + 1)
    mine, theirs = (regrets(suite, verified, every.tolist()) for verified in (entry, other))
    rng = np.random.default_rng(0)
    for problem in suite.problems:
        last = min(most, problem.budget or most)
        budget = min(last, at or last)
        ours, others = mine[problem.key][:, :last], theirs[problem.key][:, :last]
        if not len(ours) or not len(others):
            continue
        level, needs, own, ratio = _needed(np.median(ours, axis=0), np.median(others, axis=0), budget)
        ratios = []
        for _ in range(REDRAWN):
            medians = [np.median(runs[rng.integers(0, len(runs), len(runs))], axis=0) for runs in (ours, others)]
            ratios.append(_needed(medians[0], medians[1], budget)[-1])
        rows.append(
            {
                "title": problem.title,
                "budget": budget,
                "other": level,
                "half": float(np.median(ours[:, budget // 2 - 1])) if budget > 1 else None,
                "needs": needs,
                "other_needs": own,
                "ratio": ratio,
                "ratios": ratios,
            }
        )
    return rows


def _needed(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], budget: int
) -> tuple[float, int | None, int, float]:
    """Their regret after ``budget`` evaluations, the evaluations after which each of the two is there, and the ratio."""
    level = float(theirs[budget - 1])
    own = int(np.flatnonzero(theirs <= level)[0]) + 1
    reached = np.flatnonzero(ours <= level)
    if not len(reached):
        return level, None, own, max(2.0, len(ours) / own)
    needs = int(reached[0]) + 1
    return level, needs, own, needs / own


def mean_ratio(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Geometric mean of the ratios of :func:`cost_to_match` over the problems, with its 95 % interval by runs drawn again."""
    drawn = np.exp(np.log([row["ratios"] for row in rows]).mean(axis=0))
    mean = float(np.exp(np.mean(np.log([row["ratio"] for row in rows]))))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return mean, float(low), float(high)
