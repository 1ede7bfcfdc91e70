"""Reading, checking, merging, splitting and querying trials."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import SPACE

from archgym.agents.collect import best_designs, collect
from archgym.datasets.dataset import Dataset, DatasetWriter, read_trials
from archgym.datasets.merge import first_of_equals, in_region, merge, parse_region, split
from archgym.datasets.query import query
from archgym.datasets.sampling import METHODS, distinct, draw, perturbations
from archgym.datasets.schema import TrialSchema
from archgym.datasets.verify import info, verify
from archgym.errors import ArchGymError
from archgym.hashing import hash_rows
from archgym.problem import make_problem


def designs_of(dataset, problem):
    return np.concatenate([TrialSchema(problem, {}).designs(batch) for _, batch, _ in dataset.groups()])


def same(one, two):
    """Equal tables, NaN equal to NaN."""
    return one.to_pandas().equals(two.to_pandas())


# --- reading -------------------------------------------------------------------------------------------------------


def test_dataset_reads_what_the_shards_hold(trials):
    dataset = Dataset(trials)
    table, plain = dataset.table(), read_trials(trials)
    assert len(table) == len(plain) == dataset.rows
    np.testing.assert_array_equal(table.column("time_ns").to_numpy(), plain.column("time_ns").to_numpy())
    assert table.column("agent").to_pylist() == plain.column("agent").to_pylist()
    assert dataset.units()["time_ns"] == "ns" and dataset.units()["Depth"] == "entries"
    assert {i.problem for i in dataset.problems.values()} == {"toy/light", "toy/heavy"}


def test_batches_of_any_size_give_the_same_rows(trials):
    dataset = Dataset(trials)
    whole = [v for b in dataset.batches(["reward"]) for v in b.column(0).to_pylist()]
    small = [v for b in dataset.batches(["reward"], size=7) for v in b.column(0).to_pylist()]
    assert whole == small


def test_groups_name_every_row_once(trials, tmp_path):
    merge([trials], tmp_path / "m", keep_all=True)
    dataset = Dataset(tmp_path / "m")
    seen = np.concatenate([rows for _, _, rows in dataset.groups(["index"], size=64)])
    assert sorted(seen.tolist()) == list(range(dataset.rows))
    for about, batch, _ in dataset.groups(["workload"]):
        assert set(batch.column("workload").to_pylist()) == {about.workload}


def test_select_keeps_one_problem(trials):
    chosen = Dataset(trials).select("toy/heavy")
    assert chosen.rows > 0 and set(chosen.table(["workload"]).column(0).to_pylist()) == {"heavy"}
    with pytest.raises(ArchGymError, match="did you mean 'toy/heavy'"):
        Dataset(trials).select("toy/heavi")


def test_info_counts(trials):
    found = info(trials)
    assert found["rows"] == Dataset(trials).rows and found["runs"] == 4
    assert sum(found["agents"].values()) == found["rows"]
    column = next(c for c in found["columns"] if c["name"] == "Scale")
    assert (column["low"], column["high"], column["role"]) == (0.5, 2.0, "parameter")
    json.dumps(found, allow_nan=False)


# --- verify --------------------------------------------------------------------------------------------------------


def test_verify_holds_for_what_was_just_made(trials):
    found = verify(trials, sample=50)
    assert found["holds"], found["checks"]
    assert [p["simulated"] for p in found["problems"]] == [50, 50]


def change(folder, out, edit):
    """A copy of the merged trials with ``edit`` applied to the table."""
    dataset = Dataset(folder)
    with DatasetWriter(out, dataset.schema, dataset.problems.values()) as writer:
        for batch in edit(dataset.table()).to_batches():
            writer.write(batch)
    return out


def set_column(table, name, values):
    i = table.column_names.index(name)
    return table.set_column(i, table.schema.field(i), pa.chunked_array([values]))


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [("time_ns", 1.0, "simulate again"), ("reward", np.nan, "reward"), ("reward", 3.0, "simulate again")],
)
def test_verify_finds_what_was_changed(trials, tmp_path, name, value, check):
    def edit(table):
        column = table.column(name).to_numpy().copy()
        column[5] = value
        return set_column(table, name, pa.array(column))

    found = verify(change(trials, tmp_path / "bad", edit), sample=10_000)
    assert not found["holds"]
    assert check in [c["name"] for c in found["checks"] if not c["holds"]]


def test_verify_finds_feasible_lies(trials, tmp_path):
    def edit(table):
        feasible = np.array(table.column("feasible").to_pylist())
        feasible[np.flatnonzero(~feasible)[:3]] = True
        return set_column(table, "feasible", pa.array(feasible))

    found = verify(change(trials, tmp_path / "bad", edit), sample=0)
    assert "feasible" in [c["name"] for c in found["checks"] if not c["holds"]]


def test_verify_refuses_values_outside_the_space(trials, tmp_path):
    def edit(table):
        column = table.column("Depth").to_numpy().copy()
        column[3] = 5
        return set_column(table, "Depth", pa.array(column))

    with pytest.raises(ArchGymError, match="Depth = 5, which is not in the space"):
        verify(change(trials, tmp_path / "bad", edit))


def test_conflicting_units_are_refused(trials, tmp_path):
    merge([trials], tmp_path / "a")
    schema = pq.read_schema(tmp_path / "a" / "trials-00000.parquet")
    i = schema.get_field_index("time_ns")
    about = {**schema.field(i).metadata, b"unit": b"s"}
    table = pq.read_table(tmp_path / "a" / "trials-00000.parquet")
    (tmp_path / "b").mkdir()
    pq.write_table(table.cast(schema.set(i, schema.field(i).with_metadata(about))), tmp_path / "b" / "x.parquet")
    with pytest.raises(ArchGymError, match="'time_ns' has the unit 'ns' .* and 's'"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    wrong = verify(tmp_path / "b", sample=0)
    assert "units" in [c["name"] for c in wrong["checks"] if not c["holds"]]


# --- merge ---------------------------------------------------------------------------------------------------------


def test_merge_keeps_each_canonical_design_once(trials, tmp_path):
    made = merge([trials], tmp_path / "m")
    merged = Dataset(tmp_path / "m")
    keys = set()
    for about, batch, _ in merged.groups():
        problem = about.make()
        for row in problem.space.canonical(TrialSchema(problem, {}).designs(batch)).tolist():
            keys.add((about.problem, *row))
    assert len(keys) == merged.rows == made["rows_out"] == made["distinct_designs"]
    assert made["rows_in"] == made["rows_out"] + made["duplicates"] and made["duplicates"] > 0
    everything = set()
    for about, batch, _ in Dataset(trials).groups():
        problem = about.make()
        for row in problem.space.canonical(TrialSchema(problem, {}).designs(batch)).tolist():
            everything.add((about.problem, *row))
    assert everything == keys


def test_merge_is_idempotent_and_verifies(trials, tmp_path):
    merge([trials], tmp_path / "a")
    made = merge([tmp_path / "a", tmp_path / "a"], tmp_path / "b")
    assert made["rows_out"] == made["rows_in"] // 2
    assert same(Dataset(tmp_path / "a").table(), Dataset(tmp_path / "b").table())
    assert verify(tmp_path / "b", sample=30)["holds"]


def test_merge_keeps_and_counts_conflicts(trials, tmp_path):
    def edit(table):
        return set_column(table, "energy_pj", pa.array(table.column("energy_pj").to_numpy() * 1.5))

    other = change(trials, tmp_path / "other", edit)
    made = merge([trials, other], tmp_path / "m")
    assert made["conflicts"] > 0
    assert not verify(tmp_path / "m", sample=0)["holds"]


def test_merge_across_objectives(tmp_path):
    for objective in ("time_ns", "energy_pj"):
        collect(make_problem("toy/light", objective=objective), tmp_path / objective, count=60, seed=1)
    paths = [tmp_path / "time_ns", tmp_path / "energy_pj"]
    assert merge(paths, tmp_path / "apart")["duplicates"] == merge(paths[:1], tmp_path / "one")["duplicates"] * 2
    assert merge(paths, tmp_path / "together", across_objectives=True)["rows_out"] == 60


def test_a_folder_with_other_trials_is_not_overwritten(trials, tmp_path):
    first = merge([trials], tmp_path / "m")
    again = merge([trials], tmp_path / "m")
    assert first == again, "the same command repeated ends in the same"
    with pytest.raises(ArchGymError, match="holds trials already"):
        merge([tmp_path / "m"], tmp_path / "m")
    with pytest.raises(ArchGymError, match="holds trials already"):
        merge([tmp_path / "m"], trials)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60))
@settings(deadline=None)
def test_first_of_equals_is_a_set(rows):
    words = np.array(rows, dtype=np.uint64).reshape(-1, 2)
    keep, count = first_of_equals(words[:, 0].copy(), words[:, 1].copy())
    seen = set()
    expected = [not (row in seen or seen.add(row)) for row in rows]
    assert keep.tolist() == expected and count == len(seen)


def test_hash_collisions_are_survived(monkeypatch):
    import archgym.datasets.merge as module

    monkeypatch.setattr(module, "hash_rows", lambda columns, salt: np.zeros(len(columns[0]), dtype=np.uint64))
    words = np.array([3, 1, 3, 2, 1], dtype=np.uint64)
    keep, count = first_of_equals(words, words)
    assert keep.tolist() == [True, True, False, True, False] and count == 3


def test_hash_is_stable():
    rows = np.array([1, 2, 3], dtype=np.int64), np.array([0.5, np.nan, -0.0])
    assert hash_rows(rows, 1).tolist() == hash_rows([rows[0], np.array([0.5, np.nan, 0.0])], 1).tolist()
    assert len(set(hash_rows(rows, 1).tolist()) | set(hash_rows(rows, 2).tolist())) == 6


# --- split ---------------------------------------------------------------------------------------------------------


def canonical_keys(path):
    keys = set()
    for about, batch, _ in Dataset(path).groups():
        problem = about.make()
        keys |= {tuple(row) for row in problem.space.canonical(TrialSchema(problem, {}).designs(batch)).tolist()}
    return keys


@pytest.mark.parametrize(
    "how",
    [
        {"by": "design", "validation": 0.2},
        {"by": "agent", "names": ["ga"]},
        {"by": "region", "region": "Depth>=16, Policy=Open|Closed"},
    ],
)
def test_no_design_is_on_two_sides(trials, tmp_path, how):
    made = split([trials], tmp_path / "s", **how)
    keys = [canonical_keys(path) for path in made["paths"].values()]
    for i, one in enumerate(keys):
        for other in keys[:i]:
            assert not one & other
    assert sum(made["rows"].values()) + made["left_out_overlap"] == Dataset(trials).rows


def test_split_by_workload_and_region_hold_out_what_they_say(trials, tmp_path):
    split([trials], tmp_path / "w", by="workload", names=["heavy"])
    assert set(Dataset(tmp_path / "w" / "test").table(["workload"]).column(0).to_pylist()) == {"heavy"}
    assert set(Dataset(tmp_path / "w" / "train").table(["workload"]).column(0).to_pylist()) == {"light"}
    split([trials], tmp_path / "r", by="region", region="Depth>=16")
    assert min(Dataset(tmp_path / "r" / "test").table(["Depth"]).column(0).to_pylist()) == 16
    assert max(Dataset(tmp_path / "r" / "train").table(["Depth"]).column(0).to_pylist()) == 8


def test_split_is_fixed_by_its_seed(trials, tmp_path):
    first, again, other = (split([trials], tmp_path / str(i), seed=s) for i, s in enumerate((1, 1, 2)))
    tables = [Dataset(made["paths"]["test"]).table() for made in (first, again, other)]
    assert same(tables[0], tables[1]) and not same(tables[0], tables[2])


def test_bad_splits_are_refused(trials, tmp_path):
    for how, words in (
        ({"by": "row"}, "unknown way to split"),
        ({"test": 1.5}, "expected shares"),
        ({"by": "region"}, "needs --region"),
        ({"by": "region", "region": "Depth"}, "cannot read the condition"),
        ({"by": "region", "region": "Depht>3"}, "did you mean 'Depth'"),
        ({"by": "region", "region": "Policy>3"}, "compares what is no number"),
        ({"by": "agent", "names": ["bo"]}, "unknown agent"),
    ):
        with pytest.raises(ArchGymError, match=words):
            split([trials], tmp_path / "x", **how)


def test_region_conditions():
    batch = pa.record_batch({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [True, False, True]})
    for text, expected in (("a>=2", [0, 1, 1]), ("b=x|z", [1, 0, 1]), ("b!=x,a<3", [0, 1, 0]), ("a=3.0", [0, 0, 1]),
                           ("c=True", [1, 0, 1])):  # fmt: skip
        assert in_region(batch, parse_region(text)).tolist() == [bool(v) for v in expected]


# --- query ---------------------------------------------------------------------------------------------------------


def test_query_shards_and_parquet_alike(trials, tmp_path):
    pytest.importorskip("duckdb")
    merge([trials], tmp_path / "m", keep_all=True)
    sql = "SELECT agent, count(*) AS n, min(time_ns) AS best FROM trials WHERE feasible GROUP BY agent ORDER BY agent"
    one, two = query(trials, sql), query(tmp_path / "m", sql)
    assert one.to_pylist() == two.to_pylist() and len(one) == 4
    assert (
        query(trials, "SELECT count(*) AS n FROM trials a JOIN trials b USING (agent, index)").to_pylist()[0]["n"] > 0
    )


def test_query_reaches_nothing_but_the_trials(trials, tmp_path):
    pytest.importorskip("duckdb")
    for sql in (
        "SELECT * FROM read_csv('/etc/passwd')",
        f"COPY trials TO '{tmp_path / 'x.csv'}'",
        "SELEC 1",
        "SELECT nothing FROM trials",
        "SET enable_external_access = true",
    ):
        with pytest.raises(ArchGymError, match="the query fails"):
            query(trials, sql)
    assert not list(tmp_path.iterdir())


# --- sampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
def test_samples_are_designs_and_repeat(method):
    one, again, other = draw(SPACE, method, 100, 1), draw(SPACE, method, 100, 1), draw(SPACE, method, 100, 2)
    assert one.shape == (100, 6) and np.array_equal(one, again) and not np.array_equal(one, other)
    SPACE.check(one)


def test_sobol_and_latin_hypercube_are_more_even_than_chance():
    def unevenness(method):
        designs = draw(SPACE, method, 96, 3)
        return sum(np.abs(np.bincount(designs[:, j], minlength=k) - 96 / k).sum() for j, k in enumerate(SPACE.nvec))

    assert unevenness("lhs") < 0.2 * unevenness("uniform") and unevenness("sobol") < 0.5 * unevenness("uniform")


def test_perturbations_change_one_to_k_parameters():
    centres = SPACE.sample(5, 0)
    made = perturbations(SPACE, centres, 200, 1, changes=2)
    changed = (made != centres[np.arange(200) % 5]).sum(axis=1)
    assert set(changed.tolist()) == {1, 2}


def test_distinct_designs_are_canonically_distinct():
    designs = distinct(SPACE, 300, 0)
    assert len(designs) == 300 == len(np.unique(SPACE.canonical(designs), axis=0))
    # 3*6*4*2 * (1 simple + 4 fifo) classes in all
    assert len(distinct(SPACE, 5000, 0)) == 3 * 6 * 4 * 2 * 5


def test_perturbed_samples_start_from_the_best(trials, tmp_path):
    problem = make_problem("toy/heavy")
    best = best_designs(problem, Dataset(trials), 5)
    reward = problem.evaluate(best)[1]
    assert len(best) == 5 and (np.diff(reward) <= 0).all()
    collect(problem, tmp_path, count=40, method="perturb", near=trials, top=5, changes=1)
    made = designs_of(Dataset(tmp_path), problem)
    distance = (made[:, None, :] != best[None]).sum(axis=2).min(axis=1)
    assert distance.max() == 1
    with pytest.raises(ArchGymError, match="needs --near"):
        collect(problem, tmp_path / "x", method="perturb")


def test_collect_uses_the_whole_budget(tmp_path):
    made = collect(make_problem("toy/light"), tmp_path, count=500, method="sobol")
    assert made["evaluations"] == 500


# --- size ----------------------------------------------------------------------------------------------------------


ROWS = 1_000_000
PEAK_MB = 800
"""Bound on the whole process that verifies, merges and queries ROWS trials; the libraries themselves take about 250."""

_CHECK = """
import json, re, sys, time
from pathlib import Path
from archgym.datasets.merge import merge
from archgym.datasets.query import query
from archgym.datasets.verify import verify

