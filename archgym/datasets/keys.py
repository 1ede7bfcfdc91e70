"""Keys of designs: equal for equivalent designs of one problem, over files and machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.problems import ProblemInfo, ProblemKey
from archgym.datasets.schema import TrialSchema, words_and_positions
from archgym.errors import ArchGymError
from archgym.hashing import hash_rows, text_number
from archgym.problem import Problem


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
