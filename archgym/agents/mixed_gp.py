"""A Gaussian process over ordered and unordered parameters that holds from a handful of dimensions to hundreds.

Matern 5/2 with one length scale a parameter: the distance of an ordered parameter is that of its scaled indices, of an
unordered one 0 or 1 (Hamming). Length scales have the prior whose median grows with the root of the dimension (Hvarfner et
al., ICML 2024), without which a model of 50 parameters and 100 trials takes every design to be unrelated to every other.
Gradients of all length scales come from matrix products, not from a matrix a parameter, so that a fit of 156 parameters
costs hardly more than one of 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack, solve_triangular
from scipy.optimize import minimize

from archgym.space import Designs, DesignSpace

Array = NDArray[np.float64]

ROOT5 = np.sqrt(5.0)
NOISE = (1e-6, 1e-1)
"""Bounds of the noise's variance, of standardised rewards: simulators have none, but the kernel does not fit all."""
FIT_POINTS = 200
"""Trials that the kernel's hyperparameters are fitted on, at most: the latest of those shown."""


def _scaled_distances(a: Array, b: Array) -> Array:
    """Distances ``(n, m)`` of the rows, times the root of five."""
    square = a @ b.T
    square *= -2.0
    square += (a**2).sum(axis=1)[:, None]
    square += (b**2).sum(axis=1)
    np.maximum(square, 0.0, out=square)
    return np.asarray(np.multiply(np.sqrt(square, out=square), ROOT5, out=square))


def matern(r: Array) -> Array:
    """Correlations of smoothness 5/2 at distances that are scaled by the root of five; of the shape of ``r``."""
    return np.asarray((1.0 + r + r * r / 3.0) * np.exp(-r))


