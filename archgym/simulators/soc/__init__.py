"""AR/VR systems on chip: FARSI's study, exact and fast, on a space worth searching. See docs/simulators/soc.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archgym.simulators.soc.simulator import SocSimulator

__all__ = ["SocSimulator"]


def __getattr__(name: str) -> Any:
    if name == "SocSimulator":
        from archgym.simulators.soc.simulator import SocSimulator

        return SocSimulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
