"""Compiled search for the best mapping of a layer on the row-stationary hierarchy; see :mod:`archgym.simulators.accelerator.mapper`.

A mapping is a table of factors ``f (7, 8)``: rows are the places a factor can be at, outermost first, columns the dims
N K C P Q R S G; and four loop orders ``o (4,)`` for main memory, the global buffer and the two outer scratchpads.

The cost of a mapping is that of the loop-nest model, written out for this hierarchy: weights bypass the global buffer,
every scratchpad keeps one tensor. ``mapper.py`` re-evaluates what the search returns with the general model, and the
tests compare the two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel
from archgym.simulators.accelerator.hardware import (
    BLOCK_D,
    BLOCK_G,
    BLOCK_I,
    BLOCK_O,
    BLOCK_W,
    BWR_D,
    BWR_G,
    BWR_I,
    BWR_O,
    BWR_W,
    BWW_D,
    BWW_G,
    BWW_I,
    BWW_O,
    BWW_W,
    CAP_G,
    CAP_I,
    CAP_O,
    CAP_W,
    LEAK_G,
    LEAK_PE,
    LEAK_X,
    MAC_PJ,
    MESH_X,
    MESH_Y,
    READ_D,
    READ_G,
    READ_I,
    READ_O,
    READ_W,
    WRITE_D,
    WRITE_G,
    WRITE_I,
    WRITE_O,
    WRITE_W,
)

N, K, C, P, Q, R, S, G = 0, 1, 2, 3, 4, 5, 6, 7
DRAM, GLB, COLUMN, ROW, IFMAP, WEIGHT, PSUM = 0, 1, 2, 3, 4, 5, 6
PLACES, DIMS = 7, 8

#: Loop orders, innermost dim first. The access counts of a level depend on its order only through the innermost loops:
#: which tensor stays (W: the output positions turn first; O: the reduction; I: the output channels), and along which
#: axis the input slides.
ORDERS = np.array(
    [
        (Q, P, N, S, R, C, K, G),
        (P, Q, N, R, S, C, K, G),
        (S, R, C, Q, P, N, K, G),
        (R, S, C, P, Q, N, K, G),
        (K, Q, P, N, S, R, C, G),
        (K, P, Q, N, R, S, C, G),
        (K, S, R, C, Q, P, N, G),
        (K, R, S, C, P, Q, N, G),
    ],
    dtype=np.int64,
)


def _same_orders() -> NDArray[np.int64]:
    """``(256, 8)``: for every set of dims that turn at a level (one bit a dim) the first order in which they turn alike."""
    table = np.empty((1 << DIMS, len(ORDERS)), np.int64)
    for turning in range(1 << DIMS):
        seen = [tuple(d for d in order if turning >> d & 1) for order in ORDERS.tolist()]
        table[turning] = [seen.index(sequence) for sequence in seen]
    return table


SAME_ORDERS = _same_orders()

# Columns of the layer table after the bounds; those of the hardware table are in hardware.py.
STRIDE_P, STRIDE_Q, DILATION_R, DILATION_S = 8, 9, 10, 11

ENERGY, DELAY, EDP = 0, 1, 2
STEPS = 512
"""Beginnings of steps that a phase of the search remembers."""


@inner(error_model="numpy")
def _input_words(layer, n, c, p, q, r, s, g):
    rows = (p - 1) * layer[STRIDE_P] + (r - 1) * layer[DILATION_R] + 1
    columns = (q - 1) * layer[STRIDE_Q] + (s - 1) * layer[DILATION_S] + 1
    return g * n * c * rows * columns


@inner(error_model="numpy")
def _axis_origins(p, r, step_p, step_r):
    """Distinct positions of i * step_p + j * step_r with i < p and j < r."""
    if p == 1 or r == 1:
        return p * r
    common = math.gcd(step_p, step_r)
    return p * r - max(0, p - step_r // common) * max(0, r - step_p // common)


@inner(error_model="numpy")
def _input_fills(layer, f, order_glb, order_dram, words, rows, columns, inside, from_glb):
    """Words of the input delivered to a tile of ``words`` words and ``rows x columns`` (a.4 of the model, dims of a
    convolution). ``inside`` holds the extents inside the first loop; the walk starts at the global buffer's loops or
    at main memory's."""
    total, first, reach, along, size = words, 0, 0, -1, 0
    found, straight = False, True
    delta = words
    for stage in range(0 if from_glb else 1, 2):
        place = GLB if stage == 0 else DRAM
        order = order_glb if stage == 0 else order_dram
        for j in range(DIMS):
            d = ORDERS[order, j]
            n = f[place, d]
            if n == 1:
                continue
            if found and not straight:
                total *= n
                continue
            if d == K:
                if found:
                    total *= n
                continue
            step = inside[d] * (f[GLB, d] if (stage == 1 and from_glb) else 1)
            axis = -1
            if d == P or d == R:
                axis = 0
                step *= layer[STRIDE_P] if d == P else layer[DILATION_R]
            elif d == Q or d == S:
                axis = 1
                step *= layer[STRIDE_Q] if d == Q else layer[DILATION_S]
            if not found:
                found = True
                along = axis
                first = step
                if axis < 0:
                    straight = False
                else:
                    size = rows if axis == 0 else columns
                    if size > step:
                        delta = words // size * step
                total = words + (n - 1) * delta
                reach = step
            elif axis == along:
                if step == reach + first:
                    total += (n - 1) * (total - words + delta)
                elif step == reach:
                    total += (n - 1) * (total - words)
                else:
                    total *= n
                reach += step
            else:
                total *= n
                straight = False
    return total


