"""The single door: budgets, cache, trials on disk, resume after a real kill."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from archgym.agents import make_agent, search
from archgym.agents.base import Agent
from archgym.datasets import read_shard, read_trials
from archgym.datasets.schema import CLOCK_COLUMNS, TrialSchema
from archgym.datasets.shards import numbered_shard
from archgym.errors import ArchGymError
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.problem import make_problem


def test_the_budget_counts_new_canonical_designs_only(bowl):
    evaluator = Evaluator(bowl, budget=3)
    # The first two are the same design: patience is inactive under the eager policy.
    designs, evaluation, rewards = evaluator.evaluate([[0, 0, 0, 1], [0, 0, 0, 3], [1, 0, 1, 1]])
    assert evaluator.used == 2 and evaluator.trials == 3
    assert rewards[0] == rewards[1]
    designs, evaluation, rewards = evaluator.evaluate([[1, 0, 1, 1], [2, 0, 1, 1], [3, 0, 1, 1], [1, 0, 1, 1]])
    assert designs.tolist() == [[1, 0, 1, 1], [2, 0, 1, 1]], "a prefix as long as the budget allows"
    assert evaluator.exhausted
    with pytest.raises(BudgetExhausted):
        evaluator.evaluate([[0, 0, 0, 0]])
    for budget in (0, -1):
        with pytest.raises(ArchGymError, match=f"the budget is {budget}"):
            Evaluator(bowl, budget=budget)


def test_cached_answers_equal_fresh_ones(bowl):
    designs = bowl.space.sample(500, 0)
    fresh, rewards = bowl.evaluate(designs)
    evaluator = Evaluator(bowl)
    for _ in range(2):
        _, evaluation, cached = evaluator.evaluate(designs)
        assert np.array_equal(cached, rewards)
        for name, column in fresh.metrics.items():
            assert np.array_equal(evaluation.metrics[name], column, equal_nan=True)
        assert evaluation.violation.tolist() == fresh.violation.tolist()


def test_an_agent_that_only_repeats_itself_ends(bowl):
    evaluator = Evaluator(bowl, budget=100, stall_limit=50)
    with pytest.raises(BudgetExhausted):
        while True:
            evaluator.evaluate([[0, 0, 0, 0]])
    assert evaluator.used == 1 and evaluator.trials == 51


def test_trials_hold_all_that_is_needed_to_repeat_them(bowl, tmp_path):
    result = search(bowl, make_agent("walk", bowl, 3, walkers=4), 60, log=tmp_path / "a.arrows", study="s", run="r")
    frame = read_trials(tmp_path).to_pandas()
    assert set(frame["problem"]) == {"bowl/deep"} and set(frame["seed"]) == {3} and set(frame["agent"]) == {"walk"}
    assert not frame["cached"].any() and len(frame) == result.evaluations == 60
    # A gap stands for repeats.
    assert frame["index"].is_monotonic_increasing and len(frame) <= frame["index"].iloc[-1] + 1 <= result.trials
    named = frame[list(bowl.space.names)].to_dict("records")
    evaluation, rewards = bowl.evaluate(bowl.space.encode(named))
    assert np.array_equal(rewards, frame["reward"])
    assert np.array_equal(evaluation.metrics["time_ns"], frame["time_ns"], equal_nan=True)
    assert (frame["violation"] == "too_hot").equals(~frame["feasible"]) or frame["feasible"].all()


def test_repeats_are_logged_on_request(bowl, tmp_path):
    def walk(log, **options):
        return search(bowl, make_agent("walk", bowl, 3, walkers=4), 60, log=tmp_path / log, **options)

    result = walk("with.arrows", log_repeats=True)
    frame = read_trials(tmp_path / "with.arrows").to_pandas()
    assert frame["index"].tolist() == list(range(result.trials))
    assert (~frame["cached"]).sum() == 60 < result.trials == walk("without.arrows").trials
    without = read_trials(tmp_path / "without.arrows").to_pandas()
    columns = [name for name in frame.columns if name not in CLOCK_COLUMNS]
    pd.testing.assert_frame_equal(frame[~frame["cached"]][columns].reset_index(drop=True), without[columns])
    with pytest.raises(ArchGymError, match="made with repeats = True, not None"):
        walk("with.arrows", resume=True)


@pytest.mark.parametrize("log_repeats", [False, True])
@pytest.mark.parametrize("agent", ["walk", "ga"])
def test_more_budget_continues_a_finished_run(bowl, agent, log_repeats, tmp_path):
    def run(log, budget, resume=False):
        made = make_agent(agent, bowl, 1)
        return search(bowl, made, budget, log=tmp_path / log, resume=resume, log_repeats=log_repeats)

    whole = run("whole.arrows", 150)
    for budget in (7, 8, 60, 149, 150):
        again = run("part.arrows", budget, resume=True)
        assert again.evaluations == budget
    assert (again.best.reward, again.trials, again.improvements) == (
        whole.best.reward,
        whole.trials,
        whole.improvements,
    )
    assert_same_trials(tmp_path / "part.arrows", tmp_path / "whole.arrows")
    with pytest.raises(ArchGymError, match="holds 150 evaluations, more than the budget of 100"):
        run("part.arrows", 100, resume=True)


def test_an_agent_that_converged_starts_anew():
    # 96 classes of designs: a population that has seen nearly all of them finds the others only from elsewhere.
    class Stuck(Agent):
        """Asks for one design until it is told to start anew."""

        name = "stuck"
        at = 0

        def ask(self, n):
            return np.full((n, self.space.dimension), self.at % 3, dtype=np.int64)

        def tell(self, designs, evaluation, rewards):
            pass

        def restart(self):
            self.at += 1
            return True

    problem = make_problem("synthetic/rugged")
    result = search(problem, Stuck(problem, 0), 100, batch=10)
    assert result.evaluations == 3, "it was told to start anew each time"


@pytest.mark.parametrize("budget", [20.5, "20", None, float("nan"), float("inf"), True, -3])
def test_a_budget_is_a_whole_number(bowl, budget):
    with pytest.raises(ArchGymError, match="expected a positive whole number of simulator evaluations"):
        search(bowl, make_agent("random", bowl), budget)
    assert search(bowl, make_agent("random", bowl), 20.0).evaluations == 20


def test_what_is_refused_leaves_no_shard(tmp_path):
    with pytest.raises(ArchGymError, match="seven"):
        make_problem("dram/gzip", fidelity="window:seven")
    problem = make_problem("dram/gzip")
    problem.fidelity = "window:seven"  # what only the simulator sees
    with pytest.raises(ArchGymError, match="seven"):
        search(problem, make_agent("random", problem), 20, log=tmp_path / "a.arrows")
    assert not list(tmp_path.iterdir())


def test_an_evaluator_with_a_log_is_not_copied(bowl, tmp_path):
    with Evaluator(bowl, log=tmp_path / "a.arrows") as evaluator, pytest.raises(ArchGymError, match="one writer"):
        copy.deepcopy(evaluator)


def test_numbered_shards_keep_apart(bowl, tmp_path):
    schema = TrialSchema(bowl, {}).schema
    writers = [numbered_shard(tmp_path, "env", schema) for _ in range(3)]
    assert [writer.path.name for writer in writers] == ["env-0000.arrows", "env-0001.arrows", "env-0002.arrows"]
    with ThreadPoolExecutor(8) as pool:
        more = list(pool.map(lambda _: numbered_shard(tmp_path, "env", schema).path, range(24)))
    assert len(set(more)) == 24 and all(read_trials(path).num_rows == 0 for path in more)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"env-{number:04d}.arrows" for number in range(27)]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArchGymError, match="cannot write"):
        numbered_shard(tmp_path / "file", "env", schema)


def assert_same_trials(one, two):
    frames = [read_trials(path).drop_columns(list(CLOCK_COLUMNS)).to_pandas() for path in (one, two)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.parametrize("agent", ["random", "walk", "ga"])
def test_a_torn_shard_resumes_to_the_same_result(bowl, agent, tmp_path):
    whole = tmp_path / "whole.arrows"
    first = search(bowl, make_agent(agent, bowl, 1), 150, log=whole, batch=20)
    data = whole.read_bytes()
    for cut in (len(data) - 1, len(data) // 2, len(data) // 3):
        torn = tmp_path / f"torn{cut}.arrows"
        torn.write_bytes(data[:cut])
        again = search(bowl, make_agent(agent, bowl, 1), 150, log=torn, resume=True, batch=20)
        assert again.best.reward == first.best.reward and again.evaluations == first.evaluations
        assert_same_trials(torn, whole)


@pytest.mark.parametrize("change", ["lacks", "has one more", "has another type of", "in another order"])
def test_a_shard_with_other_columns_is_not_gone_on_with(bowl, tmp_path, change):
    log = tmp_path / "a.arrows"
    search(bowl, make_agent("random", bowl, 1), 20, log=log)
    with pa.OSFile(str(log)) as source:
        table = pa.ipc.open_stream(source).read_all()
    last = table.column_names[-1]
    made = {
        "lacks": lambda: table.drop_columns([last]),
        "has one more": lambda: table.append_column("more", table[last]),
        "has another type of": lambda: table.drop_columns([last]).append_column(last, table["index"]),
        "in another order": lambda: table.select(table.column_names[::-1]),
    }[change]()
    with pa.OSFile(str(log), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    before = log.read_bytes()
    with pytest.raises(ArchGymError, match=change):
        search(bowl, make_agent("random", bowl, 1), 30, log=log, resume=True)
    assert log.read_bytes() == before


def test_a_run_is_resumed_only_with_its_own_settings(bowl, tmp_path):
    log = tmp_path / "a.arrows"
    search(bowl, make_agent("ga", bowl, 1), 50, log=log)
    with pytest.raises(ArchGymError, match="exists already"):
        search(bowl, make_agent("ga", bowl, 1), 50, log=log)
    with pytest.raises(ArchGymError, match="seed = 1, not 2"):
        search(bowl, make_agent("ga", bowl, 2), 50, log=log, resume=True)
    with pytest.raises(ArchGymError, match="hyperparameter"):
        search(bowl, make_agent("ga", bowl, 1, population=8), 50, log=log, resume=True)
    with pytest.raises(ArchGymError, match="offset"):
        other = make_problem("bowl/deep", offset=1.0)
        search(other, make_agent("ga", other, 1), 50, log=log, resume=True)


def test_foreign_files_are_refused(bowl, tmp_path):
    (tmp_path / "a.arrows").write_bytes(b"not arrow at all, not even close")
    with pytest.raises(ArchGymError, match="no Arrow stream"):
        read_trials(tmp_path)
    with pytest.raises(ArchGymError, match="does not exist"):
        read_trials(tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArchGymError, match="holds no trials"):
        read_trials(empty)


_RUN = """
import sys, time
sys.path.insert(0, {root!r})
from archgym.registry import SIMULATORS
SIMULATORS.register("bowl", "tests.bowl:BowlSimulator")
from archgym.problem import make_problem
from archgym.agents import make_agent, search
problem = make_problem("bowl/deep")
{before}
def slow(evaluator):
    print(evaluator.used, flush=True)
    time.sleep(0.01)
