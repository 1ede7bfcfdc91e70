"""A policy that blows up or converges ends its learning, not its run."""

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


class Counted(sb3_agents.PPO):
    policies = 0

    def model(self, env, seed, total_steps):
        self.policies += 1
        return super().model(env, seed, total_steps)


@pytest.mark.parametrize("restart", [True, False])
def test_a_converged_policy_is_followed_by_another_unless_told_not_to(restart):
    problem = make_problem("synthetic/separable")
    hyperparameters = sb3_agents.PPOHyperparameters(learning_rate=0.02, epochs=8, entropy=0.0, restart=restart)
    agent = Counted(problem, 0, hyperparameters)
    result = search(problem, agent, 400)
    assert result.evaluations == 400
    assert (agent.policies > 1) is restart
