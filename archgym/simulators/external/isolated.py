"""A process in which a Python function runs, so that it may crash or hang without harm; it serves one call after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

_START_S = 300.0


class Crashed(Exception):
    """A run ended with an error."""


class Violation(Exception):
    """Raised by ``parse`` or ``simulate`` where a design is infeasible; the name says why, and stands in ``violations``."""


class TooLong(Exception):
    """A run went past its limit and was ended."""


def end_group(process: int) -> None:
    """End a process that leads a group, and what it started."""
    if os.name == "posix":
        with suppress(OSError):
            os.killpg(process, signal.SIGKILL)
    else:
        with suppress(OSError):
            os.kill(process, signal.SIGTERM)


class Isolated:
    """A process that waits for calls."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self.alive = True
        if not self._connection.poll(_START_S) or self._receive() != "ready":
            self.end()
            raise Crashed("its process did not start; is the simulator defined in a file, below no if __name__?")

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            return None

    def call(self, simulator: Any, job: Any, limit_s: float) -> tuple[str, Any]:
        """``simulator.simulate(job)``: ("done", metrics), ("violation", name) or ("error", words).

        Raises:
            TooLong: it took more than ``limit_s``; the process is gone.
            Crashed: the process ended.
        """
        try:
            self._connection.send((simulator, job))
            answered = self._connection.poll(limit_s)
        except OSError:
            answered = True
        if not answered:
            self.end()
            raise TooLong
        answer = self._receive()
        if answer is None:
            self.end()
            code = self._process.exitcode
            raise Crashed(f"its process ended with {signal.Signals(-code).name if code and code < 0 else code}")
        kind, words = answer
        return kind, words

    def end(self) -> None:
        """End the process."""
        self.alive = False
        if self._process.pid is not None:
            end_group(self._process.pid)
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Any, parent: int) -> None:
    """The other process's life."""
    if os.name == "posix":
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this one

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    connection.send("ready")
    while True:
        try:
            simulator, job = connection.recv()
        except EOFError:
            return
        connection.send(_answer(simulator, job))


def _answer(simulator: Any, job: Any) -> tuple[str, Any]:
    before, saved = os.getcwd(), [os.dup(1), os.dup(2)]
    try:
        os.chdir(job.folder)
        for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
            file = os.open(Path(job.folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        found = simulator.simulate(job)
        return "done", {str(name): float(value) for name, value in found.items()}
    except Violation as error:
        return "violation", str(error)
    except Exception as error:
        traceback.print_exc()
        return "error", f"{type(error).__name__}: {error}"[:300]
    finally:
        for number, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, number)
            os.close(kept)
        os.chdir(before)
