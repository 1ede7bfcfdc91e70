"""``archgym proxy``: train, evaluate, compare, use."""

from __future__ import annotations

__all__ = ()

from pathlib import Path
from typing import Any

import click

from archgym.console import Number, print_result
from archgym.errors import ArchGymError, all_different, quote, whole_numbers
from archgym.store.option import store_option

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_metric = click.option(
    "--metric", "metrics", multiple=True,
    help="Metric to learn, or pattern like latency_*_s; repeat for several; 'all' for all.",
)  # fmt: skip
_model = click.option(
    "--model", default="boosting", show_default=True, help="boosting, forest, mlp, gp, cells or parzc."
)
_reach = click.option(
    "--reach/--no-reach", default=True, show_default=True,
    help="Learn also from designs that the simulator knows to have a simulated design's results.",
)  # fmt: skip
_set = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Setting of the model.")


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ArchGymError(f"cannot read the setting {quote(text)}; write NAME=VALUE")
        if name in result:
            raise ArchGymError(f"the setting {quote(name)} is given twice; give it once")
        try:
            number = float(value)
        except ValueError:
            raise ArchGymError(f"the setting {quote(name)} is {quote(value)}; expected a number") from None
        result[name] = int(number) if number.is_integer() and "." not in value else number
    return result


@click.group()
def proxy() -> None:
    """Train models that stand in for a simulator, measure them, use them."""


