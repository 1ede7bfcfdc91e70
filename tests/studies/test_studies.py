"""Specs, executors, kills and resumes, and the summary of a study."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.console import Console

from archgym.cli import main
from archgym.datasets.schema import CLOCK_COLUMNS
from archgym.datasets.shards import read_shard
from archgym.errors import ArchGymError
from archgym.reading import checked
from archgym.simulators.synthetic.simulator import Synthetic
from archgym.studies import Study, load_spec, parse_spec, ready_studies, run_study
from archgym.studies.executors import ProcessExecutor, make_executor, thread_limit
from archgym.studies.store import RunRecord
from archgym.studies.summary import Results
from archgym.studies.workers import THREAD_VARIABLES

SPEC = """
name: small
budget: 120
seeds: 4
problems: [synthetic/separable, {problem: synthetic/rugged, objective: loss}]
agents:
  - random
  - {agent: ga, sample: 4}
  - {agent: aco, grid: {ants: [4, 32], greediness: [0.0, 0.5]}}
  - agent: sa
    sample: 2
    ranges: {chains: [4, 8], cooling: 0.9}
"""
CLOCKS = ("agent_s", "simulation_s")


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    result = run_study(parse_spec(SPEC), folder)
    assert result.done == result.runs == 2 * (1 + 4 + 4 + 2) * 4 and not result.failed
    return result.study


def records(study):
    return {row["run"]: {key: value for key, value in row.items() if key not in CLOCKS} for row in study.results()}


def trials(study):
    """Run -> its trials without the clocks."""
    found = {}
    for path in sorted(study.folder.rglob("*.arrows")):
        schema, batches, whole = read_shard(path)
        assert whole
        table = pa.Table.from_batches(batches, schema)
        found[str(path.relative_to(study.folder))] = table.drop_columns(list(CLOCK_COLUMNS)).to_pylist()
    return found


# --- specs ----------------------------------------------------------------------------------------------------------


def test_equal_specs_give_equal_runs_and_none_twice():
    first, second = parse_spec(SPEC).runs(), parse_spec(SPEC).runs()
    assert [run.id for run in first] == [run.id for run in second]
    assert len({run.id for run in first}) == len(first)
    overlapping = (
        SPEC + "  - {agent: aco, grid: {ants: [4, 8], greediness: [0.0]}}\n"
    )  # one setting more on two problems
    assert len(parse_spec(overlapping).runs()) == len(first) + 2 * 4
    for entry in ("random", "{agent: ga, sample: 4}"):
        with pytest.raises(ArchGymError, match="twice"):
            parse_spec(SPEC + f"  - {entry}\n")


@pytest.mark.parametrize("command", ["describe", "run"])
def test_an_objective_that_there_is_not_is_refused_before_there_is_a_file(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(
        "budget: 5\nproblems: [synthetic/branin, {problem: synthetic/branin, objective: lost}]\nagents: [random]\n"
    )
    result = CliRunner().invoke(main, ["study", command, "bad.yaml"])
    assert result.exit_code == 2 and "unknown objective of synthetic 'lost'" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_samples_come_from_the_declared_ranges():
    settings = [h for agent, h, _ in parse_spec(SPEC).settings if agent == "sa"]
    assert all(4 <= h["chains"] <= 8 and h["cooling"] == 0.9 for h in settings)
    wide = parse_spec("budget: 5\nproblems: [synthetic/branin]\nagents: [{agent: aco, sample: 50}]")
    floors = [h["floor"] for _, h, _ in wide.settings]
    # Log-uniform over 1e-4 .. 1: half of the draws lie below 1e-2.
    assert 12 < sum(value < 0.01 for value in floors) < 38
    assert len({h["ants"] for _, h, _ in wide.settings}) > 20


def test_a_number_as_grid_takes_levels_of_every_range():
    spec = parse_spec("budget: 5\nproblems: [synthetic/branin]\nagents: [{agent: walk, grid: 3}]")
    assert len(spec.settings) == 27
    assert {h["walkers"] for _, h, _ in spec.settings} == {1, 32, 1024}


def test_a_problem_may_have_a_smaller_budget_than_the_study():
    text = "budget: 50\nagents: [random, {agent: ga, budget: 5}]\nproblems: [synthetic/branin, {problem: synthetic/rugged, budget: 20}]"
    budgets = {(run.problem, run.agent): run.budget for run in parse_spec(text).runs()}
    assert budgets == {
        ("synthetic/branin", "random"): 50, ("synthetic/rugged", "random"): 20,
        ("synthetic/branin", "ga"): 5, ("synthetic/rugged", "ga"): 5,
    }  # fmt: skip
    with pytest.raises(ArchGymError, match="the budget of synthetic/rugged"):
        parse_spec(text.replace("budget: 20", "budget: -1"))


def test_problems_may_combine_workloads():
    text = "budget: 5\nagents: [random]\nproblems: [systolic/resnet50+2*vgg16, soc/all, dram/train]"
    assert [run.problem for run in parse_spec(text).runs()] == ["systolic/resnet50+2*vgg16", "soc/all", "dram/train"]
    with pytest.raises(ArchGymError, match="unknown workload of systolic 'vgg61'; did you mean 'vgg16'"):
        parse_spec(text.replace("vgg16", "vgg61"))


def test_a_study_cut_short_is_balanced():
    runs = parse_spec(SPEC).runs()
    head = runs[: len(runs) // 4]
    assert {run.seed for run in head} == {0}
    assert {run.agent for run in head[:8]} == {"random", "ga", "aco", "sa"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("budget: 120", "budget: -1"), "budget of the study is -1; expected a whole number >= 1"),
        (("budget: 120", "budgt: 120"), "did you mean 'budget'"),
        (("agent: ga", "agent: gaa"), "did you mean 'ga'"),
        (("synthetic/separable", "synthetic/separabel"), "did you mean 'separable'"),
        (("ants: [4, 32]", "ants: [0]"), "hyperparameter ants is 0; expected 1..1024"),
        (("chains: [4, 8]", "chain: [4, 8]"), "did you mean 'chains'"),
        (("seeds: 4", "seeds: x"), "seeds of the study is 'x'"),
        (("agents:", "agents: x\nignored:"), "agents of the study is 'x'; expected a list"),
        (("name: small", "name: [small"), "is not YAML at line"),
        (("seeds: 4", "seeds: 4\nlog: all"), "unknown log"),
        (("seeds: 4", "seeds: 4\nseeds: 5"), "holds the key 'seeds' twice"),
        (("seeds: 4", "seeds: 100000000"), "seeds of the study is 100000000"),
        (("chains: [4, 8]", "chains: [4, .inf]"), "not finite"),
        (("chains: [4, 8]", "chains: [4, 8000000]"), "the range of chains of sa"),
        (("name: small", "name: ../../small"), "name of the study"),
        (("ants: [4, 32]", "ants: []"), "the grid of ants of aco in the study is empty"),
        (("[0.0, 0.5]}", "[0.0, 0.5]}, ranges: {ants: 7}"), "stands beside a fixed value, 7"),
        (("[0.0, 0.5]}", "[0.0, 0.5]}, ranges: {ants: [4, 8]}"), "used by nothing"),
    ],
)
def test_mistakes_are_told_in_one_sentence(change, sentence):
    with pytest.raises(ArchGymError) as error:
        parse_spec(SPEC.replace(*change))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_the_ready_studies_are_what_the_docs_promise():
    assert {"lottery-small", "lottery-paper"} <= set(ready_studies())
    assert len(load_spec("lottery-paper").runs()) >= 21_600
    with pytest.raises(ArchGymError, match="did you mean 'lottery-small'"):
        load_spec("lottery-smal")


def test_a_record_that_contradicts_itself_is_refused(serial):
    row = next(row for row in serial.results() if len(row["curve"]) > 2)
    assert checked(row, RunRecord, "the line").best == row["best"]
    first, second = row["curve"][:2]
    tied = [first, [first[0], second[1]], *row["curve"][2:]]  # two steps of parts of one evaluation
    assert checked({**row, "curve": tied}, RunRecord, "the line").curve[1][0] == first[0]
    for change, words in (
        ({"best": row["best"] + 0.1}, "rewards do not rise to the run's best"),
        ({"best": None}, "rewards do not rise to the run's best"),
        ({"curve": [second, first, *row["curve"][2:]]}, "evaluations do not rise"),
        ({"curve": [[first[0], second[1]], [second[0], first[1]], *row["curve"][2:]]}, "rewards do not rise"),
        ({"evaluations": row["curve"][-1][0] - 1}, "evaluations do not rise"),
        ({"seed": row["seed"] + 1}, "name does not fit"),
    ):
        with pytest.raises(ArchGymError, match=words):
            checked({**row, **change}, RunRecord, "the line")


# --- executors ------------------------------------------------------------------------------------------------------


def test_processes_give_the_same_records_and_trials_as_serial(serial, tmp_path):
    result = run_study(parse_spec(SPEC), tmp_path / "p", executor=make_executor("processes:2"))
    assert records(result.study) == records(serial)
    assert trials(result.study) == trials(serial)


def test_threads_are_limited_inside_and_restored_outside():
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    with thread_limit(1):
        code = "import numpy, threadpoolctl; print(max([p['num_threads'] for p in threadpoolctl.threadpool_info()] or [1]))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"
    assert before == {name: os.environ.get(name) for name in THREAD_VARIABLES}


def test_a_bad_run_is_a_failed_record_and_does_not_end_the_study(tmp_path, monkeypatch):
    from archgym.agents.genetic import GeneticAlgorithm

    monkeypatch.setattr(GeneticAlgorithm, "propose", lambda *args: 1 / 0)
    result = run_study(parse_spec(SPEC), tmp_path)
    assert len(result.failed) == 32 and result.done == result.runs - 32
    assert result.failed[0]["error"].startswith("ZeroDivisionError")
    monkeypatch.undo()
    again = run_study(parse_spec(SPEC), tmp_path, resume=True)
    assert again.new == 32 and again.done == again.runs and not again.failed


def test_unknown_executors_are_refused():
    with pytest.raises(ArchGymError, match="did you mean 'processes'"):
        make_executor("process")
    with pytest.raises(ArchGymError, match="processes:N"):
        make_executor("processes:many")


class DiesOnce(ProcessExecutor):
    """Kills one of its own workers after some records."""

    def run(self, runs, study, name, logs):
        for i, record in enumerate(super().run(runs, study, name, logs)):
            yield record
            if i == 10:
                os.kill(next(iter(children())), signal.SIGKILL)


def children():
    """Workers of a process pool of this process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as cmdline:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == os.getpid() and "spawn_main" in cmdline.read():
                    yield int(pid)
        except OSError:
            continue


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_a_killed_worker_loses_nothing(serial, tmp_path):
    result = run_study(parse_spec(SPEC), tmp_path, executor=DiesOnce(2))
    assert result.done == result.runs and not result.failed
    assert records(result.study) == records(serial)
    assert trials(result.study) == trials(serial)


