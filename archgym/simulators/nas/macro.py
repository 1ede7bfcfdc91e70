"""The network skeleton around a cell ("macro"), with exact counts of parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archgym.errors import UnknownNameError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Macro:
    """Stem, stages of cells with a residual reduction block between two stages, pooled linear classifier.

    Attributes:
        name: as in workload names and docs.
        width: channels C of the stem and the first stage; they double from stage to stage.
        cells: cells N a stage.
        stages: stages S.
        inputs: channels of the input.
        classes: classes K.
        size: positions along one side of the input.
        dimensions: 2 for images (kernels 3x3), 1 for series (kernels of length 3).
    """

    name: str
    width: int
    cells: int
    stages: int
    inputs: int
    classes: int
    size: int
    dimensions: int = 2

    @property
    def kernel_area(self) -> int:
        """Taps of the large kernel: 9 in two dimensions, 3 in one."""
        return 3**self.dimensions

    def positions(self, stage: int) -> int:
        """Output positions of a layer of ``stage``; the side halves (rounded up) at every reduction."""
        side = self.size
        for _ in range(stage):
            side = (side + 1) // 2
        return side**self.dimensions

    def parameters(self, conv1: NDArray[np.int64], conv3: NDArray[np.int64]) -> NDArray[np.int64]:
        """Trainable parameters of networks whose cells have ``conv1`` 1x1 and ``conv3`` 3x3 convolutions (dead edges
        counted: they are in the network)."""
        k, c = self.kernel_area, self.width
        fixed = k * self.inputs * c + 2 * c
        per1 = per3 = 0
        for stage in range(self.stages):
            c = self.width * 2**stage
            per1 += self.cells * (c * c + 2 * c)
            per3 += self.cells * (k * c * c + 2 * c)
            if stage:
                fixed += k * (c // 2) * c + 2 * c + k * c * c + 2 * c + (c // 2) * c
        fixed += 2 * c + self.classes * c + self.classes
        return fixed + per1 * conv1 + per3 * conv3

    def macs(self, conv1: ArrayLike, conv3: ArrayLike) -> NDArray[np.int64]:
        """Multiply-accumulates of one forward pass: convolutions and the linear layer, nothing else."""
        conv1, conv3 = np.asarray(conv1, dtype=np.int64), np.asarray(conv3, dtype=np.int64)
        k, c = self.kernel_area, self.width
        fixed = self.positions(0) * k * self.inputs * c
        per1 = per3 = 0
        for stage in range(self.stages):
            c, at = self.width * 2**stage, self.positions(stage)
            per1 += self.cells * at * c * c
            per3 += self.cells * at * k * c * c
            if stage:
                fixed += at * (k * (c // 2) * c + k * c * c + (c // 2) * c)
        fixed += self.classes * c
        return fixed + per1 * conv1 + per3 * conv3


MACROS = {
    macro.name: macro
    for macro in (
        # The published skeleton of NAS-Bench-201 (Dong and Yang, ICLR 2020) on its three data sets.
        Macro("cifar10", 16, 5, 3, 3, 10, 32),
        Macro("cifar100", 16, 5, 3, 3, 100, 32),
        Macro("imagenet16", 16, 5, 3, 3, 120, 16),
        # The skeleton of our own table and of the quick live workloads.
        Macro("mnist1d-C8S2", 8, 1, 2, 1, 10, 40, dimensions=1),
        Macro("digits-C8S2", 8, 1, 2, 1, 10, 8),
        Macro("mnist-C8S2", 8, 1, 2, 1, 10, 14),
    )
}


def macro(name: str) -> Macro:
    """The macro called ``name``."""
    if name not in MACROS:
        raise UnknownNameError("macro", name, MACROS)
    return MACROS[name]
