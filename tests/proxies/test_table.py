"""The table of errors, on held-out designs and on unseen workloads."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from toy import FAST, SPACE, Toy, ToyWorkload

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.proxies.cli import proxy as group
from archgym.proxies.proxy import relative_rmse_percent
from archgym.proxies.table import LEVEL_DESIGNS, error_table
from archgym.proxies.training import held_out, train_on_problem

LOADS = {"light": 1.0, "medium": 2.0, "heavy": 3.0, "full": 4.0}


@pytest.fixture
def workloads(monkeypatch):
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(Toy, "workloads", lambda self: {name: ToyWorkload(name, load) for name, load in LOADS.items()})
    return [make_problem(f"toy/{name}") for name in LOADS]


def test_rows_are_what_the_proxies_say(problem):
    found = error_table([problem], [60, 200], test=500, settings=FAST, metrics=["time_ns"])
    small, large = found["rows"]
    assert (small["training_designs"], large["training_designs"]) == (60, 200)
    assert large["relative_rmse_percent"] < small["relative_rmse_percent"] < small["spread_percent"]
    proxy = train_on_problem(problem, 200, metrics=["time_ns"], settings=FAST)
    test = held_out(problem, 500, 1, proxy.training.designs)
    truth = problem.simulator.evaluate(test, problem.workload)
    y = truth.metrics["time_ns"][truth.feasible]
    guess = proxy.means(test, problem.workload)["time_ns"][truth.feasible]
    assert large["relative_rmse_percent"] == relative_rmse_percent(guess, y)
    assert np.isclose(large["spread_percent"], 100 * y.std() / y.mean())
    assert large["feasible_share"] == truth.feasible.mean() < 1 and large["feasibility"] == 1.0
    assert large["feasible_training_designs"] < 200


def test_unseen_workloads(workloads):
    found = error_table(workloads, [100], test=400, settings=FAST, metrics=["time_ns"], unseen=100)
    rows = {row["problem"].split("/")[1]: row for row in found["unseen_rows"]}
    assert list(rows) == list(LOADS)
    for name, row in rows.items():
        seen = next(r for r in found["rows"] if r["problem"] == f"toy/{name}")
        # Time grows with the load alone: trees take the level of a neighbour, one factor repairs it, ranks are right.
        assert row["relative_rmse_percent"] > 20 > row["rescaled_relative_rmse_percent"]
        assert row["relative_rmse_percent"] > seen["relative_rmse_percent"]
        assert row["kendall_tau"] > 0.8
        feasible = sum(SPACE.violations(SPACE.sample(4000, 0)) == "") / 4000
        assert abs(row["training_designs"] / 300 - feasible) < 0.1  # three workloads, feasible designs


def test_the_factor_comes_from_designs_that_are_not_tested():
    from archgym.proxies.table import _unseen_errors

    truth = np.concatenate([np.full(LEVEL_DESIGNS, 4.0), np.full(10, 2.0)])
    found = _unseen_errors(np.full(len(truth), 1.0), truth)
    assert found["rescaled_relative_rmse_percent"] == 100.0
    assert np.isnan(_unseen_errors(np.ones(5), np.arange(1.0, 6.0))["rescaled_relative_rmse_percent"])


def test_bad_questions_are_refused(problem, workloads):
    with pytest.raises(ArchGymError, match="at least 20"):
        error_table([problem], [5])
    with pytest.raises(ArchGymError, match="three problems"):
        error_table([problem], [50], unseen=50)
    with pytest.raises(ArchGymError, match="three problems"):
        error_table([workloads[0], workloads[0], workloads[1]], [50], unseen=50)
    other = make_problem("synthetic/branin")
    with pytest.raises(ArchGymError, match="one design space"):
        error_table([*workloads, other], [50], unseen=50)


def test_command(workloads, tmp_path):
    fast = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    names = [problem.name for problem in workloads]
    arguments = ["table", *names, "--sizes", "40,80", "--test", "200", "--unseen", "50", "--metric", "*_n[sj]", *fast]
    result = CliRunner().invoke(group, [*arguments, "--out", str(tmp_path / "t"), "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert len(found["rows"]) == 2 * len(names) and {row["metric"] for row in found["rows"]} == {"time_ns"}
    assert len(found["unseen_rows"]) == len(names)
    assert json.loads((tmp_path / "t" / "errors.json").read_text())["rows"] == found["rows"]
    text = (tmp_path / "t" / "errors.md").read_text().splitlines()
    assert len({line.count("|") for line in text[: 2 + len(found["rows"])]}) == 1
    plain = CliRunner().invoke(group, [*arguments])
    assert plain.stdout.splitlines() == text
