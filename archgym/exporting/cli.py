"""``archgym export``, ``archgym import`` and ``archgym compare``."""

from __future__ import annotations

__all__ = ()

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from archgym.console import print_json, print_table
from archgym.datasets.shards import find_shards
from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.files import kept_beside
from archgym.locating import following
from archgym.problem import Problem
from archgym.problem_cli import chosen_problem, problem_options
from archgym.quantities import quantity

out = Console()


@click.command()
@click.argument("source", metavar="RUN|DATASET|PROBLEM")
@partial(problem_options, option_names=("--option",))
@click.option(
    "--design", "which", default="best", show_default=True, help="best, the number of a trial, JSON, or a file"
)
@click.option("--to", "to", help="format [default: list those that fit]")
@click.option("-o", "--out", "folder", type=click.Path(path_type=Path), help="folder for the files [export-FORMAT]")
@click.option(
    "--trust", is_flag=True, help="run the program that the trials name, where they are of a model of your own"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def export(
    source: str, which: str, to: str | None, folder: Path | None, trust: bool, as_json: bool, **options: Any
) -> None:
    """Write a design as files of another tool: the best of a run's folder or dataset, or of a PROBLEM.

    What the format cannot say is listed in the README beside the files.
    """
    from archgym.exporting.base import export as write
    from archgym.exporting.base import formats_for
    from archgym.exporting.source import from_trials, of_problem
    from archgym.registry import EXPORTERS

    if Path(source).exists():
        problem, design = from_trials(Path(source), which, trust)
    else:
        problem = _problem_named(source, **options)
        design = of_problem(problem, which) if to is not None else {}
    formats = formats_for(problem.name.partition("/")[0])
    if to is None:
        rows = {name: EXPORTERS.load(name).title for name in formats}
        if as_json:
            print_json({"problem": problem.name, "formats": rows})
            return
        table = Table("format", "for")
        for name, title in rows.items():
            table.add_row(name, title)
        print_table(out, table)
        return
    folder = folder or Path(f"export-{to}")
    written = write(problem, design, to, folder)
    if as_json:
        print_json({"problem": problem.name, "format": to, "out": str(folder), "design": design, **vars(written)})
        return
    table = Table(Column("file", overflow="fold"), Column("content", overflow="fold"))
    for name, what in written.files.items():
        table.add_row(escape(name), escape(what))
    print_table(out, table)
    for sentence in written.unsaid:
        out.print(f"not said: {escape(sentence)}", highlight=False)
    out.print(f"files: [bold]{escape(str(folder))}[/bold]")
    if written.command:
        out.print(f"start: {escape(written.command)}", highlight=False, soft_wrap=True)


def _problem_named(source: str, **options: Any) -> Problem:
    """The problem of that name; what looks like none may have been meant as a path."""
    none = ArchGymError(f"there is no folder or file {quote(source)}, nor a problem of that name; give a run's or one")
    if source.startswith(("/", ".", "~")):
        raise none
    try:
        return chosen_problem(source, **options)
    except UnknownNameError as error:
        if error.kind == "simulator" and error.nearest is None:
            raise none from None
        raise


@click.command(name="import")
@click.argument("name", metavar="PROBLEM")
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@partial(problem_options, option_names=("--option",))
@click.option("--from", "from_", help="format of the file [default: recognised by its content]")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="write the design to this YAML file")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def import_(name: str, path: Path, from_: str | None, out: Path | None, as_json: bool, **options: Any) -> None:
    """Read a configuration of another tool as a design of PROBLEM: the nearest one, with what was rounded and what has no
    place in it.

    The file that -o writes is one for --design of the other commands.
    """
    from archgym.exporting.importing import import_design
    from archgym.writing import write_text, yaml_text

    problem = chosen_problem(name, **options)
    imported = import_design(problem, path, from_)
    if out is not None:
        write_text(out, yaml_text({"design": imported.design}))
    evaluation, rewards = problem.evaluate(problem.space.encode(imported.design), seed=0)
    feasible, violation = bool(evaluation.feasible[0]), str(evaluation.violation[0])
    if as_json:
        found = {"problem": problem.name, "reward": float(rewards[0]), "feasible": feasible, "violation": violation}
        print_json({**found, **vars(imported), "out": str(out) if out else None})
        return
    console = Console()
    table = Table("parameter", "value", "unit")
    for parameter in problem.space.parameters:
        table.add_row(parameter.name, str(imported.design[parameter.name]), parameter.unit)
    print_table(console, table)
    for sentence in imported.sentences:
        console.print(escape(sentence), highlight=False)
    if not feasible:
        console.print(f"the design is infeasible: {escape(violation)}", highlight=False)
    if out is not None:
        console.print(f"design: [bold]{escape(str(out))}[/bold]")


