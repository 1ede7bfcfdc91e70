"""Benchmarks of the proxies: error on the shipped DRAM traces, coverage, speed."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Iterable

import numpy as np

from archgym.measure import Figure
from archgym.problem import make_problem
from archgym.proxies.training import evaluate, held_out, predictions_per_second, train_on_problem

DESIGNS = 10_000
TEST = 4_000
METRICS = ("total_time_ns", "energy_pj", "average_power_mw")
DRAMSYS_CPU_S = 0.06
"""CPU seconds of one DRAMSys 4.0 run of a 10,000-request ArchGym trace, start included (35 to 60 ms were measured)."""


def bench(threads: int, designs: int = DESIGNS) -> Iterable[Figure]:
    """Train on at most ``designs`` designs a shipped trace and test on held-out uniform ones (some minutes)."""
    from archgym.simulators.dram.traces import shipped_traces

    worst, coverages = 0.0, []
    for name in shipped_traces():
        problem = make_problem(f"dram/{name}", space="archgym", workload_options={"requests": 1000})
        start = time.perf_counter()
        proxy = train_on_problem(problem, designs, metrics=METRICS, settings={"threads": threads})
        seconds = time.perf_counter() - start
        assert proxy.training is not None
        test = held_out(problem, TEST, 1, proxy.training.designs)
        truth = problem.simulator.evaluate(test, problem.workload)
        found = evaluate(proxy, problem.workload, test, truth)
        for metric, row in found["metrics"].items():
            yield Figure(f"relative_rmse_percent/dram/{name}/{metric}", row["relative_rmse_percent"], "%", threads)
            coverages.append(row["coverage"])
            worst = max(worst, row["relative_rmse_percent"])
        yield Figure(f"training_s/dram/{name}", seconds, "s", threads)
    yield Figure("relative_rmse_percent/dram/worst", worst, "%", threads)
    yield Figure("coverage_of_90_percent/dram/least", float(min(coverages)), "1", threads)
    yield Figure("coverage_of_90_percent/dram/most", float(max(coverages)), "1", threads)
    batch = problem.space.sample(200_000, np.random.default_rng(5))
    rate = predictions_per_second(proxy, problem.workload, batch, 2.0)
    yield Figure("designs_per_s/batch", rate, "designs/s", threads)
    few = batch[:2000]
    problem.simulator.evaluate(few[:100], problem.workload)
    start = time.perf_counter()
    problem.simulator.evaluate(few, problem.workload)
    own = len(few) / (time.perf_counter() - start)
    yield Figure("speedup/own_simulator", rate / own, "x", threads)
    yield Figure("speedup/starting_dramsys", rate / threads * DRAMSYS_CPU_S, "x", threads)
