"""Networks named ``torch:FILE.py:NAME``: a PyTorch model in a Python file of the user's own.

The file is run as Python runs it (its folder first on the path, ``__name__`` is not ``"__main__"``), so name only files
that you would run yourself. NAME is a ``torch.nn.Module``, a pair ``(module, example_input)``, or a function or class
that is called without arguments and gives either. Where there is no example input, the option ``input`` gives its shape,
``1x3x224x224``: zeros in the type and on the device of the model's first parameter.

Only layer shapes are read, so the weights do not matter; should a model draw its shapes, it draws them alike every time:
Python's, NumPy's and PyTorch's generators are seeded with 0 while the file runs, and put back afterwards.
"""

from __future__ import annotations

import hashlib
import random
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError
from archgym.locating import located
from archgym.networks.fields import names_of
from archgym.networks.layers import Network

_FORM = "write torch:FILE.py:NAME, for instance torch:my_model.py:net"


def network_of(
    name: str, input: str | int | Sequence[int] | None = None, left_out: str | Sequence[str] = ""
) -> Network:
    """The network of a model in a user's file.

    Args:
        name: ``torch:FILE.py:NAME``.
        input: shape of the example input, ``"1x3x224x224"`` or ``[1, 3, 224, 224]``; its batch becomes the network's.
            None where NAME brings an example of its own.
        left_out: operations that are to count nothing (``"mylib::blend"``, several separated by commas or in a list), where
            the reader does not know them.

    Returns:
        The network under ``name``. A file that has not changed is run once in a process.

    Raises:
        ArchGymError: one sentence, for a file, name, shape or layer that cannot be used.
        MissingExtraError: without PyTorch.
    """
    file, _, attribute = name.removeprefix("torch:").rpartition(":")
    if not file or not attribute:
        raise ArchGymError(f"{name!r} names no model in a file; {_FORM}")
    path = located(file)
    try:
        resolved = path.resolve(strict=True)
        about = resolved.stat()
    except OSError as error:
        raise ArchGymError(f"cannot read {path}: {error.strerror or error}; {_FORM}") from None
    return _read(
        name, resolved, (about.st_mtime_ns, about.st_size), attribute, _shape(input), tuple(sorted(names_of(left_out)))
    )


def _shape(input: Any) -> tuple[int, ...] | None:
    """``"1x3x224x224"``, ``[1, 3, 224, 224]`` or ``128`` as a tuple of positive sizes."""
    if input is None:
        return None
    parts = list(input) if isinstance(input, list | tuple) else str(input).lower().split("x")
    try:
        sizes = tuple(int(str(part)) for part in parts)
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ArchGymError(f"the input shape is {input!r}; expected positive sizes such as 1x3x224x224")
    return sizes


@lru_cache(maxsize=32)
def _read(
    name: str,
    path: Path,
    _version: tuple[int, int],
    attribute: str,
    shape: tuple[int, ...] | None,
    left_out: tuple[str, ...],
) -> Network:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("reading a PyTorch model", "rl", "PyTorch is not installed") from None
    from archgym.networks.torch_reader import workload_from_torch

    with _fixed_randomness(torch):
        model, example = _model(torch, path, attribute)
        if shape is not None:
            first = next(model.parameters(), torch.zeros(()))
            kind = first.dtype if first.is_floating_point() else torch.get_default_dtype()
            example = torch.zeros(shape, dtype=kind, device=first.device)
        elif example is None:
            raise ArchGymError(
                f"{path.name} does not say what {attribute} takes; let {attribute} return (model, example_input) or give "
                "the shape with the workload option input=1x3x224x224"
            )
        return workload_from_torch(model, example, name=name, left_out=left_out)


def _model(torch: Any, path: Path, attribute: str) -> tuple[Any, Any]:
    """The module called ``attribute`` and its example input, None where it has none."""
    module = _run(path)
    if attribute not in vars(module):
        names = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownNameError(f"name in {path.name}", attribute, names)
    found = getattr(module, attribute)
    if callable(found) and not isinstance(found, torch.nn.Module):
        try:
            found = found()
        except Exception as error:
            raise ArchGymError(
                f"{attribute}() of {path.name} fails ({_reason(error, path)}); it is called without arguments and must "
                "return a torch.nn.Module or (module, example_input)"
            ) from None
    example = None
    if isinstance(found, tuple) and len(found) == 2:
        found, example = found
    if not isinstance(found, torch.nn.Module):
        raise ArchGymError(
            f"{attribute} of {path.name} is a {type(found).__name__}; expected a torch.nn.Module, a pair (module, "
            "example_input), or a function that returns one of them"
        )
    return found, example


def _run(path: Path) -> ModuleType:
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
        raise ArchGymError(f"cannot read {path}: {error.strerror or error}; {_FORM}") from None
    except (Exception, SystemExit) as error:
        raise ArchGymError(f"{path} fails when it is run ({_reason(error, path)}); mend the file") from None
    finally:
        sys.path.remove(str(path.parent))
    return module


def _reason(error: BaseException, path: Path) -> str:
    """Where in the user's file, which error and its first line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    first = next(iter(message.strip().splitlines()), "")
    return (f"line {line}, " if line else "") + type(error).__name__ + (f": {first}" if first else "")


@contextmanager
def _fixed_randomness(torch: Any) -> Iterator[None]:
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
