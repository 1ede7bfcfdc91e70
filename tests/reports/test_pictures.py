"""Every simulator that draws pictures draws them for a feasible design, equal ones for equal designs."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.simulator import Simulator

pytest.importorskip("matplotlib")
DRAWING = [name for name in SIMULATORS if SIMULATORS.load(name).pictures is not Simulator.pictures]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWING)
def test_pictures(name, tmp_path):
    problem = make_problem(name)
    for count in (64, 4096):
        designs = problem.space.sample(count, 0)
        evaluation, _ = problem.evaluate(designs)
        if evaluation.feasible.any():
            break
    assert evaluation.feasible.any()
    design = designs[int(np.argmax(evaluation.feasible))]
    pictures = problem.simulator.pictures(design, problem.workload)
    assert pictures
    for title, sentence, svg in pictures:
        assert title and sentence.endswith(".")
        assert ET.fromstring(svg).tag.endswith("svg")
    assert problem.simulator.pictures(design, problem.workload) == pictures
    done = CliRunner().invoke(
        main, ["show", problem.name, "--design", json.dumps(design.tolist()), "--out", str(tmp_path), "--json"]
    )
    assert done.exit_code == 0
    assert len(json.loads(done.output)["pictures"]) == len(pictures)


def test_show_refuses_what_it_cannot_draw():
    done = CliRunner().invoke(main, ["show", "systolic/resnet18"], catch_exceptions=False)
    assert done.exit_code == 2 and "draws no pictures" in done.output
