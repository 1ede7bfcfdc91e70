"""Fit the operators' closed forms to measured tables: ``archgym llm fit --ref DIR``.

For each operator, device and type the constants minimise a robust error of the logarithm of time. Their error is
stated twice: on all rows, and on shapes that were not fitted (two halves of the shapes, each predicted by the constants
of the other).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.llm import operators as ops
from archgym.simulators.llm.devices import ELEMENT_BYTES, catalogue
from archgym.simulators.llm.kernels import operators as kernels

Columns = Mapping[str, NDArray[Any]]
Predict = Callable[[Mapping[str, float], Columns], NDArray[np.float64]]
LARGE_MESSAGE = 2e6
"""Bytes above which collectives are held to their bound; below, latency decides and protocols differ."""


def fit_constants(
    predict: Predict,
    rows: Columns,
    start: Mapping[str, float],
    groups: Sequence[str],
    weight: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Constants (all positive, fitted as logarithms; names ending in ``exponent`` as they are) and their errors."""
    from scipy.optimize import least_squares

    names = list(start)
    signed = np.array([name.endswith("exponent") for name in names])
    first = np.array([value if s else np.log(value) for value, s in zip(start.values(), signed, strict=True)])
    weights = np.ones(len(rows["time_s"])) if weight is None else weight

    def named(x: NDArray[np.float64]) -> dict[str, float]:
        return {n: float(v if s else np.exp(v)) for n, v, s in zip(names, x, signed, strict=True)}

    def solve(kept: NDArray[np.bool_]) -> dict[str, float]:
        part = {name: column[kept] for name, column in rows.items()}

        def residual(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(weights[kept] * np.log(predict(named(x), part) / part["time_s"]))

        # The bounds keep a constant that the rows do not determine where it was, within e^7.
        bounds = (first - 7.0, first + 7.0)
        return named(least_squares(residual, first, bounds=bounds, loss="soft_l1", f_scale=0.1).x)

    everything = np.ones(len(weights), dtype=bool)
    constants = {name: float(f"{value:.5g}") for name, value in solve(everything).items()}
    errors = np.abs(predict(constants, rows) / rows["time_s"] - 1)
    # Shapes, not rows, are held out.
    half = np.array(
        [crc32("/".join(str(v) for v in shape).encode()) % 2 for shape in zip(*(rows[g] for g in groups), strict=True)]
    ).astype(bool)
    crossed = np.empty(len(errors))
    if half.any() and not half.all():
        for kept in (half, ~half):
            part = {name: column[~kept] for name, column in rows.items()}
            crossed[~kept] = np.abs(predict(solve(kept), part) / part["time_s"] - 1)
    else:
        crossed = errors
    strict = weights >= 1.0
    return {
        "constants": constants,
        "rows": int(strict.sum()),
        "mean_error": round(float(errors[strict].mean()), 4),
        "not_fitted_mean_error": round(float(crossed[strict].mean()), 4),
        "not_fitted_p90_error": round(float(np.quantile(crossed[strict], 0.9)), 4),
    }


def _each(function: Any, row: Any, *columns: Any) -> NDArray[np.float64]:
    return np.array([function(row, *values) for values in zip(*columns, strict=True)])


def fit_all(ref: Path, only: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Fits of every table in the folder: (operator, key, constants with errors)."""
    folder = ops.table_folder(ref)
    for operator in ops.TABLES:
        table = ops.read_table(folder, operator) if only in (None, operator) else None
        if table is None:
            continue
        for name in sorted(set(table["device"])):
            if name in catalogue():
                here = {key: column[table["device"] == name] for key, column in table.items()}
                yield from _FITS[operator](operator, name, here)


def _part(rows: Columns, kept: NDArray[np.bool_]) -> Columns:
    return {key: column[kept] for key, column in rows.items()}


def _fit_gemm(operator: str, name: str, rows: Columns) -> Iterator[tuple[str, str, dict[str, Any]]]:
    device = catalogue()[name]
    for kind in sorted(set(rows["dtype"])):
        precision = ops.TYPE_NAMES.get(kind)
        if precision is None or not device.peak(precision):
            continue

        def predict(fit: Mapping[str, float], part: Columns, precision: str = precision) -> NDArray[np.float64]:
            return _each(kernels.gemm_s, ops.gemm_row(fit, device, precision), part["m"], part["n"], part["k"])

        start = {"launch_us": 4.0, "compute": 0.8, "memory": 0.8, "k_half": 100.0, "p": 2.0, "area": 1e5}
        yield (
            operator,
            f"{name}/{precision}",
            fit_constants(predict, _part(rows, rows["dtype"] == kind), start, ("n", "k")),
        )


def _fit_attention(operator: str, name: str, rows: Columns) -> Iterator[tuple[str, str, dict[str, Any]]]:
    device, width = catalogue()[name], ELEMENT_BYTES["bf16"]
    start = {"launch_us": 8.0, "compute": 0.6, "memory": 0.7, "s_half": 100.0, "p": 2.0}
    if operator == "attention_prefill":
        start["rows"] = 1e4

        def predict(fit: Mapping[str, float], part: Columns) -> NDArray[np.float64]:
            none, size = np.zeros(len(part["seq"])), np.full(len(part["seq"]), 128.0)
            row = ops.attention_row(fit, device, width)
            columns = (part["batch"], part["heads"], part["kv_heads"], size, part["seq"], none, none)
            return _each(kernels.attention_prefill_s, row, *columns)
    else:
        start["split_us"] = 0.5

        def predict(fit: Mapping[str, float], part: Columns) -> NDArray[np.float64]:
            none, size = np.zeros(len(part["seq"])), np.full(len(part["seq"]), 128.0)
            row = ops.attention_row(fit, device, width)
            columns = (part["batch"], part["heads"], part["kv_heads"], size, part["seq"], none)
            return _each(kernels.attention_decode_s, row, *columns)

    yield operator, f"{name}/bf16", fit_constants(predict, rows, start, ("heads", "kv_heads", "batch"))


def _fit_moe(operator: str, name: str, rows: Columns) -> Iterator[tuple[str, str, dict[str, Any]]]:
    device = catalogue()[name]
    for kind in sorted(set(rows["moe_dtype"])):
        precision = ops.TYPE_NAMES.get(kind)
        if precision is None or not device.peak(precision):
            continue

        def predict(fit: Mapping[str, float], part: Columns, precision: str = precision) -> NDArray[np.float64]:
            skew = np.where(part["distribution"] == "balanced", 0.0, 1.0)
            columns = [part[c] for c in ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts")]
            columns += [part["moe_tp_size"], part["moe_ep_size"], np.ones(len(skew)), skew]
            return _each(kernels.moe_s, ops.moe_row(fit, device, precision), *columns)

        start = {"launch_us": 20.0, "compute": 0.6, "memory": 0.7, "m_half": 32.0, "p": 2.0}
        start |= {"hottest": 1.0, "passes": 3.0}
        shape = ("hidden_size", "inter_size", "moe_tp_size", "moe_ep_size")
        yield (
            operator,
            f"{name}/{precision}",
            fit_constants(predict, _part(rows, rows["moe_dtype"] == kind), start, shape),
        )


def _fit_collectives(operator: str, name: str, rows: Columns) -> Iterator[tuple[str, str, dict[str, Any]]]:
    device = catalogue()[name]
    for impl in sorted(set(rows["impl"])):
        for op in kernels.COLLECTIVES:
            kept = (rows["impl"] == impl) & (rows["op"] == op)
            if not kept.any():
                continue
            part = _part(rows, kept)
            number = kernels.COLLECTIVES.index(op)
            start = {"launch_us": 20.0, "member_us": 0.5, "share": 0.7, "quick_launch_us": 6.0, "quick_share": 0.2}
            several = len(set(part["num_gpus"])) > 1
            start |= {"members_exponent": 0.0} if several else {}

            def predict(fit: Mapping[str, float], part: Columns, number: int = number) -> NDArray[np.float64]:
                row = ops.collective_row({"members_exponent": 0.0, **fit})
                n = part["num_gpus"]
                link = device.link_bytes_per_s
                return np.array(
                    [
                        kernels.collective_s(row, number, a, a, y, link, device.nic_bytes_per_s, ops.HOP_S)
                        for a, y in zip(n, part["bytes"], strict=True)
                    ]
                )

            large = np.where(part["bytes"] > LARGE_MESSAGE, 1.0, 0.5)
            fitted = fit_constants(predict, part, start, ("bytes",), large)
            fitted["constants"] = {"members_exponent": 0.0, **fitted["constants"]}
            yield operator, f"{name}/{impl}/{op}", fitted


_FITS: dict[str, Callable[[str, str, Columns], Iterator[tuple[str, str, dict[str, Any]]]]] = {
    "gemm": _fit_gemm,
    "attention_prefill": _fit_attention,
    "attention_decode": _fit_attention,
    "moe": _fit_moe,
    "collectives": _fit_collectives,
}


def write_constants(path: Path, fits: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Put fits into a file of constants, in place of those of the same operator and key."""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for operator, key, fit in fits:
        found.setdefault(operator, {})[key] = fit
    ordered = {operator: dict(sorted(found[operator].items())) for operator in sorted(found)}
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
