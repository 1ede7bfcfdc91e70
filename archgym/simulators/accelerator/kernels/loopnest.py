"""Compiled core of the loop-nest model; see :mod:`archgym.simulators.accelerator.loopnest` for the words.

Everything is integer arithmetic on one nest at a time; :func:`evaluate_rows` runs many nests.

A nest is held as ``nest (7, M)``, its loops outermost first and without trip counts of 1: rows ``T_DIM, T_COUNT,
T_STEP`` are the loops in time, ``S_DIM, S_COUNT, S_STEP, S_AXIS`` those in space (axis 1 = X, 2 = Y). Level ``b`` has
the loops ``starts[0, b] .. starts[0, b + 1] - 1`` in time and, inside them, ``starts[1, b] .. starts[1, b + 1] - 1`` in
space.

The projections of T tensors on D dims: ``info (T, 3)`` has kind, number of windows (of axes for general tensors) and
whether the tensor is read and written; ``role (T, D)`` says what a dim does to a tensor: -2 nothing, -1 it has an axis
of its own, w >= 0 it moves window w together with other dims; ``weight (T, D)`` is its coefficient there; ``coef (T, A,
D)`` is the whole projection, for general tensors and the ideal rule.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel

CURRENT, PRE297, IDEAL = 0, 1, 2
"""Rules for words that stay in a sliding tile: Timeloop after and before its pull request 297, and ideal reuse."""

SIMPLE, WINDOW, GENERAL = 0, 1, 2
"""Kinds of tensors: every dim has its own axis; some share one; some dim moves several axes."""

T_DIM, T_COUNT, T_STEP, S_DIM, S_COUNT, S_STEP, S_AXIS = 0, 1, 2, 3, 4, 5, 6

TILE, FILLS, READS, UPDATES, ORIGINS, PART = 0, 1, 2, 3, 4, 5
"""Rows of ``counts (6, L, T)``."""

OK, BAD_FACTOR, BAD_BOUND, FANOUT_X, FANOUT_Y, CAPACITY = 0, 1, 2, 3, 4, 5
"""Verdicts."""

MAX_LOOPS = 64
BLOCK_ROWS = 512


class Layers(NamedTuple):
    """Y problems of T tensors on D dims: one ``info (T, 3)`` and ``role (T, D)``, and each one's ``bounds (Y, D)``,
    ``weights (Y, T, D)`` and ``coefs (Y, T, A, D)``."""

    bounds: NDArray[np.int64]
    info: NDArray[np.int64]
    role: NDArray[np.int64]
    weights: NDArray[np.int64]
    coefs: NDArray[np.int64]


class Hardware(NamedTuple):
    """H architectures of L levels, see :meth:`~archgym.simulators.accelerator.loopnest.Architecture.arrays`."""

    capacity: NDArray[np.int64]
    """Words of an instance, ``(H, L)``; -1 unlimited."""
    mesh: NDArray[np.int64]
    """Instances along X and Y, the MAC last, ``(H, L + 1, 2)``."""
    bandwidth: NDArray[np.float64]
    """Words a cycle and instance: reads, writes, both together, ``(H, L, 3)``."""
    block: NDArray[np.int64]
    """Words of an access, ``(H, L)``."""
    payers: NDArray[np.int64]
    """Instances, or clusters of them, that pay for an access at most, ``(H, L)``."""
    energies: NDArray[np.float64]
    """pJ of a read, a write and an update, ``(H, L, 3)``."""
    leak: NDArray[np.float64]
    """pJ a cycle and instance, ``(H, L)``."""
    compute_pj: NDArray[np.float64]
    """pJ of a multiply-accumulate, ``(H,)``."""


class Loops(NamedTuple):
    """Loops of n mappings, ``(n, M)`` each: entries with a trip count of 1 are empty, levels do not decrease along a
    row, and within a level loops in time come before those in space."""

    dim: NDArray[Any]
    trips: NDArray[Any]
    level: NDArray[Any]
    axis: NDArray[Any]


class Which(NamedTuple):
    """For each of n rows the index of its layer, its keep set and its hardware."""

    layer: NDArray[np.int64]
    keep: NDArray[np.int64]
    hardware: NDArray[np.int64]


class Out(NamedTuple):
    """What is written for each of n rows; NaN (cycles 0) where the verdict is not OK."""

    energy_pj: NDArray[np.float64]
    cycles: NDArray[np.int64]
    verdict: NDArray[np.int64]
    place: NDArray[np.int64]
    utilization: NDArray[np.float64]


@inner(error_model="numpy")
def _ideal_fill(t, coef, axes, size, words, last, nest, moved):
    """Fills when every step costs exactly what the tile visited before it did not hold."""
    for a in range(axes):
        moved[a] = 0
    extra = 0
    for i in range(last - 1, -1, -1):
        kept = 1
        for a in range(axes):
            # The translation of a step: this loop goes on while all loops inside it return to their start.
            kept *= max(0, size[a] - abs(coef[t, a, nest[T_DIM, i]] * nest[T_STEP, i] - moved[a]))
        extra = nest[T_COUNT, i] * extra + (nest[T_COUNT, i] - 1) * (words - kept)
        for a in range(axes):
            moved[a] += (nest[T_COUNT, i] - 1) * coef[t, a, nest[T_DIM, i]] * nest[T_STEP, i]
    return words + extra


@inner(error_model="numpy")
def _general_fill(t, coef, axes, size, words, last, nest, rule, moved, first, jump):
    """Fills under Timeloop's rules with whole translation vectors."""
    total, delta = words, words
    found, stalled = False, False
    for i in range(last - 1, -1, -1):
        d, n = nest[T_DIM, i], nest[T_COUNT, i]
        if not found:
            for a in range(axes):
                first[a] = coef[t, a, d] * nest[T_STEP, i]
                if first[a] != 0:
                    found = True
            if not found:
                stalled = True
                continue
            kept = 1
            for a in range(axes):
                kept *= max(0, size[a] - first[a])
                moved[a] = first[a]
            delta = words if (rule == PRE297 and stalled) else words - kept
            total = words + (n - 1) * delta
        else:
            same, zero = True, True
            for a in range(axes):
                jump[a] = coef[t, a, d] * nest[T_STEP, i]
                tau = jump[a] - moved[a]
                same = same and tau == first[a]
                zero = zero and tau == 0
            if same and not (rule == PRE297 and stalled):
                total += (n - 1) * (total - words + delta)
            elif zero and not (rule == PRE297 and not stalled):
                total += (n - 1) * (total - words)
            else:
                total *= n
            for a in range(axes):
                moved[a] += jump[a]
    return total


