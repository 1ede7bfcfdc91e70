"""Processor cores are counted where the system cannot say which of them this process may use, as on macOS and Windows."""

from __future__ import annotations

import os

import numpy as np
import pytest

from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.threads import usable_cores


def test_usable_cores(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()


@pytest.mark.parametrize("name", [name for name in SIMULATORS if SIMULATORS[name].startswith("archgym.")])
def test_a_problem_of_each_simulator_runs_without_it(name, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    problem = make_problem(name)
    evaluation, rewards = problem.evaluate(problem.space.sample(2, 0))
    assert len(evaluation) == 2 and np.isfinite(rewards).all()
