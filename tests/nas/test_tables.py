"""Tables of trained cells: fidelities, loaders and what they refuse, runs, noise, latency look-ups."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells, latency, table
from archgym.simulators.nas.fidelity import PROXIES, Fidelity, parse_fidelity
from archgym.simulators.nas.table import Key


def made(path: Path, change: Any = None, rows: int = 15625) -> Path:
    """A neutral Parquet of made-up numbers."""
    order = np.random.default_rng(1).permutation(15625)[:rows]
    columns: dict[str, Any] = {
        "arch_str": [cells.all_strings()[code] for code in order],
        "toy_valid_acc_200ep": order / 200.0,
        "toy_valid_acc_12ep_run1": order / 300.0,
        "toy_valid_acc_12ep_run2": order / 300.0 + 1.0,
        "toy_test_acc_200ep": order / 160.0,
        "toy_seconds_200ep": np.full(rows, 7.0),
        "latency_us_box": 1000.0 + (cells.rows(order) == 3).sum(1) * 500.0,
    }
    if change is not None:
        change(columns)
    pq.write_table(pa.table(columns), path)
    return path


# --- fidelity texts -----------------------------------------------------------------------------------------------------


def _fidelities(source: str, **values: list) -> st.SearchStrategy[Fidelity]:
    return st.builds(Fidelity, source=st.just(source), **{k: st.sampled_from([None, *v]) for k, v in values.items()})


_SPLIT, _EPOCHS = ["valid", "test"], [1, 12, 200]


@given(
    st.one_of(
        _fidelities(
            "table", split=_SPLIT, epochs=_EPOCHS, schedule=["full", "short"], run=["mean", "single"],
            noise=["none", "gaussian"],
        ),
        _fidelities("train", split=_SPLIT, epochs=_EPOCHS, schedule=["full", "short"], run=["single"]),
        _fidelities("train", split=_SPLIT, epochs=_EPOCHS, inherit=["supernet", "parent"]),
        _fidelities("supernet", split=_SPLIT, run=["mean", "single"], policy=["uniform", "fair"], steps=[100]),
        _fidelities("zero-cost", proxy=list(PROXIES)),
    )
)  # fmt: skip
def test_fidelity_text_round_trips(fidelity: Fidelity) -> None:
    assert parse_fidelity(str(fidelity)) == fidelity


def test_fidelity_of_a_score() -> None:
    for proxy in PROXIES:
        assert parse_fidelity(f"zero-cost:proxy={proxy}").proxy == proxy
    assert parse_fidelity(None) == Fidelity()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tabel", "did you mean 'table'"),
        ("table:epoch=3", "cannot read 'epoch=3'"),
        ("table:epochs=many", "expected a whole number"),
        ("table:epochs=0", "outside 1 to 10,000"),
        ("table:run=random", "choose mean or single"),
        ("table:run=mean,run=single", "twice"),
        ("table:", "nothing after the colon"),
        ("table:proxy=zen", "takes no proxy"),
        ("zero-cost:proxy=magic", "choose synflow"),
    ],
)
def test_bad_fidelities(text: str, sentence: str) -> None:
    with pytest.raises(ArchGymError, match=sentence):
        parse_fidelity(text)


# --- neutral tables -----------------------------------------------------------------------------------------------------


def test_neutral_table(tmp_path: Path) -> None:
    loaded = table.read_neutral(made(tmp_path / "t.parquet"))
    codes = np.arange(15625)
    assert [str(key) for key in loaded.kinds()] == [
        "split=test,schedule=full,epochs=200",
        "split=valid,schedule=full,epochs=200",
        "split=valid,schedule=short,epochs=12",
    ]
    resolved = loaded.resolve(Fidelity())
    assert str(resolved) == "table:split=valid,epochs=200,schedule=full,run=mean,noise=none"
    assert np.array_equal(loaded.column(resolved, codes, 0), codes / 200.0)
    assert loaded.train_seconds(resolved)[5] == 7.0
    assert loaded.latency["box"][cells.codes([3, 3, 0, 0, 0, 3])] == pytest.approx(2.5)
    mean = loaded.resolve(parse_fidelity("table:epochs=12"))
    assert (mean.schedule, mean.run) == ("short", "mean")
    assert np.allclose(loaded.column(mean, codes, 0), codes / 300.0 + 0.5)


def test_single_runs_are_drawn_by_seed_and_cell_alone(tmp_path: Path) -> None:
    loaded = table.read_neutral(made(tmp_path / "t.parquet"))
    single = loaded.resolve(parse_fidelity("table:epochs=12,run=single"))
    codes = np.random.default_rng(0).permutation(15625)
    one = loaded.column(single, codes, 3)
    assert np.array_equal(one[::-1], loaded.column(single, codes[::-1].copy(), 3))
    assert np.array_equal(one[:5], np.concatenate([loaded.column(single, codes[k : k + 1], 3) for k in range(5)]))
    other = loaded.column(single, codes, 4)
    drawn = one - codes / 300.0
    assert set(np.round(drawn, 6)) == {0.0, 1.0}
    assert 0.45 < (one == other).mean() < 0.55
    assert 0.45 < drawn.mean() < 0.55


def test_gaussian_noise_has_the_recorded_deviation_and_spares_dead_cells(tmp_path: Path) -> None:
    loaded = table.read_neutral(made(tmp_path / "t.parquet"))
    noisy = loaded.resolve(parse_fidelity("table:epochs=12,noise=gaussian"))
    deviation = loaded.noise_deviation(Key("valid", "short", 12))
    assert deviation == pytest.approx(np.sqrt(0.5))
    codes = np.flatnonzero(~cells.is_dead(cells.all_rows()))
    mean = loaded.mean[Key("valid", "short", 12)]
    difference = (loaded.column(noisy, codes, 0) - mean[codes])[codes > 3000]
    assert difference.std() == pytest.approx(deviation, rel=0.05)
    assert abs(difference.mean()) < 0.03
    dead = np.flatnonzero(cells.is_dead(cells.all_rows()))
    assert np.array_equal(loaded.column(noisy, dead, 0), mean[dead])
    with pytest.raises(ArchGymError, match="seed noise is unknown"):
        loaded.column(loaded.resolve(parse_fidelity("table:epochs=200,noise=gaussian")), codes, 0)


def test_what_the_table_lacks_is_listed(tmp_path: Path) -> None:
    loaded = table.read_neutral(made(tmp_path / "t.parquet"))
    with pytest.raises(ArchGymError, match=r"no result for table:split=test,epochs=12.*split=valid,schedule=short"):
        loaded.resolve(parse_fidelity("table:split=test,epochs=12"))


def drop(name: str) -> Any:
    return lambda columns: columns.pop(name)


def put(name: str, row: int, value: Any) -> Any:
    def change(columns: dict[str, Any]) -> None:
        column = list(columns[name])
        column[row] = value
        columns[name] = column

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (drop("arch_str"), "no column 'arch_str'"),
        (put("arch_str", 3, "|none~0|"), "expected three parts"),
        (lambda c: c.update(arch_str=[*c["arch_str"][1:], c["arch_str"][1]]), "twice"),
        (put("toy_test_acc_200ep", 3, float("nan")), "1 missing value"),
        (put("toy_test_acc_200ep", 3, 101.0), "has the value 101 in row 3; expected 0 to 100"),
        (lambda c: c.update(toy_test_acc_200ep=["x"] * 15625), "holds text"),
        (lambda c: [c.pop(n) for n in list(c) if n.startswith("toy")], "no accuracy column"),
        (put("latency_us_box", 0, -1.0), "latency_us_box"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    with pytest.raises(ArchGymError, match=sentence):
        table.read_neutral(made(tmp_path / "t.parquet", change))


def test_wrong_row_count_and_partial(tmp_path: Path) -> None:
    path = made(tmp_path / "t.parquet", rows=100)
    with pytest.raises(ArchGymError, match="100 rows; expected all 15,625"):
        table.read_neutral(path)
    loaded = table.read_neutral(path, partial=True)
    assert loaded.missing == 15525


def test_other_files_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "t.pkl"
    bad.write_bytes(pickle.dumps({"a": 1}))
    hidden = tmp_path / "t.parquet"
    hidden.write_bytes(bad.read_bytes())
    for path in (bad, hidden):
        with pytest.raises(ArchGymError, match="is a pickle"):
            table.read_table_file(path)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ArchGymError, match="cannot read"):
        table.read_table_file(broken)
    with pytest.raises(ArchGymError, match="there is no file"):
        table.read_table_file(tmp_path / "none.csv")
    ragged = tmp_path / "t.csv"
    ragged.write_text("arch_str,a\nx,1\ny\n")
    with pytest.raises(ArchGymError, match="line 3"):
        table.read_table_file(ragged)


def test_csv_and_a_declared_mapping(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ["arch_str,accuracy"] + [f"{text},{code / 200}" for code, text in enumerate(cells.all_strings())]
    path.write_text("\n".join(lines) + "\n")
    loaded = table.read_neutral(path, columns={"accuracy": {"split": "valid", "epochs": 50}})
    assert loaded.mean[Key("valid", "full", 50)][77] == pytest.approx(77 / 200)
    with pytest.raises(ArchGymError, match="choose valid or test"):
        table.read_neutral(path, columns={"accuracy": {"split": "train"}})


def test_modelled_seconds_are_marked(tmp_path: Path) -> None:
    loaded = table.read_neutral(made(tmp_path / "t.parquet", drop("toy_seconds_200ep")), seconds_model=[1.0, 1e-6])
    assert loaded.seconds_modelled
    seconds = loaded.train_seconds(loaded.resolve(Fidelity()))
    assert seconds[0] == pytest.approx(200 * (1 + 1e-6 * table.cell_macs("cifar10")[0]))


def test_indices_of_a_file(tmp_path: Path) -> None:
    path = made(tmp_path / "t.parquet", lambda c: c.update(index=np.arange(15625)))
    numbers = table.read_indices(path)
    strings = table.read_columns(path)["arch_str"]
    assert all(strings[numbers[code]] == cells.all_strings()[code] for code in range(0, 15625, 500))


def test_nats_bench_export_asks_for_means(tmp_path: Path) -> None:
    class Api:
        """Answers like NATS-Bench's topology API."""

        def __len__(self) -> int:
            return 15625

        def arch(self, index: int) -> str:
            return cells.all_strings()[index]

        def get_more_info(self, index: int, dataset: str, hp: str, is_random: bool) -> dict[str, float]:
            assert not is_random
            return {"test-accuracy": index / 200, "valid-accuracy": index / 250, "train-all-time": float(hp)}

    path = table.export_nats_bench(Api(), tmp_path / "nats.parquet", datasets=("cifar10",))
    loaded = table.read_neutral(path)
    assert loaded.mean[Key("test", "full", 200)][400] == 2.0
    assert loaded.mean[Key("valid", "short", 12)][500] == 2.0
    assert loaded.run_seconds["short", 12][0] == 12.0


