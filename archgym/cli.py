"""The command line: ``archgym list | describe | run | enumerate | validate | bench | study | ...``."""

from __future__ import annotations

__all__ = ()

import importlib
import importlib.util
import io
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archgym._version import __version__
from archgym.account import Account, account_for
from archgym.announcing import duration
from archgym.caching import announce_compilation
from archgym.console import parse_options, print_json, print_table
from archgym.errors import ArchGymError, UnknownNameError, all_different, check_seed
from archgym.files import kept_beside
from archgym.locating import following
from archgym.measure import default_reference
from archgym.options import Option
from archgym.problem import Problem, option_table, parse_name, workload_option_table
from archgym.problem_cli import chosen_problem, problem_options
from archgym.quantities import quantity, unit_name
from archgym.registry import AGENTS, BENCHES, CELL_AGENTS, OBJECTIVES, SIMULATORS, VALIDATORS
from archgym.simulator import Simulator
from archgym.threads import usable_cores
from archgym.writing import finite

out = Console()
err = Console(stderr=True)


class Commands(click.Group):
    """A group whose bad-input errors are one sentence and exit code 2, and whose sub-groups are imported lazily."""

    lazy: Mapping[str, str] = {
        "study": "archgym.studies.cli:study",
        "suite": "archgym.suites.cli:suite",
        "dataset": "archgym.datasets.cli:dataset",
        "proxy": "archgym.proxies.cli:proxy",
        "policy": "archgym.agents.cli:policy",
        "store": "archgym.store.cli:store",
        "export": "archgym.exporting.cli:export",
        "import": "archgym.exporting.cli:import_",
        "compare": "archgym.exporting.cli:compare",
        "report": "archgym.reports.cli:report",
        "show": "archgym.reports.cli:show",
        "ui": "archgym.ui.cli:ui",
        "nas": "archgym.simulators.nas.cli:nas",
        "llm": "archgym.simulators.llm.cli:llm",
        "serve": "archgym.serve.cli:serve",
        "doctor": "archgym.doctor:doctor",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *(name for name in self.lazy if self._exists(name))])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        known = super().get_command(ctx, name)
        if known is not None or name not in self.lazy or not self._exists(name):
            return known
        module, _, attribute = self.lazy[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def _exists(self, name: str) -> bool:
        return importlib.util.find_spec(self.lazy[name].partition(":")[0]) is not None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            raise UnknownNameError("command", args[0], self.list_commands(ctx)) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # A terminal that lacks a character shows a question mark in its place.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        given = kwargs.get("args", args[0] if args else None)
        with announce_compilation("--json" not in (sys.argv if given is None else given)):
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ArchGymError as error:
            err.print(f"archgym: {error}", markup=False, highlight=False, soft_wrap=True)
            sys.exit(2)
        except OSError as error:
            # A full disk or a file that vanished: what was written before stays.
            where = f"{error.filename}: " if error.filename else ""
            err.print(f"archgym: {where}{error.strerror or error}", markup=False, highlight=False, soft_wrap=True)
            sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="archgym")
def main() -> None:
    """Design hardware with machine learning: simulators, search agents, datasets, proxies and studies."""


# --- looking around ----------------------------------------------------------------------------------------------


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_(as_json: bool) -> None:
    """List the problems, agents and environments."""
    from archgym.envs.registration import ENVIRONMENTS

    rows = []
    for name in SIMULATORS:
        cls = SIMULATORS.load(name)
        simulator = cls()
        rows.append(
            {
                "simulator": name,
                "version": cls.version,
                "workloads": list(simulator.workloads()),
                "live_workloads": _live_workloads(simulator),
                "spaces": list(cls.spaces),
                "fidelities": list(cls.fidelities),
                "default_objective": cls.default_objective,
                "environment": next((env for env, kind in ENVIRONMENTS.items() if kind == name), None),
            }
        )
    if as_json:
        print_json(
            {
                "simulators": rows,
                "agents": list(AGENTS),
                "cell_agents": list(CELL_AGENTS),
                "objectives": list(OBJECTIVES),
            }
        )
        return
    out.print("problems are <simulator>/<workload>")
    for row in rows:
        where = f", {row['environment']}" if row["environment"] else ""
        out.print(f"\n[bold]{row['simulator']}[/bold]  objective {row['default_objective']}{where}", highlight=False)
        out.print("  spaces: " + ", ".join(row["spaces"]), highlight=False)
        out.print("  workloads: " + _shortened(row["workloads"]), highlight=False)
        if row["live_workloads"]:
            out.print("  of these trained live, seconds to minutes a design: " + ", ".join(row["live_workloads"]),
                      highlight=False)  # fmt: skip
    out.print("")
    out.print("agents: " + ", ".join(AGENTS))
    out.print("agents of neural cells with data: " + ", ".join(CELL_AGENTS))
    out.print("look closer with 'archgym describe dram/gzip' or 'archgym describe ga'", highlight=False)


