"""A language for architectures of a user's own: parts with choices in them, in the manner of DeepArchitect (Negrinho and
Gordon, arXiv 1704.08792).

```python
from archgym.networks.language import Activation, Choice, Conv, Norm, Optional, Pool, Repeat, Residual, Sequence

block = Sequence(Conv(Choice("filters", 8, 16, 32), kernel=Choice("kernel", 1, 3, 5)), Norm(), Activation())
net = Sequence(Conv(8), Repeat(Residual(block), Choice("blocks", 1, 2, 3)), Optional("pooled", Pool("max")), Conv(32))
```

A :class:`Choice` stands where a number, a word or a part would: every choice is a parameter of the design space, under its
name, and has no effect (is inactive) where the parts around it are not taken. A name is one parameter wherever it stands:
choices of the same name and values are made together, other values under the same name are refused. :class:`Scope`, and
``Repeat(..., shared=False)``, put names before the names.

A tensor is channels x positions along one or two axes; a kernel, a stride and a dilation are the same along all axes, and
the padding is such that the positions shrink by the stride alone, rounded up. A head is added to every architecture: the
mean over the positions that are left, and a linear layer to the classes. Designs whose parts do not fit together (a sum of
different shapes, a convolution where no positions are left) are infeasible.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.networks.convolution import convolution_layer
from archgym.networks.layers import Layer, Network, gemm
from archgym.space import Constraint, Designs, DesignSpace, Inactive, Mask, Parameter, Value

ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "hardswish", "tanh", "sigmoid")
NORMS = ("batch", "layer")
POOLS = ("average", "max")
MOST_FILTERS, MOST_TAPS, MOST_REPEATS = 1 << 16, 255, 64
MOST_PARAMETERS, MOST_OPERATIONS, MOST_CHANNELS = 512, 2048, 1 << 20
_SEEN = 4096
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Shape:
    """Shape of one sample: channels, and positions along each axis (none after a linear layer)."""

    channels: int
    sizes: tuple[int, ...] = ()

    @property
    def positions(self) -> int:
        return math.prod(self.sizes)

    def __str__(self) -> str:
        return "x".join(map(str, (self.channels, *self.sizes)))


# --- networks: what a design is built into -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One operation of a network.

    Attributes:
        kind: ``conv``, ``linear``, ``pool``, ``mean`` (over all positions), ``norm``, ``activation``, ``dropout``.
        inputs, outputs: shapes of a sample.
        settings: name -> value, those of the kind.
    """

    kind: str
    inputs: Shape
    outputs: Shape
    settings: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return dict(self.settings)[name]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Of a convolution ``(filters, channels a group, taps...)``, of a linear layer ``(outputs, inputs)``; else empty."""
        if self.kind == "conv":
            taps = (self["kernel"],) * len(self.inputs.sizes)
            return (self.outputs.channels, self.inputs.channels // self["groups"], *taps)
        if self.kind == "linear":
            return (self.outputs.channels, self.inputs.channels * self.inputs.positions)
        return ()

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        if self.kind == "norm":
            return 2 * self.inputs.channels
        if shape := self.weight_shape:
            return math.prod(shape) + (self.outputs.channels if self["bias"] else 0)
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a sample: of convolutions and linear layers, nothing else."""
        return math.prod(self.weight_shape) * self.outputs.positions if self.weight_shape else 0

    def layer(self, name: str) -> Layer:
        """A convolution or linear layer as a layer of the accelerators' networks, for one sample."""
        if self.kind == "linear":
            return gemm(name, M=1, N=self.weight_shape[0], K=self.weight_shape[1])
        return convolution_layer(
            name, (1, self.inputs.channels, *self.inputs.sizes), self.weight_shape,
            (1, self.outputs.channels, *self.outputs.sizes), (self["stride"],), (self["dilation"],), self["groups"],
        )  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """Nodes one after the other; none at all is the identity."""

    outputs: Shape
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Branches:
    """Chains side by side on one input, whose results are summed or concatenated along the channels."""

    join: str
    outputs: Shape
    branches: tuple[Chain, ...]


Node = Operation | Branches


