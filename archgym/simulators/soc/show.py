"""Pictures of a design of the space, drawn and saved.

``figure = show(design, "edge_detection")`` draws the block diagram above the schedule; ``save(figure, "design.svg")``
writes it (also .png, .pdf) and ``svg(figure)`` gives the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from archgym.errors import ArchGymError
from archgym.simulators.soc.design import SocDesign
from archgym.simulators.soc.pictures import draw
from archgym.simulators.soc.simulator import SocSimulator
from archgym.simulators.soc.task_graph import TaskGraph
from archgym.svg import svg
from archgym.writing import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save", "show", "svg"]


def show(
    design: ArrayLike | Mapping[str, Any] | SocDesign,
    workload: str | TaskGraph,
    *,
    simulator: SocSimulator | None = None,
    gantt: bool = True,
    diagram: bool = True,
) -> Figure:
    """Draw a design.

    Args:
        design: an index row of the simulator's space, a mapping parameter -> value, or an explicit design.
        workload: a workload or its name.
        simulator: where the design comes from (space, mode); the default simulator where None.
        gantt, diagram: which of the two pictures.

    Returns:
        A matplotlib figure.

    Raises:
        ArchGymError: where the design is invalid.
        MissingExtraError: without matplotlib.
    """
    simulator = simulator or SocSimulator()
    graph = simulator.load_workload(workload) if isinstance(workload, str) else workload
    if isinstance(design, Mapping):
        row: Any = simulator.space(graph).encode(design)[0]
        explicit = simulator.explicit(row, graph)
    else:
        explicit = design if isinstance(design, SocDesign) else simulator.explicit(np.asarray(design), graph)
    result = simulator.trace(explicit, graph)
    return draw(explicit, graph, result, gantt=gantt, diagram=diagram)


def save(figure: Figure, path: Path | str) -> Path:
    """Write the figure; the suffix (``.svg``, ``.png``, ``.pdf``) decides the format."""
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise ArchGymError(f"cannot draw into {path.name!r}; end the name in .svg, .png or .pdf")
    if path.suffix.lower() == ".svg":
        write_text(path, svg(figure))
    else:
        figure.savefig(path, dpi=150)
    return path
