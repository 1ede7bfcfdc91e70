"""How agents look at rewards: by rank, in standard units, by the improvement that a model expects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from archgym.objective import Rewards

Array = NDArray[np.float64]


def quantiles(rewards: Rewards) -> Array:
    """Of each reward ``(n,)`` its quantile among all, 0 to 1; equal rewards share the middle of theirs."""
    ordered = np.sort(rewards)
    low, high = np.searchsorted(ordered, rewards, "left"), np.searchsorted(ordered, rewards, "right")
    return np.asarray((low + high - 1) / max(2 * len(rewards) - 2, 1))


def standard_units(rewards: Rewards, feasible: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre and spread of feasible rewards: the median, and how far the 84th percentile lies above it."""
    good = rewards[feasible] if feasible.any() else rewards
    centre = float(np.median(good))
    return centre, float(np.quantile(good, 0.84) - centre) or float(np.std(good)) or 1.0


def standardised(rewards: Rewards, feasible: NDArray[np.bool_], units: tuple[float, float] | None = None) -> Array:
    """Rewards ``(n,)`` in standard units (their own, or those given); the bad tail is cut at -3, the infeasible are put
    there. A model that spends its capacity on how bad the bad are finds nothing."""
    centre, spread = units or standard_units(rewards, feasible)
    return np.where(feasible, np.maximum((rewards - centre) / spread, -3.0), -3.0)


def expected_improvement(z: Array) -> Array:
    """Expected improvement of a standard normal beyond -z, in its deviations (Jones et al., 1998). Shape of ``z``."""
    return np.asarray(z * norm.cdf(z) + norm.pdf(z))


INFEASIBLE = -3.0
"""The reward of an infeasible design by :class:`RewardScale`."""


class RewardScale:
    """Standardises rewards by the running mean and deviation of feasible ones, clipped to [-3, 3]; infeasible designs
    get :data:`INFEASIBLE`."""

    def __init__(self) -> None:
        self._count, self._mean, self._square = 0, 0.0, 0.0

    def __call__(self, rewards: Rewards, feasible: NDArray[np.bool_]) -> Rewards:
        good = rewards[feasible]
        if len(good):
            # Chan's update of mean and sum of squared deviations by a batch.
            total, mean = self._count + len(good), float(good.mean())
            gap = mean - self._mean
            self._square += float(((good - mean) ** 2).sum()) + gap**2 * self._count * len(good) / total
            self._mean += gap * len(good) / total
            self._count = total
        deviation = (self._square / self._count) ** 0.5 if self._count else 0.0
        scaled = (rewards - self._mean) / deviation if deviation > 1e-12 else np.zeros_like(rewards)
        return np.where(feasible, np.clip(scaled, -3.0, 3.0), INFEASIBLE)
