"""The shipped optima: found by the problems they belong to, reached by their design, and never beaten."""

from __future__ import annotations

import inspect
import json
import shlex
from pathlib import Path

import pytest

from archgym.cli import enumerate_
from archgym.problem import Problem, make_problem
from archgym.problem_cli import chosen_problem
from archgym.registry import SIMULATORS

ROWS = [
    pytest.param(row, id=f"{row['problem']}-{row['space']}-{row['objective']}")
    for name in SIMULATORS
    if (path := Path(inspect.getfile(SIMULATORS.load(name))).with_name("optima.json")).is_file()
    for row in json.loads(path.read_text(encoding="utf-8"))
]


def problem_of(row) -> Problem:
    """The problem that a row's command makes, with the row's objective."""
    program, *arguments = shlex.split(row["command"])
    if program == "python":
        assert (Path(__file__).parents[2] / arguments[0]).is_file()
        return make_problem(row["problem"], objective=row["objective"], space=row["space"], fidelity=row["fidelity"])
    given = enumerate_.make_context("enumerate", arguments[1:]).params
    assert row["objective"] in given.pop("objectives").split(",")
    about = {name: value for name, value in given.items() if name in inspect.signature(chosen_problem).parameters}
    return chosen_problem(given["problem_name"], **{**about, "objective": row["objective"]})


@pytest.mark.parametrize("row", ROWS)
def test_an_optimum_is_found_reached_and_not_beaten(row):
    problem = problem_of(row)
    assert (problem.name, problem.simulator.space_name) == (row["problem"], row["space"])
    optimum = problem.optimum
    assert optimum is not None, "no problem finds this row: it belongs to another version or another workload"
    _, reached = problem.evaluate(problem.space.encode(optimum.design))
    assert reached[0] == optimum.reward
    _, rewards = problem.evaluate(problem.space.sample(64, 5))
    assert rewards.max() <= optimum.reward
    if optimum.quantiles:
        assert optimum.quantiles["1"] == optimum.reward and rewards.min() >= optimum.quantiles["0"]
        assert optimum.quantiles["0.01"] <= sorted(rewards)[32] <= optimum.quantiles["0.999"]
