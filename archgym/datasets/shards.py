"""Shards: one Arrow IPC stream a run, appended batch by batch, readable up to the last whole batch after any kill.

A writer never shares its file. Each batch is handed to the operating system before :meth:`ShardWriter.append`
returns, so a killed process loses nothing that was told to an agent (``fsync=True`` extends that to a power loss).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import pyarrow as pa

from archgym.datasets.schema import FORMAT
from archgym.errors import ArchGymError, quote
from archgym.files import FOLDER as MADE_FROM
from archgym.files import check_one_content, kept_beside
from archgym.locating import lead_to
from archgym.options import check_options
from archgym.reading import checked, parse_json, quote_path
from archgym.writing import replacing, unwritable

SUFFIX = ".arrows"
UNFINISHED = ".unfinished"
"""A file that says that the Parquet files beside it are not all there yet."""


class ShardWriter:
    """Append-only writer of one run's trials.

    Args:
        path: the shard's file; its folder is made where it is missing.
        schema: the trial schema of the run (with the run's metadata).
        keep: batches of an interrupted run that the new file starts with (see :func:`read_shard`).
        fsync: wait for the disk at every batch.
        exclusive: take the name only where nobody, in any process, has it or is taking it.

    Raises:
        ArchGymError: where the folder cannot be written.
        FileExistsError: where an exclusive name is taken.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        keep: Iterable[pa.RecordBatch] = (),
        *,
        fsync: bool = False,
        exclusive: bool = False,
    ) -> None:
        self.path, self._fsync = Path(path), fsync
        # The kept batches go to a new file that then takes the old one's name: at no moment are they lost. The file stays
        # open under the new name.
        with ExitStack() as failed:
            with replacing(self.path, exclusive=exclusive) as temporary:
                self._file: IO[bytes] = failed.enter_context(open(temporary, "wb", buffering=0))
                options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
                self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), schema, options=options)
                # Arrow writes the schema with the first batch. An empty one brings it onto the disk now, so that a kill
                # before the first trial leaves a readable shard.
                for batch in (_empty(schema), *(batch for batch in keep if len(batch))):
                    self._writer.write_batch(batch)
                self._sync()
            failed.pop_all()

    def append(self, batch: pa.RecordBatch) -> None:
        """Write one batch; on return it is with the operating system."""
        try:
            self._writer.write_batch(batch)
            self._sync()
        except OSError as error:
            raise unwritable(self.path, error) from None

    def _sync(self) -> None:
        self._file.flush()
        if self._fsync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the stream; a shard that was not closed is still readable."""
        if not self._file.closed:
            try:
                self._writer.close()
                self._sync()
            except OSError as error:
                raise unwritable(self.path, error) from None
            finally:
                self._file.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def numbered_shard(folder: Path, stem: str, schema: pa.Schema) -> ShardWriter:
    """A writer of ``folder/stem-0000.arrows``, or of the first higher number that is free: any number of processes may
    ask for one at once."""
    for number in itertools.count():
        with suppress(FileExistsError):
            return ShardWriter(Path(folder) / f"{stem}-{number:04d}{SUFFIX}", schema, exclusive=True)
    raise AssertionError


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


Text = Annotated[str, msgspec.Meta(max_length=100_000)]


class _RunFacts(msgspec.Struct):
    """What a shard's metadata says of its run."""

    problem: Text
    agent: Text = ""
    hyperparameters: Text = "{}"
    hyperparameter_hash: Text = ""
    workload: Text = ""
    objective: Text = ""
    space: Text = ""
    simulator_version: Text = ""
    fidelity: Text = ""
    study: Text = ""
    run: Text = ""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    options: dict[str, Any] = {}


class _ProblemFacts(msgspec.Struct):
    """What a Parquet file's metadata says of one of its problems."""

    problem: Text
    workload: Text
    objective: Text
    space: Text
    simulator_version: Text
    fidelity: Text
    options: Text
    parameters: list[Text]
    metrics: list[Text]


class _FileFacts(msgspec.Struct):
    problems: Annotated[list[_ProblemFacts], msgspec.Meta(min_length=1, max_length=100_000)]


_NEVER_NULL = ("index", "seed", "feasible", "cached", "reward")


