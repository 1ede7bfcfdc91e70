"""How long the application takes over a million trials: to open them, and each view of them."""

from __future__ import annotations

__all__ = ()

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from archgym.agents import make_agent, search
from archgym.measure import Figure
from archgym.problem import make_problem
from archgym.reports import html
from archgym.reports.charts import CHARTS
from archgym.ui import views
from archgym.ui.app import make_app
from archgym.ui.folder import Folder

RUNS, TRIALS = 4, 250_000
TOKEN = "only-for-this-bench"


def bench(threads: int) -> Iterator[Figure]:
    """Seconds of the clock and of the processor, the least of three: a million trials of random search on
    ``systolic/resnet18`` (space ``fine``), opened anew and then looked at; in Chromium where there is one."""
    with tempfile.TemporaryDirectory(prefix="archgym-ui-bench-") as place:
        problem = make_problem("systolic/resnet18", space="fine")
        for seed in range(RUNS):
            log = Path(place) / "million" / "trials" / f"random-s{seed}.arrows"
            search(problem, make_agent("random", problem, seed), TRIALS, log=log)
        folders = [Folder(Path(place)) for _ in range(3)]
        opened = iter(folders)
        yield from _least("open", lambda: _open(next(opened)), threads)
        folder = folders[0]
        report = folder.report(folder.item("million"), 0)
        for name, view in _views(folder, report).items():
            yield from _least(name, view, threads)
        for seconds in _in_browser(Path(place)):
            yield Figure("opened_in_chromium_s", seconds, "s", threads)


def _open(folder: Folder) -> None:
    """What has to be there before the first figure."""
    views.about(folder.reports(folder.item("million")), 0)


def _views(folder: Folder, report: Any) -> dict[str, Callable[[], Any]]:
    made: dict[str, Callable[[], Any]] = {
        f"chart/{name}": lambda name=name: views.chart(report, name, {})  # type: ignore[misc]
        for name in CHARTS
        if name != "importance"
    }
    made["chart/pareto-axes"] = lambda: views.chart(report, "pareto", {"x": "area_mm2", "y": "energy_uj"})
    made["objective"] = lambda: report.by_objective("energy_uj")
    made["best"] = lambda: html.best_table(report)
    made["designs"] = lambda: views.designs(report, "")
    made["designs/where"] = lambda: views.designs(report, "array_rows>=64, dataflow=os|ws, area_mm2<=20")
    picked = [row["name"] for row in views.designs(report, "")["rows"][:4]]
    made["side-by-side"] = lambda: views.side_by_side(report, picked)
    sql = "SELECT dataflow, count(*), avg(reward), max(reward) FROM trials WHERE feasible GROUP BY dataflow"
    made["sql"] = lambda: views.sql([report], sql)
    return made


def _least(name: str, call: Callable[[], Any], threads: int) -> Iterator[Figure]:
    clock, processor = [], []
    for _ in range(3):
        start = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    yield Figure(f"{name}_s", min(clock), "s", threads)
    yield Figure(f"{name}_cpu_s", min(processor), "s", threads)


def _in_browser(root: Path) -> Iterator[float]:
    """Seconds from an address to a page with all its figures, the data read anew; nothing without Chromium."""
    chromium = shutil.which("chromium")
    try:
        import uvicorn
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return
    if chromium is None:
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        seconds = []
        for _ in range(3):
            server = uvicorn.Server(uvicorn.Config(make_app(Folder(root), TOKEN), log_level="error", lifespan="off"))
            listening = socket.create_server(("127.0.0.1", 0))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={TOKEN}&at=million")
            page.wait_for_selector("html[data-ready=true]", timeout=300_000)
            seconds.append(time.perf_counter() - start)
            page.close()
            server.should_exit = server.force_exit = True
            thread.join()
        browser.close()
        yield min(seconds)
