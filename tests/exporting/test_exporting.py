"""Designs as files of other tools: complete, read back to the same design and workload, and honest about what is left out."""

from __future__ import annotations

import configparser
import json
import re
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import archgym
from archgym.agents import make_agent, search
from archgym.cli import main
from archgym.datasets import read_trials
from archgym.errors import ArchGymError
from archgym.exporting import EXPORTERS, export, formats_for
from archgym.networks.readers import read_network
from archgym.registry import SIMULATORS
from archgym.simulators.dram.traces import read_trace

OPTIONS = {"dram": {"workload_options": {"requests": 300}}, "soc": {}, "nas": {}}


def _problem(kind: str):
    names = {
        "dram": "dram/sort",
        "accelerator": "accelerator/alexnet_torchvision",
        "systolic": "systolic/alexnet_torchvision",
    }
    return archgym.make_problem(names.get(kind, kind), **OPTIONS.get(kind, {}))


@pytest.fixture(scope="module")
def problems():
    return {kind: _problem(kind) for kind in ("dram", "systolic", "accelerator", "synthetic")}


@pytest.mark.parametrize("kind", ["dram", "systolic", "accelerator", "synthetic"])
@pytest.mark.parametrize("to", EXPORTERS)
def test_every_format_writes_what_it_names_and_explains_itself(problems, kind, to, tmp_path) -> None:
    problem = problems[kind]
    design = problem.space.decode(problem.space.sample(1, 1, feasible=True))[0]
    if to not in formats_for(kind):
        with pytest.raises(ArchGymError, match="export format"):
            export(problem, design, to, tmp_path / "out")
        return
    written = export(problem, design, to, tmp_path / "out")
    for name in written.files:
        assert (tmp_path / "out" / name).exists(), name
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert all(any(name == known or name.startswith(known) for known in written.files) for name in found)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert all(sentence in readme for sentence in written.unsaid)
    assert json.dumps(design, indent=1) in readme
    with pytest.raises(ArchGymError, match="holds files already"):
        export(problem, design, to, tmp_path / "out")


