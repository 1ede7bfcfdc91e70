"""Design spaces: named parameters with finite value lists, constraints, inactive parameters and encodings.

A *design* is one row of value indices, int64 of shape ``(d,)``; a batch has shape ``(n, d)``. Index rows are the
canonical form everywhere: the simulators take them, the agents propose them, Gymnasium's ``MultiDiscrete`` holds
them. Everything here is vectorised over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

import archgym.points as points
from archgym.errors import ArchGymError, UnknownNameError, whole_number

Value = int | float | str | bool
Designs = NDArray[np.int64]
Mask = NDArray[np.bool_]
_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)


@dataclass(frozen=True)
class Parameter:
    """One named choice of the designer.

    Args:
        name: unique in its space.
        values: the finite list of values, in order; numbers, strings or booleans.
        ordered: True where neighbouring values are similar (sizes, widths); False for policies and kinds. Encoders
            scale ordered parameters and one-hot the others.
        unit: unit of the values, empty where they have none.
        description: one sentence for people.
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool = True
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(_plain(value) for value in self.values))
        if not self.values:
            raise ArchGymError(f"parameter {self.name!r} has no values; give at least one")
        if len({(type(value) is str, value) for value in self.values}) != len(self.values):
            raise ArchGymError(f"parameter {self.name!r} lists a value twice; values must differ")

    def __len__(self) -> int:
        return len(self.values)

    def index(self, value: Value) -> int:
        """Index of ``value``; numbers compare by value (8 finds 8.0), everything else exactly."""
        try:
            return self.values.index(_plain(value))
        except ValueError:
            pass
        if all(isinstance(known, str) for known in self.values):
            raise UnknownNameError(f"value of {self.name}", value, [str(known) for known in self.values])
        shown = ", ".join(map(str, self.values[:10])) + (", ..." if len(self.values) > 10 else "")
        raise ArchGymError(f"{self.name} cannot be {value!r}; its values are {shown}")


def _plain(value: Any) -> Value:
    return value.item() if isinstance(value, np.generic) else value


def boolean(name: str, description: str = "") -> Parameter:
    """A parameter that is False or True."""
    return Parameter(name, (False, True), ordered=False, description=description)


def linear_grid(name: str, start: float, stop: float, count: int, **kwargs: Any) -> Parameter:
    """A continuous knob as a declared grid of ``count`` equal steps from ``start`` to ``stop``, both included."""
    return Parameter(name, tuple(float(value) for value in np.linspace(start, stop, count)), **kwargs)


def log_grid(name: str, start: float, stop: float, count: int, **kwargs: Any) -> Parameter:
    """A continuous knob as a declared geometric grid from ``start`` to ``stop``, both included."""
    return Parameter(name, tuple(float(value) for value in np.geomspace(start, stop, count)), **kwargs)


