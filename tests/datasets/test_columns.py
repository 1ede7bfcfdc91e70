"""Columns of Arrow without pandas are those that Arrow makes itself."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from archgym.datasets.columns import of_numbers, of_texts, to_numbers

NUMBERS = [
    np.array([1, -2, 2**62]), np.arange(20, dtype=np.int32)[::3], np.array([0.5, np.nan, -np.inf]),
    np.array([1.5, 2.5], np.float16), np.array([True, False, True] * 5)[1:], np.empty(0), np.empty(0, bool),
]  # fmt: skip


@pytest.mark.parametrize("values", NUMBERS, ids=lambda values: f"{values.dtype}-{len(values)}")
def test_numbers(values):
    column = of_numbers(values)
    column.validate(full=True)
    assert repr(column.to_pylist()) == repr(values.tolist()) and column.type == pa.array(values).type
    for part in (column, column[1:], pa.chunked_array([column[2:], column[:0], column], column.type)):
        back, wanted = to_numbers(part), part.to_numpy(zero_copy_only=False)
        assert back.dtype == wanted.dtype and np.array_equal(back, wanted, equal_nan=values.dtype.kind == "f")


def test_numbers_of_another_kind_and_gaps_are_left_to_arrow():
    assert of_numbers(np.array([1, 2]), pa.float64()).equals(pa.array([1.0, 2.0]))
    assert of_numbers(np.array([2**63], np.uint64), pa.uint64()).to_pylist() == [2**63]
    with pytest.raises(pa.ArrowInvalid):
        of_numbers(np.array([2**63], np.uint64), pa.int64())
    gaps = to_numbers(pa.array([1, None]))
    assert gaps[0] == 1 and np.isnan(gaps[1])
    assert to_numbers(pa.chunked_array([["a"], ["b"]])).tolist() == ["a", "b"]


@pytest.mark.parametrize("texts", [[], [""], ["a", "größe", ""], ["a", None, "b", *["c"] * 9, None]])
def test_texts(texts):
    column = of_texts(texts)
    column.validate(full=True)
    assert column.equals(pa.array(texts, pa.string()))


def test_a_run_and_its_resumption_import_no_pandas(tmp_path):
    code = (
        "import sys; from archgym.cli import main\n"
        "for budget in ('9', '18'):\n"
        "    main(['run', 'dram/stream', '--agent', 'random', '--budget', budget, '--resume', '--no-report', '-w',\n"
        "          'requests=100', '--out', sys.argv[1]], standalone_mode=False)\n"
        "assert 'pandas' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
