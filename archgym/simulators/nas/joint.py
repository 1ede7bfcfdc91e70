"""Cells together with the recipe that they are trained by: one space of both, every design trained live.

After FBNetV3 (Dai et al., CVPR 2021): which architecture is best depends on the recipe, so that both are searched at once. The
recipe's parameters are those of the compiled trainer (:mod:`archgym.simulators.nas.trainer`); data and skeleton are those of
``nb201-mnist1d-v2``, whose own recipe is one point of the space.
"""

from __future__ import annotations

__all__ = ()

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulator import Evaluation, Live
from archgym.simulators.nas import cells, live, table
from archgym.simulators.nas.trainer import TrainRecipe
from archgym.simulators.nas.workload import NasWorkload, Training, cell_space
from archgym.space import DesignSpace, Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archgym.simulators.nas.fidelity import Fidelity

RECIPE = (
    Parameter("learning_rate", (0.025, 0.05, 0.1, 0.2, 0.4), description="at the start; a cosine takes it to zero"),
    Parameter("batch", (16, 25, 50, 100), description="samples a step"),
    Parameter("epochs", (2, 5, 10, 20), description="passes over the training samples"),
    Parameter("weight_decay", (0.0, 1e-4, 5e-4, 2e-3), description="of all parameters, a step"),
    Parameter("momentum", (0.8, 0.9, 0.95), description="Nesterov momentum"),
)
EDGES = len(cells.EDGES)


@cache
def joint_space() -> DesignSpace:
    """The cell's parameters, and then the recipe's."""
    return DesignSpace([*cell_space().parameters, *RECIPE])


def recipe(workload: NasWorkload, row: NDArray[np.int64]) -> TrainRecipe:
    """The training that a design ``(11,)`` asks for."""
    rate, batch, epochs, decay, momentum = (
        float(parameter.values[int(index)]) for parameter, index in zip(RECIPE, row[EDGES:], strict=True)
    )
    return replace(
        live.base_recipe(workload), rate=rate, batch=int(batch), epochs=int(epochs), checkpoints=(int(epochs),),
        weight_decay=decay, momentum=momentum,
    )  # fmt: skip


class JointWorkload(NasWorkload):
    """Cells with their recipe on a data set, with the levels ``train`` and ``formula``."""

    plain_cells = False

    def __init__(self, name: str, description: str, data: str) -> None:
        super().__init__(name, description, "joint", data=data)

    @property
    def design_space(self) -> DesignSpace:
        return joint_space()

    def labels(self, designs: NDArray[np.int64]) -> None:
        return None

    def check(self, fidelity: Fidelity, training: Training) -> None:
        """Refuse what a design that brings its own recipe has no place for, too."""
        if fidelity.source not in ("train", "formula"):
            raise ArchGymError(f"{self.name} has no level {fidelity.source!r}; its levels are train and formula")
        for name in ("epochs", "schedule", "inherit"):
            if getattr(fidelity, name) is not None:
                raise ArchGymError(f"{self.name} takes no {name} in its fidelity: the recipe is a part of the design")

    def filled(self, fidelity: Fidelity, training: Training) -> Fidelity:
        if fidelity.source == "train":
            return fidelity.filled(split="valid", run="single")
        return super().filled(fidelity, training)

    def epochs(self, fidelity: Fidelity, training: Training) -> None:
        return None

    def effort(self, fidelity: Fidelity, training: Training) -> Live | None:
        """Of the mean recipe."""
        if fidelity.source != "train":
            return None
        epochs = RECIPE[2].values
        base = live.base_recipe(self)
        seconds = float(np.mean([live.expected_seconds(live.shortened(base, int(e)), int(e)) for e in epochs]))
        alone = training.device == "cpu"
        piece = min(max(int(live.PIECE_SECONDS / seconds), 1), live.GROUP) if alone else live.GROUP
        return Live(seconds, "trains a network for every new design, by the design's own recipe", piece)

    def evaluate(
        self,
        array: NDArray[np.int64],
        fidelity: Fidelity,
        seed: int,
        training: Training,
        parents: NDArray[np.int64] | None = None,
    ) -> Evaluation:
        self.check(fidelity, training)
        return super().evaluate(array, fidelity, seed, training)

    def _accuracies(
        self,
        array: NDArray[np.int64],
        codes: NDArray[np.int64],
        fidelity: Fidelity,
        seed: int,
        training: Training,
        parents: NDArray[np.int64] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        if fidelity.source != "train":
            return super()._accuracies(array, codes, fidelity, seed, training, parents)
        accuracy, seconds = train(self, array, fidelity, seed, training.device)
        return accuracy, accuracy, seconds


def train(
    workload: NasWorkload, array: NDArray[np.int64], fidelity: Fidelity, seed: int, device: str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy in percent and virtual seconds of designs ``(n, 11)``, both ``(n,)``; dead cells are not trained and at chance,
    and so is a training that diverges."""
    from archgym.simulators.nas.data import load_data

    unique, inverse = np.unique(array, axis=0, return_inverse=True)
    codes = cells.codes(unique[:, :EDGES])
    accuracy, seconds = np.full(len(unique), table.CHANCE), np.zeros(len(unique))
    data = load_data(live.base_recipe(workload).data)
    for i in np.flatnonzero(~cells.is_dead(unique[:, :EDGES])):
        made = recipe(workload, unique[i])
        result = live.train_networks([(int(codes[i]), seed)], data, made, device)[0]
        accuracy[i] = getattr(result, fidelity.split or "valid")[-1]
        seconds[i] = live.train_seconds(made, codes[i : i + 1], made.epochs)[0]
    inverse = inverse.reshape(-1)
    return accuracy[inverse], seconds[inverse]