# --- the reference table ------------------------------------------------------------------------------------------------


def test_reference_table(ref: Path) -> None:
    path = ref / "nas" / "nb201_table.parquet"
    if not path.exists():
        pytest.skip("no reference table")
    for dataset, best, index in (("cifar10", 94.3733, 6111), ("cifar100", 73.5133, 9930), ("imagenet16", 47.3111, 857)):
        loaded = table.read_table_file(path, dataset=dataset)
        values = loaded.mean[Key("test", "full", 200)]
        assert values.max() == pytest.approx(best, abs=5e-5)
        assert values[table.read_indices(path) == index] == values.max()  # on CIFAR-10 two cells tie
    assert len(loaded.latency) == 27


def test_a_linear_model_does_not_solve_the_space(ref: Path) -> None:
    path = ref / "nas" / "nb201_table.parquet"
    if not path.exists():
        pytest.skip("no reference table")
    values = table.read_table_file(path).mean[Key("test", "full", 200)]
    fit = latency.fit_lookup(cells.all_rows(), values, per_edge=True)
    assert fit.r2 < 0.4 and fit.tau < 0.65


# --- latency ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_edge", [False, True])
@pytest.mark.parametrize("dead_code", ["kept", "removed"])
def test_fit_recovers_an_additive_cost(per_edge: bool, dead_code: latency.DeadCode) -> None:
    rng = np.random.default_rng(0)
    costs = np.zeros((6, 5))
    costs[:, 1:] = rng.uniform(0.1, 2.0, (6, 4)) if per_edge else rng.uniform(0.1, 2.0, 4)
    truth = latency.AdditiveLookup(3.0, costs, dead_code)
    values = truth(cells.all_rows())
    fit = latency.fit_lookup(cells.all_rows(), values, per_edge=per_edge, dead_code=dead_code, samples=2000)
    assert np.allclose(fit(cells.all_rows()), values)
    assert fit.r2 == pytest.approx(1.0) and fit.residual < 1e-9
    assert fit.tau > 0.999


