"""A picture of where an accelerator's energy goes: stacked bars by level and tensor, one bar a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archgym.svg import new_figure, svg

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#F0E442", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo", "**")


def draw(details: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the energy of each layer (all its repeats) in uJ, from the simulator's ``layer_details``."""
    names = [str(row["layer"]) for row in details]
    places = list(details[0]["energy_uj_by_place"])
    parts: dict[str, list[float]] = {
        place: [row["energy_uj_by_place"][place] * row["count"] for row in details] for place in places
    }
    parts["MAC"] = [row["mac_uj"] * row["count"] for row in details]
    parts["leakage"] = [row["leakage_uj"] * row["count"] for row in details]
    figure = new_figure("the energy breakdown", (11, 0.3 * len(names) + 1.8))
    axes = figure.add_subplot()
    left = [0.0] * len(names)
    for i, (place, values) in enumerate(parts.items()):
        # Colour and hatching both tell the parts apart.
        axes.barh(
            range(len(names)), values, left=left, label=place, color=COLOURS[i % len(COLOURS)],
            hatch=HATCHES[i % len(HATCHES)], edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("energy in uJ, all repeats of the layer")
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return svg(figure)
