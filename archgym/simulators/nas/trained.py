"""Spaces beside the tabulated cells whose designs are trained when they are asked for: what their workloads have in common,
and a user's own architecture space, ``nas/arch:FILE.py:NAME``."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from archgym.errors import ArchGymError, quote
from archgym.networks.arch_file import architecture_of
from archgym.networks.language import Architecture, Built, Shape
from archgym.simulator import Evaluation, Live
from archgym.simulators.nas import live
from archgym.simulators.nas.data import RECIPES
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.recipes import TABLE_RECIPES
from archgym.simulators.nas.trainer import TrainRecipe
from archgym.simulators.nas.workload import NasWorkload, Training
from archgym.space import DesignSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archgym.networks.layers import Network
    from archgym.simulators.nas.fidelity import Fidelity

Columns = dict[str, "NDArray[np.float64]"]

DATA_MACROS = {
    "digits": "digits-C8S2",
    "mnist": "mnist-C8S2",
    "mnist1d": "mnist1d-C8S2",
    "mnist1d-v2": "mnist1d-C8S2",
}
"""Data set -> the skeleton of the cells on it, which knows the shape of a sample and the classes."""

# A training step in torch on one core, forward, backward and update: what an operation of a network takes whatever its
# size, and what a multiply-accumulate adds. A formula and not a clock, so that a budget in seconds ends a run at the same
# design on every machine.
SECONDS_AN_OPERATION = 4e-4
SECONDS_A_MAC = 7.5e-10


class TrainedWorkload(NasWorkload):
    """A space on a data set with the levels ``train`` and ``formula``.

    Attributes:
        metric_names: metrics of an evaluation, those of :meth:`formula` among them.
        base: recipe of the full training.
        live_words: what evaluating does, as in :class:`archgym.simulator.Live`.
        compiled_only: whether the compiled kernels alone can train its designs, on the processor.
    """

    plain_cells = False
    live_words = "trains a network for every new design"
    compiled_only = False
    metric_names: tuple[str, ...]
    base: TrainRecipe

    @property
    def own_recipe(self) -> TrainRecipe:
        return self.base

    @property
    @abstractmethod
    def design_space(self) -> DesignSpace:
        """The space."""

    @abstractmethod
    def formula(self, designs: NDArray[np.int64]) -> Columns:
        """What is known of feasible designs without training, metric -> float64 ``(n,)``."""

    @abstractmethod
    def accuracies(
        self, designs: NDArray[np.int64], made: TrainRecipe, fidelity: Fidelity, seed: int, device: str
    ) -> NDArray[np.float64]:
        """Accuracy in percent of feasible designs that are trained now by the recipe ``made``, ``(n,)``."""

    @abstractmethod
    def seconds(self, designs: NDArray[np.int64], made: TrainRecipe) -> NDArray[np.float64]:
        """Virtual seconds of their training, ``(n,)``."""

    @abstractmethod
    def labels(self, designs: NDArray[np.int64]) -> NDArray[np.int64]: ...

    def typical(self) -> dict[str, float]:
        sample = self.formula(self.design_space.sample(64, 0, feasible=True))
        medians = {name: float(max(np.median(column), 1.0)) for name, column in sample.items()}
        return {"accuracy_percent": 100.0, **medians}

    def check_device(self, device: str) -> None:
        if self.compiled_only and device != "cpu":
            raise ArchGymError(f"{self.name} is trained on the processor; leave device={device!r} out")

    def check(self, fidelity: Fidelity, training: Training) -> None:
        if fidelity.source not in ("train", "formula") or fidelity.inherit is not None:
            raise ArchGymError(f"{quote(self.name)} has no level {str(fidelity)!r}; its levels are train and formula")
        if fidelity.source == "train":
            live.recipe(self, fidelity, training.epochs)

    def effort(self, fidelity: Fidelity, training: Training) -> Live | None:
        if fidelity.source != "train":
            return None
        try:
            made = live.recipe(self, fidelity, training.epochs)
        except ArchGymError:
            return None  # such a training does not exist; evaluating says so
        sample = self.design_space.sample(16, 0, feasible=True)
        seconds = float(np.median(self.seconds(sample, made)))
        piece = min(max(int(live.PIECE_SECONDS / max(seconds, 1e-3)), 1), live.GROUP)
        return Live(seconds, self.live_words, piece)

    def evaluate(
        self,
        array: NDArray[np.int64],
        fidelity: Fidelity,
        seed: int,
        training: Training,
        parents: NDArray[np.int64] | None = None,
    ) -> Evaluation:
        violation = self.design_space.violations(array)
        good = np.flatnonzero(violation == "")
        kept = array[good]
        found = self.formula(kept)
        if fidelity.source == "train":
            made = live.recipe(self, fidelity, training.epochs)
            found["accuracy_percent"] = self.accuracies(kept, made, fidelity, seed, training.device)
            found["train_seconds"] = self.seconds(kept, made)
            found["score"] = found["accuracy_percent"]
        else:
            found["accuracy_percent"] = np.full(len(kept), np.nan)
            found["train_seconds"] = np.zeros(len(kept))
            found["score"] = found["parameters"]
        columns = {name: np.full(len(array), np.nan) for name in self.metric_names}
        for name, column in columns.items():
            column[good] = found[name]
        return Evaluation.build(columns, violation)


class ArchitectureWorkload(TrainedWorkload):
    """An architecture space of a user's own on a data set. Designs that give the same network share its training.

    Attributes:
        architecture: the space, and what its designs are built into.
    """

    metric_names = ("accuracy_percent", "score", "train_seconds", "parameters", "macs", "depth")

    def __init__(self, name: str, architecture: Architecture, data: str, base: TrainRecipe) -> None:
        about = f"an architecture space of a file's own, trained live on {data}"
        super().__init__(name, about, "arch", DATA_MACROS[data], data)
        self.architecture, self.base = architecture, base

    @property
    def design_space(self) -> DesignSpace:
        return self.architecture.space

    def network(self, design: NDArray[np.int64]) -> Network:
        """Convolutions and linear layers of a design ``(d,)``, as accelerators run them."""
        return self.architecture.build(design).network(self.name, self.description)

    def formula(self, designs: NDArray[np.int64]) -> Columns:
        built = self._built(designs)
        return {name: np.array([getattr(b, name) for b in built], dtype=np.float64)
                for name in ("parameters", "macs", "depth")}  # fmt: skip

    def accuracies(
        self, designs: NDArray[np.int64], made: TrainRecipe, fidelity: Fidelity, seed: int, device: str
    ) -> NDArray[np.float64]:
        from archgym.simulators.nas.architecture_trainer import train_built
        from archgym.simulators.nas.data import load_data

        data, found = load_data(made.data), dict[bytes, float]()
        built = self._built(designs)
        for one in built:
            if one.digest not in found:
                result = train_built(one, seed, data, made, device)
                found[one.digest] = float(getattr(result, fidelity.split or "valid")[-1])
        return np.array([found[one.digest] for one in built], dtype=np.float64)

    def seconds(self, designs: NDArray[np.int64], made: TrainRecipe) -> NDArray[np.float64]:
        steps = made.epochs * (made.data.train // made.batch)
        built = self._built(designs)
        operations = np.array([len(b.operations) for b in built], dtype=np.float64)
        macs = np.array([b.macs for b in built], dtype=np.float64)
        return np.asarray(steps * (SECONDS_AN_OPERATION * operations + SECONDS_A_MAC * made.batch * macs))

    def labels(self, designs: NDArray[np.int64]) -> NDArray[np.int64]:
        good = self.design_space.violations(designs) == ""
        numbers: dict[object, int] = {}
        keys: list[object] = [row.tobytes() for row in self.design_space.canonical(designs)]
        for i in np.flatnonzero(good):
            keys[i] = self.architecture.build(designs[i]).digest
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)

    def _built(self, designs: NDArray[np.int64]) -> Sequence[Built]:
        return [self.architecture.build(row) for row in designs]

    @property
    def fingerprint(self) -> str:
        parts = [self.architecture.text, self.data, self.base.fingerprint]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    def features(self) -> dict[str, float]:
        inputs = self.architecture.inputs
        return {
            "log10_classes": float(np.log10(self.architecture.classes)),
            "log10_positions": float(np.log10(inputs.positions)),
        }


def read_architecture(
    name: str, data: Literal["digits", "mnist", "mnist1d", "mnist1d-v2"] = "digits", rate: float = 0.1
) -> ArchitectureWorkload:
    """The workload ``arch:FILE.py:NAME``. It runs FILE.py.

    Args:
        name: of the file and of the part in it, see :mod:`archgym.networks.arch_file`.
        data: what is learnt.
        rate: learning rate at the beginning of the training; the rest is the cells' recipe (20 epochs, batches of 50).

    Raises:
        ArchGymError: one sentence, for a file, name, part or option that cannot be used.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 10:
        raise ArchGymError(f"the learning rate is {quote(rate)}; expected a number above 0, at most 10")
    if data not in DATA_MACROS:
        raise ArchGymError(f"the data are {quote(data)}; expected {', '.join(DATA_MACROS)}")
    skeleton = macro(DATA_MACROS[data])
    shape = Shape(skeleton.inputs, (skeleton.size,) * skeleton.dimensions)
    table = TABLE_RECIPES.get(f"nb201-{data}")
    base = TrainRecipe(
        data=RECIPES[data] if table is None else table.data, macro="own", epochs=20, checkpoints=(20,), batch=50,
        rate=float(rate),
    )  # fmt: skip
    return ArchitectureWorkload(name, architecture_of(name, shape, skeleton.classes), data, base)
