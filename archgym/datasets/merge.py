"""Merging and splitting: out of core, by canonical design, never by row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.dataset import Dataset, DatasetWriter
from archgym.datasets.keys import DesignKeys, value_columns
from archgym.datasets.problems import KEY_COLUMNS, ProblemInfo
from archgym.datasets.schema import words_and_positions
from archgym.errors import ArchGymError, UnknownNameError
from archgym.hashing import hash_rows, text_number


def scope_of(info: ProblemInfo, across_objectives: bool) -> str:
    """What two rows must share to be able to be duplicates, as a text."""
    about = dict(zip(KEY_COLUMNS, info.key, strict=True))
    if across_objectives:
        about.pop("objective")
        options = info.options
        options.pop("objective", None)
        about["options"] = json.dumps(options, sort_keys=True)
    return json.dumps(about, sort_keys=True)


@dataclass
class Duplicates:
    """What is there twice in a dataset.

    Attributes:
        keep: bool a row: the first of its equals.
        distinct: designs by canonical form, objective and simulator version.
        duplicates: rows that repeat an earlier one (same canonical design, same metrics).
        conflicts: designs for which the dataset holds different metrics (a noisy fidelity, or an error).
        design_words: 64-bit key of each row's canonical design.
        notes: why designs of a problem could be compared by value only.
    """

    keep: NDArray[np.bool_]
    distinct: int
    duplicates: int
    conflicts: int
    design_words: NDArray[np.uint64]
    notes: list[str]


def find_duplicates(
    dataset: Dataset,
    *,
    across_objectives: bool = False,
    trust: bool = False,
    each: Callable[[ProblemInfo, pa.RecordBatch, NDArray[np.int64]], None] | None = None,
    columns: Sequence[str] | None = None,
) -> Duplicates:
    """Find rows with the same canonical design and the same metrics, in one pass; needs about 40 bytes a row.

    ``each`` is called with every group of rows on the way (``columns``: those it needs beyond parameters and
    metrics)."""
    keys = DesignKeys(dataset.problems, trust=trust)
    names = list(dict.fromkeys([n for i in dataset.problems.values() for n in (*i.parameters, *i.metrics)]))
    names = list(dict.fromkeys([*names, "feasible", *(columns or ())]))
    n = dataset.rows
    high, low, result = (np.empty(n, dtype=np.uint64) for _ in range(3))
    for info, batch, rows in dataset.groups(names):
        if each is not None:
            each(info, batch, rows)
        high[rows], low[rows] = keys(info, batch, scope_of(info, across_objectives))
        result[rows] = hash_rows(value_columns(batch, [*info.metrics, "feasible"]), 7)
    keep, distinct = first_of_equals(high, low, result)
    kept_designs = np.unique(high[keep])
    conflicts = distinct - len(kept_designs)
    notes = [f"{key[0]}: designs compared by value only ({why})" for key, why in keys.reasons.items()]
    return Duplicates(keep, len(kept_designs), n - distinct, conflicts, high, notes)


def first_of_equals(*words: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], int]:
    """Rows whose words equal no earlier row's, and how many there are."""
    n = len(words[0])
    keep = np.zeros(n, dtype=bool)
    if not n:
        return keep, 0
    one = hash_rows(words, 11)
    order = np.argsort(one, kind="stable")
    sorted_one = one[order]
    new = np.concatenate([[True], sorted_one[1:] != sorted_one[:-1]])
    differs = np.zeros(n, dtype=bool)
    for word in words:
        column = word[order]
        differs[1:] |= column[1:] != column[:-1]
    if (differs & ~new).any():  # two different rows with one hash: sort by the words themselves
        order = np.lexsort(words[::-1])
        new = np.zeros(n, dtype=bool)
        new[0] = True
        for word in words:
            column = word[order]
            new[1:] |= column[1:] != column[:-1]
    keep[order[new]] = True
    return keep, int(new.sum())


