"""What is fuzzed: every kind of file that a person or another machine may give, and what reads it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.problem import make_problem
from tests.fuzz import mutations

SEEDS = Path(__file__).parent / "seeds"
SECONDS = 20
"""Processor time of a reader that hangs; a busy machine does not count, but ten times as long on the clock does."""
GROWTH = 1 << 30
"""Bytes that reading one small file may add to the process' peak."""
SENTENCE = 330


class Fault(AssertionError):
    """What a reader may not do; the message says which of them it did."""


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        name: of the reader.
        file: what the file is called in the folder that ``read`` gets.
        seed: the bytes of a valid one.
        mutate: (bytes, generator) -> other bytes.
        read: reads the file ``folder / file``, in ways that people do.
    """

    name: str
    file: str
    seed: Callable[[], bytes]
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], None]


class _Late(BaseException):
    pass


def _late(*_: Any) -> None:
    raise _Late


def judge(target: Target, content: bytes, folder: Path, seconds: int = SECONDS) -> bool:
    """Give ``content`` to the target's reader: True where it was read, False where it was refused in a sentence.

    ``seconds`` is the limit, 0 for none: a kernel may have to be compiled first.

    Raises:
        Fault: for a traceback, a hang, more memory than the bound, or a sentence that is none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / target.file).parent.mkdir(parents=True)
    (folder / target.file).write_bytes(content)
    before = _peak()
    old = signal.signal(signal.SIGALRM, _late), signal.signal(signal.SIGPROF, _late)
    signal.alarm(10 * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with np.errstate(all="ignore"):
            target.read(folder)
        read = True
    except ArchGymError as error:
        _check_sentence(str(error))
        read = False
    except Fault:
        raise
    except _Late:
        raise Fault("hang") from None
    except Exception as error:
        raise Fault(f"traceback: {error!r:.300}") from error
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, old[0])
        signal.signal(signal.SIGPROF, old[1])
    if _peak() - before > GROWTH:
        raise Fault(f"memory: {(_peak() - before) >> 20} MiB")
    return read


def _peak() -> int:
    """Peak of the process' memory in bytes (Linux says kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _check_sentence(text: str) -> None:
    if len(text) > SENTENCE or "\n" in text:
        raise Fault(f"long message: {len(text)} characters, {text.count(chr(10))} line feeds: {text[:200]!r}")


def command(*arguments: Any) -> None:
    """Run a command of archgym in this process: its refusal is an :class:`ArchGymError`, a traceback stays one."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code == 2:
        # Progress and news (a compilation's) come before the refusal, under the same name: what was told last is it.
        lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("archgym: compiling")]
        told = next((i for i, line in enumerate(lines) if line.startswith("archgym: ")), len(lines) - 1)
        raise ArchGymError_("\n".join(lines[told:]).removeprefix("archgym: "))


class ArchGymError_(ArchGymError):
    """A refusal as it was printed, however long."""

    def __init__(self, message: str) -> None:
        ValueError.__init__(self, message)


def evaluate(name: str, **options: Any) -> None:
    """Make a problem and evaluate a few designs: feasible ones have finite metrics, and rewards are finite."""
    problem = make_problem(name, **options)
    evaluation, rewards = problem.evaluate(problem.space.sample(3, 0), seed=0)
    if not np.isfinite(rewards).all():
        raise Fault("nonsense: rewards that are not finite")
    for metric in problem.metrics:
        column = evaluation.metrics[metric.name][evaluation.feasible]
        if np.isinf(column).any() or (metric.unit not in ("", "1", "%") and (column < 0).any()):
            raise Fault(f"nonsense: {metric.name} = {column}")


# --- seeds -----------------------------------------------------------------------------------------------------------


def stored(name: str) -> Callable[[], bytes]:
    return (SEEDS / name).read_bytes


