"""Files that describe a network's layers: Timeloop problems, SCALE-Sim topologies, GAMMA's tables, MAESTRO's networks,
ZigZag's workloads, ONNX models, our own YAML, and folders of any of these.

Our own form, which :func:`write_network` writes::

    name: my_network
    layers:
      - {name: conv1, op: conv, K: 64, C: 3, P: 112, Q: 112, R: 7, S: 7, stride: 2}
      - {name: dw1, op: depthwise, G: 64, P: 112, Q: 112, R: 3, S: 3}
      - {name: fc, op: gemm, M: 1, N: 1000, K: 512}

K and C are per group G. ``stride`` and ``dilation`` are one number or ``[rows, columns]``; a ``gemm`` or ``bmm`` may
give M, N, K (and ``batch``) in place of P, K, C (and G).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.networks.fields import at, whole
from archgym.networks.layers import DIMS, OPS, Layer, Network, conv, gemm
from archgym.networks.maestro import maestro_layers
from archgym.networks.scalesim import scalesim_layers
from archgym.networks.timeloop import timeloop_layer
from archgym.networks.zigzag import is_workload, zigzag_layers
from archgym.reading import name_of, parse_yaml_all, quote_path, read_text
from archgym.writing import yaml_text

FORMATS = ("yaml", "timeloop", "scalesim", "gamma", "maestro", "zigzag", "onnx")


def read_network(
    path: str | Path,
    format: str | None = None,
    *,
    name: str | None = None,
    left_out: str | Sequence[str] = "",
    input: str | Sequence[int] = "",
) -> Network:
    """Read a network from a file, or from a folder with a file for one or more layers each.

    Args:
        path: the file or folder.
        format: one of ``FORMATS``; found out from the content where None.
        name: of the network; the file's own or its stem where None.
        input, left_out: of ONNX models, see :func:`archgym.networks.onnx_reader.read_onnx`.

    Raises:
        ArchGymError: one sentence that names the file, the place in it and what was expected.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise UnknownNameError("network file format", format, FORMATS)
    if path.is_dir():
        return _from_folder(path, format, name)
    if format == "onnx" or (format is None and path.suffix.lower() == ".onnx"):
        from archgym.networks.onnx_reader import read_onnx

        return read_onnx(path, name=name, input=input, left_out=left_out)
    if left_out or input:
        raise ArchGymError(f"input and left_out are options of ONNX models; {quote_path(path)} is none")
    layers, own_name, remark = _layers_of(path, format)
    if not layers:
        raise ArchGymError(f"{path} holds no layers; expected at least one")
    return Network(name or own_name or path.stem, _distinct(layers), f"read from {path.name}{remark}")


def _layers_of(path: Path, format: str | None) -> tuple[list[Layer], str, str]:
    """The layers of a file, the name that it gives the network, and what is to be said of it."""
    text = read_text(path, "network file")
    kind = format or _guess(path, text)
    if kind in ("yaml", "timeloop", "zigzag"):
        documents = _yaml_documents(path, text)
        if kind == "zigzag":
            layers, passed = zigzag_layers(documents, quote_path(path))
            return layers, "", f"; without weights and passed over: {', '.join(passed)[:120]}" if passed else ""
        return *(_from_timeloop(path, documents) if kind == "timeloop" else _from_yaml(path, documents)), ""
    if kind == "maestro":
        found = maestro_layers(path, text)
        return [layer.layer(f"{quote_path(path)}, line {layer.line}") for layer in found], "", ""
    rows = _csv_rows(path, text)
    return scalesim_layers(path, rows) if kind == "scalesim" else _from_gamma(path, rows), "", ""


_SUFFIXES = (".yaml", ".yml", ".csv", ".m")


