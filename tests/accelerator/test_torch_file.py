"""From a PyTorch model in a user's own file to its best accelerator: ``torch:FILE.py:NAME``."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.simulator import NetworkSimulator
from archgym.networks.torch_file import network_of
from archgym.problem import make_problem
from archgym.simulators.systolic import SystolicSimulator

torch = pytest.importorskip("torch")

MODEL = """
import random
from pathlib import Path

import torch
from torch import nn

from parts import head

with Path(__file__).with_name("runs.txt").open("a") as log:
    log.write("run\\n")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, stride=2, padding=1), head()

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))


def net():
    return Net(), torch.zeros(1, 3, 32, 32)


def drawn():
    return nn.Linear(random.randint(1, 10**6), 8)


instance = net()[0]
pair = net()
tokens = nn.Sequential(nn.Embedding(100, 16), nn.Linear(16, 4)), torch.zeros(1, 7, dtype=torch.int64)
half = nn.Linear(12, 4).bfloat16()
meta = nn.Linear(2**20, 2**20, device="meta")
recurrent = nn.LSTM(4, 4)
number = 7


def needs(width):
    return nn.Linear(width, 2)


def broken():
    raise KeyError("no weights")


if __name__ == "__main__":
    raise SystemExit("the file is read, not started")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "parts.py").write_text("from torch import nn\n\n\ndef head():\n    return nn.Linear(16, 10)\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("parts", None)


def test_every_form_of_a_model_gives_its_layers(folder):
    network = network_of("torch:my_model.py:net")
    assert network.name == "torch:my_model.py:net"
    assert [(layer.name, layer.op, layer.macs) for layer in network.layers] == [
        ("stem", "conv", 16 * 3 * 9 * 16 * 16),
        ("head", "gemm", 160),
    ]
    for name, shape in (("pair", None), ("instance", "1x3x32x32"), ("Net", [1, 3, 32, 32]), ("net", "1X3x32x32")):
        assert network_of(f"torch:my_model.py:{name}", shape).fingerprint == network.fingerprint
    assert network_of("torch:my_model.py:net", "1x3x64x64").macs > network.macs  # the option wins
    assert network_of(f"torch:{folder / 'my_model.py'}:tokens").macs == 7 * 16 * 4
    assert network_of("torch:my_model.py:half", 12).layers[0].op == "gemm"
    assert network_of("torch:my_model.py:meta", "1x1048576").macs == 2**40  # shapes alone: no weights in memory
    assert not list(folder.glob("__pycache__/my_model*"))


def test_the_file_is_run_once_until_it_changes(folder):
    first = network_of("torch:my_model.py:net")
    assert network_of("torch:my_model.py:net") is first
    assert (folder / "runs.txt").read_text().count("run") == 1
    path = folder / "my_model.py"
    path.write_text(MODEL.replace("Conv2d(3, 16,", "Conv2d(3,  16,").replace("padding=1", "padding=2"))
    assert network_of("torch:my_model.py:net").macs > first.macs
    assert (folder / "runs.txt").read_text().count("run") == 2


def test_shapes_that_are_drawn_are_drawn_alike_and_generators_are_left_alone(folder):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    with pytest.raises(ArchGymError) as one:
        network_of("torch:my_model.py:drawn", "1x1")
    after = random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    assert after == (random.random(), np.random.random(), float(torch.rand(())))  # noqa: NPY002
    with pytest.raises(ArchGymError) as two:
        network_of("torch:my_model.py:drawn", [1, 1])
    assert str(one.value) == str(two.value)  # the sentence tells the width that was drawn


def test_the_network_goes_to_other_processes(folder):
    network = network_of("torch:my_model.py:net")
    assert pickle.loads(pickle.dumps(network)).fingerprint == network.fingerprint
    code = "import archgym; w = archgym.make_problem('systolic/torch:my_model.py:net').workload; print(w.fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == network.fingerprint


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("torch:my_model.py", {}, "write torch:FILE.py:NAME"),
        ("torch::net", {}, "write torch:FILE.py:NAME"),
        ("torch:nothing.py:net", {}, "cannot read nothing.py: No such file"),
        ("torch:.:net", {}, "cannot read .*Is a directory"),
        ("torch:my_model.py:nett", {}, "unknown name in my_model.py 'nett'; did you mean 'net'"),
        ("torch:my_model.py:number", {}, "number of my_model.py is a int; expected a torch.nn.Module"),
        ("torch:my_model.py:instance", {}, "does not say what instance takes.*input=1x3x224x224"),
        ("torch:my_model.py:instance", {"input": "1x3xq"}, "the input shape is '1x3xq'; expected positive sizes"),
        ("torch:my_model.py:instance", {"input": "1x0x3"}, "expected positive sizes"),
        ("torch:my_model.py:instance", {"input": [1.5, 2]}, "is 1.5; expected a whole number"),
        ("torch:my_model.py:instance", {"input": "1x4x32x32"}, "fails on the example input.*4 channels"),
        ("torch:my_model.py:recurrent", {"input": "2x4"}, "recurrent .LSTM., which is not supported"),
        ("torch:my_model.py:needs", {}, r"needs\(\) of my_model.py fails .*called without arguments"),
        ("torch:my_model.py:broken", {}, r"broken\(\) of my_model.py fails \(line \d+, KeyError: 'no weights'\)"),
        ("torch:my_model.py:net", {"inputs": "1"}, "unknown option of the workload .*did you mean .input"),
        ("torch:bad.py:net", {}, r"bad.py fails when it is run \(line 2, ZeroDivisionError"),
        ("torch:syntax.py:net", {}, r"syntax.py fails when it is run \(line 1, SyntaxError"),
        ("torch:leaves.py:net", {}, "leaves.py fails when it is run .*SystemExit"),
    ],
)
def test_bad_input_gets_one_sentence(folder, name, options, sentence):
    (folder / "bad.py").write_text("x = 1\n1 / 0\n")
    (folder / "syntax.py").write_text("def net(:\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ArchGymError, match=sentence) as found:
        make_problem(f"systolic/{name}", workload_options=options)
    assert "\n" not in str(found.value)


def test_without_torch_the_sentence_names_the_extra(folder, monkeypatch):
    real = builtins.__import__

    def no_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError
        return real(name, *args, **kwargs)

    (folder / "other.py").write_text("net = 1\n")
    monkeypatch.setattr(builtins, "__import__", no_torch)
    with pytest.raises(MissingExtraError, match=r"pip install 'archgym\[rl\]'"):
        network_of("torch:other.py:net")


@pytest.mark.parametrize("name", ["accelerator", "systolic", "mapping"])
def test_simulators_take_the_name(folder, name):
    options = {"batch": 2} | ({"layer": "stem"} if name == "mapping" else {})
    problem = make_problem(f"{name}/torch:my_model.py:net", workload_options=options)
    assert problem.name == f"{name}/torch:my_model.py:net"
    again = make_problem(problem.name, **json.loads(json.dumps(problem.options)))
    assert again.workload.fingerprint == problem.workload.fingerprint
    assert np.isfinite(problem.evaluate(problem.space.sample(4, 0))[1]).all()


def test_workloads_of_networks_are_loaded_in_one_place():
    from archgym.registry import SIMULATORS
    from archgym.simulators.external.zigzag import ZigZagSimulator

    for cls in (SIMULATORS.load("accelerator"), SystolicSimulator, ZigZagSimulator):
        assert cls.load_workload is NetworkSimulator.load_workload


@pytest.mark.slow
def test_from_a_model_to_its_best_accelerator_with_one_command(folder):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NUMBA_NUM_THREADS": "2"}
    archgym = [sys.executable, "-m", "archgym"]
    command = [*archgym, "run", "accelerator/torch:my_model.py:net", "--agent", "random,ga", "--budget", "24"]
    done = subprocess.run([*command, "--out", "runs", "--report", "--json"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["problem"] == "accelerator/torch:my_model.py:net" and len(summary["runs"]) == 2
    assert all(len(run["design"]) == 26 and run["metrics"]["energy_uj"] > 0 for run in summary["runs"])
    assert "Energy breakdown" in (folder / "runs" / "report.html").read_text()
    done = subprocess.run([*archgym, "run", "systolic/torch:my_model.py:nett"], capture_output=True, text=True, env=env)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "did you mean 'net'" in done.stderr


@pytest.mark.slow
def test_a_study_runs_it_in_processes_of_its_own(folder):
    from archgym.studies import load_spec, run_study
    from archgym.studies.executors import make_executor

    (folder / "study.yaml").write_text(
        "name: mine\nproblems:\n  - problem: systolic/torch:my_model.py:instance\n    workload_options: {input: 1x3x32x32}\n"
        "  - systolic/torch:my_model.py:net\nagents: [random]\nseeds: 2\nbudget: 20\n"
    )
    rewards = {}
    for executor in ("serial", "processes:2"):
        where = folder / executor.partition(":")[0]
        study = run_study(load_spec(folder / "study.yaml"), where, executor=make_executor(executor)).study
        rewards[executor] = sorted((run["problem"], run["seed"], run["best"]) for run in study.results())
    assert rewards["serial"] == rewards["processes:2"] and len(rewards["serial"]) == 4


def test_data_from_elsewhere_never_runs_a_model_file(folder):
    from archgym.datasets import Dataset
    from archgym.reports.data import load_report

    runner = CliRunner()
    arguments = ["run", "systolic/torch:my_model.py:net", "--agent", "random", "--budget", "20", "--out", "runs"]
    assert runner.invoke(main, [*arguments, "--json"]).exit_code == 0
    (folder / "my_model.py").write_text("raise RuntimeError('this was run')\n")
    with pytest.raises(ArchGymError, match="--trust"):
        Dataset(folder / "runs").problem()
    (report,) = load_report(folder / "runs")
    assert report.problem is None and "--trust" in report.missing
    # Trusted, the run's own copy of what it was made from is run, not what has become of the file since.
    (report,) = load_report(folder / "runs", trust=True)
    assert report.problem is not None and not report.missing
    for copies in list(folder.rglob("made-from")):
        shutil.rmtree(copies)
    (report,) = load_report(folder / "runs", trust=True)
    assert report.problem is None and "holds no copy" in report.missing


def test_an_operation_that_returns_nothing_but_writes_is_named(tmp_path, monkeypatch):
    """Kernels of one's own often write into an argument: what they multiply must not vanish."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kernels.py").write_text(
        "import torch\n"
        "library = torch.library.Library('archgym_test', 'DEF')\n"
        "library.define('into(Tensor x, Tensor w, Tensor(a!) out) -> ()')\n"
        "library.impl('into', lambda x, w, out: out.copy_(x @ w), 'CompositeExplicitAutograd')\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w, self.last = torch.nn.Parameter(torch.zeros(16, 16)), torch.nn.Linear(16, 8)\n"
        "    def forward(self, x):\n"
        "        out = torch.empty(4, 16)\n"
        "        torch.ops.archgym_test.into(x, self.w.detach(), out)\n"
        "        return self.last(out)\n"
        "net = (Net(), torch.zeros(4, 16))\n"
    )
    with pytest.raises(ArchGymError, match="archgym_test::into"):
        network_of("kernels.py:net")
