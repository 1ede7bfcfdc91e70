"""Configurations of other tools as designs: what we write is read back, what they write is read to the nearest design, and
whatever is damaged is one sentence."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import archgym
from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.exporting import EXPORTERS, export, import_design, importers_for
from archgym.networks.readers import read_network
from archgym.registry import SIMULATORS
from archgym.simulators.external.zigzag import ZigZagSimulator

TRACE = {"workload_options": {"requests": 300}}
#: Problem, options, format -> parameters that the format cannot say (its README does).
CASES = [
    ("dram/sort", TRACE, "dramsys4", set()),
    ("dram/sort", TRACE, "dramsys5", set()),
    ("dram/sort", {"space": "wide", **TRACE}, "dramsys4", set()),
    ("dram/sort", {"space": "wide", **TRACE}, "dramsys5", set()),
    (
        "dram/sort", TRACE, "dramsim3",
        {"Scheduler", "PagePolicy", "SchedulerBuffer", "RespQueue", "Arbiter", "MaxActiveTransactions",
         "RefreshMaxPostponed", "RefreshMaxPulledin"},
    ),
    (
        "dram/sort", TRACE, "ramulator2",
        {"Scheduler", "PagePolicy", "SchedulerBuffer", "RequestBufferSize", "RespQueue", "Arbiter",
         "MaxActiveTransactions", "RefreshMaxPostponed", "RefreshMaxPulledin"},
    ),
    ("systolic/alexnet_torchvision", {}, "scalesim", set()),
    ("systolic/alexnet_torchvision", {"space": "fine"}, "zigzag", set()),
    ("accelerator/alexnet_torchvision", {}, "timeloop", set()),
    ("accelerator/alexnet_torchvision", {"space": "reduced"}, "zigzag", {"weights_spad_class"}),
    ("mapping/resnet18-2", {}, "maestro", set()),
    ("mapping/resnet18-2", {"space": "archgym17"}, "maestro", set()),
    ("llm-training/llama3.1-8b@8xh100", {}, "megatron", {"ag_redo", "offload", "tp_comm", "tp_overlap", "order"}),
    ("llm-training/mixtral-8x7b@64xh100", {"space": "small"}, "megatron", set()),
    ("llm-serving", {}, "vllm", {"policy", "budget", "prefill_share", "router", "prefix_cache"}),
    ("llm-serving/gpt-oss-120b+sharegpt_300@8xh100", {}, "vllm",
     {"policy", "budget", "prefill_share", "router", "prefix_cache", "ep"}),
]  # fmt: skip


@pytest.mark.parametrize("name, options, to, lost", CASES)
def test_what_is_written_is_read_back(name, options, to, lost, tmp_path) -> None:
    problem = archgym.make_problem(name, **options)
    written = 0
    for i, row in enumerate(problem.space.sample(6, 3, feasible=True)):
        design = problem.space.decode(row[None])[0]
        try:
            made = export(problem, design, to, tmp_path / str(i))
        except ArchGymError as error:
            assert "no DRAMSim3 file" in str(error) or "no mapping" in str(error)
            continue
        folder = tmp_path / str(i)
        if to == "timeloop":
            folder = next((path for path in sorted(folder.iterdir()) if path.is_dir()), None)
            if folder is None:
                assert any("no mapping" in sentence for sentence in made.unsaid)
                continue
        found = import_design(problem, folder)
        assert found.format == to or {found.format, to} == {"dramsys4", "dramsys5"}
        asked, back = (
            problem.space.decode(problem.space.canonical(problem.space.encode(d)))[0] for d in (design, found.design)
        )
        assert {name for name in asked if asked[name] != back[name]} <= lost
        written += 1
    assert written >= 2


def test_zigzags_own_family_reads_back(tmp_path) -> None:
    simulator = ZigZagSimulator()
    network = simulator.load_workload("alexnet_torchvision")
    problem = archgym.problem.Problem("zigzag/alexnet_torchvision", simulator, network, None, None, {})
    for i, row in enumerate(problem.space.sample(5, 0)):
        design = problem.space.decode(row[None])[0]
        export(problem, design, "zigzag", tmp_path / str(i))
        assert import_design(problem, tmp_path / str(i)).design == design


# --- the tools' own parsers and recorded files -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def zigzag_files(tmp_path_factory):
    made = []
    for kind in ("accelerator", "systolic"):
        problem = archgym.make_problem(f"{kind}/mobilenet_v1")
        for i, row in enumerate(problem.space.sample(4, 2, feasible=True)):
            folder = tmp_path_factory.mktemp(kind) / str(i)
            export(problem, problem.space.decode(row[None])[0], "zigzag", folder)
            made.append((problem, folder))
    return made


def test_zigzags_own_parser_takes_the_files(zigzag_files) -> None:
    pytest.importorskip("zigzag")
    pytest.importorskip("six")
    from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
    from zigzag.stages.parser.workload_parser import WorkloadParserStage

    for problem, folder in zigzag_files:
        accelerator = AcceleratorParserStage.parse_accelerator(str(folder / "accelerator.yaml"))
        assert accelerator.operational_array.total_unit_count > 1
        parser = WorkloadParserStage(
            [None], workload=str(folder / "workload.yaml"), mapping=str(folder / "mapping.yaml")
        )  # fmt: skip
        workload = parser.parse_workload() if hasattr(parser, "parse_workload") else parser.parse_workload_from_yaml()
        layers = problem.workload.merged().layers
        assert [node.total_mac_count for node in workload.node_list] == [layer.macs for layer in layers]


def test_zigzags_files_have_the_keys_of_recorded_ones(zigzag_files, ref) -> None:
    recorded = json.loads(((ref / "accelerator") / "zigzag_accelerators.json").read_text())
    array = set().union(*(entry["operational_array"] for entry in recorded.values()))
    ways = {allocation.split(", ")[1] for entry in recorded.values() for memory in entry["memories"].values()
            for port in memory["ports"] for allocation in port["alloc"]}  # fmt: skip
    for _, folder in zigzag_files:
        content = yaml.safe_load((folder / "accelerator.yaml").read_text())
        assert set(content["operational_array"]) <= array
        for name, memory in content["memories"].items():
            assert {"size", "r_cost", "w_cost", "area", "latency", "operands", "ports", "served_dimensions"} == set(
                memory
            )
            assert isinstance(memory["size"], int) and memory["r_cost"] > 0, name
            given = [allocation for port in memory["ports"] for allocation in port["allocation"]]
            # Every operand has all its ways, once.
            wanted = {f"{o}, {w}" for o in memory["operands"] for w in (ways if o == "O" else ("fh", "tl"))}
            assert sorted(given) == sorted(wanted)
            assert all(0 < port["bandwidth_min"] <= port["bandwidth_max"] for port in memory["ports"])


def test_an_accelerators_energies_are_those_of_a_whole_transfer(zigzag_files) -> None:
    """pJ for ``bandwidth_max`` bits: accesses of a row's bits times their energy, whatever the bandwidth."""
    problem, folder = zigzag_files[0]
    design = yaml.safe_load((folder / "README.md").read_text().split("```json\n")[1].split("```")[0])
    content = yaml.safe_load((folder / "accelerator.yaml").read_text())["memories"]
    library = problem.simulator.library
    for name in ("ifmap_spad", "shared_glb"):
        row_bits = 16 * design[f"{name}_block"]
        energy = library.storage(design[f"{name}_class"], design[f"{name}_depth"], row_bits)["read_pj"]
        port = next(port for port in content[name]["ports"] if port["type"] == "read")
        assert content[name]["r_cost"] / port["bandwidth_max"] == pytest.approx(float(energy) / row_bits)
        assert port["bandwidth_max"] == 16 * design[f"{name}_read_bw"]


