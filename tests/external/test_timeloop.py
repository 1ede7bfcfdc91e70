"""The Timeloop adapter against a stand-in that answers in Timeloop's format."""

from __future__ import annotations

import os
import stat
import sys

import numpy as np
import pytest
import yaml

from archgym.errors import ArchGymError
from archgym.networks.layers import conv
from archgym.simulators.accelerator.loopnest import (
    Architecture,
    Level,
    LevelMapping,
    Loop,
    Mapping,
    Problem,
    evaluate,
)
from archgym.simulators.external.timeloop import TimeloopModel, parse_stats, write_inputs

TENSORS = ("W", "I", "O")


@pytest.fixture
def nest():
    """Two levels and an array, C spread along X and K along Y."""
    problem = Problem.from_layer(conv("c", 8, 4, 6, 6, 3, 3, stride=2))
    names = [tensor.name for tensor in problem.tensors]
    keep = frozenset(names)
    architecture = Architecture(
        (
            Level("DRAM", 4, None, read_pj=64.0, write_pj=64.0, update_pj=64.0),
            Level("buffer", 2, 4096, read_bandwidth=8.0, read_pj=3.0, write_pj=4.0, update_pj=4.0, leak_pj=0.01),
            Level("register", 1, 64, 4, 2, read_pj=0.1, write_pj=0.2, update_pj=0.2, area_um2=5.0),
        ),
        4,
        2,
        mac_pj=0.3,
        mac_area_um2=10.0,
    )
    mapping = Mapping(
        (
            LevelMapping((Loop("P", 2), Loop("K", 2)), keep),
            LevelMapping((Loop("P", 3), Loop("Q", 6), Loop("C", 4, "X"), Loop("K", 2, "Y")), keep),
            LevelMapping((Loop("K", 2), Loop("R", 3), Loop("S", 3)), keep),
        )
    )
    result = evaluate(problem, architecture, mapping)
    assert result.violation == "", result.detail
    return architecture, problem, mapping, result


def in_timeloops_words(architecture, problem, result) -> str:
    """A statistics file with the numbers of a result, laid out as Timeloop lays it out."""
    lines = [
        "Buffer and Arithmetic Levels",
        "-" * 28,
        "Level 0",
        "-------",
        "=== MAC ===",
        "",
        "    SPECS",
        "    -----",
    ]
    lines += ["    Word bits             : 8", f"    Instances             : {architecture.macs} (4*2)", ""]
    lines += ["    STATS", "    -----", f"    Computes (total)        : {result.macs}"]
    lines += [f"    Cycles                  : {result.compute_cycles}"]
    lines += [f"    Energy (total)          : {result.mac_pj:.2f} pJ", ""]
    for number, i in enumerate(reversed(range(len(architecture.levels))), start=1):
        lines += [f"Level {number}", "-------", f"=== {architecture.levels[i].name} ===", "", "    SPECS", "    -----"]
        lines += ["        Size                            : -", "        Shared bandwidth                : -"]
        lines += [f"        Leakage energy (total)          : {result.leakage_pj[i]:.2f} pJ", "", "    MAPPING"]
        lines += ["    -------", "    Loop nest:", "      for P in [0:2)", "", "    STATS", "    -----"]
        lines += [f"    Cycles               : {result.level_cycles[i]}", "    Bandwidth throttling : 1.00"]
        for j, tensor in enumerate(problem.tensors):
            rows = {
                "Partition size": 7,
                "Utilized capacity": result.tile_words[i, j],
                "Utilized instances (max)": result.instances[i],
                "Scalar reads (per-instance)": result.reads[i, j],
                "Scalar fills (per-instance)": result.fills[i, j],
                "Scalar updates (per-instance)": result.updates[i, j],
            }
            lines.append(f"    {tensor.name}:")
            lines += [f"        {key:41}: {value}" for key, value in rows.items()]
            lines.append(f"        {'Energy (total)':41}: {result.energy_pj[i, j]:.2f} pJ")
            lines.append(f"        {'Read Bandwidth (total)':41}: 1.00 words/cycle")
        lines.append("")
    lines += ["Networks", "--------", "Network 0", "---------", "buffer <==> register", "", "    Fanout : 8", ""]
    lines += [
        "Summary Stats",
        "-------------",
        "GFLOPs (@1GHz): 3.5",
        "Utilization: 50.00%",
        f"Cycles: {result.cycles}",
    ]
    lines += [
        "Energy: 0.01 uJ",
        "EDP(J*cycle): 1.06e-02",
        "",
        f"Computes = {result.macs}",
        "fJ/Compute",
        "    MAC = 300.0",
    ]
    return "\n".join(lines) + "\n"


def stand_in(tmp_path, body: str) -> str:
    """An executable that runs ``body`` with its arguments in ``files``."""
    script = tmp_path / "timeloop-model"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time\nfiles = sys.argv[1:]\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def test_a_run_gives_the_record_of_the_loop_nest_model(tmp_path, nest):
    architecture, problem, mapping, ours = nest
    text = in_timeloops_words(architecture, problem, ours)
    body = (
        "assert files == ['architecture.yaml', 'problem.yaml', 'mapping.yaml', 'ERT.yaml', 'ART.yaml']\n"
        "assert all(os.path.getsize(f) for f in files)\n"
        "assert os.environ['TIMELOOP_DISABLE_LINK_TRANSFERS'] == '1'\n"
        f"open('timeloop-model.stats.txt', 'w').write({text!r})\n"
    )
    theirs = TimeloopModel(stand_in(tmp_path, body)).evaluate(problem, architecture, mapping)
    for name in ("tile_words", "fills", "reads", "updates", "instances", "level_cycles"):
        assert np.array_equal(getattr(theirs, name), getattr(ours, name)), name
    assert (theirs.cycles, theirs.compute_cycles, theirs.macs) == (ours.cycles, ours.compute_cycles, ours.macs)
    assert theirs.total_pj == pytest.approx(ours.total_pj, abs=0.1)
    assert theirs.utilization == pytest.approx(ours.utilization)


