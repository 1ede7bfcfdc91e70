"""``archgym policy``: train policies that carry over between workloads, and judge them on workloads they never saw."""

from __future__ import annotations

__all__ = ()

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from archgym.console import Number, print_json, print_table
from archgym.errors import ArchGymError, UnknownNameError, all_different
from archgym.problem import Problem, make_problem, parse_name
from archgym.problem_cli import chosen_problem, problem_options
from archgym.registry import SIMULATORS

if TYPE_CHECKING:
    from archgym.agents.policy import Judgement, Training

console, err = Console(), Console(stderr=True)

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of everything random.")
_updates = click.option("--updates", type=click.IntRange(min=1, max=100_000), help="Batches that are learnt from.")
_workloads = click.option(
    "--workload", "workloads", multiple=True, metavar="NAME", help="Workload or group (train, test); repeat. [all]"
)
_also = click.option(
    "--also", multiple=True, metavar="NAME", help="Further workload to train on, never judged; repeat."
)
_further = click.option(
    "--further", default=0, show_default=True, type=click.IntRange(0, 10_000),
    help="Workloads to train on too, never judged: that many drawn at random, where the simulator draws some.",
)  # fmt: skip
_cheaper = click.option(
    "--train-fidelity",
    "cheaper",
    metavar="NAME",
    help="Cheaper fidelity to train at (requests:2000); judged at the own.",
)
_bandwidth = click.option(
    "--bandwidth", default=0.0, show_default=True, type=Number(0.0, 10.0),
    help="Above 0: choose, among the most likely designs of all trained workloads, by how these did on workloads whose features' "
    "ranks are about that near.",
)  # fmt: skip
_members = click.option(
    "--members", default=1, show_default=True, type=click.IntRange(1, 100),
    help="With --bandwidth: policies whose most likely designs are chosen among.",
)  # fmt: skip
_evaluations = click.option(
    "--evaluations", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Of random search."
)
_repeats = click.option(
    "--repeats", default=20, show_default=True, type=click.IntRange(1, 10_000), help="Runs of random search."
)


@click.group()
def policy() -> None:
    """Train policies that carry over between the workloads of a simulator, and judge them."""


@policy.command("train")
@click.argument("kind", metavar="SIMULATOR")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The policy's file (.policy.npz).")
@_workloads
@_further
@_cheaper
@_updates
@_bandwidth
@_members
@_seed
@_json
@problem_options
def train_command(
    kind: str, out: Path, workloads: tuple[str, ...], further: int, cheaper: str | None, updates: int | None,
    bandwidth: float, members: int, seed: int, as_json: bool, **chosen: Any,
) -> None:  # fmt: skip
    """Train a policy on workloads of SIMULATOR. Search with it by
    ``archgym run SIMULATOR/NAME --agent ppo-fast --hyper policy=FILE``: the first design is the one that it chooses."""
    from archgym.agents.policy import Memory, train
    from archgym.progress import count_progress

    if out.exists():
        raise ArchGymError(f"{out} exists already; choose another file")
    how = _training(updates, bandwidth, members, seed)
    problems = _problems(kind, workloads, chosen)
    problems += _further_problems(kind, problems, (), further, seed, chosen)
    memories = [Memory(problem, cheaper) for problem in problems]
    with count_progress(err, "updates", enabled=not as_json) as follow:
        trained = train(memories, how, lambda update: follow(update + 1, members * how.updates))
    trained.save(out)
    count, simulations = len(memories), trained.about.simulations
    if as_json:
        print_json(
            {"policy": out, "workloads": trained.about.workloads, "simulations": simulations, "training": asdict(how)}
        )
    else:
        click.echo(f"trained on {count} workloads with {simulations:,} simulations: {out}")


@policy.command("evaluate")
@click.argument("file", type=click.Path(path_type=Path))
@_workloads
@_evaluations
@_repeats
@_seed
@_json
def evaluate_command(
    file: Path, workloads: tuple[str, ...], evaluations: int, repeats: int, seed: int, as_json: bool
) -> None:
    """Judge the policy of FILE: one evaluation of its design against the best of random search, on those
    workloads (of all, or of those named) that are not related to any it was trained on."""
    from archgym.agents.policy import Memory, Policy, judge, related

    trained = Policy.load(file)
    about = trained.about
    # Only their names and features are asked for.
    known = [make_problem(name, **{**about.options, "references": "none"}) for name in about.workloads]
    asked = _problems(about.simulator, workloads, about.options)
    groups = related([*known, *asked])
    seen = {i for group in groups if group[0] < len(known) for i in group}
    unseen = [[i - len(known) for i in group] for group in groups if not seen.issuperset(group)]
    if not unseen:
        raise ArchGymError(
            "the policy was trained on these workloads or on related ones; name others with --workload, or measure with "
            "'archgym policy leave-out'"
        )
    judged = [[judge(trained, Memory(asked[i]), evaluations, repeats, seed) for i in group] for group in unseen]
    _print(judged, {"policy": str(file), "evaluations": evaluations, "repeats": repeats}, as_json)