def test_expected_cost_is_the_mean_over_sampled_cells() -> None:
    rng = np.random.default_rng(0)
    costs = np.zeros((6, 5))
    costs[:, 1:] = rng.uniform(0.1, 2.0, (6, 4))
    lookup = latency.AdditiveLookup(1.0, costs)
    assert lookup.expected(np.full((6, 5), 0.2)) == pytest.approx(lookup(cells.all_rows()).mean())


def test_too_few_cells_to_fit() -> None:
    with pytest.raises(ArchGymError, match="cannot fit"):
        latency.fit_lookup(cells.all_rows()[:3], np.ones(3))
    with pytest.raises(ArchGymError, match="missing"):
        latency.fit_lookup(cells.all_rows()[:9], np.full(9, np.nan))


# --- seeds --------------------------------------------------------------------------------------------------------------


def test_statistics_of_seeds_on_runs_whose_noise_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from archgym.simulators.nas.statistics import pairwise_tau, seed_statistics, tau_of_means
    from archgym.simulators.nas.table import CellTable, Key

    rng = np.random.default_rng(0)
    score = rng.normal(size=4000)
    runs = np.stack([score + rng.normal(0, 0.5, 4000) for _ in range(6)])
    # Normal scores: tau = 2 / pi asin(reliability), and the means of three agree as Spearman and Brown say.
    reliability = 1.0 / 1.25
    assert pairwise_tau(runs[:3]) == pytest.approx(2 / np.pi * np.arcsin(reliability), abs=0.01)
    means = np.stack([runs[:3].mean(0), runs[3:].mean(0)])
    assert tau_of_means(pairwise_tau(runs[:3]), 3) == pytest.approx(pairwise_tau(means), abs=0.01)
    assert pairwise_tau(runs[:3], upper_half=True) < pairwise_tau(runs[:3])
    # On the scale of the error's logarithm the noise is what it was made to be, also where classes lack a run.
    key = Key("test", "full", 20)
    accuracy = 100.0 - np.exp(-runs[:3])
    accuracy[2, :500] = np.nan
    table = CellTable("toy", {}, {key: np.full((3, 15625), np.nan)})
    at = np.arange(4000)
    table.runs[key][:, at] = accuracy
    table.cross_entropy[key] = -table.runs[key]
    figures = seed_statistics(table, key, at)
    assert figures["reliability_1_seed_log_error"] == pytest.approx(reliability, abs=0.02)
    assert figures["tau_between_seeds"] == pytest.approx(figures["tau_between_seeds_cross_entropy"])
    assert figures["tau_between_seeds"] == pytest.approx(pairwise_tau(runs[:3]), abs=0.02)
    twos = np.stack([runs[:2].mean(0), runs[2:4].mean(0)])
    for count, of_means in ((2, twos), (3, means)):
        assert figures[f"predicted_tau_of_{count}_seed_means"] == pytest.approx(pairwise_tau(of_means), abs=0.02)
    assert "predicted_tau_of_4_seed_means" not in figures


