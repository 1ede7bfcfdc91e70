"""Nevergrad: its portfolio of discrete (1+1), or NGOpt, which picks by budget and dimension.

archgym suite run SUITE --command "python examples/peers/nevergrad_portfolio.py" --called nevergrad-portfolio --out entries/nevergrad
archgym suite run SUITE --command "python examples/peers/nevergrad_portfolio.py NGOpt" --called ngopt --out entries/ngopt
"""

import sys
import warnings

import nevergrad as ng
import numpy as np

from archgym.suites import given_runs

warnings.simplefilter("ignore")  # of its own inner optimisers


def main(name="PortfolioDiscreteOnePlusOne"):
    for run in given_runs():
        space = run.problem.space
        parametrization = space.to_nevergrad()
        parametrization.random_state = np.random.RandomState(run.seed)
        optimizer = ng.optimizers.registry[name](parametrization, budget=run.budget)
        while not run.over:
            candidate = optimizer.ask()
            optimizer.tell(candidate, -run.reward(space.from_point(candidate.value)))


if __name__ == "__main__":
    main(*sys.argv[1:])