def test_inputs_say_what_the_nest_says(tmp_path, nest):
    architecture, problem, mapping, _ = nest
    names = write_inputs(tmp_path, problem, architecture, mapping)
    read = {name: yaml.safe_load((tmp_path / name).read_text()) for name in names}
    local = read["architecture.yaml"]["architecture"]["subtree"][0]["local"]
    assert [part["name"] for part in local] == ["DRAM[1..1]", "buffer[1..1]", "register[1..8]", "MAC[1..8]"]
    assert local[1]["attributes"]["depth"] * 2 == 4096 and local[1]["attributes"]["width"] == 16
    instance = read["problem.yaml"]["problem"]["instance"]
    assert (instance["K"], instance["C"], instance["P"], instance["R"]) == (8, 4, 6, 3)
    spatial = [d for d in read["mapping.yaml"]["mapping"] if d["type"] == "spatial"]
    assert len(spatial) == 1 and spatial[0]["target"] == "buffer" and spatial[0]["split"] == 1
    assert spatial[0]["permutation"].split()[:2] == ["C", "K"]
    temporal = {d["target"]: d for d in read["mapping.yaml"]["mapping"] if d["type"] == "temporal"}
    # Innermost first.
    assert temporal["register"]["permutation"].split()[:3] == ["S", "R", "K"]
    factors = [dict(f.split("=") for f in d["factors"].split()) for d in (*temporal.values(), *spatial)]
    for dim, bound in zip(problem.dims, problem.bounds, strict=True):
        assert np.prod([int(f[dim]) for f in factors]) == bound
    energies = {t["name"]: t for t in read["ERT.yaml"]["ERT"]["tables"]}
    assert energies["system.buffer[1..1]"]["actions"][0] == {"name": "read", "arguments": {}, "energy": 3.0}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('ERROR: couldn t map level buffer: capacity'); sys.exit(1)", "gave no result: ERROR: couldn t map"),
        ("time.sleep(60)", "ran past 0.5 s"),
        ("pass", r"wrote no \*.stats.txt"),
        ("open('x.stats.txt', 'w').write('hello')", "holds no Timeloop statistics"),
    ],
)
def test_failures_are_one_sentence(tmp_path, nest, body, words):
    architecture, problem, mapping, _ = nest
    limit = 0.5 if "sleep" in body else 60
    model = TimeloopModel(stand_in(tmp_path, body), timeout_s=limit)
    with pytest.raises(ArchGymError, match=words) as error:
        model.evaluate(problem, architecture, mapping)
    assert "\n" not in str(error.value)


def test_missing_binary_and_bad_limit(nest):
    with pytest.raises(ArchGymError, match="not there or not executable; build Timeloop"):
        TimeloopModel("no-such-timeloop").evaluate(nest[1], nest[0], nest[2])
    with pytest.raises(ArchGymError, match="timeout_s"):
        TimeloopModel(timeout_s=0)


def test_two_loops_over_one_dim_are_refused(tmp_path, nest):
    architecture, problem, mapping, _ = nest
    twice = Mapping((*mapping.levels[:2], LevelMapping((Loop("R", 3), Loop("K", 2), Loop("R", 1), Loop("S", 3)))))
    write_inputs(tmp_path, problem, architecture, twice)  # a loop of one trip is no loop
    twice = Mapping((LevelMapping((Loop("P", 2), Loop("K", 2), Loop("P", 3))), *mapping.levels[1:]))
    with pytest.raises(ArchGymError, match="two temporal loops over one dim"):
        write_inputs(tmp_path, problem, architecture, twice)


def test_a_number_of_another_kind_is_not_taken_for_one():
    text = "=== MAC ===\n    STATS\n    -----\n    Cycles : 12\n    Area (total) : 5.5 um^2\n    Name : 3x\n"
    stats = parse_stats(text + "Summary Stats\nCycles: 12\nUtilization: 50.0%\n")
    assert stats.levels[0]["stats"] == {"Cycles": 12, "Area (total)": 5.5, "Name": "3x"}
    assert stats.summary == {"Cycles": 12, "Utilization": 50.0}


@pytest.mark.slow
def test_the_users_own_timeloop(nest):
    """Runs only where ARCHGYM_TIMELOOP names a timeloop-model."""
    binary = os.environ.get("ARCHGYM_TIMELOOP")
    if not binary:
        pytest.skip("set ARCHGYM_TIMELOOP to a timeloop-model binary")
    architecture, problem, mapping, ours = nest
    theirs = TimeloopModel(binary).evaluate(problem, architecture, mapping)
    for name in ("tile_words", "fills", "reads", "updates", "instances"):
        assert np.array_equal(getattr(theirs, name), getattr(ours, name)), name
    assert theirs.cycles == ours.cycles
