"""Comparison with runs of MAESTRO: random two-level mappings (file ``maestro_gamma_runs.csv.gz``), and the dataflows
that come with the tool (``maestro_dataflows.csv.gz`` with the directives of ``maestro_mappings.json``)."""

from __future__ import annotations

__all__ = ()

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote
from archgym.measure import Group, compare
from archgym.reading import read_json

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
    ``maestro_dataflows_digits/...`` does so for the tool's own dataflows, one or two levels, strides included, but for
    strided layers whose rows or columns are spread over units: there the tool's own overlap rule differs from ours
    (``maestro_dataflows_strided_spread/...``, reported only).
    """
    folder = Path(ref)
    path = folder / "maestro_gamma_runs.csv.gz"
    if path.is_file():
        yield from _gamma(path)
    path, mappings = folder / "maestro_dataflows.csv.gz", folder / "maestro_mappings.json"
    if path.is_file() and mappings.is_file():
        yield from _dataflows(path, mappings)


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
    from archgym.simulators.mapping.kernels import clusters

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
    bandwidths = np.array([[int(r["noc_bw"]), int(r["offchip_bw"]), 1] for r in rows], dtype=np.int64)
    return np.asarray(clusters.evaluate(layer, tiles, orders, spreads, units, bandwidths, maestro))


def _tensor_words(rows: list[dict[str, str]]) -> NDArray[np.int64]:
    """L2 writes of I and W: each word once."""
    result = []
    for row in rows:
        k, c, y, x, r, s = (int(row[letter]) for letter in _LETTERS)
        result.append(c * y * x + (1 if row["T"] == "2" else k) * c * r * s)
    return np.array(result, dtype=np.int64)


# --- the tool's own dataflows ------------------------------------------------------------------------------------------

Directive = tuple[str, str, int | None, bool]
"""Kind (T or S), dim letter, map size (None for a dim that is not tiled at this level), and whether the size is in outputs
(``Y'`` and ``X'``) where the dim is a row or column."""


def _dataflows(path: Path, mappings: Path) -> Iterator[Group]:
    from archgym.simulators.mapping.kernels import clusters

    known = read_json(mappings)["mappings"]
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    found: dict[str, list[tuple[NDArray[np.int64], list[int], dict[str, str]]]] = {"digits": [], "strided_spread": []}
    for row in rows:
        entry = known.get(row["mapping_file"], {}).get(row["Layer Number"])
        if entry is None:
            continue
        layer, tiles, orders, spreads, clustered = _nest(entry)
        # Some layers of the tool's files share a name, and the directives are those of one of them.
        if int(np.prod(layer[:6])) != int(row["Num MACs"]):
            continue
        pes = int(row["num_pes"])
        units = [pes // int(np.prod(clustered)), *clustered]
        # The first word of a transfer costs nothing in these runs.
        bandwidths = np.array([[int(row["noc_bw"]), int(row["offchip_bw"]), 0]], dtype=np.int64)
        counts = clusters.evaluate(
            layer, np.array([tiles]), np.array([orders]), np.array([spreads]), np.array([units]), bandwidths, True
        )[0]
        strided = layer[6] > 1 and bool({2, 3} & set(spreads))
        shown = {key: row[key] for key in ("mapping_file", "Layer Number", "num_pes", "noc_bw")}
        truth = [int(row[column]) for column in _COLUMNS.values()]
        found["strided_spread" if strided else "digits"].append((counts, truth, shown))
    for kind, compared in found.items():
        if not compared:
            continue
        for i, name in enumerate(_COLUMNS):
            yield compare(
                f"maestro_dataflows_{kind}/{name}",
                [counts[i] for counts, _, _ in compared],
                [truth[i] for _, truth, _ in compared],
                required={"exact": 0.99} if kind == "digits" else {},
                rows=[shown for _, _, shown in compared],
            )


def _nest(
    entry: Mapping[str, Any],
) -> tuple[NDArray[np.int64], list[list[int]], list[list[int]], list[int], list[int]]:
    """A layer and its directives as the kernel takes them: layer, tiles, orders and spread dims a level, and the sizes
    of the clusters."""
    sizes = {letter: int(entry["dims"].get(letter, 1)) for letter in (*_LETTERS, *entry["dims"])}
    stride = int((entry.get("stride") or {}).get("X", 1))
    depthwise = entry["type"] == "DSCONV"
    bounds = [sizes[letter] for letter in _LETTERS]
    bounds[2], bounds[3] = ((bounds[a] - bounds[b]) // stride + 1 for a, b in ((2, 4), (3, 5)))
    dims = "CRSXY" if depthwise else "CKRSXY"
    bounds[0] = 1 if depthwise else bounds[0]
    tiles: list[list[int]] = []
    orders: list[list[int]] = []
    spreads: list[int] = []
    clustered: list[int] = []
    above = bounds
    outputs = {"Y'": bounds[2], "X'": bounds[3]}
    for directives in _levels(entry["directives"], sizes | outputs, dims, clustered):
        tile, named = list(above), {directive[1]: directive for directive in directives}
        for letter in "KCRS":
            given = named.get(letter)
            if given is not None and given[2] is not None:
                tile[_LETTERS.index(letter)] = min(given[2], tile[_LETTERS.index(letter)])
        for letter, taps in (("Y", 4), ("X", 5)):
            given, place = named[letter], _LETTERS.index(letter)
            if given[2] is not None:
                # Input rows lie under a tile of outputs.
                rows = given[2] if given[3] else max((given[2] + stride - tile[taps]) // stride, 1)
                tile[place] = min(rows, above[place])
        order = [_LETTERS.index(directive[1]) for directive in directives]
        tiles.append(tile)
        orders.append(order + [0] * depthwise)
        spreads.append(next(_LETTERS.index(directive[1]) for directive in directives if directive[0] == "S"))
        above = tile
    layer = np.array([*bounds, stride, stride, 1, 1, int(depthwise)], dtype=np.int64)
    return layer, tiles, orders, spreads, clustered


def _levels(
    directives: Iterable[list[str]], sizes: Mapping[str, int], dims: str, clustered: list[int]
) -> Iterator[list[Directive]]:
    """The directives level by level, every dim once: a dim that a level leaves out comes first with the tile of the
    level above, or last and whole where there is none."""

    def number(text: str) -> int:
        return sizes[text[3:-1]] if str(text).startswith("Sz(") else int(text)

    levels: list[list[Directive]] = [[]]
    for directive in directives:
        if directive[0] == "C":
            clustered.append(number(directive[1]))
            levels.append([])
            continue
        letter = directive[1].rstrip("'")
        if letter not in _LETTERS and sizes.get(letter) == 1:
            continue  # one step, as a batch of one
        if letter not in _LETTERS or (letter != directive[1] and letter not in "YX"):
            raise ArchGymError(
                f"a MAESTRO mapping tiles {quote(directive[1])}; expected {', '.join(_LETTERS)}, Y' or X'"
            )
        if letter in dims:  # a depthwise layer has no K
            levels[-1].append((directive[0], letter, number(directive[2]), letter != directive[1]))
    above: list[Directive] = []
    for level in levels:
        for _, letter, size, outputs in above:
            if letter not in {known[1] for known in level}:
                level.insert(0, ("T", letter, size, outputs))
        level += [("T", letter, None, False) for letter in dims if letter not in {known[1] for known in level}]
        above = level
        yield level
