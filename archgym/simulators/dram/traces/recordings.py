"""The recordings of real programs that come with the package."""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from archgym.reading import parse_json
from archgym.simulators.dram.trace import LINE_BYTES, Trace


class LazyTraces(Mapping[str, Trace]):
    """Traces by name, each made at the first access and kept."""

    def __init__(self, makers: Mapping[str, Callable[[], Trace]]) -> None:
        self._makers, self._made = dict(makers), dict[str, Trace]()

    def __getitem__(self, name: str) -> Trace:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@cache
def shipped_traces() -> Mapping[str, Trace]:
    """Recordings of real programs by name, behind a last-level cache; ``tools/traces/record.py`` made them."""
    folder = Path(__file__).parents[1] / "data" / "traces"
    index = parse_json(folder.joinpath("index.json").read_text(encoding="utf-8"))

    def load(name: str, entry: Mapping[str, Any]) -> Trace:
        with folder.joinpath(f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as columns:
            time = np.cumsum(columns["time"], dtype=np.int64)
            line = np.cumsum(columns["line"], dtype=np.int64)
            is_write = np.unpackbits(columns["is_write"], count=len(time)).astype(np.bool_)
        copies = f", {entry['cores']} copies on as many cores" if entry["cores"] > 1 else ""
        description = (
            f"{entry['description']}{copies}; cache of {entry['cache']}; {entry['ipc']:g} instructions a cycle of "
            f"{entry['clock_mhz']:g} MHz"
        )
        return Trace(name, description, time, line * LINE_BYTES, is_write, entry["clock_mhz"])

    def maker(name: str) -> Callable[[], Trace]:
        return lambda: load(name, index[name])

    return LazyTraces({name: maker(name) for name in index})
