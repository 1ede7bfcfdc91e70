"""A trained proxy: features, model, calibrated uncertainty and what it was trained on, in one file without pickle.

Predictions are made for a target that is the metric itself or its logarithm (whichever predicted a held-out fold
better), standardised. Intervals are conformal (Lei et al., "Distribution-free predictive inference for regression",
JASA 2018; Romano et al., "Conformalized quantile regression", NeurIPS 2019): residuals of cross-validation, each
divided by a learned scale of the error at that design, give the factor that the scale is multiplied with.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote
from archgym.proxies.features import Encoder
from archgym.proxies.models import Boosting, Model, check_settings, make_model
from archgym.reading import checked, parse_json, quote_path, read_arrays
from archgym.simulator import Metric, Workload
from archgym.space import Designs, DesignSpace
from archgym.writing import finite, replacing

FORMAT = 1
SUFFIX = ".proxy.npz"
FOLDS = 5
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Confidence levels whose conformal factors are stored."""
REACH_ROWS = 40_000
"""Rows that training designs and those they answer for make up together, within the bounds that follow."""
LEAST_COPIES, MOST_COPIES = 2, 8
"""Further designs drawn for each training design."""
LEAST_ERROR = 0.01
"""Percent; what a percentage of 100 lacks on the scale ``complement``, so that it stays finite."""
_LIMIT_BYTES = 1 << 30
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingData:
    """Distinct designs and what the simulator said of them.

    Attributes:
        space: their design space.
        workloads: the workloads by name.
        designs: ``(n, d)``, canonical, distinct within a workload.
        workload: ``(n,)`` index into ``workloads``.
        weight: ``(n,)`` how often a design stood in the data; the sampling distribution, for calibration.
        metrics: name -> ``(n,)``, NaN where infeasible.
        feasible: ``(n,)``.
        violation: ``(n,)`` names.
        low, high: ``(n, d)``, boxes of designs with the same results, see :meth:`archgym.simulator.Simulator.reach`;
            None where nobody asked the simulator.
        label: ``(n,)``, equal where designs share one measurement, see :meth:`archgym.simulator.Simulator.measured_as`;
            None where each has its own.
    """

    space: DesignSpace
    workloads: Mapping[str, Workload]
    designs: Designs
    workload: NDArray[np.int64]
    weight: Matrix
    metrics: Mapping[str, Matrix]
    feasible: NDArray[np.bool_]
    violation: NDArray[np.object_]
    low: Designs | None = None
    high: Designs | None = None
    label: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.designs)

    def take(self, rows: Any) -> TrainingData:
        """Some of the rows."""
        return TrainingData(
            self.space, self.workloads, self.designs[rows], self.workload[rows], self.weight[rows],
            {k: v[rows] for k, v in self.metrics.items()}, self.feasible[rows], self.violation[rows],
            None if self.low is None else self.low[rows], None if self.high is None else self.high[rows],
            None if self.label is None else self.label[rows],
        )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """Hash of designs and metrics, whatever the order of the rows."""
        columns = [self.workload.astype(np.float64), *self.designs.T.astype(np.float64)]
        columns += [self.metrics[name] for name in sorted(self.metrics)]
        if self.low is not None and self.high is not None:
            columns += [*self.low.T.astype(np.float64), *self.high.T.astype(np.float64)]
        table = np.column_stack(columns) + 0.0
        rows = sorted(row.tobytes() for row in np.nan_to_num(table, nan=-1.2345e300))
        return hashlib.sha256(b"".join([",".join(sorted(self.metrics)).encode(), *rows])).hexdigest()


@dataclass(frozen=True)
class Prediction:
    """What a proxy says of n designs.

    Attributes:
        mean, low, high: metric -> ``(n,)``: the prediction and its interval.
        outside: ``(n,)``: a value of the design (or the workload) was never seen in training.
        violation: ``(n,)`` name of the constraint the design breaks or is predicted to break, empty where feasible.
    """

    mean: Mapping[str, Matrix]
    low: Mapping[str, Matrix]
    high: Mapping[str, Matrix]
    outside: NDArray[np.bool_]
    violation: NDArray[np.object_]


