"""What both simulators of language models share: shapes, devices, operators, their fits and tables."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.simulators.llm import devices, models
from archgym.simulators.llm.operators import Operators, constants
from archgym.simulators.llm.validate_operators import groups

REF = Path(os.environ.get("ARCHGYM_REF", Path(__file__).resolve().parents[3] / "shared" / "ref")) / "llm"

# Parameter counts as their authors give them (model cards and papers), in billions: all, and those a token meets.
PUBLISHED = {
    "gpt3-175b": (175, 175),
    "llama2-7b": (6.74, 6.74),
    "llama2-70b": (69.0, 69.0),
    "llama3.1-8b": (8.03, 8.03),
    "llama3.1-70b": (70.6, 70.6),
    "llama3.1-405b": (405.9, 405.9),
    "qwen3-32b": (32.8, 32.8),
    "mixtral-8x7b": (46.7, 12.9),
    "mixtral-8x22b": (140.6, 39.1),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235, 22),
    "deepseek-v3": (671, 37),
    "gpt-oss-120b": (116.8, 5.1),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    model = models.model(name)
    total, active = PUBLISHED[name]
    assert model.parameters / 1e9 == pytest.approx(total, rel=0.02)
    # What counts as active differs between cards (with or without the embedding).
    assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.15)


def test_every_record_has_a_source() -> None:
    assert all(model.source for model in models.catalogue().values())
    assert all(device.source for device in devices.catalogue().values())


LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
MIXTRAL = LLAMA | {"model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
}


@pytest.mark.parametrize("config, name", [(LLAMA, "llama3.1-8b"), (MIXTRAL, "mixtral-8x7b"), (DEEPSEEK, "deepseek-v3")])
def test_hugging_face_configurations_give_the_catalogue(tmp_path: Path, config: dict, name: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert models.model(f"file:{path}").fingerprint == models.model(name).fingerprint


@pytest.mark.parametrize(
    "change, word",
    [
        ({"model_type": "t5"}, "architecture"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_attention_heads": 30, "head_dim": 128}, "divide"),
        ({"hidden_size": "many"}, "whole number"),
        ({"is_encoder_decoder": True}, "decoder"),
    ],
)
def test_bad_configurations_get_one_sentence(tmp_path: Path, change: dict, word: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in (LLAMA | change).items() if v is not None}))
    with pytest.raises(ArchGymError, match=word) as caught:
        models.model(f"file:{path}")
    assert len(str(caught.value)) < 300


def test_own_models_and_devices_are_files(tmp_path: Path) -> None:
    shape = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 256, "vocab": 100}
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(shape))
    assert models.model(f"file:{path}").name == "tiny"
    path.write_text(json.dumps(shape | {"kv_heads": 3}))
    with pytest.raises(ArchGymError, match="divide"):
        models.model(f"file:{path}")
    path.write_text(json.dumps(shape | {"colour": 3}))
    with pytest.raises(ArchGymError, match="colour"):
        models.model(f"file:{path}")
    chip = {"bf16_flops": 1e15, "mem_bytes": 8e10, "mem_bytes_per_s": 3e12, "tdp_w": 600}
    path.write_text(json.dumps(chip | {"link_bytes_per_s": 4e11, "nic_bytes_per_s": 5e10}))
    assert devices.device(f"file:{path}").peak("fp8") == 0
    path.write_text(json.dumps(chip))
    with pytest.raises(ArchGymError, match="link_bytes_per_s"):
        devices.device(f"file:{path}")
    with pytest.raises(ArchGymError, match="did you mean 'h100'"):
        devices.device("h10")


def test_devices_without_a_fit_scale_that_of_another() -> None:
    h100, h200 = (Operators(devices.device(name)) for name in ("h100", "h200"))
    assert h200.gemm(1, 8192, 8192)[()] < h100.gemm(1, 8192, 8192)[()]
    assert h200.gemm(8192, 8192, 8192)[()] == pytest.approx(h100.gemm(8192, 8192, 8192)[()], rel=1e-2)


def test_every_device_has_every_operator() -> None:
    for device in devices.catalogue().values():
        made = Operators(device)
        assert np.isfinite(made.gemm_row()).all() and np.isfinite(made.moe_row()).all()
        assert np.isfinite(made.prefill_row()).all() and np.isfinite(made.decode_row()).all()
        assert np.isfinite(made.collective_rows()).all()


def test_fitted_errors_are_stated() -> None:
    for fits in constants().values():
        for key, fit in fits.items():
            assert fit["rows"] > 0 and 0 < fit["mean_error"] < 0.5, key


@pytest.mark.skipif(not REF.is_dir(), reason="needs the reference data")
def test_operators_hold_against_the_tables() -> None:
    found = list(groups(REF))
    assert {group.group.split("/")[0] for group in found} >= {"ops.gemm", "ops.attention", "ops.collectives"}
    assert [group.group for group in found if not group.holds] == []


@pytest.mark.skipif(not REF.is_dir(), reason="needs the reference data")
def test_tables_give_back_what_was_measured() -> None:
    from archgym.simulators.llm.operators import read_table

    rows = read_table(REF / "ops", "gemm")
    assert rows is not None
    kept = (rows["device"] == "h100_sxm") & (rows["dtype"] == "bfloat16")
    made = Operators(devices.device("h100"), REF)
    ours = made.gemm(rows["m"][kept], rows["n"][kept], rows["k"][kept])
    np.testing.assert_allclose(ours, rows["time_s"][kept], rtol=1e-9)
    with pytest.raises(ArchGymError, match="b200_sxm"):
        Operators(devices.device("b200"), REF)


@pytest.mark.skipif(not REF.is_dir(), reason="needs the reference data")
def test_the_shipped_constants_are_what_the_command_fits() -> None:
    done = CliRunner().invoke(main, ["llm", "fit", "--ref", str(REF), "--only", "collectives", "--json"])
    assert done.exit_code == 0, done.output
    for row in json.loads(done.stdout)["fits"]:
        shipped = constants()["collectives"][row["key"]]
        assert row["mean_error"] == pytest.approx(shipped["mean_error"], abs=0.01)


def _changed(path: Path, change: tuple[str, str]) -> None:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    changed = text.replace(*change, 1)
    assert changed != text
    path.unlink()
    path.write_bytes(gzip.compress(changed.encode()) if path.suffix == ".gz" else changed.encode())


@pytest.mark.skipif(not REF.is_dir(), reason="no reference data")
@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("training_measured.csv", (",kv_heads,", ",others,")),
        ("training_memory_published.csv", (",45.5625,", ",many,")),
        ("training_memory_published.csv", ("mode,", "how,")),
        ("splitwise_measured.csv", ("device", "machine")),
        ("serving_measured.csv.gz", ("backend", "isl")),
        ("ops/collectives.csv.gz", ("impl", "by")),
        ("ops/gemm.csv.gz", ("device", "time_ms")),
        ("calculon/models.json", ('"hidden"', '"width"')),
        ("calculon/runs.csv.gz", ("microbatch_size", "micro")),
        ("schedules/runs.json", ('"replicas": 1', '"replicas": 0')),
        ("schedules/runs.json", ('"trace"', '"of"')),
        ("schedules/runs.json", ('"law": [', '"law": 3, "was": [')),
        ("schedules/traces.csv", (",0.0,", ",nan,")),
        ("vllm/llama-3.1-8b_rtxpro6000_tp1/attention.csv.gz", ("\n0,", "\nnan,")),
        ("vllm/llama-3.1-8b_rtxpro6000_tp1/requests.csv.gz", (",0.000000,", ",nan,")),
        ("vllm/llama-3.1-8b_rtxpro6000_tp1/dense.csv.gz", ("layer", "what")),
        ("vllm/llama-3.1-8b_rtxpro6000_tp1/meta.json", ('"model"', '"made"')),
    ],
)
def test_damaged_reference_data_get_one_sentence(tmp_path: Path, file: str, change: tuple[str, str]) -> None:
    at = tmp_path / Path(file).parent
    shutil.copytree((REF / file).parent, at) if "/" in file else at.mkdir(exist_ok=True)
    for copied in at.rglob("*"):
        copied.chmod(0o755)
    if "/" not in file:
        shutil.copy(REF / file, at / file)
    at.chmod(0o755)
    _changed(tmp_path / file, change)
    found = CliRunner().invoke(main, ["validate", "llm", "--ref", str(tmp_path)])
    assert found.exit_code == 2, found.output[-500:]
    assert found.exception is None or isinstance(found.exception, SystemExit)
    (sentence,) = (line for line in found.stderr.splitlines() if not line.startswith("archgym: compiling"))
    assert sentence.startswith("archgym: ") and len(sentence) <= 330


@pytest.mark.skipif(not REF.is_dir(), reason="no reference data")
def test_a_recorded_run_is_read_in_any_order(tmp_path: Path) -> None:
    from archgym.simulators.llm.profile import read_run

    source = REF / "vllm" / "llama-3.1-8b_rtxpro6000_tp1"
    lines = gzip.decompress((source / "requests.csv.gz").read_bytes()).decode().splitlines()
    (tmp_path / "meta.json").write_bytes((source / "meta.json").read_bytes())
    mixed = "\n".join([lines[0], *reversed(lines[1:])]) + "\n"
    (tmp_path / "requests.csv.gz").write_bytes(gzip.compress(mixed.encode()))
    run, known = read_run(tmp_path), read_run(source)
    for name, column in known.requests.items():
        if name != "id":
            np.testing.assert_array_equal(run.requests[name], column)


@pytest.mark.parametrize("change", [{"gated": "yes"}, {"tied": None}, {"source": 5}])
def test_fields_of_another_kind_are_refused(change: dict) -> None:
    shape = dict(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=128, vocab=100)
    with pytest.raises(ArchGymError, match=next(iter(change))):
        models.from_fields(models.Model, "m", {**shape, **change}, "model")


def test_operators_of_a_device_are_a_name(tmp_path: Path) -> None:
    row = dict(
        bf16_flops=1e15, mem_bytes=8e10, mem_bytes_per_s=3e12, tdp_w=700, link_bytes_per_s=4e11, nic_bytes_per_s=5e10
    )
    (tmp_path / "d.json").write_text(json.dumps({**row, "operators": []}), encoding="utf-8")
    with pytest.raises(ArchGymError, match="operators is"):
        devices.device(f"file:{tmp_path / 'd.json'}")


@pytest.mark.skipif(not REF.is_dir(), reason="no reference data")
@pytest.mark.parametrize(
    ("folder", "missing"),
    [
        ("calculon", "models.json"),
        ("calculon", "systems.json"),
        ("schedules", "traces.csv"),
        ("vllm/llama-3.1-8b_rtxpro6000_tp1", "per_sequence.csv.gz"),
        ("vllm/llama-3.1-8b_rtxpro6000_tp1", "requests.csv.gz"),
    ],
)
def test_any_file_of_the_reference_data_may_be_missing(tmp_path: Path, folder: str, missing: str) -> None:
    from archgym.simulators.llm.validate import validate

    (tmp_path / folder).mkdir(parents=True)
    for path in (REF / folder).iterdir():
        if path.name != missing:
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "splitwise_measured.csv").write_bytes((REF / "splitwise_measured.csv").read_bytes())
    found = [group.group for group in validate(tmp_path)]
    assert "serving.energy" in found
    assert not [name for name in found if name.startswith(("serving.schedule", "serving.vllm", "training.calculon"))]


@pytest.mark.skipif(not REF.is_dir(), reason="no reference data")
def test_tables_may_name_devices_by_any_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    text = gzip.decompress((REF / "ops" / "gemm.csv.gz").read_bytes()).decode()
    (tmp_path / "ops" / "gemm.csv.gz").write_bytes(gzip.compress(text.replace("h100_sxm", "H100").encode()))
    assert "ops.gemm/h100_sxm/bf16" in {group.group for group in groups(tmp_path)}