trials, merged = sys.argv[1:]
clock = time.process_time()
checked = verify([trials], sample=64)
made = merge([trials], merged)
sql = "SELECT agent, count(*) AS n, min(loss) AS least FROM trials GROUP BY agent ORDER BY agent"
rows = [query([folder], sql).to_pylist() for folder in (trials, merged)]
# Not ru_maxrss: where a process is started by vfork, that begins with the peak of its parent.
peak_mb = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"holds": checked["holds"], "in": made["rows_in"], "out": made["rows_out"], "query": rows,
                  "peak_mb": peak_mb, "cpu_s": time.process_time() - clock}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from /proc")
def test_a_million_rows_take_seconds_and_little_memory(tmp_path):
    """Nearly all of them distinct, so that nothing is saved by removing duplicates."""
    problem = make_problem("synthetic/separable")
    schema = TrialSchema(problem, {"agent": "a"})
    from archgym.datasets.shards import ShardWriter

    rng = np.random.default_rng(0)
    least, tokens = np.inf, []
    with ShardWriter(tmp_path / "in" / "big.arrows", schema.schema) as writer:
        for start in range(0, ROWS, 100_000):
            designs = problem.space.sample(100_000, rng)
            evaluation, rewards = problem.evaluate(designs)
            writer.append(schema.batch(start, designs, evaluation, rewards, np.zeros(100_000, bool), 0.0, 0.0))
            tokens.append(problem.space.rank(problem.space.canonical(designs)))
            least = min(least, evaluation.metrics["loss"].min())
    different = len(np.unique(np.concatenate(tokens)))
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, str(tmp_path / "in"), str(tmp_path / "merged")],
        capture_output=True, text=True, timeout=280, check=True,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1, done.stdout[:2000]
    found = json.loads(done.stdout)
    assert found["holds"] and found["in"] == ROWS and found["out"] == different > 0.9 * ROWS
    assert found["query"] == [[{"agent": "a", "n": n, "least": least}] for n in (ROWS, different)]
    assert found["peak_mb"] < PEAK_MB, found
    assert found["cpu_s"] < 60, found
