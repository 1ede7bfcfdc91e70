"""``archgym nas search``: differentiable searches, and what their cells are worth beside random search of equal cost."""

from __future__ import annotations

__all__ = ()

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from archgym.console import print_json
from archgym.errors import ArchGymError, all_different
from archgym.progress import count_progress
from archgym.simulators.nas.supernet.cli import chosen_workload, workload_option
from archgym.writing import write_text


@click.command("search")
@click.argument("methods", metavar="METHOD,...")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="first seed")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="searches a method")
@click.option("--epochs", type=int, help="length of a search [default: 30, of gdas 80]")
@click.option("--choice-rate", type=float, default=3e-3, show_default=True, help="step of the choices' Adam")
@click.option("--norm-all", is_flag=True, help="give skip and pool a norm, as the convolutions have")
@click.option("--latency", type=click.Path(path_type=Path), help="proxyless: table of latencies [default: MACs]")
@click.option("--device", help="proxyless: which latency column")
@workload_option
@click.option("--out", "folder", type=click.Path(path_type=Path), help="folder of finished searches, for a restart")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object, trajectories included")
def search(
    methods: str,
    seed: int,
    seeds: int,
    epochs: int | None,
    choice_rate: float,
    norm_all: bool,
    latency: Path | None,
    device: str | None,
    workload: str | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Search cells by gradients: darts, darts2, pc-darts, gdas, snas, drnas, rarts, sd-darts, sharp, proxyless, and
    each with fewshot- before it.

    Prints the derived cell with and without none, its accuracy on the table's test split, its percentile among the live
    cells (50 = a random one), regret, skips and pools, and what random search on the table reaches at equal CPU cost.
    """
    from archgym.simulators.nas import live

    chosen = chosen_workload(workload)
    names = all_different((name.strip() for name in methods.split(",") if name.strip()), "METHODS")
    if not names:
        raise ArchGymError("name at least one method, for instance archgym nas search darts,drnas")
    _needs_torch()
    from archgym.simulators.nas.differentiable.methods import method_of
    from archgym.simulators.nas.differentiable.search import SearchRecipe

    base = live.base_recipe(chosen)
    recipes = [
        SearchRecipe(
            data=base.data, macro=base.macro, method=name, choice_rate=choice_rate, norm_all=norm_all,
            epochs=method_of(name)[0].epochs if epochs is None else epochs,
        )
        for name in names
    ]  # fmt: skip
    costs = None
    if latency is not None or device is not None:
        costs = _device_costs(latency, device)
    found = []
    with count_progress(Console(stderr=True), "epochs", enabled=not as_json) as follow:
        total, done = sum(recipe.epochs for recipe in recipes) * seeds, 0
        for recipe in recipes:
            for one in range(seed, seed + seeds):
                found.append(_search(recipe, one, costs, folder, lambda n, before=done: follow(before + n, total)))
                done += recipe.epochs
    rows = [{**result, **_judged(chosen, result)} for result in found]
    if as_json:
        print_json({"workload": chosen.name, "searches": rows})
        return
    _print(rows)


def _needs_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        from archgym.errors import MissingExtraError

        raise MissingExtraError("a differentiable search", "nas", str(error)) from None


def _device_costs(latency: Path | None, device: str | None) -> Any:
    from archgym.simulators.nas import cells
    from archgym.simulators.nas.latency import fit_lookup, read_latency
    from archgym.simulators.nas.simulator import choose_device

    if latency is None:
        raise ArchGymError(f"--device {device} needs the table that it is a column of; give --latency FILE")
    columns = read_latency(latency)
    return fit_lookup(cells.all_rows(), columns[choose_device(device, columns, latency.name)]).costs


def _search(recipe: Any, seed: int, costs: Any, folder: Path | None, on_epoch: Any) -> dict[str, Any]:
    """One search, from the folder where it is finished there."""
    from archgym.reading import read_json
    from archgym.simulators.nas.differentiable.search import run_search

    path = None if folder is None else folder / f"{recipe.method}-s{seed}.json"
    wanted = {"recipe": recipe.as_dict(), "costs": None if costs is None else np.round(costs, 9).tolist()}
    if path is not None and path.exists():
        stored: dict[str, Any] = read_json(path)
        if {key: stored.get(key) for key in wanted} != json.loads(json.dumps(wanted)):
            raise ArchGymError(f"{path} holds a search with other settings; choose another folder or the same settings")
        return stored
    result = {**run_search(recipe, seed, costs, on_epoch), **wanted}
    if path is not None:
        write_text(path, json.dumps(result) + "\n")
    return result


def _judged(workload: Any, result: dict[str, Any]) -> dict[str, Any]:
    """What the derived cells are worth, and random search with as many trainings as the search's seconds pay for."""
    from archgym.simulators.nas import cells
    from archgym.simulators.nas.differentiable.search import expected_random_search, worth
    from archgym.simulators.nas.fidelity import Fidelity

    shown: dict[str, Any] = {}
    for key in ("cell", "cell_without_none"):
        row = cells.rows(result[key])
        shown[f"{key}_string"] = cells.to_string(row)
        shown[f"{key}_skips"] = int((row == cells.SKIP).sum())
        shown[f"{key}_pools"] = int((row == cells.POOL).sum())
    if not workload.has_table:
        return shown
    table, everything = workload.table, np.arange(cells.CELLS)
    test = table.resolve(Fidelity(split="test"))
    truth = table.column(test, everything, 0)
    for key in ("cell", "cell_without_none"):
        shown[f"{key}_worth"] = worth(result[key], truth)
    seconds = table.run_seconds.get((str(test.schedule), int(test.epochs or 0)))
    if seconds is not None and np.isfinite(truth).all():
        queries = max(1, round(result["cpu_s"] / float(np.mean(seconds))))
        signal = table.column(table.resolve(Fidelity()), everything, 0)
        shown["random_queries"] = queries
        shown["random_accuracy_percent"] = expected_random_search(signal, truth, queries)
    return shown


def _print(rows: list[dict[str, Any]]) -> None:
    """Two lines a search, the architecture string last: it is wider than any terminal's column."""
    for row in rows:
        head = f"{row['method']}, seed {row['seed']}, {row['cpu_s']:.1f} CPU s"
        if "random_queries" in row:
            queries, value = row["random_queries"], row["random_accuracy_percent"]
            head += f"; random search with {queries} trainings: {value:.2f} %"
        click.echo(head)
        for split in row["splits"]:
            click.echo(f"  split {split}")
        for key, label in (("cell", "with none"), ("cell_without_none", "without none")):
            worth = row.get(f"{key}_worth")
            value = ""
            if worth:
                value = (
                    f"{worth['accuracy_percent']:6.2f} %  percentile {worth['percentile']:3.0f}  "
                    f"regret {worth['regret_points']:5.2f}  "
                )
            counts = f"skips {row[f'{key}_skips']} pools {row[f'{key}_pools']}"
            click.echo(f"  {label:13s} {value}{counts}  {row[f'{key}_string']}")
