"""A BoTorch loop on the unit cube of a design space: a GP, log expected improvement, the best of a random pool."""

from __future__ import annotations

import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.mlls import ExactMarginalLogLikelihood

import archgym


def main(initial: int = 16, rounds: int = 6) -> tuple[float, float]:
    """Return the best reward of the initial sample and of the whole loop."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    problem = archgym.make_problem("systolic/resnet18")
    designs = problem.space.sample(initial, rng)
    rewards = problem.evaluate(designs)[1]
    start = float(rewards.max())
    for _ in range(rounds):
        x = torch.as_tensor(problem.space.to_unit(designs))
        y = torch.as_tensor(rewards)[:, None]
        model = SingleTaskGP(x, y, outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        pool = problem.space.sample(512, rng)
        with torch.no_grad():
            gain = LogExpectedImprovement(model, best_f=y.max())(
                torch.as_tensor(problem.space.to_unit(pool))[:, None, :]
            )
        chosen = pool[gain.argsort(descending=True)[:4].numpy()]
        designs = np.concatenate([designs, chosen])
        rewards = np.concatenate([rewards, problem.evaluate(chosen)[1]])
    print(f"best of {initial} random designs {start:.4f}, after {rounds} rounds {rewards.max():.4f}")
    return start, float(rewards.max())


if __name__ == "__main__":
    main()
