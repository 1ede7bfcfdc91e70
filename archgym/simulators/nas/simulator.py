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
from archgym.simulators.nas import cells, live, table
from archgym.simulators.nas.fidelity import Fidelity, parse_fidelity
from archgym.simulators.nas.formula import FormulaWorkload
from archgym.simulators.nas.joint import JointWorkload
from archgym.simulators.nas.pair import PairWorkload
from archgym.simulators.nas.trained import read_architecture
from archgym.simulators.nas.workload import NO_VIOLATION, VIOLATIONS, NasWorkload, Training, codes_of
from archgym.space import DesignSpace

if TYPE_CHECKING:
    from archgym.simulators.nas.trainer import TrainRecipe

LARGE_BATCH = 2048
"""Batches from this size on take the compiled look-up."""

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
    default_workload = "nb201-mnist1d-v2"
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
        self._training = Training(device, train_epochs)
        self._workloads: dict[str, NasWorkload] = {
            "nb201-mnist1d": NasWorkload(
                "nb201-mnist1d",
                "NAS-Bench-201's cell space trained by this project on generated mnist1d (never CIFAR-10)",
                data="mnist1d",
                load_table=table.own_table_loader("nb201-mnist1d"),
            ),
            "nb201-mnist1d-v2": NasWorkload(
                "nb201-mnist1d-v2",
                "the same with four times the steps and twice the noise in the data, four seeds a class",
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
            "joint-mnist1d": JointWorkload(
                "joint-mnist1d",
                "cells together with the recipe that they are trained by, live on the data of nb201-mnist1d-v2",
                "mnist1d-v2",
            ),
            "nb201-pair": PairWorkload(),
            "darts-cifar10": FormulaWorkload(
                "darts-cifar10", "DARTS cells, 20 cells of 36 channels, formula level", "darts"
            ),
            "nasnet-cifar10": FormulaWorkload(
                "nasnet-cifar10", "NASNet cells of five blocks, 20 cells of 36 channels, formula level", "nasnet"
            ),
        }

    # --- workloads -------------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return self._workloads

    def workload_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Those with a table, of the cell space that most share: what is trained live is named one by one."""
        known = self._workloads.items()
        return split_groups(tuple(name for name, w in known if w.has_table))

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
        if not workload.plain_cells:
            raise ArchGymError(f"{name} takes no latency table; they are for the nb201 cell space")
        if latency is None:
            raise ArchGymError(f"{name} has no device {device!r} of its own; give a latency table with latency=PATH")
        from archgym.simulators.nas.latency import read_latency

        columns = read_latency(located(latency))
        chosen = choose_device(device, columns, Path(latency).name)
        return workload.with_latency(columns[chosen], chosen)

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
        return workload.design_space

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        assert isinstance(workload, NasWorkload)
        kept: tuple[Metric, ...] = self.metrics
        if workload.metric_names is not None:
            kept = tuple(metric for metric in self.metrics if metric.name in workload.metric_names)
        return (*kept, _LATENCY) if workload.latency is not None else kept

    def references(self, workload: Workload) -> Mapping[str, float]:
        typical = workload.typical() if isinstance(workload, NasWorkload) else None
        if typical is None:
            return super().references(workload)
        return {metric.name: 1.0 for metric in self.metrics_for(workload)} | dict(typical)

    # --- evaluation ------------------------------------------------------------------------------------------------

    def full_name(self, workload: Workload, fidelity: str | Fidelity | None = None) -> str:
        """Name of the accuracy with everything that it depends on, for reports:
        ``nb201-mnist1d/valid_accuracy_percent[epochs=20,schedule=full,run=mean]``."""
        assert isinstance(workload, NasWorkload)
        parsed = workload.filled(parse_fidelity(fidelity), self._training)
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
        workload.check_device(self.device)
        if fidelity is None:
            return
        super().check_fidelity(workload, str(fidelity) if isinstance(fidelity, Fidelity) else fidelity)
        workload.check(parse_fidelity(fidelity), self._training)

    def _epochs(self, workload: Workload, fidelity: str | None) -> int | None:
        assert isinstance(workload, NasWorkload)
        return workload.epochs(workload.asked(fidelity), self._training)

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """The epochs of the training, recorded or live. Of scores at initialisation and of supernets no cost is stated."""
        whole, epochs = self._epochs(workload, None), self._epochs(workload, fidelity)
        return epochs / whole if epochs and whole else 1.0

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        """Of recorded trainings the checkpoints and shorter runs that the table has, of live ones a third of the epochs,
        a third of these, and so on."""
        assert isinstance(workload, NasWorkload)
        full = workload.asked(fidelity)
        epochs = workload.epochs(full, self._training)
        if epochs is None or full.inherit is not None:
            return ()
        if full.source == "table":
            full = workload.resolve(full)
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
        return workload.effort(workload.asked(fidelity), self._training)

    def inherits(self, fidelity: str | None) -> bool:
        return fidelity is not None and parse_fidelity(fidelity).inherit == "parent"

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        assert isinstance(workload, NasWorkload)
        return workload.noisy(workload.asked(fidelity))

    def parent_seconds(self, parents: ArrayLike, workload: Workload, fidelity: str | None) -> NDArray[np.float64]:
        assert isinstance(workload, NasWorkload)
        codes = codes_of(self.space(workload).check(parents))
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
        rows = None if parents is None else np.asarray(parents, dtype=np.int64)
        return workload.evaluate(array, workload.asked(fidelity), int(seed or 0), self._training, rows)

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
                everything = workload.evaluate(cells.all_rows(), asked, 0, self._training)
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
            out = np.ascontiguousarray(packed.take(codes_of(array), axis=0).T)
        n = out.shape[1]
        metrics = {metric.name: column for metric, column in zip(self.metrics_for(workload), out, strict=True)}
        if workload.table.missing:
            feasible = ~np.isnan(out[0])
            return Evaluation(metrics, feasible, VIOLATIONS[feasible.astype(np.int8)])
        # One shared empty name: an array of n Python objects costs as much as the look-up itself.
        return Evaluation(metrics, np.ones(n, dtype=bool), np.broadcast_to(NO_VIOLATION, n))

    def recipe(self, workload: NasWorkload, fidelity: Fidelity) -> TrainRecipe:
        """The training recipe behind ``train`` on a workload: that of its table, so that training at the table's
        settings gives the table's rows."""
        return live.recipe(workload, fidelity, self.train_epochs)

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
        if workload.metric_names is not None and "accuracy_percent" not in workload.metric_names:
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
        assert isinstance(workload, NasWorkload)
        return workload.labels(self.space(workload).check(designs))


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
