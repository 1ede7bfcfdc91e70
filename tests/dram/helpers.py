"""Traces and designs for the tests of the DRAM simulator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from archgym.simulators.dram import Trace
from archgym.simulators.dram.addressmap import named_map
from archgym.simulators.dram.batch import Prepared, prepare
from archgym.simulators.dram.devices import device

REF = Path(os.environ.get("ARCHGYM_REF", Path(__file__).parents[2].parent / "shared" / "ref")) / "dram"


def random_trace(seed: int, requests: int = 300, gap: float = 4.0, writes: float = 0.3, span: int = 1 << 18) -> Trace:
    """Requests over a small space, so that rows are hit, banks conflict and addresses repeat; runs of lines."""
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.geometric(1 / gap, requests)) - 1 if gap > 1 else np.arange(requests)
    start = rng.integers(0, span, requests)
    jump = rng.random(requests) < 0.4
    jump[0] = True
    since = np.arange(requests) - np.maximum.accumulate(np.where(jump, np.arange(requests), 0))
    line = (start[np.maximum.accumulate(np.where(jump, np.arange(requests), 0))] + since // 2) % span
    return Trace(f"test-{seed}", "random runs", time, line * 64, rng.random(requests) < writes)


def random_rows(seed: int, count: int, refresh: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Rows of the controllers: any sizes, any limits."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, 12), dtype=np.int64)
    for column, values in {0: range(4), 1: range(3), 2: range(3), 4: range(2), 8: range(3), 5: refresh}.items():
        rows[:, column] = rng.choice(list(values), count)
    rows[:, 3] = rng.choice([1, 2, 3, 4, 6, 8, 20], count)
    rows[:, 6:8] = rng.integers(1, 9, (count, 2))
    rows[:, 9] = rng.choice([1, 2, 3, 5, 8, 16, 64, 128], count)
    return rows


def memory(trace: Trace, name: str = "DDR4-2400", map_name: str = "rbc", ranks: int = 1, channels: int = 1) -> Prepared:
    dev = device(name)
    return prepare(trace, dev, named_map(map_name, dev, ranks, channels), ranks, channels)