def _maestro_text(layers) -> str:
    text = ["Network recorded {"]
    for name, layer in layers.items():
        sizes = ", ".join(f"{dim}: {size}" for dim, size in layer["dims"].items())
        text += [f"Layer {name} {{", f"Type: {layer['type']} // a remark", f"Dimensions {{ {sizes} }}"]
        strides = layer.get("stride") or {"X": 1, "Y": 1}
        text.append(f"Stride {{ X: {strides['X']}, Y: {strides['Y']} }}")
        text.append("Dataflow {")
        for kind, first, *rest in layer["directives"]:
            line = (
                f"Cluster({first}, {rest[0]})"
                if kind == "C"
                else f"{'Spatial' if kind == 'S' else 'Temporal'}Map({rest[0]},{rest[1]}) {first}"
            )
            text.append(line + ";")
        text += ["}", "}"]
    return "\n".join([*text, "}"])


def test_recorded_maestro_files_are_read(tmp_path, ref) -> None:
    recorded = json.loads(((ref / "accelerator") / "maestro_mappings.json").read_text())["mappings"]
    read = 0
    for name, layers in recorded.items():
        known = {key: layer for key, layer in layers.items() if layer["type"] in ("CONV", "DSCONV")}
        if not known:
            continue
        path = tmp_path / f"{name}.m"
        path.write_text(_maestro_text(known))
        network = read_network(path)
        for layer, (key, entry) in zip(network.layers, known.items(), strict=True):
            dims, stride = entry["dims"], entry.get("stride") or {"X": 1, "Y": 1}
            p, q = (dims["Y"] - dims["R"]) // stride["Y"] + 1, (dims["X"] - dims["S"]) // stride["X"] + 1
            channels = dims["C"] if entry["type"] == "DSCONV" else dims["K"] * dims["C"]
            assert layer.name == key and layer.macs == channels * p * q * dims["R"] * dims["S"]
            read += 1
    assert read > 100


