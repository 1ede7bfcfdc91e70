"""What the pages for newcomers point to is there, and each of their first questions has its answer."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/internals.md")}


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`([\w./]+/[\w./]*\w\.(?:py|json|md|cfg))`", PAGES[page])
    homes = [ROOT, ROOT / "archgym", ROOT / "archgym/simulators", ROOT / "archgym/simulators/dram"]
    assert len(named) > 5
    for name in named:
        assert name == "file:PATH" or any((home / name).exists() for home in homes), f"{page} names {name}"


@pytest.mark.parametrize(
    ("page", "question", "where", "what"),
    [
        ("docs/internals.md", r"Refresh: `grep", "archgym/simulators/dram/kernels/policy.py", "def refresh_command"),
        ("CONTRIBUTING.md", r"a memory of a known family", "archgym/simulators/dram/devices.json", "DDR4"),
        ("docs/internals.md", r"## ArchGym's rewards", "archgym/objective.py", "class TargetOverGap"),
        ("CONTRIBUTING.md", r"\| an objective \|", "archgym/objective.py", "class Objective"),
        ("docs/internals.md", r"## Known optima", "tools/make_optima.py", "optima.json"),
        ("CONTRIBUTING.md", r"## Releasing", "archgym/_version.py", "__version__"),
    ],
)
def test_a_newcomers_questions_are_answered(page, question, where, what):
    assert re.search(question, PAGES[page])
    assert what in (ROOT / where).read_text(encoding="utf-8")
