"""A data set with a cell space: the workload of neural cells, and what every kind of workload answers for itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulator import Evaluation, Live, Workload
from archgym.simulators.nas import cells, live, table
from archgym.simulators.nas.fidelity import Fidelity, parse_fidelity
from archgym.simulators.nas.macro import macro
from archgym.space import DesignSpace, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archgym.simulators.nas.table import CellTable
    from archgym.simulators.nas.trainer import TrainRecipe

NO_VIOLATION = np.array("", dtype=object)
VIOLATIONS = np.array(["not-in-table", ""], dtype=object)


@dataclass(frozen=True)
class Training:
    """What a simulator's options say of live training.

    Attributes:
        device: torch device; ``cpu`` uses the compiled trainer where it can.
        epochs: length where the fidelity gives no epochs; the workload's own where None.
    """

    device: str = "cpu"
    epochs: int | None = None


@cache
def cell_space() -> DesignSpace:
    """The operation on each of the six edges."""
    return DesignSpace(
        [
            Parameter(name, cells.OPERATIONS, ordered=False, description=f"operation on the edge {i}->{j}")
            for name, (i, j) in zip(cells.EDGE_NAMES, cells.EDGES, strict=True)
        ]
    )


class NasWorkload(Workload):
    """A data set with the cells of NAS-Bench-201, and what is known of them. Other spaces are workloads that answer the
    same questions otherwise.

    Attributes:
        space_kind: ``nb201``, or what another space is called.
        plain_cells: whether a design is one cell of six edges and nothing else: what tables, latencies, searches by
            gradients and accelerators are of.
        metric_names: metrics of an evaluation; all of the simulator's where None.
        macro_name: the skeleton around the cell.
        data: name of the live data set, empty where there is none.
        device: which latency column is the metric ``latency_ms``; empty for none.
    """

    plain_cells = True
    metric_names: tuple[str, ...] | None = None

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
        skeleton = macro(self.macro_name)
        return {
            "log10_width": float(np.log10(skeleton.width)),
            "log10_cells": float(np.log10(skeleton.cells * skeleton.stages)),
            "log10_classes": float(np.log10(skeleton.classes)),
            "log10_positions": float(np.log10(skeleton.positions(0))),
        }

    @property
    def design_space(self) -> DesignSpace:
        """The space."""
        return cell_space()

    def with_latency(self, latency: NDArray[np.float64], device: str) -> NasWorkload:
        """The same with latencies of all cells ``(15625,)`` on a device."""
        return NasWorkload(
            self.name, self.description, self.space_kind, self.macro_name, self.data, self._load_table, latency, device
        )

    def typical(self) -> Mapping[str, float] | None:
        """Typical values of metrics, as far as they are known without a table; None where a table says them."""
        return None if self.has_table else {"accuracy_percent": 100.0, "parameters": 2000.0, "macs": 5e4}

    def labels(self, designs: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Numbers ``(n,)`` that are equal where designs share one training; None where no two do."""
        return cells.classes()[codes_of(designs)]

    # --- fidelities ------------------------------------------------------------------------------------------------

    @property
    def default_source(self) -> str:
        """Where an accuracy comes from where nothing is asked for."""
        return "table" if self.has_table else "train"

    def asked(self, fidelity: str | Fidelity | None) -> Fidelity:
        """The fidelity of a text, or the default one."""
        return parse_fidelity(fidelity or self.default_source)

    def check_device(self, device: str) -> None:
        """Refuse a device that none of the designs can be evaluated on."""

    def check(self, fidelity: Fidelity, training: Training) -> None:
        """Refuse a fidelity that this workload does not have."""
        if fidelity.source == "table":
            resolved = self.resolve(fidelity)
            if resolved.noise == "gaussian":
                self.table.column(resolved, np.zeros(1, dtype=np.int64), 0)
        elif fidelity.source == "train":
            live.recipe(self, fidelity, training.epochs)
            self._check_inheritance(fidelity, training)
        elif fidelity.source == "supernet":
            live.supernet_recipe(self, fidelity.policy or "uniform", fidelity.steps or live.SUPERNET_STEPS)

    def _check_inheritance(self, fidelity: Fidelity, training: Training) -> None:
        from archgym.simulators.nas.trainer import can_train

        if fidelity.inherit is None:
            return
        if not can_train(self.macro_name):
            raise ArchGymError(f"{self.name} has no inherited weights: they are for the one-dimensional networks")
        if training.device != "cpu":
            raise ArchGymError(f"inherited weights are trained on the processor; leave device={training.device!r} out")

    def filled(self, fidelity: Fidelity, training: Training) -> Fidelity:
        """A fidelity with every blank filled that its result depends on."""
        if fidelity.source == "table":
            return self.resolve(fidelity)
        if fidelity.source == "train":
            epochs = live.recipe(self, fidelity, training.epochs).epochs
            return fidelity.filled(split="valid", epochs=epochs, run="single")
        if fidelity.source == "supernet":
            return fidelity.filled(split="valid", policy="uniform", steps=live.SUPERNET_STEPS)
        return fidelity

    def epochs(self, fidelity: Fidelity, training: Training) -> int | None:
        """Epochs of the training, recorded or live, that a fidelity stands for; None where there is none."""
        if fidelity.source == "table":
            return self.resolve(fidelity).epochs
        return live.recipe(self, fidelity, training.epochs).epochs if fidelity.source == "train" else None

    def noisy(self, fidelity: Fidelity) -> bool:
        """Whether the seed of an evaluation changes its result."""
        if fidelity.source == "table" and self.has_table:
            resolved = self.resolve(fidelity)
            return resolved.run != "mean" or resolved.noise == "gaussian"
        return fidelity.source != "formula"

    def effort(self, fidelity: Fidelity, training: Training) -> Live | None:
        """What the evaluation of a design takes where something is computed live for it."""
        return live.effort(self, fidelity, training.device, training.epochs) if self.data else None

    # --- evaluation ------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        array: NDArray[np.int64],
        fidelity: Fidelity,
        seed: int,
        training: Training,
        parents: NDArray[np.int64] | None = None,
    ) -> Evaluation:
        """All metrics of checked designs ``(n, d)``; ``parents`` (rows, -1 where there is none) are what
        ``train:inherit=parent`` inherits from."""
        n = len(array)
        codes = codes_of(array)
        accuracy, score, seconds = self._accuracies(array, codes, fidelity, seed, training, parents)
        free = _free_columns()
        metrics = {
            "accuracy_percent": accuracy,
            "score": score,
            "train_seconds": seconds,
            "parameters": table.cell_parameters(self.macro_name).take(codes),
            "macs": table.cell_macs(self.macro_name).take(codes),
            "depth": free[0].take(codes),
            "shortest_path": free[1].take(codes),
            "paths": free[2].take(codes),
            "live_edges": free[3].take(codes),
        }
        if self.latency is not None:
            metrics["latency_ms"] = self.latency.take(codes)
        if fidelity.source == "table" and self.table.missing:
            unknown = np.isnan(accuracy)
            if unknown.any():
                return Evaluation.build(metrics, VIOLATIONS[(~unknown).astype(np.int8)])
        if score is accuracy:
            metrics["score"] = accuracy.copy()
        return Evaluation(metrics, np.ones(n, dtype=bool), np.full(n, "", dtype=object))

    def _accuracies(
        self,
        array: NDArray[np.int64],
        codes: NDArray[np.int64],
        fidelity: Fidelity,
        seed: int,
        training: Training,
        parents: NDArray[np.int64] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy in percent, score and virtual seconds of designs, ``(n,)`` each."""
        n = len(array)
        if fidelity.source == "table":
            resolved = self.resolve(fidelity)
            accuracy = self.table.column(resolved, codes, seed)
            per_cell = self.table.train_seconds(resolved)
            return accuracy, accuracy, np.zeros(n) if per_cell is None else per_cell.take(codes)
        if fidelity.source == "formula":
            return np.full(n, np.nan), table.cell_parameters(self.macro_name).take(codes), np.zeros(n)
        if fidelity.source == "zero-cost":
            from archgym.simulators.nas.zerocost import cell_scores

            score, seconds = cell_scores(self, codes, fidelity.proxy or "naswot", seed, training.device)
            return np.full(n, np.nan), score, seconds
        if fidelity.source == "supernet":
            return live.supernet_scores(self, codes, fidelity, seed)
        self._check_inheritance(fidelity, training)
        origin = None
        if parents is not None and fidelity.inherit == "parent":
            rows = np.asarray(parents, dtype=np.int64)
            known = codes_of(self.design_space.check(np.maximum(rows, 0)))
            origin = np.where((rows < 0).any(axis=1), -1, known)
        accuracy, seconds = live.train(self, codes, fidelity, seed, training.device, training.epochs, origin)
        return accuracy, accuracy, seconds


def codes_of(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes ``(n,)`` of the cells in the first six columns of designs."""
    # Horner's rule over columns: several times faster than an integer matrix product.
    code = array[:, 0] * 5
    for column in range(1, 5):
        code += array[:, column]
        code *= 5
    code += array[:, 5]
    return code


_FREE: list[NDArray[np.float64]] = []


def _free_columns() -> list[NDArray[np.float64]]:
    if not _FREE:
        statistics = cells.free_statistics(cells.all_rows())
        _FREE.extend(statistics[name].astype(np.float64) for name in ("depth", "shortest_path", "paths", "live_edges"))
    return _FREE
