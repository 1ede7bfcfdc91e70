"""``archgym store info | verify | prune``."""

from __future__ import annotations

__all__ = ()

import functools
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archgym.console import Number, print_json, print_table
from archgym.errors import ArchGymError
from archgym.store.database import Store, StoreError
from archgym.store.stored import OFF, VARIABLE, chosen_path, using

out = Console()
_json = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group()
def store() -> None:
    """Results that are not simulated again. PATH (or --store PATH, as of the commands that simulate) is $ARCHGYM_STORE or the
    one in the cache folder where left out."""


def _of_a_store(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the store that its argument or its option names, as ``opened``."""

    @click.argument("path", required=False, type=click.Path(path_type=Path))
    @click.option("--store", "option", metavar="PATH", type=click.Path(path_type=Path), help="the same as PATH")
    @functools.wraps(command)
    def with_store(path: Path | None, option: Path | None, **arguments: Any) -> None:
        if path is not None and option is not None:
            raise ArchGymError("the store is given twice; give its path once, with or without --store")
        with using(path or option) if path or option else nullcontext():
            chosen = chosen_path()
        if chosen is None:
            raise ArchGymError(
                f"the store is switched off here ({', '.join(OFF)}, by --store or {VARIABLE}); give a path"
            )
        command(opened=Store(chosen), **arguments)

    return with_store


@store.command()
@_of_a_store
@_json
def info(opened: Store, as_json: bool) -> None:
    """What a store holds: results by problem, version and options."""
    groups = opened.groups()
    size = sum(file.stat().st_size for file in opened.path.parent.glob(f"{opened.path.name}*"))
    if as_json:
        print_json({"path": str(opened.path), "bytes": size, "rows": sum(g["rows"] for g in groups), "groups": groups})
        return
    out.print(f"{opened.path}: {sum(g['rows'] for g in groups):,} results, {size / 1e6:.1f} MB", soft_wrap=True)
    table = Table()
    for column in ("problem", "version", "space", "fidelity", "options", "results", "feasible", "last"):
        table.add_column(column, justify="right" if column in ("results", "feasible") else "left", overflow="fold")
    for group in groups:
        about = group["about"]
        table.add_row(
            escape(group["label"]), escape(str(about.get("version"))), escape(str(about.get("space"))),
            escape(about.get("fidelity") or ""), escape(_words(about)), f"{group['rows']:,}", f"{group['feasible']:,}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(group["last"])),
        )  # fmt: skip
    if groups:
        print_table(out, table)


def _words(about: Mapping[str, Any]) -> str:
    options = {**about.get("settings", {}), **({"seed": about["seed"]} if about.get("seed") is not None else {})}
    return ", ".join(f"{name}={value}" for name, value in options.items())


@store.command()
@_of_a_store
@_json
def verify(opened: Store, as_json: bool) -> None:
    """Look at every row of a store. Exit code 1 where something is damaged; damaged rows are never used."""
    found = opened.verify()
    holds = not found["damaged"] and not found["file"]
    if as_json:
        print_json({"path": str(opened.path), **found, "holds": holds})
    else:
        out.print(f"{found['right']:,} of {found['rows']:,} results are whole", highlight=False)
        for finding in found["file"]:
            out.print(escape(f"SQLite: {finding}"), highlight=False, soft_wrap=True)
        if found["damaged"]:
            out.print(
                f"archgym store prune {opened.path} --damaged removes the others", highlight=False, soft_wrap=True
            )
    sys.exit(0 if holds else 1)


@store.command()
@_of_a_store
@click.option("--simulator", help="results of this simulator")
@click.option("--version", help="results of this version of a simulator")
@click.option("--older-than", type=Number(min=0), metavar="DAYS", help="results written so long ago")
@click.option("--violation", help="results with this violation, for instance time_limit")
@click.option("--damaged", is_flag=True, help="rows whose checksum is wrong")
@click.option("--all", "everything", is_flag=True, help="all results")
@_json
def prune(
    opened: Store,
    simulator: str | None,
    version: str | None,
    older_than: float | None,
    violation: str | None,
    damaged: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Remove results from a store: those to which all that is given applies."""
    if not (everything or damaged or any(given is not None for given in (simulator, version, older_than, violation))):
        raise StoreError(
            "nothing says what to remove; give --simulator, --version, --older-than, --violation, --damaged or --all"
        )
    latest = float("inf") if older_than is None else time.time() - 86400 * older_than

    def wanted(about: Mapping[str, Any], broken: str, created: float, right: bool) -> bool:
        return (
            (simulator is None or about.get("simulator") == simulator)
            and (version is None or about.get("version") == version)
            and created < latest
            and (violation is None or broken == violation)
            and not (damaged and right)
        )

    removed = opened.prune(wanted)
    if as_json:
        print_json({"path": str(opened.path), "removed": removed})
    else:
        out.print(f"{removed:,} results removed from {opened.path}", highlight=False, soft_wrap=True)
