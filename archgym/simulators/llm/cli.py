"""``archgym llm``: fit operators to measured tables, show models and devices."""

from __future__ import annotations

__all__ = ()

from pathlib import Path

import click


@click.group()
def llm() -> None:
    """Language models: operator constants, model shapes, devices."""


@llm.command()
@click.option("--ref", type=click.Path(path_type=Path), help="folder of reference data [default: $ARCHGYM_REF/llm]")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="file of constants to update [default: print only]"
)
@click.option("--only", help="gemm, attention_prefill, attention_decode, moe or collectives; training for the step")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit(ref: Path | None, out: Path | None, only: str | None, as_json: bool) -> None:
    """Fit the closed forms of the operators, or the constants of a training step, to the measured tables of a folder."""
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_json, print_table
    from archgym.errors import UnknownNameError
    from archgym.measure import default_reference
    from archgym.simulators.llm.fit import fit_all, write_constants
    from archgym.simulators.llm.operators import TABLES

    folder = ref or default_reference("llm")
    if only == "training":
        _fit_training(folder, out, as_json)
        return
    if only is not None and only not in TABLES:
        raise UnknownNameError("operator", only, [*TABLES, "training"])
    fits = list(fit_all(folder, only))
    if out is not None:
        write_constants(out, fits)
    if as_json:
        print_json({"fits": [{"operator": operator, "key": key, **found} for operator, key, found in fits]})
        return
    table = Table(title="closed forms; errors of shapes that were not fitted")
    for column in ("operator", "device, type", "rows", "mean error", "not fitted: mean", "p90"):
        table.add_column(column, justify="left" if column.startswith(("op", "dev")) else "right")
    for operator, key, found in fits:
        shares = [f"{100 * found[c]:.1f} %" for c in ("mean_error", "not_fitted_mean_error", "not_fitted_p90_error")]
        table.add_row(operator, key, str(found["rows"]), *shares)
    print_table(Console(), table)


