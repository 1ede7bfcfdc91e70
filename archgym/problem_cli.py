"""Options of commands that choose a problem, and the problem that they describe."""

from __future__ import annotations

__all__ = ()

from collections.abc import Mapping, Sequence
from typing import Any

import click

from archgym.console import parse_choices, parse_options
from archgym.errors import ArchGymError, quote
from archgym.problem import Problem, make_problem
from archgym.store.option import store_option


def problem_options(command: Any, option_names: Sequence[str] = ("--option", "-o")) -> Any:
    """Options that choose a problem, shared by the commands that take one; ``option_names`` where ``-o`` means something
    else."""
    for option in (
        click.option("--objective", help="objective text, e.g. edp, total_time_ns, energy_pj@total_time_ns<=50000"),
        click.option("--space", help="design space of the simulator"),
        click.option("--fidelity", help="fidelity of the simulator"),
        click.option("--simulator", help="stand-in: proxy:FILE or the name of another back-end"),
        click.option("--requests", type=int, help="window of a memory trace: its first N requests (0 = all)"),
        click.option("--workload-option", "-w", multiple=True, metavar="NAME=VALUE", help="option of the workload"),
        click.option(*option_names, multiple=True, metavar="NAME=VALUE", help="option of the simulator"),
        click.option("--fix", multiple=True, metavar="NAME=VALUE", help="parameter with the one value that it takes"),
        store_option,
        click.option("--only", multiple=True, metavar="NAME=A,B,C", help="parameter with the values that it may take"),
    ):
        command = option(command)
    return command


_FLAGS = {
    **{name: f"--{name} VALUE" for name in ("objective", "space", "fidelity", "simulator")},
    **{"fix": "--fix NAME=VALUE", "only": "--only NAME=A,B", "workload_options": "-w NAME=VALUE"},
    "name": "it as the problem's name",
}
"""What :func:`make_problem` takes beside a simulator's options -> how the command line says it."""


def chosen_problem(
    name: str,
    objective: str | None,
    space: str | None,
    fidelity: str | None,
    simulator: str | None,
    requests: int | None,
    workload_option: tuple[str, ...],
    option: tuple[str, ...],
    fix: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    references: Mapping[str, float] | None = None,
) -> Problem:
    """The problem that the shared options describe; ``references`` as of :func:`make_problem`, where no option gives them."""
    workload_options = parse_options(workload_option)
    if requests is not None:
        if "requests" in workload_options:
            raise ArchGymError("--requests and -w requests=... say the same; give one of them")
        workload_options["requests"] = requests
    options = parse_options(option)
    for taken, flag in _FLAGS.items():
        if taken in options:
            raise ArchGymError(
                f"-o {taken}={quote(options[taken], 40, marks=False)} has a flag of its own; write {flag}"
            )
    if references is not None:
        options.setdefault("references", references)
    return make_problem(
        name,
        objective=objective,
        space=space,
        fidelity=fidelity,
        simulator=simulator,
        workload_options=workload_options,
        fix=parse_choices(fix, "--fix"),
        only={name: text.split(",") for name, text in parse_choices(only, "--only").items()},
        **options,
    )