@dataclass(frozen=True)
class Permutation:
    """An order of items as a parameter: ``k`` items take ``k - 1`` parameters of ``k``, ``k - 1``, ..., 2 levels.

    The parameters ``name.0``, ``name.1``, ... are the digits of the Lehmer code: which of the items that are left stands at
    that place. Every row of indices is one order and every order one row, so that agents, neighbours and encodings need to
    know of nothing else.

    Args:
        name: unique in its space.
        items: what is ordered; numbers, strings or booleans, all different.
        description: one sentence for people.
    """

    name: str
    items: tuple[Value, ...]
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", Parameter(self.name, tuple(self.items)).values)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters that stand for it."""
        count, about = len(self.items), self.description or "order of " + ", ".join(map(str, self.items))
        return tuple(
            Parameter(f"{self.name}.{i}", tuple(range(count - i)), ordered=False,
                      description=f"{about}: which of the items left stands at place {i}")
            for i in range(max(count - 1, 1))
        )  # fmt: skip

    def decode(self, digits: ArrayLike) -> NDArray[np.int64]:
        """Lehmer digits ``(n, max(k - 1, 1))`` -> the positions in ``items`` of what stands at each place, ``(n, k)``."""
        digits = np.asarray(digits, dtype=np.int64).reshape(-1, max(len(self.items) - 1, 1))
        left = np.tile(np.arange(len(self.items), dtype=np.int64), (len(digits), 1))
        order = np.empty_like(left)
        rows = np.arange(len(digits))
        for i in range(len(self.items)):
            chosen = digits[:, i] if i < len(self.items) - 1 else np.zeros(len(digits), dtype=np.int64)
            order[:, i] = left[rows, chosen]
            keep = np.arange(left.shape[1]) != chosen[:, None]
            left = left[keep].reshape(len(digits), left.shape[1] - 1)
        return order

    def encode(self, order: Sequence[Value]) -> tuple[int, ...]:
        """The digits of an order, given as its items."""
        left = list(range(len(self.items)))
        known = {(type(item) is str, item): i for i, item in enumerate(self.items)}
        try:
            places = [known[type(item) is str, _plain(item)] for item in order]
        except (KeyError, TypeError):
            places = []
        if sorted(places) != left:
            raise ArchGymError(
                f"{self.name} is given as {str(order)[:80]}; expected each of its {len(left)} items once"
            )
        digits = []
        for place in places:
            digits.append(left.index(place))
            left.remove(place)
        return tuple(digits[: max(len(self.items) - 1, 1)])


@dataclass(frozen=True)
class Constraint:
    """A named rule over whole batches.

    Args:
        name: short identifier; it is what a trial's ``violation`` column holds.
        sentence: the rule in words for people.
        satisfied: designs ``(n, d)`` -> bool ``(n,)``, True where the rule holds.
        over: ``"values"`` where ``satisfied`` takes :meth:`DesignSpace.by_name` in the place of value indices:
            ``lambda v: v["ways"] * v["sets"] <= 512``. In a space's own list it then is a rule over indices.
    """

    name: str
    sentence: str
    satisfied: Callable[[Any], Mask] = field(repr=False)
    over: Literal["indices", "values"] = "indices"


@dataclass(frozen=True)
class Inactive:
    """Says when a parameter has no effect, so that equivalent designs can share one representative.

    Args:
        parameter: name of the parameter.
        when: designs ``(n, d)`` -> bool ``(n,)``, True where the parameter has no effect.
        sentence: the reason in words for people.
        index: the representative's value index.
        over: as of :class:`Constraint`.
    """

    parameter: str
    when: Callable[[Any], Mask] = field(repr=False)
    sentence: str = ""
    index: int = 0
    over: Literal["indices", "values"] = "indices"


