"""``archgym llm``: fit operators to measured tables, show models and devices."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def llm() -> None:
    """Language models: operator constants, model shapes, devices."""


@llm.command()
@click.option("--ref", type=click.Path(path_type=Path), help="folder of reference data [default: ../shared/ref/llm]")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="file of constants to update [default: print only]"
)
@click.option("--only", help="one operator: gemm, attention_prefill, attention_decode, moe or collectives")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def fit(ref: Path | None, out: Path | None, only: str | None, as_json: bool) -> None:
    """Fit the closed forms of the operators to the measured tables of a folder."""
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_json
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
    Console().print(table)