def _live_workloads(simulator: Simulator) -> list[str]:
    """The workloads whose designs are trained by default."""
    if type(simulator).live is Simulator.live:
        return []  # without loading them
    return [name for name, workload in simulator.workloads().items() if simulator.live(workload) is not None]


def _shortened(names: list[str], most: int = 12) -> str:
    """The first names and how many there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all; see --json)"


@main.command()
@click.argument("name")
@problem_options
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def describe(name: str, as_json: bool, **options: Any) -> None:
    """Describe a problem (dram/gzip) or an agent (ga)."""
    if (name in AGENTS or name in CELL_AGENTS) and "/" not in name:
        _describe_agent(name, as_json)
        return
    problem = chosen_problem(name, **options)
    space, workload = problem.space, problem.workload
    optimum = problem.optimum
    live = problem.simulator.live(workload, problem.fidelity)
    canonical = sum(1 for _ in space.inactive)
    if as_json:
        print_json(
            {
                "problem": problem.name,
                "workload": {
                    "name": workload.name,
                    "description": workload.description,
                    "features": workload.features(),
                },
                "objective": {"name": problem.objective.name, "description": problem.objective.description},
                "objectives": list(problem.simulator.objectives(workload)),
                "default_objective": dict(
                    zip(("name", "rule"), problem.simulator.objective_for(workload), strict=True)
                ),
                "space": {
                    "name": problem.simulator.space_name,
                    "designs": space.size,
                    "parameters": [
                        {"name": p.name, "values": list(p.values), "ordered": p.ordered, "unit": p.unit,
                         "description": p.description} for p in space.parameters
                    ],
                    "constraints": {c.name: c.sentence for c in space.constraints},
                },
                "metrics": [vars(metric) for metric in problem.metrics],
                "live": None if live is None else {"seconds": live.seconds, "what": live.what},
                "optimum": None if optimum is None else vars(optimum),
                "remarks": [] if optimum is None else list(problem.simulator.remarks(optimum.design)),
                "account": workload.account(),
                "options": _options_json(option_table(problem.simulator)),
                "workload_options": _options_json(workload_option_table(problem)),
            }
        )  # fmt: skip
        return
    out.print(f"[bold]{escape(problem.name)}[/bold]  {escape(workload.description)}")
    out.print(f"objective [bold]{escape(problem.objective.name)}[/bold]: {escape(problem.objective.description)}")
    if live is not None:
        out.print(f"[yellow]live:[/yellow] {live.what}, about {duration(live.seconds)} each", highlight=False)
    default, because = problem.simulator.objective_for(workload)
    if because:
        chosen = "the default here" if default == problem.objective.name else f"the default here is {default}"
        out.print(escape(f"{chosen}: {because}"))
    own = list(problem.simulator.objectives(workload))
    if own:
        out.print("other objectives: " + escape(", ".join(own)))
    out.print(f"space [bold]{problem.simulator.space_name}[/bold]: {space.size:,} designs" if space.size < 10**15
              else f"space [bold]{problem.simulator.space_name}[/bold]: {space.size:.3g} designs")  # fmt: skip
    table = Table()
    for column in ("parameter", "values", "unit", "meaning"):
        table.add_column(column, overflow="fold")
    for p in space.parameters:
        shown = list(map(str, p.values))
        values = ", ".join(shown if len(shown) <= 12 else [*shown[:6], "...", *shown[-3:]])
        table.add_row(p.name, f"{values} ({len(shown)})", unit_name(p.unit), escape(p.description))
    print_table(out, table)
    _print_options("-o", option_table(problem.simulator))
    _print_options("-w", workload_option_table(problem))
    for c in space.constraints:
        out.print(f"constraint [bold]{c.name}[/bold]: {escape(c.sentence)}")
    if canonical:
        for rule in space.inactive:
            out.print(f"[bold]{rule.parameter}[/bold] can be inactive: {escape(rule.sentence)}")
    table = Table()
    for column in ("metric", "unit", "better", "meaning"):
        table.add_column(column, overflow="fold")
    better = {"min": "lower", "max": "higher", "none": "-"}
    for metric in problem.metrics:
        table.add_row(metric.name, unit_name(metric.unit), better[metric.direction], escape(metric.description))
    print_table(out, table)
    if optimum is not None:
        what = "known optimum (exhaustive)" if optimum.exhaustive else "best known"
        out.print(f"{what}: reward {optimum.reward:.6f} with " + escape(str(dict(optimum.design))))
        _print_remarks(problem, optimum.design)
    account = workload.account()
    if account:
        table = Table()
        for column in ("workload", "value"):
            table.add_column(column, overflow="fold")
        for quantity, value in account.items():
            table.add_row(quantity, escape(value))
        print_table(out, table)


def _print_remarks(problem: Problem, design: Mapping[str, Any]) -> None:
    for remark in problem.simulator.remarks(design):
        out.print(f"[yellow]note:[/yellow] {escape(remark)}")


def _options_json(known: Mapping[str, Option]) -> dict[str, Any]:
    return {
        name: {"type": option.type_name, "default": option.default, "values": list(option.values)}
        for name, option in known.items()
    }


def _print_options(flag: str, known: Mapping[str, Option]) -> None:
    """What ``-o`` or ``-w`` takes, one option a line; the design space is chosen with ``--space``."""
    for name, option in known.items():
        if name != "space":
            values = ", ".join(map(str, option.values)) or option.type_name
            default = "" if option.default in (None, "") else f" (default {option.default})"
            out.print(escape(f"{flag} {name}={values}{default}"), soft_wrap=True, highlight=False)


@main.command(name="options")
@click.argument("name", metavar="SIMULATOR|PROBLEM")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def options_(name: str, as_json: bool) -> None:
    """What -o, -w, --space, --fidelity and --objective take, with values; nothing is simulated or read."""
    kind, workload = parse_name(name)
    if kind not in SIMULATORS:
        raise UnknownNameError("simulator", kind, SIMULATORS)
    simulator: Simulator = SIMULATORS.load(kind)()
    workload = workload or simulator.default_workload
    own, further = option_table(simulator), simulator.workload_options(workload) or {}
    # Those of a workload are its simulator's where it is a file that is not there yet.
    known = simulator.workloads().get(workload) or simulator.workloads()[simulator.default_workload]
    choices = {
        "space": simulator.spaces,
        "fidelity": simulator.fidelities,
        "objective": tuple(dict.fromkeys([*simulator.objectives(known), *OBJECTIVES])),
    }
    if as_json:
        rows = {flag: list(values) for flag, values in choices.items()}
        print_json({"problem": f"{kind}/{workload}", "options": _options_json(own),
                    "workload_options": _options_json(further), **rows})  # fmt: skip
        return
    _print_options("-o", own)
    _print_options("-w", further)
    for flag, values in choices.items():
        if values:
            out.print(escape(f"--{flag} {', '.join(values)}"), soft_wrap=True, highlight=False)


def _describe_agent(name: str, as_json: bool) -> None:
    from archgym.agents.base import hyperparameter_ranges, load_agent

    cls = load_agent(name)
    ranges = hyperparameter_ranges(cls)
    if as_json:
        print_json({"agent": name, "doc": cls.__doc__, "hyperparameters": ranges})
        return
    out.print(f"[bold]{name}[/bold]  {escape(' '.join((cls.__doc__ or '').split()))}")
    table = Table()
    for column in ("hyperparameter", "default", "range", "meaning"):
        table.add_column(column, overflow="fold")
    for key, about in ranges.items():
        span = ", ".join(map(str, about["choices"])) if about["choices"] else f"{about['low']}..{about['high']}"
        table.add_row(key, str(about["default"]), span, escape(about["doc"]))
    print_table(out, table)


# --- running -----------------------------------------------------------------------------------------------------


def positive(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    """A click callback: whole numbers from 1."""
    if value is not None and value < 1:
        raise ArchGymError(f"--{parameter.name} is {value}; expected a positive whole number")
    return value


@main.command()
@click.argument("problem_name", metavar="PROBLEM")
@problem_options
@click.option("--agent", "agents", default="random,walk,ga", show_default=True, help="agents, separated by commas")
@click.option("--hyper", multiple=True, metavar="[AGENT.]NAME=VALUE", help="hyperparameter (of one agent)")
@click.option(
    "--budget", type=int, default=1000, show_default=True, callback=positive, help="simulator evaluations a run"
)
@click.option(
    "--budget-seconds", type=float, help="virtual seconds a run; there is then no limit of evaluations but a --budget"
)
@click.option("--seed", type=int, default=0, show_default=True, help="first seed")
@click.option("--seeds", type=int, default=1, show_default=True, callback=positive, help="how many seeds an agent")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=None, help="folder for trials and results")
@click.option("--resume", is_flag=True, help="continue a run in --out: an interrupted one, or one with a larger budget")
@click.option(
    "--log-repeats", is_flag=True, help="log designs that an agent tried before, too; they are counted anyway"
)
@click.option("--report/--no-report", "with_report", default=False, help="write the HTML report beside the trials")
@click.option("--tensorboard", is_flag=True, help="log the curves of each run for TensorBoard, beside the trials")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def run(
    problem_name: str,
    agents: str,
    hyper: tuple[str, ...],
    budget: int,
    budget_seconds: float | None,
    seed: int,
    seeds: int,
    folder: Path | None,
    resume: bool,
    log_repeats: bool,
    with_report: bool,
    tensorboard: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search PROBLEM with one or more agents under equal budgets.

    PROBLEM is <simulator>/<workload>, for instance dram/gzip, dram/file:mine.stl for a file of your own, or
    accelerator/torch:my_model.py:net for a PyTorch model of your own (runs my_model.py); nas/arch:my_space.py:net
    for an architecture space of your own (runs my_space.py).
    """
    from archgym.agents import make_agent, search
    from archgym.evaluator import check_seconds
    from archgym.progress import RunProgress

    names = [name.strip() for name in agents.split(",") if name.strip()]
    if not names:
        raise ArchGymError("--agent is empty; name at least one agent, for instance --agent ga")
    all_different(names, "--agent")
    if seed < 0:
        raise ArchGymError(f"--seed is {seed}; expected a whole number from 0")
    check_seed(seed + seeds - 1)
    problem = _problem_of_run(problem_name, folder if resume else None, **options)
    limit: int | None = budget
    if budget_seconds is not None:
        check_seconds(budget_seconds, problem)
        if click.get_current_context().get_parameter_source("budget") is ParameterSource.DEFAULT:
            limit = None
    settings = {name: agent_hyperparameters(name, hyper, names) for name in names}
    for name in names:  # every name and value is checked before the first run starts
        make_agent(name, problem, seed, **settings[name])
    new = folder is None or not folder.exists()
    folder = folder or _new_folder(Path("runs"), f"{_file_name(problem.name)}-{time.strftime('%Y%m%d-%H%M%S')}")
    boards = folder / "tensorboard" if tensorboard else None
    results = []
    with _nothing_empty_left(folder, own=new), RunProgress(err, enabled=not as_json) as progress:
        for name in names:
            for s in range(seed, seed + seeds):
                agent = make_agent(name, problem, s, **settings[name])
                with progress.run(f"{name}, seed {s}", limit) as follow:
                    results.append(
                        search(
                            problem, agent, limit, budget_seconds=budget_seconds,
                            log=folder / "trials" / f"{name}-s{s}.arrows", resume=resume,
                            run=f"{name}-s{s}", on_trials=follow, tensorboard=boards and boards / f"{name}-s{s}",
                            log_repeats=log_repeats,
                        )
                    )  # fmt: skip
    best, account = _account(problem, results)
    alike = _alike(problem, results)
    summary = _summary(problem, results, limit, folder) | {"found": account.as_json(), "told_apart": not alike}
    if budget_seconds is not None:
        summary["budget_seconds"] = budget_seconds
    if boards is not None:
        summary["tensorboard"] = str(boards)
    _write_text(folder / "run.json", json.dumps(finite(summary), indent=1))
    if with_report:
        from archgym.reports import write_report

        summary["report"] = str(write_report(folder, trust=True))
    if as_json:
        print_json(summary)
        return
    _print_results(problem, results, best, account)
    if alike:
        out.print(f"[bold]{escape(alike)}[/bold]", highlight=False, soft_wrap=True)
    kept = sum(r.from_store for r in results)
    answered = f", {kept:,} of them answered by the store" if kept else ""
    spent, simulated = sum(r.evaluations for r in results), sum(r.simulated for r in results)
    each = f" in {simulated:,} of several fidelities" if simulated > spent else ""
    out.print(f"trials: [bold]{folder / 'trials'}[/bold]  ({spent:,} evaluations{each}{answered})")
    if boards is not None:
        out.print(f"curves: [bold]tensorboard --logdir {boards}[/bold]", soft_wrap=True)
    if with_report:
        out.print(f"report: [bold]{summary['report']}[/bold]")