@click.command()
@click.argument("name", metavar="PROBLEM")
@problem_options
@click.option(
    "--design",
    "which",
    required=True,
    help="JSON, a JSON or YAML file (parameter -> value), or a configuration of another tool",
)
@click.option("--from", "from_", help="format of the design's file [default: recognised by its content]")
@click.option(
    "--with",
    "other",
    default="best",
    show_default=True,
    help="best known (or of uniform designs), a run's folder, JSON, a file",
)
@click.option(
    "--samples", type=click.IntRange(min=10), default=2000, show_default=True, help="uniform designs to rank it by"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def compare(name: str, which: str, from_: str | None, other: str, samples: int, as_json: bool, **options: Any) -> None:
    """Put a design of your own beside the best, metric by metric, and say how much of the space is better."""
    from archgym.exporting.source import compared, design_of_file, from_trials, of_problem

    shards = find_shards(Path(other)) if other != "best" and Path(other).is_dir() else []
    with following(kept_beside(shards)) if shards else nullcontext():
        problem = chosen_problem(name, **options)
    mine, imported = design_of_file(which, problem, from_)
    best: dict[str, Any] | None = None
    unknown = not shards and other == "best" and problem.optimum is None
    if shards:
        found, best = from_trials(Path(other), "best")
        if found.space.names != problem.space.names:
            raise ArchGymError(f"{other} holds runs on other parameters than {problem.name} has")
        against = f"the best of {other}"
    elif unknown:
        against = f"the best of {samples:,} uniform designs"
    else:
        best, against = of_problem(problem, other), "the best known" if other == "best" else "the design given"
    result = compared(problem, mine, best, samples) | {"against": against}
    if as_json:
        print_json(result | ({} if imported is None else {"imported": vars(imported)}))
        return
    for sentence in imported.sentences if imported is not None else ():
        out.print(escape(sentence), highlight=False)
    table = Table(
        Column("metric", overflow="fold"),
        "better",
        *(Column(name, justify="right") for name in ("yours", "best", "ratio")),
    )
    for metric, row in result["metrics"].items():
        if row["direction"] != "none":
            ratio = row["design"] / row["best"] if row["best"] else float("nan")
            better = "lower" if row["direction"] == "min" else "higher"
            table.add_row(
                metric, better, quantity(row["design"], row["unit"], 5), quantity(row["best"], row["unit"], 5),
                "-" if ratio != ratio else f"{ratio:.3f}",
            )  # fmt: skip
    print_table(out, table)
    if result["differs"]:
        table = Table("parameter", "yours", "best")
        for parameter, (a, b) in result["differs"].items():
            table.add_row(parameter, str(a), str(b))
        print_table(out, table)
    if unknown:
        out.print(
            f"best: {against}; no better one ships with the simulator (--with RUN for a search's)", highlight=False
        )
    if not result["feasible"]:
        out.print(f"your design is infeasible: {escape(result['violation'])}")
    out.print(
        f"reward {result['reward']:.4f} against {result['best_reward']:.4f} ({escape(problem.objective.name)}, higher is "
        f"better); {100 * result['better_share']:.2f} % of {samples:,} uniform designs are better than yours",
        highlight=False,
    )
