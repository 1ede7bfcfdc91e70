"""Agreement with DRAMSys 4.0: total time, energy and power of recorded runs, row by row.

The folder holds ``dramsys40_*.csv.gz`` files and the traces they name in ``traces/`` (neutral) and ``stl/``. Rows are
grouped by file and refresh policy; beside them stand the groups ``plain`` (one channel and rank of DDR3 or DDR4, the
Oldest multiplexer, no power-down: ArchGym's own space) and ``wide`` (everything else) over all files, which carry the
bounds on exactness, and one group for each kind of wide row.
"""

from __future__ import annotations

__all__ = ()

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError
from archgym.measure import Group, compare
from archgym.simulators.dram import batch, event_run
from archgym.simulators.dram.addressmap import AddressMap, named_map
from archgym.simulators.dram.devices import Device, device
from archgym.simulators.dram.simulator import metrics_of
from archgym.simulators.dram.spaces import POLICIES, WIDE_NAMES
from archgym.simulators.dram.trace import Trace
from archgym.simulators.dram.traces import read_trace

#: Where a file says nothing: ArchGym's memory.
DEFAULTS = {
    "device": "DDR3-1600",
    "mapping": "rbc",
    "ranks": "1",
    "channels": "1",
    "CmdMux": "Oldest",
    "PowerDownPolicy": "NoPowerDown",
}
TIME_BOUNDS = {"exact": 0.99, "worst_error": 1e-3}
ENERGY_BOUNDS = {"mean_error": 1e-4, "worst_error": 3e-3}
WIDE_BOUNDS = {"exact": 0.95}
ALL_EXACT = {"exact": 1.0}
COMPARED = ("total_time_ns", "energy_pj")
Run = Callable[[batch.Rows, batch.Prepared], batch.Columns]
PRINTED = 1e-8
"""Energies are printed to this relative precision; closer is exact."""


def address_map(dev: Device, name: str, ranks: int, channels: int) -> AddressMap:
    """The reference's map of that name. Its bank-above-row map of HBM2 has the bank below the bank group."""
    if dev.family == "HBM2" and name == "brc":
        bits = {"byte": range(3), "column": range(3, 10), "row": range(10, 25), "bank": range(25, 27),
                "bank_group": range(27, 29), "rank": range(29, 30), "channel": range(0)}  # fmt: skip
        result = AddressMap(name, {field: tuple(places) for field, places in bits.items()})
        result.check(dev, ranks, channels)
        return result
    return named_map(name, dev, ranks, channels)


def validate(ref: Path, run: Run = batch.run, exact: bool = False) -> Iterator[Group]:
    """Compare with every ``dramsys40_*.csv.gz`` in the folder ``ref``; yields groups as they are done.

    Args:
        ref: folder of reference data.
        run: what simulates the designs, with the arguments and results of :func:`archgym.simulators.dram.batch.run`.
        exact: require every row to be equal in time, and in energy to its printed digits.
    """
    pooled: dict[tuple[str, str], list[tuple[float, float, Mapping[str, Any]]]] = defaultdict(list)
    for path in sorted(Path(ref).glob("dramsys40_*.csv*")):
        rows = read_rows(path)
        results = simulate_rows(rows, Path(ref), run)
        groups: dict[tuple[str, str], list[tuple[float, float, Mapping[str, Any]]]] = defaultdict(list)
        name = path.name.split(".")[0]
        for row, ours in zip(rows, results, strict=True):
            plain = is_plain(row)
            kind = "plain" if plain else "wide"
            labels = [f"{name}/{row['RefreshPolicy']}"]
            if not plain:
                labels.append(f"{name}/{wide_kind(row)}")
            for metric, (value, reference) in compared(row, ours).items():
                for label in labels:
                    groups[label, metric].append((value, reference, row))
                pooled[f"{kind}/{row['RefreshPolicy'] if plain else 'all'}", metric].append((value, reference, row))
        for (label, metric), entries in sorted(groups.items()):
            # Few rows a group: the share of exact ones is bounded over all files together.
            worst: Mapping[str, float] = {"worst_error": 1e-3} if metric == "total_time_ns" else {}
            worst = ALL_EXACT if exact and metric in COMPARED else worst
            yield _group(f"{label}/{metric}", metric, entries, worst)
    for (label, metric), entries in sorted(pooled.items()):
        if metric == "total_time_ns":
            bounds = TIME_BOUNDS if label.startswith("plain/") else WIDE_BOUNDS
        else:
            bounds = ENERGY_BOUNDS if label.startswith("plain/") and metric == "energy_pj" else {}
        bounds = ALL_EXACT if exact and metric in COMPARED else bounds
        yield _group(f"{label}/{metric}", metric, entries, bounds)


def validate_event(ref: Path) -> Iterator[Group]:
    """The groups of :func:`validate`, simulated in the exact order of events; each requires every row to be equal."""
    return validate(ref, event_run.run, exact=True)


