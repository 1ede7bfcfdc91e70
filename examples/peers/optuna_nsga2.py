"""Optuna's NSGA-II over the problem's Pareto metrics; what is infeasible breaks a constraint.

archgym suite run SUITE --command "python examples/peers/optuna_nsga2.py" --called optuna-nsga2 --out entries/optuna-nsga2
"""

import warnings

import numpy as np
import optuna

from archgym.suites import given_runs

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore")  # experimental options


def main():
    for run in given_runs():
        sampler = optuna.samplers.NSGAIISampler(
            population_size=40, seed=run.seed, constraints_func=lambda trial: trial.user_attrs["broken"]
        )
        study = optuna.create_study(directions=["minimize"] * len(run.problem.pareto_metrics), sampler=sampler)
        while not run.over:
            trial = study.ask()
            _, evaluation, rewards = run.evaluate(run.problem.space.to_optuna(trial)[None])
            if not len(rewards):
                break
            losses = run.problem.losses(evaluation)[0]
            trial.set_user_attr("broken", [1.0 - float(evaluation.feasible[0])])
            study.tell(trial, np.where(np.isfinite(losses), losses, 1e30).tolist())


if __name__ == "__main__":
    main()
