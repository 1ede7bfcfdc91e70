"""What the environments cost above the simulator, measured as differences in one run."""

from __future__ import annotations

__all__ = ()

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from archgym.envs.design_env import DesignEnv
from archgym.envs.vector_env import DesignVectorEnv
from archgym.measure import Figure
from archgym.problem import make_problem


def _seconds(calls: Sequence[Callable[[], object]], repeat: int, rounds: int) -> list[float]:
    """Seconds a call of each: the least of many short rounds, in turns, of which some meet a quiet moment of the machine."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            best[k] = min(best[k], (time.perf_counter() - start) / repeat)
    return best


def _import_s() -> float:
    """Processor seconds of ``import archgym`` in a new process, Gymnasium and NumPy included: the least of five."""
    code = "import time; start = time.process_time(); import archgym; print(time.process_time() - start)"
    command = [sys.executable, "-c", code]
    return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5))


def bench(threads: int) -> Iterator[Figure]:
    """Microseconds of ``step`` and ``reset`` above the simulator's own time, and of ``step`` a design of 1,024
    sub-environments."""
    yield Figure("import_cpu_s", _import_s(), "s", threads)
    problem = make_problem("dram/gzip", workload_options={"requests": 1})
    space, workload, simulator = problem.space, problem.workload, problem.simulator
    one, many = space.sample(1, 0), space.sample(1024, 0)
    simulator.evaluate(many, workload)
    env = DesignEnv(problem=problem, episode_length=10**9)
    env.reset(seed=0)
    again = {"design": one[0]}  # what a random one takes to simulate varies
    calls = [lambda: env.step(one[0]), lambda: env.reset(options=again), lambda: simulator.evaluate(one, workload)]
    step, reset, alone = _seconds(calls, 5, 500)
    yield Figure("step_overhead_us", (step - alone) * 1e6, "us", threads)
    yield Figure("reset_overhead_us", (reset - alone) * 1e6, "us", threads)
    vector = DesignVectorEnv(problem=problem, num_envs=1024, episode_length=10**9)
    vector.reset(seed=0)
    step, alone = _seconds([lambda: vector.step(many), lambda: simulator.evaluate(many, workload)], 1, 100)
    yield Figure("vector_overhead_us_per_design/1024", (step - alone) / 1024 * 1e6, "us", threads)
