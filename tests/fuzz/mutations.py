"""Mutations of valid files: of their bytes, and of the trees that their YAML or JSON stands for."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml

NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 3.5, -0.0, 1e308, 1e-320, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30,
    float("nan"), float("inf"), float("-inf"), "", "x", "1e3", "0x10", "nan", "../../etc/passwd", "file:/etc/passwd", "\0",
    "\ud800", "a" * 5000, "{{FIGURES}}", "‮", [], {}, [[]], [1], ["x"], {"a": 1}, {"1": {"2": {}}}, list(range(1000)),
    ["x"] * 1000,
]  # fmt: skip


def deep(levels: int) -> Any:
    """A list nested so deeply."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree."""
    found = [prefix]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*prefix, key))
    return found


def mutated_tree(value: Any, rng: random.Random, times: int = 1) -> Any:
    """The tree with something replaced, removed, repeated, moved or renamed."""
    value = copy.deepcopy(value)
    for _ in range(times):
        path = rng.choice(paths(value))
        nasty = deep(rng.choice([30, 100, 200])) if rng.random() < 0.03 else copy.deepcopy(rng.choice(NASTY))
        if not path:
            value = nasty if rng.random() < 0.3 else value
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        key = path[-1]
        kind = rng.random()
        if kind < 0.6:
            parent[key] = nasty
        elif kind < 0.75:
            del parent[key]
        elif kind < 0.85 and isinstance(parent, dict):
            parent[rng.choice(["name", "x", "", "problem", 7, str(key) + "s"])] = parent.pop(key)
        elif isinstance(parent, list):
            parent += [copy.deepcopy(parent[key])] * rng.choice([1, 3, 200])
        else:
            number = parent[key]
            parent[key] = number * rng.choice([-1, 10, 10**6, 10**15]) if isinstance(number, int | float) else [number]
    return value


def mutated_bytes(content: bytes, rng: random.Random, times: int = 1) -> bytes:
    """The bytes with some flipped, removed, repeated or put in."""
    data = bytearray(content)
    for _ in range(times):
        kind, at = rng.randrange(7), rng.randrange(len(data) + 1)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice([1, 2, 8, 100])]
        elif kind == 3:
            data[at:at] = data[at : at + rng.choice([1, 10, 100])] * rng.choice([1, 2, 50])
        elif kind == 4:
            data[at:at] = rng.choice(
                [b"\0", b"\xff\xfe", b"[", b"{" * 200, b"9" * 30, b"-", b"1e999", b"&a [*a]", b'"', b"\n"]
            )
        elif kind == 5:
            del data[at:]
        elif len(data) > 8:
            at %= len(data) - 8
            data[at : at + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x7f\0\0\0\0"])
    return bytes(data)


def as_yaml(tree: Any) -> bytes:
    return _plain(yaml.safe_dump(tree, sort_keys=False, default_flow_style=None))


def as_json(tree: Any) -> bytes:
    return _plain(json.dumps(tree))


def _plain(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def mutated_text(content: bytes, rng: random.Random, form: str) -> bytes:
    """A YAML, JSON or JSON-lines text, mutated as a tree most times, else as bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(content, rng, rng.choice([1, 1, 2, 5]))
    if form == "jsonl":
        lines = content.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        lines[at] = as_json(mutated_tree(json.loads(lines[at]), rng, rng.choice([1, 1, 2]))) + b"\n"
        return b"".join(lines)
    tree = json.loads(content) if form == "json" else yaml.safe_load(content)
    changed = mutated_tree(tree, rng, rng.choice([1, 1, 2, 4]))
    return as_json(changed) if form == "json" else as_yaml(changed)
