"""Components, the hardware space, the mapper and the simulator."""

import importlib
import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from archgym.errors import ArchGymError
from archgym.networks.layers import Layer, Network, conv, gemm
from archgym.simulators.accelerator import hardware, mapper
from archgym.simulators.accelerator.components import fit_errors, technologies, technology
from archgym.simulators.accelerator.loopnest import Batch, Problem, evaluate_batch
from archgym.simulators.accelerator.simulator import AcceleratorSimulator
from archgym.threads import limit_threads


@pytest.fixture(scope="module")
def simulator():
    return AcceleratorSimulator()


@pytest.fixture(scope="module")
def small():
    return Network(
        "small", [conv("a", 16, 8, 14, 14, 3, 3), gemm("b", 1, 32, 48), conv("c", 8, 8, 7, 7, 3, 3, groups=8)]
    )


# --- components --------------------------------------------------------------------------------------------------


def test_fits_stay_within_their_stated_errors():
    worst = {(e.technology, e.family, e.quantity): e.worst_error for e in fit_errors()}
    stated = {
        ("register", "read_pj"): 0.054, ("register", "write_pj"): 0.042, ("register", "area_um2"): 0.072,
        ("sram", "read_pj"): 0.139, ("sram", "write_pj"): 0.32, ("sram", "area_um2"): 0.33,
    }  # fmt: skip
    for (family, quantity), bound in stated.items():
        assert worst["accelergy-45nm", family, quantity] <= bound


def test_rows_count_where_they_match_and_laws_elsewhere():
    library = technology("accelergy-45nm")
    row = library.storage("smartbuffer_RF", [192, 193], [16, 16])
    assert row["read_pj"][0] == 3.005554 and row["area_um2"][0] == 12639.81936
    assert row["read_pj"][1] == pytest.approx(16 * (0.006977 + 0.000928 * 193) + 0.008343 * 8)
    depths = np.array([2, 16, 64, 192])
    for kind in hardware.CLASSES:
        values = library.storage(kind, depths, 32)
        assert all((values[q] > 0).all() for q in ("read_pj", "write_pj", "area_um2")), kind


def test_a_users_technology_needs_no_code(tmp_path):
    content = {
        "name": "mine", "node_nm": 7, "base": "accelergy-45nm",
        "classes": {kind: "register" for kind in hardware.CLASSES},
        "families": {"register": {"scale": {"read_pj": 0.1, "write_pj": 0.1, "leak_pj": 0.5, "area_um2": 0.02}}},
        "mac": {"compute_pj": 0.05, "area_um2": 10.0}, "dram": {"read_pj_per_bit": 4, "write_pj_per_bit": 4},
    }  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    mine, base = technology(f"file:{path}"), technology("accelergy-45nm")
    a, b = mine.storage("regfile", 100, 16)["read_pj"], base.storage("regfile", 100, 16)["read_pj"]
    assert a == pytest.approx(0.1 * b)
    path = tmp_path / "broken.json"
    family = content["families"]["register"]
    row = {"depth": 16, "width_bits": 32, "read_pj": 1.0}
    term = {"terms": [{"coefficient": 1.0}]}
    laws = dict.fromkeys(("read_pj", "write_pj", "leak_pj", "area_um2"), term)
    for place, value, words in (
        (content["classes"], {"smartbufferRF": "register"}, "unknown storage class .*did you mean 'smartbuffer_RF'"),
        (family, {"rows": [row, row | {"read_pj": 2.0}]}, "rows of family 'register' .* twice"),
        (family, {"laws": laws}, "has laws and a scale"),
    ):
        before = dict(place)
        place.update(value)
        path.write_text(json.dumps(content))
        with pytest.raises(ArchGymError, match=words):
            technology(f"file:{path}")
        place.clear()
        place.update(before)
    del content["mac"]
    path.write_text(json.dumps(content))
    with pytest.raises(ArchGymError, match="lacks the key 'mac'"):
        technology(f"file:{path}")
    with pytest.raises(ArchGymError, match="unknown technology"):
        technology("accelergy-44nm")
    assert "archgym-45nm" in technologies()


# --- space -------------------------------------------------------------------------------------------------------


