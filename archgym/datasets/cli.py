"""``archgym dataset``: info, verify, merge, query, sample, split, export, card."""

from __future__ import annotations

__all__ = ()

import sys
from pathlib import Path

import click

from archgym.console import Number, print_result
from archgym.errors import ArchGymError
from archgym.store.option import store_option

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_trust = click.option("--trust", is_flag=True, help="Also make problems that need files or external programs.")
_paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
_out = click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="What to write.")


@click.group()
def dataset() -> None:
    """Look at, check, merge, sample, split and export trials."""


@dataset.command("info")
@_paths
@_json
def info_command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Counts, problems, columns, units and ranges."""
    from archgym.datasets.verify import info

    found = info(paths)
    lines = [
        f"{found['rows']:,} trials of {found['runs']} runs in {found['files']} files, {found['bytes'] / 1e6:.1f} MB",
        f"{found['feasible']:,} feasible, {found['cached']:,} answered from a run's cache",
        *[f"  {row['problem']} ({row['objective']}, version {row['simulator_version']}): {row['rows']:,} trials"
          for row in found["problems"]],
        "agents: " + ", ".join(f"{name or '(none)'} {count:,}" for name, count in found["agents"].items()),
        "",
        *[f"  {row['name']:<24} {row['role']:<10} {row['type']:<8} {row['unit']:<8}"
          + (f" {row['low']:.6g} .. {row['high']:.6g}" if "low" in row else "") for row in found["columns"]],
        *[f"torn: {note}" for note in found["torn_files"]],
    ]  # fmt: skip
    print_result(found, as_json, lines)


@dataset.command("verify")
@_paths
@click.option("--sample", type=int, help="Trials a problem to simulate again [256; none where that starts programs].")
@click.option("--seed", default=0, show_default=True, help="Seed of the sample.")
@click.option(
    "--tolerance", type=Number(), default=0.0, show_default=True, help="Relative difference that counts as equal."
)
@_trust
@_json
@store_option
def verify_command(
    paths: tuple[Path, ...], sample: int | None, seed: int, tolerance: float, trust: bool, as_json: bool
) -> None:
    """Check schema, units, values and duplicates, and simulate a sample again. Exit code 1 where a check fails."""
    from archgym.datasets.verify import verify

    found = verify(paths, sample=sample, seed=seed, tolerance=tolerance, trust=trust)
    lines = [f"{'ok  ' if row['holds'] else 'FAIL'} {row['name']}: {row['detail']}" for row in found["checks"]]
    print_result(found, as_json, [*lines, *found["notes"]])
    sys.exit(0 if found["holds"] else 1)


@dataset.command("merge")
@_paths
@_out
@click.option("--across-objectives", is_flag=True, help="Rows that differ in the objective only are duplicates too.")
@click.option("--keep-all", is_flag=True, help="Keep duplicates.")
@_trust
@_json
def merge_command(
    paths: tuple[Path, ...], out: Path, across_objectives: bool, keep_all: bool, trust: bool, as_json: bool
) -> None:
    """Merge datasets into one folder of Parquet files, without repeated designs."""
    from archgym.datasets.merge import merge

    made = merge(paths, out, across_objectives=across_objectives, keep_all=keep_all, trust=trust)
    lines = [f"{made['rows_in']:,} trials in, {made['rows_out']:,} out ({made['duplicates']:,} duplicates) -> {out}"]
    if made["conflicts"]:
        lines.append(f"{made['conflicts']} designs have several results; all are kept")
    print_result(made, as_json, [*lines, *made["torn_files"], *made["notes"]])


@dataset.command("query")
@_paths
@click.argument("sql")
@click.option("--memory-limit", default="4GB", show_default=True, help="What does not fit is spilled to disk.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Write the result as CSV.")
@_json
def query_command(paths: tuple[Path, ...], sql: str, memory_limit: str, out: Path | None, as_json: bool) -> None:
    """Run SQL over the table trials."""
    from archgym.datasets.query import query

    table = query(paths, sql, memory_limit=memory_limit)
    if out is not None:
        import pyarrow.csv as pacsv

        from archgym.writing import unwritable

        try:
            pacsv.write_csv(table, out)
        except OSError as error:
            raise unwritable(out, error) from None
    rows = table.slice(0, 1000).to_pylist() if out is None else []
    result = {"rows": len(table), "columns": table.column_names, "result": rows, "out": str(out or "")}
    lines = ["\t".join(table.column_names), *["\t".join(map(str, row.values())) for row in rows]]
    if out is None and len(table) > len(rows):
        lines.append(f"... and {len(table) - len(rows):,} more rows; add --out FILE.csv")
    print_result(result, as_json, lines if out is None else [f"{len(table):,} rows -> {out}"])


@dataset.command("sample")
@click.argument("problem")
@_out
@click.option("--count", "-n", default=1000, show_default=True, help="Simulator evaluations.")
@click.option(
    "--method",
    default="uniform",
    show_default=True,
    help="uniform, sobol, lhs, perturb, or agent:NAME to let one search.",
)
@click.option(
    "--near", type=click.Path(path_type=Path), help="With perturb: the dataset whose best designs are varied."
)
@click.option("--top", default=100, show_default=True, help="With perturb: how many best designs.")
@click.option("--changes", default=3, show_default=True, help="With perturb: the most parameters changed.")
@click.option("--objective", help="Objective of the rewards.")
@click.option("--space", help="Design space.")
@click.option("--fidelity", help="Fidelity.")
@click.option("--executor", default="serial", show_default=True, help="serial, processes[:N] or ray[:ADDRESS].")
@click.option("--seed", default=0, show_default=True)
@_json
@store_option
def sample_command(
    problem: str, out: Path, count: int, method: str, near: Path | None, top: int, changes: int, objective: str | None,
    space: str | None, fidelity: str | None, executor: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate sampled designs of PROBLEM into a new shard."""
    from archgym.agents.collect import collect
    from archgym.problem import make_problem

    made = make_problem(problem, objective=objective, space=space, fidelity=fidelity)
    if executor != "serial":
        from archgym.studies.spread import spread_by

        made = spread_by(executor, made)
    result = collect(made, out, count=count, method=method, seed=seed, near=near, top=top, changes=changes)
    print_result(result, as_json, [f"{result['evaluations']:,} designs evaluated by {method} -> {result['files'][0]}"])