class DesignSpace:
    """The parameters of a problem and the rules between them.

    Args:
        parameters: in action order; a :class:`Permutation` stands for its parameters.
        constraints: rules a feasible design keeps; checked in order, the first broken one names the violation.
        inactive: rules of :meth:`canonical`; applied in order, each to the result of the ones before.
        canonicalize: further vectorised step of :meth:`canonical` for equivalences that are not "inactive given
            others" (interchangeable blocks, say); must be idempotent and map designs ``(n, d)`` to designs.
        repair: optional vectorised map to the nearest feasible designs.

    Attributes:
        origin: a function and its arguments that make an equal space, None for a space made by hand. With it a space
            pickles whatever its rules are made of; without, they must be picklable themselves. Copies are the space itself,
            which never changes.
    """

    origin: tuple[Callable[..., DesignSpace], tuple[Any, ...]] | None = None

    def __init__(
        self,
        parameters: Sequence[Parameter | Permutation],
        constraints: Sequence[Constraint] = (),
        inactive: Sequence[Inactive] = (),
        canonicalize: Callable[[Designs], Designs] | None = None,
        repair: Callable[[Designs], Designs] | None = None,
    ) -> None:
        self.parameters = tuple(p for given in parameters for p in _single(given))
        self.permutations = {given.name: given for given in parameters if isinstance(given, Permutation)}
        self.constraints = tuple(
            replace(rule, satisfied=_OverValues(self, rule.satisfied), over="indices")
            if rule.over == "values"
            else rule
            for rule in constraints
        )
        self.inactive = tuple(
            replace(rule, when=_OverValues(self, rule.when), over="indices") if rule.over == "values" else rule
            for rule in inactive
        )
        self._canonicalize = canonicalize
        self._repair = repair
        self.names = tuple(parameter.name for parameter in self.parameters)
        self._position = {name: i for i, name in enumerate(self.names)}
        if not self.parameters:
            raise ArchGymError("a design space needs at least one parameter")
        every = [*self.names, *self.permutations]
        if len(set(every)) != len(every) or len(self.permutations) < sum(
            isinstance(p, Permutation) for p in parameters
        ):
            twice = next((name for name in every if every.count(name) > 1), every[-1])
            raise ArchGymError(f"parameter {twice!r} is listed twice; names must differ")
        for rule in self.inactive:
            self.position(rule.parameter)
        self.nvec = np.array([len(parameter) for parameter in self.parameters], dtype=np.int64)
        self.dimension = len(self.parameters)
        self.size = math.prod(int(count) for count in self.nvec)
        self._inactive_positions = tuple(self.position(rule.parameter) for rule in self.inactive)
        self._unsigned = self.nvec.astype(np.uint64)
        self._unit_step = 1.0 / np.maximum(self.nvec - 1, 1)
        # Values as arrays, for vectorised decoding; object arrays keep Python types.
        self._values = tuple(_value_array(parameter.values) for parameter in self.parameters)

    # --- looking things up -------------------------------------------------------------------------------------

    def position(self, name: str) -> int:
        """Column of the parameter ``name``."""
        try:
            return self._position[name]
        except KeyError:
            raise UnknownNameError("parameter", name, self.names) from None

    def __getitem__(self, name: str) -> Parameter:
        return self.parameters[self.position(name)]

    def __len__(self) -> int:
        return self.dimension

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.origin if self.origin is not None else super().__reduce_ex__(protocol)

    def __copy__(self) -> DesignSpace:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DesignSpace:
        return self

    def __repr__(self) -> str:
        return f"DesignSpace({self.dimension} parameters, {self.size:.4g} designs)"

    # --- validation --------------------------------------------------------------------------------------------

    def check(self, designs: ArrayLike) -> Designs:
        """Return ``designs`` as int64 of shape ``(n, d)``, or raise a sentence that names the first bad entry."""
        array = np.asarray(designs)
        if array.ndim == 1:
            array = array[None, :]
        if array.dtype == _INT64 and array.ndim == 2 and array.shape[1] == self.dimension:
            # The usual case. A negative index is a huge unsigned one: a single comparison finds both ends.
            array = np.ascontiguousarray(array)
            # (Counting is several times as fast as any() on a row or two.)
            if not np.count_nonzero(array.view(_UINT64) >= self._unsigned):
                return array
        if array.ndim != 2 or array.shape[1] != self.dimension:
            raise ArchGymError(
                f"designs have shape {np.shape(designs)}; expected (n, {self.dimension}), one index a parameter"
            )
        if array.dtype != np.int64:
            if not np.issubdtype(array.dtype, np.integer):
                raise ArchGymError(f"designs have dtype {array.dtype}; expected integers (value indices)")
            array = array.astype(np.int64)
        if array.size and ((array < 0).any() or (array >= self.nvec).any()):
            row, column = np.argwhere((array < 0) | (array >= self.nvec))[0]
            raise ArchGymError(
                f"design {row} has index {array[row, column]} for {self.names[column]!r}; "
                f"expected 0..{self.nvec[column] - 1}"
            )
        return np.ascontiguousarray(array)

    def violations(self, designs: ArrayLike) -> NDArray[np.object_]:
        """Name of the first broken constraint for each design, empty where all hold; shape ``(n,)``."""
        array = self.check(designs)
        names = np.full(len(array), "", dtype=object)
        for constraint in self.constraints:
            open_rows = names == ""
            if not open_rows.any():
                break
            broken = ~np.asarray(constraint.satisfied(array), dtype=bool)
            names[open_rows & broken] = constraint.name
        return names

    # --- equivalent designs ------------------------------------------------------------------------------------

    def canonical(self, designs: ArrayLike) -> Designs:
        """The representative of each design's class of equivalent designs; a new array of shape ``(n, d)``."""
        array = self.check(designs).copy()
        for rule, position in zip(self.inactive, self._inactive_positions, strict=True):
            array[np.asarray(rule.when(array), dtype=bool), position] = rule.index
        if self._canonicalize is not None:
            array = np.ascontiguousarray(self._canonicalize(array), dtype=np.int64)
        return array

    def repair(self, designs: ArrayLike) -> Designs:
        """Map designs to feasible ones where the space has a repair; otherwise raise."""
        if self._repair is None:
            raise ArchGymError("this design space has no repair; draw designs with sample(), which rejects")
        return self.check(self._repair(self.check(designs).copy()))

    @property
    def has_repair(self) -> bool:
        return self._repair is not None

    @property
    def has_equivalences(self) -> bool:
        """Whether :meth:`canonical` knows of equivalent designs beyond inactive parameters."""
        return self._canonicalize is not None

    # --- values ------------------------------------------------------------------------------------------------

    def decode(self, designs: ArrayLike) -> list[dict[str, Value]]:
        """Designs as dictionaries name -> value."""
        return [
            {p.name: p.values[index] for p, index in zip(self.parameters, row, strict=True)}
            for row in self.check(designs).tolist()
        ]

    def encode(self, named: Mapping[str, Value] | Sequence[Mapping[str, Value]]) -> Designs:
        """Dictionaries name -> value as designs ``(n, d)``; every parameter must be given, a permutation also as the
        sequence of its items."""
        rows = [self._spelt_out(row) for row in ([named] if isinstance(named, Mapping) else named)]
        result = np.empty((len(rows), self.dimension), dtype=np.int64)
        for i, row in enumerate(rows):
            for name in row:
                self.position(name)
            for j, parameter in enumerate(self.parameters):
                if parameter.name not in row:
                    raise ArchGymError(f"the design lacks {parameter.name!r}; give every parameter a value")
                result[i, j] = parameter.index(row[parameter.name])
        return result

    def by_name(self, designs: ArrayLike) -> dict[str, NDArray[Any]]:
        """As :meth:`columns`, but a permutation is one entry: its items in order, ``(n, k)``."""
        array = self.check(designs)
        columns = self.columns(array)
        for name, permutation in self.permutations.items():
            digits = [self.position(parameter.name) for parameter in permutation.parameters]
            columns[name] = _value_array(permutation.items)[permutation.decode(array[:, digits])]
            for position in digits:
                del columns[self.names[position]]
        return columns

    def named(self, designs: ArrayLike) -> list[dict[str, Any]]:
        """As :meth:`decode`, but a permutation is one entry: the tuple of its items in order."""
        hidden = {p.name for permutation in self.permutations.values() for p in permutation.parameters}
        rows: list[dict[str, Any]] = [
            {name: value for name, value in row.items() if name not in hidden} for row in self.decode(designs)
        ]
        if self.permutations:
            columns = self.by_name(designs)
            for i, row in enumerate(rows):
                row |= {name: tuple(_plain(item) for item in columns[name][i]) for name in self.permutations}
        return rows

    def columns(self, designs: ArrayLike) -> dict[str, NDArray[Any]]:
        """Values a parameter as arrays of length n (int64, float64, bool, or object for strings)."""
        array = self.check(designs)
        pairs = enumerate(zip(self.names, self._values, strict=True))
        return {name: values[array[:, j]] for j, (name, values) in pairs}

    def _spelt_out(self, row: Mapping[str, Any]) -> Mapping[str, Value]:
        for name, permutation in self.permutations.items():
            if name in row:
                digits = zip(permutation.parameters, permutation.encode(row[name]), strict=True)
                row = {k: v for k, v in row.items() if k != name} | {p.name: digit for p, digit in digits}
        return row

    # --- encodings ---------------------------------------------------------------------------------------------

    def to_unit(self, designs: ArrayLike) -> NDArray[np.float64]:
        """Indices scaled to the unit cube: index / (count - 1), 0 for single values; shape ``(n, d)``."""
        return self.check(designs) * self._unit_step

    def from_unit(self, points: ArrayLike) -> Designs:
        """Points of the unit cube ``(n, d)`` as designs: the cube is cut in equal cells, so that every level is
        reachable with equal volume; ``from_unit(to_unit(x)) == x``. Values outside [0, 1] are clipped."""
        points = np.asarray(points, dtype=np.float64)
        if points.ndim == 1:
            points = points[None, :]
        if points.ndim != 2 or points.shape[1] != self.dimension:
            raise ArchGymError(f"points have shape {points.shape}; expected (n, {self.dimension})")
        cells = np.floor(np.clip(np.nan_to_num(points), 0.0, 1.0) * self.nvec).astype(np.int64)
        return np.minimum(cells, self.nvec - 1)

    def features(self, designs: ArrayLike) -> NDArray[np.float64]:
        """Learning features ``(n, f)``: ordered parameters scaled to [0, 1], the others one-hot."""
        array = self.check(designs)
        blocks = []
        for j, parameter in enumerate(self.parameters):
            if parameter.ordered or len(parameter) == 1:
                blocks.append((array[:, j] * self._unit_step[j])[:, None])
            else:
                blocks.append((array[:, j, None] == np.arange(len(parameter))).astype(np.float64))
        return np.concatenate(blocks, axis=1)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`features`."""
        names: list[str] = []
        for parameter in self.parameters:
            if parameter.ordered or len(parameter) == 1:
                names.append(parameter.name)
            else:
                names += [f"{parameter.name}={value}" for value in parameter.values]
        return tuple(names)

    # --- other optimisers --------------------------------------------------------------------------------------

    def to_point(self, design: ArrayLike) -> dict[str, Any]:
        """A design ``(d,)`` as the optimisers below see it: name -> index of an ordered parameter, value of another."""
        return points.to_point(self, design)

    def from_point(self, point: Any) -> Designs:
        """The way back from each of them, a design ``(d,)``: ``from_point(trial.params)`` of Optuna, ``(dict(configuration))``
        of ConfigSpace, ``(candidate.value)`` of Nevergrad, ``(x)`` of pymoo, ``(x)`` of scikit-optimize (a list in the order of
        the parameters)."""
        return points.from_point(self, point)

    def to_optuna(self, trial: Any) -> Designs:
        """Let an Optuna trial suggest every parameter: the design ``(d,)`` to evaluate. Ordered parameters are integer
        ranges of indices, the others categories."""
        return points.to_optuna(self, trial)

    def to_configspace(self, seed: int | None = None) -> Any:
        """A ``ConfigSpace.ConfigurationSpace`` (SMAC3) with integer ranges of indices, categories and constants."""
        return points.to_configspace(self, seed)

    def to_nevergrad(self) -> Any:
        """A ``nevergrad.p.Dict`` with transition choices of indices for ordered parameters, choices for the others."""
        return points.to_nevergrad(self)

    def to_pymoo(self) -> dict[str, Any]:
        """pymoo's variables by name, integers and choices: the argument ``vars`` of its problems."""
        return points.to_pymoo(self)

    def to_skopt(self) -> list[Any]:
        """scikit-optimize's dimensions, in the order of the parameters."""
        return points.to_skopt(self)

    # --- sampling and neighbourhoods ---------------------------------------------------------------------------

    def sample(self, count: int, rng: np.random.Generator | int, *, feasible: bool = False) -> Designs:
        """Uniform designs ``(count, d)``; with ``feasible=True`` rejects designs that break a constraint."""
        count = whole_number("the number of designs", count, least=0)
        rng = np.random.default_rng(rng)
        if not feasible or not self.constraints:
            return rng.integers(0, self.nvec, size=(count, self.dimension), dtype=np.int64)
        kept: list[Designs] = []
        have, tried = 0, 0
        while have < count:
            batch = rng.integers(0, self.nvec, size=(max(count, 256), self.dimension), dtype=np.int64)
            good = batch[self.violations(batch) == ""]
            kept.append(good)
            have, tried = have + len(good), tried + len(batch)
            if not have and tried > 1_000_000:
                raise ArchGymError("no feasible design among 1,000,000 uniform draws; sample without feasible=True")
        return np.concatenate(kept)[:count]

    def neighbours(self, design: ArrayLike, *, ordered_steps: bool = False) -> Designs:
        """All designs that differ in one parameter, in order; with ``ordered_steps`` an ordered parameter moves by
        one step only. Shape ``(m, d)``."""
        row = self.check(design)[0]
        result = []
        for j, parameter in enumerate(self.parameters):
            for index in range(len(parameter)):
                step = abs(index - row[j])
                if step and (step == 1 or not (ordered_steps and parameter.ordered)):
                    other = row.copy()
                    other[j] = index
                    result.append(other)
        return np.array(result, dtype=np.int64).reshape(-1, self.dimension)

    # --- enumeration -------------------------------------------------------------------------------------------

    def unrank(self, ranks: ArrayLike) -> Designs:
        """Designs of the given ranks (lexicographic, last parameter fastest); needs size < 2**63."""
        self._need_rankable()
        rest = np.atleast_1d(np.asarray(ranks, dtype=np.int64)).copy()
        if rest.size and (rest.min() < 0 or rest.max() >= self.size):
            raise ArchGymError(f"rank out of range; expected 0..{self.size - 1}")
        result = np.empty((len(rest), self.dimension), dtype=np.int64)
        for j in range(self.dimension - 1, -1, -1):
            rest, result[:, j] = np.divmod(rest, self.nvec[j])
        return result

    def rank(self, designs: ArrayLike) -> NDArray[np.int64]:
        """Inverse of :meth:`unrank`; shape ``(n,)``."""
        self._need_rankable()
        array = self.check(designs)
        ranks = np.zeros(len(array), dtype=np.int64)
        for j in range(self.dimension):
            ranks = ranks * self.nvec[j] + array[:, j]
        return ranks

    def batches(self, size: int = 65536) -> Iterator[Designs]:
        """Every design of the space, in rank order, in batches of at most ``size`` rows."""
        for start in range(0, self.size, size):
            yield self.unrank(np.arange(start, min(start + size, self.size)))

    def _need_rankable(self) -> None:
        if self.size >= 2**63:
            raise ArchGymError(f"the space has {self.size:.3g} designs, too many to number; sample it instead")

    # --- sub-spaces --------------------------------------------------------------------------------------------

    def restrict(self, allowed: Mapping[str, Sequence[Value]]) -> SubSpace:
        """The sub-space in which the named parameters take only the given values; its rules are this space's."""
        return SubSpace(self, allowed)