def test_the_space_has_archgyms_26_parameters_and_every_value(simulator, small):
    space = simulator.space(small)
    assert len(space) == 26
    assert space.size == 24 * 3 * (4 * 16 * 3 * 4 * 4) ** 3 * (4 * 16 * 3) * (4 * 7 * 4 * 3 * 4 * 4)
    assert space.names[:3] == ("num_pes", "mac_mesh_x", "ifmap_spad_class")
    assert space.names[7] == "psum_spad_class" and space.names[12] == "weights_spad_class"
    assert space.names[17] == "dummy_buffer_class" and space.names[-1] == "shared_glb_write_bw"


def test_canonical_designs_have_the_same_metrics(simulator, small):
    space = simulator.space(small)
    designs = space.sample(20, 5)
    folded = space.canonical(designs)
    assert (folded != designs).any() and (space.canonical(folded) == folded).all()
    a, b = simulator.evaluate(designs, small), simulator.evaluate(folded, small)
    for name in a.metrics:
        assert (a.metrics[name] == b.metrics[name]).all(), name


def test_area_of_the_base_design_is_the_published_one():
    simulator = AcceleratorSimulator(technology="archgym-45nm")
    base = {name: np.array([value]) for name, value in hardware.BASE_DESIGN.items()}
    _, area = simulator._table(base)
    assert area[0] * 1e6 == pytest.approx(2118163.2, rel=1e-6)


# --- mapper ------------------------------------------------------------------------------------------------------


def random_mappings(layers, rows, seed):
    rng = np.random.default_rng(seed)
    layer_of = rng.integers(0, len(layers), rows)
    factors = np.ones((rows, 7, 8), np.int64)
    for i in range(rows):
        for d, bound in enumerate(layers[layer_of[i]].bounds):
            rest, prime = bound, 2
            while rest > 1:
                while rest % prime == 0:
                    factors[i, rng.integers(7), d] *= prime
                    rest //= prime
                prime += 1
    return mapper.Mappings(factors, rng.integers(0, 8, (rows, 4)), np.ones(rows, bool)), layer_of


def test_the_mappers_cost_is_the_general_model(simulator, small):
    from archgym.simulators.accelerator.kernels import mapper as kernel

    odd = Layer("odd", N=2, K=6, C=4, P=10, Q=6, R=3, S=4, G=3, stride_p=2, dilation_r=2, dilation_s=3)
    layers = [*small.layers, odd, conv("wide", 32, 16, 27, 27, 5, 5, stride=2)]
    rows = 600
    mappings, layer_of = random_mappings(layers, rows, 1)
    table, _ = simulator._table(simulator.space(small).columns(simulator.space(small).sample(rows, 2)))
    table[:, [hardware.CAP_I, hardware.CAP_W, hardware.CAP_O, hardware.CAP_G]] = 1e9
    table[:, hardware.MESH_X] = table[:, hardware.MESH_Y] = 1e4
    table[:, hardware.LEAK_X] = 0.01
    table[:, hardware.BWR_D] = np.arange(rows) % 50 + 1
    ours = mapper.evaluate_mappings(mappings, layers, table, layer_of, np.arange(rows))
    assert (ours.verdict == 0).all()
    out, room = np.empty(2), np.empty((2, 8), np.int64)
    for i in range(rows):
        numbers = mapper.layer_row(layers[layer_of[i]])
        kernel.cost(numbers, mappings.factors[i], mappings.orders[i], table[i], 2, np.inf, room, out)
        assert out[1] == ours.cycles[i]
        assert out[0] == pytest.approx(ours.energy_pj[i], rel=1e-12)


