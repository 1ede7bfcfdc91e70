"""The built site: no warning, every internal link and anchor leads somewhere, and it works in a real browser.

What is on other hosts is never fetched.
"""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
import yaml

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from public_modules import public_modules  # noqa: E402

ORIGIN = "http://site.invalid/"


class Page(HTMLParser):
    """Anchors and links of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href") is not None:
            self.links.append(given["href"])
        elif tag == "link" and "canonical" not in (given.get("rel") or ""):
            self.loads.append(given.get("href") or "")
        elif tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert done.returncode == 0 and not warnings, done.stderr[-4000:]
    return folder


def broken_links(site: Path) -> list[str]:
    """Links and files that the pages of a built site name and that do not exist, as ``page -> target``."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute: it stands for any place
            continue
        base = ORIGIN + path.relative_to(site).as_posix()
        for link in page.links + page.loads:
            target, anchor = urldefrag(urljoin(base, link))
            if not target.startswith(ORIGIN):
                continue
            file = site / unquote(urlsplit(target).path).lstrip("/")
            if file.is_dir():
                file = file / "index.html"
            if not file.is_file() or (anchor and file in pages and unquote(anchor) not in pages[file].anchors):
                broken.append(f"{path.relative_to(site)} -> {link}")
    return broken


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(site):
    assert len(list(site.rglob("*.html"))) > 40
    assert broken_links(site) == []


def test_the_hook_makes_a_page_of_every_board(tmp_path):
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import get_files

    pytest.importorskip("plotly")
    config = MkDocsConfig()
    hook = str(ROOT / "tools" / "docs_boards.py")
    config.load_dict({"site_name": "x", "docs_dir": str(ROOT / "docs"), "site_dir": str(tmp_path), "hooks": [hook]})
    assert config.validate()[0] == []
    files = config.plugins.on_files(get_files(config), config=config)
    boards = [file for file in files if file.src_uri.startswith("boards/")]
    assert {Path(file.url).stem for file in boards} == {path.stem for path in (ROOT / "docs" / "boards").iterdir()}
    for file in boards:
        assert file.url == file.src_uri and file.url.endswith(".html")
        assert f"archgym suite: {Path(file.url).stem} version " in file.content_string
        assert "{{" not in file.content_string.partition("<script")[0]


def test_the_link_check_finds_what_is_broken(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h1 id="top"></h1><img src="../x.png"><a href="https://other.org/x">')
    (tmp_path / "index.html").write_text('<a href="a/#top"><a href="a/#no"><a href="b/"><a href="#"><a href="a/">')
    assert sorted(broken_links(tmp_path)) == ["a/index.html -> ../x.png", "index.html -> a/#no", "index.html -> b/"]


@pytest.mark.slow
def test_every_public_module_has_an_entry(site):
    named = set()
    for page in (ROOT / "docs" / "api").rglob("*.md"):
        named |= set(re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.M))
    public = public_modules()
    for module in public:
        if not (ROOT / module.replace(".", "/")).is_dir():  # of a package the modules are named
            assert module in named, f"{module} has no entry in docs/api; if it is not for others, it says __all__ = ()"
    assert named <= public
    for module in named:
        page = "".join(path.read_text(encoding="utf-8") for path in (site / "api").rglob("*.html"))
        assert f'id="{module}"' in page, f"{module} has an entry without a heading"


def test_the_navigation_names_every_page():
    class Loader(yaml.SafeLoader):
        pass

    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(pages(config["nav"])) == there


def test_every_simulator_and_environment_has_its_page():
    from archgym.envs.registration import ENVIRONMENTS
    from archgym.registry import SIMULATORS

    readme, environments = (ROOT / "README.md").read_text(), (ROOT / "docs" / "environments.md").read_text()
    for env_id, kind in ENVIRONMENTS.items():
        assert f"`{env_id}`" in readme and f"`{env_id}`" in environments
        assert (ROOT / "docs" / "simulators" / f"{kind}.md").is_file()
    for name, target in SIMULATORS.items():
        if target.startswith("archgym.simulators."):
            assert (ROOT / "docs" / "simulators" / f"{name}.md").is_file()
            # Simulators that share a package share its page of the reference.
            package = target.partition(":")[0].split(".")[2]
            reference = ROOT / "docs" / "api" / "simulators"
            assert (reference / f"{name}.md").is_file() or (reference / f"{package}.md").is_file()


def test_every_agent_stands_in_the_table_of_agents():
    from archgym.registry import AGENTS

    text = (ROOT / "docs" / "agents.md").read_text()
    for name, target in AGENTS.items():
        if target.startswith("archgym.agents."):
            assert re.search(rf"^\| .*`{name}`", text, flags=re.M), f"docs/agents.md lacks {name}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site without a line a request."""

    def log_message(self, *args):
        pass


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_in_a_real_browser(site):
    playwright = pytest.importorskip("playwright.sync_api")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}/"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    errors, requests = [], []
    try:
        with playwright.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            for width in (1280, 400):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.on("request", lambda request: requests.append(request.url))
                for place, words in (
                    ("", "Two commands"),
                    ("simulators/accelerator/", "Where not to trust it"),
                    ("api/spaces/", "DesignSpace"),
                ):
                    page.goto(here + place, wait_until="networkidle", timeout=120_000)
                    assert words in page.inner_text("main")
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{place} scrolls sideways"
                if width == 1280:
                    # Typed, not filled: the search listens to keys.
                    page.click("input.md-search__input", timeout=60_000)
                    page.keyboard.type("regularised evolution", delay=20)
                    page.wait_for_selector(".md-search-result__link", state="attached", timeout=120_000)
                page.close()
            browser.close()
    finally:
        server.shutdown()
    assert errors == []
    assert all(url.startswith((here, "data:", "blob:")) for url in requests)
