"""Speed of training steps: ``training_designs_per_s/calculon`` and ``/closed``, and a small space exhausted."""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterable
from functools import partial

import numpy as np

from archgym.measure import Figure, units_per_second
from archgym.simulators.llm.training import LlmTrainingSimulator

WORKLOAD = "llama3.1-70b@64xh100"
SECONDS = 1.5


def figures(threads: int) -> Iterable[Figure]:
    """Designs a second through ``evaluate``: only designs that pass every rule, so that each is evaluated whole (all 96
    results under ``calculon``); and seconds to evaluate all 356,400 designs of the space ``small``."""
    for space, name in (("calculon", "calculon"), ("default", "closed")):
        simulator = LlmTrainingSimulator(space)
        workload = simulator.load_workload(WORKLOAD)
        layouts = simulator.space(workload)
        rng = np.random.default_rng(0)
        kept = np.empty((0, layouts.dimension), dtype=np.int64)
        while len(kept) < 16384:
            designs = layouts.sample(1 << 17, rng)
            kept = np.concatenate([kept, designs[layouts.violations(designs) == ""]])
        designs = np.tile(kept[:16384], (8, 1))
        rate = units_per_second(partial(simulator.evaluate, designs, workload), len(designs), SECONDS)
        yield Figure(f"training_designs_per_s/{name}", rate, "designs/s", threads)
    simulator = LlmTrainingSimulator("small")
    workload = simulator.load_workload(WORKLOAD)
    whole = np.concatenate(list(simulator.space(workload).batches()))
    rate = units_per_second(partial(simulator.evaluate, whole, workload), 1, SECONDS)
    yield Figure("training_small_s", 1.0 / rate, "s", threads)
