"""``archgym suite list | describe | run | score | cost | verify | pack | board | lottery | measure``."""

from __future__ import annotations

__all__ = ()

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from archgym.console import Number, print_json, print_table
from archgym.errors import ArchGymError, all_different
from archgym.store.option import store_option

out = Console()
err = Console(stderr=True)


@click.group()
def suite() -> None:
    """Versioned sets of problems on which results are comparable, and entries that are simulated again."""


@suite.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_(as_json: bool) -> None:
    """The suites that come with the package."""
    from archgym.suites.suite import load_suite, ready_suites

    rows: list[dict[str, Any]] = []
    for name in ready_suites():
        loaded = load_suite(name)
        rows.append(
            {
                "name": loaded.name, "version": loaded.version, "problems": len(loaded.problems), "seeds": loaded.seeds,
                "budgets": list(loaded.budgets), "description": loaded.description,
            }
        )  # fmt: skip
    if as_json:
        print_json({"suites": rows})
        return
    table = Table("suite", "version", "problems", "seeds", "evaluations", Column("about", overflow="fold"))
    for row in rows:
        budgets = ", ".join(f"{budget:,}" for budget in row["budgets"])
        table.add_row(
            row["name"], str(row["version"]), str(row["problems"]), str(row["seeds"]), budgets, row["description"]
        )
    print_table(out, table)


@suite.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def describe(name: str, as_json: bool) -> None:
    """The problems of suite NAME (or a YAML file), what each is measured against and how hard it is.

    N is the number of uniform draws after which random search has an even chance of a normalised regret of 1 %.
    """
    from archgym.suites.suite import load_suite, ready_suites

    loaded = load_suite(name)
    if name not in ready_suites():
        loaded.check_problems()
    if as_json:
        import dataclasses

        print_json({**dataclasses.asdict(loaded), "fingerprint": loaded.fingerprint} | {"text": None})
        return
    out.print(f"[bold]{loaded.name}[/bold] version {loaded.version}: {loaded.description}", highlight=False)
    out.print(
        f"{len(loaded.problems)} problems x {loaded.seeds} seeds, scored after "
        + ", ".join(f"{budget:,}" for budget in loaded.budgets)
        + " evaluations",
        highlight=False,
    )
    table = Table(
        Column("problem", overflow="fold"), Column("N", justify="right"), Column("95 % interval", justify="right"),
        Column("median", justify="right"), Column("best", justify="right"), "scale", "best from",
    )  # fmt: skip
    for problem in loaded.problems:
        known = problem.known
        if known is None:
            table.add_row(problem.title, "not measured", "", "", "", problem.scale, "")
            continue
        high = "" if known.draws_high is None else f"{known.draws_high:,.0f}"
        source = "exhaustive" if known.best.exhaustive else f"{len(known.best.methods)} x {known.best.evaluations:,}"
        table.add_row(
            problem.title, f"{'> ' if known.draws_high is None else ''}{known.draws:,.0f}",
            f"{known.draws_low:,.0f} to {high}" if high else "", f"{known.baseline:.5g}", f"{known.best.reward:.5g}",
            problem.scale, source,
        )  # fmt: skip
    print_table(out, table)


