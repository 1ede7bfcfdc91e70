"""An entry as it is passed on: the improvements of its runs, without the trials between them.

```
DIR/entry.json             as in the whole entry
DIR/improvements.jsonl.gz  one line a run: {"run", "evaluations", "agent_s", "steps": [[evaluation, reward, design], ...]}
```
A design is a list of value indices. An entry is verified before it is packed (:mod:`archgym.suites.packing`). What is left
can be checked less far: every improvement is simulated again, and agents of archgym repeat runs; how many other designs lay
between improvements is no longer seen.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import msgspec

from archgym.errors import ArchGymError
from archgym.reading import checked, quote_path, read_json_lines

FILE = "improvements.jsonl.gz"
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class PackedRun(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the packed file."""

    run: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    evaluations: Count
    agent_s: float | None
    steps: Annotated[list[tuple[Count, float, list[int]]], msgspec.Meta(min_length=1, max_length=1_000_000)]

    def __post_init__(self) -> None:
        if any(a[0] >= b[0] or a[1] >= b[1] for a, b in itertools.pairwise(self.steps)):
            raise ValueError("the improvements do not rise")
        if self.steps[-1][0] > self.evaluations:
            raise ValueError("an improvement comes after the last evaluation")


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a packed entry."""
    return (folder / FILE).is_file()


def read_packed(folder: Path) -> dict[str, PackedRun]:
    """The runs of a packed entry by their ids."""
    path = folder / FILE
    runs: dict[str, PackedRun] = {}
    for number, row in read_json_lines(path):
        run: PackedRun = checked(row, PackedRun, f"line {number} of {quote_path(path)}")
        if run.run in runs:
            raise ArchGymError(f"line {number} of {quote_path(path)} holds the run {run.run[:80]} a second time")
        runs[run.run] = run
    return runs