class SubSpace(DesignSpace):
    """A space with some value lists shortened; :meth:`lift` gives the design of the full space."""

    def __init__(self, parent: DesignSpace, allowed: Mapping[str, Sequence[Value]]) -> None:
        for name in allowed:
            parent.position(name)
        self.parent = parent
        self._maps = tuple(
            np.array([p.index(value) for value in allowed[p.name]] if p.name in allowed else range(len(p)), np.int64)
            for p in parent.parameters
        )
        parameters = [
            Parameter(p.name, tuple(p.values[i] for i in index), p.ordered, p.unit, p.description)
            for p, index in zip(parent.parameters, self._maps, strict=True)
        ]
        constraints = [Constraint(c.name, c.sentence, self._lifted(c.satisfied)) for c in parent.constraints]
        self._back = tuple(np.full(len(p), -1, np.int64) for p in parent.parameters)
        for back, index in zip(self._back, self._maps, strict=True):
            back[index] = np.arange(len(index))
        inactive = [
            # Where the parent's representative is left out, the first value stands for all: none has an effect.
            Inactive(
                rule.parameter,
                self._lifted(rule.when),
                rule.sentence,
                max(int(self._back[parent.position(rule.parameter)][rule.index]), 0),
            )
            for rule in parent.inactive
        ]
        super().__init__(
            parameters,
            constraints,
            inactive,
            canonicalize=self._canonical_of_parent if parent.has_equivalences else None,
            repair=self._repair_of_parent if parent.has_repair else None,
        )
        self.origin = (SubSpace, (parent, allowed))

    def _lifted(self, rule: Callable[[Designs], Mask]) -> Callable[[Designs], Mask]:
        return lambda designs: rule(self.lift(designs))

    def _canonical_of_parent(self, designs: Designs) -> Designs:
        """The parent's representatives; a design stays itself where this space does not hold its representative."""
        found, inside = self.lower(self.parent.canonical(self.lift(designs)))
        return np.where(inside[:, None], found, designs)

    def _repair_of_parent(self, designs: Designs) -> Designs:
        """The parent's repairs, each value moved to the nearest of those kept."""
        repaired = self.parent.repair(self.lift(designs))
        nearest = [np.abs(index - column[:, None]).argmin(axis=1) for index, column in zip(self._maps, repaired.T)]
        result = np.stack(nearest, axis=1)
        broken = self.violations(result)
        if (broken != "").any():
            raise ArchGymError(
                f"the repair of a design needs values that the sub-space leaves out (it breaks {broken[broken != ''][0]!r}); "
                "keep more values"
            )
        return result

    def by_name(self, designs: ArrayLike) -> dict[str, NDArray[Any]]:
        return self.parent.by_name(self.lift(designs))

    def named(self, designs: ArrayLike) -> list[dict[str, Any]]:
        return self.parent.named(self.lift(designs))

    def lower(self, designs: ArrayLike) -> tuple[Designs, Mask]:
        """Designs of the parent as designs of this space, and which of them it holds; the others' indices mean nothing."""
        array = self.parent.check(designs)
        found = np.stack([back[array[:, j]] for j, back in enumerate(self._back)], axis=1)
        inside: Mask = np.asarray((found >= 0).all(axis=1), dtype=bool)
        return np.maximum(found, 0), inside

    def lift(self, designs: ArrayLike) -> Designs:
        """Designs of this space as designs of the parent."""
        array = self.check(designs)
        return np.stack([index[array[:, j]] for j, index in enumerate(self._maps)], axis=1)


@dataclass(frozen=True)
class _OverValues:
    """A rule over values as one over indices."""

    space: DesignSpace
    rule: Callable[[Any], Mask]

    def __call__(self, designs: Designs) -> Mask:
        return self.rule(self.space.by_name(designs))


def _single(given: Parameter | Permutation) -> tuple[Parameter, ...]:
    return given.parameters if isinstance(given, Permutation) else (given,)


def _value_array(values: tuple[Value, ...]) -> NDArray[Any]:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, dtype=bool)
    if kinds == {int}:
        return np.array(values, dtype=np.int64)
    if kinds <= {int, float}:
        return np.array(values, dtype=np.float64)
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result
