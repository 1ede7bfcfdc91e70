"""Compiled code: a place for it where the package's folder and the user's cannot be written, and a word while it is made."""

from __future__ import annotations

__all__ = ()

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from archgym.announcing import say

PATIENCE_S = 1.0
"""Compiling for less than this, in all, is not worth a word."""
_EVENTS = "numba.core.event"


class _News:
    """Says once that compiling takes long, where it is ``wanted``; hears of the start and end of each compilation, also of
    those within others."""

    def __init__(self) -> None:
        self.wanted, self.kept, self.said, self.listening = False, True, False, False
        self.depth, self.spent, self.since = 0, 0.0, 0.0
        self.timer: threading.Timer | None = None

    def start(self) -> None:
        self.depth += 1
        if self.depth == 1 and self.wanted and not self.said:
            self.since = time.monotonic()
            self.timer = threading.Timer(max(PATIENCE_S - self.spent, 0.0), self.say)
            self.timer.daemon = True
            self.timer.start()

    def end(self) -> None:
        self.depth -= 1
        if self.depth == 0 and self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.spent += time.monotonic() - self.since

    def say(self) -> None:
        if self.wanted and not self.said:
            self.said = True
            say(f"compiling{', once for this machine' if self.kept else ''}")

    def listen(self, event: ModuleType) -> None:
        """Hear of Numba's compilations; what comes from the cache is none. ``event`` is its module of that name."""
        listener = type(
            "Listener",
            (event.Listener,),
            {"on_start": lambda _, about: self.start(), "on_end": lambda _, about: self.end()},
        )
        event.register("numba:compile", listener())


_news = _News()


class _OnImport(MetaPathFinder):
    """Listens as soon as Numba is imported, which is not done for this: it takes a third of a second."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _EVENTS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _news.listen(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def announce_compilation(wanted: bool = True) -> Iterator[None]:
    """Inside, say on standard error that kernels are compiled, once and only where that takes longer than
    :data:`PATIENCE_S`."""
    if wanted and not _news.listening:
        _news.listening = True
        if _EVENTS in sys.modules:
            _news.listen(sys.modules[_EVENTS])
        else:
            sys.meta_path.insert(0, _OnImport())
    before, _news.wanted = _news.wanted, wanted
    try:
        yield
    finally:
        _news.wanted = before


def find_place() -> None:
    """See to it that Numba, which refuses to load a kernel that it can cache nowhere, finds a folder: its own choices (the
    package's, the user's), else one that goes with this process and those it starts; where there is no room for that either,
    it caches nothing. That is said once."""
    choices = [Path(__file__).parent, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")]
    if os.environ.get("NUMBA_CACHE_DIR"):
        choices = [Path(os.environ["NUMBA_CACHE_DIR"]), *choices]
    if any(_writable(folder) for folder in choices):
        return
    try:
        folder = tempfile.mkdtemp(prefix="archgym-compiled-")
    except OSError:
        from numba.core.dispatcher import Dispatcher

        Dispatcher.enable_caching = lambda self: None  # type: ignore[method-assign]
    else:
        os.environ["NUMBA_CACHE_DIR"] = folder
        atexit.register(_remove, folder, os.getpid())
    _news.kept = False
    say(
        "compiled code cannot be kept here, so that every run compiles anew; set NUMBA_CACHE_DIR to a folder that can be "
        "written"
    )


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not at the end of a forked process
        shutil.rmtree(folder, ignore_errors=True)


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
