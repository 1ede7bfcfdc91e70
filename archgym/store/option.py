"""``--store PATH`` of the commands that simulate."""

from __future__ import annotations

from typing import Any

import click

from archgym.store.stored import using


def _use(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and not context.resilient_parsing:
        context.with_resource(using(value))


def store_option(command: Any) -> Any:
    """Adds ``--store PATH`` to a command: what is evaluated while it runs asks that store first."""
    return click.option(
        "--store",
        metavar="PATH",
        expose_value=False,
        callback=_use,
        help="file of results that are not simulated again (off: none) [$ARCHGYM_STORE; for simulators that start "
        "programs, else, one in the cache folder]",
    )(command)
