"""Write files and folders so that a killed process leaves either the old one or the new one whole, and JSON that every reader
reads."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError


def unwritable(path: Path, error: OSError) -> ArchGymError:
    """The sentence for a path that cannot be written."""
    return ArchGymError(f"cannot write {path}: {error.strerror or error}; choose another folder or free some space")


_NUMBERS = itertools.count()


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to, which takes ``path``'s name when the block ends well.

    Its name is this call's own, so that several processes and threads may write the same file; the last one stays. With
    ``exclusive`` the first one does. ``path``'s folder is made where it is missing. What raises leaves ``path`` as it was.

    Raises:
        ArchGymError: where the folder cannot be written.
        FileExistsError: where an exclusive name is taken, be it at the end of the block.
    """
    path = Path(path)
    if not path.name:
        raise ArchGymError(f"cannot write to {str(path)!r}: it names no file; name one")
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{next(_NUMBERS)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    if exclusive and path.exists():
        raise FileExistsError(path)
    try:
        _remove_stale(path)
        try:
            yield temporary
            if exclusive:
                _take_name(temporary, path)
            else:
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if exclusive and isinstance(error, FileExistsError):
            raise
        raise unwritable(path, error) from None


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, which takes ``path``'s name when the block ends well: whole, or not there at all.

    Raises:
        ArchGymError: there are files in ``path`` already, or it cannot be written.
    """
    path = Path(path)
    place = path.resolve()
    temporary = place.with_name(f"{place.name}.{os.getpid()}-{next(_NUMBERS)}.tmp")
    try:
        if path.is_dir() and any(path.iterdir()):
            raise ArchGymError(f"{path} holds files already; choose another folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(place)
        try:
            temporary.mkdir()
            yield temporary
            if place == Path.cwd():  # which must stay the folder that it is
                for entry in sorted(temporary.iterdir()):
                    entry.rename(place / entry.name)
            else:
                if place.is_dir():
                    place.rmdir()
                temporary.rename(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise unwritable(path, error) from None


def _take_name(temporary: Path, path: Path) -> None:
    """Rename a file where nobody has the name."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.replace(temporary, path)


def _remove_stale(path: Path) -> None:
    """Remove what killed processes left beside ``path`` while they wrote it."""
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(f"{path.name}.") and e.name.endswith(".tmp")]
    for name in names:
        owner = name[len(path.name) + 1 : -len(".tmp")].partition("-")[0]
        if owner.isdecimal() and not _runs(int(owner)):
            stale = path.with_name(name)
            if stale.is_dir() and not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name != "posix" or process >= 1 << 31:  # elsewhere signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> Path:
    """Replace ``path`` by ``text`` as a whole; returns ``path``."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> Path:
    """Replace ``path`` by ``value`` as JSON (see :func:`finite`), with an end of line; returns ``path``."""
    return write_text(path, json.dumps(finite(value), indent=indent) + "\n")


BARE_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+\Z")
"""Exponents without a point or sign, texts to YAML 1.1 and numbers to 1.2 and to :mod:`archgym.reading`: ``1e-3``."""


def yaml_text(content: Any, **layout: Any) -> str:
    """Plain data as YAML that every reader reads alike, in the order given; ``layout`` as PyYAML's ``dump`` takes it. PyYAML
    itself leaves texts bare that are numbers to others (``1e3``)."""
    import yaml

    return str(yaml.dump(content, Dumper=_dumper(), sort_keys=False, **layout))


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        style = "'" if BARE_EXPONENT.match(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(str, text)
    return Dumper


def finite(value: Any) -> Any:
    """``value`` with what JSON cannot hold (NaN, infinities, NumPy scalars) replaced by None and plain numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
