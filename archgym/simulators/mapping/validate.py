"""Comparison with runs of MAESTRO on random two-level mappings (file ``maestro_gamma_runs.csv.gz``)."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.measure import Group, compare

_LETTERS = "KCYXRS"
#: Columns of the reference, in the order of the kernel's result.
_COLUMNS = {
    "runtime": "Runtime (Cycles)",
    "input_l2_reads": "input l2 read",
    "weight_l2_reads": "filter l2 read",
    "output_l2_writes": "output l2 write",
}
# nJ an L2 access in the tool's printed energy of single-layer runs.
_L2_NJ = 0.00023 * 18.61


def validate(ref: Path) -> Iterable[Group]:
    """Groups of the comparison; rows on which the tool counted the layer's own multiply-accumulates are used.

    ``maestro_gamma/...`` uses the default edge rule and asks for rank correlation a layer;
    ``maestro_gamma_digits/...`` uses the tool's own edge rule and asks for equal numbers.
    """
    path = Path(ref) / "maestro_gamma_runs.csv.gz"
    if path.is_file():
        yield from _gamma(path)


def _gamma(path: Path) -> Iterator[Group]:
    layers = _read(path)
    rows = [row for group in layers.values() for row in group]
    if not rows:
        return
    truth = np.array([[int(row[column]) for column in _COLUMNS.values()] for row in rows], dtype=np.int64)
    energy = np.array([float(row["Activity count-based Energy (nJ)"]) for row in rows])
    described = [{key: row[key] for key in row if key in _SHOWN} for row in rows]
    owner = np.repeat(np.arange(len(layers)), [len(group) for group in layers.values()])
    for rule, prefix in (("covering", "maestro_gamma"), ("maestro", "maestro_gamma_digits")):
        counts = np.concatenate([_evaluate(group, rule == "maestro") for group in layers.values()])
        ours_energy = _L2_NJ * (counts[:, 1:4].sum(axis=1) + _tensor_words(rows))
        for i, name in enumerate(_COLUMNS):
            required = {"exact": 0.99} if rule == "maestro" else {"median_tau": 0.8} if name == "runtime" else {}
            group = compare(f"{prefix}/{name}", counts[:, i], truth[:, i], required=required, rows=described)
            yield _ranked(group, counts[:, i], truth[:, i], owner)
        required = {"exact": 0.99} if rule == "maestro" else {}
        # Six significant digits are printed.
        group = compare(
            f"{prefix}/l2_energy", ours_energy, energy, required=required, exact_within=1e-5, rows=described
        )
        yield _ranked(group, ours_energy, energy, owner)


_SHOWN = {"kind", "model", "layer", "num_pes", "cluster", "noc_bw", "offchip_bw"} | {
    f"l{level}_{what}" for level in (1, 2) for what in ("par", "order", *(f"tile_{d}" for d in _LETTERS))
}


def _ranked(group: Group, ours: NDArray[Any], truth: NDArray[Any], owner: NDArray[np.int64]) -> Group:
    """Add Kendall's tau-b over the mappings of each layer: median, minimum, share of layers at 0.8 and more."""
    from scipy.stats import kendalltau

    taus = []
    for layer in np.unique(owner):
        mine, theirs = ours[owner == layer], truth[owner == layer]
        if len(theirs) > 1 and theirs.min() < theirs.max():
            taus.append(kendalltau(mine, theirs).statistic if mine.min() < mine.max() else 0.0)
    if not taus:
        return replace(group, required={k: v for k, v in group.required.items() if k != "median_tau"})
    within = np.mean(np.abs(ours - truth) <= 0.05 * np.abs(truth))
    statistics = {
        "median_tau": float(np.median(taus)),
        "min_tau": float(np.min(taus)),
        "layers": float(len(taus)),
        "within_5_percent": float(within),
    }
    return replace(group, statistics=statistics)


def _read(path: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        needed = {"model", "layer", "macs_ok", "rc", "T", *_COLUMNS.values()}
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise ArchGymError(f"{path} lacks the column {sorted(missing)[0]!r}; expected MAESTRO runs in GAMMA's form")
        groups: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in reader:
            if row["macs_ok"] == "1" and row["rc"] == "0":
                groups.setdefault((row["model"], row["layer"]), []).append(row)
    return groups


def _evaluate(rows: list[dict[str, str]], maestro: bool) -> NDArray[np.int64]:
    """The kernel's result for the runs of one layer."""
    from archgym.simulators.mapping import clusters

    depthwise = rows[0]["T"] == "2"
    bounds = [int(rows[0][letter]) for letter in _LETTERS]
    bounds[2] -= bounds[4] - 1
    bounds[3] -= bounds[5] - 1
    if depthwise:
        bounds[0] = 1
    layer = np.array([*bounds, 1, 1, 1, 1, int(depthwise)], dtype=np.int64)

    def table(make: Any) -> NDArray[np.int64]:
        return np.array([[make(row, level) for level in ("l2", "l1")] for row in rows], dtype=np.int64)

    tiles = table(lambda row, level: [int(row[f"{level}_tile_{letter}"]) for letter in _LETTERS])
    spreads = table(lambda row, level: _LETTERS.index(row[f"{level}_par"]))
    if depthwise:
        tiles[:, :, 0] = 1
        spreads = np.maximum(spreads, 1)
    orders = table(lambda row, level: [_LETTERS.index(letter) for letter in row[f"{level}_order"]])
    units = np.array([[int(r["num_pes"]) // int(r["cluster"]), int(r["cluster"])] for r in rows], dtype=np.int64)
    bandwidths = np.array([[int(r["noc_bw"]), int(r["offchip_bw"])] for r in rows], dtype=np.int64)
    return np.asarray(clusters.evaluate(layer, tiles, orders, spreads, units, bandwidths, maestro))


def _tensor_words(rows: list[dict[str, str]]) -> NDArray[np.int64]:
    """L2 writes of I and W: each word once."""
    result = []
    for row in rows:
        k, c, y, x, r, s = (int(row[letter]) for letter in _LETTERS)
        result.append(c * y * x + (1 if row["T"] == "2" else k) * c * r * s)
    return np.array(result, dtype=np.int64)
