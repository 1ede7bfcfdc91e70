"""What a search found, in words and numbers that a direct evaluation gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import archgym
from archgym.account import account_for, without_effect
from archgym.cli import main
from archgym.simulators.dram.spaces import SPACES


def dram(**options):
    return archgym.make_problem("dram/sort", workload_options={"requests": 300}, **options)


def told(problem, design):
    evaluation, rewards = problem.evaluate(design)
    metrics = {name: float(column[0]) for name, column in evaluation.metrics.items()}
    return account_for(problem, design, float(rewards[0]), metrics, "ga"), float(rewards[0])


@pytest.mark.parametrize("space", SPACES)
def test_the_usual_controller_is_a_feasible_design_of_every_space(space):
    problem = dram(space=space)
    usual = problem.space.encode(problem.simulator.usual_design(problem.workload))
    assert problem.space.violations(usual)[0] == ""
    account, _ = told(problem, usual)
    assert "as good as the usual controller" in account.sentence and account.costs == {}


@pytest.mark.parametrize("objective", ["makespan", "edp", "energy_pj@total_time_ns<=1000000"])
def test_costs_are_those_of_a_direct_evaluation(objective):
    problem = dram(space="archgym", objective=objective)
    usual = problem.simulator.usual_design(problem.workload)
    designs = problem.space.sample(300, 3)
    best = designs[[int(np.argmax(problem.evaluate(designs)[1]))]]
    account, reward = told(problem, best)
    named, idle = problem.space.decode(best)[0], without_effect(problem, best)
    assert {n for n, v in account.design.items() if v is None} == set(idle)
    assert set(account.costs) == {n for n in named if named[n] != usual[n] and n not in idle}
    for name, loss in account.costs.items():
        back = problem.evaluate(problem.space.encode({**named, name: usual[name]}))[1][0]
        assert loss == reward - back
        if account.relative:
            assert float(account.cost(name).removesuffix(" %")) == pytest.approx(100 * np.expm1(loss), rel=0.051)
    better = reward > problem.evaluate(problem.space.encode(usual))[1][0]
    assert account.sentence.startswith("Against the usual controller") == better
    most = max(account.costs, key=account.costs.get)
    assert not better or account.costs[most] < 1e-3 or f"{most}={named[most]}" in account.sentence


def test_inactive_parameters_are_any():
    problem = dram(space="archgym")
    design = {**problem.simulator.usual_design(problem.workload), "RefreshPolicy": "NoRefresh", "Arbiter": "Simple"}
    row = problem.space.encode(design)
    assert set(without_effect(problem, row)) == {"RefreshMaxPostponed", "RefreshMaxPulledin", "MaxActiveTransactions"}
    account, _ = told(problem, row)
    assert account.design["RefreshMaxPulledin"] is None and set(account.costs) == {"RefreshPolicy"}


def test_a_narrowed_search_is_compared_with_the_usual_design_outside():
    problem = dram(fix={"PagePolicy": "Closed"})
    account, reward = told(problem, problem.space.sample(1, 0))
    whole = dram()
    assert account.usual["PagePolicy"] == "Open" and "PagePolicy" not in account.costs
    expected = whole.evaluate(whole.space.encode(account.usual))[0].metrics["total_time_ns"][0]
    assert account.usual_metrics["total_time_ns"] == expected


def test_without_a_usual_design_nothing_is_simulated(monkeypatch):
    problem = archgym.make_problem("synthetic/branin")
    design = problem.space.sample(1, 0)
    evaluation, rewards = problem.evaluate(design)
    monkeypatch.setattr(type(problem.simulator), "evaluate", None)
    metrics = {name: float(column[0]) for name, column in evaluation.metrics.items()}
    account = account_for(problem, design, float(rewards[0]), metrics, "ga")
    assert account.usual is None and account.sentence.startswith("ga found loss of ")


def test_run_tells_it_to_people_and_to_programs(tmp_path):
    command = ["run", "dram/sort", "-w", "requests=300", "--space", "archgym", "--agent", "random", "--budget", "30"]
    shown = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "a")])
    assert shown.exit_code == 0, shown.output
    found = json.loads((tmp_path / "a" / "run.json").read_text())["found"]
    assert found["sentence"] in shown.output and "the usual controller" in found["sentence"]
    assert found["usual"]["Scheduler"] == "FrFcfs"
    made = json.loads(CliRunner().invoke(main, [*command, "--out", str(tmp_path / "b"), "--json"]).stdout)
    assert made["found"] == found
