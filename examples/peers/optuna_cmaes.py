"""Optuna's CMA-ES with margin (needs cmaes): every parameter is an integer range of indices.

archgym suite run SUITE --command "python examples/peers/optuna_cmaes.py" --called optuna-cmaes --out entries/optuna-cmaes
"""

import warnings

import optuna

from archgym.suites import given_runs

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore")  # the margin is marked experimental


def main():
    for run in given_runs():
        sampler = optuna.samplers.CmaEsSampler(with_margin=True, seed=run.seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        while not run.over:
            trial = study.ask()
            design = [trial.suggest_int(p.name, 0, len(p) - 1) for p in run.problem.space.parameters]
            study.tell(trial, run.reward(design))


if __name__ == "__main__":
    main()