@inner(error_model="numpy")
def _window_fill(t, role, weight, size, words, last, inner, nest, prefix, rule):
    """Fills of a tile that slides. ``inner`` is the innermost loop that moves it, ``prefix[i]`` the product of the trip
    counts of loops ``0..i``. Every dim moves one axis, so a jump can repeat or undo the sliding step only while all
    loops between lie on the sliding axis; further out everything multiplies."""
    d = nest[T_DIM, inner]
    stalled = inner < last - 1
    along = role[t, d]
    first = weight[t, d] * nest[T_STEP, inner]
    delta = words
    if along >= 0 and size[along] > first and not (rule == PRE297 and stalled):
        delta = np.int64(words / size[along]) * first
    total = words + (nest[T_COUNT, inner] - 1) * delta
    if along < 0:
        return total * (prefix[inner - 1] if inner > 0 else 1)
    reach = first
    i = inner - 1
    while i >= 0:
        d, n = nest[T_DIM, i], nest[T_COUNT, i]
        if role[t, d] == along:
            jump = weight[t, d] * nest[T_STEP, i]
            if jump == reach + first and not (rule == PRE297 and stalled):
                total += (n - 1) * (total - words + delta)
            elif jump == reach and not (rule == PRE297 and not stalled):
                total += (n - 1) * (total - words)
            else:
                total *= n
            reach += jump
        elif role[t, d] == -2:
            total *= n
        else:
            return total * prefix[i]
        i -= 1
    return total


