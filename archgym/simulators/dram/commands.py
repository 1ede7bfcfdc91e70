"""The vocabulary of the DRAM simulator: commands, the places that they are counted in, and the lists of issued commands.

All controllers, the tables of constraints, the power model and the checkers of tests use these numbers.
"""

from __future__ import annotations

__all__ = ()

COMMANDS = (
    "NONE", "ACT", "PREPB", "RD", "WR", "RDA", "WRA", "PREAB", "REFAB", "REFPB",
    "PDEA", "PDEP", "PDXA", "PDXP", "SREFEN", "SREFEX", "REFPB_ROUND",
)  # fmt: skip
"""Commands by number, by JEDEC's names: activate, precharge of a bank, read, write, the same with auto-precharge,
precharge of all banks, refresh of all banks or of one, entry to and exit from active and precharged power-down and self
refresh. ``REFPB_ROUND`` is never issued: it stands for the REFPB that ends a round over all banks."""
(
    NONE, ACT, PREPB, RD, WR, RDA, WRA, PREAB, REFAB, REFPB, PDEA, PDEP, PDXA, PDXP, SREFEN, SREFEX, REFPB_ROUND,
    N_COMMANDS,
) = range(len(COMMANDS) + 1)  # fmt: skip

READS, WRITES = (RD, RDA), (WR, WRA)
COLUMNS = (*READS, *WRITES)
"""Column commands; their numbers are those from RD to WRA."""

BANK, GROUP, RANK, OTHER = range(4)
"""Places: the same bank, bank group or rank, or another rank of the channel."""

LOG_TIME, LOG_COMMAND, LOG_CHANNEL, LOG_RANK, LOG_BANK, LOG_REQUEST, N_LOG = range(7)
"""Columns of a list of issued commands: cycle, command, channel, rank of the channel, bank of the channel (the first of
the rank for a command to all its banks), request or -1."""