def test_eight_orders_a_level_are_as_good_as_all_permutations(simulator, small):
    """The orders the mapper knows reach the least energy-delay product of all loop permutations."""
    from archgym.simulators.accelerator.kernels import mapper as kernel

    layer = conv("l", 4, 4, 4, 4, 3, 3)
    problem = Problem.from_layer(layer)
    table, _ = simulator._table(simulator.space(small).columns(simulator.space(small).sample(1, 3)))
    table[:, [hardware.CAP_I, hardware.CAP_W, hardware.CAP_O, hardware.CAP_G]] = 1e6
    # K, C, P, R at the buffer; the rest outside and inside.
    factors = np.ones((7, 8), np.int64)
    factors[kernel.GLB, [kernel.K, kernel.C, kernel.P, kernel.R]] = 2, 2, 2, 3
    factors[kernel.DRAM, [kernel.K, kernel.Q, kernel.S]] = 2, 2, 3
    factors[kernel.PSUM, [kernel.P, kernel.Q]] = 2, 2
    factors[kernel.COLUMN, kernel.C] = 2
    pairs = list(itertools.product(range(8), range(8)))
    known = mapper.Mappings(
        np.tile(factors, (len(pairs), 1, 1)), np.array([(a, b, 0, 2) for a, b in pairs]), np.ones(len(pairs), bool)
    )
    zeros = np.zeros(len(pairs), np.int64)
    ours = mapper.evaluate_mappings(known, [layer], table, zeros, zeros)
    best = (ours.energy_pj * ours.cycles).min()
    base = known.batch()
    rows = []
    for outer in itertools.permutations((kernel.K, kernel.Q, kernel.S)):
        for inner in itertools.permutations((kernel.K, kernel.C, kernel.P, kernel.R)):
            dims = base.dim[0].copy().reshape(7, 8)
            for place, order in ((0, outer), (1, inner)):
                rest = [d for d in range(8) if d not in order]
                dims[place] = [*order, *rest]
            rows.append(dims)
    dims = np.array(rows)
    count = np.take_along_axis(np.tile(factors, (len(rows), 1, 1)), dims, axis=2)
    n = len(rows)
    batch = Batch(
        dims.reshape(n, 56), count.reshape(n, 56), np.tile(base.level[:1], (n, 1)), np.tile(base.axis[:1], (n, 1))
    )
    every = evaluate_batch([problem], mapper.stack_rows(table), batch, mapper.KEEP[None])
    assert (every.verdict == 0).all()
    assert best == pytest.approx((every.energy_pj * every.cycles).min(), rel=1e-12)


