"""An entry as it is passed on: the improvements of its runs, without the trials between them.

```
DIR/entry.json             as in the whole entry
DIR/improvements.jsonl.gz  one line a run: {"run", "evaluations", "agent_s", "steps": [[evaluation, reward, design], ...]}
```
A design is a list of value indices. The entry is verified before it is packed. What is left can be checked less far: every
improvement is simulated again, and agents of archgym repeat runs; that nothing else was evaluated in between, only they show.
"""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec

from archgym.errors import ArchGymError
from archgym.reading import checked, quote_path, read_json_lines
from archgym.suites.entry import Entry

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


def pack(suite: Any, folder: Path | str, target: Path | str) -> dict[str, Any]:
    """Verify the entry in ``folder`` and write its packed form into ``target``.

    Returns:
        ``runs``, ``steps``, ``bytes`` and ``folder``.

    Raises:
        ArchGymError: the entry does not hold, or ``target`` holds one already.
    """
    from archgym.suites.verify import verify

    folder, target = Path(folder), Path(target)
    if (target / FILE).exists():
        raise ArchGymError(f"{target} holds a packed entry already; choose another folder")
    verified = verify(suite, folder)
    if not verified.holds:
        first = verified.findings[0]
        raise ArchGymError(f"{folder} does not hold: {first.kind} in {first.run}: {first.sentence}"[:300])
    target.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for run in verified.runs:
        steps = [[at, reward, row] for (at, reward), row in zip(run.curve, run.designs.tolist(), strict=True)]
        seconds = None if run.agent_s != run.agent_s else run.agent_s
        lines.append({"run": run.spec.id, "evaluations": run.evaluations, "agent_s": seconds, "steps": steps})
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    # No time of day in the file: equal entries are equal bytes.
    (target / FILE).write_bytes(gzip.compress(text.encode(), mtime=0))
    Entry.read(folder).write(target)
    size = sum((target / name).stat().st_size for name in (FILE, "entry.json"))
    return {
        "runs": len(lines), "steps": sum(len(line["steps"]) for line in lines), "bytes": size, "folder": str(target),
    }  # fmt: skip
