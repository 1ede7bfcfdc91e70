"""What is said on standard error, above all of evaluations that take long: training networks, starting programs."""

from __future__ import annotations

__all__ = ()

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archgym.problem import Problem
    from archgym.simulator import Live

EVERY_S = 30.0
"""Seconds between two lines on how far a batch is."""

_SAID: set[tuple[str, str | None]] = set()


def say(sentence: str) -> None:
    """A sentence on standard error."""
    print(f"archgym: {sentence}", file=sys.stderr, flush=True)


def say_once(sentence: str) -> None:
    """A sentence on standard error, once a process."""
    if (sentence, None) not in _SAID:
        _SAID.add((sentence, None))
        say(sentence)


def announce(problem: Problem) -> Live | None:
    """Say once a process and problem that its designs are trained now, and what that is likely to take; returns what the
    simulator says of it, None where nothing is trained."""
    live = problem.simulator.live(problem.workload, problem.fidelity)
    key = (problem.name, problem.fidelity)
    if live is not None and key not in _SAID:
        _SAID.add(key)
        say(f"{problem.name} {live.what}, about {duration(live.seconds)} each")
    return live


def duration(seconds: float) -> str:
    """Two figures of seconds, in minutes from a hundred seconds on."""
    return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds / 60:,.0f} min"


class Follow:
    """Says every ``EVERY_S`` seconds how many designs of a batch are done."""

    def __init__(self, problem: Problem, total: int) -> None:
        self._name, self._total = problem.name, total
        self._begin = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < EVERY_S or done >= self._total:
            return
        self._last = now
        left = (now - self._begin) / done * (self._total - done)
        say(f"{self._name}: {done:,} of {self._total:,} designs, about {duration(left)} left")
