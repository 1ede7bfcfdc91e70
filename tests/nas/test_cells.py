"""The cell space: codecs over every cell, class counts, paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import MACROS

CELL = st.lists(st.integers(0, 4), min_size=6, max_size=6)


def test_every_cell_round_trips() -> None:
    rows = cells.all_rows()
    assert rows.shape == (15625, 6)
    assert np.array_equal(cells.codes(rows), np.arange(15625))
    assert [cells.codes(cells.from_string(text)) for text in cells.all_strings()[::7]] == list(range(0, 15625, 7))
    assert np.array_equal(cells.codes_of_strings(cells.all_strings()), np.arange(15625))
    assert len(set(cells.all_strings())) == 15625
    assert np.array_equal(cells.from_naslib(cells.to_naslib(rows)), rows)
    assert np.array_equal(cells.from_one_hot(cells.to_one_hot(rows)), rows)
    adjacency, labels = cells.to_graph(rows)
    assert np.array_equal(cells.from_graph(labels), rows)
    assert cells.valid_graphs(adjacency, labels).all()


def test_naslib_tuple_of_a_known_cell() -> None:
    # Edge order 0->1, 0->2, 0->3, 1->2, 1->3, 2->3; 0 skip, 1 none, 2 conv3x3, 3 conv1x1, 4 pool.
    row = cells.from_string("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|")
    assert cells.to_naslib(row).tolist() == [2, 1, 0, 3, 4, 2]


def test_a_graph_that_is_no_cell_is_told() -> None:
    adjacency, labels = cells.to_graph(cells.all_rows()[:3])
    adjacency[0, 0, 7] = 1
    labels[1, 3] = 0
    assert cells.valid_graphs(adjacency, labels).tolist() == [False, False, True]


@given(CELL)
def test_string_round_trip(row: list[int]) -> None:
    assert cells.from_string(cells.to_string(row)).tolist() == row


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("|none~0|+|none~0|none~1|", "2 node"),
        ("|nor_conv3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|", "did you mean 'nor_conv_3x3'"),
        ("|none~1|+|none~0|none~1|+|none~0|none~1|none~2|", "input '1'; expected 0"),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "input '0'; expected 1"),
        ("|none~0+|none~0|none~1|+|none~0|none~1|none~2|", "begins and ends with '|'"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|", "2 edge(s); expected 3"),
        ("|none|+|none~0|none~1|+|none~0|none~1|none~2|", "no input number"),
        ("", "1 node"),
    ],
)
def test_bad_strings_are_named(text: str, sentence: str) -> None:
    with pytest.raises(ArchGymError, match=sentence.replace("(", r"\(").replace(")", r"\)").replace("|", r"\|")):
        cells.from_string(text)


@given(st.text(max_size=60))
def test_any_text_parses_or_gives_a_sentence(text: str) -> None:
    try:
        parsed = cells.from_string(text)
    except ArchGymError:
        return
    assert cells.to_string(parsed) == text.strip()


@pytest.mark.parametrize(("rule", "count"), cells.CLASS_RULES.items())
def test_class_counts(rule: str, count: int) -> None:
    number = cells.classes(rule)
    assert number.max() + 1 == count
    _, first = np.unique(number, return_index=True)
    assert (np.diff(first) > 0).all(), "classes are numbered by first appearance"


def test_function_classes_equal_an_exact_construction() -> None:
    # Nodes as sorted tuples of terms: sums flatten, zeros vanish, a non-skip edge is one bracketed term.
    names: dict[object, int] = {}
    exact = []
    for row in cells.all_rows().tolist():
        nodes: list[tuple[object, ...]] = [(("x",),)]
        for target in (1, 2, 3):
            terms: list[object] = []
            for edge, (source, to) in enumerate(cells.EDGES):
                if to != target or row[edge] == cells.NONE or not nodes[source]:
                    continue
                terms += list(nodes[source]) if row[edge] == cells.SKIP else [(row[edge], nodes[source])]
            nodes.append(tuple(sorted(terms, key=repr)))
        exact.append(names.setdefault(nodes[3], len(names)))
    assert np.array_equal(cells.classes("function"), exact)


def test_published_refines_pruned_refines_function_refines_linear() -> None:
    for fine, coarse in itertools.pairwise(("published", "zero_pruned", "function", "function_pool_linear")):
        pairs = np.unique(np.stack([cells.classes(fine), cells.classes(coarse)]), axis=1)
        assert pairs.shape[1] == cells.CLASS_RULES[fine]


def test_representatives_have_no_dead_edges_and_dead_is_one_class() -> None:
    codes = cells.representatives("function")
    rows = cells.rows(codes)
    assert np.array_equal(cells.live_edges(rows), rows != cells.NONE)
    assert np.array_equal(cells.classes("function")[codes], np.arange(4930))
    assert cells.is_dead(cells.all_rows()).sum() == 341
    assert len(np.unique(cells.classes("function")[cells.is_dead(cells.all_rows())])) == 1


def test_neighbours() -> None:
    table = cells.neighbour_codes()
    for code in (0, 7, 6111, 15624):
        assert sorted(table[code]) == sorted(cells.codes(cells.neighbours(cells.rows(code))))
    assert ((cells.rows(table) != cells.all_rows()[:, None, :]).sum(-1) == 1).all()
    values = np.zeros(15625)
    values[123] = 1.0
    assert 123 in cells.local_maxima(values)
    assert not set(table[123]) & set(cells.local_maxima(values))
    values[table[123][5]] = 1.0  # a plateau of two counts once
    high = [code for code in cells.local_maxima(values) if values[code] == 1.0]
    assert high == [min(123, table[123][5])]


def test_free_statistics_of_known_cells() -> None:
    rows = np.array([[3, 2, 3, 1, 0, 3], [0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 3]])
    statistics = cells.free_statistics(rows)
    assert statistics["depth"].tolist() == [3, 0, 0]
    assert statistics["shortest_path"].tolist() == [0, 0, 0]
    assert statistics["paths"].tolist() == [3, 0, 0]
    assert statistics["live_edges"].tolist() == [5, 0, 0]
    assert statistics["count_nor_conv_3x3"].tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    ("name", "classes", "parameters", "macs"),
    [
        ("cifar10", 10, (73306, 1531546), (7783040, 220119680)),
        ("imagenet16", 120, (80456, 1538696), (1953280, 55037440)),
    ],
)
def test_ranges_of_the_published_skeletons(
    name: str, classes: int, parameters: tuple[int, int], macs: tuple[int, int]
) -> None:
    rows = cells.all_rows()
    n1, n3 = (rows == cells.CONV1).sum(1), (rows == cells.CONV3).sum(1)
    skeleton = MACROS[name]
    assert skeleton.classes == classes
    for got, wanted in ((skeleton.parameters(n1, n3), parameters), (skeleton.macs(n1, n3), macs)):
        assert (got.min(), got.max()) == wanted
        assert len(np.unique(got)) == 28


def test_own_skeleton() -> None:
    skeleton = MACROS["mnist1d-C8S2"]
    one, zero = np.array([1]), np.array([0])
    assert skeleton.parameters(zero, zero) == 1586
    assert (skeleton.parameters(one, zero) - 1586, skeleton.parameters(zero, one) - 1586) == (368, 1008)
    assert skeleton.macs(zero, zero) == 26720
    assert (skeleton.macs(one, zero) - 26720, skeleton.macs(zero, one) - 26720) == (7680, 23040)
