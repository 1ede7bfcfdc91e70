"""Compiled core of the loop-nest model; see :mod:`archgym.simulators.accelerator.loopnest` for the words.

Everything is integer arithmetic on one nest at a time; :func:`evaluate_rows` runs many nests in parallel. A nest is a
list of loops, outermost first; loop ``i`` runs over dim ``dim[i]`` with ``count[i]`` trips below the storage of level
``level[i]``; ``axis[i]`` is 0 for a temporal loop, 1 and 2 for loops laid out in space along X and Y.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

CURRENT, PRE297, IDEAL = 0, 1, 2
"""Rules for words that stay in a sliding tile: Timeloop after and before its pull request 297, and ideal reuse."""

OK, BAD_FACTOR, BAD_BOUND, FANOUT_X, FANOUT_Y, CAPACITY = 0, 1, 2, 3, 4, 5
"""Verdicts of :func:`check_nest`."""

MAX_LOOPS = 64
BLOCK_ROWS = 256


@njit(cache=True)
def _fill_words(coef, axes, simple, extent, words, last, dim, count, axis, step, rule, shift, first, jump):
    """Words delivered to one instance of a child tile over the whole run.

    ``coef (A, D)``, ``extent (A,)`` and ``words`` describe the tile; loops ``0..last-1`` lie outside the child.
    ``shift``, ``first`` and ``jump`` are scratch of length A.
    """
    if simple:
        # One dim an axis: tiles never overlap, so only the innermost irrelevant loops are free.
        total = words
        moving = False
        for i in range(last - 1, -1, -1):
            if axis[i] == 0:
                if not moving:
                    for a in range(axes):
                        if coef[a, dim[i]] != 0:
                            moving = True
                            break
                if moving:
                    total *= count[i]
        return total
    if rule == IDEAL:
        # Every step costs what the tile before it did not hold; shift is how far the inner loops have moved.
        for a in range(axes):
            shift[a] = 0
        extra = 0
        for i in range(last - 1, -1, -1):
            if axis[i] != 0:
                continue
            kept = 1
            for a in range(axes):
                move = abs(coef[a, dim[i]] * step[i] - shift[a])
                kept *= max(0, extent[a] - move)
            extra = count[i] * extra + (count[i] - 1) * (words - kept)
            for a in range(axes):
                shift[a] += (count[i] - 1) * coef[a, dim[i]] * step[i]
        return words + extra
    total, delta = words, words
    found, stalled = False, False
    for i in range(last - 1, -1, -1):
        if axis[i] != 0:
            continue
        n = count[i]
        if not found:
            for a in range(axes):
                first[a] = coef[a, dim[i]] * step[i]
                if first[a] != 0:
                    found = True
            if not found:
                stalled = True
                continue
            kept = 1
            for a in range(axes):
                kept *= max(0, extent[a] - abs(first[a]))
                shift[a] = first[a]
            delta = words if (rule == PRE297 and stalled) else words - kept
            total = words + (n - 1) * delta
        else:
            same, zero = True, True
            for a in range(axes):
                jump[a] = coef[a, dim[i]] * step[i]
                tau = jump[a] - shift[a]
                if tau != first[a]:
                    same = False
                if tau != 0:
                    zero = False
            if same and not (rule == PRE297 and stalled):
                total += (n - 1) * (total - words + delta)
            elif zero and not (rule == PRE297 and not stalled):
                total += (n - 1) * (total - words)
            else:
                total *= n
            for a in range(axes):
                shift[a] += jump[a]
    return total


@njit(cache=True)
def _enumerate_origins(coef, axes, lo, hi, dim, count, axis, step):
    """Distinct origins by listing every spatial position; for projections the closed forms do not cover."""
    positions = 1
    span = np.zeros(axes, np.int64)
    for i in range(lo, hi):
        if axis[i] != 0:
            positions *= count[i]
            for a in range(axes):
                span[a] += (count[i] - 1) * abs(coef[a, dim[i]] * step[i])
    keys = np.empty(positions, np.int64)
    for position in range(positions):
        rest, key = position, 0
        for i in range(lo, hi):
            if axis[i] == 0:
                continue
            at = rest % count[i]
            rest //= count[i]
            radix = 1
            for a in range(axes):
                key += at * coef[a, dim[i]] * step[i] * radix
                radix *= span[a] + 1
        keys[position] = key
    keys.sort()
    distinct = 1
    for position in range(1, positions):
        if keys[position] != keys[position - 1]:
            distinct += 1
    return distinct


@njit(cache=True)
def _distinct_origins(coef, axes, simple, lo, hi, dim, count, axis, step):
    """Distinct tile origins over the spatial positions of loops ``lo..hi-1`` (one level)."""
    if simple:
        product = 1
        for i in range(lo, hi):
            if axis[i] != 0:
                for a in range(axes):
                    if coef[a, dim[i]] != 0:
                        product *= count[i]
                        break
        return product
    for i in range(lo, hi):
        if axis[i] == 0:
            continue
        uses = 0
        for a in range(axes):
            if coef[a, dim[i]] != 0:
                uses += 1
        if uses > 1:
            return _enumerate_origins(coef, axes, lo, hi, dim, count, axis, step)
    product = 1
    for a in range(axes):
        # Up to two generators {0, v, ..., (n-1) v} have a closed form; loops that continue each other merge to one.
        v1, n1, v2, n2, many = 0, 1, 0, 1, False
        for i in range(hi - 1, lo - 1, -1):
            if axis[i] == 0 or coef[a, dim[i]] == 0:
                continue
            v, n = coef[a, dim[i]] * step[i], count[i]
            if n1 == 1:
                v1, n1 = v, n
            elif v == v1 * n1:
                n1 *= n
            elif n2 == 1:
                v2, n2 = v, n
            elif v == v2 * n2:
                n2 *= n
            else:
                many = True
        if many:
            return _enumerate_origins(coef, axes, lo, hi, dim, count, axis, step)
        if n2 == 1:
            product *= n1
        else:
            g = math.gcd(v1, v2)
            product *= n1 * n2 - max(0, n1 - v2 // g) * max(0, n2 - v1 // g)
    return product


@njit(cache=True)
def count_nest(
    coef, axes, simple, read_write, keep, loops, dim, count, level, axis, rule, elide_fills,
    step, extent, sibling, scratch, tile, fills, reads, updates, origins, part, instances,
):  # fmt: skip
    """Tile sizes and per-instance access counts of one nest; returns the temporal trip counts' product.

    Inputs: ``coef (T, A, D)``, ``axes (T,)``, ``simple (T,)``, ``read_write (T,)``, ``keep (L, T)``; loops as arrays of
    which the first ``loops`` entries count, without trip counts of 1. ``elide_fills``: the first fill of an output
    word is not counted (it has no value yet). Outputs, all int64: ``tile, fills, reads, updates, origins, part
    (L, T)``, ``instances (L,)``. Scratch: ``step (loops,)``, ``extent, sibling (L + 1, D)``, ``scratch (4, A)``.
    """
    levels, tensors = keep.shape
    dims = coef.shape[2]
    for d in range(dims):
        extent[levels, d] = 1
        sibling[levels, d] = 1
    # From the inside out: steps of the loops, extents of the tiles, and of all tiles side by side below a level.
    i = loops - 1
    for b in range(levels - 1, -1, -1):
        for d in range(dims):
            extent[b, d] = extent[b + 1, d]
        while i >= 0 and level[i] == b and axis[i] != 0:
            step[i] = extent[b, dim[i]]
            extent[b, dim[i]] *= count[i]
            i -= 1
        for d in range(dims):
            sibling[b, d] = extent[b, d]
        while i >= 0 and level[i] == b:
            step[i] = extent[b, dim[i]]
            extent[b, dim[i]] *= count[i]
            i -= 1
    compute, spread = 1, 1
    i = 0
    for b in range(levels):
        instances[b] = spread
        while i < loops and level[i] == b:
            if axis[i] == 0:
                compute *= count[i]
            else:
                spread *= count[i]
            i += 1
    for t in range(tensors):
        shape = coef[t]
        n_axes = axes[t]
        # Origins a level, and the share of an output that one instance answers for.
        i = 0
        for b in range(levels):
            lo = i
            spatial = False
            while i < loops and level[i] == b:
                spatial = spatial or axis[i] != 0
                i += 1
            origins[b, t] = 1
            if spatial:
                origins[b, t] = _distinct_origins(shape, n_axes, simple[t], lo, i, dim, count, axis, step)
            words = 1
            for a in range(n_axes):
                size = 1
                for d in range(dims):
                    size += shape[a, d] * (extent[b, d] - 1)
                words *= size
            tile[b, t] = words
            fills[b, t] = 0
            reads[b, t] = 0
            updates[b, t] = 0
            if b == 0:
                part[b, t] = words
            elif read_write[t]:
                union = 1
                for a in range(n_axes):
                    size = 1
                    for d in range(dims):
                        size += shape[a, d] * (sibling[b - 1, d] - 1)
                    union *= size
                part[b, t] = part[b - 1, t] * words // union
        # Fills of every kept level; what a kept level delivers is what its next kept level below is filled with.
        parent, path = -1, 1
        last = 0
        for b in range(levels + 1):
            if b == levels or keep[b, t]:
                if b == levels:
                    words = compute
                else:
                    for a in range(n_axes):
                        size = 1
                        for d in range(dims):
                            size += shape[a, d] * (extent[b, d] - 1)
                        scratch[0, a] = size
                    words = _fill_words(
                        shape, n_axes, simple[t], scratch[0], tile[b, t], last, dim, count, axis, step, rule,
                        scratch[1], scratch[2], scratch[3],
                    )  # fmt: skip
                if parent >= 0:
                    content = path * words
                    if read_write[t]:
                        updates[parent, t] = content
                        reads[parent, t] = content - part[parent, t]
                    else:
                        reads[parent, t] = content
                if b < levels:
                    if parent >= 0:
                        fills[b, t] = words - (part[b, t] if read_write[t] and elide_fills else 0)
                    parent, path = b, 1
            if b < levels:
                path *= origins[b, t]
                while last < loops and level[last] == b:
                    last += 1
    return compute


@njit(cache=True)
def check_nest(bounds, keep, loops, dim, count, level, axis, tile, capacity, mesh):
    """First broken rule of a counted nest: ``(verdict, level or dim, margin)``; the margin is the excess.

    ``bounds (D,)``; ``capacity (L,)`` words, -1 unlimited; ``mesh (L + 1, 2)`` physical instances, the MAC last.
    """
    levels, tensors = keep.shape
    for i in range(loops):
        if count[i] < 1:
            return BAD_FACTOR, level[i], 1 - count[i]
    for d in range(len(bounds)):
        product = 1
        for i in range(loops):
            if dim[i] == d:
                product *= count[i]
        if product < bounds[d]:
            return BAD_BOUND, d, bounds[d] - product
    i = 0
    for b in range(levels):
        x, y = 1, 1
        while i < loops and level[i] == b:
            if axis[i] == 1:
                x *= count[i]
            elif axis[i] == 2:
                y *= count[i]
            i += 1
        if x > mesh[b + 1, 0] // mesh[b, 0]:
            return FANOUT_X, b, x - mesh[b + 1, 0] // mesh[b, 0]
        if y > mesh[b + 1, 1] // mesh[b, 1]:
            return FANOUT_Y, b, y - mesh[b + 1, 1] // mesh[b, 1]
    for b in range(levels):
        if capacity[b] < 0:
            continue
        used = 0
        for t in range(tensors):
            if keep[b, t]:
                used += tile[b, t]
        if used > capacity[b]:
            return CAPACITY, b, used - capacity[b]
    return OK, 0, 0


@njit(cache=True)
def cycles_of(compute, keep, fills, reads, updates, bandwidth, cycles):
    """Cycles of every level into ``cycles (L,)``, and of the whole: bandwidth ``(L, 3)`` holds words a cycle and
    instance for reads, writes and both together, infinite where there is no limit."""
    levels, tensors = keep.shape
    slowest = compute
    for b in range(levels):
        # Tensor by tensor before adding: the order of rounding decides where the quotient is a whole number.
        read, write = 0.0, 0.0
        for t in range(tensors):
            if keep[b, t]:
                read += reads[b, t] / compute
                write += (fills[b, t] + updates[b, t]) / compute
        slow = 1.0
        if read > 0.0:
            slow = min(slow, bandwidth[b, 0] / read)
        if write > 0.0:
            slow = min(slow, bandwidth[b, 1] / write)
        if read + write > 0.0:
            slow = min(slow, bandwidth[b, 2] / (read + write))
        cycles[b] = int(math.ceil(compute / slow))
        slowest = max(slowest, cycles[b])
    return slowest


@njit(cache=True)
def access_energy(keep, b, t, block, shared, fills, reads, updates, instances, per_read, per_write, per_update):
    """Energy in pJ of the accesses to tensor ``t`` at level ``b``, all instances together: whole blocks are paid,
    rounded up once on the run of one instance; ``shared`` is the most instances (or clusters) that pay."""
    if not keep[b, t]:
        return 0.0
    payers = min(instances[b], shared)
    return payers * (
        (-(-reads[b, t] // block)) * per_read
        + (-(-fills[b, t] // block)) * per_write
        + (-(-updates[b, t] // block)) * per_update
    )


@njit(cache=True, parallel=True)
def evaluate_rows(
    bounds, coefs, axes, simple, read_write, keeps, rule, elide_fills,
    loop_dim, loop_count, loop_level, loop_axis,
    capacity, mesh, bandwidth, block, payers, energies, leak, compute_pj,
    layer_of, keep_of, hardware_of, energy_pj, cycles, verdict, where, utilization,
):  # fmt: skip
    """Evaluate ``n`` rows, each a mapping of a layer on a hardware.

    Layers: ``bounds (Y, D)``, ``coefs (Y, T, A, D)``; keep sets ``(K, L, T)``; loops ``(n, M)``, entries with trip count
    1 are empty, levels do not decrease along a row and within a level temporal loops come before spatial ones.
    Hardware: ``capacity, block, payers, leak (H, L)``, ``mesh (H, L + 1, 2)``, ``bandwidth, energies (H, L, 3)``,
    ``compute_pj (H,)``. Outputs ``(n,)``: energy, cycles, verdict and its place, utilization.
    """
    rows, width = loop_dim.shape
    levels, tensors = keeps.shape[1], keeps.shape[2]
    dims, max_axes = coefs.shape[3], coefs.shape[2]
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    for part_of in prange(blocks):
        dim = np.empty(width, np.int64)
        count = np.empty(width, np.int64)
        level = np.empty(width, np.int64)
        axis = np.empty(width, np.int64)
        step = np.empty(width, np.int64)
        extent = np.empty((levels + 1, dims), np.int64)
        sibling = np.empty((levels + 1, dims), np.int64)
        scratch = np.empty((4, max_axes), np.int64)
        tile = np.empty((levels, tensors), np.int64)
        fills = np.empty((levels, tensors), np.int64)
        reads = np.empty((levels, tensors), np.int64)
        updates = np.empty((levels, tensors), np.int64)
        origins = np.empty((levels, tensors), np.int64)
        part = np.empty((levels, tensors), np.int64)
        instances = np.empty(levels, np.int64)
        level_cycles = np.empty(levels, np.int64)
        for row in range(part_of * BLOCK_ROWS, min(rows, (part_of + 1) * BLOCK_ROWS)):
            loops = 0
            for j in range(width):
                if loop_count[row, j] != 1:
                    dim[loops] = loop_dim[row, j]
                    count[loops] = loop_count[row, j]
                    level[loops] = loop_level[row, j]
                    axis[loops] = loop_axis[row, j]
                    loops += 1
            y, k, h = layer_of[row], keep_of[row], hardware_of[row]
            keep = keeps[k]
            verdict[row] = OK
            where[row] = 0
            bad = False
            for j in range(loops):
                if count[j] < 1:
                    bad = True
                    verdict[row], where[row] = BAD_FACTOR, level[j]
                    break
            if bad:
                energy_pj[row] = np.nan
                cycles[row] = 0
                utilization[row] = np.nan
                continue
            compute = count_nest(
                coefs[y], axes, simple, read_write, keep, loops, dim, count, level, axis, rule, elide_fills,
                step, extent, sibling, scratch, tile, fills, reads, updates, origins, part, instances,
            )  # fmt: skip
            code, place, _ = check_nest(bounds[y], keep, loops, dim, count, level, axis, tile, capacity[h], mesh[h])
            verdict[row], where[row] = code, place
            if code != OK:
                energy_pj[row] = np.nan
                cycles[row] = 0
                utilization[row] = np.nan
                continue
            total = cycles_of(compute, keep, fills, reads, updates, bandwidth[h], level_cycles)
            energy = 0.0
            for b in range(levels):
                for t in range(tensors):
                    energy += access_energy(
                        keep, b, t, block[h, b], payers[h, b], fills, reads, updates, instances,
                        energies[h, b, 0], energies[h, b, 1], energies[h, b, 2],
                    )  # fmt: skip
                energy += leak[h, b] * total * instances[b]
            work, true = 1, 1
            for d in range(dims):
                work *= extent[0, d]
                true *= bounds[y, d]
            energy_pj[row] = energy + work * compute_pj[h]
            cycles[row] = total
            utilization[row] = true / (float(total) * mesh[h, levels, 0] * mesh[h, levels, 1])
