"""TuRBO with one trust region on BoTorch: a Gaussian process in a box around the best, Thompson samples (Eriksson et al., 2019).

archgym suite run SUITE --command "python examples/peers/botorch_turbo.py" --called turbo --out entries/turbo
"""

import warnings

import torch
from botorch.fit import fit_gpytorch_mll
from botorch.generation import MaxPosteriorSampling
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood

from archgym.suites import given_runs

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def suggest(x, y, length, batch):
    """Thompson samples over candidates that differ from the best in a few dimensions, within its trust region."""
    model = SingleTaskGP(x, ((y - y.mean()) / y.std().clamp_min(1e-9))[:, None])
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    scale = model.covar_module.lengthscale.detach().squeeze()
    scale = scale / scale.log().mean().exp()
    best = x[y.argmax()]
    low, high = (best - scale * length / 2).clamp(0, 1), (best + scale * length / 2).clamp(0, 1)
    drawn = low + (high - low) * torch.quasirandom.SobolEngine(x.shape[1], scramble=True).draw(1000).to(x)
    moved = torch.rand_like(drawn) <= min(20 / x.shape[1], 1)
    moved[torch.arange(1000), torch.randint(x.shape[1], (1000,))] = True
    return MaxPosteriorSampling(model, replacement=False)(torch.where(moved, drawn, best), num_samples=batch)


def main(batch=4, initial=20):
    for run in given_runs():
        space = run.problem.space
        torch.manual_seed(run.seed)
        while not run.over:  # a trust region, until it is too small
            x, y, length, fails, wins = torch.rand(initial, space.dimension), torch.empty(0), 0.8, 0, 0
            y = torch.tensor([run.reward(d) for d in space.from_unit(x.numpy()) if not run.over])
            while not run.over and length > 0.5**7:
                asked = suggest(x, y, length, batch)
                told = torch.tensor([run.reward(d) for d in space.from_unit(asked.numpy()) if not run.over])
                better = told.max() > y.max()
                fails, wins = (0, wins + 1) if better else (fails + 1, 0)
                x, y = torch.cat([x, asked[: len(told)]]), torch.cat([y, told])
                if wins == 3:
                    length, wins = min(2 * length, 1.6), 0
                elif fails >= max(4, space.dimension) / batch:
                    length, fails = length / 2, 0


if __name__ == "__main__":
    main()