@cache
def workshop() -> Path:
    """A folder with a study, a run, a Parquet data set and proxies, made once in a process."""
    import tempfile

    from archgym.datasets.merge import merge  # noqa: F401
    from archgym.proxies.training import train_on_problem

    folder = Path(tempfile.mkdtemp(prefix="archgym-fuzz-"))
    (folder / "study.yaml").write_text(
        "name: small\nbudget: 20\nseeds: 2\nproblems: [synthetic/rugged, synthetic/hartmann6]\n"
        "agents: [random, walk, {agent: ga, grid: {population: [4, 8]}}]\n"
    )
    quiet("study", "run", folder / "study.yaml", "--out", folder / "study", "--executor", "serial")
    quiet("run", "synthetic/rugged", "--agent", "random", "--budget", "40", "--out", folder / "run", "--no-report")
    quiet("dataset", "merge", folder / "run", "-o", folder / "parquet")
    problem = make_problem("synthetic/rugged")
    for model in ("gp", "forest"):
        train_on_problem(problem, 40, model=model).save(folder / f"{model}.proxy.npz")
    return folder


def quiet(*arguments: Any) -> None:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


def made(pattern: str) -> Callable[[], bytes]:
    def content() -> bytes:
        path = next(iter(sorted(workshop().glob(pattern))))
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    return content


# --- mutations of binary files -----------------------------------------------------------------------------------------


def mutate_text(form: str) -> Callable[[bytes, random.Random], bytes]:
    return lambda content, rng: mutations.mutated_text(content, rng, form)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    return mutations.mutated_bytes(content, rng, rng.choice([1, 1, 2, 5]))


