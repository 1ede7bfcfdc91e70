"""Agreement with recorded runs of DRAMSys 4.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from archgym.simulators.dram.validate import compared, read_rows, simulate_rows, validate
from tests.dram.helpers import REF

pytestmark = pytest.mark.skipif(not REF.is_dir(), reason=f"no reference data at {REF}")


@pytest.mark.slow
def test_every_group_holds() -> None:
    groups = list(validate(REF))
    assert len(groups) > 20
    short = [f"{group.group}: exact {group.exact}, worst {group.worst_error}" for group in groups if not group.holds]
    assert short == []
    names = {group.group for group in groups}
    assert {"dramsys40_stl/AllBank/total_time_ns", "plain/NoRefresh/energy_pj", "wide/all/total_time_ns"} <= names


def test_starvation_is_reproduced() -> None:
    """Arrivals that come with a due precharge do not save the row: a pair of requests then takes 37 cycles."""
    rows = [
        row
        for row in read_rows(REF / "dramsys40_neutral.csv.gz")
        if (row["mapping"], row["config_id"], row["trace"]) == ("li", "15", "sat_copy")
        and row["device"].startswith("DDR4")
    ]
    if not rows:
        pytest.skip("the row is not in this folder")
    ours, reference = compared(rows[0], simulate_rows(rows[:1], REF)[0])["total_time_ns"]
    assert ours == reference == 369_986


def test_a_folder_may_hold_some_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "dramsys40_archgym.csv.gz").symlink_to(REF / "dramsys40_archgym.csv.gz")
    (tmp_path / "stl").symlink_to(REF / "stl")
    groups = list(validate(tmp_path))
    assert {group.group.split("/")[0] for group in groups} == {"dramsys40_archgym", "plain"}
    assert all(group.holds and group.exact == 1.0 for group in groups)
    assert list(validate(tmp_path / "stl")) == []
