"""Validation of the NAS simulator: against a published table where the user has it, and of our own table."""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from archgym.measure import Group, compare
from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import MACROS, macro

# Means over 500 seeds (100 for REINFORCE) of 100 queries on the published table: search on CIFAR-10 with one 12-epoch
# run as signal, judged by the 200-epoch test mean of the chosen cell on each data set.
PROTOCOL_MEANS = {
    ("random-search", "cifar10"): 93.72,
    ("random-search", "cifar100"): 71.09,
    ("random-search", "imagenet16"): 44.68,
    ("regularised-evolution", "cifar10"): 93.90,
    ("regularised-evolution", "cifar100"): 71.69,
    ("regularised-evolution", "imagenet16"): 45.22,
    ("reinforce", "cifar10"): 93.89,
    ("reinforce", "cifar100"): 71.84,
    ("reinforce", "imagenet16"): 45.35,
}
PROTOCOL_TOLERANCE_POINTS = 0.15
# Best cells of the published table by 200-epoch test mean (Dong et al., "NATS-Bench", TPAMI 2021).
BEST = {
    "cifar10": ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|", 94.3733),
    "cifar100": ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|", 73.5133),
    "imagenet16": (
        "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        47.3111,
    ),
}  # fmt: skip


def validate(ref: Path) -> Iterable[Group]:
    """Groups of agreement, one after the other.

    From ``nb201_table.parquet``: strings, classes, dead cells, parameters and MACs of every row, the best cells, the
    local maxima, the fit of the latency look-up a device column, the protocols. From ``zc_subset.csv.gz``: parameters
    and rank correlations. Then our own table: its figures, and 20 random entries trained again.
    """
    path = ref / "nb201_table.parquet"
    if path.exists():
        yield from _published(path)
    subset = ref / "zc_subset.csv.gz"
    if subset.exists() and path.exists():
        yield from _zero_cost(subset, path)
    yield from _own_table()


def _published(path: Path) -> Iterable[Group]:
    from archgym.simulators.nas import table
    from archgym.simulators.nas.latency import fit_lookup

    stored = table.read_columns(path)
    texts = stored["arch_str"]
    codes = cells.codes_of_strings(texts)
    rows = cells.rows(codes)
    names: list[dict[str, Any]] = [{"arch_str": text} for text in texts]
    yield Group(
        "space/architecture-strings", len(codes),
        float(np.mean([cells.to_string(row) == text for row, text in zip(rows.tolist(), texts, strict=True)])),
        float("nan"), float("nan"), {"exact": 1.0},
    )  # fmt: skip
    for rule, count in cells.CLASS_RULES.items():
        if f"iso_{rule}" in stored:
            ours, theirs = cells.classes(rule)[codes], np.asarray(stored[f"iso_{rule}"], dtype=np.int64)
            # Two partitions agree on a row where its class in one is exactly its class in the other.
            pair = np.unique(np.stack([ours, theirs]), axis=1, return_inverse=True)[1].reshape(-1)
            size = np.bincount(pair)[pair]
            equal = (size == np.bincount(ours)[ours]) & (size == np.bincount(theirs)[theirs])
            found = len(np.unique(cells.classes(rule)))
            yield Group(
                f"space/classes/{rule}", len(codes), float(equal.mean()), float("nan"), float("nan"),
                {"exact": 1.0, "count_as_published": 1.0},
                {"classes": float(found), "count_as_published": float(found == count)},
            )  # fmt: skip
    if "is_dead" in stored:
        yield compare(
            "space/dead-cells", cells.is_dead(rows), np.asarray(stored["is_dead"]), required={"exact": 1.0}, rows=names
        )
    n1, n3 = (rows == cells.CONV1).sum(1), (rows == cells.CONV3).sum(1)
    for dataset in ("cifar10", "cifar100", "imagenet16"):
        for metric, ours in (("params", MACROS[dataset].parameters(n1, n3)), ("macs", MACROS[dataset].macs(n1, n3))):
            if f"{dataset}_{metric}" in stored:
                yield compare(
                    f"formula/{metric}/{dataset}",
                    ours,
                    stored[f"{dataset}_{metric}"],
                    required={"exact": 1.0},
                    rows=names,
                )
    complete = len(codes) == cells.CELLS
    for dataset, (text, accuracy) in BEST.items():
        column = f"{dataset}_test_acc_200ep"
        if column not in stored or not complete:
            continue
        values = np.empty(cells.CELLS)
        values[codes] = stored[column]
        # Two cells tie on CIFAR-10; the published one has to be among the best.
        named = float(values[int(cells.codes(cells.from_string(text)))])
        error = abs(named - accuracy) / accuracy
        yield Group(
            f"table/best-cell/{dataset}", 1, float(named == values.max()), error, error,
            {"exact": 1.0, "worst_error": 1e-5},
            {"accuracy_percent": named, "local_maxima": float(len(cells.local_maxima(values)))},
        )  # fmt: skip
    for column in stored:
        match = table._LATENCY.match(column)
        if match and complete:
            times = np.empty(cells.CELLS)
            times[codes] = stored[column]
            if np.isfinite(times).all():
                fit = fit_lookup(cells.all_rows(), times)
                per_edge = fit_lookup(cells.all_rows(), times, per_edge=True)
                off = np.abs(fit(cells.all_rows()) - times) / np.maximum(np.abs(times), 1e-9)
                yield Group(
                    f"latency/look-up/{match['device']}", cells.CELLS - 1000, float("nan"), float(np.median(off)),
                    float("nan"), {},
                    {"r2": fit.r2, "tau": fit.tau, "r2_per_edge": per_edge.r2, "tau_per_edge": per_edge.tau},
                )  # fmt: skip
    needed = {"cifar10_test_acc_12ep_onerun", *(f"{dataset}_test_acc_200ep" for dataset in BEST)}
    if complete and needed <= set(stored):
        from archgym.simulators.nas.protocols import published_protocols

        for dataset, outcomes in published_protocols(path).items():
            for name, outcome in outcomes.items():
                expected = PROTOCOL_MEANS[name, dataset]
                difference = abs(outcome.mean - expected)
                yield Group(
                    f"protocol/{name}/{dataset}", len(outcome.result), float("nan"), difference / expected,
                    difference / expected, {"margin_points": 0.0},
                    {"mean_percent": outcome.mean, "deviation_points": outcome.deviation, "expected_percent": expected,
                     "margin_points": PROTOCOL_TOLERANCE_POINTS - difference},
                )  # fmt: skip