@inner(error_model="numpy")
def _weight_run(f, place, order):
    """Product of the innermost loops that leave weights alone, and whether they are all."""
    still = f[place, N] * f[place, P] * f[place, Q]
    channel, window = f[place, K], f[place, C] * f[place, R] * f[place, S]
    whole = channel * window * f[place, G] == 1
    if order >= 4 and channel > 1:
        return 1, False
    if (order == 2 or order == 3 or order >= 6) and window > 1:
        return 1, False
    return still, whole


@inner(error_model="numpy")
def _output_run(f, place, order):
    """Product of the innermost loops that leave outputs alone, and whether they are all."""
    still = f[place, C] * f[place, R] * f[place, S]
    channel, position = f[place, K], f[place, N] * f[place, P] * f[place, Q]
    whole = channel * position * f[place, G] == 1
    if order >= 4 and channel > 1:
        return 1, False
    if (order == 0 or order == 1 or order == 4 or order == 5) and position > 1:
        return 1, False
    return still, whole


@inner(error_model="numpy")
def _ceil_blocks(words, block):
    return float(math.ceil(words / block))


@inner(error_model="numpy")
def _slowed(compute, read, write, read_bandwidth, write_bandwidth):
    slow = 1.0
    if read > read_bandwidth:
        slow = read_bandwidth / read
    if write > write_bandwidth:
        slow = min(slow, write_bandwidth / write)
    return float(math.ceil(compute / slow)) if slow < 1.0 else compute


@inner(error_model="numpy")
def _at_least(energy, cycles, objective):
    """A bound of the objective from one of energy and cycles; the margin is far above what sums in another order differ by."""
    if objective == EDP:
        energy *= cycles
    elif objective == DELAY:
        energy = cycles + 1e-18 * energy
    return energy * (1.0 - 1e-9)


