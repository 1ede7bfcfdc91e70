"""Hashes of numbers that are the same on every machine and in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The increment of SplitMix64: 2^64 over the golden ratio."""


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014), element by element, modulo 2^64."""
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
            result = mix((result ^ words) + GOLDEN)
    if result is None:
        raise ArchGymError("a row without columns cannot be hashed; give at least one column")
    return result


def text_number(text: str) -> int:
    """A stable 63-bit number for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
