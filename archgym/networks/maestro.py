"""MAESTRO's network files: layers with their dimensions, and the dataflow that is mapped on each.

::

    Network tiny {
      Layer conv1 {
        Type: CONV
        Stride { X: 2, Y: 2 }
        Dimensions { K: 64, C: 3, R: 7, S: 7, Y: 229, X: 229 }
        Dataflow {
          SpatialMap(1,1) K;
          TemporalMap(Sz(R),1) Y;
          Cluster(64, P);
          SpatialMap(1,1) C;
        }
      }
    }

Y and X are rows and columns of the input (padding included), Y' and X' of the output. ``CONV`` is a convolution, ``DSCONV`` a
depthwise one of C channels (K is 1, or C again); other types, dims and blocks are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.networks.fields import at, whole
from archgym.networks.layers import Layer
from archgym.reading import quote_path

_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z_][\w.\-]*'?)|(?P<number>\d+)|(?P<sign>[{}();:,+*/-]))")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
DIMS = ("K", "C", "R", "S", "Y", "X")


@dataclass(frozen=True)
class Directive:
    """One line of a dataflow.

    Attributes:
        kind: ``spatial``, ``temporal`` or ``cluster``.
        dim: K, C, R, S, Y, X, Y' or X'; of a cluster the way its units are joined (``P``).
        size, offset: in elements of the dim; of a cluster ``size`` units.
    """

    kind: str
    dim: str
    size: int
    offset: int


@dataclass
class MaestroLayer:
    """A layer with its dataflow (empty where the file has none).

    Attributes:
        line: where it begins.
        strides: along Y and X.
        dims: K, C, R, S, Y, X.
    """

    name: str
    line: int
    type: str = "CONV"
    strides: dict[str, int] = field(default_factory=lambda: {"Y": 1, "X": 1})
    dims: dict[str, int] = field(default_factory=dict)
    directives: list[Directive] = field(default_factory=list)

    def layer(self, place: str) -> Layer:
        """The layer in our dims."""
        missing = [dim for dim in DIMS if dim not in self.dims]
        if missing:
            raise ArchGymError(f"{place}: the dimensions lack {missing[0]}; expected K, C, R, S, Y, X")
        d, sy, sx = self.dims, self.strides["Y"], self.strides["X"]
        if d["R"] > d["Y"] or d["S"] > d["X"]:
            raise ArchGymError(
                f"{place}: the filter {d['R']} x {d['S']} is larger than the input {d['Y']} x {d['X']}; pad the input"
            )
        p, q = (d["Y"] - d["R"]) // sy + 1, (d["X"] - d["S"]) // sx + 1
        depthwise = self.type == "DSCONV"
        if depthwise and d["K"] not in (1, d["C"]):
            raise ArchGymError(f"{place}: a DSCONV of {d['C']} channels with K: {d['K']}; expected K: 1 (or C again)")
        return at(
            place,
            lambda: Layer(
                self.name, "depthwise" if depthwise else "conv", K=1 if depthwise else d["K"], C=1 if depthwise else d["C"],
                P=p, Q=q, R=d["R"], S=d["S"], G=d["C"] if depthwise else 1, stride_p=sy, stride_q=sx,
            ),
        )  # fmt: skip


class _Text:
    """The tokens of a file, with the line of each."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        text = _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
        self.tokens: list[tuple[str, int]] = []
        at, line, end = 0, 1, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                rest = text[at:].lstrip()
                line += text[at:].partition(rest)[0].count("\n")
                raise ArchGymError(f"{quote_path(path)}, line {line}: {quote(rest[:20])} is not understood")
            line += found[0].count("\n")
            self.tokens.append((found[0].strip(), line))
            at = found.end()
        self.at = 0

    @property
    def line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens) - 1)][1] if self.tokens else 1

    @property
    def place(self) -> str:
        return f"{quote_path(self.path)}, line {self.line}"

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def next(self, *wanted: str) -> str:
        token = self.peek()
        if not token or (wanted and token not in wanted):
            what = f"expected {' or '.join(wanted)}" if wanted else "expected more"
            raise ArchGymError(f"{self.place}: {quote(token or 'the end of the file')} here; {what}")
        self.at += 1
        return token


