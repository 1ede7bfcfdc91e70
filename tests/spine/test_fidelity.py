"""A fidelity that a simulator does not have is refused before anything is evaluated or written; so are options that no file
of trials gives back, and references by hand reach every objective."""

from __future__ import annotations

import json
import pickle
from typing import get_args

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.problem import make_problem, option_table
from archgym.registry import SIMULATORS
from archgym.store import using
from archgym.testing import check_copies
from tests.toy import Toy

BUILTIN = [name for name in SIMULATORS if name != "bowl"]


@pytest.mark.parametrize("name", BUILTIN)
def test_a_fidelity_that_is_not_there_is_refused(name):
    cls = SIMULATORS.load(name)
    wrong = ["nonsense", "", ":", *(f"{known}:foo" for known in cls.fidelities), f"{(*cls.fidelities, 'x')[0]}:"]
    for fidelity in wrong:
        with pytest.raises(ArchGymError, match="fidelity"):
            make_problem(name, fidelity=fidelity)
    with pytest.raises(ArchGymError, match="fidelity"):
        make_problem(name, fidelity=3)


@pytest.mark.parametrize("name", ["accelerator", "soc", "synthetic", "dram"])
def test_evaluating_refuses_it_too(name):
    simulator = SIMULATORS.load(name)()
    workload = simulator.load_workload(simulator.default_workload or next(iter(simulator.workloads())))
    with pytest.raises(ArchGymError, match="fidelity"):
        simulator.evaluate(simulator.space(workload).sample(1, 0), workload, fidelity="effort1:foo")


@pytest.mark.parametrize(
    "given",
    [
        ("systolic", "--fidelity", "low"),
        ("accelerator", "--fidelity", "effort1:foo"),
        ("llm-training", "--fidelity", "calculon"),
        ("llm-training", "--fidelity", "table"),
        ("llm-training", "--space", "calculon", "--fidelity", "closed"),
        ("dram/sort", "--fidelity", "full:2"),
    ],
)
def test_the_command_line_refuses_it_before_it_writes_a_file(given, tmp_path, monkeypatch):
    monkeypatch.delenv("ARCHGYM_REF", raising=False)
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["run", *given, "--agent", "random", "--budget", "4", "--out", str(out)])
    assert result.exit_code == 2 and "fidelity" in result.output and len(result.output.splitlines()) == 1
    assert not out.exists()


# --- options ---------------------------------------------------------------------------------------------------------

NUMBERS = [(name, option) for name in BUILTIN for option, one in option_table(SIMULATORS.load(name)).items()
           if {int, float} & {one.kind, *get_args(one.kind)}]  # fmt: skip


@pytest.mark.parametrize(("name", "option"), NUMBERS)
@pytest.mark.parametrize("value", [float("inf"), float("nan"), np.float64("-inf"), 2**64, "much"])
def test_a_number_that_no_file_gives_back_is_refused(name, option, value):
    with pytest.raises(ArchGymError, match=option):
        make_problem(name, **{option: value})
    if not isinstance(value, str):
        with pytest.raises(ArchGymError, match=option):
            SIMULATORS.load(name)(**{option: value})


def test_workload_options_too():
    for name, option in (("dram/random", "requests"), ("llm-serving", "rate"), ("llm-training", "batch")):
        for value in (float("inf"), float("nan"), 2**64):
            with pytest.raises(ArchGymError, match=option):
                make_problem(name, workload_options={option: value})


class Loose(Toy):
    """Options that nothing is known of."""

    name = "loose"

    def __init__(self, space=None, table=None, **more):
        super().__init__(space)


def test_options_without_a_type_are_looked_through():
    SIMULATORS.register("loose", Loose)
    for options in ({"table": {"a": [1.0, float("nan")]}}, {"other": float("inf")}, {"table": (2**70,)}):
        with pytest.raises(ArchGymError, match="finite|64 bits"):
            make_problem("loose", **options)
        with pytest.raises(ArchGymError, match="finite|64 bits"):
            Loose(**options)
    assert make_problem("loose", table={"a": [1.0, True, None, "x"]}).simulator.settings == {
        "table": {"a": [1.0, True, None, "x"]}
    }


# --- references ------------------------------------------------------------------------------------------------------


class Plain(Toy):
    """An objective of its own that relates to references."""

    name = "plain"

    def objectives(self, workload):
        from archgym.objective import Constrained, log_ratio, parse_budgets

        base = log_ratio(self, workload, ["time_ns"], "quick")
        limit = 2 * self.references(workload)["energy_pj"]
        return {"quick": base, "frugal": Constrained(base, parse_budgets(f"energy_pj<={limit}"), "frugal")}


def test_references_given_by_hand_reach_named_objectives():
    SIMULATORS.register("plain", Plain)
    given = {"time_ns": 7.0, "energy_pj": 3.0}
    for workload in ("light", "light+heavy"):
        own = make_problem(f"plain/{workload}", objective="quick")
        other = make_problem(f"plain/{workload}", objective="quick", references=given)
        designs = own.space.sample(8, 0)
        first, second = own.evaluate(designs)[1], other.evaluate(designs)[1]
        loads = [Plain().load_workload(one) for one in workload.split("+")]
        shift = np.mean([np.log(7.0 / Plain().references(load)["time_ns"]) for load in loads])
        assert second[first > -20] - first[first > -20] == pytest.approx(shift) and abs(shift) > 0.01
    frugal = make_problem("plain/light", objective="frugal", references=given).objective
    assert [str(budget) for budget in frugal.budgets] == ["energy_pj<=6"] and frugal.base.terms[0].reference == 7.0
    assert make_problem("plain/light", objective="quick", references="none").objective.terms[0].reference == 1.0


def test_references_survive_copies_stores_and_the_way_through_options(tmp_path):
    given = {"total_time_ns": 7.0, "energy_pj": 3.0}
    problem = make_problem("dram/sort", objective="energy", references=given, workload_options={"requests": 50})
    designs = problem.space.sample(4, 0)
    check_copies(problem, lambda one: one.evaluate(designs)[1])
    again = make_problem(problem.name, **json.loads(json.dumps(problem.options)))
    assert again.references == problem.references == pickle.loads(pickle.dumps(again)).references
    assert again.objective.terms == problem.objective.terms and problem.objective.terms[0].reference == 3.0
    with using(str(tmp_path / "results.db")):
        kept = make_problem(problem.name, **problem.options)
    assert kept.references == problem.references and kept.objective.terms == problem.objective.terms


def test_the_optimum_of_other_references_is_not_this_one():
    plain = make_problem("dram/sort", objective="energy")
    (term,) = plain.objective.terms
    assert plain.optimum is not None
    assert make_problem("dram/sort", objective="energy", references={term.metric: term.reference * 2}).optimum is None
    assert make_problem("dram/sort", objective="energy", references="none").optimum is None
    same = make_problem("dram/sort", objective="energy", references={term.metric: term.reference})
    assert same.optimum == plain.optimum
