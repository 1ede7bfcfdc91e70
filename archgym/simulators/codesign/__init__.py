"""Co-design of a neural cell and the systolic array that runs it; see :mod:`archgym.simulators.codesign.simulator`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archgym.simulators.codesign.simulator import CoDesignSimulator

__all__ = ["CoDesignSimulator"]


def __getattr__(name: str) -> Any:
    if name == "CoDesignSimulator":
        from archgym.simulators.codesign.simulator import CoDesignSimulator

        return CoDesignSimulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
