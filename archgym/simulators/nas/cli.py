"""``archgym nas``: build a table of trained cells, print what a table is worth, run the literature's protocols."""

from __future__ import annotations

__all__ = ()

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from archgym.progress import count_progress
from archgym.simulators.nas.differentiable.cli import search
from archgym.simulators.nas.supernet.cli import supernet, workload_option


@click.group()
def nas() -> None:
    """Cell-NAS: tables of trained cells and the protocols on them."""


nas.add_command(supernet)
nas.add_command(search)


@nas.command("build-table")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="folder of the shards")
@click.option("--minutes", type=float, help="start no shard after so many minutes")
@click.option("--shards", type=click.IntRange(0), help="finish so many shards")
@click.option("--recipe", help="recipe of the networks: the name of a table [default: that of --base, else version 2]")
@click.option("--seeds", default="0,1,2", show_default=True, help="seeds in the order of work")
@click.option(
    "--device", default="cpu", show_default=True, help="cpu (compiled kernels) or a torch device such as cuda"
)
@click.option("--group", type=click.IntRange(1), default=512, show_default=True, help="networks at once on a GPU")
@click.option("--base", type=click.Path(path_type=Path), help="an assembled table to go on from")
@click.option("--assemble", type=click.Path(path_type=Path), help="then write the table of all finished shards here")
@click.option("--status", is_flag=True, help="train nothing, print how far the folder is")
def build_table(
    folder: Path,
    minutes: float | None,
    shards: int | None,
    recipe: str | None,
    seeds: str,
    device: str,
    group: int,
    base: Path | None,
    assemble: Path | None,
    status: bool,
) -> None:
    """Train the function classes of the cell space on mnist1d, in resumable shards.

    Start it as often as there are cores: processes share the folder. ``--shards 0 --assemble FILE`` only assembles.
    """
    from archgym.errors import check_seed, whole_numbers
    from archgym.simulators.nas import build_table as builder

    numbers = [check_seed(number) for number in whole_numbers(seeds, "--seeds")]
    if status:
        click.echo(json.dumps(builder.status(folder), indent=1))
        return
    if shards != 0:
        made = builder.named_recipe(recipe, base)
        done = builder.build(
            folder, made, seeds=numbers, minutes=minutes, shards=shards, device=device, group=group, base=base,
            log=sys.stderr,
        )  # fmt: skip
        click.echo(f"{done} shard(s) finished", err=True)
    if assemble is not None:
        metadata = builder.assemble(folder, assemble, base)
        click.echo(
            f"{assemble}: {metadata['classes_trained']} of {metadata['live_classes']} live classes, "
            f"networks by seed {metadata['networks_by_seed']}"
        )


def _table(path: Path | None, workload: str | None, **options: Any) -> Any:
    """The table in a file, or this project's own for a workload (the default one where neither is given)."""
    from archgym.errors import ArchGymError, UnknownNameError
    from archgym.simulators.nas import NasSimulator
    from archgym.simulators.nas.recipes import TABLE_RECIPES
    from archgym.simulators.nas.table import own_table, read_table_file

    if path is not None and workload is not None:
        raise ArchGymError("give a table's file or --workload, not both")
    if path is not None:
        return read_table_file(path, **options)
    name = workload or NasSimulator.default_workload
    if name not in TABLE_RECIPES:
        raise UnknownNameError("workload with a table", name, TABLE_RECIPES)
    return own_table(name)


@nas.command("statistics")
@click.argument("table", type=click.Path(path_type=Path), required=False)
@workload_option
@click.option("--dataset", help="data set of a neutral table")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def statistics(table: Path | None, workload: str | None, dataset: str | None, as_json: bool) -> None:
    """Coverage, spread, seed noise, rank correlations and landscape of a table (our own where left out)."""
    from archgym.simulators.nas.statistics import best_cell, table_statistics

    read = _table(table, workload, **({"dataset": dataset} if dataset else {}))
    figures = table_statistics(read)
    if as_json:
        click.echo(json.dumps(figures, indent=1))
        return
    for name, figure in figures.items():
        click.echo(f"{name:40s} {figure:.6g}")
    split, cell, accuracy = best_cell(read)
    click.echo(f"best cell ({split})  {cell}  {accuracy:.4f} %")