def _problem_of_run(name: str, resumed: Path | None, **options: Any) -> Problem:
    """The problem of a run; where one is gone on with, made from the files that it was begun with."""
    if resumed is None:
        return chosen_problem(name, **options)
    with following(kept_beside([resumed / "trials" / "any"])):
        problem = chosen_problem(name, **options)
    for file, path in problem.files:
        if str(path) != file and Path(file).exists():
            err.print(
                f"{file} has changed since; the run goes on with what it was, {path}", markup=False, soft_wrap=True
            )
    return problem


def agent_hyperparameters(name: str, hyper: tuple[str, ...], names: list[str]) -> dict[str, Any]:
    """The hyperparameters meant for one agent: ``population=64`` for all, ``ga.population=32`` for that agent instead."""
    common, own = [], []
    for pair in hyper:
        left, _, _ = pair.partition("=")
        agent, dot, _ = left.partition(".")
        if not dot:
            common.append(pair)
        elif agent == name:
            own.append(pair[len(agent) + 1 :])
        elif agent not in names:
            raise UnknownNameError("agent of this run", agent, names)
    return parse_options(tuple(common)) | parse_options(tuple(own))


@contextmanager
def _nothing_empty_left(folder: Path, *, own: bool) -> Iterator[None]:
    """A run that is refused at its first design leaves no empty folder of trials, and none around it that is its ``own``."""
    try:
        yield
    except ArchGymError:
        for place in (folder / "trials", *([folder] if own else [])):
            with suppress(OSError):  # one that holds something stays
                place.rmdir()
        raise


