"""What a study says: tables with intervals, and which claims of the ArchGym paper hold in it.

Selection is kept apart from judgement: an agent's *tuned* setting is chosen by its results on one half of the seeds
and judged on the other half, so that having more settings to choose from is no advantage in itself.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote
from archgym.problem import Optimum
from archgym.studies.statistics import (
    Interval,
    anytime,
    checkpoints,
    hypervolume,
    lottery,
    normalised_regret,
    performance_profile,
    probability_of_improvement,
    ranks,
    stratified_interval,
)
from archgym.studies.store import Study
from archgym.writing import finite

UNTUNED = ("random", "sobol", "walk", "grid")
"""Agents that do not learn from rewards: baselines, not contestants of the lottery."""

INDIFFERENT = 0.02
"""Differences of normalised regret up to this much are called equal: 2 % of the way from a median random design to the
optimum."""


@dataclass(frozen=True)
class Run:
    """One finished run, reduced to what the statistics need."""

    problem: str
    agent: str
    setting: str
    hyperparameters: Mapping[str, Any]
    seed: int
    budget: int
    evaluations: int
    curve: Sequence[Sequence[float]]  # pairs (evaluations, best reward from there on)
    best: float
    agent_us: float
    simulation_s: float
    agent_s: float
    front: NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what this study says of it: ``holds``, ``does not hold`` or ``undecided``."""

    claim: str
    verdict: str
    evidence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


