"""First generations that fill a space, and designs that keep its declared constraints, for agents that use what they know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.moves import Mover, compiled, seen_before
from archgym.space import Designs, DesignSpace

TRIES = 40
"""Times that designs which break a constraint are made anew; what then still breaks one is proposed as it is."""


def allowed(space: DesignSpace, designs: Designs) -> NDArray[np.bool_]:
    """Which designs keep every declared constraint; shape ``(n,)``."""
    kept = np.ones(len(designs), dtype=bool)
    for constraint in space.constraints:
        kept &= np.asarray(constraint.satisfied(designs), dtype=bool)
    return kept


INFORMED = "begin with Latin hypercubes, and propose only designs that are new by canonical form and keep the declared constraints"
"""The sentence of the hyperparameter ``informed`` of the agents that have it."""


class Fresh:
    """Makes the children of a generation new: those that were proposed before, by canonical form, or that break a declared
    constraint are changed again from their parents, by more parameters the longer it takes. What still breaks a constraint
    then is drawn anew, what is still not new stays as it is.

    Args:
        space: the design space.
        rng: the run's generator.
    """

    def __init__(self, space: DesignSpace, rng: np.random.Generator) -> None:
        self._space, self._rng, self._mutate = space, rng, Mover(space)
        # A design of most spaces is its own canonical form, and most declare no constraint.
        self._folds = bool(space.inactive) or space.has_equivalences
        self._ruled = self._folds or bool(space.constraints)
        self._seen: set[tuple[int, ...]] = set()
        self._met: Any = None  # a table of compiled code of what was proposed or made, as it is
        self._hopeless = False  # thousands of draws held no allowed design

    def first(self, count: int) -> Designs:
        """A first generation."""
        return self.noted(first_designs(self._space, count, self._rng))

    def noted(self, designs: Designs) -> Designs:
        """``designs``, from now on not new."""
        if self._met is not None and not self._ruled:
            self._met.add(designs)
        else:
            self._seen.update(self._keys(designs))
        return designs

    def moved(self, move: Mover, parents: Designs, changes: int, rng: np.random.Generator) -> Designs:
        """Children that ``move`` makes of ``parents`` ``(n, d)``, with ``changes`` of each."""
        if rng is not self._rng or (kernels := compiled()) is None:
            return self(move(parents, changes, rng), parents)
        children = np.empty_like(parents)
        return self._settled(children, self._renewed_by(kernels, children, parents, (changes, move.reaches)))

    def __call__(self, children: Designs, parents: Designs) -> Designs:
        """Children ``(n, d)`` of the rows of ``parents``, in place."""
        return self._settled(children, self._renewed(children, parents))

    def _settled(self, children: Designs, rows: list[int]) -> Designs:
        """Draw anew those of ``rows`` that break a constraint."""
        if not rows or not self._space.constraints:
            return children
        broken = np.array(rows)[~allowed(self._space, children[rows])]
        if len(broken) and not self._hopeless:
            children[broken] = first_designs(self._space, len(broken), self._rng)
            self._hopeless = not allowed(self._space, children[broken]).any()
        return children

    def _renewed(self, children: Designs, parents: Designs) -> list[int]:
        """Make the children that are rejected anew, in place; the positions of those that still are."""
        if (kernels := compiled()) is not None:
            return self._renewed_by(kernels, children, parents)
        rows = self._rejected(children)
        if not rows:
            return []
        origins = dict(zip(rows, parents[rows].tolist(), strict=True))
        anew: dict[int, list[int]] = {}
        for attempt in range(TRIES):
            made = self._mutate.rows([origins[row] for row in rows], 1 + attempt // 8, self._rng)
            anew.update(zip(rows, made, strict=True))
            if attempt < TRIES - 1:
                rows = [rows[k] for k in self._rejected(made)]
                if not rows:
                    break
        for row, design in anew.items():
            children[row] = design
        return rows

    def _renewed_by(
        self, kernels: Any, children: Designs, parents: Designs, birth: tuple[int, NDArray[np.int64]] | None = None
    ) -> list[int]:
        """The same by compiled code, which also makes them first, where changes and reaches of ``birth`` are given. A design
        that was made before is rejected without a look at the rules: it was then, or it was taken."""
        n, draws = len(children), kernels.draws(self._rng)
        if self._met is None:
            self._met, self._state = kernels.Table(self._space.dimension), np.empty(0, dtype=np.int8)
            if self._seen and not self._ruled:
                self._met.add(np.array(list(self._seen)))
                self._seen.clear()
        if len(self._state) != n:
            self._state = np.empty(n, dtype=np.int8)
        table, state = self._met, self._state
        attempt, changes, reaches = (
            (kernels.BORN, 0, self._mutate.reaches) if birth is None else (kernels.UNBORN, *birth)
        )
        *moves, rows, keys = self._mutate.arrays(max(changes, 1 + TRIES // 8), n)
        while True:
            table.make_room(n)
            attempt, table.count, left, judged = kernels.renew(
                children, parents, state, attempt, TRIES, changes, reaches, *moves, rows, keys, self._ruled, table.rows,
                table.slots, table.count, *draws,
            )  # fmt: skip
            if judged:
                new = rows[1, :judged]
                rejected = self._rejected(children[new])
                state[new[rejected]] = kernels.MET
                left += len(rejected)
            if not left:
                return []
            if attempt == TRIES:
                return np.flatnonzero(state == kernels.MET).tolist()

    def _keys(self, designs: Designs | list[list[int]]) -> Iterable[tuple[int, ...]]:
        if self._folds:
            designs = self._space.canonical(designs)
        return map(tuple, designs.tolist() if isinstance(designs, np.ndarray) else designs)

    def _rejected(self, designs: Designs | list[list[int]]) -> list[int]:
        """Positions of the designs that are not new, each at its first place, or not allowed; allowed ones are known from
        now on."""
        if not self._space.constraints:
            return seen_before(self._keys(designs), self._seen)
        designs, seen = np.asarray(designs), self._seen
        rejected = []
        for i, (key, kept) in enumerate(zip(self._keys(designs), allowed(self._space, designs).tolist(), strict=True)):
            if not kept or key in seen:
                rejected.append(i)
            if kept:
                seen.add(key)
        return rejected


def first_designs(space: DesignSpace, count: int, rng: np.random.Generator) -> Designs:
    """``count`` designs to begin with: of Latin hypercubes, in which every parameter takes all of its values as evenly as
    it can, those that keep the declared constraints."""

    def hypercube(n: int) -> Designs:
        cells = rng.permuted(np.tile(np.arange(n)[:, None], (1, space.dimension)), axis=0)
        return space.from_unit((cells + rng.random(cells.shape)) / n)

    made = hypercube(count)
    kept = made[allowed(space, made)]
    for _ in range(TRIES):
        if len(kept) == count:
            break
        more = hypercube(max(count, 256))
        kept = np.concatenate([kept, more[allowed(space, more)]])[:count]
    return np.concatenate([kept, made[: count - len(kept)]])
