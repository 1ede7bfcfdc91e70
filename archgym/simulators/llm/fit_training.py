"""Fit the constants of a training step to measured steps: ``archgym llm fit --only training``.

Dense models on A100 and H100 only; nothing is fitted to what other devices, mixtures of experts or published
single figures say, so that those remain checks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.llm.measured import MeasuredStep, read_steps
from archgym.simulators.llm.training_model import CONSTANTS, StepModel, constant_key, constants

DEVICES = ("a100_sxm", "h100_sxm")
BOUNDS = {
    "gemm_factor": (1.0, 2.0),
    "attention_factor": (1.0, 8.0),
    "passes": (2.0, 60.0),
    "loss_passes": (1.0, 20.0),
    "cast_passes": (0.2, 20.0),
    "unfused_bytes": (2.0, 30.0),
    "layer_s": (1e-6, 1e-3),
    "step_s": (1e-4, 0.3),
    "tp_hidden": (0.1, 1.0),
    "dp_hidden": (0.1, 1.0),
}
"""What a fitted constant may be."""


def fitted_steps(ref: Path) -> list[MeasuredStep]:
    """The rows that the constants are fitted to."""
    steps = read_steps(ref / "training_measured.csv")
    return [step for step in steps if step.device.operators in DEVICES and step.device.name.startswith(("a100", "h100"))
            and not step.model.experts]  # fmt: skip


def fit_training(ref: Path) -> dict[str, Any]:
    """Constants by ``name/entry`` that minimise a robust error of the logarithm of step time, and their errors."""
    from scipy.optimize import least_squares

    steps = fitted_steps(ref)
    models = [StepModel.of(step) for step in steps]
    measured = np.array([step.step_time_s for step in steps])
    keys = [[f"{name}/{constant_key(name, step.device, step.software)}" for name in CONSTANTS] for step in steps]
    used = {key for row in keys for key in row}
    fitted = sorted(key for key in used if constants()[key.partition("/")[0]]["kind"] == "fitted")
    places = [[(row.index(key), j) for j, key in enumerate(fitted) if key in row] for row in keys]
    lower, upper = (np.log([BOUNDS[key.partition("/")[0]][i] for key in fitted]) for i in (0, 1))

    def predicted(x: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        values = np.exp(x)
        times = []
        for i in chosen:
            for place, j in places[i]:
                models[i].constants[place] = values[j]
            times.append(models[i].evaluate(steps[i].design[None])[0][0, 0])
        return np.array(times)

    def solve(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        start = np.clip(np.log([_value(key) for key in fitted]), lower + 1e-3, upper - 1e-3)
        found = least_squares(
            lambda x: np.log(predicted(x, chosen) / measured[chosen]),
            start,
            bounds=(lower, upper),
            loss="soft_l1",
            f_scale=0.1,
            diff_step=1e-3,
        )
        return np.asarray(found.x)

    everything = np.arange(len(steps))
    best = np.log([float(f"{value:.4g}") for value in np.exp(solve(everything))])
    errors = np.abs(predicted(best, everything) / measured - 1)
    # Whole models are held out, so that no row of the same model helps.
    names = np.array([step.model.name for step in steps])
    crossed = np.empty(len(steps))
    for name in np.unique(names):
        crossed[names == name] = np.abs(
            predicted(solve(everything[names != name]), everything[names == name]) / measured[names == name] - 1
        )
    return {
        "constants": {key: float(f"{value:.4g}") for key, value in zip(fitted, np.exp(best), strict=True)},
        "rows": len(steps),
        "mean_error": round(float(errors.mean()), 4),
        "p90_error": round(float(np.quantile(errors, 0.9)), 4),
        "worst_error": round(float(errors.max()), 4),
        "not_fitted_mean_error": round(float(crossed.mean()), 4),
        "not_fitted_p90_error": round(float(np.quantile(crossed, 0.9)), 4),
    }


def _value(key: str) -> float:
    name, _, entry = key.partition("/")
    return float(constants()[name]["value"][entry])


def write_training(path: Path, fit: dict[str, Any]) -> None:
    """Put fitted constants into a file like ``data/training.json``."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"constants": dict(constants())}
    for key, value in fit["constants"].items():
        name, _, entry = key.partition("/")
        found["constants"][name]["value"][entry] = value
    found["fit"] = {name: value for name, value in fit.items() if name != "constants"}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
