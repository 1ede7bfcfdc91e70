"""A dataset: the trials of one or many runs, as shards or Parquet files, read batch by batch.

Nothing here holds more than a batch of rows in memory. Files are data only: nothing in them is executed, Arrow
extension types are refused, and a file that is truncated, foreign or of another version is refused (or, for a torn
shard, read up to its last whole batch) with one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from archgym.datasets.schema import FORMAT, RUN_COLUMNS, TRIAL_COLUMNS, TrialSchema, words_and_positions
from archgym.datasets.shards import SUFFIX, check_batch, find_shards, shard_info, unwritable
from archgym.errors import ArchGymError
from archgym.problem import Problem, problem_of_options
from archgym.simulator import names_own_file

BATCH = 65536
ROWS_A_FILE = 4_000_000
_LIMIT_ROW_GROUP = 1 << 31
"""Bytes that a Parquet row group may unpack to; a small file that claims more is refused, not unpacked."""

KEY_COLUMNS = ("problem", "space", "objective", "simulator_version", "fidelity", "options")
"""The run columns that together say which problem a row belongs to."""

ProblemKey = tuple[str, ...]
_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class ProblemInfo:
    """What a dataset says of one of its problems.

    Attributes:
        key: the values of KEY_COLUMNS.
        workload: name of the workload.
        parameters, metrics: the names of its columns.
    """

    key: ProblemKey
    workload: str
    parameters: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def problem(self) -> str:
        return self.key[0]

    @property
    def options(self) -> dict[str, Any]:
        """What ``make_problem`` was given beyond the name."""
        return _options(self.key[5])

    def as_json(self) -> dict[str, Any]:
        """The form that a Parquet file's metadata holds."""
        about = dict(zip(KEY_COLUMNS, self.key, strict=True))
        return {**about, "workload": self.workload, "parameters": self.parameters, "metrics": self.metrics}

    @classmethod
    def from_json(cls, about: Mapping[str, Any], path: Path) -> ProblemInfo:
        """Inverse of :meth:`as_json`; refuses anything else."""
        try:
            key = tuple(about[name] for name in KEY_COLUMNS)
            info = cls(key, about["workload"], tuple(about["parameters"]), tuple(about["metrics"]))
        except (KeyError, TypeError):
            raise _broken(path, "its list of problems is malformed") from None
        texts = (*info.key, info.workload, *info.parameters, *info.metrics)
        if not all(isinstance(text, str) for text in texts):
            raise _broken(path, "its list of problems is malformed")
        return info

    def make(self, *, trust: bool = False) -> Problem:
        """The problem itself, to canonicalise designs and to simulate again.

        A dataset is data from anywhere, so by default only simulators that come with archgym are made, without
        stand-ins, files or external programs; ``trust=True`` lifts that.
        """
        options = self.options
        if not trust:
            _refuse_untrusted(self.problem, options)
        problem = problem_of_options(self.problem, options)
        if problem.simulator.version != self.key[3]:
            raise ArchGymError(
                f"the trials of {self.problem} come from simulator version {self.key[3]!r}, installed is "
                f"{problem.simulator.version!r}; install that version to compare them"
            )
        if problem.space.names != self.parameters:
            raise ArchGymError(
                f"the trials of {self.problem} have the parameters {', '.join(self.parameters)}, the installed space "
                f"has {', '.join(problem.space.names)}"
            )
        return problem


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text) if text else {}
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise ArchGymError(f"the trials hold the problem options {text[:80]!r}; expected a JSON object")
    return options


def _refuse_untrusted(problem: str, options: Mapping[str, Any]) -> None:
    from archgym.registry import SIMULATORS

    kind, _, workload = problem.partition("/")
    target = SIMULATORS.get(kind, "")
    if target.startswith("archgym.simulators.external"):
        raise ArchGymError(
            f"{problem} would start an external program; add --trust if you trust where the data is from"
        )
    if (
        options.get("simulator")
        or names_own_file(workload)
        # Names of devices, rules and objectives hold no path.
        or any(mark in str(value) for value in options.values() for mark in ("file:", "torch:", "/", "\\"))
    ):
        raise ArchGymError(
            f"{problem} needs a file that the data names; add --trust if you trust where the data is from"
        )


