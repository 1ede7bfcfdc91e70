"""Every example runs with its real libraries."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "stable_baselines3_ppo": ["stable_baselines3"],
    "cleanrl_style_ppo": ["torch"],
    "optuna_direct": ["optuna"],
    "pymoo_pareto": ["pymoo"],
    "botorch_loop": ["botorch"],
    "mo_gymnasium_rewards": ["mo_gymnasium"],
    "minari_collect": ["minari"],
    "duckdb_analysis": ["duckdb", "pandas"],
    "torch_model_to_accelerator": ["torch"],
    "torchrl_ppo": ["torchrl"],
    "skrl_ppo": ["skrl"],
    "tianshou_dqn": ["tianshou"],
    "rllib_ppo": ["ray", "torch", "tree"],
    "own_architectures": ["torch", "sklearn"],
}


def run(name):
    for library in NEEDS.get(name, []):
        pytest.importorskip(library)
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= set(NEEDS) | {"rl_across_workloads", "own_c_program"}


@pytest.mark.slow
def test_stable_baselines3_ppo():
    assert np.isfinite(run("stable_baselines3_ppo"))


@pytest.mark.slow
def test_cleanrl_style_ppo_learns():
    first, last = run("cleanrl_style_ppo")
    assert last > first


@pytest.mark.slow
def test_optuna_direct():
    assert run("optuna_direct") > 0


@pytest.mark.slow
def test_pymoo_pareto():
    assert run("pymoo_pareto") > 3


@pytest.mark.slow
def test_botorch_loop():
    start, best = run("botorch_loop")
    assert best >= start


@pytest.mark.slow
def test_mo_gymnasium_rewards():
    assert run("mo_gymnasium_rewards").shape == (3,)


@pytest.mark.slow
def test_minari_collect():
    assert run("minari_collect") == 5 * 16


@pytest.mark.slow
def test_duckdb_analysis():
    table = run("duckdb_analysis")
    assert table["trials"].sum() >= 600


@pytest.mark.slow
def test_torch_model_to_accelerator():
    assert run("torch_model_to_accelerator") > 0


@pytest.mark.slow
def test_own_architectures():
    assert len((EXAMPLES / "own_architectures.py").read_text().splitlines()) < 40
    accuracy, energy_uj = run("own_architectures")
    assert accuracy > 20 and energy_uj > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrl_ppo", "skrl_ppo", "tianshou_dqn", "rllib_ppo"])
def test_training_with_another_library(name, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    assert np.isfinite(run(name))


@pytest.mark.slow
def test_own_c_program(tmp_path, monkeypatch):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    assert len((EXAMPLES / "own_c_program.py").read_text().splitlines()) <= 60
    monkeypatch.chdir(tmp_path)
    from archgym.registry import SIMULATORS

    for evaluations in (360, 0):
        try:
            done = run("own_c_program")
        finally:
            SIMULATORS.unregister("cache")
        assert done.evaluations == evaluations
        assert (tmp_path / "out-own-c-program" / "near.npz").is_file()
        assert (done.study.folder / "report.html").is_file()
