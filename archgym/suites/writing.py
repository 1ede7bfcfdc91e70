"""A suite as YAML again, with its measured parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archgym.suites.suite import Measuring, Suite, SuiteProblem
from archgym.writing import write_text, yaml_text


def _plain(problem: SuiteProblem) -> dict[str, Any]:
    defaults = {f.name: f.default for f in dataclasses.fields(SuiteProblem)}
    whole = dataclasses.asdict(problem)
    usual = dataclasses.asdict(Measuring())
    whole["measuring"] = {key: value for key, value in whole["measuring"].items() if value != usual[key]}
    if "methods" in whole["measuring"]:
        whole["measuring"]["methods"] = list(whole["measuring"]["methods"])
    if whole["known"] is not None and not whole["known"]["settings"]:
        del whole["known"]["settings"]
    return {key: value for key, value in whole.items() if value != defaults.get(key) and value not in ({}, None)}


def suite_text(suite: Suite, problems: Sequence[SuiteProblem]) -> str:
    """The YAML text of ``suite`` with these problems in place of its own."""
    content = {
        "name": suite.name,
        "version": suite.version,
        "description": suite.description,
        "budgets": list(suite.budgets),
        "seeds": suite.seeds,
        **({"train": list(suite.train)} if suite.train else {}),
        "problems": [_plain(problem) for problem in problems],
    }
    return yaml_text(content, width=110, allow_unicode=True)


def write_suite(path: Path, suite: Suite, problems: Sequence[SuiteProblem]) -> None:
    """Put the suite with these problems into ``path``, at once."""
    write_text(path, suite_text(suite, problems))
