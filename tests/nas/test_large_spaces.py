"""DARTS and NASNet cells: codecs and exact counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.simulators.nas import darts, nasnet

SEP, DIL, SKIP, MAX, AVG, SEP5 = (
    "sep_conv_3x3", "dil_conv_3x3", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_5x5",
)  # fmt: skip
# Published cells (Liu et al., ICLR 2019; Xu et al., ICLR 2020).
DARTS_SECOND_ORDER = {
    "normal": [(SEP, 0), (SEP, 1), (SEP, 0), (SEP, 1), (SEP, 1), (SKIP, 0), (SKIP, 0), (DIL, 2)],
    "reduce": [(MAX, 0), (MAX, 1), (SKIP, 2), (MAX, 1), (MAX, 0), (SKIP, 2), (SKIP, 2), (MAX, 1)],
}
PC_DARTS = {
    "normal": [(SEP, 1), (SKIP, 0), (SEP, 0), (DIL, 1), (SEP5, 0), (SEP, 1), (AVG, 0), (DIL, 1)],
    "reduce": [(SEP5, 1), (MAX, 0), (SEP5, 1), (SEP5, 2), (SEP, 0), (SEP, 3), (SEP, 1), (SEP, 2)],
}


@pytest.mark.parametrize(("genotype", "parameters"), [(DARTS_SECOND_ORDER, 3349342), (PC_DARTS, 3634678)])
def test_parameters_of_published_cells(genotype: darts.Genotype, parameters: int) -> None:
    counted, _ = darts.counts(darts.from_genotype(genotype), darts.DARTS_MACROS["darts-C36L20"])
    assert counted.tolist() == [parameters]


def test_darts_parameters_equal_a_built_network() -> None:
    """The counts against layers that are really made (only their weights are: nothing runs)."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    stack = darts.CellStack("small", 4, 6, 10)

    def size(*layers: object) -> int:
        return sum(p.numel() for layer in layers for p in layer.parameters())  # type: ignore[attr-defined]

    def operation(op: str, c: int, stride: int) -> int:
        if op.endswith("pool_3x3"):
            return 0
        if op == SKIP:
            halves = (nn.Conv2d(c, c // 2, 1, 2, bias=False), nn.Conv2d(c, c - c // 2, 1, 2, bias=False))
            return 0 if stride == 1 else size(*halves, nn.BatchNorm2d(c))
        k = int(op[-1])
        one = size(nn.Conv2d(c, c, k, groups=c, bias=False), nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))
        return one if op.startswith("dil") else 2 * one

    design = darts.space().sample(1, 5)[0]
    genotype = darts.to_genotype(design)
    c, before, previous = 4, 12, 12
    total = size(nn.Conv2d(3, 12, 3, bias=False), nn.BatchNorm2d(12))
    for number in range(6):
        reduction = number in (2, 4)
        c *= 2 if reduction else 1
        total += size(nn.Conv2d(before, c, 1, bias=False), nn.BatchNorm2d(c))
        total += size(nn.Conv2d(previous, c, 1, bias=False), nn.BatchNorm2d(c))
        for op, source in genotype["reduce" if reduction else "normal"]:
            total += operation(op, c, 2 if reduction and source < 2 else 1)
        before, previous = previous, 4 * c
    total += size(nn.Linear(previous, 10))
    assert darts.counts(design, stack)[0].tolist() == [total]


def test_darts_space_has_the_published_size() -> None:
    space = darts.space()
    assert space.dimension == 22
    assert space.size == 1037664180**2


@given(st.integers(0, 2**32 - 1))
def test_darts_text_round_trips_in_either_order(seed: int) -> None:
    design = darts.space().sample(1, seed)[0]
    assert np.array_equal(darts.from_text(darts.to_text(design)), design)
    genotype = darts.to_genotype(design)
    swapped = {cell: [entries[k ^ 1] for k in range(len(entries))] for cell, entries in genotype.items()}
    assert np.array_equal(darts.from_genotype(swapped), design)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda g: g.pop("reduce"), "no cell 'reduce'"),
        (lambda g: g["normal"].pop(), "7 entries"),
        (lambda g: g["normal"].__setitem__(0, ("sep_conv_4x4", 0)), "unknown operation"),
        (lambda g: g["normal"].__setitem__(1, (SEP, 0)), "predecessor 0 twice"),
        (lambda g: g["normal"].__setitem__(0, (SEP, 2)), "takes predecessor 2; expected 0..1"),
        (lambda g: g["normal"].__setitem__(0, SEP), "no pair"),
    ],
)
def test_bad_genotypes_are_named(change: object, sentence: str) -> None:
    genotype = {cell: list(entries) for cell, entries in DARTS_SECOND_ORDER.items()}
    change(genotype)  # type: ignore[operator]
    with pytest.raises(ArchGymError, match=sentence):
        darts.from_genotype(genotype)


def test_bad_genotype_text() -> None:
    with pytest.raises(ArchGymError, match="cannot read the genotype"):
        darts.from_text("__import__('os')")


@given(st.integers(0, 2**32 - 1))
def test_nasnet_text_round_trips(seed: int) -> None:
    design = nasnet.space().sample(1, seed)[0]
    assert np.array_equal(nasnet.from_text(nasnet.to_text(design)), design)


def test_nasnet_size_and_unused_states() -> None:
    space = nasnet.space()
    assert space.dimension == 50
    assert space.size == (720**2 * 338**5) ** 2
    chain = np.zeros((1, 2, 5, 5), dtype=np.int64)
    chain[:, :, :, 0] = chain[:, :, :, 1] = np.arange(1, 6)  # each block uses the one before
    assert nasnet.unused_states(chain.reshape(1, 50)).tolist() == [[[False] * 4 + [True]] * 2]
    assert nasnet.unused_states(np.zeros((1, 50), dtype=np.int64)).all()


def test_nasnet_parameters_by_hand() -> None:
    # One cell, every block identity + identity added: two input projections, the stem and the classifier.
    stack = darts.CellStack("one", 8, 2, 10)
    design = np.zeros((1, 50), dtype=np.int64)
    # cells 0 and 1 of 2: both reductions at 2 // 3 = 0 and 4 // 3 = 1; states 0 in stride 2: factorised identity.
    c1, c2 = 16, 32
    stem = 27 * 24 + 48
    first = 24 * c1 + 24 * c1 + 4 * c1 + 10 * (c1 * c1 + 2 * c1)
    second = 24 * c2 + 5 * c1 * c2 + 4 * c2 + 10 * (c2 * c2 + 2 * c2)
    assert nasnet.parameters(design, stack).tolist() == [stem + first + second + 5 * c2 * 10 + 10]


@pytest.mark.parametrize("text", ["", "a/b", "0:identity,0:identity,add/0:identity,0:identity,add"])
def test_bad_nasnet_text(text: str) -> None:
    with pytest.raises(ArchGymError):
        nasnet.from_text(text)
