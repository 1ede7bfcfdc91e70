"""What parameters are worth: over the space, around a design, and whether an objective tells designs apart at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.problem import Problem, make_problem
from archgym.sensitivity import alike_sentence, one_change, told_apart, total_effects


@pytest.fixture(scope="module")
def systolic() -> Problem:
    return make_problem("systolic/resnet18")


def test_total_effects_are_those_of_the_whole_space() -> None:
    problem = make_problem("synthetic/separable")
    effects = total_effects(problem, 4096)
    assert effects is not None and effects.designs == 4096 // 9
    # Without interactions the total index is the share of the variance that the parameter explains, here from 20,000 draws.
    designs = problem.space.sample(20_000, 1)
    rewards = problem.evaluate(designs)[1]
    for j, name in enumerate(problem.space.names):
        means = np.array([rewards[designs[:, j] == i].mean() for i in range(problem.space.nvec[j])])
        assert effects.shares[name] == pytest.approx(means.var() / rewards.var(), abs=0.06), name
    assert sum(effects.shares.values()) == pytest.approx(1, abs=0.15)
    assert total_effects(problem, 4096) == effects
    assert total_effects(problem, 20) is None


def test_a_parameter_without_effect_has_none_and_counts_no_simulation() -> None:
    # A limit of transactions under an arbiter that has none.
    problem = make_problem(
        "dram/sort",
        objective="energy",
        fix={"Arbiter": "Simple", "RefreshPolicy": "AllBank"},
        workload_options={"requests": 300},
    )
    effects = total_effects(problem, 400)
    assert effects is not None and effects.shares["MaxActiveTransactions"] == 0.0
    assert "Arbiter" not in effects.shares and effects.evaluations < 400
    best = problem.space.sample(1, 3)
    changes = one_change(problem, best)
    assert changes is not None
    limit = next(change for change in changes if change.parameter == "MaxActiveTransactions")
    assert limit.value is None and set(limit.costs.values()) == {0.0} and len(limit.costs) == 7


def test_changes_are_what_evaluating_says(systolic: Problem) -> None:
    optimum = systolic.optimum
    assert optimum is not None
    row = systolic.space.encode(dict(optimum.design))
    changes = one_change(systolic, row)
    assert changes is not None and [c.parameter for c in changes] != list(systolic.space.names)
    assert sum(len(change.costs) for change in changes) == sum(len(p) - 1 for p in systolic.space.parameters)
    for change in changes:
        assert change.cheapest is not None and change.dearest is not None
        assert 0 <= change.cheapest[1] <= change.dearest[1]
        value, cost = change.dearest
        other = systolic.space.encode({**optimum.design, change.parameter: value})
        assert cost == optimum.reward - systolic.evaluate(other)[1][0]
    cheapest = [change.cheapest[1] for change in changes if change.cheapest is not None]
    assert cheapest == sorted(cheapest, reverse=True)


def test_infeasible_values_cost_nan(systolic: Problem) -> None:
    rng = np.random.default_rng(0)
    seen = []
    for row in systolic.space.sample(50, rng, feasible=True):
        for change in one_change(systolic, row) or ():
            for value, cost in change.costs.items():
                other = systolic.space.encode({**systolic.space.decode(row)[0], change.parameter: value})
                assert np.isnan(cost) == (systolic.space.violations(other)[0] != "")
                seen.append(np.isnan(cost))
    assert any(seen) and not all(seen)


@pytest.fixture
def slow_trace(tmp_path: Path) -> str:
    """Requests so far apart that every memory keeps up, and a burst at their end: the makespan is that of the trace."""
    path = tmp_path / "slow.stl"
    times = [100_000 * i for i in range(56)] + [5_600_000] * 8
    path.write_text("".join(f"{at}:\tread\t{hex(64 * 977 * i)}\n" for i, at in enumerate(times)))
    return f"dram/file:{path}"


def test_an_objective_that_tells_nothing_apart_is_named(slow_trace: str, tmp_path: Path) -> None:
    problem = make_problem(slow_trace, objective="makespan")
    rewards = problem.evaluate(problem.space.sample(64, 0))[1]
    assert 0 < np.ptp(rewards) and not told_apart(problem, rewards)
    assert told_apart(make_problem(slow_trace, objective="energy"), np.linspace(0, 1, 64))
    assert total_effects(problem, 1000) is None
    command = ["run", slow_trace, "--objective", "makespan", "--agent", "random", "--budget", "40"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0 and "The objective makespan does not tell these designs apart" in result.stdout
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "json"), "--json"])
    assert json.loads(result.stdout)["told_apart"] is False
    command[3] = "read_latency"
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "latency"), "--json"])
    assert json.loads(result.stdout)["told_apart"] is True


def test_the_spread_that_counts_is_relative_to_what_a_reward_is() -> None:
    logarithm, plain = make_problem("systolic/resnet18"), make_problem("synthetic/branin")
    flat = np.full(100, 0.25) + np.linspace(0, 1e-6, 100)
    assert not told_apart(logarithm, flat) and told_apart(logarithm, flat[:10]) and not told_apart(plain, flat)
    tiny = np.linspace(1e-9, 2e-9, 100)
    assert told_apart(plain, tiny) and not told_apart(logarithm, tiny) and not told_apart(plain, np.zeros(100))
    assert "does not tell" in alike_sentence(plain) and "0.1 %" in alike_sentence(plain)
