"""Versioned sets of problems on which results are comparable, and entries whose results are simulated again.

| module | what it holds |
| --- | --- |
| ``suite`` | a suite and its problems, from a YAML file |
| ``scale`` | what a reward is worth: normalised regret on the problem's own scale |
| ``measure`` | how hard a problem is, its median design, its best known design |
| ``entry`` | an agent's runs on a suite: a study's folder that says what it is |
| ``session`` | the runs of an entry that a program of one's own does |
| ``verify`` | an entry, simulated again |
| ``packed``, ``packing`` | an entry as it is passed on: the improvements of its runs |
| ``score`` | what the verified runs amount to |
| ``lottery`` | what a study says of the hyperparameter lottery on a suite's scale |
"""

from archgym.suites.entry import Entry, run_entry
from archgym.suites.session import BudgetExhausted, GivenRun, given_runs
from archgym.suites.suite import Suite, SuiteProblem, load_suite, parse_suite, ready_suites
from archgym.suites.verify import Finding, Verified, verify

__all__ = [
    "BudgetExhausted",
    "Entry",
    "Finding",
    "GivenRun",
    "Suite",
    "SuiteProblem",
    "Verified",
    "given_runs",
    "load_suite",
    "parse_suite",
    "ready_suites",
    "run_entry",
    "verify",
]