def _fit_training(folder: Path, out: Path | None, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_json, print_table
    from archgym.simulators.llm.fit_training import fit_training, write_training

    found = fit_training(folder)
    if out is not None:
        write_training(out, found)
    if as_json:
        print_json(found)
        return
    table = Table(title=f"constants of a training step, fitted to {found['rows']} measured steps")
    table.add_column("constant")
    table.add_column("value", justify="right")
    for key, value in found["constants"].items():
        table.add_row(key, f"{value:.4g}")
    print_table(Console(), table)
    for name in ("mean_error", "p90_error", "worst_error", "not_fitted_mean_error", "not_fitted_p90_error"):
        Console().print(f"{name} {100 * found[name]:.1f} %", highlight=False)


@llm.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def models(as_json: bool) -> None:
    """List the models: parameters, those a token meets, and where the shape is from."""
    from archgym.simulators.llm.models import catalogue

    rows = [
        {
            "model": model.name,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "layers": model.layers,
            "hidden": model.hidden,
            "experts": model.experts,
            "source": model.source,
        }
        for model in catalogue().values()
    ]
    _show("models", rows, as_json)


@llm.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def devices(as_json: bool) -> None:
    """List the devices: peaks, memory, links and where the figures are from."""
    from archgym.simulators.llm.devices import catalogue

    rows = [
        {
            "device": device.name,
            "bf16_tflops": device.bf16_flops / 1e12,
            "mem_gb": round(device.mem_bytes / 1e9, 1),
            "mem_tb_per_s": device.mem_bytes_per_s / 1e12,
            "link_gb_per_s": device.link_bytes_per_s / 1e9,
            "nic_gb_per_s": device.nic_bytes_per_s / 1e9,
            "tdp_w": device.tdp_w,
            "operators": device.operators,
            "source": device.source,
        }
        for device in catalogue().values()
    ]
    _show("devices", rows, as_json)


def _show(title: str, rows: list[dict[str, object]], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_json, print_table

    if as_json:
        print_json({title: rows})
        return
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(
            *(f"{v:,}" if isinstance(v, int) else f"{v:g}" if isinstance(v, float) else str(v) for v in row.values())
        )
    print_table(Console(), table)


@llm.command("fit-traces")
@click.option("--ref", type=click.Path(path_type=Path), help="folder of traces [default: $ARCHGYM_REF/llm/traces]")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="file of generators to update [default: print only]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit_traces_command(ref: Path | None, out: Path | None, as_json: bool) -> None:
    """Fit a generator to each request trace of a folder, and show how far it is from the trace."""
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_json, print_table
    from archgym.measure import default_reference
    from archgym.simulators.llm.fit_serving import fit_traces
    from archgym.simulators.llm.requests import write_generators

    fits = fit_traces(ref or default_reference("llm") / "traces")
    if out is not None:
        write_generators(out, {name: parameters for name, (parameters, _) in fits.items()})
    if as_json:
        print_json({name: {"parameters": parameters, "fit": rows} for name, (parameters, rows) in fits.items()})
        return
    for name, (_, rows) in fits.items():
        table = Table(title=name)
        for column in ("what", "trace", "generated"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for row in rows:
            table.add_row(row["what"], f"{row['trace']:.4g}", f"{row['generated']:.4g}")
        print_table(Console(), table)


@llm.command("fit-engine")
@click.option("--ref", type=click.Path(path_type=Path), help="folder of reference data [default: $ARCHGYM_REF/llm]")
@click.option("--backend", default="vllm", show_default=True, help="engine whose rows are fitted")
@click.option("--model", default="llama3.1-70b", show_default=True, help="model whose rows are fitted")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="file of engines to update [default: print only]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit_engine_command(ref: Path | None, backend: str, model: str, out: Path | None, as_json: bool) -> None:
    """Fit the constants of a serving engine to measured times between tokens."""
    import json

    from rich.console import Console

    from archgym.console import print_json
    from archgym.measure import default_reference
    from archgym.reading import read_json
    from archgym.simulators.llm.fit_serving import fit_engine

    found = fit_engine((ref or default_reference("llm")) / "serving_measured.csv.gz", backend, model)
    if out is not None:
        known = read_json(out, "file of fitted values") if out.is_file() else {}
        out.write_text(json.dumps({**known, backend: found}, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json({backend: found})
        return
    Console().print(json.dumps({backend: found}, indent=1))


@llm.command()
@click.argument("problem")
@click.option("--space", help="design space: default, small or codesign")
@click.option("--objective", default="cost", show_default=True, help="what ranks the designs")
@click.option("--budget", type=click.IntRange(1, 10_000_000), default=2000, show_default=True, help="evaluations of ga")
@click.option("--keep", type=click.IntRange(2, 1000), default=20, show_default=True, help="best designs to rank")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def sensitivity(problem: str, space: str | None, objective: str, budget: int, keep: int, as_json: bool) -> None:
    """Search PROBLEM and say which assumed coefficients, within 50 %, would change the ranking of the best designs."""
    import numpy as np

    from archgym.agents.genetic import GeneticAlgorithm
    from archgym.errors import ArchGymError
    from archgym.problem import make_problem
    from archgym.simulators.llm.sensitivity import sensitivity as flips
    from archgym.simulators.llm.training import LlmTrainingSimulator, TrainingWorkload

    made = make_problem(problem, space=space, objective=objective)
    simulator = made.simulator.stands_for
    if not isinstance(simulator, LlmTrainingSimulator) or not isinstance(made.workload, TrainingWorkload):
        raise ArchGymError(f"{problem[:80]!r} has no assumed coefficients; name a problem of llm-training")
    agent = GeneticAlgorithm(made, 0)
    asked, rewards = [], []
    done = 0
    while done < budget:
        designs = made.space.canonical(agent.ask(min(budget - done, 1024)))
        evaluation, scores = made.evaluate(designs)
        agent.tell(designs, evaluation, scores)
        asked.append(designs[evaluation.feasible])
        rewards.append(scores[evaluation.feasible])
        done += len(designs)
    rows, first = np.unique(np.concatenate(asked), axis=0, return_index=True)
    order = np.argsort(-np.concatenate(rewards)[first], kind="stable")[:keep]
    if not len(order):
        raise ArchGymError(f"{problem[:80]} had no feasible design among {budget} evaluations; raise --budget")
    best = made.space.decode(rows[order[:1]])[0]
    found = [vars(flip) for flip in flips(simulator, made.workload, rows[order], objective)]
    if as_json:
        from archgym.console import print_json

        print_json({"problem": problem, "objective": objective, "designs": len(order), "best": best, "flips": found})
        return
    click.echo(f"best of {len(order)} designs by {objective}: {best}")
    changed = [flip for flip in found if flip["best_changes"]]
    for flip in changed:
        click.echo(f"[assumption] {flip['coefficient']} x {flip['factor']}: the best design changes")
    if not changed:
        click.echo("no assumed coefficient within 50 % changes the best design")
