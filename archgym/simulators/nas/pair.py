"""Two cells that answer together, ``nas/nb201-pair``: each network is trained alone by the compiled kernels, and the mean of
their logits is judged."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from archgym.simulators.nas import cells, live, table
from archgym.simulators.nas.data import Data, load_data
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.recipes import TABLE_RECIPES
from archgym.simulators.nas.trained import Columns, TrainedWorkload
from archgym.simulators.nas.trainer import TrainRecipe, train_cell
from archgym.space import DesignSpace, Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archgym.simulators.nas.fidelity import Fidelity

MEMBERS = ("first", "second")
SECOND_SEED = 1_000_000
"""What is added to the seed of the second of two equal cells, which would be the same network otherwise."""
REMEMBERED = 256
"""Logits of trained members that are remembered, 200 kB each."""


@cache
def pair_space() -> DesignSpace:
    """Twelve parameters, six a cell; the order of the two cells makes no difference."""
    parameters = [
        Parameter(f"{member}_{name}", cells.OPERATIONS, ordered=False,
                  description=f"operation on the edge {i}->{j} of the {member} cell")
        for member in MEMBERS
        for name, (i, j) in zip(cells.EDGE_NAMES, cells.EDGES, strict=True)
    ]  # fmt: skip
    return DesignSpace(parameters, canonicalize=in_order)


def in_order(designs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs ``(n, 12)`` with the cell of the smaller code first."""
    first, second = designs[:, :6], designs[:, 6:]
    later = cells.codes(first) > cells.codes(second)
    return np.where(later[:, None], np.concatenate([second, first], axis=1), designs)


def pair_codes(designs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes ``(n, 2)`` of the two cells of each pair, the smaller first."""
    ordered = in_order(designs)
    return np.stack([cells.codes(ordered[:, :6]), cells.codes(ordered[:, 6:])], axis=1)


class PairWorkload(TrainedWorkload):
    """Two cells of NAS-Bench-201's space on the data of ``nb201-mnist1d-v2``.

    A member is trained by the recipe of that table, and by its seed: alone it is the table's network. The mean of two
    members' logits is judged; a dead cell, which reaches no output, adds nothing to it.
    """

    metric_names = ("accuracy_percent", "score", "train_seconds", "parameters", "macs", "depth")
    live_words = "trains two networks for every new design"
    compiled_only = True

    def __init__(self) -> None:
        base = TABLE_RECIPES["nb201-mnist1d-v2"]
        self.base = replace(base, checkpoints=(base.epochs,))
        about = "two cells of the space, whose averaged logits are judged, live on the data of nb201-mnist1d-v2"
        super().__init__("nb201-pair", about, "nb201-pair", base.macro, "mnist1d-v2")

    @property
    def design_space(self) -> DesignSpace:
        return pair_space()

    def formula(self, designs: NDArray[np.int64]) -> Columns:
        codes = pair_codes(designs)
        depth = cells.free_statistics(cells.rows(codes))["depth"]
        return {
            "parameters": table.cell_parameters(self.macro_name)[codes].sum(axis=1),
            "macs": table.cell_macs(self.macro_name)[codes].sum(axis=1),
            "depth": depth.max(axis=1).astype(np.float64),
        }

    def accuracies(
        self, designs: NDArray[np.int64], made: TrainRecipe, fidelity: Fidelity, seed: int, device: str
    ) -> NDArray[np.float64]:
        data, split = load_data(made.data), fidelity.split or "valid"
        labels = getattr(data, f"y_{split}")
        result = np.empty(len(designs))
        for row, (first, second) in enumerate(pair_codes(designs).tolist()):
            seeds = (seed, seed + SECOND_SEED if first == second else seed)
            members = [
                member_logits(code, one, data, made, split)
                for code, one in zip((first, second), seeds, strict=True)
                if not cells.is_dead(cells.rows(code))
            ]
            result[row] = pair_accuracy(members, labels)
        return result

    def seconds(self, designs: NDArray[np.int64], made: TrainRecipe) -> NDArray[np.float64]:
        codes = pair_codes(designs)
        each = live.train_seconds(made, codes.reshape(-1), made.epochs).reshape(codes.shape)
        return np.asarray(each.sum(axis=1))

    def labels(self, designs: NDArray[np.int64]) -> NDArray[np.int64]:
        codes = pair_codes(designs)
        return codes[:, 0] * cells.CELLS + codes[:, 1]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"nb201-pair|{self.base.fingerprint}".encode()).hexdigest()[:16]

    def features(self) -> dict[str, float]:
        return {"log10_width": float(np.log10(macro(self.macro_name).width))}


def pair_accuracy(members: list[NDArray[np.float32]], labels: NDArray[np.int64]) -> float:
    """Accuracy in percent of the mean of logits ``(n, classes)``; chance where there are none."""
    if not members:
        return table.CHANCE
    return float(100.0 * (np.mean(members, axis=0).argmax(axis=1) == labels).mean())


_LOGITS: OrderedDict[tuple[str, int, int, str], NDArray[np.float32]] = OrderedDict()
_LOCK = Lock()


def member_logits(code: int, seed: int, data: Data, made: TrainRecipe, split: str) -> NDArray[np.float32]:
    """Logits ``(n, classes)`` of one cell's network on a split, trained now; the last ``REMEMBERED`` are kept."""
    key = (made.fingerprint, code, seed, split)
    with _LOCK:
        found = _LOGITS.get(key)
        if found is not None:
            _LOGITS.move_to_end(key)
            return found
    found = trained_logits(code, seed, data, made, split)
    with _LOCK:
        _LOGITS[key] = found
        while len(_LOGITS) > REMEMBERED:
            _LOGITS.popitem(last=False)
    return found


def trained_logits(code: int, seed: int, data: Data, made: TrainRecipe, split: str) -> NDArray[np.float32]:
    """Train one cell and give its logits ``(n, classes)`` on a split."""
    from archgym.simulators.nas.kernels import training as kernels

    trained = train_cell(code, seed, data, made, logits=True, keep=True)
    if split == "valid":
        assert trained.valid_logits is not None
        return trained.valid_logits
    assert trained.parameters is not None and trained.running is not None
    m = macro(made.macro)
    ops = np.ascontiguousarray(cells.rows(code))
    x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
    answers = kernels.predict(ops, trained.parameters, trained.running, x, y, made.batch, m.width, m.classes)
    logits: NDArray[np.float32] = answers[0]
    return logits
