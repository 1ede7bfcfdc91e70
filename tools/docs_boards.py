"""A hook of the site's build: puts the plotting library into the boards of suites, which lie in docs/boards without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archgym.reports.html import with_library


def on_post_build(config: Any) -> None:
    """Called by MkDocs once the site is written."""
    for path in sorted(Path(config["site_dir"], "boards").glob("*.html")):
        path.write_text(with_library(path.read_text(encoding="utf-8")), encoding="utf-8")
