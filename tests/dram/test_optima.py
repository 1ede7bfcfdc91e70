"""The shipped optima: reached by their design, never beaten by others, and in line with their quantiles."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.problem import make_problem
from archgym.simulators.dram.traces import shipped_traces


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
@pytest.mark.parametrize("name", sorted(shipped_traces()))
def test_optimum(name: str, objective: str) -> None:
    problem = make_problem(f"dram/{name}", objective=objective)
    optimum = problem.optimum
    assert optimum is not None and optimum.exhaustive and optimum.designs == 1_769_472
    _, reached = problem.evaluate(problem.space.encode(optimum.design))
    assert reached[0] == optimum.reward == optimum.quantiles["1"]
    _, rewards = problem.evaluate(problem.space.sample(1500, 3))
    assert rewards.max() <= optimum.reward and rewards.min() >= optimum.quantiles["0"]
    assert np.median(rewards) == pytest.approx(optimum.quantiles["0.5"], abs=0.35)
