"""Say which names of the package nothing in the package uses: dead, or there for tests alone.

A name counts as used where code of the package, a tool or an example says it outside its own definition, as a name, an
attribute or a word of a string (registries name what they load); where a package's ``__init__`` or ``setup.cfg`` names
it; and, as a public name, where the documentation has its module (``:::`` in docs/api) or writes it as code and a test
uses it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CALLED_BY_OTHERS = {
    "SB3VecEnv": {"get_attr", "set_attr", "env_method", "env_is_wrapped", "has_attr", "get_images"},
    "DesignVectorEnv": {"close_extras"},  # Gymnasium
    "Commands": {"get_command", "resolve_command", "invoke"},  # click
}
"""Methods of a class that a library calls."""

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def definitions(tree: ast.Module) -> Iterator[tuple[str, Definition, str]]:
    """Names that a module defines, with the class of a method."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node, ""
        if isinstance(node, ast.ClassDef):
            yield from ((part.name, part, node.name) for part in node.body if isinstance(part, ast.FunctionDef))
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for name in (name for target in targets for name in ast.walk(target)):
            if isinstance(name, ast.Name) and isinstance(node, Definition):
                yield name.id, node, ""


def words(tree: ast.AST) -> Counter[str]:
    """How often code says each word; docstrings do not count."""
    spoken: Counter[str] = Counter()
    plain = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            spoken[node.id] += 1
        elif isinstance(node, ast.Attribute):
            spoken[node.attr] += 1
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in plain:
            spoken.update(re.findall(r"\w+", node.value))
    return spoken


def documented() -> tuple[set[str], set[str]]:
    """Modules whose names the API pages list, and words that the other pages write as code."""
    texts = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")]]
    modules = {name for text in texts for name in re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)}
    code = [piece for text in texts for piece in re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)]
    return modules, {word for piece in code for word in re.findall(r"\w+", piece)}


def unused() -> list[str]:
    """One line a name that is not used."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("archgym/**/*.py"))}
    used: Counter[str] = Counter(re.findall(r"\w+", (ROOT / "setup.cfg").read_text(encoding="utf-8")))
    for path, tree in trees.items():
        used += words(tree)
        if path.name == "__init__.py":
            used.update(name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names)
    for path in [*ROOT.glob("tools/**/*.py"), *ROOT.glob("examples/**/*.py")]:
        used += words(ast.parse(path.read_text(encoding="utf-8")))
    modules, code = documented()
    tested: Counter[str] = sum(
        (words(ast.parse(path.read_text("utf-8"))) for path in ROOT.glob("tests/**/*.py")), Counter()
    )
    found = []
    for path, tree in trees.items():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name, node, owner in definitions(tree):
            public = (name in code or (module in modules and not name.startswith("_"))) and name in tested
            command = any("command" in ast.unparse(mark) for mark in getattr(node, "decorator_list", []))
            if name.startswith("__") or name == "_" or public or command or name in CALLED_BY_OTHERS.get(owner, ()):
                continue
            if used[name] <= words(node)[name]:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {owner and owner + '.'}{name} is not used")
    return found


if __name__ == "__main__":
    lines = unused()
    print("\n".join(lines) or "every name is used")
    sys.exit(bool(lines))
