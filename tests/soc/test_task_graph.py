"""Reading task graphs: every fault gets one sentence; generated graphs; round trips."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.simulators.soc import SocSimulator
from archgym.simulators.soc.generator import generate
from archgym.simulators.soc.task_graph import (
    TaskGraph,
    builtin,
    combine,
    parse_task_graph,
    read_task_graph,
    write_task_graph,
)

GOOD = {
    "name": "mine",
    "last_task": "b",
    "budgets": {"latency_s": 0.01, "power_w": 0.1, "area_mm2": 5},
    "tasks": {
        "a": {"cycles": 1e6, "accelerator": {"cycles": 1e4, "power": 50, "area_um2": 1000, "iterations": 16}},
        "b": {"cycles": 2e6},
    },
    "edges": [["source", "a", 4096], ["a", "b", 1e5], ["b", "sink", 64]],
}


def _with(path, value):
    data = yaml.safe_load(yaml.safe_dump(GOOD))
    spot = data
    for key in path[:-1]:
        spot = spot[key]
    if value is None:
        del spot[path[-1]]
    else:
        spot[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("name", "known"),
    [("audio_decoder", "567062e96d636426"), ("edge_detection", "77272a08a2661df0"), ("hpvm_cava", "a28b94336138749c")],
)
def test_the_accelerator_that_comes_first_counts(name, known):
    """It changes what ArchGym's vectors mean; the shipped graphs keep the fingerprints that tables and data sets hold."""
    graph = builtin(name)
    accelerated = [task.name for task in graph.tasks if task.accelerator is not None]
    parts = graph.name, graph.description, graph.tasks, graph.edges, graph.parts
    fingerprints = {first: TaskGraph(*parts, first).fingerprint for first in accelerated}
    assert len(set(fingerprints.values())) == len(accelerated)
    assert graph.fingerprint == fingerprints[graph.first_accelerator] == known


def test_a_good_graph_is_read_and_evaluated(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    simulator = SocSimulator()
    graph = simulator.load_workload(f"file:{path}")
    assert [task.name for task in graph.tasks] == ["source", "a", "b", "sink"]
    space = simulator.space(graph)
    assert "pe.b" in space.names and "freq.b" not in space.names  # b has no accelerator
    evaluation = simulator.evaluate(space.sample(20, 0), graph)
    assert evaluation.feasible.all() and (evaluation.metrics["latency_mine_s"] > 0).all()
    combined = simulator.load_workload(f"hpvm_cava+file:{path}")
    assert [part.name for part in combined.parts] == ["hpvm_cava", "mine"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_with(["edges"], [*GOOD["edges"], ["b", "a", 10]]), "has a cycle: .*a -> b.*remove one of these edges"),
        (_with(["edges", 1, 1], "c"), "unknown task on edge a -> c of 'mine' 'c'"),
        (_with(["tasks", "a", "cycles"], -5), "task 'a' of 'mine' has -5 cycles; expected 0, or 1e-12"),
        (_with(["tasks", "a", "cycles"], float("nan")), "is not finite"),
        (_with(["tasks", "a", "cycles"], "many"), "cycles of 'a' .* is 'many'; expected a number"),
        (_with(["tasks", "a", "cycles"], True), "is True; expected a number"),
        (_with(["tasks", "a", "cycles"], 0), "has an accelerator but no work"),
        (_with(["tasks", "a", "cycels"], 3), "did you mean 'cycles'"),
        (_with(["tasks", "b"], 7), "task 'b' of .* is 7; expected a mapping"),
        (_with(["tasks", "b"], {}), "has no 'cycles'"),
        (_with(["tasks", "source"], {"cycles": 1}), "it is always there"),
        (_with(["tasks", "a", "accelerator", "cycles"], 0), "expected a positive number"),
        (_with(["tasks", "a", "accelerator", "cycles"], 1e-320), "expected a positive number"),
        (_with(["tasks", "a", "cycles"], 1e-320), "expected 0, or 1e-12"),
        (_with(["tasks", "a", "accelerator", "iterations"], 1.5), "expected a whole number"),
        (_with(["tasks", "a", "accelerator", "power"], None), "lacks 'power'"),
        (_with(["edges", 0], ["source", "a"]), r"not of the form \[from, to, bytes\]"),
        (_with(["edges", 0, 2], 0), "carries 0 bytes; expected at least 1"),
        (_with(["edges"], [*GOOD["edges"], ["a", "b", 3]]), "listed twice"),
        (_with(["edges"], [*GOOD["edges"], ["a", "a", 3]]), "edge to itself"),
        (_with(["edges"], [*GOOD["edges"], ["a", "source", 3]]), "runs backwards"),
        (_with(["edges"], GOOD["edges"][1:]), "task 'a' of 'mine' reads nothing; add an edge"),
        (_with(["edges"], GOOD["edges"][:2]), "nobody reads task 'b'"),
        (_with(["edges"], {"a": "b"}), "are not a list"),
        (_with(["budgets", "power_w"], None), "lack 'power_w'"),
        (_with(["budgets", "power_w"], 0), "the budget power_w of 'mine' is 0"),
        (_with(["budgets", "watt"], 1), "unknown key"),
        (_with(["last_task"], "z"), "unknown last_task of 'mine' 'z'"),
        (_with(["last_task"], None), "has no 'last_task'"),
        (_with(["first_accelerator"], "b"), "unknown first_accelerator"),
        (_with(["power_unit_w"], -1e-6), "power_unit_w in .* is -1e-06; expected a positive number"),
        (_with(["name"], ["mine"]), r"the name in .* is \['mine'\]"),
        ([1, 2], "holds no mapping"),
    ],
)
def test_each_fault_gets_one_sentence(data, words):
    with pytest.raises(ArchGymError, match=words) as caught:
        parse_task_graph(yaml.safe_dump(data))
    assert "\n" not in str(caught.value)