def _group(
    name: str, metric: str, entries: list[tuple[float, float, Mapping[str, Any]]], bounds: Mapping[str, float]
) -> Group:
    ours = np.array([entry[0] for entry in entries])
    reference = np.array([entry[1] for entry in entries])
    within = 0.0 if metric == "total_time_ns" else PRINTED
    return compare(
        name, ours, reference, required=bounds, exact_within=within, rows=[_described(entry[2]) for entry in entries]
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a reference file, with the columns that it leaves out filled in."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as text:
            rows = [{**DEFAULTS, **row} for row in csv.DictReader(text)]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ArchGymError(f"cannot read the reference file {path}: {error}") from None
    for name in (*WIDE_NAMES, "trace"):
        if rows and name not in rows[0]:
            raise ArchGymError(f"the reference file {path} has no column {name!r}")
    return rows


def is_plain(row: Mapping[str, str]) -> bool:
    """True for rows of ArchGym's own kind."""
    return (
        row["device"].startswith("DDR")
        and row["ranks"] == row["channels"] == "1"
        and row["CmdMux"] == "Oldest"
        and row["PowerDownPolicy"] == "NoPowerDown"
    )


def wide_kind(row: Mapping[str, str]) -> str:
    """What is special about a wide row, in words."""
    parts = [row["device"].split("-")[0].split("_")[0]]
    if not row["device"].startswith("HBM"):
        parts += [f"{row['ranks']}ranks"] if row["ranks"] != "1" else []
    parts += [f"{row['channels']}channels"] if row["channels"] != "1" else []
    parts += ["Strict"] if row["CmdMux"] == "Strict" else []
    parts += ["Staggered"] if row["PowerDownPolicy"] == "Staggered" else []
    parts += ["PerBank"] if row["RefreshPolicy"] == "PerBank" else []
    return "-".join(parts)


def design_row(row: Mapping[str, str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A reference row's design as the controllers take it."""
    values = []
    for name in WIDE_NAMES:
        if name in POLICIES and row[name] not in POLICIES[name]:
            raise ArchGymError(f"a reference row has {name} {row[name]!r}; known: {', '.join(POLICIES[name])}")
        values.append(POLICIES[name].index(row[name]) if name in POLICIES else int(row[name]))
    return np.array(values, dtype=np.int64)


def memory_of(row: Mapping[str, str]) -> tuple[Device, str, int, int]:
    """Device, name of the map, ranks and channels of a reference row; devices are named with size and width there."""
    return device(row["device"].split("_")[0]), row["mapping"], int(row["ranks"]), int(row["channels"])


def trace_of(name: str, ref: Path) -> Trace:
    """A trace that a reference row names."""
    for path in (
        ref / "stl" / f"{name}.gz",
        ref / "stl" / name,
        *(ref / "traces" / f"{name}.csv{z}" for z in (".gz", "")),
    ):
        if path.is_file():
            return _read(path)
    raise ArchGymError(f"the trace {name!r} is neither in {ref / 'stl'} nor in {ref / 'traces'}")


@lru_cache(maxsize=4)
def _read(path: Path) -> Trace:
    trace = read_trace(path, backwards="hold")
    if ".csv" not in path.name:
        return trace
    # The neutral files of the reference count cycles of whatever memory a row has.
    return Trace(trace.name, trace.description, trace.time, trace.address, trace.is_write)


def simulate_rows(rows: list[dict[str, str]], ref: Path, run: Run = batch.run) -> list[dict[str, float]]:
    """Our metrics of every row, in order; a request is one burst, as in the reference."""
    results: list[dict[str, float]] = [{} for _ in rows]
    same: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        plain = row["CmdMux"] == "Oldest" and row["PowerDownPolicy"] == "NoPowerDown"
        same[row["trace"], row["device"], row["mapping"], int(row["ranks"]), int(row["channels"]), plain].append(i)
    for members in same.values():
        dev, map_name, ranks, channels = memory_of(rows[members[0]])
        trace = trace_of(rows[members[0]]["trace"], ref)
        bits = address_map(dev, map_name, ranks, channels)
        prepared = batch.prepare(trace, dev, bits, ranks, channels, split=False, ignore_high_bits=True)
        designs = np.stack([design_row(rows[i]) for i in members])
        columns = metrics_of(run(designs, prepared), prepared)
        for place, i in enumerate(members):
            results[i] = {name: float(column[place]) for name, column in columns.items()}
    return results


def compared(row: Mapping[str, str], ours: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Metric -> (ours, reference) of one row; times as whole cycles of the memory clock."""
    dev = memory_of(row)[0]
    result: dict[str, tuple[float, float]] = {}
    for column, to_ps in (("total_time_ps", 1.0), ("total_time_ns", 1000.0)):
        if row.get(column):
            reference = round(float(row[column]) * to_ps / dev.tck_ps)
            result["total_time_ns"] = (round(ours["total_time_ns"] * 1000.0 / dev.tck_ps), reference)
    for column in ("total_energy_pJ", "energy_pJ"):
        if row.get(column):
            result["energy_pj"] = (ours["energy_pj"], float(row[column]))
    return result


def _described(row: Mapping[str, str]) -> dict[str, Any]:
    names = ("device", "mapping", "ranks", "channels", "trace", *WIDE_NAMES)
    return {name: row[name] for name in names}
