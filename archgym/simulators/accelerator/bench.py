"""Speed of the accelerator models."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Iterable
from functools import partial

import numpy as np

from archgym import networks
from archgym.measure import Figure, units_per_second
from archgym.simulators.accelerator.loopnest import Architecture, Batch, Level, Problem, evaluate_batch
from archgym.simulators.accelerator.simulator import AcceleratorSimulator
from archgym.simulators.systolic import bench as systolic

_SECONDS = 1.5


def random_batch(problems: list[Problem], rows: int, seed: int) -> tuple[Batch, np.ndarray, Architecture]:
    """Random mappings of the problems on three storage levels with a 16 x 16 array: ``rows`` of them, the problem of
    each, and the architecture. Every prime factor of every dim goes to a random place, loops are in random order."""
    rng = np.random.default_rng(seed)
    architecture = Architecture(
        (
            Level("DRAM", 4, None, read_pj=512, write_pj=512, update_pj=512),
            Level("GLB", 4, 2**30, 1, 1, 16, 16, read_pj=32, write_pj=26, update_pj=26, leak_pj=0.003),
            Level("registers", 1, 2**30, 256, 256, 2, 2, read_pj=0.4, write_pj=0.3, update_pj=0.3),
        ),
        256,
        256,
        0.3,
    )
    # Places: three levels in time, and X and Y below the global buffer.
    levels, axes = np.array([0, 1, 1, 1, 2]), np.array([0, 0, 1, 2, 0])
    dims = len(problems[0].dims)
    problem_of = rng.integers(0, len(problems), rows)
    count = np.ones((rows, 5, dims), np.int64)
    for i in range(rows):
        for d, bound in enumerate(problems[problem_of[i]].bounds):
            rest, factor = bound, 2
            while rest > 1:
                while rest % factor == 0:
                    count[i, rng.choice(5, p=(0.3, 0.3, 0.1, 0.1, 0.2)), d] *= factor
                    rest //= factor
                factor += 1
    order = rng.permuted(np.tile(np.arange(dims), (rows, 5, 1)), axis=2)
    count = np.take_along_axis(count, order, axis=2)
    shape = (rows, 5 * dims)
    level = np.broadcast_to(levels[:, None], (rows, 5, dims)).reshape(shape)
    axis = np.broadcast_to(axes[:, None], (rows, 5, dims)).reshape(shape)
    batch = Batch(order.reshape(shape), count.reshape(shape), level, axis)
    return batch, problem_of, architecture


def bench(threads: int) -> Iterable[Figure]:
    """``mappings_per_s``: random mappings of ResNet-18's convolutions on three levels, through ``evaluate_batch``.
    ``hardware_designs_per_s/NETWORK``: random designs on the whole network, mapping search included, with the spatial
    options of all meshes ranked already (the first pass over them is ``.../NETWORK/cold``). Systolic arrays follow."""
    layers = [layer for layer in networks.network("resnet18").layers if layer.op == "conv"]
    problems = [Problem.from_layer(layer) for layer in layers]
    batch, problem_of, architecture = random_batch(problems, 4096, 0)
    dim, count, level, axis = (np.tile(v, (16, 1)) for v in (batch.dim, batch.count, batch.level, batch.axis))
    big = Batch(dim, count, level, axis)
    of = np.tile(problem_of, 16)
    keeps = np.ones((1, 3, 3), dtype=bool)

    mappings = partial(evaluate_batch, problems, [architecture], big, keeps, problem_of=of)
    yield Figure("mappings_per_s", units_per_second(mappings, len(of), _SECONDS), "(mapping, layer)/s", threads)
    for name in ("alexnet", "resnet18", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"):
        simulator = AcceleratorSimulator()
        network = networks.network(name)
        designs = simulator.space(network).sample(32 if len(network.merged().layers) > 20 else 256, 0)
        simulator.evaluate(designs[:1], networks.network("bert_base_s128"))
        start = time.perf_counter()
        simulator.evaluate(designs, network)
        cold = len(designs) / (time.perf_counter() - start)

        rate = units_per_second(partial(simulator.evaluate, designs, network), len(designs), _SECONDS)
        yield Figure(f"hardware_designs_per_s/{name}", rate, "designs/s", threads)
        yield Figure(f"hardware_designs_per_s/{name}/cold", cold, "designs/s", threads)
    yield from systolic.bench(threads)