def check_batch(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    """The batch, its buffers checked; refuses rows without a value in a column that every trial has.

    Raises:
        ArchGymError: for such rows.
        pa.ArrowInvalid: for offsets and indices that lie.
    """
    batch.validate(full=True)
    if len(set(batch.schema.names)) < batch.num_columns:
        raise ArchGymError(f"{quote_path(path)} cannot be used: a column stands twice in it")
    for name in _NEVER_NULL:
        if name in batch.schema.names and batch.column(name).null_count:
            raise ArchGymError(f"{quote_path(path)} cannot be used: trials without a value in {name!r}")
    return batch


def _check_columns(schema: pa.Schema, path: Path) -> None:
    """Refuse columns of types that no trial has: only numbers of 8 to 64 bits, truth values and texts are written."""
    for column in schema:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        plain = (
            pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
            or pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
            or pa.types.is_null(kind)
        )  # fmt: skip
        if not plain:
            raise ArchGymError(
                f"{quote_path(path)} cannot be used: column {quote(column.name, 60)} has the type {quote(str(kind), 40)}; "
                "trials are flat"
            )


def shard_info(schema: pa.Schema, path: Path, *, merged: bool = False) -> dict[str, Any]:
    """The run's metadata from a shard's schema (or, with ``merged``, the problems' from a Parquet file's), its types
    checked; refuses files that archgym did not write."""
    _check_columns(schema, path)
    raw = (schema.metadata or {}).get(b"archgym")
    where = f"the metadata of {quote_path(path)}"
    info = parse_json(raw, where) if raw is not None else None
    if not isinstance(info, dict) or "format" not in info:
        raise ArchGymError(
            f"{quote_path(path)} holds no archgym trials; give a folder or file that 'archgym run' wrote"
        )
    if info["format"] != FORMAT:
        raise ArchGymError(
            f"{quote_path(path)} is in trial format {quote(info['format'], 20)}, this archgym reads format {FORMAT}; "
            f"convert it with the archgym version that wrote it"
        )
    if merged or "problems" in info:
        facts: _FileFacts = checked(info, _FileFacts, where)
        for problem in facts.problems:
            options = parse_json(problem.options or "{}", f"the options in {where}")
            check_options(options, f"{quote(problem.problem, 60)} in {quote_path(path)}")
        return info
    run: _RunFacts = checked(info, _RunFacts, where)
    check_options(run.options, f"{quote(run.problem, 60)} in {quote_path(path)}")
    checked(parse_json(run.hyperparameters, f"the hyperparameters in {where}"), dict[str, Any], where)
    return {**msgspec.structs.asdict(run), **info}


def read_shard(path: Path) -> tuple[pa.Schema, list[pa.RecordBatch], bool]:
    """Schema, whole batches and whether the stream was closed properly; a torn last batch is left out."""
    try:
        with pa.OSFile(str(path), "rb") as source:
            reader = pa.ipc.open_stream(source)
            batches: list[pa.RecordBatch] = []
            try:
                for batch in reader:
                    batches.append(check_batch(batch, path))
                size, end = source.size(), source.tell()
                return reader.schema, batches, size == end
            except (pa.ArrowException, OSError):
                return reader.schema, batches, False
    except FileNotFoundError:
        raise ArchGymError(f"{path} does not exist; give a folder or file that 'archgym run' wrote") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArchGymError(f"{path} is not an Arrow stream of trials ({str(error).splitlines()[0]})") from None


def find_shards(path: Path) -> list[Path]:
    """The trial files at ``path`` (a shard, a Parquet file, or a folder searched recursively), sorted by name.

    Problems that are made as these trials say (:func:`archgym.problem.problem_of_options`) find their files from then on.
    Trials below a folder that were made with different contents of one file are refused.
    """
    path = Path(path)
    if path.is_file():
        lead_to(kept_beside([path]))
        return [path]
    if (path / UNFINISHED).exists():
        raise ArchGymError(f"{quote_path(path)} is not whole: what wrote it was killed; repeat that command")
    if not path.is_dir():
        raise ArchGymError(f"{path} does not exist; give a folder or file that 'archgym run' wrote")
    shards = _below(path, SUFFIX) or _below(path, ".parquet")
    if not shards:
        raise ArchGymError(f"{path} holds no trials (*{SUFFIX} or *.parquet); run 'archgym run' first")
    check_one_content(shards)
    lead_to(kept_beside(shards))
    return shards


def _below(folder: Path, suffix: str) -> list[Path]:
    """Files of trials below a folder; what a run was made from is none."""
    return [path for path in sorted(folder.rglob(f"*{suffix}")) if MADE_FROM not in path.relative_to(folder).parts]
