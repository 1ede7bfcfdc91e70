"""A simulator over a part of its design space: what a person may not choose is fixed before the search begins.

``make_problem("dram/gzip", fix={"PagePolicy": "Open"}, only={"Scheduler": ["Fifo", "FrFcfs"]})`` and, at the command
line, ``--fix NAME=VALUE`` and ``--only NAME=A,B,C``. Objectives, references and metrics stay those of the whole space, so
that rewards can be compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.simulator import Evaluation, Simulator, Workload
from archgym.space import Designs, DesignSpace, Parameter, SubSpace, Value
from archgym.wrapping import Wrapped


def allowed_values(
    space: DesignSpace, fix: Mapping[str, Any] | None = None, only: Mapping[str, Any] | None = None
) -> dict[str, tuple[Value, ...]]:
    """Parameter -> the values it may take, in the space's order; values may also be given as the text that shows them.

    Raises:
        ArchGymError: an unknown parameter or value, a parameter in both, or one that keeps no value.
    """
    result: dict[str, tuple[Value, ...]] = {}
    asked: list[tuple[str, Any]] = [(name, [value]) for name, value in (fix or {}).items()]
    for name, values in [*asked, *(only or {}).items()]:
        parameter = space[name]
        if name in result:
            raise ArchGymError(f"{name} is both fixed and narrowed; do one of the two")
        if isinstance(values, str) or not isinstance(values, Sequence):
            values = [values]
        kept = {_index(parameter, value) for value in values}
        if not kept:
            raise ArchGymError(f"{name} may take no value; leave it out or name at least one")
        result[name] = tuple(parameter.values[i] for i in sorted(kept))
    return result


def _index(parameter: Parameter, value: Any) -> int:
    for i, known in enumerate(parameter.values):
        if isinstance(value, bool) == isinstance(known, bool) and known == value:
            return i
    if isinstance(value, str):  # as it is typed at a command line
        for i, known in enumerate(parameter.values):
            if str(known).lower() == value.lower() or _number(value) == (None if isinstance(known, bool) else known):
                return i
    raise UnknownNameError(f"value of {parameter.name}", value, [str(known) for known in parameter.values])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


class Narrowed(Wrapped):
    """A simulator whose spaces are cut to fewer values; everything else is the whole one's.

    Args:
        whole: the simulator.
        fix: parameter -> the one value that it takes.
        only: parameter -> the values that it may take.
    """

    def __init__(
        self, whole: Simulator, fix: Mapping[str, Any] | None = None, only: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(whole)
        self.fix, self.only = dict(fix or {}), dict(only or {})
        self._spaces: dict[int, tuple[DesignSpace, SubSpace]] = {}

    @property
    def _narrowed(self) -> dict[str, Any]:
        return {key: value for key, value in (("fix", self.fix), ("only", self.only)) if value}

    @property
    def given_options(self) -> dict[str, Any]:
        return {**self.whole.given_options, **self._narrowed}

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.whole.settings, **self._narrowed}

    def space(self, workload: Workload) -> DesignSpace:
        return self._part(workload)

    def _part(self, workload: Workload) -> SubSpace:
        whole = self.whole.space(workload)
        if id(whole) not in self._spaces:
            self._spaces[id(whole)] = whole, whole.restrict(allowed_values(whole, self.fix, self.only))
        return self._spaces[id(whole)][1]

    def lift(self, designs: ArrayLike, workload: Workload) -> Designs:
        """Designs of the narrowed space as designs of the whole one; rows of -1 (no parent) stay."""
        array = np.atleast_2d(np.asarray(designs))
        none: NDArray[np.bool_] = np.asarray((array < 0).all(axis=1))
        lifted = self._part(workload).lift(np.where(none[:, None], 0, array))
        lifted[none] = -1
        return lifted

    def evaluate(
        self,
        designs: ArrayLike,
        workload: Workload,
        *,
        fidelity: str | None = None,
        seed: int | None = None,
        **further: Any,
    ) -> Evaluation:
        designs = self.space(workload).check(designs)
        if further.get("parents") is not None:
            further["parents"] = self.lift(further["parents"], workload)
        return self.whole.evaluate(self.lift(designs, workload), workload, fidelity=fidelity, seed=seed, **further)

    def parent_seconds(self, parents: ArrayLike, workload: Workload, fidelity: str | None) -> NDArray[Any]:
        return self.whole.parent_seconds(self.lift(parents, workload), workload, fidelity)

    def measured_as(self, designs: ArrayLike, workload: Workload) -> NDArray[np.int64] | None:
        return self.whole.measured_as(self.lift(designs, workload), workload)

    def reach(self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None) -> tuple[Designs, Designs]:
        canonical = self.space(workload).canonical(designs)
        return canonical, canonical

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        return self.whole.pictures(self.lift(design, workload)[0], workload)