@dataclass(frozen=True)
class Target:
    """A metric as the model sees it: ``y``, ``log(y)`` or, for percentages, ``-log(100 - y)`` is ``center + scale * target``."""

    metric: Metric
    log: bool
    center: float
    scale: float
    complement: bool = False

    def encode(self, values: Matrix) -> Matrix:
        return np.asarray((_plain(values, self.log, self.complement) - self.center) / self.scale)

    def decode(self, targets: Matrix) -> Matrix:
        values = self.center + self.scale * targets
        if self.complement:
            return np.asarray(100.0 - np.exp(-np.clip(values, -700.0, 700.0)))
        return np.exp(np.clip(values, -700.0, 700.0)) if self.log else values

    @classmethod
    def fit(cls, metric: Metric, values: Matrix, log: bool, complement: bool = False) -> Target:
        plain = _plain(values, log, complement)
        spread, center = float(plain.std()), float(plain.mean())
        return cls(metric, log, center, spread if spread > 1e-12 * max(abs(center), 1.0) else 1.0, complement)


def _plain(values: Matrix, log: bool, complement: bool) -> Matrix:
    if complement:
        return np.asarray(-np.log(np.maximum(100.0 - values, LEAST_ERROR)))
    return np.log(values) if log else values


class Proxy:
    """A model with everything around it; made by :func:`fit` or :func:`load`."""

    def __init__(
        self,
        space: DesignSpace,
        about: dict[str, Any],
        targets: Sequence[Target],
        model: Model,
        spread: Model | None,
        factors: Matrix,
        floor: Matrix,
        barrier: Model | None,
        seen: Sequence[NDArray[np.bool_]],
        training: TrainingData | None,
    ) -> None:
        self.space, self.about = space, about
        self.targets = tuple(targets)
        self.model, self.spread, self.factors, self.floor = model, spread, factors, floor
        self.barrier, self.seen, self.training = barrier, tuple(seen), training
        self.encoder = Encoder(space, about["workload_features"])
        self._compiled: dict[str, tuple[Any, ...]] = {}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics it predicts."""
        return tuple(target.metric for target in self.targets)

    @property
    def fingerprint(self) -> str:
        """Of the training data and the model's settings: what the predictions depend on."""
        settings = [self.about[k] for k in ("dataset", "model", "settings", "seed")]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def knows(self, workload: Workload) -> bool:
        """True where the workload was in the training data."""
        return workload.fingerprint in self.about["workloads"].values()

    def _parts(self, workload: Workload) -> tuple[Any, ...]:
        key = workload.fingerprint
        if key not in self._compiled:
            known = self.knows(workload)
            if not known and not self.about["workload_features"]:
                raise ArchGymError(
                    f"the proxy was trained on {', '.join(self.about['workloads'])}, not on {workload.name!r}; "
                    "train it on several workloads, or use the simulator"
                )
            constant = self.encoder.constant(workload_numbers(workload, self.about["workload_features"]))
            compiled = tuple(
                None if part is None else part.compile(self.encoder, constant)
                for part in (self.model, self.spread, self.barrier)
            )
            if len(self._compiled) >= 16:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[key] = (constant, known, *compiled)
        return self._compiled[key]

    def _run(self, model: Model, compiled: Any, canonical: Designs, constant: Matrix) -> Matrix:
        if compiled is not None:
            return np.asarray(compiled(canonical))
        return model.predict(self.encoder.rows(canonical, constant))

    def means(self, designs: Designs, workload: Workload) -> dict[str, Matrix]:
        """Metrics ``(n,)`` alone: the fastest way to predict. ``designs`` must be checked."""
        constant, _, compiled, _, _ = self._parts(workload)
        raw = self._run(self.model, compiled, self.space.canonical(designs), constant)
        return {t.metric.name: t.decode(raw[:, i]) for i, t in enumerate(self.targets)}

    def predict(self, designs: Any, workload: Workload, level: float = 0.9) -> Prediction:
        """Predictions with intervals that hold the truth with probability ``level`` (one of LEVELS) for designs drawn
        as the training data was."""
        if level not in LEVELS:
            raise ArchGymError(f"the level is {level}; expected one of {', '.join(map(str, LEVELS))}")
        array = self.space.check(designs)
        canonical = self.space.canonical(array)
        constant, known, compiled, spread, barrier = self._parts(workload)
        raw = self._run(self.model, compiled, canonical, constant)
        half = self.half_widths(canonical, constant, spread, level)
        mean, low, high = {}, {}, {}
        for i, t in enumerate(self.targets):
            name = t.metric.name
            mean[name] = t.decode(raw[:, i])
            low[name], high[name] = t.decode(raw[:, i] - half[:, i]), t.decode(raw[:, i] + half[:, i])
        violation = self.space.violations(array) if self.space.constraints else np.full(len(array), "", dtype=object)
        if self.barrier is not None:
            broken = self._run(self.barrier, barrier, canonical, constant)[:, 0] > 0.5
            violation[broken & (violation == "")] = self.about["predicted_violation"]
        return Prediction(mean, low, high, self.outside(canonical) | (not known), violation)

    def half_widths(self, canonical: Designs, constant: Matrix, compiled: Any, level: float) -> Matrix:
        """Half widths of the intervals, of standardised targets, ``(n, m)``."""
        factor = self.factors[LEVELS.index(level)]
        if self.spread is None:
            return np.broadcast_to(factor, (len(canonical), len(factor))).copy()
        scale = np.exp(np.clip(self._run(self.spread, compiled, canonical, constant), -50, 50))
        return np.asarray(np.maximum(scale, self.floor) * factor)

    def outside(self, canonical: Designs) -> NDArray[np.bool_]:
        """Designs with a parameter value that no training design has."""
        result = np.zeros(len(canonical), dtype=bool)
        for j, seen in enumerate(self.seen):
            if not seen.all():
                result |= ~seen[canonical[:, j]]
        return result

    # --- storage -----------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> Path:
        """Write the proxy; the file is a plain .npz of numbers and one JSON text."""
        path = Path(path)
        about = {
            "format": FORMAT,
            **self.about,
            "targets": [
                {**vars(t.metric), **{k: v for k, v in vars(t).items() if k != "metric"}} for t in self.targets
            ],
            "parts": {
                name: None if part is None else {"model": part.name, "settings": part.settings}
                for name, part in (("model", self.model), ("spread", self.spread), ("barrier", self.barrier))
            },
        }
        arrays: dict[str, Any] = {"factors": self.factors, "floor": self.floor}
        for name, part in (("model", self.model), ("spread", self.spread), ("barrier", self.barrier)):
            if part is not None:
                arrays |= {f"{name}.{key}": array for key, array in part.arrays().items()}
        for j, seen in enumerate(self.seen):
            arrays[f"seen.{j}"] = seen
        if self.training is not None:
            data = self.training
            arrays["training.designs"] = data.designs.astype(np.int32)
            arrays["training.workload"], arrays["training.weight"] = data.workload, data.weight
            arrays["training.feasible"] = data.feasible
            arrays |= {f"training.metric.{name}": data.metrics[name] for name in data.metrics}
            if data.low is not None and data.high is not None:
                arrays |= {"training.low": data.low.astype(np.int32), "training.high": data.high.astype(np.int32)}
        text = json.dumps(finite(about), sort_keys=True).encode()
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(text, dtype=np.uint8), **arrays)
        return path


