"""Expected hypervolume improvement on BoTorch: a Gaussian process a metric and the batch acquisition qLogNEHVI (extra)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.exceptions import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.optim import optimize_acqf_discrete
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import SumMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning

from archgym.agents.base import hyper
from archgym.agents.botorch_agent import BoTorchHyperparameters, BoTorchOptimization
from archgym.agents.parego import REACH, ParEGO
from archgym.agents.torch_support import own_randomness
from archgym.space import Designs

FIT = {"options": {"maxiter": 50}}
"""More steps take ten times as long, and move the hyperparameters little."""


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

    def _acquire(self, candidates: Designs) -> list[int]:
        if self._losses.shape[1] < 2 or not self._known().any():
            return super()._acquire(candidates)
        rows = self._shown()
        x = torch.from_numpy(self.space.features(self._designs[rows]))
        y = -torch.from_numpy(self._placed()[rows])
        pool = torch.from_numpy(self.space.features(candidates))
        seed = int(self.rng.integers(2**31))
        with own_randomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore", BotorchWarning)
            warnings.simplefilter("ignore", NumericalWarning)
            torch.manual_seed(seed)
            model = ModelListGP(*(SingleTaskGP(x, y[:, [j]]) for j in range(y.shape[1])))
            fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs=FIT)
            samples: int = self.p.samples  # type: ignore[attr-defined]  # of ExpectedHypervolumeHyperparameters
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model,
                ref_point=[-1.1] * y.shape[1],
                X_baseline=x,
                sampler=SobolQMCNormalSampler(torch.Size([samples]), seed=seed),
                prune_baseline=True,
            )
            count = min(self.p.batch, len(candidates))
            chosen, _ = optimize_acqf_discrete(acquisition, q=count, choices=pool, unique=True)
        # Rows of the pool; equal features are equal designs in canonical form.
        found = [int(np.flatnonzero((pool == point).all(dim=1).numpy())[0]) for point in chosen]
        return list(dict.fromkeys(found))
