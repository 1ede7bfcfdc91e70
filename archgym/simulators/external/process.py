"""Running a user's own tools: one process and one scratch folder a job, a time limit, results in the order asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from archgym.errors import ArchGymError
from archgym.locating import file_digest
from archgym.simulators.external.isolated import end_group

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


def program_digest(path: Path) -> str:
    """Sixteen hex digits that stand for the content of a file that a result depends on."""
    return file_digest(path)[:16]


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
            end_group(process.pid)
            process.wait()
    if process.returncode:
        raise ToolError("failed", _reason(output, process.returncode))
    return output


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
