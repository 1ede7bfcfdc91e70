"""Speed of the mapping simulator."""

from __future__ import annotations

import time
from collections.abc import Iterable

from archgym.measure import Figure
from archgym.simulators.mapping.simulator import MappingSimulator


def bench(threads: int) -> Iterable[Figure]:
    """``cluster_mappings_per_s/<space>``: random mappings of ResNet-18's layer 2, after compilation."""
    for space in MappingSimulator.spaces:
        simulator = MappingSimulator(space)
        workload = simulator.load_workload("resnet18-2")
        designs = simulator.space(workload).sample(4000, 0)
        simulator.evaluate(designs, workload)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < 1.0:
            simulator.evaluate(designs, workload)
            count += len(designs)
        value = count / (time.perf_counter() - start)
        yield Figure(f"cluster_mappings_per_s/{space}", value, "mappings/s", threads)
