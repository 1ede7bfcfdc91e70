"""The optima that the test functions claim are the optima."""

import json
from pathlib import Path

import numpy as np
import pytest

import archgym.simulators.synthetic as synthetic
from archgym.problem import make_problem, optimum_key
from archgym.simulators.synthetic.landscapes import (
    LANDSCAPES,
    deceptive,
    exact_front,
    packing,
    pareto,
    rugged,
    separable,
)
from archgym.testing import check_simulator


@pytest.mark.parametrize("name", LANDSCAPES)
def test_keeps_the_simulator_contract(name):
    check_simulator(synthetic.Synthetic(), LANDSCAPES[name])


@pytest.mark.parametrize("name", LANDSCAPES)
def test_the_shipped_optimum_is_that_of_the_landscape(name):
    problem = make_problem(f"synthetic/{name}")
    assert problem.optimum is not None, "run python tools/synthetic_optima.py"
    design = problem.space.encode(problem.optimum.design)
    assert problem.evaluate(design)[1][0] == pytest.approx(problem.optimum.reward, abs=1e-12)
    sample = problem.space.sample(20_000, 1)
    assert problem.evaluate(sample)[1].max() <= problem.optimum.reward


def test_the_table_holds_no_problem_that_is_gone():
    table = json.loads(Path(synthetic.__file__).with_name("optima.json").read_text())
    assert [row["problem"] for row in table] == [f"synthetic/{name}" for name in LANDSCAPES]
    assert all(row["workload"] == optimum_key(make_problem(row["problem"]))["workload"] for row in table)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [
    lambda seed: separable(4, 5, seed), lambda seed: rugged(7, 3, 2, seed), lambda seed: rugged(6, 3, 1, seed),
    lambda seed: deceptive(3, 4, seed), lambda seed: packing(5, 4, seed), lambda seed: pareto(4, 5, seed),
])  # fmt: skip
def test_small_landscapes_have_their_optimum_where_enumeration_finds_it(make, seed):
    landscape = make(seed)
    every = np.concatenate(list(landscape.space.batches()))
    feasible = landscape.space.violations(every) == ""
    assert landscape.space.violations(landscape.best[None])[0] == ""
    assert landscape.loss(landscape.best[None])[0] == pytest.approx(landscape.loss(every)[feasible].min(), abs=1e-12)


@pytest.mark.slow
def test_hartmann_by_enumeration():
    landscape = LANDSCAPES["hartmann6"]
    least = min(float(landscape.loss(rows).min()) for rows in landscape.space.batches())
    assert landscape.loss(landscape.best[None])[0] == least


def test_known_values_of_the_literature():
    # Optima of the continuous functions: Branin 0.397887, Hartmann -3.32237; a grid comes close and never below.
    branin = -make_problem("synthetic/branin").optimum.reward
    hartmann = -make_problem("synthetic/hartmann6").optimum.reward
    assert 0.397887 <= branin < 0.41 and -3.32237 <= hartmann < -3.2
    assert make_problem("synthetic/rastrigin").optimum.reward == pytest.approx(0, abs=1e-12)
    assert make_problem("synthetic/ackley").optimum.reward == pytest.approx(0, abs=1e-12)


def test_the_exact_front_is_the_front_of_the_whole_space():
    landscape = pareto(4, 5, seed=7)
    every = np.concatenate(list(landscape.space.batches()))
    points = np.stack([landscape.loss(every), landscape.effort(every)], axis=1)
    front = exact_front(landscape)
    dominated = (
        (front[None] <= points[:, None] + 1e-12).all(axis=2) & (front[None] < points[:, None] - 1e-12).any(axis=2)
    ).any(axis=1)
    assert len(np.unique(np.round(points[~dominated], 9), axis=0)) == len(front)
