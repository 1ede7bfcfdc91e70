"""What a table of trained cells is worth: coverage, spread, seed noise, rank correlations, landscape.

``archgym nas statistics [TABLE.parquet] [--dataset cifar10]`` prints all of it for our own table, or for a table of
one's own.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells
from archgym.simulators.nas.fidelity import Fidelity
from archgym.simulators.nas.table import (
    CellTable,
    Key,
    cell_macs,
    cell_parameters,
    dataset_macro,
    live_representatives,
    space_averages,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kendall's tau-b over the pairs of values that are both finite; NaN with fewer than three."""
    from scipy.stats import kendalltau

    both = np.isfinite(a) & np.isfinite(b)
    return float(kendalltau(a[both], b[both])[0]) if both.sum() > 2 else float("nan")


def half_width(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Half the 95 % interval of the mean of independent values ``(n,)``, by Student's t; NaN for a single value."""
    from scipy.stats import t

    count = len(values)
    return float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)) if count > 1 else float("nan")


def mean_interval(values: NDArray[np.float64]) -> tuple[float, list[float]]:
    """Mean of independent values ``(n,)`` and its 95 % interval, as :func:`half_width` has it."""
    mean, half = float(np.mean(values)), half_width(values)
    return mean, [mean - half, mean + half]


def pairwise_tau(runs: NDArray[np.float64], upper_half: bool = False) -> float:
    """Mean over pairs of runs of the tau between them, ``runs`` ``(r, n)``; of the upper half of the cells by the first
    run of a pair where asked for. Cells that lack a run of a pair are left out of it."""
    found = []
    for first, second in combinations(runs, 2):
        both = np.isfinite(first) & np.isfinite(second)
        if upper_half:
            both &= first >= np.median(first[both])
        found.append(tau(first[both], second[both]))
    return float(np.nanmean(found))


def tau_of_means(tau_of_one: float, runs: int) -> float:
    """Tau that two means of so many runs should have, from the tau between single runs: Spearman and Brown's formula on
    the correlation sin(pi tau / 2) of normal scores."""
    one = np.sin(np.pi * tau_of_one / 2)
    return float(2 / np.pi * np.arcsin(runs * one / (1 + (runs - 1) * one)))


def seed_statistics(table: CellTable, final: Key, at: NDArray[np.int64]) -> dict[str, float]:
    """What the runs of the classes ``at`` say of the seed noise.

    ``reliability_*``: one minus the share of the noise in the variance of one run, over the classes with several; on the
    scale of the error's logarithm, -log(100 - accuracy), the noise is nearly the same for good and for weak cells.
    ``predicted_tau_of_<k>_seed_means``: of two independent means of k runs, up to the runs that there are, at least three.
    """
    runs = table.runs[final][:, at]
    several = np.isfinite(runs).sum(0) > 1

    def reliability(values: NDArray[np.float64]) -> float:
        count = np.isfinite(values).sum(0)
        noise = np.nansum((values - np.nanmean(values, axis=0)) ** 2) / (count - 1).sum()
        return float(1.0 - noise / np.var(values[np.isfinite(values)]))

    result = {
        "seed_noise_points": table.noise_deviation(final),
        "tau_between_seeds": pairwise_tau(runs),
        "tau_between_seeds_upper_half": pairwise_tau(runs, upper_half=True),
        "reliability_1_seed": reliability(runs[:, several]),
        # Half a sample of 5,000 keeps an error of zero finite.
        "reliability_1_seed_log_error": reliability(-np.log(np.maximum(100.0 - runs[:, several], 0.01))),
    }
    if final in table.cross_entropy:
        result["tau_between_seeds_cross_entropy"] = pairwise_tau(-table.cross_entropy[final][:, at])
    if table.train_loss is not None:
        result["tau_between_seeds_train_loss"] = pairwise_tau(-table.train_loss[:, at])
    for count in range(2, max(len(runs), 3) + 1):
        for name in ("", "_upper_half"):
            expected = tau_of_means(result[f"tau_between_seeds{name}"], count)
            result[f"predicted_tau_of_{count}_seed_means{name}"] = expected
    return result


def table_statistics(table: CellTable) -> dict[str, float]:
    """All figures by name. Correlations are over live function classes (one value a class) for our own table, whose
    cells share results within a class, and over live cells for others."""
    own = "recipe" in table.metadata
    result: dict[str, float] = {}
    keys = [key for key in table.kinds() if key.schedule == "full"] or table.kinds()
    longest = max(key.epochs for key in keys)
    split = "test" if any(key.split == "test" and key.epochs == longest for key in keys) else "valid"
    final = Key(split, keys[-1].schedule, longest)
    if final not in table.mean:
        raise ArchGymError(f"table {table.name!r} has no mean accuracy at its last checkpoint")
    values = table.mean[final]
    rows = cells.all_rows()
    live_cell = ~cells.is_dead(rows) & np.isfinite(values)
    at = live_representatives() if own else np.flatnonzero(live_cell)
    classes = len(live_representatives())
    result["cells"] = float(np.isfinite(values).sum())
    result["coverage_cells"] = result["cells"] / cells.CELLS
    if own:
        trained = np.isfinite(values[at])
        result["coverage_classes"] = float(trained.mean())
        at = at[trained]
        runs = table.runs[final][:, at]
        for count in range(1, len(runs) + 1):
            result[f"classes_with_{count}_seeds"] = float((np.isfinite(runs).sum(0) == count).sum())
    known = values[np.isfinite(values)]
    result["optimum_percent"] = float(known.max())
    averages = space_averages(values)
    result["mean_percent"], result["median_percent"] = averages["mean"], averages["median"]
    result["mean_live_percent"] = averages["live"]
    result["deviation_live_points"] = float(values[live_cell].std())
    result["share_within_1_point"] = float((known >= known.max() - 1.0).mean())
    result["live_at_chance"] = float((values[at] < 12.0).sum())
    if result["coverage_cells"] == 1.0:
        result["local_maxima"] = float(len(cells.local_maxima(values)))
    if final in table.runs and len(table.runs[final]) > 1:
        result |= seed_statistics(table, final, at)
    valid = Key("valid", final.schedule, longest)
    if split == "test" and valid in table.mean:
        result["tau_valid_test"] = tau(table.mean[valid][at], values[at])
    for key in table.kinds():
        if key.split == split and key.epochs != longest and key in table.mean:
            name = f"tau_{key.schedule}_epoch_{key.epochs}_to_final"
            result[name] = tau(table.mean[key][at], values[at])
    macro_name = "mnist1d-C8S2" if own else dataset_macro(str(table.metadata.get("dataset", "cifar10")))
    result["tau_parameters"] = tau(cell_parameters(macro_name)[at], values[at])
    result["tau_macs"] = tau(cell_macs(macro_name)[at], values[at])
    if own:
        from archgym.simulators.nas.zerocost import own_scores

        for proxy, (scores, _) in own_scores().items():
            result[f"tau_{proxy}"] = tau(scores[at], values[at])
    result["live_classes"] = float(classes)
    return result


def best_cell(table: CellTable) -> tuple[str, str, float]:
    """Split, architecture string and accuracy of the best cell, by the test split where the table has one; ties go to
    the smallest code."""
    wanted = Fidelity(split="test" if any(key.split == "test" for key in table.kinds()) else None)
    split = str(table.resolve(wanted).split)
    values = table.column(table.resolve(Fidelity(split=split)), np.arange(cells.CELLS), 0)
    code = int(np.nanargmax(values))
    return split, cells.to_string(cells.rows(code)), float(values[code])
