"""Objectives: direction, finiteness, budgets that punish on one side only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.objective import (
    Budget,
    Budgets,
    Constrained,
    InverseCost,
    LogRatio,
    RelativeImprovement,
    TargetOverGap,
    Term,
    Value,
)
from archgym.problem import make_problem
from archgym.simulator import Evaluation, Metric
from archgym.testing import check_objective

_columns = st.lists(st.floats(1e-30, 1e30), min_size=2, max_size=20)


def _evaluation(**columns):
    return Evaluation.build({name: np.array(column, dtype=float) for name, column in columns.items()})


OBJECTIVES = [
    LogRatio([Term("t", 2.0)]),
    LogRatio([Term("t", 2.0), Term("e", 3.0, weight=0.5)]),
    LogRatio([Term("t", 1.0, sign=-1.0)]),
    Value(Metric("t", "ns", "min"), worst=-1e31),
    Budgets([Budget("t", 5.0), Budget("e", 2.0)], worst=-1e32),
    Budgets([Budget("t", 5.0)], tie=LogRatio([Term("e", 1.0)]), worst=-1e32),
    Constrained(LogRatio([Term("e", 1.0)]), [Budget("t", 5.0)]),
    Constrained(Value(Metric("e", "%", "max"), worst=0.0), [Budget("t", 5.0)]),
    Constrained(Value(Metric("e", "ns", "min"), worst=-1e31), [Budget("t", 5.0)]),
    RelativeImprovement("t", 90.0, "mean"),
    TargetOverGap({"t": 5.0}),
    InverseCost(Budgets([Budget("t", 5.0)], worst=-1e32), "inverse"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{type(o).__name__}-{o.name}")
@given(column=_columns)
def test_rewards_are_finite_and_failure_never_wins(objective, column):
    check_objective(objective, _evaluation(t=column, e=column[::-1]))


def test_a_log_ratio_is_a_relative_difference_and_higher_is_better():
    rewards = LogRatio([Term("t", 100.0)])(_evaluation(t=[100.0, 50.0, 200.0]))
    assert rewards == pytest.approx([0.0, np.log(2), -np.log(2)])
    assert LogRatio([Term("t", 1.0, sign=-1.0)])(_evaluation(t=[2.0, 1.0]))[0] == pytest.approx(np.log(2))


def test_better_than_the_budget_is_never_punished():
    objective = Budgets([Budget("t", 10.0)])
    rewards = objective(_evaluation(t=[1.0, 10.0, 15.0, 20.0]))
    assert rewards.tolist() == [0.0, 0.0, -0.5, -1.0]
    tied = Budgets([Budget("t", 10.0)], tie=LogRatio([Term("t", 10.0)]))(_evaluation(t=[1.0, 10.0, 10.001]))
    assert tied[0] > tied[1] > 0 > tied[2]


def test_archgyms_reward_for_dram_punishes_better_designs_as_the_original_does():
    rewards = TargetOverGap({"t": 10.0})(_evaluation(t=[1.0, 9.0, 10.0]))
    assert rewards[0] < rewards[1] < rewards[2] == 1e6


def test_archgyms_own_rewards_have_names_that_tell_them_apart():
    """One name, one formula; whatever is called ArchGym's is ArchGym's, and says so."""
    kinds = {}
    for name in ("dram/gzip", "accelerator/resnet18", "soc/edge_detection", "mapping"):
        problem = make_problem(name)
        for text, objective in problem.simulator.objectives(problem.workload).items():
            assert objective.name == text
            assert objective.archgym_form == text.startswith("archgym-") or text == "farsi-distance-simple"
            if objective.archgym_form:
                kinds.setdefault(text, set()).add(name)
    assert all(len(names) == 1 for names in kinds.values()), kinds
    assert len(kinds) == 7


@pytest.mark.parametrize(
    ("problem", "new"),
    [
        ("dram/gzip", "archgym-target-over-gap"),
        ("soc/edge_detection", "archgym-inverse-distance"),
        ("accelerator/archgym_alexnet", "targets"),
    ],
)
def test_the_earlier_name_of_these_objectives_works_and_warns(problem, new):
    with pytest.warns(FutureWarning, match=f"'archgym-target' .* is now '{new}'"):
        made = make_problem(problem, objective="archgym-target")
    assert made.objective.name == made.options["objective"] == new
    part = next(iter(made.space.parameters))
    with pytest.warns(FutureWarning, match=new):
        narrowed = make_problem(problem, objective="archgym-target", fix={part.name: part.values[0]})
    assert narrowed.objective.name == new


@pytest.mark.parametrize(
    "base", [LogRatio([Term("e", 1.0)]), Value(Metric("e", "%", "max"), worst=0.0)], ids=["ratio", "value"]
)
@given(t=_columns)
def test_a_design_that_meets_the_budgets_always_beats_one_that_does_not(base, t):
    objective = Constrained(base, [Budget("t", 5.0)])
    evaluation = _evaluation(t=t, e=np.array(t) ** 0.5)
    rewards, met = objective(evaluation), np.array(t) <= 5.0
    if met.any() and (~met).any():
        assert rewards[met].min() > rewards[~met].max()


def test_a_base_that_is_no_log_ratio_keeps_its_order_under_budgets():
    accuracy = Constrained(Value(Metric("e", "%", "max"), worst=0.0), [Budget("t", 5.0)])
    rewards = accuracy(_evaluation(t=[1.0, 1.0, 1.0, 6.0, 50.0], e=[91.0, 92.0, 0.0, 99.0, 99.0]))
    assert rewards[:3].tolist() == [91.0, 92.0, 0.0] and rewards[2] > rewards[3] > rewards[4] > accuracy.penalty


def test_objective_texts(bowl):
    evaluation, _ = bowl.evaluate(bowl.space.sample(100, 0, feasible=True))
    both = make_problem("bowl/deep", objective="time_ns*power_mw").objective(evaluation)
    one = make_problem("bowl/deep", objective="time_ns").objective(evaluation)
    two = make_problem("bowl/deep", objective="power_mw").objective(evaluation)
    assert both == pytest.approx(one + two)
    under = make_problem("bowl/deep", objective="time_ns@power_mw<=2").objective(evaluation)
    met = evaluation.metrics["power_mw"] <= 2
    assert met.any() and under[met].min() > under[~met].max()
    for text, sentence in [
        ("time", "unknown objective"),
        ("time_ns@power<=2", "unknown metric"),
        ("time_ns@power_mw<2", "write metric<=number"),
        ("time_ns@power_mw<=0", "other than 0"),
    ]:
        with pytest.raises(ArchGymError, match=sentence):
            make_problem("bowl/deep", objective=text)


def test_a_description_writes_references_as_people_do():
    ratio = LogRatio([Term("latency_ns", 113_812.3), Term("accuracy", 0.000123, sign=-1.0)])
    assert ratio.description == "minus the logarithm of (latency_ns / 113,800) x (0.000123 / accuracy)"