@dataclass(frozen=True)
class Built:
    """The network of one design.

    Attributes:
        inputs: shape of a sample.
        root: the operations. Chains within chains are joined, and branches of a sum stand in a fixed order, so that equal
            networks are equal.
    """

    inputs: Shape
    root: Chain

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, in the order in which they are computed."""
        return tuple(_operations(self.root))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the network: equal networks, equal digests."""
        return hashlib.sha256(repr((self.inputs, self.root)).encode()).digest()

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(operation.parameters for operation in self.operations)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample: of convolutions and linear layers."""
        return sum(operation.macs for operation in self.operations)

    @property
    def depth(self) -> int:
        """Convolutions and linear layers on the way from input to output that has the most of them."""
        return _depth(self.root)

    def network(self, name: str, description: str = "") -> Network:
        """Its convolutions and linear layers as what an accelerator runs, for one sample."""
        layers = [o.layer(f"{i}.{o.kind}") for i, o in enumerate(self.operations) if o.weight_shape]
        return Network(name, layers, description)


def _operations(chain: Chain) -> Iterator[Operation]:
    for node in chain.nodes:
        if isinstance(node, Operation):
            yield node
        else:
            for branch in node.branches:
                yield from _operations(branch)


def _depth(chain: Chain) -> int:
    return sum(
        bool(node.weight_shape) if isinstance(node, Operation) else max(map(_depth, node.branches))
        for node in chain.nodes
    )


# --- parts: what a user writes -----------------------------------------------------------------------------------------


class Part:
    """A piece of an architecture. Parts are never changed: one part may stand in several places."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"

    def scan(self, scan: Scan) -> None:
        """Declare the choices of the part, and of the parts in it."""
        raise NotImplementedError

    def build(self, build: Build, inputs: Shape) -> Chain:
        """The part under a design's choices, on a tensor of the shape ``inputs``."""
        raise NotImplementedError


class Choice(Part):
    """A parameter of the design space, where a setting or a part would stand.

    Args:
        name: of the parameter, letters, digits and underscores.
        values: numbers (in rising order they are similar to their neighbours), words or True and False.
        parts: in the place of values, parts by name: ``Choice("kind", plain=Conv(8), none=Identity())``.
    """

    def __init__(self, name: str, /, *values: Value, **parts: Part) -> None:
        self.name, self.values, self.parts = _name("Choice", name), values, parts
        if bool(values) == bool(parts):
            raise ArchGymError(f"Choice {name!r} needs either values or parts by name, such as 8, 16 or plain=Conv(8)")
        for part in parts.values():
            _check_part(f"Choice {name!r}", part)
        kinds = {float if type(v) is int else type(v) for v in values}
        if values and (len(kinds) > 1 or not kinds <= {float, str, bool}):
            raise ArchGymError(f"Choice {name!r} mixes kinds of values; give numbers, words, or True and False alone")
        if any(isinstance(v, float) and not math.isfinite(v) for v in values):
            raise ArchGymError(f"Choice {name!r} has a value that is not finite")
        self.parameter()

    def parameter(self, prefix: str = "") -> Parameter:
        """The parameter of the design space."""
        given = self.values or tuple(self.parts)
        ordered = not self.parts and not isinstance(given[0], str | bool) and list(given) == sorted(given)
        what = "which part is taken" if self.parts else "a setting of the architecture"
        return Parameter(prefix + self.name, given, ordered=ordered, description=what)

    def scan(self, scan: Scan) -> None:
        if not self.parts:
            raise ArchGymError(f"Choice {self.name!r} of values stands where a part is expected")
        name = scan.choose(self.parameter(scan.prefix))
        for i, part in enumerate(self.parts.values()):
            with scan.where(name, {i}):
                part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        return self.parts[str(build.value(self))].build(build, inputs)


class Sequence(Part):
    """Parts one after the other."""

    def __init__(self, *parts: Part) -> None:
        self.parts = tuple(_check_part("Sequence", part) for part in parts)

    def scan(self, scan: Scan) -> None:
        for part in self.parts:
            part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        nodes: list[Node] = []
        for part in self.parts:
            made = part.build(build, inputs)
            nodes += made.nodes
            inputs = made.outputs
        return Chain(inputs, tuple(nodes))


class Identity(Sequence):
    """Nothing: the input is the output."""

    def __init__(self) -> None:
        super().__init__()


class Scope(Part):
    """A part with a name of its own before the names of its choices: ``Scope("stem", part)`` has ``stem.filters``."""

    def __init__(self, name: str, part: Part) -> None:
        self.name, self.part = _name("Scope", name), _check_part("Scope", part)

    def scan(self, scan: Scan) -> None:
        with scan.named(self.name):
            self.part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        with build.named(self.name):
            return self.part.build(build, inputs)


