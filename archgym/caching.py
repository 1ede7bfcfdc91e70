"""A place for compiled code where the package's folder and the user's cannot be written."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path


def find_place() -> None:
    """See to it that Numba, which refuses to load a kernel that it can cache nowhere, finds a folder: its own choices (the
    package's, the user's), else one that goes with this process and those it starts. That is said once."""
    choices = [Path(__file__).parent, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")]
    if os.environ.get("NUMBA_CACHE_DIR"):
        choices = [Path(os.environ["NUMBA_CACHE_DIR"]), *choices]
    if any(_writable(folder) for folder in choices):
        return
    try:
        folder = tempfile.mkdtemp(prefix="archgym-compiled-")
    except OSError:
        return  # Numba says what is wrong once a kernel is asked for
    os.environ["NUMBA_CACHE_DIR"] = folder
    atexit.register(_remove, folder, os.getpid())
    print(
        "archgym: compiled code cannot be kept here, so that every run compiles anew; set NUMBA_CACHE_DIR to a folder that "
        "can be written",
        file=sys.stderr,
    )


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not at the end of a forked process
        shutil.rmtree(folder, ignore_errors=True)


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
