"""``archgym llm``: fit operators to measured tables, show models and devices."""

from __future__ import annotations

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
@click.option("--only", help="one operator: gemm, attention_prefill, attention_decode, moe or collectives")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit(ref: Path | None, out: Path | None, only: str | None, as_json: bool) -> None:
    """Fit the closed forms of the operators to the measured tables of a folder."""
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_json, print_table
    from archgym.errors import UnknownNameError
    from archgym.measure import default_reference
    from archgym.simulators.llm.fit import fit_all, write_constants
    from archgym.simulators.llm.operators import TABLES

    if only is not None and only not in TABLES:
        raise UnknownNameError("operator", only, TABLES)
    fits = list(fit_all(ref or default_reference("llm"), only))
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
    from archgym.simulators.llm.fit_serving import fit_engine

    found = fit_engine((ref or default_reference("llm")) / "serving_measured.csv.gz", backend, model)
    if out is not None:
        known = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        out.write_text(json.dumps({**known, backend: found}, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json({backend: found})
        return
    Console().print(json.dumps({backend: found}, indent=1))
