"""Training: the compiled trainer against torch, groups against single networks, shards, scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archgym.errors import ArchGymError
from archgym.simulators.nas import build_table, cells
from archgym.simulators.nas.data import Data, DataRecipe, load_data
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.table import read_assembled
from archgym.simulators.nas.trainer import (
    TrainRecipe,
    initial_parameters,
    layer_shapes,
    train_cell,
    train_cells,
)

torch = pytest.importorskip("torch")

SKELETON = macro("mnist1d-C8S2")
# Every operation, deep and shallow, with and without convolutions.
CELLS = [[3, 1, 2, 4, 3, 1], [2, 2, 0, 1, 4, 3], [1, 1, 1, 1, 1, 1], [0, 3, 0, 2, 1, 4], [3, 3, 3, 3, 3, 3]]


def toy_data(recipe: DataRecipe, length: int = 40) -> Data:
    """Series whose class shows in where a bump lies: easy to learn, made in no time."""
    rng = np.random.default_rng(recipe.seed)
    count = recipe.train + recipe.valid + recipe.test
    y = rng.integers(0, 10, count)
    x = 0.5 * rng.normal(size=(count, length))
    x += 2.0 * np.exp(-(((np.arange(length) - 4.0 * y[:, None] - 2.0) / 1.5) ** 2))
    x, y = x.astype(np.float32), y.astype(np.int64)
    a, b = recipe.train, recipe.train + recipe.valid
    return Data(recipe, x[:a], y[:a], x[a:b], y[a:b], x[b:], y[b:])


RECIPE = TrainRecipe(data=DataRecipe(train=400, valid=150, test=130), epochs=3, checkpoints=(1, 3), batch=100)


@pytest.fixture(scope="module")
def data() -> Data:
    return toy_data(RECIPE.data)


def torch_network(ops: list[int], theta: np.ndarray, dtype: torch.dtype = torch.float32):  # type: ignore[no-untyped-def, type-arg]
    from archgym.simulators.nas.network import CellNetwork, load_flat

    network = CellNetwork(ops, SKELETON).to(dtype)
    load_flat(network, torch.as_tensor(theta).to(dtype))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("ops", CELLS)
def test_gradients_equal_torch(ops: list[int], data: Data) -> None:
    from archgym.simulators.nas.kernels import training as kernels

    theta = initial_parameters(int(cells.codes(ops)), 0)
    batch = 72  # no multiple of the kernels' tile of eight samples times anything
    grad, logits = np.zeros_like(theta), np.zeros((batch, 10), dtype=np.float32)
    running = np.zeros((16, 2, 16), dtype=np.float32)
    loss, _ = kernels.forward_backward(
        np.array(ops), theta, grad, running, data.x_train, data.y_train, np.arange(400), 5,
        kernels.allocate(8, batch, 40), kernels.allocate(16, batch, 20), kernels.allocate_extra(8, batch, 40),
        logits, 8, True,
    )  # fmt: skip
    network = torch_network(ops, theta, torch.float64)
    rows = slice(5, 5 + batch)
    out = network(torch.as_tensor(data.x_train[rows]).double()[:, None])
    expected = torch.nn.functional.cross_entropy(out, torch.as_tensor(data.y_train[rows]))
    expected.backward()
    gradient = torch.cat(
        [(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in network.parameters()]
    ).numpy()
    assert loss / batch == pytest.approx(expected.item(), abs=1e-5)
    assert np.abs(logits - out.detach().numpy()).max() < 1e-5
    assert np.abs(grad - gradient).max() < 2e-6 * max(1.0, np.abs(gradient).max())


def torch_steps(ops: list[int], theta: np.ndarray, data: Data, steps: int, dtype: torch.dtype):  # type: ignore[no-untyped-def, type-arg]
    """Plain torch training, the order and rates of the recipe."""
    network = torch_network(ops, theta, dtype)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    order = np.concatenate([RECIPE.order(0, epoch) for epoch in range(RECIPE.epochs)])
    rates = RECIPE.rates(4)
    for step in range(steps):
        rows = order[step * 100 : (step + 1) * 100]
        optimiser.param_groups[0]["lr"] = float(rates[step])
        optimiser.zero_grad()
        out = network(torch.as_tensor(data.x_train[rows]).to(dtype)[:, None])
        torch.nn.functional.cross_entropy(out, torch.as_tensor(data.y_train[rows])).backward()
        optimiser.step()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("ops", CELLS)
def test_ten_steps_equal_torch(ops: list[int], data: Data) -> None:
    from archgym.simulators.nas.kernels import training as kernels

    theta = initial_parameters(int(cells.codes(ops)), 0)
    network = torch_steps(ops, theta, data, 10, torch.float64).eval()
    order = np.concatenate([RECIPE.order(0, epoch) for epoch in range(RECIPE.epochs)])
    velocity, running = np.zeros_like(theta), np.zeros((16, 2, 16), dtype=np.float32)
    running[:, 1] = 1.0
    kernels.train_steps(
        np.array(ops), theta, velocity, running, data.x_train, data.y_train, order, RECIPE.rates(4)[:10], 100,
        np.float32(5e-4), np.float32(0.9), 8, 10,
    )  # fmt: skip
    logits, _, hits = kernels.predict(np.array(ops), theta, running, data.x_valid, data.y_valid, 100, 8, 10)
    with torch.no_grad():
        expected = network(torch.as_tensor(data.x_valid).double()[:, None]).numpy()
    assert np.abs(logits - expected).max() < 1e-4
    assert hits == (expected.argmax(1) == data.y_valid).sum()


@pytest.mark.slow
def test_a_group_equals_single_networks_and_the_compiled_trainer(data: Data) -> None:
    from archgym.simulators.nas.torch_trainer import train_group

    torch.set_num_threads(1)
    jobs = [(int(cells.codes(ops)), 0) for ops in CELLS[:4]]
    jobs.insert(1, (jobs[0][0], 1))  # another seed in the middle
    together = train_group(jobs, data, RECIPE, logits=True)
    for job, grouped in zip(jobs, together, strict=True):
        alone = train_group([job], data, RECIPE, logits=True)[0]
        compiled = train_cell(*job, data, RECIPE, logits=True)
        for other in (alone, compiled):
            # Sums of float32 round by the width of the processor's vectors: up to 1.6e-4 was seen after training.
            assert np.abs(grouped.valid_logits - other.valid_logits).max() < 5e-4
            assert np.array_equal(grouped.valid, other.valid) and np.array_equal(grouped.test, other.test)
            assert np.allclose(grouped.loss, other.loss, atol=1e-5)
    assert together[0].valid[-1] != together[1].valid[-1] or together[0].loss[-1] != together[1].loss[-1]


def test_group_of_images_equals_the_single_network() -> None:
    """Two dimensions, two cells a stage: one forward pass against the plain network."""
    from archgym.simulators.nas.network import CellNetwork, load_flat
    from archgym.simulators.nas.torch_trainer import NetworkGroup

    skeleton = replace(macro("digits-C8S2"), width=4, cells=2, stages=3, size=9, inputs=2)
    rng = np.random.default_rng(0)
    codes = [int(cells.codes(ops)) for ops in CELLS[:3]]
    thetas = []
    networks = []
    for code in codes:
        network = CellNetwork(cells.rows(code).tolist(), skeleton)
        theta = rng.normal(0, 0.3, sum(p.numel() for p in network.parameters())).astype(np.float32)
        load_flat(network, torch.as_tensor(theta))
        thetas.append(theta)
        networks.append(network)
    x = torch.as_tensor(rng.normal(size=(6, 2, 9, 9)).astype(np.float32))
    out = NetworkGroup(codes, thetas, skeleton).forward(x)
    for m, network in enumerate(networks):
        assert torch.allclose(out[:, m], network(x), atol=1e-4)


def test_parameters_of_the_network_are_the_formula() -> None:
    from archgym.simulators.nas.network import CellNetwork

    for name in ("mnist1d-C8S2", "digits-C8S2", "imagenet16"):
        skeleton = macro(name)
        for ops in CELLS[:2]:
            counted = sum(p.numel() for p in CellNetwork(ops, skeleton).parameters())
            formula = skeleton.parameters(np.array(ops.count(2)), np.array(ops.count(3)))
            assert counted == formula == sum(int(np.prod(shape)) for _, shape in layer_shapes(ops, name))


def test_initial_parameters_depend_on_cell_and_seed_alone() -> None:
    assert np.array_equal(initial_parameters(100, 1), initial_parameters(100, 1))
    assert not np.array_equal(initial_parameters(100, 1), initial_parameters(100, 2))
    theta = initial_parameters(int(cells.codes([3] * 6)), 0)
    shapes = layer_shapes([3] * 6, "mnist1d-C8S2")
    at = 0
    for kind, shape in shapes:
        size = int(np.prod(shape))
        if kind == "conv" and size > 300:
            assert theta[at : at + size].std() == pytest.approx(np.sqrt(2.0 / (shape[0] * shape[2])), rel=0.2)
        at += size
    assert at == len(theta)


@pytest.mark.slow
def test_results_do_not_depend_on_threads(data: Data) -> None:
    jobs = [(int(cells.codes(ops)), seed) for ops in CELLS[:2] for seed in (0, 1)]
    for one, two in zip(
        train_cells(jobs, data, RECIPE, threads=1), train_cells(jobs, data, RECIPE, threads=2), strict=True
    ):
        assert np.array_equal(one.valid, two.valid) and np.array_equal(one.loss, two.loss)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"checkpoints": (2, 1, 3)}, "increasing"),
        ({"checkpoints": (1, 2)}, "end with 3"),
        ({"batch": 500}, "larger than the 400"),
    ],
)
def test_bad_recipes(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ArchGymError, match=sentence):
        replace(RECIPE, **options)


def test_recipe_round_trips_through_json() -> None:
    assert TrainRecipe.from_dict(json.loads(json.dumps(RECIPE.as_dict()))) == RECIPE
    assert RECIPE.fingerprint != replace(RECIPE, rate=0.2).fingerprint


# --- data ---------------------------------------------------------------------------------------------------------------


def test_mnist1d_is_generated_cached_and_leaves_the_global_generators(tmp_path: Path) -> None:
    pytest.importorskip("mnist1d")
    import random

    recipe = DataRecipe(train=60, valid=20, test=20)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = (np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    made = load_data(recipe, tmp_path)
    assert np.array_equal(before[0], np.random.get_state()[1]) and before[1] == random.getstate()  # noqa: NPY002
    assert made.x_train.shape == (60, 40) and made.x_test.dtype == np.float32
    assert load_data(recipe, tmp_path).fingerprint == made.fingerprint
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_digits_are_read() -> None:
    pytest.importorskip("sklearn")
    digits = load_data("digits")
    assert digits.x_train.shape == (797, 8, 8) and len(digits.y_test) == 500
    with pytest.raises(ArchGymError, match="unknown data set"):
        load_data("cifar10")


# --- shards -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, data: Data) -> TrainRecipe:
    """The build with made-up data, four live classes and shards of two."""
    monkeypatch.setattr(build_table, "load_data", lambda recipe: data)
    real = cells.representatives("function")
    live = real[~cells.is_dead(cells.rows(real))][::1300]
    monkeypatch.setattr(build_table, "SHARD_CLASSES", 2)
    monkeypatch.setattr(build_table, "NOISE_AFTER", 1)
    monkeypatch.setattr(build_table, "NOISE_SHARDS", 1)
    monkeypatch.setattr(build_table.cells, "representatives", lambda rule: live)
    return RECIPE


@pytest.mark.slow
def test_shards_resume_and_assemble_to_equal_bytes(tmp_path: Path, tiny: TrainRecipe, data: Data) -> None:
    names = [shard.name for shard in build_table.plan((0, 1), 2)]
    assert names[:3] == ["seed0-0000", "seed1-0000", "seed0-0001"]
    assert len(names) == len(set(names)) == 4
    first, second = tmp_path / "a", tmp_path / "b"
    assert build_table.build(first, tiny, seeds=(0, 1), shards=1) == 1
    assert build_table.build(first, tiny, seeds=(0, 1)) == 3
    (first / f"{names[0]}.claim").write_text("0")  # a process was killed when it had written the shard
    assert build_table.build(first, tiny, seeds=(0, 1)) == 0
    assert build_table.build(second, tiny, seeds=(0, 1)) == 4
    # Seconds are measured, so that only they differ between the two folders.
    one, _ = build_table.collect(first)
    two, _ = build_table.collect(second)
    for name in one:
        assert name.startswith("seconds") or np.array_equal(one[name], two[name])
    build_table.assemble(first, tmp_path / "x.parquet")
    build_table.assemble(first, tmp_path / "y.parquet")
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()
    columns, metadata = read_assembled(tmp_path / "x.parquet")
    assert metadata["networks_by_seed"] == {"0": 4, "1": 4}
    assert metadata["environments"] == [json.loads((first / "manifest.json").read_text())["environment"]]
    assert TrainRecipe.from_dict(metadata["recipe"]) == tiny
    code, seed = int(columns["code"][0]), int(columns["seed"][0])
    again = train_cell(code, seed, data, tiny)
    assert np.round(again.test[-1] * 100) == columns["test_e3"][0]
    assert not list(first.glob("*.claim")) and not list(first.glob("*.tmp"))


@pytest.mark.slow
def test_building_goes_on_from_an_assembled_table(tmp_path: Path, tiny: TrainRecipe) -> None:
    build_table.build(tmp_path / "a", tiny, seeds=(0,))
    build_table.assemble(tmp_path / "a", tmp_path / "base.parquet")
    assert build_table.build(tmp_path / "b", tiny, seeds=(0, 1), base=tmp_path / "base.parquet") == 2
    metadata = build_table.assemble(tmp_path / "b", tmp_path / "both.parquet", base=tmp_path / "base.parquet")
    assert metadata["networks_by_seed"] == {"0": 4, "1": 4}
    assert metadata["environments"] == read_assembled(tmp_path / "base.parquet")[1]["environments"]


@pytest.mark.slow
def test_another_recipe_and_changed_shards_are_refused(tmp_path: Path, tiny: TrainRecipe) -> None:
    folder = tmp_path / "a"
    build_table.build(folder, tiny, shards=1)
    with pytest.raises(ArchGymError, match="use another folder"):
        build_table.build(folder, replace(tiny, rate=0.2))
    with pytest.raises(ArchGymError, match="another recipe|other data"):
        build_table.build(tmp_path / "b", replace(tiny, rate=0.2), base=_assembled(folder, tmp_path))
    shard = build_table.finished(folder)[0]
    content = build_table.read_shard(shard)
    content["test"] = content["test"] + 1.0
    with open(shard, "wb") as file:
        np.savez(file, **content)
    with pytest.raises(ArchGymError, match="differs from the hash"):
        build_table.collect(folder)


def _assembled(folder: Path, tmp_path: Path) -> Path:
    build_table.assemble(folder, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_claims_of_dead_processes_are_taken_over(tmp_path: Path) -> None:
    shard = build_table.Shard("seed0-0000", 0, (1,))
    claim = build_table._claim(tmp_path, shard)
    assert claim is not None and build_table._claim(tmp_path, shard) is None
    claim.write_text("999999999")
    assert build_table._claim(tmp_path, shard) is not None


def test_the_full_plan_trains_every_class_once_before_any_again() -> None:
    shards = build_table.plan()
    first = [code for shard in shards if shard.seed == 0 for code in shard.codes]
    assert len(first) == len(set(first)) == 4929
    last_first = max(k for k, shard in enumerate(shards) if shard.seed == 0)
    early = [shard for shard in shards[:last_first] if shard.seed == 1]
    assert len(early) == build_table.NOISE_SHARDS
    assert sum(len(shard.codes) for shard in shards) == 3 * 4929


# --- zero-cost scores ---------------------------------------------------------------------------------------------------


def test_scores_of_a_cell_are_finite_and_repeatable() -> None:
    from archgym.simulators.nas.zerocost import SCORES, live_scores

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 40)).astype(np.float32), rng.integers(0, 10, 16)
    first, seconds = live_scores(int(cells.codes([3, 1, 2, 4, 3, 1])), SKELETON, x, y, 0, list(SCORES))
    again, _ = live_scores(int(cells.codes([3, 1, 2, 4, 3, 1])), SKELETON, x, y, 0, list(SCORES))
    assert first == again and all(np.isfinite(value) for value in first.values())
    assert all(value >= 0 for value in seconds.values())
    dead, _ = live_scores(0, SKELETON, x, y, 0, list(SCORES))
    assert all(np.isnan(value) for value in dead.values())


def test_scores_against_their_definitions() -> None:
    """grad_norm, snip by autograd on the plain network; synflow by a finite difference; naswot by counting."""
    from archgym.simulators.nas import zerocost

    rng = np.random.default_rng(0)
    ops = [3, 1, 2, 4, 3, 1]
    theta = initial_parameters(int(cells.codes(ops)), 0)
    x = torch.as_tensor(rng.normal(size=(8, 1, 40)).astype(np.float32))
    y = torch.as_tensor(rng.integers(0, 10, 8))
    network = torch_network(ops, theta)
    torch.nn.functional.cross_entropy(network(x), y).backward()
    weights = [p for p in network.parameters() if p.dim() > 1]
    assert zerocost.grad_norm(torch_network(ops, theta), x, y) == pytest.approx(
        sum(float(p.grad.norm()) for p in weights), rel=1e-5
    )
    assert zerocost.snip(torch_network(ops, theta), x, y) == pytest.approx(
        sum(float((p.detach() * p.grad).abs().sum()) for p in weights), rel=1e-5
    )
    # Scaling every weight by (1 + h) changes log R by h * (sum of w dR/dw) / R: the definition without a backward pass.
    linear = torch_network(ops, np.abs(theta), torch.float64).eval()
    ones = torch.ones(1, 1, 40, dtype=torch.float64)

    def scaled(factor: float) -> float:
        other = torch_network(ops, np.abs(theta), torch.float64).eval()
        with torch.no_grad():
            for _, p in other.named_parameters():
                if p.dim() > 1:
                    p.mul_(factor)
            return float(other(ones).sum())

    with torch.no_grad():
        assert float(linear(ones).sum()) > 0
    derivative = (scaled(1 + 1e-5) - scaled(1 - 1e-5)) / 2e-5
    assert zerocost.synflow(torch_network(ops, theta), x, y) == pytest.approx(np.log(derivative), rel=1e-6)
    same = x[:1].repeat(4, 1, 1)
    assert zerocost.naswot(torch_network(ops, theta), same, y[:4]) == -np.inf


def test_missing_scores_rank_last() -> None:
    from archgym.simulators.nas.zerocost import fill_missing

    filled = fill_missing(np.array([3.0, np.nan, -2.0, np.inf]))
    assert filled.tolist() == [3.0, -3.0, -2.0, -3.0]
    assert np.isfinite(fill_missing(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "nosuch", "--shards", "1"], "cannot train on the device 'nosuch'"),
        (["--minutes", "nan"], "minutes=nan: expected 0 or more"),
        (["--shards", "-1"], "not in the range"),
        (["--seeds", "0,-1", "--shards", "1"], "the seed is -1; expected"),
        (["--base", "none.parquet"], "cannot read none.parquet"),
    ],
)
def test_a_table_that_cannot_be_built_leaves_no_folder(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from archgym.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["nas", "build-table", "--folder", str(tmp_path / "shards"), *arguments])
    assert stopped.value.code == 2 and not (tmp_path / "shards").exists()
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_run_on_a_device_that_is_not_there_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from archgym.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    problem = ["nas/nb201-mnist1d-v2", "--option", "device=cuda:99", "--fidelity", "train:epochs=1"]
    for more in (["--out", "new"], ["--out", "own"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["run", *problem, "--budget", "1", *more])
        assert stopped.value.code == 2
        assert "cannot train on the device 'cuda:99'" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["own", "runs"]


TRAINS = """
import hashlib
import numpy as np
from archgym.simulators.nas.data import Data, DataRecipe
from archgym.simulators.nas.trainer import TrainRecipe, train_cell

rng = np.random.default_rng(0)
x, y = rng.normal(size=(60, 40)).astype(np.float32), rng.integers(0, 10, 60)
recipe = TrainRecipe(data=DataRecipe(train=20, valid=20, test=20), epochs=20, batch=10)
data = Data(recipe.data, x[:20], y[:20], x[20:40], y[20:40], x[40:], y[40:])
theta = train_cell(15624, 0, data, recipe, keep=True).parameters
print(hashlib.sha256(theta.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.stress  # compiles the kernels (40 s); tests/spine/test_compiling.py has a small one
def test_the_process_that_compiles_trains_to_the_bits_of_those_that_load(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TRAINS]
    first, second = (subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