@inner(arrays=True, error_model="numpy")
def _enumerate_origins(t, coef, axes, lo, hi, nest):
    """Distinct origins by listing every spatial position; for projections the closed forms do not cover."""
    positions = 1
    span = np.zeros(axes, np.int64)
    for i in range(lo, hi):
        positions *= nest[S_COUNT, i]
        for a in range(axes):
            span[a] += (nest[S_COUNT, i] - 1) * coef[t, a, nest[S_DIM, i]] * nest[S_STEP, i]
    keys = np.empty(positions, np.int64)
    for position in range(positions):
        rest, key = position, 0
        for i in range(lo, hi):
            at = rest % nest[S_COUNT, i]
            rest //= nest[S_COUNT, i]
            radix = 1
            for a in range(axes):
                key += at * coef[t, a, nest[S_DIM, i]] * nest[S_STEP, i] * radix
                radix *= span[a] + 1
        keys[position] = key
    keys.sort()
    distinct = 1
    for position in range(1, positions):
        if keys[position] != keys[position - 1]:
            distinct += 1
    return distinct


@inner(error_model="numpy")
def _window_origins(t, windows, role, weight, coef, lo, hi, nest):
    """Distinct origins of a sliding tile over the spatial positions of one level."""
    product = 1
    for i in range(lo, hi):
        if role[t, nest[S_DIM, i]] == -1:
            product *= nest[S_COUNT, i]
    for w in range(windows):
        # Up to two generators {0, v, ..., (n-1) v} have a closed form; loops that continue each other merge to one.
        v1, n1, v2, n2 = 0, 1, 0, 1
        for i in range(hi - 1, lo - 1, -1):
            if role[t, nest[S_DIM, i]] != w:
                continue
            v, n = weight[t, nest[S_DIM, i]] * nest[S_STEP, i], nest[S_COUNT, i]
            if n1 == 1:
                v1, n1 = v, n
            elif v == v1 * n1:
                n1 *= n
            elif n2 == 1:
                v2, n2 = v, n
            elif v == v2 * n2:
                n2 *= n
            else:
                return _enumerate_origins(t, coef, coef.shape[1], lo, hi, nest)
        if n2 == 1:
            product *= n1
        else:
            g = math.gcd(v1, v2)
            product *= n1 * n2 - max(0, n1 - v2 // g) * max(0, n2 - v1 // g)
    return product


@inner(error_model="numpy")
def _axis_sizes(t, coef, reach, size):
    """Size of the tile along each axis of the whole projection; returns the product."""
    words = 1
    for a in range(coef.shape[1]):
        size[a] = 1
        for d in range(coef.shape[2]):
            size[a] += coef[t, a, d] * (reach[d] - 1)
        words *= size[a]
    return words


@kernel(error_model="numpy")
def count_nest(info, role, weight, coef, keep, nest, starts, rule, elide_fills, counts, instances, reach, work, sizes):
    """Tile sizes and per-instance access counts of one nest; returns the product of the temporal trip counts.

    ``elide_fills``: the first fill of an output word is not counted (it has no value yet). Outputs, all int64:
    ``counts (6, L, T)``, ``instances (L,)``, ``reach (D,)``, the extents of the whole. Work space: ``work (5, max(M, A,
    D) + T)``, ``sizes (L, T, A)``.
    """
    levels, tensors = keep.shape
    dims = role.shape[1]
    # From the inside out: steps of the loops and tile sizes. work[0, t] is the product of the axes with one dim.
    for d in range(dims):
        reach[d] = 1
    for t in range(tensors):
        work[0, t] = 1
        for w in range(info[t, 1]):
            sizes[levels - 1, t, w] = 1
    for b in range(levels - 1, -1, -1):
        for t in range(tensors):
            counts[ORIGINS, b, t] = 1
            if b < levels - 1:
                for w in range(info[t, 1]):
                    sizes[b, t, w] = sizes[b + 1, t, w]
        for i in range(starts[1, b + 1] - 1, starts[1, b] - 1, -1):
            d, n = nest[S_DIM, i], nest[S_COUNT, i]
            step = reach[d]
            nest[S_STEP, i] = step
            reach[d] = step * n
            for t in range(tensors):
                factor = n if role[t, d] == -1 else 1
                work[0, t] *= factor
                counts[ORIGINS, b, t] *= factor
                if info[t, 1] > 0:
                    grows = role[t, d] >= 0
                    sizes[b, t, role[t, d] if grows else 0] += weight[t, d] * (n - 1) * step if grows else 0
        if starts[1, b] < starts[1, b + 1]:
            for t in range(tensors):
                if info[t, 0] == WINDOW:
                    counts[ORIGINS, b, t] = _window_origins(
                        t, info[t, 1], role, weight, coef, starts[1, b], starts[1, b + 1], nest
                    )
                elif info[t, 0] == GENERAL:
                    counts[ORIGINS, b, t] = _enumerate_origins(
                        t, coef, coef.shape[1], starts[1, b], starts[1, b + 1], nest
                    )
        for t in range(tensors):
            # All tiles of the next level side by side, for the shares of outputs.
            if info[t, 2] != 0 and info[t, 0] != SIMPLE:
                if info[t, 0] == GENERAL:
                    union = _axis_sizes(t, coef, reach, work[1])
                else:
                    union = work[0, t]
                    for w in range(info[t, 1]):
                        union *= sizes[b, t, w]
                counts[PART, b, t] = union
        for i in range(starts[0, b + 1] - 1, starts[0, b] - 1, -1):
            d, n = nest[T_DIM, i], nest[T_COUNT, i]
            step = reach[d]
            nest[T_STEP, i] = step
            reach[d] = step * n
            for t in range(tensors):
                work[0, t] *= n if role[t, d] == -1 else 1
                if info[t, 1] > 0:
                    grows = role[t, d] >= 0
                    sizes[b, t, role[t, d] if grows else 0] += weight[t, d] * (n - 1) * step if grows else 0
        for t in range(tensors):
            if info[t, 0] == GENERAL:
                words = _axis_sizes(t, coef, reach, sizes[b, t])
            else:
                words = work[0, t]
                for w in range(info[t, 1]):
                    words *= sizes[b, t, w]
            counts[TILE, b, t] = words
    prefix = work[1]
    compute = 1
    for i in range(starts[0, levels]):
        compute *= nest[T_COUNT, i]
        prefix[i] = compute
    spread = 1
    for b in range(levels):
        instances[b] = spread
        for i in range(starts[1, b], starts[1, b + 1]):
            spread *= nest[S_COUNT, i]
    for t in range(tensors):
        # From the outside in: what a kept level delivers is what the next kept level below it is filled with.
        parent, path, inner, share, union, passes = -1, 1, -1, 0, 1, 1
        for b in range(levels):
            words = counts[TILE, b, t]
            last = starts[0, b]
            counts[FILLS, b, t] = 0
            counts[READS, b, t] = 0
            counts[UPDATES, b, t] = 0
            if info[t, 2] != 0:
                # The share of the output that one instance answers for.
                if info[t, 0] == SIMPLE:
                    share = words * passes
                else:
                    share = words if b == 0 else share * words // union
                    union = counts[PART, b, t]
                counts[PART, b, t] = share
            if keep[b, t]:
                if parent >= 0:
                    if inner >= 0:
                        if info[t, 0] == SIMPLE:
                            words *= prefix[inner]
                        elif rule == IDEAL:
                            _axis_sizes_at(t, coef, nest, starts, b, work[3], work[2])
                            words = _ideal_fill(t, coef, coef.shape[1], work[2], words, last, nest, work[3])
                        elif info[t, 0] == WINDOW:
                            words = _window_fill(t, role, weight, sizes[b, t], words, last, inner, nest, prefix, rule)
                        else:
                            words = _general_fill(
                                t, coef, coef.shape[1], sizes[b, t], words, last, nest, rule, work[2], work[3], work[4]
                            )
                    if info[t, 2] != 0:
                        counts[UPDATES, parent, t] = path * words
                        counts[READS, parent, t] = path * words - counts[PART, parent, t]
                        counts[FILLS, b, t] = words - (share if elide_fills else 0)
                    else:
                        counts[READS, parent, t] = path * words
                        counts[FILLS, b, t] = words
                parent, path = b, 1
            path *= counts[ORIGINS, b, t]
            for i in range(last, starts[0, b + 1]):
                moves = role[t, nest[T_DIM, i]] != -2
                inner = i if moves else inner
                passes *= nest[T_COUNT, i] if moves else 1
        # There is no latch at the MAC: an operand is read, and a result updated, every cycle.
        if parent >= 0:
            counts[READS, parent, t] = path * compute
            if info[t, 2] != 0:
                counts[UPDATES, parent, t] = path * compute
                counts[READS, parent, t] -= counts[PART, parent, t]
    return compute


@inner(error_model="numpy")
def _axis_sizes_at(t, coef, nest, starts, b, extent, size):
    """Sizes of the tile of level ``b`` along every axis of the whole projection."""
    for d in range(coef.shape[2]):
        extent[d] = 1
    for i in range(starts[0, b], starts[0, starts.shape[1] - 1]):
        extent[nest[T_DIM, i]] *= nest[T_COUNT, i]
    for i in range(starts[1, b], starts[1, starts.shape[1] - 1]):
        extent[nest[S_DIM, i]] *= nest[S_COUNT, i]
    _axis_sizes(t, coef, extent, size)


@kernel(error_model="numpy")
def check_nest(bounds, y, keep, nest, starts, reach, counts, capacity, mesh):
    """First broken rule of a counted nest: ``(verdict, level or dim, margin)``; the margin is the excess.

    ``bounds[y] (D,)``; ``capacity (L,)`` words, -1 unlimited; ``mesh (L + 1, 2)`` physical instances, the MAC last.
    """
    levels, tensors = keep.shape
    for d in range(bounds.shape[1]):
        if reach[d] < bounds[y, d]:
            return BAD_BOUND, d, bounds[y, d] - reach[d]
    for b in range(levels):
        x, y = 1, 1
        for i in range(starts[1, b], starts[1, b + 1]):
            if nest[S_AXIS, i] == 1:
                x *= nest[S_COUNT, i]
            else:
                y *= nest[S_COUNT, i]
        # The fan-out is the ratio of the meshes.
        if x > 1 and x * mesh[b, 0] > mesh[b + 1, 0]:
            return FANOUT_X, b, x - mesh[b + 1, 0] // mesh[b, 0]
        if y > 1 and y * mesh[b, 1] > mesh[b + 1, 1]:
            return FANOUT_Y, b, y - mesh[b + 1, 1] // mesh[b, 1]
    for b in range(levels):
        if capacity[b] >= 0:
            used = 0
            for t in range(tensors):
                if keep[b, t]:
                    used += counts[TILE, b, t]
            if used > capacity[b]:
                return CAPACITY, b, used - capacity[b]
    return OK, 0, 0


@kernel(error_model="numpy")
def cycles_of(compute, keep, counts, bandwidth, cycles):
    """Cycles of every level into ``cycles (L,)``, and of the whole: bandwidth ``(L, 3)`` holds words a cycle and
    instance for reads, writes and both together, infinite where there is no limit."""
    levels, tensors = keep.shape
    slowest = compute
    for b in range(levels):
        cycles[b] = compute
        if math.isinf(bandwidth[b, 0]) and math.isinf(bandwidth[b, 1]) and math.isinf(bandwidth[b, 2]):
            continue
        # Tensor by tensor before adding: the order of rounding decides where the quotient is a whole number.
        read, write = 0.0, 0.0
        for t in range(tensors):
            if keep[b, t]:
                read += counts[READS, b, t] / compute
                write += (counts[FILLS, b, t] + counts[UPDATES, b, t]) / compute
        slow = 1.0
        if read > 0.0:
            slow = min(slow, bandwidth[b, 0] / read)
        if write > 0.0:
            slow = min(slow, bandwidth[b, 1] / write)
        if read + write > 0.0:
            slow = min(slow, bandwidth[b, 2] / (read + write))
        if slow < 1.0:
            cycles[b] = math.ceil(compute / slow)
            slowest = max(slowest, cycles[b])
    return slowest


@inner(error_model="numpy")
def _blocks(words, block):
    # Counts are below 2**53, so that the quotient is exact where it is whole, and this is faster than dividing integers.
    return float(words) if block == 1 else float(math.ceil(words / block))


@kernel(error_model="numpy")
def access_energy(counts, b, t, block, most, instances, per_read, per_write, per_update):
    """Energy in pJ of the accesses to tensor ``t`` at level ``b``, all instances together: whole blocks are paid,
    rounded up once on the run of one instance; ``most`` is the most instances (or clusters) that pay."""
    return min(instances[b], most) * (
        _blocks(counts[READS, b, t], block) * per_read
        + _blocks(counts[FILLS, b, t], block) * per_write
        + _blocks(counts[UPDATES, b, t], block) * per_update
    )


@kernel(error_model="numpy")
def pack_loops(row, dim, count, level, axis, nest, starts):
    """Loops of one row of ``(n, M)`` arrays as ``nest`` and ``starts``, dropping trip counts of 1; returns the level of
    a loop with less than one trip, or -1."""
    levels = starts.shape[1] - 1
    in_time, in_space, b = 0, 0, 0
    starts[0, 0] = 0
    starts[1, 0] = 0
    for j in range(dim.shape[1]):
        n = np.int64(count[row, j])
        if n == 1:
            continue
        if n < 1:
            return np.int64(level[row, j])
        while b < level[row, j]:
            b += 1
            starts[0, b] = in_time
            starts[1, b] = in_space
        if axis[row, j] == 0:
            nest[T_DIM, in_time] = dim[row, j]
            nest[T_COUNT, in_time] = n
            in_time += 1
        else:
            nest[S_DIM, in_space] = dim[row, j]
            nest[S_COUNT, in_space] = n
            nest[S_AXIS, in_space] = axis[row, j]
            in_space += 1
    while b < levels:
        b += 1
        starts[0, b] = in_time
        starts[1, b] = in_space
    return -1


@kernel(error_model="numpy")
def evaluate_rows(first, last, layers, hardware, loops, keeps, which, rule, elide_fills, out):
    """Evaluate rows ``first..last-1``, each a mapping of a layer on a hardware, into ``out``; see the records above.

    ``keeps (K, L, T)`` are the keep sets; ``rule`` and ``elide_fills`` as in :func:`count_nest`.
    """
    width = loops.dim.shape[1]
    levels, tensors = keeps.shape[1], keeps.shape[2]
    dims, axes = layers.coefs.shape[3], layers.coefs.shape[2]
    nest = np.empty((7, width), np.int64)
    starts = np.empty((2, levels + 1), np.int64)
    counts = np.empty((6, levels, tensors), np.int64)
    sizes = np.empty((levels, tensors, axes), np.int64)
    work = np.empty((5, max(width, axes, dims) + tensors), np.int64)
    instances = np.empty(levels, np.int64)
    level_cycles = np.empty(levels, np.int64)
    reach = np.empty(dims, np.int64)
    y, k, h = which.layer[first], which.keep[first], which.hardware[first]
    weight, coef, keep = layers.weights[y], layers.coefs[y], keeps[k]
    limits, fabric, bandwidths = hardware.capacity[h], hardware.mesh[h], hardware.bandwidth[h]
    for row in range(first, last):
        if which.layer[row] != y:
            y = which.layer[row]
            weight, coef = layers.weights[y], layers.coefs[y]
        if which.keep[row] != k:
            k = which.keep[row]
            keep = keeps[k]
        if which.hardware[row] != h:
            h = which.hardware[row]
            limits, fabric, bandwidths = hardware.capacity[h], hardware.mesh[h], hardware.bandwidth[h]
        out.energy_pj[row] = np.nan
        out.cycles[row] = 0
        out.utilization[row] = np.nan
        bad = pack_loops(row, loops.dim, loops.trips, loops.level, loops.axis, nest, starts)
        if bad >= 0:
            out.verdict[row], out.place[row] = BAD_FACTOR, bad
            continue
        compute = count_nest(
            layers.info, layers.role, weight, coef, keep, nest, starts, rule, elide_fills, counts, instances, reach, work,
            sizes,
        )  # fmt: skip
        code, place, _ = check_nest(layers.bounds, y, keep, nest, starts, reach, counts, limits, fabric)
        out.verdict[row], out.place[row] = code, place
        if code != OK:
            continue
        total = cycles_of(compute, keep, counts, bandwidths, level_cycles)
        energy = 0.0
        for b in range(levels):
            for t in range(tensors):
                if keep[b, t]:
                    energy += access_energy(
                        counts, b, t, hardware.block[h, b], hardware.payers[h, b], instances,
                        hardware.energies[h, b, 0], hardware.energies[h, b, 1], hardware.energies[h, b, 2],
                    )  # fmt: skip
            energy += hardware.leak[h, b] * total * instances[b]
        padded, true = 1, 1
        for d in range(dims):
            padded *= reach[d]
            true *= layers.bounds[y, d]
        out.energy_pj[row] = energy + padded * hardware.compute_pj[h]
        out.cycles[row] = total
        out.utilization[row] = true / (float(total) * fabric[levels, 0] * fabric[levels, 1])
