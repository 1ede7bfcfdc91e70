"""Make docs/ui.png: searches, starts the local web application over them and takes its picture in Chromium.

``python tools/picture_of_ui.py docs/ui.png``
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
from io import BytesIO
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from archgym.agents import make_agent, search
from archgym.problem import make_problem
from archgym.ui.app import make_app
from archgym.ui.folder import Folder

TOKEN = "for-a-picture-only"


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        problem = make_problem("systolic/resnet18")
        for agent in ("random", "walk", "ga"):
            for seed in range(3):
                log = Path(place) / "resnet18" / "trials" / f"{agent}-s{seed}.arrows"
                search(problem, make_agent(agent, problem, seed), 300, log=log)
        app = make_app(Folder(Path(place)), TOKEN)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
        where = "array_rows%3E%3D32%2C%20dataflow%3Dos%7Cws"
        page.goto(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={TOKEN}&at=resnet18&where={where}")
        page.wait_for_selector("html[data-ready=true]", timeout=120_000)
        page.evaluate("document.getElementById('designs').scrollIntoView()")
        page.wait_for_timeout(1000)
        picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(128)
        picture.save(path, optimize=True)
        browser.close()
        server.should_exit = server.force_exit = True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
