"""Cost of mapping one layer on a hierarchy of clusters, after MAESTRO's cluster analysis (Kwon et al., MICRO 2019).

A mapping has two levels. Each has a tile size a dim, an order of the six dims (K C P Q R S,
outermost first), one dim that is spread over the level's units, and the number of units; a unit of the innermost
level is a processing element (PE) with its own L1 buffer, above the outermost level stands the shared L2 buffer. All
tiles are in output coordinates: a tile of ``p`` rows under ``r`` filter rows reads ``(p - 1) * stride + (r - 1) *
dilation + 1`` input rows.

Cases. Along each dim the iterations fall in up to three states: the *initial* one, the *steady* ones (all alike) and
the *edge* (a smaller tile; for the spread dim a round with fewer units). The analysis walks all combinations, each
with its number of occurrences. In a case let the *moving* dim be the innermost one that is not in its initial state.

* Ingress of W and I: nothing where the moving dim does not index the tensor (stationary). Else the product of the
  tile's extents, of which along the moving dim only the new part counts, unless an inner dim of the tensor that is
  iterated has been reset. Units share what they read in common: the first takes its tile, the others the part that
  is new to them.
* Egress of O: the tile of outputs, summed over units that hold different outputs, in every case.
* Compute: the run time of the next level on the unit's tile (the slowest unit counts), or at the PE the multiply-
  accumulates of the tile, one a cycle.
* Transfer of w words: ceil(w / bandwidth) cycles where the first word takes one cycle (one hop), pipelined.
* The all-initial case takes compute + ingress, any other max(compute, ingress, egress): double buffering. At the
  outermost level it takes at least half of floor(L2 words of inputs and weights / off-chip bandwidth), and the same
  for outputs, the L2 words being twice what the first case moves.

Edge rules. ``covering`` gives every edge tile and every last round its own size, so that the multiply-accumulates of
all cases sum to the layer's at every level. ``maestro`` follows the tool to the last digit, edges included: inner
levels take their edge sizes from the full outer tile, a partly filled last round can lose a unit, and a last round
of one unit along P or Q counts input rows as outputs. Mappings on which it does not count the layer's own
multiply-accumulates are told apart by the ``macs`` column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel
from archgym.threads import run_blocks

K, C, P, Q, R, S = range(6)
#: Columns of the result of :func:`evaluate`.
RUNTIME, INPUT_READS, WEIGHT_READS, OUTPUT_WRITES, MACS, L2_WORDS, L1_WORDS, L1_FILLS = range(8)
COLUMNS = 8


@inner
def _plan(
    dims,
    reuse_dims,
    tile,
    spread,
    units,
    maestro,
    halo,
    edge_tile,
    states,
    position,
    occurrences,
    unrolled,
    at_edge,
    rounds,
):
    """States of every dim at one level.

    ``edge_tile[d]`` is the size of the last tile; ``states[d]`` the number of states, each with its ``position`` (0
    initial, 1 steady, 2 edge), ``occurrences`` and flags. ``rounds[state]`` describes the spread dim: tile of the
    first unit as ingress sees it, as egress and compute see it, number of further full units, number of edge units
    (0 or 1), tile of the first unit where the spread dim is reduced over, whether the edge unit moves anything new,
    tile of the first unit as the next level sees it.
    """
    for d in range(6):
        t, bound = tile[d], reuse_dims[d]
        remainder = bound - ((bound - 1) // t) * t
        edge_tile[d] = remainder if remainder < t else t
        if maestro and bound % t == 0:
            edge_tile[d] = t
        bound = dims[d]
        position[d, 0] = 0
        occurrences[d, 0] = 1
        n = 1
        if d != spread:
            unrolled[d] = bound <= t
            at_edge[d, 0] = bound < t
            steady = (bound - t) // t if bound > t else 0
            if steady > 0:
                position[d, n], occurrences[d, n], at_edge[d, n] = 1, steady, False
                n += 1
            if bound > t and bound % t != 0:
                position[d, n], occurrences[d, n], at_edge[d, n] = 2, 1, True
                n += 1
        else:
            coverage = t * units
            unrolled[d] = bound <= coverage
            at_edge[d, 0] = bound < coverage
            if maestro:
                # The number of units of the last round, as the tool has it (see the module's text).
                full = reuse_dims[d]
                if full > coverage:
                    rest = full - (full // t // units) * coverage
                    active = 1 if rest < t else rest // t
                else:
                    active = -(-full // t)
            else:
                active = 0
            whole = bound // t // units if bound >= t else 0
            left = bound - whole * coverage
            if bound < coverage:
                left = bound
            n_steady = whole - 1
            if bound > coverage and n_steady > 0:
                position[d, n], occurrences[d, n], at_edge[d, n] = 1, n_steady, False
                n += 1
            if bound > coverage and left > 0:
                position[d, n], occurrences[d, n], at_edge[d, n] = 2, 1, True
                n += 1
            for k in range(n):
                # What the edge unit does not share with its neighbour; the tool takes it for nothing where the tile
                # divides the bound.
                rounds[k, 5] = 0 if maestro and reuse_dims[d] % t == 0 else 1
                if not at_edge[d, k]:
                    rounds[k, 0], rounds[k, 1], rounds[k, 2], rounds[k, 3], rounds[k, 4] = t, t, units - 1, 0, t
                elif not maestro:
                    first = min(left, t)
                    extra = 1 if left > t and left % t != 0 else 0
                    rounds[k, 0], rounds[k, 1], rounds[k, 4] = first, first, first
                    rounds[k, 2], rounds[k, 3] = max(left // t - 1, 0), extra
                    if left % t != 0:
                        edge_tile[d] = left % t
                else:
                    if position[d, k] == 0:
                        partial = 1
                    else:
                        partial = 1 if left > t and left % t != 0 else 0
                    lone = edge_tile[d] + halo[d] if position[d, k] == 2 else edge_tile[d]
                    rounds[k, 0] = edge_tile[d] if active == 1 and partial == 1 else t
                    rounds[k, 1] = lone if active == 1 else t
                    rounds[k, 2] = max(active - partial - 1, 0) if active > 1 else 0
                    rounds[k, 3] = partial if active > 1 else 0
                    rounds[k, 4] = edge_tile[d] if active == 1 and position[d, k] == 2 else t
                rounds[k, 6] = rounds[k, 0]
                if maestro:
                    alone = at_edge[d, k] and rounds[k, 2] == 0 and rounds[k, 3] == 0
                    rounds[k, 6] = edge_tile[d] if alone else t
        states[d] = n


@inner(inline="always")
def _extent(outputs, new_outputs, taps, new_taps, stride, dilation):
    """Input rows under a tile; where the tile moves along outputs or taps, only the rows that are new."""
    rows = (outputs - 1) * stride + (taps - 1) * dilation + 1
    if new_outputs:
        rows = min(rows, outputs * stride)
    if new_taps:
        rows = min(rows, taps * dilation)
    return rows


@inner
def _volume(weights, depthwise, size, new, shape):
    """Words of a tile of W (``weights``) or I with the extents ``size``; ``new[d]`` where only the new part counts."""
    if weights:
        words = size[C] * size[R] * size[S]
        return words if depthwise else words * size[K]
    rows = _extent(size[P], new[P], size[R], new[R], shape[6], shape[8])
    columns = _extent(size[Q], new[Q], size[S], new[S], shape[7], shape[9])
    return size[C] * rows * columns


@inner
def _ingress(
    weights,
    depthwise,
    dims,
    tile,
    order,
    spread,
    case,
    position,
    unrolled,
    at_edge,
    edge_tile,
    rounds,
    shape,
    size,
    new,
):
    """Words of W or I that enter all active units in a case."""
    moving = -1
    for i in range(6):
        d = order[i]
        if position[d, case[d]] != 0:
            moving = i
    reset = False
    for i in range(6):
        d = order[i]
        if weights:
            coupled = not (d == P or d == Q or (depthwise and d == K))
        else:
            # Filter taps move the input window only where they are iterated.
            coupled = d == C or d == P or d == Q or ((d == R or d == S) and tile[d] < dims[d])
        if i == moving and not coupled:
            return 0
        if moving >= 0 and i > moving and coupled and position[d, case[d]] == 0 and not unrolled[d]:
            reset = True
    for d in range(6):
        state = position[d, case[d]]
        new[d] = False
        if d == spread:
            continue
        if state == 0 or moving < 0:
            size[d] = edge_tile[d] if at_edge[d, case[d]] else tile[d]
        else:
            size[d] = tile[d]
            new[d] = order[moving] == d and not reset
    k = case[spread]
    size[spread] = rounds[k, 0]
    words = _volume(weights, depthwise, size, new, shape)
    if (weights and (spread == P or spread == Q)) or (not weights and spread == K):
        return words
    if moving >= 0:
        if position[spread, k] == 0:
            inner = False
            for i in range(moving + 1, 6):
                inner = inner or order[i] == spread
            new[spread] = inner
        else:
            new[spread] = order[moving] == spread and not reset
    if rounds[k, 2] > 0:
        size[spread] = tile[spread]
        words += rounds[k, 2] * _volume(weights, depthwise, size, new, shape)
    if rounds[k, 3] > 0 and not (new[spread] and rounds[k, 5] == 0):
        size[spread] = edge_tile[spread]
        words += rounds[k, 3] * _volume(weights, depthwise, size, new, shape)
    return words


@inner(arrays=True)
def _walk(
    innermost,
    outermost,
    dims,
    reuse_dims,
    tile,
    order,
    spread,
    units,
    shape,
    depthwise,
    noc_words,
    offchip_words,
    head,
    maestro,
    known,
    fills,
    slot,
    result,
):
    """Run time in cycles of one cluster on a tile of size ``dims``; the outermost level fills ``result``.

    ``known[key]`` is the run time of the next level by the dims that have their edge size (one bit a dim, K the
    highest), ``fills[key]`` the words that it moves into its units; see :func:`_next_level`. The innermost level puts
    its own words at ``fills[slot]``.
    """
    edge_tile = np.empty(6, np.int64)
    states = np.empty(6, np.int64)
    position = np.empty((6, 3), np.int64)
    occurrences = np.empty((6, 3), np.int64)
    unrolled = np.empty(6, np.bool_)
    at_edge = np.empty((6, 3), np.bool_)
    rounds = np.zeros((3, 7), np.int64)
    halo = np.zeros(6, np.int64)
    halo[P], halo[Q] = tile[R] - 1, tile[S] - 1
    _plan(
        dims,
        reuse_dims,
        tile,
        spread,
        units,
        maestro,
        halo,
        edge_tile,
        states,
        position,
        occurrences,
        unrolled,
        at_edge,
        rounds,
    )
    size = np.empty(6, np.int64)
    new = np.zeros(6, np.bool_)
    case = np.zeros(6, np.int64)
    output_coupled = np.ones(6, np.bool_)
    output_coupled[R] = output_coupled[S] = False
    output_coupled[C] = depthwise
    output_coupled[K] = not depthwise
    runtime = 0
    moved = 0
    l2_inputs = 0
    l2_outputs = 0
    first = True
    while True:
        count = 1
        initial = True
        outputs = 1
        reduced = 1
        for d in range(6):
            k = case[d]
            count *= occurrences[d, k]
            if position[d, k] != 0:
                initial = False
            if d != spread:
                extent = edge_tile[d] if at_edge[d, k] else tile[d]
                if output_coupled[d]:
                    outputs *= extent
                else:
                    reduced *= extent
        k = case[spread]
        spread_sum = rounds[k, 1] + rounds[k, 2] * tile[spread] + rounds[k, 3] * edge_tile[spread]
        if output_coupled[spread]:
            egress = outputs * spread_sum
            if rounds[k, 5] == 0 and spread != P and spread != Q:
                egress -= outputs * rounds[k, 3] * edge_tile[spread]
            macs_first = outputs * reduced * rounds[k, 1]
        else:
            egress = outputs
            macs_first = outputs * reduced * rounds[k, 4]
        macs = outputs * reduced * spread_sum
        if maestro and not output_coupled[spread] and at_edge[spread, k]:
            # Here the tool's first unit of a reduced dim keeps its own edge size.
            macs = outputs * reduced * (rounds[k, 4] + rounds[k, 2] * tile[spread] + rounds[k, 3] * edge_tile[spread])
        inputs = _ingress(
            False,
            depthwise,
            dims,
            tile,
            order,
            spread,
            case,
            position,
            unrolled,
            at_edge,
            edge_tile,
            rounds,
            shape,
            size,
            new,
        )
        weights = _ingress(
            True,
            depthwise,
            dims,
            tile,
            order,
            spread,
            case,
            position,
            unrolled,
            at_edge,
            edge_tile,
            rounds,
            shape,
            size,
            new,
        )
        if first:
            first = False
            l2_inputs, l2_outputs = 2 * (inputs + weights), 2 * egress
            if outermost:
                result[L2_WORDS] = l2_inputs + l2_outputs
        if outermost:
            result[INPUT_READS] += count * inputs
            result[WEIGHT_READS] += count * weights
            result[OUTPUT_WRITES] += count * egress
            result[MACS] += count * macs
        if not innermost:
            key = 0
            for d in range(6):
                if d != spread:
                    key = 2 * key + (1 if at_edge[d, case[d]] and edge_tile[d] != tile[d] else 0)
                else:
                    key = 2 * key
            bit = 1 << (5 - spread)
            unit = key + bit if rounds[k, 6] != tile[spread] else key
            compute = known[unit]
            moved += count * fills[unit]
            if rounds[k, 2] > 0:
                moved += count * rounds[k, 2] * fills[key]
            if rounds[k, 3] > 0:
                unit = key + bit if edge_tile[spread] != tile[spread] else key
                compute = max(compute, known[unit])
                moved += count * fills[unit]
        else:
            compute = macs_first
            moved += count * (inputs + weights)
        ingress_delay = head - 1 - (-(inputs + weights) // noc_words)
        egress_delay = head - 1 - (-egress // noc_words)
        delay = compute + ingress_delay if initial else max(compute, max(ingress_delay, egress_delay))
        if outermost:
            delay = max(delay, max(l2_inputs // offchip_words // 2, l2_outputs // offchip_words // 2))
        runtime += count * delay
        i = 5
        while i >= 0:
            case[i] += 1
            if case[i] < states[i]:
                break
            case[i] = 0
            i -= 1
        if i < 0:
            break
    if outermost:
        result[L1_FILLS] = moved
    else:
        fills[slot] = moved
    return runtime


@inner(arrays=True)
def _next_level(
    dims, tiles, orders, spreads, units, shape, depthwise, noc_words, offchip_words, head, maestro, known, fills, result
):
    """Run times of the inner level for every tile size that the outer level hands down, by the key of ``_walk``."""
    tile, spread = tiles[0], spreads[0]
    edge_tile = np.empty(6, np.int64)
    states = np.empty(6, np.int64)
    position = np.empty((6, 3), np.int64)
    occurrences = np.empty((6, 3), np.int64)
    unrolled = np.empty(6, np.bool_)
    at_edge = np.empty((6, 3), np.bool_)
    rounds = np.zeros((3, 7), np.int64)
    halo = np.zeros(6, np.int64)
    halo[P], halo[Q] = tile[R] - 1, tile[S] - 1
    _plan(
        dims,
        dims,
        tile,
        spread,
        units[0],
        maestro,
        halo,
        edge_tile,
        states,
        position,
        occurrences,
        unrolled,
        at_edge,
        rounds,
    )
    full = np.zeros(6, np.bool_)
    edge = np.zeros(6, np.bool_)
    for d in range(6):
        for k in range(states[d]):
            if d != spread:
                if at_edge[d, k] and edge_tile[d] != tile[d]:
                    edge[d] = True
                else:
                    full[d] = True
            else:
                if rounds[k, 6] == tile[d] or rounds[k, 2] > 0:
                    full[d] = True
                if rounds[k, 6] != tile[d] or (rounds[k, 3] > 0 and edge_tile[d] != tile[d]):
                    edge[d] = True
                if rounds[k, 3] > 0 and edge_tile[d] == tile[d]:
                    full[d] = True
    inner = np.empty(6, np.int64)
    for key in range(64):
        wanted = True
        for d in range(6):
            if (key >> (5 - d)) & 1:
                wanted = wanted and edge[d]
                inner[d] = edge_tile[d]
            else:
                wanted = wanted and full[d]
                inner[d] = tile[d]
        if wanted:
            known[key] = _walk(
                True,
                False,
                inner,
                tile if maestro else inner,
                tiles[1],
                orders[1],
                spreads[1],
                units[1],
                shape,
                depthwise,
                noc_words,
                offchip_words,
                head,
                maestro,
                known,
                fills,
                key,
                result,
            )


BLOCK = 32
"""Mappings that a thread evaluates at a time."""


def evaluate(
    layer: NDArray[np.int64],
    tiles: NDArray[np.int64],
    orders: NDArray[np.int64],
    spreads: NDArray[np.int64],
    units: NDArray[np.int64],
    bandwidths: NDArray[np.int64],
    maestro: bool,
) -> NDArray[np.int64]:
    """Evaluate n mappings of one layer.

    Args:
        layer: int64 (11,): bounds K C P Q R S, stride of P and Q, dilation of R and S, 1 where depthwise (C is then
            the number of channels and K is 1).
        tiles: int64 (n, 2, 6), outer and inner; every tile at most the one of the level above, the bound at the
            outer level. One level, (n, 1, 6), makes its units the PEs.
        orders: int64 (n, 2, 6), dims outermost first.
        spreads: int64 (n, 2), the dim spread over the units.
        units: int64 (n, 2), at least 1.
        bandwidths: int64 (n, 3), words a cycle into each level and off chip, and the cycles until the first word of a
            transfer arrives.
        maestro: whether the edge rule is ``maestro``.

    Returns:
        int64 (n, 8): run time in cycles, L2 reads of I and W, L2 writes of O in words, multiply-accumulates counted,
        words of L2 and of L1 a PE (double-buffered), words of I and W that enter PEs.
    """
    results = np.zeros((len(tiles), COLUMNS), np.int64)
    run_blocks(_rows, len(tiles), BLOCK, layer, tiles, orders, spreads, units, bandwidths, maestro, results)
    return results


@kernel
def _rows(first, last, layer, tiles, orders, spreads, units, bandwidths, maestro, results):
    levels = tiles.shape[1]
    depthwise = layer[10] == 1
    bounds = layer[:6]
    for row in range(first, last):
        known = np.zeros(64, np.int64)
        fills = np.zeros(64, np.int64)
        result = results[row]
        if levels > 1:
            _next_level(
                bounds,
                tiles[row],
                orders[row],
                spreads[row],
                units[row],
                layer,
                depthwise,
                bandwidths[row, 0],
                bandwidths[row, 1],
                bandwidths[row, 2],
                maestro,
                known,
                fills,
                result,
            )
        result[RUNTIME] = _walk(
            levels == 1,
            True,
            bounds,
            bounds,
            tiles[row, 0],
            orders[row, 0],
            spreads[row, 0],
            units[row, 0],
            layer,
            depthwise,
            bandwidths[row, 0],
            bandwidths[row, 1],
            bandwidths[row, 2],
            maestro,
            known,
            fills,
            0,
            result,
        )
        size = tiles[row, levels - 1]
        rows = (size[P] - 1) * layer[6] + (size[R] - 1) * layer[8] + 1
        columns = (size[Q] - 1) * layer[7] + (size[S] - 1) * layer[9] + 1
        weights = size[C] * size[R] * size[S] * (1 if depthwise else size[K])
        # The tool sizes the output buffer by input rows; the covering rule by outputs.
        outputs = (size[C] if depthwise else size[K]) * (rows * columns if maestro else size[P] * size[Q])
        result[L1_WORDS] = 2 * (size[C] * rows * columns + weights + outputs)
