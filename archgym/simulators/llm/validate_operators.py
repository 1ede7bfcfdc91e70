"""Operators against measured tables: ``ops.gemm/<device>/<type>``, ``ops.attention``, ``ops.moe``, ``ops.collectives``."""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.measure import Group, compare
from archgym.reading import taking_apart
from archgym.simulators.llm import operators as ops
from archgym.simulators.llm.devices import aliases, catalogue
from archgym.simulators.llm.fit import LARGE_MESSAGE

REQUIRED = {
    "gemm/a100_sxm/bf16": 0.12,
    "gemm/h100_sxm/bf16": 0.12,
    "gemm/h100_sxm/fp8": 0.16,
    "collectives": 0.10,
}
"""Group -> bound of the mean error; the others are reported."""


def groups(ref: Path) -> Iterator[Group]:
    """Groups of the operator tables that the folder holds, for the devices that are known."""
    folder = ref / "ops"
    for operator in ops.TABLES:
        with taking_apart(folder / f"{operator}.csv.gz", "operator table"):
            rows = ops.read_table(folder, operator)
            if rows is None:
                continue
            names = np.array([aliases().get(str(name).lower(), "") for name in rows["device"]])
            for name in sorted(set(names) - {""}):
                kept = {key: column[names == name] for key, column in rows.items()}
                yield from _device_groups(operator, name, kept)


def _device_groups(operator: str, name: str, rows: dict[str, NDArray[Any]]) -> Iterator[Group]:
    made = ops.Operators(catalogue()[name])
    if operator == "gemm":
        for kind in sorted(set(rows["dtype"])):
            precision = ops.TYPE_NAMES.get(kind, "")
            if precision and made.device.peak(precision):
                part = {key: column[rows["dtype"] == kind] for key, column in rows.items()}
                yield _group(f"gemm/{name}/{precision}", made.gemm(part["m"], part["n"], part["k"], precision), part)
    elif operator == "attention_prefill":
        ours = made.attention_prefill(rows["batch"], rows["heads"], rows["kv_heads"], rows["seq"])
        yield _group(f"attention/prefill/{name}", ours, rows)
    elif operator == "attention_decode":
        ours = made.attention_decode(rows["batch"], rows["heads"], rows["kv_heads"], rows["seq"])
        yield _group(f"attention/decode/{name}", ours, rows)
    elif operator == "moe":
        for kind in sorted(set(rows["moe_dtype"])):
            precision = ops.TYPE_NAMES.get(kind, "")
            if precision and made.device.peak(precision):
                part = {key: column[rows["moe_dtype"] == kind] for key, column in rows.items()}
                yield _group(f"moe/{name}/{precision}", _moe(made, part, precision), part)
    else:
        for impl in sorted(set(rows["impl"])):
            part = {key: column[rows["impl"] == impl] for key, column in rows.items()}
            ours = np.empty(len(part["bytes"]))
            for op in set(part["op"]):
                at = part["op"] == op
                ours[at] = made.collective(op, part["num_gpus"][at], part["bytes"][at], impl)
            large = part["bytes"] > LARGE_MESSAGE
            required = REQUIRED["collectives"] if impl == "nccl" else None
            yield _group(f"collectives/{name}/{impl}", ours[large], _rows(part, large), required)
            yield _group(f"collectives/{name}/{impl}/small", ours[~large], _rows(part, ~large))


def _moe(made: ops.Operators, rows: dict[str, NDArray[Any]], precision: str) -> NDArray[np.float64]:
    from archgym.simulators.llm.kernels.operators import moe_s

    row = made.moe_row(precision)
    columns = [rows[c] for c in ops.TABLES["moe"]]
    hidden, inner, topk, experts, tp, ep, tokens = columns
    skew = np.where(rows["distribution"] == "balanced", 0.0, 1.0)
    each = zip(tokens, hidden, inner, topk, experts, tp, ep, np.ones(len(skew)), skew, strict=True)
    return np.array([moe_s(row, *values) for values in each])


def _rows(rows: dict[str, NDArray[Any]], kept: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {key: column[kept] for key, column in rows.items()}


def _group(name: str, ours: NDArray[np.float64], rows: dict[str, NDArray[Any]], required: float | None = None) -> Group:
    bound = REQUIRED.get(name, required)
    shown = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    return compare(
        f"ops.{name}", ours, rows["time_s"], required={} if bound is None else {"mean_error": bound}, rows=shown
    )