def _broken(path: Path, why: str) -> ArchGymError:
    return ArchGymError(f"{path} cannot be used: {why}; give a folder or file that archgym wrote")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


# --- files ---------------------------------------------------------------------------------------------------------


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
            raise _broken(self.path, f"it is damaged ({_first_line(error)})") from None
        if rows != self.rows:
            raise _broken(self.path, f"it is damaged (it does not hold the {self.rows:,} rows that it claims)")

    def _arrows(self, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        assert self.run is not None
        names = [name for name in (columns or self.schema.names) if name in self.schema.names]
        schema = pa.schema([self.schema.field(name) for name in names])
        words = {name: pa.array([_text(self.run.get(name, ""))]) for name in names if name in RUN_COLUMNS}
        seed = int(self.run.get("seed", 0))

        def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
            n, arrays = batch.num_rows, []
            for name in names:
                if name in words:
                    zeros = pa.array(np.zeros(n, dtype=np.int32))
                    arrays.append(pa.DictionaryArray.from_arrays(zeros, words[name]))
                elif name == "seed":
                    arrays.append(pa.array(np.full(n, seed, dtype=np.int64)))
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
                    elif not _has_end(source):
                        self.note = "the run was not closed (killed, or still going)"
                except (pa.ArrowException, OSError, MemoryError) as error:
                    self.note = f"torn after the last whole batch ({_first_line(error)})"
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise _broken(self.path, f"it is no Arrow stream of trials ({_first_line(error)})") from None


def _has_end(source: pa.NativeFile) -> bool:
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
        raise _broken(path, f"its metadata is malformed ({_first_line(error)})") from None


def _check_schema(schema: pa.Schema, path: Path) -> None:
    for column in schema:
        for word in (column.metadata or {}).values():
            word.decode()
        kinds = [column.type, column.type.value_type if pa.types.is_dictionary(column.type) else column.type]
        for kind in kinds:
            if isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
                raise _broken(path, f"column {column.name!r} has the type {kind}, trials are flat")
    if len(set(schema.names)) != len(schema.names):
        raise _broken(path, "a column stands twice in it")


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
    for name, (what, fits) in wanted.items():
        if not fits(schema.field(name).type):
            raise _broken(path, f"column {name!r} has the type {schema.field(name).type}, it should be {what}")


def _named(schema: pa.Schema, role: str) -> tuple[str, ...]:
    return tuple(f.name for f in schema if (f.metadata or {}).get(b"role") == role.encode())


def _open_arrows(path: Path) -> TrialFile:
    try:
        with pa.OSFile(str(path), "rb") as source:
            schema = pa.ipc.open_stream(source).schema
    except FileNotFoundError:
        raise ArchGymError(f"{path} does not exist; give a folder or file that 'archgym run' wrote") from None
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        raise _broken(path, f"it is no Arrow stream of trials ({_first_line(error)})") from None
    info = shard_info(schema, path)
    _check_schema(schema, path)
    for name in TRIAL_COLUMNS:
        if name not in schema.names:
            raise _broken(path, f"it lacks the column {name!r}")
    run_fields = [pa.field(name, _TEXT, metadata={"role": "run"}) for name in RUN_COLUMNS]
    run_fields.append(pa.field("seed", pa.int64(), metadata={"role": "run"}))
    clash = set(schema.names) & {f.name for f in run_fields}
    if clash or not isinstance(info.get("seed", 0), int):
        raise _broken(path, f"its run metadata is malformed ({', '.join(sorted(clash)) or 'seed'})")
    key = tuple(_text(info.get(name, "")) for name in KEY_COLUMNS)
    problem = ProblemInfo(key, _text(info.get("workload", "")), _named(schema, "parameter"), _named(schema, "metric"))
    _options(key[5])
    flat = pa.schema([*run_fields, *schema])
    _check_types(flat, problem.metrics, path)
    return TrialFile(path, flat, (problem,), info)


def _open_parquet(path: Path) -> TrialFile:
    try:
        with pq.ParquetFile(path) as source:
            schema, about = source.schema_arrow, source.metadata
            for i in range(about.num_row_groups):
                if about.row_group(i).total_byte_size > _LIMIT_ROW_GROUP:
                    raise _broken(path, f"row group {i} claims {about.row_group(i).total_byte_size:,} bytes")
            rows = about.num_rows
    except FileNotFoundError:
        raise ArchGymError(f"{path} does not exist; give a folder or file that archgym wrote") from None
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _broken(path, f"it is no Parquet file of trials ({_first_line(error)})") from None
    _check_schema(schema, path)
    info = shard_info(schema, path)
    problems = info.get("problems")
    if not isinstance(problems, list) or not problems:
        raise _broken(path, "its list of problems is missing")
    for name in (*RUN_COLUMNS, "seed", *TRIAL_COLUMNS):
        if name not in schema.names:
            raise _broken(path, f"it lacks the column {name!r}")
    made = tuple(ProblemInfo.from_json(row, path) for row in problems)
    for problem in made:
        _options(problem.key[5])
        for name in (*problem.parameters, *problem.metrics):
            if name not in schema.names:
                raise _broken(path, f"it lacks the column {name!r} of {problem.problem}")
        _check_types(schema, problem.metrics, path)
    return TrialFile(path, schema.remove_metadata(), made, None, "", rows)


# --- datasets ------------------------------------------------------------------------------------------------------


class Dataset:
    """Trials at one or several paths (files, or folders searched recursively).

    Attributes:
        files: the files, sorted by name within a path.
        schema: the union of their columns: run, trial index, parameters, metrics, the rest; roles and units in the
            fields' metadata.
        problems: key -> ProblemInfo.

    Raises:
        ArchGymError: for a path without trials, for files that archgym did not write, and where two files give one
            column two types or units.
    """

    def __init__(self, paths: Path | str | Sequence[Path | str]) -> None:
        many = [paths] if isinstance(paths, str | Path) else list(paths)
        self.paths = [Path(path) for path in many]
        self.files = [open_file(file) for path in self.paths for file in find_shards(path)]
        self.schema = union_schema([(file.path, file.schema) for file in self.files])
        self.problems: dict[ProblemKey, ProblemInfo] = {}
        for file in self.files:
            for problem in file.problems:
                known = self.problems.setdefault(problem.key, problem)
                if (known.parameters, known.metrics) != (problem.parameters, problem.metrics):
                    raise _broken(file.path, f"its columns for {problem.problem} differ from those of another file")

    @cached_property
    def rows(self) -> int:
        """Number of trials."""
        return sum(file.rows for file in self.files)

    def units(self) -> dict[str, str]:
        """Column -> unit, for parameters and metrics."""
        return {
            f.name: (f.metadata or {}).get(b"unit", b"").decode()
            for f in self.schema
            if (f.metadata or {}).get(b"role") in (b"parameter", b"metric")
        }

    def batches(self, columns: Sequence[str] | None = None, size: int = BATCH) -> Iterator[pa.RecordBatch]:
        """Batches with the dataset's columns (absent ones null), in file order."""
        names = list(columns) if columns is not None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])
        for file in self.files:
            for batch in file.batches(names, size):
                yield _fit(batch, schema)

    def groups(
        self, columns: Sequence[str] | None = None, size: int = BATCH
    ) -> Iterator[tuple[ProblemInfo, pa.RecordBatch, NDArray[np.int64]]]:
        """Batches of one problem each: info, rows, and their positions in the dataset (int64)."""
        wanted = None if columns is None else list(dict.fromkeys([*KEY_COLUMNS, *columns]))
        start = 0
        for batch in self.batches(wanted, size):
            n = batch.num_rows
            for key, rows in _by_key(batch):
                info = self.problems.get(key)
                if info is None:
                    raise ArchGymError(f"the trials hold rows of {key[0]!r} that their file does not declare")
                part = batch if rows is None else batch.take(pa.array(rows))
                yield info, part, np.arange(start, start + n) if rows is None else start + rows
            start += n

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Everything in memory; for small datasets."""
        names = list(columns) if columns is not None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches(list(self.batches(names)), schema).unify_dictionaries()

    def problem(self, *, trust: bool = False) -> Problem:
        """The one problem of a dataset that has one (objectives aside: the first is taken)."""
        names = {(info.problem, info.key[1], info.key[3], info.key[4]) for info in self.problems.values()}
        if len(names) != 1:
            listed = ", ".join(sorted({info.problem for info in self.problems.values()}))
            raise ArchGymError(f"the trials are of several problems ({listed}); choose one with --problem")
        return next(iter(self.problems.values())).make(trust=trust)

    def select(self, problem: str) -> Dataset:
        """The trials of one problem name; the files are shared."""
        from archgym.errors import UnknownNameError

        if problem not in {info.problem for info in self.problems.values()}:
            raise UnknownNameError("problem of the dataset", problem, {i.problem for i in self.problems.values()})
        chosen = object.__new__(_Selection)
        chosen.paths, chosen.files, chosen.schema = self.paths, self.files, self.schema
        chosen.problems = {key: info for key, info in self.problems.items() if info.problem == problem}
        chosen.every = self.problems
        return chosen


class _Selection(Dataset):
    """The rows of some problems of a dataset."""

    every: dict[ProblemKey, ProblemInfo]

    def batches(self, columns: Sequence[str] | None = None, size: int = BATCH) -> Iterator[pa.RecordBatch]:
        names = list(columns) if columns is not None else self.schema.names
        wanted = list(dict.fromkeys([*KEY_COLUMNS, *names]))
        for batch in super().batches(wanted, size):
            for key, rows in _by_key(batch):
                if key in self.problems:
                    part = batch if rows is None else batch.take(pa.array(rows))
                    yield part.select(names)

    @cached_property
    def rows(self) -> int:
        return sum(batch.num_rows for batch in self.batches(["index"]))


def _by_key(batch: pa.RecordBatch) -> Iterator[tuple[ProblemKey, NDArray[np.int64] | None]]:
    """The problems in a batch: key and rows (None = all of them)."""
    if not batch.num_rows:
        return
    code = np.zeros(batch.num_rows, dtype=np.int64)
    words: list[list[str]] = []
    for name in KEY_COLUMNS:
        column = batch.column(name)
        if column.null_count:
            raise ArchGymError(f"the trials hold rows without a value in {name!r}, which says what they are trials of")
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        texts = column.dictionary.to_pylist()
        words.append(texts)
        if len(texts) == 1:
            continue
        code = code * len(texts) + column.indices.to_numpy(zero_copy_only=False)
    present = np.unique(code)
    for value in present:
        rest, parts = int(value), []
        for texts in reversed(words):
            rest, index = divmod(rest, len(texts)) if len(texts) > 1 else (rest, 0)
            parts.append(texts[index])
        key = tuple(reversed(parts))
        yield key, None if len(present) == 1 else np.flatnonzero(code == value)


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly the columns of ``schema``; absent ones are null."""
    arrays = []
    for wanted in schema:
        if wanted.name in batch.schema.names:
            column = batch.column(wanted.name)
            if column.type != wanted.type:
                column = column.dictionary_encode() if pa.types.is_dictionary(wanted.type) else column
                column = column.cast(wanted.type)
            arrays.append(column)
        else:
            arrays.append(pa.nulls(batch.num_rows, wanted.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


_ORDER = {"run": 0, "": 1, "parameter": 2, "metric": 3, "trial": 4, "clock": 5}


def union_schema(schemas: Sequence[tuple[Path, pa.Schema]]) -> pa.Schema:
    """The union of columns; one column must have one type, role and unit everywhere."""
    fields: dict[str, tuple[Path, pa.Field]] = {}
    for path, schema in schemas:
        for f in schema:
            kind = _TEXT if pa.types.is_string(f.type) or pa.types.is_large_string(f.type) else f.type
            f = f.with_type(kind)
            if f.name not in fields:
                fields[f.name] = path, f
                continue
            first, known = fields[f.name]
            old, new = known.metadata or {}, f.metadata or {}
            for what in (b"role", b"unit", b"direction"):
                if old.get(what) != new.get(what):
                    raise ArchGymError(
                        f"column {f.name!r} has the {what.decode()} {old.get(what, b'').decode()!r} in {first} and "
                        f"{new.get(what, b'').decode()!r} in {path}; keep the two datasets apart"
                    )
            if known.type != f.type:
                kinds = {known.type, f.type}
                if kinds != {pa.int64(), pa.float64()}:
                    raise ArchGymError(
                        f"column {f.name!r} is {known.type} in {first} and {f.type} in {path}; "
                        "keep the two datasets apart"
                    )
                fields[f.name] = first, known.with_type(pa.float64())

    def place(item: pa.Field) -> tuple[int, int]:
        if item.name in RUN_COLUMNS:
            return 0, RUN_COLUMNS.index(item.name)
        if item.name == "seed":
            return 0, len(RUN_COLUMNS)
        if item.name in TRIAL_COLUMNS:
            return (1, 0) if item.name == "index" else (4, TRIAL_COLUMNS.index(item.name))
        return _ORDER.get((item.metadata or {}).get(b"role", b"").decode(), 3), 0

    return pa.schema(sorted((f for _, f in fields.values()), key=place))


# --- writing -------------------------------------------------------------------------------------------------------


class DatasetWriter:
    """Writes Parquet files ``trials-00000.parquet``, ... of at most ROWS_A_FILE rows into a folder.

    Args:
        folder: made where it is missing; must hold no trials yet.
        schema: columns of the batches.
        problems: what the files' metadata says of the problems.
        about: further JSON-able facts for the metadata (how the dataset came to be).
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        problems: Iterable[ProblemInfo],
        about: Mapping[str, Any] | None = None,
        rows_a_file: int = ROWS_A_FILE,
    ) -> None:
        self.folder, self.files = Path(folder), list[Path]()
        meta = {"format": FORMAT, "problems": [info.as_json() for info in problems], **(about or {})}
        self.schema = schema.with_metadata({"archgym": json.dumps(meta, sort_keys=True)})
        self.rows = 0
        self._rows_a_file, self._in_file = rows_a_file, 0
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._waiting = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        if any(self.folder.glob("*.parquet")) or any(self.folder.glob(f"*{SUFFIX}")):
            raise ArchGymError(f"{self.folder} holds trials already; choose another folder")

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        if not batch.num_rows:
            return
        self._pending.append(batch)
        self._waiting += batch.num_rows
        if self._waiting >= 2 * BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._pending and self._writer is not None:
            return
        table = pa.Table.from_batches(self._pending, self._pending[0].schema if self._pending else self.schema)
        table = table.unify_dictionaries().cast(self.schema) if self._pending else self.schema.empty_table()
        try:
            if self._writer is None:
                path = self.folder / f"trials-{len(self.files):05d}.parquet"
                # Under another name until it is whole, so that a killed run leaves nothing that looks finished.
                self._writer = pq.ParquetWriter(
                    path.with_suffix(".tmp"), self.schema, compression="zstd", write_page_checksum=True
                )
                self.files.append(path)
            self._writer.write_table(table)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        self.rows += len(table)
        self._in_file += len(table)
        self._pending, self._waiting = [], 0
        if self._in_file >= self._rows_a_file:
            self._end_file()

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.files[-1].with_suffix(".tmp").replace(self.files[-1])
        self._writer, self._in_file = None, 0

    def close(self) -> None:
        """Write what is waiting and finish the last file; a dataset without rows still gets one."""
        if self._pending or not self.files:
            self._flush()
        self._end_file()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.close()


# --- keys of designs -----------------------------------------------------------------------------------------------

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014), element by element."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def hash_rows(columns: Iterable[NDArray[Any]], salt: int) -> NDArray[np.uint64]:
    """64-bit hash a row of columns of 8-byte numbers; equal rows, equal hashes, on every machine."""
    result: NDArray[np.uint64] | None = None
    with np.errstate(over="ignore"):
        for column in columns:
            column = np.ascontiguousarray(column)
            if column.dtype.kind == "f":
                column = np.where(np.isnan(column), np.nan, column + 0.0)  # one NaN, and -0.0 as 0.0
            words = column.astype(column.dtype.newbyteorder("=")).view(np.uint64)
            if result is None:
                result = np.full(len(words), np.uint64(salt & (2**64 - 1)))
            result = _mix((result ^ words) + _GOLDEN)
    if result is None:
        raise ArchGymError("a row without columns cannot be hashed; give at least one column")
    return result


def text_number(text: str) -> int:
    """A stable 63-bit number for a text."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def value_columns(batch: pa.RecordBatch, names: Sequence[str]) -> list[NDArray[Any]]:
    """Columns as 8-byte numbers: numbers as they are, booleans as 0 and 1, texts as their hash, nulls apart."""
    result = []
    for name in names:
        column = batch.column(name)
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            words, positions = words_and_positions(column)
            codes = [-1 if word is None else text_number(str(word)) for word in words]
            result.append(np.array(codes, dtype=np.int64)[positions])
        elif pa.types.is_boolean(column.type):
            result.append(column.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False))
        elif pa.types.is_integer(column.type):
            result.append(column.cast(pa.int64()).fill_null(-(2**62)).to_numpy(zero_copy_only=False))
        else:
            result.append(column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64))
    return result


