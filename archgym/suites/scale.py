"""What a reward is worth on a problem's own scale: 0 is the best known, 1 the baseline or worse."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.suites.suite import SuiteProblem


def normalised(problem: SuiteProblem, rewards: ArrayLike) -> NDArray[np.float64]:
    """Normalised regret of rewards, of the shape of ``rewards``, clipped to [0, 1].

    A reward above the best known (unless it is the exhaustive optimum) is 0; infeasible (-inf) and NaN are 1.

    Raises:
        ArchGymError: the problem was not measured, or a reward lies above an exhaustive optimum.
    """
    known = problem.known
    if known is None:
        raise ArchGymError(f"{problem.problem} has no measured scale; run 'archgym suite measure' on the suite first")
    values = np.asarray(rewards, dtype=np.float64)
    above = values > known.best.reward + 1e-9 * max(1.0, abs(known.best.reward))
    if known.best.exhaustive and above.any():
        raise ArchGymError(
            f"{problem.title} has the exhaustive optimum {known.best.reward:.10g}, and {np.nanmax(values):.10g} lies above "
            "it: the optimum belongs to another problem, or the result is wrong"
        )
    span = known.best.reward - known.baseline
    if not span > 0:
        return np.where(values >= known.best.reward, 0.0, 1.0)
    with np.errstate(invalid="ignore"):
        distance = np.clip(known.best.reward - values, 0.0, None)
        if problem.scale == "log":
            regret = np.log1p(distance / problem.unit) / np.log1p(span / problem.unit)
        else:
            regret = distance / span
    return np.where(np.isnan(regret), 1.0, np.clip(regret, 0.0, 1.0))


def threshold(problem: SuiteProblem, best: float, baseline: float, regret: float = 0.01) -> float:
    """The reward whose normalised regret is ``regret``, between ``best`` and ``baseline``."""
    span = best - baseline
    if problem.scale == "log":
        return float(best - problem.unit * np.expm1(regret * np.log1p(span / problem.unit)))
    return float(best - regret * span)
