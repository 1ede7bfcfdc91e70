"""A folder with a run, a study, an entry and a dataset, and the application over it in this process."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

NEEDED = ("starlette", "uvicorn", "plotly", "duckdb")
TOKEN = "a-token-of-the-tests"
COOKIE = "archgym-ui-test"
SUITE = "{name: small, version: 3, budgets: [20], seeds: 1, problems: [{problem: synthetic/branin}]}"


@dataclass
class Server:
    """The application, running."""

    root: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str, cookie: str = f"{COOKIE}={TOKEN}") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", path, headers={"cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def ask(self, name: str, /, **query: Any) -> Any:
        """A view as data."""
        return json.loads(self.get(f"/api/{name}?{urlencode(query, doseq=True)}")[2])


@pytest.fixture(scope="session")
def folder(bowl, tmp_path_factory):
    for module in NEEDED:
        pytest.importorskip(module)
    from archgym.agents import make_agent, search
    from archgym.datasets.merge import merge
    from archgym.problem import make_problem
    from archgym.studies import parse_spec, run_study
    from archgym.suites import parse_suite, run_entry

    root = tmp_path_factory.mktemp("ui") / "shown"
    problem = make_problem("bowl/deep", objective="time_ns*power_mw")
    for agent in ("random", "walk", "ga"):
        for seed in range(2):
            made = make_agent(agent, problem, seed)
            search(problem, made, 150, log=root / "deep" / "trials" / f"{agent}-s{seed}.arrows")
    merge([root / "deep"], root / "merged")
    spec = "{name: small, budget: 40, seeds: 2, log: trials, problems: [synthetic/branin], agents: [random, {agent: ga, sample: 3}]}"
    run_study(parse_spec(spec), root / "study")
    run_entry(parse_suite(SUITE), root / "entries" / "ga", "ga", {"population": 8})
    (root / "small.yaml").write_text(SUITE)
    return root


@pytest.fixture(scope="session")
def serve():
    """Start the application over a folder."""
    import uvicorn

    from archgym.ui.app import make_app
    from archgym.ui.folder import Folder

    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(root: Path) -> Server:
        app = make_app(Folder(root), TOKEN, COOKIE)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        listening = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread))
        return Server(root, listening.getsockname()[1])

    yield start
    for server, _ in running:
        server.should_exit = True
    for _, thread in running:
        thread.join(timeout=10)


@pytest.fixture(scope="session")
def server(serve, folder) -> Server:
    return serve(folder)