class Repeat(Part):
    """A part several times, one after the other.

    Args:
        part: what is repeated.
        times: how often, from 0 (then it is the identity) to 64.
        shared: one set of choices for all copies. Without it every copy has choices of its own, under its number: the
            second copy's ``filters`` are ``1.filters``, or ``blocks.1.filters`` where ``times`` is a choice called ``blocks``.
    """

    def __init__(self, part: Part, times: int | Choice, shared: bool = True) -> None:
        self.part, self.times, self.shared = _check_part("Repeat", part), times, _flag("Repeat: shared", shared)
        _whole("Repeat: times", times, 0, MOST_REPEATS)

    def _scope(self, copy: int) -> tuple[str, ...]:
        if self.shared:
            return ()
        return (self.times.name, str(copy)) if isinstance(self.times, Choice) else (str(copy),)

    def scan(self, scan: Scan) -> None:
        counts = scan.setting(self.times)
        for copy in range(min(max(counts), 1) if self.shared else max(counts)):
            name = scan.prefix + self.times.name if isinstance(self.times, Choice) else ""
            with (
                scan.where(name, {i for i, count in enumerate(counts) if count > copy}),
                scan.named(*self._scope(copy)),
            ):
                self.part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        nodes: list[Node] = []
        for copy in range(build.value(self.times)):
            with build.named(*self._scope(copy)):
                made = self.part.build(build, inputs)
            nodes += made.nodes
            inputs = made.outputs
        return Chain(inputs, tuple(nodes))


class Optional(Part):
    """A part that may be left out: a parameter that is False or True."""

    def __init__(self, name: str, part: Part) -> None:
        self.choice, self.part = Choice(name, False, True), _check_part(f"Optional {name!r}", part)

    def scan(self, scan: Scan) -> None:
        with scan.where(scan.choose(self.choice.parameter(scan.prefix)), {1}):
            self.part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        return self.part.build(build, inputs) if build.value(self.choice) else Chain(inputs)


class Parallel(Part):
    """Parts side by side, whose results are added up; their shapes must be equal."""

    def __init__(self, *parts: Part) -> None:
        self.parts = tuple(_check_part(type(self).__name__, part) for part in parts)
        if not parts:
            raise ArchGymError(f"{type(self).__name__} has no parts; give at least one")

    def scan(self, scan: Scan) -> None:
        for part in self.parts:
            part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        return _sum([part.build(build, inputs) for part in self.parts])


class Concatenate(Parallel):
    """Parts side by side, whose results are concatenated along the channels; their positions must be equal."""

    def build(self, build: Build, inputs: Shape) -> Chain:
        branches = [part.build(build, inputs) for part in self.parts]
        if len(branches) == 1:
            return branches[0]
        if len({branch.outputs.sizes for branch in branches}) > 1:
            raise UnfitError(f"Concatenate joins {_shapes(branches)}, whose positions differ")
        channels = sum(branch.outputs.channels for branch in branches)
        if channels > MOST_CHANNELS:
            raise UnfitError(f"a concatenation has {channels} channels; at most {MOST_CHANNELS} are built")
        outputs = Shape(channels, branches[0].outputs.sizes)
        return Chain(outputs, (Branches("concatenate", outputs, tuple(branches)),))