def mutate_shard(content: bytes, rng: random.Random) -> bytes:
    """Bytes, or the run's metadata, or a column's name, type or values."""
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    table = pa.ipc.open_stream(content).read_all()
    buffer = io.BytesIO()
    table = _mutated_table(table, rng)
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def mutate_parquet(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    buffer = io.BytesIO()
    pq.write_table(_mutated_table(pq.read_table(io.BytesIO(content)), rng), buffer)
    return buffer.getvalue()


def _mutated_table(table: pa.Table, rng: random.Random) -> pa.Table:
    if rng.random() < 0.6:
        about = json.loads(table.schema.metadata[b"archgym"])
        changed = mutations.as_json(mutations.mutated_tree(about, rng, rng.choice([1, 1, 2])))
        return table.replace_schema_metadata({b"archgym": changed})
    at = rng.randrange(table.num_columns)
    name, column = table.schema.field(at), table.column(at)
    kind = rng.randrange(4)
    if kind == 0:
        return table.remove_column(at)
    if kind == 1:
        return table.rename_columns(
            [rng.choice(["reward", "x", "", "a" * 3000]) if i == at else n for i, n in enumerate(table.column_names)]
        )
    values = column.to_pylist()
    others = [None, 2**40, -1, float("nan"), float("inf"), "x", True, b"\xff", [1], "a" * 3000]
    if kind == 2:
        values[rng.randrange(len(values))] = None
        try:
            changed = pa.array(values, name.type)
        except (pa.ArrowException, TypeError):
            changed = pa.array(values)
    else:
        changed = pa.array([rng.choice(others[:1]), *[rng.choice(others)] * (len(values) - 1)])
        if rng.random() < 0.3:
            changed = pa.array(np.zeros(len(values), np.float16))
    with contextlib.suppress(pa.ArrowException):
        return table.set_column(at, name.with_type(changed.type), changed)
    return table


def mutate_archive(content: bytes, rng: random.Random) -> bytes:
    """Bytes, or the facts, or an array's type, shape or values."""
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    with np.load(io.BytesIO(content), allow_pickle=False) as source:
        arrays = {name: source[name] for name in source.files}
    if rng.random() < 0.5:
        about = mutations.mutated_tree(json.loads(bytes(arrays["about"])), rng, rng.choice([1, 1, 2]))
        arrays["about"] = np.frombuffer(mutations.as_json(about), np.uint8)
    else:
        name = rng.choice(sorted(arrays))
        array = arrays[name]
        kind = rng.randrange(6)
        if kind == 0:
            del arrays[name]
        elif kind == 1:
            arrays[name] = array.astype(rng.choice([np.float32, np.int8, np.complex128, "U3", np.uint64]))
        elif kind == 2:
            arrays[name] = rng.choice([array.reshape(-1)[:-1], array[None], np.empty((0,)), np.float64(3)])
        elif array.size:
            array = arrays[name] = array.copy()
            nasty = [-1, 0, 1, 10**6, 127] if array.dtype.kind in "iub" else [np.nan, np.inf, -1e308, 0.0, -1.0]
            array.reshape(-1)[rng.randrange(array.size)] = np.array(rng.choice(nasty)).astype(array.dtype)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# --- readers ---------------------------------------------------------------------------------------------------------


def _all(*calls: Callable[[], None]) -> None:
    """Every call, whatever the ones before refused; a refusal by the first is that of all."""
    refused: ArchGymError | None = None
    for call in calls:
        try:
            call()
        except ArchGymError as error:
            _check_sentence(str(error))
            refused = refused or error
    if refused is not None:
        raise refused


def read_study(folder: Path) -> None:
    command("study", "describe", folder / "study.yaml")


def read_store(folder: Path) -> None:
    for name in ("study.yaml", "problems.jsonl", "results.jsonl"):
        if not (folder / name).exists():
            shutil.copy(workshop() / "study" / name, folder / name)
    _all(
        lambda: command("study", "stats", folder, "--json"),
        lambda: command("study", "run", folder / "study.yaml", "--out", folder, "--resume", "--executor", "serial", "--log", "none"),
    )  # fmt: skip


def read_technology(folder: Path) -> None:
    from archgym.simulators.accelerator.simulator import AcceleratorSimulator

    AcceleratorSimulator(technology=f"file:{folder / 'technology.json'}")


def read_shard(folder: Path) -> None:
    _all(
        lambda: command("dataset", "info", folder),
        lambda: command("dataset", "verify", folder),
        lambda: command("dataset", "merge", folder, "-o", folder / "merged"),
        lambda: command("report", folder, "--out", folder / "report.html"),
        lambda: command("run", "synthetic/rugged", "--agent", "random", "--budget", "40", "--out", folder, "--resume", "--no-report"),
    )  # fmt: skip


def read_parquet(folder: Path) -> None:
    _all(
        lambda: command("dataset", "info", folder),
        lambda: command("dataset", "verify", folder),
        lambda: command("dataset", "merge", folder, "-o", folder / "merged"),
        *(
            lambda form=form: command("dataset", "export", folder, "--format", form, "-o", folder / f"as-{form}")
            for form in ("csv", "croissant", "huggingface")
        ),
        lambda: command("dataset", "card", folder, "-o", folder / "card"),
    )


def read_proxy(folder: Path) -> None:
    evaluate("synthetic/rugged", simulator=f"proxy:{folder / 'x.proxy.npz'}")


def read_proxy_of_dram(folder: Path) -> None:
    """The proxies of the corpus stand for the DRAM controllers of ArchGym on one trace."""
    evaluate(
        "dram/sort", space="archgym", simulator=f"proxy:{folder / 'x.proxy.npz'}", workload_options={"requests": 64}
    )


def problem_reader(name: str, file: str, **options: Any) -> Callable[[Path], None]:
    return lambda folder: evaluate(f"{name}{folder / file}", **options)


def _nas() -> bytes:
    rng = np.random.default_rng(0)
    names = [f"|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|{last}~2|" for last in ("none", "skip_connect")]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"arch_str": names, "cifar10_test_acc": rng.random(2) * 100}), buffer)
    return buffer.getvalue()


