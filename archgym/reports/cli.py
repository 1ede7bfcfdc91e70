"""``archgym report`` and ``archgym show``."""

from __future__ import annotations

__all__ = ()

import json
from pathlib import Path
from typing import Any

import click

from archgym.errors import ArchGymError, quote
from archgym.reading import parse_json


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="file to write [default: DIR/report.html]")
@click.option(
    "--trust",
    is_flag=True,
    help="also run the model files (torch:FILE.py:NAME, arch:FILE.py:NAME) that the trials name",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def report(folder: Path, out: Path | None, trust: bool, as_json: bool) -> None:
    """Write the self-contained HTML report of the runs in FOLDER."""
    from archgym.reports import write_report

    path = write_report(folder, out, trust=trust)
    click.echo(json.dumps({"report": str(path), "bytes": path.stat().st_size}) if as_json else f"report: {path}")


@click.command()
@click.argument("problem_name", metavar="PROBLEM")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="show the best design of a run's folder")
@click.option("--design", help="a design: JSON of parameter -> value, or of value indices")
@click.option("--option", "-o", multiple=True, metavar="NAME=VALUE", help="option of the simulator")
@click.option("--workload-option", "-w", multiple=True, metavar="NAME=VALUE", help="option of the workload")
@click.option("--space", help="design space of the simulator")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("."), show_default=True, help="folder for the pictures"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def show(
    problem_name: str,
    folder: Path | None,
    design: str | None,
    option: tuple[str, ...],
    workload_option: tuple[str, ...],
    space: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Draw a design of PROBLEM as SVG: a SoC's blocks and schedule, a memory controller's commands, an accelerator's
    energy. Without --run and --design the known optimum is drawn."""
    from archgym.console import parse_options
    from archgym.problem import make_problem
    from archgym.simulator import Simulator

    problem = make_problem(
        problem_name, space=space, workload_options=parse_options(workload_option), **parse_options(option)
    )
    if type(problem.simulator.stands_for).pictures is Simulator.pictures:
        raise ArchGymError(f"{problem.simulator.name} draws no pictures; try dram, soc or accelerator")
    row = _chosen_design(problem, folder, design)
    pictures = problem.simulator.pictures(row, problem.workload)
    if not pictures:
        raise ArchGymError("the design is infeasible, there is nothing to draw; choose another")
    paths = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for title, _, svg in pictures:
            path = out / f"{title.lower().replace(' ', '-')}.svg"
            path.write_text(svg, encoding="utf-8")
            paths.append(str(path))
    except OSError as error:
        from archgym.writing import unwritable

        raise unwritable(out, error) from None
    click.echo(json.dumps({"pictures": paths}) if as_json else "\n".join(paths))


def _chosen_design(problem: Any, folder: Path | None, design: str | None) -> Any:
    from archgym.reports.data import best_rows, design_in, load_report

    if folder is not None:
        reports = [report for report in load_report(folder) if report.name == problem.name]
        if not reports:
            raise ArchGymError(f"{folder} holds no run on {problem.name}; name the problem that was run")
        return design_in(problem, best_rows(reports[0])[0]["row"])
    if design is not None:
        try:
            given = parse_json(design, "it")
        except ArchGymError as error:
            raise ArchGymError(
                f"cannot read the design {quote(design)}; give JSON of parameter -> value, or of indices ({error})"
            ) from None
        return problem.space.encode(given) if isinstance(given, dict) else problem.space.check(given)
    if problem.optimum is None:
        raise ArchGymError(f"no optimum of {problem.name} is known; give --run or --design")
    return problem.space.encode(dict(problem.optimum.design))