def workload_numbers(workload: Workload, names: Sequence[str]) -> dict[str, float]:
    """The workload's features that a proxy uses; ``workload=NAME`` is 1 for that workload."""
    numbers = {key: float(value) for key, value in workload.features().items()}
    numbers |= {name: float(name == f"workload={workload.name}") for name in names if name.startswith("workload=")}
    return numbers


def workload_features(workloads: Mapping[str, Workload]) -> list[str]:
    """Which workload features tell these workloads apart: none for one, the workloads' own where they differ, else
    one for each name."""
    if len(workloads) < 2:
        return []
    rows = [workload.features() for workload in workloads.values()]
    common = [name for name in rows[0] if all(name in row for row in rows)]
    varied = [name for name in common if len({row[name] for row in rows}) > 1]
    if len({tuple(row[name] for name in varied) for row in rows}) == len(rows):
        return varied
    return [f"workload={name}" for name in workloads]


# --- fitting -------------------------------------------------------------------------------------------------------


def fit(
    data: TrainingData,
    metrics: Sequence[Metric],
    *,
    model: str = "boosting",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    scale: str = "auto",
    calibrate: bool = True,
    about: Mapping[str, Any] | None = None,
) -> Proxy:
    """Train a proxy.

    Args:
        data: distinct designs with their metrics.
        metrics: the metrics to learn.
        model: one of archgym.proxies.models.MODELS.
        settings: of the model.
        seed: fixes everything.
        scale: ``log``, ``linear`` or ``auto`` (the better one on a held-out fold, for each metric); ``complement`` is the
            logarithm of what a percentage lacks to 100, on which accuracies are about equally noisy, and ``auto`` for metrics
            that are none.
        calibrate: cross-validate for errors and intervals; without it intervals are infinite.
        about: facts for the file: simulator, version, space, options.
    """
    if scale not in ("auto", "log", "linear", "complement"):
        raise ArchGymError(f"scale is {scale!r}; expected auto, log, linear or complement")
    start = time.perf_counter()
    names = [metric.name for metric in metrics]
    good = data.feasible & np.all([np.isfinite(data.metrics[name]) for name in names], axis=0)
    used = data.take(np.flatnonzero(good))
    if len(used) < 20:
        raise ArchGymError(f"there are {len(used)} feasible distinct designs to learn from; give at least 20")
    features = workload_features(data.workloads)
    encoder = Encoder(data.space, features)
    rows = _rows(encoder, used)
    values = np.column_stack([used.metrics[name] for name in names])
    folds = _folds(used, seed)
    options = dict(settings or {})
    targets = _targets(metrics, values, rows, folds, model, options, seed, scale)
    encoded = np.column_stack([t.encode(values[:, i]) for i, t in enumerate(targets)])
    more, origin = _within_reach(used, folds, seed)
    learned = rows if more is used else _rows(encoder, more)

    def fitted(keep: NDArray[np.bool_]) -> Model:
        """A model of some of the designs, and of those that they answer for."""
        made, chosen = make_model(model, **options), keep[origin]
        made.fit(learned[chosen], encoded[origin[chosen]], seed)
        return made

    final = fitted(np.ones(len(used), dtype=bool))
    spread: Model | None = None
    factors = np.full((len(LEVELS), len(names)), np.inf)
    floor = np.zeros(len(names))
    errors: dict[str, Any] = {}
    if calibrate:
        held_out = np.empty_like(encoded)
        for fold in range(FOLDS):
            inside = folds != fold
            held_out[~inside] = fitted(inside).predict(rows[~inside])
        spread, factors, floor = _calibrate(rows, encoded, held_out, used.weight, folds, seed)
        few = fitted(folds < 2)
        factors *= _learning_curve(few.predict(rows[folds >= 2]) - encoded[folds >= 2], held_out - encoded)
        for i, t in enumerate(targets):
            guess = t.decode(held_out[:, i])
            errors[t.metric.name] = {
                "relative_rmse_percent": relative_rmse_percent(guess, values[:, i], used.weight),
                "median_relative_error_percent": float(100 * np.median(np.abs(guess / values[:, i] - 1)))
                if (values[:, i] != 0).all() else None,
            }  # fmt: skip
    barrier, violation = _barrier(encoder, data, seed)
    canonical = data.designs
    seen = [np.bincount(canonical[:, j], minlength=int(k)) > 0 for j, k in enumerate(data.space.nvec)]
    facts = {
        **dict(about or {}),
        "parameters": [p.name for p in data.space.parameters],
        "levels": [[str(v) for v in p.values] for p in data.space.parameters],
        "workloads": {name: workload.fingerprint for name, workload in data.workloads.items()},
        "workload_features": features,
        "model": model,
        "settings": final.settings,
        "seed": seed,
        "dataset": data.fingerprint,
        "designs": len(used),
        "rows": len(more),
        "infeasible_designs": int((~data.feasible).sum()),
        "predicted_violation": violation,
        "ranges": {name: [float(values[:, i].min()), float(values[:, i].max())] for i, name in enumerate(names)},
        "errors": errors,
        "training_s": time.perf_counter() - start,
    }
    return Proxy(data.space, facts, targets, final, spread, factors, floor, barrier, seen, data)


