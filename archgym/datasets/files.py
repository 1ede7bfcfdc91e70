"""Files of trials, shards and Parquet, read batch by batch.

Files are data only: nothing in them is executed, Arrow extension types are refused, and a file that is truncated,
foreign or of another version is refused (or, for a torn shard, read up to its last whole batch) with one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from archgym.datasets.columns import of_numbers, of_texts
from archgym.datasets.problems import KEY_COLUMNS, ProblemInfo, first_line, options_of, unusable
from archgym.datasets.schema import RUN_COLUMNS, TRIAL_COLUMNS, has_costs, words_and_positions
from archgym.datasets.shards import check_batch, shard_info
from archgym.errors import ArchGymError
from archgym.reading import checked, quote_path

BATCH = 65536
_LIMIT_ROW_GROUP = 1 << 31
"""Bytes that a Parquet row group may unpack to; a small file that claims more is refused, not unpacked."""

TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass
class TrialFile:
    """One shard or Parquet file.

    Attributes:
        path: the file.
        schema: flat columns, the run's among them.
        problems: the problems in it.
        note: what is wrong with a file that can be read all the same (a torn end), empty where nothing is.
    """

    path: Path
    schema: pa.Schema
    problems: tuple[ProblemInfo, ...]
    run: dict[str, Any] | None = None
    note: str = ""
    _rows: int | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """Number of whole rows."""
        if self._rows is None:
            self._rows = sum(batch.num_rows for batch in self._stream(validate=False))
        return self._rows

    def batches(self, columns: Sequence[str] | None = None, size: int = BATCH) -> Iterator[pa.RecordBatch]:
        """Batches of at most ``size`` rows with the run's columns; ``columns`` keeps only those, in that order."""
        if self.path.suffix == ".parquet":
            yield from self._parquet(columns, size)
        else:
            yield from self._arrows(columns, size)

    def _parquet(self, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        names = list(columns) if columns is not None else self.schema.names
        present = [name for name in names if name in self.schema.names]
        rows = 0
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as source:
                for batch in source.iter_batches(batch_size=size, columns=present):
                    check_batch(batch, self.path)  # other writers leave checksums out
                    rows += batch.num_rows
                    if rows > self.rows:
                        break
                    yield batch.select(present)
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise unusable(self.path, f"it is damaged ({first_line(error)})") from None
        if rows != self.rows:
            raise unusable(self.path, f"it is damaged (it does not hold the {self.rows:,} rows that it claims)")

    def _arrows(self, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        assert self.run is not None
        names = [name for name in (columns or self.schema.names) if name in self.schema.names]
        schema = pa.schema([self.schema.field(name) for name in names])
        words = {name: of_texts([_text(self.run.get(name, ""))]) for name in names if name in RUN_COLUMNS}
        several = "fidelities" in self.run
        if several:  # trials at a cheaper fidelity are of the problem with that fidelity
            keys = [info.key for info in self.problems]
            words["options"] = of_texts([key[5] for key in keys])
            words["fidelity"] = of_texts([key[4] for key in keys])
        levels = {name: i for i, name in enumerate(["", *self.run.get("fidelities", {})])}
        seed = int(self.run.get("seed", 0))

        def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
            n, arrays = batch.num_rows, []
            level = None
            for name in names:
                if several and name in ("options", "fidelity"):
                    level = _levels(batch, levels, self.path) if level is None else level
                    arrays.append(pa.DictionaryArray.from_arrays(level, words[name]))
                elif name in words:
                    zeros = of_numbers(np.zeros(n, dtype=np.int32))
                    arrays.append(pa.DictionaryArray.from_arrays(zeros, words[name]))
                elif name == "seed":
                    arrays.append(of_numbers(np.full(n, seed, dtype=np.int64)))
                else:
                    arrays.append(batch.column(name))
            return pa.RecordBatch.from_arrays(arrays, schema=schema)

        # Sequential agents write one row a batch: gather them, so that what follows works on whole columns.
        pending: list[pa.RecordBatch] = []
        have = 0
        for batch in self._stream(validate=True):
            pending.append(batch)
            have += batch.num_rows
            if have >= size:
                yield from (flat(part) for part in _join(pending, size))
                pending, have = [], 0
        if pending:
            yield from (flat(part) for part in _join(pending, size))

    def _stream(self, validate: bool) -> Iterator[pa.RecordBatch]:
        self.note = ""
        try:
            with pa.OSFile(str(self.path), "rb") as source:
                reader = pa.ipc.open_stream(source)
                try:
                    for batch in reader:
                        if validate:
                            check_batch(batch, self.path)
                        yield batch
                    if source.tell() != source.size():
                        self.note = "bytes follow the end of the stream"
                    elif not has_end(source):
                        self.note = "the run was not closed (killed, or still going)"
                except (pa.ArrowException, OSError, MemoryError) as error:
                    self.note = f"torn after the last whole batch ({first_line(error)})"
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise unusable(self.path, f"it is no Arrow stream of trials ({first_line(error)})") from None


def has_end(source: pa.NativeFile) -> bool:
    """True where the stream ends with its end-of-stream marker (a continuation and a length of 0)."""
    size = source.size()
    source.seek(max(size - 8, 0))
    return bytes(source.read(8)) == b"\xff\xff\xff\xff\x00\x00\x00\x00"


def _join(batches: list[pa.RecordBatch], size: int) -> Iterable[pa.RecordBatch]:
    if len(batches) == 1 and batches[0].num_rows <= size:
        return batches
    table = pa.Table.from_batches(batches)
    if len(batches) > 1:
        table = table.unify_dictionaries().combine_chunks()
    result: list[pa.RecordBatch] = table.to_batches(max_chunksize=size)
    return result


def _levels(batch: pa.RecordBatch, known: Mapping[str, int], path: Path) -> pa.Array:
    """The position of every trial's fidelity among those of its run."""
    named, positions = words_and_positions(batch.column("fidelity"))
    codes = np.array([known.get(name, -1) for name in named], dtype=np.int32)[positions]
    if (codes < 0).any():
        raise unusable(path, "a trial has a fidelity that its run does not name")
    return of_numbers(codes)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def open_file(path: Path) -> TrialFile:
    """Open one file; refuses what archgym did not write."""
    try:
        return _open_parquet(path) if path.suffix == ".parquet" else _open_arrows(path)
    except ArchGymError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, pa.ArrowException) as error:
        # Whatever nonsense the metadata holds (names that are no text, numbers that are none), it is refused.
        raise unusable(path, f"its metadata is malformed ({first_line(error)})") from None


def _check_schema(schema: pa.Schema, path: Path) -> None:
    for column in schema:
        for word in (column.metadata or {}).values():
            word.decode()
        kinds = [column.type, column.type.value_type if pa.types.is_dictionary(column.type) else column.type]
        for kind in kinds:
            if isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
                raise unusable(path, f"column {column.name!r} has the type {kind}, trials are flat")
    if len(set(schema.names)) != len(schema.names):
        raise unusable(path, "a column stands twice in it")


def _check_types(schema: pa.Schema, metrics: Iterable[str], path: Path) -> None:
    """Refuse numbers that are text, flags that are numbers, and the like; parameters may be of any flat type."""

    def number(kind: pa.DataType) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

    def text(kind: pa.DataType) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))

    wanted = {name: ("text", text) for name in (*RUN_COLUMNS, "violation")}
    wanted |= {name: ("a whole number", pa.types.is_integer) for name in ("index", "seed")}
    wanted |= {name: ("true or false", pa.types.is_boolean) for name in ("feasible", "cached")}
    wanted |= {name: ("a number", number) for name in ("reward", *metrics)}
    if has_costs(schema):
        wanted["cost"] = ("a number", number)
    for name, (what, fits) in wanted.items():
        if not fits(schema.field(name).type):
            raise unusable(path, f"column {name!r} has the type {schema.field(name).type}, it should be {what}")


