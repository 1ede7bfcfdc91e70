import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import toy

from archgym.agents.collect import collect
from archgym.problem import make_problem


@pytest.fixture(autouse=True)
def _toy():
    toy.register()


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    """Four runs: uniform and Sobol on one workload, random search and a genetic algorithm on the other."""
    toy.register()
    folder = tmp_path_factory.mktemp("trials")
    collect(make_problem("toy/light"), folder, count=120, method="uniform", seed=1)
    collect(make_problem("toy/light"), folder, count=100, method="sobol", seed=2)
    collect(make_problem("toy/heavy"), folder, count=150, method="agent:random", seed=3)
    collect(make_problem("toy/heavy"), folder, count=90, method="agent:ga", seed=4)
    return folder