@pytest.mark.slow
def test_the_mapper_is_near_the_exhaustive_optimum(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    compare = importlib.import_module("mapper_quality").compare
    ratios = np.array([pair.ratio for pair in compare(30, seed=3)])
    assert not np.isnan(ratios).any() and (ratios >= 1 - 1e-9).all()
    assert np.mean(ratios <= 1.05) >= 0.9


# --- simulator ---------------------------------------------------------------------------------------------------


def test_kept_options_are_those_computed_anew(small):
    """Also where threads share what is kept and there is room for less than each asks for."""
    rows = np.stack([mapper.layer_row(layer) for layer in small.layers])
    keys = np.array([[layer, x, y] for layer in range(len(rows)) for x, y in ((2, 4), (8, 8), (4, 2))])
    effort, shared, answers = mapper.EFFORTS["effort1"], mapper.OptionCache(most=2), {}
    wanted = mapper.OptionCache().get(rows, keys, effort)

    def ask(thread):
        orders = [np.random.default_rng([thread, i]).permutation(len(keys)) for i in range(20)]
        answers[thread] = [(order, shared.get(rows, keys[order], effort)) for order in orders]

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for order, found in (answer for thread in answers.values() for answer in thread):
        assert all(np.array_equal(options, wanted[key]) for key, options in zip(order, found, strict=True))
    shared.get(rows, keys, effort)
    assert [name[1:3] for name in shared._known] == [(8, 8), (4, 2)]


def test_results_do_not_depend_on_batch_or_threads(simulator, small, monkeypatch):
    designs = simulator.space(small).sample(12, 0)
    whole = simulator.evaluate(designs, small)
    monkeypatch.setattr(mapper, "OPTIONS", mapper.OptionCache())
    with limit_threads(1):
        fresh = AcceleratorSimulator()
        for i in (11, 3, 0):
            single = fresh.evaluate(designs[i], small)
            for name, column in whole.metrics.items():
                assert single.metrics[name][0] == column[i], name


def test_layer_details_add_up_to_the_metrics(simulator, small):
    design = simulator.space(small).sample(1, 8)
    whole = simulator.evaluate(design, small)
    details = simulator.layer_details(design, small)
    assert sum(row["energy_uj"] * row["count"] for row in details) == pytest.approx(whole.metrics["energy_uj"][0])
    assert sum(row["latency_cycles"] * row["count"] for row in details) == whole.metrics["latency_cycles"][0]
    for row in details:
        parts = sum(row["energy_uj_by_place"].values()) + row["mac_uj"] + row["leakage_uj"]
        assert parts == pytest.approx(row["energy_uj"])
        assert row["violation"] == "" and "spatial" in row["mapping"]


def test_where_nothing_fits_the_design_is_infeasible_and_named(simulator, small):
    values = {name: np.array([value, value]) for name, value in hardware.BASE_DESIGN.items()}
    values["shared_glb_depth"] = np.array([1, 16384])
    values["shared_glb_block"] = np.array([1, 4])
    evaluation = simulator.evaluate_values(values, small)
    assert evaluation.violation.tolist() == ["no_mapping", ""]
    assert np.isnan(evaluation.metrics["energy_uj"][0]) and evaluation.metrics["energy_uj"][1] > 0
    for name in ("targets", "archgym-inverse-excess"):
        rewards = simulator.objectives(small)[name](evaluation)
        assert rewards[0] < rewards[1]


def test_targets_reward_less_cost(simulator, small):
    objective = simulator.objectives(small)["targets"]
    inverse = simulator.objectives(small)["archgym-inverse-excess"]
    base = dict(simulator.base_metrics(small))
    targets = simulator.targets(small)
    assert targets["energy_uj"] == pytest.approx(0.7 * base["energy_uj"])

    def reward(**metrics):
        columns = {name: np.array([metrics.get(name, base[name])]) for name in base}
        from archgym.simulator import Evaluation

        evaluation = Evaluation.build(columns)
        plain = objective(evaluation)[0]
        # ArchGym's own form orders alike until the targets are met; from there on it is flat.
        assert inverse.archgym_form and inverse(evaluation)[0] == pytest.approx(1 / -plain if plain < 0 else 1e5)
        return plain

    worse = reward(energy_uj=2 * base["energy_uj"])
    met = reward(**targets)
    better = reward(**{name: 0.9 * value for name, value in targets.items()})
    assert worse < reward() < 0 <= met < better


def test_more_capacity_never_costs_more_at_the_highest_effort():
    """Bigger buffers at equal access energies: the search may not lose what it found (it is compared, not assumed)."""
    layer = conv("l", 8, 4, 6, 6, 3, 3)
    library = technology("accelergy-45nm")
    base = {name: np.array([value]) for name, value in hardware.BASE_DESIGN.items()}
    table, _ = hardware.hardware_table(base, library)
    rows = np.repeat(table, 3, axis=0)
    rows[:, hardware.CAP_W] = 8, 64, 512
    index = np.arange(3)
    found = mapper.find_mappings([layer], rows, index * 0, index, effort=mapper.EFFORTS["effort3"])
    costs = mapper.evaluate_mappings(found, [layer], rows, index * 0, index)
    product = costs.energy_pj * costs.cycles
    assert product[1] <= product[0] * 1.02 and product[2] <= product[1] * 1.02


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"technology": "nowhere"}, "unknown technology"),
        ({"mapper_goal": "speed"}, "unknown goal"),
        ({"dram_bandwidth": 0}, "dram_bandwidth is 0"),
        ({"cycle_ns": -1}, "cycle_ns is -1"),
    ],
)
def test_bad_options_get_one_sentence(options, words):
    with pytest.raises(ArchGymError, match=words):
        AcceleratorSimulator(**options)


def test_leakage_is_a_power_whatever_the_cycle_time():
    network = Network("one", [Layer("fc", "gemm", P=16, K=64, C=64)])
    runs = {ns: AcceleratorSimulator("reduced", cycle_ns=ns, mapper_goal="delay") for ns in (0.5, 1.0, 2.0)}
    rows = runs[1.0].space(network).sample(6, 0)
    for row in rows:
        layers = {ns: simulator.layer_details(row, network)[0] for ns, simulator in runs.items()}
        if any(layer["violation"] for layer in layers.values()):
            continue
        assert len({layer["mapping"] for layer in layers.values()}) == 1
        power = [layer["leakage_uj"] / (layer["latency_cycles"] * ns) for ns, layer in layers.items()]
        assert power[0] > 0 and np.allclose(power, power[0], rtol=1e-12)
        still = [layer["energy_uj"] - layer["leakage_uj"] for layer in layers.values()]
        assert np.allclose(still, still[0], rtol=1e-9)
        evaluated = [float(runs[ns].evaluate(row, network).metrics["energy_uj"][0]) for ns in runs]
        assert np.allclose(evaluated, [layer["energy_uj"] for layer in layers.values()], rtol=1e-9)
