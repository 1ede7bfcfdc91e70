"""The models against the recorded runs that come with the tests: the same comparison as ``archgym validate``."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from archgym.errors import ArchGymError
from archgym.measure import default_reference
from archgym.registry import SIMULATORS, VALIDATORS

HERE = Path(__file__).parent
ROWS = {"dram": 24, "dram-event": 24, "systolic": 120, "mapping": 158, "soc": 16}
"""Validator -> the largest group that the folder must give."""


@pytest.mark.parametrize("name", [*ROWS, "accelerator"])
def test_every_recorded_row_is_met(name):
    folder = HERE / {"dram-event": "dram", "systolic": "accelerator", "mapping": "accelerator"}.get(name, name)
    groups = list(VALIDATORS.load(name)(folder))
    assert max(group.rows for group in groups) >= ROWS.get(name, 150)
    assert [group.group for group in groups if not group.holds] == []


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.suffix in (".gz", ".json")) < 300_000


def test_where_reference_data_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ARCHGYM_REF", str(tmp_path))
    assert default_reference("soc") == tmp_path / "soc"
    assert default_reference("dram-event") == tmp_path / "dram"
    monkeypatch.delenv("ARCHGYM_REF")
    with pytest.raises(ArchGymError, match="ARCHGYM_REF") as caught:
        default_reference("soc")
    assert ".." not in str(caught.value)


def test_every_simulator_with_a_reference_has_a_validator():
    assert set(VALIDATORS) - set(SIMULATORS) <= {"dram-event", "llm"}


def test_references_with_a_key_twice_are_refused(tmp_path):
    from archgym.simulators.accelerator.validate import validate

    (tmp_path / "timeloop_cases").mkdir()
    for name in ("timeloop_cases/one.json", "archgym_timeloop_sample.json", "timeloop_random_cases.json.gz"):
        text = b'{"a": 1, "a": 2}'
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        with pytest.raises(ArchGymError, match="'a' twice"):
            list(validate(tmp_path))
        (tmp_path / name).unlink()
