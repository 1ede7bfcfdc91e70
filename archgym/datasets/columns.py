"""Arrow's columns from arrays and back, without pandas: Arrow's own conversions import it wherever it is installed, and
that takes most of a second before the first trial of a run."""

from __future__ import annotations

__all__ = ()

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def of_numbers(values: NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    """A column of numbers or truth values ``(n,)``, none of them null; what NumPy and ``kind`` hold differently is converted."""
    if values.dtype.kind not in "biuf" or (kind is not None and kind != pa.from_numpy_dtype(values.dtype)):
        return pa.array(values, type=kind)
    plain = np.packbits(values, bitorder="little") if values.dtype.kind == "b" else np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(plain)])


def of_texts(texts: Sequence[str | None]) -> pa.Array:
    """A column of texts, null where there is None."""
    words = [b"" if text is None else text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, words)], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        return pa.array(texts, pa.string())
    there = np.array([text is not None for text in texts], dtype=bool)
    mask = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    buffers = [mask, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(words))]
    return pa.Array.from_buffers(pa.string(), len(words), buffers)


def to_numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The array ``(n,)`` of a column; other columns than those of numbers and truth values without nulls are left to Arrow."""
    kind, chunks = column.type, column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if column.null_count or not (number or pa.types.is_boolean(kind)):
        converted: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return converted
    parts = [_numbers(chunk, kind.to_pandas_dtype()) for chunk in chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty(0, kind.to_pandas_dtype())


def _numbers(chunk: pa.Array, dtype: type[Any]) -> NDArray[Any]:
    data = chunk.buffers()[1]
    if dtype is np.bool_:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=chunk.offset + len(chunk), bitorder="little")
        return bits[chunk.offset :].astype(bool)
    return np.frombuffer(data, dtype, len(chunk), chunk.offset * np.dtype(dtype).itemsize)
