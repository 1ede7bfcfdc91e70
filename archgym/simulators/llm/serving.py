"""The serving problem: how to run a model on devices for a trace of requests under service levels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.locating import located
from archgym.measure import default_reference
from archgym.objective import Budget, Constrained, LogRatio, Objective, Term, log_ratio
from archgym.options import Option, options_of
from archgym.reading import own_file, parse_json, read_json
from archgym.simulator import Evaluation, Metric, Simulator, Workload, remembered
from archgym.simulators.llm import costs as pricing
from archgym.simulators.llm import devices, models
from archgym.simulators.llm import requests as traces
from archgym.simulators.llm.devices import ELEMENT_BYTES, Device
from archgym.simulators.llm.iteration import (
    CONTEXT,
    DECODES,
    EMITTING,
    TOKENS,
    Layout,
    Tables,
    build,
    cache_bytes,
    engine,
    engines,
)  # fmt: skip
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.operators import HOP_S, folder_digest, table_folder
from archgym.simulators.llm.requests import RequestTrace
from archgym.simulators.llm.serving_space import (
    CACHES,
    DEVICE_COLUMNS,
    WATERMARK,
    WEIGHTS,
    ServingSpace,
    best_device,
)  # fmt: skip
from archgym.space import Designs
from archgym.threads import run_blocks

LONG_PROMPTS = 2_000
"""Mean prompt tokens above which a trace's default levels are those of long prompts."""
DECODE_POWER, BANDWIDTH_POWER, PROMPT_POWER = 0.31, 0.73, 0.975
"""Power of a device as a share of its limit: while decoding, DECODE_POWER + BANDWIDTH_POWER * (share of the memory
bandwidth in use), fitted to Llama-2-70B on A100 (Patel et al., "Splitwise", ISCA 2024); while processing prompts."""
IDLE_POWER = 0.12
"""Power of an idle device as a share of its limit. [assumption]"""
TIE_BY_ENERGY = 0.02
"""Weight of energy beside goodput: a hundredth more goodput counts as much as 40 % less energy."""
QUANTILES = 33
NAMED = tuple(
    f"{model}+{trace}@8xh100"
    for model in ("llama3.1-8b", "llama3.1-70b", "qwen3-32b", "mixtral-8x7b", "gpt-oss-120b")
    for trace in ("azure_conv_2023", "azure_code_2023", "mooncake_conversation", "sharegpt_300", "arxiv_summarization")
)
"""Workloads that are listed; any other model, trace, number and device is taken as well."""


def decode_power_share(bandwidth_share: ArrayLike) -> NDArray[np.float64]:
    """Power of decoding as a share of the limit, from the share of the memory bandwidth in use."""
    return np.asarray(np.minimum(DECODE_POWER + BANDWIDTH_POWER * np.asarray(bandwidth_share), 1.0))


STEADY = 2
"""Requests of a trace that take as long as the closed form."""


class Serving(Workload):
    """A model, a trace, service levels and devices: ``llama3.1-8b+azure_conv_2023@8xh100``.

    Attributes:
        model, trace, device, devices: what is served, and on how many of which device.
        ttft_s, tpot_s: service levels.
    """

    def __init__(
        self, name: str, model: Model, trace: RequestTrace, device: Device, count: int, ttft_s: float, tpot_s: float
    ) -> None:
        super().__init__(
            name,
            f"{model.name} for {len(trace):,} requests at {trace.rate:.3g}/s ({trace.prompt_tokens.mean():,.0f} + "
            f"{trace.output_tokens.mean():,.0f} tokens) on {count} x {device.title or device.name}; levels: first token "
            f"{ttft_s:g} s, a token {tpot_s * 1e3:g} ms",
        )
        self.model, self.trace, self.device, self.devices = model, trace, device, count
        self.ttft_s, self.tpot_s = float(ttft_s), float(tpot_s)

    @property
    def fingerprint(self) -> str:
        parts = [self.model.fingerprint, self.trace.fingerprint, self.device.fingerprint, self.devices]
        text = json.dumps([*parts, self.ttft_s, self.tpot_s])
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def features(self) -> dict[str, float]:
        trace, model = self.trace, self.model
        return {
            "log_parameters": float(np.log10(model.parameters)) / 12,
            "log_active_parameters": float(np.log10(model.active_parameters)) / 12,
            "log_prompt_tokens": float(np.log10(trace.prompt_tokens.mean())) / 6,
            "log_output_tokens": float(np.log10(trace.output_tokens.mean())) / 6,
            "log_rate": float(np.log10(min(max(trace.rate, 1e-6), 1e6))) / 6,
            "log_devices": float(np.log2(self.devices)) / 14,
            "log_peak": float(np.log10(self.device.bf16_flops)) / 18,
            "log_bandwidth": float(np.log10(self.device.mem_bytes_per_s)) / 15,
            "log_memory": float(np.log10(self.device.mem_bytes)) / 15,
        }


