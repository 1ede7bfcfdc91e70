"""``archgym ui``."""

from __future__ import annotations

__all__ = ()

import os
import secrets
import socket
import webbrowser
from pathlib import Path

import click

from archgym.errors import ArchGymError, MissingExtraError

TOKEN = "ARCHGYM_UI_TOKEN"
LOCAL = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("."))
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen at")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="port; 0 for any free one")
@click.option("--open", "browse", is_flag=True, help="open it in the browser")
@click.option(
    "--trust",
    is_flag=True,
    help="also run the model files (torch:FILE.py:NAME, arch:FILE.py:NAME) that the trials name",
)
def ui(folder: Path, host: str, port: int, browse: bool, trust: bool) -> None:
    """Look at the runs, studies, suites and datasets under DIR in the browser, the running ones live.

    Only this machine can reach it, and only who knows the token in the address that is printed; ARCHGYM_UI_TOKEN sets the
    token, so that bookmarks hold from one day to the next.
    """
    try:
        import uvicorn

        from archgym.ui.app import make_app
    except ModuleNotFoundError as error:
        raise MissingExtraError("the local web application", "ui", str(error)) from None
    from archgym.ui.folder import Folder

    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if len(token) < 16 or not token.isascii() or not token.replace("-", "").replace("_", "").isalnum():
        raise ArchGymError(f"{TOKEN} must be at least 16 letters, digits, - or _; leave it unset for a random one")
    shown = Folder(folder, trust)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArchGymError(
            f"cannot listen at {host} port {port} ({reason}); choose another --port, or 0 for any"
        ) from None
    port = listening.getsockname()[1]
    # Cookies know no ports: two applications on one machine must not take each other's.
    app = make_app(shown, token, f"archgym-ui-{port}")
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}"
    click.echo(f"{shown.root}\n{address}")
    if host not in LOCAL:
        click.echo("others on the network can reach this address, and what it sends is not encrypted", err=True)
    if browse:
        webbrowser.open(address)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
