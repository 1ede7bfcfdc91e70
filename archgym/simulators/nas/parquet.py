"""Read a Parquet file into NumPy arrays without pandas, whose import takes longer than a whole table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_parquet(path: Path) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """Columns of the file by name (arrays; strings as lists) and the metadata of its schema.

    Raises:
        pyarrow.ArrowException: the file is not Parquet or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # ParquetFile and not read_table: the latter imports pyarrow's data sets, and those pandas (half a second).
    with pq.ParquetFile(path) as file:
        table = file.read()
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        columns[name] = column.to_pylist() if text else _plain(column)
    return columns, table.schema.metadata or {}


def _plain(column: Any) -> NDArray[Any]:
    """A column of an Arrow table as an array. Numbers without gaps are read from their buffers: Arrow's own
    conversion imports pandas where it is installed, which takes longer than the whole table."""
    import pyarrow as pa

    if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        converted: NDArray[Any] = column.to_numpy()
        return converted
    dtype = np.dtype(
        {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(column.type), str(column.type))
    )
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype, len(chunk), chunk.offset * dtype.itemsize)
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype)
