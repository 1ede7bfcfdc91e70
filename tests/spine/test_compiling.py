"""How functions are compiled: what only compiled code calls has no door for Python, and says so instead of falling through it."""

from __future__ import annotations

import ast
import importlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numba.core import event
from numba.core.caching import IndexDataCacheFile

from archgym.compiling import inner, kernel

PACKAGE = Path(__file__).parents[2] / "archgym"


@pytest.fixture
def anew(monkeypatch):
    """As on the first run of the tests: what a former one kept is not looked at."""
    monkeypatch.setattr(IndexDataCacheFile, "load", lambda self, key: None)


@inner(error_model="numpy")
def half(x):
    return x / 2


@kernel
def quarter(x):
    return half(half(x))


def test_an_inner_function_is_called_by_compiled_code_only(anew):
    with pytest.raises(TypeError, match="half is called by compiled code only"):
        half(1.0)
    assert quarter(1.0) == 0.25
    with pytest.raises(TypeError, match="half is called by compiled code only"):
        half(1.0)  # now there is a compiled version, and still none for Python
    assert half.signatures and half.py_func(1.0) == 0.5
    assert not quarter.overloads[quarter.signatures[0]].library.get_pointer_to_function(
        quarter.overloads[quarter.signatures[0]].fndesc.llvm_cfunc_wrapper_name
    )


SUMS = """
from archgym.compiling import kernel

@kernel(apart=True, fastmath=True)
def total(values):
    result = 0.0
    for value in values:
        result += value
    return result
"""


@pytest.mark.parametrize("python", [sys.executable, "", "no such program"])
def test_another_process_compiles_what_is_compiled_apart(tmp_path, monkeypatch, python):
    name = f"sums_{tmp_path.name}"  # a module is imported once
    (tmp_path / f"{name}.py").write_text(SUMS)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "pickle.py").write_text("raise SystemExit('not of the standard library')")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "executable", python)
    total = importlib.import_module(name).total
    with event.install_recorder("numba:compile") as recorded:
        assert total(np.arange(3.0)) == 3.0
    assert all(said.data["dispatcher"] is total for _, said in recorded.buffer) and recorded.buffer
    loaded, compiled_here = total.stats.cache_hits.values(), total.stats.cache_misses.values()
    assert (sum(loaded), sum(compiled_here)) == ((1, 0) if Path(python).is_file() else (0, 1))


AS_THEY_WERE = {PACKAGE / "simulators" / "nas" / "kernels" / "training.py"}
"""Sums whose order the compiler may choose: tables of trained cells were made with what it chose."""


def test_all_of_the_package_is_compiled_this_way():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "numba"
                and path not in AS_THEY_WERE | {PACKAGE / "compiling.py"}
            ):
                names = {name.name for name in node.names}
                assert not names & {"njit", "jit"}, f"{path}: use archgym.compiling"


@pytest.mark.parametrize("outer", [inner, partial(inner, arrays=True)])
@pytest.mark.parametrize("doubled", [inner, partial(inner, arrays=True)])
def test_functions_that_handle_arrays_say_so(anew, outer, doubled):
    @doubled
    def twice(values):
        return values * 2

    @outer
    def first(values):
        return twice(values)[0]

    @kernel
    def start(values):
        return first(values)

    if isinstance(outer, partial) and isinstance(doubled, partial):
        assert start(np.ones(3)) == 2.0
    else:
        # Numba's own sentence where a function returns one; a leak in the caller it would not see.
        ours = r"first calls what returns an array: compile it as inner\(arrays=True\)"
        with pytest.raises(Exception, match=ours if isinstance(doubled, partial) else "Only accept returning of array"):
            start(np.ones(3))


@pytest.mark.parametrize(("options", "versions"), [({}, 1), ({"specialise": True}, 3)])
def test_a_function_is_compiled_once_for_all_constants(options, versions):
    @inner(**options)
    def power(x, n, negate):
        return -(x**n) if negate else x**n

    @kernel
    def some(x):
        return power(x, 2, False) + power(x, 3, True) + power(n=x, x=2, negate=False)

    assert some(3) == 9 - 27 + 8
    assert len(power.signatures) == versions
