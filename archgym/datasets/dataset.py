"""A dataset: the trials of one or many runs, as shards or Parquet files, read batch by batch.

Nothing here holds more than a batch of rows in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from archgym.datasets.files import BATCH, TEXT, open_file
from archgym.datasets.problems import KEY_COLUMNS, ProblemInfo, ProblemKey, unusable
from archgym.datasets.schema import FORMAT, RUN_COLUMNS, TRIAL_COLUMNS, has_costs
from archgym.datasets.shards import SUFFIX, UNFINISHED, find_shards
from archgym.errors import ArchGymError, UnknownNameError
from archgym.files import check_one_content
from archgym.problem import Problem
from archgym.writing import replacing, unwritable

ROWS_A_FILE = 4_000_000


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
        shards = [file for path in self.paths for file in find_shards(path)]
        check_one_content(shards)
        self.files = [open_file(file) for file in shards]
        self.schema = union_schema([(file.path, file.schema) for file in self.files])
        self.problems: dict[ProblemKey, ProblemInfo] = {}
        for file in self.files:
            for problem in file.problems:
                known = self.problems.setdefault(problem.key, problem)
                if (known.parameters, known.metrics) != (problem.parameters, problem.metrics):
                    raise unusable(file.path, f"its columns for {problem.problem} differ from those of another file")

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
            kind = TEXT if pa.types.is_string(f.type) or pa.types.is_large_string(f.type) else f.type
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


def read_trials(path: Path | str) -> pa.Table:
    """All trials at ``path`` as one flat table in memory; shards of different problems get the union of their
    columns. :class:`Dataset` reads batch by batch."""
    return Dataset(path).table().combine_chunks()


def at_own_fidelity(table: pa.Table) -> pa.Table:
    """The trials without those that a run at several fidelities made at a cheaper one than its problem's own."""
    if not has_costs(table.schema):
        return table
    cost = table.column("cost")
    return table.filter(pc.or_kleene(pc.is_null(cost), pc.equal(cost, 1.0)))


# --- writing -------------------------------------------------------------------------------------------------------


class DatasetWriter:
    """Writes Parquet files ``trials-00000.parquet``, ... of at most ROWS_A_FILE rows into a folder.

    The files get their names when all of them are whole; while they do, the folder holds :data:`UNFINISHED`. After a
    kill at any moment the same writer starts again: it replaces what an unfinished one left behind, and files whose
    metadata are its own.

    Args:
        folder: made where it is missing; must hold no other trials yet.
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
        self._names = ExitStack()
        self._pending: list[pa.RecordBatch] = []
        self._waiting = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        self._mark = self.folder / UNFINISHED
        self._old = sorted(self.folder.glob("*.parquet"))
        mine = self._mark.exists() or all(self._wrote(path) for path in self._old)
        if not mine or any(self.folder.glob(f"*{SUFFIX}")):
            raise ArchGymError(f"{self.folder} holds trials already; choose another folder")

    def _wrote(self, path: Path) -> bool:
        """Whether a file has the metadata that this writer gives its own."""
        try:
            about = pq.read_schema(path).metadata or {}
        except (pa.ArrowException, OSError):
            return False
        return bool(about.get(b"archgym") == self.schema.metadata[b"archgym"])

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
                # Under another name until all is whole, so that a killed run leaves nothing that looks finished.
                temporary = self._names.enter_context(replacing(path))
                self._writer = pq.ParquetWriter(temporary, self.schema, compression="zstd", write_page_checksum=True)
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
        self._writer, self._in_file = None, 0

    def close(self) -> None:
        """Write what is waiting and finish the last file; a dataset without rows still gets one."""
        if self._pending or not self.files:
            self._flush()
        self._end_file()
        try:
            self._mark.touch()
            for path in self._old:
                path.unlink()
            self._names.close()
            for path in self.folder.glob("trials-*.tmp"):  # of a killed writer that had more
                path.unlink()
            self._mark.unlink()
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            if self._writer is not None:
                self._writer.close()
            self._names.__exit__(kind, error, trace)
