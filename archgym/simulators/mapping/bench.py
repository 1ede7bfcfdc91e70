"""Speed of the mapping simulator."""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterable
from functools import partial

from archgym.measure import Figure, units_per_second
from archgym.simulators.mapping.simulator import MappingSimulator


def bench(threads: int) -> Iterable[Figure]:
    """``cluster_mappings_per_s/<space>``: random mappings of ResNet-18's layer 2, after compilation."""
    for space in MappingSimulator.spaces:
        simulator = MappingSimulator(space)
        workload = simulator.load_workload("resnet18-2")
        designs = simulator.space(workload).sample(4000, 0)
        value = units_per_second(partial(simulator.evaluate, designs, workload), len(designs))
        yield Figure(f"cluster_mappings_per_s/{space}", value, "mappings/s", threads)
