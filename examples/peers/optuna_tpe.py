"""Optuna's TPE with the parameters modelled jointly (multivariate and grouped).

archgym suite run SUITE --command "python examples/peers/optuna_tpe.py" --called optuna-tpe --out entries/optuna-tpe
"""

import warnings

import optuna

from archgym.suites import given_runs

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore")  # experimental options; trials that others told


def main():
    for run in given_runs():
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=run.seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        while not run.over:
            trial = study.ask()
            study.tell(trial, run.reward(run.problem.space.to_optuna(trial)))


if __name__ == "__main__":
    main()
