"""What the agents on torch share: random generators and threads of the run's own."""

from __future__ import annotations

__all__ = ()

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.distributions import Distribution


@contextmanager
def own_randomness() -> Iterator[None]:
    """Put the global random generators, which torch's libraries seed, back afterwards; use one thread inside, so that
    sums have one order on every machine (and small networks are faster on one)."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Spare torch's distributions the check of every argument, a fifth of a small policy's time; draws and gradients
    are the same."""
    checked = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(checked)
