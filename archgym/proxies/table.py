"""The table of errors: how good proxies of given problems are at fixed training sizes, and on unseen workloads.

Every row is a proxy and a metric. Training designs are distinct uniform draws, test designs are uniform draws whose
canonical form is in no training set; both are drawn from the whole space, infeasible designs among them. A proxy learns
metrics from the feasible training designs and feasibility from all of them; errors, rank correlation and coverage are
over the test designs that are truly feasible, whatever the proxy says of their feasibility, and the share of test
designs whose feasibility is predicted right stands beside them.

Rows of the kind ``unseen`` are of proxies that learned from all other problems of the simulator, told apart by the
features of their workloads, and were asked about a workload that they never saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archgym.datasets.sampling import distinct
from archgym.errors import ArchGymError
from archgym.problem import Problem
from archgym.proxies.proxy import Proxy, TrainingData, fit, relative_rmse_percent
from archgym.proxies.training import (
    choose_metrics,
    evaluate,
    facts_of,
    from_evaluation,
    held_out,
    join,
    leave_one_workload_out,
    with_reach,
)
from archgym.simulator import Evaluation
from archgym.space import Designs
from archgym.writing import write_json, write_text

LEVEL_DESIGNS = 32
"""Simulated designs of an unseen workload from which ``rescaled_relative_rmse_percent`` takes one factor a metric."""

COLUMNS = {
    "problem": "problem",
    "metric": "metric",
    "training_designs": "training designs",
    "relative_rmse_percent": "RMSE, % of the mean",
    "mean_relative_error_percent": "mean error, %",
    "spread_percent": "spread, %",
    "kendall_tau": "tau",
    "coverage": "coverage, %",
    "feasible_share": "feasible, %",
    "feasibility": "feasibility right, %",
}
"""Columns of the printed table of seen workloads: key of a row -> heading."""
UNSEEN_COLUMNS = {
    "problem": "unseen workload",
    "metric": "metric",
    "training_designs": "training designs (others)",
    "relative_rmse_percent": "RMSE, % of the mean",
    "rescaled_relative_rmse_percent": "rescaled, %",
    "spread_percent": "spread, %",
    "kendall_tau": "tau",
}
_DIGITS = {
    "relative_rmse_percent": 3, "rescaled_relative_rmse_percent": 2, "mean_relative_error_percent": 2,
    "spread_percent": 1, "kendall_tau": 4,
}  # fmt: skip
_SHARES = ("coverage", "feasible_share", "feasibility")


def error_table(
    problems: Sequence[Problem],
    sizes: Sequence[int],
    *,
    test: int = 4000,
    metrics: Sequence[str] | None = None,
    model: str = "boosting",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    unseen: int = 0,
    reach: bool = True,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train proxies of each problem at each size and test them on the same held-out uniform designs.

    Args:
        problems: what to learn.
        sizes: distinct training designs; the smaller sets are the first designs of the largest.
        test: uniform test draws.
        metrics: names or patterns; the objective's and the Pareto view's where None.
        model, settings, seed: of the proxies.
        unseen: where positive, also train on so many designs of each problem but one, for each one in turn.
        reach: also learn from designs of which the simulator knows that the simulated ones answer for them.
        progress: called with a sentence at every step.

    Returns:
        ``{"rows": [...], "unseen_rows": [...]}`` and what they were made with; a row holds the keys of ``COLUMNS``
        (``UNSEEN_COLUMNS``), ``mean_relative_error_percent`` being the mean over designs of each one's own relative error and
        ``spread_percent`` the RMSE of a proxy that always answers with the mean.
    """
    say = progress or (lambda sentence: None)
    sizes = sorted({int(size) for size in sizes})
    if not sizes or sizes[0] < 20 or test < 2 or unseen < 0:
        raise ArchGymError("the table needs training sizes of at least 20 and at least 2 test designs")
    if unseen:
        _check_one_simulator(problems)
    rows: list[dict[str, Any]] = []
    parts: list[TrainingData] = []
    tests: list[tuple[Designs, Evaluation]] = []
    for problem in problems:
        chosen = choose_metrics(problem, metrics)
        most = max(sizes[-1], unseen)
        say(f"simulating {most} designs of {problem.name}")
        designs = distinct(problem.space, most, seed)
        start = time.perf_counter()
        evaluation = _simulate(problem, designs, seed)
        rate = len(designs) / (time.perf_counter() - start)
        data = from_evaluation(problem, designs, evaluation, [metric.name for metric in chosen])
        if reach:
            data = with_reach(problem, data)
        questions = held_out(problem, test, 1 + seed, data.designs)
        if not len(questions):
            raise ArchGymError(
                f"the training designs cover every test draw of {problem.name}; choose smaller sizes or more test draws"
            )
        truth = _simulate(problem, questions, seed)
        parts.append(data)
        tests.append((questions, truth))
        for size in sizes:
            if size > len(data):
                say(f"{problem.name} has {len(data)} distinct designs, less than {size}")
                continue
            say(f"training on {size} designs of {problem.name}")
            part = data.take(slice(0, size))
            proxy = fit(part, chosen, model=model, settings=settings, seed=seed, about=facts_of(problem))
            rows += [
                {**row, "training_designs": size, "simulated_designs_per_s": rate}
                for row in _rows_of(problem, proxy, part, questions, truth)
            ]
    apart: list[dict[str, Any]] = []
    if unseen:
        chosen = choose_metrics(problems[0], metrics)
        data = join([part.take(slice(0, unseen)) for part in parts])
        # A workload's label in the joined data is its own name, or unlike it where two workloads share theirs.
        for i, (workload, proxy) in enumerate(
            leave_one_workload_out(data, chosen, model=model, settings=settings, seed=seed)
        ):
            problem, (questions, truth) = problems[i], tests[i]
            say(f"trained without {problem.name}")
            said = proxy.means(questions, workload)
            apart += [
                {
                    "problem": problem.name, "metric": metric.name, "training_designs": proxy.about["designs"],
                    "test_designs": len(questions), **_unseen_errors(said[metric.name], truth.metrics[metric.name]),
                }
                for metric in chosen
            ]  # fmt: skip
    return {
        "problems": [problem.name for problem in problems],
        "sizes": sizes,
        "model": model,
        "settings": dict(settings or {}),
        "seed": seed,
        "test_draws": test,
        "unseen_designs_of_each": unseen,
        "reach": reach,
        "rows": rows,
        "unseen_rows": apart,
    }


