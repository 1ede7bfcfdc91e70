"""``archgym study run | stats | list | describe``."""

from __future__ import annotations

__all__ = ()

import itertools
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from archgym.console import Number, print_json, print_table
from archgym.errors import ArchGymError
from archgym.files import kept_beside
from archgym.locating import following
from archgym.store.option import store_option
from archgym.studies.spec import LOGS, load_spec, ready_studies

out = Console()
err = Console(stderr=True)


@click.group()
def study() -> None:
    """Many runs: agents x hyperparameters x problems x seeds, and their statistics."""


@study.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_(as_json: bool) -> None:
    """The studies that come with the package."""
    rows: list[dict[str, Any]] = []
    for name in ready_studies():
        spec = load_spec(name)
        rows.append({"name": name, "runs": len(spec.runs()), "budget": spec.budget, "description": spec.description})
    if as_json:
        print_json({"studies": rows})
        return
    table = Table("study", "runs", "evaluations a run", "about")
    for row in rows:
        table.add_row(row["name"], f"{row['runs']:,}", f"{row['budget']:,}", row["description"])
    print_table(out, table)


@study.command()
@click.argument("spec")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def describe(spec: str, as_json: bool) -> None:
    """The runs that SPEC (a ready study's name or a YAML file) stands for."""
    loaded = load_spec(spec)
    if spec not in ready_studies():
        loaded.check_problems()
    runs = loaded.runs()
    if as_json:
        print_json({"name": loaded.name, "runs": [{"run": run.id, **run.as_dict()} for run in runs]})
        return
    out.print(f"[bold]{loaded.name}[/bold]: {loaded.description}")
    out.print(
        f"{len(runs):,} runs = {len(loaded.problems)} problems x {len(loaded.settings)} settings x {len(loaded.seeds)} "
        f"seeds, {sum(run.budget for run in runs):,} evaluations"
    )
    table = Table("agent", "settings", "evaluations a run")
    for agent in dict.fromkeys(agent for agent, _, _ in loaded.settings):
        own = [(setting, budget) for name, setting, budget in loaded.settings if name == agent]
        table.add_row(agent, str(len(own)), ", ".join(sorted({f"{budget:,}" for _, budget in own})))
    print_table(out, table)


@study.command()
@click.argument("spec")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="folder for the results [out/study-NAME]")
@click.option("--executor", default="processes", show_default=True, help="serial, processes[:N] or ray[:ADDRESS]")
@click.option("--workers", type=int, help="processes or actors [all processors]")
@click.option("--threads", type=int, default=1, show_default=True, help="threads a worker may use")
@click.option("--resume", is_flag=True, help="go on with the study in the folder")
@click.option("--limit", type=int, help="do at most so many runs")
@click.option("--max-minutes", type=Number(min=0), help="start no more runs after so long")
@click.option("--budget", type=int, help="evaluations a run, in place of the spec's")
@click.option("--seeds", type=int, help="number of seeds, in place of the spec's")
@store_option
@click.option("--log", type=click.Choice(LOGS), help="one shard of trials a run, or none, in place of the spec's")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def run(
    spec: str,
    folder: Path | None,
    executor: str,
    workers: int | None,
    threads: int,
    resume: bool,
    limit: int | None,
    max_minutes: float | None,
    budget: int | None,
    seeds: int | None,
    log: str | None,
    as_json: bool,
) -> None:
    """Run SPEC (a ready study's name or a YAML file), then print its statistics.

    Every finished run is kept at once; after a kill or a power loss, the same command with --resume goes on.
    """
    from archgym.studies.executors import make_executor
    from archgym.studies.study import run_study

    loaded = _changed(load_spec(spec), budget, seeds, log)
    folder = folder or Path("out") / f"study-{loaded.name}"
    made = make_executor(executor, workers, threads)
    try:
        with following(kept_beside(folder.glob("runs/*/*")) if resume else ()):
            result = run_study(
                loaded,
                folder,
                executor=made,
                resume=resume,
                limit=limit,
                max_seconds=60 * max_minutes if max_minutes is not None else None,
                console=None if as_json else err,
            )
    except KeyboardInterrupt:
        err.print(f"stopped; archgym study run {spec} --out {folder} --resume goes on", soft_wrap=True)
        raise SystemExit(130) from None
    numbers = {
        "study": loaded.name,
        "folder": str(folder),
        "runs": result.runs,
        "done": result.done,
        "new": result.new,
        "failed": len(result.failed),
        "seconds": result.seconds,
        "evaluations": result.evaluations,
        "from_store": result.from_store,
        "evaluations_per_s": result.evaluations_per_s,
        "results": str(result.study.results_path),
    }
    if not as_json:
        for row in result.failed[:5]:
            err.print(f"failed: {row['run']}: {row['error']}", markup=False, soft_wrap=True)
        answered = f", {result.from_store:,} of them from the store" if result.from_store else ""
        out.print(
            f"{result.done:,} of {result.runs:,} runs done, {result.new:,} now, in {result.seconds:,.0f} s "
            f"({result.evaluations_per_s:,.0f} evaluations/s{answered})"
        )
    if result.done:
        summary, written = _statistics(folder)
        numbers["statistics"] = [str(path) for path in written]
        numbers["claims"] = summary["claims"]
        if not as_json:
            _print_summary(summary)
            out.print(f"written: {folder / 'statistics'}")
    if as_json:
        print_json(numbers)
    if result.failed:
        raise SystemExit(1)


