"""Every registered simulator evaluates in forked processes, before and after its parent, and from several threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import multiprocessing, sys, threading, warnings
import gymnasium
import numpy as np
import archgym
from archgym.envs.registration import ENVIRONMENTS
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.testing.checks import same_evaluation

warnings.simplefilter("ignore")
archgym.register_environments()
fork = multiprocessing.get_context("fork")

def evaluate(name, problem=None):
    problem = problem or make_problem(name)
    # Enough designs for several pieces of work; of the slow simulators fewer.
    return problem.evaluate(problem.space.sample(40 if name in ("accelerator", "dram", "llm-serving") else 300, 0))[0]

def forked(name, problem=None):
    with fork.Pool(2) as pool:
        return pool.starmap(evaluate, [(name, problem)] * 2)

for name in SIMULATORS:
    print(name, flush=True)
    first = forked(name)
    problem = make_problem(name)
    own = evaluate(name, problem)
    answers = [None] * 4
    def work(i):
        answers[i] = evaluate(name, problem)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    after = forked(name)
    assert all(same_evaluation(own, other) for other in [*first, *answers, *after]), "other bits"
    for env_id, kind in ENVIRONMENTS.items():
        if kind == name:
            env = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make(env_id)] * 2, context="fork")
            env.reset(seed=0)
            env.step(env.action_space.sample())
            env.close()
maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
assert "omppool" not in maps and "workqueue" not in maps, "a threading layer of Numba was started"
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_simulators_survive_forks_and_threads():
    # (Of Numba's threading layers none is started, so that it does not matter which is chosen.)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"after {done.stdout.split()[-1:]}: {done.stderr[-2000:]}"
