"""Growth: weights that a cell inherits, parents that agents name, budgets in virtual seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.datasets.shards import read_shard
from archgym.errors import ArchGymError
from archgym.evaluator import Evaluator
from archgym.problem import Problem, make_problem
from archgym.simulators.nas import cells
from archgym.simulators.nas.inherit import child_weights
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.trainer import initial_parameters
from archgym.space import Designs

SKELETON = macro("mnist1d-C8S2")
BASE = [3, 1, 2, 0, 3, 4]


def logits(ops: list[int], theta: Any, running: Any, x: Any) -> Any:
    """Of the network in torch, with the moments of the kernels' layout."""
    torch = pytest.importorskip("torch")
    from archgym.simulators.nas.network import CellNetwork, load_flat

    network = CellNetwork(ops, SKELETON).double().eval()
    load_flat(network, torch.as_tensor(theta).double())
    rows = {"stem": 0, "a": 7, "b": 8, "last": 15}

    def moments(norm: Any, row: int) -> None:
        channels = norm.num_features
        norm.running_mean.copy_(torch.as_tensor(running[row, 0, :channels]))
        norm.running_var.copy_(torch.as_tensor(running[row, 1, :channels]))

    moments(network.stem[1], rows["stem"])
    moments(network.blocks[1].a[2], rows["a"])
    moments(network.blocks[1].b[2], rows["b"])
    moments(network.norm, rows["last"])
    for block, first in ((network.blocks[0], 1), (network.blocks[2], 9)):
        for edge, op in enumerate(ops):
            if op in (2, 3):
                moments(block.edges[edge][2], first + edge)
    with torch.no_grad():
        return network(torch.as_tensor(x).double()[:, None]).numpy()


