"""Expected hypervolume improvement on BoTorch: a Gaussian process a metric and the batch acquisition qLogNEHVI (extra)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from gpytorch.mlls import SumMarginalLogLikelihood
from numpy.typing import NDArray

from archgym.agents.base import hyper
from archgym.agents.botorch_agent import BoTorchHyperparameters, BoTorchOptimization
from archgym.agents.parego import REACH, ParEGO

FIT = {"options": {"maxiter": 50}}
"""Of a fit: the models of a batch take half a second with it, and several without."""


@dataclass(frozen=True)
class ExpectedHypervolumeHyperparameters(BoTorchHyperparameters):
    """Of the expected hypervolume improvement."""

    reach: str = hyper("median", choices=("median", "front"), doc=REACH)
    candidates: int = hyper(200, low=50, high=5000, log=True, doc="designs among which the acquisition is maximised")
    samples: int = hyper(16, low=8, high=512, log=True, doc="quasi-random samples of the acquisition's integral")


class ExpectedHypervolume(ParEGO, BoTorchOptimization):
    """Searches the Pareto front of ``problem.pareto_metrics``: of candidates that are made as ``parego`` makes them for one
    weighting, those that together promise the largest volume beyond the front that is known (Daulton et al., 2021; the
    logarithm of Ament et al., 2023), measured below a tenth beyond the losses that ``parego`` places at 1; infeasible trials
    are as bad as the worst known. Where there is one metric, or nothing feasible is known yet, it is ``botorch``."""

    name = "qnehvi"
    hyperparameters = ExpectedHypervolumeHyperparameters  # type: ignore[assignment]

    def _improvement(self, rows: NDArray[np.int64], x: torch.Tensor, sampler: Any) -> Any:
        if self._losses.shape[1] < 2 or not self._known().any():
            return super()._improvement(rows, x, sampler)
        y = -torch.from_numpy(self._placed()[rows])
        model = ModelListGP(*(SingleTaskGP(x, y[:, [j]]) for j in range(y.shape[1])))
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs=FIT)
        return qLogNoisyExpectedHypervolumeImprovement(
            model, ref_point=[-1.1] * y.shape[1], X_baseline=x, sampler=sampler, prune_baseline=True
        )