ZIGZAG = """- id: 0
  name: conv
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=1*oy+3*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [2, 64, 3, 112, 56, 7, 5]
  operand_precision: {W: 8, I: 8, O: 16, O_final: 8}
- id: 1
  operator_type: Gemm
  equation: O[b][d][k]+=I[b][d][c]*W[b][c][k]
  loop_dims: [B, D, C, K]
  loop_sizes: [8, 12, 64, 30]
"""
MAESTRO = """Network tiny {
  Layer one {
    Type: CONV
    Stride { X: 2, Y: 2 }
    Dimensions { K: 8, C: 3, R: 3, S: 3, Y: 33, X: 17 }
    Dataflow { SpatialMap(1,1) K; TemporalMap(Sz(R),1) Y; Cluster(4, P); SpatialMap(1,1) C; }
  }
  Layer two { Type: DSCONV Dimensions { K: 1, C: 16, R: 3, S: 3, Y: 10, X: 10 } }
}
"""
GAMMA = "K,C,Y,X,R,S,T\n64,3,32,32,3,3,1\n1,64,30,30,3,3,2\n128,64,28,28,1,1,3\n"


def read_layers(folder: Path) -> None:
    """A network's file alone, without a simulator: every layer does some work."""
    from archgym.networks.readers import read_network

    network = read_network(next(folder.iterdir()))
    if network.macs < 1:
        raise Fault("nonsense: a network without work")


def read_whole_work(folder: Path) -> None:
    """Nothing is lost of a Timeloop problem or a ZigZag workload: its multiply-accumulates are the product of all its loops."""
    from archgym.networks.readers import read_network
    from archgym.networks.zigzag import PASSED
    from archgym.reading import parse_yaml_all

    path = next(folder.iterdir())
    network = read_network(path)
    loops = 0
    for document in parse_yaml_all(path.read_text(encoding="utf-8-sig")):
        if isinstance(document, list):
            for entry in document:
                if entry["operator_type"] not in PASSED:
                    loops += math.prod(int(float(size)) for size in entry["loop_sizes"])
        elif document is not None and "problem" in document:
            problem = document["problem"]
            bounds = problem.get("instance", problem)
            shape = problem.get("shape", "cnn-layer")
            dims = shape["dimensions"] if isinstance(shape, dict) and "dimensions" in shape else "CMPQRSNGK"
            folded = [str(dim).lower() for dim in dims]
            loops += math.prod(int(float(size)) for dim, size in bounds.items() if str(dim).lower() in folded)
    if network.macs != loops:
        raise Fault(f"nonsense: {network.macs} multiply-accumulates of {loops}")


TRACES = {
    "neutral": "arrival_cycle,address,rw\n0,64,R\n4,128,W\n9,4096,R\n",
    "stl": "0:\tread\t0x40\n10:\twrite\t0x80\n20:\tread\t0xc0\n",
    "dramsim3": "0x40 READ 0\n0x80 WRITE 3\n0xc0 READ 9\n",
    "ramulator": "LD 0x40\nST 0x80\n",
    "ramulator-dram": "0x40 R\n0x80 W\n0xc0 R\n",
    "ramulator-cpu": "3 64\n5 128 192\n0 0x100\n",
    "usimm": "20 R 0x40 0x403d50\n6 W 0x80\n",
    "nvmain": "NVMV1\n0 W 0x40 00 0\n7 R 0x80 ab cd 1\n",
    "gem5": "500: system.mem_ctrls: recvTimingReq: request ReadReq addr 0x40 size 64\n"
    "700: system.mem: Write of size 8 on address 0x80 data 0x1\n",
    "gem5-packets": "r,64,64,0,500\nw,128,64,0,700,3\n",
    "lackey": "==12== Lackey\nI  100,4\n L 40,8\nI  104,4\nI  108,4\n S 80,4\n M c0,4\n",
    "pinatrace": "0x400: R 0x40\n0x404: W 0x80\n#eof\n",
}  # fmt: skip
"""A few lines of the trace formats that are told by their first line."""


def mutate_traces(content: bytes, rng: random.Random) -> bytes:
    """Lines of one of the formats, with bytes changed, or packed and then changed."""
    text = rng.choice(list(TRACES.values())).encode()
    kind = rng.randrange(8)
    if kind == 0:
        return mutate_bytes(gzip.compress(text * 20), rng)
    if kind == 1:
        return b"# a comment\n" * rng.choice([1, 1000]) + mutate_bytes(text, rng)
    return mutate_bytes(text * rng.choice([1, 1, 30]), rng)


