"""Running a user's own tools: one process and one scratch folder a job, a time limit, results in the order asked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from archgym.errors import ArchGymError

T = TypeVar("T")


class ToolError(Exception):
    """A tool that ran did not give a result; ``kind`` is ``timeout`` or ``failed``."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def find_binary(binary: str, tool: str, how: str) -> str:
    """Path of an executable; ``how`` says what to do where there is none."""
    found = shutil.which(binary)
    if found is None:
        raise ArchGymError(f"{tool} needs the program {binary!r}, which is not there or not executable; {how}")
    return found


def file_digest(path: Path) -> str:
    """Sixteen hex digits that stand for a file's content; read again only where the file was changed."""
    about = os.stat(path)
    return _digest(str(path), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def run_tool(
    command: Sequence[str], folder: Path, *, timeout_s: float, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command in ``folder`` and return what it printed (both streams).

    Raises:
        ToolError: where it runs past the limit (it is killed with its children) or exits other than with 0.
    """
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ToolError("timeout", f"it ran past {timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            _kill(process)
    if process.returncode:
        raise ToolError("failed", _reason(output, process.returncode))
    return output


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, 9)
    except (OSError, AttributeError):
        process.kill()
    process.wait()


def _reason(output: str, code: int) -> str:
    """The line that says most: the last that speaks of an error, else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    return (telling or lines or [f"exit code {code}"])[-1][:300]


def run_jobs(jobs: Sequence[Callable[[Path], T]], workers: int) -> list[T | ToolError]:
    """Run each job in a scratch folder of its own, ``workers`` at a time; a :class:`ToolError` stands in the place of
    a result that did not come."""

    def one(job: Callable[[Path], T]) -> T | ToolError:
        with tempfile.TemporaryDirectory(prefix="archgym-") as folder:
            try:
                return job(Path(folder))
            except ToolError as error:
                return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        return list(pool.map(one, jobs))
