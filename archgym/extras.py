"""What the package asks for, as ``setup.cfg`` says it: read from the metadata of the installed package."""

from __future__ import annotations

__all__ = ()

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires

NOT_FOR_USE = frozenset({"all", "docs", "test"})
"""Extras that bring nothing that the product itself can use beside the others."""
_PACKAGE_OF = {"sklearn": "scikit-learn", "skopt": "scikit-optimize", "yaml": "pyyaml", "gpytorch": "botorch"}


@cache
def packages() -> dict[str, tuple[str, ...]]:
    """Extra -> the packages that it brings, in the order of ``setup.cfg``; under "" what the package cannot do without.
    Empty where archgym was not installed (a copy of the sources on the path)."""
    try:
        lines = requires("archgym") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"](.+?)['\"]", line)
        if name and name[0] != "archgym":
            key = extra[1] if extra else ""
            found[key] = (*found.get(key, ()), name[0])
    return found


def extra_with(module: str) -> str | None:
    """The first extra that brings the package of ``module`` (``"stable_baselines3"``); None where none does."""
    package = _PACKAGE_OF.get(module, module.replace("_", "-"))
    return next((extra for extra, brings in packages().items() if extra and package in brings), None)