def test_results_passed_on_compressed_are_read_and_gone_on_with(serial, tmp_path):
    lines = serial.results_path.read_text().splitlines(keepends=True)
    for name in ("study.yaml", "problems.jsonl"):
        (tmp_path / name).write_text((serial.folder / name).read_text())
    with gzip.open(tmp_path / "results.jsonl.gz", "wt") as file:
        file.writelines(lines[:50])
    assert len(Results.load(tmp_path).runs) == 50
    result = run_study(parse_spec(SPEC), tmp_path, resume=True)
    assert result.new == len(lines) - 50
    assert records(result.study) == records(serial)
    with open(tmp_path / "results.jsonl.gz", "rb+") as file:
        file.truncate(200)
    with pytest.raises(ArchGymError, match="truncated"):
        Results.load(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_study_goes_on_to_the_same_results(serial, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    command = [sys.executable, "-m", "archgym", "study", "run", str(spec), "--out", str(tmp_path / "s"), "--json"]
    killed = subprocess.Popen(
        [*command, "--executor", "processes:2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    results = tmp_path / "s" / "results.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not results.exists() or results.read_bytes().count(b"\n") < 5):
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    before = results.read_bytes().count(b"\n")
    assert 5 <= before < 88, "the study ended before it could be killed"
    # A torn line, as a power loss may leave one.
    with open(results, "ab") as file:
        file.write(b'{"run": "synthetic-separable/ga-')
    again = subprocess.run([*command, "--executor", "serial", "--resume"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["done"] == told["runs"] == 88 and told["new"] <= 88 - before
    study = Study(tmp_path / "s")
    assert records(study) == {run: {**row, "study": "small"} for run, row in records(serial).items()}
    assert trials(study) == trials(serial)


def test_progress_counts_what_a_limit_leaves(tmp_path):
    shown = io.StringIO()
    spec = parse_spec(SPEC)
    result = run_study(spec, tmp_path / "s", limit=0, console=Console(file=shown, width=120, force_terminal=True))
    assert result.done == 0
    assert f"0/{len(spec.runs())}" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())


def test_an_existing_study_is_not_overwritten(serial, tmp_path):
    with pytest.raises(ArchGymError, match="add --resume"):
        run_study(parse_spec(SPEC), serial.folder)
    with pytest.raises(ArchGymError, match="holds the study 'small', not 'other'"):
        run_study(parse_spec(SPEC.replace("name: small", "name: other")), serial.folder, resume=True)
    assert run_study(parse_spec(SPEC), serial.folder, resume=True).new == 0


def test_a_study_goes_on_with_the_trials_of_a_smaller_budget(tmp_path, monkeypatch):
    spec = SPEC.replace("seeds: 4", "seeds: 2")
    small, large = (parse_spec(spec.replace("budget: 120", f"budget: {budget}")) for budget in (70, 120))
    whole = run_study(large, tmp_path / "whole").study
    run_study(small, tmp_path / "grown")
    run_study(small, tmp_path / "other")
    simulated = []
    evaluate = Synthetic.evaluate
    monkeypatch.setattr(
        Synthetic, "evaluate", lambda self, d, *a, **k: (simulated.append(len(d)), evaluate(self, d, *a, **k))[1]
    )
    result = run_study(large, tmp_path / "grown", resume=True)
    # The yardstick of a problem, the account of none: what was simulated is what the budgets differ by.
    assert result.new == len(large.runs()) and sum(simulated) == 50 * len(large.runs())
    both = trials(result.study)
    assert {run: rows for run, rows in both.items() if "-b120-" in run} == trials(whole)
    assert {run for run in both if "-b70-" in run} == {f"runs/{run.id}.arrows" for run in small.runs()}
    mine = {run: row for run, row in records(result.study).items() if "-b120-" in run}
    assert mine == records(whole)
    counted = Results.load(result.study.folder)
    assert len(counted.runs) == len(large.runs()) and {run.budget for run in counted.runs} == {120}
    # A shard that does not fit is left alone, and everything simulated anew.
    for path in (tmp_path / "other").rglob("*.arrows"):
        path.write_bytes(path.read_bytes()[:200])
    again = run_study(large, tmp_path / "other", resume=True)
    assert not again.failed
    for path in (tmp_path / "other").rglob("*-b70-*.arrows"):
        path.unlink()
    assert trials(again.study) == trials(whole)


@pytest.mark.slow
@pytest.mark.stress  # tests/suites/test_ray.py has a dozen runs
def test_ray_gives_the_same_trials_when_a_node_dies_in_the_middle(serial, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from archgym.studies.ray_executor import RayExecutor

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    died = []

    def kill_one(record):
        if not died and len(seen) >= 10:
            cluster.remove_node(second, allow_graceful=False)
            died.append(True)
        seen.append(record)

    seen = []
    try:
        assert ray.cluster_resources()["CPU"] == 2
        result = run_study(parse_spec(SPEC), tmp_path, executor=RayExecutor(), on_record=kill_one)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert died and result.done == result.runs and not result.failed
    assert records(result.study) == records(serial)
    assert trials(result.study) == trials(serial)


# --- the summary ----------------------------------------------------------------------------------------------------


def test_regret_is_measured_from_the_known_optimum(serial):
    results = Results.load(serial.folder)
    assert results.best_known["synthetic-separable"] == pytest.approx(
        serial.problems()["synthetic-separable"]["optimum"]
    )
    for problem in results.keys:
        for agent in results.agents:
            for runs in results.settings(problem, agent).values():
                final = results.final(runs)
                assert ((0 <= final) & (final <= 1)).all()
                assert (results.final(runs, 10) >= final).all()


def test_tuned_settings_are_judged_on_seeds_they_were_not_chosen_by(serial):
    results = Results.load(serial.folder)
    name, held_out = results.tuned("synthetic-separable", "ga")
    assert [run.seed for run in held_out] == [1, 3]
    settings = results.settings("synthetic-separable", "ga")
    chosen = {k: np.median(results.final([r for r in runs if r.seed in (0, 2)])) for k, runs in settings.items()}
    assert chosen[name] == min(chosen.values())


def test_a_seed_that_only_some_settings_have_run_decides_nothing():
    # The better setting comes last in the order of runs, and its last seed is still to come.
    made = made_up(lambda agent, problem, setting, seed: 0.4 - 0.1 * setting, seeds=5, without={(3, 4)})
    settings, (name, held_out) = made.settings("p", "ga"), made.tuned("p", "ga")
    assert name == list(settings)[3]
    assert [run.seed for run in held_out] == [1, 3]


def test_the_summary_is_whole_and_json_able(serial, tmp_path):
    summary = Results.load(serial.folder).summary()
    json.dumps(summary)
    assert {row["agent"] for row in summary["agents"]} == {"random", "ga", "aco", "sa"}
    assert summary["runs"] == 88 and summary["evaluations"] == 88 * 120
    verdicts = {claim["verdict"] for claim in summary["claims"]}
    assert len(summary["claims"]) == 4 and verdicts <= {"holds", "does not hold", "undecided"}
    # Two held-out seeds are too few to say who is better.
    assert summary["claims"][0]["verdict"] == "undecided"


def made_up(regret, problems=("p", "q"), settings=4, seeds=8, without=()):
    """A study whose normalised regrets are what ``regret(agent, problem, setting, seed)`` says; runs of (setting, seed)
    in ``without`` are still to come."""
    rows = [
        {
            "run": f"{problem}{agent}{setting}{seed}", "problem_key": problem, "agent": agent, "seed": seed,
            "hyperparameters": {"x": setting}, "budget": 100, "evaluations": 100, "best": -regret(agent, problem, setting, seed),
            "curve": [[1, -1.0], [90, -regret(agent, problem, setting, seed)]], "agent_s": 0.1, "simulation_s": 0.1,
        }
        for problem in problems for agent in ("ga", "aco", "re") for setting in range(settings) for seed in range(seeds)
        if (setting, seed) not in without
    ]  # fmt: skip
    return Results(rows, {p: {"optimum": 0.0, "random_median": -1.0} for p in problems})


def noise(seed):
    return 0.002 * ((7 * seed) % 5)


def verdicts(results):
    return [claim.verdict for claim in results.claims()]


def test_claims_hold_where_tuned_agents_are_equal_and_settings_matter():
    made = made_up(lambda agent, problem, setting, seed: 0.2 * setting + noise(seed))
    assert verdicts(made) == ["holds", "holds", "holds", "holds"]


def test_claims_fail_where_one_agent_wins_everywhere():
    worst = {"ga": 0.0, "aco": 0.3, "re": 0.6}
    made = made_up(lambda agent, problem, setting, seed: worst[agent] + 0.01 * setting + noise(seed))
    assert verdicts(made) == ["does not hold", "does not hold", "does not hold", "does not hold"]
    assert made.claims()[1].numbers["everywhere_best"] == ["ga"]


def test_no_agent_is_better_where_each_wins_somewhere():
    good = {"p": "ga", "q": "aco"}
    made = made_up(lambda agent, problem, setting, seed: (0.0 if good[problem] == agent else 0.4) + noise(seed))
    assert verdicts(made)[1] == "holds"


def test_the_commands_print_json_and_tables(tmp_path):
    spec = tmp_path / "s.yaml"
    spec.write_text(SPEC)
    runner = CliRunner()
    told = runner.invoke(
        main,
        ["study", "run", str(spec), "--out", str(tmp_path / "o"), "--executor", "serial", "--seeds", "2", "--json"],
    )
    assert told.exit_code == 0, told.output
    numbers = json.loads(told.stdout.splitlines()[-1])
    assert numbers["done"] == 44 and all(os.path.exists(path) for path in numbers["statistics"])
    shown = runner.invoke(main, ["study", "stats", str(tmp_path / "o")])
    assert shown.exit_code == 0 and "Claims" in shown.stdout
    listed = json.loads(runner.invoke(main, ["study", "list", "--json"]).stdout)
    assert "lottery-small" in [row["name"] for row in listed["studies"]]
    described = runner.invoke(main, ["study", "describe", "lottery-small"])
    assert "settings" in described.stdout
    for arguments in (["stats", str(tmp_path)], ["run", "nonsense"], ["stats", str(tmp_path / "none")]):
        bad = runner.invoke(main, ["study", *arguments])
        assert bad.exit_code == 2 and "Traceback" not in bad.output


@pytest.mark.parametrize(
    ("problem", "named"),
    [
        ("{problem: dram/sort, frobnicate: 3}", "frobnicate"),
        ("{problem: dram/sort, ranks: two}", "ranks"),
        ("{problem: dram/sort, space: wides}", "wides"),
        ("{problem: systolic/alexnet, fidelity: low}", "low"),
        ("{problem: dram/sort, workload_options: {request: 3}}", "request"),
        ("{problem: systolic/alexnet, clock_ghz: .inf}", "inf"),
    ],
)
def test_a_spec_is_described_only_with_options_that_are_there(problem, named):
    text = f"budget: 10\nproblems: [{problem}]\nagents: [random]\n"
    with pytest.raises(ArchGymError, match=named):
        parse_spec(text)