def merge(
    paths: Sequence[Path | str],
    out: Path,
    *,
    across_objectives: bool = False,
    keep_all: bool = False,
    trust: bool = False,
) -> dict[str, Any]:
    """Merge datasets into one folder of Parquet files without duplicates.

    Of rows with the same canonical design and the same metrics the first is kept (files in the order given, then by
    name). Rows with the same design and different metrics are all kept and counted as conflicts.

    Args:
        paths: files or folders.
        out: the new folder.
        across_objectives: rows that differ in the objective only are duplicates too (their rewards differ).
        keep_all: keep duplicates.
        trust: see :meth:`ProblemInfo.make`.

    Returns:
        what was written, JSON-able.
    """
    dataset = Dataset(paths)
    if not dataset.files:
        raise ArchGymError("there is nothing to merge; give at least one dataset")
    found = None if keep_all else find_duplicates(dataset, across_objectives=across_objectives, trust=trust)
    sources = [str(path) for path in dataset.paths]
    about = {"made": {"tool": "merge", "files": len(dataset.files), "rows_in": dataset.rows, "sources": sources}}
    with DatasetWriter(out, dataset.schema, dataset.problems.values(), about) as writer:
        start = 0
        for batch in dataset.batches():
            end = start + batch.num_rows
            writer.write(batch if found is None else batch.filter(pa.array(found.keep[start:end])))
            start = end
    return {
        "out": str(out),
        "files": [str(path) for path in writer.files],
        "sources": sources,
        "rows_in": dataset.rows,
        "rows_out": writer.rows,
        "duplicates": 0 if found is None else found.duplicates,
        "distinct_designs": None if found is None else found.distinct,
        "conflicts": None if found is None else found.conflicts,
        "torn_files": [f"{file.path}: {file.note}" for file in dataset.files if file.note],
        "notes": [] if found is None else found.notes,
    }


# --- splits --------------------------------------------------------------------------------------------------------

_CONDITION = re.compile(r"^\s*([^<>=!]+?)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*$")


def parse_region(text: str) -> list[tuple[str, str, str]]:
    """``"RequestBufferSize>=6, Scheduler=Fifo|FrFcfs"`` as (parameter, operator, value) triples."""
    parts = []
    for part in text.split(","):
        match = _CONDITION.match(part)
        if match is None:
            raise ArchGymError(
                f"cannot read the condition {part.strip()!r}; write parameter=value|value, parameter>=number, and so on"
            )
        parts.append((match[1], match[2], match[3]))
    return parts


def in_region(rows: pa.RecordBatch | pa.Table, conditions: Sequence[tuple[str, str, str]]) -> NDArray[np.bool_]:
    """Rows that meet every condition."""
    inside = np.ones(rows.num_rows, dtype=bool)
    for name, operator, text in conditions:
        if name not in rows.schema.names:
            raise UnknownNameError("column of the dataset", name, rows.schema.names)
        column = rows.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.unify_dictionaries().combine_chunks()
        if operator in ("=", "!="):
            hit = _equals(column, {word.strip() for word in text.split("|")})
            inside &= hit if operator == "=" else ~hit
            continue
        number, values = _number(text), _numbers(column)
        if number is None or values is None:
            raise ArchGymError(f"{name} {operator} {text} compares what is no number; use = with the values instead")
        compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[operator]
        inside &= compare(values, number)
    return inside


def _equals(column: pa.Array, words: set[str]) -> NDArray[np.bool_]:
    """Rows whose value is one of the words, or of the numbers that they say."""
    numbers = {number for number in map(_number, words) if number is not None}
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        values = np.asarray(_numbers(column))
        return np.isin(values, list(numbers)) | (np.isnan(values) if {"nan", "None"} & words else False)
    known, positions = words_and_positions(column)
    # A column that holds numbers as text has their value, too.
    hits = [str(word) in words or (word is not None and _number(str(word)) in numbers) for word in known]
    return np.array(hits, dtype=bool)[positions]


