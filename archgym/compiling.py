"""How functions are compiled: :func:`kernel` for those that Python calls, :func:`inner` for those that only compiled code calls.

Numba makes two more functions around each that it compiles, one for Python and one for C, and counts references to every
array that a function touches; together that takes as long as the function itself. Nothing here is called from C, most
functions are called by compiled code only, and those work on arrays that their callers keep. (In the controllers of DRAM
counting took most of the time of a run.)
"""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit, types


def kernel(function: Callable[..., Any] | None = None, *, arrays: bool = True, **options: Any) -> Any:
    """Compile a function that Python calls too: cached, without the interpreter lock.

    Args:
        arrays: False where it makes no arrays, nor calls what returns some.
        options: of :func:`numba.njit`.
    """
    if function is None:
        return partial(kernel, arrays=arrays, **options)
    return njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=arrays, **options)(function)


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


def _returned(result: Any) -> list[Any]:
    """Types that the calls in a compiled function return; none for one from the cache, which was looked at before."""
    calls = getattr(result.type_annotation, "calltypes", {})
    return [call.return_type for place, call in calls.items() if getattr(place, "op", "") == "call"]


def _has_arrays(kind: Any) -> bool:
    return isinstance(kind, types.Array) or (isinstance(kind, types.BaseTuple) and any(map(_has_arrays, kind)))
