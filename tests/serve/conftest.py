"""A server for the tests: in a thread of this process, or a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-the-tests"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def kind(self) -> str:
        return self.json["error"]["kind"]


class Client:
    """Requests to a server, one connection a thread."""

    def __init__(self, url: str, token: str = TOKEN, service: Any = None) -> None:
        self.url, self.token, self.service = url, token, service
        self._local = threading.local()

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._on(kept, method, path, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                kept.close()  # it was idle for too long: once more on a new one
        self._local.connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=900)
        return self._on(self._local.connection, method, path, body, headers)

    def _on(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: Any) -> Reply:
        connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **(headers or {})})
        got = connection.getresponse()
        return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, path: str, body: Any = None) -> Reply:
        return self.send("POST", path, b"" if body is None else json.dumps(body).encode())

    def open(self, **asked: Any) -> str:
        """Open a session and return its address."""
        reply = self.post("/v1/sessions", {"problem": "synthetic/branin", "budget": 20, **asked})
        assert reply.status == 200, reply.content
        return f"/v1/sessions/{reply.json['session']}"


@contextlib.contextmanager
def running(sessions: Any, mcp: bool = False, **limits: Any) -> Iterator[Client]:
    """A server of this process."""
    import uvicorn

    from archgym.serve.http import make_app
    from archgym.serve.service import Limits, Service

    service = Service(sessions, Limits(**{"rate": 1e6, "waiting": 10_000, "seconds": 900, **limits}))
    more = None
    if mcp:
        from archgym.serve.tools import make_server

        more = make_server(service).streamable_http_app(host="127.0.0.1")
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(make_app(service, TOKEN, more), log_level="error", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield Client(f"http://127.0.0.1:{listening.getsockname()[1]}", service=service)
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def process(folder: Path, *arguments: str, **options: Any) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """``archgym serve`` as a process of its own."""
    command = [sys.executable, "-m", "archgym", "serve", "--port", "0", "--out", str(folder), "--json"]
    command += ["--rate", "1e6", "--timeout", "900", *arguments]
    environment = {**os.environ, "ARCHGYM_SERVE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, **options) as child:
        try:
            assert child.stdout is not None
            about = json.loads(child.stdout.readline())
            yield child, Client(about["url"], about["token"])
        finally:
            child.kill()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    from archgym.serve.sessions import Sessions

    with running(Sessions(tmp_path / "sessions")) as made:
        yield made
