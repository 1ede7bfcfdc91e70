"""Speed of serving: iterations of the exact schedule, whole traces, steady states."""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterable
from functools import partial

import numpy as np

from archgym.measure import Figure, units_per_second
from archgym.simulators.llm import requests
from archgym.simulators.llm.serving import LlmServing
from archgym.simulators.llm.validate_serving import run_schedule

RUNS = (
    {"scheduler": "vllm", "stages": 1, "replicas": 1, "batch_cap": 64, "num_blocks": 4000},
    {"scheduler": "sarathi", "stages": 1, "replicas": 3, "batch_cap": 32, "num_blocks": 780},
    {"scheduler": "sarathi", "stages": 4, "replicas": 1, "batch_cap": 32, "num_blocks": 780},
    {"scheduler": "orca", "stages": 1, "replicas": 2, "batch_cap": 32, "num_blocks": 5120},
    {"scheduler": "vllm", "stages": 2, "replicas": 1, "batch_cap": 16, "num_blocks": 400},
)
"""Servers of the schedule's figure, beside what they share."""
SHARED = {
    "law": [0.011, 6.5e-5, 2.5e-9, 4e-7, 0.0005], "block_size": 16, "watermark": 0.01, "max_tokens_in_batch": 8192,
    "chunk_size": 512, "router": "round_robin", "max_tokens": 4096, "plain_cap": 32, "run": 0,
}  # fmt: skip


def figures(threads: int) -> Iterable[Figure]:
    """``schedule_iterations_per_s`` (one thread: iterations of five servers, each simulated under the linear law),
    ``trace_designs_per_s/sharegpt_300`` and ``steady_designs_per_s`` (random designs of the small and default space for
    Llama-3.1-8B on eight H100, feasible or not)."""
    drawn = requests.trace("azure_conv_2023", requests=400)
    short = np.minimum(drawn.prompt_tokens, 2000)
    columns = drawn.arrived_s, short, drawn.output_tokens

    def schedule() -> int:
        return sum(run_schedule({**SHARED, **run}, *columns, skip=True)[1] for run in RUNS)

    yield Figure("schedule_iterations_per_s", units_per_second(schedule, schedule()), "iterations/s", 1)
    for fidelity, figure, space, count in (
        ("trace", "trace_designs_per_s/sharegpt_300", "small", 256),
        ("steady", "steady_designs_per_s", "default", 200_000),
    ):
        simulator = LlmServing(space)
        workload = simulator.load_workload("llama3.1-8b+sharegpt_300@8xh100")
        where = simulator.space(workload)
        designs = where.sample(4 * count, 0)
        designs = designs[where.violations(designs) == ""]
        designs = np.resize(designs, (count, where.dimension))
        evaluate = partial(simulator.evaluate, designs, workload, fidelity=fidelity)
        yield Figure(figure, units_per_second(evaluate, count), "designs/s", threads)