def _rows_of(
    problem: Problem, proxy: Proxy, part: TrainingData, questions: Designs, truth: Evaluation
) -> list[dict[str, Any]]:
    """A row a metric of a proxy that learned from ``part``, tested on ``questions``."""
    found = evaluate(proxy, problem.workload, questions, truth)
    return [
        {
            "problem": problem.name, "metric": name, **row, "spread_percent": _spread_percent(truth.metrics[name]),
            "test_designs": len(questions), "feasible_share": float(truth.feasible.mean()),
            "feasible_training_designs": int(part.feasible.sum()), "feasibility": found["feasibility"],
            "training_s": proxy.about["training_s"],
        }
        for name, row in found["metrics"].items()
    ]  # fmt: skip


def _simulate(problem: Problem, designs: Designs, seed: int) -> Evaluation:
    return problem.simulator.evaluate(designs, problem.workload, fidelity=problem.fidelity, seed=seed)


def _check_one_simulator(problems: Sequence[Problem]) -> None:
    """Unseen workloads need one simulator, one space, and three workloads or more."""
    if len({problem.workload.fingerprint for problem in problems}) < max(3, len(problems)):
        raise ArchGymError("the error on unseen workloads needs at least three problems with different workloads")
    kinds = {
        (
            p.simulator.name,
            p.simulator.space_name,
            p.fidelity,
            str(p.simulator.settings),
            p.space.names,
            tuple(p.space.nvec),
        )
        for p in problems
    }
    if len(kinds) > 1:
        raise ArchGymError(
            "the error on unseen workloads needs problems of one simulator with one design space; these differ in "
            "simulator, space, fidelity or options"
        )


def _spread_percent(truth: Any) -> float:
    truth = truth[np.isfinite(truth)]
    return relative_rmse_percent(np.full(len(truth), truth.mean()), truth)


def _unseen_errors(guess: Any, truth: Any) -> dict[str, float]:
    """Errors on a workload that training never saw; ``rescaled`` with one factor from ``LEVEL_DESIGNS`` of the designs,
    which are then left out of the test."""
    from scipy.stats import kendalltau

    use = np.isfinite(truth)
    guess, truth = guess[use], truth[use]
    few, rest = slice(0, LEVEL_DESIGNS), slice(LEVEL_DESIGNS, None)
    rescaled = float("nan")
    if len(truth) > LEVEL_DESIGNS:
        rescaled = relative_rmse_percent(truth[few].mean() / guess[few].mean() * guess[rest], truth[rest])
    return {
        "relative_rmse_percent": relative_rmse_percent(guess, truth),
        "rescaled_relative_rmse_percent": rescaled,
        "spread_percent": _spread_percent(truth),
        "kendall_tau": float(kendalltau(guess[:5000], truth[:5000]).statistic),
    }


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[str]:
    """Rows as lines of a Markdown table."""

    def cell(row: Mapping[str, Any], key: str) -> str:
        value = row[key]
        if key in _SHARES:
            return f"{100 * value:.1f}"
        if key in _DIGITS:
            return f"{value:.{_DIGITS[key]}f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    lines = ["| " + " | ".join(columns.values()) + " |", "|" + " --- |" * len(columns)]
    return lines + ["| " + " | ".join(cell(row, key) for key in columns) + " |" for row in rows]


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Both tables as Markdown."""
    lines = markdown(result["rows"], COLUMNS)
    if result["unseen_rows"]:
        lines += ["", *markdown(result["unseen_rows"], UNSEEN_COLUMNS)]
    return lines


def write(result: Mapping[str, Any], out: Path) -> list[str]:
    """Write ``errors.json`` and ``errors.md`` into the folder ``out``; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    numbers, text = out / "errors.json", out / "errors.md"
    write_json(numbers, dict(result))
    write_text(text, "\n".join(lines_of(result)) + "\n")
    return [str(numbers), str(text)]
