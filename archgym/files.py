"""What a run was made from, kept beside its trials: ``made-from/`` has one small JSON a file, with its absolute path and the
fingerprint of its content, and copies of small files. So a run's folder works from any working directory, and elsewhere."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from archgym.errors import ArchGymError, quote
from archgym.locating import Kept, digest
from archgym.reading import checked, read_json
from archgym.writing import write_json

FOLDER = "made-from"
MOST = 8 << 20
"""Bytes of a file, or of a folder's files, that are copied."""


class _About(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    absolute: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    copied: bool


def keep_files(folder: Path, files: Iterable[tuple[str, Path]]) -> None:
    """Note under ``folder`` what the files are that a run there is made from, and copy small ones.

    Args:
        folder: of the run's shard.
        files: as they were named, and where they are.
    """
    home = folder / FOLDER
    for name, path in files:
        if path.is_dir() and home.resolve().is_relative_to(path.resolve()):
            continue  # a folder that changes as the run goes on
        found = digest(path)
        if not found:
            continue
        note = home / f"{hashlib.sha256(f'{name} {found}'.encode()).hexdigest()[:16]}.json"
        if note.exists():
            continue
        size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
        if size <= MOST:
            _copy(path, _place(home, found, name))
        write_json(note, msgspec.to_builtins(_About(name, os.path.abspath(path), found, size, size <= MOST)))


def _place(home: Path, found: str, name: str) -> Path:
    last = Path(name.replace("\\", "/")).name
    return home / found[:16] / ("file" if last in ("", "..") else last)


def _copy(path: Path, place: Path) -> None:
    """Copy a file or folder at once: nobody ever sees half of it."""
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    half = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    if path.is_dir():
        shutil.copytree(path, half)
    else:
        shutil.copyfile(path, half)
    try:
        os.replace(half, place)
    except OSError:  # a folder that another process put there in between
        shutil.rmtree(half, ignore_errors=True)


def check_one_content(shards: Iterable[Path]) -> None:
    """Refuse trials of equal names of files that said different things: they would pass for trials of one problem."""
    seen: dict[str, tuple[str, Path]] = {}
    for folder in dict.fromkeys(Path(path).parent for path in shards):
        for kept in kept_beside([folder / "any"]):
            digest_before, where = seen.setdefault(kept.name, (kept.digest, folder))
            if digest_before != kept.digest:
                raise ArchGymError(
                    f"the trials in {quote(str(where), marks=False)} and {quote(str(folder), marks=False)} were made with "
                    f"different contents of the file {quote(kept.name, marks=False)}; take them one by one"
                )


def kept_beside(shards: Iterable[Path]) -> list[Kept]:
    """The files that the folders of these shards say their trials were made from; notes that cannot be read say nothing."""
    kept = []
    for folder in dict.fromkeys(Path(path).parent for path in shards):
        for note in sorted((folder / FOLDER).glob("*.json")):
            with suppress(ArchGymError):
                about: _About = checked(read_json(note, "note"), _About, f"the note {note}")
                place = _place(note.parent, about.sha256, about.name) if about.copied else None
                kept.append(Kept(about.name, Path(about.absolute), about.sha256, place))
    return kept
