"""Speed of the systolic simulator."""

from __future__ import annotations

import time
from collections.abc import Iterable

from archgym.measure import Figure
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
    simulator.evaluate(designs, network)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 1.5:
        simulator.evaluate(designs, network)
        count += len(designs) * shapes
    yield Figure("systolic_per_s", count / (time.perf_counter() - start), "(design, layer)/s", threads)
