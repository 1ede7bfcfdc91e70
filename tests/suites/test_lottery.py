"""What a study says of the hyperparameter lottery on the scale of a suite."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.studies import load_spec, parse_spec, run_study
from archgym.studies.summary import Results
from archgym.suites import Suite, load_suite, parse_suite
from archgym.suites.lottery import SuiteResults, judge
from archgym.suites.measure import measure
from archgym.suites.scale import normalised
from archgym.suites.writing import suite_text

SUITE = """
name: small
version: 1
budgets: [20, 60]
seeds: 2
problems:
- {problem: synthetic/branin, budget: 20}
- {problem: synthetic/packing, scale: log, unit: 0.5, meets: -22}
"""
STUDY = """
name: tickets
budget: 60
seeds: 6
problems: [{problem: synthetic/branin, budget: 20}, synthetic/packing, synthetic/ackley]
agents:
- random
- {agent: ga, sample: 4}
- {agent: sa, sample: 4}
log: none
"""


@pytest.fixture(scope="module")
def suite() -> Suite:
    loaded = parse_suite(SUITE)
    problems = [
        measure(p, samples=2000, seeds=4, methods=["ga", "re", "local"], evaluations=300) for p in loaded.problems
    ]
    return parse_suite(suite_text(loaded, problems))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lottery") / "study"
    result = run_study(parse_spec(STUDY), folder)
    assert result.done == result.runs == 3 * 9 * 6
    return folder


def test_a_problem_with_a_budget_of_its_own_is_part_of_the_statistics(study: Path) -> None:
    results = Results.load(study)
    assert len(results.runs) == 3 * 9 * 6 and len(results.keys) == 3
    assert {run.budget for run in results.runs if run.problem == "synthetic-branin"} == {20}
    assert {run.budget for run in results.runs if run.problem != "synthetic-branin"} == {60}
    gaps = next(claim for claim in results.claims() if "samples" in claim.claim).numbers["gap"]
    assert list(gaps) == ["6", "20", "60"]


def test_regret_is_that_of_the_suite(suite: Suite, study: Path) -> None:
    rows = [row for row in Results.load(study).runs if row.problem == "synthetic-packing"]
    results = SuiteResults(suite, [json.loads(line) for line in (study / "results.jsonl").read_text().splitlines()])
    assert results.keys == ["synthetic-branin", "synthetic-packing"]
    rewards = [run.best for run in rows]
    packing = suite.problems[1]
    assert np.array_equal(results.regret("synthetic-packing", rewards), normalised(packing, rewards))
    assert results.regret("synthetic-packing", [packing.known.best.reward, packing.known.baseline]).tolist() == [0, 1]


def test_claims_are_judged_over_the_suite_and_on_each_problem_alone(suite: Suite, study: Path) -> None:
    made = judge(suite, study)
    assert (made["study"], made["runs"], made["seeds"]) == ("tickets", 2 * 9 * 6, 6)
    assert len(made["claims"]) == 4 and [row["problem"] for row in made["problems"]] == [p.key for p in suite.problems]
    for row in made["problems"]:
        assert len(row["claims"]) == 3 and set(row["tuned"]) == {"random", "ga", "sa"}
        medians = [row["tuned"][agent] for agent in ("ga", "sa")]
        lottery = next(claim for claim in row["claims"] if "lottery" in claim["claim"])
        assert lottery["numbers"]["agent_spread"] == pytest.approx(max(medians) - min(medians))
    assert [row["budget"] for row in made["problems"]] == [20, 60]


def test_the_command_prints_the_claims(suite: Suite, study: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(suite_text(suite, suite.problems))
    shown = CliRunner().invoke(main, ["suite", "lottery", str(path), str(study)])
    assert shown.exit_code == 0 and "tickets on the scale of small: 108 runs, 6 seeds" in shown.output, shown.output
    answer = CliRunner().invoke(main, ["suite", "lottery", str(path), str(study), "--json"])
    assert json.loads(answer.stdout)["problems"][0]["title"] == "synthetic/branin"
    missing = CliRunner().invoke(main, ["suite", "lottery", str(path), str(tmp_path)])
    assert missing.exit_code == 2 and "holds no study" in missing.output
    with pytest.raises(ArchGymError, match="no finished run on a problem of the suite archgym-mo"):
        judge(load_suite("archgym-mo"), study)


def test_the_study_of_the_suite_has_its_problems_and_the_settings_of_the_small_lottery() -> None:
    spec, small, suite = load_spec("lottery-suite"), load_spec("lottery-small"), load_suite("archgym-8")
    assert spec.settings == small.settings and (spec.budget, spec.seeds) == (small.budget, small.seeds)
    assert {run.problem_key for run in spec.runs()} == {problem.key for problem in suite.problems}


def test_the_page_says_what_the_shipped_results_say() -> None:
    root = Path(__file__).parents[2]
    made = judge(load_suite("archgym-8"), root / "data" / "lottery-suite")
    assert (made["runs"], made["seeds"]) == (1968, 6)
    verdicts = [claim["verdict"] for claim in made["claims"]]
    assert verdicts == ["does not hold", "holds", "does not hold", "does not hold"]
    page = (root / "docs" / "lottery.md").read_text(encoding="utf-8").partition("## lottery-suite")[2]
    for row in made["agents"]:
        tuned = "{:.3f} [{:.3f}, {:.3f}]".format(*row["tuned_regret_iqm"])
        assert f"| `{row['agent']}` | {row['settings']} | {row['runs']} | {tuned} |" in page
    for row in made["problems"]:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{row['title']}` |"))
        assert line.endswith("| " + " | ".join(claim["verdict"] for claim in row["claims"]) + " |")