def _leaves(content, path=""):
    """The numbers in nested data, and texts that hold one, by dotted path; positions in lists left out."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, path)
    elif not isinstance(content, bool) and re.search(r"(?<![\w.])\d", str(content)):
        yield path.lstrip("."), content


def _numbers(file: Path):
    """The paths of all numbers of a configuration."""
    text = file.read_text()
    if file.suffix == ".json":
        yield from (path for path, _ in _leaves(json.loads(text)))
    elif file.suffix == ".yaml":
        yield from (path for path, _ in _leaves(yaml.safe_load(text)))
    elif file.suffix in (".ini", ".cfg"):
        parser = configparser.ConfigParser()
        parser.optionxform = str
        parser.read_string(text)
        yield from (path for path, _ in _leaves({name: dict(parser[name]) for name in parser.sections()}))
    elif file.suffix == ".csv":
        yield from (name.strip() for name in text.splitlines()[0].split(",") if name.strip())
    elif file.suffix == ".sh":
        yield from re.findall(r"--([\w-]+)[ =]\S*\d", text)
    elif file.suffix == ".m":
        yield from re.findall(r"(\w+)\s*(?:\(\d|\{[^\n]*\d|: \d)", text)


NO_NUMBERS = {"version", "name", "kind", "unit", "Layer name", "simulationid", "problem", "simulator_version", "memoryId",
              "memoryType", "Layer", "Network", "target", "K", "C", "R", "S", "X", "Y", "IceServerIp", "equation",
              "allocation", "config", "model", "dimensions", "operands", "served_dimensions", "kv-transfer-config", "impl",
              "storage_class", "memory_operand_links", "protocol", "permutation", "data_spaces", "SparseRep"}  # fmt: skip
"""Words in which digits are part of a name."""


@pytest.mark.parametrize(
    ("name", "options", "to"),
    [
        *(("dram/sort", {"device": device, "space": "wide"}, to) for device in ("DDR3-1600", "LPDDR4-3200")
          for to in ("dramsys4", "dramsys5", "dramsim3", "ramulator2")),
        ("dram/sort", {}, "dramsys4"), ("dram/sort", {}, "dramsim3"), ("dram/sort", {}, "ramulator2"),
        ("dram/sort", {}, "json"), ("dram/sort", {}, "csv"), ("systolic/alexnet", {}, "scalesim"),
        ("systolic/alexnet", {}, "zigzag"), ("accelerator/alexnet", {}, "zigzag"), ("accelerator/alexnet", {}, "timeloop"),
        ("mapping/alexnet-0", {}, "maestro"), ("llm-training/gpt3-175b@64xa100", {}, "megatron"),
        ("llm-serving/llama3.1-8b+azure_conv_2023@8xh100", {}, "vllm"),
    ],
)  # fmt: skip
def test_every_number_that_is_written_has_its_unit_in_the_readme(name, options, to, tmp_path) -> None:
    kind = name.partition("/")[0]
    problem = archgym.make_problem(name, **OPTIONS.get(kind, {}), **options, references="none")
    design = problem.space.decode(problem.space.sample(1, 1, feasible=True))[0]
    try:
        export(problem, design, to, tmp_path / "out")
    except ArchGymError:
        assert to in ("dramsim3", "ramulator2") and options  # a memory that the tool does not know
        return
    readme = (tmp_path / "out" / "README.md").read_text()
    units = dict(re.findall(r"^\| `([^`|]+)` \| ([^|]+) \|$", readme.partition("## Units")[2], flags=re.M))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "README.md"]
    found = {path for file in files for path in _numbers(file)}
    assert len(found) > 3 or to == "csv"
    for path in found:
        if path.rpartition(".")[2] not in NO_NUMBERS:
            assert any(fnmatch(path, name) or fnmatch(path, f"*.{name}") for name in units), path
    traces = {file.name for file in files if file.name.startswith("trace.")}
    assert all(any(name.startswith(f"{trace}: ") for name in units) for trace in traces)


def test_what_fails_leaves_no_folder_and_what_is_empty_is_filled(tmp_path, monkeypatch) -> None:
    problem = archgym.make_problem("synthetic/branin")
    design = problem.space.decode(problem.space.sample(1, 1))[0]
    with monkeypatch.context() as patch:
        patch.setattr("archgym.exporting.base._readme", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(problem, design, "csv", tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "here").mkdir()
    export(problem, design, "csv", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "here")
    export(problem, design, "csv", ".")
    for folder in (tmp_path / "out", Path.cwd()):
        assert {path.name for path in folder.iterdir()} == {"design.csv", "README.md"}


@pytest.mark.parametrize("to", EXPORTERS)
def test_every_format_is_for_simulators_that_exist(to) -> None:
    exporter = EXPORTERS.load(to)
    assert exporter.name == to and exporter.title and set(exporter.simulators) <= {*SIMULATORS, "zigzag"}


# --- memories --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["DDR4-2400", "DDR3-1600"])
@pytest.mark.parametrize("to", ["dramsys4", "dramsys5"])
def test_dramsys_files_read_back_to_the_same_controller_memory_and_requests(to, device, tmp_path) -> None:
    problem = archgym.make_problem("dram/sort", device=device, workload_options={"requests": 300})
    design = problem.space.decode(problem.space.sample(1, 3))[0]
    export(problem, design, to, tmp_path / "out")
    folder = tmp_path / "out"
    if to == "dramsys4":
        controller = json.loads((folder / "configs/mcconfigs/controller.json").read_text())["mcconfig"]
        memory = json.loads((folder / "configs/memspecs/memory.json").read_text())["memspec"]
        bits = json.loads((folder / "configs/amconfigs/map.json").read_text())["CONGEN"]
        trace = folder / "traces" / "trace.stl"
    else:
        inner = json.loads((folder / "simulation.json").read_text())["simulation"]
        controller, memory, bits, trace = (
            inner["mcconfig"],
            inner["memspec"],
            inner["addressmapping"],
            folder / "trace.stl",
        )
        assert inner["tracesetup"][0]["clkMhz"] == problem.simulator.device.clock_mhz
    assert {name: controller[name] for name in design} == design
    preset = problem.simulator.device
    assert memory["memarchitecturespec"]["nbrOfRows"] == preset.rows and memory["memoryType"] == preset.family
    for name, cycles in preset.timing.items():
        assert memory["memtimingspec"][name] == cycles
    used = sorted(bit for value in bits.values() for bit in value if isinstance(bit, int))
    assert used == list(range(len(used))) and 1 << len(used) == preset.rank_bytes
    again = read_trace(trace, clock_mhz=preset.clock_mhz)
    np.testing.assert_array_equal(again.address, problem.workload.address)
    np.testing.assert_array_equal(again.is_write, problem.workload.is_write)
    np.testing.assert_array_equal(again.arrival(preset.clock_mhz), problem.workload.arrival(preset.clock_mhz))


def test_dramsim3_says_what_it_can(tmp_path) -> None:
    problem = archgym.make_problem("dram/sort", workload_options={"requests": 300})
    design = problem.space.decode(problem.space.sample(1, 3))[0] | {
        "PagePolicy": "Closed", "Scheduler": "Fifo", "SchedulerBuffer": "Bankwise", "RequestBufferSize": 4
    }  # fmt: skip
    written = export(problem, design, "dramsim3", tmp_path / "out")
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(tmp_path / "out" / "memory.ini")
    preset = problem.simulator.device
    assert parser["dram_structure"]["protocol"] == "DDR4" and int(parser["dram_structure"]["rows"]) == preset.rows
    assert float(parser["timing"]["tCK"]) == pytest.approx(1000 / preset.clock_mhz, rel=1e-3)
    assert (
        int(parser["timing"]["tRRD_L"]) == preset.timing["RRD_L"]
        and int(parser["timing"]["tRCD"]) == preset.timing["RCD"]
    )
    assert parser["system"]["row_buf_policy"] == "CLOSE_PAGE" and parser["system"]["cmd_queue_size"] == "4"
    assert int(parser["system"]["channel_size"]) << 20 == preset.rank_bytes
    assert any("Scheduler Fifo" in sentence for sentence in written.unsaid)
    lines = (tmp_path / "out" / "trace.txt").read_text().splitlines()
    assert len(lines) == 300
    for line, address, write in zip(lines, problem.workload.address, problem.workload.is_write, strict=True):
        where, kind, cycle = line.split()
        assert int(where, 16) == address and (kind == "WRITE") == write and cycle.isdigit()


def test_ramulator2_says_what_it_can(tmp_path) -> None:
    problem = archgym.make_problem("dram/sort", workload_options={"requests": 300})
    design = problem.space.decode(problem.space.sample(1, 5))[0] | {"PagePolicy": "Open"}
    export(problem, design, "ramulator2", tmp_path / "out")
    content = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    dram, preset = content["MemorySystem"]["DRAM"], problem.simulator.device
    organisation = dram["org"]
    bits = (
        organisation["bankgroup"]
        * organisation["bank"]
        * organisation["row"]
        * organisation["column"]
        * organisation["dq"]
    )
    assert bits == organisation["density"] << 20 and bits * preset.devices == 8 * preset.rank_bytes
    assert dram["timing"]["nRCD"] == preset.timing["RCD"] and dram["timing"]["rate"] == 2400
    assert content["MemorySystem"]["Controller"]["RowPolicy"]["impl"] == "OpenRowPolicy"


@pytest.mark.parametrize("to", ["dramsim3", "ramulator2"])
def test_a_memory_that_a_format_does_not_know_is_a_sentence(to, tmp_path) -> None:
    problem = archgym.make_problem("dram/sort", device="HBM2", workload_options={"requests": 100})
    design = problem.space.decode(problem.space.sample(1, 0))[0]
    with pytest.raises(ArchGymError, match="HBM2"):
        export(problem, design, to, tmp_path / "out")


# --- accelerators ----------------------------------------------------------------------------------------------------


def test_scalesim_files_read_back_to_the_same_layers(problems, tmp_path) -> None:
    problem = problems["systolic"]
    design = problem.space.decode(problem.space.sample(1, 2, feasible=True))[0]
    export(problem, design, "scalesim", tmp_path / "out")
    network = read_network(tmp_path / "out" / "topology.csv")
    assert [layer.macs for layer in network.layers] == [
        layer.macs // layer.G for layer in problem.workload.merged().layers
    ]
    text = (tmp_path / "out" / "scale.cfg").read_text()
    parser = configparser.ConfigParser()
    parser.read_string(text)
    preset = parser["architecture_presets"]
    assert (int(preset["ArrayHeight"]), int(preset["ArrayWidth"])) == (design["array_rows"], design["array_columns"])
    assert int(preset["IfmapSramSzkB"]) == design["ifmap_sram_kb"] and preset["Dataflow"] == design["dataflow"]


def test_timeloop_files_hold_every_layer_with_its_mapping(problems, tmp_path) -> None:
    problem = problems["accelerator"]
    designs = problem.space.sample(50, 0)
    evaluation, _ = problem.evaluate(designs)
    row_of_design = int(np.argmax(evaluation.feasible))
    design = problem.space.decode(designs[row_of_design])[0]
    export(problem, design, "timeloop", tmp_path / "out")
    layers = problem.workload.merged().layers
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert len(folders) == len(layers)
    for folder, layer in zip(folders, layers, strict=True):
        shape = yaml.safe_load((folder / "problem.yaml").read_text())["problem"]
        instance = {dim: shape["instance"][dim] for dim in ("N", "K", "C", "P", "Q", "R", "S", "G")}
        assert tuple(instance.values()) == layer.bounds
        factors = {dim: 1 for dim in instance}
        for directive in yaml.safe_load((folder / "mapping.yaml").read_text())["mapping"]:
            for part in directive.get("factors", "").split():
                dim, _, count = part.partition("=")
                factors[dim] *= int(count)
        # Padded mappings may cover a little more than the layer.
        assert all(factors[dim] >= bound for dim, bound in instance.items())
        areas = yaml.safe_load((folder / "ART.yaml").read_text())["ART"]["tables"]
        whole = sum(row["area"] * int(row["name"].partition("..")[2].rstrip("]")) for row in areas)
        assert whole * 1e-6 == pytest.approx(evaluation.metrics["area_mm2"][row_of_design], rel=1e-12)
        architecture = yaml.safe_load((folder / "architecture.yaml").read_text())["architecture"]
        local = architecture["subtree"][0]["local"]
        assert [part["attributes"]["datawidth"] for part in local] == [16] * len(local)


# --- at the command line ---------------------------------------------------------------------------------------------


def test_from_a_trace_to_a_dramsys_configuration_in_two_commands(tmp_path) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text(
        "arrival_cycle,address,rw\n" + "".join(f"{4 * i},{64 * (i * 7 % 512)},{'RW'[i % 3 == 0]}\n" for i in range(200))
    )
    run = ["run", f"dram/file:{trace}", "--agent", "ga", "--budget", "40", "--out", str(tmp_path / "run"), "--json"]
    result = CliRunner().invoke(main, run)
    assert result.exit_code == 0, result.output
    best = json.loads(result.stdout)["runs"][0]["design"]
    result = CliRunner().invoke(
        main, ["export", str(tmp_path / "run"), "--to", "dramsys4", "-o", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["design"] == best
    controller = json.loads((tmp_path / "out/configs/mcconfigs/controller.json").read_text())["mcconfig"]
    assert {name: controller[name] for name in best} == best


MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))

def net():
    return Net(), torch.zeros(1, 3, 16, 16)
"""