@policy.command("leave-out")
@click.argument("kind", metavar="SIMULATOR")
@_workloads
@_evaluations
@_repeats
@_also
@_further
@_cheaper
@click.option(
    "--folds", type=click.IntRange(min=2), help="Train that many policies, each judged on some of the groups."
)
@_updates
@_bandwidth
@_members
@_seed
@_json
@problem_options
def leave_out_command(
    kind: str, workloads: tuple[str, ...], evaluations: int, repeats: int, also: tuple[str, ...], further: int,
    cheaper: str | None, folds: int | None, updates: int | None, bandwidth: float, members: int, seed: int, as_json: bool,
    **chosen: Any,
) -> None:  # fmt: skip
    """Measure how policies carry over on SIMULATOR: for each group of related workloads (names that begin with the same
    letters, or equal features) one is trained on all others, and judged on the group by one evaluation a workload against the
    best of random search. With --folds a policy leaves several groups out."""
    from archgym.agents.policy import Memory, judge, related, train
    from archgym.progress import count_progress

    how = _training(updates, bandwidth, members, seed)
    problems = _problems(kind, workloads, chosen)
    judged_of = len(problems)
    problems += _further_problems(kind, problems, also, further, seed, chosen)
    memories = [Memory(problem, cheaper) for problem in problems]
    judging = memories if cheaper is None else [Memory(problem) for problem in problems[:judged_of]]
    groups = [group for group in related(problems) if group[0] < judged_of]
    if len(groups) < 2:
        raise ArchGymError("all these workloads are related; name others with --workload")
    count = min(folds or len(groups), len(groups))
    together = [groups[start::count] for start in range(count)]
    found: dict[int, Judgement] = {}
    with count_progress(err, "trainings", enabled=not as_json) as follow:
        for done, fold in enumerate(together):
            follow(done, len(together))
            left_out = {i for group in fold for i in group}
            trained = train([memory for i, memory in enumerate(memories) if i not in left_out], how)
            found |= {i: judge(trained, judging[i], evaluations, repeats, seed) for i in left_out if i < judged_of}
        follow(len(together), len(together))
    judged = [[found[i] for i in group if i < judged_of] for group in groups]
    simulations = sum(map(len, memories)) + (sum(map(len, judging)) if cheaper is not None else 0)
    about = {"simulator": kind, "evaluations": evaluations, "repeats": repeats}
    about |= {"groups": [[one.problem for one in group] for group in judged]}
    about |= {"simulations": simulations, "train_fidelity": cheaper, "training": asdict(how)}
    _print(judged, about, as_json)


def _further_problems(
    simulator: str, problems: Sequence[Problem], also: Sequence[str], further: int, seed: int, chosen: dict[str, Any]
) -> list[Problem]:
    """Problems beside ``problems`` to train on: those named, and ``further`` that the simulator draws. What a draw earns is
    its rank, so that they take the reference values of the first problem, and none is simulated to find theirs."""
    drawn: tuple[str, ...] = ()
    if further:
        drawn = problems[0].simulator.further_workloads(further, np.random.default_rng([seed, 2]))
        if not drawn:
            raise ArchGymError(f"{simulator} draws no workloads; leave --further out, or name some with --workload")
    names = [parse_name(problem.name)[1] for problem in problems]
    all_different([*names, *also], "--also")
    made = [name for name in dict.fromkeys([*also, *drawn]) if name not in names]
    return _problems(simulator, made, {**chosen, "references": problems[0].references}, like=problems) if made else []


def _training(updates: int | None, bandwidth: float, members: int, seed: int) -> Training:
    from archgym.agents.policy import Training

    how = replace(Training(), bandwidth=bandwidth, members=members, seed=seed)
    return how if updates is None else replace(how, updates=updates)


def _problems(
    simulator: str, workloads: Sequence[str], chosen: dict[str, Any], like: Sequence[Problem] = ()
) -> list[Problem]:
    """Problems of a simulator on the named workloads and groups, in order; all have the parameters of the first, of ``like``
    where that is given."""
    if simulator not in SIMULATORS:
        raise UnknownNameError("simulator", simulator, SIMULATORS)
    groups = SIMULATORS.load(simulator)().workload_groups()
    names = all_different((n for w in workloads or ("all",) for n in groups.get(w, (w,))), "--workload")
    make = chosen_problem if "workload_option" in chosen else make_problem
    problems = [make(f"{simulator}/{name}", **chosen) for name in names]
    first, *_ = [*like, *problems, None]
    for problem in problems:
        if first is not None and _values(problem) != _values(first):
            raise ArchGymError(f"{problem.name} has other parameters than {first.name}; leave one of them out")
        if problem.simulator.live(problem.workload, problem.fidelity) is not None:
            raise ArchGymError(f"{problem.name} trains a network for every design; a policy needs quicker simulations")
    if not problems:
        raise ArchGymError(f"{simulator} has too few workloads for these groups; name workloads instead")
    return problems


def _values(problem: Problem) -> list[Any]:
    return [(parameter.name, parameter.values) for parameter in problem.space.parameters]


def _print(groups: Sequence[Sequence[Judgement]], about: dict[str, Any], as_json: bool) -> None:
    """Judgements by groups of related workloads, their share of successes and its interval."""
    from archgym.agents.policy import interval

    judged = [judgement for group in groups for judgement in group]
    held = sum(judgement.holds for judgement in judged)
    low, high = interval([[judgement.holds for judgement in group] for group in groups])
    if as_json:
        rows = [{**asdict(judgement), "holds": judgement.holds} for judgement in judged]
        print_json({**about, "workloads": rows, "share": held / len(judged), "interval": [low, high]})
        return
    count = about["evaluations"]
    table = Table(title="One evaluation on workloads that were not trained on")
    for column in ("problem", "policy", f"random's best of {count}", "best known", "at least as good as"):
        table.add_column(column, justify="left" if column == "problem" else "right")
    for one in judged:
        reward = f"{one.reward:.4g}" if one.feasible else "infeasible"
        table.add_row(one.problem, reward, f"{one.random_best:.4g}", f"{one.best:.4g}", f"{one.beats:.0%} of runs")
    print_table(console, table)
    click.echo(
        f"at least as good as the median best of {count} on {held} of {len(judged)} workloads "
        f"({held / len(judged):.0%}; 95 % interval by resampling groups {low:.0%} to {high:.0%})"
    )