class Residual(Part):
    """A part whose input is added to its result. Where the part changes the shape, the input goes through a 1x1 convolution
    without bias, of the stride that is needed (He et al., CVPR 2016, option B)."""

    def __init__(self, part: Part) -> None:
        self.part = _check_part("Residual", part)

    def scan(self, scan: Scan) -> None:
        self.part.scan(scan)

    def build(self, build: Build, inputs: Shape) -> Chain:
        made = self.part.build(build, inputs)
        shortcut = Chain(inputs)
        if made.outputs != inputs:
            strides = {-(-a // b) for a, b in zip(inputs.sizes, made.outputs.sizes, strict=False)}
            stride = min(strides, default=0)
            if not strides or made.outputs.sizes != tuple(-(-size // stride) for size in inputs.sizes):
                raise UnfitError(f"Residual adds {inputs} to {made.outputs}, to which no stride of a convolution leads")
            shortcut = build.convolution(inputs, made.outputs.channels, 1, stride, 1, 1, False)
        return _sum([made, shortcut])


class Conv(Part):
    """A convolution; its positions are those of its input divided by the stride, rounded up.

    Args:
        filters: output channels.
        kernel: taps along each axis, an odd number.
        stride, dilation: along each axis.
        groups: of channels; must divide those of input and output.
        bias: whether a number is added to each output channel (a norm behind it makes that needless).
    """

    def __init__(
        self,
        filters: int | Choice,
        kernel: int | Choice = 3,
        stride: int | Choice = 1,
        groups: int | Choice = 1,
        dilation: int | Choice = 1,
        bias: bool | Choice = True,
    ) -> None:
        title = type(self).__name__
        self.filters, self.kernel, self.stride = filters, kernel, stride
        self.groups, self.dilation, self.bias = groups, dilation, bias
        _whole(f"{title}: filters", filters, 1, MOST_FILTERS)
        _whole(f"{title}: groups", groups, 1, MOST_FILTERS)
        _whole(f"{title}: stride", stride, 1, MOST_TAPS)
        _whole(f"{title}: dilation", dilation, 1, MOST_TAPS)
        _odd(f"{title}: kernel", kernel)
        _flag(f"{title}: bias", bias)

    def scan(self, scan: Scan) -> None:
        for value in vars(self).values():
            scan.setting(value)

    def build(self, build: Build, inputs: Shape) -> Chain:
        names = ("filters", "kernel", "stride", "groups", "dilation", "bias")
        filters, kernel, stride, groups, dilation, bias = (build.value(getattr(self, name)) for name in names)
        return build.convolution(inputs, filters, kernel, stride, groups, dilation, bias)


class Depthwise(Part):
    """A depthwise convolution: every channel has ``multiplier`` filters of its own. Other settings as of :class:`Conv`."""

    def __init__(
        self,
        kernel: int | Choice = 3,
        stride: int | Choice = 1,
        dilation: int | Choice = 1,
        multiplier: int | Choice = 1,
        bias: bool | Choice = True,
    ) -> None:
        self.kernel, self.stride, self.dilation, self.multiplier, self.bias = kernel, stride, dilation, multiplier, bias
        _odd("Depthwise: kernel", kernel)
        _whole("Depthwise: stride", stride, 1, MOST_TAPS)
        _whole("Depthwise: dilation", dilation, 1, MOST_TAPS)
        _whole("Depthwise: multiplier", multiplier, 1, 256)
        _flag("Depthwise: bias", bias)

    def scan(self, scan: Scan) -> None:
        for value in vars(self).values():
            scan.setting(value)

    def build(self, build: Build, inputs: Shape) -> Chain:
        names = ("kernel", "stride", "dilation", "multiplier", "bias")
        kernel, stride, dilation, multiplier, bias = (build.value(getattr(self, name)) for name in names)
        return build.convolution(inputs, inputs.channels * multiplier, kernel, stride, inputs.channels, dilation, bias)


class Pool(Part):
    """The average (padding left out) or maximum over windows.

    Args:
        kind: ``average`` or ``max``.
        kernel: positions of a window along each axis: odd, or equal to the stride.
        stride: that of the kernel where None.
    """

    def __init__(
        self, kind: str | Choice = "average", kernel: int | Choice = 2, stride: int | Choice | None = None
    ) -> None:
        self.kind, self.kernel, self.stride = kind, kernel, kernel if stride is None else stride
        _word("Pool: kind", kind, POOLS)
        _whole("Pool: kernel", kernel, 1, MOST_TAPS)
        _whole("Pool: stride", self.stride, 1, MOST_TAPS)

    def scan(self, scan: Scan) -> None:
        for value in vars(self).values():
            scan.setting(value)

    def build(self, build: Build, inputs: Shape) -> Chain:
        kind, kernel, stride = (build.value(getattr(self, name)) for name in ("kind", "kernel", "stride"))
        if not inputs.sizes:
            raise UnfitError("Pool comes where no positions are left")
        if kernel % 2 == 0 and kernel != stride:
            raise UnfitError(
                f"Pool has a kernel of {kernel} and a stride of {stride}; even kernels need an equal stride"
            )
        if kernel == stride == 1:
            return Chain(inputs)
        if kernel > min(inputs.sizes) + 2 * (kernel // 2) * (kernel % 2):
            raise UnfitError(f"Pool has a window of {kernel} on {inputs}")
        return build.operation("pool", inputs, _strided(inputs, inputs.channels, stride), how=kind, kernel=kernel,
                               stride=stride)  # fmt: skip


class GlobalPool(Part):
    """The average over all positions, none of which is left."""

    def scan(self, scan: Scan) -> None:
        pass

    def build(self, build: Build, inputs: Shape) -> Chain:
        return build.operation("mean", inputs, Shape(inputs.channels)) if inputs.sizes else Chain(inputs)


class Linear(Part):
    """A linear layer over all numbers of a sample; no positions are left.

    Args:
        features: outputs.
        bias: whether a number is added to each.
    """

    def __init__(self, features: int | Choice, bias: bool | Choice = True) -> None:
        self.features, self.bias = features, bias
        _whole("Linear: features", features, 1, MOST_FILTERS)
        _flag("Linear: bias", bias)

    def scan(self, scan: Scan) -> None:
        scan.setting(self.features)
        scan.setting(self.bias)

    def build(self, build: Build, inputs: Shape) -> Chain:
        return build.operation("linear", inputs, Shape(build.value(self.features)), bias=build.value(self.bias))


class Norm(Part):
    """``batch`` norm of each channel over batch and positions, or ``layer`` norm of each sample over channels and positions;
    a scale and a shift a channel."""

    def __init__(self, kind: str | Choice = "batch") -> None:
        self.kind = kind
        _word("Norm: kind", kind, NORMS)

    def scan(self, scan: Scan) -> None:
        scan.setting(self.kind)

    def build(self, build: Build, inputs: Shape) -> Chain:
        return build.operation("norm", inputs, inputs, how=build.value(self.kind))


class Activation(Part):
    """``relu``, ``leaky_relu``, ``gelu``, ``silu``, ``hardswish``, ``tanh`` or ``sigmoid``."""

    def __init__(self, kind: str | Choice = "relu") -> None:
        self.kind = kind
        _word("Activation: kind", kind, ACTIVATIONS)

    def scan(self, scan: Scan) -> None:
        scan.setting(self.kind)

    def build(self, build: Build, inputs: Shape) -> Chain:
        return build.operation("activation", inputs, inputs, how=build.value(self.kind))


class Dropout(Part):
    """Zeros in the place of a share ``rate`` of the numbers, in training alone."""

    def __init__(self, rate: float | Choice = 0.5) -> None:
        self.rate = rate
        for value in _values(rate):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise ArchGymError(f"Dropout: rate is {quote(value)}; expected a number from 0 to below 1")

    def scan(self, scan: Scan) -> None:
        scan.setting(self.rate)

    def build(self, build: Build, inputs: Shape) -> Chain:
        rate = float(build.value(self.rate))
        return build.operation("dropout", inputs, inputs, rate=rate) if rate else Chain(inputs)


# --- from parts to a space, and from a design to its network --------------------------------------------------------------


class UnfitError(ArchGymError):
    """The parts of a design do not fit together."""


class _Named:
    """A place in an architecture: the names before those of choices."""

    prefix = ""

    @contextmanager
    def named(self, *names: str) -> Iterator[None]:
        before = self.prefix
        self.prefix += "".join(f"{name}." for name in names)
        try:
            yield
        finally:
            self.prefix = before


Conditions = tuple[tuple[str, frozenset[int]], ...]


@dataclass
class Scan(_Named):
    """Collects the choices of an architecture with the conditions under which they have an effect."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    uses: dict[str, set[Conditions]] = field(default_factory=dict)
    conditions: Conditions = ()

    def choose(self, parameter: Parameter) -> str:
        """Declare a choice in this place."""
        name = parameter.name
        known = self.parameters.setdefault(name, parameter)
        if known.values != parameter.values:
            raise ArchGymError(
                f"the choice {name!r} stands there twice with different values; choices of one name are made together "
                "(Scope gives a part names of its own)"
            )
        if any(name == other for other, _ in self.conditions):
            raise ArchGymError(f"the choice {name!r} stands within itself; give one of the two another name")
        if len(self.parameters) > MOST_PARAMETERS:
            raise ArchGymError(f"the architecture has more than {MOST_PARAMETERS} choices; share some of them")
        self.uses.setdefault(name, set()).add(self.conditions)
        return name

    def setting(self, value: Any) -> tuple[Any, ...]:
        """Declare a setting where it is a choice; its values."""
        if isinstance(value, Choice):
            self.choose(value.parameter(self.prefix))
        return _values(value)

    @contextmanager
    def where(self, name: str, indices: set[int]) -> Iterator[None]:
        """Inside, the choice ``name`` has one of the ``indices``; no choice where it has no name."""
        before = self.conditions
        if name and len(indices) < len(self.parameters[name]):
            self.conditions = (*before, (name, frozenset(indices)))
        try:
            yield
        finally:
            self.conditions = before


class Build(_Named):
    """Builds the network of one design."""

    def __init__(self, chosen: Mapping[str, Value]) -> None:
        self.chosen, self.count = chosen, 0

    def value(self, setting: Any) -> Any:
        """A setting, or what the design chooses for it."""
        return self.chosen[self.prefix + setting.name] if isinstance(setting, Choice) else setting

    def operation(self, kind: str, inputs: Shape, outputs: Shape, **settings: Any) -> Chain:
        """A chain of one operation."""
        self.count += 1
        if self.count > MOST_OPERATIONS:
            raise UnfitError(f"the network has more than {MOST_OPERATIONS} operations")
        return Chain(outputs, (Operation(kind, inputs, outputs, tuple(settings.items())),))

    def convolution(
        self, inputs: Shape, filters: int, kernel: int, stride: int, groups: int, dilation: int, bias: bool
    ) -> Chain:
        """A chain of one convolution; a sentence where it does not fit."""
        if not inputs.sizes:
            raise UnfitError("a convolution comes where no positions are left")
        if inputs.channels % groups or filters % groups:
            raise UnfitError(f"{groups} groups do not divide {inputs.channels} input and {filters} output channels")
        if filters > MOST_CHANNELS:
            raise UnfitError(f"a convolution has {filters} output channels; at most {MOST_CHANNELS} are built")
        outputs = _strided(inputs, filters, stride)
        if kernel == 1:
            dilation = 1
        return self.operation("conv", inputs, outputs, kernel=kernel, stride=stride, groups=groups, dilation=dilation,
                              bias=bias)  # fmt: skip


class Architecture:
    """A part as a design space, and its designs as networks.

    Args:
        body: the part; the head (mean over positions, linear layer) is added.
        inputs: shape of a sample.
        classes: outputs of the head.

    Attributes:
        space: one parameter a choice, those that have no effect inactive; the constraint ``shapes``.

    Raises:
        ArchGymError: one sentence: there is nothing to choose, choices contradict one another, or no design fits.
    """

    def __init__(self, body: Part, inputs: Shape, classes: int) -> None:
        self.body, self.inputs, self.classes = _check_part("the architecture", body), inputs, classes
        scan = Scan()
        try:
            body.scan(scan)
        except RecursionError:
            raise ArchGymError("the architecture's parts are nested too deeply; use Sequence and Repeat") from None
        if not scan.parameters:
            raise ArchGymError("the architecture has no Choice, Optional or other choice; there is nothing to search")
        self._built: OrderedDict[bytes, Built | str] = OrderedDict()
        names = list(scan.parameters)
        rules = [
            Inactive(name, _no_effect(scan, name, names), "the part that it belongs to is not taken")
            for name in names
            if () not in scan.uses[name]
        ]
        fits = Constraint("shapes", "the parts fit together: sums of equal shapes, groups that divide", self._fits)
        self.space = DesignSpace(list(scan.parameters.values()), [fits], rules)
        tried = self.space.sample(256, 0) if self.space.size > 256 else self.space.unrank(np.arange(self.space.size))
        if not any(isinstance(self._of(row), Built) for row in self.space.canonical(tried)):
            raise ArchGymError(
                f"no design of the architecture fits together on {inputs}: {self._of(self.space.canonical(tried)[0])}"
            )

    def __reduce__(self) -> Any:
        return Architecture, (self.body, self.inputs, self.classes)

    @property
    def text(self) -> str:
        """All that networks depend on, as text."""
        return repr((self.body, self.inputs, self.classes))

    def build(self, design: Any) -> Built:
        """The network of a design ``(d,)``.

        Raises:
            ArchGymError: its parts do not fit together.
        """
        found = self._of(self.space.canonical(design)[0])
        if isinstance(found, str):
            raise ArchGymError(f"the design does not fit together: {found}")
        return found

    def design(self, named: Mapping[str, Any]) -> Designs:
        """A design ``(d,)`` of its values by name; those that have no effect may be left out."""
        for name in named:
            self.space.position(name)
        row = np.zeros(self.space.dimension, dtype=np.int64)
        for j, parameter in enumerate(self.space.parameters):
            if parameter.name in named:
                row[j] = parameter.index(named[parameter.name])
        canonical: Designs = self.space.canonical(row)[0]
        for j, name in enumerate(self.space.names):
            rules = [rule for rule in self.space.inactive if rule.parameter == name]
            if name not in named and not any(rule.when(canonical[None])[0] for rule in rules):
                raise ArchGymError(f"the design lacks {name!r}; its values are {self.space.parameters[j].values}")
        return canonical

    def _fits(self, designs: Designs) -> Mask:
        rows = self.space.canonical(designs)
        return np.array([isinstance(self._of(row), Built) for row in rows], dtype=bool)

    def _of(self, row: Designs) -> Built | str:
        """The network of a canonical design, or why it has none."""
        key = row.tobytes()
        found = self._built.get(key)
        if found is None:
            chosen = {p.name: p.values[i] for p, i in zip(self.space.parameters, row.tolist(), strict=True)}
            head = Sequence(self.body, GlobalPool(), Linear(self.classes))
            try:
                found = Built(self.inputs, head.build(Build(chosen), self.inputs))
            except UnfitError as error:
                found = str(error)
            self._built[key] = found
            while len(self._built) > _SEEN:
                self._built.popitem(last=False)
        return found


def _no_effect(scan: Scan, name: str, names: list[str]) -> Callable[[Designs], NDArray[np.bool_]]:
    """Where none of the places of a choice is taken."""
    uses = [
        [(names.index(other), np.isin(np.arange(len(scan.parameters[other])), list(indices))) for other, indices in use]
        for use in sorted(scan.uses[name], key=repr)
    ]

    def when(designs: Designs) -> NDArray[np.bool_]:
        taken = np.zeros(len(designs), dtype=bool)
        for use in uses:
            one = np.ones(len(designs), dtype=bool)
            for position, allowed in use:
                one &= allowed[designs[:, position]]
            taken |= one
        return ~taken

    return when


def _sum(branches: list[Chain]) -> Chain:
    """Chains added up, in a fixed order."""
    if len(branches) == 1:
        return branches[0]
    if len({branch.outputs for branch in branches}) > 1:
        raise UnfitError(f"a sum adds {_shapes(branches)}, which differ")
    outputs = branches[0].outputs
    return Chain(outputs, (Branches("sum", outputs, tuple(sorted(branches, key=repr))),))


def _shapes(branches: list[Chain]) -> str:
    return " and ".join(dict.fromkeys(str(branch.outputs) for branch in branches))


def _strided(inputs: Shape, channels: int, stride: int) -> Shape:
    return Shape(channels, tuple(-(-size // stride) for size in inputs.sizes))


# --- checks of what a user writes ------------------------------------------------------------------------------------------


def _name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArchGymError(f"{where} is called {quote(name)}; give a name of letters, digits and underscores")
    return name


def _check_part(where: str, part: Any) -> Any:
    if not isinstance(part, Part):
        raise ArchGymError(f"{where} holds a {type(part).__name__}; expected a part such as Conv(8) or Sequence(...)")
    return part


def _values(value: Any) -> tuple[Any, ...]:
    """The values that a setting may have."""
    if isinstance(value, Choice):
        if value.parts:
            raise ArchGymError(f"Choice {value.name!r} of parts stands where a value is expected")
        return value.values
    return (value,)


def _whole(where: str, setting: Any, least: int, most: int) -> None:
    for value in _values(setting):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ArchGymError(
                f"{where} is {quote(value)}; expected a whole number from {least} to {most}, or a Choice of them"
            )


def _odd(where: str, setting: Any) -> None:
    _whole(where, setting, 1, MOST_TAPS)
    for value in _values(setting):
        if value % 2 == 0:
            raise ArchGymError(
                f"{where} is {value}; expected an odd number, so that the padding is the same on both sides"
            )


def _word(where: str, setting: Any, known: tuple[str, ...]) -> None:
    for value in _values(setting):
        if value not in known:
            raise UnknownNameError(f"{where}", value, known)


def _flag(where: str, setting: Any) -> Any:
    for value in _values(setting):
        if not isinstance(value, bool):
            raise ArchGymError(f"{where} is {quote(value)}; expected True or False, or a Choice of them")
    return setting