@nas.command("inheritance")
@workload_option
@click.option(
    "--parents", type=click.IntRange(1, 1000), default=10, show_default=True, help="random cells, trained in full"
)
@click.option("--epochs", type=click.IntRange(1, 1000), default=1, show_default=True, help="of every child")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="of the choice of parents, and of training"
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def inheritance(workload: str | None, parents: int, epochs: int, seed: int, as_json: bool) -> None:
    """How well children that start from their parent's weights are ordered, beside training as long from scratch.

    Children are the live cells one edge away from a parent. Tau is within a parent, against the table's test accuracy.
    """
    from archgym.console import print_result
    from archgym.simulators.nas.growth import inheritance_statistics
    from archgym.simulators.nas.supernet.cli import chosen_workload

    with count_progress(Console(stderr=True), "parents", enabled=not as_json) as follow:
        figures = inheritance_statistics(chosen_workload(workload), parents, epochs, seed, follow)
    lines = []
    for name, figure in figures.items():
        if not name.endswith("_interval"):
            ends = figures.get(f"{name}_interval")
            lines.append(f"{name:20s} {figure:.4g}" + (f"  [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""))
    print_result(figures, as_json, lines)


@nas.command("protocols")
@click.argument("table", type=click.Path(path_type=Path), required=False)
@workload_option
@click.option("--queries", type=click.IntRange(1), default=100, show_default=True, help="cells a seed may ask for")
@click.option("--seeds", type=click.IntRange(2), default=500, show_default=True, help="repetitions")
@click.option("--seed", type=int, default=0, show_default=True, help="of the generator of all repetitions")
@click.option("--signal", help="fidelity that the agents see (our own table: the default fidelity)")
@click.option("--result", help="fidelity that the chosen cell is judged by (our own table: test)")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def protocols(
    table: Path | None,
    workload: str | None,
    queries: int,
    seeds: int,
    seed: int,
    signal: str | None,
    result: str | None,
    as_json: bool,
) -> None:
    """Random search, regularised evolution and REINFORCE over many seeds.

    With a neutral table of NAS-Bench-201: the published protocol on its three data sets, unless signal or result is
    given. Without a table: on our own.
    """
    from archgym.simulators.nas.protocols import compare_protocols, published_protocols

    if table is not None and signal is None and result is None:
        outcome = published_protocols(table, queries=queries, seeds=seeds, seed=seed)
    else:
        found = _table(table, workload)
        outcome = {
            found.name: compare_protocols(
                found,
                signal=signal or "table",
                result=result or "table:split=test",
                queries=queries,
                seeds=seeds,
                seed=seed,
            )
        }
    rows: list[dict[str, Any]] = [
        {"dataset": dataset, "protocol": name, "seeds": seeds, "queries": queries, "mean_percent": one.mean,
         "deviation_points": one.deviation, "standard_error_points": one.standard_error,
         "interval_95_percent": [one.mean - 1.96 * one.standard_error, one.mean + 1.96 * one.standard_error]}
        for dataset, by_name in outcome.items()
        for name, one in by_name.items()
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps({"protocols": rows}, indent=1))
        return
    for row in rows:
        click.echo(
            f"{row['dataset']:14s} {row['protocol']:22s} {row['mean_percent']:.2f} +- {row['deviation_points']:.2f} "
            f"(95 % interval of the mean {row['interval_95_percent'][0]:.3f} to {row['interval_95_percent'][1]:.3f})"
        )


@nas.command("score-cells")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="folder of the parts, for a restart")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Parquet to write")
@click.option("--seeds", default="0", show_default=True, help="seeds to average over, comma-separated")
@click.option("--classes", type=click.IntRange(1), help="so many classes only, in the table's random order")
@click.option("--layers", is_flag=True, help="score every layer by itself: what the proxy model parzc learns from")
def score_cells(folder: Path, output: Path, seeds: str, classes: int | None, layers: bool) -> None:
    """Compute the zero-cost scores of the function classes on the skeleton of our own table."""
    from archgym.errors import ArchGymError, whole_numbers
    from archgym.simulators.nas.layerscores import build_layer_scores
    from archgym.simulators.nas.zerocost import build_scores

    numbers = whole_numbers(seeds, "--seeds")
    if layers:
        if len(numbers) > 1:
            raise ArchGymError(f"--layers scores one seed, not {len(numbers)}; give one to --seeds")
        count = build_layer_scores(output, folder, numbers[0], classes, log=sys.stderr)
    else:
        count = build_scores(output, folder, numbers, classes, log=sys.stderr)
    click.echo(f"{output}: scores of {count} function classes")
