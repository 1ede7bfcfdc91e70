"""Weight sharing: the store, the policies, gradient matching, resumption, inherited scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import DataRecipe
from archgym.simulators.nas.fidelity import SUPERNET_POLICIES
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.supernet.store import Store, draw_cell, live_codes
from archgym.simulators.nas.supernet.training import Supernet, SupernetRecipe, levels, train_file
from archgym.simulators.nas.table import live_representatives

from .test_training import CELLS, toy_data

torch = pytest.importorskip("torch")

RECIPE = SupernetRecipe(
    data=DataRecipe(train=400, valid=150, test=130), steps=20, batch=50, recalibration=4, matching_batches=1,
    shift_updates=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Any:
    return toy_data(RECIPE.data)


def torch_engine(data: Any, batch: int = 50) -> Any:
    from archgym.simulators.nas.supernet.engine import TorchEngine

    return TorchEngine(data, RECIPE.macro, batch)


# --- the store ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist1d-C8S2", "digits-C8S2"])
def test_a_cell_takes_its_own_parameters_out_of_the_store(name: str) -> None:
    store, skeleton = Store(name), macro(name)
    used = np.zeros(store.size, dtype=np.int64)
    for ops in CELLS:
        index = store.index(int(cells.codes(ops)))
        assert len(index) == len(np.unique(index))
        assert len(index) == skeleton.parameters(np.int64(ops.count(2)), np.int64(ops.count(3)))
        used[index] += 1
        for edge, op in enumerate(ops):
            assert (edge in store.edge[index]) == (op in (cells.CONV1, cells.CONV3))
    assert (used[store.edge == -1] == len(CELLS)).all()
    assert store.size == (9842 if name == "mnist1d-C8S2" else store.size)
    both = np.union1d(store.index(int(cells.codes([2] * 6))), store.index(int(cells.codes([3] * 6))))
    assert np.array_equal(both, np.arange(store.size))


def test_only_live_cells_are_drawn() -> None:
    allowed = np.ones((6, 5), dtype=bool)
    allowed[0, [1, 2]] = False
    codes = live_codes(allowed)
    assert not cells.is_dead(cells.rows(codes)).any() and len(live_codes(np.ones((6, 5), dtype=bool))) == 15284
    rng = np.random.default_rng(0)
    drawn = {draw_cell([np.flatnonzero(row).tolist() for row in allowed], rng) for _ in range(300)}
    assert drawn <= set(codes.tolist()) and len(drawn) > 200


# --- training -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", SUPERNET_POLICIES)
def test_a_killed_training_goes_on_to_the_same_bits(policy: str, data: Any, tmp_path: Path) -> None:
    recipe = replace(RECIPE, policy=policy)
    engine = torch_engine(data)
    whole = Supernet(recipe, 3, data)
    whole.train(engine)
    assert whole.finished
    first = Supernet(recipe, 3, data)
    for _ in range(3):
        first.train(engine, recipe.updates // 3)
        first.save(tmp_path / "s.npz")
        first = Supernet.load(tmp_path / "s.npz", data)
    first.train(torch_engine(data))
    assert first.splits == whole.splits and len(first.leaves) == (4 if policy.startswith("fewshot") else 1)
    for one, two in zip(first.leaves, whole.leaves, strict=True):
        assert np.array_equal(one.weights, two.weights) and np.array_equal(one.velocity, two.velocity)
        assert np.array_equal(one.allowed, two.allowed)
    other = Supernet(recipe, 4, data)
    other.train(engine)
    assert not np.array_equal(other.leaves[0].weights, whole.leaves[0].weights)


def test_weights_of_operations_that_were_not_drawn_stay(data: Any) -> None:
    supernet = Supernet(RECIPE, 0, data)
    before = supernet.leaves[0].weights.copy()
    supernet.train(torch_engine(data), 1)
    code = draw_cell(supernet.leaves[0].choices, np.random.default_rng([0, 5, 0]))
    moved = supernet.leaves[0].weights != before
    outside = np.setdiff1d(np.arange(supernet.store.size), supernet.store.index(code))
    assert moved.any() and not moved[outside].any() and not supernet.leaves[0].velocity[outside].any()


def test_complexity_walks_in_small_steps_and_shift_prefers_what_improves(data: Any) -> None:
    recipe = replace(RECIPE, policy="complexity", candidates=2)
    supernet = Supernet(recipe, 0, data)
    engine = torch_engine(data)
    seen = []
    for _ in range(12):
        supernet.train(engine, 1)
        seen.append(levels(recipe.macro).macs[int(supernet.state["level"])])
    assert (np.abs(np.diff(seen)) <= recipe.delta_macs).all() and len(set(seen)) > 3
    shifted = Supernet(replace(RECIPE, policy="shift", shift_updates=5), 0, data)
    shifted.train(engine)
    logits = shifted.state["logits"]
    assert logits.std() > 0 and np.abs(logits).max() <= 2.0


def test_sub_supernets_divide_the_space(data: Any) -> None:
    supernet = Supernet(replace(RECIPE, policy="fewshot"), 0, data)
    supernet.train(torch_engine(data))
    held = np.concatenate([leaf.codes for leaf in supernet.leaves])
    assert np.array_equal(np.sort(held), live_codes(np.ones((6, 5), dtype=bool)))
    for code in held[::777].tolist():
        assert code in supernet.leaf_of(code).codes
    assert len(supernet.splits) == 3  # the first level once, the second twice


def test_operations_made_identical_land_in_one_group(data: Any) -> None:
    from archgym.simulators.nas.supernet.fewshot import bipartition, matching_distances

    supernet = Supernet(RECIPE, 0, data)
    leaf, store = supernet.leaves[0], supernet.store
    edge = 1
    for stage, channels in enumerate((8, 16)):
        a, b = store.block(stage, edge, cells.CONV1)
        c, d = store.block(stage, edge, cells.CONV3)
        wide = np.zeros((channels, channels, 3), dtype=np.float32)
        wide[:, :, 1] = leaf.weights[a : b - 2 * channels].reshape(channels, channels)
        leaf.weights[c : d - 2 * channels] = wide.reshape(-1)
    distance = matching_distances(supernet, leaf, torch_engine(data), edge)
    assert distance[cells.CONV1, cells.CONV3] < 1e-5
    others = distance[np.triu_indices(5, 1)]
    assert np.median(others) > 100 * distance[cells.CONV1, cells.CONV3] and np.allclose(distance, distance.T)
    two, separated = bipartition(distance)
    assert (cells.CONV1 in two) == (cells.CONV3 in two) and separated > 0


def test_bipartition_by_hand() -> None:
    from archgym.simulators.nas.supernet.fewshot import bipartition

    distance = np.ones((5, 5)) - np.eye(5)
    for i in (0, 3):
        for j in (0, 3):
            distance[i, j] = 0.0
    distance[np.ix_([1, 2, 4], [1, 2, 4])] = 0.0
    assert bipartition(distance) == ((0, 3), 6.0)


def test_files_of_other_things_are_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(ArchGymError, match="no supernet"):
        Supernet.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", about=np.zeros(3))
    with pytest.raises(ArchGymError, match="lacks"):
        Supernet.load(tmp_path / "other.npz")
    supernet = Supernet(RECIPE, 0, data)
    supernet.save(tmp_path / "s.npz")
    with pytest.raises(ArchGymError, match="other data|data made here"):
        Supernet.load(tmp_path / "s.npz", toy_data(replace(RECIPE.data, seed=1)))
    with pytest.raises(ArchGymError, match="unknown supernet policy"):
        SupernetRecipe(policy="unifrom")


# --- on the kernels -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_kernels_equal_torch_with_labels_and_with_probabilities(data: Any, tmp_path: Path) -> None:
    from archgym.simulators.nas.supernet.engine import KernelEngine
    from archgym.simulators.nas.supernet.scores import inherited_scores

    mine, other = KernelEngine(data, RECIPE.macro, 50), torch_engine(data)
    supernet = Supernet(RECIPE, 0, data)
    rng = np.random.default_rng(0)
    rows = rng.permutation(400)[:50].astype(np.int64)
    soft = rng.dirichlet(np.ones(10), 50).astype(np.float32)
    x, y = data.x_valid, data.y_valid
    for ops in CELLS[:4]:
        code = int(cells.codes(ops))
        theta = supernet.leaves[0].weights[supernet.store.index(code)]
        for targets in (None, soft):
            gradient, logits, loss = mine.gradient(code, theta, rows, targets)
            expected, wanted, value = other.gradient(code, theta, rows, targets)
            assert np.abs(gradient - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())
            assert np.abs(logits - wanted).max() < 1e-4 and abs(loss - value) < 1e-5
        assert abs(mine.loss(code, theta, rows) - other.loss(code, theta, rows)) < 1e-5
        batches = np.arange(200).reshape(4, 50)
        accuracy, entropy = mine.judge(code, theta, batches, x, y)
        assert np.allclose((accuracy, entropy), other.judge(code, theta, batches, x, y), atol=1e-3)
    # Threads change nothing, and neither does who is judged beside whom.
    codes = [int(cells.codes(ops)) for ops in CELLS]
    one, two = (inherited_scores(supernet, codes, threads=threads) for threads in (1, 2))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
    assert inherited_scores(supernet, codes[2:3])[1][0] == one[1][2]


@pytest.mark.slow
def test_the_fidelity_answers_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mnist1d")
    monkeypatch.setenv("ARCHGYM_CACHE", str(tmp_path))
    problem = make_problem("nas/nb201-mnist1d", objective="score", fidelity="supernet:policy=fair,steps=50")
    designs = np.array([[0, 0, 0, 0, 0, 0], [3, 1, 2, 4, 3, 1], [3, 3, 3, 3, 3, 3], [0, 0, 1, 3, 0, 0]])
    evaluation, rewards = problem.evaluate(designs, seed=0)
    accuracy, score = evaluation.metrics["accuracy_percent"], evaluation.metrics["score"]
    assert accuracy[0] == 10.0 and score[0] == -np.log(10.0) and np.array_equal(rewards, score)
    assert (score[1:] < 0).all() and evaluation.metrics["train_seconds"][0] == 0.0
    again = problem.evaluate(designs[::-1], seed=0)[0].metrics["score"][::-1]
    assert np.array_equal(again, score)
    assert not np.array_equal(problem.evaluate(designs, seed=1)[0].metrics["score"], score)
    assert len(list(tmp_path.glob("supernet-*.npz"))) == 2
    test = make_problem("nas/nb201-mnist1d", fidelity="supernet:policy=fair,steps=50,split=test")
    assert not np.array_equal(test.evaluate(designs, seed=0)[0].metrics["score"][1:], score[1:])


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fidelity", "sentence"),
    [
        ("supernet:policy=fiar", "policy='fiar' is unknown"),
        ("supernet:epochs=3", "takes no epochs"),
        ("supernet:steps=0", "outside 1"),
        ("supernet:policy=fair,steps=3", "5 cells an update"),
        ("supernet:steps=1e3", "whole number"),
        ("table:policy=fair", "takes no policy"),
        ("table:epochs=7", "has no result"),
        ("train:inherit=true", "inherit='true' is unknown"),
        ("train:inherit=parent,schedule=full", "run of its own"),
        ("train:epochs=5,schedule=full", "checkpoints at epochs"),
        ("train:run=mean", "run=mean"),
        ("tabel", "did you mean 'table'"),
    ],
)
def test_a_bad_fidelity_ends_before_any_file(
    fidelity: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from archgym.cli import main

    folder = tmp_path / "run"
    arguments = ["run", "nas/nb201-mnist1d", "--agent", "random", "--budget", "2", "--out", str(folder)]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--fidelity", fidelity])
    assert stopped.value.code == 2 and not folder.exists()
    error = capsys.readouterr().err
    assert sentence in " ".join(error.split()) and error.count("archgym:") == 1 and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--policy", "unifrom", "--out", "OUT"],
        ["train", "--steps", "0", "--out", "OUT"],
        ["train", "--policy", "fair", "--candidates", "2", "--out", "OUT"],
        ["train", "--workload", "darts-cifar10", "--out", "OUT"],
        ["evaluate", "missing.npz"],
        ["statistics", "missing.npz"],
    ],
)
def test_bad_options_of_the_supernet_commands(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from archgym.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["nas", "supernet", *(part.replace("OUT", "s.npz") for part in arguments)])
    assert stopped.value.code == 2 and not list(tmp_path.iterdir())
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_train_evaluate_and_statistics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mnist1d")
    import json

    from archgym.cli import main

    monkeypatch.setenv("ARCHGYM_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        main(["nas", "supernet", *arguments, "--json"], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    file = str(tmp_path / "s.npz")
    options = ("--workload", "nb201-mnist1d", "--steps", "60", "--out", file)
    assert run("train", *options)["floats"] == 9842
    before = Path(file).read_bytes()
    run("train", *options)  # finished already
    assert Supernet.load(Path(file)).update == 60 and len(before) == Path(file).stat().st_size
    with pytest.raises(ArchGymError, match="another recipe or seed"):
        train_file(Path(file), SupernetRecipe(), 0)
    assert run("evaluate", file, "--cells", "20")["cells"] == 20
    found = run("statistics", file, "--workload", "nb201-mnist1d", "--cells", "20")["supernets"]
    assert found[0]["cells"] == 20 and -1 <= found[0]["tau_cross_entropy"] <= 1


def test_shipped_scores_hold_every_live_cell_and_answer_without_a_training():
    problem = make_problem("nas/nb201-mnist1d-v2", fidelity="supernet:policy=complexity,steps=10000")
    assert problem.simulator.live(problem.workload, problem.fidelity) is None
    designs = cells.rows(live_representatives())
    evaluation = problem.evaluate(designs)[0]
    accuracy, score = evaluation.metrics["accuracy_percent"], evaluation.metrics["score"]
    assert len(designs) == 4929 and np.isfinite(accuracy).all() and np.isfinite(score).all()
    truth = problem.simulator.evaluate(designs, problem.workload, fidelity="table:split=test").metrics[
        "accuracy_percent"
    ]
    assert kendalltau(score, truth)[0] == pytest.approx(0.698, abs=0.001)
    assert kendalltau(accuracy, truth)[0] == pytest.approx(0.652, abs=0.001)
