"""Bayesian optimisation on BoTorch: an exact Gaussian process and the batch expected improvement qLogNEI (extra)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.exceptions import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms.outcome import Standardize
from botorch.optim import optimize_acqf_discrete
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray

from archgym.agents.base import Hyperparameters, hyper
from archgym.agents.bayesian import BayesianOptimization
from archgym.agents.torch_support import own_randomness
from archgym.space import Designs


@dataclass(frozen=True)
class BoTorchHyperparameters(Hyperparameters):
    """Of BoTorch's Bayesian optimisation."""

    initial: int = hyper(20, low=2, high=1000, log=True, doc="uniform designs before the first fit")
    batch: int = hyper(4, low=1, high=32, log=True, doc="designs suggested a fit, chosen one after the other")
    points: int = hyper(
        150, low=20, high=1000, log=True, doc="most trials that the model sees: the best and the latest"
    )
    candidates: int = hyper(300, low=50, high=5000, log=True, doc="designs among which the acquisition is maximised")
    samples: int = hyper(64, low=8, high=512, log=True, doc="quasi-random samples of the acquisition's integral")


class BoTorchOptimization(BayesianOptimization):
    """Like ``bo`` in what the model sees and in its candidates; the model is BoTorch's SingleTaskGP with its
    dimension-scaled priors, the acquisition qLogNEI (Ament et al., 2023), maximised greedily over the candidates."""

    name = "botorch"

    hyperparameters = BoTorchHyperparameters  # type: ignore[assignment]

    def _make_model(self) -> Any:
        return None

    def _acquire(self, candidates: Designs) -> list[int]:
        rows = self._shown()
        x = torch.from_numpy(self.space.features(self._designs[rows]))
        pool = torch.from_numpy(self.space.features(candidates))
        seed = int(self.rng.integers(2**31))
        with own_randomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore", BotorchWarning)
            warnings.simplefilter("ignore", NumericalWarning)
            torch.manual_seed(seed)
            samples: int = self.p.samples  # type: ignore[attr-defined]  # of BoTorchHyperparameters
            acquisition = self._improvement(rows, x, SobolQMCNormalSampler(torch.Size([samples]), seed=seed))
            count = min(self.p.batch, len(candidates))
            chosen, _ = optimize_acqf_discrete(acquisition, q=count, choices=pool, unique=True)
        # Rows of the pool; equal features are equal designs in canonical form.
        found = [int(np.flatnonzero((pool == point).all(dim=1).numpy())[0]) for point in chosen]
        return list(dict.fromkeys(found))

    def _improvement(self, rows: NDArray[np.int64], x: torch.Tensor, sampler: Any) -> Any:
        """BoTorch's acquisition by a model of the trials ``rows``, whose features are ``x`` ``(n, f)``."""
        y = torch.from_numpy(self._standardised()[rows])[:, None]
        # Equal rewards have no deviation to divide by.
        outcome = Standardize(m=1) if float(y.std()) > 1e-9 else None
        model = SingleTaskGP(x, y, outcome_transform=outcome)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return qLogNoisyExpectedImprovement(model, X_baseline=x, sampler=sampler, prune_baseline=True)
