"""How functions are compiled: :func:`kernel` for those that Python calls, :func:`inner` for those that only compiled code calls.

Numba makes two more functions around each that it compiles, one for Python and one for C, and counts references to every
array that a function touches; together that takes as long as the function itself. Nothing here is called from C, most
functions are called by compiled code only, and those work on arrays that their callers keep. (In the controllers of DRAM
counting took most of the time of a run.)
"""

from __future__ import annotations

__all__ = ()

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit, types
from numba.core import event, sigutils


def kernel(
    function: Callable[..., Any] | None = None, *, arrays: bool = True, apart: bool = False, **options: Any
) -> Any:
    """Compile a function that Python calls too: cached, without the interpreter lock.

    Args:
        arrays: False where it makes no arrays, nor calls what returns some.
        apart: let another process compile it, and load it from the cache in this one, too. For what calls functions that may
            reorder sums (``fastmath``): what the cache keeps has copies of them that were optimised once more with their
            caller, and a process that compiles both calls those that it compiled first, whose last bits are others.
        options: of :func:`numba.njit`.
    """
    if function is None:
        return partial(kernel, arrays=arrays, apart=apart, **options)
    compiled = njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=arrays, **options)(function)
    if apart and getattr(compiled, "_cache", None) and compiled._cache.cache_path:  # none under NUMBA_DISABLE_JIT
        _compile_apart(compiled)
    return compiled


def inner(
    function: Callable[..., Any] | None = None, *, arrays: bool = False, specialise: bool = False, **options: Any
) -> Any:
    """Compile a function that only compiled functions call.

    Args:
        arrays: it makes or returns arrays, or calls what returns some, so that references to them are counted. Without it
            Numba refuses the first two ("NRT required", "Only accept returning of array passed"), and this the third.
        specialise: compile it for each constant that it is called with, as Numba does; else once for all values.
        options: of :func:`numba.njit`.

    Raises:
        TypeError: where Python calls it, or where it is compiled without ``arrays`` and calls what returns some.
    """
    if function is None:
        return partial(inner, arrays=arrays, specialise=specialise, **options)
    name = function.__name__
    compiled = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=arrays, **options)(function)
    template = getattr(compiled, "get_call_template", None)  # None under NUMBA_DISABLE_JIT

    def for_all_values(given: Any, named: Any) -> Any:
        assert template is not None
        return template(tuple(map(types.unliteral, given)), {key: types.unliteral(kind) for key, kind in named.items()})

    def keep(result: Any) -> None:
        """In place of ``add_overload``, which would also let Python call it: at address 0."""
        if not arrays and any(map(_has_arrays, _returned(result))):
            raise TypeError(f"{name} calls what returns an array: compile it as inner(arrays=True)")
        compiled.overloads[tuple(result.signature.args)] = result

    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError(f"{name} is called by compiled code only: call {name}.py_func, or make it a kernel")

    compiled.add_overload, compiled._compile_for_args = keep, refuse
    if not specialise:
        compiled.get_call_template = for_all_values
    return compiled


_APART = "ARCHGYM_COMPILES"
"""Set in a process that compiles for another."""


def _compile_apart(compiled: Any) -> None:
    """Fill the cache from another process before the dispatcher looks there; where that fails, it compiles here."""
    load = compiled._cache.load_overload

    def load_from_another(signature: Any, context: Any) -> Any:
        found = load(signature, context)
        if found is None and _APART not in os.environ:
            given, returned = sigutils.normalize_signature(signature)
            about = {"dispatcher": compiled, "args": given, "return_type": returned}  # as Numba says it
            with event.trigger_event("numba:compile", about):
                done = _compiled_elsewhere(compiled.py_func, given)
            found = load(signature, context) if done else None
        return found

    compiled._cache.load_overload = load_from_another


def _compiled_elsewhere(function: Callable[..., Any], given: Any) -> bool:
    """Whether a new process compiled it for the types ``given``, and kept that."""
    if not sys.executable or getattr(sys, "frozen", False):  # no Python to start, or a program that holds it
        return False
    # (Imported from where this process imports: ``-c`` alone would put the working directory before the standard library.)
    path = list(map(os.path.abspath, sys.path))
    code = f"import sys; sys.path[:] = {path!r}; from {__name__} import compile_for_another; compile_for_another()"
    environment = {**os.environ, _APART: "1"}
    asked = pickle.dumps((function.__module__, function.__qualname__, tuple(given)))
    try:  # what is wrong with the function is said by compiling it here
        done = subprocess.run([sys.executable, "-c", code], input=asked, env=environment, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def compile_for_another() -> None:
    """Compile what standard input names, for the process that wrote it."""
    module, name, given = pickle.load(sys.stdin.buffer)
    getattr(importlib.import_module(module), name).compile(given)


def _returned(result: Any) -> list[Any]:
    """Types that the calls in a compiled function return; none for one from the cache, which was looked at before."""
    calls = getattr(result.type_annotation, "calltypes", {})
    return [call.return_type for place, call in calls.items() if getattr(place, "op", "") == "call"]


def _has_arrays(kind: Any) -> bool:
    return isinstance(kind, types.Array) or (isinstance(kind, types.BaseTuple) and any(map(_has_arrays, kind)))
