"""Agreement of the exact order of events with DRAMSys 4.0: every row equal, in time and in energy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from archgym.measure import Group
from archgym.simulators.dram import event_run
from archgym.simulators.dram import validate as fast

REFERENCE = "dram"


def validate(ref: Path) -> Iterator[Group]:
    """The groups of ``archgym validate dram``, simulated in the exact order; each requires every row to be exact."""
    return fast.validate(ref, event_run.run, exact=True)
