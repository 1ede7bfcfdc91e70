"""``archgym report`` and ``archgym show``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="file to write [default: DIR/report.html]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def report(folder: Path, out: Path | None, as_json: bool) -> None:
    """Write the self-contained HTML report of the runs in FOLDER."""
    from archgym.reports import write_report

    path = write_report(folder, out)
    click.echo(json.dumps({"report": str(path), "bytes": path.stat().st_size}) if as_json else f"report: {path}")
