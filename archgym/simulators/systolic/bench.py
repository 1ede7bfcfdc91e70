"""Speed of the systolic simulator."""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterable
from functools import partial

from archgym.measure import Figure, units_per_second
from archgym.networks import Network
from archgym.simulators.systolic.simulator import SystolicSimulator


def bench(threads: int) -> Iterable[Figure]:
    """``systolic_per_s``: (design, layer) evaluations of random designs on ResNet-50's 30 layer shapes, through
    ``evaluate``, after compilation."""
    simulator = SystolicSimulator()
    network = simulator.load_workload("resnet50")
    assert isinstance(network, Network)
    shapes = len(network.merged().layers)
    designs = simulator.space(network).sample(65536, 0)
    rate = units_per_second(partial(simulator.evaluate, designs, network), len(designs) * shapes, 1.5)
    yield Figure("systolic_per_s", rate, "(design, layer)/s", threads)
