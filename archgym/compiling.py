"""How functions are compiled: :func:`kernel` for those that Python calls, :func:`inner` for those that only compiled code calls.

Numba makes two more functions around each that it compiles, one for Python and one for C, and they take as long to compile
as a small function of ours. Nothing here is called from C, and most functions are called by compiled code only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function that Python calls too: cached, without the interpreter lock.

    Args:
        options: of :func:`numba.njit`.
    """
    if function is None:
        return partial(kernel, **options)
    return njit(cache=True, nogil=True, no_cfunc_wrapper=True, **options)(function)


def inner(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function that only compiled functions call. A call from Python raises TypeError.

    Args:
        options: of :func:`numba.njit`.
    """
    if function is None:
        return partial(inner, **options)
    compiled = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)

    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError(f"{function.__name__} is called by compiled code only: call .py_func, or make it a kernel")

    # What Python finds: no compiled version, and nothing that makes one. Without these a call would jump to address 0.
    compiled._insert = lambda *_: None
    compiled._compile_for_args = refuse
    return compiled
