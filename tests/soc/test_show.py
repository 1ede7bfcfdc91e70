"""Pictures of designs."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("matplotlib")

from archgym.errors import ArchGymError
from archgym.simulators.soc import SocSimulator
from archgym.simulators.soc.show import save, show, svg


@pytest.mark.parametrize("mode", ["farsi", "physical"])
@pytest.mark.parametrize("workload", ["edge_detection", "all"])
def test_a_picture_names_every_block_and_task(mode, workload):
    simulator = SocSimulator(mode=mode)
    graph = simulator.load_workload(workload)
    row = simulator.space(graph).sample(1, 5)[0]
    text = svg(show(row, graph, simulator=simulator))
    ET.fromstring(text)
    design = simulator.explicit(row, graph)
    for pe in design.pes:
        if hasattr(pe, "task"):
            assert f"accelerator {pe.task}" in text
    assert "bus 0" in text and "CPU 0" in text and "latency" in text
    assert text == svg(show(row, graph, simulator=simulator))


def test_formats_and_inputs(tmp_path):
    simulator = SocSimulator()
    graph = simulator.load_workload("edge_detection")
    row = simulator.space(graph).sample(1, 0)[0]
    named = simulator.space(graph).decode(row)[0]
    figure = show(named, "edge_detection", diagram=False)
    assert save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert save(show(simulator.explicit(row, graph), graph, gantt=False), tmp_path / "a.svg").stat().st_size > 1000
    with pytest.raises(ArchGymError, match=r"end the name in .svg"):
        save(figure, tmp_path / "a.gif")
    with pytest.raises(ArchGymError, match="nothing to draw"):
        show(row, graph, gantt=False, diagram=False)


def test_an_invalid_design_is_refused_by_name():
    simulator = SocSimulator("archgym-limited")
    graph = simulator.load_workload("edge_detection")
    space = simulator.space(graph)
    rows = space.sample(50, 0)
    bad = rows[space.violations(rows) != ""][0]
    with pytest.raises(ArchGymError, match="has no schedule"):
        show(bad, graph, simulator=simulator)
