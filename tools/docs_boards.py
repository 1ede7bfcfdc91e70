"""A hook of the site's build: makes the pages of the suites' boards from their data in docs/boards."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

from archgym.reports.board import read_board


def on_files(files: Any, *, config: Any) -> Any:
    """Called by MkDocs with what the site is made of: a page takes the place of each board's data."""
    for data in [file for file in files if PurePosixPath(file.src_uri).match("boards/*.json")]:
        files.remove(data)
        content = read_board(Path(data.abs_src_path)).html()
        files.append(File.generated(config, f"boards/{Path(data.src_uri).stem}.html", content=content))
    return files
