"""Whatever stands in an option, of a simulator or of a workload: one sentence, or a problem whose trials can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archgym.datasets.schema import TrialSchema
from archgym.datasets.shards import shard_info
from archgym.errors import MAX_SENTENCE, ArchGymError
from archgym.problem import make_problem, option_table
from archgym.registry import SIMULATORS

VALUES = [
    -1, 0, 1.5, 2**62, 1e300, 1e-300, "", "x", "\ud800", "a\0b", "a" * 10_000, [], [1], {}, {"a": 1}, True, None, "1", "file:",
    "file:/dev/null", "file:" + "a" * 300, "file:a\0b", ".", b"x", np.float32(2), np.int8(3), np.float64("nan"), object(),
]  # fmt: skip
WORKLOADS = {"dram": ("sort", "random:requests=100"), "soc": ("edge_detection",), "systolic": ("alexnet",)}
BUILTIN = [name for name in SIMULATORS if name not in ("bowl", "toy", "loose", "plain")]


def judge(name: str, **given: object) -> None:
    try:
        problem = make_problem(name, references="none", **given)
    except ArchGymError as error:
        assert len(str(error)) <= MAX_SENTENCE and "\n" not in str(error)
        return
    json.dumps(problem.options)
    shard_info(TrialSchema(problem, {}).schema, Path("trials"))
    json.dumps(problem.simulator.settings)


@pytest.mark.parametrize("name", BUILTIN)
def test_any_value_of_an_option_is_refused_in_a_sentence_or_can_be_read_again(name):
    cls = SIMULATORS.load(name)
    for workload in WORKLOADS.get(name, ("",)):
        problem = f"{name}/{workload}"
        for option in option_table(cls):
            for value in VALUES:
                judge(problem, **{option: value})
        simulator = cls()
        for option in simulator.workload_options(workload or simulator.default_workload) or {}:
            for value in VALUES:
                judge(problem, workload_options={option: value})


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize(
    "workload", ["\ud800", "a\0b", "a" * 10_000, "file:" + "a" * 300, "file:a\0b", "+", "@", "file:", ":"]
)
def test_any_name_of_a_workload_is(name, workload):
    judge(f"{name}/{workload}")
