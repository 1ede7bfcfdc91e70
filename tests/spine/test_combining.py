"""Several workloads at once: what each alone gives, their mean and the worst of them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import archgym
from archgym.agents import make_agent, search
from archgym.combining import CombinedWorkload
from archgym.datasets import read_trials
from archgym.errors import ArchGymError
from archgym.problem import optimum_key
from archgym.registry import SIMULATORS
from archgym.simulator import Simulator

NAMES = ("resnet18", "alexnet_torchvision", "mobilenet_v2")
SINGLE = {name: archgym.make_problem(f"systolic/{name}", objective="edp") for name in NAMES}


@pytest.fixture(scope="module")
def designs():
    return SINGLE["resnet18"].space.sample(200, 0)


@pytest.mark.parametrize(
    "text, weights", [("+".join(NAMES), (1, 1, 1)), ("2*resnet18+0.5*alexnet_torchvision+mobilenet_v2", (2, 0.5, 1))]
)
def test_rewards_are_the_mean_or_the_worst_of_the_single_ones(designs, text, weights) -> None:
    single = {name: problem.evaluate(designs) for name, problem in SINGLE.items()}
    feasible = np.all([evaluation.feasible for evaluation, _ in single.values()], axis=0)
    assert 0 < feasible.sum() < len(designs)
    table = np.stack([rewards for _, rewards in single.values()])[:, feasible]
    share = np.array(weights) / sum(weights)
    for objective, expected in (("edp", share @ table), ("mean:edp", share @ table), ("worst:edp", table.min(axis=0))):
        evaluation, rewards = archgym.make_problem(f"systolic/{text}", objective=objective).evaluate(designs)
        np.testing.assert_array_equal(evaluation.feasible, feasible)
        np.testing.assert_allclose(rewards[feasible], expected, rtol=1e-12)
        assert (rewards[~feasible] < rewards[feasible].min()).all()
    for name, (own, _) in single.items():
        for metric, column in own.metrics.items():
            np.testing.assert_array_equal(evaluation.metrics[f"{metric}.{name}"][feasible], column[feasible])
    mean = share @ np.stack([own.metrics["latency_cycles"] for own, _ in single.values()])
    np.testing.assert_allclose(evaluation.metrics["latency_cycles"][feasible], mean[feasible])


def test_an_equal_problem_is_made_from_its_options() -> None:
    problem = archgym.make_problem(
        "systolic/resnet18+alexnet_torchvision", objective="worst:edp", fix={"dataflow": "ws"}
    )
    again = archgym.make_problem(problem.name, **json.loads(json.dumps(problem.options)))
    assert optimum_key(again) == optimum_key(problem) and problem.optimum is None
    assert again.objective.name == "worst:edp"
    assert (
        problem.workload.fingerprint
        != archgym.make_problem("systolic/2*resnet18+alexnet_torchvision").workload.fingerprint
    )


def test_it_is_searched_and_logged(tmp_path) -> None:
    problem = archgym.make_problem("systolic/resnet18+alexnet_torchvision")
    result = search(problem, make_agent("ga", problem, 0), 40, log=tmp_path / "trials.arrows")
    table = read_trials(tmp_path)
    assert result.evaluations == 40 and "latency_cycles.resnet18" in table.column_names
    assert problem.pareto_metrics


def test_a_budget_holds_for_every_workload() -> None:
    problem = archgym.make_problem(
        "systolic/resnet18+alexnet_torchvision", objective="worst:edp@latency_cycles<=1000000"
    )
    designs = problem.space.sample(300, 1)
    evaluation, rewards = problem.evaluate(designs)
    met = evaluation.feasible & np.all(
        [evaluation.metrics[f"latency_cycles.{n}"] <= 1e6 for n in ("resnet18", "alexnet_torchvision")], axis=0
    )
    assert met.any() and (rewards[met] >= -9).all() and (rewards[~met] < -9).all()


@pytest.mark.parametrize("name", SIMULATORS)
def test_groups_of_workloads_split(name: str) -> None:
    simulator = SIMULATORS.load(name)()
    groups = simulator.workload_groups()
    assert set(groups["train"]) | set(groups["test"]) == set(groups["all"])
    assert not set(groups["train"]) & set(groups["test"])
    if type(simulator).live is not Simulator.live:
        assert all(simulator.live(simulator.load_workload(workload)) is None for workload in groups["all"])


@pytest.mark.parametrize(
    "name, word",
    [
        ("systolic/resnet18+", "empty part"),
        ("systolic/resnet18+resnet18", "twice"),
        ("systolic/0*resnet18+vgg16", "weighs"),
        ("systolic/resnet18+resnet19", "resnet18"),
        ("mapping/resnet18-2+alexnet-0", "different design spaces"),
    ],
)
def test_what_cannot_be_combined_is_a_sentence(name: str, word: str) -> None:
    with pytest.raises(ArchGymError, match=word):
        archgym.make_problem(name)


def test_the_simulators_own_combinations_stay_its_own() -> None:
    problem = archgym.make_problem("soc/audio_decoder+edge_detection")
    assert not isinstance(problem.workload, CombinedWorkload)


def test_it_pickles() -> None:
    problem = archgym.make_problem("synthetic/separable+pareto")
    design = problem.space.sample(2, 0)
    again = pickle.loads(pickle.dumps(problem))
    np.testing.assert_array_equal(again.evaluate(design)[1], problem.evaluate(design)[1])
