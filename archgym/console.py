"""What every command reads and prints in the same way: ``name=value`` options and one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from archgym.errors import ArchGymError, quote
from archgym.reading import NotJsonError, parse_json
from archgym.writing import finite

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(value: Any) -> None:
    """Print one JSON object for programs; infinities and NaN become null, as JSON has neither, and what else it does
    not know, such as paths, becomes text."""
    click.echo(json.dumps(finite(value), default=str))


def print_result(result: Mapping[str, Any], as_json: bool, lines: Sequence[str]) -> None:
    """Print a command's result: its ``lines`` for people, or ``result`` as one JSON object for programs."""
    if as_json:
        print_json(result)
    else:
        click.echo("\n".join(lines))


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("mode=physical", "batch=4")`` as a dictionary; values are JSON where they can be, else text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ArchGymError(f"cannot read the option {pair!r}; write name=value")
        try:
            options[name.replace("-", "_")] = parse_json(text, f"the option {quote(name)}")
        except NotJsonError:
            options[name.replace("-", "_")] = text
    return options


def parse_choices(pairs: tuple[str, ...], flag: str) -> dict[str, str]:
    """``("PagePolicy=Open",)`` as a dictionary of texts: names and values are taken as they stand."""
    choices: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name or not text:
            raise ArchGymError(f"cannot read {flag} {pair!r}; write {flag} NAME=VALUE")
        if name in choices:
            raise ArchGymError(f"{flag} names {name} twice; name it once")
        choices[name] = text
    return choices


def print_table(console: Console, table: Table) -> None:
    """Print a table whose first column stays whole on a narrow terminal, and every column in a pipe or a file."""
    from rich.console import Console
    from rich.measure import Measurement

    if table.columns:
        table.columns[0].no_wrap = True
    if not console.is_terminal:
        needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console = Console(file=console.file, width=max(needed, console.width))
    console.print(table)
