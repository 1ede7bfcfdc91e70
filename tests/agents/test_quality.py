"""Agents find more than uniform random search does, on problems with known optima."""

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.problem import make_problem

PROBLEMS = ("separable", "rugged", "hartmann6", "rastrigin")
BASELINES = {"random", "sobol", "grid", "walk"}


def median_regret(agent, name, budget, seeds=7, **hyperparameters):
    problem = make_problem(f"synthetic/{name}")
    regrets = [
        search(problem, make_agent(agent, problem, seed, **hyperparameters), budget).regret for seed in range(seeds)
    ]
    assert min(regrets) >= -1e-9
    return float(np.median(regrets))


@pytest.fixture(scope="module")
def random_regret():
    return {name: median_regret("random", name, 1000, seeds=11) for name in PROBLEMS}


@pytest.mark.parametrize("agent", ["local", "sa", "ga", "nsga2", "re", "aco", "reinforce", "mcts"])
def test_beats_random_at_1000_evaluations(agent, random_regret):
    budget = 500 if agent == "mcts" else 1000  # (it takes longer than the others, and does not need them all)
    won = [name for name in PROBLEMS if median_regret(agent, name, budget) < random_regret[name]]
    assert len(won) >= 3, won


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "hyperparameters"),
    [("bo", {"batch": 8}), ("bo", {"surrogate": "forest", "batch": 8}), ("tpe", {}), ("cmaes", {})],
)
def test_model_based_agents_beat_random_with_a_fifth_of_its_budget(agent, hyperparameters, random_regret):
    if agent in ("tpe", "cmaes"):
        pytest.importorskip("optuna")
    # Its runs spread more than those of the others: a median of three depends on the processor's rounding.
    seeds = 6 if agent == "tpe" else 3
    names = ("separable",) if agent == "tpe" else ("separable", "rastrigin")  # (it is slow, and Optuna's)
    for name in names:
        assert median_regret(agent, name, 200, seeds=seeds, **hyperparameters) < random_regret[name], name


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_a_search_for_fronts_covers_the_known_one(name):
    from archgym.simulators.synthetic.landscapes import LANDSCAPES, exact_front
    from archgym.studies.statistics import hypervolume

    problem = make_problem("synthetic/pareto")
    agent, losses = make_agent(name, problem, 0, reward="never"), []
    for _ in range(60):
        designs = agent.ask(64)
        evaluation, rewards = problem.evaluate(designs)
        agent.tell(designs, evaluation, rewards)
        losses.append(problem.losses(evaluation))
    front = exact_front(LANDSCAPES["pareto"])
    reference = np.array([8.0, 8.0])
    share = hypervolume(np.concatenate(losses), reference) / hypervolume(front, reference)
    uniform = problem.losses(problem.evaluate(problem.space.sample(60 * 48, 0))[0])
    assert hypervolume(uniform, reference) / hypervolume(front, reference) < share <= 1 + 1e-12
    assert share > 0.9