def _changed(spec: Any, budget: int | None, seeds: int | None, log: str | None) -> Any:
    """The spec with what the command line says in place of its own, and its text likewise."""
    import yaml

    from archgym.reading import parse_yaml
    from archgym.studies.spec import parse_spec

    changes = {key: value for key, value in (("budget", budget), ("seeds", seeds), ("log", log)) if value is not None}
    if not changes:
        return spec
    data = parse_yaml(spec.text) | changes | {"name": spec.name}
    return parse_spec(yaml.safe_dump(data, sort_keys=False), spec.name)


@study.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def stats(folder: Path, as_json: bool) -> None:
    """Statistics of the study in FOLDER: tables with intervals, and which of the paper's claims hold."""
    summary, written = _statistics(folder)
    if as_json:
        print_json({**summary, "written": [str(path) for path in written]})
        return
    _print_summary(summary)
    out.print(f"written: {folder / 'statistics'}")


def _statistics(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    from archgym.studies.summary import Results, write_tables
    from archgym.writing import unwritable

    if not folder.is_dir():
        raise ArchGymError(f"{folder} does not exist; give the folder of 'archgym study run'")
    summary = Results.load(folder).summary()
    try:
        return summary, write_tables(summary, folder / "statistics")
    except OSError as error:
        raise unwritable(folder, error) from None


def _interval(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if low == low else f"{value:.3f}"


def _print_summary(summary: dict[str, Any]) -> None:
    out.print(
        f"\n[bold]{summary['study']}[/bold]: {summary['runs']:,} runs, {summary['evaluations']:,} evaluations. Regret is "
        "normalised: 0 = optimum (or best known), 1 = median random design; IQM with 95 % bootstrap interval."
    )
    table = Table("agent", "settings", "runs", "budget", "tuned (held-out seeds)", "any setting", "agent us/evaluation")
    for row in sorted(summary["agents"], key=lambda row: row["tuned_regret_iqm"][0]):
        table.add_row(
            row["agent"], str(row["settings"]), str(row["runs"]), f"{row['budget']:,}",
            _interval(row["tuned_regret_iqm"]), _interval(row["untuned_regret_iqm"]),
            f"{row['agent_us_per_evaluation']:,.0f}",
        )  # fmt: skip
    print_table(out, table)
    # Long names are folded, not cut: they differ in what follows the simulator's name.
    table = Table(
        Column("problem", overflow="fold"), "agent", "tuned regret", "best setting", "median", "worst",
        "within 0.05 of best", "best of 4 draws",
    )  # fmt: skip
    for problem, group in itertools.groupby(summary["by_problem"], key=lambda row: row["problem"]):
        rows = [row for row in group if row["lottery_settings"] > 1]
        for i, row in enumerate(rows):
            table.add_row(
                problem if i == 0 else "", row["agent"], f"{row['tuned_regret'][0]:.3f}", f"{row['lottery_best']:.3f}",
                f"{row['lottery_median']:.3f}", f"{row['lottery_worst']:.3f}", f"{row['lottery_tickets']:.0%}",
                f"{row['lottery_expected_best'].get('4', float('nan')):.3f}", end_section=i == len(rows) - 1,
            )  # fmt: skip
    if table.row_count:
        out.print("The lottery: normalised regret over hyperparameter settings (median over seeds)")
        print_table(out, table)
    ranked = summary["ranks"]
    if ranked["mean_ranks"]:
        order = sorted(ranked["mean_ranks"].items(), key=lambda item: item[1])
        line = ", ".join(f"{agent} {rank:.2f}" for agent, rank in order)
        test = (
            f"; Friedman p = {ranked['p_value']:.3g}, critical difference {ranked['critical_difference']:.2f}"
            if "p_value" in ranked
            else " (no test below ten problems)"
        )
        out.print(f"Mean ranks over {ranked['problems']} problems: {line}{test}")
    if summary["claims"]:
        out.print("\n[bold]Claims of the ArchGym abstract, in this study[/bold]")
        for claim in summary["claims"]:
            out.print(f"[bold]{claim['verdict'].upper()}[/bold]: {claim['claim']}\n    {claim['evidence']}")
