"""One optimisation step of a model on a cluster in closed form, compiled; fidelities ``closed`` and ``table``.

A transformer layer's forward and backward pass on one device are sums of operators (``kernels/operators.py``); what is
communicated is hidden behind what is computed as far as the design allows; the pipeline multiplies the slowest stage
and adds its bubble; the optimizer and what data-parallel traffic is not hidden come once a step. Hidden traffic always
leaves at least the time that hides it, so that faster parts never make a step slower.

Numbers are float64 in SI units. Indices of the vectors are named below; the Python side
(:mod:`archgym.simulators.llm.training`) fills them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.llm.kernels import operators as op

# A design's values.
DESIGN = (
    "tp",
    "pp",
    "cp",
    "ep",
    "micro_batch",
    "interleaving",
    "recompute",
    "zero",
    "tp_comm",
    "tp_overlap",
    "dp_overlap",
    "ag_redo",
    "precision",
    "offload",
    "order",
)
TP, PP, CP, EP, MICRO, CHUNKS, RECOMPUTE, ZERO, TP_COMM, TP_OVERLAP, DP_OVERLAP, AG_REDO, PRECISION, OFFLOAD, ORDER = (
    range(15)
)
NONE, SELECTIVE, FULL = range(3)
AR, P2P_RS_AG, RS_AG = range(3)
NO_OVERLAP, RING, PIPE = range(3)
KEEP, OPTIMIZER, WEIGHTS, ALL = range(4)
TP_CP_DP_PP, TP_CP_PP_DP, TP_DP_CP_PP = range(3)

# The model and the work of a step.
(
    HIDDEN,
    LAYERS,
    HEADS,
    KV_HEADS,
    HEAD_DIM,
    VALUE_DIM,
    FFN,
    GATED,
    VOCAB,
    EXPERTS,
    TOPK,
    EXPERT_FFN,
    SHARED,
    DENSE_LAYERS,
    WINDOW,
    Q_LORA,
    KV_LORA,
    NOPE,
    ROPE,
    TIED,
    DROPOUT,
    SEQUENCE,
    BATCH,
    UNFUSED,
    STEP_FLOPS,
) = range(25)
MODEL = 25

# The cluster.
(
    PEAK_BF16,
    PEAK_FP8,
    PEAK_FP4,
    MEM,
    MEM_RATE,
    LINK,
    NIC,
    HOST_RATE,
    HOST_MEM,
    DOMAIN,
    DEVICES,
    TDP,
    USD_PER_S,
    HOP,
) = range(14)

# Constants fitted to measured steps, and assumptions; see ``data/training.json``.
(
    GEMM_FACTOR,
    ATTENTION_FACTOR,
    PASSES,
    ACT_PASSES,
    LOSS_PASSES,
    CAST_PASSES,
    UNFUSED_BYTES,
    LAYER_S,
    STEP_S,
    TP_EXPOSED,
    TP_HIDDEN,
    DP_HIDDEN,
    PP_EXPOSED,
    OPTIMIZER_BYTES,
    SKEW,
    RUNTIME_BYTES,
    BUSY_POWER,
    IDLE_POWER,
) = range(18)
CONSTANTS = 18

METRICS = (
    "step_time_s",
    "tokens_per_s_per_device",
    "mfu",
    "memory_bytes",
    "energy_per_token_j",
    "cost_per_mtoken_usd",
    "bubble_share",
    "exposed_comm_share",
    "compute_s",
    "recompute_s",
    "exposed_tp_s",
    "exposed_cp_ep_s",
    "exposed_pp_s",
    "exposed_dp_s",
    "exposed_offload_s",
    "bubble_s",
    "optimizer_s",
    "forward_s",
    "backward_s",
    "weight_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "activation_bytes",
    "host_bytes",
)
"""Columns of the results. ``forward_s`` and ``backward_s`` are one micro-batch of a stage; the parts add up to the step."""
OK, MEMORY_CAPACITY, OFFLOAD_CAPACITY = range(3)


@inner(error_model="numpy")
def inside_domain(stride, members, domain):
    """How many members of a group, ``stride`` devices apart, one fast-link domain holds."""
    if stride >= domain:
        return 1.0
    return min(members, max(np.floor(domain / stride), 1.0))


@inner(error_model="numpy")
def gemm(rows, grids, precision, m, n, k):
    """One matrix product in the precision asked for, corrected by measured times where there are any."""
    time = op.gemm_s(rows[precision], m, n, k)
    x, y, z, values = grids[0]
    if precision == 1:
        x, y, z, values = grids[1]
    if values.size > 1 and precision < 2:
        time = op.corrected(time, x, y, z, values, np.log2(m), np.log2(n), np.log2(k))
    return time


@inner(error_model="numpy")
def layer_times(model, cluster, c, design, rows, grids, collectives, out):
    """Seconds of one layer and micro-batch on one device.

    Fills ``out``: products, attention, element-wise passes (all forward), their backward, tensor-parallel traffic
    forward, the same backward, exchange of experts and contexts (one direction), context exchange.
    """
    h, a, kv, d, dv = model[HIDDEN], model[HEADS], model[KV_HEADS], model[HEAD_DIM], model[VALUE_DIM]
    tp, cp, ep, mb = design[TP], design[CP], design[EP], design[MICRO]
    precision = int(design[PRECISION])
    s = model[SEQUENCE] / cp
    S = mb * s
    heads, groups = a / tp, max(kv / tp, 1.0)
    parallel = tp if design[TP_COMM] == RS_AG else 1.0
    gated = 2.0 if model[GATED] > 0 else 1.0
    rate = cluster[MEM_RATE] * 0.8

    # Attention's matrices.
    if model[KV_LORA] > 0:
        products = gemm(rows, grids, precision, S, model[KV_LORA] + model[ROPE], h)
        products += gemm(rows, grids, precision, S, heads * (model[NOPE] + dv), model[KV_LORA])
        if model[Q_LORA] > 0:
            products += gemm(rows, grids, precision, S, model[Q_LORA], h)
            products += gemm(rows, grids, precision, S, heads * d, model[Q_LORA])
        else:
            products += gemm(rows, grids, precision, S, heads * d, h)
        groups = heads
    else:
        products = gemm(rows, grids, precision, S, (heads + 2.0 * groups) * d, h)
    products += gemm(rows, grids, precision, S, h, heads * dv)
    cast = S * (h / parallel + heads * dv)

    # Attention itself.
    context = model[SEQUENCE] / 2.0
    if model[UNFUSED] > 0:
        flops_each = 4.0 * d * mb * heads * s * model[SEQUENCE]
        attention = flops_each / rows[0, 1]
        elements = mb * heads * s * model[SEQUENCE]
        attention_passes = c[UNFUSED_BYTES] * elements / rate
        attention_backward = 2.0 * attention + 2.0 * attention_passes
        attention += attention_passes
    else:
        past = context - 0.5 * s
        width = 0.5 * (d + dv)
        attention = op.attention_prefill_s(rows[3], mb, heads, groups, width, s, past, 0.0)
        x, y, z, values = grids[2]
        if values.size > 1:
            attention = op.corrected(
                attention, x, y, z, values, np.log2(s), np.log2(mb * heads), np.log2(heads / groups)
            )
        if model[WINDOW] > 0 and model[SEQUENCE] > model[WINDOW]:
            # Every other layer looks back a window only.
            near = op.attention_prefill_s(rows[3], mb, heads, groups, width, s, past, model[WINDOW])
            attention = 0.5 * (attention + min(near, attention))
        attention *= c[ATTENTION_FACTOR]
        attention_backward = 2.5 * attention

    # Feed-forward, dense or with experts; layers of both kinds are averaged.
    moe_share = 0.0
    exchange = 0.0
    if model[EXPERTS] > 0:
        moe_share = (model[LAYERS] - model[DENSE_LAYERS]) / model[LAYERS]
    dense_products = 0.0
    dense_act = 0.0
    if moe_share < 1.0:
        ff = model[FFN] / tp
        dense_products = gemm(rows, grids, precision, S, gated * ff, h) + gemm(rows, grids, precision, S, h, ff)
        dense_act = (gated + 1.0) * S * ff
        cast += (1.0 - moe_share) * S * (h / parallel + ff)
    expert_products = 0.0
    expert_act = 0.0
    if moe_share > 0.0:
        inner = model[EXPERT_FFN]
        # Grouped products: one launch for all experts of the device, of which the fullest has an excess.
        local = model[EXPERTS] / ep
        tokens = S * model[TOPK] * (1.0 + c[SKEW]) / local
        row = rows[precision]
        expert_products = op.gemm_s(row, tokens, gated * inner / tp, h) + op.gemm_s(row, tokens, h, inner / tp)
        expert_products = local * (expert_products - 2.0 * row[0]) + 2.0 * row[0]
        expert_products += op.gemm_s(rows[0], S, model[EXPERTS], h)
        # Outputs of the gate, and choices sorted by expert and back.
        expert_act = (gated + 1.0) * S * model[TOPK] * inner / tp + 4.0 * S * model[TOPK] * h / parallel
        if model[SHARED] > 0:
            ff = model[SHARED] * inner / tp
            expert_products += gemm(rows, grids, precision, S, gated * ff, h)
            expert_products += gemm(rows, grids, precision, S, h, ff)
            expert_act += (gated + 1.0) * S * ff
        if ep > 1.0:
            width = 1.0 if precision >= 1 else 2.0
            inside = expert_inside(design, cluster)
            message = S * model[TOPK] * h / parallel
            for bytes_ in (width, 2.0):
                exchange += op.collective_s(
                    collectives[op.ALL_TO_ALL],
                    op.ALL_TO_ALL,
                    ep,
                    inside,
                    message * bytes_,
                    cluster[LINK],
                    cluster[NIC],
                    cluster[HOP],
                )
    products += (1.0 - moe_share) * dense_products + moe_share * expert_products
    products *= c[GEMM_FACTOR]
    passes = c[PASSES] * S * h * 2.0 / parallel
    passes += c[ACT_PASSES] * 2.0 * ((1.0 - moe_share) * dense_act + moe_share * expert_act)
    if precision >= 1:
        passes += c[CAST_PASSES] * cast
    elementwise = passes / rate

    # Tensor-parallel traffic: two all-reduces a pass, or as many all-gathers and reduce-scatters.
    traffic = 0.0
    if tp > 1.0:
        inside = inside_domain(1.0, tp, cluster[DOMAIN])
        message = S * h * 2.0
        if design[TP_COMM] == AR:
            traffic = 2.0 * op.collective_s(
                collectives[op.ALL_REDUCE],
                op.ALL_REDUCE,
                tp,
                inside,
                message,
                cluster[LINK],
                cluster[NIC],
                cluster[HOP],
            )
        else:
            for kind in (op.ALL_GATHER, op.REDUCE_SCATTER):
                traffic += 2.0 * op.collective_s(
                    collectives[kind], kind, tp, inside, message, cluster[LINK], cluster[NIC], cluster[HOP]
                )
    # Context-parallel exchange of keys and values, forward; backward has their gradients too.
    ring = 0.0
    if cp > 1.0:
        stride = tp * (data_parallel(design, cluster) if design[ORDER] == TP_DP_CP_PP else 1.0)
        inside = inside_domain(stride, cp, cluster[DOMAIN])
        ring = op.collective_s(
            collectives[op.ALL_GATHER],
            op.ALL_GATHER,
            cp,
            inside,
            2.0 * mb * model[SEQUENCE] * groups * (d + dv),
            cluster[LINK],
            cluster[NIC],
            cluster[HOP],
        )
    out[0], out[1], out[2], out[3] = products, attention, elementwise, attention_backward
    out[4], out[5], out[6] = traffic, exchange * moe_share, ring


@inner(error_model="numpy")
def data_parallel(design, cluster):
    """Replicas: what the devices leave beside tensor, pipeline and context parallelism."""
    return max(np.floor(cluster[DEVICES] / (design[TP] * design[PP] * design[CP])), 1.0)


@inner(error_model="numpy")
def replica_inside(design, cluster):
    """Members of a group over dp * cp in one fast-link domain."""
    tp, pp, cp = design[TP], design[PP], design[CP]
    dp = data_parallel(design, cluster)
    if design[ORDER] == TP_CP_PP_DP:
        inside = inside_domain(tp, cp, cluster[DOMAIN])
        return inside * inside_domain(tp * cp * pp, dp, cluster[DOMAIN])
    return inside_domain(tp, cp * dp, cluster[DOMAIN])


@inner(error_model="numpy")
def expert_inside(design, cluster):
    """Members of an expert group in one fast-link domain."""
    return min(design[EP], replica_inside(design, cluster))


@inner(error_model="numpy")
def hidden(traffic, window):
    """What of ``traffic`` outlasts ``window``."""
    return max(0.0, traffic - window)


@inner(error_model="numpy")
def streamed(window, sharded, first, share, stream):
    """A pass of a stage with what is gathered and scattered (``first`` of it never hidden, the rest behind ``share`` of
    the pass, all exposed where negative) and then what the host sends behind it: the pass, and both exposed parts."""
    exposed = sharded
    if share >= 0.0:
        exposed = first + hidden(sharded - first, share * window)
    window += exposed
    waiting = hidden(stream, window)
    return window + waiting, exposed, waiting


@inner(error_model="numpy")
def parameters(model, design, out):
    """Parameters of the fullest stage on one device: those that dp shards, and those of experts (sharded by dp/ep);
    and of one layer."""
    h, tp = model[HIDDEN], design[TP]
    gated = 3.0 if model[GATED] > 0 else 2.0
    heads, groups = model[HEADS] / tp, max(model[KV_HEADS] / tp, 1.0)
    d, dv = model[HEAD_DIM], model[VALUE_DIM]
    if model[KV_LORA] > 0:
        attention = h * (model[KV_LORA] + model[ROPE]) + model[KV_LORA] * heads * (model[NOPE] + dv) + h * heads * dv
        attention += model[Q_LORA] * (h + heads * d) if model[Q_LORA] > 0 else h * heads * d
    else:
        attention = h * ((heads + 2.0 * groups) * d + heads * dv)
    moe_share = 0.0
    if model[EXPERTS] > 0:
        moe_share = (model[LAYERS] - model[DENSE_LAYERS]) / model[LAYERS]
    plain = attention + 2.0 * h + (1.0 - moe_share) * gated * h * model[FFN] / tp
    plain += moe_share * (h * model[EXPERTS] + model[SHARED] * gated * h * model[EXPERT_FFN] / tp)
    experts = moe_share * gated * h * model[EXPERT_FFN] / tp * model[EXPERTS] / design[EP]
    layers = np.ceil(model[LAYERS] / design[PP])
    table = model[VOCAB] * h / tp
    ends = (1.0 if model[TIED] > 0 else 2.0) * table if design[PP] == 1.0 else table
    out[0] = layers * plain + ends
    out[1] = layers * experts
    out[2] = plain + experts


@kernel(error_model="numpy")
def activation_bytes(model, design, out):
    """Bytes that one layer and micro-batch keeps for its backward pass, and the working set of one layer."""
    h, tp, cp, mb = model[HIDDEN], design[TP], design[CP], design[MICRO]
    S = mb * model[SEQUENCE] / cp
    parallel = tp if design[TP_COMM] == RS_AG else 1.0
    heads, groups = model[HEADS] / tp, max(model[KV_HEADS] / tp, 1.0)
    d, dv = model[HEAD_DIM], model[VALUE_DIM]
    mask = 1.0 if model[DROPOUT] > 0 else 0.0
    # Inputs of the two norms, of the two blocks of products, and two masks: split by sequence parallelism only.
    shared = S * h * (8.0 + 2.0 * mask) / parallel
    split = 2.0 * S * (heads * (d + dv) + groups * (d + dv))
    moe_share = 0.0
    if model[EXPERTS] > 0:
        moe_share = (model[LAYERS] - model[DENSE_LAYERS]) / model[LAYERS]
    outputs = 3.0 if model[GATED] > 0 else 2.0
    inner = (1.0 - moe_share) * model[FFN]
    if moe_share > 0.0:
        # A token's copies at its experts are kept too.
        inner += moe_share * (model[TOPK] + model[SHARED]) * model[EXPERT_FFN]
        shared += moe_share * 2.0 * S * model[TOPK] * h / parallel
    split += 2.0 * outputs * S * inner / tp
    scores = 5.0 * heads * mb * (model[SEQUENCE] / cp) * model[SEQUENCE] if model[UNFUSED] > 0 else 4.0 * S * heads
    whole = shared + split + scores
    kept = whole
    if design[RECOMPUTE] == SELECTIVE and model[UNFUSED] > 0:
        kept = whole - scores
    if design[RECOMPUTE] == FULL:
        kept = 2.0 * S * h / parallel
    elif design[AG_REDO] > 0 and design[TP_COMM] == RS_AG:
        pass
    elif design[TP_COMM] == RS_AG and tp > 1.0:
        # Without gathering again the whole inputs of both blocks of products are kept.
        kept += 4.0 * S * h * (1.0 - 1.0 / tp)
    out[0], out[1] = kept, whole


@inner(error_model="numpy")
def sharded_s(design, cluster, collectives, replicas, inside, size):
    """Seconds to gather the weights of a stage (ZeRO 3) and to scatter its gradients (ZeRO 2 and 3) once: ``size`` bytes
    over ``replicas`` devices, ``inside`` of them on the fast link."""
    fsdp_s = 0.0
    scatter_s = 0.0
    if replicas > 1.0 and design[ZERO] >= 2:
        scatter_s = op.collective_s(
            collectives[op.REDUCE_SCATTER], op.REDUCE_SCATTER, replicas, inside, size, cluster[LINK], cluster[NIC],
            cluster[HOP],
        )  # fmt: skip
        if design[ZERO] >= 3:
            fsdp_s = op.collective_s(
                collectives[op.ALL_GATHER], op.ALL_GATHER, replicas, inside, size, cluster[LINK], cluster[NIC],
                cluster[HOP],
            )  # fmt: skip
    return fsdp_s, scatter_s


@inner(error_model="numpy")
def device_bytes(design, replicas, layers, n, held, held_experts, layer_parameters, own, kept, whole, logits, out):
    """Bytes on a device without the runtime's, and on the host; their parts into ``out[19:24]``.

    Args:
        replicas: devices that hold the same weights; layers, n: layers and micro-batches of a stage.
        held, held_experts: parameters of a device; layer_parameters: of one layer; own: whose optimizer state it keeps.
        kept, whole: activation bytes of a layer and micro-batch that are kept, and all; logits: bytes.
    """
    pp, ep, chunks, zero = design[PP], design[EP], design[CHUNKS], design[ZERO]
    weight_bytes = 2.0 * (held + held_experts)
    gradient_bytes = 4.0 * (held + held_experts)
    if zero >= 3:
        weight_bytes = 2.0 * (held / replicas + held_experts / max(replicas / ep, 1.0)) + 4.0 * layer_parameters
    if zero >= 2:
        gradient_bytes = 4.0 * (held / replicas + held_experts / max(replicas / ep, 1.0)) + 4.0 * layer_parameters
    state_bytes = 12.0 * own
    in_flight = min(n, pp)
    if chunks > 1.0:
        in_flight *= 1.0 + (pp - 1.0) / (pp * chunks)
    activations = layers * kept * in_flight
    if design[RECOMPUTE] != NONE:
        activations += whole - kept
    host = 0.0
    if design[OFFLOAD] >= OPTIMIZER:
        host += state_bytes
        state_bytes = min(state_bytes, 24.0 * layer_parameters)
    if design[OFFLOAD] >= WEIGHTS:
        host += weight_bytes
        weight_bytes = min(weight_bytes, 4.0 * layer_parameters)
    if design[OFFLOAD] == ALL:
        host += activations
        activations = min(activations, 2.0 * whole)
    out[19], out[20], out[21], out[22], out[23] = weight_bytes, gradient_bytes, state_bytes, activations, host
    return weight_bytes + gradient_bytes + state_bytes + activations + logits, host


@inner(error_model="numpy")
def step(model, cluster, c, design, rows, grids, collectives, scratch, out):
    """All metrics of one design; the verdict (OK, MEMORY_CAPACITY, OFFLOAD_CAPACITY)."""
    tp, pp, cp, ep, mb = design[TP], design[PP], design[CP], design[EP], design[MICRO]
    chunks, zero, recompute = design[CHUNKS], design[ZERO], design[RECOMPUTE]
    h = model[HIDDEN]
    dp = data_parallel(design, cluster)
    replicas = dp * cp
    S = mb * model[SEQUENCE] / cp
    n = max(np.floor(model[BATCH] / (dp * mb)), 1.0)
    precision = int(design[PRECISION])
    layers = np.ceil(model[LAYERS] / pp)
    rate = cluster[MEM_RATE] * 0.8
    layer_times(model, cluster, c, design, rows, grids, collectives, scratch)
    products, attention, elementwise, attention_backward = scratch[0], scratch[1], scratch[2], scratch[3]
    traffic, exchange, ring = scratch[4], scratch[5], scratch[6]

    # --- one layer and micro-batch ---
    forward_compute = products + attention + elementwise + c[LAYER_S]
    backward_compute = 2.0 * products + attention_backward + 2.0 * elementwise + c[LAYER_S]
    again = 0.0
    again_traffic = 0.0
    if recompute == FULL:
        again = forward_compute
        again_traffic = traffic
    elif recompute == SELECTIVE and model[UNFUSED] > 0:
        again = attention
    if design[AG_REDO] > 0 and design[TP_COMM] == RS_AG and recompute != FULL:
        again_traffic = 0.25 * traffic
    tp_forward = c[TP_EXPOSED] * traffic
    tp_backward = c[TP_EXPOSED] * (traffic + again_traffic)
    if design[TP_OVERLAP] != NO_OVERLAP:
        # A ring hides all but its first step; a pipeline in tiles leaves the first tile.
        first = 1.0 / tp if design[TP_OVERLAP] == RING else 0.25
        window = c[TP_HIDDEN] * products
        tp_forward = first * tp_forward + hidden((1.0 - first) * tp_forward, window)
        window = c[TP_HIDDEN] * 2.0 * products
        tp_backward = first * tp_backward + hidden((1.0 - first) * tp_backward, window)
    forward = forward_compute + tp_forward
    backward = backward_compute + again + tp_backward
    # The exchange of keys and values hides behind attention, that of experts is exposed.
    cp_forward = hidden(ring, attention)
    cp_backward = hidden(2.0 * ring, attention_backward)
    side_forward = cp_forward + 2.0 * exchange
    side_backward = cp_backward + (2.0 if recompute != FULL else 4.0) * exchange
    forward += side_forward
    backward += side_backward

    # --- one micro-batch of a stage ---
    parameters(model, design, scratch)
    held, held_experts, layer_parameters = scratch[0], scratch[1], scratch[2]
    head = 0.0
    head_backward = 0.0
    if model[VOCAB] > 0:
        product = c[GEMM_FACTOR] * gemm(rows, grids, 0, S, model[VOCAB] / tp, h)
        loss = c[LOSS_PASSES] * S * model[VOCAB] / tp * 2.0 / rate
        head, head_backward = product + loss, 2.0 * product + loss
    # The last stage has the head; where layers do not divide it has a layer less.
    last_layers = layers if np.floor(model[LAYERS] / pp) == layers else layers - 1.0
    stage_forward = max(layers * forward, last_layers * forward + head)
    stage_backward = max(layers * backward, last_layers * backward + head_backward)
    mean_forward = (model[LAYERS] * forward + head) / pp
    mean_backward = (model[LAYERS] * backward + head_backward) / pp
    inside = replica_inside(design, cluster)
    members = replicas
    fsdp_s, scatter_s = sharded_s(design, cluster, collectives, replicas, inside, 2.0 * held + 2.0 * held_experts)

    # --- moved out to the host: weights and activations stream through behind each micro-batch ---
    activation_bytes(model, design, scratch)
    kept, whole = scratch[0], scratch[1]
    stream_s = 0.0
    if design[OFFLOAD] >= WEIGHTS:
        stream = 2.0 * (held + held_experts) / (dp * cp if zero >= 3 else 1.0)
        if design[OFFLOAD] == ALL:
            stream += layers * kept
        stream_s = stream / cluster[HOST_RATE]
    # The first layer's weights cannot be gathered ahead, the last gradients not scattered behind.
    edge = 1.0 / layers
    share = c[DP_HIDDEN] if design[DP_OVERLAP] > 0 else -1.0
    stage_forward, zero_forward, offload_forward = streamed(stage_forward, fsdp_s, edge * fsdp_s, share, stream_s)
    stage_backward, zero_backward, offload_backward = streamed(
        stage_backward, fsdp_s + scatter_s, edge * scatter_s, share, stream_s
    )
    exposed_zero = zero_forward + zero_backward
    mean_forward, _, _ = streamed(mean_forward, fsdp_s, edge * fsdp_s, share, stream_s)
    mean_backward, _, _ = streamed(mean_backward, fsdp_s + scatter_s, edge * scatter_s, share, stream_s)

    # --- the pipeline ---
    hand_over = 0.0
    if pp > 1.0:
        stride = tp * cp * (dp if design[ORDER] != TP_CP_PP_DP else 1.0)
        near = stride * pp <= cluster[DOMAIN]
        # Each of the tp devices sends its part; the others' come over the fast link.
        message = S * h * 2.0 / tp
        once = op.transfer_s(message, near, cluster[LINK], cluster[NIC], cluster[HOP])
        hand_over = c[PP_EXPOSED] * 2.0 * chunks * once
    per = stage_forward + stage_backward + hand_over
    uneven = 0.0
    if chunks > 1.0 and n % pp != 0.0:
        # An incomplete round of micro-batches waits for the missing ones.
        uneven = (chunks - 1.0) * (pp - n % pp) / chunks
    mean = mean_forward + mean_backward + hand_over
    bubble = (pp - 1.0) / chunks * mean + uneven * mean

    # --- once a step ---
    gradient_s = 0.0
    gather_s = 0.0
    once_backward = 0.0
    exposed_dp = n * exposed_zero
    if replicas > 1.0 and zero < 2:
        kinds = op.REDUCE_SCATTER if zero == 1 else op.ALL_REDUCE
        gradient_s = op.collective_s(
            collectives[kinds], kinds, members, inside, 4.0 * held, cluster[LINK], cluster[NIC], cluster[HOP]
        )
        if held_experts > 0 and replicas > ep:
            gradient_s += op.collective_s(
                collectives[kinds], kinds, replicas / ep, max(1.0, np.floor(inside / ep)), 4.0 * held_experts,
                cluster[LINK], cluster[NIC], cluster[HOP],
            )  # fmt: skip
    if replicas > 1.0 and (zero == 1 or zero == 2):
        gather_s = op.collective_s(
            collectives[op.ALL_GATHER], op.ALL_GATHER, members, inside, 2.0 * held, cluster[LINK], cluster[NIC],
            cluster[HOP],
        )  # fmt: skip
    if design[DP_OVERLAP] > 0:
        edge = 1.0 / (layers if chunks == 1.0 else chunks)
        once_backward = edge * gradient_s + hidden((1.0 - edge) * gradient_s, c[DP_HIDDEN] * stage_backward)
        once_forward = edge * gather_s + hidden((1.0 - edge) * gather_s, c[DP_HIDDEN] * stage_forward)
        exposed_dp += once_backward + once_forward
        dp_once = once_backward + once_forward
    else:
        exposed_dp += gradient_s + gather_s
        dp_once = gradient_s + gather_s
    shards = replicas if zero >= 1 else 1.0
    own = held / shards + held_experts / (max(replicas / ep, 1.0) if zero >= 1 else 1.0)
    optimizer_s = c[OPTIMIZER_BYTES] * own / rate
    exposed_offload = n * (offload_forward + offload_backward)
    if design[OFFLOAD] >= OPTIMIZER:
        # The state crosses the host's link both ways, behind the last backward pass at best.
        moved = hidden(24.0 * own / cluster[HOST_RATE], stage_backward + once_backward)
        exposed_offload += moved
        optimizer_s += moved
    total = n * per + bubble + dp_once + optimizer_s + c[STEP_S]
    if design[OFFLOAD] >= OPTIMIZER:
        optimizer_s -= moved

    logits = 4.0 * S * model[VOCAB] / tp if pp == 1.0 else 0.0
    memory, host = device_bytes(
        design, replicas, layers, n, held, held_experts, layer_parameters, own, kept, whole, logits, out
    )
    memory += c[RUNTIME_BYTES]

    # --- results ---
    tokens = model[BATCH] * model[SEQUENCE]
    devices = cluster[DEVICES]
    again_s = n * layers * again
    exposed_tp = n * layers * (tp_forward + tp_backward)
    exposed_side = n * layers * (side_forward + side_backward)
    exposed_pp = n * hand_over
    busy = total - bubble - exposed_tp - exposed_side - exposed_pp - exposed_dp - exposed_offload
    out[0] = total
    out[1] = tokens / (total * devices)
    out[2] = model[STEP_FLOPS] / (total * devices * (cluster[PRECISION_PEAK[precision]]))
    out[3] = memory
    power = cluster[TDP] * (c[IDLE_POWER] + (c[BUSY_POWER] - c[IDLE_POWER]) * busy / total)
    out[4] = power * total * devices / tokens
    out[5] = cluster[USD_PER_S] * devices * total / tokens * 1e6
    out[6] = bubble / total
    out[7] = (exposed_tp + exposed_side + exposed_pp + exposed_dp) / total
    out[8] = busy - again_s - optimizer_s
    out[9] = again_s
    out[10], out[11], out[12], out[13] = exposed_tp, exposed_side, exposed_pp, exposed_dp
    out[14], out[15], out[16] = exposed_offload, bubble, optimizer_s
    out[17], out[18] = stage_forward, stage_backward
    if memory > cluster[MEM]:
        return MEMORY_CAPACITY
    if host > cluster[HOST_MEM]:
        return OFFLOAD_CAPACITY
    return OK


PRECISION_PEAK = (PEAK_BF16, PEAK_FP8, PEAK_FP4)


@inner(error_model="numpy")
def prepare(cluster, fits, rows):
    """Operator rows of one cluster from constants relative to its peaks: launch, compute, memory, then three as they
    are, then the width."""
    for i in range(3):
        peak = cluster[PEAK_BF16 + i]
        width = fits[i, 6]
        j = i
        if peak <= 0.0:
            # A type that the device lacks runs as bf16.
            peak, j, width = cluster[PEAK_BF16], 0, fits[0, 6]
        for k in range(6):
            rows[i, k] = fits[j, k]
        rows[i, 1] = peak * fits[j, 1]
        rows[i, 2] = cluster[MEM_RATE] * fits[j, 2]
        rows[i, 6] = width
    for k in range(7):
        rows[3, k] = fits[3, k]
    rows[3, 1] *= cluster[PEAK_BF16]
    rows[3, 2] *= cluster[MEM_RATE]


@kernel(error_model="numpy")
def evaluate_rows(first, last, model, clusters, c, fits, grids, collectives, designs, kept, out, verdict):
    """Metrics and verdicts of rows ``first`` to ``last``.

    Args:
        model: float64 ``(25,)``; clusters: float64 ``(1 or n, 14)``; c: float64 ``(18,)``, constants.
        fits: float64 ``(4, 7)``: gemm bf16, fp8, fp4, prefill, relative to the device's peaks.
        grids: corrections of gemm bf16, gemm fp8 and attention, each (x, y, z, values).
        designs: float64 ``(n, 15)``, values in the order of ``DESIGN``; kept: bool ``(n,)``, rows to evaluate.
        out: float64 ``(n, 24)``, ``METRICS``; verdict: int64 ``(n,)``. Both are filled in.
    """
    rows = np.zeros((4, 7))
    scratch = np.zeros(8)
    single = len(clusters) == 1
    if single:
        prepare(clusters[0], fits, rows)
    for i in range(first, last):
        verdict[i] = OK
        if not kept[i]:
            out[i] = np.nan
            continue
        cluster = clusters[0] if single else clusters[i]
        if not single:
            prepare(cluster, fits, rows)
        verdict[i] = step(model, cluster, c, designs[i], rows, grids, collectives, scratch, out[i])


# --- rules that need no evaluation ---------------------------------------------------------------------------------

RULES = (
    "devices_divide",
    "heads_divide",
    "kv_heads",
    "hidden_divide",
    "ffn_divide",
    "layers_divide",
    "batch_divide",
    "sequence_divide",
    "experts_divide",
    "tier_size",
)
"""Names of the rules, in the order of the checks; bit i of :func:`broken_rules` is rule i."""


@inner(error_model="numpy")
def _divides(part, whole):
    return whole == np.floor(whole / part) * part


@inner(error_model="numpy")
def canonical_values(model, devices, design):
    """Set values without effect to their representatives, in place; ``design`` has values."""
    if model[EXPERTS] == 0.0:
        design[EP] = 1.0
    if design[PP] == 1.0:
        design[CHUNKS] = 1.0
        if design[ORDER] == TP_CP_PP_DP:
            design[ORDER] = TP_CP_DP_PP
    if design[TP] == 1.0:
        design[TP_COMM] = AR
        design[TP_OVERLAP] = NO_OVERLAP
    if design[TP_COMM] != RS_AG or design[RECOMPUTE] == FULL:
        design[AG_REDO] = 0.0
    if design[RECOMPUTE] == SELECTIVE and model[UNFUSED] == 0.0:
        # Fused attention keeps no scores that could be computed again.
        design[RECOMPUTE] = NONE
    replicas = np.floor(devices / (design[TP] * design[PP]))
    if replicas <= 1.0:
        design[ZERO] = 0.0
        design[DP_OVERLAP] = 0.0
    if design[CP] == 1.0 and design[ORDER] == TP_DP_CP_PP:
        design[ORDER] = TP_CP_DP_PP


@inner(error_model="numpy")
def broken_rules(model, devices, domain, design):
    """Bits of the rules that a design's values break, as said by canonical values."""
    tp, pp, cp, ep, mb = design[TP], design[PP], design[CP], design[EP], design[MICRO]
    broken = 0
    used = tp * pp * cp
    dp = max(np.floor(devices / used), 1.0)
    if not _divides(used, devices):
        broken |= 1
    if not _divides(tp, model[HEADS]):
        broken |= 2
    # More devices than key and value heads hold copies of them.
    if not (_divides(tp, model[KV_HEADS]) or _divides(model[KV_HEADS], tp)):
        broken |= 4
    if not _divides(tp, model[HIDDEN]):
        broken |= 8
    if not _divides(tp, model[FFN]) or (model[EXPERTS] > 0 and not _divides(tp, model[EXPERT_FFN])):
        broken |= 16
    if pp > model[LAYERS] or not _divides(design[CHUNKS], np.ceil(model[LAYERS] / pp)):
        broken |= 32
    if not _divides(dp * mb, model[BATCH]):
        broken |= 64
    # Context parallelism balances causal work by giving each device two pieces; it is for dense attention.
    whole = cp * (2.0 if cp > 1.0 else 1.0)
    sequence = model[SEQUENCE]
    windowed = cp > 1.0 and model[WINDOW] > 0.0
    uneven = design[TP_COMM] != AR and not _divides(tp, mb * sequence / cp)
    if windowed or uneven or not _divides(whole, sequence):
        broken |= 128
    if model[EXPERTS] > 0 and (not _divides(ep, model[EXPERTS]) or not _divides(ep, dp * cp)):
        broken |= 256
    if not (_divides(tp, domain) or _divides(domain, tp)):
        broken |= 512
    return broken


@kernel(error_model="numpy")
def decode_rows(first, last, model, clusters, columns, values, indices, designs, broken):
    """Value indices as canonical values, with the rules each design breaks.

    Args:
        columns: int64 ``(15,)``: column of ``indices`` a parameter, -1 where the space fixes it.
        values: float64 ``(15, k)``: values by index; the fixed one first.
        indices: int64 ``(n, d)``; designs: float64 ``(n, 15)`` and broken: int64 ``(n,)`` are filled in.
    """
    single = len(clusters) == 1
    for i in range(first, last):
        cluster = clusters[0] if single else clusters[i]
        for j in range(len(columns)):
            designs[i, j] = values[j, indices[i, columns[j]] if columns[j] >= 0 else 0]
        canonical_values(model, cluster[DEVICES], designs[i])
        broken[i] = broken_rules(model, cluster[DEVICES], cluster[DOMAIN], designs[i])
