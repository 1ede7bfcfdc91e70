"""Packs an entry: see :mod:`archgym.suites.packed` for what is kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.suites.entry import Entry
from archgym.suites.packed import FILE
from archgym.suites.suite import Suite
from archgym.suites.verify import verify
from archgym.writing import replacing


def pack(suite: Suite, folder: Path | str, target: Path | str) -> dict[str, Any]:
    """Verify the entry in ``folder`` and write its packed form into ``target``.

    Returns:
        ``runs``, ``steps``, ``bytes`` and ``folder``.

    Raises:
        ArchGymError: the entry does not hold, or ``target`` holds one already.
    """
    folder, target = Path(folder), Path(target)
    if (target / FILE).exists():
        raise ArchGymError(f"{target} holds a packed entry already; choose another folder")
    verified = verify(suite, folder)
    if not verified.holds:
        first = verified.findings[0]
        raise ArchGymError(f"{folder} does not hold: {first.kind} in {first.run}: {first.sentence}"[:300])
    lines: list[dict[str, Any]] = []
    for run in verified.runs:
        steps = [[at, reward, row] for (at, reward), row in zip(run.curve, run.designs.tolist(), strict=True)]
        seconds = None if run.agent_s != run.agent_s else run.agent_s
        lines.append({"run": run.spec.id, "evaluations": run.evaluations, "agent_s": seconds, "steps": steps})
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    # No time of day in the file: equal entries are equal bytes.
    with replacing(target / FILE) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    Entry.read(folder).write(target)
    size = sum((target / name).stat().st_size for name in (FILE, "entry.json"))
    return {
        "runs": len(lines), "steps": sum(len(line["steps"]) for line in lines), "bytes": size, "folder": str(target),
    }  # fmt: skip