@suite.command()
@click.argument("name")
@click.option("--agent", help="a registered agent, or module:Class of your own")
@click.option("--command", help="a program of your own that searches (see archgym.suites.given_runs)")
@click.option("--called", help="what the entry of --command is called [the program's name]")
@click.option(
    "--hyper", multiple=True, metavar="NAME=VALUE", help="hyperparameter in place of the default (repeatable)"
)
@click.option("--budget", "budget", type=int, help="evaluations of a run, one of the suite's budgets [the largest]")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="folder of the entry [out/NAME-AGENT]")
@click.option("--executor", default="processes", show_default=True, help="serial, processes[:N] or ray[:ADDRESS]")
@click.option("--workers", type=int, help="processes or actors [all processors]")
@click.option("--resume", is_flag=True, help="go on with the entry in the folder")
@click.option("--max-minutes", type=Number(min=0), help="start no more runs after so long")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@store_option
def run(
    name: str,
    agent: str | None,
    command: str | None,
    called: str | None,
    hyper: tuple[str, ...],
    budget: int | None,
    folder: Path | None,
    executor: str,
    workers: int | None,
    resume: bool,
    max_minutes: float | None,
    as_json: bool,
) -> None:
    """Run an agent, or a program of your own, on every problem and seed of suite NAME, then verify and score it."""
    from archgym.console import parse_options
    from archgym.studies.executors import make_executor
    from archgym.suites.entry import run_command, run_entry
    from archgym.suites.suite import load_suite

    loaded = load_suite(name)
    if (agent is None) == (command is None):
        raise ArchGymError("give --agent (one of 'archgym list', or module:Class) or --command, one of the two")
    if called is not None and agent is not None:
        raise ArchGymError("--called belongs to --command; an agent goes by its own name")
    if command is not None and not command.strip():
        raise ArchGymError("--command is empty; give the command line of a program that asks for given_runs()")
    label = agent or called or Path(str(command).split()[-1]).stem
    folder = folder or Path("out") / f"{loaded.name}-{label.replace(':', '-')}"
    if command is not None:
        context = click.get_current_context()
        for flag in ("hyper", "executor", "workers", "max_minutes"):
            if context.get_parameter_source(flag) is not click.core.ParameterSource.DEFAULT:
                raise ArchGymError(
                    f"--{flag.replace('_', '-')} belongs to --agent; a program of your own takes what its command line says"
                )
        done, runs = run_command(loaded, folder, command, label, budget=budget, resume=resume, aside=as_json)
        failed: list[Any] = []
    else:
        result = run_entry(
            loaded, folder, str(agent), parse_options(hyper), budget=budget, executor=make_executor(executor, workers, 1),
            resume=resume, console=None if as_json else err,
            max_seconds=60 * max_minutes if max_minutes is not None else None,
        )  # fmt: skip
        done, runs, failed = result.done, result.runs, result.failed
    numbers: dict[str, Any] = {"suite": loaded.name, "folder": str(folder), "runs": runs, "done": done}
    if not as_json:
        for row in failed[:5]:
            err.print(f"failed: {row['run']}: {row['error']}", markup=False, soft_wrap=True)
        out.print(f"{done:,} of {runs:,} runs done; entry: {folder}", soft_wrap=True, highlight=False)
    if done == runs and loaded.measured:
        numbers["score"] = _verified_score(loaded, folder, as_json)
    elif done == runs and not as_json:
        out.print("no score: the suite is not measured yet; 'archgym suite measure' does that", highlight=False)
    if as_json:
        print_json(numbers)
    if failed or done < runs:
        raise SystemExit(1)


def _verified_score(loaded: Any, folder: Path, as_json: bool, **options: Any) -> dict[str, Any]:
    from archgym.progress import count_progress
    from archgym.suites.score import score
    from archgym.suites.verify import verify

    runs = len(loaded.problems) * loaded.seeds
    with count_progress(err, "runs", enabled=not as_json) as follow:
        verified = verify(loaded, folder, progress=lambda done: follow(done, runs), **options)
    if loaded.measured:
        result = score(loaded, verified)
    else:
        about = {"suite": loaded.name, "version": loaded.version, "agent": verified.entry.name}
        result = {**about, "outside": verified.entry.outside, "holds": verified.holds, "runs": len(verified.runs)}
        verified.notes.append("no score: the suite is not measured yet; 'archgym suite measure' does that")
    result["findings"] = [vars(finding) for finding in verified.findings]
    result["simulated"], result["repeated"], result["notes"] = verified.simulated, verified.repeated, verified.notes
    if not as_json:
        _print_score(loaded, result)
    return result