def _numbers(column: pa.Array) -> NDArray[np.float64] | None:
    """A column as numbers, NaN where there is none; None where it holds text or truth values."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def split(
    paths: Sequence[Path | str],
    out: Path,
    *,
    by: str = "design",
    test: float = 0.2,
    validation: float = 0.0,
    names: Sequence[str] = (),
    region: str | None = None,
    seed: int = 0,
    trust: bool = False,
) -> dict[str, Any]:
    """Split a dataset into ``out/train``, ``out/test`` (and ``out/validation``), so that no design is on two sides.

    Args:
        paths: files or folders.
        by: ``design``: each canonical design goes to one side by the hash of its parameters. ``agent`` or
            ``workload``: whole agents or workloads are held out. ``region``: a region of the design space is.
        test, validation: shares of the designs, agents or workloads.
        names: the agents or workloads to hold out; drawn with the seed where empty.
        region: conditions on parameters, ``"RequestBufferSize>=6, Scheduler=Fifo|FrFcfs"``; its designs are the test
            set.
        seed: of the draw.

    For ``agent`` and ``region`` a held-out row whose canonical design is also in the training set is left out, and
    counted: a test on it would be no test.
    """
    if by not in ("design", "agent", "workload", "region"):
        raise UnknownNameError("way to split", by, ("design", "agent", "workload", "region"))
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise ArchGymError(
            f"test is {test} and validation {validation}; expected shares that leave something to train on"
        )
    if (by == "region") != (region is not None):
        raise ArchGymError("a split by region needs --region with its conditions, and only that split takes it")
    dataset = Dataset(paths)
    conditions = parse_region(region) if region else []
    sides = ("train", "test", *(("validation",) if validation and by != "region" else ()))
    held: dict[str, int] = {}
    if by in ("agent", "workload"):
        held = _hold_out(dataset, by, test, validation, list(names), seed)
    find = DesignKeys(dataset.problems, trust=trust)
    # The design alone decides, so that the same design on two workloads or under two objectives stays on one side.
    words = np.empty(dataset.rows, dtype=np.uint64)
    side = np.empty(dataset.rows, dtype=np.int8)
    for info, batch, rows in dataset.groups():
        words[rows] = find(info, batch, "|".join((info.problem.partition("/")[0], info.key[1])))[0]
        if by == "design":
            share = hash_rows([words[rows]], 13 + seed) / 2.0**64
            side[rows] = np.where(share < test, 1, np.where(share < test + validation, 2, 0))
        elif by == "region":
            side[rows] = in_region(batch, conditions)
        else:
            values, positions = words_and_positions(batch.column(by))
            side[rows] = np.array([held.get(value, 0) for value in values], dtype=np.int8)[positions]
    overlap = np.zeros(len(side), dtype=bool)
    if by in ("agent", "region"):
        overlap = (side > 0) & np.isin(words, np.unique(words[side == 0]))
    counts: dict[str, int] = {}
    sources = [str(path) for path in dataset.paths]
    made = {
        "made": {
            "tool": "split",
            "by": by,
            "seed": seed,
            "region": region,
            "held_out": sorted(held),
            "sources": sources,
        }
    }
    for code, name in enumerate(sides):
        chosen = (side == code) & ~overlap
        if not chosen.any():
            raise ArchGymError(f"the {name} side would be empty; choose other shares, names or conditions")
        with DatasetWriter(Path(out) / name, dataset.schema, dataset.problems.values(), made) as writer:
            start = 0
            for batch in dataset.batches():
                end = start + batch.num_rows
                writer.write(batch.filter(pa.array(chosen[start:end])))
                start = end
        counts[name] = writer.rows
    return {
        "out": str(out),
        "by": by,
        "rows": counts,
        "left_out_overlap": int(overlap.sum()),
        "held_out": {name: sides[code] for name, code in sorted(held.items()) if code},
        "paths": {name: str(Path(out) / name) for name in sides},
        "notes": [f"{key[0]}: designs compared by value only ({why})" for key, why in find.reasons.items()],
    }


def _hold_out(dataset: Dataset, by: str, test: float, validation: float, names: list[str], seed: int) -> dict[str, int]:
    present: set[str] = set()
    for batch in dataset.batches([by]):
        present |= set(batch.column(0).to_pylist())
    if len(present) < 2:
        raise ArchGymError(f"the dataset has one {by} only ({', '.join(map(str, present))}); split by design instead")
    for name in names:
        if name not in present:
            raise UnknownNameError(f"{by} of the dataset", name, present)
    if names:
        return {name: 1 for name in names}
    order = sorted(present, key=lambda name: text_number(f"{seed}:{name}"))
    first = min(max(round(test * len(order)), 1), len(order) - 1)
    second = min(max(round(validation * len(order)), 1 if validation else 0), len(order) - first - 1)
    return {**dict.fromkeys(order[:first], 1), **dict.fromkeys(order[first : first + second], 2)}


def summary_of(mapping: Mapping[str, Any]) -> str:
    """``a: 1, b: 2`` for people."""
    return ", ".join(f"{key}: {value}" for key, value in mapping.items())
