"""The one loop that runs agents: equal budgets, every trial on disk before the agent hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import Agent
from archgym.agents.tensorboard import ScalarLog
from archgym.errors import whole_number
from archgym.evaluator import Best, BudgetExhausted, Evaluator
from archgym.problem import Problem


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        problem, agent, seed: what ran.
        best: the best trial, None where nothing was evaluated.
        evaluations: simulator evaluations used.
        trials: evaluations and cached repeats.
        simulation_s, agent_s: seconds in the simulator and in everything else.
        regret: see :meth:`~archgym.problem.Optimum.regret_of`; None where no optimum is known.
        log: the shard, None without one.
        improvements: the anytime curve: (simulator evaluations, best reward from there on), one pair a new best.
        front: the Pareto front of what was evaluated, ``problem.losses`` rows; empty with fewer than two Pareto
            metrics.
        virtual_s: virtual seconds used; 0 where the simulator has no clock.
    """

    problem: Problem
    agent: Agent
    seed: int
    best: Best | None
    evaluations: int
    trials: int
    simulation_s: float
    agent_s: float
    log: Path | None
    improvements: tuple[tuple[int, float], ...] = ()
    front: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    virtual_s: float = 0.0

    @property
    def regret(self) -> float | None:
        optimum = self.problem.optimum
        if optimum is None or self.best is None:
            return None
        return optimum.regret_of(self.best.reward)


def search(
    problem: Problem,
    agent: Agent,
    budget: int | None,
    *,
    budget_seconds: float | None = None,
    seed: int | None = None,
    log: Path | str | None = None,
    resume: bool = False,
    batch: int = 1024,
    study: str = "",
    run: str = "",
    on_trials: Callable[[Evaluator], None] | None = None,
    tensorboard: Path | str | None = None,
    log_repeats: bool = False,
) -> RunResult:
    """Run an agent on a problem until the budget of simulator evaluations is used up.

    Args:
        problem: what is searched.
        agent: a fresh agent (a used one would not repeat).
        budget: simulator evaluations; None for no limit where there is one in seconds.
        budget_seconds: virtual seconds, see :class:`archgym.evaluator.Evaluator`.
        seed: what a noisy simulator is seeded with; the agent's seed where None.
        log: path of the run's shard; no log where None.
        resume: continue an interrupted shard, or a finished one with a larger budget, to the same result bit by bit as an
            uninterrupted run.
        batch: the most designs asked for at once; an agent may give fewer.
        study, run: names for the trials.
        on_trials: called after each batch, for progress.
        tensorboard: folder of the run's TensorBoard log; none where None. It does not change the run.
        log_repeats: log designs that the agent asked for before, too; otherwise they are counted only.
    """
    seed = agent.seed if seed is None else seed
    if budget is not None or budget_seconds is None:
        budget = whole_number("the budget", budget, "simulator evaluations")
    batch = whole_number("batch", batch, "designs")
    about = {"agent": agent.name, "hyperparameters": agent.p.as_dict(), "study": study, "run": run}
    if not agent.anytime:
        about["budget"] = budget
    start = time.perf_counter()
    # Before the shard: a missing library must not leave an empty one.
    scalars = ScalarLog(tensorboard, fresh=resume) if tensorboard is not None else None
    with Evaluator(
        problem,
        budget=budget,
        budget_seconds=budget_seconds,
        seed=seed,
        log=log,
        run=about,
        resume=resume,
        log_repeats=log_repeats,
    ) as evaluator:
        evaluator.on_trials = on_trials
        if scalars is not None:
            _log_scalars(agent, evaluator, scalars)
        try:
            if agent.drives:
                agent.drive(evaluator)
            else:
                ask_and_tell(agent, evaluator, batch)
        except BudgetExhausted:
            pass
        finally:
            agent.on_measured = None
            if scalars is not None:
                scalars.close(evaluator)
    seconds = time.perf_counter() - start
    return RunResult(
        problem, agent, seed, evaluator.best, evaluator.used, evaluator.trials, evaluator.simulation_s,
        seconds - evaluator.simulation_s, Path(log) if log is not None else None,
        tuple(evaluator.improvements), _front(problem, evaluator), evaluator.seconds,
    )  # fmt: skip


STALE = 1000
"""Trials over which an agent is watched for convergence."""

FRESH = 10
"""New designs among these without which it has converged."""


def ask_and_tell(agent: Agent, evaluator: Evaluator, batch: int = 1024) -> None:
    """Ask, evaluate, tell, until the run is over. An ask is never cut to what is left of the budget (the evaluator does
    that), so that an agent goes the same way under every budget. One that has converged is told to start anew."""
    trials, used = evaluator.trials, evaluator.used
    while not evaluator.exhausted:
        asked = agent.ask(batch)
        agent.tell(*evaluator.evaluate(asked, agent.parents))
        if evaluator.trials - trials >= STALE:
            if evaluator.used - used < FRESH:
                agent.restart()
            trials, used = evaluator.trials, evaluator.used


def _log_scalars(agent: Agent, evaluator: Evaluator, scalars: ScalarLog) -> None:
    """Send the scalars of a run to its log, after what already follows the run."""
    follow = evaluator.on_trials

    def on_trials(evaluator: Evaluator) -> None:
        if follow is not None:
            follow(evaluator)
        scalars.follow(evaluator)

    evaluator.on_trials = on_trials
    agent.on_measured = lambda measured: scalars.write(measured, evaluator.used)


def _front(problem: Problem, evaluator: Evaluator) -> NDArray[np.float64]:
    if len(problem.pareto_metrics) < 2:
        return np.empty((0, 0))
    evaluation, _ = evaluator.evaluated
    losses = problem.losses(evaluation)
    return non_dominated(losses[evaluation.feasible & np.isfinite(losses).all(axis=1)])


def non_dominated(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows ``(k, m)`` of ``losses`` ``(n, m)``, to be minimised, that no other row dominates; each once, sorted."""
    rows = np.unique(losses, axis=0)  # sorted by the first column: only earlier rows can dominate
    if rows.shape[1] == 2:
        least = np.minimum.accumulate(rows[:, 1])
        return rows[rows[:, 1] < np.concatenate([[np.inf], least[:-1]])]
    kept: list[NDArray[np.float64]] = []
    while len(rows):
        first, rows = rows[0], rows[1:]
        kept.append(first)
        rows = rows[(rows < first).any(axis=1)]
    return np.array(kept).reshape(-1, losses.shape[1])
