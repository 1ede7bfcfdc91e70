"""Compiled kernels of the CPU trainer: one small convolutional network, forward, backward and evaluation.

The network is the one of :mod:`archgym.simulators.nas.network` with one-dimensional inputs, two stages and one cell a
stage. An activation is a float32 array ``(channels, width)``: the samples of a batch lie one after the other on the
long axis, each followed by one *gap* that holds zero, and ``LEAD`` zeros stand before the first. The gap is the
padding of the convolutions, so that a convolution of length three is three shifted multiply-adds over rows of
thousands of numbers, which the compiler turns into vector code. Every function here keeps the gaps of what is read by
a convolution, a pooling or a sum at zero.

Work goes through the rows in tiles of eight samples (the first-level cache holds the tiles of all operands).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archgym.compiling import kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

LEAD = 8
TILE_SAMPLES = 8
NONE, SKIP, CONV1, CONV3, POOL = 0, 1, 2, 3, 4
BN_EPSILON = 1e-5
BN_MOMENTUM = 0.1

# Edge e goes from node EDGE_FROM[e] to node EDGE_TO[e]; the order is that of the architecture string.
EDGE_FROM = np.array([0, 0, 1, 0, 1, 2], dtype=np.int64)
EDGE_TO = np.array([1, 2, 2, 3, 3, 3], dtype=np.int64)


@njit(cache=True, fastmath=True, nogil=True)
def conv3(x, w, y, p0, p1):
    """y[o, p] = sum over i, k of w[o, i, k] x[i, p + k - 1] for p0 <= p < p1; output and input channels even."""
    n = p1 - p0
    for o in range(0, w.shape[0], 2):
        ya, yb = y[o, p0:p1], y[o + 1, p0:p1]
        for i in range(0, w.shape[1], 2):
            a0, a1, a2 = w[o, i, 0], w[o, i, 1], w[o, i, 2]
            b0, b1, b2 = w[o, i + 1, 0], w[o, i + 1, 1], w[o, i + 1, 2]
            c0, c1, c2 = w[o + 1, i, 0], w[o + 1, i, 1], w[o + 1, i, 2]
            d0, d1, d2 = w[o + 1, i + 1, 0], w[o + 1, i + 1, 1], w[o + 1, i + 1, 2]
            xa, xb = x[i, p0 - 1 : p1 + 1], x[i + 1, p0 - 1 : p1 + 1]
            if i == 0:
                for p in range(n):
                    u0, u1, u2, v0, v1, v2 = xa[p], xa[p + 1], xa[p + 2], xb[p], xb[p + 1], xb[p + 2]
                    ya[p] = a0 * u0 + a1 * u1 + a2 * u2 + b0 * v0 + b1 * v1 + b2 * v2
                    yb[p] = c0 * u0 + c1 * u1 + c2 * u2 + d0 * v0 + d1 * v1 + d2 * v2
            else:
                for p in range(n):
                    u0, u1, u2, v0, v1, v2 = xa[p], xa[p + 1], xa[p + 2], xb[p], xb[p + 1], xb[p + 2]
                    ya[p] += a0 * u0 + a1 * u1 + a2 * u2 + b0 * v0 + b1 * v1 + b2 * v2
                    yb[p] += c0 * u0 + c1 * u1 + c2 * u2 + d0 * v0 + d1 * v1 + d2 * v2


@njit(cache=True, fastmath=True, nogil=True)
def conv1(x, w, tap, y, p0, p1, shift, add):
    """y[o, p] (+)= sum over i of w[o, i, tap] x[i, p + shift]; output channels even, inputs a multiple of 4."""
    n = p1 - p0
    for o in range(0, w.shape[0], 2):
        ya, yb = y[o, p0:p1], y[o + 1, p0:p1]
        for i in range(0, w.shape[1], 4):
            a0, a1, a2, a3 = w[o, i, tap], w[o, i + 1, tap], w[o, i + 2, tap], w[o, i + 3, tap]
            b0, b1, b2, b3 = w[o + 1, i, tap], w[o + 1, i + 1, tap], w[o + 1, i + 2, tap], w[o + 1, i + 3, tap]
            q0, q1 = p0 + shift, p1 + shift
            x0, x1, x2, x3 = x[i, q0:q1], x[i + 1, q0:q1], x[i + 2, q0:q1], x[i + 3, q0:q1]
            if i == 0 and not add:
                for p in range(n):
                    u, v, s, t = x0[p], x1[p], x2[p], x3[p]
                    ya[p] = a0 * u + a1 * v + a2 * s + a3 * t
                    yb[p] = b0 * u + b1 * v + b2 * s + b3 * t
            else:
                for p in range(n):
                    u, v, s, t = x0[p], x1[p], x2[p], x3[p]
                    ya[p] += a0 * u + a1 * v + a2 * s + a3 * t
                    yb[p] += b0 * u + b1 * v + b2 * s + b3 * t


@njit(cache=True, fastmath=True, nogil=True)
def conv3_weight_gradient(x, g, dw, p0, p1):
    """dw[o, i, k] += sum over p of g[o, p] x[i, p + k - 1]; output channels a multiple of 4."""
    n = p1 - p0
    zero = np.float32(0)
    for o in range(0, dw.shape[0], 4):
        ga, gb, gc, gd = g[o, p0:p1], g[o + 1, p0:p1], g[o + 2, p0:p1], g[o + 3, p0:p1]
        for i in range(dw.shape[1]):
            xi = x[i, p0 - 1 : p1 + 1]
            a0, a1, a2, b0, b1, b2 = zero, zero, zero, zero, zero, zero
            c0, c1, c2, d0, d1, d2 = zero, zero, zero, zero, zero, zero
            for p in range(n):
                u, v, t = xi[p], xi[p + 1], xi[p + 2]
                q = ga[p]
                a0 += q * u
                a1 += q * v
                a2 += q * t
                q = gb[p]
                b0 += q * u
                b1 += q * v
                b2 += q * t
                q = gc[p]
                c0 += q * u
                c1 += q * v
                c2 += q * t
                q = gd[p]
                d0 += q * u
                d1 += q * v
                d2 += q * t
            dw[o, i, 0] += a0
            dw[o, i, 1] += a1
            dw[o, i, 2] += a2
            dw[o + 1, i, 0] += b0
            dw[o + 1, i, 1] += b1
            dw[o + 1, i, 2] += b2
            dw[o + 2, i, 0] += c0
            dw[o + 2, i, 1] += c1
            dw[o + 2, i, 2] += c2
            dw[o + 3, i, 0] += d0
            dw[o + 3, i, 1] += d1
            dw[o + 3, i, 2] += d2


@njit(cache=True, fastmath=True, nogil=True)
def conv1_weight_gradient(x, g, dw, tap, p0, p1, shift):
    """dw[o, i, tap] += sum over p of g[o, p] x[i, p + shift]; output channels a multiple of 4, input channels even."""
    n = p1 - p0
    zero = np.float32(0)
    q0, q1 = p0 + shift, p1 + shift
    for o in range(0, dw.shape[0], 4):
        ga, gb, gc, gd = g[o, p0:p1], g[o + 1, p0:p1], g[o + 2, p0:p1], g[o + 3, p0:p1]
        for i in range(0, dw.shape[1], 2):
            xa, xb = x[i, q0:q1], x[i + 1, q0:q1]
            a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
            for p in range(n):
                u, v = xa[p], xb[p]
                a0 += ga[p] * u
                a1 += ga[p] * v
                b0 += gb[p] * u
                b1 += gb[p] * v
                c0 += gc[p] * u
                c1 += gc[p] * v
                d0 += gd[p] * u
                d1 += gd[p] * v
            dw[o, i, tap] += a0
            dw[o, i + 1, tap] += a1
            dw[o + 1, i, tap] += b0
            dw[o + 1, i + 1, tap] += b1
            dw[o + 2, i, tap] += c0
            dw[o + 2, i + 1, tap] += c1
            dw[o + 3, i, tap] += d0
            dw[o + 3, i + 1, tap] += d1


@njit(cache=True, nogil=True)
def zero_gaps(x, batch, length, first, last):
    """Put zero in the gaps after samples first <= b < last."""
    for c in range(x.shape[0]):
        for b in range(first, last):
            x[c, LEAD + b * (length + 1) + length] = 0.0


@njit(cache=True, fastmath=True, nogil=True)
def add_moments(y, p0, p1, sums):
    """sums[0, c] += sum of y, sums[1, c] += sum of y squared over p0 <= p < p1 (float64 over tiles)."""
    for c in range(y.shape[0]):
        row = y[c, p0:p1]
        s = np.float32(0)
        q = np.float32(0)
        for p in range(p1 - p0):
            s += row[p]
            q += row[p] * row[p]
        sums[0, c] += s
        sums[1, c] += q


@njit(cache=True, nogil=True)
def normalisation(sums, count, gamma, beta, running, stat, training):
    """From moments to the affine form a y + b of batch normalisation.

    stat rows: 0 mean, 1 inverse deviation, 2 a, 3 b. In training ``running`` (row 0 mean, row 1 unbiased variance)
    moves by ``BN_MOMENTUM``; else it is used in place of the batch's moments.
    """
    for c in range(stat.shape[1]):
        if training:
            mean = sums[0, c] / count
            variance = max(sums[1, c] / count - mean * mean, 0.0)
            running[0, c] = (1.0 - BN_MOMENTUM) * running[0, c] + BN_MOMENTUM * mean
            running[1, c] = (1.0 - BN_MOMENTUM) * running[1, c] + BN_MOMENTUM * variance * count / (count - 1)
        else:
            mean = np.float64(running[0, c])
            variance = np.float64(running[1, c])
        inverse = 1.0 / np.sqrt(variance + BN_EPSILON)
        stat[0, c] = mean
        stat[1, c] = inverse
        stat[2, c] = gamma[c] * inverse
        stat[3, c] = beta[c] - gamma[c] * inverse * mean


@njit(cache=True, fastmath=True, nogil=True)
def add_affine(y, stat, out, p0, p1, add):
    """out (+)= a y + b, row by row."""
    for c in range(y.shape[0]):
        a, b = stat[2, c], stat[3, c]
        row, target = y[c, p0:p1], out[c, p0:p1]
        if add:
            for p in range(p1 - p0):
                target[p] += a * row[p] + b
        else:
            for p in range(p1 - p0):
                target[p] = a * row[p] + b


@njit(cache=True, fastmath=True, nogil=True)
def norm_gradient_sums(y, g, sums, p0, p1):
    """sums[0, c] += sum of g, sums[1, c] += sum of g y."""
    for c in range(y.shape[0]):
        row, grad = y[c, p0:p1], g[c, p0:p1]
        s = np.float32(0)
        q = np.float32(0)
        for p in range(p1 - p0):
            s += grad[p]
            q += grad[p] * row[p]
        sums[0, c] += s
        sums[1, c] += q


@njit(cache=True, nogil=True)
def norm_gradient_factors(sums, stat, count, dgamma, dbeta, factor):
    """Gradients of gamma and beta, and the factors of dy = f0 g + f1 y + f2 (batch normalisation's backward pass)."""
    for c in range(stat.shape[1]):
        mean, inverse, a = np.float64(stat[0, c]), np.float64(stat[1, c]), np.float64(stat[2, c])
        scaled = (sums[1, c] - mean * sums[0, c]) * inverse
        dgamma[c] += scaled
        dbeta[c] += sums[0, c]
        factor[0, c] = a
        factor[1, c] = -a * scaled * inverse / count
        factor[2, c] = -a * sums[0, c] / count + a * scaled * inverse * mean / count


@njit(cache=True, fastmath=True, nogil=True)
def norm_gradient(y, g, factor, out, p0, p1):
    """out = f0 g + f1 y + f2."""
    for c in range(y.shape[0]):
        f0, f1, f2 = factor[0, c], factor[1, c], factor[2, c]
        row, grad, target = y[c, p0:p1], g[c, p0:p1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] = f0 * grad[p] + f1 * row[p] + f2


@njit(cache=True, fastmath=True, nogil=True)
def add_rows(x, out, p0, p1):
    for c in range(x.shape[0]):
        row, target = x[c, p0:p1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] += row[p]


@njit(cache=True, fastmath=True, nogil=True)
def add_where_positive(g, r, out, p0, p1):
    """out += g where r > 0 (ReLU's backward pass)."""
    zero = np.float32(0)
    for c in range(g.shape[0]):
        grad, row, target = g[c, p0:p1], r[c, p0:p1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] += grad[p] if row[p] > zero else zero


@njit(cache=True, fastmath=True, nogil=True)
def relu(x, out, p0, p1):
    zero = np.float32(0)
    for c in range(x.shape[0]):
        row, target = x[c, p0:p1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] = row[p] if row[p] > zero else zero


@njit(cache=True, fastmath=True, nogil=True)
def add_pool(x, share, out, p0, p1):
    """Average of three neighbours, padding not counted: share is 1/2 at the ends, 1/3 inside, 0 in the gaps."""
    weight = share[p0:p1]
    for c in range(x.shape[0]):
        row, target = x[c, p0 - 1 : p1 + 1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] += weight[p] * (row[p] + row[p + 1] + row[p + 2])


@njit(cache=True, fastmath=True, nogil=True)
def add_pool_gradient(g, share, out, p0, p1):
    weight = share[p0 - 1 : p1 + 1]
    for c in range(g.shape[0]):
        row, target = g[c, p0 - 1 : p1 + 1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] += weight[p] * row[p] + weight[p + 1] * row[p + 1] + weight[p + 2] * row[p + 2]


@njit(cache=True, nogil=True)
def pool_share(batch, length):
    """The row ``share`` of :func:`add_pool` for a batch."""
    share = np.zeros(LEAD + batch * (length + 1) + LEAD, dtype=np.float32)
    for b in range(batch):
        for t in range(length):
            inner = 0 < t < length - 1
            share[LEAD + b * (length + 1) + t] = 1.0 / 3.0 if inner else 0.5
    return share


@njit(cache=True, nogil=True)
def transposed(w):
    """Weights of the convolution that carries the gradient back: channels swapped, taps reversed."""
    result = np.empty((w.shape[1], w.shape[0], w.shape[2]), dtype=np.float32)
    for o in range(w.shape[0]):
        for i in range(w.shape[1]):
            for k in range(w.shape[2]):
                result[i, o, w.shape[2] - 1 - k] = w[o, i, k]
    return result


@njit(cache=True, nogil=True)
def conv_norm(x, w, taps, y, sums, batch, length, training):
    """Convolution of 1 or 3 taps, tile by tile, with the moments of the result."""
    stride = length + 1
    sums[:] = 0.0
    for b in range(0, batch, TILE_SAMPLES):
        last = min(b + TILE_SAMPLES, batch)
        p0, p1 = LEAD + b * stride, LEAD + last * stride
        if taps == 3:
            conv3(x, w, y, p0, p1)
        else:
            conv1(x, w, 0, y, p0, p1, 0, False)
        if training:
            zero_gaps(y, batch, length, b, last)
            add_moments(y, p0, p1, sums)


@njit(cache=True, nogil=True)
def conv_norm_backward(x, w, taps, y, g, stat, dw, dgamma, dbeta, dy, dx, r, out, batch, length):
    """Backward pass of ReLU, convolution, batch normalisation: adds to dw, dgamma, dbeta and to ``out`` (gradient of
    the input before its ReLU, whose result is ``x`` = ``r``). dy and dx are work space."""
    stride, count = length + 1, batch * length
    sums = np.zeros((2, y.shape[0]), dtype=np.float64)
    factor = np.empty((3, y.shape[0]), dtype=np.float32)
    end = LEAD + batch * stride
    norm_gradient_sums(y, g, sums, LEAD, end)
    norm_gradient_factors(sums, stat, count, dgamma, dbeta, factor)
    back = transposed(w)
    for b in range(0, batch, TILE_SAMPLES):
        last = min(b + TILE_SAMPLES, batch)
        p0, p1 = LEAD + b * stride, LEAD + last * stride
        norm_gradient(y, g, factor, dy, p0, p1)
        zero_gaps(dy, batch, length, b, last)
        if taps == 3:
            conv3_weight_gradient(x, dy, dw, p0, p1)
            conv3(dy, back, dx, p0, p1)
        else:
            conv1_weight_gradient(x, dy, dw, 0, p0, p1, 0)
            conv1(dy, back, 0, dx, p0, p1, 0, False)
        add_where_positive(dx, r, out, p0, p1)


@njit(cache=True, nogil=True)
def cell_forward(ops, theta, offset, running, x, r, y, stat, share, batch, length, training):
    """One cell: x[0] is the input, x[3] the output; r = ReLU(x), y = convolution results before normalisation."""
    channels = x.shape[1]
    end = LEAD + batch * (length + 1)
    sums = np.zeros((2, channels), dtype=np.float64)
    relu(x[0], r[0], LEAD, end)
    for j in range(1, 4):
        x[j, :, :] = 0.0
        for e in range(6):
            if EDGE_TO[e] != j:
                continue
            i, op = EDGE_FROM[e], ops[e]
            if op == SKIP:
                add_rows(x[i], x[j], LEAD, end)
            elif op == POOL:
                add_pool(x[i], share, x[j], LEAD, end)
            elif op == CONV1 or op == CONV3:
                taps = 1 if op == CONV1 else 3
                at = offset[e]
                size = channels * channels * taps
                w = theta[at : at + size].reshape((channels, channels, taps))
                gamma = theta[at + size : at + size + channels]
                beta = theta[at + size + channels : at + size + 2 * channels]
                conv_norm(r[i], w, taps, y[e], sums, batch, length, training)
                normalisation(sums, batch * length, gamma, beta, running[e], stat[e], training)
                add_affine(y[e], stat[e], x[j], LEAD, end, True)
        zero_gaps(x[j], batch, length, 0, batch)
        relu(x[j], r[j], LEAD, end)


@njit(cache=True, nogil=True)
def cell_backward(ops, theta, grad, offset, x, r, y, stat, g, dy, dx, share, batch, length):
    """Backward pass of :func:`cell_forward`: g[3] is given with zero gaps, g[0] comes out with zero gaps."""
    channels = x.shape[1]
    end = LEAD + batch * (length + 1)
    g[:3] = 0.0
    for j in range(3, 0, -1):
        if j < 3:
            zero_gaps(g[j], batch, length, 0, batch)
        for e in range(6):
            if EDGE_TO[e] != j:
                continue
            i, op = EDGE_FROM[e], ops[e]
            if op == SKIP:
                add_rows(g[j], g[i], LEAD, end)
            elif op == POOL:
                add_pool_gradient(g[j], share, g[i], LEAD, end)
            elif op == CONV1 or op == CONV3:
                taps = 1 if op == CONV1 else 3
                at = offset[e]
                size = channels * channels * taps
                w = theta[at : at + size].reshape((channels, channels, taps))
                dw = grad[at : at + size].reshape((channels, channels, taps))
                dgamma = grad[at + size : at + size + channels]
                dbeta = grad[at + size + channels : at + size + 2 * channels]
                conv_norm_backward(
                    r[i], w, taps, y[e], g[j], stat[e], dw, dgamma, dbeta, dy, dx, r[i], g[i], batch, length
                )
    zero_gaps(g[0], batch, length, 0, batch)


@njit(cache=True, fastmath=True, nogil=True)
def split_even_odd(x, even, odd, batch, length):
    """Positions 0, 2, .. and 1, 3, .. of every sample as rows of half the length."""
    half = length // 2
    for c in range(x.shape[0]):
        for b in range(batch):
            source, target = LEAD + b * (length + 1), LEAD + b * (half + 1)
            for t in range(half):
                even[c, target + t] = x[c, source + 2 * t]
                odd[c, target + t] = x[c, source + 2 * t + 1]


@njit(cache=True, fastmath=True, nogil=True)
def join_even_odd(even, odd, x, batch, length):
    half = length // 2
    for c in range(x.shape[0]):
        for b in range(batch):
            source, target = LEAD + b * (length + 1), LEAD + b * (half + 1)
            for t in range(half):
                x[c, source + 2 * t] = even[c, target + t]
                x[c, source + 2 * t + 1] = odd[c, target + t]


@njit(cache=True, fastmath=True, nogil=True)
def mean_rows(a, b, out, p0, p1):
    half = np.float32(0.5)
    for c in range(a.shape[0]):
        ra, rb, target = a[c, p0:p1], b[c, p0:p1], out[c, p0:p1]
        for p in range(p1 - p0):
            target[p] = half * (ra[p] + rb[p])


@njit(cache=True, fastmath=True, nogil=True)
def stem_conv(x, w, y, p0, p1):
    """y[o, p] = sum over k of w[o, 0, k] x[0, p + k - 1]."""
    row = x[0, p0 - 1 : p1 + 1]
    for o in range(w.shape[0]):
        w0, w1, w2 = w[o, 0, 0], w[o, 0, 1], w[o, 0, 2]
        target = y[o, p0:p1]
        for p in range(p1 - p0):
            target[p] = w0 * row[p] + w1 * row[p + 1] + w2 * row[p + 2]


@njit(cache=True, nogil=True)
def allocate(channels, batch, length):
    """Work space of one stage: x, r, g (4, c, width), y (6, c, width), dy, dx (c, width), stat (6, 4, c), share."""
    width = LEAD + batch * (length + 1) + LEAD
    x = np.zeros((4, channels, width), dtype=np.float32)
    r = np.zeros((4, channels, width), dtype=np.float32)
    g = np.zeros((4, channels, width), dtype=np.float32)
    y = np.zeros((6, channels, width), dtype=np.float32)
    dy = np.zeros((channels, width), dtype=np.float32)
    dx = np.zeros((channels, width), dtype=np.float32)
    stat = np.zeros((6, 4, channels), dtype=np.float32)
    return x, r, g, y, dy, dx, stat, pool_share(batch, length)


@njit(cache=True, nogil=True)
def parameter_offsets(ops, channels, classes):
    """Where each block begins in the flat parameter vector: stem, six edges, reduction (a, b, shortcut), six edges,
    last normalisation, classifier, end. Shape (19,)."""
    at = np.empty(19, dtype=np.int64)
    at[0] = 0
    k = 1
    at[k] = 3 * channels + 2 * channels
    for stage in range(2):
        c = channels * (1 + stage)
        for e in range(6):
            size = 0
            if ops[e] == CONV1:
                size = c * c + 2 * c
            elif ops[e] == CONV3:
                size = 3 * c * c + 2 * c
            at[k + 1] = at[k] + size
            k += 1
        if stage == 0:
            c2 = 2 * channels
            at[k + 1] = at[k] + 3 * channels * c2 + 2 * c2
            at[k + 2] = at[k + 1] + 3 * c2 * c2 + 2 * c2
            at[k + 3] = at[k + 2] + channels * c2
            k += 3
    c2 = 2 * channels
    at[k + 1] = at[k] + 2 * c2
    at[k + 2] = at[k + 1] + classes * c2 + classes
    return at


@njit(cache=True, nogil=True)
def classify(x, stat, weight, bias, labels, rows, first, half, training, targets, feature, logits, dlogit):
    """Head after the last normalisation ``stat``: ReLU, global average, linear layer, cross-entropy.

    ``feature``, ``logits`` and, in training or with ``targets``, the gradient ``dlogit`` of the mean loss are filled in.
    Returns the sum of the losses and the number of samples whose largest logit is the label's.
    """
    batch, classes = logits.shape
    for c in range(x.shape[0]):
        a, b0 = stat[2, c], stat[3, c]
        for b in range(batch):
            start = LEAD + b * (half + 1)
            total = np.float32(0)
            for t in range(half):
                total += max(a * x[c, start + t] + b0, np.float32(0))
            feature[b, c] = total / np.float32(half)
    loss = 0.0
    correct = 0
    for b in range(batch):
        top, best = -np.inf, 0
        for k in range(classes):
            value = bias[k]
            for c in range(x.shape[0]):
                value += weight[k, c] * feature[b, c]
            logits[b, k] = value
            if value > top:
                top, best = np.float64(value), k
        total = 0.0
        for k in range(classes):
            total += np.exp(logits[b, k] - top)
        label = labels[rows[first + b]]
        loss += top + np.log(total) - logits[b, label]
        correct += best == label
        if training:
            for k in range(classes):
                dlogit[b, k] = np.exp(logits[b, k] - top) / total / batch
            dlogit[b, label] -= 1.0 / batch
        if targets is not None and targets.shape[0] > 0:
            # The label's terms are replaced by the targets' own.
            loss -= top + np.log(total) - logits[b, label]
            dlogit[b, label] += 1.0 / batch
            for k in range(classes):
                loss += targets[b, k] * (top + np.log(total) - logits[b, k])
                dlogit[b, k] -= targets[b, k] / batch
    return loss, correct


@njit(cache=True, nogil=True)
def classify_backward(x, stat, weight, dlogit, feature, half, dweight, dbias, g):
    """Gradients of :func:`classify`: added to those of the linear layer; before the ReLU into ``g``."""
    batch, classes = dlogit.shape
    for b in range(batch):
        for k in range(classes):
            d = dlogit[b, k]
            dbias[k] += d
            for c in range(x.shape[0]):
                dweight[k, c] += d * feature[b, c]
    for c in range(x.shape[0]):
        a, b0 = stat[2, c], stat[3, c]
        for b in range(batch):
            d = np.float32(0)
            for k in range(classes):
                d += dlogit[b, k] * weight[k, c]
            d /= np.float32(half)
            start = LEAD + b * (half + 1)
            for t in range(half):
                g[c, start + t] = d if a * x[c, start + t] + b0 > np.float32(0) else np.float32(0)


@kernel(apart=True)
def forward_backward(
    ops,
    theta,
    grad,
    running,
    inputs,
    labels,
    rows,
    first,
    space1,
    space2,
    extra,
    logits,
    channels,
    training,
    targets=None,
):
    """One batch: logits, and in training the gradient of the mean cross-entropy added to ``grad``.

    With ``targets`` a second program is compiled, so that the first, which trains the tables, keeps its bits.

    Args:
        inputs: float32 (samples, length); labels: int64 (samples,); rows[first:first + batch] is the batch.
        running: float32 (16, 2, 2c): moments of the stem, six edges, reduction a and b, six edges, last.
        extra: work space, see :func:`allocate_extra`; logits: float32 (batch, classes), written.
        training: use the moments of the batch, by which ``running`` moves, in place of ``running``.
        targets: float32 (batch, classes), probabilities that take the place of the labels (distillation, label
            smoothing); (0, 0) for the labels. A ``grad`` of no elements then leaves the backward pass out.
    Returns the sum of the samples' losses and the number of samples whose largest logit is the label's.
    """
    x1, r1, g1, y1, dy1, dx1, stat1, share1 = space1
    x2, r2, g2, y2, dy2, dx2, stat2, share2 = space2
    xin, ys, gs, even, odd, reven, rodd, mean8, yb_a, z_a, rz_a, yb_b, g_a, geven, godd, dyr, dxr, stat0, statx = extra
    batch, classes = logits.shape
    length = inputs.shape[1]
    half = length // 2
    c1, c2 = channels, 2 * channels
    at = parameter_offsets(ops, channels, classes)
    end1, end2 = LEAD + batch * (length + 1), LEAD + batch * (half + 1)
    sums1 = np.zeros((2, c1), dtype=np.float64)
    sums2 = np.zeros((2, c2), dtype=np.float64)
    factor1 = np.empty((3, c1), dtype=np.float32)

    for b in range(batch):
        source, target = rows[first + b], LEAD + b * (length + 1)
        for t in range(length):
            xin[0, target + t] = inputs[source, t]

    # Stem: convolution and normalisation, no ReLU.
    w_stem = theta[: 3 * c1].reshape((c1, 1, 3))
    stem_conv(xin, w_stem, ys, LEAD, end1)
    if training:
        zero_gaps(ys, batch, length, 0, batch)
        add_moments(ys, LEAD, end1, sums1)
    normalisation(sums1, batch * length, theta[3 * c1 : 4 * c1], theta[4 * c1 : 5 * c1], running[0], stat0, training)
    add_affine(ys, stat0, x1[0], LEAD, end1, False)
    zero_gaps(x1[0], batch, length, 0, batch)

    cell_forward(ops, theta, at[1:7], running[1:7], x1, r1, y1, stat1, share1, batch, length, training)

    # Reduction: [ReLU, conv3 stride 2, norm], [ReLU, conv3, norm] plus [2-average, conv1].
    split_even_odd(x1[3], even, odd, batch, length)
    relu(even, reven, LEAD, end2)
    relu(odd, rodd, LEAD, end2)
    mean_rows(even, odd, mean8, LEAD, end2)
    at_a, at_b, at_s = at[7], at[8], at[9]
    size_a, size_b = 3 * c1 * c2, 3 * c2 * c2
    w_a = theta[at_a : at_a + size_a].reshape((c2, c1, 3))
    w_b = theta[at_b : at_b + size_b].reshape((c2, c2, 3))
    w_s = theta[at_s : at_s + c1 * c2].reshape((c2, c1, 1))
    for b in range(0, batch, TILE_SAMPLES):
        last = min(b + TILE_SAMPLES, batch)
        p0, p1 = LEAD + b * (half + 1), LEAD + last * (half + 1)
        # Stride 2: output t takes inputs 2t - 1, 2t, 2t + 1, which are odd t - 1, even t, odd t.
        conv1(rodd, w_a, 0, yb_a, p0, p1, -1, False)
        conv1(reven, w_a, 1, yb_a, p0, p1, 0, True)
        conv1(rodd, w_a, 2, yb_a, p0, p1, 0, True)
        if training:
            zero_gaps(yb_a, batch, half, b, last)
            add_moments(yb_a, p0, p1, sums2)
    gamma, beta = theta[at_a + size_a : at_a + size_a + c2], theta[at_a + size_a + c2 : at_b]
    normalisation(sums2, batch * half, gamma, beta, running[7], statx[1], training)
    add_affine(yb_a, statx[1], z_a, LEAD, end2, False)
    zero_gaps(z_a, batch, half, 0, batch)
    relu(z_a, rz_a, LEAD, end2)
    conv_norm(rz_a, w_b, 3, yb_b, sums2, batch, half, training)
    gamma, beta = theta[at_b + size_b : at_b + size_b + c2], theta[at_b + size_b + c2 : at_s]
    normalisation(sums2, batch * half, gamma, beta, running[8], statx[2], training)
    conv1(mean8, w_s, 0, x2[0], LEAD, end2, 0, False)
    add_affine(yb_b, statx[2], x2[0], LEAD, end2, True)
    zero_gaps(x2[0], batch, half, 0, batch)

    cell_forward(ops, theta, at[10:16], running[9:15], x2, r2, y2, stat2, share2, batch, half, training)

    # Head: normalisation, ReLU, global average, linear layer.
    at_n, at_f = at[16], at[17]
    sums2[:] = 0.0
    if training:
        add_moments(x2[3], LEAD, end2, sums2)
    normalisation(
        sums2, batch * half, theta[at_n : at_n + c2], theta[at_n + c2 : at_f], running[15], statx[3], training
    )
    w_f = theta[at_f : at_f + classes * c2].reshape((classes, c2))
    b_f = theta[at_f + classes * c2 : at_f + classes * c2 + classes]
    feature = np.zeros((batch, c2), dtype=np.float32)
    dlogit = np.zeros((batch, classes), dtype=np.float32)
    loss, correct = classify(
        x2[3], statx[3], w_f, b_f, labels, rows, first, half, training, targets, feature, logits, dlogit
    )
    if not training:
        return loss, correct
    if targets is not None and grad.shape[0] == 0:
        return loss, correct

    # Backward pass.
    dw_f = grad[at_f : at_f + classes * c2].reshape((classes, c2))
    db_f = grad[at_f + classes * c2 : at_f + classes * c2 + classes]
    classify_backward(x2[3], statx[3], w_f, dlogit, feature, half, dw_f, db_f, g_a)
    factor2 = np.empty((3, c2), dtype=np.float32)
    sums2[:] = 0.0
    norm_gradient_sums(x2[3], g_a, sums2, LEAD, end2)
    norm_gradient_factors(sums2, statx[3], batch * half, grad[at_n : at_n + c2], grad[at_n + c2 : at_f], factor2)
    norm_gradient(x2[3], g_a, factor2, g2[3], LEAD, end2)
    zero_gaps(g2[3], batch, half, 0, batch)

    cell_backward(ops, theta, grad, at[10:16], x2, r2, y2, stat2, g2, dy2, dx2, share2, batch, half)

    g_out = g2[0]
    dw_a = grad[at_a : at_a + size_a].reshape((c2, c1, 3))
    dw_b = grad[at_b : at_b + size_b].reshape((c2, c2, 3))
    dw_s = grad[at_s : at_s + c1 * c2].reshape((c2, c1, 1))
    g_a[:] = 0.0
    conv_norm_backward(
        rz_a, w_b, 3, yb_b, g_out, statx[2], dw_b, grad[at_b + size_b : at_b + size_b + c2],
        grad[at_b + size_b + c2 : at_s], dy2, dx2, rz_a, g_a, batch, half,
    )  # fmt: skip
    sums2[:] = 0.0
    norm_gradient_sums(yb_a, g_a, sums2, LEAD, end2)
    norm_gradient_factors(
        sums2, statx[1], batch * half, grad[at_a + size_a : at_a + size_a + c2],
        grad[at_a + size_a + c2 : at_b], factor2,
    )  # fmt: skip
    back_a, back_s = transposed(w_a), transposed(w_s)
    conv1_weight_gradient(mean8, g_out, dw_s, 0, LEAD, end2, 0)
    norm_gradient(yb_a, g_a, factor2, dyr, LEAD, end2)
    zero_gaps(dyr, batch, half, 0, batch)
    for b in range(0, batch, TILE_SAMPLES):
        last = min(b + TILE_SAMPLES, batch)
        p0, p1 = LEAD + b * (half + 1), LEAD + last * (half + 1)
        conv1_weight_gradient(rodd, dyr, dw_a, 0, p0, p1, -1)
        conv1_weight_gradient(reven, dyr, dw_a, 1, p0, p1, 0)
        conv1_weight_gradient(rodd, dyr, dw_a, 2, p0, p1, 0)
        conv1(g_out, back_s, 0, dxr, p0, p1, 0, False)
        for c in range(c1):
            for p in range(p0, p1):
                geven[c, p] = np.float32(0.5) * dxr[c, p]
                godd[c, p] = np.float32(0.5) * dxr[c, p]
        # The taps of the transposed weights are reversed.
        conv1(dyr, back_a, 1, dxr, p0, p1, 0, False)
        add_where_positive(dxr, reven, geven, p0, p1)
        conv1(dyr, back_a, 0, dxr, p0, p1, 0, False)
        conv1(dyr, back_a, 2, dxr, p0, p1, 1, True)
        add_where_positive(dxr, rodd, godd, p0, p1)
    join_even_odd(geven, godd, g1[3], batch, length)

    cell_backward(ops, theta, grad, at[1:7], x1, r1, y1, stat1, g1, dy1, dx1, share1, batch, length)

    sums1[:] = 0.0
    norm_gradient_sums(ys, g1[0], sums1, LEAD, end1)
    norm_gradient_factors(sums1, stat0, batch * length, grad[3 * c1 : 4 * c1], grad[4 * c1 : 5 * c1], factor1)
    norm_gradient(ys, g1[0], factor1, gs, LEAD, end1)
    zero_gaps(gs, batch, length, 0, batch)
    dw_stem = grad[: 3 * c1].reshape((c1, 1, 3))
    for b in range(0, batch, TILE_SAMPLES):
        last = min(b + TILE_SAMPLES, batch)
        conv3_weight_gradient(xin, gs, dw_stem, LEAD + b * (length + 1), LEAD + last * (length + 1))
    return loss, correct


@njit(cache=True, nogil=True)
def allocate_extra(channels, batch, length):
    """Work space outside the cells."""
    c1, c2, half = channels, 2 * channels, length // 2
    w1, w2 = LEAD + batch * (length + 1) + LEAD, LEAD + batch * (half + 1) + LEAD
    return (
        np.zeros((1, w1), np.float32),  # xin
        np.zeros((c1, w1), np.float32),  # ys
        np.zeros((c1, w1), np.float32),  # gs
        np.zeros((c1, w2), np.float32),  # even
        np.zeros((c1, w2), np.float32),  # odd
        np.zeros((c1, w2), np.float32),  # reven
        np.zeros((c1, w2), np.float32),  # rodd
        np.zeros((c1, w2), np.float32),  # mean8
        np.zeros((c2, w2), np.float32),  # yb_a
        np.zeros((c2, w2), np.float32),  # z_a
        np.zeros((c2, w2), np.float32),  # rz_a
        np.zeros((c2, w2), np.float32),  # yb_b
        np.zeros((c2, w2), np.float32),  # g_a
        np.zeros((c1, w2), np.float32),  # geven
        np.zeros((c1, w2), np.float32),  # godd
        np.zeros((c2, w2), np.float32),  # dyr
        np.zeros((c1, w2), np.float32),  # dxr
        np.zeros((4, c1), np.float32),  # stat0
        np.zeros((4, 4, c2), np.float32),  # statx
    )


@njit(cache=True, fastmath=True, nogil=True)
def nesterov_step(theta, grad, momentum, rate, decay, mu):
    """One step of SGD with Nesterov momentum and weight decay, in place."""
    for k in range(theta.shape[0]):
        d = grad[k] + decay * theta[k]
        momentum[k] = mu * momentum[k] + d
        theta[k] -= rate * (d + mu * momentum[k])


# The two loops below are plain Python: a compiled function contains a copy of all that it calls, and a step is long
# enough not to notice.


def train_steps(
    ops: Ints, theta: Floats, momentum: Floats, running: Floats, inputs: Floats, labels: Ints, order: Ints, rates: Floats,
    batch: int, decay: np.float32, mu: np.float32, channels: int, classes: int,
) -> float:  # fmt: skip
    """SGD with Nesterov momentum over ``order`` in batches; changes theta, momentum and running in place.

    Args:
        order: int64 (steps * batch,), sample numbers; rates: float32 (steps,), the learning rate of each step.
    Returns the mean loss over the samples seen.
    """
    length = inputs.shape[1]
    space1 = allocate(channels, batch, length)
    space2 = allocate(2 * channels, batch, length // 2)
    extra = allocate_extra(channels, batch, length)
    logits = np.zeros((batch, classes), dtype=np.float32)
    grad = np.zeros_like(theta)
    total = 0.0
    for step in range(rates.shape[0]):
        grad[:] = 0.0
        loss, _ = forward_backward(
            ops, theta, grad, running, inputs, labels, order, step * batch, space1, space2, extra, logits,
            channels, True,
        )  # fmt: skip
        total += loss
        nesterov_step(theta, grad, momentum, rates[step], decay, mu)
    return total / (rates.shape[0] * batch)


def predict(
    ops: Ints, theta: Floats, running: Floats, inputs: Floats, labels: Ints, batch: int, channels: int, classes: int
) -> tuple[Floats, float, int]:
    """Logits (samples, classes) with the running moments, the summed loss and the number of correct samples."""
    count, length = inputs.shape
    logits = np.zeros((count, classes), dtype=np.float32)
    rows = np.arange(count)
    grad = np.zeros(1, dtype=np.float32)
    total, hits = 0.0, 0
    size = 0
    for first in range(0, count, batch):
        if min(batch, count - first) != size:
            size = min(batch, count - first)
            space1 = allocate(channels, size, length)
            space2 = allocate(2 * channels, size, length // 2)
            extra = allocate_extra(channels, size, length)
        loss, correct = forward_backward(
            ops, theta, grad, running, inputs, labels, rows, first, space1, space2, extra,
            logits[first : first + size], channels, False,
        )  # fmt: skip
        total += loss
        hits += correct
    return logits, total, hits
