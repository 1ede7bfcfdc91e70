"""Figures as SVG texts that are the same in every process: fixed ids, no date, letters that stay letters."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from archgym.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(what: str, size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, without pyplot or a display.

    Raises:
        MissingExtraError: without matplotlib; ``what`` is the picture that needs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(what, "plot", str(error)) from None
    return Figure(figsize=size, layout="constrained")


def svg(figure: Figure) -> str:
    """The figure as an SVG text; the same figure gives the same text."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "archgym", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
