"""What guided diffusion is made of: an uninformed start, dependence between parameters, exact guidance, logged trials."""

import numpy as np
import pytest
from scipy.stats import chisquare

from archgym.agents import make_agent, search
from archgym.agents.collect import collect
from archgym.problem import Problem, make_problem
from archgym.simulators.synthetic import Landscape, Synthetic
from archgym.space import DesignSpace, Parameter

pytest.importorskip("torch")
from archgym.agents.torch_support import own_randomness


def problem_of(loss, sizes=(5, 5, 3)):
    space = DesignSpace([Parameter(f"x{j}", tuple(range(size))) for j, size in enumerate(sizes)])
    simulator = Synthetic()
    landscape = Landscape("test", "for a test", space, loss, np.zeros(space.dimension))
    return Problem("synthetic/test", simulator, landscape, simulator.objectives(landscape)["loss"])


def told(problem, designs, **settings):
    agent = make_agent("diffusion", problem, 0, **settings)
    agent.learn(designs, *problem.evaluate(designs))
    return agent


@pytest.mark.parametrize("kind", ["mask", "uniform"])
def test_an_untrained_network_draws_uniformly(kind):
    agent = make_agent("diffusion", problem_of(lambda designs: designs.sum(1)), 0, guidance=0.0, kind=kind)
    designs = agent.generate(3000)
    for column, size in zip(designs.T, (5, 5, 3), strict=True):
        assert chisquare(np.bincount(column, minlength=size)).pvalue > 1e-4


def test_learns_that_parameters_go_together():
    # All designs are equally good, and in all of them x0 = x1: no product of distributions is like that.
    problem = problem_of(lambda designs: np.zeros(len(designs)))
    designs = problem.space.sample(400, 0)
    designs[:, 1] = designs[:, 0]
    agent = make_agent("diffusion", problem, 0, guidance=0.0, steps=120)
    agent._designs, agent._rewards = designs, np.zeros(len(designs))
    with own_randomness():
        agent._train()
        drawn = agent.generate(600)
    assert (drawn[:, 0] == drawn[:, 1]).mean() >= 0.95
    assert len(np.unique(drawn[:, 0])) == 5


def test_strong_guidance_finds_the_best_of_what_is_predicted():
    problem = problem_of(lambda designs: (designs[:, 0] - 3) ** 2 + (designs[:, 1] - 1) ** 2 + designs[:, 2])
    agent = told(problem, problem.space.sample(400, 0), guidance=100.0, steps=60)
    with own_randomness():
        agent._train()
        drawn = agent.generate(30)
    everything = np.stack(np.unravel_index(np.arange(75), (5, 5, 3)), axis=1)
    fifth_best = np.sort(agent.predict(everything))[-5]
    assert np.mean(agent.predict(drawn) >= fifth_best - 1e-6) > 0.9


def test_finds_more_than_random_search():
    problem = make_problem("synthetic/rugged")
    regret = search(problem, make_agent("diffusion", problem, 0, steps=40), 300).regret
    assert regret < np.median([search(problem, make_agent("random", problem, s), 300).regret for s in range(5)])


def test_draws_for_an_unseen_workload_from_logged_trials_alone(tmp_path):
    for name in ("resnet50", "vgg16", "mobilenet_v2"):
        collect(make_problem(f"systolic/{name}"), tmp_path, count=1000)
    problem = make_problem("systolic/resnet18")
    agent = make_agent("diffusion", problem, 0, data=str(tmp_path), offline=True, steps=60)
    drawn = agent.ask(32)
    rewards = problem.evaluate(drawn)[1]
    assert np.median(rewards) > np.quantile(problem.evaluate(problem.space.sample(2000, 0))[1], 0.9)
