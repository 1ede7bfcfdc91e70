"""Serving: exact schedules, whole traces against iterations, spaces, traces and their readers, bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numba
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.simulators.llm import requests as traces
from archgym.simulators.llm.costs import costs, flips
from archgym.simulators.llm.kernels import serving as kernel
from archgym.simulators.llm.models import catalogue
from archgym.simulators.llm.serving import LlmServing, Serving, parse_workload, sensitivity, trace_arrays
from archgym.simulators.llm.serving_pictures import over_time
from archgym.simulators.llm.validate_serving import energy, law_cost, recorded, run_schedule, schedules, steady
from archgym.testing import check_simulator

REF = Path(os.environ.get("ARCHGYM_REF", Path(__file__).resolve().parents[3] / "shared" / "ref")) / "llm"
NAME = "llama3.1-8b+sharegpt_300@8xh100"
MOE = "mixtral-8x7b+sharegpt_300@8xh100"
reference = pytest.mark.skipif(not REF.is_dir(), reason="needs the reference data")


# --- against the references --------------------------------------------------------------------------------------


@reference
def test_schedules_are_exact_in_batches_times_and_restarts():
    groups = list(schedules(REF / "schedules"))
    assert [group.group.rpartition("/")[2] for group in groups] == ["batches", "digest", "times", "restarts"]
    assert all(group.rows and group.exact == 1.0 for group in groups)


@reference
def test_a_recorded_server_is_met():
    for folder in sorted((REF / "vllm").iterdir()):
        groups = list(recorded(folder))
        assert len(groups) == 7 and all(group.holds for group in groups), [g for g in groups if not g.holds]


@reference
def test_the_fitted_engine_and_the_power_law_hold():
    groups = [*steady(REF / "serving_measured.csv.gz"), *energy(REF / "splitwise_measured.csv")]
    bounded = [group for group in groups if group.required]
    assert {"serving.steady/vllm/h100_sxm", "serving.steady/vllm/h200_sxm", "serving.energy"} == {
        group.group for group in bounded
    }
    assert all(group.holds for group in bounded)


# --- the simulation ------------------------------------------------------------------------------------------------


@st.composite
def small_runs(draw):
    """A few requests and a server of the reference's kinds, tight memory included."""
    n = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.01, 0.3]), min_size=n, max_size=n))
    lengths = st.lists(st.integers(1, 60), min_size=n, max_size=n)
    block, policy = draw(st.sampled_from([1, 4, 16])), draw(st.sampled_from(["vllm", "sarathi", "orca"]))
    run = {
        "scheduler": policy, "router": draw(st.sampled_from(["round_robin", "lor"])), "run": 0,
        "law": [0.01, 1e-4, 1e-8, 1e-6, 0.001], "block_size": block, "num_blocks": draw(st.integers(130, 400)) // block + 2,
        "watermark": draw(st.sampled_from([0.0, 0.05])), "max_tokens_in_batch": 256, "max_tokens": 120,
        "batch_cap": draw(st.integers(1, 12)) * 4, "plain_cap": 8, "chunk_size": draw(st.sampled_from([8, 64])),
        "stages": draw(st.sampled_from([1, 2, 4])), "replicas": draw(st.integers(1, 3)), "batches": 64,
    }  # fmt: skip
    return run, np.cumsum(gaps), np.array(draw(lengths)), np.array(draw(lengths))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(small_runs())
def test_stretches_keep_every_bit_of_the_schedule(case):
    run, *columns = case
    _, count, whole = run_schedule(run, *columns)
    _, skipped_count, skipped = run_schedule(run, *columns, skip=True)
    assert count == skipped_count
    for name in ("scheduled", "first", "finished", "restarts", "replica"):
        assert np.array_equal(whole[name], skipped[name], equal_nan=True)
    done = ~np.isnan(whole["finished"])
    assert (whole["first"][done] >= whole["arrived"][done]).all()
    assert (whole["finished"][done] >= whole["first"][done]).all()


def simulated(simulator, served, designs, skip):
    setup = simulator.setup(simulator.space(served), designs, served)
    setup["servers"]["skip"] = setup["feeders"]["skip"] = skip
    return simulator._simulated(setup, served, False)[0]


@pytest.mark.parametrize("name", [NAME, MOE])
def test_stretches_equal_iterations_within_a_billionth(name):
    simulator = LlmServing()
    served = simulator.load_workload(name, requests=60, rate=2.0)
    space = simulator.space(served)
    designs = space.sample(4000, 3)
    designs = designs[space.violations(designs) == ""][:120]
    assert len(designs) == 120
    whole, stretched = (simulated(simulator, served, designs, skip) for skip in (0, 1))
    assert np.allclose(whole, stretched, rtol=1e-9, atol=0, equal_nan=True)


