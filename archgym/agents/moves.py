"""Moves in a design space that several agents share, vectorised over designs."""

from __future__ import annotations

__all__ = ()

import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from archgym.space import Designs, DesignSpace

Key = TypeVar("Key", bound=Hashable)


def row_keys(designs: Designs) -> list[bytes]:
    """A key of each of the designs ``(n, d)``, equal for equal ones."""
    return [row.tobytes() for row in designs]


def first_seen(keys: Iterable[Key], seen: set[Key]) -> list[int]:
    """Positions of the keys that are not in ``seen``, each at its first place; they are added to it."""
    new = []
    for i, key in enumerate(keys):
        if key not in seen:
            seen.add(key)
            new.append(i)
    return new


def seen_before(keys: Iterable[Key], seen: set[Key]) -> list[int]:
    """The other positions: of keys in ``seen`` and of repeats; the new keys are added to it."""
    old = []
    for i, key in enumerate(keys):
        if key in seen:
            old.append(i)
        else:
            seen.add(key)
    return old


_kernels: ModuleType | None = None


def compiled() -> ModuleType | None:
    """The module ``kernels.generations``, which makes the same moves by the same draws in less time, where Numba is loaded, as
    most simulators load it. It alone is not worth the second that this takes: None then, and under ``NUMBA_DISABLE_JIT``."""
    global _kernels
    if _kernels is not None or "numba" not in sys.modules:
        return _kernels
    # (Another thread may be loading it.)
    if not getattr(getattr(sys.modules["numba"], "config", None), "DISABLE_JIT", True):
        import archgym.agents.kernels.generations as kernels

        _kernels = kernels
    return _kernels


FEW = 16
"""Designs up to which one after the other is faster than arrays, whose calls cost microseconds each."""


def below(counts: Sequence[int], rng: np.random.Generator) -> list[int]:
    """A whole number from 0 to count - 1 for each of ``counts``, as ``rng.integers(0, counts)``. A few are drawn without the
    ten microseconds that it takes: by Lemire's method (ACM TOMACS, 2019) on the generator's own draws, which is NumPy's."""
    if len(counts) > 2 * FEW:
        many: list[int] = rng.integers(0, counts).tolist()
        return many
    interface = rng.bit_generator.ctypes
    draw, state = interface.next_uint32, interface.state
    drawn = []
    for count in counts:
        if count == 1:
            drawn.append(0)  # without a draw
            continue
        product = draw(state) * count
        if product & 0xFFFFFFFF < count:
            while product & 0xFFFFFFFF < 2**32 % count:
                product = draw(state) * count
        drawn.append(product >> 32)
    return drawn


def _settled(product: int, count: int, draw: Callable[[Any], int], state: Any) -> int:
    """Where Lemire's method has to look twice (as seldom as ``count`` in 2**32): the number that ``product`` leads to."""
    while product & 0xFFFFFFFF < 2**32 % count:
        product = draw(state) * count
    return product >> 32