def _new_folder(parent: Path, name: str) -> Path:
    """Make ``parent/name``, or ``name-2`` and so on where there is one: runs started in the same second keep apart."""
    from archgym.writing import unwritable

    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritable(folder, error) from None
    raise AssertionError


def _file_name(problem: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in problem)


def _write_text(path: Path, text: str) -> None:
    from archgym.writing import write_text

    write_text(path, text + "\n")


def _summary(problem: Problem, results: list[Any], budget: int | None, folder: Path) -> dict[str, Any]:
    optimum = problem.optimum
    runs = []
    for result in results:
        best = result.best
        runs.append(
            {
                "agent": result.agent.name,
                "hyperparameters": result.agent.p.as_dict(),
                "seed": result.seed,
                "reward": best.reward,
                "regret": result.regret,
                "quantile": None if optimum is None else optimum.quantile_of(best.reward),
                "evaluations": result.evaluations,
                "trials": result.trials,
                **({"cost": result.cost, "simulated": result.simulated} if result.agent.several_fidelities else {}),
                "from_store": result.from_store,
                "best_found_after": best.evaluations,
                "design": problem.space.decode(best.design)[0],
                "remarks": list(problem.simulator.remarks(problem.space.decode(best.design)[0])),
                "metrics": best.metrics,
                "virtual_s": result.virtual_s,
                "simulation_s": result.simulation_s,
                "agent_s": result.agent_s,
                "log": str(result.log),
            }
        )
    return {
        "problem": problem.name,
        "options": problem.options,
        "objective": problem.objective.name,
        "budget": budget,
        "optimum": None if optimum is None else vars(optimum),
        "runs": runs,
        "trials": sum(result.trials for result in results),
        "repeats": sum(result.trials - result.simulated for result in results),
        "out": str(folder),
        "dataset": str(folder / "trials"),
    }


