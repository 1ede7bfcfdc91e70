"""What every command reads and prints in the same way: ``name=value`` options and one JSON object."""

from __future__ import annotations

__all__ = ()

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from archgym.errors import ArchGymError, quote
from archgym.reading import NotJsonError, parse_json
from archgym.writing import finite

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Number(click.FloatRange):
    """A number of a range on the command line; click's own lets NaN into every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


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
        if name.replace("-", "_") in options:
            raise ArchGymError(f"the option {quote(name)} is given twice; give it once")
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
    """Print a table in which no word or number is cut or broken: folded between words where it is too wide for a terminal,
    then in parts that repeat the first column; whole in a pipe or a file."""
    from rich.console import Console
    from rich.measure import Measurement

    wide = console.options.update(max_width=10_000)
    if not console.is_terminal:
        needed = Measurement.get(console, wide, table).maximum
        console = Console(file=console.file, width=max(needed, console.width))
    if not table.columns or Measurement.get(console, wide, table).maximum <= console.width:
        console.print(table)
        return
    spans = []
    for column in table.columns:
        head = Measurement.get(console, wide, column.header)
        cells = [Measurement.get(console, wide, cell) for cell in column.cells]
        natural = max(cell.maximum for cell in (head, *cells))
        # Numbers stay beside their units.
        whole = [cell.maximum if column.justify == "right" else cell.minimum for cell in cells]
        spans.append((max(head.minimum, *whole, 0), natural))
    spans[0] = (min(spans[0][1], max(spans[0][0], console.width // 2)), spans[0][1])
    low = [low for low, _ in spans]
    # A column takes its content, padding on both sides where there is room, and a line; one more line ends the table.
    padding = 1 if len(_parts(low, console.width, 3)) == 1 else 0
    for part in _parts(low, console.width, 1 + 2 * padding):
        console.print(_narrow(table, part, [spans[j] for j in part], console.width, padding))


def _parts(widths: Sequence[int], width: int, edge: int) -> list[list[int]]:
    """Columns in groups that fit into ``width``, each with the first column."""
    parts = [[0]]
    used = start = widths[0] + edge + 1
    for j in range(1, len(widths)):
        if used + widths[j] + edge > width and len(parts[-1]) > 1:
            parts.append([0])
            used = start
        parts[-1].append(j)
        used += widths[j] + edge
    return parts


def _narrow(table: Table, part: Sequence[int], spans: Sequence[tuple[int, int]], width: int, padding: int) -> Table:
    """The columns ``part`` of a table, each between its least and its natural width (``spans``)."""
    from rich.table import Table

    widths = [low for low, _ in spans]
    spare = width - 1 - sum(low + 1 + 2 * padding for low in widths)
    while spare < 0 and max(widths) > 8:  # a single word longer than the terminal is folded, which loses nothing
        widths[widths.index(max(widths))] -= 1
        spare += 1
    while spare > 0 and any(have < most for have, (_, most) in zip(widths, spans, strict=True)):
        short = [most - have for have, (_, most) in zip(widths, spans, strict=True)]
        widths[short.index(max(short))] += 1
        spare -= 1
    narrow = Table(title=table.title, padding=(0, padding))
    for j, wide in zip(part, widths, strict=True):
        column = table.columns[j]
        narrow.add_column(column.header, justify=column.justify, style=column.style, width=wide, overflow="fold")
    cells = [list(table.columns[j].cells) for j in part]
    for i, row in enumerate(table.rows):
        narrow.add_row(*(column[i] for column in cells), style=row.style, end_section=row.end_section)
    return narrow
