"""Tables of what an iteration of a serving instance takes, filled from the operators' closed forms (with their measured
corrections where there are any). They are what :class:`archgym.simulators.llm.kernels.serving.Cost` interpolates."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.llm.kernels import operators as ops


class Grids(NamedTuple):
    """Corrections of matrix products (log2 m, log2 n, log2 k) and of decode attention (log2 context, log2 batch * kv
    heads, log2 heads / kv heads): axes and logarithms of measured over closed time."""

    gemm_x: Any
    gemm_y: Any
    gemm_z: Any
    gemm: Any
    decode_x: Any
    decode_y: Any
    decode_z: Any
    decode: Any


class Rows(NamedTuple):
    """Constants of the operators (see :mod:`~archgym.simulators.llm.kernels.operators`)."""

    gemm: Any
    head: Any
    decode: Any
    prefill: Any
    moe: Any
    reduce: Any
    exchange: Any
    link: float
    nic: float
    hop: float
    memory: float


class Shape(NamedTuple):
    """One device's part of a model, and the degrees of parallelism.

    Attributes:
        matrices: float64 ``(m, 3)``: outputs n, inputs k, and in how many layers each matrix is.
        hidden, vocab: width; vocabulary of the head's part.
        layers, moe_layers: all; with experts.
        experts, topk, expert_ffn, expert_bytes: routed experts, and bytes of a weight of theirs.
        heads, kv_heads, head_dim: of the device's attention (of one rank); flop_share: work over that of plain
            attention of that size.
        window, windowed: tokens that the share of windowed layers sees.
        tp, ranks, ep, inside: tensor-parallel devices, data-parallel ranks of attention, expert parallelism, devices
            that the fast link joins.
        weight_bytes: of an element of a matrix.
    """

    matrices: Any
    hidden: float
    vocab: float
    layers: float
    moe_layers: float
    experts: float
    topk: float
    expert_ffn: float
    expert_bytes: float
    gated: float
    heads: float
    kv_heads: float
    head_dim: float
    flop_share: float
    window: float
    windowed: float
    tp: float
    ranks: float
    ep: float
    inside: float
    weight_bytes: float


@inner(error_model="numpy")
def _gemm(grids, row, m, n, k):
    time = ops.gemm_s(row, m, n, k)
    if grids.gemm.size > 1:
        x, y, z = np.log2(m), np.log2(n), np.log2(k)
        time = ops.corrected(time, grids.gemm_x, grids.gemm_y, grids.gemm_z, grids.gemm, x, y, z)
    return time


@inner(error_model="numpy")
def _decode(rows, grids, shape, batch, context, window):
    time = ops.attention_decode_s(rows.decode, batch, shape.heads, shape.kv_heads, shape.head_dim, context, window)
    if grids.decode.size > 1:
        seen = min(context, window) if window > 0.0 else context
        x, y, z = np.log2(seen), np.log2(batch * shape.kv_heads), np.log2(shape.heads / shape.kv_heads)
        time = ops.corrected(time, grids.decode_x, grids.decode_y, grids.decode_z, grids.decode, x, y, z)
    return time


@inner(error_model="numpy")
def dense_seconds(rows, grids, shape, engine, tokens):
    """Everything of an iteration but attention and head, for ``tokens`` tokens of the whole instance.

    ``engine``: s of the host an iteration, s of the small operators of a layer, factors of matrix products and of
    attention, factor of collectives.
    """
    own = max(tokens / shape.ranks, 1.0)
    work = 0.0
    for i in range(len(shape.matrices)):
        work += shape.matrices[i, 2] * _gemm(grids, rows.gemm, own, shape.matrices[i, 0], shape.matrices[i, 1])
    talk = 0.0
    if shape.moe_layers > 0.0:
        devices = shape.tp * shape.ranks
        work += shape.moe_layers * ops.moe_s(
            rows.moe, tokens, shape.hidden, shape.expert_ffn, shape.topk, shape.experts, devices / shape.ep, shape.ep,
            shape.gated, 1.0,
        )  # fmt: skip
        if shape.ranks > 1.0:
            # Tokens travel to their experts' devices and back.
            message = own * min(shape.topk, shape.ep) * shape.hidden * 2.0
            talk += shape.moe_layers * 2.0 * ops.collective_s(
                rows.exchange, ops.ALL_TO_ALL, devices, shape.inside, message, rows.link, rows.nic, rows.hop
            )  # fmt: skip
    if shape.tp > 1.0:
        talk += 2.0 * shape.layers * ops.collective_s(
            rows.reduce, ops.ALL_REDUCE, shape.tp, shape.inside, own * shape.hidden * 2.0, rows.link, rows.nic, rows.hop
        )  # fmt: skip
    # Norms, residuals, rotary embedding and activation pass through memory some ten times.
    passes = 10.0 * 2.0 * own * shape.hidden / rows.memory
    return engine[0] + shape.layers * (engine[1] + passes) + engine[2] * work + engine[4] * talk


@inner(error_model="numpy")
def weight_traffic(shape, tokens):
    """Bytes of weights that the devices of an instance read in an iteration, each."""
    total = 0.0
    for i in range(len(shape.matrices)):
        total += shape.matrices[i, 2] * shape.matrices[i, 0] * shape.matrices[i, 1] * shape.weight_bytes
    if shape.moe_layers > 0.0:
        hit = 1.0 - (1.0 - min(shape.topk / shape.experts, 1.0)) ** tokens
        per_expert = (3.0 if shape.gated > 0.0 else 2.0) * shape.hidden * shape.expert_ffn * shape.expert_bytes
        total += shape.moe_layers * shape.experts * hit * per_expert / (shape.tp * shape.ranks)
    return total


@kernel(error_model="numpy")
def fill(rows, grids, shape, engine, tokens, emitting, decodes, context, dense, traffic, head, attention, law):
    """Fill one configuration's tables; ``law`` gets the four constants of prompt attention."""
    for i in range(len(tokens)):
        dense[i] = dense_seconds(rows, grids, shape, engine, tokens[i])
        traffic[i] = weight_traffic(shape, tokens[i])
    for i in range(len(emitting)):
        own = max(emitting[i] / shape.ranks, 1.0)
        head[i] = engine[2] * ops.gemm_s(rows.head, own, shape.vocab, shape.hidden)
    for i in range(len(decodes)):
        own = max(decodes[i] / shape.ranks, 1.0)
        for j in range(len(context)):
            time = 0.0
            if shape.windowed < 1.0:
                time += (1.0 - shape.windowed) * _decode(rows, grids, shape, own, context[j], 0.0)
            if shape.windowed > 0.0:
                time += shape.windowed * _decode(rows, grids, shape, own, context[j], shape.window)
            attention[i * len(context) + j] = engine[3] * shape.layers * time
    row = rows.prefill
    work = 4.0 * shape.head_dim * shape.heads * shape.flop_share / row[1] / shape.ranks
    law[0] = shape.layers * row[0] * engine[3]
    law[1] = shape.layers * work * engine[3]
    law[2] = row[3]
    law[3] = row[5] / shape.heads * shape.ranks
