"""What options simulators and workloads take: read from their signatures, so that one place lists and checks them.

Options come from command lines, study files and datasets; each meets its declared type before it is used.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.reading import INT_MAX, INT_MIN, checked

RESERVED = ("name", "problem", "workload")
"""What no stored option of a problem may be called: these are said elsewhere."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        kind: its type as an annotation; Any where the signature does not say.
        default: what it is where left out.
        values: the values it takes, where they can be listed.
    """

    kind: Any = Any
    default: Any = None
    values: tuple[Any, ...] = ()

    @property
    def type_name(self) -> str:
        """The type in words."""
        return _words(self.kind)


def options_of(
    function: Callable[..., Any], leave_out: Iterable[str] = (), values: Mapping[str, Iterable[Any]] | None = None
) -> dict[str, Option]:
    """The keyword options of a function or class by name, those in ``leave_out`` left out.

    Args:
        function: its signature is read; ``**options`` are not listed.
        leave_out: names of arguments that are no options.
        values: what an option may be, where its type does not say.
    """
    target = _target(function)
    try:
        hints = get_type_hints(target)
    except Exception:  # a name that exists for type checkers only
        hints = {}
    skip = {"self", *leave_out}
    found = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name in skip or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind = hints.get(parameter.name, Any)
        default = None if parameter.default is parameter.empty else parameter.default
        listed = tuple((values or {}).get(parameter.name, ())) or _choices(kind)
        found[parameter.name] = Option(kind, default, listed)
    return found


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function or class also takes options that its signature does not name."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(_target(function)).parameters.values())


def _target(function: Any) -> Any:
    return function.__init__ if isinstance(function, type) else function  # type: ignore[misc]


def check_given(given: Mapping[str, Any], known: Mapping[str, Option], what: str, *, open_ended: bool = False) -> None:
    """Refuse options that are not known or of another type; ``what`` says whose they are (``"dram"``).

    Raises:
        ArchGymError: one sentence that lists the known options, or says what was expected.
    """
    for name, value in given.items():
        if name not in known:
            if open_ended:
                check_storable(value, f"the option {name} of {what}")
                continue
            if not known:
                raise ArchGymError(f"{what} takes no options; leave {quote(name)} out")
            raise UnknownNameError(f"option of {what}", name, known)
        kind = known[name].kind
        check_storable(value, f"the option {name} of {what}")
        try:
            checked(_plain(value), kind, f"the option {name} of {what}")
        except TypeError:  # an annotation that no file can hold; its owner checks the value
            continue


def check_storable(value: Any, where: str) -> None:
    """Refuse what no file of trials gives back: numbers that are not finite or beyond 64 bits, characters that no file holds.

    Raises:
        ArchGymError: one sentence; ``where`` names the option.
    """
    todo = [value]
    while todo:
        item = _plain(todo.pop())
        if isinstance(item, Mapping):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            todo += item
        elif isinstance(item, float) and not math.isfinite(item):
            raise ArchGymError(f"{where} is {item}; expected a finite number")
        elif isinstance(item, int) and not INT_MIN <= item <= INT_MAX:
            raise ArchGymError(f"{where} is a whole number beyond 64 bits; expected a smaller one")
        elif isinstance(item, str) and ("\0" in item or re.search("[\ud800-\udfff]", item)):
            raise ArchGymError(f"{where} is {ascii(item)[:80]}, with a character that no file can hold")


def plain_numbers(value: Any) -> Any:
    """``value`` with NumPy's numbers, also in mappings and lists, as Python's, which JSON holds."""
    if isinstance(value, Mapping):
        return {plain_numbers(name): plain_numbers(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_numbers(item) for item in value)
    return _plain(value)


def check_options(options: Any, where: str) -> dict[str, Any]:
    """The options of a problem as a study or a dataset holds them, fit for :func:`~archgym.problem.make_problem`.

    Raises:
        ArchGymError: they are no mapping, or the common ones are of another type.
    """
    given: dict[str, Any] = checked(options, dict[str, Any], f"the options of {where}")
    for key in RESERVED:
        if key in given:
            raise ArchGymError(f"the options of {where} hold {key!r}, which stands beside them; leave it out")
    for key in ("objective", "space", "fidelity", "simulator"):
        if not isinstance(given.get(key), str | None):
            raise ArchGymError(f"the {key} of {where} is {quote(given[key], 60)}; expected a text")
    for key in ("workload_options", "fix", "only"):
        checked(given.get(key), dict[str, Any] | None, f"the {key} of {where}")
    return given


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    if kind is bool:
        return (False, True)
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    return tuple(value for part in parts for value in _choices(part))


_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "nothing", Any: "any"}


def _words(kind: Any) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(kind) if part is not type(None))
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if origin in (list, tuple) or getattr(origin, "__name__", "") == "Sequence":
        return "list"
    return str(getattr(origin, "__name__", origin))