def tight(policy, cache=1, blocks=70, skip=1):
    """A server that runs out of memory all the time."""
    server = np.zeros(1, kernel.SERVER)
    for name, value in {
        "policy": policy, "stages": 1, "replicas": 1, "cap": 32, "batch": 32, "budget": 64, "padded": 256, "block": 4,
        "blocks": blocks, "reserved": 20, "cache": cache, "ties": 1, "skip": skip,
    }.items():  # fmt: skip
        server[name] = value
    return server[0]


def serve(server, arrived, prompt, output, parent=None, shared=None):
    rows = kernel.fresh(arrived, prompt, output, parent, shared)
    totals = np.zeros(len(kernel.TOTALS))
    kernel.simulate(
        rows, server, law_cost([0.01, 1e-4, 0.0, 1e-6, 0.0]), totals, np.zeros((0, 13)), np.zeros((0, 3), np.int64)
    )
    return rows, dict(zip(kernel.TOTALS, totals, strict=True))


@pytest.mark.parametrize("policy", range(4))
def test_memory_pressure_restarts_requests_and_loses_none(policy):
    rng = np.random.default_rng(0)
    n = 40
    arrived, prompt, output = np.sort(rng.uniform(0, 2, n)), rng.integers(1, 40, n), rng.integers(1, 40, n)
    for skip in (0, 1):
        rows, totals = serve(tight(policy, skip=skip), arrived, prompt, output)
        assert not np.isnan(rows["finished"]).any()
        assert (rows["done"] == prompt + output).all(), "every token was emitted once"
        assert totals["preemptions"] == rows["restarts"].sum()
        assert (totals["preemptions"] > 0) == (policy != kernel.ORCA)
        assert totals["peak_blocks"] <= 70


def test_the_cache_makes_preemption_and_shared_prompts_cheap():
    n = 30
    arrived, prompt, output = np.arange(n) * 0.01, np.full(n, 40), np.full(n, 20)
    plain, found = (serve(tight(kernel.MIXED, cache), arrived, prompt, output)[1] for cache in (0, 1))
    assert found["preemptions"] > 0 and found["tokens"] < plain["tokens"]
    alone = serve(tight(kernel.MIXED, blocks=4000), arrived, prompt, output)[1]
    parent, shared = np.arange(n) - 1, np.where(np.arange(n) > 0, 32, 0)
    together = serve(tight(kernel.MIXED, blocks=4000), arrived, prompt, output, parent, shared)[1]
    assert alone["tokens"] == n * (40 + 19)
    assert alone["tokens"] - 32 * (n - 1) <= together["tokens"] < alone["tokens"]


def test_disaggregated_prompts_never_wait_for_decodes():
    simulator = LlmServing()
    served = simulator.load_workload(NAME, requests=40)
    space = simulator.space(served)
    base = {
        "tp": 1, "pp": 1, "mode": "disaggregated", "prefill_share": 0.5, "prefill_tp": 1, "policy": "mixed",
        "budget": 2048, "max_running": 256, "block": 16, "kv_fraction": 0.9, "weights": "bf16", "kv": "bf16",
        "router": "round_robin", "prefix_cache": True, "dp_attention": 1, "ep": 1,
    }  # fmt: skip
    designs = space.encode([base, {**base, "max_running": 8}, {**base, "kv": "fp8"}])
    m = simulator.evaluate(designs, served).metrics
    assert m["ttft_mean_s"][0] == m["ttft_mean_s"][1]
    assert m["tpot_mean_s"][0] != m["tpot_mean_s"][2], "half the cache crosses the network"


# --- spaces and properties -----------------------------------------------------------------------------------------

WORKLOADS = (NAME, MOE, "deepseek-v3+azure_conv_2023@16xh200", "gpt-oss-120b+mooncake_conversation@8xb200")


def loaded(name, space="default", **options):
    simulator = LlmServing(space, **options)
    return simulator, simulator.load_workload(name, requests=30)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(WORKLOADS), st.sampled_from([1.01, 1.5, 4.0]))
def test_more_memory_never_makes_a_design_infeasible(seed, name, factor):
    from dataclasses import replace

    simulator, served = loaded(name)
    more = Serving(
        name, served.model, served.trace, replace(served.device, mem_bytes=served.device.mem_bytes * factor),
        served.devices, 1, 1,
    )  # fmt: skip
    small, large = simulator.space(served), simulator.space(more)
    designs = small.sample(500, seed)
    assert not ((small.violations(designs) == "") & (large.violations(designs) != "")).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(WORKLOADS), st.sampled_from(["default", "codesign"]))