def _zero_cost(subset: Path, path: Path) -> Iterable[Group]:
    import pyarrow.csv

    from archgym.simulators.nas import table
    from archgym.simulators.nas.statistics import tau

    read = pyarrow.csv.read_csv(subset)
    order = table.read_columns(path)
    code_of = dict(
        zip(np.asarray(order["index"]).tolist(), cells.codes_of_strings(order["arch_str"]).tolist(), strict=True)
    )
    codes = np.array([code_of[index] for index in read.column("index").to_pylist()])
    rows = cells.rows(codes)
    dataset = np.array(read.column("dataset").to_pylist())
    n1, n3 = (rows == cells.CONV1).sum(1), (rows == cells.CONV3).sum(1)
    accuracy = read.column("val_accuracy").to_numpy().astype(np.float64)
    for name in MACROS:
        here = dataset == name
        if not here.any():
            continue
        ours = MACROS[name].parameters(n1[here], n3[here]).astype(np.float64)
        theirs = read.column("params_m").to_numpy().astype(np.float64)[here] * 1e6
        given = np.isfinite(theirs)
        group = compare(
            f"zero-cost/params/{name}", ours[given], theirs[given], required={"worst_error": 1e-6}, exact_within=1e-9
        )
        first = here & (np.array(read.column("batch").to_pylist()) == "a")
        statistics = {
            "tau_params_accuracy": tau(MACROS[name].parameters(n1[first], n3[first]).astype(float), accuracy[first])
        }
        yield Group(
            group.group,
            group.rows,
            group.exact,
            group.mean_error,
            group.worst_error,
            group.required,
            statistics,
            group.worst,
        )
    if "synflow" not in read.column_names:
        return
    try:
        from archgym.simulators.nas.zerocost import live_scores, scoring_batch
    except ImportError:
        return
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
    theirs = read.column("synflow").to_numpy().astype(np.float64)
    usable = np.flatnonzero((dataset == "imagenet16") & np.isfinite(theirs) & ~cells.is_dead(rows))
    if not len(usable):
        return
    chosen = np.random.default_rng(0).permutation(usable)[:20]
    skeleton = macro("imagenet16")
    x, y = scoring_batch("", skeleton, 0)
    ours = np.array([live_scores(int(codes[i]), skeleton, x[:2], y[:2], 0, ["synflow"])[0]["synflow"] for i in chosen])
    yield Group(
        "zero-cost/synflow/imagenet16", len(chosen), float("nan"), float("nan"), float("nan"), {"tau": 0.8},
        {"tau": tau(ours, theirs[chosen])},
    )  # fmt: skip


def _own_table(entries: int = 20) -> Iterable[Group]:
    from archgym.errors import ArchGymError, MissingExtraError
    from archgym.simulators.nas.statistics import table_statistics
    from archgym.simulators.nas.table import Key, own_table, own_table_path

    try:
        table = own_table()
    except ArchGymError:
        return
    figures = table_statistics(table)
    yield Group("own-table/figures", int(figures["cells"]), float("nan"), float("nan"), float("nan"), {}, figures)
    from archgym.simulators.nas.data import load_data
    from archgym.simulators.nas.table import read_assembled
    from archgym.simulators.nas.trainer import TrainRecipe, train_cell

    recipe = TrainRecipe.from_dict(table.metadata["recipe"])
    try:
        data = load_data(recipe.data)
    except MissingExtraError:
        return
    yield Group(
        "own-table/data",
        1,
        float(data.fingerprint == table.metadata["data_fingerprint"]),
        float("nan"),
        float("nan"),
        {},
    )
    columns, _ = read_assembled(own_table_path(table.name))
    noise = table.noise_deviation(Key("test", "full", recipe.epochs))
    rng = np.random.default_rng(20)
    picks = rng.permutation(len(columns["code"]))[:entries]
    worst, errors, within = [], [], []
    for i in picks:
        code, seed = int(columns["code"][i]), int(columns["seed"][i])
        again = train_cell(code, seed, data, recipe).test[-1]
        recorded = columns[f"test_e{recipe.epochs}"][i] / 100.0
        errors.append(abs(again - recorded) / recorded)
        # Two runs of one cell differ with a deviation of sqrt(2) times the seed noise.
        within.append(abs(again - recorded) <= 3.0 * np.sqrt(2.0) * noise)
        worst.append(
            {
                "arch_str": cells.to_string(cells.rows(code)),
                "seed": seed,
                "ours": again,
                "reference": recorded,
                "error": errors[-1],
            }
        )
    worst.sort(key=lambda row: -float(row["error"]))
    yield Group(
        "own-table/retrained", len(picks), float(np.mean(within)), float(np.mean(errors)), float(np.max(errors)),
        {"exact": 0.95}, {"seed_noise_points": noise, "equal_share": float(np.mean(np.array(errors) < 1e-9))}, worst,
    )  # fmt: skip
