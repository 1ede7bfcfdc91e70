"""Files of people and other machines, mutated: read, or refused in one sentence; never a traceback, a hang, or memory
that a file merely claims. ``make fuzz`` goes on for as long as one likes."""

from __future__ import annotations

import io
import json
import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archgym
from archgym.registry import SIMULATORS
from tests.fuzz.targets import Fault, Target, judge, problem_reader, read_proxy_of_dram, stored, targets, workshop

TARGETS = {target.name: target for target in targets()}
CASES = Path(__file__).parents[3] / "shared" / "cases" / "fuzz"
# Cases are named reader-what-exception; readers by the word (or two) that the name begins with.
READERS = {
    "study-stats": "results", "study-resume": "results", "study": "study", "technology": "technology", "shard": "shard",
    "parquet": "parquet", "net-acc": "accelerator", "net-yaml": "network", "net-map": "layer", "timeloop": "timeloop",
    "scalesim": "scalesim", "soc-combo": "combination", "soc": "taskgraph", "nas": "nas", "rstl": "rstl", "proxy": "proxy-of-dram",
}  # fmt: skip
ALSO = {
    "proxy-of-dram": Target("proxy-of-dram", "x.proxy.npz", bytes, lambda content, rng: content, read_proxy_of_dram),
    "accelerator": Target(
        "accelerator", "network.yaml", stored("network.yaml"), TARGETS["network"].mutate,
        problem_reader("accelerator/file:", "network.yaml"),
    ),
}  # fmt: skip
"""Readers of the corpus alone: dear ones, and one whose files take minutes to make."""
EXAMPLES = {
    "results": 12,
    "problems": 8,
    "shard": 12,
    "parquet": 12,
    "llm-device": 15,
    "llm-model": 25,
    "llm-config": 25,
}  # dear ones


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name, tmp_path):
    assert judge(TARGETS[name], TARGETS[name].seed(), tmp_path / "x", 0), "the seed itself is refused"


def _fuzz(target: Target, folder: Path, examples: int) -> None:
    seed = target.seed()
    judge(target, seed, folder / "x", 0)  # compiles what it needs, which no limit may count

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def mutated(number: int) -> None:
        judge(target, target.mutate(seed, random.Random(number)), folder / "x")

    mutated()


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused_in_a_sentence(name, tmp_path):
    _fuzz(TARGETS[name], tmp_path, EXAMPLES.get(name, 60))


@pytest.fixture(scope="module")
def compiled():
    """The kernel that stored shards are simulated again by, and the folder that stored studies are read beside: making them
    takes longer than any reader may."""
    problem = archgym.make_problem("dram/stream")
    problem.evaluate(problem.space.sample(1, 0))
    workshop()


@cache
def warm(reader: str) -> None:
    """What a reader compiles for a valid file is compiled."""
    target = {**TARGETS, **ALSO}[reader]
    if seed := target.seed():
        with TemporaryDirectory() as folder:
            judge(target, seed, Path(folder) / "x", 0)


def reader_of(name: str) -> Target:
    """What reads a file of the corpus; every file has a reader."""
    known = [reader for prefix, reader in READERS.items() if name.startswith(prefix + "-")]
    assert known, f"no reader is named for {name}: say in READERS which one its kind has"
    return {**TARGETS, **ALSO}[known[0]]


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the folder of cases beside the checkout")
def test_no_file_of_the_corpus_is_left_out():
    names = [path.name for path in CASES.iterdir()]
    assert {reader_of(name).name for name in names} <= {*TARGETS, *ALSO} and set(READERS.values()) <= {*TARGETS, *ALSO}
    with pytest.raises(AssertionError, match="no reader"):
        reader_of("unheard-of-traceback-None-000000.bin")


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the folder of cases beside the checkout")
@pytest.mark.parametrize("path", sorted(CASES.glob("*")), ids=lambda path: path.name)
def test_files_that_failed_once(path, tmp_path, compiled):
    warm(reader_of(path.name).name)
    judge(reader_of(path.name), path.read_bytes(), tmp_path / "x")


def _of_today(content: bytes) -> bytes:
    """A proxy of an earlier DRAM simulator as one of today's, its fault kept: its version alone would be refused."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:  # damaged before that: as it is
        return content
    about = json.loads(bytes(arrays["about"]))
    simulator = SIMULATORS.load("dram")(space="archgym")
    about["version"] = simulator.version
    about["workloads"] = {name: simulator.load_workload(name).fingerprint for name in about["workloads"]}
    changed = io.BytesIO()
    np.savez_compressed(changed, **arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    return changed.getvalue()


def _use_proxy(folder: Path) -> None:
    problem = archgym.make_problem(
        "dram/sort", space="archgym", objective="energy", references="none", simulator=f"proxy:{folder / 'x.npz'}"
    )
    evaluation, _ = problem.evaluate(problem.space.sample(256, 0))
    assert np.isfinite(evaluation.metrics["energy_pj"]).all()


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the folder of cases beside the checkout")
@pytest.mark.parametrize(
    ("name", "is_read"),
    [("boost-hang-None-b07c60", True), ("boost-traceback-KeyError-ae44b1", False), ("boost-traceback-error-6c6553", False),
     ("gp-traceback-error-b5f1eb", False)],
)  # fmt: skip
def test_proxies_that_failed_once_answer_or_are_refused(name, is_read, tmp_path):
    path = CASES / f"proxy-{name}.npz"
    target = Target("proxy", "x.npz", lambda: b"", lambda content, rng: content, _use_proxy)
    content = _of_today(path.read_bytes())
    assert judge(target, content, tmp_path / "x", 0) == is_read  # compiles what predicts
    assert judge(target, content, tmp_path / "x") == is_read


def test_the_judge_sees_faults(tmp_path):
    def read(folder: Path) -> None:
        content = (folder / "x").read_bytes()
        if content == b"raise":
            raise KeyError("x")
        if content == b"memory":
            assert len(bytearray(1200 << 20))

    target = Target("judged", "x", lambda: b"", lambda content, rng: content, read)
    assert judge(target, b"", tmp_path / "x")
    for content in (b"raise", b"memory"):
        with pytest.raises(Fault):
            judge(target, content, tmp_path / "x")
