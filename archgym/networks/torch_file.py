"""Networks named ``torch:FILE.py:NAME``: a PyTorch model in a Python file of the user's own.

The file is run as Python runs it (its folder first on the path, ``__name__`` is not ``"__main__"``), so name only files
that you would run yourself. NAME is a ``torch.nn.Module``, a pair ``(module, example_input)``, or a function or class
that is called without arguments and gives either. Where there is no example input, the option ``input`` gives its shape,
``1x3x224x224``: zeros in the type and on the device of the model's first parameter.

Only layer shapes are read, so the weights do not matter; should a model draw its shapes, it draws them alike every time:
Python's, NumPy's and PyTorch's generators are seeded with 0 while the file runs, and put back afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.fields import names_of
from archgym.networks.layers import Network
from archgym.networks.python_file import attribute_of, fixed_randomness, named_in_file


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
    path, version, attribute = named_in_file(name, "torch", "torch:my_model.py:net")
    return _read(name, path, version, attribute, input_shape(input), tuple(sorted(names_of(left_out))))


def input_shape(input: Any) -> tuple[int, ...] | None:
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

    with fixed_randomness(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
    wanted = "a torch.nn.Module or (module, example_input)"
    found = attribute_of(path, attribute, (torch.nn.Module,), wanted)
    example = None
    if isinstance(found, tuple) and len(found) == 2:
        found, example = found
    if not isinstance(found, torch.nn.Module):
        raise ArchGymError(
            f"{attribute} of {path.name} is a {type(found).__name__}; expected a torch.nn.Module, a pair (module, "
            "example_input), or a function that returns one of them"
        )
    return found, example