def test_from_a_torch_model_to_timeloop_files_in_two_commands(tmp_path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "my_model.py").write_text(MODEL)
    run = ["run", f"accelerator/torch:{tmp_path / 'my_model.py'}:net", "--agent", "random", "--budget", "12"]
    result = CliRunner().invoke(main, [*run, "--out", str(tmp_path / "run"), "--json"])
    assert result.exit_code == 0, result.output
    best = json.loads(result.stdout)["runs"][0]["design"]
    export = ["export", str(tmp_path / "run"), "--to", "timeloop", "-o", str(tmp_path / "out"), "--json"]
    refused = CliRunner().invoke(main, export)
    assert refused.exit_code == 2 and "--trust" in refused.output
    result = CliRunner().invoke(main, [*export[:2], "--trust", *export[2:]])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["design"] == best
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["000-stem", "001-head"]
    for name in ("architecture", "problem", "mapping", "ERT", "ART"):
        assert yaml.safe_load((tmp_path / "out" / "000-stem" / f"{name}.yaml").read_text())


def test_a_problems_optimum_a_trial_and_a_file_are_exported(tmp_path) -> None:
    problem = archgym.make_problem("systolic/resnet18", objective="edp")
    result = CliRunner().invoke(
        main, ["export", "systolic/resnet18", "--objective", "edp", "--to", "json", "-o", str(tmp_path / "a"), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["design"] == dict(problem.optimum.design)
    search(problem, make_agent("random", problem, 0), 5, log=tmp_path / "run" / "trials.arrows")
    result = CliRunner().invoke(
        main, ["export", str(tmp_path / "run"), "--design", "2", "--to", "csv", "-o", str(tmp_path / "b"), "--json"]
    )
    chosen = json.loads(result.stdout)["design"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"design": chosen}))
    result = CliRunner().invoke(
        main, ["compare", "systolic/resnet18", "--objective", "edp", "--design", str(path), "--json"]
    )
    numbers = json.loads(result.stdout)
    assert numbers["reward"] <= numbers["best_reward"] and 0 <= numbers["better_share"] <= 1
    _, rewards = problem.evaluate(problem.space.encode(chosen))
    assert numbers["reward"] == rewards[0]
    listed = CliRunner().invoke(main, ["export", "systolic/resnet18", "--json"])
    assert set(json.loads(listed.stdout)["formats"]) == {"json", "csv", "scalesim", "zigzag"}


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["export", "systolic/resnet18", "--to", "dramsys4"], "export format"),
        (["export", "systolic/resnet18", "--to", "json", "--design", "{\"array_rows\": 3}"], "array_rows"),
        (["export", "systolic/resnet18", "--to", "json", "--design", "missing.json"], "missing.json"),
        (["compare", "systolic/resnet18", "--design", "[1, 2]"], "no design"),
        (["export", "./runs/gone", "--to", "json"], "no folder or file './runs/gone'"),
        (["export", "runs/gone", "--to", "json"], "no folder or file 'runs/gone'"),
        (["export", "drm/gzip", "--to", "json"], "did you mean 'dram'"),
    ],
)  # fmt: skip
def test_bad_input_is_a_sentence(arguments, word, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert word in result.output.replace("\n", " ") and "Traceback" not in result.output
    assert not any(Path(tmp_path).rglob("design.json"))


def test_the_best_that_a_run_prints_is_the_one_that_is_exported_where_agents_are_equal(tmp_path) -> None:
    reads = "".join(f"{10 * i}: read {64 * i:#x}\n" for i in range(50))
    (tmp_path / "mine.stl").write_text(reads)
    run = ["run", f"dram/file:{tmp_path / 'mine.stl'}", "--agent", "random,ga", "--budget", "30", "--seed", "0"]
    printed = CliRunner().invoke(main, [*run, "--out", str(tmp_path / "run")])
    assert printed.exit_code == 0, printed.output
    trials = read_trials(tmp_path / "run").select(["agent", "reward"]).to_pylist()
    best = [row["agent"] for row in trials if row["reward"] == max(row["reward"] for row in trials)]
    assert set(best) == {"random", "ga"}, "the agents are not equal, so that this test tests nothing"
    assert f"best design, by {best[0]}" in printed.output


# --- against recorded files of the tools -----------------------------------------------------------------------------


def _keys(content, path=""):
    """Dotted paths of all keys in nested data; positions in lists left out."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"{path}.{key}".lstrip(".")
            yield from _keys(value, f"{path}.{key}")
    elif isinstance(content, list):
        for value in content:
            yield from _keys(value, path)


@pytest.fixture(scope="module")
def presets(ref):
    return json.loads((ref / "dram" / "presets.json").read_text())


def _memory_files(to, device, folder):
    problem = archgym.make_problem("dram/sort", device=device, references="none", **OPTIONS["dram"])
    export(problem, problem.space.decode(problem.space.sample(1, 1))[0], to, folder)


@pytest.mark.parametrize(
    "device, recorded",
    [
        ("DDR3-1600", "MICRON_1Gb_DDR3-1600_8bit_G"),
        ("DDR4-2400", "JEDEC_4Gb_DDR4-2400_8bit_A"),
        ("LPDDR4-3200", "JEDEC_8Gb_LPDDR4-3200_16bit"),
        ("HBM2", "HBM2"),
    ],
)
@pytest.mark.parametrize("to, version", [("dramsys4", "v4.0_archgym"), ("dramsys5", "v5.0")])
def test_dramsys_memories_have_the_fields_and_values_of_recorded_ones(
    to, version, device, recorded, presets, tmp_path
) -> None:
    _memory_files(to, device, tmp_path / "out")
    if to == "dramsys4":
        spec = json.loads((tmp_path / "out" / "configs" / "memspecs" / "memory.json").read_text())["memspec"]
    else:
        spec = json.loads((tmp_path / "out" / "simulation.json").read_text())["simulation"]["memspec"]
    theirs = presets["dramsys"][f"{version}:{recorded}"]
    assert spec["memoryType"] == theirs["memoryType"]
    for part in ("memarchitecturespec", "memtimingspec", "mempowerspec"):
        ours = spec.get(part, {})
        assert bool(ours) or part == "mempowerspec"
        # What version 5 wants beside a recorded file's fields, and counts that other memories' files say.
        extra = {"tCK", "RFC1", "maxBurstLength", "clkMhz"} if to == "dramsys5" else set()
        if part == "memarchitecturespec":
            extra |= {"nbrOfDevices", "nbrOfDevicesOnDIMM", "nbrOfBankGroups", "nbrOfRanks"}
        recorded_part = theirs.get(part, {})  # HBM2's have no currents
        assert set(ours) - set(recorded_part) <= extra or not recorded_part, part
        different = {k: (ours[k], v) for k, v in recorded_part.items() if k in ours and ours[k] != pytest.approx(v)}
        assert not different, part


def test_other_memories_have_the_fields_of_recorded_ones(presets, tmp_path) -> None:
    _memory_files("dramsim3", "DDR4-2400", tmp_path / "dramsim3")
    parser = configparser.ConfigParser()
    parser.optionxform = str
    parser.read(tmp_path / "dramsim3" / "memory.ini")
    recorded = presets["dramsim3"]["DDR4_8Gb_x8_2400"]
    known = {section: set(recorded[section]) for section in ("dram_structure", "timing", "power", "system")}
    # The recorded summary leaves the section of output files out, and the t of tREFI.
    known["timing"] |= {"tREFI"}
    known["system"] |= {"enable_self_refresh"}
    for section, names in known.items():
        assert set(parser[section]) <= names, section
    assert set(parser.sections()) == {*known, "other"}
    _memory_files("ramulator2", "DDR4-2400", tmp_path / "ramulator2")
    memory = yaml.safe_load((tmp_path / "ramulator2" / "config.yaml").read_text())["MemorySystem"]["DRAM"]
    recorded = presets["ramulator2.1"]["DDR4_8Gb_x8/DDR4_2400R"]
    assert set(memory["timing"]) <= set(recorded["timing"])
    assert set(memory["org"]) - {"channel"} <= set(recorded["org"])


def test_timeloop_files_have_the_fields_of_recorded_ones(problems, ref, tmp_path) -> None:
    folder = ref / "accelerator" / "timeloop_cases"
    known = set()
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        for case in content if isinstance(content, list) else [content]:
            if isinstance(case, dict):
                known |= {key for part in ("architecture", "problem", "mapping") for key in _keys(case.get(part), part)}
    problem = problems["accelerator"]
    design = problem.space.decode(problem.space.sample(1, 1))[0]
    export(problem, design, "timeloop", tmp_path / "out")
    own = {"storage_class", "storage_depth", "storage_block"}  # attributes of ours, which Timeloop passes over
    for part in ("architecture", "problem", "mapping"):
        for path in (tmp_path / "out").glob(f"*/{part}.yaml"):
            found = {
                key for key in _keys(yaml.safe_load(path.read_text())[part], part) if key.rpartition(".")[2] not in own
            }
            dimensions = {key for key in found if key.startswith("problem.instance.")}
            assert found - dimensions <= known, (path.parent.name, found - known)
    case = json.loads((folder / "eyeriss_like.json").read_text())
    tables = {
        part: yaml.safe_load(next((tmp_path / "out").glob(f"*/{part}.yaml")).read_text())[part]["tables"]
        for part in ("ERT", "ART")
    }
    actions = {action["name"] for table in tables["ERT"] for action in table["actions"]}
    assert actions == {action for level in case["ERT_pJ_per_vector_access"].values() for action in level}
    assert all(set(table) == {"name", "area"} for table in tables["ART"])