def test_canonical_rows_and_batches_agree(seed, name, kind):
    simulator, served = loaded(name, kind)
    space = simulator.space(served)
    designs = space.sample(500, seed)
    batch = simulator.evaluate(designs, served, fidelity="steady")
    same = simulator.evaluate(space.canonical(designs), served, fidelity="steady")
    for metric in batch.metrics:
        assert np.array_equal(batch.metrics[metric], same.metrics[metric], equal_nan=True)
    assert batch.violation.tolist() == same.violation.tolist()
    rows = [int(i) for i in np.flatnonzero(batch.feasible)[:2]]
    for i in rows:
        for fidelity in ("steady", "trace", "schedule"):
            one = simulator.evaluate(designs[i], served, fidelity=fidelity)
            two = simulator.evaluate(space.canonical(designs[[i, i]]), served, fidelity=fidelity)
            for metric in one.metrics:
                value = one.metrics[metric][0]
                assert np.isfinite(value), (metric, fidelity)
                assert value == two.metrics[metric][1]


def test_threads_do_not_change_a_bit(monkeypatch):
    simulator, served = loaded(NAME)
    space = simulator.space(served)
    designs = space.sample(10_000, 1)
    feasible = designs[space.violations(designs) == ""][:64]
    found = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        found.append([simulator.evaluate(designs, served, fidelity="steady"), simulator.evaluate(feasible, served)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert all(np.array_equal(a.metrics[k], b.metrics[k], equal_nan=True) for k in a.metrics)


@pytest.mark.parametrize("name", [MOE, "deepseek-v3+azure_conv_2023@16xh200"])
def test_models_with_experts_keep_the_contract(name):
    simulator = LlmServing()
    check_simulator(simulator, simulator.load_workload(name, requests=20), samples=24)


def test_constraints_stand_in_their_order_and_name_the_first_broken():
    simulator, served = loaded(NAME, budget_usd=1.0, budget_w=1.0)
    names = [rule.name for rule in simulator.space(served).constraints]
    assert names == [
        "devices_divide", "heads_divide", "ffn_divide", "experts_divide", "tier_size", "memory_capacity",
        "precision_supported", "kv_capacity", "budget_prompt", "budget_cost", "budget_power",
    ]  # fmt: skip
    feasible = LlmServing().space(served)
    designs = feasible.sample(300, 0)
    good = feasible.violations(designs) == ""
    assert set(simulator.space(served).violations(designs)[good]) == {"budget_cost"}


def test_levels_become_a_constraint_only_when_asked():
    simulator = LlmServing("small")
    tight_levels = {"ttft_s": 1e-3, "tpot_s": 1e-4}
    served = simulator.load_workload(NAME, requests=20, levels=tight_levels)
    designs = simulator.space(served).sample(50, 0)
    free = simulator.evaluate(designs, served)
    asked = LlmServing("small", slo=True).evaluate(designs, served)
    assert free.feasible.any() and (free.metrics["goodput"][free.feasible] == 0).all()
    assert set(asked.violation[free.feasible]) == {"slo"}


def test_the_steady_state_follows_whole_traces():
    from scipy.stats import spearmanr

    simulator = LlmServing("small")
    served = simulator.load_workload(NAME)
    designs = simulator.space(served).sample(120, 0)
    whole, steady_ = (simulator.evaluate(designs, served, fidelity=f) for f in ("trace", "steady"))
    a, b = (x.metrics["tpot_mean_s"][whole.feasible] for x in (whole, steady_))
    assert abs(np.median(b / a) - 1) < 0.05 and spearmanr(a, b)[0] > 0.95


def test_an_objective_of_cost_says_what_it_rests_on():
    simulator = LlmServing("codesign", budget_w=20_000)
    served = simulator.load_workload(NAME, requests=30)
    space = simulator.space(served)
    designs = space.sample(60_000, 0)
    designs = designs[space.violations(designs) == ""][:100]
    rests_on = sensitivity(simulator, designs, served, fidelity="steady", levels=False)
    assert all(text.endswith("%") for text in rests_on)
    table = costs()
    assert flips(lambda c: c.usd_per_device > 3000, table) == ["usd_per_device +50 %"]
    assert LlmServing(costs={"usd_per_device": 1}).settings == {"costs": {"usd_per_device": 1}}
    dear = LlmServing("codesign", costs={"usd_per_gb": 1e4}).evaluate(designs[:5], served, fidelity="steady")
    cheap = simulator.evaluate(designs[:5], served, fidelity="steady")
    assert (dear.metrics["cost_per_mtoken_usd"] > cheap.metrics["cost_per_mtoken_usd"]).all()


def test_pictures_show_what_the_simulation_did():
    pytest.importorskip("matplotlib")
    simulator, served = loaded(NAME, "small")
    design = simulator.space(served).encode(
        {"tp": 1, "policy": "mixed", "budget": 512, "max_running": 8, "kv_fraction": 0.7, "router": "round_robin"}
    )
    drawn = simulator.pictures(design, served)
    assert [title for title, _, _ in drawn] == ["Serving timeline", "Latencies"]
    assert all(svg.lstrip().startswith("<?xml") for _, _, svg in drawn)
    rows, batches = simulator.timeline(design, served)
    lines = over_time(batches)
    assert lines["running"].max() <= 30 and lines["running"][-1] <= 8 * 8
    m = simulator.evaluate(design, served).metrics
    assert m["ttft_mean_s"][0] == (rows["first"] - rows["arrived"]).mean()


# --- workloads -------------------------------------------------------------------------------------------------------


def test_names_of_workloads_are_parsed_with_files_in_any_place():
    assert parse_workload("a/b+c+sharegpt_300@8xh100") == ("a/b+c", "sharegpt_300", 8, "h100")
    assert parse_workload("file:m+1.json+file:t+2.csv@16xfile:d@x.json"[:-8] + ".json")[2] == 16
    assert parse_workload("llama3.1-8b+file:a+b.csv@4xh200") == ("llama3.1-8b", "file:a+b.csv", 4, "h200")


@pytest.mark.parametrize(
    "name", ["llama3.1-8b", "llama3.1-8b+sharegpt_300", "x@8xh100", "+sharegpt_300@8xh100", "a+b@0xh100"]
)
def test_bad_names_of_workloads_get_a_sentence(name):
    with pytest.raises(ArchGymError, match="is no serving workload"):
        LlmServing().load_workload(name)


def test_every_listed_trace_is_drawn_the_same_and_keeps_its_means():
    for name, fitted in traces.fitted().items():
        a, b = traces.trace(name), traces.trace(name)
        assert a.fingerprint == b.fingerprint and len(a) == fitted["requests"]
        assert abs(a.prompt_tokens.mean() / fitted["mean"]["prompt_tokens"] - 1) < 0.01
        assert abs(a.output_tokens.mean() / fitted["mean"]["output_tokens"] - 1) < 0.03
        assert max(abs(error) for error in fitted["error"].values()) <= 0.05
        assert traces.trace(name, seed=77).fingerprint != a.fingerprint


@reference
def test_generators_behave_like_the_traces_they_were_fitted_to():
    from archgym.simulators.llm.fit_serving import behaviour

    for path in sorted((REF / "traces").glob("*.csv")):
        truth, ours = behaviour(traces.read_trace(path)), behaviour(traces.trace(path.stem))
        for name in truth:
            assert abs(ours[name] / truth[name] - 1) <= 0.05, (path.stem, name)


def test_shared_prefixes_are_drawn_and_written(tmp_path):
    drawn = traces.trace("sharegpt_300", prefix_tokens=200, prefix_groups=4)
    assert ((drawn.shared_with < np.arange(300)) & (drawn.shared_tokens <= 200)).all()
    assert (drawn.shared_with >= 0).sum() == 296
    path = tmp_path / "t.csv"
    path.write_text(drawn.csv())
    assert traces.read_trace(path).fingerprint == drawn.fingerprint
    simulator = LlmServing("small")
    base = simulator.load_workload(f"llama3.1-8b+file:{path}@8xh100", requests=50)
    assert len(base.trace) == 50 and base.fingerprint != simulator.load_workload(NAME, requests=50).fingerprint


def test_forms_of_other_tools_are_read(tmp_path):
    forms = {
        "v.csv": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,10,3\n1.5,20,4\n",
        "a.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,10,3\n2023-11-16 18:15:47.6805900,20,4\n",
        "m.jsonl": '{"timestamp": 500, "input_length": 1000, "output_length": 3, "hash_ids": [1, 2]}\n'
        '{"timestamp": 1500, "input_length": 1500, "output_length": 4, "hash_ids": [1, 3]}\n',
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        found = traces.read_trace(tmp_path / name)
        assert np.allclose(np.diff(found.arrived_s), 1.0) and found.output_tokens.tolist() == [3, 4]
    assert found.shared_with.tolist() == [-1, 0] and found.shared_tokens.tolist() == [0, 512]


BAD = {
    "negative": ("arrived_s,prompt_tokens,output_tokens\n0,-5,3\n", "line 2, has prompt_tokens '-5'"),
    "zero": ("arrived_s,prompt_tokens,output_tokens\n0,5,0\n", "output_tokens '0'"),
    "nan": ("arrived_s,prompt_tokens,output_tokens\nnan,5,1\n", "arrives at 'nan'"),
    "empty": ("arrived_s,prompt_tokens,output_tokens\n", "holds no requests"),
    "columns": ("a,b\n1,2\n", "expected arrived_s,prompt_tokens,output_tokens"),
    "beyond": ("arrived_s,prompt_tokens,output_tokens,priority\n0,5,1,2\n", "'priority', which nothing reads"),
    "short": ("arrived_s,prompt_tokens,output_tokens\n0,5\n", "has 2 columns"),
    "half": ("arrived_s,prompt_tokens,output_tokens\n0,5.5,1\n", "prompt_tokens '5.5'"),
    "later": ("arrived_s,prompt_tokens,output_tokens,shared_with,shared_tokens\n0,5,1,0,2\n", "shared_with '0'"),
    "moon": ('{"timestamp": 1}\n', "lacks timestamp, input_length or output_length"),
    "date": ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "has the time 'yesterday'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_traces_get_one_sentence_and_exit_code_2(kind, tmp_path):
    text, expected = BAD[kind]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ArchGymError) as caught:
        traces.read_trace(path)
    assert expected in str(caught.value) and len(str(caught.value)) <= 300
    done = CliRunner().invoke(main, ["describe", f"llm-serving/llama3.1-8b+file:{path}@8xh100"])
    assert done.exit_code == 2 and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["llm-serving/llama9+sharegpt_300@8xh100"], "llama9"),
        (["llm-serving/llama3.1-8b+sharegpt_300@8xz80"], "z80"),
        ([f"llm-serving/{NAME}", "-w", "levels=none"], "service levels"),
        ([f"llm-serving/{NAME}", "-w", "rate=-1"], "rate"),
        ([f"llm-serving/{NAME}", "-o", "engine=nobody"], "engine"),
        ([f"llm-serving/{NAME}", "-o", "costs=file:/none.json"], "none.json"),
        ([f"llm-serving/{NAME}", "--fidelity", "exact"], "exact"),
    ],
)
def test_bad_options_get_one_sentence_and_exit_code_2(options, words):
    done = CliRunner().invoke(main, ["describe", *options])
    assert done.exit_code == 2 and words in done.output and "Traceback" not in done.output


