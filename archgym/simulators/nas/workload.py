"""A data set with a cell space: the workload of neural cells."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulator import Workload
from archgym.simulators.nas import darts
from archgym.simulators.nas.fidelity import Fidelity

if TYPE_CHECKING:
    from archgym.simulators.nas.table import CellTable
    from archgym.simulators.nas.trainer import TrainRecipe


class NasWorkload(Workload):
    """A data set with a cell space, and what is known of its cells.

    Attributes:
        space_kind: ``nb201``, ``joint`` (the same with a training recipe), ``darts``, ``nasnet``, ``nb201-pair`` or ``arch``.
        macro_name: the skeleton around the cell.
        data: name of the live data set, empty where there is none.
        device: which latency column is the metric ``latency_ms``; empty for none.
    """

    def __init__(
        self,
        name: str,
        description: str,
        space_kind: str = "nb201",
        macro_name: str = "mnist1d-C8S2",
        data: str = "",
        load_table: Any = None,
        latency: NDArray[np.float64] | None = None,
        device: str = "",
    ) -> None:
        super().__init__(name, description)
        self.space_kind, self.macro_name, self.data = space_kind, macro_name, data
        self._load_table = load_table
        self.latency, self.device = latency, device
        self._resolved: dict[Fidelity, Fidelity] = {}
        self.packed: dict[str | None, NDArray[np.float64] | None] = {}

    @property
    def own_recipe(self) -> TrainRecipe | None:
        """The recipe of the full training, where the workload brings one."""
        return None

    @property
    def has_table(self) -> bool:
        return self._load_table is not None

    @cached_property
    def table(self) -> CellTable:
        """The table of results; a sentence where the workload has none."""
        if self._load_table is None:
            raise ArchGymError(
                f"{self.name} has no table of results; choose the fidelity formula, zero-cost, train or supernet for it"
            )
        result: CellTable = self._load_table()
        return result

    def resolve(self, fidelity: Fidelity) -> Fidelity:
        """The fidelity with blanks filled from the table (remembered)."""
        found = self._resolved.get(fidelity)
        if found is None:
            found = self._resolved[fidelity] = self.table.resolve(fidelity)
        return found

    @property
    def fingerprint(self) -> str:
        parts = [self.space_kind, self.macro_name, self.data, self.device]
        parts.append(self.table.fingerprint if self.has_table else "")
        if self.latency is not None:
            parts.append(hashlib.sha256(self.latency.tobytes()).hexdigest())
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    def features(self) -> dict[str, float]:
        m = darts.DARTS_MACROS.get(self.macro_name)
        if m is not None:
            return {"log10_width": float(np.log10(m.width)), "log10_cells": float(np.log10(m.cells))}
        from archgym.simulators.nas.macro import macro

        skeleton = macro(self.macro_name)
        return {
            "log10_width": float(np.log10(skeleton.width)),
            "log10_cells": float(np.log10(skeleton.cells * skeleton.stages)),
            "log10_classes": float(np.log10(skeleton.classes)),
            "log10_positions": float(np.log10(skeleton.positions(0))),
        }
