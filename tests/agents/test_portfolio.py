"""The portfolio is Bayesian optimisation until the others join, and loses nothing by sharing."""

from __future__ import annotations

import numpy as np

from archgym.agents import make_agent
from archgym.problem import make_problem


def _asked(agent, problem, budget):
    """Generations, until they hold ``budget`` designs; the problem's rewards are told."""
    generations, known = [], 0
    while known < budget:
        designs = agent.ask(64)
        generations.append(designs)
        known += len(designs)
        agent.tell(designs, *problem.evaluate(designs))
    return generations


def test_the_first_designs_are_those_of_bo_and_then_all_take_turns():
    problem = make_problem("synthetic/packing")
    agent = make_agent("portfolio", problem, 3, alone=14, least=0.3)
    generations = _asked(agent, problem, 60)
    alone = np.concatenate(_asked(make_agent("bo", problem, 3), problem, 14))
    together = np.concatenate(generations)
    assert np.array_equal(together[: len(alone)], alone)
    # bo and re propose four a generation, ga eight.
    assert {4, 8} == {len(designs) for designs in generations[2:]}
    assert len(np.unique(problem.space.canonical(together), axis=0)) == len(together)
