"""Layers from SCALE-Sim's topology files.

A row is the layer's name, then for a convolution the input's height and width (padding included), the filter's, channels,
filters and stride; a further column is the stride along the width. For a product it is the name and M, N, K. A header names
the columns and may put them in another order or add ``Batch Size``; a file without a header has its first layer in its first
row (SCALE-Sim takes any first row for a header and loses that layer). A row of one cell is the title of a section. A layer
with ``DP`` in its name is depthwise: as in SCALE-Sim, each channel is a layer of its own with the filters that the row gives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from archgym.errors import ArchGymError, quote
from archgym.networks.fields import at, whole
from archgym.networks.layers import Layer, gemm

Row = tuple[int, list[str]]
"""A line number and its cells."""

_CONVOLUTION = (
    "name", "input height", "input width", "filter height", "filter width", "channels", "filters", "stride", "stride width",
)  # fmt: skip
_PRODUCT = ("name", "m", "n", "k")
_OPTIONAL = {"stride width", "batch", "sparsity"}
_SPELLINGS = {
    "name": ("layer name", "layer", "name"),
    "input height": ("ifmap height", "ifmap h", "input height", "ih"),
    "input width": ("ifmap width", "ifmap w", "input width", "iw"),
    "filter height": ("filter height", "filter h", "kernel height", "fh"),
    "filter width": ("filter width", "filter w", "kernel width", "fw"),
    "channels": ("channels", "channel", "num channels", "input channels"),
    "filters": ("num filter", "num filters", "filters", "number of filters", "output channels"),
    "stride": ("strides", "stride", "stride height", "stride h", "strides height"),
    "stride width": ("stride width", "stride w", "strides width"),
    "batch": ("batch size", "batch", "n batch"),
    "sparsity": ("sparsity", "sparsity ratio", "sparsity support"),
    "m": ("m",), "n": ("n",), "k": ("k",),
}  # fmt: skip
_FIELDS = {spelling: field for field, spellings in _SPELLINGS.items() for spelling in spellings}
_RATIO = re.compile(r"(\d+)\s*:\s*(\d+)")


def scalesim_layers(path: Path, rows: Sequence[Row]) -> list[Layer]:
    """The layers of a topology's rows.

    Raises:
        ArchGymError: one sentence that names the line, for a cell or column that is not understood.
    """
    columns: list[str] | None = None
    layers = []
    for number, cells in rows:
        place = f"{path}, line {number}"
        if len(cells) == 1 and not _is_number(cells[0]) and not (";" in cells[0] or "\t" in cells[0]):
            continue  # the title of a section
        if not any(_is_number(cell) for cell in cells[1:]):
            columns = _columns(place, cells)
            continue
        if columns is None:
            columns = _unnamed(place, cells)
        layers.append(_layer(place, columns, cells))
    return layers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return _RATIO.fullmatch(cell) is not None
    return True


def _unnamed(place: str, cells: Sequence[str]) -> list[str]:
    """The columns of a file without a header."""
    columns = _PRODUCT if len(cells) == len(_PRODUCT) else _CONVOLUTION
    if len(cells) not in (4, 8, 9):
        raise ArchGymError(
            f"{place}: {len(cells)} cells and no header; expected 8 or 9 for a convolution, 4 for a product"
        )
    if len(cells) == 9 and _RATIO.fullmatch(cells[8]):
        columns = (*_CONVOLUTION[:8], "sparsity")
    return list(columns[: len(cells)])


def _columns(place: str, header: Sequence[str]) -> list[str]:
    """What the columns under a header are: by their names; by their place where no name is known, and the first one."""
    words = [" ".join(re.sub(r"[^a-z0-9]+", " ", cell.lower()).split()) for cell in header]
    fields = [_FIELDS.get(word, "") for word in words]
    product = {"m", "n", "k"} <= set(fields)
    order = _PRODUCT if product else _CONVOLUTION[:8]
    named = any(field not in ("", "name") for field in fields)
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise ArchGymError(f"{place}: {quote(header[0], 60)} has its cells apart by ; or tabs; separate them by commas")
    if not any(fields):
        raise ArchGymError(
            f"{place}: {quote(', '.join(header), 60)} is neither a layer nor a header; give numbers or names"
        )
    for i, field in enumerate(fields):
        if not field:
            if i >= len(order) or order[i] in fields or (named and i):
                raise ArchGymError(
                    f"{place}: the column {quote(header[i])} is not understood; take it out or rename it"
                )
            fields[i] = order[i]
    for field in order:
        if field not in fields:
            raise ArchGymError(f"{place}: the header lacks the {field}; expected {', '.join(order)}")
    for field, cell in zip(fields, header, strict=True):
        if fields.count(field) > 1:
            raise ArchGymError(f"{place}: the header gives the {field} twice, once as {quote(cell)}")
        if field not in order and not (field in _OPTIONAL and (field != "stride width" or not product)):
            raise ArchGymError(
                f"{place}: the column {quote(cell)} does not belong to a {'product' if product else 'convolution'}"
            )
    return fields


def _layer(place: str, columns: Sequence[str], cells: Sequence[str]) -> Layer:
    needed = [field for field in columns if field not in _OPTIONAL]
    if len(cells) > len(columns):
        raise ArchGymError(
            f"{place}: {len(cells)} cells under {len(columns)} columns; name what the last one is in the header"
        )
    given = dict(zip(columns, cells, strict=False))
    given = {field: cell for field, cell in given.items() if cell or field not in _OPTIONAL}
    if not set(needed) <= set(given):
        raise ArchGymError(
            f"{place}: {len(cells)} cells; expected {len(needed)}, the name and {len(needed) - 1} numbers"
        )
    name, ratio = given["name"], _RATIO.fullmatch(given.pop("sparsity", "1:1"))
    if ratio is None or int(ratio[1]) != int(ratio[2]):
        raise ArchGymError(f"{place}: the layer is sparse ({quote(cells[-1])}), which no layer is; take the column out")
    value = {field: whole(place, field, cell) for field, cell in given.items() if field != "name"}
    batch = value.get("batch", 1)
    if "m" in value:
        return at(place, lambda: replace(gemm(name, value["m"], value["n"], value["k"]), N=batch))
    rows, columns_in, r, s = (value[field] for field in _CONVOLUTION[1:5])
    if r > rows or s > columns_in:
        raise ArchGymError(
            f"{place}: the filter {r} x {s} is larger than the input {rows} x {columns_in}; pad the input"
        )
    steps = value["stride"], value.get("stride width", value["stride"])
    # SCALE-Sim rounds the output up.
    p, q = -(-(rows - r + steps[0]) // steps[0]), -(-(columns_in - s + steps[1]) // steps[1])
    depthwise = "DP" in name
    return at(
        place,
        lambda: Layer(
            name, "depthwise" if depthwise else "conv", N=batch, K=value["filters"], C=1 if depthwise else value["channels"],
            P=p, Q=q, R=r, S=s, G=value["channels"] if depthwise else 1, stride_p=steps[0], stride_q=steps[1],
        ),
    )  # fmt: skip