@proxy.command("train")
@click.argument("source")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The proxy's file (.proxy.npz).")
@_model
@_set
@_metric
@click.option("--problem", help="With a dataset of several problems: which one.")
@click.option("--designs", "-n", default=2000, show_default=True, help="With a problem: distinct designs to simulate.")
@click.option("--limit", type=int, help="With a dataset: use at most so many distinct designs.")
@click.option(
    "--scale",
    default="auto",
    show_default=True,
    help="Of the targets: auto, log, linear, or complement (percentages by what they lack to 100).",
)
@click.option("--space", help="With a problem: design space.")
@click.option("--unseen", is_flag=True, help="Also report the error on workloads left out of training.")
@click.option("--trust", is_flag=True, help="Also make problems that need files or external programs.")
@click.option("--seed", default=0, show_default=True)
@_reach
@_json
@store_option
def train_command(
    source: str, out: Path, model: str, settings: tuple[str, ...], metrics: tuple[str, ...], problem: str | None,
    designs: int, limit: int | None, scale: str, space: str | None, unseen: bool, trust: bool, seed: int, reach: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Train a proxy on SOURCE: a dataset (file or folder), or a problem (dram/gzip) to be sampled uniformly."""
    from archgym.problem import make_problem
    from archgym.proxies.proxy import fit
    from archgym.proxies.training import facts_of, train_on_problem, training_from_paths, unseen_workload_errors

    options = _settings(settings)
    apart: dict[str, Any] = {}
    if Path(source).exists():
        data, chosen, first = training_from_paths(
            [Path(source)], problem=problem, metrics=metrics or None, limit=limit, trust=trust
        )
        made = fit(data, chosen, model=model, settings=options, seed=seed, scale=scale, about=facts_of(first))
        if unseen:
            apart = unseen_workload_errors(data, chosen, model=model, settings=options, seed=seed, scale=scale)
    else:
        if unseen:
            raise ArchGymError("--unseen needs a dataset with trials of at least three workloads")
        made = train_on_problem(
            make_problem(source, space=space), designs, metrics=metrics or None, seed=seed, model=model,
            settings=options, scale=scale, reach=reach,
        )  # fmt: skip
    path = made.save(out)
    about = made.about
    lines = [f"{about['designs']:,} designs of {', '.join(about['workloads'])}, {about['training_s']:.1f} s -> {path}"]
    lines += [
        f"  {name:<24} cross-validated RMSE {row['relative_rmse_percent']:.3f} % of the mean"
        for name, row in about["errors"].items()
    ]
    lines += [f"  {name} unseen: " + ", ".join(f"{m} {v:.2f} %" for m, v in row.items()) for name, row in apart.items()]
    print_result({"out": str(path), **about, "unseen_workload": apart}, as_json, lines)


def _open(file: Path, problem: str, space: str | None) -> tuple[Any, Any]:
    from archgym.problem import make_problem
    from archgym.proxies.simulator import ProxySimulator

    true = make_problem(problem, space=space)
    return ProxySimulator.open(file, true.simulator), true


@proxy.command("evaluate")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("problem")
@click.option("--designs", "-n", default=4000, show_default=True, help="Uniform test draws.")
@click.option("--level", type=Number(), default=0.9, show_default=True, help="Of the intervals.")
@click.option("--space", help="Design space.")
@click.option("--seed", default=1, show_default=True)
@_json
@store_option
def evaluate_command(
    file: Path, problem: str, designs: int, level: float, space: str | None, seed: int, as_json: bool
) -> None:
    """Test FILE on uniform designs of PROBLEM that are not in its training data."""
    from archgym.proxies.training import evaluate, held_out, predictions_per_second, summary

    simulator, true = _open(file, problem, space)
    training = simulator.proxy.training
    test = held_out(true, designs, seed, None if training is None else training.designs)
    if not len(test):
        raise ArchGymError("the training data cover every test design; there is nothing left to test on")
    truth = true.simulator.evaluate(test, true.workload, fidelity=true.fidelity, seed=seed)
    found = evaluate(simulator.proxy, true.workload, test, truth, level)
    found["designs_per_s"] = predictions_per_second(simulator.proxy, true.workload, true.space.sample(200_000, 0))
    lines = [f"{found['designs']:,} held-out designs, {found['designs_per_s']:,.0f} predictions/s", *summary(found)]
    print_result({"file": str(file), "problem": true.name, **found}, as_json, lines)


@proxy.command("compare")
@click.argument("problem")
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Folder for trials, numbers and figure."
)
@click.option("--agents", default="walk,ga,random", show_default=True, help="The sources of data.")
@click.option("--sizes", default="250,500,1000,2000", show_default=True, help="Distinct training designs.")
@click.option("--seeds", default="0", show_default=True, help="Seeds; errors are averaged.")
@click.option("--test", default=4000, show_default=True, help="Uniform test draws.")
@click.option("--objective", help="What the agents search for.")
@_model
@_set
@_metric
@_json
@store_option
def compare_command(
    problem: str, out: Path, agents: str, sizes: str, seeds: str, test: int, objective: str | None, model: str,
    settings: tuple[str, ...], metrics: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """The diverse-dataset experiment: proxies trained on one agent's data against many agents' data."""
    from archgym.problem import make_problem
    from archgym.proxies.experiment import run_experiment

    found = run_experiment(
        make_problem(problem, objective=objective), out, agents=all_different((a.strip() for a in agents.split(",")), "--agents"),
        sizes=whole_numbers(sizes, "--sizes"), seeds=whole_numbers(seeds, "--seeds"), test=test, metrics=metrics or None, model=model,
        settings=_settings(settings), progress=lambda sentence: click.echo(sentence, err=True),
    )  # fmt: skip
    lines = [f"{'metric':<24} {'source':<12} {'designs':>8} {'RMSE %':>9} {'tau':>7}"]
    lines += [
        f"{r['metric']:<24} {r['source']:<12} {r['size']:>8} {r['relative_rmse_percent']:>9.3f} "
        f"{r['kendall_tau']:>7.4f}"
        for r in found["table"]
    ]
    print_result(found, as_json, [*lines, *found["files"]])


@proxy.command("table")
@click.argument("problems", nargs=-1, required=True)
@click.option("--sizes", default="2000,10000", show_default=True, help="Distinct training designs.")
@click.option("--test", default=4000, show_default=True, help="Uniform test draws.")
@click.option(
    "--unseen", default=0, metavar="N", help="Also train on N designs of each problem but one, for each in turn."
)
@click.option("--space", help="Design space.")
@click.option("--fidelity", help="Fidelity.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder for errors.json and errors.md.")
@_model
@_set
@_metric
@_reach
@_json
@store_option
def table_command(
    problems: tuple[str, ...], sizes: str, test: int, unseen: int, space: str | None, fidelity: str | None, seed: int,
    out: Path | None, model: str, settings: tuple[str, ...], metrics: tuple[str, ...], reach: bool, as_json: bool,
) -> None:  # fmt: skip
    """Errors of proxies of PROBLEMS at fixed training sizes, on held-out uniform designs and on unseen workloads."""
    from archgym.problem import make_problem
    from archgym.proxies.table import error_table, lines_of, write

    made = [make_problem(name, space=space, fidelity=fidelity) for name in problems]
    found = error_table(
        made, whole_numbers(sizes, "--sizes"), test=test, metrics=metrics or None, model=model, settings=_settings(settings),
        seed=seed, unseen=unseen, reach=reach, progress=lambda sentence: click.echo(sentence, err=True),
    )  # fmt: skip
    found["files"] = [] if out is None else write(found, out)
    print_result(found, as_json, [*lines_of(found), *found["files"]])


@proxy.command("cells")
@click.argument("workload", default="nb201-mnist1d-v2")
@click.option("--labels", default="50,100,200", show_default=True, help="Numbers of trained function classes.")
@click.option("--draws", default=10, show_default=True, help="Draws of labels, each a training of every method.")
@click.option("--methods", help="Predictors, with commas between [default: all].")
@click.option("--seed", default=0, show_default=True)
@_json
def cells_command(workload: str, labels: str, draws: int, methods: str | None, seed: int, as_json: bool) -> None:
    """How well predictors of cells order the classes of WORKLOAD's table that they saw no label of."""
    from archgym.proxies.ranking import check_methods, lines_of, rank_cells

    chosen = None
    if methods is not None:
        chosen = check_methods(all_different((name.strip() for name in methods.split(",")), "--methods"))
    found = rank_cells(
        workload, whole_numbers(labels, "--labels"), draws, methods=chosen, seed=seed,
        progress=lambda sentence: click.echo(sentence, err=True),
    )  # fmt: skip
    print_result(found, as_json, lines_of(found))


@proxy.command("use")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("problem")
@click.option("--agent", default="ga", show_default=True, help="What searches on the proxy.")
@click.option("--budget", default=10_000, show_default=True, help="Proxy evaluations.")
@click.option("--check", default=20, show_default=True, help="Best distinct designs to evaluate with the simulator.")
@click.option("--mixed", default="", help='Mixed mode, "every=10&retrain=100" or "uncertain=0.05".')
@click.option("--objective", help="Objective.")
@click.option("--space", help="Design space.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder for the trials.")
@_json
@store_option
def use_command(
    file: Path, problem: str, agent: str, budget: int, check: int, mixed: str, objective: str | None, space: str | None,
    seed: int, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Search PROBLEM on the proxy, then evaluate the best designs found with the true simulator."""
    import tempfile

    from archgym.agents.base import make_agent
    from archgym.agents.collect import best_designs
    from archgym.agents.search import search
    from archgym.datasets.dataset import Dataset
    from archgym.problem import make_problem

    stand_in = f"proxy:{file}" + (f"?{mixed}" if mixed else "")
    made = make_problem(problem, objective=objective, space=space, simulator=stand_in)
    true = make_problem(problem, objective=objective, space=space)
    with tempfile.TemporaryDirectory() as scratch:
        log = (out or Path(scratch)) / f"proxy-{agent}-{seed}.arrows"
        done = search(made, make_agent(agent, made, seed), budget, log=log, study="proxy", run=f"{agent}-{seed}")
        best = best_designs(made, Dataset(log), check)
    on_proxy: Any = made.simulator  # a ProxySimulator, or a wrapper that hands on what it has
    predicted = made.objective(on_proxy.evaluate(best, made.workload))
    evaluation, rewards = true.evaluate(best, seed=seed)
    i = int(rewards.argmax())
    result: dict[str, Any] = {
        "problem": true.name,
        "proxy_evaluations": done.evaluations,
        "simulator_evaluations": len(best) + on_proxy.checked,
        "reward": float(rewards[i]),
        "predicted_reward": float(predicted[i]),
        "design": true.space.decode(best[i : i + 1])[0],
        "metrics": {name: float(column[i]) for name, column in evaluation.metrics.items()},
        "seconds": {"simulation": done.simulation_s, "agent": done.agent_s},
        "log": str(log) if out is not None else None,
    }
    if true.optimum is not None:
        result["regret"] = true.optimum.regret_of(float(rewards[i]))
    lines = [
        f"{done.evaluations:,} proxy evaluations, {result['simulator_evaluations']} simulated",
        f"reward {result['reward']:.6g} (predicted {result['predicted_reward']:.6g})",
        *[f"  {name} = {value}" for name, value in result["design"].items()],
    ]
    print_result(result, as_json, lines)
