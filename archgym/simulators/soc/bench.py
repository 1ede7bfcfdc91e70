"""Speed of the SoC simulator."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Iterable
from functools import partial

import numpy as np

from archgym.measure import Figure, units_per_second
from archgym.simulators.soc.simulator import SocSimulator
from archgym.simulators.soc.spaces import FullSpace
from archgym.simulators.soc.task_graph import BUILTIN
from archgym.space import Designs

MOST_ELEMENTS = 10


def bench(threads: int) -> Iterable[Figure]:
    """Designs a second of ``evaluate`` after compilation, random designs of up to ten processing elements, in batches
    of 8192: each single workload, the slowest of them (``designs_per_s/single``) and the three together
    (``designs_per_s/three``), in ``farsi`` mode; the same in physical mode; and the time of one design alone."""
    for mode, prefix in (("farsi", "designs_per_s"), ("physical", "physical_designs_per_s")):
        singles = []
        for name in BUILTIN:
            singles.append(_rate(SocSimulator(mode=mode), name))
            yield Figure(f"{prefix}/{name}", singles[-1], "designs/s", threads)
        yield Figure(f"{prefix}/single", min(singles), "designs/s", threads)
        yield Figure(f"{prefix}/three", _rate(SocSimulator(mode=mode), "all"), "designs/s", threads)
    yield Figure("one_design_ms", _single(), "ms", threads)


def _designs(simulator: SocSimulator, name: str, count: int) -> Designs:
    """Random rows with at most ten processing elements (any number for the combination)."""
    graph = simulator.load_workload(name)
    space = simulator.space(graph)
    designs = space.sample(2 * count, 0)
    if len(graph.parts) == 1:
        assert isinstance(space, FullSpace)
        designs = designs[space.element_count(designs) <= MOST_ELEMENTS]
    return np.ascontiguousarray(designs[:count])


def _rate(simulator: SocSimulator, name: str) -> float:
    graph = simulator.load_workload(name)
    designs = _designs(simulator, name, 8192)
    return units_per_second(partial(simulator.evaluate, designs, graph), len(designs))


def _single() -> float:
    simulator = SocSimulator()
    graph = simulator.load_workload("audio_decoder")
    designs = _designs(simulator, "audio_decoder", 300)
    simulator.evaluate(designs[:1], graph)
    start = time.perf_counter()
    for row in designs:
        simulator.evaluate(row, graph)
    return (time.perf_counter() - start) / len(designs) * 1e3
