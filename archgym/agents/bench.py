"""Benchmark of the agents: what they cost themselves, without simulator, cache and log (``archgym bench agents``)."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from archgym.agents.base import Agent, load_agent
from archgym.agents.bayesian import BayesianHyperparameters, BayesianOptimization
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.measure import Figure
from archgym.problem import Problem, make_problem

QUICK = (
    "random",
    "sobol",
    "grid",
    "walk",
    "local",
    "sa",
    "re",
    "aco",
    "ga",
    "nsga2",
    "nsga3",
    "reinforce",
    "ppo-fast",
    "mcts",
)
"""Agents that are measured a simulator evaluation; those that fit models are measured a suggestion."""

PROBLEM = "synthetic/rugged"
EVALUATIONS = 4096
BATCH = 1024
REPEATS = 5


def bench(threads: int) -> Iterable[Figure]:
    """The figures: ``us_per_evaluation/<agent>`` (the best of five runs of 4,096 evaluations, asks of up to 1,024) and
    ``seconds_per_suggestion/bo@500``, ``@1000`` (with so many trials known, by the batch that the agent suggests by default)."""
    import numba  # noqa: F401 (which most simulators load, and with it agents use compiled code)

    problem = make_problem(PROBLEM)
    for name in QUICK:
        cls = load_agent(name)
        assert issubclass(cls, Agent)  # all of QUICK speak ask/tell
        seconds = min(agent_seconds(cls(problem, seed), EVALUATIONS) for seed in range(REPEATS))
        yield Figure(f"us_per_evaluation/{name}", 1e6 * seconds / EVALUATIONS, "us", threads)
    for surrogate, known in (("mixed", 500), ("mixed", 1000), ("gp", 500), ("forest", 500)):
        label = "bo" if surrogate == "mixed" else f"bo-{surrogate}"
        figure = f"seconds_per_suggestion/{label}@{known}"
        yield Figure(figure, seconds_per_suggestion(problem, surrogate, known), "s", threads)


def agent_seconds(agent: Agent[Any], budget: int) -> float:
    """Processor seconds in ask and tell over a run with the given budget."""
    evaluator = Evaluator(agent.problem, budget=budget, seed=agent.seed)
    spent = 0.0
    while not evaluator.exhausted:
        start = time.process_time()
        designs = agent.ask(BATCH)
        spent += time.process_time() - start
        try:
            told = evaluator.evaluate(designs)
        except BudgetExhausted:
            break
        start = time.process_time()
        agent.tell(*told)
        spent += time.process_time() - start
    return spent


def seconds_per_suggestion(problem: Problem, surrogate: str, known: int, fits: int = 10) -> float:
    """Mean processor seconds a suggestion of Bayesian optimisation that knows ``known`` trials, over ``fits`` fits in a row
    (the first of which fits the kernel's hyperparameters)."""
    agent = BayesianOptimization(problem, 0, BayesianHyperparameters(surrogate=surrogate))
    designs = np.unique(problem.space.sample(known + 50, 0), axis=0)[:known]
    agent.learn(designs, *problem.evaluate(designs))
    start, suggestions = time.process_time(), 0
    for _ in range(fits):
        asked = agent.ask(BATCH)
        suggestions += len(asked)
        agent.tell(asked, *problem.evaluate(asked))
    return (time.process_time() - start) / suggestions