class MixedGP:
    """The model; all of its work is on one thread's BLAS, and on no random number.

    Args:
        space: the design space.
        rough: whether length scales are expected near the prior's mode instead of near its median, which is some twenty
            times as long: a function of many parameters that wiggles against one of few that is smooth.
    """

    def __init__(self, space: DesignSpace, rough: bool = False) -> None:
        self._pull = float(rough)
        self._nvec = space.nvec
        self._plain = np.array([p.ordered or len(p) <= 2 for p in space.parameters])
        self._step = 1.0 / np.maximum(space.nvec - 1, 1)
        hot = np.flatnonzero(~self._plain)
        # Columns: the plain parameters, then one a value of the others.
        self._group = np.concatenate([np.flatnonzero(self._plain), np.repeat(hot, space.nvec[hot])]).astype(np.int64)
        d = space.dimension
        self._loc, self._scale = np.sqrt(2.0) + 0.5 * np.log(d), np.sqrt(3.0)
        # Logarithms of the length scales, of the signal's and of the noise's variance.
        self._log = np.concatenate([np.full(d, np.log(0.5) + 0.5 * np.log(d)), [0.0, np.log(1e-4)]])
        self._bounds = [(-4.0, self._loc + 3 * self._scale)] * d + [(-3.0, 3.0), (np.log(NOISE[0]), np.log(NOISE[1]))]
        self._fitted_at = self._fits_since = 0

    def features(self, designs: Designs) -> Array:
        """Columns ``(n, f)`` whose squared distances, summed over a parameter's columns, are the parameter's."""
        blocks = [designs[:, self._plain] * self._step[self._plain]]
        # Two rows that differ in a category differ in two columns.
        blocks += [
            (designs[:, j, None] == np.arange(self._nvec[j])) * np.sqrt(0.5) for j in np.flatnonzero(~self._plain)
        ]
        return np.concatenate(blocks, axis=1)

    # --- kernel -------------------------------------------------------------------------------------------------

    def _kernel(self, a: Array, b: Array) -> Array:
        """Correlations ``(n, m)`` of scaled features."""
        return matern(_scaled_distances(a, b))

    def _loss(self, log: Array, x: Array, y: Array) -> tuple[float, Array]:
        """Minus the logarithm of the posterior of the hyperparameters, and its gradient."""
        d, n = len(self._nvec), len(y)
        signal, noise = np.exp(log[d]), np.exp(log[d + 1])
        z = x * np.exp(-log[self._group])
        r = _scaled_distances(z, z)
        decay = signal * np.exp(-r)
        slope = (1.0 + r) * decay
        k = slope + r * r * decay / 3.0
        noisy = k.copy()
        noisy.flat[:: n + 1] += noise + 1e-10
        factor, info = lapack.dpotrf(noisy.T, lower=1, clean=0, overwrite_a=1)
        if info:
            return 1e10, np.zeros_like(log)
        half_determinant = float(np.log(np.diag(factor)).sum())
        alpha = lapack.dpotrs(factor, y, lower=1)[0]
        # The factor's own inverse takes a third of the time of n solutions, and fills the lower half.
        half = np.tril(lapack.dpotri(factor, lower=1, overwrite_c=1)[0])
        w = np.outer(alpha, alpha) - half - half.T
        w.flat[:: n + 1] += np.diag(half)
        wk = w * slope
        wk *= 5.0 / 3.0
        # Sum over pairs of wk (z_a - z_b)^2 / 2, column by column.
        columns = wk.sum(axis=1) @ z**2 - ((wk @ z) * z).sum(axis=0)
        gradient = np.zeros_like(log)
        np.add.at(gradient, self._group, -columns)
        gradient[d], gradient[d + 1] = -0.5 * float(np.vdot(w, k)), -0.5 * noise * float(np.trace(w))
        loss = 0.5 * float(y @ alpha) + half_determinant
        scales = (log[:d] - self._loc) / self._scale
        loss += (
            0.5 * float(scales @ scales)
            + self._pull * float(log[:d].sum())
            + 0.5 * log[d] ** 2
            + 0.125 * (log[d + 1] - np.log(1e-4)) ** 2
        )
        gradient[:d] += scales / self._scale + self._pull
        gradient[d] += log[d]
        gradient[d + 1] += 0.25 * (log[d + 1] - np.log(1e-4))
        return loss, gradient

    # --- learning and predicting --------------------------------------------------------------------------------

    def fit(self, designs: Designs, y: Array) -> None:
        """Learn from designs ``(n, d)`` and standardised rewards ``(n,)``. The hyperparameters are fitted anew whenever
        the data has grown by a fifth, or after 25 fits; in between only the data is exchanged."""
        x = self.features(designs)
        self._mean = float(y.mean())
        self._fits_since += 1
        if len(y) >= 1.2 * self._fitted_at or self._fits_since >= 25:
            part = slice(max(len(y) - FIT_POINTS, 0), None)
            found = minimize(
                self._loss, self._log, (x[part], y[part] - self._mean), "L-BFGS-B", True, bounds=self._bounds,
                options={"maxiter": 60, "ftol": 1e-6},
            )  # fmt: skip
            self._log = np.asarray(found.x) if np.isfinite(found.fun) and found.fun < 1e9 else self._log
            self._fitted_at, self._fits_since = len(y), 0
        d = len(self._nvec)
        self._scales = np.exp(-self._log[self._group])
        self._signal, noise = float(np.exp(self._log[d])), float(np.exp(self._log[d + 1]))
        self._x = x * self._scales
        k = self._signal * self._kernel(self._x, self._x)
        while True:  # more noise where numbers do not hold the matrix
            try:
                self._factor = np.asarray(np.linalg.cholesky(k + noise * np.eye(len(y))))
                break
            except np.linalg.LinAlgError:
                noise = max(10.0 * noise, 1e-8)
        self._noise = noise
        self._alpha = self.solved(y - self._mean)

    def solved(self, y: Array) -> Array:
        """Weights of the trials for other values ``(n,)`` of theirs."""
        return np.asarray(cho_solve((self._factor, True), y))

    def predict(self, designs: Designs) -> tuple[Array, Array]:
        """Mean and standard deviation at ``(m, d)``; remembers the points for :meth:`believe` and :meth:`other`."""
        self._points = self.features(designs) * self._scales
        self._cross = self._signal * self._kernel(self._points, self._x)
        self._reduced = solve_triangular(self._factor, self._cross.T, lower=True, check_finite=False)
        self._variance = self._signal - (self._reduced**2).sum(axis=0)
        return self._cross @ self._alpha + self._mean, self._deviation()

    def other(self, weights: Array) -> Array:
        """At the remembered points, the mean of what has the ``weights`` of :meth:`solved`."""
        return np.asarray(self._cross @ weights)

    def _deviation(self) -> Array:
        return np.sqrt(np.maximum(self._variance, 1e-12))

    def believe(self, row: int) -> Array:
        """Deviation at the remembered points if the mean at point ``row`` had been observed. Shape ``(m,)``."""
        covariance = self._signal * self._kernel(self._points, self._points[row : row + 1])[:, 0]
        covariance -= self._reduced.T @ self._reduced[:, row]
        added = covariance / np.sqrt(max(self._variance[row], 0.0) + self._noise)
        self._reduced = np.vstack([self._reduced, added])
        self._variance = self._variance - added**2
        return self._deviation()
