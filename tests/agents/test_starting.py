"""Agents that use what they know of a space: first generations that fill it, children that are new and allowed."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.agents import make_agent
from archgym.agents.base import hyperparameter_ranges
from archgym.agents.starting import allowed, first_designs
from archgym.problem import make_problem
from archgym.registry import AGENTS
from archgym.space import Constraint, DesignSpace, Parameter

INFORMED = [name for name in ("ga", "nsga2", "nsga3", "re", "aco", "sa", "local") if name in AGENTS]


def test_first_designs_take_all_values_evenly():
    space = DesignSpace([Parameter(f"p{j}", tuple(range(j + 1))) for j in range(8)])
    designs = first_designs(space, 840, np.random.default_rng(0))
    for j, column in enumerate(designs.T):
        assert np.bincount(column).tolist() == [840 // (j + 1)] * (j + 1)


def test_first_designs_keep_a_constraint_that_few_keep():
    space = make_problem("synthetic/packing").space
    designs = first_designs(space, 50, np.random.default_rng(0))
    assert designs.shape == (50, space.dimension) and (space.violations(designs) == "").all()


@pytest.mark.parametrize("second", [3, 100])
def test_allowed_designs_are_those_that_break_no_constraint(second):
    rules = [Constraint("a", "", lambda x: x[:, 0] > 1), Constraint("b", "", lambda x: x[:, 1] < x[:, 0] + second)]
    space = DesignSpace([Parameter("p", tuple(range(4))), Parameter("q", tuple(range(9)))], rules)
    designs = space.sample(200, 0)
    assert allowed(space, designs).tolist() == (space.violations(designs) == "").tolist()
    assert 0 < allowed(space, designs).sum() < 200


@pytest.mark.parametrize("problem", ["synthetic/packing", "systolic/vgg16", "soc/audio_decoder"])
@pytest.mark.parametrize("name", INFORMED)
def test_informed_agents_propose_what_is_new_and_allowed(name, problem):
    made = make_problem(problem)
    assert hyperparameter_ranges(name)["informed"]["default"] is True
    agent, canonical = make_agent(name, made, 1), []
    while sum(map(len, canonical)) < 300:
        designs = agent.ask(64)
        assert (made.space.violations(designs) == "").mean() > 0.98  # (it gives up after some tries)
        canonical.append(made.space.canonical(designs))
        agent.tell(designs, *made.evaluate(designs))
    tried = np.concatenate(canonical)
    # (Local search goes through neighbourhoods, which overlap.)
    assert len(np.unique(tried, axis=0)) >= (0.4 if name == "local" else 0.98) * len(tried)


@pytest.mark.parametrize("name", INFORMED)
def test_uninformed_agents_draw_uniformly(name):
    problem = make_problem("synthetic/packing")
    designs = make_agent(name, problem, 0, informed=False).ask(64)
    assert (problem.space.violations(designs) != "").any()
