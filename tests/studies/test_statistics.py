"""Statistics against values worked out by other means."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from archgym.errors import ArchGymError
from archgym.pareto import non_dominated
from archgym.studies.statistics import (
    anytime,
    checkpoints,
    expected_best,
    hypervolume,
    iqm,
    lottery,
    normalised_regret,
    performance_profile,
    probability_of_improvement,
    ranks,
    stratified_interval,
)

numbers = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8)


def test_anytime_is_a_step_function():
    curve = [(1, -5.0), (4, -2.0), (10, 1.0)]
    assert anytime(curve, [0, 1, 3, 4, 9, 10, 99]).tolist() == [-np.inf, -5, -5, -2, -2, 1, 1]
    assert anytime([], [5]).tolist() == [-np.inf]


def test_checkpoints_span_the_budget_and_are_distinct():
    at = checkpoints(5000)
    assert at[0] == 1 and at[-1] == 5000 and (np.diff(at) > 0).all()
    assert checkpoints(1).tolist() == [1]


def test_normalised_regret_is_clipped_and_knows_flat_problems():
    assert normalised_regret([3, 2, 1, 0, -np.inf], best=3, baseline=1).tolist() == [0, 0.5, 1, 1, 1]
    assert normalised_regret([1.0, 0.5], best=1, baseline=1).tolist() == [0, 1]


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm([0, 1, 2, 3, 4, 5, 6, 100]) == np.mean([2, 3, 4, 5])


@settings(max_examples=30, deadline=None)
@given(values=numbers, data=st.data())
def test_expected_best_is_the_mean_over_all_subsets(values, data):
    k = data.draw(st.integers(1, len(values)))
    subsets = [min(chosen) for chosen in itertools.combinations(values, k)]
    assert expected_best(values, k)[0] == pytest.approx(np.mean(subsets), abs=1e-9)


def test_expected_best_of_more_than_there_are_is_refused():
    with pytest.raises(ArchGymError, match="cannot draw 4 of 3"):
        expected_best([1, 2, 3], 4)


def test_lottery_describes_the_distribution():
    found = lottery([0.0, 0.04, 0.2, 0.4, 0.6])
    assert found["settings"] == 5 and found["best"] == 0.0 and found["worst"] == 0.6 and found["median"] == 0.2
    assert found["tickets"] == pytest.approx(0.4)
    assert found["expected_best"]["1"] == pytest.approx(np.mean([0.0, 0.04, 0.2, 0.4, 0.6]))


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(0)
    a, b = rng.random(9), rng.random(12) + 0.2
    found = probability_of_improvement([a], [b])
    u = stats.mannwhitneyu(a, b).statistic
    assert found.value == pytest.approx(1 - u / (9 * 12))
    assert found.low < found.value < found.high
    assert probability_of_improvement([a], [a]).value == pytest.approx(0.5)
    assert probability_of_improvement([[1.0, 2.0]], [[3.0, 4.0]]).as_list() == [1.0, 1.0, 1.0]


def test_stratified_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for repeat in range(60):
        strata = [rng.normal(mean, 1, 20) for mean in (0, 5, 10)]
        found = stratified_interval(strata, lambda v: v.mean(axis=-1), resamples=400, seed=repeat)
        held += found.low <= 5 <= found.high
    # Resampling within strata: pooling would give intervals several times as wide, which would always hold.
    assert 48 <= held <= 60
    pooled = stratified_interval([np.concatenate(strata)], lambda v: v.mean(axis=-1), resamples=400)
    assert pooled.high - pooled.low > 2 * (found.high - found.low)


def test_intervals_of_one_run_a_problem_are_unknown_and_of_equal_runs_are_points():
    alone = stratified_interval([[0.5], [0.7]])
    assert alone.value == pytest.approx(0.6) and np.isnan(alone.low)
    assert stratified_interval([[0.5, 0.5], [0.5]]).as_list() == [0.5, 0.5, 0.5]
    assert np.isnan(stratified_interval([]).value)
    mixed = stratified_interval([[0.1, 0.9, 0.4], [0.5]])
    assert mixed.low <= mixed.value <= mixed.high


def test_performance_profile_weighs_problems_equally():
    profile = performance_profile([[0.0, 0.0, 0.0, 1.0], [1.0]], [0.0, 0.5, 1.0])
    assert profile.tolist() == [0.375, 0.375, 1.0]


def test_ranks_need_ten_problems_for_a_test_and_then_agree_with_friedman():
    rng = np.random.default_rng(2)
    table = rng.random((12, 4)) + np.array([0.0, 0.0, 0.0, 2.0])
    names = ["a", "b", "c", "worst"]
    assert "p_value" not in ranks(table[:9], names)
    found = ranks(table, names)
    assert found["mean_ranks"]["worst"] == 4.0
    assert found["p_value"] == pytest.approx(stats.friedmanchisquare(*table.T).pvalue)
    # Demsar (2006), table 5: q = 2.569 for four methods at 0.05.
    assert found["critical_difference"] == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 12)), rel=1e-3)
    assert all(pair[1] == "worst" for pair in found["differing"]) and found["differing"]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_against_counting_cells(m):
    rng = np.random.default_rng(m)
    points = rng.integers(0, 6, (12, m)).astype(float)
    cells = np.stack(np.meshgrid(*[np.arange(6) + 0.5] * m, indexing="ij"), axis=-1).reshape(-1, m)
    covered = (points[None] <= cells[:, None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(points, np.full(m, 6.0)) == pytest.approx(covered)


def test_hypervolume_at_the_edges():
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0
    assert hypervolume([[2.0, 2.0], [np.nan, 0.0]], [1, 1]) == 0
    with pytest.raises(ArchGymError, match="2 columns, the reference point 3"):
        hypervolume([[0.0, 0.0]], [1, 1, 1])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4), st.integers(1, 25), st.integers(0, 10_000))
def test_non_dominated_rows_are_exactly_those_that_nothing_dominates(m, n, seed):
    losses = np.random.default_rng(seed).integers(0, 5, (n, m)).astype(float)
    expected = {
        tuple(row) for row in losses.tolist()
        if not ((losses <= row).all(axis=1) & (losses < row).any(axis=1)).any()
    }  # fmt: skip
    found = non_dominated(losses)
    assert {tuple(row) for row in found.tolist()} == expected and len(found) == len(expected)
