"""One training or inference step as Calculon counts it (calculon-ai/calculon at caa4b11), all 96 results, compiled.

Restated from its behaviour, faults included (marked F1 to F9 as in the documentation); the other fidelities do not share
them. Arithmetic keeps the order of the original, so that results agree bit for bit.

A design is a row of int64 in the order of ``COLUMNS``; a model a row of int64 in the order of ``MODEL``; a system a
vector of float64 that :func:`archgym.simulators.llm.calculon.pack_system` makes.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math

import numpy as np

from archgym.compiling import inner, kernel

COLUMNS = (
    "tensor_par",
    "pipeline_par",
    "data_par",
    "tensor_par_net",
    "pipeline_par_net",
    "data_par_net",
    "batch_size",
    "microbatch_size",
    "element_bytes",
    "fused_activation",
    "multiquery",
    "activation_recompute",
    "pipeline_interleaving",
    "optimizer_sharding",
    "tensor_par_comm_type",
    "tensor_par_overlap",
    "seq_par_ag_redo",
    "data_par_overlap",
    "weight_offload",
    "activations_offload",
    "optimizer_offload",
    "training",
)
MODEL = ("hidden", "feedforward", "seq_size", "attn_heads", "attn_size", "num_blocks")
NONE, ATTENTION, FULL = range(3)
AR, P2P_RS_AG, RS_AG = range(3)
NO_OVERLAP, RING, PIPE = range(3)
(
    OK,
    DEVICES_DIVIDE,
    HEADS_DIVIDE,
    BATCH_DIVIDE,
    SWITCHES,
    TIER_SIZE,
    TIER_FILLED,
    LAYERS_DIVIDE,
    OFFLOAD_BLOCKS,
    SEQUENCE_DIVIDE,
    MEMORY,
    FAR_MEMORY,
) = range(12)

# --- packed systems ------------------------------------------------------------------------------------------------

ENTRIES = 8
TIERS = 4
ROOFLINE, PEAK, CAPACITY, BANDWIDTH, TABLES = 0, 1, 3, 5, 7
NETWORK = TABLES + 4 * 2 * ENTRIES
TIER = 13
SYSTEM = NETWORK + TIERS * TIER
MATRIX, VECTOR, NEAR, FAR = range(4)
P2P, REDUCE_SCATTER, ALL_GATHER, ALL_REDUCE = range(4)
T_BANDWIDTH, T_EFFICIENCY, T_SIZE, T_LATENCY, T_OPS, T_FILLED, T_USAGE = 0, 1, 2, 3, 4, 11, 12


@inner(inline="always", error_model="numpy")
def _efficiency(system, table, x):
    base = TABLES + table * 2 * ENTRIES
    for i in range(ENTRIES):
        if system[base + 2 * i] <= x:
            return system[base + 2 * i + 1]
    return np.nan


@inner(inline="always", error_model="numpy")
def flop_time(system, engine, flops):
    """Seconds of ``flops`` on the matrix or vector engine."""
    return flops / (system[PEAK + engine] * _efficiency(system, engine, flops))


@inner(inline="always", error_model="numpy")
def memory_time(system, memory, size):
    """Seconds of ``size`` bytes through the near or far memory."""
    return size / (system[BANDWIDTH + memory - NEAR] * _efficiency(system, memory, size))


@inner(inline="always", error_model="numpy")
def both(system, compute, memory):
    """Computation and memory accesses together: the longer one under a roofline, else their sum."""
    return max(compute, memory) if system[ROOFLINE] > 0 else compute + memory


@inner(error_model="numpy")
def network_time(system, tier, op, size, members):
    """Seconds of a collective of ``size`` bytes over ``members`` processors on a network tier."""
    at = NETWORK + tier * TIER
    if op == P2P:
        moved = size * system[at + T_OPS]
    else:
        moved = size * system[at + T_OPS + 2 * op - 1]
        moved = moved + 1.0 / members * moved * system[at + T_OPS + 2 * op]
    return system[at + T_LATENCY] + moved / (system[at + T_BANDWIDTH] * system[at + T_EFFICIENCY])


# --- sums over the operators of a block ----------------------------------------------------------------------------

# Sums of a stage: flop, seconds of flop, bytes, seconds of bytes, seconds.
FW, AGRAD, WGRAD, OPTIM, RE = 0, 5, 10, 15, 20
FLOP, FLOP_S, BYTES, BYTES_S, TIME = range(5)
# Network sums: time and exposed time and size, each base and edge, of fw, agrad and re-communication.
NET_FW, NET_AGRAD, NET_RE = 25, 31, 37
NET_TIME, NET_EXPOSED, NET_SIZE = 0, 2, 4
NEEDED_RATE, WEIGHTS, WORKING, STORED, GRADS, GRADS_WHOLE, ACT_GRADS, OPTIMIZER = range(43, 51)
SUMS = 51


@inner(error_model="numpy")
def count(sums, system, context, engine, flops, sizes, bytes_, recomputed, reused, stored, output_stored):
    """Add one operator's work and memory; its times too, except those that depend on the network.

    ``flops``, ``bytes_``: fw, agrad, wgrad. ``sizes``: bytes of weights, kept input, its gradient, output; elements of
    weights. ``context``: element bytes, sharding divisor, training.
    """
    width, divisor, training = context
    weights, kept, gradient, output, elements = sizes
    compute = flop_time(system, engine, flops[0])
    memory = memory_time(system, NEAR, bytes_[0])
    sums[FW + FLOP] += flops[0]
    sums[FW + FLOP_S] += compute
    sums[FW + BYTES] += bytes_[0]
    sums[FW + BYTES_S] += memory
    sums[WEIGHTS] += weights
    if not reused:
        sums[WORKING] += kept
    sums[STORED] += kept
    if not training:
        return compute, memory, 0.0, 0.0, 0.0, 0.0
    if recomputed:
        # F1: what is added is the block so far, not the operator.
        for j in range(4):
            sums[RE + j] += sums[FW + j]
    a_compute = flop_time(system, engine, flops[1])
    a_memory = memory_time(system, NEAR, bytes_[1])
    sums[AGRAD + FLOP] += flops[1]
    sums[AGRAD + FLOP_S] += a_compute
    sums[AGRAD + BYTES] += bytes_[1]
    sums[AGRAD + BYTES_S] += a_memory
    w_compute = flop_time(system, engine, flops[2])
    w_memory = memory_time(system, NEAR, bytes_[2])
    sums[WGRAD + FLOP] += flops[2]
    sums[WGRAD + FLOP_S] += w_compute
    sums[WGRAD + BYTES] += bytes_[2]
    sums[WGRAD + BYTES_S] += w_memory
    if elements > 0:
        o_flops = 11.0 * elements / divisor
        state = (4.0 * elements if width < 4 else 0.0) + 8.0 * elements
        state = state / divisor
        o_compute = flop_time(system, VECTOR, o_flops)
        o_memory = memory_time(system, NEAR, state)
        sums[OPTIM + FLOP] += o_flops
        sums[OPTIM + FLOP_S] += o_compute
        sums[OPTIM + BYTES] += state
        sums[OPTIM + BYTES_S] += o_memory
        sums[OPTIM + TIME] += both(system, o_compute, o_memory)
        sums[OPTIMIZER] += state
        sums[GRADS] += weights / divisor
        sums[GRADS_WHOLE] += 4.0 * elements
    if not output_stored:
        sums[STORED] -= output
    if not stored:
        sums[STORED] -= kept
    sums[ACT_GRADS] += gradient
    return compute, memory, a_compute, a_memory, w_compute, w_memory


@inner(error_model="numpy")
def add(sums, system, context, engine, flops, sizes, bytes_, recomputed, reused, stored, output_stored):
    """Add an operator without communication."""
    times = count(sums, system, context, engine, flops, sizes, bytes_, recomputed, reused, stored, output_stored)
    forward = both(system, times[0], times[1])
    sums[FW + TIME] += forward
    if context[2]:
        sums[AGRAD + TIME] += both(system, times[2], times[3])
        sums[WGRAD + TIME] += both(system, times[4], times[5])
        if recomputed:
            sums[RE + TIME] += forward


@inner(error_model="numpy")
def add_linear(sums, system, context, m, n, k, reused, stored, recomputed):
    """(m, n) times (n, k)."""
    b = context[0]
    flops = 2.0 * m * n * k
    weights, data, out = 1.0 * n * k * b, 1.0 * m * n * b, 1.0 * m * k * b
    backward = weights + data + out
    add(
        sums,
        system,
        context,
        MATRIX,
        (flops, flops, flops),
        (weights, data, out, out, 1.0 * n * k),
        (backward, backward, backward),
        recomputed,
        reused,
        stored,
        True,
    )


@inner(error_model="numpy")
def add_batched(sums, system, context, x, m, n, k, recomputed, output_stored):
    """x products (m, n) times (n, k) of activations."""
    b = context[0]
    flops = 2.0 * x * m * n * k
    data, out = 1.0 * x * (m * n + n * k) * b, 1.0 * x * m * k * b
    add(
        sums,
        system,
        context,
        MATRIX,
        (flops, 2.0 * flops, 0.0),
        (0.0, data, out, out, 0.0),
        (data + out, data + out, 0.0),
        recomputed,
        False,
        True,
        output_stored,
    )


@inner(error_model="numpy")
def add_norm(sums, system, context, q, h, recomputed):
    b = context[0]
    weights, data = 2.0 * h * b, 1.0 * q * b
    backward = weights + data + data
    add(
        sums,
        system,
        context,
        VECTOR,
        (9.0 * q, 14.0 * q, 7.0 * q),
        (weights, data, data, data, 2.0 * h),
        (data + data + weights, backward, backward),
        recomputed,
        True,
        False,
        True,
    )


@inner(error_model="numpy")
def add_dropout(sums, system, context, q, recomputed, stored):
    """F8: the mask and its gradient are one byte an element."""
    data = 1.0 * q * context[0]
    moved = 2.0 * data + q
    add(
        sums,
        system,
        context,
        VECTOR,
        (1.0 * q, 1.0 * q, 0.0),
        (0.0, 1.0 * q, 1.0 * q, data, 0.0),
        (moved, moved, 0.0),
        recomputed,
        False,
        stored,
        True,
    )


@inner(error_model="numpy")
def add_elementwise(sums, system, context, q, fw, agrad, fused, recomputed, output_stored):
    """Gelu (fused or not) and softmax."""
    data = 1.0 * q * context[0]
    kept = 0.0 if fused else data
    add(
        sums,
        system,
        context,
        VECTOR,
        (fw * q, agrad * q, 0.0),
        (0.0, kept, kept, data, 0.0),
        (2.0 * data, 2.0 * data, 0.0),
        recomputed,
        False,
        True,
        output_stored,
    )


@inner(error_model="numpy")
def add_residual(sums, system, context, q, recomputed):
    data = 1.0 * q * context[0]
    add(
        sums,
        system,
        context,
        VECTOR,
        (1.0 * q, 2.0 * q, 0.0),
        (0.0, 2.0 * data, data, data, 0.0),
        (3.0 * data, 3.0 * data, 0.0),
        recomputed,
        True,
        False,
        True,
    )


@inner(error_model="numpy")
def add_fork(sums, system, context, q, users, recomputed, stored):
    data = 1.0 * q * context[0]
    add(
        sums,
        system,
        context,
        VECTOR,
        (0.0, 1.0 * users * q, 0.0),
        (0.0, data, 0.0, data, 0.0),
        (0.0, data * (users + 1), 0.0),
        recomputed,
        False,
        stored,
        True,
    )


@inner(error_model="numpy")
def add_comm(sums, system, context, q, T, tier, comm, plain, again):
    """Tensor-parallel communication on its own, all of it exposed; nothing for T = 1."""
    if T == 1:
        count(sums, system, context, VECTOR, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0),
              False, False, plain, True)  # fmt: skip
        return
    data = 1.0 * q * context[0]
    work = q * (T - 1) / T
    if comm == RS_AG:
        kept = gradient = data / T
    elif plain:
        kept, gradient = 0.0, data
    else:
        kept, gradient = data, 0.0
    fw_bytes = 0.0 if comm != RS_AG and plain else 2.0 * data
    agrad_bytes = 0.0 if comm != RS_AG and not plain else 2.0 * data
    flops = (0.0, work, 0.0) if plain else (work, 0.0, 0.0)
    times = count(sums, system, context, VECTOR, flops, (0.0, kept, gradient, data, 0.0),
                  (fw_bytes, agrad_bytes, 0.0), False, False, plain, True)  # fmt: skip
    for edge in range(2):
        split = comm == RS_AG or (edge == 1 and comm == P2P_RS_AG)
        fw, size = 0.0, 0.0
        if split:
            fw, size = network_time(system, tier, ALL_GATHER if plain else REDUCE_SCATTER, data, T), data
        elif not plain:
            fw, size = network_time(system, tier, ALL_REDUCE, data, T), data
        time = fw + both(system, times[0], times[1])
        sums[NET_FW + NET_TIME + edge] += time
        sums[NET_FW + NET_EXPOSED + edge] += time
        sums[NET_FW + NET_SIZE + edge] += size
        if not context[2]:
            continue
        if again:
            sums[NET_RE + NET_TIME + edge] += fw
            sums[NET_RE + NET_EXPOSED + edge] += fw
            sums[NET_RE + NET_SIZE + edge] += size
        agrad, size = 0.0, 0.0
        if split:
            agrad, size = network_time(system, tier, REDUCE_SCATTER if plain else ALL_GATHER, data, T), data
        elif plain:
            agrad, size = network_time(system, tier, ALL_REDUCE, data, T), data
        time = agrad + both(system, times[2], times[3])
        sums[NET_AGRAD + NET_TIME + edge] += time
        sums[NET_AGRAD + NET_EXPOSED + edge] += time
        sums[NET_AGRAD + NET_SIZE + edge] += size


@inner(error_model="numpy")
def tiled(system, compute, memory, network, T, usage, overlap):
    """Time of a product in T tiles beside ``network`` seconds of communication, and what stays exposed."""
    whole = both(system, compute, memory)
    if network == 0.0:
        return whole, 0.0
    slowed = compute / (1.0 - usage)
    rest = network / T - slowed / T
    if rest > 0.0:
        time = whole / T + (T - 1) * both(system, slowed, memory) / T
        exposed = (T - 1) * rest
    else:
        time = whole / T + (T - 1) * whole / T + (T - 1) * (network / T) * usage
        exposed = 0.0
    if overlap == PIPE:
        # F3: the first tile's communication counts as time and as exposed.
        time += network / T
        exposed += network / T
    return time, exposed


@inner(arrays=True, error_model="numpy")
def add_overlapped(sums, system, context, m, n, k, T, tier, comm, overlap, plain, recomputed, again):
    """A linear operator whose tensor-parallel communication overlaps with it."""
    b = context[0]
    usage = system[NETWORK + tier * TIER + T_USAGE]
    if plain:
        k = k // T
    else:
        n = n // T
    flops = 2.0 * m * n * k
    weights, data, out = 1.0 * n * k * b, 1.0 * m * n * b, 1.0 * m * k * b
    if comm == RS_AG:
        kept = 1.0 * (m * n // T) * b if plain else data
        gradient = out if plain else 2.0 * (m * k // T) * b
    else:
        kept = data if plain else 0.0
        gradient = 0.0 if plain else 2.0 * m * k * b
    backward = weights + kept + gradient
    times = count(sums, system, context, MATRIX, (flops, flops, flops), (weights, kept, gradient, out, 1.0 * n * k),
                  (data + out + weights, backward, backward), recomputed, False, True, True)  # fmt: skip
    training = context[2]
    forward = np.zeros(2)
    backward_s = np.zeros(2)
    again_s = np.zeros(2)
    for edge in range(2):
        split = comm == RS_AG or (edge == 1 and comm == P2P_RS_AG)
        size = 0.0
        if not plain:
            net = network_time(system, tier, REDUCE_SCATTER if split else ALL_REDUCE, out, T)
            again_s[edge] = net
            forward[edge] = net + flop_time(system, VECTOR, out / b * (T - 1) / T)
            size = out
        elif split:
            forward[edge] = network_time(system, tier, ALL_GATHER, data, T)
            again_s[edge] = forward[edge]
            size = data
        sums[NET_FW + NET_TIME + edge] += forward[edge]
        sums[NET_FW + NET_SIZE + edge] += size
        if size > 0.0:
            sums[NEEDED_RATE] = max(sums[NEEDED_RATE], (size / T) / (times[0] / (1.0 - usage) / T))
        if not training:
            continue
        if again:
            sums[NET_RE + NET_TIME + edge] += again_s[edge]
            sums[NET_RE + NET_SIZE + edge] += size
        size = 0.0
        if plain:
            net = network_time(system, tier, REDUCE_SCATTER if split else ALL_REDUCE, data, T)
            backward_s[edge] = net + flop_time(system, VECTOR, data / b * (T - 1) / T)
            size = data
        elif split:
            backward_s[edge] = network_time(system, tier, ALL_GATHER, out, T)
            size = out
        sums[NET_AGRAD + NET_TIME + edge] += backward_s[edge]
        sums[NET_AGRAD + NET_SIZE + edge] += size
        if size > 0.0:
            sums[NEEDED_RATE] = max(sums[NEEDED_RATE], (size / T) / (times[2] / (1.0 - usage) / T))
    # F2a: the base block's exposed time is used for the edge block too.
    time, exposed = tiled(system, times[0], times[1], forward[0], T, usage, overlap)
    sums[FW + TIME] += time
    for edge in range(2):
        sums[NET_FW + NET_EXPOSED + edge] += exposed
    if not training:
        return
    if recomputed:
        sums[RE + TIME] += time
    if again:
        # F2b: the forward pass's exposed time stands for that of the repeated communication.
        for edge in range(2):
            sums[NET_RE + NET_EXPOSED + edge] += exposed
    time, exposed = tiled(system, times[2], times[3], backward_s[0], T, usage, overlap)
    sums[AGRAD + TIME] += time
    for edge in range(2):
        sums[NET_AGRAD + NET_EXPOSED + edge] += exposed
    time, exposed = tiled(system, times[4], times[5], again_s[0] if again else 0.0, T, usage, overlap)
    sums[WGRAD + TIME] += time


@inner(error_model="numpy")
def block(sums, system, context, model, design):
    """All operators of one transformer block, in order."""
    h, ff, s, a, d = model[0], model[1], model[2], model[3], model[4]
    T, tier, mb = design[0], design[3], design[7]
    comm, overlap = design[14], design[15]
    full = design[11] == FULL
    attn = design[11] >= ATTENTION
    again_attention = attn or design[16] == 1
    again_ffn = full or design[16] == 1
    multiquery = design[10] == 1
    S = mb * s
    A = S * h
    act = (S // T) * h if comm == RS_AG else A
    heads = a // T
    q = heads * s * s * mb
    add_fork(sums, system, context, act, 2, full, True)
    add_norm(sums, system, context, act, h, full)
    if overlap == NO_OVERLAP:
        add_comm(sums, system, context, A, T, tier, comm, True, again_attention)
        add_fork(sums, system, context, A, 3, again_attention, not again_attention)
        add_linear(sums, system, context, S, h, a * d // T, True, False, full)
        for _ in range(2):
            add_linear(sums, system, context, S, h, d if multiquery else a * d // T, True, False, full)
    elif multiquery:
        add_overlapped(sums, system, context, S, h, a * d, T, tier, comm, overlap, True, full, again_attention)
        add_fork(sums, system, context, A, 2, again_attention, not again_attention)
        for _ in range(2):
            add_linear(sums, system, context, S, h, d, True, False, full)
    else:
        add_overlapped(sums, system, context, S, h, 3 * a * d, T, tier, comm, overlap, True, full, again_attention)
    add_batched(sums, system, context, mb * heads, s, d, s, attn, not attn)
    add_elementwise(sums, system, context, q, 5.0, 8.0, False, attn, not attn)
    add_dropout(sums, system, context, q, attn, not attn)
    add_batched(sums, system, context, mb * heads, s, s, d, full, True)
    if overlap == NO_OVERLAP:
        add_linear(sums, system, context, S, a * d // T, h, False, True, full)
        add_comm(sums, system, context, A, T, tier, comm, False, full)
    else:
        add_overlapped(sums, system, context, S, a * d, h, T, tier, comm, overlap, False, full, full)
    add_dropout(sums, system, context, act, full, True)
    add_residual(sums, system, context, act, full)
    add_fork(sums, system, context, act, 2, full, True)
    add_norm(sums, system, context, act, h, full)
    if overlap == NO_OVERLAP:
        add_comm(sums, system, context, A, T, tier, comm, True, again_ffn)
        add_linear(sums, system, context, S, h, ff // T, False, not again_ffn, full)
    else:
        add_overlapped(sums, system, context, S, h, ff, T, tier, comm, overlap, True, full, again_ffn)
    add_elementwise(sums, system, context, ff * S // T, 8.0, 13.0, design[9] == 1, full, True)
    if overlap == NO_OVERLAP:
        add_linear(sums, system, context, S, ff // T, h, False, True, full)
        add_comm(sums, system, context, A, T, tier, comm, False, full)
    else:
        add_overlapped(sums, system, context, S, ff, h, T, tier, comm, overlap, False, full, full)
    add_dropout(sums, system, context, act, full, True)
    add_residual(sums, system, context, act, full)


# --- the batch -----------------------------------------------------------------------------------------------------

RESULTS = (
    "block_fw_flops",
    "block_fw_flops_time",
    "block_fw_mem_accessed",
    "block_fw_mem_time",
    "block_fw_time",
    "baseblock_fw_tp_time",
    "edgeblock_fw_tp_time",
    "baseblock_fw_tp_time_exposed",
    "edgeblock_fw_tp_time_exposed",
    "block_re_flops",
    "block_re_flops_time",
    "block_re_mem_accessed",
    "block_re_mem_time",
    "block_re_time",
    "baseblock_recomm_time",
    "edgeblock_recomm_time",
    "baseblock_recomm_time_exposed",
    "edgeblock_recomm_time_exposed",
    "block_agrad_flops",
    "block_agrad_flops_time",
    "block_agrad_mem_accessed",
    "block_agrad_mem_time",
    "block_agrad_time",
    "baseblock_agrad_tp_time",
    "edgeblock_agrad_tp_time",
    "baseblock_agrad_tp_time_exposed",
    "edgeblock_agrad_tp_time_exposed",
    "block_wgrad_flops",
    "block_wgrad_flops_time",
    "block_wgrad_mem_accessed",
    "block_wgrad_mem_time",
    "block_wgrad_time",
    "block_optim_flops",
    "block_optim_flops_time",
    "block_optim_mem_accessed",
    "block_optim_mem_time",
    "block_optim_time",
    "baseblock_fw_tp_size",
    "edgeblock_fw_tp_size",
    "baseblock_bw_tp_size",
    "edgeblock_bw_tp_size",
    "baseblock_recomm_size",
    "edgeblock_recomm_size",
    "block_fw_pp_size",
    "block_bw_pp_size",
    "block_dp_size",
    "tp_bw_overlap_req",
    "dp_bw_overlap_req_chunk",
    "dp_bw_overlap_req_tail",
    "block_weight_space",
    "block_act_working_space",
    "block_act_storage_space",
    "block_act_checkpoint_size",
    "block_weight_grad_space",
    "block_weight_grad_space_no_sharding",
    "block_act_grad_space",
    "block_optimizer_space",
    "weight_space_with_offload",
    "act_space_with_offload",
    "act_checkpoint_size_with_offload",
    "act_grad_space_with_offload",
    "weight_grad_space_with_offload",
    "optimizer_space_with_offload",
    "weight_space",
    "act_space",
    "act_checkpoint_size",
    "act_grad_space",
    "weight_grad_space",
    "optimizer_space",
    "fw_time",
    "bw_time",
    "optim_step_time",
    "recompute_time",
    "recomm_link_time",
    "recomm_exposed_time",
    "bubble_time",
    "tp_comm_link_time",
    "pp_comm_link_time",
    "dp_comm_link_time",
    "tp_comm_exposed_time",
    "pp_comm_exposed_time",
    "dp_comm_exposed_time",
    "fw_offload_exposed_time",
    "bw_offload_exposed_time",
    "total_time",
    "act_offload_bw_req",
    "weight_offload_bw_req",
    "optim_offload_bw_req",
    "offload_mem_bw_req",
    "proc_mem_tier1_cap_req",
    "proc_mem_tier2_cap_req",
    "useful_flops",
    "compute_efficiency",
    "system_efficiency",
    "total_efficiency",
    "sample_rate",
)


@inner(error_model="numpy")
def refusal(system, model, design, processors):
    """The first rule that a design breaks before the model is evaluated, or OK."""
    h, ff, s, a, N = model[0], model[1], model[2], model[3], model[5]
    T, P, D = design[0], design[1], design[2]
    mb, interleaving, training = design[7], design[12], design[21]
    if T * P * D != processors:
        return DEVICES_DIVIDE
    if h % T or ff % T or a % T:
        return HEADS_DIVIDE
    if design[6] % D or design[6] // D % mb:
        return BATCH_DIVIDE
    if (
        (P == 1 and interleaving > 1)
        or (training == 0 and (design[11] != NONE or design[17] == 1 or design[20] == 1))
        or (D == 1 and (design[13] == 1 or design[17] == 1))
        or (T == 1 and design[15] != NO_OVERLAP)
        or (design[16] == 1 and (design[14] != RS_AG or design[11] == FULL))
    ):
        return SWITCHES
    for tier in range(TIERS):
        at = NETWORK + tier * TIER
        size = system[at + T_SIZE]
        if size <= 0.0:
            break
        product = 1
        for axis in range(3):
            if design[axis] > 1 and design[3 + axis] == tier:
                product *= design[axis]
        if product > size:
            return TIER_SIZE
        if system[at + T_FILLED] > 0.0 and size % product != 0.0:
            return TIER_FILLED
    blocks = -(-N // P)
    if interleaving > blocks or blocks % interleaving != 0:
        return LAYERS_DIVIDE
    if (design[18] or design[19] or design[20]) and blocks <= 2:
        return OFFLOAD_BLOCKS
    if design[14] != AR and (mb * s) % T != 0:
        return SEQUENCE_DIVIDE
    return OK


@inner(error_model="numpy")
def block_results(sums, out):
    """The results that are sums of one block."""
    for j in range(5):
        out[j] = sums[FW + j]
        out[9 + j] = sums[RE + j]
        out[18 + j] = sums[AGRAD + j]
        out[27 + j] = sums[WGRAD + j]
        out[32 + j] = sums[OPTIM + j]
    for j in range(4):
        out[5 + j] = sums[NET_FW + j]
        out[14 + j] = sums[NET_RE + j]
        out[23 + j] = sums[NET_AGRAD + j]
    for j in range(2):
        out[37 + j] = sums[NET_FW + NET_SIZE + j]
        out[39 + j] = sums[NET_AGRAD + NET_SIZE + j]
        out[41 + j] = sums[NET_RE + NET_SIZE + j]


@inner(error_model="numpy")
def memory(sums, design, n, B, checkpoint, out):
    """Bytes of near and far memory; the results that they consist of go into ``out``.

    Args:
        n: micro-batches; B: blocks of a stage; checkpoint: bytes of a block's checkpoint.
    """
    P, I, full, training = design[1], design[12], design[11] == FULL, design[21] == 1
    w_off, a_off, o_off = design[18] == 1, design[19] == 1, design[20] == 1
    weights, working = sums[WEIGHTS], sums[WORKING]
    q = min(n, P)
    f = float(q)
    if I > 1:
        f = q * (1 + (P - 1) / (I * P))
    weights_all = B * weights
    act = working
    checkpoints = 0.0
    grads = act_grads = optimizer = 0.0
    if training:
        if full:
            checkpoints = B * checkpoint * f
        else:
            act = working + sums[STORED] * (B * f - 1)
        grads = sums[GRADS_WHOLE] if B == 1 else sums[GRADS_WHOLE] + (B - 1) * sums[GRADS]
        act_grads = sums[ACT_GRADS]
        optimizer = B * sums[OPTIMIZER]
    near_w = min(2 * weights, weights_all) if w_off else weights_all
    near_a, near_c = act, checkpoints
    if a_off:
        near_a = working if full else working + sums[STORED]
        near_c = 2 * checkpoint
    near_g, near_o = grads, optimizer
    if o_off:
        near_g = sums[GRADS_WHOLE] + sums[GRADS]
        near_o = 2 * sums[OPTIMIZER]
    near = near_w + near_a + near_c + near_g + near_o + act_grads
    far = 0.0
    if w_off:
        far += weights_all
    if a_off:
        far += checkpoints if full else act
    if o_off:
        far += B * (sums[GRADS] + sums[OPTIMIZER])
    out[49], out[50], out[51], out[52] = weights, working, sums[STORED], checkpoint
    out[53], out[54], out[55], out[56] = sums[GRADS], sums[GRADS_WHOLE], sums[ACT_GRADS], sums[OPTIMIZER]
    out[57], out[58] = 2 * weights, working if full else working + sums[STORED]
    out[59] = 2 * checkpoint if training else np.nan
    out[60], out[61], out[62] = act_grads, sums[GRADS_WHOLE] + sums[GRADS], 2 * sums[OPTIMIZER]
    out[63], out[64], out[65], out[66], out[67], out[68] = weights_all, act, checkpoints, act_grads, grads, optimizer
    return near, far


@inner(error_model="numpy")
def evaluate(system, model, design, sums, out):
    """All results of one design that :func:`refusal` lets through; the verdict (OK, MEMORY or FAR_MEMORY)."""
    h, s, N = model[0], model[2], model[5]
    T, P, D = design[0], design[1], design[2]
    tier_t, tier_p, tier_d = design[3], design[4], design[5]
    batch, mb, b = design[6], design[7], design[8]
    full = design[11] == FULL
    I = design[12]
    sharded, comm = design[13] == 1, design[14]
    overlap = design[17] == 1
    w_off, a_off, o_off = design[18] == 1, design[19] == 1, design[20] == 1
    training = design[21] == 1
    sums[:] = 0.0
    block(sums, system, (b, float(D) if sharded else 1.0, training), model, design)
    block_results(sums, out)
    S = mb * s
    A = S * h
    checkpoint = 0.0
    if full:
        sums[STORED] = 0.0
        checkpoint = 1.0 * A * b if training else 0.0
    n = batch // D // mb
    B = -(-N // P)
    miss = P - N % P if N % P else 0
    c = B // I
    k = n * I

    # What moves between stages; F5: the latency counts in windows even without a pipeline.
    stage = 0.0
    if P > 1:
        stage = 1.0 * ((S // T) * h if comm != AR else A) * b
    p = network_time(system, tier_p, P2P, stage, 2)
    stage_bw = stage if training else 0.0
    p_bw = network_time(system, tier_p, P2P, stage_bw, 2)

    fw_block, agrad, wgrad = sums[FW + TIME], sums[AGRAD + TIME], sums[WGRAD + TIME]
    optim, re = sums[OPTIM + TIME], sums[RE + TIME]
    fw_tm, agrad_tm, wgrad_tm = sums[FW + BYTES_S], sums[AGRAD + BYTES_S], sums[WGRAD + BYTES_S]
    fw_ex, fw_ex_e = sums[NET_FW + NET_EXPOSED], sums[NET_FW + NET_EXPOSED + 1]
    ag_ex, ag_ex_e = sums[NET_AGRAD + NET_EXPOSED], sums[NET_AGRAD + NET_EXPOSED + 1]
    re_ex, re_ex_e = sums[NET_RE + NET_EXPOSED], sums[NET_RE + NET_EXPOSED + 1]
    fw_time = B * n * fw_block
    bw_time = B * n * agrad + B * n * wgrad
    re_time = B * n * re
    optim_time = B * optim
    tp_link = k * ((c - 1) * sums[NET_FW + NET_TIME] + sums[NET_FW + NET_TIME + 1])
    tp_exposed = k * ((c - 1) * fw_ex + fw_ex_e)
    re_link = k * ((c - 1) * sums[NET_RE + NET_TIME] + sums[NET_RE + NET_TIME + 1])
    re_exposed = k * ((c - 1) * re_ex + re_ex_e)
    if training:
        tp_link += k * ((c - 1) * sums[NET_AGRAD + NET_TIME] + sums[NET_AGRAD + NET_TIME + 1])
        tp_exposed += k * ((c - 1) * ag_ex + ag_ex_e)
    pp_time = 0.0
    if P > 1:
        pp_time = n * I * p
        if training:
            pp_time += n * I * p

    # Far memory
    weights, stored = sums[WEIGHTS], checkpoint if full else sums[STORED]
    far_fw = max(weights if w_off else 0.0, stored if a_off else 0.0)
    far_bw = 0.0
    if training:
        far_bw = (weights if w_off else 0.0) + (stored if a_off else 0.0) + (sums[OPTIMIZER] if o_off else 0.0)
    base_fw = fw_block + fw_ex
    edge_fw = fw_block + fw_ex_e + p
    far_fw_s = memory_time(system, FAR, far_fw)
    over_fw = max(0.0, far_fw_s + fw_tm - base_fw)
    over_fw_e = max(0.0, far_fw_s + fw_tm - edge_fw)
    base_bw = re + re_ex + agrad + wgrad + ag_ex
    edge_bw = re + re_ex_e + agrad + wgrad + ag_ex_e + p_bw
    over_bw = over_bw_e = 0.0
    if training:
        far_bw_s = memory_time(system, FAR, far_bw)
        over_bw = max(0.0, far_bw_s + agrad_tm + wgrad_tm - base_bw)
        over_bw_e = max(0.0, far_bw_s + agrad_tm + wgrad_tm - edge_bw)
    fw_over_total = k * ((c - 1) * over_fw + over_fw_e)
    bw_over_total = k * ((c - 1) * over_bw + over_bw_e)

    # Bubble
    cf = (c - 1) * (base_fw + over_fw) + (edge_fw + over_fw_e)
    cb = (c - 1) * (base_bw + over_bw) + (edge_bw + over_bw_e)
    ct = cf + cb
    extra = (I - 1) * (P - n % P) if n % P else 0
    edge_all = (edge_fw + over_fw_e) + (edge_bw + over_bw_e)
    base_all = (base_fw + over_fw) + (base_bw + over_bw)
    cut = miss * (base_all + edge_all) / 2 if c > 1 else miss * edge_all
    bubble = (P - 1) * ct + extra * ct - cut

    # Data parallel
    dp_size = dp_link = dp_exposed = need_chunk = need_tail = 0.0
    if training and D > 1:
        dp_size = weights
        if sharded:
            d1 = network_time(system, tier_d, REDUCE_SCATTER, weights, D)
            d1 += network_time(system, tier_d, ALL_GATHER, weights, D)
        else:
            d1 = network_time(system, tier_d, ALL_REDUCE, weights, D)
        dp_link = B * d1
        if overlap:
            usage = system[NETWORK + tier_d * TIER + T_USAGE]
            base_b, edge_b = base_bw + over_bw, edge_bw + over_bw_e
            busy = agrad_tm + wgrad_tm + sums[RE + BYTES_S]
            optim_tm = sums[OPTIM + BYTES_S]
            w_base, w_edge = base_b - busy, edge_b - busy
            if not sharded:
                w_base += optim - optim_tm
                w_edge += optim - optim_tm
            if tier_t == tier_d:
                w_base -= sums[NET_RE + NET_TIME] + sums[NET_AGRAD + NET_TIME]
                w_edge -= sums[NET_RE + NET_TIME + 1] + sums[NET_AGRAD + NET_TIME + 1]
            cw = (c - 1) * w_base + w_edge
            block_cc = sums[AGRAD + FLOP_S] + sums[WGRAD + FLOP_S] + sums[RE + FLOP_S]
            if not sharded:
                block_cc += sums[OPTIM + FLOP_S]
            cc = c * block_cc
            win, wc, e = P * cw, P * cc, c * d1
            shared = tier_p == tier_d
            m = 0.0
            if shared:
                m = min(math.floor(e / cb), n % P if n % P else P)
            x = e - (win - m * p) + wc * usage
            part1 = (I - 1) * (x if x > 0 else e * usage)
            lw = 0.0
            if c > 1:
                lw = cw - p - (base_b + edge_b) / 2
                if not sharded:
                    lw += optim - optim_tm
            x = (c - 1) * d1 + block_cc * usage - lw
            part2 = x if x > 0 else (c - 1) * d1 * usage
            dp_exposed = d1 + (part1 + part2)
            at = NETWORK + tier_d * TIER + T_OPS
            factor = system[at + 2 * ALL_REDUCE - 1]
            if sharded:
                factor = system[at + 2 * REDUCE_SCATTER - 1] + system[at + 2 * ALL_GATHER - 1]
            bottom = (win + wc * usage - (p if shared else 0.0)) * (I - 1)
            need_chunk = c * weights / bottom * factor if bottom > 0 else 0.0
            bottom = lw + (c - 1) * d1 * usage
            need_tail = c * weights / bottom * factor if bottom > 0 else 0.0
        else:
            dp_exposed = B * d1

    total = fw_time
    if training:
        total += bw_time
    total += optim_time
    total += fw_over_total
    total += bw_over_total
    total += re_time
    total += re_exposed
    total += bubble
    total += tp_exposed
    total += pp_time
    total += dp_exposed

    near, far = memory(sums, design, n, B, checkpoint, out)

    # Efficiency
    useful = sums[FW + FLOP]
    if training:
        useful += sums[AGRAD + FLOP] + sums[WGRAD + FLOP] + sums[OPTIM + FLOP]
    perfect = B * n * useful / system[PEAK + MATRIX]
    busy = fw_time + bw_time + optim_time

    # Results; those of a block and of memory are there already.
    out[43], out[44], out[45], out[46] = stage, stage_bw, dp_size, sums[NEEDED_RATE]
    out[47], out[48] = need_chunk, need_tail
    out[69], out[70], out[71], out[72] = fw_time, bw_time, optim_time, re_time
    out[73], out[74], out[75], out[76], out[77], out[78] = re_link, re_exposed, bubble, tp_link, pp_time, dp_link
    out[79], out[80], out[81] = tp_exposed, pp_time, dp_exposed
    out[82], out[83], out[84] = fw_over_total, bw_over_total, total
    idle = min(base_fw - fw_tm, edge_fw - fw_tm)
    idle_bw = min(base_bw - (agrad_tm + wgrad_tm), edge_bw - (agrad_tm + wgrad_tm))
    out[85] = stored / idle
    out[86] = weights / idle
    out[87] = (sums[GRADS] + sums[OPTIMIZER]) / idle_bw if training else 0.0
    out[88] = max(far_fw / idle, far_bw / idle_bw if training else 0.0)
    out[89], out[90], out[91] = near, far, useful
    out[92], out[93], out[94], out[95] = perfect / busy, busy / total, perfect / total, batch / total
    if near > system[CAPACITY]:
        return MEMORY
    if far > system[CAPACITY + 1]:
        return FAR_MEMORY
    return OK


@kernel(error_model="numpy")
def evaluate_rows(first, last, systems, models, which, designs, processors, out, verdict):
    """Results and verdicts of rows ``first`` to ``last``.

    Args:
        systems: float64 ``(s, SYSTEM)``; models: int64 ``(m, 6)``; which: int64 ``(n, 2)``, system and model of a row.
        designs: int64 ``(n, 22)``, ``COLUMNS``; processors: int64 ``(n,)``.
        out: float64 ``(n, 96)``, ``RESULTS``; verdict: int64 ``(n,)``. Both are filled in.
    """
    sums = np.zeros(SUMS)
    for i in range(first, last):
        system, model = systems[which[i, 0]], models[which[i, 1]]
        verdict[i] = refusal(system, model, designs[i], processors[i])
        if verdict[i] == OK:
            verdict[i] = evaluate(system, model, designs[i], sums, out[i])
        if verdict[i] != OK:
            out[i] = np.nan


@kernel(error_model="numpy")
def refuse_rows(systems, models, which, designs, processors, verdict):
    """The first rule that each row breaks before the model is evaluated, or OK."""
    for i in range(len(designs)):
        verdict[i] = refusal(systems[which[i, 0]], models[which[i, 1]], designs[i], processors[i])
