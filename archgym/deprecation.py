"""What has moved or been renamed keeps its old name for one minor release, and warns.

A module that moved is named in its old package's ``__init__`` with :func:`moved_modules`; a name that moved or was
renamed gets a module's ``__getattr__`` from :func:`renamed`.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def warn_renamed(old: str, new: str, category: type[Warning] = DeprecationWarning) -> None:
    """Say that ``old`` is now called ``new``; ``FutureWarning`` for a name that is typed at the command line, so that
    people see it."""
    warnings.warn(f"{old} is now {new}; the old name goes in the next minor release", category, stacklevel=3)


class _Moved(ModuleType):
    """Stands for a module at its old place; the real one is imported when something is asked of it."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, f"Moved to :mod:`{new}`.")
        self.__dict__["_new"] = new

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system and inspect ask of any module
            raise AttributeError(name)
        warn_renamed(self.__name__, self._new)
        return getattr(importlib.import_module(self._new), name)


def moved_modules(package: str, moved: Mapping[str, str]) -> None:
    """Let ``package.OLD`` be imported for each ``OLD`` of ``moved``, which maps it to the module's new full name."""
    for old, new in moved.items():
        sys.modules.setdefault(f"{package}.{old}", _Moved(f"{package}.{old}", new))


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that are now called differently, or live elsewhere.

    Args:
        module: ``__name__`` of the module that keeps the old names.
        names: old name -> ``"package.module:new_name"``.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].partition(":")
        warn_renamed(f"{module}.{name}", f"{home}.{new}")
        return getattr(importlib.import_module(home), new)

    return get
