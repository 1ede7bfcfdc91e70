"""What a study says of the hyperparameter lottery on the problems of a suite, on the suite's own scale.

A study measures regret from the best that it has seen itself, which flatters all of its agents alike. A suite knows better: its
best designs took far more evaluations, and a problem with budgets has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.studies.store import Study
from archgym.studies.summary import Results
from archgym.suites.scale import normalised
from archgym.suites.suite import Suite, SuiteProblem


class SuiteResults(Results):
    """The finished runs of a study on problems of a suite, as :class:`archgym.studies.summary.Results` has them, with the
    suite's normalised regret.

    Args:
        suite: the suite, measured.
        records: as in ``results.jsonl``; those of other problems are left out.
        name: of the study.
    """

    def __init__(self, suite: Suite, records: Iterable[Mapping[str, Any]], name: str = "") -> None:
        self.scales: dict[str, SuiteProblem] = {
            problem.key: problem for problem in suite.problems if problem.scale != "hypervolume"
        }
        mine = [record for record in records if record["problem_key"] in self.scales]
        if not mine:
            raise ArchGymError(f"the study has no finished run on a problem of the suite {suite.name} with a reward")
        super().__init__(mine, {}, name)

    @cached_property
    def best_known(self) -> dict[str, float]:
        """Problem -> reward of the suite's best known design."""
        return {key: problem.known.best.reward for key, problem in self.scales.items() if problem.known is not None}

    def regret(self, problem: str, rewards: Any) -> NDArray[np.float64]:
        """Normalised regrets of rewards on a problem, on the suite's scale."""
        return normalised(self.scales[problem], rewards)


def judge(suite: Suite, folder: Path | str) -> dict[str, Any]:
    """The claims of the ArchGym paper in a study, over all problems of the suite and on each alone, JSON-able.

    Args:
        suite: the suite, measured.
        folder: of the study.

    Returns:
        ``suite``, ``study``, ``runs``, ``seeds``; ``agents``: as :meth:`Results.agent_table`; ``claims``: over all problems;
        ``problems``: a row each with ``title``, ``tuned`` (agent -> median regret of its tuned setting on held-out seeds) and
        ``claims``, without the one that needs several problems.

    Raises:
        ArchGymError: no study, or none of its runs are on problems of the suite.
    """
    study = Study(folder)
    if not study.holds_results:
        raise ArchGymError(f"{folder} holds no study (no results.jsonl); give the folder of 'archgym study run'")
    records = study.results()
    name = str(records[0].get("study", "")) if records else ""
    results = SuiteResults(suite, records, name)
    problems = []
    for key in results.keys:
        alone = SuiteResults(suite, [record for record in records if record["problem_key"] == key])
        tuned = {agent: float(np.median(alone.tuned_scores(agent)[0])) for agent in alone.agents}
        problems.append(
            {
                "problem": key,
                "title": results.scales[key].title,
                "budget": alone.budget,
                "tuned": tuned,
                "claims": _claims(alone),
            }
        )
    return {
        "suite": suite.name,
        "study": name,
        "runs": len(results.runs),
        "seeds": len({run.seed for run in results.runs}),
        "agents": results.agent_table(),
        "claims": _claims(results),
        "problems": problems,
    }


def _claims(results: Results) -> list[dict[str, Any]]:
    return [asdict(claim) for claim in results.claims()]
