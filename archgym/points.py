"""Design spaces as other optimisers declare theirs: Optuna, ConfigSpace (SMAC3), Nevergrad, pymoo, scikit-optimize.

All of them see the same *point* of a design: by parameter name the value index of an ordered parameter (an integer range,
whatever its values) and the value itself of an unordered one (a category). So one way back serves all of them,
:meth:`archgym.space.DesignSpace.from_point`. No library can say our constraints and equivalences: designs that break a
constraint are evaluated as infeasible, and equivalent designs are repeats, which cost no budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, MissingExtraError

if TYPE_CHECKING:
    from archgym.space import DesignSpace, Parameter


def _missing(method: str, library: str) -> MissingExtraError:
    return MissingExtraError(f"space.{method}()", "peers", f"{library} is not installed")


def _categories(parameter: Parameter) -> tuple[Any, ...]:
    """What stands for the values of an unordered parameter: themselves; where text is among numbers, which some libraries
    turn into text, their indices."""
    text = sum(isinstance(value, str) for value in parameter.values)
    return parameter.values if text in (0, len(parameter)) else tuple(range(len(parameter)))


def to_point(space: DesignSpace, design: Any) -> dict[str, Any]:
    """See :meth:`archgym.space.DesignSpace.to_point`."""
    row = space.check(design)[0].tolist()
    return {
        p.name: index if p.ordered else _categories(p)[index] for p, index in zip(space.parameters, row, strict=True)
    }


def from_point(space: DesignSpace, point: Any) -> NDArray[np.int64]:
    """See :meth:`archgym.space.DesignSpace.from_point`."""
    if not isinstance(point, Mapping):
        given: list[Any] = list(point) if isinstance(point, Sequence | np.ndarray) else [point]
        if len(given) != space.dimension:
            raise ArchGymError(f"the point has {len(given)} entries; expected {space.dimension}, one a parameter")
        point = dict(zip(space.names, given, strict=True))
    for name in point:
        space.position(name)
    for name in space.names:
        if name not in point:
            raise ArchGymError(f"the point lacks {name!r}; give every parameter an entry")
    return np.array([_index(p, point[p.name]) for p in space.parameters], dtype=np.int64)


def _index(parameter: Parameter, entry: Any) -> int:
    if not parameter.ordered and _categories(parameter) is parameter.values:
        return parameter.index(entry)
    # Some libraries give the integers of a range as floats.
    whole = isinstance(entry, int | float | np.number) and np.isfinite(entry) and entry == int(entry)
    if not whole or not 0 <= entry < len(parameter):
        raise ArchGymError(
            f"{parameter.name} has the entry {str(entry)[:80]}; expected an index 0..{len(parameter) - 1}"
        )
    return int(entry)


def to_optuna(space: DesignSpace, trial: Any) -> NDArray[np.int64]:
    """See :meth:`archgym.space.DesignSpace.to_optuna`."""
    point = {
        p.name: trial.suggest_int(p.name, 0, len(p) - 1)
        if p.ordered
        else trial.suggest_categorical(p.name, _categories(p))
        for p in space.parameters
    }
    return from_point(space, point)


def to_configspace(space: DesignSpace, seed: int | None) -> Any:
    """See :meth:`archgym.space.DesignSpace.to_configspace`."""
    try:
        import ConfigSpace
    except ModuleNotFoundError:
        raise _missing("to_configspace", "ConfigSpace") from None

    def declared(p: Parameter) -> Any:
        if len(p) == 1:
            return ConfigSpace.Constant(p.name, 0 if p.ordered else _categories(p)[0])
        if p.ordered:
            return ConfigSpace.UniformIntegerHyperparameter(p.name, 0, len(p) - 1)
        return ConfigSpace.CategoricalHyperparameter(p.name, _categories(p))

    made = ConfigSpace.ConfigurationSpace(seed=seed)
    made.add([declared(p) for p in space.parameters])
    return made


def to_nevergrad(space: DesignSpace) -> Any:
    """See :meth:`archgym.space.DesignSpace.to_nevergrad`."""
    try:
        from nevergrad import p as ng
    except ModuleNotFoundError:
        raise _missing("to_nevergrad", "nevergrad") from None

    def declared(p: Parameter) -> Any:
        if len(p) == 1:
            return ng.Constant(0 if p.ordered else _categories(p)[0])
        return ng.TransitionChoice(range(len(p))) if p.ordered else ng.Choice(_categories(p))

    return ng.Dict(**{p.name: declared(p) for p in space.parameters})


def to_pymoo(space: DesignSpace) -> dict[str, Any]:
    """See :meth:`archgym.space.DesignSpace.to_pymoo`."""
    try:
        from pymoo.core.variable import Choice, Integer
    except ModuleNotFoundError:
        raise _missing("to_pymoo", "pymoo") from None
    return {
        p.name: Integer(bounds=(0, len(p) - 1)) if p.ordered else Choice(options=list(_categories(p)))
        for p in space.parameters
    }


def to_skopt(space: DesignSpace) -> list[Any]:
    """See :meth:`archgym.space.DesignSpace.to_skopt`."""
    from skopt.space import Categorical, Integer

    return [
        Integer(0, len(p) - 1, name=p.name)
        if p.ordered and len(p) > 1
        else Categorical((0,) if p.ordered else _categories(p), name=p.name)
        for p in space.parameters
    ]
