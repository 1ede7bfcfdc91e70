"""Contract checks over every registered agent."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.agents.base import load_agent
from archgym.errors import ArchGymError
from archgym.testing import check_agent


@pytest.mark.parametrize("name", ["random", "walk", "ga"])
def test_the_search_loop_reports_what_it_used(bowl, name):
    result = search(bowl, make_agent(name, bowl, 0), 100)
    assert result.evaluations == 100 and result.trials >= 100
    assert result.best.reward == bowl.evaluate(result.best.design)[1][0]
    assert result.regret is None and np.isfinite(result.simulation_s)


@pytest.mark.parametrize("name", ["random", "walk", "ga"])
def test_agents_keep_their_contract(bowl, name):
    check_agent(load_agent(name), bowl)


def test_hyperparameters_are_checked(bowl):
    with pytest.raises(ArchGymError, match="population is 1; expected 2..1024"):
        make_agent("ga", bowl, population=1)
    with pytest.raises(ArchGymError, match="did you mean 'population'"):
        make_agent("ga", bowl, populaton=8)