class Mover:
    """Changes some parameters of each design of a batch.

    Args:
        space: the design space; parameters with one value never move.
        reach: how far an ordered parameter may move, as a share of its range; at least one step. Unordered
            parameters, and all with ``reach`` = 1, take any other value with equal probability.
    """

    def __init__(self, space: DesignSpace, reach: float = 1.0) -> None:
        self._nvec = space.nvec
        self._free = np.flatnonzero(space.nvec > 1)
        # The most steps a parameter moves; 0 marks "any other value".
        self.reaches = np.array(
            [
                max(1, round(reach * (len(parameter) - 1))) if parameter.ordered and reach < 1 else 0
                for parameter in space.parameters
            ],
            dtype=np.int64,
        )
        self._all_uniform = not self.reaches.any()
        self._keys, self._rows = np.empty(len(self._free)), np.empty((0, 0), dtype=np.int64)
        # The same as lists, for a few designs.
        self._counts, self._reaches, self._movable = space.nvec.tolist(), self.reaches.tolist(), self._free.tolist()

    def __call__(self, designs: Designs, changes: int, rng: np.random.Generator) -> Designs:
        """Designs ``(n, d)`` with ``changes`` different parameters changed in each (at most as many as can)."""
        if (kernels := compiled()) is not None:
            made = designs.copy()
            kernels.change(made, changes, *self.arrays(changes, len(made)), *kernels.draws(rng))
            return made
        if 0 < len(designs) <= FEW:
            return np.array(self.rows(designs.tolist(), changes, rng), dtype=np.int64)
        moved, free = designs.copy(), len(self._free)
        if not free or not len(moved):
            return moved
        rows = np.arange(len(moved))
        if min(changes, free) == 1:
            every = self._free[rng.integers(0, free, (1, len(moved)))]
        else:
            every = self._different(len(moved), changes, rng)
        for columns in every:
            moved[rows, columns] = self._step(moved[rows, columns], columns, rng)
        return moved

    def arrays(self, changes: int, n: int) -> tuple[NDArray[Any], ...]:
        """What compiled code takes of it to make up to ``changes`` changes in ``n`` designs, scratch at the end."""
        if self._rows.shape != (changes + 2, n):
            self._rows = np.empty((changes + 2, n), dtype=np.int64)
        return self._nvec, self.reaches, self._free, self._rows, self._keys

    def rows(self, designs: list[list[int]], changes: int, rng: np.random.Generator) -> list[list[int]]:
        """The same for designs as lists; a few are changed one after the other, by the same draws."""
        if len(designs) > FEW:
            changed: list[list[int]] = self(np.array(designs, dtype=np.int64), changes, rng).tolist()
            return changed
        moved, free, counts = [design[:] for design in designs], self._movable, self._counts
        if not free:
            return moved
        if self._all_uniform and min(changes, len(free)) == 1:
            self._change_one(moved, rng)
            return moved
        if min(changes, len(free)) == 1:
            every = [[free[k] for k in below([len(free)] * len(moved), rng)]]
        else:
            every = self._different(len(moved), changes, rng).tolist()
        for columns in every:
            jumps = below([counts[j] - 1 for j in columns], rng)
            if self._all_uniform:
                for row, j, jump in zip(moved, columns, jumps, strict=True):
                    row[j] = (row[j] + 1 + jump) % counts[j]
                continue
            lows = [max(row[j] - self._reaches[j], 0) for row, j in zip(moved, columns, strict=True)]
            highs = [min(row[j] + self._reaches[j], counts[j] - 1) for row, j in zip(moved, columns, strict=True)]
            steps = below([max(high - low, 1) for low, high in zip(lows, highs, strict=True)], rng)
            for row, j, jump, low, step in zip(moved, columns, jumps, lows, steps, strict=True):
                if self._reaches[j]:
                    row[j] = low + step + (low + step >= row[j])
                else:
                    row[j] = (row[j] + 1 + jump) % counts[j]
        return moved

    def _change_one(self, moved: list[list[int]], rng: np.random.Generator) -> None:
        """Another value for one parameter of each design, in place: what agents do most, so without calls of
        :func:`below`."""
        interface = rng.bit_generator.ctypes
        draw, state, free, counts = interface.next_uint32, interface.state, self._movable, self._counts
        many, columns = len(free), []
        for _ in moved:
            product = draw(state) * many if many > 1 else 0
            if product & 0xFFFFFFFF < many > 1:
                product = _settled(product, many, draw, state) << 32
            columns.append(free[product >> 32])
        for row, j in zip(moved, columns, strict=True):
            others = counts[j] - 1
            product = draw(state) * others if others > 1 else 0
            if product & 0xFFFFFFFF < others > 1:
                product = _settled(product, others, draw, state) << 32
            row[j] = (row[j] + 1 + (product >> 32)) % counts[j]

    def _different(self, n: int, changes: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``changes`` different parameters (at most as many as can change) for each of n designs, ``(changes, n)``."""
        order = np.argsort(rng.random((n, len(self._free))), axis=1)
        return self._free[order.T[:changes]]

    def _step(
        self, index: NDArray[np.int64], columns: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        count = self._nvec[columns]
        jump = (index + rng.integers(1, count)) % count
        if self._all_uniform:
            return jump
        reach = self.reaches[columns]
        # Uniform over the other values within reach: skip the present one.
        low, high = np.maximum(index - reach, 0), np.minimum(index + reach, count - 1)
        near = low + rng.integers(0, np.maximum(high - low, 1))
        near += near >= index
        return np.where(reach > 0, near, jump)


def awakened(space: DesignSpace, designs: Designs, copies: int, rng: np.random.Generator) -> Designs:
    """Canonical ``designs`` ``(n, d)``, each ``copies`` times, with other values of what is inactive in them: equivalent
    designs that differ in what a change of another parameter makes active. Shape ``(n, copies, d)``."""
    n, d = designs.shape
    start = np.repeat(designs, copies, axis=0)
    filled, drawn = start.copy(), space.sample(len(start), rng)
    # One after the other: two may each be without effect, and not both.
    for j in rng.permutation(d):
        tried = filled.copy()
        tried[:, j] = drawn[:, j]
        same = (space.canonical(tried) == start).all(axis=1)
        filled[same, j] = drawn[same, j]
    return filled.reshape(n, copies, d)


def tournament(rewards: NDArray[np.float64], winners: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the best of ``size`` members drawn with replacement, for each of ``winners`` tournaments."""
    if (kernels := compiled()) is not None:
        won = np.empty(winners, dtype=np.int64)
        kernels.compete(rewards, won, size, *kernels.draws(rng))
        return won
    drawn = rng.integers(0, len(rewards), (winners, size))
    return drawn[np.arange(winners), rewards[drawn].argmax(axis=1)]


class Stagnation:
    """Notices when a distribution that designs are drawn from has collapsed.

    Args:
        patience: generations in a row of which three quarters were met before.
    """

    def __init__(self, patience: int) -> None:
        self._patience, self._stale = patience, 0
        self._met: Any = None  # a set, or a table of compiled code

    def __call__(self, designs: Designs) -> bool:
        """Note a generation; True where it is the last straw (the count then starts again)."""
        if self._met is None:
            kernels = compiled()
            self._met = set() if kernels is None else kernels.Table(designs.shape[1])
        before = len(self._met)
        if isinstance(self._met, set):
            self._met.update(row_keys(designs))
        else:
            self._met.add(designs)
        self._stale = self._stale + 1 if 4 * (len(self._met) - before) < len(designs) else 0
        if self._stale < self._patience:
            return False
        self._stale = 0
        return True