def maestro_layers(path: Path, text: str) -> Iterator[MaestroLayer]:
    """The layers of a network file.

    Raises:
        ArchGymError: one sentence that names the line, for whatever is not understood.
    """
    tokens = _Text(path, text)
    networks = 0
    while tokens.peek():
        if tokens.peek() == "Constant":
            raise ArchGymError(f"{tokens.place}: constants are not read; write the numbers out")
        if networks:
            raise ArchGymError(f"{tokens.place}: a second block {quote(tokens.peek())}; expected one Network a file")
        networks += 1
        tokens.next("Network")
        tokens.next()
        tokens.next("{")
        while tokens.peek() != "}":
            line = tokens.line
            tokens.next("Layer")
            yield _layer(tokens, MaestroLayer(tokens.next(), line))
        tokens.next("}")


def _layer(tokens: _Text, layer: MaestroLayer) -> MaestroLayer:
    tokens.next("{")
    place_of_layer = f"{quote_path(tokens.path)}, line {layer.line}"
    seen: set[str] = set()
    while tokens.peek() != "}":
        place, key = tokens.place, tokens.next()
        if key in seen:
            raise ArchGymError(f"{place}: the layer {quote(layer.name)} has a second {key}; give it once")
        seen.add(key)
        if key == "Type":
            tokens.next(":")
            layer.type = tokens.next()
            if layer.type not in ("CONV", "DSCONV"):
                raise ArchGymError(f"{place}: a layer of type {quote(layer.type)} is not read; known: CONV, DSCONV")
        elif key in ("Stride", "Dilation"):
            found = _sizes(tokens, key, ("X", "Y"))
            if key == "Dilation" and set(found.values()) - {1}:
                raise ArchGymError(f"{place}: a dilation is not read; known: dilation of 1")
            if key == "Stride":
                layer.strides |= found
        elif key == "Dimensions":
            layer.dims = _sizes(tokens, key, ("N", *DIMS))
            if layer.dims.pop("N", 1) != 1:
                raise ArchGymError(f"{place}: a batch N is not read; write N: 1 and scale the results")
        elif key == "Dataflow":
            layer.directives = _dataflow(tokens, layer.dims)
        else:
            raise ArchGymError(f"{place}: {quote(key)} of a layer is not understood")
    tokens.next("}")
    if "Type" not in seen:
        raise ArchGymError(f"{place_of_layer}: the layer {quote(layer.name)} has no Type; known: CONV, DSCONV")
    return layer


def _sizes(tokens: _Text, block: str, known: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    tokens.next("{")
    while tokens.peek() != "}":
        place, dim = tokens.place, tokens.next()
        if tokens.peek() == ":":
            tokens.next(":")
        if dim in found:
            raise ArchGymError(f"{place}: {quote(dim)} stands twice; give it once")
        if dim not in known:
            raise ArchGymError(f"{place}: {UnknownNameError(f'dim of {block}', dim, known)}")
        found[dim] = whole(place, dim, tokens.next())
        if tokens.peek() == ",":
            tokens.next(",")
    tokens.next("}")
    return found


def _dataflow(tokens: _Text, dims: dict[str, int]) -> list[Directive]:
    found: list[Directive] = []
    tokens.next("{")
    while tokens.peek() != "}":
        place, key = tokens.place, tokens.next()
        if key not in ("SpatialMap", "TemporalMap", "Cluster"):
            raise ArchGymError(f"{place}: {quote(key)} is no directive; known: SpatialMap, TemporalMap, Cluster")
        tokens.next("(")
        size = _value(tokens, dims)
        tokens.next(",")
        if key == "Cluster":
            found.append(Directive("cluster", tokens.next("P", "L"), size, size))
            tokens.next(")")
        else:
            offset = _value(tokens, dims)
            tokens.next(")")
            dim = tokens.next()
            if dim.rstrip("'") not in (*DIMS, "N"):
                raise ArchGymError(f"{place}: {quote(dim)} is no dim; known: {', '.join(DIMS)}, Y', X'")
            found.append(Directive(key.removesuffix("Map").lower(), dim, size, offset))
        tokens.next(";")
    tokens.next("}")
    return found


def _value(tokens: _Text, dims: dict[str, int]) -> int:
    """A number, ``Sz(DIM)``, or a sum of these."""
    total, sign = 0, 1
    while True:
        place, token = tokens.place, tokens.next()
        if token == "Sz":
            tokens.next("(")
            dim = tokens.next()
            tokens.next(")")
            if dim not in dims:
                raise ArchGymError(f"{place}: Sz({quote(dim, marks=False)}) of a dim that the layer does not have")
            value = dims[dim]
        else:
            value = whole(place, "a size", token)
        total += sign * value
        if tokens.peek() not in ("+", "-"):
            break
        sign = 1 if tokens.next() == "+" else -1
    if total < 1:
        raise ArchGymError(f"{place}: a size of {total}; expected at least 1")
    return total