def relative_rmse_percent(guess: Matrix, truth: Matrix, weight: Matrix | None = None) -> float:
    """Root mean square error in percent of the mean of the truth."""
    weight = np.ones(len(truth)) if weight is None else weight
    mean = float(np.average(truth, weights=weight))
    error = float(np.sqrt(np.average((guess - truth) ** 2, weights=weight)))
    return 100 * error / abs(mean) if mean else float("inf")


def _rows(encoder: Encoder, data: TrainingData) -> Matrix:
    rows = encoder.rows(data.designs)
    for i, workload in enumerate(data.workloads.values()):
        constant = encoder.constant(workload_numbers(workload, encoder.workload_names))
        rows[data.workload == i] += constant
    return rows


def _within_reach(data: TrainingData, folds: NDArray[np.int64], seed: int) -> tuple[TrainingData, NDArray[np.int64]]:
    """The designs, and further ones that they answer for, drawn uniformly from their boxes; for each row the design that
    it comes from. Where training designs are uniform draws, so are these: a uniform draw from the class of a uniform
    draw. A further design belongs to the fold of the one that answers for it, so that cross-validation knows no more
    of the designs held out than the proxy will know of new ones."""
    count = len(data)
    own = np.arange(count)
    copies = min(MOST_COPIES, max(LEAST_COPIES, REACH_ROWS // count - 1))
    if data.low is None or data.high is None or (data.low == data.high).all():
        return data, own
    origin = np.repeat(own, copies)
    drawn = np.random.default_rng([seed, 78]).integers(data.low[origin], data.high[origin] + 1)
    designs = np.concatenate([data.designs, data.space.canonical(drawn)])
    origin = np.concatenate([own, origin])
    _, first = np.unique(np.column_stack([folds[origin], data.workload[origin], designs]), axis=0, return_index=True)
    first = np.sort(first)
    return replace(data.take(origin[first]), designs=designs[first]), origin[first]


def _folds(data: TrainingData, seed: int) -> NDArray[np.int64]:
    """Fold of each row; a design is in one fold on all workloads, and so are those that share its measurement."""
    alike = data.designs if data.label is None else data.label[:, None]
    _, group = np.unique(alike, axis=0, return_inverse=True)
    group = group.ravel()
    order = np.random.default_rng([seed, 77]).permutation(int(group.max()) + 1)
    return np.asarray(order[group] % FOLDS)


def _targets(
    metrics: Sequence[Metric], values: Matrix, rows: Matrix, folds: NDArray[np.int64], model: str,
    options: Mapping[str, Any], seed: int, scale: str,
) -> list[Target]:  # fmt: skip
    """The scale of each metric's target."""
    percent = [
        m.unit == "%" and scale == "complement" and bool((values[:, i] <= 100).all()) for i, m in enumerate(metrics)
    ]
    scale = "auto" if scale == "complement" else scale
    positive = (values > 0).all(axis=0)
    # A narrow range looks the same on both scales.
    wide = positive & ~np.array(percent) & (values.max(axis=0) > 1.5 * np.where(positive, values.min(axis=0), 1.0))
    log: NDArray[np.bool_] = np.array(positive if scale == "log" else np.zeros(len(metrics)), dtype=bool)
    if scale == "auto" and wide.any():
        inside = folds != 0
        error = {}
        for kind in (True, False):
            # For metrics that are not tried on the log scale both rounds say the same.
            trial = [Target.fit(m, values[inside, i], kind and bool(wide[i])) for i, m in enumerate(metrics)]
            columns = [i for i in range(len(metrics)) if wide[i]]
            part = make_model(model, **options)
            part.fit(rows[inside], np.column_stack([trial[i].encode(values[inside, i]) for i in columns]), seed)
            guess = part.predict(rows[~inside])
            error[kind] = {
                i: relative_rmse_percent(trial[i].decode(guess[:, k]), values[~inside, i])
                for k, i in enumerate(columns)
            }
        for i in error[True]:
            log[i] = error[True][i] <= error[False][i]
    return [Target.fit(m, values[:, i], bool(log[i]), percent[i]) for i, m in enumerate(metrics)]


def _spread_model(seed_rows: Matrix, logs: Matrix, seed: int) -> Model:
    trees = 60 if len(seed_rows) >= 200 else 10
    made = Boosting(trees=trees, leaves=16, learning_rate=0.1, min_leaf=min(20, max(2, len(seed_rows) // 20)))
    made.fit(seed_rows, logs, seed)
    return made


def _calibrate(
    rows: Matrix, truth: Matrix, guess: Matrix, weight: Matrix, folds: NDArray[np.int64], seed: int
) -> tuple[Model, Matrix, Matrix]:
    """Scale model and conformal factors from cross-validated residuals.

    The factors come from scales that were learned on other folds, so that they hold for designs the scale model has
    not seen either."""
    residual = np.abs(truth - guess)
    # Plateaus are predicted almost exactly; the floor keeps their intervals from vanishing.
    floor = np.maximum(0.02 * np.sqrt((residual**2).mean(axis=0)), 1e-9)
    logs = np.log(np.maximum(residual, floor))
    crossed = np.empty_like(logs)
    half = folds % 2 == 0
    for side in (half, ~half):
        crossed[side] = _spread_model(rows[~side], logs[~side], seed).predict(rows[side])
    score = residual / np.maximum(np.exp(crossed), floor)
    factors = np.empty((len(LEVELS), truth.shape[1]))
    for i in range(truth.shape[1]):
        order = np.argsort(score[:, i])
        share = np.cumsum(weight[order]) / (weight.sum() + weight.mean())  # the finite-sample correction n + 1
        for k, level in enumerate(LEVELS):
            place = int(np.searchsorted(share, level))
            factors[k, i] = score[order[min(place, len(order) - 1)], i]
    return _spread_model(rows, logs, seed), factors, floor


def _learning_curve(of_two_folds: Matrix, of_four_folds: Matrix) -> Matrix:
    """What the errors of a model trained on four folds shrink to with all five, ``(m,)``.

    Errors fall about as n**-a with the number n of designs; a comes from two folds against four, kept in [0, 1]."""
    few, more = (np.maximum(np.median(np.abs(part), axis=0), 1e-12) for part in (of_two_folds, of_four_folds))
    power = np.clip(np.log(few / more) / np.log(2.0), 0.0, 1.0)
    return np.asarray(((FOLDS - 1) / FOLDS) ** power)


def _barrier(encoder: Encoder, data: TrainingData, seed: int) -> tuple[Model | None, str]:
    """A model of infeasibility that the space's own constraints do not explain, and the commonest name for it."""
    unexplained = ~data.feasible
    if data.space.constraints and unexplained.any():
        unexplained &= data.space.violations(data.designs) == ""
    if not unexplained.any():
        return None, ""
    names, counts = np.unique(data.violation[unexplained].astype(str), return_counts=True)
    rows = _rows(encoder, data)
    keep = data.feasible | unexplained
    made = Boosting(trees=200, leaves=32, learning_rate=0.1)
    made.fit(rows[keep], unexplained[keep].astype(np.float64)[:, None], seed)
    return made, str(names[counts.argmax()]) or "infeasible"


# --- loading -------------------------------------------------------------------------------------------------------


def load(path: Path | str, space_of: Any) -> Proxy:
    """Read a proxy file.

    Args:
        path: the file.
        space_of: called with the file's facts (a dictionary) and returns the design space; raises where the proxy does
            not fit.

    Raises:
        ArchGymError: for files that are missing, truncated, foreign, of another version or malformed. Nothing in a
            file is executed.
    """
    path = Path(path)
    if not path.exists():
        raise ArchGymError(f"{quote_path(path)} does not exist; train a proxy with 'archgym proxy train'")
    arrays = read_arrays(path, "proxy", _LIMIT_BYTES)
    where = f"the proxy {quote_path(path)}"
    text = arrays.pop("about", None)
    if text is None or text.dtype != np.uint8 or text.ndim != 1:
        raise ArchGymError(f"{quote_path(path)} is no proxy; give a file that 'archgym proxy train' wrote")
    about = parse_json(text.tobytes(), where)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        given = quote(about.get("format"), 20) if isinstance(about, dict) else "none"
        raise ArchGymError(f"{where} is in proxy format {given}, this archgym reads {FORMAT}; train it again")
    facts: _Facts = checked(about, _Facts, where)
    space = space_of(about)
    try:
        return _restore(about, facts, arrays, space)
    except ArchGymError as error:
        raise ArchGymError(f"{where} cannot be used: {error}; give a file that 'archgym proxy train' wrote") from None


Share = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]


class _TargetFacts(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    unit: str
    direction: Literal["min", "max", "none"]
    description: str
    log: bool
    center: Share
    scale: Annotated[float, msgspec.Meta(gt=0, le=1e300)]
    complement: bool = False


class _PartFacts(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    settings: dict[str, Any]


class _Parts(msgspec.Struct, forbid_unknown_fields=True):
    model: _PartFacts
    spread: _PartFacts | None
    barrier: _PartFacts | None


class _Facts(msgspec.Struct):
    """The facts of a proxy file that anything depends on; others are for people."""

    simulator: str
    version: str
    space: str
    parameters: list[str]
    levels: list[list[str]]
    workloads: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    workload_features: Annotated[list[str], msgspec.Meta(max_length=10_000)]
    model: str
    settings: dict[str, Any]
    seed: Annotated[int, msgspec.Meta(ge=0)]
    dataset: str
    predicted_violation: str
    targets: Annotated[list[_TargetFacts], msgspec.Meta(min_length=1, max_length=1000)]
    parts: _Parts
    fidelity: str | None = None
    options: dict[str, Any] = {}
    simulator_settings: dict[str, Any] = {}


def _restore(about: dict[str, Any], facts: _Facts, arrays: dict[str, NDArray[Any]], space: DesignSpace) -> Proxy:
    width = len(Encoder(space, facts.workload_features).names)
    targets = [
        Target(Metric(t.name, t.unit, t.direction, t.description), t.log, t.center, t.scale, t.complement)
        for t in facts.targets
    ]
    m = len(targets)
    if len({target.metric.name for target in targets}) < m:
        raise ArchGymError("it predicts a metric twice")
    made: dict[str, Model | None] = {}
    for name, outputs in (("model", m), ("spread", m), ("barrier", 1)):
        entry: _PartFacts | None = getattr(facts.parts, name)
        if entry is None:
            made[name] = None
            continue
        part = make_model(entry.model, **check_settings(entry.model, entry.settings))
        part.restore({k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{name}.")}, width, outputs)
        made[name] = part
    model = made["model"]
    assert model is not None
    seen = [_column(arrays, f"seen.{j}", "b", (int(k),)) for j, k in enumerate(space.nvec)]
    factors = _column(arrays, "factors", "f", (len(LEVELS), m))
    floor = _column(arrays, "floor", "f", (m,))
    if not ((factors >= 0).all() and (floor >= 0).all()):  # a NaN fails as well
        raise ArchGymError("its intervals are malformed")
    training = _training(facts, arrays, space) if "training.designs" in arrays else None
    kept = {key: value for key, value in about.items() if key not in ("format", "targets", "parts")}
    return Proxy(space, kept, targets, model, made["spread"], factors, floor, made["barrier"], seen, training)


def _training(facts: _Facts, arrays: Mapping[str, NDArray[Any]], space: DesignSpace) -> TrainingData:
    rows = len(arrays["training.designs"]) if arrays["training.designs"].ndim else 0
    shape = (rows, space.dimension)
    designs = space.check(_column(arrays, "training.designs", "i", shape))
    feasible = _column(arrays, "training.feasible", "b", (rows,))
    workload = _column(arrays, "training.workload", "i", (rows,)).astype(np.int64)
    weight = _column(arrays, "training.weight", "f", (rows,))
    if (
        not (np.isfinite(weight) & (weight >= 0)).all()
        or not ((workload >= 0) & (workload < len(facts.workloads))).all()
    ):
        raise ArchGymError("its training data are malformed")
    prefix = "training.metric."
    metrics = {k[len(prefix) :]: _column(arrays, k, "f", (rows,)) for k in arrays if k.startswith(prefix)}
    low = high = None
    if "training.low" in arrays:
        low, high = (space.check(_column(arrays, f"training.{side}", "i", shape)) for side in ("low", "high"))
        if (low > high).any():
            raise ArchGymError("its training data are malformed")
    violation = np.where(feasible, "", facts.predicted_violation or "infeasible").astype(object)
    return TrainingData(space, {}, designs, workload, weight, metrics, feasible, violation, low, high)


def _column(arrays: Mapping[str, NDArray[Any]], name: str, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of the file, of a kind of numbers (``b``, ``i`` or ``f``) and a shape."""
    array = arrays.get(name)
    if array is None or array.dtype.kind != kind or array.shape != shape:
        raise ArchGymError(f"its array {quote(name, 40)} is missing or malformed")
    return array.astype(np.float64) if kind == "f" else array
