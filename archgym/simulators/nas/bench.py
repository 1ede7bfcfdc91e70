"""Speed of the NAS simulator, measured after compilation."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from archgym.measure import Figure


def _rate(call: Callable[[], object], count: int, seconds: float = 1.0) -> float:
    """Best rate of five windows, so that a busy neighbour costs one window and not the figure."""
    call()
    best = 0.0
    for _ in range(5):
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds / 5:
            call()
            done += count
        best = max(best, done / (time.perf_counter() - begin))
    return best


def bench(threads: int) -> Iterable[Figure]:
    """``lookups_per_s``: full evaluations (validation of the designs, all metrics) of batches of 16,384 random cells;
    ``lookups_per_s/256``, ``/1``: batches of that size; ``first_lookup_ms``: read the table and answer once;
    ``train_gflop_per_s`` and ``train_s``: one network with the compiled trainer, whole recipe."""
    from archgym.simulators.nas.simulator import NasSimulator
    from archgym.simulators.nas.table import own_table

    own_table.cache_clear()
    simulator = NasSimulator()
    workload = simulator.load_workload(simulator.default_workload)
    designs = simulator.space(workload).sample(16384, 0)
    begin = time.perf_counter()
    simulator.evaluate(designs[:1], workload)
    first = 1e3 * (time.perf_counter() - begin)
    yield Figure("lookups_per_s", _rate(lambda: simulator.evaluate(designs, workload), len(designs)), "1/s", threads)
    for count in (256, 1):
        rate = _rate(partial(simulator.evaluate, designs[:count], workload), count)
        yield Figure(f"lookups_per_s/{count}", rate, "1/s", 1)
    yield Figure("first_lookup_ms", first, "ms", 1)
    yield from _training()
    yield _environment_steps(threads)


def _training() -> Iterable[Figure]:
    from archgym.simulators.nas import cells
    from archgym.simulators.nas.kernels import training as kernels
    from archgym.simulators.nas.macro import macro
    from archgym.simulators.nas.recipes import TABLE_RECIPE
    from archgym.simulators.nas.trainer import initial_parameters

    # A cell with one edge of every kind and a second 3x3 edge: close to the mean cost of the space.
    ops = cells.from_string("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|")
    skeleton, recipe = macro(TABLE_RECIPE.macro), TABLE_RECIPE
    steps = 40
    rng = np.random.default_rng(0)
    x = rng.normal(size=(recipe.batch * steps, skeleton.size)).astype(np.float32)
    y = rng.integers(0, 10, len(x))
    theta = initial_parameters(int(cells.codes(ops)), 0)
    velocity, running = np.zeros_like(theta), np.ones((16, 2, 2 * skeleton.width), dtype=np.float32)

    def train() -> None:
        kernels.train_steps(
            ops, theta.copy(), velocity.copy(), running.copy(), x, y, np.arange(len(x)), np.full(steps, 0.1, np.float32),
            recipe.batch, np.float32(recipe.weight_decay), np.float32(recipe.momentum), skeleton.width, 10,
        )  # fmt: skip

    rate = _rate(train, steps, 1.5)
    macs = int(skeleton.macs((ops == cells.CONV1).sum(), (ops == cells.CONV3).sum()))
    yield Figure("train_gflop_per_s", rate * 6e-9 * macs * recipe.batch, "GFLOP/s", 1)
    yield Figure("train_s", recipe.epochs * (recipe.data.train // recipe.batch) / rate, "s", 1)


def _environment_steps(threads: int) -> Figure:
    """Steps of the vector environment with 4,096 sub-environments over the shipped table, resets included."""
    from archgym.envs.vector_env import DesignVectorEnv

    env = DesignVectorEnv("nas", num_envs=4096)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 5, (64, 4096, 6))
    for action in actions:
        env.step(action)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        for action in actions:
            env.step(action)
        best = min(best, time.perf_counter() - start)
    return Figure("env_steps_per_s/4096", actions.shape[0] * 4096 / float(best), "1/s", threads)
