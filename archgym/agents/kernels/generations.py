"""What agents with small generations do over and over, compiled: moves, a table of the designs met, tournaments, walks.

A generation of four to sixteen designs takes NumPy some dozens of calls of a microsecond or more each, and Python's own loops as
long. Everything here takes the numbers of the agent's own generator in the order in which the functions of ``moves.py`` and
``starting.py`` take them from it, so that the proposals are the same bit by bit; those are what runs where Numba is not loaded.
"""

from __future__ import annotations

__all__ = ()

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from archgym.agents.kernels import annealing
from archgym.compiling import inner, kernel

_functions: dict[type, tuple[int, int]] = {}


def draws(rng: np.random.Generator) -> tuple[int, int, int]:
    """Where compiled code finds the next numbers of a generator: addresses of NumPy's functions for 32 bits and for a double,
    and of the state. They hold for as long as ``rng`` lives in this process."""
    bits = rng.bit_generator
    interface: Any = bits.ctypes
    if type(bits) not in _functions:
        _functions[type(bits)] = _address(interface.next_uint32), _address(interface.next_double)
    return (*_functions[type(bits)], interface.state_address)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _drawn(result: Any, kind: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        function = builder.inttoptr(arguments[0], ir.FunctionType(kind, [pointer]).as_pointer())
        return builder.call(function, [builder.inttoptr(arguments[1], pointer)])

    return result(types.int64, types.int64), codegen


@intrinsic
def _next_uint32(typingctx: Any, function: Any, state: Any) -> Any:
    return _drawn(types.uint32, ir.IntType(32))


@intrinsic
def _next_double(typingctx: Any, function: Any, state: Any) -> Any:
    return _drawn(types.float64, ir.DoubleType())


@inner
def _below(count, next_uint32, state):
    """A whole number from 0 to count - 1 by Lemire's method (ACM TOMACS, 2019), NumPy's; without a draw where that is 0."""
    if count <= 1:
        return 0
    low = np.uint64(0xFFFFFFFF)
    product = np.uint64(_next_uint32(next_uint32, state)) * np.uint64(count)
    if (product & low) < np.uint64(count):
        threshold = (np.uint64(1) << np.uint64(32)) % np.uint64(count)
        while (product & low) < threshold:
            product = np.uint64(_next_uint32(next_uint32, state)) * np.uint64(count)
    return np.int64(product >> np.uint64(32))


# --- moves ---------------------------------------------------------------------------------------------------------


@inner
def _change(made, origins, rows, n, changes, counts, reaches, free, keys, next_uint32, next_double, state):
    """Make n designs of ``made``, those that the first of ``rows`` names, of the same ones of ``origins``, with ``changes``
    different parameters changed in each. The other rows of ``rows`` are scratch, one more than changes, and so is ``keys``, of
    the length of ``free``."""
    many, uniform = len(free), True
    changes = min(changes, many)
    for j in range(len(counts)):
        uniform &= reaches[j] == 0
        for k in range(n):
            made[rows[0, k], j] = origins[rows[0, k], j]
    if changes == 1:
        for k in range(n):
            rows[1, k] = free[_below(many, next_uint32, state)]
    elif changes > 1:
        for k in range(n):
            for j in range(many):
                keys[j] = _next_double(next_double, state)
            for c in range(changes):
                least = 0
                for j in range(1, many):
                    if keys[j] < keys[least]:
                        least = j
                keys[least] = 2.0  # above any other
                rows[1 + c, k] = free[least]
    for c in range(1, 1 + changes):
        for k in range(n):
            rows[1 + changes, k] = _below(counts[rows[c, k]] - 1, next_uint32, state)
        for k in range(n):
            i, j = rows[0, k], rows[c, k]
            index, reach = made[i, j], reaches[j]
            # (Of parameters that take any other value both numbers are drawn where others have a reach; one is of use.)
            low, high = max(index - reach, 0), min(index + reach, counts[j] - 1)
            near = low if uniform else low + _below(max(high - low, 1), next_uint32, state)
            if reach:
                made[i, j] = near + (near >= index)
            else:
                made[i, j] = (index + 1 + rows[1 + changes, k]) % counts[j]


@kernel(arrays=False)
def change(made, changes, counts, reaches, free, rows, keys, next_uint32, next_double, state):
    """As ``moves.Mover``, in place: ``made`` is ``(n, d)``, ``counts`` and ``reaches`` ``(d,)``; ``free`` are the columns with
    more than one value; ``rows`` ``(changes + 2, n)`` and ``keys``, as long as ``free``, are scratch."""
    n = len(made)
    for k in range(n):
        rows[0, k] = k
    _change(made, made, rows, n, changes, counts, reaches, free, keys, next_uint32, next_double, state)


# --- the designs met ---------------------------------------------------------------------------------------------------


@inner
def _place(designs, i, rows, slots):
    """The slot of design i, or the free one where it belongs; slots hold 1 + the number of a row, 0 where free."""
    d, mixed = designs.shape[1], np.uint64(0)
    for j in range(d):
        mixed = (mixed ^ np.uint64(designs[i, j])) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    mask = len(slots) - 1
    slot = np.int64(mixed & np.uint64(mask))
    while slots[slot]:
        known, same = slots[slot] - 1, True
        for j in range(d):
            if rows[known, j] != designs[i, j]:
                same = False
                break
        if same:
            break
        slot = (slot + 1) & mask
    return slot


@inner
def _add(designs, i, rows, slots, count):
    """Whether design i is new; it is then the row ``count`` of ``rows``."""
    slot = _place(designs, i, rows, slots)
    if slots[slot]:
        return False
    slots[slot] = count + 1
    for j in range(designs.shape[1]):
        rows[count, j] = designs[i, j]
    return True


@kernel(arrays=False)
def add(designs, rows, slots, count):
    """Add designs ``(n, d)``; return how many there are then."""
    for i in range(len(designs)):
        count += _add(designs, i, rows, slots, count)
    return count


class Table:
    """Designs met, ``(count, d)``, in a table with open addressing.

    Attributes:
        rows, slots, count: as the kernels take them.
    """

    def __init__(self, dimension: int) -> None:
        self.rows = np.empty((256, dimension), dtype=np.int64)
        self.slots = np.zeros(4 * len(self.rows), dtype=np.int32)
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def make_room(self, more: int) -> None:
        """See to it that ``more`` designs can be added."""
        if self.count + more <= len(self.rows):
            return
        rows = np.empty((1 << (self.count + more).bit_length() + 1, self.rows.shape[1]), dtype=np.int64)
        slots = np.zeros(2 * len(rows), dtype=np.int32)
        add(self.rows[: self.count], rows, slots, 0)
        self.rows, self.slots = rows, slots

    def add(self, designs: NDArray[np.int64]) -> None:
        """Add designs ``(n, d)``."""
        self.make_room(len(designs))
        self.count = add(np.ascontiguousarray(designs, dtype=np.int64), self.rows, self.slots, self.count)


MET, NEW = range(2)
"""What is known of a child: it was met before, or not looked at yet; or neither."""
UNBORN, BORN = -2, -1
"""Attempts of children that were not made yet, and of those that were not looked at."""


@kernel(arrays=False)
def renew(
    children, parents, state, attempt, tries, birth_changes, birth_reaches, counts, reaches, free, rows, keys, ruled,
    known, slots, count, next_uint32, next_double, state_of_rng,
):  # fmt: skip
    """As ``starting.Fresh``: make the children that are :data:`MET` anew until they are new, as they are.

    Args:
        children, parents: ``(n, d)``; children are made, and made anew, in place.
        state: ``(n,)``, of each child :data:`MET` or :data:`NEW`; scratch where the attempt is below 0.
        attempt: how often they were made anew before; or :data:`UNBORN`, or :data:`BORN`.
        tries: how often they may be.
        birth_changes, birth_reaches: with how many changes, of which reach, they are born.
        counts, reaches, free, rows, keys: as of :func:`change`.
        ruled: whether the space has rules, which have to judge the children that are new: then it returns when some are.
        known, slots, count: of a :class:`Table`. Where it lacks room for another attempt this returns.

    Returns:
        ``attempt`` and ``count`` as they are now, the number of children that are still :data:`MET`, and of those to be judged,
        whose positions are at the front of the second of ``rows``.
    """
    while True:
        left = 0
        for i in range(len(children)):
            if attempt < 0:
                state[i] = MET
            if state[i] == MET:
                rows[0, left] = i
                left += 1
        if left == 0 or attempt == tries or count + left > len(known):
            return attempt, count, left, 0
        if attempt != BORN:
            changes, reach = 1 + attempt // 8, reaches
            if attempt == UNBORN:
                changes, reach = birth_changes, birth_reaches
            _change(
                children,
                parents,
                rows,
                left,
                changes,
                counts,
                reach,
                free,
                keys,
                next_uint32,
                next_double,
                state_of_rng,
            )
        attempt += 1
        if attempt == BORN:
            continue
        if attempt == tries:
            return attempt, count, left, 0  # the last ones are taken as they are
        judged = 0
        for k in range(left):
            if _add(children, rows[0, k], known, slots, count):
                state[rows[0, k]] = NEW
                rows[1, judged] = rows[0, k]
                count += 1
                judged += 1
        if ruled and judged:
            return attempt, count, left - judged, judged


# --- what else generations are made by -----------------------------------------------------------------------------


@kernel(arrays=False)
def compete(rewards, winners, size, next_uint32, next_double, state):
    """As ``moves.tournament``: into ``winners`` the best of ``size`` members drawn for each."""
    for k in range(len(winners)):
        best = _below(len(rewards), next_uint32, state)
        for _ in range(size - 1):
            other = _below(len(rewards), next_uint32, state)
            if rewards[other] > rewards[best]:
                best = other
        winners[k] = best


@kernel(arrays=False)
def mutate(family, older, uniform, mutation, counts, free, slots, twins, next_uint32, next_double, state):
    """As the second half of ``deap_support.vary``: mutate the rows of ``family`` after the first ``older``, in place.

    Args:
        uniform: a number a gene, ``(n, d)``; below ``mutation`` it is drawn anew.
        counts, free: as of :func:`change`.
        slots: zeros, a power of two and twice as many as there are rows or more.
        twins: scratch ``(2, n)``.
    """
    for i in range(len(uniform)):
        for j in range(len(counts)):
            if uniform[i, j] < mutation and counts[j] > 1:
                step = 1 + _below(counts[j] - 1, next_uint32, state)
                family[older + i, j] = (family[older + i, j] + step) % counts[j]
    found = 0
    for i in range(len(family)):
        slot = _place(family, i, family, slots)
        if slots[slot] == 0:
            slots[slot] = i + 1
        elif i >= older and len(free):
            twins[0, found] = i
            found += 1
    for k in range(found):
        twins[1, k] = free[_below(len(free), next_uint32, state)]
    for k in range(found):
        i, j = twins[0, k], twins[1, k]
        family[i, j] = (family[i, j] + 1 + _below(counts[j] - 1, next_uint32, state)) % counts[j]


@kernel(arrays=False)
def walk(pheromone, uniform, greedy, greediness, counts, shares, ways):
    """As ``ant_colony.AntColony``: into ``ways`` ``(n, d)`` the choices of ants, by two numbers a choice each; ``shares`` is
    scratch, as long as a row of ``pheromone``."""
    for j in range(len(counts)):
        total, most = 0.0, 0
        for k in range(len(shares)):
            total += pheromone[j, k]
            shares[k] = total
            if pheromone[j, k] > pheromone[j, most]:
                most = k
        for k in range(len(shares)):
            shares[k] /= total
        for i in range(len(ways)):
            if greedy[i, j] < greediness:
                ways[i, j] = most
                continue
            choice = 0
            while choice < counts[j] - 1 and shares[choice] <= uniform[i, j]:
                choice += 1
            ways[i, j] = choice


step_chains = kernel(arrays=False)(annealing.step_chains)
