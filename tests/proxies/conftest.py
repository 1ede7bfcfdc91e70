import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import toy
from toy import FAST


@pytest.fixture(autouse=True, scope="session")
def _toy():
    toy.register()


@pytest.fixture(scope="session")
def problem():
    from archgym.problem import make_problem

    toy.register()
    return make_problem("toy/light")


@pytest.fixture(scope="session")
def proxy(problem):
    pytest.importorskip("lightgbm")
    from archgym.proxies.training import train_on_problem

    return train_on_problem(problem, 300, metrics=["all"], settings=FAST)


@pytest.fixture(scope="session")
def file(proxy, tmp_path_factory):
    return proxy.save(tmp_path_factory.mktemp("proxy") / "toy.proxy.npz")