def _named(schema: pa.Schema, role: str) -> tuple[str, ...]:
    return tuple(f.name for f in schema if (f.metadata or {}).get(b"role") == role.encode())


def _open_arrows(path: Path) -> TrialFile:
    try:
        with pa.OSFile(str(path), "rb") as source:
            schema = pa.ipc.open_stream(source).schema
    except FileNotFoundError:
        raise ArchGymError(f"{path} does not exist; give a folder or file that 'archgym run' wrote") from None
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        raise unusable(path, f"it is no Arrow stream of trials ({first_line(error)})") from None
    info = shard_info(schema, path)
    _check_schema(schema, path)
    for name in TRIAL_COLUMNS:
        if name not in schema.names:
            raise unusable(path, f"it lacks the column {name!r}")
    run_fields = [pa.field(name, TEXT, metadata={"role": "run"}) for name in RUN_COLUMNS]
    run_fields.append(pa.field("seed", pa.int64(), metadata={"role": "run"}))
    several = info.get("fidelities") is not None
    own = {"fidelity"} if several else set()
    clash = (set(schema.names) & {f.name for f in run_fields}) - own
    if clash or not isinstance(info.get("seed", 0), int):
        raise unusable(path, f"its run metadata is malformed ({', '.join(sorted(clash)) or 'seed'})")
    key = tuple(_text(info.get(name, "")) for name in KEY_COLUMNS)
    problem = ProblemInfo(key, _text(info.get("workload", "")), _named(schema, "parameter"), _named(schema, "metric"))
    options = options_of(key[5])
    problems = [problem]
    for name in (
        checked(info["fidelities"], dict[str, float], f"the fidelities of {quote_path(path)}") if several else ()
    ):
        cheaper = (*key[:4], name, _text({**options, "fidelity": name}))
        problems.append(replace(problem, key=cheaper))
    flat = pa.schema([*run_fields, *(f for f in schema if f.name not in own)])
    _check_types(flat, problem.metrics, path)
    return TrialFile(path, flat, tuple(problems), info)


def _open_parquet(path: Path) -> TrialFile:
    try:
        with pq.ParquetFile(path) as source:
            schema, about = source.schema_arrow, source.metadata
            for i in range(about.num_row_groups):
                if about.row_group(i).total_byte_size > _LIMIT_ROW_GROUP:
                    raise unusable(path, f"row group {i} claims {about.row_group(i).total_byte_size:,} bytes")
            rows = about.num_rows
    except FileNotFoundError:
        raise ArchGymError(f"{path} does not exist; give a folder or file that archgym wrote") from None
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise unusable(path, f"it is no Parquet file of trials ({first_line(error)})") from None
    _check_schema(schema, path)
    info = shard_info(schema, path, merged=True)
    for name in (*RUN_COLUMNS, "seed", *TRIAL_COLUMNS):
        if name not in schema.names:
            raise unusable(path, f"it lacks the column {name!r}")
    made = tuple(ProblemInfo.from_json(row, path) for row in info["problems"])
    for problem in made:
        options_of(problem.key[5])
        for name in (*problem.parameters, *problem.metrics):
            if name not in schema.names:
                raise unusable(path, f"it lacks the column {name!r} of {problem.problem}")
        _check_types(schema, problem.metrics, path)
    return TrialFile(path, schema.remove_metadata(), made, None, "", rows)
