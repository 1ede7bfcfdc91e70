"""Architectures named ``arch:FILE.py:NAME``: an architecture space in a Python file of the user's own.

The file is run, as :mod:`archgym.networks.torch_file` does with models: name only files that you would run yourself. NAME is
a part of :mod:`archgym.networks.language`, or a function that is called without arguments and gives one. Simulators of
neural cells search the space; those that run a network take one design of it, in the option ``design``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote, whole_number
from archgym.networks.language import Architecture, Part, Shape
from archgym.networks.layers import Network
from archgym.networks.python_file import attribute_of, fixed_randomness, named_in_file
from archgym.networks.torch_file import input_shape
from archgym.reading import own_file, read_json

_WANTED = "a part of archgym.networks.language, such as Sequence(Conv(Choice('filters', 8, 16)))"
_INPUT = "the input shape is {}; expected channels and the positions along one or two axes, such as 1x8x8 or 1x40"


def architecture_of(name: str, input: Shape, classes: int) -> Architecture:
    """The architecture space of ``arch:FILE.py:NAME``; a file that has not changed is run once in a process.

    Raises:
        ArchGymError: one sentence, for a file, name or part that cannot be used.
    """
    path, version, attribute = named_in_file(name, "arch", "arch:my_space.py:net")
    return _read(path, version, attribute, input, classes)


@lru_cache(maxsize=32)
def _read(path: Path, _version: tuple[int, int], attribute: str, inputs: Shape, classes: int) -> Architecture:
    with fixed_randomness():
        found = attribute_of(path, attribute, (Part,), _WANTED)
    if not isinstance(found, Part):
        raise ArchGymError(f"{attribute} of {path.name} is a {type(found).__name__}; expected {_WANTED}")
    return Architecture(found, inputs, classes)


def network_of(
    name: str,
    design: Mapping[str, Any] | str | None = None,
    input: str | Sequence[int] = "1x8x8",
    classes: int = 10,
) -> Network:
    """The convolutions and linear layers of one design of a user's architecture space, for one sample.

    Args:
        name: ``arch:FILE.py:NAME``.
        design: values of the choices by name, or ``file:PATH`` of a JSON file of them; those that have no effect may be left
            out.
        input: shape of a sample, channels first: ``"1x8x8"`` or ``[1, 8, 8]``.
        classes: outputs of the head.

    Raises:
        ArchGymError: one sentence, for a file, name, shape or design that cannot be used.
    """
    shape = input_shape(input)
    if shape is None or not 2 <= len(shape) <= 3 or max(shape) >= 1 << 20:
        raise ArchGymError(_INPUT.format(quote(input)))
    space = architecture_of(name, Shape(shape[0], shape[1:]), whole_number("classes", classes, least=2))
    if isinstance(design, str) and (path := own_file(design)) is not None:
        design = read_json(path)
    if not isinstance(design, Mapping):
        given = "lacks" if design is None else f"has {quote(design)} as"
        raise ArchGymError(
            f"{quote(name, marks=False)} {given} the option design; give values by name or file:PATH of a JSON file, with "
            f"{', '.join(space.space.names)}"
        )
    return space.build(space.design(design)).network(name, "one design of an architecture space")