search(problem, make_agent("ga", problem, 7), 150, log={log!r}, resume=True, batch=4, on_trials=slow)
"""


def test_sigkill_loses_nothing_that_was_told(bowl, tmp_path):
    root, log = str(Path(__file__).parents[2]), tmp_path / "killed.arrows"
    whole = tmp_path / "whole.arrows"
    search(bowl, make_agent("ga", bowl, 7), 150, log=whole, batch=4)
    code = _RUN.format(root=root, log=str(log), before="")
    told = 0
    for wait in (0.02, 0.04, 0.03):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        first = process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        lines = [first, *process.stdout.read().splitlines()]
        process.wait()
        told = int(lines[-1])
        _, batches, _ = read_shard(log)
        assert sum(len(batch) for batch in batches) >= told > 0
    result = search(bowl, make_agent("ga", bowl, 7), 150, log=log, resume=True, batch=4)
    assert result.evaluations == 150
    assert_same_trials(log, whole)


def test_sigkill_before_the_first_trial_leaves_nothing_in_the_way(bowl, tmp_path):
    log, whole = tmp_path / "killed.arrows", tmp_path / "whole.arrows"
    search(bowl, make_agent("ga", bowl, 7), 150, log=whole, batch=4)
    kill = "import os\nproblem.simulator.evaluate = lambda *args, **options: os.kill(os.getpid(), 9)"
    code = _RUN.format(root=str(Path(__file__).parents[2]), log=str(log), before=kill)
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(read_trials(tmp_path)) == len(read_trials(whole)), "readers of the folder do not mind"
    with pytest.raises(ArchGymError, match="add --resume"):
        search(bowl, make_agent("ga", bowl, 7), 150, log=log, batch=4)
    search(bowl, make_agent("ga", bowl, 7), 150, log=log, resume=True, batch=4)
    assert_same_trials(log, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.arrows", "whole.arrows"]


def test_an_unwritable_folder_gets_one_sentence(bowl, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(ArchGymError, match="cannot write"):
        search(bowl, make_agent("random", bowl, 0), 10, log=blocked / "a.arrows")


@pytest.mark.parametrize("seed", [1.5, -1, "1", float("nan"), True, 1 << 63, None])
def test_a_seed_that_is_no_whole_number_is_refused_before_a_file_is_written(seed, tmp_path):
    problem = make_problem("synthetic/rugged")
    log = tmp_path / "x.arrows"
    with pytest.raises(ArchGymError, match="the seed is"):
        Evaluator(problem, budget=4, seed=seed, log=log)
    if seed is not None:
        with pytest.raises(ArchGymError, match="the seed is"):
            search(problem, make_agent("random", problem, 0), 4, seed=seed, log=log)
    with pytest.raises(ArchGymError, match="the seed is"):
        make_agent("random", problem, seed)
    assert not log.exists()
    assert search(problem, make_agent("random", problem, np.int64(2)), 4, seed=2.0, log=log).seed == 2
