"""Say which modules are public: those with no underscore in their path that say nothing to the contrary.

``__all__ = ()`` in a module, or in a package above it, says that nothing in it is for others: commands, compiled kernels,
and what other modules are made of.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "archgym"


def is_empty(path: Path) -> bool:
    """Whether a file says ``__all__ = ()``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return isinstance(node.value, ast.Tuple | ast.List) and not node.value.elts
    return False


def public_modules() -> set[str]:
    """Dotted names of the public modules, packages among them."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        above = [PACKAGE.parent.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts))]
        if not any(part.startswith("_") for part in parts) and not any(map(is_empty, [path, *above])):
            found.add(".".join(parts))
    return found


if __name__ == "__main__":
    print("\n".join(sorted(public_modules())))
