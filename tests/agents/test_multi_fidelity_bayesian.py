"""Bayesian optimisation over fidelities: what an evaluation tells for its cost, and that lies are found out."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.agents.multi_fidelity_bayesian import LevelledGP, with_level
from archgym.problem import make_problem
from archgym.simulator import Evaluation
from tests import rungs


@pytest.fixture(scope="module")
def problem():
    with rungs.registered():
        yield make_problem("rungs/heavy")


class Lying(rungs.Rungs):
    """The same, whose cheaper fidelities say nothing of a design."""

    name = "lying"

    def evaluate(self, designs, workload, *, fidelity=None, seed=None):
        made = super().evaluate(designs, workload, fidelity=fidelity, seed=seed)
        if fidelity in ("ninth", "third"):
            weights = np.array([7, 31, 101, 211, 401])
            return Evaluation.build({"time_ns": 10.0 + (np.asarray(designs) @ weights * 7919 % 97)})
        return made


@pytest.fixture(scope="module")
def lying():
    with rungs.registered(Lying):
        yield make_problem("lying/heavy")


def test_what_an_evaluation_tells_is_what_the_model_believes_after_it(problem):
    space = problem.space
    model = LevelledGP(space, 3)
    designs = space.sample(40, 0)
    y = -((designs[:, :4] - 5.0) ** 2).sum(axis=1) / 20
    model.fit(np.concatenate([with_level(designs, 0), with_level(designs[:6], 2)]), np.concatenate([y, y[:6] + 0.2]))
    new = space.sample(5, 1)
    for level in (0, 1):
        share = model.explained(new, level)
        for k in range(len(new)):
            both = np.concatenate([with_level(new[k : k + 1], 2), with_level(new[k : k + 1], level)])
            _, before = model.predict(both)
            after = model.believe(1)
            assert share[k] == pytest.approx(1 - (after[0] / before[0]) ** 2, abs=1e-6)
    assert (model.explained(new, 1) > model.explained(designs[:5], 0)).all(), "what is known there tells nothing more"
    mean, _ = model.predict(new)
    assert np.array_equal(mean, model.predict(with_level(new, 2))[0]), "without a level they are in full"


def test_cheap_rewards_are_brought_to_the_scale_of_the_full_ones(problem):
    agent = make_agent("mfbo", problem, 0)
    designs = agent.ask(1000)
    assert agent.fidelity is None and len(designs) == 3
    full = 100 + 0.5 * designs.sum(axis=1)
    agent.tell(designs, problem.evaluate(designs)[0], full)
    more = agent.ask(1000)
    assert agent.fidelity == "ninth" and len(more) == 30 and np.array_equal(more[:3], designs)
    agent.tell(more, problem.evaluate(more, fidelity="ninth")[0], more.sum(axis=1).astype(float))
    found, cheap = agent._rewards[3:], more.sum(axis=1)
    assert np.array_equal(agent._rewards[:3], full) and np.corrcoef(found, cheap)[0, 1] == pytest.approx(1)
    slope = np.ptp(found) / np.ptp(cheap)
    assert 0.5 < slope < 1, "between what is seen at three designs and what is assumed"
    assert np.median(found[:3]) == pytest.approx(np.median(full))


def test_it_asks_less_of_fidelities_that_lie(problem, lying):
    def asked(problem, seed, budget):
        agent, spent, names = make_agent("mfbo", problem, seed), 0.0, []
        while spent < budget:
            designs = agent.ask(1000)
            spent += len(designs) * rungs.COSTS[agent.fidelity or "whole"]
            names += [agent.fidelity] * len(designs)
            agent.tell(designs, *problem.evaluate(designs, fidelity=agent.fidelity))
        return names

    share = []
    for where in (problem, lying):
        names = asked(where, 0, 30)
        costs = np.array([rungs.COSTS[name or "whole"] for name in names])
        share.append(costs[[name is not None for name in names]].sum() / costs.sum())
    assert 0 < share[1] < share[0] <= 0.5, share


def test_with_one_rung_all_is_evaluated_in_full(problem):
    result = search(problem, make_agent("mfbo", problem, 0, rungs=1), 24)
    assert result.evaluations == result.simulated == 24
    agent = make_agent("mfbo", problem, 0, rungs=1)
    assert len(agent.ask(1000)) == agent.p.initial


def test_it_finds_the_optimum_for_less_than_bo(problem):
    """Of a smooth landscape whose fidelities are a little off."""
    found = {
        name: np.mean([search(problem, make_agent(name, problem, seed), 14).best.reward for seed in range(4)])
        for name in ("mfbo", "bo")
    }
    assert found["mfbo"] > found["bo"]
