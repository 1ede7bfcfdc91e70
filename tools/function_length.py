"""Say which functions of the package are longer than they may be: 100 lines, in compiled kernels 200."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

MOST, MOST_IN_KERNELS = 100, 200
LONGER = {
    # The fast controller: one loop, thirteen times as fast as the general one.
    "simulate_batch": 600,
}


def too_long(package: Path) -> list[str]:
    """One line a function that is too long."""
    found = []
    for path in sorted(package.rglob("*.py")):
        kernel = "kernels" in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                most = LONGER.get(node.name, MOST_IN_KERNELS) if kernel else MOST
                if lines > most:
                    found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines; at most {most}")
    return found


if __name__ == "__main__":
    lines = too_long(Path(__file__).parents[1] / "archgym")
    print("\n".join(lines) or "no function is too long")
    sys.exit(bool(lines))
