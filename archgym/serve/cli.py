"""``archgym serve``: sessions over HTTP, or as an MCP server."""

from __future__ import annotations

__all__ = ()

import asyncio
import importlib.util
import ipaddress
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from archgym.console import Number, print_json
from archgym.errors import ArchGymError, MissingExtraError

err = Console(stderr=True)
VARIABLE = "ARCHGYM_SERVE_TOKEN"


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="address to listen at; by default this machine's only"
)
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 for any that is free")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), help="folder of the sessions [runs/serve; out/SUITE-NAME]"
)
@click.option("--trust", is_flag=True, help="also open problems that run programs or read files that a request names")
@click.option("--suite", help="give out the runs of this suite only, as an entry to it")
@click.option("--called", help="what that entry is called: who drives")
@click.option("--budget", type=click.IntRange(1), help="evaluations of its runs, one of the suite's [the largest]")
@click.option(
    "--sessions", "most", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="open at once"
)
@click.option("--max-budget", type=click.IntRange(1), default=1_000_000, show_default=True, help="of a session")
@click.option("--timeout", type=Number(0.01), default=60.0, show_default=True, help="seconds a request waits")
@click.option("--rate", type=Number(0.01), default=200.0, show_default=True, help="requests a second")
@click.option("--max-body", type=click.IntRange(100), default=1 << 20, show_default=True, help="bytes of a request")
@click.option(
    "--mcp",
    is_flag=False,
    flag_value="stdio",
    type=click.Choice(["stdio", "http"]),
    help="an MCP server for language models: over standard input and output, or with =http at /mcp beside the rest",
)
@click.option("--json", "as_json", is_flag=True, help="print address and token as one JSON object")
def serve(
    host: str, port: int, folder: Path | None, trust: bool, suite: str | None, called: str | None, budget: int | None,
    most: int, max_budget: int, timeout: float, rate: float, max_body: int, mcp: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Let other programs search: sessions of ask and evaluate over HTTP, or an MCP server for language models.

    Every session is a run's shard on disk, with the budget and the seed that it was opened with; a server that was killed
    goes on where it stopped. The token that a request has to carry is made anew at every start, or taken from the
    environment variable ARCHGYM_SERVE_TOKEN.
    """
    for extra, modules in (("serve", ("starlette", "uvicorn", "pydantic")), ("mcp", ("mcp",) if mcp else ())):
        if any(importlib.util.find_spec(module) is None for module in modules):
            raise MissingExtraError("archgym serve", extra)
    from archgym.serve.service import Limits, Service

    def service() -> Service:
        sessions = _sessions(folder, suite, called, budget, trust=trust, most=most, max_budget=max_budget)
        for note in sessions.notes:
            err.print(f"archgym: {note}", markup=False, soft_wrap=True)
        return Service(sessions, Limits(seconds=timeout, rate=rate, body=max_body))

    if mcp == "stdio":
        from archgym.serve.tools import run_stdio

        asyncio.run(run_stdio(service()))
        return
    # What can be refused is refused before a folder is made.
    token = _token()
    with _listen(host, port) as listening:
        _serve_http(service(), host, listening, token, mcp == "http", as_json)


def _sessions(folder: Path | None, suite: str | None, called: str | None, budget: int | None, **options: Any) -> Any:
    if budget is not None and suite is None:
        raise ArchGymError("--budget belongs to --suite; elsewhere every session is opened with a budget of its own")
    if (suite is None) != (called is None):
        raise ArchGymError("--suite and --called belong together: the suite, and what the entry to it is called")
    if suite is None:
        from archgym.serve.sessions import Sessions

        return Sessions(folder or Path("runs") / "serve", **options)
    from archgym.serve.entry import EntrySessions
    from archgym.suites.suite import load_suite

    loaded = load_suite(suite)
    return EntrySessions(
        loaded, folder or Path("out") / f"{loaded.name}-{called}", str(called), budget=budget, **options
    )


def _token() -> str:
    token = os.environ.get(VARIABLE, "")
    if token and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise ArchGymError(f"{VARIABLE} holds no token of at least 16 printable characters without spaces")
    return token or secrets.token_urlsafe(24)


def _serve_http(service: Any, host: str, listening: socket.socket, token: str, mcp: bool, as_json: bool) -> None:
    import uvicorn

    from archgym.serve.http import make_app

    more = None
    if mcp:
        from archgym.serve.tools import make_server

        more = make_server(service).streamable_http_app(host=host, max_request_body_size=service.limits.body)
    place = f"[{host}]" if ":" in host else host
    url = f"http://{place}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        make_app(service, token, more), log_level="warning", access_log=False, server_header=False, limit_concurrency=1024,
        timeout_keep_alive=30, timeout_graceful_shutdown=5, ws="none", lifespan="on",
    )  # fmt: skip
    folder = str(service.sessions.folder)
    if as_json:
        print_json({"url": url, "token": token, "mcp": f"{url}/mcp" if mcp else None, "folder": folder})
    else:
        err.print(
            f"serving at {url}{' and, for MCP, at /mcp' if mcp else ''}, sessions in {folder}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        err.print(f"token: {token}", markup=False, highlight=False, soft_wrap=True)
        if not _loopback(host):
            err.print("others can reach this address, and what is sent is not encrypted", style="yellow")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(1024)  # from now on a caller waits, and is not refused
    except OSError as error:
        made.close()
        raise ArchGymError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --host or --port"
        ) from None
    return made


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
