"""The rooms of the package: a layer imports only from layers above it, and no module is its own ancestor.

Imports inside functions count (those under TYPE_CHECKING name types and run nothing), and so do modules named by text
(``"archgym.a.b:Name"``), but for the registry's and the old names of what has moved: a table of names is there to point
down.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "archgym").rglob("*.py"))
}

LAYERS = (
    (
        "errors",
        "announcing",
        "caching",
        "compiling",
        "_version",
        "deprecation",
        "locating",
        "extras",
        "files",
        "hashing",
        "pareto",
        "reading",
        "svg",
        "threads",
        "measure",
        "writing",
        "console",
        "quantities",
    ),
    ("reading", "options", "points"),
    ("space",),
    ("simulator",),
    ("wrapping",),
    ("store",),
    ("narrowing",),
    ("registry",),
    ("objective",),
    ("combining",),
    ("problem", "problem_cli"),
    ("datasets",),
    ("evaluator", "enumeration", "progress", "account", "sensitivity"),
    ("networks",),
    ("simulators",),
    ("envs",),
    ("agents",),
    ("proxies",),
    ("studies",),
    ("suites",),
    ("exporting",),
    ("reports",),
    ("ui", "serve"),
    ("testing",),
    ("cli", "doctor", "__main__", ""),
)
"""DESIGN.md's list, with the small modules of the core where they belong; "" is the package itself."""

POINTS_DOWN = {"archgym.registry", "archgym.deprecation", "archgym.simulators.accelerator"}
_NAMED = re.compile(r"(archgym(?:\.\w+)+)(?::\w+)?")


def layer_of(module: str) -> int:
    """Position in LAYERS. What the command line looks up in a room (``archgym.studies.cli``, ``.bench``) belongs to it."""
    parts = module.split(".")
    room = "cli" if parts[-1] in ("cli", "bench") else (parts[1] if len(parts) > 1 else "")
    found = [i for i, rooms in enumerate(LAYERS) if room in rooms]
    assert found, f"{module} stands in no layer: add it to LAYERS (and to the list of layers in docs/internals.md)"
    return found[0]


def module_of(name: str) -> str | None:
    """The module of ours that a dotted name is, or is in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def imports_of(module: str, source: str) -> set[str]:
    """Modules of ours that a module's source imports anywhere, or names by text outside docstrings."""
    tree = ast.parse(source)
    found: set[str | None] = set()
    docstrings = set()
    types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in types:
            continue
        if isinstance(node, ast.Import):
            found |= {module_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively; write the whole name"
            found |= {module_of(f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            named = _NAMED.fullmatch(node.value)
            if named and module not in POINTS_DOWN:
                found.add(module_of(named.group(1)))
    return {name for name in found if name is not None and name != module}


@cache
def graph() -> dict[str, set[str]]:
    return {module: imports_of(module, path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def upward(edges: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {other}"
        for module in sorted(edges)
        for other in sorted(edges[module])
        if layer_of(other) > layer_of(module)
    ]


def test_no_module_is_its_own_ancestor():
    assert circles(graph()) == []


def test_no_layer_imports_from_a_layer_below_it():
    assert upward(graph()) == []


def test_every_module_stands_in_a_layer():
    edges = defaultdict(set, graph())
    assert len(edges) > 150 and all(layer_of(module) >= 0 for module in edges)


def test_the_check_finds_what_it_is_for():
    lazy = "def f():\n    from archgym.proxies import load_proxy\n"
    assert imports_of("archgym.problem", lazy) == {"archgym.proxies"}
    named = "import importlib\nimportlib.import_module('archgym.studies.cli')\nX = 'archgym.envs.core:Episodes'\n"
    assert imports_of("archgym.space", named) == {"archgym.studies.cli", "archgym.envs.core"}
    assert imports_of("archgym.space", '"""archgym.studies.cli"""\n') == set()
    assert upward({"archgym.problem": {"archgym.proxies"}}) == ["archgym.problem imports archgym.proxies"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
