"""Where a file of a user's own is: where its name says, or where a run's folder keeps it.

A run's folder says what the files were that its problem was made from, and holds copies of small ones
(:mod:`archgym.files`). While trials of that folder are read, names of files lead there where what they name is no longer
there, or has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from archgym.errors import ArchGymError, quote

_ASKED: ContextVar[tuple[tuple[str, Path], ...]] = ContextVar("asked", default=())
_KEPT: ContextVar[tuple[Kept, ...]] = ContextVar("kept", default=())
_FOLLOWS: ContextVar[bool] = ContextVar("follows", default=False)


MOST_FILES, MOST_FOLDER = 2000, 64 << 20
"""Files and bytes of a folder whose content is looked at."""


@dataclass(frozen=True)
class Kept:
    """A file that a run was made with.

    Attributes:
        name: as it was named, often relative to where the command was started.
        absolute: where it was.
        digest: of its content, see :func:`digest`.
        copy: where the run's folder holds a copy; None where it does not.
    """

    name: str
    absolute: Path
    digest: str
    copy: Path | None


def digest(path: Path) -> str:
    """SHA-256 of a file's content, or of the names and contents below a folder; empty where there is nothing to read,
    or a folder holds more than anybody describes a design with."""
    try:
        path.stat()  # raises where there is nothing
        if path.is_file():
            return file_digest(path)
        found = hashlib.sha256()
        files = list(islice((p for p in path.rglob("*") if p.is_file()), MOST_FILES + 1))
        if len(files) > MOST_FILES or sum(p.stat().st_size for p in files) > MOST_FOLDER:
            return ""
        for file in sorted(files):
            found.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\0".encode())
        return found.hexdigest()
    except (OSError, ValueError):
        return ""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits; read again only where the file was changed.

    Raises:
        OSError: it cannot be read.
    """
    about = path.stat()
    return _file_digest(str(path.absolute()), about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=256)
def _file_digest(path: str, time_ns: int, size: int) -> str:
    """Of a file that was last changed at ``time_ns``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def located(name: str) -> Path:
    """The path that ``name`` leads to: itself, but for a problem that is made as trials say (:func:`following`), where it leads
    to the content that they were made with.

    Raises:
        ArchGymError: that content is nowhere, and another one is there.
    """
    if "\0" in name or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in Path(name).parts):
        raise ArchGymError(f"no file is called {quote(name)}; give the path of an existing one")
    path = Path(name)
    kept = [file for file in _KEPT.get() if file.name == name] if _FOLLOWS.get() else []
    places = [p for file in kept for p in (path, file.absolute, file.copy) if p and digest(p) == file.digest]
    if kept and not places and path.exists():
        raise ArchGymError(
            f"{quote(name, marks=False)} has changed since these trials were made, and their folder holds no copy of it; put "
            "back what it was"
        )
    path = next(iter(places), path)
    _ASKED.set((*_ASKED.get()[-31:], (name, path)))
    return path


@contextmanager
def following(kept: Iterable[Kept] | None = None) -> Iterator[None]:
    """Inside, names of files lead to what trials were made with: those files, or those that :func:`lead_to` was told of."""
    follows = _FOLLOWS.set(True)
    files = None if kept is None else _KEPT.set(tuple(kept))
    try:
        yield
    finally:
        _FOLLOWS.reset(follows)
        if files is not None:
            _KEPT.reset(files)


def asked_for() -> tuple[tuple[str, Path], ...]:
    """What :func:`located` was asked for since this was called last: names with their paths."""
    found = _ASKED.get()
    _ASKED.set(())
    return tuple(dict.fromkeys(found))


def lead_to(kept: Iterable[Kept]) -> None:
    """These files are what trials that were opened last were made with."""
    new = list(kept)
    names = {file.name for file in new}
    _KEPT.set((*new, *(file for file in _KEPT.get() if file.name not in names))[:1000])