def trained_like(ops: list[int], seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    theta = initial_parameters(int(cells.codes(ops)), seed)
    theta += rng.normal(0, 0.05, len(theta)).astype(np.float32)
    running = np.stack([rng.normal(0, 0.3, (16, 16)), rng.uniform(0.5, 2.0, (16, 16))], axis=1).astype(np.float32)
    return theta, running


@pytest.mark.parametrize(
    ("edge", "new", "exact"),
    [(2, 3, True), (3, 2, True), (3, 3, True), (0, 2, False), (1, 3, False), (5, 3, False), (0, 1, False)],
)
def test_exact_rules_keep_the_function(edge: int, new: int, exact: bool) -> None:
    child = [*BASE[:edge], new, *BASE[edge + 1 :]]
    theta, running = trained_like(BASE)
    x = np.random.default_rng(1).normal(size=(16, 40)).astype(np.float32)
    before = logits(BASE, theta, running, x)
    weights, moments = child_weights(int(cells.codes(BASE)), int(cells.codes(child)), theta, running, 0)
    assert len(weights) == SKELETON.parameters(np.int64(child.count(2)), np.int64(child.count(3)))
    after = logits(child, weights, moments, x)
    assert np.isfinite(after).all()
    assert (np.abs(after - before).max() < 1e-5) == exact


def test_a_cell_that_does_not_change_inherits_everything() -> None:
    theta, running = trained_like(BASE)
    code = int(cells.codes(BASE))
    weights, moments = child_weights(code, code, theta, running, 0)
    assert np.array_equal(weights, theta) and np.array_equal(moments, running)


# --- the fidelity -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_children_are_a_function_of_parent_child_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mnist1d")
    monkeypatch.setenv("ARCHGYM_CACHE", str(tmp_path))
    from archgym.simulators.nas import NasSimulator, live

    simulator = NasSimulator()
    workload = simulator.load_workload("nb201-mnist1d")
    text = "train:inherit=parent,epochs=1"
    child = [*BASE[:3], 3, *BASE[4:]]
    designs = np.array([child, child, BASE, child, [0] * 6])
    parents = np.array([BASE, [-1] * 6, [-1] * 6, child, BASE])
    assert simulator.inherits(text) and not simulator.inherits("train:epochs=1") and not simulator.inherits(None)
    one = simulator.evaluate(designs, workload, fidelity=text, seed=0, parents=parents).metrics
    accuracy, seconds = one["accuracy_percent"], one["train_seconds"]
    assert len(set(accuracy[[0, 1, 3]])) == 3 and accuracy[4] == 10.0 and accuracy[0] > 40.0
    full = simulator.evaluate(designs[1:3], workload, fidelity="train", seed=0).metrics
    assert np.array_equal(full["accuracy_percent"], accuracy[1:3])  # no parent: trained in full from scratch
    assert seconds[0] == pytest.approx(seconds[1] / 20) and seconds[4] == 0.0
    assert simulator.parent_seconds(parents[:1], workload, text)[0] == seconds[2]
    live._PARENTS.clear()
    again = simulator.evaluate(designs[::-1], workload, fidelity=text, seed=0, parents=parents[::-1]).metrics
    assert np.array_equal(again["accuracy_percent"][::-1], accuracy)
    other = simulator.evaluate(designs[:1], workload, fidelity=text, seed=1, parents=parents[:1]).metrics
    assert other["accuracy_percent"][0] != accuracy[0]


def test_what_cannot_inherit_is_refused() -> None:
    with pytest.raises(ArchGymError, match="one-dimensional"):
        make_problem("nas/nb201-digits", fidelity="train:inherit=parent")
    with pytest.raises(ArchGymError, match="inherits from no parent"):
        make_problem("codesign/nb201-mnist1d", fidelity="train:inherit=parent")
    with pytest.raises(ArchGymError, match="takes no inherit"):
        make_problem("nas/nb201-mnist1d", fidelity="table:inherit=parent")


# --- parents and seconds, on a stand-in that costs nothing --------------------------------------------------------------


def growing() -> Problem:
    """The table, as if every child took a second and every full training twenty."""
    problem = make_problem("nas/nb201-mnist1d")

    class Growing(type(problem.simulator)):  # type: ignore[misc]
        def inherits(self, fidelity: str | None) -> bool:
            return True

        def parent_seconds(self, parents: Any, workload: Any, fidelity: str | None) -> Any:
            return np.full(len(parents), 20.0)

        def evaluate(self, designs: Any, workload: Any, **options: Any) -> Any:
            parents = options.pop("parents")
            assert parents.shape == designs.shape
            made = super().evaluate(designs, workload, **options)
            made.metrics["train_seconds"][:] = np.where(parents[:, 0] < 0, 20.0, 1.0)
            return made

    return Problem(problem.name, Growing(), problem.workload, problem.objective)


#: Agents whose children differ from their parents in one parameter; informed ones change the parent anew where the child is
#: known, after eight tries by two parameters, which chains of `sa` reach, who stay where most of 24 neighbours are known.
ONE_CHANGE = {
    "re": ({"informed": False}, 1),
    "sa": ({"informed": False}, 1),
    "re, informed": ({}, 1),
    "sa, informed": ({}, 2),
}


@pytest.mark.parametrize("name", [*ONE_CHANGE, "local", "ga", "random"])
def test_agents_name_the_parents_of_what_they_ask(name: str) -> None:
    problem = growing()
    settings, most = ONE_CHANGE.get(name, ({}, None))
    agent = make_agent(name.partition(",")[0], problem, 0, **settings)
    told: list[tuple[Designs, Designs | None]] = []
    evaluator = Evaluator(problem, budget=400)
    known: set[bytes] = set()
    while not evaluator.exhausted:
        asked = agent.ask(7)
        parents = agent.parents
        told.append((asked, parents))
        if parents is not None:
            assert parents.shape == asked.shape
            for child, parent in zip(asked, parents, strict=True):
                if parent[0] >= 0:
                    assert parent.tobytes() in known
                    assert most is None or 1 <= (child != parent).sum() <= most
        answer = evaluator.evaluate(asked, parents)
        known |= {row.tobytes() for row in answer[0]}
        agent.tell(*answer)
    named = sum(int((parents[:, 0] >= 0).sum()) for _, parents in told if parents is not None)
    assert (named == 0) if name == "random" else named > 200


def test_parents_are_charged_once_a_run() -> None:
    problem = growing()
    evaluator = Evaluator(problem, budget_seconds=1000.0)
    nobody = np.full((1, 6), -1)
    first, second, third = (np.array([[op] * 6]) for op in (1, 2, 3))
    evaluator.evaluate(first, nobody)
    assert evaluator.seconds == 20.0
    evaluator.evaluate(second, first)
    assert evaluator.seconds == 21.0  # its parent was trained in full by this run
    evaluator.evaluate(third, second)
    assert evaluator.seconds == 42.0  # its parent was not: a child is not a full training
    evaluator.evaluate(first, second)
    assert evaluator.seconds == 43.0
    evaluator.evaluate(third, second)
    assert evaluator.seconds == 43.0 and evaluator.used == 4  # a repeat
    evaluator.evaluate(third, first)
    assert evaluator.seconds == 44.0 and evaluator.used == 5  # the same child of another parent is another result


def test_a_budget_in_seconds_ends_at_a_design_and_resumes(tmp_path: Path) -> None:
    problem = make_problem("nas/nb201-mnist1d", fidelity="table:run=single")

    def run(name: str, seconds: float, resume: bool = False) -> Any:
        return search(
            problem, make_agent("re", problem, 0), None, budget_seconds=seconds, log=tmp_path / name, resume=resume
        )

    whole = run("a.arrows", 40.0)
    _, batches, _ = read_shard(tmp_path / "a.arrows")
    spent = np.concatenate([batch.column("train_seconds").to_numpy() for batch in batches])
    assert len(spent) == whole.evaluations and spent[:-1].sum() < 40.0 <= spent.sum() == pytest.approx(whole.virtual_s)
    part = run("b.arrows", 15.0)
    assert part.evaluations < whole.evaluations
    resumed = run("b.arrows", 40.0, resume=True)
    assert resumed.evaluations == whole.evaluations and resumed.virtual_s == whole.virtual_s
    assert resumed.best.reward == whole.best.reward and np.array_equal(resumed.best.design, whole.best.design)


def test_trials_say_what_they_inherit_from(tmp_path: Path) -> None:
    problem = growing()
    search(problem, make_agent("re", problem, 0, population=16), 100, log=tmp_path / "r.arrows")
    _, batches, _ = read_shard(tmp_path / "r.arrows")
    parents = [text for batch in batches for text in batch.column("parent").to_pylist()]
    assert parents[:16] == [None] * 16 and all(len(text.split()) == 6 for text in parents[16:]) and len(parents) == 100


def test_budgets_in_seconds_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from archgym.cli import main

    folder = str(tmp_path / "run")
    arguments = ["run", "nas/nb201-mnist1d", "--agent", "re", "--budget-seconds", "30", "--out", folder, "--json"]
    main(arguments, standalone_mode=False)
    summary = json.loads(capsys.readouterr().out)
    assert summary["budget_seconds"] == 30.0 and 30.0 <= summary["runs"][0]["virtual_s"] < 35.0
    for bad in (["synthetic/rugged", "--budget-seconds", "5"], ["nas/nb201-mnist1d", "--budget-seconds", "-1"]):
        with pytest.raises(SystemExit) as stopped:
            main(["run", *bad, "--agent", "random", "--out", str(tmp_path / "none")])
        assert stopped.value.code == 2 and not (tmp_path / "none").exists()
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_children_are_live_cells_one_edge_away_each_of_a_class_of_its_own() -> None:
    from archgym.simulators.nas.growth import children_of

    parent = int(cells.codes(BASE))
    rows, number = cells.rows(children_of(parent)), cells.classes("function")
    assert ((rows != np.array(BASE)).sum(axis=1) == 1).all() and not cells.is_dead(rows).any()
    classes = number[cells.codes(rows)]
    assert len(np.unique(classes)) == len(classes) and number[parent] not in classes
    assert 10 < len(rows) <= 24


def test_an_interval_of_means_is_students() -> None:
    from archgym.simulators.nas.statistics import mean_interval

    mean, (low, high) = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0 and high - mean == pytest.approx(4.302653 / 3**0.5) and mean - low == pytest.approx(high - mean)