class DesignKeys:
    """128-bit keys of canonical designs, for problems that can be made; of the values as they are, for the others.

    Attributes:
        reasons: problem key -> why its designs were not canonicalised.
    """

    def __init__(self, problems: Mapping[ProblemKey, ProblemInfo], *, trust: bool = False) -> None:
        self._makers: dict[ProblemKey, Callable[[pa.RecordBatch], list[NDArray[Any]]]] = {}
        self.reasons: dict[ProblemKey, str] = {}
        self.made: dict[ProblemKey, Problem] = {}
        for key, info in problems.items():
            try:
                problem = info.make(trust=trust)
            except ArchGymError as error:
                self.reasons[key] = str(error)

                def by_value(batch: pa.RecordBatch, names: Sequence[str] = info.parameters) -> list[NDArray[Any]]:
                    return value_columns(batch, names)

                self._makers[key] = by_value
                continue
            self.made[key] = problem
            schema = TrialSchema(problem, {})

            def canonical(
                batch: pa.RecordBatch, schema: TrialSchema = schema, problem: Problem = problem
            ) -> list[NDArray[Any]]:
                designs = problem.space.canonical(schema.designs(batch))
                return [designs[:, j] for j in range(designs.shape[1])]

            self._makers[key] = canonical

    def __call__(self, info: ProblemInfo, batch: pa.RecordBatch, scope: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Two 64-bit words a row; rows of different ``scope`` never have equal keys."""
        columns = self._makers[info.key](batch)
        salt = text_number(scope)
        return hash_rows(columns, salt), hash_rows(columns, salt ^ 0x5DEECE66D)