# --- what other tools write ------------------------------------------------------------------------------------------


def test_a_dramsys_simulation_with_its_files_beside_it(tmp_path) -> None:
    """As DRAMSys 5 lays its folder out, with words of older versions and what has no place here."""
    problem = archgym.make_problem("dram/sort", space="wide", **TRACE)
    controller = {
        "PagePolicy": "OpenAdaptive", "Scheduler": "FrFcfs", "SchedulerBuffer": "Bankwise", "RequestBufferSize": 9,
        "CmdMux": "Oldest", "RespQueue": "Fifo", "RefreshPolicy": "Rankwise", "RefreshMaxPostponed": 8,
        "RefreshMaxPulledin": 8, "PowerDownPolicy": "NoPowerDown", "Arbiter": "Simple", "MaxActiveTransactions": 128,
        "RefreshManagement": False, "HighWatermark": 20,
    }  # fmt: skip
    (tmp_path / "configs" / "mcconfig").mkdir(parents=True)
    (tmp_path / "configs" / "mcconfig" / "mine.json").write_text(json.dumps({"mcconfig": controller}))
    (tmp_path / "configs" / "memspec").mkdir()
    memory = {"memarchitecturespec": {"nbrOfBanks": 16, "nbrOfRanks": 2, "nbrOfRows": 32768}, "memoryType": "DDR4",
              "memtimingspec": {"clkMhz": 1200}}  # fmt: skip
    (tmp_path / "configs" / "memspec" / "ddr4.json").write_text(json.dumps({"memspec": memory}))
    simulation = tmp_path / "configs" / "example.json"
    simulation.write_text(
        json.dumps({"simulation": {"mcconfig": "mine.json", "memspec": "ddr4.json", "simulationid": "x"}})
    )
    found = import_design(problem, simulation)
    assert found.design["Device"] == "DDR4-2400" and found.design["Ranks"] == 2
    assert found.design["RefreshPolicy"] == "AllBank" and found.design["PagePolicy"] == "OpenAdaptive"
    said = " ".join(found.sentences)
    # 9 lies nearer to 8 than to 12 by ratio.
    assert found.design["RequestBufferSize"] == 8 and "RequestBufferSize is 9 entries" in said
    assert "HighWatermark (20)" in said and "Rankwise" in said and "AddressMap = rbc" in said