def _print_results(problem: Problem, results: list[Any], best: Any, account: Account) -> None:
    optimum = problem.optimum
    table = Table(title=f"{escape(problem.name)}: {escape(problem.objective.name)}, higher reward is better")
    for column in ("agent", "seed", "best reward", "regret", "found after", "evaluations", "simulator", "agent"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for result in results:
        regret = "-" if result.regret is None else f"{result.regret:.4f}"
        table.add_row(
            result.agent.name, str(result.seed), f"{result.best.reward:.4f}", regret, f"{result.best.evaluations:,}",
            f"{result.evaluations:,}", quantity(result.simulation_s, "s", 3), quantity(result.agent_s, "s", 3),
        )  # fmt: skip
    if optimum is not None:
        what = "optimum" if optimum.exhaustive else "best known"
        table.add_row(what, "", f"{optimum.reward:.4f}", "0.0000", "", f"{optimum.designs:,}", "", "", style="dim")
    print_table(out, table)
    _print_best(problem, best, account)


def _account(problem: Problem, results: list[Any]) -> tuple[Any, Account]:
    """The best run, and what it found; of equal ones the one that a reader of the trials (``archgym export``) meets first."""
    best = max(sorted(results, key=lambda r: r.log), key=lambda r: r.best.reward)
    return best, account_for(problem, best.best.design, best.best.reward, best.best.metrics, best.agent.name)


def _alike(problem: Problem, results: list[Any]) -> str:
    """A sentence where the objective does not tell the designs of these runs apart; else empty."""
    import numpy as np

    from archgym.datasets.columns import to_numbers
    from archgym.datasets.dataset import at_own_fidelity
    from archgym.datasets.shards import read_shard
    from archgym.sensitivity import alike_sentence, told_apart

    rewards = [
        to_numbers(batch.column("reward"))[to_numbers(batch.column("feasible"))]
        for result in results
        for batch in map(at_own_fidelity, read_shard(result.log)[1])
    ]
    return "" if told_apart(problem, np.concatenate(rewards)) else alike_sentence(problem)


def _print_best(problem: Problem, best: Any, account: Account) -> None:
    """The best design and its metrics, beside the usual ones where there are any."""
    usual, usual_metrics = account.usual, account.usual_metrics
    table = Table(title=f"best design, by {best.agent.name}")
    table.add_column("parameter")
    for column in ("value", "usual", "usual in its place costs") if usual is not None else ("value",):
        table.add_column(column, justify="right")
    for p in problem.space.parameters:
        value = account.design[p.name]
        cells = ["any" if value is None else f"{value} {unit_name(p.unit)}".strip()]
        if usual is not None:
            cells += [f"{usual[p.name]} {unit_name(p.unit)}".strip(), account.cost(p.name)]
        table.add_row(p.name, *cells)
    table.add_section()
    for metric in problem.metrics:
        if metric.direction != "none":
            cells = [quantity(best.best.metrics[metric.name], metric.unit)]
            cells += [] if usual_metrics is None else [quantity(usual_metrics[metric.name], metric.unit), ""]
            table.add_row(metric.name, *cells)
    print_table(out, table)
    _print_remarks(problem, problem.space.decode(best.best.design)[0])
    out.print(f"[bold]{escape(account.sentence)}[/bold]", highlight=False, soft_wrap=True)


@main.command("enumerate")
@click.argument("problem_name", metavar="PROBLEM")
@problem_options
@click.option("--objectives", help="several objectives, separated by commas (one simulation serves all)")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=None, help="folder for the shards")
@click.option("--update", type=click.Path(path_type=Path, dir_okay=False), help="optima table to put the result into")
@click.option("--executor", default="serial", show_default=True, help="serial, processes[:N] or ray[:ADDRESS]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def enumerate_(
    problem_name: str,
    objectives: str | None,
    folder: Path | None,
    update: Path | None,
    executor: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate every design of PROBLEM's space (resumable) and print the optimum and quantiles of the reward."""
    from archgym.enumeration import enumerate_problem, update_optima
    from archgym.progress import count_progress

    problem = chosen_problem(problem_name, **options)
    if executor != "serial":
        from archgym.studies.spread import spread_by

        problem = spread_by(executor, problem)
    named = [text.strip() for text in (objectives or "").split(",") if text.strip()]
    texts = all_different(named or [problem.objective.name], "--objectives")
    folder = folder or Path("runs") / f"enumerate-{_file_name(problem.name)}"
    asked = [problem_name, *(["--objectives", objectives] if objectives else [])]
    for key, value in options.items():
        for item in value if isinstance(value, tuple) else [] if value is None else [value]:
            asked += [f"--{key.replace('_', '-')}", str(item)]
    command = " ".join(["archgym", "enumerate", *asked])
    with count_progress(err, "designs", enabled=not as_json) as follow:
        rows = enumerate_problem(problem, texts, folder, command=command, progress=follow)
    if update is not None:
        update_optima(update, rows)
    if as_json:
        print_json({"problem": problem.name, "out": str(folder), "optima": rows})
        return
    for row in rows:
        table = Table(title=f"{problem.name}, {row['objective']}: {row['designs']:,} designs")
        table.add_column("share of the space")
        table.add_column("reward", justify="right")
        for share, reward in row["quantiles"].items():
            table.add_row(share, f"{reward:.6f}")
        table.add_row("optimum", f"{row['reward']:.6f}", style="bold")
        print_table(out, table)
        out.print(escape(str(row["design"])))


# --- measuring ---------------------------------------------------------------------------------------------------


@main.command()
@click.argument("name")
@click.option("--ref", type=click.Path(path_type=Path), help="folder of reference data [default: $ARCHGYM_REF/NAME]")
@click.option("--show-worst", type=int, default=0, metavar="K", help="list the K worst rows of each group")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def validate(name: str, ref: Path | None, show_worst: int, as_json: bool) -> None:
    """Compare a simulator with reference data; exit code 1 where a group falls short."""
    run = VALIDATORS.load(name)
    folder = ref or default_reference(name)
    if not folder.is_dir():
        raise ArchGymError(f"there is no reference data at {folder}; give a folder with --ref")
    groups = []
    with err.status(f"validating {name} against {folder}") if not as_json else nullcontext():
        for group in run(folder):
            groups.append(group)
    if not groups:
        raise ArchGymError(f"{folder} holds no reference files that 'validate {name}' knows")
    holds = all(group.holds for group in groups)
    if as_json:
        print_json({"name": name, "groups": [group.as_json() for group in groups], "holds": holds})
    else:
        table = Table(title=f"{name} against {folder}")
        for column in ("group", "rows", "exact", "mean error", "worst error", "required", "holds"):
            table.add_column(column, justify="left" if column in ("group", "required") else "right", overflow="fold")
        for group in groups:
            required = ", ".join(
                f"{key} {'<=' if 'error' in key else '>='} {bound:g}" for key, bound in group.required.items()
            )
            extra = "".join(f"\n{key} {value:.4f}" for key, value in group.statistics.items())
            table.add_row(
                group.group + extra, f"{group.rows:,}", _percent(group.exact), f"{group.mean_error:.2g}",
                f"{group.worst_error:.2g}", required or "-", "yes" if group.holds else "[red]no[/red]",
            )  # fmt: skip
        print_table(out, table)
    if show_worst and not as_json:
        for group in groups:
            for row in list(group.worst)[:show_worst]:
                out.print(f"{group.group}: " + escape(", ".join(f"{k}={v}" for k, v in row.items())), highlight=False)
    if not holds:
        sys.exit(1)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f} %"


@main.command()
@click.argument("name")
@click.option(
    "--threads", type=int, default=None, callback=positive, help="threads to measure with [default: all cores]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def bench(name: str, threads: int | None, as_json: bool) -> None:
    """Measure speed after compilation."""
    from archgym.measure import machine
    from archgym.threads import limit_threads

    available = usable_cores()
    threads = threads or available
    if threads > available:
        raise ArchGymError(f"--threads is {threads}, this machine has {available} cores; give at most that many")
    os.environ["NUMBA_NUM_THREADS"] = str(threads)
    measure = BENCHES.load(name)
    figures = []
    table = Table(title=f"{name} on {machine()}")
    for column in ("figure", "value", "unit", "threads"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    with limit_threads(threads), err.status(f"measuring {name}") if not as_json else nullcontext():
        for figure in measure(threads):
            figures.append(vars(figure))
            value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.4g}"
            table.add_row(figure.figure, value, figure.unit, str(figure.threads))
    if as_json:
        print_json({"name": name, "machine": machine(), "figures": figures})
    else:
        print_table(out, table)


if __name__ == "__main__":
    main()
