"""What an iteration of a serving instance takes and what fits its memory: a model on a device under tensor, expert and
data-parallel attention, with weights and cache of some type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgym.errors import UnknownNameError
from archgym.reading import parse_json
from archgym.simulators.llm.devices import ELEMENT_BYTES, GIB, Device
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.operators import HOP_S, Operators

RUNTIME_BYTES = 3.5 * GIB
"""Memory that the server's runtime takes on a device. [assumption]"""
TOKENS = np.unique(np.rint(np.concatenate([np.arange(1, 17), 2.0 ** np.arange(4, 15.01, 0.25)])))
"""Tokens of an iteration at which its tables have a node."""
EMITTING = np.unique(np.rint(np.concatenate([np.arange(1, 9), 2.0 ** np.arange(3, 10.01, 0.5)])))
DECODES = np.unique(np.rint(np.concatenate([np.arange(1, 5), 2.0 ** np.arange(2, 10.01, 0.5)])))
CONTEXT = 2.0 ** np.arange(4, 20.01, 0.5)


@cache
def engines() -> Mapping[str, Mapping[str, Any]]:
    """Constants of serving engines (``data/engines.json``): what they add to the operators, with the fit's errors."""
    text = resources.files("archgym.simulators.llm").joinpath("data/engines.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = parse_json(text, "data/engines.json")
    return found


ENGINE_CONSTANTS = ("host_us", "layer_us", "gemm", "attention", "collective")


def engine_row(constants: Mapping[str, float]) -> NDArray[np.float64]:
    """An engine's constants as the kernels take them: seconds of the host an iteration and of a layer's small
    operators, factors of matrix products, attention and collectives."""
    row = np.array([float(constants[name]) for name in ENGINE_CONSTANTS])
    row[:2] *= 1e-6
    return row


def engine(name: str) -> NDArray[np.float64]:
    """The constants of an engine by name."""
    if name not in engines():
        raise UnknownNameError("serving engine", name, engines())
    return engine_row(engines()[name]["constants"])


@dataclass(frozen=True)
class Layout:
    """How one instance is laid out over devices.

    Attributes:
        tp, ranks, ep: tensor-parallel devices, data-parallel ranks of attention (each of ``tp`` devices), expert
            parallelism over all ``tp * ranks`` devices.
        weights, cache: data types of weights and of the cache of keys and values.
    """

    tp: int = 1
    ranks: int = 1
    ep: int = 1
    weights: str = "bf16"
    cache: str = "bf16"


class Tables(NamedTuple):
    """Stacked cost tables of m configurations, on the grids of this module: ``law`` ``(m, 6)``, ``dense``, ``traffic``
    ``(m, tokens)``, ``head`` ``(m, emitting)``, ``attention`` ``(m, decodes * context)`` in s and bytes; ``scalar``
    ``(m, 3)``: bytes of a cached token, window, share of windowed layers; ``linear`` ``(m, 5)``: the law of fidelity
    ``schedule``, a line through each table."""

    tokens: NDArray[np.float64]
    emitting: NDArray[np.float64]
    decodes: NDArray[np.float64]
    context: NDArray[np.float64]
    law: NDArray[np.float64]
    dense: NDArray[np.float64]
    traffic: NDArray[np.float64]
    head: NDArray[np.float64]
    attention: NDArray[np.float64]
    scalar: NDArray[np.float64]
    linear: NDArray[np.float64]


# --- memory --------------------------------------------------------------------------------------------------------


def weight_bytes(model: Model, tp: Any, ranks: Any, pp: Any, width: Any) -> NDArray[np.float64]:
    """Bytes of weights on a device; the arguments broadcast. Experts are spread over all devices of an instance, the
    rest over one rank's."""
    experts = float(model.moe_layers * model.experts * model.expert_parameters)
    rest = float(model.parameters) - experts
    tp, ranks, pp = (np.asarray(x, dtype=np.float64) for x in (tp, ranks, pp))
    return np.asarray((rest / tp + experts / (tp * ranks)) / pp * np.asarray(width))


def cache_bytes(model: Model, tp: Any, width: Any) -> NDArray[np.float64]:
    """Bytes that one token and layer occupies on a device: heads of keys and values are replicated where there are
    fewer of them than devices; a latent cache is on every device."""
    tp, width = np.asarray(tp, dtype=np.float64), np.asarray(width, dtype=np.float64)
    if model.mla:
        return np.asarray((model.kv_lora_rank + model.qk_rope_head_dim) * width + 0 * tp)
    return np.asarray(2.0 * np.maximum(np.floor(model.kv_heads / tp), 1.0) * model.head_dim * width)


def cache_blocks(
    model: Model, memory: Any, fraction: Any, block: Any, tp: Any, ranks: Any, pp: Any, weights: Any, cache: Any
) -> NDArray[np.float64]:
    """Blocks of ``block`` tokens that one attention rank holds, negative where the weights do not fit; the arguments
    broadcast. Stages hold their layers' part of every token."""
    rest = np.asarray(memory, dtype=np.float64) - weight_bytes(model, tp, ranks, pp, weights) - RUNTIME_BYTES
    layers = np.ceil(model.layers / np.asarray(pp, dtype=np.float64))
    token = layers * cache_bytes(model, tp, cache)
    return np.asarray(np.floor(np.asarray(fraction) * rest / (np.asarray(block) * token)))


# --- time ------------------------------------------------------------------------------------------------------------


def shape(model: Model, layout: Layout, device: Device) -> Any:
    """One device's part of the model, for the kernels."""
    from archgym.simulators.llm.kernels.iteration import Shape

    tp, devices = layout.tp, layout.tp * layout.ranks
    dense = model.layers - model.moe_layers
    rows: list[tuple[float, float, int]] = [(n, k, model.layers) for n, k in model.attention_matrices(tp)]
    if dense:
        rows += [(n, k, dense) for n, k in model.ffn_matrices(tp)]
    if model.moe_layers:
        rows.append((model.experts, model.hidden, model.moe_layers))
        if model.shared_experts:
            inner = model.shared_experts * model.expert_ffn / tp
            gate = 2 if model.gated else 1
            rows += [(gate * inner, model.hidden, model.moe_layers), (model.hidden, inner, model.moe_layers)]
    width = ELEMENT_BYTES[layout.weights]
    latent = float(model.kv_lora_rank + model.qk_rope_head_dim)
    # Latent attention works on the cached vectors themselves: one head of keys and values, half as wide each.
    head_dim = latent / 2 if model.mla else float(model.head_dim)
    share = (latent + model.kv_lora_rank) / (2.0 * head_dim) if model.mla else 1.0
    heads = model.heads / tp
    return Shape(
        np.array(rows, dtype=np.float64), float(model.hidden), model.vocab / tp, float(model.layers),
        float(model.moe_layers), float(model.experts), float(model.topk), float(model.expert_ffn), width,
        float(model.gated), heads, 1.0 if model.mla else float(max(model.kv_heads // tp, 1)), head_dim, share,
        float(model.sliding_window), 0.5 if model.sliding_window else 0.0, float(tp), float(layout.ranks),
        float(layout.ep), float(min(device.domain_devices, devices)), width,
    )  # fmt: skip


def operator_rows(device: Device, layout: Layout, tables: Path | None = None) -> tuple[Any, Any]:
    """Constants of the device's operators, and their corrections from a folder of measured tables."""
    from archgym.simulators.llm.kernels.iteration import Grids, Rows

    found = Operators(device, tables)
    rows = Rows(
        _typed(found.gemm_row, device, layout.weights), found.gemm_row("bf16"), found.decode_row(layout.cache),
        found.prefill_row(), _typed(found.moe_row, device, layout.weights), found.collective_row("all_reduce", "vllm_graph"),
        found.collective_row("alltoall"), device.link_bytes_per_s, device.nic_bytes_per_s, HOP_S,
        device.mem_bytes_per_s,
    )  # fmt: skip
    gemm, decode = found.gemm_grid(layout.weights), found.decode_grid()
    return rows, Grids(gemm.x, gemm.y, gemm.z, gemm.values, decode.x, decode.y, decode.z, decode.values)


def _typed(row: Any, device: Device, precision: str) -> NDArray[np.float64]:
    """The constants for weights of a type. For fp4 nothing was measured: the constants are those of bf16, with fp4's
    bytes, and its peak where the device has one (else weights are widened before they are multiplied)."""
    if precision != "fp4":
        return np.asarray(row(precision))
    result = np.array(row("bf16"))
    result[1] *= max(device.peak("fp4"), device.bf16_flops) / device.bf16_flops
    result[6] = ELEMENT_BYTES["fp4"]
    return result


def handover(model: Model, device: Device, tp: int) -> tuple[float, float]:
    """Seconds a pipeline stage takes to pass an iteration on, and further seconds a token."""
    return HOP_S, model.hidden * 2.0 / tp / device.link_bytes_per_s


def build(
    model: Model, parts: Sequence[tuple[Layout, Device]], constants: NDArray[np.float64], tables: Path | None = None
) -> Tables:
    """Tables of several configurations of a model.

    Args:
        model: the model.
        parts: layout and device of each configuration.
        constants: the engine's, of :func:`engine_row`.
        tables: folder of measured operators that correct the closed forms.
    """
    from archgym.simulators.llm.kernels.iteration import fill

    count = len(parts)
    made = Tables(
        TOKENS, EMITTING, DECODES, CONTEXT, np.zeros((count, 6)), np.zeros((count, len(TOKENS))),
        np.zeros((count, len(TOKENS))), np.zeros((count, len(EMITTING))),
        np.zeros((count, len(DECODES) * len(CONTEXT))), np.zeros((count, 3)), np.zeros((count, 5)),
    )  # fmt: skip
    for i, (layout, device) in enumerate(parts):
        rows, grids = operator_rows(device, layout, tables)
        fill(
            rows, grids, shape(model, layout, device), constants, TOKENS, EMITTING, DECODES, CONTEXT, made.dense[i],
            made.traffic[i], made.head[i], made.attention[i], made.law[i],
        )  # fmt: skip
        made.law[i, 4:] = handover(model, device, layout.tp)
        token = model.layers * cache_bytes(model, layout.tp, ELEMENT_BYTES[layout.cache]) / layout.ranks
        made.scalar[i] = token, model.sliding_window, 0.5 if model.sliding_window else 0.0
    _linear(made)
    return made


def _linear(made: Tables) -> None:
    """The linear laws: the tables' values at one token, their slope up to 2,048 tokens, the prompts' attention without
    its fixed parts, and the decodes' between 1,024 and 4,096 tokens of context of 64 requests."""
    one, many = 0, int(np.searchsorted(TOKENS, 2048.0))
    n, near, far = (int(np.searchsorted(g, x)) for g, x in ((DECODES, 64.0), (CONTEXT, 1024.0), (CONTEXT, 4096.0)))
    slope = made.attention[:, n * len(CONTEXT) + far] - made.attention[:, n * len(CONTEXT) + near]
    made.linear[:, 0] = made.dense[:, one] + made.head[:, one] + made.attention[:, 0]
    made.linear[:, 1] = (made.dense[:, many] - made.dense[:, one]) / (TOKENS[many] - TOKENS[one])
    made.linear[:, 2] = 0.5 * made.law[:, 1]
    made.linear[:, 3] = slope / (DECODES[n] * (CONTEXT[far] - CONTEXT[near]))
    made.linear[:, 4] = made.law[:, 4] + 64.0 * made.law[:, 5]