def test_ramulators_presets_name_the_memory(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "Frontend: {impl: SimpleO3}\nMemorySystem:\n  impl: GenericDRAM\n  DRAM:\n    impl: DDR4\n"
        "    org: {preset: DDR4_8Gb_x8, channel: 1, rank: 2}\n    timing: {preset: DDR4_2400R}\n"
        "  Controller:\n    impl: Generic\n    Scheduler: {impl: FRFCFS}\n    RefreshManager: {impl: AllBank}\n"
        "    RowPolicy: {impl: ClosedRowPolicy, cap: 4}\n    plugins: []\n  AddrMapper: {impl: RoBaRaCoCh}\n"
    )
    found = import_design(archgym.make_problem("dram/sort", space="wide", **TRACE), path)
    assert (found.format, found.design["Device"], found.design["Ranks"]) == ("ramulator2", "DDR4-2400", 2)
    assert found.design["PagePolicy"] == "ClosedAdaptive" and found.design["AddressMap"] == "rbc"
    narrow = import_design(archgym.make_problem("dram/sort", device="DDR3-1600", **TRACE), path)
    assert any("-o device=DDR4-2400" in sentence for sentence in narrow.sentences)


def test_a_timeloop_architecture_of_either_style(tmp_path) -> None:
    problem = archgym.make_problem("accelerator/alexnet_torchvision")
    tree = """
architecture:
  version: 0.3
  subtree:
  - name: system
    local:
    - {name: DRAM, class: DRAM, attributes: {width: 64, word-bits: 16}}
    subtree:
    - name: eyeriss
      local:
      - name: shared_glb[0..0]
        class: smartbuffer_SRAM
        attributes: {memory_depth: 16384, memory_width: 64, n_banks: 32, word-bits: 16, block-size: 4, read_bandwidth: 16}
      - {name: "DummyBuffer[0..13]", class: regfile, attributes: {depth: 16, width: 16, word-bits: 16, meshX: 14}}
      subtree:
      - name: PE[0..167]
        local:
        - {name: ifmap_spad, class: smartbuffer_RF, attributes: {memory_depth: 12, word-bits: 16, block-size: 1, meshX: 14}}
        - {name: weights_spad, class: smartbuffer_RF, attributes: {memory_depth: 192, word-bits: 16, block-size: 1, meshX: 14}}
        - {name: psum_spad, class: smartbuffer_RF, attributes: {memory_depth: 16, word-bits: 16, block-size: 1, meshX: 14}}
        - {name: mac, class: intmac, attributes: {datawidth: 16, meshX: 14}}
"""
    nodes = """
architecture:
  version: 0.4
  nodes:
  - !Component {name: DRAM, class: DRAM, attributes: {width: 64, datawidth: 16}}
  - !Component
    name: shared_glb
    class: smartbuffer_SRAM
    attributes: {depth: 16384, width: 64, datawidth: 16, n_banks: 32, read_bandwidth: 16}
  - !Container {name: PE_column, spatial: {meshX: 14}}
  - !Container {name: PE, spatial: {meshY: 12}}
  - !Component {name: ifmap_spad, class: smartbuffer_RF, attributes: {depth: 12, width: 16, datawidth: 16}}
  - !Component {name: weights_spad, class: smartbuffer_RF, attributes: {depth: 192, width: 16, datawidth: 16}}
  - !Component {name: psum_spad, class: smartbuffer_RF, attributes: {depth: 16, width: 16, datawidth: 16}}
  - !Component {name: mac, class: intmac, attributes: {datawidth: 16}}
"""
    designs = []
    for name, text in (("tree", tree), ("nodes", nodes)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        found = import_design(problem, path)
        d = found.design
        assert (d["num_pes"], d["mac_mesh_x"], d["shared_glb_depth"], d["shared_glb_block"]) == (168, 14, 16384, 4)
        # 12 lies nearer to 16 than to 8 by ratio, 192 nearer to 256 than to 128.
        assert (d["ifmap_spad_depth"], d["weights_spad_depth"], d["psum_spad_depth"]) == (16, 256, 16)
        assert any("ifmap_spad_depth is 12" in sentence for sentence in found.rounded)
        designs.append({name: value for name, value in d.items() if "_bw" not in name})
    assert designs[0] == designs[1]


def test_a_vllm_command_and_a_megatron_script(tmp_path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(
        "#!/bin/sh\nvllm serve meta-llama/Llama-3.1-8B -tp 2 --max-num-seqs=256 \\\n  --max-num-batched-tokens 3000 "
        "--kv-cache-dtype fp8 --no-enable-prefix-caching --enforce-eager &\n"
    )
    found = import_design(archgym.make_problem("llm-serving"), script)
    assert (found.design["tp"], found.design["max_running"], found.design["kv"]) == (2, 256, "fp8")
    assert found.design["budget"] == 4096 and any("3000" in sentence for sentence in found.rounded)
    assert not found.design["prefix_cache"] and any("enforce-eager" in sentence for sentence in found.unplaced)
    train = tmp_path / "train.sh"
    train.write_text(
        "torchrun --nproc_per_node 8 pretrain_gpt.py --tensor-model-parallel-size 4 --pipeline-model-parallel-size 2 \\\n"
        "  --micro-batch-size 1 --num-layers-per-virtual-pipeline-stage 4 --sequence-parallel --use-distributed-optimizer "
        "--overlap-grad-reduce --recompute-activations --hidden-size 1024 --bf16\n"
    )
    found = import_design(archgym.make_problem("llm-training/llama3.1-8b@8xh100"), train)
    d = found.design
    assert (d["tp"], d["pp"], d["interleaving"], d["zero"], d["tp_comm"]) == (4, 2, 4, 1, "rs_ag")
    assert d["recompute"] == "selective" and any("--hidden-size is 1024" in sentence for sentence in found.unplaced)


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.sh", "#!/bin/sh\n# how to vllm serve it\nvllm serve mine -tp 2\n"),
        ("b.yaml", "# vllm serve mine --config b.yaml\nmodel: mine\ntensor-parallel-size: 2\n"),
    ],
)
def test_a_command_in_a_comment_is_none(name, text, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    found = import_design(archgym.make_problem("llm-serving"), tmp_path / name)
    assert (found.format, found.design["tp"]) == ("vllm", 2)


def test_prefilling_instances_stand_in_a_file_of_their_own(tmp_path) -> None:
    """Whichever way the argument is written; what is wrong with it names that file."""
    problem = archgym.make_problem("llm-serving")
    (tmp_path / "serve.yaml").write_text('model: mine\ntensor-parallel-size: 2\nkv-transfer-config: "{}"\n')
    for key in ("tensor-parallel-size", "tensor_parallel_size", "tp"):
        (tmp_path / "prefill.yaml").write_text(f"model: mine\n{key}: 4\n")
        assert import_design(problem, tmp_path).design["prefill_tp"] == 4
    (tmp_path / "prefill.yaml").write_text("tensor-parallel-size: many\n")
    with pytest.raises(ArchGymError, match=r"prefill\.yaml: tensor-parallel-size is 'many'"):
        import_design(problem, tmp_path)


# --- the commands ----------------------------------------------------------------------------------------------------


def test_compare_takes_a_configuration_as_it_is(tmp_path) -> None:
    problem = archgym.make_problem("systolic/resnet18", objective="edp")
    design = problem.space.decode(problem.space.sample(1, 2, feasible=True))[0]
    export(problem, design, "scalesim", tmp_path / "out")
    config = tmp_path / "mine.cfg"
    text = (tmp_path / "out" / "scale.cfg").read_text()
    config.write_text(text.replace(f"ArrayHeight: {design['array_rows']}", f"ArrayHeight: {design['array_rows'] + 1}"))
    base = ["compare", "systolic/resnet18", "--objective", "edp", "--samples", "200", "--design", str(config)]
    shown = CliRunner().invoke(main, base)
    words = " ".join(shown.output.split())
    assert shown.exit_code == 0 and "array_rows is" in words and "% of 200 uniform designs" in words
    result = json.loads(CliRunner().invoke(main, [*base, "--from", "scalesim", "--json"]).stdout)
    assert result["imported"]["design"] == design and result["imported"]["format"] == "scalesim"
    _, rewards = problem.evaluate(problem.space.encode(design))
    assert result["reward"] == rewards[0]
    refused = CliRunner().invoke(main, [*base, "--from", "vllm"])
    assert refused.exit_code == 2 and "scalesim" in refused.output


def test_compare_without_a_known_best_takes_the_best_of_uniform_designs(tmp_path) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text("arrival_cycle,address,rw\n" + "".join(f"{4 * i},{64 * (i * 7 % 512)},R\n" for i in range(200)))
    problem = archgym.make_problem(f"dram/file:{trace}")
    design = problem.space.decode(problem.space.sample(1, 2))[0]
    export(problem, design, "dramsys5", tmp_path / "out")
    command = ["compare", problem.name, "--design", str(tmp_path / "out"), "--samples", "50"]
    result = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    _, rewards = problem.evaluate(problem.space.sample(50, 0), seed=0)
    assert result["best_reward"] == rewards.max() and result["against"] == "the best of 50 uniform designs"
    assert result["better_share"] == (rewards > result["reward"]).mean()
    assert "no better one ships" in " ".join(CliRunner().invoke(main, command).output.split())


def test_an_imported_design_goes_on(tmp_path) -> None:
    problem = archgym.make_problem("systolic/resnet18")
    design = problem.space.decode(problem.space.sample(1, 4, feasible=True))[0]
    export(problem, design, "zigzag", tmp_path / "out")
    mine = tmp_path / "mine.yaml"
    result = CliRunner().invoke(main, ["import", "systolic/resnet18", str(tmp_path / "out"), "-o", str(mine)])
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(mine.read_text()) == {"design": design}
    again = CliRunner().invoke(
        main, ["compare", "systolic/resnet18", "--samples", "50", "--design", str(mine), "--json"]
    )
    assert json.loads(again.stdout)["differs"].keys() <= set(design)


@pytest.mark.parametrize("to", [name for name in EXPORTERS if any(name in importers_for(s) for s in SIMULATORS)])
def test_damaged_files_are_a_sentence(to, tmp_path) -> None:
    """Every prefix and many single-byte changes of a valid file either read or are refused in one sentence."""
    kind, options = next((name, options) for name, options, format, _ in CASES if format == to)
    problem = archgym.make_problem(kind, **options)
    design = problem.space.decode(problem.space.sample(1, 3, feasible=True))[0]
    export(problem, design, to, tmp_path / "out")
    importer = EXPORTERS.load(to)
    folders = [tmp_path / "out", *sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())]
    path = next(f / name for f in folders for name in importer.files if (f / name).is_file())
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(60):
        changed = bytearray(content)
        if trial < 15:
            changed = changed[: len(changed) * trial // 15]
        else:
            for at in rng.integers(0, len(changed), 1 + trial % 3):
                changed[at] = rng.choice(list(b'\x00{}[]:,-9x"\n \xff'))
        path.write_bytes(bytes(changed))
        for format in (None, to):
            try:
                import_design(problem, path, format)
            except ArchGymError as error:
                assert len(str(error)) <= 330 and "\n" not in str(error), error


@pytest.mark.parametrize(
    "name, text, word",
    [
        ("a.json", '{"mcconfig": [1]}', "mcconfig"),
        ("b.json", '{"mcconfig": {"PagePolicy": "Sideways"}}', "PagePolicy"),
        ("c.json", '{"simulation": {"mcconfig": "../../secret.json"}}', "not beside it"),
        ("d.json", '{"mcconfig": {"RequestBufferSize": "many"}}', "RequestBufferSize"),
        ("e.yaml", "MemorySystem: {DRAM: 3}", "DRAM"),
        ("f.yaml", "hello: world", "PagePolicy"),
        ("g.ini", "[dram_structure]\nprotocol = DDR4\n[system]\nrow_buf_policy = HALF_OPEN\n", "HALF_OPEN"),
    ],
)
def test_what_cannot_be_a_controller_is_said(name, text, word, tmp_path) -> None:
    path = tmp_path / name
    path.write_text(text)
    result = CliRunner().invoke(main, ["compare", "dram/sort", "--requests", "100", "--design", str(path)])
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert word in result.output.replace("\n", " "), result.output


@pytest.mark.parametrize(
    "problem, name, text",
    [
        ("dram/sort", "a.json", '{"mcconfig": {}, "addressmapping": {"CONGEN": {"COLUMN_BIT": 5}}}'),
        (
            "dram/sort",
            "b.ini",
            "[dram_structure]\nrows = 9\ncolumns = 9\n[system]\nchannel_size = 1e308\nbus_width=1e-300",
        ),
        ("dram/sort", "c.yaml", "MemorySystem: {DRAM: {impl: DDR4, org: {bank: 1.0e308, bankgroup: 1.0e308}}}"),
        ("accelerator/alexnet_torchvision", "d.yaml", "architecture:\n  local: 5\n"),
        ("llm-serving", "e.sh", "vllm\nserve mine\n"),
        (
            "llm-training/llama3.1-8b@8xh100",
            "f.sh",
            "x --pipeline-model-parallel-size 0 --num-layers-per-virtual-pipeline-stage 2\n",
        ),
    ],
)
def test_figures_that_cannot_be_computed_with_are_a_sentence(problem, name, text, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ArchGymError, match=rf"{name} (cannot be used|holds)"):
        import_design(archgym.make_problem(problem, **(TRACE if problem == "dram/sort" else {})), tmp_path / name)


# --- arguments of the language models' tools ---------------------------------------------------------------------------


def test_megatrons_arguments_multiply_to_the_devices(tmp_path) -> None:
    problem = archgym.make_problem("llm-training/mixtral-8x7b@64xh100")
    design = dict(problem.space.decode(problem.space.sample(1, 8, feasible=True))[0])
    export(problem, design, "megatron", tmp_path / "out")
    words = shlex.split((tmp_path / "out" / "train.sh").read_text().replace("\\\n", " "), comments=True)
    given = dict(zip(words, words[1:], strict=False))
    nodes = int(next(word for word in words if word.startswith("--nnodes=")).partition("=")[2])
    each = int(next(word for word in words if word.startswith("--nproc-per-node=")).partition("=")[2])
    assert nodes * each == 64
    parts = [int(given[f"--{name}-parallel-size"]) for name in ("tensor-model", "pipeline-model", "context")]
    assert 64 % np.prod(parts) == 0 and int(given["--num-experts"]) == 8
    assert int(given["--global-batch-size"]) % (64 // np.prod(parts) * int(given["--micro-batch-size"])) == 0
    assert given["--num-query-groups"] == "8" and "--group-query-attention" in words


def test_vllms_memory_share_holds_weights_and_cache(tmp_path) -> None:
    problem = archgym.make_problem("llm-serving/llama3.1-8b+sharegpt_300@8xh100")
    for i, row in enumerate(problem.space.sample(20, 8, feasible=True)):
        design = problem.space.decode(row[None])[0]
        export(problem, design, "vllm", tmp_path / str(i))
        given = yaml.safe_load((tmp_path / str(i) / "serve.yaml").read_text())
        # More than our share of the rest, as weights and runtime come to it; never the whole device.
        assert design["kv_fraction"] < given["gpu-memory-utilization"] < 1
        assert given["tensor-parallel-size"] == design["tp"] and given["max-num-seqs"] == design["max_running"]
        script = (tmp_path / str(i) / "serve.sh").read_text()
        instances = script.count("--config serve.yaml")
        used = instances * design["tp"] * design["pp"]
        if design["mode"] == "disaggregated":
            used += script.count("--config prefill.yaml") * design["prefill_tp"]
        assert used == 8
        ports = [word for word in script.split() if word.isdigit()]
        assert len(set(ports)) == len(ports)