def _print_score(loaded: Any, result: dict[str, Any]) -> None:
    for finding in result["findings"][:10]:
        out.print(
            f"[red]{finding['kind']}[/red] {finding['run']}:", finding["sentence"], soft_wrap=True, highlight=False
        )
    if result["findings"]:
        out.print(
            f"[red]refused[/red]: {len(result['findings'])} of {loaded.seeds * len(loaded.problems)} runs do not hold"
        )
        return
    out.print(
        f"{result['agent']} holds: {result['simulated']:,} designs simulated again, {result['repeated']} run(s) repeated",
        highlight=False,
    )
    for note in result["notes"]:
        out.print(note, highlight=False)
    if "score" not in result:
        return
    table = Table(
        Column("problem", overflow="fold"), *(Column(f"{b:,}", justify="right") for b in result["budgets"]), "meets"
    )
    for row in result["problems"].values():
        cells = ["-" if cell is None else f"{cell[0]:.4f}" for cell in row["regret"].values()]
        meets = "" if row["meets"] is None else f"{list(row['meets'].values())[-1]:.0%}"
        table.add_row(row["title"], *cells, meets)
    table.add_section()
    cells = [f"{value:.4f}\n[{low:.4f}, {high:.4f}]" for value, low, high in result["at"].values()]
    table.add_row("interquartile mean", *cells, "")
    out.print("Normalised regret (0 best known, 1 median random design), median over seeds, by evaluations")
    print_table(out, table)