@cache
def shipped_levels() -> Mapping[str, Mapping[str, Any]]:
    """Service levels by name (``data/levels.json``)."""
    text = resources.files("archgym.simulators.llm").joinpath("data/levels.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = parse_json(text, "data/levels.json")
    return found


def service_levels(given: str | Mapping[str, Any] | None, trace: RequestTrace) -> tuple[float, float]:
    """TTFT and TPOT levels, s: by name, from ``file:PATH`` (a JSON with ``ttft_s`` and ``tpot_s``), as a mapping; by
    the trace's prompts where None."""
    if given is None:
        given = "long-prompts" if trace.prompt_tokens.mean() > LONG_PROMPTS else "chat"
    if isinstance(given, str):
        if (path := own_file(given)) is not None:
            given = read_json(path, "service levels")
        elif given in shipped_levels():
            given = shipped_levels()[given]
        else:
            raise UnknownNameError("service levels", given[:80], [*shipped_levels(), "file:PATH"])
    if not isinstance(given, Mapping) or not {"ttft_s", "tpot_s"} <= set(given):
        raise ArchGymError("service levels need ttft_s and tpot_s, the seconds to a first token and between tokens")
    for key in given:
        if key not in ("ttft_s", "tpot_s", "source", "comment"):
            raise UnknownNameError("service level", str(key)[:80], ("ttft_s", "tpot_s"))
    found = []
    for key in ("ttft_s", "tpot_s"):
        value = given[key]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
            raise ArchGymError(f"the service level {key} is {quote(value)}; expected positive seconds")
        found.append(float(value))
    return found[0], found[1]


_POOL = re.compile(r"^(\d{1,6})x(.+)$", re.DOTALL)


def parse_workload(name: str) -> tuple[str, str, int, str]:
    """``MODEL+TRACE@NxDEVICE`` in its parts; each of the three names may be ``file:PATH``."""
    left, at, pool = name.rpartition("@")
    match = _POOL.match(pool)
    cuts = [i for i, c in enumerate(left) if c == "+"]
    # A path may hold a plus: the trace begins where a known name or file: does.
    known = [i for i in cuts if own_file(left[i + 1 :]) is not None or left[i + 1 :] in traces.fitted()]
    cut = known[0] if known else (cuts[-1] if cuts else -1)
    if not at or match is None or cut < 1 or not int(match[1]):
        raise ArchGymError(
            f"{quote(name)} is no serving workload; write MODEL+TRACE@NxDEVICE, for instance {NAMED[0]} "
            "(file:PATH for one of your own)"
        )
    return left[:cut], left[cut + 1 :], int(match[1]), match[2]


class LlmServing(Simulator):
    """Search for a serving configuration of a language model.

    Args:
        space: ``default`` (2.2e9 designs), ``small`` (15,360, enumerable) or ``codesign`` (the device, the node and the
            network are parameters, too).
        engine: constants of a serving engine (``data/engines.json``).
        tables: folder of measured operator tables that correct the closed forms; ``ref`` for the default folder of
            reference data.
        costs: cost coefficients to replace, by name, or ``file:PATH`` of a JSON; all of them are assumptions.
        budget_usd, budget_w: limits on price and power of all devices (``budget_cost``, ``budget_power``).
        slo: True to refuse designs that break a level at p99 (``slo``).

    Fidelities: ``trace`` simulates the whole trace iteration by iteration; ``steady`` is a closed form; ``schedule``
    follows the published scheduler simulation under a linear law of time.
    """

    name = "llm-serving"
    version = "1"
    spaces = ("default", "small", "codesign")
    fidelities = ("trace", "steady", "schedule")
    combines_workloads = True  # the plus of a name joins a model with a trace
    default_objective = "goodput_per_device"
    default_workload = NAMED[0]
    pareto = ("throughput_per_device", "tpot_p99_s")
    metrics = (
        *(
            Metric(f"{what}_{stat}_s", "s", "min", f"{words}, {'mean' if stat == 'mean' else stat}")
            for what, words in (
                ("ttft", "arrival to first token"),
                ("tpot", "gap between the later tokens of a request"),
                ("e2e", "arrival to last token"),
            )
            for stat in ("mean", "p50", "p90", "p99")
        ),
        Metric("throughput_tokens_per_s", "tokens/s", "max", "output tokens a second"),
        Metric("throughput_per_device", "tokens/s", "max", "output tokens a second and device"),
        Metric("goodput", "", "max", "share of requests within both levels"),
        Metric("goodput_per_device", "requests/s", "max", "requests within both levels, a second and device"),
        Metric("utilisation", "", "none", "share of the time that instances work"),
        Metric("preemptions", "", "min", "restarts of requests whose memory was taken"),
        Metric("energy_per_token_j", "J", "min", "energy of all devices an output token"),
        Metric(
            "cost_per_mtoken_usd", "USD", "min", "devices and energy for a million output tokens, at assumed prices"
        ),
        Metric("price_usd", "USD", "min", "price of all devices, assumed"),
        Metric("tokens_per_s_per_usd", "1/(s*USD)", "max", "output tokens a second for a USD of devices, assumed"),
        Metric("tokens_per_s_per_w", "1/J", "max", "output tokens a second for a W of the devices' limits"),
    )

    def __init__(
        self,
        space: str | None = None,
        *,
        engine: str = "vllm",
        tables: str | None = None,
        costs: str | Mapping[str, Any] | None = None,
        budget_usd: float | None = None,
        budget_w: float | None = None,
        slo: bool = False,
    ) -> None:
        super().__init__(space)
        for name, value in (("budget_usd", budget_usd), ("budget_w", budget_w)):
            if value is not None and (
                not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e18
            ):
                raise ArchGymError(f"{name} is {quote(value)}; expected a positive number")
        if not isinstance(slo, bool):
            raise ArchGymError(f"slo is {quote(slo)}; expected true or false")
        self.constants = _engine(engine)
        self.table_folder = _table_folder(tables)
        self.costs = pricing.costs("" if costs is None else costs)
        self.budget_usd, self.budget_w, self.slo = budget_usd, budget_w, slo
        self._spaces: dict[str, ServingSpace] = {}
        self._parts: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._quantiles: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """As for any simulator; what a file says stands in place of the file's name."""
        found = dict(super().settings)
        if self.costs == pricing.costs():
            found.pop("costs", None)
        else:
            shipped = vars(pricing.costs())
            found["costs"] = {name: value for name, value in vars(self.costs).items() if value != shipped[name]}
        if self.table_folder is not None:
            found["tables"] = folder_digest(self.table_folder)
        return found

    @classmethod
    def option_values(cls) -> Mapping[str, Any]:
        return {"engine": tuple(engines())}

    # --- workloads -------------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return _Named(self)

    def load_workload(  # type: ignore[override]
        self,
        name: str,
        *,
        rate: float = 1.0,
        levels: str | Mapping[str, Any] | None = None,
        requests: int = 0,
        seed: int | None = None,
        prefix_tokens: int = 0,
        prefix_groups: int = 1,
    ) -> Serving:
        """``MODEL+TRACE@NxDEVICE``.

        Args:
            name: a model of the catalogue, a fitted trace and a device, or ``file:PATH`` in the place of any of them.
            rate: factor on the arrival rate.
            levels: service levels by name, ``file:PATH`` or as a mapping of ``ttft_s`` and ``tpot_s``.
            requests: how many to draw, or the first so many of a file; all where 0.
            seed: of the draw; the fitted one where None.
            prefix_tokens, prefix_groups: first tokens of a prompt that the requests of a group share, and how many groups
                there are; of generated traces.
        """
        model, trace, count, device = parse_workload(name)
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < 1e9:
            raise ArchGymError(f"rate is {quote(rate)}; expected a positive factor on the arrival rate")
        if (path := own_file(trace)) is not None:
            if seed is not None or prefix_tokens or prefix_groups != 1:
                raise ArchGymError(
                    "seed, prefix_tokens and prefix_groups are options of generated traces, not of a file"
                )
            if not isinstance(requests, int) or isinstance(requests, bool) or requests < 0:
                raise ArchGymError(f"requests is {quote(requests)}; expected a whole number from 0")
            loaded = traces.read_trace(path)
            loaded = loaded.first(requests) if requests else loaded
        else:
            loaded = traces.trace(
                trace, requests=requests, seed=seed, prefix_tokens=prefix_tokens, prefix_groups=prefix_groups
            )
        loaded = loaded.scaled(float(rate)) if rate != 1 else loaded
        return Serving(
            name, models.model(model), loaded, devices.device(device), count, *service_levels(levels, loaded)
        )

    def workload_options(self, name: str) -> Mapping[str, Option]:
        return options_of(self.load_workload, ("name",))

    def read_workload(self, path: Path, **options: Any) -> Serving:
        raise ArchGymError("a trace of your own is a part of the workload: llama3.1-8b+file:PATH@8xh100")

    # --- space -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload) -> ServingSpace:
        served = _serving(workload)
        key = served.fingerprint
        if key not in self._spaces:
            self._spaces[key] = ServingSpace(
                self.space_name, served.model, served.trace, served.device, served.devices, self.costs,
                self.budget_usd, self.budget_w,
            )  # fmt: skip
        return self._spaces[key]

    # --- evaluation --------------------------------------------------------------------------------------------------

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """A closed form takes as long as some two requests of a trace (docs/performance.md); of ``schedule`` no cost is
        stated."""
        return STEADY / (STEADY + len(_serving(workload).trace)) if fidelity == "steady" else 1.0

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        return ("steady",) if fidelity in (None, "trace") else ()

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        served = _serving(workload)
        fidelity = fidelity or self.fidelities[0]
        space = self.space(served)
        rows = space.canonical(designs)
        violation = space.violations(rows)
        good = np.flatnonzero(violation == "")
        columns = {metric.name: np.full(len(rows), np.nan) for metric in self.metrics}
        if len(good):
            found, unserved = self._metrics(space, rows[good], served, fidelity)
            for name, column in found.items():
                columns[name][good] = column
            violation[good[unserved]] = "kv_capacity"
            if self.slo:
                late = (found["ttft_p99_s"] > served.ttft_s) | (found["tpot_p99_s"] > served.tpot_s)
                violation[good[late & ~unserved]] = "slo"
        return Evaluation.build(columns, violation, count=len(rows))

    def _metrics(
        self, space: ServingSpace, rows: Designs, served: Serving, fidelity: str
    ) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
        """Metric columns of feasible designs, and which of them left a request unserved."""
        setup = self.setup(space, rows, served)
        if fidelity == "steady":
            summary, watts, devices_ = self._steady(setup, served)
            unserved = np.zeros(len(rows), dtype=bool)
        else:
            summary, watts, devices_ = self._simulated(setup, served, fidelity == "schedule")
            unserved = summary[:, 23] > 0
        throughput = summary[:, 12]
        joules = watts / throughput
        price = space.price(rows)
        usd = self.costs.usd(price, 1e6 / throughput, 1e6 * joules)
        names = [metric.name for metric in self.metrics[:12]]
        found = {name: summary[:, j] for j, name in enumerate(names)}
        found |= {
            "throughput_tokens_per_s": throughput,
            "throughput_per_device": throughput / devices_,
            "goodput": summary[:, 13],
            "goodput_per_device": summary[:, 15] / devices_,
            "utilisation": summary[:, 14],
            "preemptions": summary[:, 16],
            "energy_per_token_j": joules,
            "cost_per_mtoken_usd": usd,
            "price_usd": price,
            "tokens_per_s_per_usd": throughput / price,
            "tokens_per_s_per_w": throughput / (space.device_power(rows) * devices_),
        }
        return found, unserved

    def setup(self, space: ServingSpace, rows: Designs, served: Serving) -> dict[str, Any]:
        """What the kernels need of feasible designs: cost tables with the rows that belong to each design, servers,
        feeders and transfers."""
        from archgym.simulators.llm.kernels.serving import SERVER

        hardware = space.hardware(rows)
        size, decoding, feeding = space.split(rows)
        ranks, ep = space.ranks(rows), space.expert_parallel(rows)
        weights, cache = space.values(rows, "weights"), space.values(rows, "kv")
        tp, feeder_tp = space.values(rows, "tp"), space.values(rows, "prefill_tp")
        apart = feeding > 0
        block, blocks = space.values(rows, "block"), space.blocks(rows)
        degrees = np.concatenate([tp, np.where(apart, feeder_tp, tp)]).astype(np.int64)
        twice = [np.tile(x.astype(np.int64), 2) for x in (ranks, ep, weights, cache)]
        tables, index = self._tables(served, space, np.tile(rows, (2, 1)), hardware, (degrees, *twice))
        servers = np.zeros(len(rows), SERVER)
        n = len(served.trace)
        policy = space.values(rows, "policy")
        servers["policy"], servers["router"] = policy, space.values(rows, "router")
        servers["stages"] = space.values(rows, "pp")
        # Replicas beyond the number of requests would idle, and cost the simulation its memory.
        servers["replicas"] = np.minimum(decoding, n)
        servers["cap"] = servers["batch"] = np.minimum(space.values(rows, "max_running") * ranks, n)
        servers["budget"] = servers["padded"] = space.values(rows, "budget")
        servers["block"], servers["blocks"] = block, np.minimum(blocks * ranks, 2.0**40)
        servers["watermark"] = np.where((policy == 1) | (policy == 2), np.floor(WATERMARK * blocks) * ranks, 0)
        servers["reserved"] = space.needed_blocks(rows)
        servers["cache"] = space.values(rows, "prefix_cache")
        servers["ties"] = servers["skip"] = 1
        servers["cap"] = np.maximum(servers["cap"], servers["stages"])
        feeders = servers.copy()
        feeders["policy"], feeders["stages"] = 0, 1
        feeders["replicas"] = np.minimum(feeding, n)
        feeders["blocks"] = np.where(apart, np.minimum(space.blocks(rows, feeder=True) * ranks, 2.0**40), 0)
        widths = np.array([ELEMENT_BYTES[name] for name in CACHES])[cache]
        token = served.model.layers * cache_bytes(served.model, 1, widths)
        # All devices of the narrower instance send at once.
        lanes = np.minimum(feeder_tp, tp) * ranks
        transfers = np.column_stack([np.full(len(rows), HOP_S), token / (hardware["nic"] * lanes)])
        return {
            "tables": tables, "index": np.ascontiguousarray(index.reshape(2, -1).T), "servers": servers,
            "feeders": feeders, "transfers": transfers, "decoding": decoding, "feeding": feeding, "size": size,
            "feeder_size": feeder_tp * ranks, "hardware": hardware, "watts": space.device_power(rows),
            "tokens": blocks * ranks * block, "stage_devices": (tp * ranks).astype(np.float64),
        }  # fmt: skip

    def _tables(
        self, served: Serving, space: ServingSpace, rows: Designs, hardware: Mapping[str, Any],
        parts: tuple[NDArray[np.int64], ...],
    ) -> tuple[Tables, NDArray[np.int64]]:  # fmt: skip
        """Tables of the distinct configurations, kept between calls, and the row of each design.

        Args:
            rows: the designs, ``(m, d)``, of which ``hardware`` holds the first ``m / 2``, and the rest again.
            parts: tp, attention ranks, ep, type of weights, type of the cache of each.
        """
        # One number a configuration: sorting numbers is many times as fast as sorting rows.
        code = np.zeros(len(rows), np.int64)
        for column, most in zip(parts, (256, 256, 256, len(WEIGHTS), len(CACHES)), strict=True):
            code = code * most + column
        if space.kind == "codesign":
            for name in (p.name for p in space.parameters[-len(DEVICE_COLUMNS) + 1 : -1]):
                j = space.position(name)
                code = code * int(space.nvec[j]) + rows[:, j]
        distinct, first, index = np.unique(code, return_index=True, return_inverse=True)
        prefix = (served.model.fingerprint, served.device.fingerprint)
        known = [(*prefix, key) for key in distinct.tolist()]
        missing = [i for i, key in enumerate(known) if key not in self._parts]
        if missing:
            if len(self._parts) > 100_000:
                self._parts.clear()
                missing = list(range(len(known)))
            wanted = []
            for i in missing:
                at = int(first[i])
                tp, ranks, ep, weights, cache = (int(column[at]) for column in parts)
                device = served.device
                if space.kind == "codesign":
                    device = best_device(
                        device, {name: float(hardware[name][at % (len(rows) // 2)]) for name in DEVICE_COLUMNS}
                    )
                wanted.append((Layout(tp, ranks, ep, WEIGHTS[weights], CACHES[cache]), device))
            made = build(served.model, wanted, self.constants, self.table_folder)
            for j, i in enumerate(missing):
                self._parts[known[i]] = tuple(column[j] for column in made[4:])
        chosen = [self._parts[key] for key in known]
        stacked = (np.stack([row[j] for row in chosen]) for j in range(len(chosen[0])))
        return Tables(TOKENS, EMITTING, DECODES, CONTEXT, *stacked), index.reshape(-1)

    def _simulated(
        self, setup: Mapping[str, Any], served: Serving, linear: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Summary columns of ``kernels.serving_designs``, mean power of all devices, devices."""
        from archgym.simulators.llm.kernels import serving_designs as kernel

        count = len(setup["servers"])
        out = np.full((count, kernel.WIDTH), np.nan)
        run_blocks(
            kernel.evaluate, count, 8, setup["tables"], linear, setup["index"], setup["servers"], setup["feeders"],
            setup["transfers"], trace_arrays(served.trace), np.array([served.ttft_s, served.tpot_s]), out,
        )  # fmt: skip
        devices_ = setup["hardware"]["devices"]
        with np.errstate(all="ignore"):
            span = served.trace.output_tokens.sum() / out[:, 12]
            used = out[:, 18] / (out[:, 17] * setup["hardware"]["bandwidth"])
            decode = np.where(out[:, 17] > 0, decode_power_share(used), 0.0)
            stages = setup["stage_devices"] * (
                out[:, 17] * decode + out[:, 19] * PROMPT_POWER + out[:, 20] * IDLE_POWER
            )
            # Replicas that the simulation left out are idle.
            idle = (setup["decoding"] - setup["servers"]["replicas"]) * setup["size"] * span
            idle = idle + (setup["feeding"] - setup["feeders"]["replicas"]) * setup["feeder_size"] * span
            feeders = setup["feeder_size"] * (out[:, 21] * PROMPT_POWER + out[:, 22] * IDLE_POWER)
            watts = setup["watts"] * (stages + feeders + idle * IDLE_POWER) / span
        return out, watts, devices_

    def _steady(
        self, setup: Mapping[str, Any], served: Serving
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        from archgym.simulators.llm.kernels import steady as kernel

        trace, servers, feeders = served.trace, setup["servers"], setup["feeders"]
        count = len(servers)
        columns = [servers[name] for name in ("policy", "stages", "replicas", "cap", "budget")]
        given = np.column_stack([*columns, feeders["replicas"]])
        given[:, 2] = setup["decoding"]
        given[:, 5] = setup["feeding"]
        floats = np.column_stack([setup["tokens"], setup["transfers"][:, 1], setup["hardware"]["devices"]])
        span = max(float(trace.arrived_s[-1] - trace.arrived_s[0]), 1e-9)
        load = np.array(
            [len(trace) / span, trace.prompt_tokens.mean(), trace.output_tokens.mean(), float(len(trace))]
        )  # fmt: skip
        quantiles = self._quantiles.get(trace.fingerprint)
        if quantiles is None:
            grid = np.linspace(0, 1, QUANTILES)
            quantiles = tuple(np.quantile(x, grid) for x in (trace.prompt_tokens, trace.output_tokens))
            self._quantiles[trace.fingerprint] = quantiles
        raw = np.zeros((count, 20))
        run_blocks(
            kernel.evaluate, count, 4096, setup["tables"], setup["index"], given, floats, load, *quantiles,
            np.array([served.ttft_s, served.tpot_s]), raw,
        )  # fmt: skip
        out = np.zeros((count, 24))
        out[:, :15] = raw[:, :15]
        devices_ = setup["hardware"]["devices"]
        out[:, 15] = raw[:, 13] * raw[:, 12] / load[2]
        busy, prompts, traffic = raw[:, 15], raw[:, 16], raw[:, 17]
        decode = decode_power_share(traffic / setup["hardware"]["bandwidth"])
        mixed = busy * (prompts * PROMPT_POWER + (1 - prompts) * decode) + (1 - busy) * IDLE_POWER
        feeding = raw[:, 18] * PROMPT_POWER + (1 - raw[:, 18]) * IDLE_POWER
        watts = setup["watts"] * (
            mixed * setup["decoding"] * setup["size"] + feeding * setup["feeding"] * setup["feeder_size"]
        )
        return out, watts, devices_

    # --- objectives --------------------------------------------------------------------------------------------------

    @remembered
    def references(self, workload: Workload) -> Mapping[str, float]:
        """Medians over feasible designs among 4,096 uniform draws, under fidelity ``steady``."""
        served = _serving(workload)
        found = self.evaluate(self.space(served).sample(4096, 0), served, fidelity="steady")
        result = {}
        for metric in self.metrics:
            column = found.metrics[metric.name][found.feasible]
            column = column[np.isfinite(column) & (column > 0)]
            result[metric.name] = float(np.median(column)) if len(column) else 1.0
        return result

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """The usual aims: requests within the levels a second and device, cost (at assumed prices) and energy under the
        levels, latencies, throughput; for designed devices tokens a second for a USD and a W."""
        served = _serving(workload)
        levels = (Budget("ttft_p99_s", served.ttft_s), Budget("tpot_p99_s", served.tpot_s))

        def ratio(name: str, *metrics: str) -> LogRatio:
            return log_ratio(self, workload, metrics, name)

        def under(name: str, metric: str) -> Constrained:
            return Constrained(ratio(name, metric), levels, name=name)

        reference = self.references(workload)
        goodput = LogRatio(
            [
                Term("goodput_per_device", reference["goodput_per_device"], -1.0),
                Term("energy_per_token_j", reference["energy_per_token_j"], 1.0, TIE_BY_ENERGY),
            ],
            "goodput_per_device",
            "logarithm of the requests within both levels, a second and device; among equals (a load that many designs "
            f"carry) less energy, with the weight {TIE_BY_ENERGY:g}",
        )
        return {
            "goodput_per_device": goodput,
            "cost-under-levels": under("cost-under-levels", "cost_per_mtoken_usd"),
            "energy-under-levels": under("energy-under-levels", "energy_per_token_j"),
            "throughput-under-levels": under("throughput-under-levels", "throughput_per_device"),
            "ttft_p99": ratio("ttft_p99", "ttft_p99_s"),
            "tpot_p99": ratio("tpot_p99", "tpot_p99_s"),
            "throughput": ratio("throughput", "throughput_per_device"),
            "energy": ratio("energy", "energy_per_token_j"),
            "tokens-per-usd": ratio("tokens-per-usd", "tokens_per_s_per_usd"),
            "tokens-per-w": ratio("tokens-per-w", "tokens_per_s_per_w"),
        }

    # --- looking at a design ---------------------------------------------------------------------------------------

    def timeline(self, design: ArrayLike, workload: Workload) -> tuple[Any, NDArray[np.float64]]:
        """Requests (an array of ``kernels.serving.REQUEST``) and batches (columns ``kernels.serving.RECORD``; stretches
        as one batch) of one feasible design, by fidelity ``trace``."""
        from archgym.simulators.llm.kernels import serving as kernel
        from archgym.simulators.llm.kernels.serving_designs import run_design
        from archgym.simulators.llm.kernels.steady import cost_of

        served = _serving(workload)
        space = self.space(served)
        row = space.canonical(design)[:1]
        broken = space.violations(row)[0]
        if broken:
            raise ArchGymError(f"the design breaks {broken!r} and serves nothing; choose a feasible one")
        setup = self.setup(space, row, served)
        totals, feed = np.zeros(len(kernel.TOTALS)), np.zeros(len(kernel.TOTALS))
        rows = kernel.fresh(served.trace.arrived_s, served.trace.prompt_tokens, served.trace.output_tokens)
        batches = np.zeros((1, len(kernel.RECORD)))
        cost, feed_cost = (cost_of(setup["tables"], i) for i in setup["index"][0])
        pieces = np.zeros((0, 3), np.int64)
        while True:
            count, _ = run_design(
                rows, trace_arrays(served.trace), setup["servers"][0], setup["feeders"][0], cost, feed_cost,
                setup["transfers"][0], totals, feed, batches, pieces,
            )  # fmt: skip
            if count <= len(batches):
                return rows, batches[:count]
            batches = np.zeros((count, len(kernel.RECORD)))

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """Timeline and latency distributions of a design for reports: title, sentence and SVG of each."""
        from archgym.simulators.llm.serving_pictures import draw

        served = _serving(workload)
        space = self.space(served)
        if space.violations(space.check(design))[0]:
            return []
        rows, batches = self.timeline(design, served)
        return draw(rows, served.trace.output_tokens, batches, served.ttft_s, served.tpot_s)


def trace_arrays(trace: RequestTrace) -> tuple[NDArray[Any], ...]:
    """The trace as the kernels take it."""
    return trace.arrived_s, trace.prompt_tokens, trace.output_tokens, trace.shared_with, trace.shared_tokens


def sensitivity(
    simulator: LlmServing, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, levels: bool = True
) -> list[str]:
    """Assumed cost coefficients on which the cheapest of ``designs`` rests: those whose change by half, up or down,
    makes another design the cheapest a token. ``levels``: only among designs that keep the levels at p99, where there
    are such."""
    served = _serving(workload)
    space = simulator.space(served)
    rows = space.check(designs)
    found = simulator.evaluate(rows, served, fidelity=fidelity)
    kept = found.feasible.copy()
    if levels:
        m = found.metrics
        met = kept & (m["ttft_p99_s"] <= served.ttft_s) & (m["tpot_p99_s"] <= served.tpot_s)
        kept = met if met.any() else kept
    if not kept.any():
        raise ArchGymError("no design is feasible: there is no cheapest one")
    rows, m = rows[kept], {name: column[kept] for name, column in found.metrics.items()}
    hardware = space.hardware(rows)

    def cheapest(table: pricing.Costs) -> int:
        one = table.device_usd(
            *(hardware[name] for name in ("bf16_flops", "bandwidth", "memory", "link", "nic"))
        )  # fmt: skip
        seconds, joules = 1e6 / m["throughput_tokens_per_s"], 1e6 * m["energy_per_token_j"]
        return int(np.argmin(table.usd(one * hardware["devices"], seconds, joules)))

    return pricing.flips(cheapest, simulator.costs)


def _engine(name: str) -> NDArray[np.float64]:
    if not isinstance(name, str):
        raise ArchGymError(f"engine is {quote(name)}; expected the name of a serving engine")
    return engine(name)


def _table_folder(given: str | None) -> Path | None:
    if given is None:
        return None
    if given != "ref":
        return table_folder(located(given))
    return default_reference("llm")


def _serving(workload: Workload) -> Serving:
    if not isinstance(workload, Serving):
        raise ArchGymError(f"{getattr(workload, 'name', workload)!r} is no serving workload; load it with llm-serving")
    return workload


class _Named(Mapping[str, Workload]):
    """The listed workloads, made when first asked for."""

    def __init__(self, simulator: LlmServing) -> None:
        self._simulator = simulator

    def __getitem__(self, name: str) -> Serving:
        if name not in NAMED:
            raise KeyError(name)
        return self._simulator.load_workload(name)

    def __iter__(self) -> Iterator[str]:
        return iter(NAMED)

    def __len__(self) -> int:
        return len(NAMED)
