"""Latency of cells: device tables of a user, and additive look-ups fitted to them or to a cost model.

The look-up is ProxylessNAS's (Cai et al., ICLR 2019): latency = b0 + sum over edges of t(operation). One cost an
operation, the same on every edge, is enough for most devices (see docs/simulators/nas.md); ``per_edge`` fits one cost
an edge and operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells, table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DeadCode = Literal["kept", "removed"]


def read_latency(path: Path) -> dict[str, NDArray[np.float64]]:
    """Device -> latency in milliseconds of every cell in code order, from a file with ``arch_str`` and columns
    ``latency_<ns|us|ms|s>_<device>``."""
    stored = table.read_columns(path)
    codes = table._cell_codes(stored, path, False)
    result = {}
    for name in stored:
        match = table._LATENCY.match(name)
        if match:
            scale = table._MILLISECONDS[match["unit"]]
            result[match["device"]] = scale * table._numbers(stored, name, path, codes, False, 0.0, 1e12)
    if not result:
        raise ArchGymError(f"{path.name} has no latency column such as 'latency_ms_<device>'")
    return result


def design_matrix(rows: ArrayLike, per_edge: bool = False, dead_code: DeadCode = "kept") -> NDArray[np.float64]:
    """Regressors: a one, then the counts of skip, 1x1, 3x3 and pool edges (``(n, 5)``), or their indicators an edge
    (``(n, 25)``). ``dead_code="removed"`` counts only edges on an input-output path, as compiled runtimes do."""
    array = np.asarray(rows, dtype=np.int64)
    if dead_code == "removed":
        array = np.where(cells.live_edges(array), array, cells.NONE)
    elif dead_code != "kept":
        raise ArchGymError(f"dead_code={dead_code!r} is unknown; choose kept or removed")
    one_hot = (array[:, :, None] == np.arange(1, 5)).astype(np.float64)
    blocks = one_hot.reshape(len(array), 24) if per_edge else one_hot.sum(1)
    return np.concatenate([np.ones((len(array), 1)), blocks], axis=1)


@dataclass(frozen=True)
class AdditiveLookup:
    """Cost of a cell as a sum over its edges.

    Attributes:
        constant: what every network costs (stem, reductions, classifier).
        costs: cost of each operation on each edge, ``(6, 5)``, column 0 (none) zero; the unit is the fitted column's.
        dead_code: whether edges off every input-output path cost (``kept``) or not.
        r2, tau: coefficient of determination and Kendall's tau on the cells that were not fitted.
        residual: standard deviation of the errors there.
    """

    constant: float
    costs: NDArray[np.float64]
    dead_code: DeadCode = "kept"
    r2: float = float("nan")
    tau: float = float("nan")
    residual: float = float("nan")

    def __call__(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Cost of cells ``(n, 6)``, float64 ``(n,)``."""
        array = np.asarray(rows, dtype=np.int64)
        if self.dead_code == "removed":
            array = np.where(cells.live_edges(array), array, cells.NONE)
        result: NDArray[np.float64] = self.constant + self.costs[np.arange(6), array].sum(-1)
        return result

    def expected(self, probabilities: ArrayLike) -> float:
        """Expected cost under independent operation probabilities ``(6, 5)`` an edge: linear, so that its gradient
        is ``costs``."""
        return float(self.constant + (np.asarray(probabilities) * self.costs).sum())


def fit_lookup(
    rows: ArrayLike,
    values: ArrayLike,
    *,
    samples: int = 1000,
    seed: int = 0,
    per_edge: bool = False,
    dead_code: DeadCode = "kept",
) -> AdditiveLookup:
    """Least-squares look-up from ``samples`` random cells of (rows, values), judged on the others.

    Args:
        rows: cells ``(n, 6)``; values: their cost ``(n,)``, any unit.
        samples: cells to fit; all where there are no more than that (then r2, tau and residual are of the fit).
    """
    from scipy.stats import kendalltau

    array, column = np.asarray(rows, dtype=np.int64), np.asarray(values, dtype=np.float64)
    if not np.isfinite(column).all():
        raise ArchGymError(
            f"{int((~np.isfinite(column)).sum())} of the latencies are missing; fit the cells that have one"
        )
    matrix = design_matrix(array, per_edge, dead_code)
    if len(array) < matrix.shape[1]:
        raise ArchGymError(f"{len(array)} cells cannot fit {matrix.shape[1]} coefficients; measure more cells")
    order = np.random.default_rng(seed).permutation(len(array))
    fitted, rest = order[:samples], order[samples:]
    if not len(rest):
        rest = fitted
    coefficients, *_ = np.linalg.lstsq(matrix[fitted], column[fitted], rcond=None)
    error = column[rest] - matrix[rest] @ coefficients
    spread = float(((column[rest] - column[rest].mean()) ** 2).sum())
    costs = np.zeros((6, 5))
    costs[:, 1:] = coefficients[1:].reshape(6, 4) if per_edge else coefficients[1:][None, :]
    return AdditiveLookup(
        float(coefficients[0]),
        costs,
        dead_code,
        1.0 - float((error**2).sum()) / spread if spread else float("nan"),
        float(kendalltau(matrix[rest] @ coefficients, column[rest])[0]),
        float(error.std()),
    )