@kernel(error_model="numpy")
def cost(layer, f, o, hw, objective, limit, room, out):
    """Objective of a mapping, infinite where it does not fit; ``out (2,)`` gets energy in pJ and cycles.

    Infinite, too, where a bound from below is not under ``limit``: what a mapping costs but for the traffic of inputs is
    known before that traffic, and a search asks only for what is better than it has. ``room (2, 8)`` is scratch space.
    """
    out[0] = np.inf
    out[1] = np.inf
    x = f[COLUMN, 0] * f[COLUMN, 1] * f[COLUMN, 2] * f[COLUMN, 3]
    x *= f[COLUMN, 4] * f[COLUMN, 5] * f[COLUMN, 6] * f[COLUMN, 7]
    y = f[ROW, 0] * f[ROW, 1] * f[ROW, 2] * f[ROW, 3] * f[ROW, 4] * f[ROW, 5] * f[ROW, 6] * f[ROW, 7]
    if x > hw[MESH_X] or y > hw[MESH_Y]:
        return np.inf
    # Tiles from the inside out.
    tile_o = f[PSUM, N] * f[PSUM, K] * f[PSUM, P] * f[PSUM, Q] * f[PSUM, G]
    if tile_o > hw[CAP_O]:
        return np.inf
    tile_w = f[WEIGHT, K] * f[WEIGHT, C] * f[WEIGHT, R] * f[WEIGHT, S] * f[WEIGHT, G]
    tile_w *= f[PSUM, K] * f[PSUM, C] * f[PSUM, R] * f[PSUM, S] * f[PSUM, G]
    if tile_w > hw[CAP_W]:
        return np.inf
    pe, array = room[0], room[1]
    for d in range(DIMS):
        pe[d] = f[IFMAP, d] * f[WEIGHT, d] * f[PSUM, d]
        array[d] = pe[d] * f[COLUMN, d] * f[ROW, d]
    tile_i = _input_words(layer, pe[N], pe[C], pe[P], pe[Q], pe[R], pe[S], pe[G])
    if tile_i > hw[CAP_I]:
        return np.inf
    glb_n, glb_k, glb_c = array[N] * f[GLB, N], array[K] * f[GLB, K], array[C] * f[GLB, C]
    glb_p, glb_q, glb_r = array[P] * f[GLB, P], array[Q] * f[GLB, Q], array[R] * f[GLB, R]
    glb_s, glb_g = array[S] * f[GLB, S], array[G] * f[GLB, G]
    tile_gi = _input_words(layer, glb_n, glb_c, glb_p, glb_q, glb_r, glb_s, glb_g)
    tile_go = glb_n * glb_k * glb_p * glb_q * glb_g
    if tile_gi + tile_go > hw[CAP_G]:
        return np.inf
    # Trip counts in time outside each tile.
    out_dram, out_glb, out_ifmap, out_weight, inner = 1, 1, 1, 1, 1
    output, outputs_apart = 1, 1
    for d in range(DIMS):
        out_dram *= f[DRAM, d]
        out_glb *= f[GLB, d]
        out_ifmap *= f[IFMAP, d]
        out_weight *= f[WEIGHT, d]
        inner *= f[PSUM, d]
        if d == N or d == K or d == P or d == Q or d == G:
            output *= array[d] * f[GLB, d] * f[DRAM, d]
            outputs_apart *= f[COLUMN, d] * f[ROW, d]
    out_glb *= out_dram
    out_ifmap *= out_glb
    out_weight *= out_ifmap
    compute = out_weight * inner
    blocks_i, blocks_w, blocks_o = hw[BLOCK_I], hw[BLOCK_W], hw[BLOCK_O]
    blocks_g, blocks_d = hw[BLOCK_G], hw[BLOCK_D]
    used = x * y
    share = output // outputs_apart
    whole = float(compute)
    read_i = _ceil_blocks(compute, blocks_i) * hw[READ_I]
    read_w = _ceil_blocks(compute, blocks_w) * hw[READ_W]
    read_o = _ceil_blocks(compute - share, blocks_o) * hw[READ_O]
    inside = read_i + read_w + read_o + whole * (hw[LEAK_PE] + hw[MAC_PJ])
    above = whole * (hw[LEAK_G] + x * hw[LEAK_X])
    if _at_least(used * inside + above, whole, objective) >= limit:
        return np.inf
    # Fills: everything outside multiplies, but for the innermost loops that leave the tensor alone.
    run_w, go = _weight_run(f, IFMAP, o[2])
    if go:
        run, go = _weight_run(f, GLB, o[1])
        run_w *= run
        if go:
            run_w *= _weight_run(f, DRAM, o[0])[0]
    fill_w = tile_w * (out_ifmap // run_w)
    run_o, go = _output_run(f, WEIGHT, o[3])
    if go:
        run, go = _output_run(f, IFMAP, o[2])
        run_o *= run
        if go:
            run, go = _output_run(f, GLB, o[1])
            run_o *= run
            if go:
                run_o *= _output_run(f, DRAM, o[0])[0]
    fill_o = tile_o * (out_weight // run_o)
    fill_go = tile_go * (out_dram // _output_run(f, DRAM, o[0])[0])
    # Distinct origins over the array: columns are laid out outside rows.
    apart_o = outputs_apart
    apart_w = f[COLUMN, K] * f[COLUMN, C] * f[COLUMN, R] * f[COLUMN, S] * f[COLUMN, G]
    apart_w *= f[ROW, K] * f[ROW, C] * f[ROW, R] * f[ROW, S] * f[ROW, G]
    write_w = _ceil_blocks(fill_w, blocks_w) * hw[WRITE_W]
    write_o = (_ceil_blocks(fill_o - share, blocks_o) + _ceil_blocks(compute, blocks_o)) * hw[WRITE_O]
    read_go, write_go = _ceil_blocks(apart_o * fill_o - output, blocks_g), _ceil_blocks(fill_go - output, blocks_g)
    update_go = _ceil_blocks(apart_o * fill_o, blocks_g) * hw[WRITE_G]
    read_dw, read_do = _ceil_blocks(apart_w * fill_w, blocks_d), _ceil_blocks(fill_go - output, blocks_d)
    write_do = _ceil_blocks(fill_go, blocks_d) * hw[WRITE_D]
    least = used * (inside + write_w + write_o) + above
    least += read_go * hw[READ_G] + write_go * hw[WRITE_G] + update_go + (read_dw + read_do) * hw[READ_D] + write_do
    if _at_least(least, whole, objective) >= limit:
        return np.inf
    rows = (pe[P] - 1) * layer[STRIDE_P] + (pe[R] - 1) * layer[DILATION_R] + 1
    columns = (pe[Q] - 1) * layer[STRIDE_Q] + (pe[S] - 1) * layer[DILATION_S] + 1
    fill_i = _input_fills(layer, f, o[1], o[0], tile_i, rows, columns, array, True)
    rows = (glb_p - 1) * layer[STRIDE_P] + (glb_r - 1) * layer[DILATION_R] + 1
    columns = (glb_q - 1) * layer[STRIDE_Q] + (glb_s - 1) * layer[DILATION_S] + 1
    for d in range(DIMS):
        array[d] *= f[GLB, d]
    fill_gi = _input_fills(layer, f, o[1], o[0], tile_gi, rows, columns, array, False)
    apart_i = f[COLUMN, N] * f[ROW, N] * f[COLUMN, C] * f[ROW, C] * f[COLUMN, G] * f[ROW, G]
    for place in range(COLUMN, ROW + 1):
        more = place == COLUMN
        step_p, step_r = layer[STRIDE_P] * pe[P], layer[DILATION_R] * pe[R]
        step_q, step_s = layer[STRIDE_Q] * pe[Q], layer[DILATION_S] * pe[S]
        if more:
            step_p, step_r = step_p * f[ROW, P], step_r * f[ROW, R]
            step_q, step_s = step_q * f[ROW, Q], step_s * f[ROW, S]
        apart_i *= _axis_origins(f[place, P], f[place, R], step_p, step_r)
        apart_i *= _axis_origins(f[place, Q], f[place, S], step_q, step_s)
    # Cycles: every level at its bandwidth, words a cycle and instance.
    cycles = _slowed(whole, 1.0, fill_i / whole, hw[BWR_I], hw[BWW_I])
    cycles = max(cycles, _slowed(whole, 1.0, fill_w / whole, hw[BWR_W], hw[BWW_W]))
    read, write = (compute - share) / whole, (fill_o - share + compute) / whole
    cycles = max(cycles, _slowed(whole, read, write, hw[BWR_O], hw[BWW_O]))
    # Tensor by tensor before adding, as the general model does.
    read = apart_i * fill_i / whole + (apart_o * fill_o - output) / whole
    write = fill_gi / whole + (fill_go - output + apart_o * fill_o) / whole
    cycles = max(cycles, _slowed(whole, read, write, hw[BWR_G], hw[BWW_G]))
    read = apart_w * fill_w / whole + fill_gi / whole + (fill_go - output) / whole
    cycles = max(cycles, _slowed(whole, read, fill_go / whole, hw[BWR_D], hw[BWW_D]))
    energy = used * (
        read_i + _ceil_blocks(fill_i, blocks_i) * hw[WRITE_I] + read_w + write_w + read_o + write_o
        + cycles * hw[LEAK_PE] + compute * hw[MAC_PJ]
    )  # fmt: skip
    energy += (
        (_ceil_blocks(apart_i * fill_i, blocks_g) + read_go) * hw[READ_G]
        + (_ceil_blocks(fill_gi, blocks_g) + write_go) * hw[WRITE_G]
        + update_go + cycles * (hw[LEAK_G] + x * hw[LEAK_X])
    )  # fmt: skip
    energy += (read_dw + _ceil_blocks(fill_gi, blocks_d) + read_do) * hw[READ_D] + write_do
    out[0] = energy
    out[1] = cycles
    if objective == ENERGY:
        return energy
    if objective == DELAY:
        # Equal cycles are told apart by energy, far below one cycle.
        return cycles + 1e-18 * energy
    return energy * cycles


# --- search ------------------------------------------------------------------------------------------------------

#: Dims in the order in which the first construction takes them into the scratchpads, and then into the global buffer,
#: with the loop order it starts from (for both outer levels, and for the input scratchpad's).
TEMPLATES = np.array(
    [
        ((Q, P, N, S, R, K, C, G), (Q, P, N, S, R, K, C, G), (0, 0, 0, 0, 0, 0, 0, 0)),
        ((S, R, Q, K, C, P, N, G), (Q, P, N, S, R, K, C, G), (2, 2, 0, 0, 0, 0, 0, 0)),
        ((S, R, C, K, Q, P, N, G), (Q, P, N, S, R, K, C, G), (0, 0, 0, 0, 0, 0, 0, 0)),
        ((K, C, S, R, Q, P, N, G), (Q, P, N, S, R, K, C, G), (0, 0, 0, 0, 0, 0, 0, 0)),
    ],
    dtype=np.int64,
)


@inner(error_model="numpy")
def primes_of(bounds, primes):
    """Distinct prime factors of each bound into ``primes (D, 10)``, ascending and padded with 0."""
    for d in range(DIMS):
        rest, at, factor = bounds[d], 0, 2
        for j in range(primes.shape[1]):
            primes[d, j] = 0
        while rest > 1:
            if factor * factor > rest:
                factor = rest
            if rest % factor == 0:
                primes[d, at] = factor
                at += 1
                while rest % factor == 0:
                    rest //= factor
            factor += 1


@inner(error_model="numpy")
def _fits(layer, f, hw, room):
    """Whether the tiles fit their buffers."""
    tile_o = f[PSUM, N] * f[PSUM, K] * f[PSUM, P] * f[PSUM, Q] * f[PSUM, G]
    tile_w = f[WEIGHT, K] * f[WEIGHT, C] * f[WEIGHT, R] * f[WEIGHT, S] * f[WEIGHT, G]
    tile_w *= f[PSUM, K] * f[PSUM, C] * f[PSUM, R] * f[PSUM, S] * f[PSUM, G]
    if tile_o > hw[CAP_O] or tile_w > hw[CAP_W]:
        return False
    pe = room[0]
    for d in range(DIMS):
        pe[d] = f[IFMAP, d] * f[WEIGHT, d] * f[PSUM, d]
    if _input_words(layer, pe[N], pe[C], pe[P], pe[Q], pe[R], pe[S], pe[G]) > hw[CAP_I]:
        return False
    for d in range(DIMS):
        pe[d] *= f[COLUMN, d] * f[ROW, d] * f[GLB, d]
    words = _input_words(layer, pe[N], pe[C], pe[P], pe[Q], pe[R], pe[S], pe[G])
    return words + pe[N] * pe[K] * pe[P] * pe[Q] * pe[G] <= hw[CAP_G]


@inner(error_model="numpy")
def _is_possible(layer, f, hw, room):
    """Whether a mapping has a cost at all: it fits the array and the buffers."""
    x = f[COLUMN, 0] * f[COLUMN, 1] * f[COLUMN, 2] * f[COLUMN, 3]
    x *= f[COLUMN, 4] * f[COLUMN, 5] * f[COLUMN, 6] * f[COLUMN, 7]
    y = f[ROW, 0] * f[ROW, 1] * f[ROW, 2] * f[ROW, 3] * f[ROW, 4] * f[ROW, 5] * f[ROW, 6] * f[ROW, 7]
    return x <= hw[MESH_X] and y <= hw[MESH_Y] and _fits(layer, f, hw, room)


@inner(error_model="numpy")
def _construct(layer, bounds, primes, f, hw, template, room):
    """Fill the scratchpads, then the global buffer, dim by dim as far as they go; the rest is main memory's."""
    for d in range(DIMS):
        f[GLB, d] = 1
        f[IFMAP, d] = 1
        f[WEIGHT, d] = 1
        f[PSUM, d] = 1
        f[DRAM, d] = bounds[d] // (f[COLUMN, d] * f[ROW, d])
    if not _fits(layer, f, hw, room):
        return False
    for j in range(DIMS):
        d = TEMPLATES[template, 0, j]
        for i in range(primes.shape[1]):
            q = primes[d, i]
            if q == 0:
                break
            while f[DRAM, d] % q == 0:
                placed = False
                for place in range(PSUM, IFMAP - 1, -1):
                    if place == PSUM and (d == C or d == R or d == S):
                        continue
                    f[place, d] *= q
                    f[DRAM, d] //= q
                    if _fits(layer, f, hw, room):
                        placed = True
                        break
                    f[place, d] //= q
                    f[DRAM, d] *= q
                if not placed:
                    break
    for j in range(DIMS):
        d = TEMPLATES[template, 1, j]
        for i in range(primes.shape[1]):
            q = primes[d, i]
            if q == 0:
                break
            while f[DRAM, d] % q == 0:
                f[GLB, d] *= q
                f[DRAM, d] //= q
                if not _fits(layer, f, hw, room):
                    f[GLB, d] //= q
                    f[DRAM, d] *= q
                    break
    return True


@inner(error_model="numpy")
def _turning(f, place):
    """The dims that turn at a place, one bit each."""
    bits = 0
    for d in range(DIMS):
        if f[place, d] > 1:
            bits |= 1 << d
    return bits


@inner(error_model="numpy", inline="always")
def _tune_orders(layer, f, o, hw, objective, room, out, best):
    """Improve the loop orders one level at a time until none helps."""
    improved = True
    while improved:
        improved = False
        for slot in range(3):
            kept = o[slot]
            same = SAME_ORDERS[_turning(f, slot if slot < 2 else IFMAP)]
            alike = same[kept]
            for order in range(0, 8 if slot < 2 else 4, 1 if slot < 2 else 2):
                # An order that is another one here costs the same, which is no improvement.
                if order == kept or same[order] != order or order == alike:
                    continue
                o[slot] = order
                value = cost(layer, f, o, hw, objective, best, room, out)
                if value < best * (1.0 - 1e-12):
                    best, kept, improved = value, order, True
            o[slot] = kept
    return best


@inner(error_model="numpy", inline="always")
def _shift(layer, primes, f, o, hw, objective, room, out, best):
    """One sweep over all moves of a prime factor from one place to another, taking every improvement."""
    for d in range(DIMS):
        for i in range(primes.shape[1]):
            q = primes[d, i]
            if q == 0:
                break
            for a in range(PLACES):
                for b in range(PLACES):
                    if a == b or f[a, d] % q != 0:
                        continue
                    f[a, d] //= q
                    f[b, d] *= q
                    value = cost(layer, f, o, hw, objective, best, room, out)
                    if value < best * (1.0 - 1e-12):
                        best = value
                    else:
                        f[a, d] *= q
                        f[b, d] //= q
    return best


@inner(error_model="numpy", inline="always")
def _exchange(layer, primes, f, o, hw, objective, room, out, best, every):
    """One sweep over pairs of moves in opposite directions between two places, taking every improvement: the pairs
    whose first move alone does not fit, which single moves cannot reach, or every pair."""
    for d in range(DIMS):
        for i in range(primes.shape[1]):
            q = primes[d, i]
            if q == 0:
                break
            for a in range(PLACES):
                for b in range(PLACES):
                    if a == b or f[a, d] % q != 0:
                        continue
                    f[a, d] //= q
                    f[b, d] *= q
                    kept = False
                    if not every and _is_possible(layer, f, hw, room):
                        f[a, d] *= q
                        f[b, d] //= q
                        continue
                    for e in range(DIMS):
                        for j in range(primes.shape[1]):
                            r = primes[e, j]
                            if r == 0:
                                break
                            if (e == d and r == q) or f[b, e] % r != 0:
                                continue
                            f[b, e] //= r
                            f[a, e] *= r
                            value = cost(layer, f, o, hw, objective, best, room, out)
                            if value < best * (1.0 - 1e-12):
                                best, kept = value, True
                                break
                            f[b, e] *= r
                            f[a, e] //= r
                        if kept:
                            break
                    if not kept:
                        f[a, d] *= q
                        f[b, d] //= q
    return best


@inner(error_model="numpy", inline="always")
def _shift_and_reorder(layer, primes, f, o, hw, objective, room, out, best):
    """One sweep over single moves in time, each together with any other order of one of the two outer levels."""
    for d in range(DIMS):
        for i in range(primes.shape[1]):
            q = primes[d, i]
            if q == 0:
                break
            for a in range(PLACES):
                for b in range(PLACES):
                    if a == b or f[a, d] % q != 0:
                        continue
                    f[a, d] //= q
                    f[b, d] *= q
                    kept = False
                    if _is_possible(layer, f, hw, room):
                        for j in range(2 * len(ORDERS)):
                            slot, order = j // len(ORDERS), j % len(ORDERS)
                            if SAME_ORDERS[_turning(f, slot), order] != order:
                                continue
                            before = o[slot]
                            o[slot] = order
                            value = cost(layer, f, o, hw, objective, best, room, out)
                            if value < best * (1.0 - 1e-12):
                                best, kept = value, True
                            else:
                                o[slot] = before
                    if not kept:
                        f[a, d] *= q
                        f[b, d] //= q
    return best


@inner(error_model="numpy")
def _copy(f, o, from_f, from_o):
    """Make a mapping another one. Loops, because assignments to slices take seconds to compile."""
    for place in range(PLACES):
        for d in range(DIMS):
            f[place, d] = from_f[place, d]
    for slot in range(4):
        o[slot] = from_o[slot]


@inner(error_model="numpy")
def _equal(f, o, other_f, other_o):
    """Whether two mappings are the same."""
    for slot in range(4):
        if o[slot] != other_o[slot]:
            return False
    for place in range(PLACES):
        for d in range(DIMS):
            if f[place, d] != other_f[place, d]:
                return False
    return True


@inner(error_model="numpy")
def _digest(f, o):
    """A number of a mapping, equal for equal ones: in the manner of Fowler, Noll and Vo's hash FNV-1a, word by word."""
    number = 1469598103934665603
    for place in range(PLACES):
        for d in range(DIMS):
            number = (number ^ f[place, d]) * 1099511628211
    for slot in range(4):
        number = (number ^ o[slot]) * 1099511628211
    return number


@inner(error_model="numpy", inline="always")
def _descend(layer, primes, f, o, hw, objective, room, out, best, phase, digests, seen_f, seen_o, ends, known, end):
    """Local search to a mapping that no move improves: single moves and orders; from phase 1 on pairs of moves; in
    phase 2 all pairs, and single moves together with another order.

    Where a step begins at a mapping from which an earlier descent of the phase went on, the end is that one's: returns its
    number (else ``end``), the objective and how many steps are known. ``digests``, ``seen_f``, ``seen_o`` and ``ends`` hold
    the mappings at which steps began and where these descents ended.
    """
    # What comes from the phase before has no single move left.
    fresh = phase == 0
    while True:
        digest = _digest(f, o)
        for s in range(known):
            if digests[s] == digest and ends[s] != end and _equal(seen_f[s], seen_o[s], f, o):
                return ends[s], best, known
        if known < len(digests):
            digests[known], ends[known] = digest, end
            _copy(seen_f[known], seen_o[known], f, o)
            known += 1
        before = best
        if fresh:
            best = _shift(layer, primes, f, o, hw, objective, room, out, best)
            best = _tune_orders(layer, f, o, hw, objective, room, out, best)
            if best < before:
                continue
        fresh = True
        if phase >= 1:
            best = _exchange(layer, primes, f, o, hw, objective, room, out, best, phase == 2)
            if best < before:
                continue
        if phase == 2:
            best = _shift_and_reorder(layer, primes, f, o, hw, objective, room, out, best)
            if best < before:
                continue
        return end, best, known


@inner(error_model="numpy")
def _rank(order, count, value):
    """Sort the first ``count`` entries of ``order`` by their value, equal ones in the order they come."""
    for i in range(1, count):
        entry = order[i]
        j = i
        while j > 0 and value[order[j - 1]] > value[entry]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = entry


@inner(arrays=True, error_model="numpy")
def _fill_in(layer, bounds, primes, option, hw, objective, room, out, f, o, trial):
    """The best filled-in mapping of one spatial option into ``f`` and ``o``; returns its objective."""
    best = np.inf
    orders = np.zeros(4, np.int64)
    for template in range(len(TEMPLATES)):
        for d in range(DIMS):
            trial[COLUMN, d] = option[0, d]
            trial[ROW, d] = option[1, d]
        if _construct(layer, bounds, primes, trial, hw, template, room):
            orders[0] = TEMPLATES[template, 2, 0]
            orders[1] = orders[0]
            orders[2] = TEMPLATES[template, 2, 1]
            orders[3] = 2
            value = cost(layer, trial, orders, hw, objective, best, room, out)
            if value < best:
                best = value
                _copy(f, o, trial, orders)
    if best < np.inf:
        best = _tune_orders(layer, f, o, hw, objective, room, out, best)
    return best


@inner(arrays=True, error_model="numpy")
def search(layer, options, hw, objective, starts, finals, best_f, best_o):
    """Best mapping of a layer on a hardware; returns its objective, infinite where nothing fits.

    ``options (n, 2, 8)`` are the spatial factors to start from. Each is filled in by templates; local search by single
    moves improves the ``starts`` best of them, by pairs of moves the ``finals`` best of those, and by everything the best
    quarter of these (at least one). No randomness: ties keep the earlier one.
    """
    bounds = layer[:DIMS]
    primes = np.zeros((DIMS, 10), np.int64)
    primes_of(bounds, primes)
    out = np.empty(2)
    room = np.empty((2, DIMS), np.int64)
    trial = np.ones((PLACES, DIMS), np.int64)
    # One more than there are options: a single element in use, for buffers too small for all of them.
    count = len(options) + 1
    single = np.ones((2, DIMS), np.int64)
    f = np.ones((count, PLACES, DIMS), np.int64)
    o = np.zeros((count, 4), np.int64)
    value = np.empty(count)
    order = np.empty(count, np.int64)
    digests, ends = np.empty(STEPS, np.int64), np.empty(STEPS, np.int64)
    seen_f, seen_o = np.empty((STEPS, PLACES, DIMS), np.int64), np.empty((STEPS, 4), np.int64)
    fits = False
    for i in range(count):
        order[i] = i
        value[i] = np.inf
        if i < count - 1 or not fits:
            option = options[i] if i < count - 1 else single
            value[i] = _fill_in(layer, bounds, primes, option, hw, objective, room, out, f[i], o[i], trial)
            fits = fits or value[i] < np.inf
    tried = count
    for phase in range(3):
        _rank(order, tried, value)
        tried = min(tried, starts if phase == 0 else (finals if phase == 1 else max(1, finals // 4)))
        known = 0
        for k in range(tried):
            i = order[k]
            if value[i] < np.inf:
                end, reached, known = _descend(
                    layer, primes, f[i], o[i], hw, objective, room, out, value[i], phase,
                    digests, seen_f, seen_o, ends, known, i,
                )  # fmt: skip
                value[i] = value[end] if end != i else reached
                if end != i:
                    _copy(f[i], o[i], f[end], o[end])
    winner = order[0]
    for k in range(1, tried):
        if value[order[k]] < value[winner]:
            winner = order[k]
    _copy(best_f, best_o, f[winner], o[winner])
    return value[winner]


@kernel(error_model="numpy")
def search_rows(
    first, last, layers, options, option_starts, hardware, layer_of, options_of, hardware_of, objective, starts, finals,
    f, o, best,
):  # fmt: skip
    """Search rows ``first..last-1``, each a layer on a hardware: ``f (n, 7, 8)``, ``o (n, 4)`` and ``best (n,)``.

    ``options`` holds the spatial options of all sets one after the other, set ``i`` from ``option_starts[i]`` on."""
    for row in range(first, last):
        chosen = options_of[row]
        best[row] = search(
            layers[layer_of[row]],
            options[option_starts[chosen] : option_starts[chosen + 1]],
            hardware[hardware_of[row]],
            objective,
            starts,
            finals,
            f[row],
            o[row],
        )


# --- spatial options ---------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _axis_options(bounds, limit, store):
    """Factors of at most two dims with a product within ``limit`` into ``store (m, 8)``; returns how many."""
    at = 0
    for d in range(DIMS):
        store[at, d] = 1
    at = 1
    for d in range(DIMS):
        for v in range(2, min(bounds[d], limit) + 1):
            if bounds[d] % v != 0:
                continue
            if at < len(store):
                for k in range(DIMS):
                    store[at, k] = 1
                store[at, d] = v
                at += 1
            for e in range(d + 1, DIMS):
                for w in range(2, min(bounds[e], limit // v) + 1):
                    if bounds[e] % w == 0 and at < len(store):
                        for k in range(DIMS):
                            store[at, k] = 1
                        store[at, d] = v
                        store[at, e] = w
                        at += 1
    return at


@inner(arrays=True, error_model="numpy")
def spatial_options(bounds, mesh_x, mesh_y, most, least_share):
    """The most useful spatial factors of a layer on a mesh: ``(n, 2, 8)``, n at most ``most``.

    For every choice of dims on the columns and on the rows, the factors that use the most elements (the first of equal
    ones); those that reach ``least_share`` of the best use, the best first.
    """
    xs = np.ones((4096, DIMS), np.int64)
    ys = np.ones((4096, DIMS), np.int64)
    nx = _axis_options(bounds, mesh_x, xs)
    ny = _axis_options(bounds, mesh_y, ys)
    # A signature is the set of dims on X and the set on Y, 8 bits each.
    best = np.zeros(65536, np.int64)
    who = np.empty((65536, 2), np.int64)
    seen = np.empty(65536, np.int64)
    signatures, top = 0, 0
    bits_y = np.zeros(ny, np.int64)
    use_y = np.ones(ny, np.int64)
    for j in range(ny):
        for d in range(DIMS):
            use_y[j] *= ys[j, d]
            if ys[j, d] > 1:
                bits_y[j] |= 256 << d
    for i in range(nx):
        use_x, bits_x = 1, 0
        for d in range(DIMS):
            use_x *= xs[i, d]
            if xs[i, d] > 1:
                bits_x |= 1 << d
        for j in range(ny):
            use, bits = use_x * use_y[j], bits_x | bits_y[j]
            if use <= best[bits]:
                continue
            good = True
            for d in range(DIMS):
                # Only a dim on both axes can fail to divide.
                if xs[i, d] > 1 and ys[j, d] > 1 and bounds[d] % (xs[i, d] * ys[j, d]) != 0:
                    good = False
                    break
            if good:
                if best[bits] == 0:
                    seen[signatures] = bits
                    signatures += 1
                best[bits] = use
                who[bits, 0] = i
                who[bits, 1] = j
                top = max(top, use)
    # Most elements in use first, then by signature.
    rank = np.empty(65536, np.int64)
    for k in range(signatures):
        rank[seen[k]] = -best[seen[k]] * 65536 + seen[k]
    order = seen[:signatures]
    _rank(order, signatures, rank)
    count = 0
    while count < min(most, signatures) and best[order[count]] >= least_share * top:
        count += 1
    result = np.ones((count, 2, DIMS), np.int64)
    for k in range(count):
        for d in range(DIMS):
            result[k, 0, d] = xs[who[order[k], 0], d]
            result[k, 1, d] = ys[who[order[k], 1], d]
    return result


@inner(arrays=True, error_model="numpy")
def rank_options(layer, options, samples, objective, most):
    """The ``most`` spatial options that do best on the hardware of ``samples (s, 35)``, filled in but not improved: the
    best for each sample, then the second best for each, and so on. ``objective`` is EDP; as an argument, not as a constant, for
    which all below would be compiled once more."""
    bounds = layer[:DIMS]
    primes = np.zeros((DIMS, 10), np.int64)
    primes_of(bounds, primes)
    out = np.empty(2)
    room = np.empty((2, DIMS), np.int64)
    trial = np.ones((PLACES, DIMS), np.int64)
    f = np.ones((PLACES, DIMS), np.int64)
    o = np.zeros(4, np.int64)
    count = len(options)
    ranks = np.empty((len(samples), count), np.int64)
    value = np.empty(count)
    for s in range(len(samples)):
        for i in range(count):
            value[i] = _fill_in(layer, bounds, primes, options[i], samples[s], objective, room, out, f, o, trial)
            ranks[s, i] = i
        _rank(ranks[s], count, value)
    taken = np.zeros(count, np.bool_)
    result = np.empty((min(most, count), 2, DIMS), np.int64)
    at = 0
    for k in range(count):
        for s in range(len(samples)):
            i = ranks[s, k]
            if not taken[i] and at < len(result):
                taken[i] = True
                for axis in range(2):
                    for d in range(DIMS):
                        result[at, axis, d] = options[i, axis, d]
                at += 1
    return result


@kernel(error_model="numpy")
def option_sets(first, last, layers, keys, samples, objective, widest, least_share, most, sets, sizes):
    """Ranked spatial options for keys ``first..last-1`` (layer, columns, rows) into ``sets (k, most, 2, 8)`` and
    ``sizes (k,)``."""
    for j in range(first, last):
        layer = layers[keys[j, 0]]
        local = samples.copy()
        local[:, MESH_X] = keys[j, 1]
        local[:, MESH_Y] = keys[j, 2]
        options = spatial_options(layer[:DIMS], keys[j, 1], keys[j, 2], widest, least_share)
        ranked = rank_options(layer, options, local, objective, most)
        sizes[j] = len(ranked)
        for k in range(len(ranked)):  # a loop, because assignments to slices take seconds to compile
            for axis in range(2):
                for d in range(DIMS):
                    sets[j, k, axis, d] = ranked[k, axis, d]
