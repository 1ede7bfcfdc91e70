"""``archgym nas supernet``: train weight-sharing networks, judge cells with their weights, say how well they rank."""

from __future__ import annotations

__all__ = ()

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from archgym.console import print_result
from archgym.errors import ArchGymError, UnknownNameError
from archgym.progress import count_progress
from archgym.simulators.nas.fidelity import SUPERNET_POLICIES

WORKLOADS = ("nb201-mnist1d", "nb201-mnist1d-v2", "nb201-digits", "nb201-mnist")


def workload_option(command: Any) -> Any:
    """The option that chooses data and skeleton."""
    return click.option("--workload", default=None, metavar="NAME", help="data and skeleton [default: that of nas]")(
        command
    )


def chosen_workload(name: str | None) -> Any:
    """A workload with data, by name."""
    from archgym.simulators.nas import NasSimulator

    simulator = NasSimulator()
    name = name or simulator.default_workload
    if name not in WORKLOADS:
        raise UnknownNameError("workload with data", name, WORKLOADS)
    return simulator.load_workload(name)


@click.group()
def supernet() -> None:
    """Weight sharing: one network that holds every cell of the space."""


@supernet.command("train")
@click.option("--policy", default="uniform", show_default=True, help=" | ".join(SUPERNET_POLICIES))
@click.option("--steps", type=int, default=10_000, show_default=True, help="cells trained in all")
@click.option("--candidates", type=int, default=1, show_default=True, help="complexity: train the best of so many")
@click.option("--seed", type=int, default=0, show_default=True, help="of weights, draws and order of the data")
@workload_option
@click.option("--out", "path", type=click.Path(path_type=Path), required=True, help="file to write, or to go on from")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def train(policy: str, steps: int, candidates: int, seed: int, workload: str | None, path: Path, as_json: bool) -> None:
    """Train a supernet into a file; a file that is there is gone on with, to the same bits."""
    from dataclasses import replace

    from archgym.simulators.nas.live import supernet_recipe
    from archgym.simulators.nas.supernet.training import train_file

    recipe = replace(supernet_recipe(chosen_workload(workload), policy, steps), candidates=candidates)
    if seed < 0:
        raise ArchGymError(f"--seed is {seed}; expected a whole number from 0")
    with count_progress(Console(stderr=True), "steps", enabled=not as_json) as follow:
        trained = train_file(path, recipe, seed, follow)
    result = {
        "file": str(path), "policy": policy, "steps": steps, "seed": seed, "floats": trained.store.size,
        "cpu_s": trained.seconds, "splits": trained.splits,
    }  # fmt: skip
    lines = [f"{path}: {policy}, {steps} steps, seed {seed}, {trained.seconds:.1f} CPU s", *trained.splits]
    print_result(result, as_json, lines)


@supernet.command("evaluate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--cells", "count", type=click.IntRange(1), help="so many function classes, in the table's random order")
@click.option("--out", "path", type=click.Path(path_type=Path), help="file of the scores [default: FILE.scores.npz]")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def evaluate(file: Path, count: int | None, path: Path | None, threads: int, as_json: bool) -> None:
    """Judge cells with a supernet's weights; what a file of scores holds already is not judged again."""
    from archgym.simulators.nas.supernet.scores import evaluate_file
    from archgym.simulators.nas.supernet.training import Supernet

    trained = Supernet.load(file)
    path = path or file.with_name(f"{file.stem}.scores.npz")
    begin = time.process_time()
    with count_progress(Console(stderr=True), "cells", enabled=not as_json) as follow:
        scores = evaluate_file(trained, path, count, threads, follow)
    cpu = time.process_time() - begin
    mean = float(scores["accuracy_percent"].mean())
    result = {"file": str(path), "cells": len(scores["code"]), "mean_accuracy_percent": mean, "cpu_s": cpu}
    print_result(result, as_json, [f"{path}: {len(scores['code'])} cells, mean {mean:.2f} %, {cpu:.1f} CPU s"])


@supernet.command("statistics")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1)
@click.option("--cells", "count", type=click.IntRange(20), default=300, show_default=True, help="of files: classes")
@workload_option
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def statistics(files: tuple[Path, ...], count: int, workload: str | None, as_json: bool) -> None:
    """How well supernets rank the cells of a table: those of FILES (judged on --cells classes), or the shipped ones.

    Several files of one policy are also judged together, by the mean of their scores.
    """
    from archgym.simulators.nas.supernet.scores import evaluate_file, shipped_scores
    from archgym.simulators.nas.supernet.training import Supernet
    from archgym.simulators.nas.table import live_representatives

    chosen = chosen_workload(workload)
    groups: dict[str, list[tuple[str, Any, Any, Any, float]]] = {}
    for file in files:
        trained = Supernet.load(file)
        scores = evaluate_file(trained, file.with_name(f"{file.stem}.{count}.npz"), count)
        columns = (scores["code"], scores["accuracy_percent"], scores["cross_entropy"])
        name = f"{trained.recipe.policy}:{trained.recipe.steps}"
        groups.setdefault(name, []).append((f"{name} seed {trained.seed}", *columns, trained.seconds))
    if not files:
        codes = live_representatives()
        for (policy, steps), by_seed in shipped_scores(chosen.name).items():
            for seed, (accuracy, entropy) in by_seed.items():
                name = f"{policy}:{steps}"
                row = (f"{name} seed {seed}", codes, accuracy[codes], entropy[codes], float("nan"))
                groups.setdefault(name, []).append(row)
        if not groups:
            raise ArchGymError(f"no supernets of {chosen.name} ship with the package; give files of your own")
    rows = []
    for name, members in groups.items():
        for label, codes, accuracy, entropy, seconds in members:
            rows.append({"supernet": label, "cpu_s": seconds, **_against_table(chosen, codes, accuracy, entropy)})
        if len(members) > 1:
            means = [np.mean(np.stack([member[k] for member in members]), axis=0) for k in (2, 3)]
            mean = _against_table(chosen, members[0][1], *means)
            rows.append({"supernet": f"{name} mean of {len(members)}", "cpu_s": float("nan"), **mean})
    lines = []
    for found in rows:
        lines.append(str(found["supernet"]))
        lines += [f"  {key:32s} {value:.4g}" for key, value in found.items() if key != "supernet" and value == value]
    print_result({"workload": chosen.name, "supernets": rows}, as_json, lines)


def _against_table(workload: Any, codes: Any, accuracy: Any, entropy: Any) -> dict[str, Any]:
    from archgym.simulators.nas.fidelity import Fidelity
    from archgym.simulators.nas.supernet.scores import ranking_statistics
    from archgym.simulators.nas.table import cell_macs

    table = workload.table
    truth = table.column(table.resolve(Fidelity(split="test")), codes, 0)
    known = np.isfinite(truth)
    macs = cell_macs(workload.macro_name).take(codes).astype(np.float64)
    return ranking_statistics(accuracy[known], entropy[known], truth[known], macs[known])


@supernet.command("gather", hidden=True)
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", "output", type=click.Path(path_type=Path), required=True, help="Parquet to write")
def gather(files: tuple[Path, ...], output: Path) -> None:
    """Write the scores of trained supernets, all classes of each, as the columns that ship with the package."""
    from archgym.simulators.nas.supernet.scores import write_shipped

    count = write_shipped(output, files, [file.with_name(f"{file.stem}.scores.npz") for file in files])
    click.echo(f"{output}: scores of {count} function classes by {len(files)} supernets")
