"""Measured training steps as designs: one reader for the tables of several sources."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote
from archgym.simulators.llm import devices as device_catalogue
from archgym.simulators.llm import models as model_catalogue
from archgym.simulators.llm.devices import Device
from archgym.simulators.llm.kernels import training as kernel
from archgym.simulators.llm.models import Model

COLUMNS = ("id", "model", "seq", "device", "n_gpus", "tp", "pp", "cp", "ep", "gbs", "precision", "step_time_s")
"""Columns that a table must have."""


@dataclass(frozen=True)
class MeasuredStep:
    """One measured row: what ran where, as the kernel takes it, and the step's time in seconds."""

    row: Mapping[str, str]
    source: str
    model: Model
    device: Device
    devices: int
    sequence: int
    batch: int
    software: str
    design: NDArray[np.float64]
    step_time_s: float


_MODELS = {
    "gpt oss 120b": "gpt-oss-120b",
    "gpt-oss 120b": "gpt-oss-120b",
    "qwen3_30b_a3b": "qwen3-30b-a3b",
    "qwen3 moe 30b": "qwen3-30b-a3b",
    "qwen3_235b_a22b": "qwen3-235b-a22b",
    "deepseek v3": "deepseek-v3",
    "deepseekv3": "deepseek-v3",
    "deepseek-v3": "deepseek-v3",
}
"""Names of models in the tables (lower case) -> the catalogue's, for rows without a shape."""


def read_steps(path: Path) -> list[MeasuredStep]:
    """The rows of a ``training_measured.csv`` that name a step time and a device and model that are known.

    Rows without a time, of unknown devices, and of fine-tuning by low-rank adapters (which is another computation) are
    left out.
    """
    with open(path, encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        for column in COLUMNS:
            if column not in (reader.fieldnames or ()):
                raise ArchGymError(f"{str(path)[-120:]} lacks the column {column!r} of measured training steps")
        rows = list(reader)
    found = []
    for number, row in enumerate(rows, 2):
        try:
            step = _step(row)
        except (ValueError, ZeroDivisionError) as error:
            if isinstance(error, ArchGymError):
                raise
            raise ArchGymError(f"line {number} of {str(path)[-120:]} is no measured step: {quote(error)}") from None
        if step is not None:
            found.append(step)
    return found


def _step(row: Mapping[str, str]) -> MeasuredStep | None:
    if not row["step_time_s"] or "lora" in row.get("note", "").lower():
        return None
    name = row["device"].lower()
    known = device_catalogue.aliases()
    model = _model(row)
    if name not in known or model is None:
        return None
    source = row["id"].split("-")[0]
    tp, pp, cp = (int(row[c] or 1) for c in ("tp", "pp", "cp"))
    devices, batch = int(row["n_gpus"]), int(row["gbs"])
    dp = max(devices // (tp * pp * cp), 1)
    micro = int(row.get("mbs") or 0) or (2 if batch % (2 * dp) == 0 and pp == 1 else 1)
    chunks = max(int(row.get("vp") or 1), 1) if pp > 1 else 1
    # Tables of before fused attention (2021, 2022) are of fp16; llm-foundry's are of eager PyTorch and FlashAttention 1.
    unfused = row["precision"].lower() == "fp16"
    software = "2022" if unfused else "2023" if "llm-foundry" in row.get("source", "") else "current"
    layers = -(-model.layers // pp)
    if chunks > layers:
        # Some tables give the layers of a chunk's stage instead.
        chunks = layers
    precision = row["precision"].lower()
    values = {
        "tp": tp,
        "pp": pp,
        "cp": cp,
        "ep": int(row.get("ep") or 1) if model.experts else 1,
        "micro_batch": micro,
        "interleaving": chunks,
        "recompute": {"none": 0, "selective": 1, "full": 2}.get(row.get("recompute") or "none", 0),
        "zero": int(row.get("zero_stage") or 1),
        "tp_comm": kernel.AR if unfused else kernel.RS_AG,
        "tp_overlap": kernel.NO_OVERLAP if unfused or tp == 1 else kernel.RING,
        "dp_overlap": 0 if unfused else 1,
        "ag_redo": 0 if unfused else 1,
        "precision": 2 if "fp4" in precision else 1 if "fp8" in precision else 0,
        "offload": 0,
        "order": 0,
    }
    step = MeasuredStep(
        row,
        source,
        model,
        device_catalogue.catalogue()[known[name]],
        devices,
        int(row["seq"]),
        batch,
        software,
        np.array([values[name] for name in kernel.DESIGN], dtype=np.float64),
        float(row["step_time_s"]),
    )
    if values["zero"] == 3 and not row.get("recompute"):
        # Tables of fully sharded runs do not say what they recompute: the least that fits the memory.
        _least_recomputation(step)
    return step


def _least_recomputation(step: MeasuredStep) -> None:
    from archgym.simulators.llm.training_model import StepModel

    place = kernel.DESIGN.index("recompute")
    for recompute in (kernel.NONE, kernel.FULL):
        step.design[place] = recompute
        if StepModel.of(step).metrics(step.design[None])["memory_bytes"][0] <= step.device.mem_bytes:
            return


def _model(row: Mapping[str, str]) -> Model | None:
    """The row's shape, or the catalogue's model where the row has none."""
    name = row["model"]
    if row.get("hidden"):
        numbers: dict[str, Any] = {k: int(row[k]) for k in ("hidden", "layers", "heads", "kv_heads", "ffn", "vocab")}
        return Model(
            name=name,
            head_dim=numbers["hidden"] // numbers["heads"],
            gated=row["gated"] not in ("0", ""),
            tied=row["gated"] in ("0", ""),
            **numbers,
        )
    plain = re.sub(r"\s+", " ", name.lower())
    known = model_catalogue.catalogue()
    return known.get(_MODELS.get(plain, plain))
