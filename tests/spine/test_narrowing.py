"""``fix`` and ``only``: the search is over a part of the space, everything else is the whole one's."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import archgym
from archgym.agents import make_agent, search
from archgym.cli import main
from archgym.datasets import read_trials
from archgym.enumeration import enumerate_problem
from archgym.errors import ArchGymError
from archgym.problem import optimum_key
from archgym.simulator import Simulator
from archgym.wrapping import Wrapped

WHOLE = archgym.make_problem("systolic/resnet18", objective="edp")


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_narrowed_problem_gives_what_the_whole_one_gives(data: st.DataObject) -> None:
    allowed = {}
    for parameter in WHOLE.space.parameters:
        if data.draw(st.booleans()):
            allowed[parameter.name] = data.draw(st.lists(st.sampled_from(parameter.values), min_size=1, unique=True))
    problem = archgym.make_problem("systolic/resnet18", objective="edp", only=allowed)
    designs = problem.space.sample(5, data.draw(st.integers(0, 99)))
    named = problem.space.decode(designs)
    for row in named:
        assert all(row[name] in values for name, values in allowed.items())
    evaluation, rewards = problem.evaluate(designs)
    whole, same = WHOLE.evaluate(WHOLE.space.encode(named))
    np.testing.assert_array_equal(rewards, same)
    for name, column in whole.metrics.items():
        np.testing.assert_array_equal(evaluation.metrics[name], column)


def test_text_stands_for_the_value_it_shows() -> None:
    by_value = archgym.make_problem("systolic/resnet18", fix={"array_rows": 16})
    by_text = archgym.make_problem("systolic/resnet18", fix={"array_rows": "16"})
    assert by_value.space["array_rows"].values == by_text.space["array_rows"].values == (16,)


def test_an_equal_problem_is_made_from_its_options_and_it_is_another_than_the_whole() -> None:
    problem = archgym.make_problem("systolic/resnet18", objective="edp", fix={"array_rows": 16})
    again = archgym.make_problem(problem.name, **json.loads(json.dumps(problem.options)))
    assert again.space.size == problem.space.size < WHOLE.space.size
    assert optimum_key(again) == optimum_key(problem) != optimum_key(WHOLE)
    assert problem.references == WHOLE.references


def test_the_optimum_of_the_whole_space_holds_where_it_lies_within() -> None:
    optimum = WHOLE.optimum
    assert optimum is not None and optimum.exhaustive
    name, value = next(iter(optimum.design.items()))
    within = archgym.make_problem("systolic/resnet18", objective="edp", fix={name: value})
    assert within.optimum is not None and within.optimum.reward == optimum.reward
    other = next(v for v in WHOLE.space[name].values if v != value)
    assert archgym.make_problem("systolic/resnet18", objective="edp", fix={name: other}).optimum is None


def test_a_narrowed_problem_is_searched_enumerated_and_logged(tmp_path) -> None:
    problem = archgym.make_problem(
        "systolic/resnet18", objective="edp", fix={"array_rows": 16}, only={"array_columns": [8, 16]}
    )
    result = search(problem, make_agent("ga", problem, 0), 50, log=tmp_path / "trials.arrows")
    table = read_trials(tmp_path)
    assert set(table.column("array_rows").to_pylist()) == {16} and set(table.column("array_columns").to_pylist()) <= {
        8,
        16,
    }
    small = archgym.make_problem(
        "systolic/resnet18", objective="edp",
        only={p.name: p.values[:2] for p in WHOLE.space.parameters},
    )  # fmt: skip
    row = enumerate_problem(small, ["edp"], tmp_path / "all")[0]
    assert row["designs"] == small.space.size and np.isfinite(row["reward"]) and result.evaluations == 50


def test_it_pickles_and_copies() -> None:
    whole = archgym.make_problem("synthetic/rugged")
    name, values = whole.space.names[0], whole.space.parameters[0].values[:2]
    problem = archgym.make_problem("synthetic/rugged", only={name: values})
    design = problem.space.sample(3, 0)
    for other in (pickle.loads(pickle.dumps(problem.simulator)), copy.deepcopy(problem.simulator)):
        again = other.evaluate(design, problem.workload)
        np.testing.assert_array_equal(again.metrics["loss"], problem.evaluate(design)[0].metrics["loss"])


@pytest.mark.parametrize(
    "options, word",
    [
        ({"fix": {"row": 16}}, "array_rows"),
        ({"fix": {"array_rows": 17}}, "value of array_rows"),
        ({"only": {"array_rows": []}}, "no value"),
        ({"fix": {"array_rows": 16}, "only": {"array_rows": [16]}}, "both"),
    ],
)
def test_what_cannot_be_is_a_sentence(options, word) -> None:
    with pytest.raises(ArchGymError, match=word):
        archgym.make_problem("systolic/resnet18", **options)


def test_at_the_command_line(tmp_path) -> None:
    command = [
        "run",
        "systolic/resnet18",
        "--agent",
        "random",
        "--budget",
        "20",
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    result = CliRunner().invoke(main, [*command, "--fix", "array_rows=16", "--only", "array_columns=8,16"])
    assert result.exit_code == 0, result.output
    design = json.loads(result.stdout)["runs"][0]["design"]
    assert design["array_rows"] == 16 and design["array_columns"] in (8, 16)
    described = CliRunner().invoke(main, ["describe", "systolic/resnet18", "--fix", "array_rows=16", "--json"])
    parameters = json.loads(described.stdout)["space"]["parameters"]
    assert next(p for p in parameters if p["name"] == "array_rows")["values"] == [16]
    wrong = CliRunner().invoke(main, ["describe", "systolic/resnet18", "--fix", "array_rows"])
    assert wrong.exit_code != 0


def test_a_wrapper_forgets_no_member_of_the_contract() -> None:
    own = {"__init__", "__new__", "__init_subclass__", "__reduce_ex__", "option_values"}
    methods = {
        name for name, member in vars(Simulator).items()
        if name not in own and (callable(member) or isinstance(member, property)) and not name.startswith("_")
    }  # fmt: skip
    assert methods <= set(vars(Wrapped)), methods - set(vars(Wrapped))
    wrapped, whole = archgym.make_problem("dram/sort", fix={"PagePolicy": "Open"}), archgym.make_problem("dram/sort")
    for name in Simulator.__annotations__:
        if not name.startswith("_"):
            assert getattr(wrapped.simulator, name) == getattr(whole.simulator, name), name
    assert wrapped.objective.name == whole.objective.name
