"""Read a Parquet file into NumPy arrays without pandas, whose import takes longer than a whole table."""

from __future__ import annotations

__all__ = ()

from pathlib import Path
from typing import Any

from archgym.datasets.columns import to_numbers
from archgym.errors import ArchGymError, quote

MAX_ROWS, MAX_BYTES = 10_000_000, 1 << 30


def read_parquet(path: Path) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """Columns of the file by name (arrays; strings as lists) and the metadata of its schema.

    Raises:
        ArchGymError: the file is not Parquet, is damaged, claims more than a table of cells holds, or has columns of
            other types than numbers, truth values and texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile and not read_table: the latter imports pyarrow's data sets, and those pandas (half a second).
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = file.metadata
            claimed = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            if about.num_rows > MAX_ROWS or claimed > MAX_BYTES:
                raise ArchGymError(
                    f"{path.name} claims {about.num_rows:,} rows of {claimed:,} bytes, more than is read"
                )
            table = file.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArchGymError(f"cannot read {path.name} as Parquet: {quote(reason, 160, marks=False)}") from None
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if name in columns:
            raise ArchGymError(f"{path.name} has the column {quote(name)} twice")
        number = (
            pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
        )
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if not (number or text):
            kind = quote(str(column.type), 40)
            raise ArchGymError(f"column {quote(name)} of {path.name} has the type {kind}; expected numbers or texts")
        columns[name] = column.to_pylist() if text else to_numbers(column)
    return columns, table.schema.metadata or {}
