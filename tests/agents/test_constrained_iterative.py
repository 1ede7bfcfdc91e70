"""The perceptron's gradients, and a search that keeps a budget because it predicts the budgeted metric."""

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.agents.perceptron import Perceptron, diff_kendall, squared
from archgym.problem import make_problem


@pytest.mark.parametrize("loss", [squared, diff_kendall])
def test_gradients_are_those_of_the_loss(loss):
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))

    def value(o):
        if loss is squared:
            return ((o - targets) ** 2).mean()
        n, slope = len(o), np.tanh((o[:, None] - o[None]) / 0.5)
        return -(slope * np.sign(targets[:, None] - targets[None])).sum() / (n * (n - 1))

    numeric = np.empty_like(outputs)
    for i in np.ndindex(*outputs.shape):
        step = np.zeros_like(outputs)
        step[i] = 1e-6
        numeric[i] = (value(outputs + step) - value(outputs - step)) / 2e-6
    np.testing.assert_allclose(loss(outputs, targets), numeric, atol=1e-7)


def test_a_perceptron_learns_what_no_line_has():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2))
    y = (x[:, :1] * x[:, 1:] > 0) * 2.0 - 1.0
    network = Perceptron([2, 16, 16, 1], rng)
    network.train(x, y, 300, rng, rate=1e-2)
    assert (np.sign(network(x)) == y).mean() > 0.9, "a line has half of them"


def test_finds_good_cells_within_a_budget_that_is_a_metric():
    problem = make_problem("nas/nb201-mnist1d", objective="accuracy_percent@macs<=50000")
    agent = make_agent("cio", problem, 0, initial=40, batch=20, candidates=1000, members=1, steps=60)
    asked = []
    learn = agent.learn
    agent.learn = lambda designs, evaluation, rewards: (asked.append(evaluation), learn(designs, evaluation, rewards))
    found = search(problem, agent, 100)
    kept = [(part.metrics["macs"] <= 50000).mean() for part in asked]
    assert kept[0] < 0.6 and np.mean(kept[1:]) > 0.9, "after the first fit it proposes what keeps the budget"
    assert (
        found.best is not None
        and found.best.reward > search(problem, make_agent("random", problem, 0), 100).best.reward - 0.01
    )
