"""Runs over every simulator, killed at random moments, lose nothing that was told and end, resumed with a larger budget,
in the trials of an uninterrupted run. ``ARCHGYM_KILLS=100`` for more kills than CI has time for."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from archgym.agents import make_agent, search
from archgym.datasets import read_shard, read_trials
from archgym.datasets.schema import CLOCK_COLUMNS
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.testing.checks import _same_trials

KILLS = int(os.environ.get("ARCHGYM_KILLS", "18"))
AGENTS = ("ga", "random", "walk", "sa", "re", "aco", "local", "nsga2", "reinforce", "sobol", "grid")
SMALL, LARGE = 50, 75


def run(problem, agent, seed, log, budget, told=None):
    def follow(evaluator):
        if told is not None:
            os.write(told, evaluator.used.to_bytes(4, "little"))

    search(problem, make_agent(agent, problem, seed), budget, log=log, resume=True, batch=8, on_trials=follow)


def killed(after, *arguments):
    """Do a run in a forked process that is killed after so many seconds; returns the evaluations that were told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(*arguments, told=writer)
        finally:
            os._exit(0)
    os.close(writer)
    end = time.perf_counter() + after
    ended = False
    while time.perf_counter() < end and not ended:
        time.sleep(0.001)
        ended = os.waitpid(child, os.WNOHANG)[0] == child
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    return int.from_bytes(data[-4:], "little") if data else 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(tmp_path):
    rng = random.Random(0)
    problems = {name: make_problem(name) for name in SIMULATORS if name != "bowl"}
    kills = early = number = 0
    while kills < KILLS:
        name = list(problems)[number % len(problems)]
        agent, seed, problem = AGENTS[number % len(AGENTS)], number, problems[name]
        log, whole = tmp_path / f"{number}.arrows", tmp_path / f"{number}-whole.arrows"
        number += 1
        run(problem, agent, seed, whole, SMALL)
        whole.unlink()
        start = time.perf_counter()
        run(problem, agent, seed, whole, LARGE)
        seconds = time.perf_counter() - start
        for budget in (SMALL, SMALL, LARGE):
            told = killed(rng.uniform(0, seconds), problem, agent, seed, log, budget)
            kills += 1
            rows = sum(map(len, read_shard(log)[1])) if log.exists() else 0
            early += rows < budget
            assert rows >= told, f"{name}, {agent}: {told} told, {rows} on disk"
        run(problem, agent, seed, log, SMALL if rows < SMALL else LARGE)
        run(problem, agent, seed, log, LARGE)
        tables = [read_trials(path).drop_columns(list(CLOCK_COLUMNS)) for path in (log, whole)]
        assert _same_trials(*tables), f"{name}, {agent}: other trials after {kills} kills"
    assert early > kills / 3, "most runs ended before they could be killed"
    print(f"{kills} kills in {number} runs, {early} of them in the middle")
