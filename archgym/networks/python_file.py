"""Python files of a user's own, in which a name stands for a model or an architecture.

A file is run as Python runs it (its folder first on the path, ``__name__`` is not ``"__main__"``), so name only files that
you would run yourself. Whatever goes wrong in it is one sentence with the line of the file.
"""

from __future__ import annotations

__all__ = ()

import hashlib
import random
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, UnknownNameError
from archgym.locating import located

Version = tuple[int, int]


def named_in_file(name: str, kind: str, example: str) -> tuple[Path, Version, str]:
    """What ``KIND:FILE.py:NAME`` leads to: the file, when it was changed last and its size, and the name in it.

    Raises:
        ArchGymError: it says neither, or the file cannot be read; ``example`` shows how it is written.
    """
    form = f"write {kind}:FILE.py:NAME, for instance {example}"
    file, _, attribute = name.removeprefix(f"{kind}:").rpartition(":")
    if not file or not attribute:
        raise ArchGymError(f"{name!r} names nothing in a file; {form}")
    path = located(file)
    try:
        resolved = path.resolve(strict=True)
        about = resolved.stat()
        with open(resolved, "rb"):
            pass
    except OSError as error:
        raise ArchGymError(f"cannot read {path}: {error.strerror or error}; {form}") from None
    return resolved, (about.st_mtime_ns, about.st_size), attribute


def attribute_of(path: Path, attribute: str, kinds: tuple[type, ...], wanted: str) -> Any:
    """What ``attribute`` is in a file that is run for it; called without arguments where it is a function or class and none
    of ``kinds``.

    Raises:
        ArchGymError: the file or the function fails; ``wanted`` says what is expected.
        UnknownNameError: the file has no such name.
    """
    module = run_file(path)
    if attribute not in vars(module):
        names = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownNameError(f"name in {path.name}", attribute, names)
    found = getattr(module, attribute)
    if callable(found) and not isinstance(found, kinds):
        try:
            found = found()
        except Exception as error:
            raise ArchGymError(
                f"{attribute}() of {path.name} fails ({reason(error, path)}); it is called without arguments and must "
                f"return {wanted}"
            ) from None
    return found


def run_file(path: Path) -> ModuleType:
    """The module of a Python file, run anew; nothing is written beside it."""
    title = f"archgym_model_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(title)
    module.__file__ = str(path)
    # Dataclasses and pickled classes look their module up here.
    sys.modules[title] = module
    sys.path.insert(0, str(path.parent))
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except OSError as error:
        raise ArchGymError(f"cannot read {path}: {error.strerror or error}; mend the file") from None
    except (Exception, SystemExit) as error:
        raise ArchGymError(f"{path} fails when it is run ({reason(error, path)}); mend the file") from None
    finally:
        sys.path.remove(str(path.parent))
    return module


def reason(error: BaseException, path: Path) -> str:
    """Where in the user's file, which error and its first line; of a refusal of our own the sentence alone."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    first = next(iter(message.strip().splitlines()), "")
    title = "" if isinstance(error, ArchGymError) else type(error).__name__
    return (f"line {line}, " if line else "") + ": ".join(filter(None, (title, first)))


@contextmanager
def fixed_randomness() -> Iterator[None]:
    """Python's and NumPy's generators seeded with 0 inside, and put back afterwards."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
