"""Optuna drives a problem directly: a categorical a parameter, the reward as the value."""

from __future__ import annotations

import optuna

import archgym


def main(trials: int = 60) -> float:
    """Return the best reward that TPE finds."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    problem = archgym.make_problem("systolic/resnet18")

    def reward(trial: optuna.Trial) -> float:
        design = [trial.suggest_categorical(p.name, range(len(p))) for p in problem.space.parameters]
        return float(problem.evaluate([design])[1][0])

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(reward, n_trials=trials)
    print(f"best reward {study.best_value:.4f}")
    return float(study.best_value)


if __name__ == "__main__":
    main()
