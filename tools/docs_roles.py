"""Griffe extension: what the API reference makes of our docstrings.

``:class:`Name``` becomes a link: names are looked up where the docstring stands, as a reader would; what has no entry in
the reference stays code. An entry for several parameters at once (``rows, columns: of the array``) becomes one each.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`(~?)([\w.]+)`")

_SECTION = re.compile(r"^(?:Args|Attributes):\n(?:(?:[ ]+.*)?\n?)*", re.MULTILINE)
_JOINT = re.compile(r"^([ ]{4})(\w+(?:, \w+)+): (.*(?:\n\1[ ]+.*)*)", re.MULTILINE)


def _each(match: re.Match[str]) -> str:
    indent, names, text = match.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))


class Roles(griffe.Extension):
    """Rewrites the docstrings of a whole package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, loader: Any, **kwargs: Any) -> None:
        self._walk(pkg, set())

    def _walk(self, thing: Any, seen: set[str]) -> None:
        if thing.is_alias or thing.path in seen:
            return
        seen.add(thing.path)
        if thing.docstring is not None:
            text = _ROLE.sub(lambda match: _link(thing, *match.groups()), thing.docstring.value)
            thing.docstring.value = _SECTION.sub(lambda match: _JOINT.sub(_each, match.group()), text)
        for member in thing.members.values():
            self._walk(member, seen)


def _link(thing: Any, short: str, name: str) -> str:
    path = name
    if name.startswith("."):
        package = thing.module if thing.module.is_init_module else thing.module.parent
        path = f"{package.path}{name}"
    elif not name.startswith("archgym."):
        first, _, rest = name.partition(".")
        try:
            path = ".".join(filter(None, [thing.resolve(first), rest]))
        except griffe.NameResolutionError:
            return f"`{name}`"
    text = name.rpartition(".")[2] if short or name.startswith(".") else name
    return f'<autoref identifier="{path}" optional><code>{text}</code></autoref>'
