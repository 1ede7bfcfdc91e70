"""Agreement with the reference data of ``ref/llm``: a registry of groups, one module a subject.

Each module's ``groups(ref)`` yields the groups of the files that the folder holds.
"""

from __future__ import annotations

__all__ = ()

import importlib
from collections.abc import Iterator
from pathlib import Path

from archgym.measure import Group

SUBJECTS = (
    "archgym.simulators.llm.validate_training",
    "archgym.simulators.llm.validate_operators",
    "archgym.simulators.llm.validate_serving",
)
"""Modules with a function ``groups(ref)``, in the order of the report."""


def validate(ref: Path) -> Iterator[Group]:
    """Groups of every file of ``ref`` that is there."""
    for module in SUBJECTS:
        yield from importlib.import_module(module).groups(Path(ref))
