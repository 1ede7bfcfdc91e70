"""Closed forms of the operators' run times, compiled; usable from Python and from other kernels.

Every function takes a row of constants that :class:`archgym.simulators.llm.operators.Operators` prepares for one device
and data type, sizes as floats, and gives seconds. All are monotone: more work is never faster, and a row with more
FLOP/s, more bandwidth or less latency never slower. Rows are float64:

| row | entries |
| --- | --- |
| gemm | launch s, FLOP/s, byte/s, k_half, p, area, bytes of an operand's element |
| prefill | launch s, FLOP/s, byte/s, s_half, p, rows, bytes of an element |
| decode | launch s, FLOP/s, byte/s, s_half, p, seconds a doubling of the context, bytes of a cached element |
| moe | launch s, FLOP/s, byte/s, m_half, p, hottest, bytes of a weight's element, passes over all choices |
| collective | launch s, s a further member, share of the link, exponent of the members, launch s and share of the link \
of the low-latency protocol, share of the NIC |

The table of a fidelity with measured operators is a correction of these forms: see ``corrected``.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from archgym.compiling import inner, kernel

ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL = range(4)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")


@inner(inline="always", error_model="numpy")
def p_norm(a, b, p):
    """(a^p + b^p)^(1/p): between the larger of the two and their sum."""
    high = max(a, b)
    low = min(a, b)
    if low <= 0.0:
        return high
    return high * (1.0 + (low / high) ** p) ** (1.0 / p)


@kernel(error_model="numpy")
def gemm_s(row, m, n, k):
    """(m, k) times (k, n), outputs of two bytes. The device idles on small outputs (``area`` elements are paid extra)
    and while it fills its pipelines (``k_half``)."""
    compute = 2.0 * (k + row[3]) * (m * n + row[5]) / row[1]
    memory = (row[6] * (m * k + k * n) + 2.0 * m * n) / row[2]
    return row[0] + p_norm(compute, memory, row[4])


@kernel(error_model="numpy")
def attention_prefill_s(row, batch, heads, kv_heads, head_dim, tokens, past, window):
    """Fused causal attention of ``batch`` sequences of ``tokens`` new tokens after ``past`` cached ones.

    ``window`` limits how far back a token looks; 0 for no limit.
    """
    context = past + 0.5 * tokens
    if window > 0.0:
        context = min(context, window)
    compute = 4.0 * head_dim * (context + row[3]) * (batch * heads * tokens + row[5]) / row[1]
    memory = row[6] * head_dim * batch * (2.0 * heads * tokens + 2.0 * kv_heads * (tokens + past)) / row[2]
    return row[0] + p_norm(compute, memory, row[4])


@kernel(error_model="numpy")
def attention_decode_s(row, batch, heads, kv_heads, head_dim, context, window):
    """One new token a sequence against ``context`` cached tokens each (their mean). Splitting a long context over
    the device costs a fixed time a doubling."""
    if window > 0.0:
        context = min(context, window)
    compute = 4.0 * head_dim * batch * heads * (context + row[3]) / row[1]
    memory = row[6] * 2.0 * head_dim * batch * kv_heads * (context + row[3]) / row[2]
    return row[0] + row[5] * np.log2(1.0 + context / 128.0) + p_norm(compute, memory, row[4])


@kernel(error_model="numpy")
def moe_s(row, tokens, hidden, ffn, topk, experts, tp, ep, gated, skew):
    """The experts of one layer on one device: ``tokens`` enter the layer (over all ``ep`` devices), each goes to
    ``topk`` of ``experts``, which are split ``ep`` ways and inside ``tp`` ways.

    ``skew`` 0 spreads tokens evenly; 1 has the fitted excess of the hottest device (``hottest``).
    """
    local = experts / ep
    routed = tokens * topk / ep
    # The busiest device gets at most every choice of every token that it has experts for.
    routed = min(routed * (1.0 + skew * row[5] * (1.0 - 1.0 / ep)), tokens * min(topk, local))
    touched = local * (1.0 - (1.0 - min(topk / experts, 1.0)) ** tokens)
    matrices = 3.0 if gated > 0.0 else 2.0
    inner = ffn / tp
    compute = 2.0 * matrices * hidden * inner * (routed + touched * row[3]) / row[1]
    memory = row[6] * matrices * hidden * inner * touched + 2.0 * routed * (2.0 * hidden + matrices * inner)
    # Sorting all choices by expert, and back, is not split.
    sorting = 2.0 * row[7] * tokens * topk * hidden
    return row[0] + p_norm(compute, memory / row[2], row[4]) + sorting / row[2]


@inner(error_model="numpy")
def share_moved(op, members):
    """Bytes that cross each member's link, over the bytes of the whole message."""
    if members <= 1.0:
        return 0.0
    share = (members - 1.0) / members
    return 2.0 * share if op == ALL_REDUCE else share