def test_the_second_tables_columns_are_read(tmp_path: Path) -> None:
    from archgym.simulators.nas import build_table
    from archgym.simulators.nas.recipes import TABLE_RECIPES
    from archgym.simulators.nas.table import Key, read_own_table

    recipe = TABLE_RECIPES["nb201-mnist1d-v2"]
    codes = build_table.plan((0,), 8)[0].codes
    columns: dict[str, np.ndarray] = {  # type: ignore[type-arg]
        "code": np.repeat(np.sort(np.array(codes, dtype=np.uint16)), 3),
        "seed": np.tile(np.arange(3, dtype=np.uint8), len(codes)),
        "train_loss": np.linspace(0.1, 1.0, 3 * len(codes), dtype=np.float32),
    }
    rng = np.random.default_rng(0)
    for epoch in recipe.checkpoints:
        for split in ("valid", "test"):
            columns[f"{split}_e{epoch}"] = rng.integers(5000, 9500, 3 * len(codes)).astype(np.uint16)
            entropy = rng.uniform(0.1, 1.0, 3 * len(codes)).astype(np.float32)
            columns[f"{split}_cross_entropy_e{epoch}"] = entropy
        columns[f"seconds_e{epoch}"] = np.full(3 * len(codes), 0.1 * epoch, dtype=np.float32)
    path = tmp_path / "v2.parquet"
    metadata = {"name": "nb201-mnist1d-v2", "recipe": recipe.as_dict(), "recipe_fingerprint": recipe.fingerprint}
    build_table.write_table(path, columns, metadata)
    table = read_own_table(path)
    assert table.name == "nb201-mnist1d-v2" and build_table.named_recipe(None, path) == recipe
    key = Key("test", "full", 20)
    assert table.runs[key].shape == (3, 15625)
    order = np.argsort(codes)
    at = np.array(codes)[order]
    assert np.allclose(table.cross_entropy[key][:, at].T.ravel(), columns["test_cross_entropy_e20"])
    assert table.train_loss is not None and np.allclose(table.train_loss[:, at].T.ravel(), columns["train_loss"])
    assert table.cross_entropy[key][0, 0] == pytest.approx(np.log(10.0))  # a dead cell
    with pytest.raises(ArchGymError, match="unknown table recipe"):
        build_table.named_recipe("nb201-mnist1d-v3")
