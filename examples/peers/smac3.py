"""SMAC3's random forest with expected improvement and local search (its facade for hyperparameters).

archgym suite run SUITE --command "python examples/peers/smac3.py" --called smac3 --out entries/smac3
"""

import logging
import tempfile

from smac import HyperparameterOptimizationFacade as Facade
from smac import Scenario
from smac.runhistory.dataclasses import TrialValue

from archgym.suites import given_runs


def search(run, folder):
    space = run.problem.space
    scenario = Scenario(
        space.to_configspace(run.seed),
        deterministic=True,
        n_trials=10 * run.budget,
        seed=run.seed,
        output_directory=folder,
    )
    # As many first designs as the facade takes by default.
    initial = Facade.get_initial_design(scenario, n_configs=min(10 * space.dimension, run.budget // 4))
    smac = Facade(
        scenario, lambda config, seed: 0.0, initial_design=initial, logging_level=logging.ERROR, overwrite=True
    )
    while not run.over:
        trial = smac.ask()
        cost = -run.reward(space.from_point(dict(trial.config)))
        smac.tell(trial, TrialValue(cost=cost), save=False)


def main():
    for run in given_runs():
        with tempfile.TemporaryDirectory() as folder:
            search(run, folder)


if __name__ == "__main__":
    main()
