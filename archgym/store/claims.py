"""Who simulates a design: among threads and processes that share a store, one of them, and the others wait for its result.

A claim is a locked byte of a file beside the store, whose place stands for the design. The system gives a process's locks back
when it ends, however it ends, so that a killed one keeps nobody waiting. Its locks know no threads, which a set tells apart.
"""

from __future__ import annotations

__all__ = ()

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path

try:
    import fcntl
except ImportError:  # threads of one process only
    fcntl = None  # type: ignore[assignment]

_ALL: weakref.WeakSet[Claims] = weakref.WeakSet()


class Claims:
    """The claims beside a store; one object a process and store, because closing the file anywhere gives all locks back.

    Args:
        path: of the file; made where it is missing. Where it cannot be made, or locked, only threads are told apart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self.forget()
        _ALL.add(self)

    def forget(self) -> None:
        """As nobody of this process had claims: a fork has none of its parent's."""
        self._changed = threading.Condition()
        self._held: set[int] = set()

    def take(self, wanted: Iterable[int], most: int) -> list[int]:
        """Claim up to ``most`` of ``wanted`` (each in 0 .. 2**62 - 1), those that nobody has; returns them in their order."""
        taken: list[int] = []
        with self._changed:
            for number in wanted:
                if len(taken) == most:
                    break
                if number not in self._held and self._lock(number):
                    self._held.add(number)
                    taken.append(number)
        return taken

    def release(self, numbers: Iterable[int]) -> None:
        """Give claims back."""
        with self._changed:
            for number in numbers:
                self._held.discard(number)
                if self._file is not None:
                    with contextlib.suppress(OSError):
                        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until a thread of this process gives claims back, at most so long."""
        with self._changed:
            self._changed.wait(seconds)

    def _lock(self, number: int) -> bool:
        if fcntl is None:
            return True
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as error:
            # Else there is no such file, or none that can be locked.
            return self._file is None or error.errno not in (errno.EACCES, errno.EAGAIN)
        return True


def _after_fork() -> None:
    for claims in _ALL:
        claims.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
