"""A systolic array running one layer: SCALE-Sim's closed forms (Samajdar et al., ISPASS 2020), and stalls on top.

The array has A rows and B columns. A layer with Kw = R*S*C products an output, M filters and Pix output pixels is laid
out as (Sr rows, Sc columns, T steps): weight-stationary (ws) Kw, M, Pix; output-stationary (os) Pix, M, Kw;
input-stationary (is) Kw, Pix, M. It takes ceil(Sr/A) row folds times ceil(Sc/B) column folds; groups (depthwise
channels) run one after the other.

Compute cycles of a fold: ws and is 2A + B + T - 2 (fill with the stationary operand, stream, drain), os T + A + B - 2.
SRAM accesses in words; partial folds touch the rows and columns in use only. The simulator's own total is one cycle
less than the closed form, and stalls come on top.

Stalls and DRAM traffic are a model of ours: each SRAM is double-buffered, so that half of it counts as capacity, and
has its own link of the given words a cycle. What fits its half is moved once, else it is moved again with every pass
over it (partial sums are then also read back). A fold stalls for the cycles by which its share of the slowest link
exceeds its computation; the first fold's data are there at the start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel
from archgym.threads import run_blocks

WS, OS, IS = range(3)
DATAFLOWS = ("ws", "os", "is")
#: Columns of :func:`closed_forms`, one row a (design, layer).
COLUMNS = (
    "row_folds",
    "col_folds",
    "compute_cycles",
    "ifmap_sram_reads",
    "filter_sram_reads",
    "ofmap_sram_writes",
    "ofmap_writes_simulator",
    "ifmap_dram_reads",
    "filter_dram_reads",
    "ofmap_dram_reads",
    "ofmap_dram_writes",
    "stall_cycles",
    "stationary_words",
)


@inner(inline="always")
def one_run(A, B, dataflow, ifmap_half, filter_half, ofmap_half, bandwidth, pixels, products, filters, inputs, run):
    """Fill ``run`` (int64, ``COLUMNS``) for one group of a layer; capacities in words, ``inputs`` the words of its
    input."""
    if dataflow == WS:
        rows, columns, steps = products, filters, pixels
    elif dataflow == IS:
        rows, columns, steps = products, pixels, filters
    else:
        rows, columns, steps = pixels, filters, products
    row_folds = -(-rows // A)
    col_folds = -(-columns // B)
    folds = row_folds * col_folds
    # A stride beyond the filter leaves inputs untouched.
    inputs = min(inputs, pixels * products)
    weights, outputs = products * filters, pixels * filters
    if dataflow == OS:
        fold_cycles = steps + A + B - 2
        ifmap, weight_reads, ofmap = col_folds * rows * steps, row_folds * columns * steps, rows * columns
        run[6] = ofmap + folds * (A + B)
        # Column folds are the outer loop: filters of a column fold stay, the input is read again for each.
        ifmap_dram = inputs if inputs <= ifmap_half else col_folds * inputs
        filter_dram = (
            weights if weights <= filter_half or min(B, columns) * products <= filter_half else row_folds * weights
        )
        ofmap_back = 0
        ofmap_dram = outputs
    else:
        fold_cycles = 2 * A + B + steps - 2
        stationary, streamed, ofmap = rows * columns, col_folds * rows * steps, row_folds * columns * steps
        run[6] = ofmap
        if dataflow == WS:
            ifmap, weight_reads = streamed, stationary
            ifmap_dram = inputs if inputs <= ifmap_half else col_folds * inputs
            filter_dram = weights
        else:
            ifmap, weight_reads = stationary, streamed
            ifmap_dram = inputs if inputs <= ifmap_half else stationary
            filter_dram = weights if weights <= filter_half else col_folds * weights
        # Row folds add to the same partial sums: those of one column fold must fit, or they travel.
        if row_folds == 1 or min(B, columns) * steps <= ofmap_half:
            ofmap_back, ofmap_dram = 0, outputs
        else:
            ofmap_back, ofmap_dram = (row_folds - 1) * outputs, row_folds * outputs
    run[0], run[1] = row_folds, col_folds
    run[2] = folds * fold_cycles
    run[3], run[4], run[5] = ifmap, weight_reads, ofmap
    run[7], run[8], run[9], run[10] = ifmap_dram, filter_dram, ofmap_back, ofmap_dram
    # The busiest link's words, spread evenly over the folds.
    busiest = max(ifmap_dram, max(filter_dram, ofmap_back + ofmap_dram))
    transfer = -(-busiest // (folds * bandwidth))
    run[11] = (folds - 1) * max(transfer - fold_cycles, 0)
    run[12] = min(A, rows) * min(B, columns)


@kernel
def closed_forms(arrays, layers):
    """Closed forms of n pairs.

    Args:
        arrays: int64 (n, 7): A, B, dataflow (0 ws, 1 os, 2 is), capacity in words of half of the three SRAMs (ifmap,
            filter, ofmap), words a cycle of each link.
        layers: int64 (n, 4): pixels, products an output, filters, input words; all of one group.

    Returns:
        int64 (n, 13), ``COLUMNS``.
    """
    n = len(arrays)
    result = np.empty((n, 13), np.int64)
    for i in range(n):
        a, l = arrays[i], layers[i]
        one_run(a[0], a[1], a[2], a[3], a[4], a[5], a[6], l[0], l[1], l[2], l[3], result[i])
    return result


PAIRS = 16384
"""(Design, layer) pairs that a thread works off at a time: about a millisecond."""


def totals(arrays: NDArray[np.int64], layers: NDArray[np.int64], repeats: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over a network for n arrays.

    Args:
        arrays: int64 (n, 7) as for :func:`closed_forms`.
        layers: int64 (m, 4) as for :func:`closed_forms`.
        repeats: int64 (m,), runs of each layer (its groups times its count).

    Returns:
        float64 (n, 9): cycles with stalls, stall cycles, SRAM accesses of ifmap, filter and ofmap, DRAM reads, DRAM
        writes, mean mapping efficiency weighted by compute cycles, compute cycles.
    """
    result = np.zeros((len(arrays), 9))
    run_blocks(_totals, len(arrays), max(1, PAIRS // max(1, len(layers))), arrays, layers, repeats, result)
    return result


@kernel
def _totals(first, last, arrays, layers, repeats, result):
    m = len(layers)
    run = np.empty(13, np.int64)
    for i in range(first, last):
        A, B, dataflow = arrays[i, 0], arrays[i, 1], arrays[i, 2]
        ifmap, weight, ofmap, bandwidth = arrays[i, 3], arrays[i, 4], arrays[i, 5], arrays[i, 6]
        out = result[i]
        for j in range(m):
            one_run(
                A,
                B,
                dataflow,
                ifmap,
                weight,
                ofmap,
                bandwidth,
                layers[j, 0],
                layers[j, 1],
                layers[j, 2],
                layers[j, 3],
                run,
            )
            r = repeats[j]
            compute = float(run[2])
            out[0] += r * (run[2] - 1 + run[11])
            out[1] += r * run[11]
            out[2] += r * run[3]
            out[3] += r * run[4]
            out[4] += r * run[5]
            out[5] += r * (run[7] + run[8] + run[9])
            out[6] += r * run[10]
            if dataflow == WS:
                used = layers[j, 1] * layers[j, 2]
            elif dataflow == OS:
                used = layers[j, 0] * layers[j, 2]
            else:
                used = layers[j, 1] * layers[j, 0]
            out[7] += r * compute * used / (float(run[0] * run[1]) * A * B)
            out[8] += r * compute
        out[7] /= out[8]
