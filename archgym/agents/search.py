"""The one loop that runs agents: equal budgets, every trial on disk before the agent hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import Searcher
from archgym.agents.tensorboard import ScalarLog
from archgym.errors import ArchGymError, quote, whole_number
from archgym.evaluator import Best, BudgetExhausted, Evaluator
from archgym.pareto import non_dominated
from archgym.problem import Problem


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        problem, agent, seed: what ran.
        best: the best trial, None where nothing was evaluated.
        evaluations: simulator evaluations used; of a run at several fidelities their cost, rounded up.
        trials: evaluations and cached repeats.
        simulation_s, agent_s: seconds in the simulator and in everything else.
        regret: see :meth:`~archgym.problem.Optimum.regret_of`; None where no optimum is known.
        log: the shard, None without one.
        improvements: the anytime curve: (simulator evaluations, best reward from there on), one pair a new best.
        front: the Pareto front of what was evaluated, ``problem.losses`` rows; empty with fewer than two Pareto
            metrics.
        cost: the same, not rounded.
        simulated: simulator evaluations, of whatever fidelity.
        virtual_s: virtual seconds used; 0 where the simulator has no clock.
        from_store: evaluations that a store answered.
    """

    problem: Problem
    agent: Searcher[Any]
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
    from_store: int = 0
    cost: float = 0.0
    simulated: int = 0

    @property
    def regret(self) -> float | None:
        optimum = self.problem.optimum
        if optimum is None or self.best is None:
            return None
        return optimum.regret_of(self.best.reward)


def search(
    problem: Problem,
    agent: Searcher[Any],
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
    earlier: Path | None = None,
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
        earlier: shard of the same run with a smaller budget, which a new shard starts with.
    """
    if not callable(getattr(agent, "run", None)):
        raise ArchGymError(f"the agent is {quote(agent)}; expected one of make_agent(name, problem)")
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
        earlier=earlier if agent.anytime else None,
        several_fidelities=agent.several_fidelities,
    ) as evaluator:
        evaluator.on_trials = on_trials
        if scalars is not None:
            _log_scalars(agent, evaluator, scalars)
        try:
            agent.run(evaluator, batch)
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
        tuple(evaluator.improvements), _front(problem, evaluator), evaluator.seconds, evaluator.from_store,
        evaluator.cost, evaluator.evaluations,
    )  # fmt: skip


def _log_scalars(agent: Searcher[Any], evaluator: Evaluator, scalars: ScalarLog) -> None:
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
