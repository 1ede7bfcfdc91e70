"""SQL over a dataset through DuckDB: ``SELECT agent, min(energy_pj) FROM trials GROUP BY agent``."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from archgym.datasets.dataset import Dataset
from archgym.errors import ArchGymError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence


SECONDS = 60.0
"""Seconds that a statement over a table in memory may take."""


def query(paths: Path | str | Sequence[Path | str], sql: str, *, memory_limit: str = "4GB") -> pa.Table:
    """Run one SQL statement over the view ``trials``.

    The statement sees the trials and nothing else: no files, no network, no extensions. What does not fit into
    ``memory_limit`` is spilled to a temporary folder.

    Raises:
        ArchGymError: one sentence for SQL that DuckDB refuses.
        MissingExtraError: where DuckDB is not installed.
    """
    import pyarrow.dataset as pads

    dataset = Dataset(paths)
    with _connection(memory_limit) as con:
        if all(file.path.suffix == ".parquet" for file in dataset.files):
            # Scanned in place, with the columns and row groups that the statement needs.
            source: Any = pads.dataset([str(file.path) for file in dataset.files], schema=_plain(dataset.schema))
            con.register("trials", source)
        else:
            plain = _plain(dataset.schema)
            batches = (_decode(batch, plain) for batch in dataset.batches())
            source = pa.RecordBatchReader.from_batches(plain, batches)
            con.register("source", source)
            con.execute("CREATE TABLE trials AS SELECT * FROM source")
            con.unregister("source")
        table: pa.Table = _asked(con, sql).to_arrow_table()
        return table


def query_table(
    table: pa.Table, sql: str, *, rows: int, memory_limit: str = "1GB", seconds: float = SECONDS
) -> pa.Table:
    """As :func:`query`, over a table in memory as the view ``trials``; at most ``rows`` rows, found within ``seconds``."""
    with _connection(memory_limit) as con:
        con.register("trials", table)
        timer = threading.Timer(seconds, con.interrupt)
        timer.start()
        try:
            found: pa.Table = _asked(con, sql).limit(rows).to_arrow_table()
            return found
        finally:
            timer.cancel()


@contextmanager
def _connection(memory_limit: str) -> Iterator[Any]:
    """A database of its own, in a temporary folder."""
    try:
        import duckdb
    except ModuleNotFoundError:
        raise MissingExtraError("SQL over datasets", "query", "duckdb is not installed") from None
    with tempfile.TemporaryDirectory(prefix="archgym-query-") as folder:
        con = duckdb.connect(str(Path(folder) / "trials.duckdb"))
        try:
            # DuckDB draws its progress into standard output, where a program reads our JSON.
            con.execute("SET enable_progress_bar = false")
            con.execute(f"SET memory_limit = '{memory_limit}'; SET temp_directory = '{folder}'")
            yield con
        except duckdb.Error as error:
            sentence = " ".join(str(error).split())
            raise ArchGymError(f"the query fails ({sentence[:300]}); the table is called trials") from None
        finally:
            con.close()


def _asked(con: Any, sql: str) -> Any:
    """The relation that a statement is, which sees no files and changes no settings."""
    con.execute("SET enable_external_access = false; SET lock_configuration = true")
    result = con.sql(sql)
    if result is None:
        raise ArchGymError("the query gives no rows; write one SELECT over the table trials")
    return result


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema])


def _decode(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
