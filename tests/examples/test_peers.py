"""Every outside optimiser under examples/peers searches a suite from the command line, and its entry holds."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path

import pytest

from archgym.suites import Suite, parse_suite, verify
from archgym.suites.entry import run_command

PEERS = Path(__file__).parents[2] / "examples" / "peers"
NEEDS = {
    "botorch_turbo": ["botorch"],
    "nevergrad_portfolio": ["nevergrad"],
    "optuna_cmaes": ["optuna", "cmaes"],
    "optuna_gp": ["optuna", "torch"],
    "optuna_nsga2": ["optuna"],
    "optuna_tpe": ["optuna"],
    "pymoo_ga": ["pymoo"],
    "pymoo_nsga2": ["pymoo"],
    "smac3": ["smac"],
}
SLOW = {"botorch_turbo", "optuna_gp", "smac3", "nevergrad_portfolio"}
PROGRAMS = [
    ("pymoo_ga", "mixed"), ("nevergrad_portfolio", "NGOpt"), *((name, "") for name in NEEDS),
]  # fmt: skip
BUDGETS = {"optuna_gp": 12, "botorch_turbo": 22, "smac3": 12}  # one or two models
SUITE = """
name: one
version: 1
budgets: [{budget}]
seeds: 1
problems:
- problem: synthetic/pareto
"""


def test_every_peer_is_tested_and_short():
    files = {path.stem: path.read_text(encoding="utf-8").count("\n") for path in PEERS.glob("*.py")}
    assert set(files) == set(NEEDS)
    assert max(files.values()) < 60


@pytest.mark.parametrize(
    ("name", "argument"),
    [pytest.param(*p, marks=[pytest.mark.slow] if p[0] in SLOW else [], id=" ".join(p).strip()) for p in PROGRAMS],
)
def test_a_peer_searches_a_suite(name, argument, tmp_path, monkeypatch):
    for library in NEEDS[name]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    suite: Suite = parse_suite(SUITE.format(budget=BUDGETS.get(name, 25)))
    command = shlex.join([sys.executable, str(PEERS / f"{name}.py"), *filter(None, [argument])])
    assert run_command(suite, tmp_path / "entry", command, "peer") == (1, 1)
    found = verify(suite, tmp_path / "entry")
    assert found.holds, found.findings
