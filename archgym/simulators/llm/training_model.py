"""What the compiled training model takes: models, clusters, operator constants and step constants as vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.llm import operators as ops
from archgym.simulators.llm.devices import ELEMENT_BYTES, Device
from archgym.simulators.llm.kernels import training as kernel
from archgym.simulators.llm.models import Model
from archgym.threads import run_blocks

Vector = NDArray[np.float64]
CONSTANTS = (
    "gemm_factor",
    "attention_factor",
    "passes",
    "act_passes",
    "loss_passes",
    "cast_passes",
    "unfused_bytes",
    "layer_s",
    "step_s",
    "tp_exposed",
    "tp_hidden",
    "dp_hidden",
    "pp_exposed",
    "optimizer_bytes",
    "skew",
    "runtime_bytes",
    "busy_power",
    "idle_power",
)
"""Names of the step's constants, in the kernel's order."""


SOFTWARE = ("current", "2023", "2022")
"""Generations of training software: fused kernels and current flash attention; eager PyTorch with FlashAttention 1;
attention that writes its scores to memory."""


@cache
def constants() -> Mapping[str, Any]:
    """The step's constants (``data/training.json``): name -> value by device and software, kind and meaning."""
    text = resources.files("archgym.simulators.llm").joinpath("data/training.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["constants"]
    return found


def constant_key(name: str, device: Device, software: str = "current") -> str:
    """Which entry of a constant's values holds for a device and software."""
    values = constants()[name]["value"]
    return next(
        key for key in (f"{device.operators}/{software}", software, device.operators, "default") if key in values
    )


def constant_vector(device: Device, software: str = "current", changed: Mapping[str, float] | None = None) -> Vector:
    """The constants that hold for a device and software, in the kernel's order; ``changed`` replaces some by
    ``name`` or ``name/entry``."""
    changed = changed or {}
    values = []
    for name in CONSTANTS:
        key = constant_key(name, device, software)
        stated = constants()[name]["value"][key]
        values.append(float(changed.get(f"{name}/{key}", changed.get(name, stated))))
    return np.array(values)


def model_vector(model: Model, sequence: int, batch: int, *, unfused: bool = False, dropout: bool = False) -> Vector:
    """A model and the work of a step: sequences of ``sequence`` tokens, ``batch`` of them.

    ``unfused``: attention that writes its scores to memory (before flash attention). ``dropout``: masks are kept.
    """
    return np.array(
        [
            model.hidden,
            model.layers,
            model.heads,
            model.kv_heads,
            model.head_dim,
            model.value_dim,
            model.ffn,
            model.gated,
            model.vocab,
            model.experts,
            model.topk,
            model.expert_ffn,
            model.shared_experts,
            model.dense_layers,
            model.sliding_window,
            model.q_lora_rank,
            model.kv_lora_rank,
            model.qk_nope_head_dim,
            model.qk_rope_head_dim,
            model.tied,
            dropout,
            sequence,
            batch,
            unfused,
            model.step_flops(float(batch) * sequence, sequence),
        ],
        dtype=np.float64,
    )


def cluster_vector(device: Device, devices: int, usd_per_s: float = 0.0) -> Vector:
    """A cluster of ``devices``; ``usd_per_s`` is what one device costs a second."""
    return np.array(
        [
            device.bf16_flops,
            device.fp8_flops,
            device.fp4_flops,
            device.mem_bytes,
            device.mem_bytes_per_s,
            device.link_bytes_per_s,
            device.nic_bytes_per_s,
            device.host_bytes_per_s,
            device.host_mem_bytes,
            device.domain_devices,
            devices,
            device.tdp_w,
            usd_per_s,
            ops.HOP_S,
        ],
        dtype=np.float64,
    )


def operator_constants(made: ops.Operators) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Constants relative to a device's peaks ``(4, 7)`` (gemm bf16, fp8, fp4, prefill), and rows of
    collectives ``(4, 7)``."""
    table = np.zeros((4, 7))
    for i, precision in enumerate(ops.PRECISIONS):
        # Nobody measured fp4 but on one device; where it is missing fp8's shares hold.
        fit = made.fit("gemm", precision if made.has("gemm", precision) else "fp8")
        table[i, :6] = [fit["launch_us"] * 1e-6, *(fit[k] for k in ("compute", "memory", "k_half", "p", "area"))]
        table[i, 6] = ELEMENT_BYTES[precision]
    fit = made.fit("attention_prefill", "bf16")
    table[3, :6] = [fit["launch_us"] * 1e-6, *(fit[k] for k in ("compute", "memory", "s_half", "p", "rows"))]
    table[3, 6] = ELEMENT_BYTES["bf16"]
    return table, made.collective_rows()


def correction_grids(made: ops.Operators) -> tuple[Any, Any, Any]:
    """The corrections of measured tables as the kernel takes them."""
    gemm, gemm_fp8, prefill = (
        (grid.x, grid.y, grid.z, grid.values)
        for grid in (made.gemm_grid("bf16"), made.gemm_grid("fp8"), made.prefill_grid())
    )
    return gemm, gemm_fp8, prefill


class StepModel:
    """The compiled model for one workload on one kind of device.

    Args:
        model, device, sequence, batch: what runs where; tokens of a sequence, sequences of a step.
        software: one of ``SOFTWARE``.
        tables: folder of measured operators, for fidelity ``table``.
        changed: constants to replace, by name.
    """

    def __init__(
        self,
        model: Model,
        device: Device,
        sequence: int,
        batch: int,
        software: str = "current",
        tables: Path | None = None,
        changed: Mapping[str, float] | None = None,
    ) -> None:
        self.device = device
        self.model = model_vector(
            model, sequence, batch, unfused=software == "2022", dropout=software == "2022" and not model.gated
        )
        self.constants = constant_vector(device, software, changed)
        made = ops.Operators(device, tables)
        self.operators, self.collectives = operator_constants(made)
        self.grids = correction_grids(made)

    @staticmethod
    def of(step: Any, changed: Mapping[str, float] | None = None, tables: Path | None = None) -> StepModel:
        """The model of a measured step, whose cluster :attr:`clusters` then is."""
        made = StepModel(step.model, step.device, step.sequence, step.batch, step.software, tables, changed)
        made.clusters = cluster_vector(step.device, step.devices)[None]
        return made

    clusters: NDArray[np.float64]

    def evaluate(
        self,
        designs: NDArray[np.float64],
        clusters: NDArray[np.float64] | None = None,
        kept: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Metrics ``(n, 24)`` and verdicts ``(n,)`` of designs ``(n, 15)``; see
        :func:`kernels.training.evaluate_rows`."""
        out = np.empty((len(designs), len(kernel.METRICS)))
        verdict = np.zeros(len(designs), dtype=np.int64)
        if kept is None:
            kept = np.ones(len(designs), dtype=bool)
        clusters = self.clusters if clusters is None else clusters
        constants_ = (self.model, clusters, self.constants, self.operators, self.grids, self.collectives)
        run_blocks(kernel.evaluate_rows, len(designs), 256, *constants_, designs, kept, out, verdict)
        return out, verdict

    def metrics(self, designs: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Metrics by name, also of designs that do not fit."""
        return dict(zip(kernel.METRICS, self.evaluate(designs)[0].T, strict=True))