@dataset.command("split")
@_paths
@_out
@click.option("--by", default="design", show_default=True, help="design, agent, workload or region.")
@click.option("--test", type=Number(), default=0.2, show_default=True, help="Share held out for the test set.")
@click.option("--validation", type=Number(), default=0.0, show_default=True, help="Share held out for validation.")
@click.option("--hold-out", multiple=True, help="Agents or workloads to hold out; repeat for several.")
@click.option("--region", help='Conditions that make the test set: "Size>=6, Policy=Open|Closed".')
@click.option("--seed", default=0, show_default=True)
@_trust
@_json
def split_command(
    paths: tuple[Path, ...], out: Path, by: str, test: float, validation: float, hold_out: tuple[str, ...],
    region: str | None, seed: int, trust: bool, as_json: bool,
) -> None:  # fmt: skip
    """Split into train and test so that no design is on both sides."""
    from archgym.datasets.merge import split, summary_of

    made = split(
        paths, out, by=by, test=test, validation=validation, names=hold_out, region=region, seed=seed, trust=trust
    )
    lines = [f"{summary_of(made['rows'])} -> {out}"]
    if made["left_out_overlap"]:
        lines.append(f"{made['left_out_overlap']:,} held-out trials left out: their designs are in the training set")
    print_result(made, as_json, [*lines, *made["notes"]])


@dataset.command("export")
@_paths
@click.option("--out", "-o", required=True, help="File or folder; the data set's id for minari.")
@click.option(
    "--format", "kind", default="parquet", show_default=True, help="csv, parquet, minari, huggingface or croissant."
)
@click.option("--licence", "--license", default="cc-by-4.0", show_default=True, help="For the metadata.")
@click.option("--title", default="Design trials", show_default=True)
@click.option("--episode-length", default=16, show_default=True, help="With minari.")
@click.option("--action-mode", default="design", show_default=True, help="With minari: design, construct or edit.")
@click.option("--root", type=click.Path(path_type=Path), help="With minari: its data folder.")
@_trust
@_json
def export_command(
    paths: tuple[Path, ...], out: str, kind: str, licence: str, title: str, episode_length: int, action_mode: str,
    root: Path | None, trust: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the trials in another format."""
    from archgym.datasets import export
    from archgym.errors import UnknownNameError

    if kind == "csv":
        made = export.to_csv(paths, Path(out))
    elif kind == "parquet":
        made = export.to_parquet(paths, Path(out))
    elif kind == "huggingface":
        made = export.to_hugging_face(paths, Path(out), licence=licence, title=title, trust=trust)
    elif kind == "croissant":
        made = export.to_croissant(paths, Path(out), licence=licence, title=title)
    elif kind == "minari":
        from archgym.envs.offline import to_minari

        made = to_minari(paths, out, root=root, episode_length=episode_length, action_mode=action_mode, trust=trust)
    else:
        raise UnknownNameError("format", kind, ("csv", "parquet", "minari", "huggingface", "croissant"))
    rows = made.get("rows", made.get("trials"))
    line = f"{rows:,} trials -> {made['out']}"
    if kind == "minari":
        line += f", the data set {made['dataset_id']} of {made['episodes']:,} episodes"
        if made["simulated"]:
            line += f"; {made['simulated']:,} designs between trials were simulated"
    print_result(made, as_json, [line])


@dataset.command("card")
@_paths
@_out
@click.option("--title", default="Design trials", show_default=True)
@click.option("--no-plots", is_flag=True, help="Text only.")
@_trust
@_json
def card_command(paths: tuple[Path, ...], out: Path, title: str, no_plots: bool, trust: bool, as_json: bool) -> None:
    """Write a dataset card (README.md and coverage plots) from the data."""
    from archgym.datasets.card import card

    made = card(paths, out, plots=not no_plots, trust=trust, title=title)
    print_result(made, as_json, [f"{made['card']}", *[f"limit: {limit}" for limit in made["limits"]]])


def main() -> None:
    """Run the group on its own, with the errors as the whole command line shows them."""
    try:
        dataset(standalone_mode=True)
    except ArchGymError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