@kernel(error_model="numpy")
def collective_s(row, op, members, inside, message, link, nic, hop):
    """A collective over ``members`` devices, ``inside`` of them in each node.

    Inside a node the faster of two protocols (low latency, full bandwidth); the share of the link that is reached
    depends on the members. Between nodes all NICs of a node's members carry the message together, at most at the
    link's rate, and a message takes ``hop`` seconds for each doubling of the nodes.

    Args:
        row: constants of the operation.
        op: one of ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL.
        members, inside: devices of the group, and of the group in one node.
        message: bytes of the whole message of one device (the gathered or reduced one).
        link, nic: bytes a second and direction of a device inside and between nodes.
        hop: seconds a message takes between nodes.
    """
    if members <= 1.0 or message <= 0.0:
        return 0.0
    moved = share_moved(op, members) * message
    local = min(members, inside)
    # Sparse groups reach what pairs do; nothing was measured beyond eight devices.
    scale = (min(max(local, 2.0), 8.0) / 8.0) ** row[3]
    hops = row[1] * (local - 1.0)
    if members > inside:
        rate = min(row[2] * scale * link, row[6] * nic * inside)
        return row[0] + hops + hop * np.log2(members / inside) + moved / rate
    full = row[0] + moved / (row[2] * scale * link)
    quick = row[4] + moved / (row[5] * scale * link)
    return hops + min(full, quick)


@inner(error_model="numpy")
def transfer_s(message, inside, link, nic, hop):
    """Point to point: ``message`` bytes over the link, or over the NIC where the peer is on another node."""
    return message / link if inside else hop + message / nic


@inner(inline="always", error_model="numpy")
def _cell(axis, x):
    """Index of the grid cell that holds ``x`` and the position in it, 0..1; clamped at both ends."""
    last = len(axis) - 1
    if last == 0 or x <= axis[0]:
        return 0, 0.0
    if x >= axis[last]:
        return last - 1, 1.0
    i = np.searchsorted(axis, x, side="right") - 1
    return i, (x - axis[i]) / (axis[i + 1] - axis[i])


@kernel(error_model="numpy")
def corrected(time, x_axis, y_axis, z_axis, grid, x, y, z):
    """A closed form's ``time`` times the measured-over-closed ratio: ``grid`` (logarithms, ``(nx, ny, nz)``)
    interpolated linearly in the axes' coordinates and clamped at their ends. A grid of one entry corrects by a factor.
    """
    i, u = _cell(x_axis, x)
    j, v = _cell(y_axis, y)
    k, w = _cell(z_axis, z)
    i1, j1, k1 = min(i + 1, len(x_axis) - 1), min(j + 1, len(y_axis) - 1), min(k + 1, len(z_axis) - 1)
    low = (1 - v) * ((1 - w) * grid[i, j, k] + w * grid[i, j, k1]) + v * (
        (1 - w) * grid[i, j1, k] + w * grid[i, j1, k1]
    )
    high = (1 - v) * ((1 - w) * grid[i1, j, k] + w * grid[i1, j, k1]) + v * (
        (1 - w) * grid[i1, j1, k] + w * grid[i1, j1, k1]
    )
    return time * np.exp((1 - u) * low + u * high)
