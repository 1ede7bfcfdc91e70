"""The cell-NAS simulator: accuracy and cost of neural cells, from a table, from scores at initialisation or by
training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.locating import located
from archgym.objective import Objective, RelativeImprovement, Rewards, Value
from archgym.options import Option, options_of
from archgym.reading import own_file
from archgym.simulator import Evaluation, Live, Metric, Simulator, Workload, split_groups
from archgym.simulators.nas import cells, darts, joint, live, nasnet, table
from archgym.simulators.nas.fidelity import Fidelity, parse_fidelity
from archgym.simulators.nas.pair import PairWorkload
from archgym.simulators.nas.trained import TrainedWorkload, read_architecture
from archgym.simulators.nas.workload import NasWorkload
from archgym.space import DesignSpace, Parameter

if TYPE_CHECKING:
    from archgym.simulators.nas.trainer import TrainRecipe

LARGE_BATCH = 2048
"""Batches from this size on take the compiled look-up."""

FORMULA_ALONE = ("darts", "nasnet")
"""Spaces whose cells are never trained."""

_NO_VIOLATION = np.array("", dtype=object)
_VIOLATIONS = np.array(["not-in-table", ""], dtype=object)

_ACCURACY = Metric("accuracy_percent", "%", "max", "accuracy of the cell's network under the fidelity in force")
_SCORE = Metric("score", "", "max", "what the fidelity ranks by: the accuracy, the zero-cost score, or the parameters")
_SECONDS = Metric("train_seconds", "s", "min", "virtual clock: training (or scoring) time that the query stands for")
_PARAMETERS = Metric("parameters", "", "min", "trainable parameters of the network (dead edges counted)")
_MACS = Metric("macs", "", "min", "multiply-accumulates of one forward pass (convolutions and the linear layer)")
_DEPTH = Metric("depth", "", "none", "convolutions on the input-output path with the most of them")
_SHORTEST = Metric("shortest_path", "", "none", "convolutions on the input-output path with the fewest of them")
_PATHS = Metric("paths", "", "none", "input-output paths")
_LIVE = Metric("live_edges", "", "none", "edges that carry an operation on an input-output path")
_LATENCY = Metric("latency_ms", "ms", "min", "latency of the network on the chosen device")


class CostWeighted(Objective):
    """accuracy * (cost / target) ** w, with accuracy as a share (MnasNet, Tan et al., CVPR 2019, equations 1-3).

    ``hard``: w = 0 within the target and -1 beyond it (one-sided). ``soft``: w = -0.07 on both sides, which also
    rewards a cost below the target; it is the paper's default and is marked as what it is.
    """

    penalty = -1.0

    def __init__(self, kind: str, cost: str, target: float) -> None:
        if not (np.isfinite(target) and target > 0):
            raise ArchGymError(f"the cost target is {target}; expected a positive number")
        self.cost, self.target, self.kind = cost, float(target), kind
        self.name = f"mnas-{kind}"
        exponent = "0 within the target, -1 beyond" if kind == "hard" else "-0.07 on both sides (two-sided)"
        self.description = f"accuracy x ({cost} / {target:.4g})^w, w = {exponent}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("accuracy_percent", self.cost)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        ratio = metrics[self.cost] / self.target
        factor = np.power(ratio, -0.07) if self.kind == "soft" else 1.0 / np.maximum(ratio, 1.0)
        return np.asarray(metrics["accuracy_percent"] / 100.0 * factor)


class Regret(Objective):
    """Minus the distance to the best accuracy of the table, in points; 0 is the optimum."""

    penalty = -101.0

    def __init__(self, best: float, full_name: str) -> None:
        self.best, self.name = float(best), "regret"
        self.description = f"accuracy minus the table's best, {best:.4f} % ({full_name})"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("accuracy_percent",)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        return np.asarray(np.maximum(metrics["accuracy_percent"] - self.best, -100.0))


def _given(table: Any) -> Any:
    return table


class NasSimulator(Simulator):
    """Accuracy and cost of neural cells.

    Args:
        space: leave out; the space belongs to the workload (``nb201`` cells, with or without a training recipe, ``darts`` or
            ``nasnet`` cells).
        cost: metric of the objectives ``mnas-hard`` and ``mnas-soft``; the latency where the workload has one, else
            ``macs``.
        cost_target: its target; the median over the space where None.
        train_epochs: length of live training where the fidelity gives no epochs; the workload's own where None.
        device: torch device of live training and live scores; ``cpu`` uses the compiled trainer where it can.
    """

    name = "nas"
    version = "2"
    spaces = ("default",)
    fidelities = ("table", "formula", "zero-cost", "train", "supernet")
    fidelities_with_argument = ("table", "zero-cost", "train", "supernet")
    default_objective = "accuracy"
    default_workload = "nb201-mnist1d"
    seconds_metric = "train_seconds"
    metrics = (_ACCURACY, _SCORE, _SECONDS, _PARAMETERS, _MACS, _DEPTH, _SHORTEST, _PATHS, _LIVE)

    def __init__(
        self,
        space: str | None = None,
        cost: str | None = None,
        cost_target: float | None = None,
        train_epochs: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(space)
        self.cost, self.cost_target = cost, cost_target
        if not re.fullmatch(r"cpu|mps|(cuda|xpu)(:\d{1,3})?", device):
            raise ArchGymError(
                f"device is {quote(device)}; expected cpu, cuda, cuda:N, xpu or mps, as PyTorch calls them"
            )
        self.train_epochs, self.device = train_epochs, device
        self._workloads: dict[str, NasWorkload] = {
            "nb201-mnist1d": NasWorkload(
                "nb201-mnist1d",
                "NAS-Bench-201's cell space trained by this project on generated mnist1d (never CIFAR-10)",
                data="mnist1d",
                load_table=table.own_table,
            ),
            "nb201-mnist1d-v2": NasWorkload(
                "nb201-mnist1d-v2",
                "the same with four times the steps and twice the noise in the data, three seeds a class",
                data="mnist1d-v2",
                load_table=table.own_table_loader("nb201-mnist1d-v2"),
            ),
            "nb201-digits": NasWorkload(
                "nb201-digits", "the cell space on scikit-learn's digits, live", macro_name="digits-C8S2", data="digits"
            ),
            "nb201-mnist": NasWorkload(
                "nb201-mnist",
                "the cell space on 5,000 images of MNIST at 14x14, live",
                macro_name="mnist-C8S2",
                data="mnist",
            ),
            "joint-mnist1d": NasWorkload(
                "joint-mnist1d",
                "cells together with the recipe that they are trained by, live on the data of nb201-mnist1d-v2",
                joint.SPACE_KIND,
                data="mnist1d-v2",
            ),
            "nb201-pair": PairWorkload(),
            "darts-cifar10": NasWorkload(
                "darts-cifar10", "DARTS cells, 20 cells of 36 channels, formula level", "darts", "darts-C36L20"
            ),
            "nasnet-cifar10": NasWorkload(
                "nasnet-cifar10",
                "NASNet cells of five blocks, 20 cells of 36 channels, formula level",
                "nasnet",
                "darts-C36L20",
            ),
        }
        edges = DesignSpace(
            [
                Parameter(name, cells.OPERATIONS, ordered=False, description=f"operation on the edge {i}->{j}")
                for name, (i, j) in zip(cells.EDGE_NAMES, cells.EDGES, strict=True)
            ]
        )
        self._space = {
            "nb201": edges,
            joint.SPACE_KIND: joint.space(edges),
            "darts": darts.space(),
            "nasnet": nasnet.space(),
        }

    # --- workloads -------------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return self._workloads

    def workload_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Those with a table, of the cell space that most share: what is trained live is named one by one."""
        known = self._workloads.items()
        return split_groups(tuple(name for name, w in known if w.space_kind == "nb201" and self.live(w) is None))

    def load_workload(self, name: str, **options: Any) -> Workload:
        """A workload by name, ``file:PATH`` of a table, or ``arch:FILE.py:NAME`` of an architecture space.

        Options: for architecture spaces those of :func:`archgym.simulators.nas.trained.read_architecture`;
        else ``latency`` (path of a table with ``arch_str`` and ``latency_<unit>_<device>`` columns) and ``device`` (which
        of them) for every nb201 workload; for files also those of :func:`archgym.simulators.nas.table.read_neutral`.
        """
        if name.startswith("arch:"):
            return read_architecture(name, **options)
        if (path := own_file(name)) is not None:
            return self.read_workload(path, **options)
        latency, device = options.pop("latency", None), options.pop("device", None)
        workload = super().load_workload(name, **options)
        if latency is None and device is None:
            return workload
        assert isinstance(workload, NasWorkload)
        if workload.space_kind != "nb201":
            raise ArchGymError(f"{name} takes no latency table; they are for the nb201 cell space")
        if latency is None:
            raise ArchGymError(f"{name} has no device {device!r} of its own; give a latency table with latency=PATH")
        from archgym.simulators.nas.latency import read_latency

        columns = read_latency(located(latency))
        chosen = choose_device(device, columns, Path(latency).name)
        return NasWorkload(
            workload.name, workload.description, workload.space_kind, workload.macro_name, workload.data,
            workload._load_table, columns[chosen], chosen,
        )  # fmt: skip

    def workload_options(self, name: str) -> Mapping[str, Option]:
        if name.startswith("arch:"):
            return options_of(read_architecture, ["name"])
        options = {"latency": Option(str | None), "device": Option(str | None)}
        return options | (options_of(table.read_neutral, ["path"]) if own_file(name) is not None else {})

    def read_workload(self, path: Path, **options: Any) -> Workload:
        latency, device = options.pop("latency", None), options.pop("device", None)
        found = table.read_table_file(path, **options)
        dataset = found.metadata.get("dataset") or "mnist1d"
        macro_name = "mnist1d-C8S2" if "recipe" in found.metadata else table.dataset_macro(str(dataset))
        columns = dict(found.latency)
        if latency is not None:
            from archgym.simulators.nas.latency import read_latency

            columns |= read_latency(located(latency))
        chosen = choose_device(device, columns, path.name) if device is not None or latency is not None else ""
        return NasWorkload(
            f"file:{path}",
            f"the cell space with the results in {path.name} ({found.name})",
            macro_name=macro_name,
            load_table=partial(_given, found),
            latency=columns[chosen] if chosen else None,
            device=chosen,
        )

    def space(self, workload: Workload) -> DesignSpace:
        assert isinstance(workload, NasWorkload)
        return workload.design_space if isinstance(workload, TrainedWorkload) else self._space[workload.space_kind]

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        assert isinstance(workload, NasWorkload)
        kept: tuple[Metric, ...] = self.metrics
        if isinstance(workload, TrainedWorkload):
            kept = tuple(metric for metric in self.metrics if metric.name in workload.metric_names)
        elif workload.space_kind == "darts":
            kept = (_SCORE, _PARAMETERS, _MACS, _DEPTH, _PATHS)
        elif workload.space_kind == "nasnet":
            kept = (_SCORE, _PARAMETERS, _DEPTH, _PATHS)
        return (*kept, _LATENCY) if workload.latency is not None else kept

    def references(self, workload: Workload) -> Mapping[str, float]:
        if isinstance(workload, TrainedWorkload):
            sample = workload.formula(workload.design_space.sample(64, 0, feasible=True))
            result = {metric.name: 1.0 for metric in self.metrics_for(workload)} | {"accuracy_percent": 100.0}
            return result | {name: float(max(np.median(column), 1.0)) for name, column in sample.items()}
        if isinstance(workload, NasWorkload) and workload.space_kind in FORMULA_ALONE:
            result = {metric.name: 1.0 for metric in self.metrics_for(workload)}
            sample = self._formula(workload, self.space(workload).sample(64, 0))
            return result | {name: float(max(np.median(column), 1.0)) for name, column in sample.items()}
        if isinstance(workload, NasWorkload) and not workload.has_table:
            result = {metric.name: 1.0 for metric in self.metrics_for(workload)}
            return result | {"accuracy_percent": 100.0, "parameters": 2000.0, "macs": 5e4}
        return super().references(workload)

    # --- evaluation ------------------------------------------------------------------------------------------------

    def full_name(self, workload: Workload, fidelity: str | Fidelity | None = None) -> str:
        """Name of the accuracy with everything that it depends on, for reports:
        ``nb201-mnist1d/valid_accuracy_percent[epochs=20,schedule=full,run=mean]``."""
        assert isinstance(workload, NasWorkload)
        parsed = parse_fidelity(fidelity)
        if parsed.source == "table":
            parsed = workload.resolve(parsed)
        elif workload.space_kind == joint.SPACE_KIND:
            parsed = parsed.filled(split="valid", run="single") if parsed.source == "train" else parsed
        elif parsed.source == "train":
            parsed = parsed.filled(split="valid", epochs=self.recipe(workload, parsed).epochs, run="single")
        elif parsed.source == "supernet":
            parsed = parsed.filled(split="valid", policy="uniform", steps=live.SUPERNET_STEPS)
        options = ",".join(
            f"{name}={value}"
            for name in ("epochs", "schedule", "run", "noise", "proxy", "policy", "steps", "inherit")
            if (value := getattr(parsed, name)) not in (None, "none")
        )
        kind = {"table": "", "train": "trained_", "supernet": "supernet_"}.get(parsed.source)
        if kind is None:
            return f"{workload.name}/{parsed}"
        return f"{workload.name}/{kind}{parsed.split or 'valid'}_accuracy_percent[{options}]"

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        """Refuse a fidelity that the workload does not have, before anything is evaluated or written."""
        assert isinstance(workload, NasWorkload)
        if isinstance(workload, TrainedWorkload) and workload.compiled_only and self.device != "cpu":
            raise ArchGymError(f"{workload.name} is trained on the processor; leave device={self.device!r} out")
        if fidelity is None:
            return
        super().check_fidelity(workload, str(fidelity) if isinstance(fidelity, Fidelity) else fidelity)
        parsed = parse_fidelity(fidelity)
        if isinstance(workload, TrainedWorkload):
            if parsed.source not in ("train", "formula") or parsed.inherit is not None:
                raise ArchGymError(
                    f"{quote(workload.name)} has no level {fidelity!r}; its levels are train and formula"
                )
            if parsed.source == "train":
                self.recipe(workload, parsed)
        elif workload.space_kind == joint.SPACE_KIND:
            joint.check_fidelity(workload, parsed)
        elif workload.space_kind != "nb201":
            if parsed.source != "formula":
                raise ArchGymError(f"{workload.name} has no level {parsed.source!r}; its level is formula")
        elif parsed.source == "table":
            resolved = workload.resolve(parsed)
            if resolved.noise == "gaussian":
                workload.table.column(resolved, np.zeros(1, dtype=np.int64), 0)
        elif parsed.source == "train":
            self.recipe(workload, parsed)
            self._can_inherit(workload, parsed)
        elif parsed.source == "supernet":
            live.supernet_recipe(workload, parsed.policy or "uniform", parsed.steps or live.SUPERNET_STEPS)

    def _can_inherit(self, workload: NasWorkload, fidelity: Fidelity) -> None:
        from archgym.simulators.nas.trainer import can_train

        if fidelity.inherit is None:
            return
        if not can_train(workload.macro_name):
            raise ArchGymError(f"{workload.name} has no inherited weights: they are for the one-dimensional networks")
        if self.device != "cpu":
            raise ArchGymError(f"inherited weights are trained on the processor; leave device={self.device!r} out")

    def _epochs(self, workload: Workload, fidelity: str | None) -> tuple[Fidelity, int | None]:
        """A fidelity with every blank filled, and the epochs of the training that it stands for; None where there are
        none."""
        assert isinstance(workload, NasWorkload)
        parsed = parse_fidelity(fidelity) if fidelity or workload.has_table else Fidelity("train")
        trained = isinstance(workload, TrainedWorkload)
        if not (trained or workload.space_kind == "nb201") or parsed.source not in ("table", "train"):
            return parsed, None
        if parsed.source == "table":
            parsed = workload.resolve(parsed)
            return parsed, parsed.epochs
        return parsed, self.recipe(workload, parsed).epochs

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """The epochs of the training, recorded or live. Of scores at initialisation and of supernets no cost is stated."""
        whole, epochs = self._epochs(workload, None)[1], self._epochs(workload, fidelity)[1]
        return epochs / whole if epochs and whole else 1.0

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        """Of recorded trainings the checkpoints and shorter runs that the table has, of live ones a third of the epochs,
        a third of these, and so on."""
        assert isinstance(workload, NasWorkload)
        full, epochs = self._epochs(workload, fidelity)
        if epochs is None or full.inherit is not None:
            return ()
        if full.source == "table":
            results = workload.table.mean if full.run == "mean" else workload.table.runs
            fewer = sorted({key.epochs for key in results if key.split == full.split and key.epochs < epochs})
        else:
            fewer = []
            while (epochs := epochs // 3) >= 1:
                fewer.insert(0, epochs)
        asked = parse_fidelity(fidelity) if fidelity else Fidelity(full.source)
        return tuple(str(replace(asked, epochs=one, schedule=None)) for one in fewer)

    def live(self, workload: Workload, fidelity: str | None = None) -> Live | None:
        assert isinstance(workload, NasWorkload)
        if isinstance(workload, TrainedWorkload):
            return self._live_trained(workload, fidelity)
        parsed = parse_fidelity(fidelity) if fidelity or workload.has_table else Fidelity("train")
        if workload.space_kind == joint.SPACE_KIND:
            return joint.effort(workload, parsed, self.device)
        if not workload.data or workload.space_kind != "nb201":
            return None
        return live.effort(workload, parsed, self.device, self.train_epochs)

    def inherits(self, fidelity: str | None) -> bool:
        return fidelity is not None and parse_fidelity(fidelity).inherit == "parent"

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        assert isinstance(workload, NasWorkload)
        if isinstance(workload, TrainedWorkload):
            return parse_fidelity(fidelity or "train").source == "train"
        if workload.space_kind in FORMULA_ALONE:
            return parse_fidelity(fidelity or "formula").source != "formula"
        if not fidelity and not workload.has_table:
            return True
        asked = parse_fidelity(fidelity)
        if asked.source == "table" and workload.has_table:
            asked = workload.resolve(asked)
            return asked.run != "mean" or asked.noise == "gaussian"
        return asked.source != "formula"

    def parent_seconds(self, parents: ArrayLike, workload: Workload, fidelity: str | None) -> NDArray[np.float64]:
        assert isinstance(workload, NasWorkload)
        codes = _codes(self.space(workload).check(parents))
        full = live.base_recipe(workload)
        return live.train_seconds(full, codes, full.epochs)

    def evaluate(
        self,
        designs: ArrayLike,
        workload: Workload,
        *,
        fidelity: str | None = None,
        seed: int | None = None,
        parents: ArrayLike | None = None,
    ) -> Evaluation:
        """As :meth:`Simulator.evaluate`; ``parents`` (rows ``(n, 6)``, -1 where there is none) are what
        ``train:inherit=parent`` inherits from, and change nothing elsewhere."""
        assert isinstance(workload, NasWorkload)
        if workload.has_table:
            packed = self._packed(workload, fidelity)
            if packed is not None:
                return self._look_up(designs, workload, packed)
        array = self.space(workload).check(designs)
        if isinstance(workload, TrainedWorkload):
            return self._evaluate_trained(array, workload, parse_fidelity(fidelity or "train"), int(seed or 0))
        if workload.space_kind == joint.SPACE_KIND:
            asked = parse_fidelity(fidelity or "train")
            joint.check_fidelity(workload, asked)
            return self._evaluate_cells(array, workload, asked, 0 if seed is None else int(seed))
        if workload.space_kind != "nb201":
            return self._evaluate_large(array, workload, parse_fidelity(fidelity or "formula"), seed or 0)
        parsed = parse_fidelity(fidelity) if fidelity or workload.has_table else Fidelity("train")
        from_codes = None
        if parents is not None and parsed.inherit == "parent":
            rows = np.asarray(parents, dtype=np.int64)
            none = (rows < 0).any(axis=1)
            from_codes = np.where(none, -1, _codes(self.space(workload).check(np.maximum(rows, 0))))
        return self._evaluate_cells(array, workload, parsed, 0 if seed is None else int(seed), from_codes)

    def _packed(self, workload: NasWorkload, fidelity: str | None) -> NDArray[np.float64] | None:
        """All metrics of all cells ``(15625, metrics)`` under a fidelity whose result does not depend on the seed,
        made on first use; None for other fidelities."""
        if fidelity in workload.packed:
            return workload.packed[fidelity]
        packed = None
        asked = parse_fidelity(fidelity)
        if asked.source == "table":
            asked = workload.resolve(asked)
            if asked.run == "mean" and asked.noise != "gaussian":
                everything = self._evaluate_cells(cells.all_rows(), workload, asked, 0)
                packed = np.stack([everything.metrics[m.name] for m in self.metrics_for(workload)], axis=1)
        workload.packed[fidelity] = packed
        return packed

    def _look_up(self, designs: ArrayLike, workload: NasWorkload, packed: NDArray[np.float64]) -> Evaluation:
        """Evaluate by one gather; large batches in one compiled pass, the check of the designs included."""
        given = np.asarray(designs)
        out = None
        if len(given) >= LARGE_BATCH and given.ndim == 2 and given.dtype == np.int64 and given.shape[1] == 6:
            from archgym.simulators.nas.kernels.lookup import gather

            # A little more than that: rows a power of two apart would take turns in the same places of the processor's cache.
            out = np.empty((packed.shape[1], len(given) + 8))
            out = out[:, : len(given)] if gather(given, packed, out) else None
        if out is None:
            array = self.space(workload).check(given)
            out = np.ascontiguousarray(packed.take(_codes(array), axis=0).T)
        n = out.shape[1]
        metrics = {metric.name: column for metric, column in zip(self.metrics_for(workload), out, strict=True)}
        if workload.table.missing:
            feasible = ~np.isnan(out[0])
            return Evaluation(metrics, feasible, _VIOLATIONS[feasible.astype(np.int8)])
        # One shared empty name: an array of n Python objects costs as much as the look-up itself.
        return Evaluation(metrics, np.ones(n, dtype=bool), np.broadcast_to(_NO_VIOLATION, n))

    def _evaluate_cells(
        self,
        array: NDArray[np.int64],
        workload: NasWorkload,
        fidelity: Fidelity,
        seed: int,
        parents: NDArray[np.int64] | None = None,
    ) -> Evaluation:
        n = len(array)
        codes = _codes(array)
        macro_name = workload.macro_name
        violation = None
        if fidelity.source == "table":
            resolved = workload.resolve(fidelity)
            found = workload.table
            accuracy = found.column(resolved, codes, seed)
            score = accuracy
            per_cell = found.train_seconds(resolved)
            seconds = np.zeros(n) if per_cell is None else per_cell.take(codes)
            if found.missing:
                unknown = np.isnan(accuracy)
                if unknown.any():
                    violation = _VIOLATIONS[(~unknown).astype(np.int8)]
        elif fidelity.source == "formula":
            accuracy, seconds = np.full(n, np.nan), np.zeros(n)
            score = table.cell_parameters(macro_name).take(codes)
        elif fidelity.source == "zero-cost":
            from archgym.simulators.nas.zerocost import cell_scores

            score, seconds = cell_scores(workload, codes, fidelity.proxy or "naswot", seed, self.device)
            accuracy = np.full(n, np.nan)
        elif workload.space_kind == joint.SPACE_KIND:
            accuracy, seconds = joint.train(workload, array, fidelity, seed, self.device)
            score = accuracy
        elif fidelity.source == "train":
            self._can_inherit(workload, fidelity)
            accuracy, seconds = live.train(workload, codes, fidelity, seed, self.device, self.train_epochs, parents)
            score = accuracy
        elif fidelity.source == "supernet":
            accuracy, score, seconds = live.supernet_scores(workload, codes, fidelity, seed)
        else:
            raise UnknownNameError("fidelity of nas", fidelity.source, self.fidelities)
        free = _free_columns()
        metrics = {
            "accuracy_percent": accuracy,
            "score": score,
            "train_seconds": seconds,
            "parameters": table.cell_parameters(macro_name).take(codes),
            "macs": table.cell_macs(macro_name).take(codes),
            "depth": free[0].take(codes),
            "shortest_path": free[1].take(codes),
            "paths": free[2].take(codes),
            "live_edges": free[3].take(codes),
        }
        if workload.latency is not None:
            metrics["latency_ms"] = workload.latency.take(codes)
        if violation is not None:
            return Evaluation.build(metrics, violation)
        if score is accuracy:
            metrics["score"] = accuracy.copy()
        return Evaluation(metrics, np.ones(n, dtype=bool), np.full(n, "", dtype=object))

    def recipe(self, workload: NasWorkload, fidelity: Fidelity) -> TrainRecipe:
        """The training recipe behind ``train`` on a workload: that of its table, so that training at the table's
        settings gives the table's rows."""
        return live.recipe(workload, fidelity, self.train_epochs)

    def _formula(self, workload: NasWorkload, array: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        if workload.space_kind == "darts":
            return darts.formula_metrics(array, darts.DARTS_MACROS[workload.macro_name])
        return nasnet.formula_metrics(array, darts.DARTS_MACROS[workload.macro_name])

    def _evaluate_large(
        self, array: NDArray[np.int64], workload: NasWorkload, fidelity: Fidelity, seed: int
    ) -> Evaluation:
        n = len(array)
        formula = self._formula(workload, array)
        if fidelity.source != "formula":
            raise ArchGymError(f"{workload.name} has no level {fidelity.source!r}; its level is formula")
        metrics = {"score": formula["parameters"].copy(), **formula}
        return Evaluation.build({m.name: metrics[m.name] for m in self.metrics_for(workload)}, count=n)

    def _evaluate_trained(
        self, array: NDArray[np.int64], workload: TrainedWorkload, fidelity: Fidelity, seed: int
    ) -> Evaluation:
        violation = workload.design_space.violations(array)
        good = np.flatnonzero(violation == "")
        kept = array[good]
        found = workload.formula(kept)
        if fidelity.source == "train":
            made = self.recipe(workload, fidelity)
            found["accuracy_percent"] = workload.accuracies(kept, made, fidelity, seed, self.device)
            found["train_seconds"] = workload.seconds(kept, made)
            found["score"] = found["accuracy_percent"]
        else:
            found["accuracy_percent"] = np.full(len(kept), np.nan)
            found["train_seconds"] = np.zeros(len(kept))
            found["score"] = found["parameters"]
        columns = {metric.name: np.full(len(array), np.nan) for metric in self.metrics_for(workload)}
        for name, column in columns.items():
            column[good] = found[name]
        return Evaluation.build(columns, violation)

    def _live_trained(self, workload: TrainedWorkload, fidelity: str | None) -> Live | None:
        parsed = parse_fidelity(fidelity or "train")
        if parsed.source != "train":
            return None
        try:
            made = self.recipe(workload, parsed)
        except ArchGymError:
            return None  # such a training does not exist; evaluating says so
        sample = workload.design_space.sample(16, 0, feasible=True)
        seconds = float(np.median(workload.seconds(sample, made)))
        piece = min(max(int(live.PIECE_SECONDS / max(seconds, 1e-3)), 1), live.GROUP)
        return Live(seconds, workload.live_words, piece)

    # --- objectives ------------------------------------------------------------------------------------------------

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        """``accuracy``, ``score``, and where there is a table ``regret``, ``relative-improvement-mean``,
        ``-median``, ``-live`` (baseline = that statistic of all cells, of live cells for the last, under the default
        fidelity), ``mnas-hard`` and ``mnas-soft``."""
        assert isinstance(workload, NasWorkload)
        result: dict[str, Any] = {
            "accuracy": Value(_ACCURACY, 0.0, "accuracy", "accuracy in percent under the fidelity in force"),
            "score": Value(_SCORE, -1e12, "score", "what the fidelity ranks by"),
        }
        if isinstance(workload, TrainedWorkload):
            return result
        if workload.space_kind in FORMULA_ALONE:
            # No accuracy is to be had for these: asking for it is an error that says so.
            return {"score": result["score"]}
        if not workload.has_table:
            return result
        resolved = workload.resolve(Fidelity())
        everything = np.arange(cells.CELLS)
        values = workload.table.column(resolved, everything, 0)
        known = np.isfinite(values)
        if not known.any():
            raise ArchGymError(f"{quote(workload.name)} holds no test accuracy of any cell; give a table with results")
        result["regret"] = Regret(values[known].max(), self.full_name(workload))
        for name, baseline in table.space_averages(values).items():
            result[f"relative-improvement-{name}"] = RelativeImprovement("accuracy_percent", baseline, name)
        cost = self.cost or ("latency_ms" if workload.latency is not None else "macs")
        names = [metric.name for metric in self.metrics_for(workload) if metric.direction == "min"]
        if cost not in names:
            raise UnknownNameError(f"cost metric of {workload.name}", cost, names)
        target = self.cost_target
        if target is None:
            column = {
                "latency_ms": workload.latency,
                "macs": table.cell_macs(workload.macro_name),
                "parameters": table.cell_parameters(workload.macro_name),
                "train_seconds": workload.table.train_seconds(resolved),
            }[cost]
            target = float(np.nanmedian(column)) if column is not None else 1.0
        for kind in ("hard", "soft"):
            result[f"mnas-{kind}"] = CostWeighted(kind, cost, float(target))
        return result

    def measured_as(self, designs: ArrayLike, workload: Workload) -> NDArray[np.int64] | None:
        """Cells of one function class share one training, and so do designs of one network."""
        array = self.space(workload).check(designs)
        if isinstance(workload, TrainedWorkload):
            return workload.labels(array)
        return cells.classes()[_codes(array)] if array.shape[1] == 6 else None


def _codes(array: NDArray[np.int64]) -> NDArray[np.int64]:
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


def choose_device(device: str | None, columns: Mapping[str, Any], file: str) -> str:
    """The latency column that is asked for, or the only one; a sentence names the columns of ``file``."""
    if not columns:
        raise ArchGymError(f"{file} has no latency column such as 'latency_ms_<device>'")
    if device is None:
        if len(columns) > 1:
            names: Sequence[str] = list(columns)
            raise ArchGymError(
                f"{file} has {len(names)} devices ({', '.join(names[:6])}, ...); choose one with device="
            )
        return next(iter(columns))
    if device not in columns:
        raise UnknownNameError(f"device of {file}", device, columns)
    return device