def read_traces(folder: Path) -> None:
    from archgym.simulators.dram.traces import read_trace

    trace = read_trace(folder / "trace.txt")
    if len(trace) and not (np.diff(trace.time) >= 0).all():
        raise Fault("nonsense: times that run backwards")


def read_suite(folder: Path) -> None:
    command("suite", "describe", folder / "suite.yaml")


def _json(value: object) -> Callable[[], bytes]:
    return lambda: json.dumps(value).encode()


def _dram_device() -> bytes:
    from importlib import resources

    shipped = json.loads(
        resources.files("archgym.simulators.dram").joinpath("devices.json").read_text(encoding="utf-8")
    )
    return json.dumps({"name": "mine", **shipped["DDR4-2400"]}).encode()


def _coefficients(name: str) -> Callable[[], bytes]:
    def content() -> bytes:
        from importlib import resources

        return resources.files("archgym.simulators.llm").joinpath(f"data/{name}.json").read_bytes()

    return content


MODEL = {
    "name": "tiny",
    "hidden": 512,
    "layers": 4,
    "heads": 8,
    "kv_heads": 4,
    "head_dim": 64,
    "ffn": 1536,
    "vocab": 32000,
}
EXPERTS = {**MODEL, "experts": 8, "topk": 2, "expert_ffn": 512, "shared_experts": 1, "dense_layers": 1}
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 4, "intermediate_size": 1536, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
DEVICE = {
    "title": "mine", "bf16_flops": 2.25e15, "fp8_flops": 4.5e15, "fp4_flops": 9e15, "mem_bytes": 193273528320,
    "mem_bytes_per_s": 7.7e12, "tdp_w": 1000, "node_devices": 8, "domain_devices": 8, "link_bytes_per_s": 9e11,
    "nic_bytes_per_s": 1e11, "host_bytes_per_s": 1.28e11, "operators": "h100_sxm", "source": "mine",
}  # fmt: skip
REQUESTS = "arrived_s,prompt_tokens,output_tokens\n" + "".join(f"{i / 4},{64 + i},{8 + i}\n" for i in range(12))
MOONCAKE = "".join(
    json.dumps({"timestamp": 250 * i, "input_length": 600 + i, "output_length": 5, "hash_ids": [1, i]}) + "\n"
    for i in range(12)
)
SUITE = (
    "name: small\nversion: 1\nbudgets: [4, 8]\nseeds: 2\nproblems:\n- {problem: synthetic/branin}\n"
    "- {problem: synthetic/packing, scale: log, unit: 0.5, meets: -22}\n"
)


def serving(file: str, name: str, **options: str) -> Callable[[Path], None]:
    """Evaluate a serving problem whose workload (a form with ``{}`` for the file) or options hold the file."""

    def read(folder: Path) -> None:
        path = folder / file
        evaluate(
            f"llm-serving/{name.format(path)}", fidelity="steady", **{k: v.format(path) for k, v in options.items()}
        )

    return read


def llm_targets() -> Iterator[Target]:
    """Files of the simulators of language models."""
    yield Target(
        "llm-model", "m.json", _json(MODEL), mutate_text("json"), problem_reader("llm-training/file:", "m.json@8xh100")
    )
    yield Target(
        "llm-experts",
        "m.json",
        _json(EXPERTS),
        mutate_text("json"),
        serving("m.json", "file:{}+azure_code_2023@8xh100"),
    )
    yield Target(
        "llm-config",
        "config.json",
        _json(CONFIG),
        mutate_text("json"),
        problem_reader("llm-training/file:", "config.json@8xh100"),
    )
    yield Target(
        "llm-device",
        "d.json",
        _json(DEVICE),
        mutate_text("json"),
        serving("d.json", "llama3.1-8b+azure_code_2023@8xfile:{}"),
    )
    yield Target("llm-requests", "r.csv", REQUESTS.encode, mutate_bytes, serving("r.csv", "llama3.1-8b+file:{}@8xh100"))
    yield Target(
        "llm-mooncake",
        "r.jsonl",
        MOONCAKE.encode,
        mutate_text("jsonl"),
        serving("r.jsonl", "llama3.1-8b+file:{}@8xh100"),
    )
    yield Target(
        "llm-costs",
        "c.json",
        _coefficients("costs"),
        mutate_text("json"),
        serving("c.json", "llama3.1-8b+azure_code_2023@8xh100", costs="file:{}"),
    )
    yield Target("llm-levels", "l.json", _json({"ttft_s": 2.0, "tpot_s": 0.05}), mutate_text("json"), _levels)


