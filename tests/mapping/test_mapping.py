"""Cluster mappings: MAESTRO's numbers, conservation of work, canonical orders, the contract."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.networks.layers import conv
from archgym.simulators.mapping import LayerWorkload, MappingSimulator
from archgym.simulators.mapping.kernels import clusters
from archgym.simulators.mapping.layers import layers, shapes
from archgym.simulators.mapping.simulator import order_rank, permutations
from archgym.simulators.mapping.validate import _nest, validate
from archgym.testing.checks import check_simulator
from archgym.threads import limit_threads


def test_layer_tables_equal_gammas(ref):
    known = json.loads((ref / "accelerator" / "gamma_layers.json").read_text())
    for network in ("alexnet", "mobilenet_v2", "resnet18", "resnet50", "vgg16"):
        assert [(*shape[:6], 2 if shape[6] else 1) for shape in shapes(network)] == [
            tuple(row) for row in known[network]["rows"]
        ]


def test_reference_holds(ref):
    groups = {group.group: group for group in validate(ref / "accelerator")}
    assert all(group.holds for group in groups.values())
    ranked = groups["maestro_gamma/runtime"].statistics
    assert ranked["median_tau"] >= 0.9 and ranked["min_tau"] >= 0.85
    for name in ("runtime", "input_l2_reads", "weight_l2_reads", "output_l2_writes", "l2_energy"):
        assert groups[f"maestro_gamma_digits/{name}"].exact == 1.0
        if name != "l2_energy":
            assert groups[f"maestro_dataflows_digits/{name}"].exact == 1.0


def _random_mappings(rng, count):
    """A random small layer, and mappings of it."""
    depthwise = int(rng.integers(0, 2))
    bounds = rng.integers(1, [10, 10, 13, 13, 5, 5])
    bounds[0] = 1 if depthwise else bounds[0]
    outer = rng.integers(1, bounds + 1, size=(count, 6))
    inner = rng.integers(1, outer + 1)
    layer = np.array([*bounds, *rng.integers(1, 3, size=2), 1, 1, depthwise])
    orders = permutations()[rng.integers(0, 720, size=(count, 2))]
    spreads = rng.integers(depthwise, 4, size=(count, 2))
    return bounds, layer, np.stack([outer, inner], axis=1), orders, spreads, rng.integers(1, 6, size=(count, 2))


@pytest.mark.parametrize("seed", range(40))
def test_covering_rule_does_all_the_work_at_every_level(seed):
    count = 100
    bounds, layer, tiles, orders, spreads, units = _random_mappings(np.random.default_rng(seed), count)
    depthwise = layer[10]
    wide = np.broadcast_to(np.array([2**40, 2**40, 1]), (count, 3)).copy()
    result = clusters.evaluate(layer, tiles, orders, spreads, units, wide, False)
    macs = int(np.prod(bounds))
    assert (result[:, clusters.MACS] == macs).all()
    # No schedule is faster than all units working all the time, or slower than one PE (and a fill a case).
    assert (result[:, clusters.RUNTIME] >= macs / units.prod(axis=1)).all()
    cases = np.prod(-(-bounds // tiles[:, 0]), axis=1)
    assert (result[:, clusters.RUNTIME] <= macs + 2 * cases + 2).all()
    # Every word of W enters at least once, every output leaves at least once.
    weights = np.prod(bounds[[0, 1, 4, 5]])
    assert (result[:, clusters.WEIGHT_READS] >= weights).all()
    outputs = (bounds[1] if depthwise else bounds[0]) * bounds[2] * bounds[3]
    assert (result[:, clusters.OUTPUT_WRITES] >= outputs).all()
    # One unit a level and whole tiles: one pass, all words once, one fill a level.
    whole = np.broadcast_to(bounds, tiles.shape).copy()
    alone = clusters.evaluate(layer, whole, orders, spreads, np.ones_like(units), wide, False)
    assert (alone[:, clusters.WEIGHT_READS] == weights).all()
    assert (alone[:, clusters.RUNTIME] == macs + 2).all()


def test_worked_example():
    """K 4, C 2, P 3, one tap; K spread over 2 clusters, then one PE each; weights stay while P moves."""
    layer = np.array([4, 2, 3, 1, 1, 1, 1, 1, 1, 1, 0])
    tiles = np.array([[[1, 2, 1, 1, 1, 1], [1, 2, 1, 1, 1, 1]]])
    orders = permutations()[[[order_rank("KCYXRS"), 0]]]
    result = clusters.evaluate(
        layer, tiles, orders, np.array([[0, 0]]), np.array([[2, 1]]), np.array([[2**40, 2**40, 1]]), False
    )[0]
    # Two rounds of K, in each three rows: inputs 2 words a step, weights 4 words a round, outputs 2 a step. When K
    # moves on, the analysis charges no input, although the rows start anew: 5 steps, not 6.
    assert result[clusters.INPUT_READS] == 5 * 2
    assert result[clusters.WEIGHT_READS] == 2 * 4
    assert result[clusters.OUTPUT_WRITES] == 2 * 3 * 2
    # One PE a cluster: what enters the cluster enters the PE, at every step (its single case is the initial one).
    assert result[clusters.L1_FILLS] == 6 * 2 * (2 + 2)
    # A step takes 2 MACs and a cycle to fill the PE; the first one a cycle more to fill the cluster.
    assert result[clusters.RUNTIME] == 6 * 3 + 1


@pytest.mark.parametrize("edges", ["covering", "maestro"])
@pytest.mark.parametrize("space", MappingSimulator.spaces)
@pytest.mark.parametrize("workload", ["resnet18-2", "mobilenet_v2-1", "resnet50:stage2.first.spatial"])
def test_contract(space, edges, workload):
    simulator = MappingSimulator(space, edges=edges)
    check_simulator(simulator, simulator.load_workload(workload), samples=64)


@pytest.mark.parametrize("space", MappingSimulator.spaces)
def test_every_gene_is_alive(space):
    """Changing any one gene changes some metric of some design."""
    simulator = MappingSimulator(space)
    workload = simulator.load_workload("resnet18-2")
    made = simulator.space(workload)
    base = made.sample(300, 5, feasible=True)
    before = simulator.evaluate(base, workload)
    rng = np.random.default_rng(0)
    for j, name in enumerate(made.names):
        if made.nvec[j] == 1:
            continue
        other = base.copy()
        other[:, j] = rng.integers(0, made.nvec[j], len(base))
        after = simulator.evaluate(other, workload)
        both = after.feasible & (other[:, j] != base[:, j])
        changed = before.metrics["edp_uj_ms"][both] != after.metrics["edp_uj_ms"][both]
        assert changed.any() or (before.metrics["area_mm2"][both] != after.metrics["area_mm2"][both]).any(), name


def test_canonical_orders_join_equivalent_designs():
    simulator = MappingSimulator()
    workload = simulator.load_workload("resnet18-2")
    space = simulator.space(workload)
    named = {
        "seed_l2": order_rank("KCYXRS"), "par_l2": "K", "k_l2": 8, "c_l2": 64, "x_l2": 54, "y_l2": 6,
        "seed_l1": order_rank("KCYXRS"), "par_l1": "C", "k_l1": 8, "c_l1": 1, "x_l1": 54, "y_l1": 6,
        "num_pe": 256, "cluster": 16,
    }  # fmt: skip
    # C, X, R and S run once at the outer level: where they stand makes no difference.
    same = named | {"seed_l2": order_rank("SCKXRY")}
    other = named | {"seed_l2": order_rank("YKCXRS")}
    a, b, c = space.canonical(space.encode([named, same, other]))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    # Inner tiles beyond the outer ones are clamped.
    large = space.canonical(space.encode(named | {"k_l1": 64}))
    assert np.array_equal(large[0], a)


def test_threads_and_order_do_not_change_a_bit():
    simulator = MappingSimulator("archgym17")
    workload = simulator.load_workload("mobilenet_v2-2")
    designs = simulator.space(workload).sample(301, 1)
    with limit_threads(1):
        one = simulator.evaluate(designs, workload)
    many = simulator.evaluate(designs[::-1], workload)
    assert all(np.array_equal(one.metrics[k][::-1], many.metrics[k], equal_nan=True) for k in one.metrics)


def test_groups_and_batches_repeat_the_layer():
    simulator = MappingSimulator()
    one = LayerWorkload(conv("c", 16, 16, 8, 8, 3, 3))
    many = LayerWorkload(conv("c", 64, 64, 8, 8, 3, 3, groups=4, N=2))
    assert many.repeats == 8
    designs = simulator.space(one).sample(20, 0, feasible=True)
    a, b = simulator.evaluate(designs, one), simulator.evaluate(designs, many)
    assert np.array_equal(8 * a.metrics["latency_cycles"], b.metrics["latency_cycles"])
    assert np.array_equal(a.metrics["area_mm2"], b.metrics["area_mm2"])


def test_capacities_and_miscounts_are_named():
    tight = MappingSimulator(l2_words=2000, l1_words=500)
    workload = tight.load_workload("resnet18-2")
    designs = tight.space(workload).sample(400, 0)
    evaluation = tight.evaluate(designs, workload)
    assert {"l2-capacity", "l1-capacity", "cluster-exceeds-pes"} <= set(evaluation.violation)
    assert (evaluation.metrics["l2_words"][evaluation.feasible] <= 2000).all()
    tool = MappingSimulator(edges="maestro").evaluate(designs, workload)
    assert "miscounted-macs" in set(tool.violation)


def test_all_layers_load():
    simulator = MappingSimulator()
    for name in layers():
        assert simulator.load_workload(name).description
    batch = simulator.load_workload("resnet18-2", batch=4)
    assert batch.repeats == 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.load_workload("resnet18-99"), "unknown workload"),
        (lambda s: s.load_workload("resnet18:conv9"), "unknown layer"),
        (lambda s: s.load_workload("resnet18-2", tokens=3), "no workload option 'tokens'"),
        (lambda s: MappingSimulator(edges="mastro"), "did you mean 'maestro'"),
        (lambda s: MappingSimulator(noc_words_per_cycle=0), "noc_words_per_cycle is 0"),
        (lambda s: MappingSimulator(clock_ghz=-1), "clock_ghz"),
        (lambda s: order_rank("KCYXR"), "no loop order"),
    ],
)
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ArchGymError, match=words):
        call(MappingSimulator())


def test_layer_of_a_file(tmp_path):
    (tmp_path / "n.csv").write_text("Layer, M, N, K,\nfc, 4, 16, 8,\nfc2, 4, 4, 4,\n")
    simulator = MappingSimulator()
    with pytest.raises(ArchGymError, match="name one with the option layer"):
        simulator.load_workload(f"file:{tmp_path / 'n.csv'}")
    assert simulator.load_workload(f"file:{tmp_path / 'n.csv'}", layer="fc").bounds["K"] == 16


# --- directives of MAESTRO ---------------------------------------------------------------------------------------------

_CKP = [
    ["S", "C", "1", "1"], ["T", "K", "64", "64"], ["T", "R", "3", "3"], ["T", "S", "3", "3"], ["T", "Y'", "1", "1"],
    ["T", "X'", "1", "1"], ["C", "64", "P"], ["S", "K", "1", "1"], ["T", "R", "3", "3"], ["T", "S", "3", "3"],
]  # fmt: skip


def _dataflow(directives, stride=None, kind="CONV"):
    dims = {"K": 64, "C": 3, "R": 3, "S": 3, "Y": 224, "X": 224}
    return {"type": kind, "stride": stride and {"X": stride, "Y": stride}, "dims": dims, "directives": directives}


def test_a_dataflow_with_output_dims_and_without_a_stride_as_maestro_counts_it(tmp_path):
    """VGG-16's first layer under the dataflow KCP-WS, as MAESTRO printed it."""
    mappings = {"mappings": {"ckp": {"CONV1": _dataflow(_CKP)}}}
    (tmp_path / "maestro_mappings.json").write_text(json.dumps(mappings))
    row = {
        "mapping_file": "ckp", "Layer Number": "CONV1", "num_pes": 64, "noc_bw": 32, "offchip_bw": 64,
        "Num MACs": 85162752, "Runtime (Cycles)": 3992022, "input l2 read": 447552, "filter l2 read": 1728,
        "output l2 write": 9462528,
    }  # fmt: skip
    with gzip.open(tmp_path / "maestro_dataflows.csv.gz", "wt") as file:
        file.write(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    groups = list(validate(tmp_path))
    assert [group.rows for group in groups] == [1] * 4 and all(group.exact == 1.0 for group in groups)


@settings(max_examples=40, deadline=None)
@given(outputs=st.integers(1, 60), stride=st.integers(1, 4), taps=st.sampled_from([1, 3]), axis=st.sampled_from("YX"))
def test_a_tile_of_outputs_is_the_tile_of_inputs_above_it(outputs, stride, taps, axis):
    inputs = (outputs - 1) * stride + taps
    rest = [["S", "C", "1", "1"], ["T", "R", str(taps), str(taps)], ["T", "S", str(taps), str(taps)]]
    ours = _nest(_dataflow([*rest, ["T", f"{axis}'", str(outputs), str(outputs)]], stride))
    theirs = _nest(_dataflow([*rest, ["T", axis, str(inputs), str(outputs * stride)]], stride))
    assert ours[1:] == theirs[1:]


def test_a_directive_that_is_not_known_is_refused_by_name():
    with pytest.raises(ArchGymError, match='tiles "Z\'"'):
        _nest(_dataflow([["S", "C", "1", "1"], ["T", "Z'", "1", "1"]]))
