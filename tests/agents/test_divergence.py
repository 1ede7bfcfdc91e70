"""A policy that blows up ends its learning, not its run."""

from __future__ import annotations

import pytest

from archgym import make_problem
from archgym.agents import search

torch = pytest.importorskip("torch")
sb3_agents = pytest.importorskip("archgym.agents.sb3_agents")


class BlownUp(sb3_agents.PPO):
    def model(self, env, seed, total_steps):
        model = super().model(env, seed, total_steps)
        with torch.no_grad():
            next(model.policy.parameters()).fill_(float("nan"))
        return model


class Broken(sb3_agents.PPO):
    def model(self, env, seed, total_steps):
        model = super().model(env, seed, total_steps)

        def learn(*args, **kwargs):
            raise ValueError("another fault")

        model.learn = learn
        return model


def test_what_a_diverged_policy_leaves_of_the_budget_is_used():
    problem = make_problem("synthetic/rugged")
    result = search(problem, BlownUp(problem, 0), 100)
    assert result.evaluations == 100 and result.best is not None


def test_other_faults_are_not_hidden():
    problem = make_problem("synthetic/rugged")
    with pytest.raises(ValueError, match="another fault"):
        search(problem, Broken(problem, 0), 100)
