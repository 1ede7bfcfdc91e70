"""Shared fixtures: where the reference data is, and a small simulator with a known optimum."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Simulators that start programs have a store unasked; a test that wants one says so.
os.environ["ARCHGYM_STORE"] = "off"

REF = Path(os.environ.get("ARCHGYM_REF", Path(__file__).resolve().parents[2] / "shared" / "ref"))


@pytest.fixture(scope="session")
def ref() -> Path:
    """The folder of reference data; tests that need it skip where it is missing."""
    if not REF.is_dir():
        pytest.skip(f"no reference data at {REF}")
    return REF


@pytest.fixture(scope="session")
def bowl():
    """A problem of four parameters, one of them sometimes inactive, one constraint, and a known optimum."""
    from archgym.registry import SIMULATORS

    if "bowl" not in SIMULATORS:
        SIMULATORS.register("bowl", "tests.bowl:BowlSimulator")
    from archgym.problem import make_problem

    return make_problem("bowl/deep")
