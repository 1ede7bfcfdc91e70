"""Bayesian optimisation of several objectives: what the metrics look like to it, and the fronts that it finds."""

from __future__ import annotations

import numpy as np
import pytest

from archgym import make_problem
from archgym.agents import make_agent
from archgym.objective import PENALTY
from archgym.simulator import Evaluation
from archgym.simulators.synthetic.landscapes import LANDSCAPES, exact_front
from archgym.studies.statistics import hypervolume


@pytest.fixture
def problem():
    return make_problem("synthetic/pareto")


def told(problem, **hyperparameters):
    """An agent that knows two designs on a front, one behind it, and one of which nothing is known."""
    agent, designs = make_agent("parego", problem, 0, **hyperparameters), problem.space.sample(4, 0)
    evaluation, rewards = problem.evaluate(designs)
    names = [metric.name for metric in problem.pareto_metrics]
    given = {names[0]: np.exp([0.0, 1.0, 4.0, np.nan]), names[1]: np.exp([3.0, 1.0, 3.0, np.nan])}
    evaluation = Evaluation(given, np.array([True, True, True, False]), evaluation.violation)
    agent.learn(designs, evaluation, np.where(evaluation.feasible, rewards, PENALTY))
    return agent


def test_metrics_are_placed_between_the_least_and_the_front_s_largest(problem):
    agent = told(problem, reach="front")
    assert agent._placed() == pytest.approx(np.array([[0, 1], [1, 0], [4, 1], [4, 1]]))
    assert agent._weighted(np.array([0.5, 0.5])) == pytest.approx([-0.525, -0.525, -2.125, -2.125])
    assert agent._weighted(np.array([1.0, 0.0])) == pytest.approx([0, -1.05, -4.2, -4.2])


def test_or_the_median_of_the_first_designs_beyond_which_they_count_more(problem):
    agent = told(problem, initial=2)
    assert agent._placed() == pytest.approx(np.array([[0, 2], [2, 0], [8, 2], [8, 2]]))
    assert agent._weighted(np.array([1.0, 0.0])) == pytest.approx([-1, -2.1 - 1, -8.4 - 8, -8.4 - 8])


def missing(name, problem, seed, budget, **hyperparameters):
    """Share of the known front's volume that ``budget`` designs leave out."""
    agent, losses, used = make_agent(name, problem, seed, **hyperparameters), [], 0
    while used < budget:
        designs = agent.ask(budget - used)
        evaluation, rewards = problem.evaluate(designs)
        agent.tell(designs, evaluation, rewards)
        losses.append(problem.losses(evaluation))
        used += len(designs)
    corner = np.array([8.0, 8.0])
    return 1 - hypervolume(np.concatenate(losses), corner) / hypervolume(exact_front(LANDSCAPES["pareto"]), corner)


def test_it_finds_more_of_a_front_than_evolution(problem):
    left = {name: np.median([missing(name, problem, seed, 100) for seed in range(3)]) for name in ("parego", "nsga3")}
    assert left["parego"] < 0.7 * left["nsga3"]


def test_hypervolume_by_botorch_finds_more_of_a_front_than_evolution(problem):
    pytest.importorskip("botorch")
    found = missing("qnehvi", problem, 0, 20, initial=8, candidates=100)
    assert found < 0.9 * missing("nsga3", problem, 0, 20)
    assert found == missing("qnehvi", problem, 0, 20, initial=8, candidates=100)
