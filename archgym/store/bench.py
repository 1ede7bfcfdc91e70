"""What it costs to ask a store, a design, by processor time."""

from __future__ import annotations

__all__ = ()

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from archgym.measure import Figure
from archgym.store.database import Context, Row, Store


def _microseconds(call: Callable[[], object], designs: int, rounds: int = 5) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return 1e6 * best / designs


def bench(threads: int) -> Iterator[Figure]:
    """Microseconds of processor time a design, of 20 parameters and 8 metrics: written, and looked up in a file of 40,000, in
    batches of 1,000 and one by one."""
    rng = np.random.default_rng(0)
    designs = [row.tobytes() for row in rng.integers(0, 100, (40_000, 20), dtype=np.int32)]
    rows = {design: Row(True, "", rng.random(8).tobytes()) for design in designs}
    context, batch = Context.of({"simulator": "bench"}), designs[::40]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store.sqlite")
        start = time.process_time()
        for i in range(0, len(designs), 1000):
            store.put(context, {design: rows[design] for design in designs[i : i + 1000]})
        yield Figure("write_us_per_design", 1e6 * (time.process_time() - start) / len(designs), "us", 1)
        yield Figure("look_up_us_per_design", _microseconds(lambda: store.look_up(context, batch), 1000), "us", 1)
        yield Figure(
            "look_up_one_us", _microseconds(lambda: [store.look_up(context, [d]) for d in batch], 1000), "us", 1
        )
        store.close()