def _graph_or_sentence(text: str) -> None:
    message = ""
    try:
        parse_task_graph(text)
    except ArchGymError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_graph_or_one_sentence(text):
    _graph_or_sentence(text)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([["tasks", "a", "cycles"], ["edges", 1], ["edges", 1, 2], ["budgets"], ["tasks"], ["tasks", "b"]]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_value_anywhere_is_a_graph_or_one_sentence(path, value):
    _graph_or_sentence(yaml.safe_dump(_with(path, value)))


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(ArchGymError, match="there is no task graph file"):
        SocSimulator().load_workload(f"file:{tmp_path}/none.yaml")
    with pytest.raises(ArchGymError, match="cannot read"):
        read_task_graph(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArchGymError):
        read_task_graph(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", ["audio_decoder", "edge_detection", "hpvm_cava"])
def test_write_and_read_again(tmp_path, name):
    graph = builtin(name)
    write_task_graph(graph, tmp_path / "g.yaml")
    again = read_task_graph(tmp_path / "g.yaml")
    assert again.edges == graph.edges and [t.name for t in again.tasks] == [t.name for t in graph.tasks]
    assert again.parts[0].area_budget_m2 == pytest.approx(graph.parts[0].area_budget_m2)


def test_combining_needs_different_tasks():
    graph = builtin("hpvm_cava")
    with pytest.raises(ArchGymError, match="two of them have a task"):
        combine([graph, graph])


def test_shape_of_the_builtin_graphs():
    shapes = {name: (len(builtin(name).tasks), len(builtin(name).real_tasks), len(builtin(name).edges)) for name in
              ("audio_decoder", "hpvm_cava", "edge_detection")}  # fmt: skip
    assert shapes == {"audio_decoder": (18, 15, 23), "hpvm_cava": (9, 7, 8), "edge_detection": (8, 6, 8)}
    assert sum(t.cycles for t in builtin("audio_decoder").tasks) == pytest.approx(6.304e6, rel=1e-3)
    assert sum(t.cycles for t in builtin("hpvm_cava").tasks) == pytest.approx(8.488e10, rel=1e-3)
    assert sum(t.cycles for t in builtin("edge_detection").tasks) == pytest.approx(3.295e9, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 10), st.floats(1, 4), st.floats(0, 1), st.integers(0, 10**6))
def test_generated_graphs_keep_what_was_asked(tasks, layers, out_degree, accelerated, seed):
    layers = min(layers, tasks)
    graph = generate(tasks=tasks, layers=layers, out_degree=out_degree, accelerated=accelerated, seed=seed)
    assert len(graph.real_tasks) == tasks
    depth = {}
    for t in graph.topological_order():
        depth[t] = 1 + max((depth[p] for p in graph.parents[t]), default=-1)
    assert max(depth[t] for t in graph.real_tasks) == layers
    same = generate(tasks=tasks, layers=layers, out_degree=out_degree, accelerated=accelerated, seed=seed)
    assert graph.fingerprint == same.fingerprint
    assert graph.fingerprint != generate(tasks=tasks, layers=layers, seed=seed + 1).fingerprint


@pytest.mark.parametrize(
    "options", [{"tasks": 0}, {"tasks": 200}, {"layers": 99}, {"out_degree": 0.5}, {"accelerated": 2}, {"slack": 0},
                {"seed": -1}, {"tasks": 2.5}]
)  # fmt: skip
def test_generator_refuses_in_one_sentence(options):
    with pytest.raises(ArchGymError):
        SocSimulator().load_workload("generated", **options)