def test_the_command_line_searches_a_trace_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "arrived_s,prompt_tokens,output_tokens\n" + "".join(f"{i * 0.2},{50 + i},{20}\n" for i in range(20))
    )
    name = f"llm-serving/qwen3-32b+file:{path}@8xh200"
    done = CliRunner().invoke(
        main,
        [
            "run",
            name,
            "--agent",
            "random",
            "--budget",
            "40",
            "--json",
            "--out",
            str(tmp_path / "r"),
            "--space",
            "small",
        ],
    )
    assert done.exit_code == 0, done.output
    run = json.loads(done.output)["runs"][0]
    assert run["evaluations"] == 40 and run["metrics"]["throughput_tokens_per_s"] > 0


def test_measured_tables_change_results_and_what_identifies_them():
    if not REF.is_dir():
        pytest.skip("needs the reference data")
    plain, corrected = LlmServing("small"), LlmServing("small", tables=str(REF))
    served = plain.load_workload(NAME, requests=20)
    design = plain.space(served).sample(20, 0)
    a, b = (s.evaluate(design, served).metrics["tpot_mean_s"] for s in (plain, corrected))
    assert not np.array_equal(a, b, equal_nan=True) and np.nanmax(np.abs(b / a - 1)) < 0.5
    assert plain.settings == {} and set(corrected.settings) == {"tables"}


def test_every_model_of_the_catalogue_can_be_served():
    simulator = LlmServing()
    for name in catalogue():
        served = simulator.load_workload(f"{name}+sharegpt_300@64xb200", requests=10)
        space = simulator.space(served)
        designs = space.sample(3000, 0)
        good = designs[space.violations(designs) == ""][:3]
        assert len(good), name
        found = simulator.evaluate(good, served)
        assert found.feasible.all() and np.isfinite(found.metrics["tpot_mean_s"]).all()


def test_trace_arrays_are_what_the_kernels_take():
    arrays = trace_arrays(traces.trace("sharegpt_300", requests=5))
    assert [a.dtype.kind for a in arrays] == ["f", "i", "i", "i", "i"]