@suite.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--sample", type=click.IntRange(min=0), default=64, show_default=True, help="trials of a run to simulate again"
)
@click.option(
    "--repeat", type=click.IntRange(min=0), default=1, show_default=True, help="runs that the agent does again"
)
@click.option("--seed", type=click.IntRange(min=0), help="draws the trials and runs, to look at the same again [none]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@store_option
def verify(name: str, folder: Path, sample: int, repeat: int, seed: int | None, as_json: bool) -> None:
    """Simulate the entry in FOLDER again and refuse by name what does not come out as it says; exit code 1 then.

    The best designs, every improvement and a random sample are simulated; budgets, order and versions are checked.
    """
    from archgym.suites.suite import load_suite

    result = _verified_score(load_suite(name), folder, as_json, sample=sample, repeat=repeat, seed=seed)
    if as_json:
        print_json(result)
    if result["findings"]:
        raise SystemExit(1)


@suite.command("score")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@store_option
def score_(name: str, folder: Path, as_json: bool) -> None:
    """The score of the entry in FOLDER; every improvement is simulated again on the way."""
    from archgym.suites.suite import load_suite

    loaded = load_suite(name)
    loaded.check_measured()
    result = _verified_score(loaded, folder, as_json, sample=0, repeat=0)
    if as_json:
        print_json(result)
    if result["findings"]:
        raise SystemExit(1)


@suite.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option("--at", type=click.IntRange(min=1), help="as good as OTHER after so many evaluations [at the end]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@store_option
def cost(name: str, folder: Path, other: Path, at: int | None, as_json: bool) -> None:
    """What the entry in FOLDER needs to be as good as the entry in OTHER is, problem by problem (medians)."""
    from archgym.suites.score import cost_to_match, mean_ratio
    from archgym.suites.suite import load_suite
    from archgym.suites.verify import verify as verify_entry

    loaded = load_suite(name)
    loaded.check_measured()
    found = [verify_entry(loaded, path, sample=0, repeat=0) for path in (folder, other)]
    for path, verified in zip((folder, other), found, strict=True):
        if not verified.holds:
            raise ArchGymError(f"{path} does not hold: {verified.findings[0].sentence}"[:300])
    rows = cost_to_match(loaded, found[0], found[1], at)
    ratio = mean_ratio(rows) if rows else None
    for row in rows:
        del row["ratios"]
    half = sum(row["needs"] is not None and 2 * row["needs"] <= row["budget"] for row in rows)
    names = [verified.entry.name for verified in found]
    if as_json:
        both = {"suite": loaded.name, "entry": names[0], "other": names[1]}
        print_json({**both, "problems": rows, "at_most_half": half, "mean_ratio": ratio})
        return
    table = Table(
        Column("problem", overflow="fold"), Column(f"{names[1]} {f'after {at:,}' if at else 'at the end'}", justify="right"),
        Column(f"{names[0]} at half of that", justify="right"), Column(f"{names[0]} needs", justify="right"),
        Column(f"{names[1]} needed", justify="right"),
    )  # fmt: skip
    for row in rows:
        needs = "more" if row["needs"] is None else f"{row['needs']:,}" + ("" if at else f" of {row['budget']:,}")
        half_way = "-" if row["half"] is None else f"{row['half']:.4f}"
        table.add_row(row["title"], f"{row['other']:.4f}", half_way, needs, f"{row['other_needs']:,}")
    print_table(out, table)
    out.print(
        f"{names[0]} is as good as {names[1]} for at most half the cost on {half} of {len(rows)} problems.",
        highlight=False,
    )
    if ratio:
        out.print(
            f"Geometric mean of the cost to what {names[1]} needed itself: {ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}], "
            "2 or more where it is never as good.",
            highlight=False,
        )


@suite.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", "target", type=click.Path(path_type=Path), required=True, help="folder of the packed entry")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def pack(name: str, folder: Path, target: Path, as_json: bool) -> None:
    """Verify the entry in FOLDER and write what it amounts to: the improvements of its runs, some kilobytes."""
    from archgym.suites.packing import pack as pack_entry
    from archgym.suites.suite import load_suite

    made = pack_entry(load_suite(name), folder, target)
    if as_json:
        print_json(made)
        return
    out.print(
        f"{made['runs']:,} runs, {made['steps']:,} improvements, {made['bytes']:,} bytes: {target}",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


@suite.command()
@click.argument("name")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--out", "page", type=click.Path(path_type=Path, dir_okay=False), default=Path("board.html"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def board(name: str, folders: tuple[Path, ...], page: Path, as_json: bool) -> None:
    """Write a static page of the entries in FOLDERS; those that do not hold are named and left out."""
    from archgym.reports.board import write_board
    from archgym.suites.suite import load_suite

    loaded = load_suite(name)
    loaded.check_measured()
    all_different([folder.resolve() for folder in folders], "the list of entries")
    made = write_board(loaded, folders, page, console=None if as_json else err)
    if as_json:
        print_json(made)
        return
    table = Table("entry", "score", "95 % interval", "mean rank")
    for row in made["entries"]:
        value, low, high = row["score"]
        said = "outside, packed" if row["packed"] else "outside"
        shown = f"{row['agent']} ({said})" if row["outside"] else row["agent"]
        table.add_row(shown, f"{value:.4f}", f"[{low:.4f}, {high:.4f}]", f"{row['rank']:.2f}")
    print_table(out, table)
    for row in made["refused"]:
        out.print(f"[red]refused[/red] {row['folder']}:", row["reason"], soft_wrap=True, highlight=False)
    out.print(f"board: [bold]{page}[/bold]")


@suite.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def lottery(name: str, folder: Path, as_json: bool) -> None:
    """Which claims of the ArchGym paper hold in the study in FOLDER on the scale of suite NAME, and on each problem alone."""
    from archgym.suites.lottery import judge
    from archgym.suites.suite import load_suite

    made = judge(load_suite(name), folder)
    if as_json:
        print_json(made)
        return
    out.print(
        f"{made['study']} on the scale of {made['suite']}: {made['runs']:,} runs, {made['seeds']} seeds",
        highlight=False,
    )
    for claim in made["claims"]:
        out.print(
            f"[bold]{claim['verdict'].upper()}[/bold]: {claim['claim']}\n    {claim['evidence']}", highlight=False
        )
    if not made["problems"][0]["claims"]:
        return
    table = Table(
        Column("problem alone", overflow="fold"), "best tuned agent", "worst",
        *(Column(claim["claim"], overflow="fold") for claim in made["problems"][0]["claims"]),
    )  # fmt: skip
    for row in made["problems"]:
        order = sorted(row["tuned"], key=lambda agent: row["tuned"][agent])
        table.add_row(
            row["title"], *(f"{agent} {row['tuned'][agent]:.3f}" for agent in (order[0], order[-1])),
            *(claim["verdict"] for claim in row["claims"]),
        )  # fmt: skip
    print_table(out, table)


@suite.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--samples", type=click.IntRange(min=100), help="uniform designs a problem [as the file says]")
@click.option("--seeds", type=click.IntRange(min=1), help="seeds they are drawn over [as the file says]")
@click.option("--methods", help="agents that look for the best design [as the file says]")
@click.option(
    "--evaluations", type=click.IntRange(min=0), help="evaluations of each; 0 keeps the known best [as the file says]"
)
@click.option("--only", help="measure only problems whose title holds this text")
@click.option("--missing", is_flag=True, help="measure only problems that were not measured yet")
@click.option("--like", help="take over what another suite measured of the same problems on the same scale")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@store_option
def measure(
    path: Path,
    samples: int | None,
    seeds: int | None,
    methods: str | None,
    evaluations: int | None,
    only: str | None,
    missing: bool,
    like: str | None,
    as_json: bool,
) -> None:
    """Measure the problems of the suite in the YAML file PATH and write what is known of each into it."""
    from dataclasses import replace

    from archgym.agents.base import load_agent
    from archgym.suites.measure import measure as measure_problem
    from archgym.suites.measure import take_over
    from archgym.suites.suite import load_suite, ready_suites
    from archgym.suites.writing import write_suite

    if not path.is_file() and str(path) in ready_suites():
        raise ArchGymError(f"{path} comes with the package, measured; give a YAML file of your own to write into")
    loaded = load_suite(path)
    if only is not None and not any(only in problem.title for problem in loaded.problems):
        titles = "; ".join(problem.title for problem in loaded.problems)
        raise ArchGymError(f"--only {only!r} is in the title of no problem of {loaded.name}: {titles}")
    names = None
    if methods is not None:
        names = tuple(all_different((name.strip() for name in methods.split(",") if name.strip()), "--methods"))
        for method in names:
            load_agent(method)
    given: dict[str, Any] = {"samples": samples, "seeds": seeds, "evaluations": evaluations, "methods": names}
    given = {key: value for key, value in given.items() if value is not None}
    measuring = [replace(problem.measuring, **given) for problem in loaded.problems]
    problems = list(loaded.problems)
    if like is not None:
        problems = take_over(problems, load_suite(like))
        write_suite(path, loaded, problems)
    measured = []
    for i, problem in enumerate(list(problems)):
        if (only is not None and only not in problem.title) or (missing and problem.known is not None):
            continue
        how = measuring[i]
        with err.status(f"measuring {problem.title}") if not as_json else _nothing():
            problems[i] = measure_problem(
                problem, samples=how.samples, seeds=how.seeds, methods=how.methods, evaluations=how.evaluations,
                command=f"archgym suite measure {path.name} --methods {','.join(how.methods)} "
                f"--evaluations {how.evaluations}",
            )  # fmt: skip
        # Written after every problem: a long measurement that is killed keeps what it has.
        write_suite(path, loaded, problems)
        known = problems[i].known
        assert known is not None
        measured.append(
            {"problem": problem.title, "draws": known.draws, "baseline": known.baseline, "best": known.best.reward}
        )
        if not as_json:
            out.print(
                f"{problem.title}: N {known.draws:,.0f}, median {known.baseline:.6g}, best {known.best.reward:.6g}"
            )
    if as_json:
        print_json({"suite": loaded.name, "measured": measured})


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()
