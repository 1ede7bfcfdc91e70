"""A file of one's own by ``file:PATH``, and what a simulator remembers of a workload."""

from pathlib import Path

import pytest

from archgym.reading import own_file
from archgym.simulator import remembered
from archgym.simulators.synthetic import Synthetic


@pytest.mark.parametrize(
    ("name", "path"),
    [("file:a/b.json", Path("a/b.json")), ("file:file:x", Path("file:x")), ("gzip", None), ("a/file:x", None)],
)
def test_a_file_of_ones_own(name, path):
    assert own_file(name) == path


def test_references_are_computed_once_a_workload_and_cannot_be_spoilt():
    calls = []

    class Counted(Synthetic):
        @remembered
        def references(self, workload):
            calls.append(workload.fingerprint)
            return {"loss": float(len(calls))}

    one, two = list(Synthetic().workloads().values())[:2]
    simulator = Counted()
    first = simulator.references(one)
    first["loss"] = -1.0
    assert simulator.references(one) == {"loss": 1.0} and simulator.references(two) == {"loss": 2.0}
    assert Counted().references(one) == {"loss": 3.0} and len(calls) == 3