def _from_folder(path: Path, format: str | None, name: str | None) -> Network:
    """A network of a folder's files in the order of their names (numbers by value), each with one or more layers."""
    there = sorted(path.iterdir())
    files = [file for file in there if file.is_file() and file.suffix.lower() in _SUFFIXES]
    others = ", ".join(file.name for file in there if file not in files)
    files.sort(key=lambda file: [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", file.name)])
    layers: list[Layer] = []
    for file in files:
        found, own_name, _ = _layers_of(file, format)
        # A file of one layer is the layer: its name is what tells it from its neighbours.
        single = len(found) == 1 and not own_name
        layers += [replace(found[0], name=file.stem)] if single else found
    if not layers:
        raise ArchGymError(f"the folder {quote_path(path)} holds no layers; expected files {', '.join(_SUFFIXES)}")
    passed = f"; passed over: {quote(others, 120, marks=False)}" if others else ""
    return Network(
        name or path.resolve().name, _distinct(layers), f"read from {len(files)} files of {path.name}{passed}"
    )


def _guess(path: Path, text: str) -> str:
    if path.suffix.lower() in (".yaml", ".yml"):
        documents = _yaml_documents(path, text)
        if is_workload(documents):
            return "zigzag"
        return "timeloop" if any(isinstance(d, dict) and "problem" in d for d in documents) else "yaml"
    if path.suffix.lower() == ".m" or re.match(r"\s*(//[^\n]*\n\s*)*Network\s", text):
        return "maestro"
    header = [cell.strip().lower() for cell in text.partition("\n")[0].split(",")]
    if path.suffix.lower() == ".csv" or len(header) > 2:
        return "gamma" if header[-1:] == ["t"] or {"k", "c", "y", "x"} <= set(header) else "scalesim"
    raise ArchGymError(f"{path} is neither .yaml, .csv, .m nor .onnx; name its format, one of {', '.join(FORMATS)}")


def _distinct(layers: Sequence[Layer]) -> list[Layer]:
    """Number repeated names: tables list equal layers under one name."""
    seen: dict[str, int] = {}
    result: list[Layer] = []
    taken = {layer.name for layer in layers}
    for layer in layers:
        count = seen[layer.name] = seen.get(layer.name, 0) + 1
        name = layer.name
        while count > 1 and name in taken:
            name = f"{layer.name}-{count}"
            count += 1
        taken.add(name)
        result.append(layer if name == layer.name else replace(layer, name=name))
    return result


# --- YAML ----------------------------------------------------------------------------------------------------------


def _yaml_documents(path: Path, text: str) -> list[Any]:
    return [document for document in parse_yaml_all(text, str(path)) if document is not None]


def _from_yaml(path: Path, documents: Sequence[Any]) -> tuple[list[Layer], str]:
    if len(documents) != 1 or not isinstance(documents[0], dict) or not isinstance(documents[0].get("layers"), list):
        raise ArchGymError(f"{path} has no list 'layers'; expected a mapping with 'name' and 'layers'")
    content = documents[0]
    unknown = set(content) - {"name", "description", "layers"}
    if unknown:
        raise ArchGymError(
            f"{path} has the unknown key {quote(min(map(str, unknown)))}; expected name, description and layers"
        )
    layers = [_yaml_layer(f"{path}, layers[{i}]", entry, i) for i, entry in enumerate(content["layers"])]
    return layers, name_of(content.get("name"), str(path))


def _pair(place: str, entry: Mapping[str, Any], key: str, suffixes: str) -> tuple[int, int]:
    """``stride: 2``, ``stride: [2, 1]`` or ``stride_p: 2``."""
    for letter in suffixes:
        if key in entry and f"{key}_{letter}" in entry:
            raise ArchGymError(f"{place} gives both {key} and {key}_{letter}; give one of them")
    value = entry.get(key, 1)
    pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
    if len(pair) != 2:
        raise ArchGymError(f"{place}: {key} is {quote(value)}; expected one number or [rows, columns]")
    rows, columns = (entry.get(f"{key}_{letter}", v) for letter, v in zip(suffixes, pair, strict=True))
    return whole(place, key, rows), whole(place, key, columns)


def _yaml_layer(place: str, entry: Any, index: int) -> Layer:
    if not isinstance(entry, dict):
        raise ArchGymError(
            f"{place} is {quote(entry)}; expected a mapping such as {{name: conv1, op: conv, K: 64, ...}}"
        )
    if own_name := name_of(entry.get("name"), place):
        place += f" ({quote(own_name, 40, marks=False)})"
    op = entry.get("op", "conv")
    allowed = {"name", "op", "count", "stride", "dilation", "stride_p", "stride_q", "dilation_r", "dilation_s", *DIMS}
    product = op in ("gemm", "bmm") and "M" in entry
    if product:
        allowed = {"name", "op", "count", "M", "N", "K", "batch"}
    for key in entry:
        if key not in allowed:
            raise _at_error(place, UnknownNameError("field", key, allowed))
    name = own_name or f"layer{index + 1}"
    count = whole(place, "count", entry.get("count", 1))
    if product:
        M, N, K, batch = (
            whole(place, key, entry.get(key, 1 if key == "batch" else None)) for key in ("M", "N", "K", "batch")
        )
        if op == "gemm" and batch != 1:
            raise ArchGymError(f"{place}: a gemm with batch = {batch}; use op bmm for batched products")
        return at(place, lambda: gemm(name, M, N, K, batch=batch, count=count))
    if op in ("gemm", "bmm") and not {"C", "P"} & set(entry):
        raise ArchGymError(f"{place}: a {op} lacks M; give M, N and K of the product, or P, K and C of the layer")
    if op in OPS and not any(dim in entry for dim in DIMS):
        raise ArchGymError(f"{place} gives no size; expected some of {', '.join(DIMS)}")
    sizes = {dim: whole(place, dim, entry[dim]) for dim in DIMS if dim in entry}
    stride_p, stride_q = _pair(place, entry, "stride", "pq")
    dilation_r, dilation_s = _pair(place, entry, "dilation", "rs")
    return at(
        place,
        lambda: Layer(
            name,
            op,
            **sizes,
            stride_p=stride_p,
            stride_q=stride_q,
            dilation_r=dilation_r,
            dilation_s=dilation_s,
            count=count,
        ),
    )


def _at_error(place: str, error: ArchGymError) -> ArchGymError:
    return ArchGymError(f"{place}: {error}")


def write_network(network: Network, path: str | Path) -> Path:
    """Write a network in our own YAML form; :func:`read_network` reads it back equal."""
    entries = []
    for layer in network.layers:
        entry: dict[str, Any] = {"name": layer.name, "op": layer.op}
        # A product always says its P and C, for N and K mean another thing beside an M.
        said = ("P", "C") if layer.op in ("gemm", "bmm") else ()
        entry |= {dim: size for dim, size in zip(DIMS, layer.bounds, strict=True) if size != 1 or dim in said}
        if layer.macs == 1:
            entry["N"] = 1
        for key in ("stride_p", "stride_q", "dilation_r", "dilation_s", "count"):
            if getattr(layer, key) != 1:
                entry[key] = getattr(layer, key)
        entries.append(entry)
    path = Path(path)
    text = yaml_text({"name": network.name, "layers": entries}, default_flow_style=None, width=120)
    path.write_text(text, encoding="utf-8")
    return path


# --- Timeloop problem ------------------------------------------------------------------------------------------------


def _from_timeloop(path: Path, documents: Sequence[Any]) -> tuple[list[Layer], str]:
    layers = []
    problems = [d["problem"] for d in documents if isinstance(d, dict) and "problem" in d]
    if not problems:
        raise ArchGymError(f"{path} has no key 'problem'; expected a Timeloop problem specification")
    if any(isinstance(d, dict) and "layers" in d for d in documents):
        raise ArchGymError(f"{path} has 'layers' beside a Timeloop problem; keep one of the two")
    for i, problem in enumerate(problems):
        place = f"{path}, problem" if len(problems) == 1 else f"{path}, problem {i + 1}"
        layers.append(timeloop_layer(problem, place, path.stem if len(problems) == 1 else f"{path.stem}{i + 1}"))
    return layers, ""


# --- CSV -------------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Rows with their line numbers, blank ones and trailing empty cells left out."""
    result = []
    reader = csv.reader(text.splitlines())
    ended = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise ArchGymError(f"{path}, line {ended + 1}: {error}") from None
        number, ended = ended + 1, reader.line_num
        if ended > number:
            raise ArchGymError(
                f"{path}, line {number}: a quotation mark is not closed on its line; close it or take it out"
            )
        cells = [cell.strip() for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells and not cells[0].startswith("#"):
            result.append((number, cells))
    if not result:
        raise ArchGymError(f"{path} is empty; expected a header and one line a layer")
    return result


_GAMMA_TABLES = {"MNK0T": {"0": "1", "T": "3"}, "OI0T": {"0": "1", "T": "0"}}
"""Columns of the tables of products, and what those say that hold no size."""


def _from_gamma(path: Path, rows: Sequence[tuple[int, list[str]]]) -> list[Layer]:
    """GAMMA's tables: K, C, Y, X, R, S, T with T 1 convolution, 2 depthwise, 3 product; M, N, K, 0, T for products
    alone, O, I, 0, T for fully connected ones. Y and X are input sizes; convolutions are valid, of stride 1."""
    header = [cell.upper() for cell in rows[0][1]]
    known = next((k for k in _GAMMA_TABLES if set(k) - set("0T") <= set(header)), "KCYXRST")
    for cell in header:
        if cell not in known or not cell:
            raise ArchGymError(f"{path}: the column {quote(cell)} is not understood; known: {', '.join(known)}")
        if cell != "0" and header.count(cell) > 1:
            raise ArchGymError(f"{path}: the column {quote(cell)} stands twice; give it once")
    layers = []
    for index, (number, cells) in enumerate(rows[1:]):
        place, name = f"{path}, line {number}", f"{path.stem}-{index}"
        if len(cells) != len(header):
            raise ArchGymError(f"{place}: {len(cells)} cells under {len(header)} columns; give each column a value")
        given = dict(zip(header, cells, strict=True))
        for key, only in _GAMMA_TABLES.get(known, {}).items():
            if given.get(key, only) != only:
                raise ArchGymError(f"{place}: {key} is {quote(given[key])}, which is not read; expected {only}")
        if {"M", "N", "K"} <= set(header):
            M, N, K = (whole(place, key, given[key]) for key in "MNK")
            layers.append(at(place, partial(gemm, name, M, N, K)))
            continue
        if {"O", "I"} <= set(header):
            outputs, inputs = whole(place, "O", given["O"]), whole(place, "I", given["I"])
            layers.append(at(place, partial(gemm, name, 1, outputs, inputs)))
            continue
        missing = [key for key in ("K", "C", "Y", "X", "R", "S", "T") if key not in given]
        if missing:
            raise ArchGymError(f"{path} lacks the column {missing[0]!r}; expected K, C, Y, X, R, S, T")
        k, c, y, x, r, s = (whole(place, key, given[key]) for key in ("K", "C", "Y", "X", "R", "S"))
        kind = given["T"]
        if kind not in ("1", "2", "3"):
            raise ArchGymError(f"{place}: T is {quote(kind)}; expected 1 (convolution), 2 (depthwise) or 3 (product)")
        if r > y or s > x:
            raise ArchGymError(f"{place}: the filter {r} x {s} is larger than the input {y} x {x}")
        p, q = y - r + 1, x - s + 1
        if kind == "3" and (r, s) != (1, 1):
            raise ArchGymError(f"{place}: a product (T 3) with a filter of {r} x {s}; expected R = S = 1")
        if kind == "2" and k not in (1, c):
            raise ArchGymError(f"{place}: a depthwise row of {c} channels with K = {k}; expected K = 1 (or C again)")
        if kind == "2":
            layers.append(at(place, partial(_depthwise, name, c, p, q, r, s)))
        else:
            layers.append(at(place, partial(conv, name, k, c, p, q, r, s)))
    return layers


def _depthwise(name: str, channels: int, p: int, q: int, r: int, s: int) -> Layer:
    return Layer(name, "depthwise", G=channels, P=p, Q=q, R=r, S=s)
