"""How fast the simulator is: designs a second in batches, requests a second of one long simulation."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Callable, Iterator

import numpy as np

from archgym.measure import Figure
from archgym.simulators.dram.simulator import DramSimulator
from archgym.simulators.dram.trace import Trace

WINDOW = 1000
"""Requests a design."""
BATCH = 16384
"""Designs of a batch, drawn uniformly from the ``archgym`` space."""
LONG = 1_000_000
"""Requests of the long simulation."""


def random_timed(requests: int) -> Trace:
    """Random lines over 1 GiB, 30 % writes, mean gap 6 cycles."""
    rng = np.random.default_rng(1)
    gap = rng.geometric(1 / 6, requests)
    return _trace(
        "random-timed", np.cumsum(gap) - gap[0], rng.integers(0, 1 << 24, requests), rng.random(requests) < 0.3
    )


def random_saturating(requests: int) -> Trace:
    """Random lines over 1 GiB, 30 % writes, one a cycle."""
    rng = np.random.default_rng(2)
    return _trace(
        "random-saturating", np.arange(requests), rng.integers(0, 1 << 24, requests), rng.random(requests) < 0.3
    )


def stream_saturating(requests: int) -> Trace:
    """Sequential reads, one a cycle."""
    return _trace("stream-saturating", np.arange(requests), np.arange(requests), np.zeros(requests, dtype=bool))


TRACES: tuple[Callable[[int], Trace], ...] = (random_timed, random_saturating, stream_saturating)


def bench(threads: int) -> Iterator[Figure]:
    """Figures on DDR4-2400, address map rbc, after compilation.

    ``designs_per_s/<trace>``: a batch of 16,384 designs drawn uniformly from the ``archgym`` space, 1,000 requests each,
    through ``DramSimulator.evaluate``; the best of as many batches (each of new designs) as fit in about 3 s, at least
    two. ``simulations_per_s/<trace>``: the same without the sharing of results between designs, on one thread.
    ``requests_per_s/<trace>``: one design (open page, FR-FCFS, refresh) over 1,000,000 requests on one thread.
    """
    simulator = DramSimulator("archgym", threads=threads)
    for make in TRACES:
        trace = make(WINDOW)
        space = simulator.space(trace)
        simulator.evaluate(space.sample(64, 0), trace)
        rates: list[float] = []
        begin = time.perf_counter()
        while len(rates) < 2 or time.perf_counter() - begin < 3.0:
            designs = space.sample(BATCH, 1 + len(rates))
            start = time.perf_counter()
            simulator.evaluate(designs, trace)
            rates.append(BATCH / (time.perf_counter() - start))
        yield Figure(f"designs_per_s/{trace.name}", max(rates), "1/s", threads)
    single = DramSimulator("archgym", threads=1)
    for make in TRACES:
        trace = make(WINDOW)
        designs = single.space(trace).sample(200, 9)
        start = time.perf_counter()
        for design in designs:
            single.evaluate(design, trace)
        yield Figure(f"simulations_per_s/{trace.name}", len(designs) / (time.perf_counter() - start), "1/s", 1)
    design = {
        "PagePolicy": "Open", "Scheduler": "FrFcfs", "SchedulerBuffer": "Bankwise", "RequestBufferSize": 8,
        "RespQueue": "Fifo", "RefreshPolicy": "AllBank", "RefreshMaxPostponed": 8, "RefreshMaxPulledin": 8,
        "Arbiter": "Fifo", "MaxActiveTransactions": 128,
    }  # fmt: skip
    for make in TRACES:
        trace = make(LONG)
        row = single.space(trace).encode(design)
        single.evaluate(row, make(WINDOW))
        single._prepare(trace, single.device, "rbc", 1, 1)
        start = time.perf_counter()
        single.evaluate(row, trace)
        yield Figure(f"requests_per_s/{trace.name}", LONG / (time.perf_counter() - start), "1/s", 1)


def _trace(name: str, cycles: np.ndarray, lines: np.ndarray, is_write: np.ndarray) -> Trace:
    return Trace(name, f"{name}, for the benchmark", cycles, lines * 64, is_write)
