"""Problems by name, registries and import weight."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.registry import AGENTS, SIMULATORS, Registry


def test_import_is_light(tmp_path):
    """What archgym adds to the import of Gymnasium is the lesser part, and holds nothing heavy."""
    code = (
        "import sys, time; start = time.process_time(); import gymnasium; middle = time.process_time();"
        "import archgym; end = time.process_time();"
        "heavy = ('torch', 'sklearn', 'numba', 'stable_baselines3', 'matplotlib', 'pandas', 'pyarrow', 'scipy');"
        "print(middle - start, end - middle, *[m for m in heavy if m in sys.modules])"
    )
    # Compiled modules are kept and read whatever the surroundings say of that: the first run, which compiles, does not count.
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    outs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept
        ).stdout.split()
        for _ in range(4)
    ][1:]
    assert all(out[2:] == [] for out in outs)
    # A ratio in one process, and the least of three: what else the processor does meets both.
    assert min(float(out[1]) / float(out[0]) for out in outs) < 0.5


def test_names(bowl, tmp_path):
    assert bowl.name == "bowl/deep"
    assert make_problem("bowl").workload.name == "deep"
    assert make_problem("bowl/flat", space="fast").space.size == 16 * 2 * 2 * 4
    mine = tmp_path / "some folder" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("2.5")
    assert make_problem(f"bowl/file:{mine}").workload.depth == 2.5
    assert make_problem(f"bowl/file:{mine}", workload_options={"depth": 3}).workload.depth == 3
    assert make_problem("bowl/deep", offset=5.0).evaluate([[10, 3, 1, 2]])[0].metrics["time_ns"][0] == 15.0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: make_problem("bowll/deep"), "unknown simulator 'bowll'; did you mean 'bowl'"),
        (lambda: make_problem("bowl/deap"), "unknown workload of bowl 'deap'; did you mean 'deep'"),
        (lambda: make_problem("bowl/deep", space="fest"), "did you mean 'fast'"),
        (lambda: make_problem("bowl/deep", colour="red"), "unknown option of bowl .colour.; known: offset, space"),
        (lambda: make_problem("bowl/deep", workload_options={"n": 1}), "takes no options; leave .n. out"),
        (lambda: make_problem("bowl/file:nowhere"), "does not exist"),
        (lambda: AGENTS.load("gaa"), "did you mean 'ga'"),
        (lambda: SIMULATORS.register("bowl", "x:y"), "registered already"),
        (lambda: Registry("thing", "none", {}).register("a/b", "x:y"), "cannot name a thing"),
    ],
)
def test_unknown_names_get_the_nearest_match(bowl, call, sentence):
    with pytest.raises(ArchGymError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