def _device(folder: Path) -> None:
    evaluate("dram/stream", device=f"file:{folder / 'd.json'}", workload_options={"requests": 64})


def _levels(folder: Path) -> None:
    evaluate(
        "llm-serving/llama3.1-8b+azure_code_2023@8xh100",
        fidelity="steady",
        workload_options={"levels": f"file:{folder / 'l.json'}"},
    )


def targets() -> Iterator[Target]:
    """All of them."""
    yield from llm_targets()
    yield Target("traces", "trace.txt", TRACES["stl"].encode, mutate_traces, read_traces)
    yield Target("trace", "trace.stl", stored("trace.stl"), mutate_bytes, problem_reader("dram/file:", "trace.stl"))
    yield Target("rstl", "trace.rstl", stored("trace.rstl"), mutate_bytes, problem_reader("dram/file:", "trace.rstl"))
    yield Target("timeloop-work", "t.yaml", stored("timeloop.yaml"), mutate_text("yaml"), read_whole_work)
    yield Target("zigzag", "z.yaml", ZIGZAG.encode, mutate_text("yaml"), read_whole_work)
    yield Target("maestro", "m.m", MAESTRO.encode, mutate_bytes, read_layers)
    yield Target("gamma", "g.csv", GAMMA.encode, mutate_bytes, read_layers)
    yield Target("dram-device", "d.json", _dram_device, mutate_text("json"), _device)
    yield Target("suite", "suite.yaml", SUITE.encode, mutate_text("yaml"), read_suite)
    yield Target("study", "study.yaml", stored("study.yaml"), mutate_text("yaml"), read_study)
    yield Target("results", "results.jsonl", made("study/results.jsonl"), mutate_text("jsonl"), read_store)
    yield Target("problems", "problems.jsonl", made("study/problems.jsonl"), mutate_text("jsonl"), read_store)
    yield Target("technology", "technology.json", stored("technology.json"), mutate_text("json"), read_technology)
    yield Target("shard", "trials/random-s0.arrows", made("run/**/*.arrows"), mutate_shard, read_shard)
    yield Target("parquet", "trials-00000.parquet", made("parquet/*.parquet"), mutate_parquet, read_parquet)
    yield Target("proxy-gp", "x.proxy.npz", made("gp.proxy.npz"), mutate_archive, read_proxy)
    yield Target("proxy-forest", "x.proxy.npz", made("forest.proxy.npz"), mutate_archive, read_proxy)
    for name, file, form, problem, options in (
        ("network", "network.yaml", "yaml", "systolic/file:", {}),
        ("layer", "layer.yaml", "yaml", "mapping/file:", {}),
        ("timeloop", "timeloop.yaml", "yaml", "mapping/file:", {}),
        ("scalesim", "scalesim.csv", "", "systolic/file:", {}),
        ("taskgraph", "taskgraph.yaml", "yaml", "soc/file:", {}),
        ("combination", "taskgraph.yaml", "yaml", "soc/audio_decoder+file:", {}),
        ("nas", "table.parquet", "", "nas/file:", {"workload_options": {"partial": True}}),
    ):
        mutate = mutate_text(form) if form else mutate_bytes
        seed = _nas if name == "nas" else stored(file)
        yield Target(name, file, seed, mutate, problem_reader(problem, file, **options))
