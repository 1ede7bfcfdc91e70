"""Problems of a suite that ask for a front."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from archgym.errors import ArchGymError
from archgym.studies.executors import make_executor
from archgym.studies.statistics import hypervolume
from archgym.suites import Suite, parse_suite, run_entry, verify
from archgym.suites.fronts import box, growth
from archgym.suites.measure import _median_of, measure
from archgym.suites.packing import pack
from archgym.suites.scale import normalised
from archgym.suites.score import score
from archgym.suites.writing import suite_text

TEXT = """
name: fronts
version: 1
budgets: [20, 60]
seeds: 2
problems:
- problem: systolic/resnet18
  scale: hypervolume
  measuring: {samples: 2000, seeds: 4, evaluations: 600, methods: [nsga2, random]}
"""


@pytest.fixture(scope="module")
def suite() -> Suite:
    loaded = parse_suite(TEXT)
    how = loaded.problems[0].measuring
    found = measure(
        loaded.problems[0], samples=how.samples, seeds=how.seeds, methods=how.methods, evaluations=how.evaluations
    )
    return parse_suite(suite_text(loaded, [found]))


@given(arrays(np.float64, st.tuples(st.integers(0, 24), st.integers(1, 3)), elements=st.floats(0, 1.5)))
@settings(deadline=None)
def test_a_front_grows_to_the_hypervolume_of_its_points(losses: np.ndarray) -> None:
    grown = growth(losses, losses.shape[1])
    expected = [hypervolume(losses[: i + 1], np.ones(losses.shape[1])) for i in range(len(losses))]
    np.testing.assert_allclose(grown, expected, atol=1e-12)
    assert (np.diff(grown) >= 0).all()


def test_a_measured_front_lies_between_its_corners(suite: Suite) -> None:
    known = suite.problems[0].known
    assert known is not None and known.baseline == 0 and 0 < known.best.reward < 1
    assert max(known.best.methods.values()) <= known.best.reward + 1e-12
    assert known.best.methods["nsga2"] > known.best.methods["random"]
    assert {name: corner.logarithmic for name, corner in known.corners.items()} == {
        "latency_cycles": True, "energy_uj": True, "area_mm2": True,
    }  # fmt: skip
    problem = suite.problems[0].make()
    corners = known.corners
    ends = np.array(
        [
            [corners[m.name].best for m in problem.pareto_metrics],
            [corners[m.name].worst for m in problem.pareto_metrics],
        ]
    )
    np.testing.assert_allclose(box(problem, corners).place(ends), [[0, 0, 0], [1, 1, 1]], atol=1e-12)
    assert np.isinf(box(problem, corners).place(np.full((1, 3), np.inf))).all()
    with pytest.raises(ArchGymError, match="Pareto metrics are"):
        box(problem, {"latency_cycles": corners["latency_cycles"]})
    np.testing.assert_allclose(
        normalised(suite.problems[0], [known.best.reward, 0.0, known.best.reward / 2]), [0, 1, 0.5]
    )


def test_an_entry_is_worth_its_hypervolume_and_holds(suite: Suite, tmp_path: Path) -> None:
    results = {}
    for agent in ("random", "nsga2"):
        assert run_entry(suite, tmp_path / agent, agent, executor=make_executor("serial")).done == 2
        verified = verify(suite, tmp_path / agent)
        assert verified.holds and verified.repeated == 1, verified.findings
        # The curve ends at the hypervolume of all that the run evaluated.
        run = verified.runs[0]
        values = [value for _, value in run.curve]
        assert values == sorted(values) and len(set(values)) == len(values)
        results[agent] = score(suite, verified)
        pack(suite, tmp_path / agent, tmp_path / f"{agent}-packed")
        again = verify(suite, tmp_path / f"{agent}-packed")
        assert again.holds, again.findings
        assert score(suite, again) == results[agent] | {"packed": True}
    assert results["nsga2"]["at"]["60"][0] < results["nsga2"]["at"]["20"][0]


def test_a_front_takes_no_reward_to_meet() -> None:
    with pytest.raises(ArchGymError, match="asks for a front"):
        parse_suite(TEXT.replace("hypervolume", "hypervolume\n  meets: 0.0"))


def test_the_median_of_times_that_were_not_all_reached() -> None:
    times = np.arange(1.0, 21.0)
    assert _median_of(times, 100.0) == (10.5, 6.0, 15.0)
    times[14:] = np.inf
    assert _median_of(times, 100.0) == (10.5, 6.0, None)
    times[5:] = np.inf
    assert _median_of(times, 100.0) == (100.0, 100.0, None)
