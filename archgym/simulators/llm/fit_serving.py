"""How the constants of serving are fitted: request generators to traces, engines to measured servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.llm import devices, models
from archgym.simulators.llm.iteration import ENGINE_CONSTANTS, engine_row
from archgym.simulators.llm.requests import (
    PAIRS,
    SERIES,
    RequestTrace,
    autocorrelation,
    fit_generator,
    generate,
    read_trace,
    series_of,
)  # fmt: skip
from archgym.simulators.llm.serving import LlmServing, Serving, service_levels
from archgym.space import Value

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
LAGS = (1, 2, 5, 10)
SEEDS = 64
"""Draws among which a generator's own seed is chosen: the one whose server behaves most like the trace's."""
START = {"host_us": 300.0, "layer_us": 8.0, "gemm": 1.0, "attention": 1.0, "collective": 1.0}
PRIOR = 0.1
"""Weight of the logarithms of the constants, relative to START, beside those of the errors."""


# --- generators --------------------------------------------------------------------------------------------------


def behaviour(trace: RequestTrace) -> dict[str, float]:
    """Mean TTFT and TPOT, s, of a server with that trace: Llama-3.1-8B on one H100, or as many as keep up with it."""
    simulator = LlmServing("small")
    tokens = float((trace.prompt_tokens / 8 + trace.output_tokens).sum())
    span = max(float(trace.arrived_s[-1] - trace.arrived_s[0]), 1e-9)
    count = int(2 ** np.ceil(np.log2(max(1.0, tokens / span / 2500.0))))
    served = Serving(
        "fit", models.model("llama3.1-8b"), trace, devices.device("h100"), count, *service_levels(None, trace)
    )
    space = simulator.space(served)
    design: dict[str, Value] = {
        "tp": 1, "policy": "mixed", "budget": 2048, "max_running": 256, "kv_fraction": 0.9, "router": "round_robin",
    }  # fmt: skip
    metrics = simulator.evaluate(space.encode(design), served).metrics
    return {name: float(metrics[f"{name}_mean_s"][0]) for name in ("ttft", "tpot")}


def fit_traces(folder: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Generators of every trace in a folder (or of one file): name -> parameters, and the fit shown as rows."""
    paths = [folder] if folder.is_file() else sorted([*folder.glob("*.csv"), *folder.glob("*.jsonl")])
    if not paths:
        raise ArchGymError(f"{folder} holds no request traces (.csv, .jsonl)")
    found = {}
    for path in paths:
        given = read_trace(path)
        parameters = fit_generator(given)
        truth = behaviour(given)

        def distance(seed: int, parameters: dict[str, Any] = parameters, truth: dict[str, float] = truth) -> float:
            ours = behaviour(generate("draw", parameters, seed=seed))
            return max(abs(ours[name] / truth[name] - 1) for name in truth)

        parameters["seed"] = min(range(SEEDS), key=distance)
        drawn = generate(path.stem, parameters)
        found[path.stem] = parameters, compared(given, drawn)
        ours = behaviour(drawn)
        parameters["error"] = {name: round(ours[name] / truth[name] - 1, 4) for name in truth}
        found[path.stem][1].extend(
            {"what": f"server's mean {name}_s", "trace": truth[name], "generated": ours[name]} for name in truth
        )
    return found


def compared(given: RequestTrace, drawn: RequestTrace) -> list[dict[str, Any]]:
    """Quantiles, means, correlations and autocorrelations of a trace and of its generator."""
    rows: list[dict[str, Any]] = []
    both = [series_of(trace) for trace in (given, drawn)]
    for series in SERIES:
        columns = [columns[series] for columns in both]
        rows.append({"what": f"{series} mean", "trace": columns[0].mean(), "generated": columns[1].mean()})
        for q in QUANTILES:
            values = [float(np.quantile(column, q)) for column in columns]
            rows.append({"what": f"{series} {q:g} quantile", "trace": values[0], "generated": values[1]})
        for lag, a, b in zip(LAGS, *(autocorrelation(column, LAGS) for column in columns), strict=True):
            rows.append({"what": f"{series} autocorrelation at {lag}", "trace": a, "generated": b})
    correlations = [float(np.corrcoef(x[PAIRS[1][0]], x[PAIRS[1][1]])[0, 1]) for x in both]
    rows.append({"what": "correlation of prompt and output", "trace": correlations[0], "generated": correlations[1]})
    return rows


# --- engines -------------------------------------------------------------------------------------------------------


def fit_engine(path: Path, backend: str = "vllm", model: str = "llama3.1-70b") -> dict[str, Any]:
    """Constants of an engine from measured servers (``serving_measured.csv.gz``) of one model: least squares of the
    logarithm of TPOT, with a weak pull towards no correction."""
    from scipy.optimize import least_squares

    from archgym.simulators.llm.validate_serving import predict_steady, read_measured

    rows = [row for row in read_measured(path) if row["backend"] == backend and row["of"].name == model]
    if len(rows) < 2 * len(ENGINE_CONSTANTS):
        raise ArchGymError(f"{path} holds {len(rows)} rows of {model} on {backend}; too few to fit an engine to")
    truth = np.array([row["tpot_ms"] for row in rows]) * 1e-3

    def constants(x: NDArray[np.float64]) -> dict[str, float]:
        return {name: START[name] * float(np.exp(v)) for name, v in zip(ENGINE_CONSTANTS, x, strict=True)}

    def off(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found = predict_steady(rows, engine_row(constants(x)))[:, 0]
        return np.concatenate([np.log(found / truth), PRIOR * x])

    best = least_squares(off, np.zeros(len(ENGINE_CONSTANTS)), loss="soft_l1", f_scale=0.1)
    made = {name: float(f"{value:.4g}") for name, value in constants(best.x).items()}
    error = np.abs(predict_steady(rows, engine_row(made))[:, 0] / truth - 1)
    return {
        "constants": made,
        "fitted_to": f"TPOT of {model} on {backend}, {', '.join(sorted({row['on'].name for row in rows}))}",
        "rows": len(rows),
        "mean_error": round(float(error.mean()), 4),
        "worst_error": round(float(error.max()), 4),
    }
