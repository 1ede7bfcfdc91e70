"""Comparison with SCALE-Sim: its closed forms, and runs of the simulator on tiny layers."""

from __future__ import annotations

__all__ = ()

import csv
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.measure import Group, compare


def validate(ref: Path) -> Iterable[Group]:
    """Groups of ``scalesim_closed_form.csv.gz`` and ``scalesim_simulated.csv.gz``, where the folder has them."""
    for kind in ("scalesim_closed_form", "scalesim_simulated"):
        path = Path(ref) / f"{kind}.csv.gz"
        if path.is_file():
            yield from _compare(kind, path)


def _compare(kind: str, path: Path) -> Iterator[Group]:
    rows = _read(path)
    if kind == "scalesim_closed_form":
        yield from _groups(kind, rows, simulated=False, required={"exact": 1.0})
    else:
        # Runs with estimated bandwidth follow the closed forms. Of the runs with a given bandwidth some carry the
        # record of another layer (input reads that their own shape rules out), so that not every row can agree.
        fixed = [row["bw_mode"] == "USER" for row in rows]
        yield from _groups(kind, [row for row, f in zip(rows, fixed) if not f], simulated=True, required={"exact": 1.0})
        given = [row for row, f in zip(rows, fixed) if f]
        yield from _groups(f"{kind}_bandwidth", given, simulated=True, required={"exact": 0.95})


def _groups(prefix: str, rows: list[dict[str, str]], simulated: bool, required: dict[str, float]) -> Iterator[Group]:
    from archgym.simulators.systolic.kernels import array

    if not rows:
        return
    ours = dict(zip(array.COLUMNS, evaluate_rows(rows).T, strict=True))
    shown = ("model", "layer", "array_rows", "array_cols", "dataflow")
    described = [{key: row[key] for key in shown} for row in rows]

    def group(name: str, values: NDArray[np.float64], column: str) -> Group:
        kept = [i for i, row in enumerate(rows) if row[column] != ""]
        truth = np.array([float(rows[i][column]) for i in kept])
        return compare(
            f"{prefix}/{name}",
            np.asarray(values)[kept],
            truth,
            required=required,
            exact_within=1e-9,
            rows=[described[i] for i in kept],
        )

    for name in ("row_folds", "col_folds", "ifmap_sram_reads", "filter_sram_reads"):
        yield group(name, ours[name], name)
    cycles = ours["compute_cycles"].astype(np.float64)
    if simulated:
        # The counter of the output-stationary simulator adds A + B a fold; seen only where T = 9.
        yield group("ofmap_sram_writes", ours["ofmap_writes_simulator"], "ofmap_sram_writes")
        cycles = cycles - 1 + np.array([float(row["stall_cycles"] or 0) for row in rows])
        yield group("total_cycles", cycles, "total_cycles_reported")
    else:
        yield group("ofmap_sram_writes", ours["ofmap_sram_writes"], "ofmap_sram_writes")
        yield group("compute_cycles", cycles, "compute_cycles")
    elements = _column(rows, "array_rows") * _column(rows, "array_cols")
    folds = ours["row_folds"] * ours["col_folds"]
    used = np.array([_laid_out(row) for row in rows], dtype=np.float64)
    yield group("mapping_efficiency", 100.0 * used / (folds * elements), "mapping_eff_pct")
    shapes = np.array([_shape(row) for row in rows], dtype=np.float64)
    yield group("utilization", 100.0 * shapes.prod(axis=1) / (cycles * elements), "overall_util_pct")


def _read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        for column in ("array_rows", "array_cols", "dataflow", "FH", "FW", "C", "M", "OH", "OW", "compute_cycles"):
            if column not in (reader.fieldnames or ()):
                raise ArchGymError(f"{path} lacks the column {column!r}; expected SCALE-Sim results")
        return list(reader)


def _column(rows: list[dict[str, str]], name: str) -> NDArray[np.int64]:
    return np.array([int(row[name]) for row in rows], dtype=np.int64)


def output_size(padded_input: int, taps: int, stride: int) -> int:
    """Rows of the output as SCALE-Sim rounds them: up."""
    return -(-(padded_input - taps + stride) // stride)


def _shape(row: dict[str, str]) -> tuple[int, int, int]:
    """Pixels, products an output, filters, from the input's size."""
    stride = int(row["stride"])
    rows = output_size(int(row["IH_padded"]), int(row["FH"]), stride)
    columns = output_size(int(row["IW_padded"]), int(row["FW"]), stride)
    return rows * columns, int(row["FH"]) * int(row["FW"]) * int(row["C"]), int(row["M"])


def _laid_out(row: dict[str, str]) -> int:
    pixels, products, filters = _shape(row)
    return {"ws": products * filters, "os": pixels * filters, "is": products * pixels}[row["dataflow"]]


def evaluate_rows(rows: list[dict[str, str]]) -> NDArray[np.int64]:
    """The closed forms for rows of a reference file, int64 ``(n, 13)``."""
    from archgym.simulators.systolic.kernels import array

    unlimited = 2**40
    arrays = np.full((len(rows), 7), unlimited, dtype=np.int64)
    arrays[:, 0], arrays[:, 1] = _column(rows, "array_rows"), _column(rows, "array_cols")
    arrays[:, 2] = [array.DATAFLOWS.index(row["dataflow"]) for row in rows]
    layers = np.array(
        [(*_shape(row), int(row["IH_padded"]) * int(row["IW_padded"]) * int(row["C"])) for row in rows], dtype=np.int64
    )
    return np.asarray(array.closed_forms(arrays, layers))
