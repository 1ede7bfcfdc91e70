"""The single layers that come with the mapping simulator, numbered as in GAMMA's tables (Kao & Krishna, ICCAD 2020).

There a convolution is given by its *unpadded* input and has stride 1 whatever the network says, so that its output
has ``Y - R + 1`` rows; the numbers follow the order of the modules in the published networks (a shortcut comes after
its block). ``resnet18-2`` is the layer on which ArchGym's MaestroGym works.
"""

from __future__ import annotations

from functools import cache

from archgym.networks.layers import Layer

Shape = tuple[int, int, int, int, int, int, bool]
"""K, C, input rows, input columns, R, S, depthwise (then C channels and K = 1)."""


def _conv(K: int, C: int, size: int, r: int) -> Shape:
    return (K, C, size, size, r, r, False)


def _depthwise(C: int, size: int, r: int) -> Shape:
    return (1, C, size, size, r, r, True)


def _alexnet() -> list[Shape]:
    return [
        _conv(64, 3, 224, 11),
        _conv(192, 64, 27, 5),
        _conv(384, 192, 13, 3),
        _conv(256, 384, 13, 3),
        _conv(256, 256, 13, 3),
    ]


def _vgg16() -> list[Shape]:
    shapes, channels, size = [], 3, 224
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            shapes.append(_conv(width, channels, size, 3))
            channels = width
        size //= 2
    return shapes


def _resnet18() -> list[Shape]:
    shapes, channels, size = [_conv(64, 3, 224, 7)], 64, 56
    for width in (64, 128, 256, 512):
        inner = size if width == 64 else size // 2
        shapes += [_conv(width, channels, size, 3), _conv(width, width, inner, 3)]
        if width != 64:
            shapes.append(_conv(width, channels, size, 1))
        shapes += [_conv(width, width, inner, 3)] * 2
        channels, size = width, inner
    return shapes


def _resnet50() -> list[Shape]:
    shapes, channels, size = [_conv(64, 3, 224, 7)], 64, 56
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(depth):
            inner = size // 2 if block == 0 and width != 64 else size
            shapes += [_conv(width, channels, size, 1), _conv(width, width, size, 3), _conv(4 * width, width, inner, 1)]
            if block == 0:
                shapes.append(_conv(4 * width, channels, size, 1))
            channels, size = 4 * width, inner
    return shapes


def _mobilenet_v2() -> list[Shape]:
    shapes, channels, size = [_conv(32, 3, 224, 3)], 32, 112
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, width, repeats, first_stride in plan:
        for repeat in range(repeats):
            wide = channels * expansion
            if expansion != 1:
                shapes.append(_conv(wide, channels, size, 1))
            shapes.append(_depthwise(wide, size, 3))
            if repeat == 0:
                size //= first_stride
            shapes.append(_conv(width, wide, size, 1))
            channels = width
    return [*shapes, _conv(1280, 320, 7, 1)]


_TABLES = {
    "alexnet": _alexnet,
    "mobilenet_v2": _mobilenet_v2,
    "resnet18": _resnet18,
    "resnet50": _resnet50,
    "vgg16": _vgg16,
}


@cache
def shapes(network: str) -> tuple[Shape, ...]:
    """The layers of one table."""
    return tuple(_TABLES[network]())


@cache
def layers() -> dict[str, Layer]:
    """All layers by name, ``resnet18-0`` and so on."""
    result = {}
    for network in _TABLES:
        for i, (K, C, Y, X, R, S, depthwise) in enumerate(shapes(network)):
            name = f"{network}-{i}"
            groups = C if depthwise else 1
            result[name] = Layer(
                name,
                "depthwise" if depthwise else "conv",
                K=K,
                C=C // groups,
                P=Y - R + 1,
                Q=X - S + 1,
                R=R,
                S=S,
                G=groups,
            )
    return result
