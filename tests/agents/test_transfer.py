"""Transfer finds with a handful of simulations what other workloads know."""

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.agents.collect import collect
from archgym.agents.transfer import siblings
from archgym.errors import ArchGymError
from archgym.problem import make_problem


def test_finds_the_best_of_its_pool_within_twenty_simulations(capsys):
    problem = make_problem("systolic/resnet18")
    for seed in range(3):
        agent = make_agent("transfer", problem, seed, pool=1000, moves=False, most=6)
        result = search(problem, agent, 20)
        rewards = problem.evaluate(agent._pool)[1]
        assert result.best.reward == rewards.max()
        assert (rewards == rewards.max()).sum() == 1, (
            "twenty uniform draws would find one of a thousand once in fifty times"
        )
    assert "1,000 designs on 6 other workloads first: 6,000 evaluations beyond the budget" in capsys.readouterr().err


def test_siblings_ask_the_same_question_of_other_workloads():
    problem = make_problem("systolic/resnet18", objective="energy")
    others = siblings(problem)
    assert len(others) > 10
    assert {other.objective.name for other in others} == {"energy"}
    assert problem.name not in {other.name for other in others}
    assert all(other.space.names == problem.space.names for other in others)


def test_problems_without_siblings_are_searched_all_the_same(capsys):
    problem = make_problem("synthetic/branin")
    assert not siblings(problem)
    regret = search(problem, make_agent("transfer", problem, 0), 60).regret
    assert regret < problem.optimum.reward - problem.evaluate(problem.space.sample(60, 0))[1].mean()
    assert not capsys.readouterr().err


def test_learns_from_logged_trials_of_other_workloads(tmp_path, capsys):
    for name in ("resnet50", "vgg16", "mobilenet_v2"):
        collect(make_problem(f"systolic/{name}"), tmp_path, count=1500)
    problem = make_problem("systolic/resnet18")
    agent = make_agent("transfer", problem, 0, data=str(tmp_path), pool=1000)
    reward = search(problem, agent, 10).best.reward
    uniform = [problem.evaluate(problem.space.sample(100, seed))[1].max() for seed in range(5)]
    assert reward > np.median(uniform), "ten simulations beat a hundred uniform ones"
    assert not capsys.readouterr().err, "nothing is simulated beyond the budget"
    with pytest.raises(ArchGymError, match="holds no trials of dram on other workloads"):
        search(make_problem("dram/gzip"), make_agent("transfer", make_problem("dram/gzip"), data=str(tmp_path)), 5)