class Results:
    """The finished runs of a study.

    Args:
        records: as in ``results.jsonl``. Of an agent with several budgets on a problem (the study was continued with a
            larger one) the runs with the largest count.
        problems: the yardsticks, by problem key.
        name: of the study.
    """

    def __init__(
        self, records: Iterable[Mapping[str, Any]], problems: Mapping[str, Mapping[str, Any]], name: str = ""
    ) -> None:
        self.name = name
        runs = [_run(record) for record in records if record.get("best") is not None]
        if not runs:
            raise ArchGymError("the study has no finished runs yet; run it first")
        # Problems of a study may have a smaller budget than the others.
        largest: dict[tuple[str, str], int] = {}
        for run in runs:
            largest[run.problem, run.agent] = max(run.budget, largest.get((run.problem, run.agent), 0))
        self.runs = [run for run in runs if run.budget == largest[run.problem, run.agent]]
        self.problems = {key: dict(row) for key, row in problems.items()}
        self.keys = sorted({run.problem for run in self.runs})
        self.agents = sorted({run.agent for run in self.runs}, key=lambda a: (a in UNTUNED, a))
        self.budget = max(run.budget for run in self.runs)
        self._by: dict[tuple[str, str], dict[str, list[Run]]] = {}
        for run in sorted(self.runs, key=lambda r: r.seed):
            self._by.setdefault((run.problem, run.agent), {}).setdefault(run.setting, []).append(run)

    @classmethod
    def load(cls, folder: Path | str) -> Results:
        """The results in a study's folder."""
        study = Study(folder)
        if not study.holds_results:
            raise ArchGymError(f"{folder} holds no study (no results.jsonl); give the folder of 'archgym study run'")
        records = study.results()
        return cls(records, study.problems(), str(records[0].get("study", "")) if records else "")

    # --- regret ------------------------------------------------------------------------------------------------

    @cached_property
    def best_known(self) -> dict[str, float]:
        """Problem -> what regret is measured from: the known optimum, or the best reward of the whole study."""
        seen: dict[str, float] = {}
        for run in self.runs:
            seen[run.problem] = max(seen.get(run.problem, -np.inf), run.best)
        for key in self.keys:
            row = self.problems.get(key, {})
            if row.get("optimum") is not None:
                optimum = Optimum(row["optimum"], {}, bool(row.get("exhaustive")), 0)
                try:
                    optimum.regret_of(seen[key])
                except ArchGymError as error:
                    raise ArchGymError(f"{row.get('problem', key)} in problems.jsonl: {error}") from None
                seen[key] = max(seen[key], optimum.reward)
        return seen

    def regret(self, problem: str, rewards: Any) -> NDArray[np.float64]:
        """Normalised regrets of rewards on a problem."""
        baseline = self.problems.get(problem, {}).get("random_median")
        if baseline is None:  # left out: the worst run of the study stands in for a random design
            baseline = min((run.best for run in self.runs if run.problem == problem), default=float("nan"))
        return normalised_regret(rewards, self.best_known[problem], baseline)

    def final(self, runs: Sequence[Run], evaluations: int | None = None) -> NDArray[np.float64]:
        """Normalised regret of each run (all of one problem) at its end, or after so many evaluations."""
        rewards = [run.best if evaluations is None else float(anytime(run.curve, evaluations)) for run in runs]
        return self.regret(runs[0].problem, rewards) if runs else np.empty(0)

    def settings(self, problem: str, agent: str) -> dict[str, list[Run]]:
        """Setting -> its runs, by seed."""
        return self._by.get((problem, agent), {})

    # --- tuned agents ------------------------------------------------------------------------------------------

    def tuned(self, problem: str, agent: str, evaluations: int | None = None) -> tuple[str, list[Run]]:
        """The agent's best setting by the even-numbered seeds of the study, and its runs on the odd-numbered ones.

        With one seed there is nothing to hold out, and the chosen runs are judged as they are.
        """
        settings = self.settings(problem, agent)
        if not settings:
            return "", []
        # Settings compare fairly on seeds that all of them have been run with; a study that goes on may lack the last.
        by_setting = [{run.seed for run in runs} for runs in settings.values()]
        shared = set.intersection(*by_setting)
        seeds = sorted(shared if len(shared) > 1 else set.union(*by_setting))
        choose = set(seeds[::2]) if len(seeds) > 1 else set(seeds)
        judge = set(seeds[1::2]) if len(seeds) > 1 else choose
        full = {k: r for k, r in settings.items() if {run.seed for run in r} >= set(seeds)} or settings
        scores = {
            name: float(np.median(self.final([r for r in runs if r.seed in choose] or runs, evaluations)))
            for name, runs in full.items()
        }
        best = min(scores, key=lambda name: (scores[name], name))
        return best, [run for run in full[best] if run.seed in judge] or full[best]

    def tuned_scores(self, agent: str, evaluations: int | None = None) -> list[NDArray[np.float64]]:
        """Regrets of the tuned agent, one array a problem."""
        return [self.final(self.tuned(problem, agent, evaluations)[1], evaluations) for problem in self.keys]

    def all_scores(self, agent: str, evaluations: int | None = None) -> list[NDArray[np.float64]]:
        """Regrets of all runs of the agent, whatever its setting, one array a problem."""
        return [
            self.final([run for runs in self.settings(problem, agent).values() for run in runs], evaluations)
            for problem in self.keys
        ]

    # --- tables ------------------------------------------------------------------------------------------------

    def agent_table(self) -> list[dict[str, Any]]:
        """One row an agent: IQM of normalised regret over problems, tuned and untuned, with intervals; overhead."""
        rows = []
        for agent in self.agents:
            runs = [run for run in self.runs if run.agent == agent]
            rows.append(
                {
                    "agent": agent,
                    "settings": len({run.setting for run in runs}),
                    "runs": len(runs),
                    "budget": max(run.budget for run in runs),
                    "tuned_regret_iqm": stratified_interval(self.tuned_scores(agent)).as_list(),
                    "untuned_regret_iqm": stratified_interval(self.all_scores(agent)).as_list(),
                    "agent_us_per_evaluation": float(np.median([run.agent_us for run in runs])),
                }
            )
        return rows

    def problem_table(self) -> list[dict[str, Any]]:
        """One row a problem and agent: the tuned setting, its regret on held-out seeds, and the lottery."""
        rows = []
        for problem in self.keys:
            for agent in self.agents:
                settings = self.settings(problem, agent)
                if not settings:
                    continue
                name, held_out = self.tuned(problem, agent)
                regrets = self.final(held_out)
                medians = [float(np.median(self.final(runs))) for runs in settings.values()]
                rows.append(
                    {
                        "problem": problem,
                        "agent": agent,
                        "best_reward": max(run.best for runs in settings.values() for run in runs),
                        "tuned": dict(held_out[0].hyperparameters),
                        "tuned_setting": name,
                        "tuned_regret": stratified_interval([regrets], lambda v: np.median(v, axis=-1)).as_list(),
                        "held_out_seeds": len(held_out),
                        **{f"lottery_{key}": value for key, value in lottery(medians).items()},
                    }
                )
        return rows

    def curves(self, count: int = 30) -> dict[str, Any]:
        """Anytime curves: IQM of tuned and of untuned regret with intervals, at numbers of evaluations."""
        at = checkpoints(self.budget, count)
        result: dict[str, Any] = {"evaluations": at.tolist(), "agents": {}}
        for agent in self.agents:
            budget = max(run.budget for run in self.runs if run.agent == agent)
            tuned = [self.tuned(problem, agent)[1] for problem in self.keys]
            rows: dict[str, list[list[float]]] = {"tuned": [], "untuned": []}
            for n in at[at <= budget].tolist():
                rows["tuned"].append(
                    stratified_interval([self.final(runs, n) for runs in tuned if runs], resamples=400).as_list()
                )
                rows["untuned"].append(stratified_interval(self.all_scores(agent, n), resamples=200).as_list())
            result["agents"][agent] = rows
        return result

    def profiles(self) -> dict[str, Any]:
        """Performance profiles of the tuned agents: share of runs with at most a regret."""
        levels = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 40)])
        return {
            "regret": levels.tolist(),
            "agents": {agent: performance_profile(self.tuned_scores(agent), levels).tolist() for agent in self.agents},
        }

    def improvement_table(self) -> list[dict[str, Any]]:
        """Probability that the row's tuned agent beats the column's on a problem, over problems both ran on."""
        rows = []
        scores = {agent: self.tuned_scores(agent) for agent in self.agents}
        for a in self.agents:
            for b in self.agents:
                if a < b:
                    found = probability_of_improvement(scores[a], scores[b])
                    rows.append({"agent": a, "against": b, "probability": found.as_list()})
        return rows

    def rank_table(self) -> dict[str, Any]:
        """Mean ranks of the tuned agents that ran on every problem, with a test where there are ten problems or more."""
        scores = {agent: self.tuned_scores(agent) for agent in self.agents}
        whole = [agent for agent in self.agents if all(len(column) for column in scores[agent])]
        if not whole:
            return {"problems": len(self.keys), "mean_ranks": {}}
        table = np.array([[np.median(scores[agent][i]) for agent in whole] for i in range(len(self.keys))])
        return ranks(table, whole)

    def hypervolume_table(self) -> list[dict[str, Any]]:
        """One row a problem with several Pareto metrics and an agent: hypervolume of its runs' fronts as a share of
        that of all runs together. The reference point is the worst value of any front in each metric."""
        rows = []
        for problem in self.keys:
            runs = [run for run in self.runs if run.problem == problem and run.front.ndim == 2 and run.front.shape[0]]
            if not runs or runs[0].front.shape[1] < 2:
                continue
            if len({run.front.shape[1] for run in runs}) > 1:
                raise ArchGymError(f"the fronts of the runs on {quote(problem)} have different numbers of metrics")
            points = np.concatenate([run.front for run in runs])
            low, high = points.min(axis=0), points.max(axis=0)
            with np.errstate(over="ignore"):
                scale = np.where(high > low, high - low, 1.0)
            if not np.isfinite(scale).all():
                raise ArchGymError(f"the fronts of the runs on {quote(problem)} hold numbers that are too large")
            corner = np.full(points.shape[1], 1.1)
            whole = hypervolume((points - low) / scale, corner)
            for agent in self.agents:
                mine = [run for run in runs if run.agent == agent]
                if mine:
                    shares = [hypervolume((run.front - low) / scale, corner) / whole for run in mine]
                    found = stratified_interval([shares])
                    rows.append({"problem": problem, "agent": agent, "runs": len(mine), "share_iqm": found.as_list()})
        return rows

    # --- claims ------------------------------------------------------------------------------------------------

    @property
    def is_lottery(self) -> bool:
        """Whether at least two agents ran with four settings or more: what the claims of the paper are about."""
        return sum(len({run.setting for run in self.runs if run.agent == agent}) >= 4 for agent in self.agents) > 1

    def claims(self) -> list[Claim]:
        """What this study says of the claims in the abstract of the ArchGym paper."""
        made = [self._equally_favourable(), self._none_better(), self._lottery(), self._unlimited()]
        return [claim for claim in made if claim is not None]

    @cached_property
    def _contestants(self) -> list[str]:
        """Learning agents that ran on every problem."""
        return [
            agent
            for agent in self.agents
            if agent not in UNTUNED and all(self.settings(problem, agent) for problem in self.keys)
        ]

    @cached_property
    def _held_out(self) -> int:
        return min(
            (len(self.tuned(problem, agent)[1]) for problem in self.keys for agent in self._contestants), default=0
        )

    def _gap(self, evaluations: int | None = None) -> tuple[float, dict[str, Interval]]:
        scores = {agent: stratified_interval(self.tuned_scores(agent, evaluations)) for agent in self._contestants}
        values = [interval.value for interval in scores.values()]
        return max(values) - min(values), scores

    def _equally_favourable(self) -> Claim | None:
        text = "Tuned, all learning algorithms are equally favourable."
        if len(self._contestants) < 2:
            return None
        gap, scores = self._gap()
        order = sorted(scores, key=lambda agent: scores[agent].value)
        first, last = order[0], order[-1]
        shown = ", ".join(f"{agent} {scores[agent]}" for agent in order)
        apart = scores[first].high < scores[last].low
        if self._held_out < 3:
            verdict = "undecided"
        elif apart and gap > INDIFFERENT:
            verdict = "does not hold"
        elif (
            gap <= INDIFFERENT
            or max(s.high for s in scores.values()) - min(s.low for s in scores.values()) <= INDIFFERENT
        ):
            verdict = "holds"
        else:
            verdict = "undecided"
        evidence = (
            f"at {self._shared_budget} evaluations the tuned agents' IQM of normalised regret on held-out seeds is {shown}; "
            f"best and worst differ by {gap:.3g} (equal here means at most {INDIFFERENT})"
        )
        return Claim(text, verdict, evidence, {"gap": gap, "iqm": {a: s.as_list() for a, s in scores.items()}})

    @property
    def _shared_budget(self) -> str:
        budgets = sorted({run.budget for run in self.runs if run.agent in self._contestants})
        return " to ".join(map(str, dict.fromkeys((budgets[0], budgets[-1]))))

    def _none_better(self) -> Claim | None:
        text = "No algorithm is necessarily better than another."
        if len(self._contestants) < 2 or len(self.keys) < 2:
            return None
        winners: list[str] = []
        dominant = set(self._contestants)
        for problem in self.keys:
            regrets = {agent: self.final(self.tuned(problem, agent)[1]) for agent in self._contestants}
            medians = {agent: float(np.median(values)) for agent, values in regrets.items()}
            least = min(medians.values())
            winners += [agent for agent, median in medians.items() if median <= least]
            dominant &= {agent for agent, median in medians.items() if median <= least + INDIFFERENT}
        wins = dict(Counter(winners).most_common())
        shown = ", ".join(f"{agent} on {count}" for agent, count in wins.items())
        everywhere = sorted(dominant)
        better = [
            (a, b, found)
            for a in everywhere
            for b in self._contestants
            if a != b
            for found in [probability_of_improvement(self.tuned_scores(a), self.tuned_scores(b))]
            if found.low > 0.5
        ]
        if self._held_out < 3:
            verdict = "undecided"
        else:
            verdict = "does not hold" if better else "holds"
        among = (
            f"{', '.join(everywhere)} within {INDIFFERENT} of the best on every problem" if everywhere else
            f"no agent within {INDIFFERENT} of the best on every problem"
        )  # fmt: skip
        beaten = "; ".join(f"{a} beats {b} with probability {found}" for a, b, found in better[:6])
        evidence = f"best tuned agent by problem, ties counted for each: {shown} (of {len(self.keys)}); {among}" + (
            f"; {beaten}" if beaten else ""
        )
        return Claim(text, verdict, evidence, {"wins": wins, "everywhere_best": everywhere})

    def _lottery(self) -> Claim | None:
        text = "There is a hyperparameter lottery: the choice of hyperparameters decides as much as the algorithm."
        spreads, gaps, tickets = [], [], []
        for problem in self.keys:
            tuned = []
            for agent in self._contestants:
                settings = self.settings(problem, agent)
                if len(settings) < 4:
                    continue
                medians = [float(np.median(self.final(runs))) for runs in settings.values()]
                found = lottery(medians)
                spreads.append(found["full_spread"])
                tickets.append(found["tickets"])
                tuned.append(float(np.median(self.final(self.tuned(problem, agent)[1]))))
            if len(tuned) > 1:
                gaps.append(max(tuned) - min(tuned))
        if not spreads or not gaps:
            return None
        spread, gap, ticket = float(np.median(spreads)), float(np.median(gaps)), float(np.median(tickets))
        verdict = "holds" if spread > gap and spread > INDIFFERENT else "does not hold"
        evidence = (
            f"between its best and worst setting an agent's normalised regret spans {spread:.3g} (median over agents and "
            f"problems); between the best and worst tuned agent it spans {gap:.3g} (median over problems); "
            f"{ticket:.0%} of the settings come within 0.05 of their agent's best"
        )
        return Claim(text, verdict, evidence, {"setting_spread": spread, "agent_spread": gap, "tickets": ticket})

    def _unlimited(self) -> Claim | None:
        text = "With more samples the difference between the algorithms vanishes."
        if len(self._contestants) < 2:
            return None
        budget = min(
            max(run.budget for run in self.runs if run.agent == agent) for agent in self._contestants
        )  # a problem's own budget may be smaller: its runs keep their last
        at = sorted({max(1, budget // 10), max(1, budget // 3), budget})
        gaps = {n: self._gap(n)[0] for n in at}
        first, last = gaps[at[0]], gaps[at[-1]]
        if last <= INDIFFERENT:
            verdict = "holds"
        elif last < 0.5 * first:
            verdict = "undecided"
        else:
            verdict = "does not hold"
        shown = ", ".join(f"{gap:.3g} after {n}" for n, gap in gaps.items())
        tail = {
            "holds": "it has vanished",
            "undecided": "it shrinks, but has not vanished at this budget",
            "does not hold": "at this budget it has not halved",
        }[verdict]
        evidence = f"gap between the best and worst tuned agent's IQM of normalised regret: {shown} evaluations; {tail}"
        return Claim(text, verdict, evidence, {"gap": {str(n): gap for n, gap in gaps.items()}})

    # --- everything --------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        evaluations = sum(run.evaluations for run in self.runs)
        return {
            "study": self.name,
            "runs": len(self.runs),
            "evaluations": evaluations,
            "simulation_s": sum(run.simulation_s for run in self.runs),
            "agent_s": sum(run.agent_s for run in self.runs),
            "problems": {key: {**self.problems.get(key, {}), "best_known": self.best_known[key]} for key in self.keys},
            "agents": self.agent_table(),
            "by_problem": self.problem_table(),
            "improvement": self.improvement_table(),
            "ranks": self.rank_table(),
            "hypervolume": self.hypervolume_table(),
            "profiles": self.profiles(),
            "curves": self.curves(),
            # The claims are about a lottery: agents with many settings each.
            "claims": [asdict(claim) for claim in self.claims()] if self.is_lottery else [],
        }


def _run(record: Mapping[str, Any]) -> Run:
    evaluations = max(int(record["evaluations"]), 1)
    return Run(
        problem=record["problem_key"],
        agent=record["agent"],
        setting=f"{record['agent']}-{json.dumps(record['hyperparameters'], sort_keys=True)}",
        hyperparameters=record["hyperparameters"],
        seed=int(record["seed"]),
        budget=int(record["budget"]),
        evaluations=int(record["evaluations"]),
        curve=record["curve"],
        best=float(record["best"]),
        agent_us=1e6 * record["agent_s"] / evaluations,
        simulation_s=float(record["simulation_s"]),
        agent_s=float(record["agent_s"]),
        front=np.array(record.get("front") or [], dtype=np.float64),
    )


def write_tables(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``statistics.json`` and one CSV a table into ``folder``; intervals become three columns."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "statistics.json"
    path.write_text(json.dumps(finite(summary), indent=1) + "\n", encoding="utf-8")
    written = [path]
    for name in ("agents", "by_problem", "improvement", "hypervolume", "claims"):
        rows = [_flat(row) for row in summary[name]]
        if rows:
            path = folder / f"{name}.csv"
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
                writer.writeheader()
                writer.writerows(rows)
            written.append(path)
    return written


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, list) and len(value) == 3:
            flat |= {key: value[0], f"{key}_low": value[1], f"{key}_high": value[2]}
        elif isinstance(value, Mapping):
            flat[key] = json.dumps(value, sort_keys=True)
        else:
            flat[key] = value
    return flat
