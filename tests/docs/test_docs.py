"""Every Python block of the documentation runs as it stands; every link between pages leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(page, text, id=f"{page.relative_to(ROOT)}-{i}")
    for page in PAGES
    for i, text in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M))
]
OPTIONAL = ("stable_baselines3", "torch", "optuna", "duckdb", "minari")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "text"), BLOCKS)
def test_code_blocks_run(page, text, tmp_path, monkeypatch):
    for module in OPTIONAL:
        if re.search(rf"^(from|import) {module}", text, flags=re.M):
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    import archgym

    agents, simulators = set(archgym.AGENTS), set(archgym.SIMULATORS)
    try:
        exec(compile(text, f"{page.name}", "exec", dont_inherit=True), {"__name__": "__docs__"})
    finally:
        for registry, known in ((archgym.AGENTS, agents), (archgym.SIMULATORS, simulators)):
            for name in set(registry) - known:
                registry.unregister(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            if target.startswith("boards/"):  # a page that the site's build makes
                target = target.replace(".html", ".json")
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"
