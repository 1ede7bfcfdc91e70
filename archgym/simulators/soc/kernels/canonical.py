"""Canonical forms of the space ``full``, compiled: agents ask for those of a few designs at a time, a hundred times a
suggestion, and dozens of array operations on few rows take as long as on thousands."""

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel

Int = NDArray[np.int64]

PE, UNROLL, CLOCK, BUS, MEMORY, PROCESSORS_FROM, WRITES = range(7)
"""Rows of ``tasks``: columns of a task's parameters in a design, -1 where it lacks one; the choice that value 0 of its
processing element stands for (0: the accelerator, 1: cpu0); whether it has children, which read what it writes."""
BUS_WIDTH, BUS_CLOCK, MEMORY_KIND, MEMORY_WIDTH, MEMORY_CLOCK, MEMORY_BUS = range(6)
"""Rows of ``blocks``: columns of the parameters of each bus and of each memory."""


@kernel(arrays=False)
def canonicalize(designs: Int, tasks: Int, blocks: Int, topology: int, buses_of: Int, used: Int) -> None:
    """Make rows ``(n, d)`` canonical in place.

    Args:
        designs: value indices.
        tasks: int64 ``(7, tasks)``, rows as named above.
        blocks: int64 ``(6, 4)``, rows as named above.
        topology: column of the topology.
        buses_of: number of buses of each topology.
        used: scratch ``(4,)``.
    """
    for i in range(len(designs)):
        row = designs[i]
        count = buses_of[row[topology]]
        for b in range(count, blocks.shape[1]):
            row[blocks[BUS_WIDTH, b]] = 0
            row[blocks[BUS_CLOCK, b]] = 0
        first = 0  # of cpu1 (2) and cpu2 (3), the one used first in task order becomes cpu1
        used[:] = 0
        for t in range(tasks.shape[1]):
            pe = tasks[PE, t]
            if pe >= 0:
                choice = row[pe] + tasks[PROCESSORS_FROM, t]
                if choice >= 2:
                    if first == 0:
                        first = choice
                    if first == 3:
                        row[pe] = 5 - choice - tasks[PROCESSORS_FROM, t]
                if tasks[PROCESSORS_FROM, t] == 0:
                    _accelerator(row, tasks[:, t], count)
            if tasks[WRITES, t]:
                used[row[tasks[MEMORY, t]] if tasks[MEMORY, t] >= 0 else 0] = 1
        for m in range(blocks.shape[1]):
            column = blocks[MEMORY_BUS, m]
            if used[m]:
                row[column] %= count
            else:
                row[blocks[MEMORY_KIND, m]] = 0
                row[blocks[MEMORY_WIDTH, m]] = 0
                row[blocks[MEMORY_CLOCK, m]] = 0
                row[column] = 0


@inner
def _accelerator(row: Int, task: Int, count: int) -> None:
    """Of a task that may run on an accelerator: its parameters are 0 where it does not."""
    if row[task[PE]] > 0:
        row[task[CLOCK]] = 0
        row[task[BUS]] = 0
        if task[UNROLL] >= 0:
            row[task[UNROLL]] = 0
    else:
        row[task[BUS]] %= count
